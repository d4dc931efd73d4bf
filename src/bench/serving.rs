//! The bench jobs of one session on the serving side, on an engine of their own.
//!
//! Who may have jobs, their numbers and which stream belongs to which is the server's business: a job is told that a
//! stream has come and that all have. What takes time is answered by [`BenchJobs::poll`].

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use mio::Waker;
use mio::net::TcpStream;

use super::flows::{self, HotSources};
use crate::engine::secure::Protection;
use crate::engine::{Config, Engine, Event as EngineEvent};
use crate::measure::{cpu, environment, tcp};
use crate::mover::{RECEIVE, SEND};
use crate::proto::job::{JobNews, Seat};
use crate::proto::message::{Capability, Description, JobId, JobSpec, Reply, Sample};
use crate::store::confined::Root;
use crate::sys::ktls;

mod job;

pub use job::Job;

/// A stop that nobody waits for.
const FORGET: u64 = u64::MAX;

/// All bench jobs of a session.
pub struct BenchJobs {
    engine: Option<Engine>,
    waker: Arc<Waker>,
    streams_max: u32,
    jobs: HashMap<JobId, Job>,
    hot: HotSources,
}

impl BenchJobs {
    /// None yet. `waker` is woken when [`BenchJobs::poll`] has something to say.
    pub fn new(waker: Arc<Waker>, streams_max: u32) -> BenchJobs {
        BenchJobs { engine: None, waker, streams_max, jobs: HashMap::new(), hot: HotSources::default() }
    }

    /// What this end can do. `local` is our address on the way to the client.
    pub fn describe(&self, local: Option<IpAddr>, serves_folder: bool, other_sessions: u32) -> Description {
        let capability = |name: &str, probe: fn() -> Result<(), String>| Capability {
            name: name.to_string(),
            unavailable: probe().err(),
        };
        Description {
            environment: environment::capture(local),
            send_methods: SEND.iter().map(|row| capability(row.name, row.probe)).collect(),
            receive_methods: RECEIVE.iter().map(|row| capability(row.name, row.probe)).collect(),
            kernel_tls: ktls::probe().err(),
            streams_max: self.streams_max,
            serves_folder,
            other_sessions,
        }
    }

    /// Get everything ready for a job, with its files in `root`; why it cannot be done, for the client to read.
    pub fn prepare(&mut self, spec: JobSpec, root: Option<&Root>) -> Result<Job, String> {
        let streams = job::check(&spec, self.streams_max)?;
        let (source, sinks) = job::places(&spec, root, &mut self.hot)?;
        self.shape_engine(&spec, streams)?;
        Ok(Job::new(spec, streams, source, sinks))
    }

    /// A job that was prepared has its number.
    pub fn add(&mut self, number: JobId, job: Job) {
        self.jobs.insert(number, job);
    }

    /// A data stream took its seat. What is wrong with it becomes a fault of the job.
    pub fn seat(&mut self, seat: Seat, sock: TcpStream, tls: Protection) {
        if let Some(job) = self.jobs.get_mut(&seat.job)
            && let Some(engine) = &self.engine
            && let Err(why) = job.seat(seat, sock, tls, engine)
        {
            job.add_fault(why);
        }
    }

    /// All streams have joined, and the client is ready: send where we send.
    pub fn start(&mut self, number: JobId) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        for (stream, sock, tls) in std::mem::take(&mut job.waiting) {
            match (job.sender(&sock, tls), &self.engine) {
                (Ok(flow), Some(engine)) => engine.add(u64::from(number), stream, sock, flow),
                (Err(why), _) => job.add_fault(why),
                (_, None) => {}
            }
        }
    }

    /// Read the counters of a job; the answer is for the request `id`.
    pub fn sample(&mut self, number: JobId, id: u32) {
        if let Some(engine) = &mut self.engine {
            engine.sample(u64::from(number), tag(id, number));
        }
    }

    /// Close the streams of a job; the answer is for the request `id`.
    pub fn stop(&mut self, number: JobId, id: u32) {
        if let Some(engine) = &mut self.engine {
            engine.stop(u64::from(number), tag(id, number));
        }
    }

    /// Close the streams of a job, which nobody asks about any more.
    pub fn forget(&mut self, number: JobId) {
        self.jobs.remove(&number);
        if let Some(engine) = &mut self.engine {
            engine.stop(u64::from(number), FORGET);
        }
    }

    /// All of it is over. Joining the workers may take a moment: not on the caller's thread.
    pub fn end(&mut self) {
        self.jobs.clear();
        if let Some(engine) = self.engine.take() {
            std::thread::spawn(move || drop(engine));
        }
    }

    /// What has come of requests and jobs since the last call.
    pub fn poll(&mut self, other_sessions: u32) -> Option<JobNews> {
        let event = self.engine.as_mut()?.poll_event()?;
        Some(self.handle_engine(event, other_sessions))
    }

    fn handle_engine(&mut self, event: EngineEvent, other_sessions: u32) -> JobNews {
        let mut news = JobNews::default();
        match event {
            EngineEvent::Ended { group, fault: Some(fault), .. } => {
                if let Some(job) = self.jobs.get_mut(&(group as JobId)) {
                    job.add_fault(fault.to_string());
                }
            }
            EngineEvent::Ended { fault: None, .. } => {}
            EngineEvent::Sampled { tag, workers, .. } => {
                let (id, number) = untag(tag);
                let faults = self.jobs.get(&number).map(|job| job.faults.clone()).unwrap_or_default();
                let sample = Sample { workers, cpu: cpu::now(), faults, other_sessions };
                news.reply = Some((id, Reply::Sampled(Box::new(sample))));
            }
            EngineEvent::Stopped { tag, infos, moved } => {
                news.received_bytes = moved.iter().map(|sample| sample.received.bytes).sum();
                news.sent_bytes = moved.iter().map(|sample| sample.sent.bytes).sum();
                if tag != FORGET {
                    let (id, number) = untag(tag);
                    let congestion = self.jobs.remove(&number).map(|job| job.congestion).unwrap_or_default();
                    news.reply = Some((id, Reply::Stopped(tcp::summarise(&infos, congestion))));
                    news.over = Some(number);
                }
            }
        }
        news
    }

    /// Have an engine as the job wants it.
    fn shape_engine(&mut self, spec: &JobSpec, streams: u32) -> Result<(), String> {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
        let wanted = if spec.workers == 0 { streams } else { spec.workers };
        let config =
            Config { workers: wanted.min(cores).max(1), cpus: spec.cpus.clone(), spin: spec.spin, nice: false };
        if self.engine.as_ref().is_none_or(|engine| *engine.config() != config) {
            if !self.jobs.is_empty() {
                return Err("a job with other workers is running in this session: stop it first".to_string());
            }
            self.engine = None;
            let engine = Engine::start(config, self.waker.clone());
            self.engine = Some(engine.map_err(|error| format!("cannot start workers: {error}"))?);
        }
        if let Some(engine) = &self.engine
            && self.jobs.is_empty()
        {
            engine.shape(flows::buffer_bytes(&spec.work, spec.tls));
        }
        Ok(())
    }
}

fn tag(id: u32, job: JobId) -> u64 {
    u64::from(id) << 32 | u64::from(job)
}

fn untag(tag: u64) -> (u32, JobId) {
    ((tag >> 32) as u32, tag as u32)
}
