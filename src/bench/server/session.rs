//! One session on the serving side: its control connection, its engine and its jobs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use super::Shared;
use super::admission::{Admitted, Verdict};
use super::job::{Job, check};
use crate::bench::flows::{self, HotSources, Protection};
use crate::engine::control::ControlConnection;
use crate::engine::{Config, Engine, Event as EngineEvent};
use crate::measure::{cpu, environment, tcp};
use crate::mover::{FileSink, RECEIVE, SEND, Source};
use crate::proto::job::{Seat, SessionId};
use crate::proto::message::{
    Capability, Description, Hello, JobId, JobSpec, Message, Place, Reply, Request, STREAMS_MAX, Sample, TurnedAway,
    Work,
};
use crate::proto::session::Event;
use crate::proto::wire::Token;
use crate::store::StoreError;
use crate::store::confined::{RelativePath, Root};
use crate::sys::limits;
use crate::text::printable_limit;

/// Longest account of how a session ended.
const OUTCOME_CHARS_MAX: usize = 400;
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

const REVOKED: &str = "this ticket was revoked, or has expired: ask for a new one";
/// A session ends within this time after its ticket was revoked.
const REVOKED_WITHIN: Duration = Duration::from_secs(2);
/// Time for a client that was turned away to read why.
const LEAVING_MAX: Duration = Duration::from_secs(2);

/// A session being served.
pub(super) struct Served {
    id: SessionId,
    pub(super) control: ControlConnection,
    since: Instant,
    state: State,
    /// What it was let in for; stays when it is turned away later.
    admitted: Option<Admitted>,
    /// What it may see of the served folder.
    root: Option<Arc<Root>>,
    /// When its ticket is looked at again.
    look_again_at: Instant,
    /// It said hello without a ticket, and one would help.
    wants_ticket: bool,
    engine: Option<Engine>,
    jobs: HashMap<JobId, Job>,
    hot: HotSources,
    received_bytes: u64,
    sent_bytes: u64,
    outcome: String,
}

/// Where a session is in its life: `Greeting` → (`Held` →) `Leaving`, or `Greeting` → `Open` (→ `Leaving`).
enum State {
    /// Its hello is awaited.
    Greeting,
    /// It is not let in; it is told so at that time.
    Held(Instant, String),
    Open,
    /// It was told that it must go, and has until then to read it.
    Leaving(Instant),
}

impl Served {
    pub(super) fn new(id: SessionId, control: ControlConnection) -> Served {
        Served {
            id,
            control,
            since: Instant::now(),
            state: State::Greeting,
            admitted: None,
            root: None,
            look_again_at: Instant::now() + REVOKED_WITHIN,
            wants_ticket: false,
            engine: None,
            jobs: HashMap::new(),
            hot: HotSources::default(),
            received_bytes: 0,
            sent_bytes: 0,
            outcome: "the server ended".to_string(),
        }
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// Whether it was let in, even if it has to go by now.
    pub(super) fn is_admitted(&self) -> bool {
        self.admitted.is_some()
    }

    /// The socket may have become ready, or time has passed.
    pub(super) fn handle_ready(&mut self) {
        if !matches!(self.state, State::Leaving(_)) {
            self.control.handle_ready();
        }
    }

    /// When [`Served::handle_ready`] and [`Served::advance`] want to be called even if nothing arrives.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Leaving(until) => Some(*until),
            State::Held(until, _) => Some(*until),
            _ => {
                let until = self.admitted.as_ref().and_then(|admitted| admitted.until);
                let look_again = self.is_admitted().then_some(self.look_again_at);
                self.control.poll_timeout().into_iter().chain(until).chain(look_again).min()
            }
        }
    }

    /// Handle what came from the peer and from the engine; `false` when the session is over.
    pub(super) fn advance(&mut self, shared: &mut Shared) -> bool {
        let now = Instant::now();
        match &mut self.state {
            State::Leaving(until) => return now < *until && !self.control.drain(),
            State::Held(until, why) if now >= *until => {
                let why = std::mem::take(why);
                self.turn_away(why);
                return true;
            }
            _ => {}
        }
        if self.admitted.as_ref().and_then(|admitted| admitted.until).is_some_and(|until| now >= until) {
            self.turn_away("the time that this session was given is over".to_string());
            return true;
        }
        if self.is_admitted() && now >= self.look_again_at {
            self.look_again_at = now + REVOKED_WITHIN;
            if self.is_revoked(shared) {
                self.turn_away(REVOKED.to_string());
                return true;
            }
        }
        while let Some(event) = self.control.poll_event() {
            match event {
                Event::Hello(hello) => self.handle_hello(&hello, shared),
                Event::Message(Message::Request { id, body }) => self.handle_request(id, body, shared),
                Event::Closed(ending) => {
                    self.outcome = printable_limit(ending.to_string().as_bytes(), OUTCOME_CHARS_MAX);
                    return false;
                }
                // A session lets nothing else through to a server.
                Event::Message(_) | Event::Welcome(_) => return false,
            }
            if matches!(self.state, State::Leaving(_)) {
                return true;
            }
        }
        while let Some(event) = self.engine.as_mut().and_then(Engine::poll_event) {
            self.handle_engine(event, shared);
        }
        true
    }

    /// The session is over. Joining the workers may take a moment: not on the control thread.
    pub(super) fn end(self, shared: &mut Shared) {
        if let Some(admitted) = &self.admitted {
            shared.admitted -= 1;
            shared.strangers -= usize::from(admitted.ticket.is_none());
        }
        self.log();
        if let Some(engine) = self.engine {
            std::thread::spawn(move || drop(engine));
        }
    }

    fn log(&self) {
        let (rights, ticket) = match &self.admitted {
            Some(Admitted { rights, ticket: Some(id), .. }) => (rights.to_string(), id.to_string()),
            Some(Admitted { rights, .. }) => (rights.to_string(), "none".to_string()),
            None => ("nothing".to_string(), "none".to_string()),
        };
        tracing::info!(
            peer = %self.control.peer(),
            rights,
            ticket,
            received_bytes = self.received_bytes,
            sent_bytes = self.sent_bytes,
            duration_s = self.since.elapsed().as_secs_f64(),
            outcome = self.outcome,
            "session"
        );
    }

    fn handle_hello(&mut self, hello: &Hello, shared: &mut Shared) {
        let now = Instant::now();
        let from = self.control.peer().ip();
        self.wants_ticket = hello.secret.is_none();
        match shared.admission.judge(hello, from, shared.strangers, now) {
            Verdict::Welcome(..) if shared.admitted >= shared.sessions_max => {
                let most = shared.sessions_max;
                self.wants_ticket = false;
                self.turn_away(format!("the server takes {most} at a time and is busy: try again later"));
                shared.summary.turned_away += 1;
            }
            Verdict::Welcome(admitted, welcome) => {
                match part(shared.root.as_ref(), &admitted.folder) {
                    Ok(root) => self.root = root,
                    Err(error) => {
                        shared.summary.turned_away += 1;
                        return self.turn_away(format!("the folder of this ticket: {error}"));
                    }
                }
                shared.admitted += 1;
                shared.strangers += usize::from(admitted.ticket.is_none());
                shared.summary.sessions += 1;
                self.admitted = Some(admitted);
                self.state = State::Open;
                self.control.welcome(welcome);
            }
            Verdict::TurnAway(why, hold) => {
                shared.summary.turned_away += 1;
                self.state = State::Held(now + hold, why);
            }
        }
    }

    /// Tell the client that it must go, and leave it time to read that.
    fn turn_away(&mut self, why: String) {
        self.outcome = format!("turned away: {why}");
        let wants_ticket = self.wants_ticket;
        self.control.turn_away(TurnedAway { why, wants_ticket });
        self.state = State::Leaving(Instant::now() + LEAVING_MAX);
        self.jobs.clear();
        if let Some(engine) = self.engine.take() {
            std::thread::spawn(move || drop(engine));
        }
    }

    /// Whether the ticket was revoked, or has expired, since the session began.
    fn is_revoked(&self, shared: &mut Shared) -> bool {
        let ticket = self.admitted.as_ref().and_then(|admitted| admitted.ticket.as_ref());
        ticket.is_some_and(|ticket| !shared.admission.is_still_valid(ticket))
    }

    /// A data stream took its seat.
    pub(super) fn handle_join(&mut self, seat: Seat, sock: TcpStream, tls: Protection, shared: &Shared) {
        if let Some(job) = self.jobs.get_mut(&seat.job)
            && let Some(engine) = &self.engine
            && let Err(why) = job.seat(seat, sock, tls, engine)
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

    fn handle_request(&mut self, id: u32, body: Request, shared: &mut Shared) {
        if matches!(body, Request::Prepare(_)) && self.is_revoked(shared) {
            return self.turn_away(REVOKED.to_string());
        }
        let others = shared.admitted.saturating_sub(1) as u32;
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
            kernel_tls: crate::sys::ktls::probe().err(),
            streams_max: shared.streams_max,
            serves_folder: self.root.is_some(),
            other_sessions: others,
        }
    }

    fn prepare(&mut self, spec: JobSpec, shared: &mut Shared) -> Result<Reply, String> {
        let streams = check(&spec, shared.streams_max)?;
        let (source, sinks) = self.places(&spec)?;
        self.shape_engine(&spec, streams, shared)?;
        let tokens = draw_tokens(streams)?;
        let now = Instant::now();
        let job = shared.jobs.handle_prepare(self.id, &tokens, now).map_err(|error| error.to_string())?;
        self.jobs.insert(job, Job::new(spec, source, sinks));
        shared.summary.jobs += 1;
        Ok(Reply::Prepared { job, tokens })
    }

    /// Open what the job's streams read from and write to here.
    fn places(&mut self, spec: &JobSpec) -> Result<(Option<Source>, Vec<FileSink>), String> {
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
                let root = self.root.as_ref().ok_or(no_folder)?;
                Some(root.source(path, transfer.chunk).map_err(|error| error.to_string())?)
            }
        };
        let sinks = match &transfer.sink {
            Place::File(path) if up > 0 => {
                let root = self.root.as_ref().ok_or(no_folder)?;
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
            engine.shape(flows::buffer_bytes(&spec.work, spec.tls));
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
        for (stream, sock, tls) in std::mem::take(&mut job.waiting) {
            match (job.sender(&sock, tls), &self.engine) {
                (Ok(flow), Some(engine)) => engine.add(u64::from(number), stream, sock, flow),
                (Err(why), _) => job.add_fault(why),
                (_, None) => {}
            }
        }
        self.reply(id, Reply::Started);
    }

    fn handle_engine(&mut self, event: EngineEvent, shared: &mut Shared) {
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
                let sample = Sample {
                    workers,
                    cpu: cpu::now(),
                    faults,
                    other_sessions: shared.admitted.saturating_sub(1) as u32,
                };
                self.reply(id, Reply::Sampled(Box::new(sample)));
            }
            EngineEvent::Stopped { tag, infos, moved } => {
                for sample in moved {
                    self.received_bytes += sample.received.bytes;
                    self.sent_bytes += sample.sent.bytes;
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

/// The part of the served folder that a ticket is for.
fn part(root: Option<&Arc<Root>>, folder: &[u8]) -> Result<Option<Arc<Root>>, StoreError> {
    match root {
        Some(root) if !folder.is_empty() => Ok(Some(Arc::new(root.part(&RelativePath::parse_typed(folder)?)?))),
        root => Ok(root.cloned()),
    }
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
