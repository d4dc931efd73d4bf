//! The mio loops: one worker thread = one `Poll` = its streams = its buffers = its counters.
//!
//! An [`Engine`] is a set of workers and the way to talk to them. Streams belong to groups, so that several jobs can
//! share an engine; nothing here knows what a group is for. Per chunk there is no lock, no allocation and no shared
//! counter: a worker's counters are its own and are read, with the time, by the worker itself when a sample is asked
//! for.
//!
//! Tried and left out: a single worker on the caller's own thread, which spares the kernel the counting of who uses a
//! shared table of descriptors. It gained 2 to 4 % at 4 KiB a call and nothing elsewhere, for two ways to be driven.
//!
//! | file | what it holds |
//! |---|---|
//! | [`flow`] | what a worker drives: the trait and what it may use |
//! | [`send`], [`receive`], [`exchange`] | the three flows |
//! | [`copy_send`], [`copy_receive`] | the flows of a copy, over [`outbox`] and [`buffers`] that all its streams share |
//! | `worker` | the loop of a worker thread |
//! | `batching` | fewer wake-ups for a fast receiver |
//! | [`secure`], `handshake` | TLS on a socket, and the client's handshakes, many at a time |
//! | [`secure_send`], [`secure_receive`] | the flows of streams in TLS |
//! | [`control`] | a control connection: a session inside TLS |
//! | [`newcomer`] | connections that have not yet said what they are |
//! | [`options`] | socket options of data streams |
//! | [`dial`], [`race`] | making many connections at once; one to the first of many addresses |

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::Waker;
use mio::net::TcpStream;

use crate::measure::histogram::LatencyHistogram;
use crate::mover::Fault;
use crate::proto::message::WorkerSample;
use crate::sys::tcp_info::TcpInfo;

mod batching;
pub mod buffers;
pub mod control;
pub mod copy_receive;
pub mod copy_send;
#[cfg(test)]
mod copy_tests;
pub mod dial;
pub mod exchange;
pub mod flow;
mod handshake;
pub mod newcomer;
pub mod options;
pub mod outbox;
pub mod race;
pub mod receive;
pub mod secure;
mod secure_line;
pub mod secure_receive;
pub mod secure_send;
pub mod send;
mod worker;

use flow::Flow;

/// Most worker threads of one engine.
pub const WORKERS_MAX: u32 = 256;

/// Number of a set of streams that are sampled and stopped together.
pub type Group = u64;
/// Chosen by the caller to tell answers apart.
pub type Tag = u64;

/// How an engine's workers run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// How many, from 1 to [`WORKERS_MAX`].
    pub workers: u32,
    /// CPUs that they are pinned to, round robin; empty for none.
    pub cpus: Vec<u32>,
    /// Busy polling: never sleep.
    pub spin: bool,
    /// They get in nobody's way: idle CPU and I/O classes.
    pub nice: bool,
}

/// What an engine says, in the order in which it happened.
#[derive(Debug)]
pub enum Event {
    /// To [`Engine::sample`]: one entry for each worker, by number, each read at its own moment.
    Sampled {
        /// As given.
        tag: Tag,
        /// Counters and clocks.
        workers: Vec<WorkerSample>,
        /// Latencies recorded since the last sample, over all workers.
        latency: LatencyHistogram,
    },
    /// To [`Engine::stop`]: every stream of the group is closed.
    Stopped {
        /// As given.
        tag: Tag,
        /// TCP_INFO of those that sent, and how long each connection had been driven.
        infos: Vec<(TcpInfo, Duration)>,
        /// What the streams moved in their whole life, one entry for each worker.
        moved: Vec<WorkerSample>,
    },
    /// A stream came to its end, well or badly. It stays open until its group is stopped.
    Ended {
        /// Its group.
        group: Group,
        /// Its number in it.
        stream: u32,
        /// What went wrong.
        fault: Option<Fault>,
    },
}

/// What a worker is told.
enum Command {
    Shape { buffer_bytes: usize },
    Add { group: Group, stream: u32, sock: TcpStream, flow: Box<dyn Flow> },
    Sample { group: Group, tag: Tag },
    Stop { group: Group, tag: Tag },
    Nudge { group: Group },
    Shutdown,
}

enum Answer {
    Sampled { tag: Tag, worker: u32, sample: WorkerSample, latency: Option<LatencyHistogram> },
    Stopped { tag: Tag, infos: Vec<(TcpInfo, Duration)>, moved: WorkerSample },
    Ended { group: Group, stream: u32, fault: Option<Fault> },
}

struct Handle {
    commands: Sender<Command>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

/// Has the streams of a group driven, from any thread, when what they wait for is not the socket.
#[derive(Clone, Debug)]
pub struct Nudger {
    group: Group,
    workers: Vec<(Sender<Command>, Arc<Waker>)>,
}

impl Nudger {
    /// Have all streams of the group driven once more.
    pub fn nudge(&self) {
        for (commands, waker) in &self.workers {
            // An engine that is gone drives nothing.
            if commands.send(Command::Nudge { group: self.group }).is_ok() {
                let _ = waker.wake();
            }
        }
    }
}

/// A set of running workers. Dropping it closes all their streams and waits for the threads.
pub struct Engine {
    config: Config,
    handles: Vec<Handle>,
    answers: Receiver<Answer>,
    /// Samples that not all workers have given yet.
    samples: HashMap<Tag, Sampling>,
    /// Stops that not all workers have confirmed yet.
    stops: HashMap<Tag, Stopping>,
}

#[derive(Default)]
struct Sampling {
    /// With the worker's number, because they answer in any order.
    workers: Vec<(u32, WorkerSample)>,
    latency: LatencyHistogram,
}

#[derive(Default)]
struct Stopping {
    moved: Vec<WorkerSample>,
    infos: Vec<(TcpInfo, Duration)>,
}

impl Engine {
    /// Start the workers. `notify` is woken whenever [`Engine::poll_event`] may have something.
    pub fn start(config: Config, notify: Arc<Waker>) -> io::Result<Engine> {
        let (answer, answers) = channel();
        let epoch = Instant::now();
        let mut handles = Vec::new();
        for number in 0..config.workers.clamp(1, WORKERS_MAX) {
            let (commands, inbox) = channel();
            let setup = worker::Setup {
                number,
                inbox,
                answer: answer.clone(),
                notify: notify.clone(),
                epoch,
                cpu: config.cpus.get(number as usize % config.cpus.len().max(1)).copied(),
                spin: config.spin,
                nice: config.nice,
            };
            let (waker, thread) = worker::spawn(setup)?;
            handles.push(Handle { commands, waker: Arc::new(waker), thread: Some(thread) });
        }
        Ok(Engine { config, handles, answers, samples: HashMap::new(), stops: HashMap::new() })
    }

    /// As started.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Give every worker a pool of buffers of this size. Only sensible while no stream is active.
    pub fn shape(&self, buffer_bytes: usize) {
        self.tell_all(|| Command::Shape { buffer_bytes });
    }

    /// Give a connection to a worker (round robin by stream number), which drives `flow` on it at once.
    pub fn add(&self, group: Group, stream: u32, sock: TcpStream, flow: Box<dyn Flow>) {
        let handle = &self.handles[stream as usize % self.handles.len()];
        handle.tell(Command::Add { group, stream, sock, flow });
    }

    /// Ask for the counters of a group; answered by [`Event::Sampled`].
    pub fn sample(&mut self, group: Group, tag: Tag) {
        self.samples.insert(tag, Sampling::default());
        self.tell_all(|| Command::Sample { group, tag });
    }

    /// Close all streams of a group, whatever is in flight; answered by [`Event::Stopped`].
    pub fn stop(&mut self, group: Group, tag: Tag) {
        self.stops.insert(tag, Stopping::default());
        self.tell_all(|| Command::Stop { group, tag });
    }

    /// What drives the streams of a group when something other than their socket is ready.
    pub fn nudger(&self, group: Group) -> Nudger {
        let workers = self.handles.iter().map(|handle| (handle.commands.clone(), handle.waker.clone())).collect();
        Nudger { group, workers }
    }

    /// What happened since the last call.
    pub fn poll_event(&mut self) -> Option<Event> {
        while let Ok(answer) = self.answers.try_recv() {
            if let Some(event) = self.gather(answer) {
                return Some(event);
            }
        }
        None
    }

    /// Put the workers' single answers together.
    fn gather(&mut self, answer: Answer) -> Option<Event> {
        let all = self.handles.len();
        match answer {
            Answer::Ended { group, stream, fault } => Some(Event::Ended { group, stream, fault }),
            Answer::Sampled { tag, worker, sample, latency } => {
                let sampling = self.samples.get_mut(&tag)?;
                sampling.workers.push((worker, sample));
                if let Some(latency) = latency {
                    sampling.latency.merge(&latency);
                }
                if sampling.workers.len() < all {
                    return None;
                }
                let mut sampling = self.samples.remove(&tag)?;
                sampling.workers.sort_by_key(|(worker, _)| *worker);
                let workers = sampling.workers.into_iter().map(|(_, sample)| sample).collect();
                Some(Event::Sampled { tag, workers, latency: sampling.latency })
            }
            Answer::Stopped { tag, infos, moved } => {
                let stopping = self.stops.get_mut(&tag)?;
                stopping.moved.push(moved);
                stopping.infos.extend(infos);
                if stopping.moved.len() < all {
                    return None;
                }
                let Stopping { moved, infos } = self.stops.remove(&tag)?;
                Some(Event::Stopped { tag, infos, moved })
            }
        }
    }

    fn tell_all(&self, command: impl Fn() -> Command) {
        for handle in &self.handles {
            handle.tell(command());
        }
    }
}

impl Handle {
    /// A worker that is gone has told why on the answers' channel; there is nobody left to tell.
    fn tell(&self, command: Command) {
        if self.commands.send(command).is_ok() {
            let _ = self.waker.wake();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.tell_all(|| Command::Shutdown);
        for handle in &mut self.handles {
            if let Some(thread) = handle.thread.take() {
                let _ = thread.join();
            }
        }
    }
}
