//! One session on the serving side: who is let in and until when, and which of its parts answers what.
//!
//! What a job does is the business of its kind ([`BenchJobs`]); here jobs get their numbers and tokens, and streams find
//! their jobs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use super::Shared;
use super::admission::{Admitted, Verdict};
use crate::bench::serving::BenchJobs;
use crate::engine::control::ControlConnection;
use crate::engine::secure::Protection;
use crate::link::BACKLOG_BYTES;
use crate::proto::facts::TcpSummary;
use crate::proto::job::{JobNews, Seat, SessionId};
use crate::proto::message::{Hello, JobId, JobSpec, Message, Reply, Request, STREAMS_MAX, TurnedAway};
use crate::proto::session::Event;
use crate::proto::wire::Token;
use crate::store::StoreError;
use crate::store::confined::{RelativePath, Root};
use crate::sys::limits;
use crate::text::printable_limit;
use crate::transfer::serving::{CopyJobs, Files, PrepareError, PreparedCopy, Trouble};

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
    /// Every job that has a number, of whatever kind.
    jobs: HashMap<JobId, Job>,
    bench: BenchJobs,
    copies: CopyJobs,
    /// What they may read and write.
    files: Files,
    received_bytes: u64,
    sent_bytes: u64,
    outcome: String,
}

/// Which part of the session does a job's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bench,
    Copy,
}

/// A job, as far as the session is concerned.
struct Job {
    kind: Kind,
    /// The request that wants to know when all streams have joined.
    start_asked: Option<u32>,
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
    pub(super) fn new(id: SessionId, control: ControlConnection, bench: BenchJobs, copies: CopyJobs) -> Served {
        Served {
            id,
            control,
            since: Instant::now(),
            state: State::Greeting,
            admitted: None,
            root: None,
            look_again_at: Instant::now() + REVOKED_WITHIN,
            wants_ticket: false,
            jobs: HashMap::new(),
            bench,
            copies,
            files: Files::Nothing,
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
                self.turn_away(why, shared);
                return true;
            }
            _ => {}
        }
        if self.admitted.as_ref().and_then(|admitted| admitted.until).is_some_and(|until| now >= until) {
            self.turn_away("the time that this session was given is over".to_string(), shared);
            return true;
        }
        if self.is_admitted() && now >= self.look_again_at {
            self.look_again_at = now + REVOKED_WITHIN;
            if self.is_revoked(shared) {
                self.turn_away(REVOKED.to_string(), shared);
                return true;
            }
        }
        while let Some(event) = self.control.poll_event() {
            match event {
                Event::Hello(hello) => self.handle_hello(&hello, shared),
                Event::Message(Message::Request { id, body }) => self.handle_request(id, body, shared),
                Event::Message(Message::Copy { job, body }) => {
                    if let Err(error) = self.copies.handle_message(job, body) {
                        self.turn_away(error.to_string(), shared);
                    }
                }
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
        while let Some(news) = self.bench.poll(shared.others()) {
            self.handle_news(news, shared);
        }
        self.advance_copies(shared)
    }

    /// Say what copies have to say; `false` when one is lost, and the session with it.
    fn advance_copies(&mut self, shared: &mut Shared) -> bool {
        while let Some((id, made)) = self.copies.poll_prepared() {
            self.handle_prepared(id, made, shared);
        }
        match self.copies.poll_trouble() {
            Some((_, Trouble::Broken(error))) => {
                self.turn_away(error.to_string(), shared);
                return true;
            }
            Some((_, Trouble::Lost(why))) => {
                self.outcome = printable_limit(why.as_bytes(), OUTCOME_CHARS_MAX);
                self.control.send(&Message::Bye(why));
                self.control.say_end();
                return false;
            }
            None => {}
        }
        while self.control.session().backlog() < BACKLOG_BYTES
            && let Some((job, body)) = self.copies.poll_message()
        {
            self.control.send(&Message::Copy { job, body });
        }
        true
    }

    /// The session is over.
    pub(super) fn end(mut self, shared: &mut Shared) {
        if let Some(admitted) = &self.admitted {
            shared.admitted -= 1;
            shared.strangers -= usize::from(admitted.ticket.is_none());
        }
        self.end_copies(shared);
        self.log();
        self.bench.end();
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
                self.turn_away(format!("the server takes {most} at a time and is busy: try again later"), shared);
                shared.summary.turned_away += 1;
            }
            Verdict::Welcome(admitted, welcome) => {
                match part(shared.root.as_ref(), &admitted.folder) {
                    Ok(root) => {
                        self.files = match &root {
                            Some(root) => Files::Served { root: root.clone(), takes_owners: shared.takes_owners },
                            None if shared.own_files => Files::Own,
                            None => Files::Nothing,
                        };
                        self.root = root;
                    }
                    Err(error) => {
                        shared.summary.turned_away += 1;
                        return self.turn_away(format!("the folder of this ticket: {error}"), shared);
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
    fn turn_away(&mut self, why: String, shared: &mut Shared) {
        self.outcome = format!("turned away: {why}");
        let wants_ticket = self.wants_ticket;
        self.control.turn_away(TurnedAway { why, wants_ticket });
        self.state = State::Leaving(Instant::now() + LEAVING_MAX);
        self.jobs.clear();
        self.bench.end();
        self.end_copies(shared);
    }

    /// Whether the ticket was revoked, or has expired, since the session began.
    fn is_revoked(&self, shared: &mut Shared) -> bool {
        let ticket = self.admitted.as_ref().and_then(|admitted| admitted.ticket.as_ref());
        ticket.is_some_and(|ticket| !shared.admission.is_still_valid(ticket))
    }

    /// A data stream took its seat.
    pub(super) fn handle_join(&mut self, seat: Seat, sock: TcpStream, tls: Protection, shared: &mut Shared) {
        match self.jobs.get(&seat.job).map(|job| job.kind) {
            Some(Kind::Bench) => self.bench.seat(seat, sock, tls),
            Some(Kind::Copy) => {
                if let Err(why) = self.copies.seat(seat, sock, tls) {
                    self.turn_away(why, shared);
                    return;
                }
            }
            None => {}
        }
        self.start_if_complete(seat.job, shared);
    }

    /// Not all streams of a job joined in time; the table has forgotten it already.
    pub(super) fn handle_late(&mut self, number: JobId) {
        let Some(job) = self.jobs.remove(&number) else { return };
        match job.kind {
            Kind::Bench => self.bench.forget(number),
            Kind::Copy => drop(self.copies.stop(number)),
        }
        if let Some(id) = job.start_asked {
            self.reply(id, Reply::Refused("not all streams of the job joined in time".to_string()));
        }
    }

    fn handle_request(&mut self, id: u32, body: Request, shared: &mut Shared) {
        if matches!(body, Request::Prepare(_) | Request::PrepareCopy(_)) && self.is_revoked(shared) {
            return self.turn_away(REVOKED.to_string(), shared);
        }
        let answer = match body {
            Request::Describe => {
                let local = self.control.local().ok().map(|local| local.ip());
                let description = self.bench.describe(local, self.root.is_some(), shared.others());
                Ok(Some(Reply::Described(Box::new(description))))
            }
            Request::Prepare(spec) => self.prepare(*spec, shared).map(Some),
            Request::PrepareCopy(job) => self.copies.prepare(id, *job, &self.files).map(|()| None).or_else(unprepared),
            Request::ReportCopy(job) => self
                .copies
                .report(job)
                .map(|report| Some(Reply::CopyReported(Box::new(report))))
                .ok_or_else(|| no_job(job)),
            Request::Start(job) => self.ask_start(id, job, shared),
            Request::Sample(job) => self.sample(id, job),
            Request::Stop(job) => self.stop(id, job, shared),
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

    fn prepare(&mut self, spec: JobSpec, shared: &mut Shared) -> Result<Reply, String> {
        let job = self.bench.prepare(spec, self.root.as_deref())?;
        let (number, tokens) = self.seat_job(Kind::Bench, job.streams(), shared)?;
        self.bench.add(number, job);
        Ok(Reply::Prepared { job: number, tokens })
    }

    /// A copy is ready, or cannot be.
    fn handle_prepared(&mut self, id: u32, made: Result<PreparedCopy, PrepareError>, shared: &mut Shared) {
        let answer = made.map_err(unprepared).and_then(|copy| {
            let seated = self.seat_job(Kind::Copy, copy.streams(), shared);
            let (number, tokens) = seated.map_err(Err)?;
            self.copies.add(number, copy);
            Ok(Reply::Prepared { job: number, tokens })
        });
        match answer {
            Ok(reply) | Err(Ok(Some(reply))) => self.reply(id, reply),
            Err(Ok(None)) => {}
            Err(Err(why)) => self.reply(id, Reply::Refused(why)),
        }
    }

    fn stop_copy(&mut self, number: JobId, shared: &mut Shared) {
        self.jobs.remove(&number);
        let (received, sent) = self.copies.stop(number);
        self.account(received, sent, shared);
    }

    fn end_copies(&mut self, shared: &mut Shared) {
        let (received, sent) = self.copies.end();
        self.account(received, sent, shared);
    }

    fn account(&mut self, received: u64, sent: u64, shared: &mut Shared) {
        self.received_bytes += received;
        self.sent_bytes += sent;
        shared.summary.received_bytes += received;
        shared.summary.sent_bytes += sent;
    }

    fn sample(&mut self, id: u32, number: JobId) -> Result<Option<Reply>, String> {
        match self.kind(number)? {
            Kind::Bench => self.bench.sample(number, id),
            Kind::Copy => return Err("a copy has no samples: ask for its report".to_string()),
        }
        Ok(None)
    }

    fn stop(&mut self, id: u32, number: JobId, shared: &mut Shared) -> Result<Option<Reply>, String> {
        shared.jobs.handle_stop(self.id, number);
        match self.kind(number)? {
            Kind::Bench => self.bench.stop(number, id),
            Kind::Copy => {
                self.stop_copy(number, shared);
                return Ok(Some(Reply::Stopped(TcpSummary::default())));
            }
        }
        Ok(None)
    }

    /// A new job, and the tokens with which its streams may join.
    fn seat_job(&mut self, kind: Kind, streams: u32, shared: &mut Shared) -> Result<(JobId, Vec<Token>), String> {
        let tokens = draw_tokens(streams)?;
        let now = Instant::now();
        let number = shared.jobs.handle_prepare(self.id, &tokens, now).map_err(|error| error.to_string())?;
        self.jobs.insert(number, Job { kind, start_asked: None });
        shared.summary.jobs += 1;
        Ok((number, tokens))
    }

    fn kind(&self, number: JobId) -> Result<Kind, String> {
        self.jobs.get(&number).map(|job| job.kind).ok_or_else(|| no_job(number))
    }

    fn ask_start(&mut self, id: u32, number: JobId, shared: &Shared) -> Result<Option<Reply>, String> {
        self.jobs.get_mut(&number).ok_or_else(|| no_job(number))?.start_asked = Some(id);
        self.start_if_complete(number, shared);
        Ok(None)
    }

    fn start_if_complete(&mut self, number: JobId, shared: &Shared) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        let is_complete = shared.jobs.is_complete(self.id, number) == Some(true);
        let Some(id) = job.start_asked.take_if(|_| is_complete) else { return };
        match job.kind {
            Kind::Bench => self.bench.start(number),
            Kind::Copy => self.copies.start(number),
        }
        self.reply(id, Reply::Started);
    }

    /// What the jobs have to say.
    fn handle_news(&mut self, news: JobNews, shared: &mut Shared) {
        self.account(news.received_bytes, news.sent_bytes, shared);
        if let Some(number) = news.over {
            self.jobs.remove(&number);
        }
        if let Some((id, body)) = news.reply {
            self.reply(id, body);
        }
    }
}

/// What is said of a copy that cannot begin.
fn unprepared(error: PrepareError) -> Result<Option<Reply>, String> {
    match error {
        PrepareError::Missing(why) => Ok(Some(Reply::Missing(why))),
        PrepareError::Refused(why) => Err(why),
    }
}

/// The part of the served folder that a ticket is for.
fn part(root: Option<&Arc<Root>>, folder: &[u8]) -> Result<Option<Arc<Root>>, StoreError> {
    match root {
        Some(root) if !folder.is_empty() => Ok(Some(Arc::new(root.part(&RelativePath::parse_typed(folder)?)?))),
        root => Ok(root.cloned()),
    }
}

fn no_job(number: JobId) -> String {
    format!("there is no job {number}")
}

fn draw_tokens(streams: u32) -> Result<Vec<Token>, String> {
    let mut tokens = vec![Token::default(); streams as usize];
    for token in &mut tokens {
        getrandom::fill(token).map_err(|error| format!("no random numbers: {error}"))?;
    }
    Ok(tokens)
}
