//! A copy within this machine: a source and a sink in one process, and nothing between them.
//!
//! Everything is as over a network, the words, the journal, the lock, the order of a commit and what is counted, but
//! for what needs none: content does not leave its buffer, and messages are handed over by the calling thread. What a
//! hash proves here is told where it is handed over, in `handing`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token, Waker};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;

use super::bell::Bell;
use super::destination::Destination;
use super::end::{Clock, sink_report, source_report, workers};
use super::handing::{Hand, Handover};
use super::keeping::DestinationLock;
use super::origin::{Origin, Origins};
use super::run::{Outcome, Progress, RunError, Session, TELL_EVERY, UNDER_WAY_MAX, Watcher};
use super::serving::{BROKEN, land};
use super::sink::{Sink, SinkSetup};
use super::source::{Source, SourceSetup};
use super::tally::Tally;
use crate::engine::buffers::Buffers;
use crate::link::LinkError;
use crate::proto::copy::CopyError;
use crate::proto::copy::options::{Compression, CopyOptions};
use crate::proto::copy::report::EndReport;
use crate::store::StoreError;
use crate::store::confined::{Kind, RelativePath, Root};
use crate::trust::places::Places;

/// Most memory in buffers, bytes.
const BUFFERS_BYTES_MAX: u64 = 32 << 20;
/// The fewest buffers that keep everybody busy.
const BUFFERS_MIN: u64 = 4;
const WAKER: Token = Token(0);
const SIGNALS: Token = Token(1);

/// What is copied within this machine, and how.
#[derive(Clone, Debug)]
pub struct LocalPlan {
    /// What.
    pub from: Vec<PathBuf>,
    /// Where to, as `cp -r` has it.
    pub to: PathBuf,
    /// What these sources are called where a journal is looked for.
    pub label: Vec<u8>,
    /// Where journals and locks are kept.
    pub places: Places,
    /// How. Nothing is compressed.
    pub options: CopyOptions,
}

/// Copy. Both reports are of this process: what it cost as a whole stands in that of the near end, which is the one
/// that has the files.
pub fn run(plan: &LocalPlan, watcher: &mut dyn Watcher) -> Session {
    let mut ends = match Ends::begin(plan, watcher) {
        Ok(ends) => ends,
        Err(error) => return Session { tally: Tally::default(), result: Err(error) },
    };
    let result = ends.drive(watcher);
    // What the sink said at the end is only in that of the outcome.
    let tally = result.as_ref().map_or_else(|_| ends.source.tally(), |outcome| outcome.tally.clone());
    ends.stop();
    Session { tally, result }
}

/// Both ends, and what wakes whoever stands between them.
struct Ends {
    source: Source,
    sink: Sink,
    bell: Bell,
    poll: Poll,
    events: Events,
    signals: Signals,
    clock: Clock,
    _lock: DestinationLock,
}

impl Ends {
    fn begin(plan: &LocalPlan, watcher: &mut dyn Watcher) -> Result<Ends, RunError> {
        let options = CopyOptions { compress: Compression::None, ..plan.options.clone() };
        options.check().map_err(|why| RunError::Here(why.to_string()))?;
        let clock = Clock::start();
        let poll = Poll::new().map_err(system("epoll"))?;
        let bell = Bell::new(Arc::new(Waker::new(poll.registry(), WAKER).map_err(system("eventfd"))?));
        let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(system("signals"))?;
        poll.registry().register(&mut signals, SIGNALS, Interest::READABLE).map_err(system("signals"))?;

        let mut origins = Origins::own(&plan.from);
        // Beside others what is missing is passed over; alone there is nothing to do.
        if origins.found.is_empty()
            && let Some(error) = origins.missing.pop()
        {
            return Err(error.into());
        }
        refuse_inside(&origins.found, &plan.to)?;
        let destination = Destination::own(&plan.to, &origins.names(), options.purpose)?;
        refuse_onto(&origins.found, &destination, options.delete)?;
        let (destination, landing, lock) = land(&plan.places, &options, destination, &plan.label, &mut || false)
            .map_err(|error| RunError::Here(error.to_string()))?;

        let handover = Some(Arc::new(Handover::new(options.verify)));
        let count = (workers() as u64 * 4).min(BUFFERS_BYTES_MAX / options.piece_bytes).max(BUFFERS_MIN);
        let buffers = Buffers::new(options.piece_bytes as usize, count as usize);
        let sink = Sink::start(SinkSetup {
            destination,
            landing,
            options: options.clone(),
            storers: workers(),
            buffers: buffers.clone(),
            handover: handover.clone(),
            bell: bell.clone(),
            observer: None,
        })?;
        let source = Source::start(SourceSetup {
            origins,
            options,
            readers: workers(),
            buffers: buffers.clone(),
            packs: buffers,
            sends_ranges: false,
            handover,
            carrier: Arc::new(Hand(sink.inbox())),
            bell: bell.clone(),
            observer: watcher.observer(),
        })?;
        Ok(Ends { source, sink, bell, poll, events: Events::with_capacity(4), signals, clock, _lock: lock })
    }

    /// Carry messages between both until everything is settled.
    fn drive(&mut self, watcher: &mut dyn Watcher) -> Result<Outcome, RunError> {
        let mut tell_at = Instant::now() + TELL_EVERY;
        loop {
            self.bell.answer();
            let is_busy = self.pump().map_err(broken)?;
            if let Some(error) = self.sink.error() {
                return Err(broken(error));
            }
            if self.source.is_broken() || self.sink.is_broken() {
                return Err(RunError::Here(BROKEN.to_string()));
            }
            if let Some(ending) = self.source.ending() {
                let (near, far) = self.reports();
                let mut tally = self.source.tally();
                tally.add_ending(&ending);
                return Ok(Outcome { tally, ending, near, far });
            }
            let now = Instant::now();
            if now >= tell_at {
                tell_at = now + TELL_EVERY;
                let (near, far) = self.reports();
                watcher.progress(&Progress {
                    tally: self.source.tally(),
                    near,
                    far: Some(&far),
                    streams: 0,
                    is_scanned: self.source.is_scanned(),
                    under_way: &self.source.under_way(UNDER_WAY_MAX),
                });
            }
            self.wait(if is_busy { Duration::ZERO } else { tell_at.saturating_duration_since(now) })?;
        }
    }

    /// That of the source, with what the process cost, and that of the sink without it: nothing is counted twice.
    fn reports(&self) -> (EndReport, EndReport) {
        let process = self.clock.report();
        let far = EndReport { cpu_ns: 0, ..process.clone() };
        (source_report(&self.source, process), sink_report(&self.sink, far))
    }

    /// Hand over what each has to say; whether one had anything.
    fn pump(&self) -> Result<bool, CopyError> {
        let mut is_busy = false;
        while let Some(message) = self.source.poll_message() {
            self.sink.handle_message(message)?;
            is_busy = true;
        }
        while let Some(message) = self.sink.poll_message() {
            self.source.handle_message(message)?;
            is_busy = true;
        }
        Ok(is_busy)
    }

    /// Wait until one rings, or somebody interrupts.
    fn wait(&mut self, longest: Duration) -> Result<(), LinkError> {
        match self.poll.poll(&mut self.events, Some(longest)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                return Err(LinkError::System { what: "epoll", error });
            }
            _ => {}
        }
        let is_raised = self.events.iter().any(|event| event.token() == SIGNALS);
        if is_raised && self.signals.pending().next().is_some() { Err(LinkError::Interrupted) } else { Ok(()) }
    }

    /// What was read is stored, what is proven is kept, and the rest is given up.
    fn stop(mut self) {
        self.source.stop();
        self.sink.stop();
    }
}

fn system(what: &'static str) -> impl Fn(io::Error) -> RunError {
    move |error| LinkError::System { what, error }.into()
}

/// One of our own ends broke the rules.
fn broken(error: CopyError) -> RunError {
    RunError::Here(format!("the copy cannot go on: {error}"))
}

const SAME: &str = "is the destination, too: choose another one";
const INSIDE: &str = "would be copied into itself: choose a destination that is not inside it";
const AROUND: &str = "lies inside the folder that it would be copied onto: choose another destination";
const CLEARED: &str =
    "lies inside a folder from which --delete removes what another source lacks: copy them one after the other";

/// No folder is copied into itself. Looked at before anything is made.
fn refuse_inside(origins: &[Origin], to: &Path) -> Result<(), StoreError> {
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = if to.is_dir() { to } else { parent };
    // What is wrong with it is said by whoever needs it.
    let Ok(root) = Root::open(folder) else { return Ok(()) };
    let above = root.identities_up(&RelativePath::root())?;
    for origin in origins {
        if above.contains(&identity(&origin.root, &origin.path)?.0) {
            return Err(refused(origin, INSIDE));
        }
    }
    Ok(())
}

/// Nothing is copied onto itself, nor onto what it lies in; and it does not lie where another source has the rest
/// removed.
fn refuse_onto(origins: &[Origin], destination: &Destination, deletes: bool) -> Result<(), StoreError> {
    for origin in origins {
        let own = destination.top_of(&origin.at);
        let at = identity(&destination.root, own).ok().map(|(target, _)| target);
        if at == Some(identity(&origin.root, &origin.path)?.0) {
            return Err(refused(origin, SAME));
        }
        let above = folders_above(origin)?;
        for top in destination.tops.iter().filter(|top| deletes || *top == own) {
            let Ok((target, kind)) = identity(&destination.root, top) else { continue };
            if kind == Kind::Directory && above.contains(&target) {
                return Err(refused(origin, if top == own { AROUND } else { CLEARED }));
            }
        }
    }
    Ok(())
}

/// The folders that a source lies in, itself not among them.
fn folders_above(origin: &Origin) -> Result<Vec<(u64, u64)>, StoreError> {
    let parent = origin.path.parent().unwrap_or_else(RelativePath::root);
    let above = origin.root.identities_up(&parent)?;
    Ok(above.into_iter().skip(usize::from(origin.path.is_root())).collect())
}

fn identity(root: &Root, path: &RelativePath) -> Result<((u64, u64), Kind), StoreError> {
    root.metadata(path).map(|found| ((found.device, found.inode), found.kind))
}

fn refused(origin: &Origin, why: &'static str) -> StoreError {
    let name = if origin.at.is_root() { "the source".to_string() } else { origin.at.to_string() };
    StoreError::Unfit { name, why }
}

#[cfg(test)]
#[path = "local_tests.rs"]
mod local_tests;
