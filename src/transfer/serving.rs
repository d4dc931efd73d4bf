//! The copies of one session on the serving side.
//!
//! Who may have jobs, their numbers and which stream belongs to which is the server's business. A client that comes back
//! after its connection was lost shows the same run: what is left of the session before is ended first.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use jiff::Timestamp;
use mio::Waker;
use mio::net::TcpStream;
use socket2::Domain;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::choices::choice_of;
use super::destination::Destination;
use super::end::{End, EndSetup};
use super::keeping::{DestinationLock, KeepError, has_journal, journal};
use super::landing_options;
use super::origin::Origins;
use super::pace::sockets_for;
use super::receipt::{Account, Keeper, Name, Receipt, Route, Settings, keep};
use super::runs::{Run, Runs};
use crate::engine::options::apply;
use crate::engine::secure::Protection;
use crate::proto::copy::options::{CopyOptions, CopyRoute, Purpose};
use crate::proto::copy::{CopyError, CopyMessage};
use crate::proto::job::{JOBS_PER_SESSION_MAX, Seat};
use crate::proto::message::{CopyJob, JobId};
use crate::store::confined::Root;
use crate::store::landing::{Landing, LandingError};
use crate::trust::places::Places;

/// Why a client that is back after its connection was lost has to wait.
pub const STILL_ENDING: &str = "the session before is still ending";
/// Most streams of one copy.
pub const STREAMS_MAX: u32 = 256;

/// Which files a client may name.
#[derive(Clone, Debug)]
pub enum Files {
    /// None.
    Nothing,
    /// Those in a folder.
    Served {
        /// Which.
        root: Arc<Root>,
        /// Whether what comes may get an owner, and with him set-uid bits and the extended attributes that give rights.
        takes_owners: bool,
    },
    /// All that this user can reach: whoever started this server could as well log in as him.
    Own,
}

/// Why a copy cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// What it names is not there, or cannot be used.
    #[error("{0}")]
    Missing(String),
    /// It is not allowed, or not now.
    #[error("{0}")]
    Refused(String),
}

/// A copy that can begin. Dropping it ends it, on a thread of its own: whoever drops it has others to serve.
pub struct PreparedCopy(Option<Box<OpenCopy>>);

/// A copy, with all that it holds.
struct OpenCopy {
    job: CopyJob,
    end: End,
    since: Timestamp,
    held: Held,
    /// Streams on which we send, until all have joined: whoever is still agreeing on TLS takes no content.
    waiting: Vec<(u32, TcpStream, Protection)>,
}

/// What is held as long as a copy runs; dropped after its end has stopped.
#[derive(Debug)]
struct Held {
    // Before the run: whoever finds the run gone finds the destination free. Of a copy to here, until its end was said.
    lock: Option<DestinationLock>,
    run: Run,
}

impl PreparedCopy {
    /// How many streams it has.
    pub fn streams(&self) -> u32 {
        self.0.as_ref().map_or(0, |copy| copy.job.streams)
    }
}

impl Drop for PreparedCopy {
    fn drop(&mut self) {
        if let Some(copy) = self.0.take() {
            copy.held.run.begin_to_end();
            // Threads are joined, one of which may be sweeping a whole tree.
            end_on_a_thread(move || drop(copy));
        }
    }
}

/// Without a thread to do it, it is done at once, by dropping it.
fn end_on_a_thread(end: impl FnOnce() + Send + 'static) {
    if let Err(error) = std::thread::Builder::new().name("copy-end".to_string()).spawn(end) {
        tracing::warn!(%error, "a copy was ended the hard way");
    }
}

/// What became of a copy by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Its streams are lost, or its client is back over another session: the session is over.
    Lost(String),
    /// The client broke the rules.
    Broken(CopyError),
}

/// All copies of a session.
pub struct CopyJobs {
    waker: Arc<Waker>,
    runs: Runs,
    jobs: HashMap<JobId, Box<OpenCopy>>,
    /// Being made ready, with the requests that wait for it.
    preparing: Vec<(u32, Receiver<Result<PreparedCopy, PrepareError>>)>,
    peer: SocketAddr,
}

impl CopyJobs {
    /// None yet. `waker` is woken when one has something to say; `peer` is for receipts.
    pub fn new(waker: Arc<Waker>, runs: Runs, peer: SocketAddr) -> CopyJobs {
        CopyJobs { waker, runs, jobs: HashMap::new(), preparing: Vec::new(), peer }
    }

    /// Make ready for a copy, which request `id` asks for: a scan begins at once. What comes of it is told by
    /// [`CopyJobs::poll_prepared`], since a journal may have to be read, and a folder looked at that is far away.
    pub fn prepare(&mut self, id: u32, job: CopyJob, files: &Files) -> Result<(), PrepareError> {
        let refused = |why: &str| PrepareError::Refused(why.to_string());
        job.spec.check().map_err(refused)?;
        if job.streams == 0 || job.streams > STREAMS_MAX {
            return Err(PrepareError::Refused(format!("{} streams: a copy takes 1 to {STREAMS_MAX}", job.streams)));
        }
        if self.preparing.len() >= JOBS_PER_SESSION_MAX {
            return Err(refused("this session begins too many copies at once"));
        }
        let run = self.runs.enter(job.spec.run).ok_or_else(|| refused(STILL_ENDING))?;
        let setup = EndSetup {
            options: job.spec.options.clone(),
            streams: job.streams,
            tls: job.tls,
            waker: self.waker.clone(),
            observer: None,
        };
        let (tell, told) = channel();
        let (files, waker) = (files.clone(), self.waker.clone());
        let made = std::thread::Builder::new().name("copy-begin".to_string()).spawn(move || {
            // A session that is gone has nobody who takes it: it ends here.
            let _ = tell.send(make(job, setup, &files, run));
            let _ = waker.wake();
        });
        made.map_err(|error| PrepareError::Refused(format!("a thread cannot be started: {error}")))?;
        self.preparing.push((id, told));
        Ok(())
    }

    /// What came of a request for a copy.
    pub fn poll_prepared(&mut self) -> Option<(u32, Result<PreparedCopy, PrepareError>)> {
        let (at, made) = self.preparing.iter().enumerate().find_map(|(at, (_, told))| match told.try_recv() {
            Ok(made) => Some((at, made)),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some((at, Err(PrepareError::Refused("it could not begin".to_string())))),
        })?;
        Some((self.preparing.remove(at).0, made))
    }

    /// It has a number now.
    pub fn add(&mut self, number: JobId, mut copy: PreparedCopy) {
        self.jobs.extend(copy.0.take().map(|copy| (number, copy)));
    }

    /// One of its streams has come.
    pub fn seat(&mut self, seat: Seat, sock: TcpStream, tls: Protection) -> Result<(), String> {
        let Some(copy) = self.jobs.get_mut(&seat.job) else { return Ok(()) };
        if tls.is_some() != copy.job.tls {
            let (came, agreed) = if copy.job.tls { ("in the clear", "TLS") } else { ("in TLS", "the clear") };
            return Err(format!("a stream came {came}, and {agreed} was agreed"));
        }
        let local = sock.local_addr().map_err(|error| error.to_string())?;
        let sends = matches!(copy.job.spec.route, CopyRoute::Pull { .. });
        let options = sockets_for(&copy.job.options, sends, copy.job.spec.options.limit, copy.job.streams);
        apply(&sock, Domain::for_address(local), &options).map_err(|error| error.to_string())?;
        match sends {
            true => copy.waiting.push((seat.stream, sock, tls)),
            false => copy.end.seat(seat.stream, sock, tls),
        }
        Ok(())
    }

    /// All streams of one have come, and the client is told so.
    pub fn start(&mut self, number: JobId) {
        let Some(copy) = self.jobs.get_mut(&number) else { return };
        for (stream, sock, tls) in std::mem::take(&mut copy.waiting) {
            copy.end.seat(stream, sock, tls);
        }
    }

    /// The client said something about one.
    pub fn handle_message(&self, number: JobId, message: CopyMessage) -> Result<(), CopyError> {
        self.jobs.get(&number).map_or(Ok(()), |copy| copy.end.handle_message(message))
    }

    /// What one has to say next, as long as there is room for it.
    pub fn poll_message(&mut self) -> Option<(JobId, CopyMessage)> {
        self.jobs.iter_mut().find_map(|(number, copy)| {
            copy.end.answer_bell();
            let message = copy.end.poll_message()?;
            if let CopyMessage::End(_) = message {
                // Nothing is written any more. Whoever hears this may begin the next copy to the same place at once,
                // however long this client takes to end its job.
                copy.held.lock = None;
            }
            Some((*number, message))
        })
    }

    /// What went wrong with one.
    pub fn poll_trouble(&mut self) -> Option<(JobId, Trouble)> {
        self.jobs.iter_mut().find_map(|(number, copy)| {
            if let Some(error) = copy.end.error() {
                let is_damage = error.is_damage();
                let trouble = if is_damage { Trouble::Lost(error.to_string()) } else { Trouble::Broken(error) };
                return Some((*number, trouble));
            }
            if copy.held.run.is_superseded() {
                let why = "its client has come back over another connection".to_string();
                return Some((*number, Trouble::Lost(why)));
            }
            if copy.end.is_broken() {
                return Some((*number, Trouble::Lost(BROKEN.to_string())));
            }
            let fault = copy.end.poll_fault()?;
            (!copy.end.has_ended()).then_some((*number, Trouble::Lost(fault)))
        })
    }

    /// How one is doing.
    pub fn report(&self, number: JobId) -> Option<crate::proto::copy::report::EndReport> {
        self.jobs.get(&number).map(|copy| copy.end.report())
    }

    /// One is over: what is moved, bytes received and sent.
    pub fn stop(&mut self, number: JobId) -> (u64, u64) {
        let Some(copy) = self.jobs.remove(&number) else { return (0, 0) };
        copy.held.run.begin_to_end();
        let moved = copy.end.moved_bytes();
        let is_push = matches!(copy.job.spec.route, CopyRoute::Push { .. });
        let peer = self.peer;
        // What arrived is stored, threads are joined, the receipt is written: not while others wait.
        end_on_a_thread(move || {
            let copy = *copy;
            let receipt = receipt(&copy, peer);
            copy.end.stop();
            // Lists leave nothing behind, and nobody is there to be told of what cannot be kept.
            if copy.job.spec.options.purpose != Purpose::List
                && let Err(error) = Places::from_env().map_err(Into::into).and_then(|at| keep::keep(&at, &receipt))
            {
                tracing::warn!(%error, "no receipt of a copy is kept");
            }
            drop(copy.held);
        });
        if is_push { (moved, 0) } else { (0, moved) }
    }

    /// The session is over.
    pub fn end(&mut self) -> (u64, u64) {
        let numbers: Vec<JobId> = self.jobs.keys().copied().collect();
        numbers.into_iter().map(|number| self.stop(number)).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }
}

impl Drop for CopyJobs {
    fn drop(&mut self) {
        self.end();
    }
}

/// What this end knows of a copy that is over, or broken off.
fn receipt(copy: &OpenCopy, peer: SocketAddr) -> Receipt {
    let CopyJob { spec, streams, options: sockets, tls } = &copy.job;
    let names = |paths: &[Vec<u8>]| paths.iter().map(|path| Name::of(path)).collect();
    let (direction, from, to) = match &spec.route {
        CopyRoute::Push { to, from, .. } => ("push", vec![Name::of(from)], Some(Name::of(to))),
        CopyRoute::Pull { from } => ("pull", names(from), None),
    };
    let (tally, near, ending) = (copy.end.tally(), copy.end.report(), copy.end.ending());
    let broken = (!copy.end.has_ended()).then(|| "it was broken off before its end".to_string());
    let (direction, peer) = (direction.to_string(), peer.to_string());
    Account {
        run: spec.run,
        keeper: Keeper::Server,
        command: Vec::new(),
        started_at: copy.since,
        seconds: near.elapsed_ns as f64 / 1e9,
        is_source: to.is_none(),
        route: Route { direction, from, to, peer, ..Route::default() },
        options: &spec.options,
        settings: Settings {
            streams: *streams,
            tls: *tls,
            congestion: sockets.congestion.clone().unwrap_or_default(),
            choices: vec![choice_of("streams", streams, "the client's choice")],
            ..Settings::default()
        },
        tally: &tally,
        deleted: ending.deleted,
        failed_at_end: &ending.failed,
        near: &near,
        far: None,
        reconnections: 0,
        bottleneck: None,
        broken,
        exit_code: None,
    }
    .receipt()
}

/// Open all that a copy needs here.
fn make(job: CopyJob, setup: EndSetup, files: &Files, run: Run) -> Result<PreparedCopy, PrepareError> {
    let (end, lock) = match &job.spec.route {
        CopyRoute::Push { to, names, from } => {
            if setup.options.owner && matches!(files, Files::Served { takes_owners: false, .. }) {
                return Err(PrepareError::Refused(NO_OWNERS.to_string()));
            }
            let destination = destination(files, to, names, setup.options.purpose)?;
            let mut chances = run.chances();
            let (end, lock) = sink(setup, destination, from, &mut || chances.wait())?;
            (end, Some(lock))
        }
        CopyRoute::Pull { from } => (source(setup, files, from)?, None),
    };
    let since = Timestamp::now();
    let copy = OpenCopy { job, end, since, held: Held { run, lock }, waiting: Vec::new() };
    Ok(PreparedCopy(Some(Box::new(copy))))
}

/// What is said where a thread panicked.
pub(super) const BROKEN: &str = "a thread of the copy failed: please report what stands before this";
const NO_FOLDER: &str = "this server serves no folder: start it as `linerate serve FOLDER`";
/// A program of another owner with a set-uid bit is whatever he may do, given away by whoever holds a ticket.
const NO_OWNERS: &str =
    "this server takes no owners and no set-uid bits: leave --owner out, or start it with --allow-owner";

fn destination(
    files: &Files,
    to: &[u8],
    names: &[Option<Vec<u8>>],
    purpose: Purpose,
) -> Result<Destination, PrepareError> {
    let destination = match files {
        Files::Nothing => return Err(PrepareError::Refused(NO_FOLDER.to_string())),
        Files::Served { root, .. } => Destination::served(root, to, names, purpose),
        Files::Own => Destination::own(own_path(to), names, purpose),
    };
    destination.map_err(missing)
}

/// Where files land, with what is kept of it and what keeps others out. Where another copy has the destination,
/// `again` waits until it may be free, or says no.
pub(super) fn land(
    places: &Places,
    options: &CopyOptions,
    destination: Destination,
    source: &[u8],
    again: &mut dyn FnMut() -> bool,
) -> Result<(Destination, Landing, DestinationLock), PrepareError> {
    let (destination, lock) = loop {
        // Anew each time: the one that had it may have left a journal.
        let destination = destination.clone().choose(|earlier| has_journal(places, source, earlier, options));
        match DestinationLock::take(places, &destination) {
            Ok(lock) => break (destination, lock),
            Err(error) if error.is_taken() && again() => {}
            Err(error) => return Err(missing(error)),
        }
    };
    let journal = journal(places, source, &destination, options).map_err(missing)?;
    let landing = Landing::open(destination.root.clone(), journal, landing_options(options, &destination));
    let landing = landing.map_err(|error: LandingError| PrepareError::Missing(error.to_string()))?;
    Ok((destination, landing, lock))
}

/// The end that gets files, with what it keeps.
pub(super) fn sink(
    setup: EndSetup,
    destination: Destination,
    source: &[u8],
    again: &mut dyn FnMut() -> bool,
) -> Result<(End, DestinationLock), PrepareError> {
    let places = Places::from_env().map_err(KeepError::from).map_err(missing)?;
    let (destination, landing, lock) = land(&places, &setup.options, destination, source, again)?;
    Ok((End::sink(setup, destination, landing).map_err(missing)?, lock))
}

fn source(setup: EndSetup, files: &Files, from: &[Vec<u8>]) -> Result<End, PrepareError> {
    let origins = match files {
        Files::Nothing => return Err(PrepareError::Refused(NO_FOLDER.to_string())),
        Files::Served { root, .. } => Origins::served(root, from),
        Files::Own => {
            let paths: Vec<PathBuf> = from.iter().map(|path| own_path(path).to_path_buf()).collect();
            Origins::own(&paths)
        }
    };
    End::source(setup, origins).map_err(missing)
}

/// Nothing stands for the folder in which the session begins.
fn own_path(typed: &[u8]) -> &Path {
    if typed.is_empty() { Path::new(".") } else { Path::new(OsStr::from_bytes(typed)) }
}

fn missing(error: impl std::fmt::Display) -> PrepareError {
    PrepareError::Missing(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Sender;
    use std::thread::ThreadId;

    use super::*;
    use crate::proto::copy::Settlement;
    use crate::proto::copy::options::CopySpec;
    use crate::proto::message::SocketOptions;
    use crate::transfer::tally::{Observer, Settled};

    /// Tells on which thread it goes.
    struct Told(Sender<ThreadId>);

    impl Observer for Told {
        fn settled(&mut self, _: &Settled, _: &Settlement) {}
    }

    impl Drop for Told {
        fn drop(&mut self) {
            let _ = self.0.send(std::thread::current().id());
        }
    }

    #[test]
    fn a_copy_that_nobody_takes_ends_on_a_thread_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), b"1").unwrap();
        let files = Files::Served { root: Arc::new(Root::open(dir.path()).unwrap()), takes_owners: false };
        let (poll, (tell, told)) = (mio::Poll::new().unwrap(), channel());
        let waker = Arc::new(Waker::new(poll.registry(), mio::Token(0)).unwrap());
        let route = CopyRoute::Pull { from: vec![b"file".to_vec()] };
        let spec = CopySpec { run: [7; 16], route, options: CopyOptions::default() };
        let options = spec.options.clone();
        let job = CopyJob { spec, streams: 1, options: SocketOptions::default(), tls: false };
        let setup = EndSetup { options, streams: 1, tls: false, waker, observer: Some(Box::new(Told(tell))) };
        let run = Runs::default().enter([7; 16]).unwrap();
        let Ok(prepared) = make(job, setup, &files, run) else { panic!("it can begin") };
        assert_eq!(prepared.streams(), 1);
        drop(prepared);
        assert_ne!(told.recv().unwrap(), std::thread::current().id());
    }
}
