//! One session on the serving side: its control connection, its engine and its jobs.

use std::collections::HashMap;

use mio::net::TcpStream;

use super::Shared;
use crate::bench::flows::{self, HotSources};
use crate::bench::plan::DSCP_MAX;
use crate::engine::control::ControlConnection;
use crate::engine::options::{apply, congestion_of};
use crate::engine::{Config, Engine, Event as EngineEvent};
use crate::measure::{cpu, environment, tcp};
use crate::mover::{FileSink, RECEIVE, SEND, Sink, Source, receive_row, send_row};
use crate::proto::job::{Seat, SessionId};
use crate::proto::message::{
    CHUNK_BYTES_MAX, Capability, Description, FAULTS_MAX, JobId, JobSpec, Message, Place, Reply, Request, STREAMS_MAX,
    Sample, SocketOptions, Work,
};
use crate::proto::probe::Side;
use crate::proto::session::Event;
use crate::proto::wire::Token;
use crate::sys::{affinity, limits};
use crate::text::printable;

/// Descriptors kept for everything that is not a data stream.
const DESCRIPTORS_RESERVED: u64 = 128;
/// Descriptors that one stream takes at most: its socket and a pipe.
const DESCRIPTORS_PER_STREAM: u64 = 3;

/// How many streams the limit on open files allows.
pub(super) fn streams_max() -> u32 {
    let files = limits::raise_open_files().unwrap_or(1024);
    let streams = files.saturating_sub(DESCRIPTORS_RESERVED) / DESCRIPTORS_PER_STREAM;
    u32::try_from(streams).unwrap_or(u32::MAX).min(STREAMS_MAX)
}

/// A session being served.
pub(super) struct Served {
    id: SessionId,
    pub(super) control: ControlConnection,
    engine: Option<Engine>,
    jobs: HashMap<JobId, Job>,
    hot: HotSources,
}

struct Job {
    spec: JobSpec,
    source: Option<Source>,
    sinks: Vec<FileSink>,
    /// Streams on which we send, until the job starts.
    waiting: Vec<(u32, TcpStream)>,
    congestion: String,
    faults: Vec<String>,
    /// The request that wants to know when all have joined.
    start_asked: Option<u32>,
}

impl Served {
    pub(super) fn new(id: SessionId, control: ControlConnection) -> Served {
        Served { id, control, engine: None, jobs: HashMap::new(), hot: HotSources::default() }
    }

    /// Handle what came from the peer and from the engine; `false` when the session is over.
    pub(super) fn advance(&mut self, shared: &mut Shared, others: u32) -> bool {
        while let Some(event) = self.control.poll_event() {
            match event {
                Event::Message(Message::Request { id, body }) => self.handle_request(id, body, shared, others),
                Event::Closed(_) => return false,
                // A client has nothing else to say.
                Event::Message(_) => return false,
                Event::Opened => {}
            }
        }
        while let Some(event) = self.engine.as_mut().and_then(Engine::poll_event) {
            self.handle_engine(event, shared, others);
        }
        true
    }

    /// The session is over. Joining the workers may take a moment: not on the control thread.
    pub(super) fn end(self) {
        if let Some(engine) = self.engine {
            std::thread::spawn(move || drop(engine));
        }
    }

    /// A data stream took its seat.
    pub(super) fn handle_join(&mut self, seat: Seat, sock: TcpStream, shared: &Shared) {
        if let Some(job) = self.jobs.get_mut(&seat.job)
            && let Some(engine) = &self.engine
            && let Err(why) = job.seat(seat, sock, engine)
        {
            job.add_fault(why);
        }
        self.start_if_complete(seat.job, shared);
    }

    /// Not all streams of a job joined in time; the table has forgotten it already.
    pub(super) fn handle_late(&mut self, job: JobId) {
        let asked = self.jobs.remove(&job).and_then(|job| job.start_asked);
        if let Some(engine) = &mut self.engine {
            engine.stop(u64::from(job), FORGET);
        }
        if let Some(id) = asked {
            self.reply(id, Reply::Refused("not all streams of the job joined in time".to_string()));
        }
    }

    fn handle_request(&mut self, id: u32, body: Request, shared: &mut Shared, others: u32) {
        let answer = match body {
            Request::Describe => Ok(Some(Reply::Described(Box::new(self.describe(shared, others))))),
            Request::Prepare(spec) => self.prepare(*spec, shared).map(Some),
            Request::Start(job) => self.ask_start(id, job, shared),
            Request::Sample(job) => self.with_engine(job, |engine| engine.sample(u64::from(job), tag(id, job))),
            Request::Stop(job) => {
                shared.jobs.handle_stop(self.id, job);
                self.with_engine(job, |engine| engine.stop(u64::from(job), tag(id, job)))
            }
        };
        match answer {
            Ok(Some(reply)) => self.reply(id, reply),
            Ok(None) => {}
            Err(why) => self.reply(id, Reply::Refused(why)),
        }
    }

    fn reply(&mut self, id: u32, body: Reply) {
        self.control.send(&Message::Reply { id, body });
    }

    fn with_engine(&mut self, job: JobId, call: impl FnOnce(&mut Engine)) -> Result<Option<Reply>, String> {
        match &mut self.engine {
            Some(engine) if self.jobs.contains_key(&job) => {
                call(engine);
                Ok(None)
            }
            _ => Err(format!("there is no job {job}")),
        }
    }

    fn describe(&self, shared: &Shared, others: u32) -> Description {
        let capability = |name: &str, probe: fn() -> Result<(), String>| Capability {
            name: name.to_string(),
            unavailable: probe().err(),
        };
        Description {
            environment: environment::capture(self.control.local().ok().map(|local| local.ip())),
            send_methods: SEND.iter().map(|row| capability(row.name, row.probe)).collect(),
            receive_methods: RECEIVE.iter().map(|row| capability(row.name, row.probe)).collect(),
            streams_max: shared.streams_max,
            serves_folder: shared.root.is_some(),
            other_sessions: others,
        }
    }

    fn prepare(&mut self, spec: JobSpec, shared: &mut Shared) -> Result<Reply, String> {
        let streams = check(&spec, shared)?;
        let (source, sinks) = self.places(&spec, shared)?;
        self.shape_engine(&spec, streams, shared)?;
        let tokens = draw_tokens(streams)?;
        let now = std::time::Instant::now();
        let job = shared.jobs.handle_prepare(self.id, &tokens, now).map_err(|error| error.to_string())?;
        let waiting = Vec::new();
        let (congestion, faults) = (String::new(), Vec::new());
        self.jobs.insert(job, Job { spec, source, sinks, waiting, congestion, faults, start_asked: None });
        shared.summary.jobs += 1;
        Ok(Reply::Prepared { job, tokens })
    }

    /// Open what the job's streams read from and write to here.
    fn places(&mut self, spec: &JobSpec, shared: &Shared) -> Result<(Option<Source>, Vec<FileSink>), String> {
        let no_folder = "this server serves no folder: start it as `linerate serve FOLDER` to name files in it";
        let transfer = match &spec.work {
            Work::Transfer(transfer) => transfer,
            Work::Exchange { request, reply } => {
                let source = self.hot.source(*request.max(reply)).map_err(|error| error.to_string())?;
                return Ok((Some(source), Vec::new()));
            }
        };
        let (up, down) = transfer.direction.split(spec.streams);
        let source = match &transfer.source {
            _ if down == 0 => None,
            Place::Nothing => Some(self.hot.source(transfer.chunk).map_err(|error| error.to_string())?),
            Place::File(path) => {
                let root = shared.root.as_ref().ok_or(no_folder)?;
                Some(root.source(path, transfer.chunk).map_err(|error| error.to_string())?)
            }
        };
        let sinks = match &transfer.sink {
            Place::File(path) if up > 0 => {
                let root = shared.root.as_ref().ok_or(no_folder)?;
                root.sinks(path, up).map_err(|error| error.to_string())?
            }
            _ => Vec::new(),
        };
        Ok((source, sinks))
    }

    /// Have an engine as the job wants it.
    fn shape_engine(&mut self, spec: &JobSpec, streams: u32, shared: &Shared) -> Result<(), String> {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
        let wanted = if spec.workers == 0 { streams } else { spec.workers };
        let config = Config { workers: wanted.min(cores).max(1), cpus: spec.cpus.clone(), spin: spec.spin };
        if self.engine.as_ref().is_none_or(|engine| *engine.config() != config) {
            if !self.jobs.is_empty() {
                return Err("a job with other workers is running in this session: stop it first".to_string());
            }
            self.engine = None;
            let engine = Engine::start(config, shared.waker.clone());
            self.engine = Some(engine.map_err(|error| format!("cannot start workers: {error}"))?);
        }
        if let Some(engine) = &self.engine
            && self.jobs.is_empty()
        {
            engine.shape(flows::buffer_bytes(&spec.work));
        }
        Ok(())
    }

    fn ask_start(&mut self, id: u32, job: JobId, shared: &Shared) -> Result<Option<Reply>, String> {
        self.jobs.get_mut(&job).ok_or_else(|| format!("there is no job {job}"))?.start_asked = Some(id);
        self.start_if_complete(job, shared);
        Ok(None)
    }

    fn start_if_complete(&mut self, number: JobId, shared: &Shared) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        let is_complete = shared.jobs.is_complete(self.id, number) == Some(true);
        let Some(id) = job.start_asked.take_if(|_| is_complete) else { return };
        for (stream, sock) in std::mem::take(&mut job.waiting) {
            match (job.sender(&sock), &self.engine) {
                (Ok(flow), Some(engine)) => engine.add(u64::from(number), stream, sock, flow),
                (Err(why), _) => job.add_fault(why),
                (_, None) => {}
            }
        }
        self.reply(id, Reply::Started);
    }

    fn handle_engine(&mut self, event: EngineEvent, shared: &mut Shared, others: u32) {
        match event {
            EngineEvent::Ended { group, fault: Some(fault), .. } => {
                if let Some(job) = self.jobs.get_mut(&(group as JobId)) {
                    job.add_fault(fault.to_string());
                }
            }
            EngineEvent::Ended { fault: None, .. } => {}
            EngineEvent::Sampled { tag, workers, .. } => {
                let (id, job) = untag(tag);
                let faults = self.jobs.get(&job).map(|job| job.faults.clone()).unwrap_or_default();
                let sample = Sample { workers, cpu: cpu::now(), faults, other_sessions: others };
                self.reply(id, Reply::Sampled(Box::new(sample)));
            }
            EngineEvent::Stopped { tag, infos, moved } => {
                for sample in moved {
                    shared.summary.received_bytes += sample.received.bytes;
                    shared.summary.sent_bytes += sample.sent.bytes;
                }
                if tag != FORGET {
                    let (id, job) = untag(tag);
                    let congestion = self.jobs.remove(&job).map(|job| job.congestion).unwrap_or_default();
                    self.reply(id, Reply::Stopped(tcp::summarise(&infos, congestion)));
                }
            }
        }
    }
}

impl Job {
    /// Put a stream to work: at once where we receive or answer, with the start where we send.
    fn seat(&mut self, seat: Seat, sock: TcpStream, engine: &Engine) -> Result<(), String> {
        let local = sock.local_addr().map_err(|error| error.to_string())?;
        let domain = socket2::Domain::for_address(local);
        apply(&sock, domain, &self.options(seat.stream)).map_err(|error| error.to_string())?;
        if let (Work::Exchange { .. }, Some(name)) = (&self.spec.work, &self.spec.options.congestion) {
            // Long answers are better paced as the requests are; an end that may not is still an honest peer.
            let _ = socket2::SockRef::from(&sock).set_tcp_congestion(name.as_bytes());
        }
        self.congestion = congestion_of(&sock);
        let flow = match &self.spec.work {
            Work::Exchange { request, reply } => {
                let source = self.source.as_ref().ok_or("nothing to answer with")?;
                flows::exchanging(*request, *reply, Side::Answering, source)?
            }
            Work::Transfer(transfer) => {
                let (up, _) = transfer.direction.split(self.spec.streams);
                if seat.stream >= up {
                    self.waiting.push((seat.stream, sock));
                    return Ok(());
                }
                let sink = self.sinks.get(seat.stream as usize).cloned().map_or(Sink::Discard, Sink::File);
                flows::receiving(transfer, sink)?
            }
        };
        engine.add(u64::from(seat.job), seat.stream, sock, flow);
        Ok(())
    }

    /// Options of our end of a stream. Congestion control is the bulk sender's: an end that receives, or sends short
    /// answers, may lack it.
    fn options(&self, stream: u32) -> SocketOptions {
        let sends = matches!(&self.spec.work, Work::Transfer(transfer)
            if stream >= transfer.direction.split(self.spec.streams).0);
        let congestion = self.spec.options.congestion.clone().filter(|_| sends);
        SocketOptions { congestion, ..self.spec.options.clone() }
    }

    fn sender(&self, sock: &TcpStream) -> Result<Box<dyn crate::engine::flow::Flow>, String> {
        match (&self.spec.work, &self.source) {
            (Work::Transfer(transfer), Some(source)) => {
                flows::sending(transfer, self.spec.options.nodelay, source, sock)
            }
            _ => Err("nothing to send".to_string()),
        }
    }

    fn add_fault(&mut self, fault: String) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault);
        }
    }
}

/// Refuse what cannot be done; otherwise how many streams the job has, over both directions.
fn check(spec: &JobSpec, shared: &Shared) -> Result<u32, String> {
    let mut streams = spec.streams;
    let mut bytes = vec![];
    match &spec.work {
        Work::Exchange { request, reply } => bytes.extend([*request, *reply]),
        Work::Transfer(transfer) => {
            let (up, down) = transfer.direction.split(spec.streams);
            streams = up.checked_add(down).ok_or("too many streams")?;
            bytes.push(transfer.chunk);
            let send = send_row(&transfer.send).ok_or("no such send method on this server")?;
            let receive = receive_row(&transfer.receive).ok_or("no such receive method on this server")?;
            if down > 0 {
                (send.probe)()?;
            }
            if up > 0 {
                (receive.probe)()?;
                if !receive.keeps && transfer.sink != Place::Nothing {
                    return Err(format!("receive method {} cannot keep bytes in a sink file", receive.name));
                }
            }
        }
    }
    if bytes.iter().any(|bytes| *bytes == 0 || *bytes > CHUNK_BYTES_MAX) {
        return Err(format!("sizes go from 1 to {CHUNK_BYTES_MAX} bytes"));
    }
    if streams == 0 || streams > shared.streams_max {
        let most = shared.streams_max;
        return Err(format!("{streams} streams: this server takes 1 to {most} (its limit on open files)"));
    }
    let allowed = affinity::allowed_cpus();
    if let Some(cpu) = spec.cpus.iter().find(|cpu| !allowed.contains(cpu)) {
        return Err(format!("the server has no CPU {cpu} to pin to; it may use {allowed:?}"));
    }
    if spec.options.dscp.is_some_and(|dscp| dscp > DSCP_MAX) {
        return Err(format!("a DiffServ code point is at most {DSCP_MAX}"));
    }
    if let Some(name) = spec.options.congestion.as_ref().filter(|name| name.len() > 16) {
        return Err(format!("{}: no congestion control has so long a name", printable(name.as_bytes())));
    }
    Ok(streams)
}

fn draw_tokens(streams: u32) -> Result<Vec<Token>, String> {
    let mut tokens = vec![Token::default(); streams as usize];
    for token in &mut tokens {
        getrandom::fill(token).map_err(|error| format!("no random numbers: {error}"))?;
    }
    Ok(tokens)
}

/// A stop that nobody waits for.
const FORGET: u64 = u64::MAX;

fn tag(id: u32, job: JobId) -> u64 {
    u64::from(id) << 32 | u64::from(job)
}

fn untag(tag: u64) -> (u32, JobId) {
    ((tag >> 32) as u32, tag as u32)
}
