//! The loop of one worker thread.
//!
//! mio is edge-triggered: a stream that is woken goes on the ready list and stays there until its flow says that the
//! socket blocks. Each pass gives every ready stream one budget, then looks for events without sleeping; only an
//! empty list sleeps. Event flags are never believed, only what system calls say: completions of MSG_ZEROCOPY, for
//! one, look like a closed connection. Commands are looked for now and then within a pass, too.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Poll, Token, Waker};
use slab::Slab;

use super::flow::{Flow, Progress, Room};
use super::{Answer, Command, Group, Tag};
use crate::measure::histogram::LatencyHistogram;
use crate::mover::{Fault, Pool};
use crate::proto::message::WorkerSample;
use crate::sys::pipe::Pipe;
use crate::sys::tcp_info::{TcpInfo, tcp_info};
use crate::sys::{affinity, priority};

const WAKER: Token = Token(usize::MAX);
/// Events taken from the kernel at a time.
const EVENTS_MAX: usize = 256;
/// Turns after which commands are looked for within a pass, too: where a thousand streams are always ready, and the
/// machine is busy otherwise, a question would else be answered after many seconds.
const TURNS_UNTIL_COMMANDS: usize = 32;
/// A spinning worker looks for events once in so many passes.
const SPIN_PASSES: u32 = 64;
/// Buffers of a worker that was not told a size.
const BUFFER_BYTES_DEFAULT: usize = 64 << 10;

pub(super) struct Setup {
    pub(super) number: u32,
    pub(super) inbox: Receiver<Command>,
    pub(super) answer: Sender<Answer>,
    pub(super) notify: Arc<Waker>,
    pub(super) epoch: Instant,
    pub(super) cpu: Option<u32>,
    pub(super) spin: bool,
    pub(super) nice: bool,
}

/// Start a worker thread; its waker makes it look at its inbox.
pub(super) fn spawn(setup: Setup) -> io::Result<(Waker, JoinHandle<()>)> {
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), WAKER)?;
    let null = File::options().write(true).open("/dev/null")?;
    let name = format!("worker-{}", setup.number);
    let worker = Worker {
        setup,
        poll,
        null,
        pool: Pool::new(BUFFER_BYTES_DEFAULT),
        pipe: None,
        streams: Slab::new(),
        ready: VecDeque::new(),
        ended: HashMap::new(),
        polls: 0,
    };
    let thread = std::thread::Builder::new().name(name).spawn(move || worker.run())?;
    Ok((waker, thread))
}

struct Worker {
    setup: Setup,
    poll: Poll,
    null: File,
    pool: Pool,
    pipe: Option<Pipe>,
    streams: Slab<Stream>,
    /// Streams that may be driven without waiting. Each at most once: see `Stream::is_queued`.
    ready: VecDeque<usize>,
    /// What streams of a group had moved that are closed already while their group goes on.
    ended: HashMap<Group, WorkerSample>,
    polls: u64,
}

struct Stream {
    group: Group,
    number: u32,
    sock: TcpStream,
    /// `None` once it is finished or has failed; the socket stays open until its group is stopped.
    flow: Option<Box<dyn Flow>>,
    is_queued: bool,
    is_closing: bool,
    since: Instant,
    last_info: Option<TcpInfo>,
}

impl Worker {
    fn run(mut self) {
        if let Some(cpu) = self.setup.cpu {
            // The plan has checked that the CPU exists; where pinning is forbidden the run goes on unpinned.
            let _ = affinity::pin_this_thread(cpu);
        }
        if self.setup.nice
            && let Err(error) = priority::yield_to_all()
        {
            tracing::warn!(%error, "a worker does not yield to other programs in all ways");
        }
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            let idle = self.ready.is_empty() && !self.setup.spin;
            self.polls += 1;
            match self.poll.poll(&mut events, if idle { None } else { Some(Duration::ZERO) }) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return,
                _ => {}
            }
            let mut woken = false;
            for event in &events {
                match event.token() {
                    WAKER => woken = true,
                    token => self.wake(token.0, event.is_read_closed() || event.is_error()),
                }
            }
            if woken && !self.handle_commands() {
                return;
            }
            let passes = if self.setup.spin { SPIN_PASSES } else { 1 };
            if !(0..passes).all(|_| self.pass()) {
                return;
            }
        }
    }

    fn wake(&mut self, key: usize, is_closing: bool) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.is_closing |= is_closing;
        if !stream.is_queued && stream.flow.is_some() {
            stream.is_queued = true;
            self.ready.push_back(key);
        }
    }

    /// Give every stream that is ready now one turn; false if the worker is to end.
    fn pass(&mut self) -> bool {
        for turn in 1..=self.ready.len() {
            if turn.is_multiple_of(TURNS_UNTIL_COMMANDS) && !self.handle_commands() {
                return false;
            }
            let Some(key) = self.ready.pop_front() else { return true };
            match self.drive(key) {
                Some(Ok(Progress::Again)) => self.ready.push_back(key),
                Some(Ok(Progress::Blocked)) if self.setup.spin => self.ready.push_back(key),
                Some(Ok(Progress::Blocked)) | None => {
                    if let Some(stream) = self.streams.get_mut(key) {
                        stream.is_queued = false;
                    }
                }
                Some(Ok(Progress::Finished)) => self.end(key, None),
                Some(Err(fault)) => self.end(key, Some(fault)),
            }
        }
        true
    }

    fn drive(&mut self, key: usize) -> Option<Result<Progress, Fault>> {
        let stream = self.streams.get_mut(key)?;
        let flow = stream.flow.as_mut()?;
        let mut room = Room {
            pool: &mut self.pool,
            pipe: &mut self.pipe,
            null: &self.null,
            epoch: self.setup.epoch,
            is_closing: stream.is_closing,
            spin: self.setup.spin,
        };
        let progress = flow.drive(stream.sock.as_fd(), &mut room);
        // A failed connection may look merely blocked to a flow that waits for something other than the socket.
        if stream.is_closing
            && matches!(progress, Ok(Progress::Blocked))
            && let Ok(Some(error)) = stream.sock.take_error()
        {
            return Some(Err(Fault::Connection(error)));
        }
        Some(progress)
    }

    /// The flow is done. Its socket stays, so that what is in flight arrives and TCP_INFO can be read at the end.
    fn end(&mut self, key: usize, fault: Option<Fault>) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.is_queued = false;
        if let Some(flow) = stream.flow.take() {
            let residue = self.ended.entry(stream.group).or_default();
            flow.account(residue);
            if flow.sends() {
                stream.last_info = tcp_info(stream.sock.as_fd()).ok();
                let _ = stream.sock.shutdown(std::net::Shutdown::Write);
            }
        }
        let (group, stream) = (stream.group, stream.number);
        self.answer(Answer::Ended { group, stream, fault });
    }

    /// `false` when the worker shall end.
    fn handle_commands(&mut self) -> bool {
        loop {
            match self.setup.inbox.try_recv() {
                Ok(Command::Shape { buffer_bytes }) => {
                    if buffer_bytes != self.pool.buffer_bytes() {
                        self.pool = Pool::new(buffer_bytes);
                    }
                }
                Ok(Command::Add { group, stream, sock, flow }) => self.add(group, stream, sock, flow),
                Ok(Command::Sample { group, tag }) => self.sample(group, tag),
                Ok(Command::Stop { group, tag }) => self.stop(group, tag),
                Ok(Command::Nudge { group }) => self.nudge(group),
                Ok(Command::Shutdown) | Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => return true,
            }
        }
    }

    fn add(&mut self, group: Group, number: u32, mut sock: TcpStream, flow: Box<dyn Flow>) {
        let entry = self.streams.vacant_entry();
        let key = entry.key();
        let registered = self.poll.registry().register(&mut sock, Token(key), flow.interest());
        let flow = Some(flow);
        let (since, last_info) = (Instant::now(), None);
        entry.insert(Stream { group, number, sock, flow, is_queued: false, is_closing: false, since, last_info });
        match registered {
            Ok(()) => self.wake(key, false),
            Err(error) => self.end(key, Some(Fault::Resource { what: "cannot watch a stream", error })),
        }
    }

    fn nudge(&mut self, group: Group) {
        let of_group = |(key, stream): (usize, &Stream)| (stream.group == group).then_some(key);
        let keys: Vec<usize> = self.streams.iter().filter_map(of_group).collect();
        for key in keys {
            self.wake(key, false);
        }
    }

    fn sample(&mut self, group: Group, tag: Tag) {
        let mut sample = self.ended.get(&group).copied().unwrap_or_default();
        let mut latency: Option<LatencyHistogram> = None;
        sample.at_ns = self.setup.epoch.elapsed().as_nanos() as u64;
        sample.polls = self.polls;
        for (_, stream) in self.streams.iter_mut().filter(|(_, stream)| stream.group == group) {
            let Some(flow) = &mut stream.flow else { continue };
            flow.account(&mut sample);
            if let Some(more) = flow.take_latency() {
                latency.get_or_insert_with(LatencyHistogram::new).merge(&more);
            }
        }
        self.answer(Answer::Sampled { tag, worker: self.setup.number, sample, latency });
    }

    fn stop(&mut self, group: Group, tag: Tag) {
        let keys: Vec<usize> =
            self.streams.iter().filter(|(_, stream)| stream.group == group).map(|(key, _)| key).collect();
        let mut infos = Vec::new();
        let mut moved = self.ended.remove(&group).unwrap_or_default();
        for key in keys {
            let mut stream = self.streams.remove(key);
            if let Some(flow) = &stream.flow {
                flow.account(&mut moved);
                if flow.sends() {
                    stream.last_info = tcp_info(stream.sock.as_fd()).ok();
                }
            }
            infos.extend(stream.last_info.map(|info| (info, stream.since.elapsed())));
            let _ = self.poll.registry().deregister(&mut stream.sock);
            // Reset instead of an orderly end: nobody wants what is still in flight, and no port lingers.
            let _ = socket2::SockRef::from(&stream.sock).set_linger(Some(Duration::ZERO));
        }
        self.ready.retain(|key| self.streams.contains(*key));
        self.answer(Answer::Stopped { tag, infos, moved });
    }

    /// Whoever listens may be gone; then there is nobody to tell.
    fn answer(&self, answer: Answer) {
        if self.setup.answer.send(answer).is_ok() {
            let _ = self.setup.notify.wake();
        }
    }
}
