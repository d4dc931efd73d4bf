//! The end of a copy that has the files: what its threads share, and how control talks to it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use super::begin_thread;
use super::bell::Bell;
use super::choices;
use super::compressing::Worth;
use super::handing::Handover;
use super::offering;
use super::origin::{Origin, Origins};
use super::pace::Pace;
use super::reading;
use super::stages::Stages;
use super::tally::{Observer, Settled, Tally, UnderWay};
use crate::engine::buffers::Buffers;
use crate::engine::outbox::Carrier;
use crate::proto::copy::blocks::Cut;
use crate::proto::copy::ids::IdMap;
use crate::proto::copy::options::CopyOptions;
use crate::proto::copy::report::{Choice, PassedOver, PassedOverList};
use crate::proto::copy::sender::{Sender, Work};
use crate::proto::copy::{CopyError, CopyMessage, Ending};
use crate::store::StoreError;
use crate::store::confined::{RelativePath, Root};

/// How a source runs.
pub struct SourceSetup {
    /// What is read.
    pub origins: Origins,
    /// How.
    pub options: CopyOptions,
    /// Threads that read.
    pub readers: usize,
    /// What they read into; a buffer holds a piece. Where ranges are sent: what bounds their number.
    pub buffers: Buffers,
    /// What small files are packed into.
    pub packs: Buffers,
    /// Pieces of files need not be read into buffers: the kernel sends them.
    pub sends_ranges: bool,
    /// Where the other end is in this process: which pieces of files are not read into buffers, instead.
    pub(super) handover: Option<Arc<Handover>>,
    /// Where pieces go.
    pub carrier: Arc<dyn Carrier>,
    /// Wakes control.
    pub bell: Bell,
    /// Hears of every entry that is settled.
    pub observer: Option<Box<dyn Observer>>,
}

/// The end that has the files. Dropping it ends its threads.
pub struct Source {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What its threads share.
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// Blocks wait to be read, or nothing more comes.
    pub(super) work: Condvar,
    /// Entries may be offered again.
    pub(super) room: Condvar,
    /// The copy is over.
    stopping: Condvar,
    pub(super) cut: Cut,
    pub(super) options: CopyOptions,
    pub(super) buffers: Buffers,
    pub(super) packs: Buffers,
    pub(super) sends_ranges: bool,
    pub(super) handover: Option<Arc<Handover>>,
    pub(super) carrier: Arc<dyn Carrier>,
    pub(super) bell: Bell,
    pub(super) pace: Option<Pace>,
    pub(super) stages: Stages,
    /// Content that was given to the carrier, before and after compression, bytes.
    pub(super) moved_bytes: AtomicU64,
    pub(super) wire_bytes: AtomicU64,
}

pub(super) struct State {
    pub(super) sender: Sender,
    /// What is open of the entries that were offered.
    pub(super) open: IdMap<Offered>,
    /// Work that was looked at and left for later.
    pub(super) held: Option<Work>,
    pub(super) tally: Tally,
    /// What the scans passed over.
    passed_over: PassedOverList,
    pub(super) is_stopped: bool,
    /// One of the threads panicked.
    pub(super) is_broken: bool,
    observer: Option<Box<dyn Observer>>,
}

/// An entry that was offered and is not settled.
pub(super) struct Offered {
    pub(super) about: Settled,
    pub(super) content: Offer,
}

/// What there is to read of an entry. Most entries of a copy that is made again are never read: what reading needs is
/// made for those that are.
pub(super) enum Offer {
    /// It has no content.
    Nothing,
    /// A file of which nothing was wanted yet.
    Found { origin: Arc<Origin>, modified: (i64, u32), is_sparse: bool },
    /// One that is being read, or was.
    Read(Arc<SourceFile>),
}

/// Where a file is read.
pub(super) struct SourceFile {
    pub(super) root: Arc<Root>,
    pub(super) path: RelativePath,
    pub(super) len: u64,
    pub(super) modified: (i64, u32),
    pub(super) is_sparse: bool,
    pub(super) worth: Worth,
    /// While some of its blocks are read.
    pub(super) open: Mutex<reading::Opened>,
}

impl Source {
    /// Start its threads. An error is about what it should begin with; sources that are missing beside others are
    /// passed over.
    pub fn start(mut setup: SourceSetup) -> Result<Source, StoreError> {
        let cut = Cut { piece_bytes: setup.options.piece_bytes };
        let state = State {
            sender: Sender::new(cut, setup.options.verify),
            open: IdMap::default(),
            held: None,
            tally: Tally::default(),
            passed_over: PassedOverList::default(),
            is_stopped: false,
            is_broken: false,
            observer: setup.observer,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            work: Condvar::new(),
            room: Condvar::new(),
            stopping: Condvar::new(),
            cut,
            pace: setup.options.limit.map(Pace::new),
            options: setup.options,
            buffers: setup.buffers,
            packs: setup.packs,
            sends_ranges: setup.sends_ranges,
            handover: setup.handover,
            carrier: setup.carrier,
            bell: setup.bell,
            stages: Stages::default(),
            moved_bytes: AtomicU64::new(0),
            wire_bytes: AtomicU64::new(0),
        });
        let mut source = Source { shared: shared.clone(), threads: Vec::new() };
        let offer = offering::prepare(&mut setup.origins, &shared.options)?;
        source.spawn("offer", move |shared| offering::run(&shared, setup.origins, offer))?;
        for number in 0..setup.readers.max(1) {
            source.spawn(&format!("read-{number}"), |shared| reading::run(&shared))?;
        }
        Ok(source)
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce(Arc<Shared>) + Send + 'static) -> Result<(), StoreError> {
        let shared = self.shared.clone();
        let thread = std::thread::Builder::new().name(name.to_string()).spawn(move || {
            let guard = Guard(&shared);
            begin_thread(&shared.options);
            work(shared.clone());
            drop(guard);
        });
        let thread = thread.map_err(|error| StoreError::no_thread("the copy", error))?;
        self.threads.push(thread);
        Ok(())
    }

    /// The receiver said something.
    pub fn handle_message(&self, message: CopyMessage) -> Result<(), CopyError> {
        let mut state = self.shared.lock();
        state.sender.handle_message(message)?;
        state.settle();
        let (has_work, wants) = (state.sender.has_work(), state.sender.wants_entries());
        drop(state);
        if has_work {
            self.shared.work.notify_all();
        }
        if wants {
            self.shared.room.notify_one();
        }
        Ok(())
    }

    /// What to say next.
    pub fn poll_message(&self) -> Option<CopyMessage> {
        let mut state = self.shared.lock();
        let message = state.sender.poll_message()?;
        if matches!(message, CopyMessage::Entries(_)) && state.sender.wants_entries() {
            self.shared.room.notify_one();
        }
        Some(message)
    }

    /// What the receiver said at the end, once it did.
    pub fn ending(&self) -> Option<Ending> {
        self.shared.lock().sender.ending().cloned()
    }

    /// Whether one of the threads panicked: the copy does not come to its end.
    pub fn is_broken(&self) -> bool {
        self.shared.lock().is_broken
    }

    /// As if one of the threads had panicked.
    #[cfg(test)]
    pub(super) fn break_down(&self) {
        self.shared.lock().is_broken = true;
        self.shared.bell.ring();
    }

    /// What became of the entries so far.
    pub fn tally(&self) -> Tally {
        self.shared.lock().tally.clone()
    }

    /// The largest files that are being read.
    pub fn under_way(&self, most: usize) -> Vec<UnderWay> {
        let state = self.shared.lock();
        let found = state.open.values().filter_map(|offered| {
            let Offer::Read(file) = &offered.content else { return None };
            let file = Some(file).filter(|file| file.len >= UnderWay::BYTES_MIN)?;
            Some(UnderWay { path: offered.about.path.clone(), len: file.len, done: file.bytes_read()? })
        });
        UnderWay::largest(found, most)
    }

    /// Whether everything was found that there is.
    pub fn is_scanned(&self) -> bool {
        self.shared.lock().sender.is_scanned()
    }

    /// What the scan passed over, the first of it, and how much that is.
    pub fn passed_over(&self) -> (Vec<PassedOver>, u64) {
        let state = self.shared.lock();
        (state.passed_over.named().to_vec(), state.passed_over.count())
    }

    /// Where time went.
    pub fn stages(&self) -> &Stages {
        &self.shared.stages
    }

    /// What it chose by itself so far.
    pub(super) fn choices(&self) -> Vec<Choice> {
        let shared = &self.shared;
        choices::of_source(&shared.options, shared.sends_ranges, shared.handover.as_deref(), self.moved_bytes())
    }

    /// Threads that read.
    pub fn readers(&self) -> u32 {
        self.threads.len().saturating_sub(1) as u32
    }

    /// Bytes of content given to the streams, and what that was there.
    pub fn moved_bytes(&self) -> (u64, u64) {
        (self.shared.moved_bytes.load(Ordering::Relaxed), self.shared.wire_bytes.load(Ordering::Relaxed))
    }

    /// End the threads. What they do is given up.
    pub fn stop(&mut self) {
        self.shared.lock().is_stopped = true;
        self.shared.buffers.close();
        self.shared.packs.close();
        self.shared.work.notify_all();
        self.shared.room.notify_all();
        self.shared.stopping.notify_all();
        self.shared.carrier.close();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Has a panic told, by whoever it unwinds through.
struct Guard<'a>(&'a Shared);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lock().is_broken = true;
            self.0.bell.ring();
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    /// Whoever panicked with it left nothing half done: every change is one call.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wait until `bytes` may be sent, or the copy is over.
    pub(super) fn keep_pace(&self, bytes: u64) {
        let Some(pace) = &self.pace else { return };
        let since = Instant::now();
        let wait = pace.take(bytes, since);
        let mut state = self.lock();
        while !state.is_stopped
            && let Some(left) = wait.checked_sub(since.elapsed())
        {
            state = self.stopping.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl State {
    /// Something was passed over.
    pub(super) fn pass_over(&mut self, passed: PassedOver) {
        self.tally.add_passed_over(&passed);
        self.passed_over.add(passed);
    }

    /// Take note of what was settled.
    fn settle(&mut self) {
        while let Some((id, settlement)) = self.sender.poll_settled() {
            let Some(offered) = self.open.remove(&id) else { continue };
            self.tally.add(&offered.about, &offered.about.path, &settlement);
            if let Some(observer) = &mut self.observer {
                observer.settled(&offered.about, &settlement);
            }
        }
    }
}
