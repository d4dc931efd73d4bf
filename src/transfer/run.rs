//! A copy on the client's side: one session, from the request to the far end's last report.
//!
//! Whoever calls decides whether a lost connection is tried again: what was proven is kept where the files land, so that
//! another session goes on from there.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use super::destination::Destination;
use super::end::{End, EndSetup};
use super::keeping::{DestinationLock, TAKEN};
use super::origin::Origins;
use super::pace::sockets_for;
use super::serving::{BROKEN, PrepareError, STILL_ENDING, sink};
use super::tally::{Observer, Tally, UnderWay};
use crate::engine::dial::{Dial, DialError};
use crate::engine::secure::Protection;
use crate::link::{Link, LinkError};
use crate::proto::copy::options::{CopyOptions, CopyRoute, CopySpec};
use crate::proto::copy::report::EndReport;
use crate::proto::copy::{CopyError, Ending};
use crate::proto::message::{CopyJob, JobId, Reply, Request, SocketOptions};
use crate::proto::wire::Join;
use crate::store::StoreError;

/// How often whoever watches is told.
pub(super) const TELL_EVERY: Duration = Duration::from_millis(100);
/// How often the far end is asked how it is doing.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Most files under way that are told.
pub(super) const UNDER_WAY_MAX: usize = 3;
/// Time for each data stream to be made.
const DIAL_MAX: Duration = Duration::from_secs(10);

/// What is copied, and how.
#[derive(Clone, Debug)]
pub struct CopyPlan {
    /// Which way, and between what.
    pub way: Way,
    /// How.
    pub options: CopyOptions,
    /// Data streams.
    pub streams: u32,
    /// They go through TLS.
    pub tls: bool,
    /// Options of their sockets.
    pub sockets: SocketOptions,
    /// Our own address.
    pub bind: Option<std::net::IpAddr>,
    /// Random; the same for all sessions of this copy.
    pub run: [u8; 16],
}

/// Which way a copy goes.
#[derive(Clone, Debug)]
pub enum Way {
    /// From here to the server.
    Push {
        /// What is here.
        from: Vec<PathBuf>,
        /// Content without a name instead of `from`, and what it is called in the copy.
        input: Option<Input>,
        /// Where to, as it was typed.
        to: Vec<u8>,
        /// What these sources are called where a journal is looked for.
        label: Vec<u8>,
    },
    /// From the server to here.
    Pull {
        /// What is there, as it was typed.
        from: Vec<Vec<u8>>,
        /// What each of them is called; nothing for content without a name.
        names: Vec<Option<Vec<u8>>>,
        /// Where to.
        to: PathBuf,
        /// What these sources are called where a journal is looked for.
        label: Vec<u8>,
    },
}

/// A file that has no name. Its clones share it.
#[derive(Clone, Debug)]
pub struct Input {
    /// Its whole content.
    pub file: Arc<File>,
    /// What it is called in the copy.
    pub name: Vec<u8>,
}

impl Input {
    fn origins(&self) -> Result<Origins, StoreError> {
        let again = self.file.try_clone();
        let name = || String::from_utf8_lossy(&self.name).into_owned();
        let again = again.map_err(|error| StoreError::System { name: name(), what: "cannot be read again", error })?;
        Origins::of_file(again, &self.name)
    }
}

/// How a copy is doing.
pub struct Progress<'a> {
    /// What became of the entries so far.
    pub tally: Tally,
    /// This end.
    pub near: EndReport,
    /// The other end, when it said so last.
    pub far: Option<&'a EndReport>,
    /// Data streams.
    pub streams: u32,
    /// All entries are known: what was found is all that there is.
    pub is_scanned: bool,
    /// The largest files whose content moves, as they were less than a second ago.
    pub under_way: &'a [UnderWay],
}

/// Is told how a copy is doing.
pub trait Watcher {
    /// A moment has passed.
    fn progress(&mut self, progress: &Progress<'_>);

    /// Hears of every entry that is settled in the session that begins now.
    fn observer(&mut self) -> Option<Box<dyn Observer>>;
}

/// Looks at nothing.
impl Watcher for () {
    fn progress(&mut self, _: &Progress<'_>) {}

    fn observer(&mut self) -> Option<Box<dyn Observer>> {
        None
    }
}

/// How a session of a copy ended that was not broken off.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What became of the entries, with what failed after they were settled.
    pub tally: Tally,
    /// What the receiver said at the end.
    pub ending: Ending,
    /// The last reports of this end and the other.
    pub near: EndReport,
    /// The same of the far end.
    pub far: EndReport,
}

/// Why a copy has no outcome.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The session failed.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A stream did.
    #[error("{peer}: a data stream was lost: {why}")]
    Stream {
        /// The server.
        peer: std::net::SocketAddr,
        /// What went wrong.
        why: String,
    },
    /// The peer broke the rules.
    #[error("{peer}: {error}")]
    Peer {
        /// The server.
        peer: std::net::SocketAddr,
        /// What it did.
        error: CopyError,
    },
    /// Something at this end.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The same.
    #[error("{0}")]
    Here(String),
}

impl RunError {
    /// Whether another session may do better.
    pub fn is_passing(&self) -> bool {
        match self {
            RunError::Stream { .. } => true,
            RunError::Link(error) => {
                matches!(error, LinkError::Lost { .. } | LinkError::Dial(_))
                    && !matches!(error, LinkError::Dial(DialError::Option(_)))
            }
            _ => false,
        }
    }

    /// Whether what is left of a session before is in the way, which ends by itself.
    pub fn is_given_way(&self) -> bool {
        match self {
            RunError::Link(LinkError::Refused { why, .. }) => why.ends_with(STILL_ENDING),
            RunError::Link(LinkError::Missing { why, .. }) => why.ends_with(TAKEN),
            RunError::Here(why) => why.ends_with(TAKEN),
            _ => false,
        }
    }
}

/// What a session brought, however it ended.
pub struct Session {
    /// What became of the entries in it.
    pub tally: Tally,
    /// The outcome, or why there is none.
    pub result: Result<Outcome, RunError>,
}

/// Copy over a session. What breaks it is told with what was done until then.
pub fn run(plan: &CopyPlan, link: &mut Link, watcher: &mut dyn Watcher) -> Session {
    let failed = |error| Session { tally: Tally::default(), result: Err(error) };
    let (job, end, _lock) = match begin(plan, link, watcher) {
        Ok(begun) => begun,
        Err(error) => return failed(error),
    };
    let mut end = end;
    let result = drive(plan, link, job, &mut end, watcher);
    let tally = end.tally();
    end.stop();
    Session { tally, result }
}

/// Both ends ready, and the streams between them connected.
fn begin(
    plan: &CopyPlan,
    link: &mut Link,
    watcher: &mut dyn Watcher,
) -> Result<(JobId, End, Option<DestinationLock>), RunError> {
    let setup = EndSetup {
        options: plan.options.clone(),
        streams: plan.streams,
        tls: plan.tls,
        waker: link.waker(),
        observer: watcher.observer(),
    };
    let (route, end, lock) = match &plan.way {
        Way::Push { from, input, to, label } => {
            let origins = input.as_ref().map_or_else(|| Ok(Origins::own(from)), Input::origins)?;
            let route = CopyRoute::Push { to: to.clone(), names: origins.names(), from: label.clone() };
            (route, End::source(setup, origins)?, None)
        }
        Way::Pull { from, names, to, label } => {
            let destination = Destination::own(to, names, plan.options.purpose)?;
            let (end, lock) = sink(setup, destination, label, &mut || false).map_err(here)?;
            (CopyRoute::Pull { from: from.clone() }, end, Some(lock))
        }
    };
    let spec = CopySpec { run: plan.run, route, options: plan.options.clone() };
    let job = CopyJob { spec, streams: plan.streams, options: plan.sockets.clone(), tls: plan.tls };
    let (number, tokens) = match link.call(Request::PrepareCopy(Box::new(job)))? {
        Reply::Prepared { job, tokens } => (job, tokens),
        other => return Err(link.unexpected(&other).into()),
    };
    let socks = connect(plan, link, &tokens)?;
    match link.call(Request::Start(number)) {
        // Its streams did not come to the server as they left here.
        Err(LinkError::Refused { peer, why }) => return Err(RunError::Stream { peer, why }),
        other => other?,
    };
    for (stream, (sock, tls)) in (0..).zip(socks) {
        end.seat(stream, sock, tls);
    }
    Ok((number, end, lock))
}

fn here(error: PrepareError) -> RunError {
    RunError::Here(error.to_string())
}

pub(super) fn connect(
    plan: &CopyPlan,
    link: &Link,
    tokens: &[[u8; 16]],
) -> Result<Vec<(TcpStream, Protection)>, LinkError> {
    let headers: Vec<Vec<u8>> = tokens.iter().map(|token| Join { token: *token }.encode().to_vec()).collect();
    let sends = matches!(plan.way, Way::Push { .. });
    let options = sockets_for(&plan.sockets, sends, plan.options.limit, plan.streams);
    let dial = Dial { address: link.peer(), bind: plan.bind, options: &options, timeout: DIAL_MAX };
    if plan.tls {
        let socks = dial.connect_secure(&headers, link.tls_config())?;
        return Ok(socks.into_iter().map(|(sock, tls)| (sock, Some(Box::new(tls)))).collect());
    }
    Ok(dial.connect(&headers)?.into_iter().map(|sock| (sock, None)).collect())
}

/// Carry messages between both ends until everything is settled.
fn drive(
    plan: &CopyPlan,
    link: &mut Link,
    job: JobId,
    end: &mut End,
    watcher: &mut dyn Watcher,
) -> Result<Outcome, RunError> {
    let peer = link.peer();
    let broken = |error: CopyError| match error.is_damage() {
        true => RunError::Stream { peer, why: error.to_string() },
        false => RunError::Peer { peer, error },
    };
    let mut telling = Telling::new();
    loop {
        while let Some((number, message)) = link.poll_copy() {
            if number == job {
                end.handle_message(message).map_err(broken)?;
            }
        }
        end.answer_bell();
        while link.has_room()
            && let Some(message) = end.poll_message()
        {
            link.say_copy(job, message);
        }
        if let Some(error) = end.error() {
            return Err(broken(error));
        }
        if end.is_broken() {
            return Err(RunError::Here(BROKEN.to_string()));
        }
        if end.has_ended() {
            return conclude(link, job, end);
        }
        if let Some(why) = end.poll_fault() {
            return Err(lost(link, peer, why));
        }
        let wait = telling.tell((plan, job), link, end, watcher)?;
        link.turn(wait)?;
    }
}

/// Everything is settled: the far end's last word.
fn conclude(link: &mut Link, job: JobId, end: &End) -> Result<Outcome, RunError> {
    let far = match link.call(Request::ReportCopy(job))? {
        Reply::CopyReported(report) => *report,
        other => return Err(link.unexpected(&other).into()),
    };
    end.handle_report(&far);
    // The outcome stands; that the far end heard so is a courtesy.
    let _ = link.call(Request::Stop(job));
    let (mut tally, ending) = (end.tally(), end.ending());
    tally.add_ending(&ending);
    Ok(Outcome { tally, ending, near: end.report(), far })
}

/// When whoever watches is told, and the far end asked, the next time; and what was known the last.
struct Telling {
    far: Option<EndReport>,
    /// The request that is not answered yet.
    asked: Option<u32>,
    under_way: Vec<UnderWay>,
    tell_at: Instant,
    ask_at: Instant,
}

impl Telling {
    fn new() -> Telling {
        let now = Instant::now();
        let (tell_at, ask_at) = (now + TELL_EVERY, now + ASK_EVERY);
        Telling { far: None, asked: None, under_way: Vec::new(), tell_at, ask_at }
    }

    /// Do what is due; how long nothing is.
    fn tell(
        &mut self,
        (plan, job): (&CopyPlan, JobId),
        link: &mut Link,
        end: &End,
        watcher: &mut dyn Watcher,
    ) -> Result<Duration, RunError> {
        if let Some(id) = self.asked
            && let Some(reply) = link.poll_reply(id)?
        {
            self.asked = None;
            if let Reply::CopyReported(report) = reply {
                self.far = Some(*report);
            }
        }
        let now = Instant::now();
        if now >= self.tell_at {
            self.tell_at = now + TELL_EVERY;
            watcher.progress(&Progress {
                tally: end.tally(),
                near: end.report(),
                far: self.far.as_ref(),
                streams: plan.streams,
                is_scanned: end.is_scanned(),
                under_way: &self.under_way,
            });
        }
        if now >= self.ask_at && self.asked.is_none() {
            self.ask_at = now + ASK_EVERY;
            self.under_way = end.under_way(UNDER_WAY_MAX);
            self.asked = Some(link.ask(Request::ReportCopy(job)));
        }
        Ok(self.tell_at.saturating_duration_since(now))
    }
}

/// A stream is lost: the session may say why.
fn lost(link: &mut Link, peer: std::net::SocketAddr, why: String) -> RunError {
    match link.turn(Duration::from_millis(200)) {
        Err(error) => error.into(),
        Ok(()) => RunError::Stream { peer, why },
    }
}
