//! The end of a copy that gets the files: what its threads share, which task is next, and how control talks to it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::arriving::Arriving;
use super::begin_thread;
use super::bell::Bell;
use super::destination::Destination;
use super::expanding::Expander;
use super::folders::Folders;
use super::handing::Handover;
use super::stages::{Laps, Stages};
use super::tally::{Observer, Settled, Tally, UnderWay};
use super::{committing, deciding, storing};
use crate::engine::buffers::Buffers;
use crate::engine::copy_receive::{Arrived, Deliver};
use crate::proto::copy::blocks::Cut;
use crate::proto::copy::ids::IdMap;
use crate::proto::copy::options::{CopyOptions, Purpose};
use crate::proto::copy::receiver::Receiver;
use crate::proto::copy::report::{PassedOver, Stage};
use crate::proto::copy::{CopyError, CopyMessage, Ending};
use crate::proto::manifest::{Entry, EntryId, EntryKind};
use crate::proto::verify::FileHash;
use crate::store::StoreError;
use crate::store::landing::{Landing, Ready};

mod tasks;

use tasks::COMMIT_AFTER;

/// Most paths that are remembered in short: a map of them takes about 1 GiB then.
pub(super) const KEYS_MAX: usize = if cfg!(test) { 10_000 } else { 58_000_000 };

/// How a sink runs.
pub struct SinkSetup {
    /// Where files land.
    pub destination: Destination,
    /// What brings them to their names.
    pub landing: Landing,
    /// How.
    pub options: CopyOptions,
    /// Threads that store.
    pub storers: usize,
    /// What streams receive into.
    pub buffers: Buffers,
    /// Where the other end is in this process: what it knows of the files that come.
    pub(super) handover: Option<Arc<Handover>>,
    /// Wakes control.
    pub bell: Bell,
    /// Hears of every entry that is settled.
    pub observer: Option<Box<dyn Observer>>,
}

/// The end that gets the files. Dropping it ends its threads.
pub struct Sink {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What its threads share.
pub(super) struct Shared {
    state: Mutex<State>,
    /// There may be a task.
    tasks: Condvar,
    pub(super) cut: Cut,
    pub(super) destination: Destination,
    pub(super) landing: Landing,
    pub(super) options: CopyOptions,
    pub(super) buffers: Buffers,
    pub(super) handover: Option<Arc<Handover>>,
    pub(super) bell: Bell,
    pub(super) stages: Stages,
    pub(super) moved_bytes: AtomicU64,
    pub(super) wire_bytes: AtomicU64,
    pub(super) resumed_bytes: AtomicU64,
    pub(super) damaged: AtomicU64,
    /// Bytes of blocks that went into the journal since the last time that everything was synced.
    pub(super) unsynced_bytes: AtomicU64,
    /// Where names that differ only in their case are one: those that came, in lower case and as they are, in short.
    /// Only whoever decides uses it.
    pub(super) folded: Option<Mutex<HashMap<u64, u64>>>,
    /// Folders that this copy made: nothing is in them that it did not put there. Only whoever decides uses it.
    pub(super) made: Mutex<HashSet<Vec<u8>>>,
    /// Held by whoever hashes a long block of zeros.
    pub(super) long_hole: Mutex<()>,
    /// Folders that are there, which get their mode and time when all is in them.
    pub(super) folders: Mutex<Folders>,
}

/// Invariants: one thread at a time decides, and one commits; `busy` counts those that do anything.
pub(super) struct State {
    pub(super) receiver: Receiver,
    /// What is open of the entries.
    pub(super) open: IdMap<Held>,
    arrived: VecDeque<Arrived>,
    decides: VecDeque<Arc<Entry>>,
    is_deciding: bool,
    commits: Vec<Commit>,
    commits_since: Option<Instant>,
    is_committing: bool,
    abandons: VecDeque<Held>,
    /// Hard links that can be made.
    links: Vec<Entry>,
    /// Those that wait until this file is settled.
    links_of: HashMap<EntryId, Vec<Entry>>,
    /// Paths of the source, in short, where what it lacks is removed.
    pub(super) seen: HashSet<u64>,
    /// What the sink said at the end.
    pub(super) ending: Ending,
    finish: Option<bool>,
    /// An earlier run may have left something behind.
    must_sweep: bool,
    busy: usize,
    pub(super) tally: Tally,
    observer: Option<Box<dyn Observer>>,
    /// What breaks the rules; the copy is over.
    pub(super) error: Option<CopyError>,
    is_stopped: bool,
    /// One of the threads panicked.
    is_broken: bool,
}

/// An entry that is not settled.
pub(super) struct Held {
    pub(super) about: Settled,
    pub(super) content: Content,
    /// Somebody stores it out of a pack: what comes of it meanwhile is not looked at.
    pub(super) is_storing: bool,
}

/// What is here of its content.
pub(super) enum Content {
    /// Nothing, or nothing that would have to be kept.
    None(Arc<Entry>),
    /// A file that is being filled.
    Arriving(Arc<Arriving>),
    /// It has its name already.
    Landed,
    /// A small file that is whole, and what it was made for: it may come again.
    Ready(Box<Ready>, Box<Entry>),
}

/// A file that is to get its name.
pub(super) struct Commit {
    pub(super) id: EntryId,
    pub(super) hash: Option<FileHash>,
    /// It is there, and only gets its attributes.
    pub(super) is_refresh: bool,
}

/// What a thread does next.
pub(super) enum Task {
    Decide(Vec<Arc<Entry>>),
    Store(Arrived),
    Note,
    Commit(Vec<Commit>),
    Abandon(Held),
    Links(Vec<Entry>),
    Finish { is_whole: bool },
    Sweep,
}

impl Sink {
    /// Start its threads.
    pub fn start(setup: SinkSetup) -> Result<Sink, StoreError> {
        let cut = Cut { piece_bytes: setup.options.piece_bytes };
        let state = State {
            receiver: Receiver::new(cut, setup.options.verify),
            open: IdMap::default(),
            arrived: VecDeque::new(),
            decides: VecDeque::new(),
            is_deciding: false,
            commits: Vec::new(),
            commits_since: None,
            is_committing: false,
            abandons: VecDeque::new(),
            links: Vec::new(),
            links_of: HashMap::new(),
            seen: HashSet::new(),
            ending: Ending::default(),
            finish: None,
            must_sweep: setup.landing.with_journal(|journal| journal.opened().is_resumed),
            busy: 0,
            tally: Tally::default(),
            observer: setup.observer,
            error: None,
            is_stopped: false,
            is_broken: false,
        };
        let folded = setup.destination.root.folds_case().then(Mutex::default);
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            tasks: Condvar::new(),
            cut,
            destination: setup.destination,
            landing: setup.landing,
            options: setup.options,
            buffers: setup.buffers,
            handover: setup.handover,
            bell: setup.bell,
            stages: Stages::default(),
            moved_bytes: AtomicU64::new(0),
            wire_bytes: AtomicU64::new(0),
            resumed_bytes: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
            unsynced_bytes: AtomicU64::new(0),
            folded,
            made: Mutex::default(),
            long_hole: Mutex::default(),
            folders: Mutex::default(),
        });
        let mut sink = Sink { shared, threads: Vec::new() };
        for number in 0..setup.storers.max(1) {
            let shared = sink.shared.clone();
            let thread = std::thread::Builder::new().name(format!("store-{number}")).spawn(move || {
                let guard = Guard(&shared);
                shared.run();
                drop(guard);
            });
            sink.threads.push(thread.map_err(|error| StoreError::no_thread("the copy", error))?);
        }
        Ok(sink)
    }

    /// Where streams deliver.
    pub fn inbox(&self) -> Arc<dyn Deliver> {
        self.shared.clone()
    }

    /// The sender said something.
    pub fn handle_message(&self, message: CopyMessage) -> Result<(), CopyError> {
        let mut seen = Vec::new();
        let message = match message {
            CopyMessage::Entries(entries) => {
                let place = |entry| self.shared.destination.place(entry);
                let entries = entries.into_iter().map(place).collect::<Result<Vec<_>, _>>()?;
                if self.shared.options.delete {
                    let folds_case = self.shared.folded.is_some();
                    seen.extend(entries.iter().map(|entry| committing::seen_key(&entry.path, folds_case)));
                }
                CopyMessage::Entries(entries)
            }
            other => other,
        };
        let mut state = self.shared.lock();
        // What went wrong on a stream is told by `error`.
        if state.error.is_some() {
            return Ok(());
        }
        state.receiver.handle_message(message)?;
        // With more than that nothing is removed in the end.
        if state.seen.len() <= KEYS_MAX {
            state.seen.extend(seen);
        }
        state.take_actions();
        drop(state);
        self.shared.tasks.notify_all();
        Ok(())
    }

    /// What to say next.
    pub fn poll_message(&self) -> Option<CopyMessage> {
        let mut state = self.shared.lock();
        let message = state.receiver.poll_message()?;
        if let CopyMessage::Settled(settled) = &message {
            state.settle(settled, &self.shared.destination);
        }
        Some(message)
    }

    /// What the peer did wrong, once it did.
    pub fn error(&self) -> Option<CopyError> {
        self.shared.lock().error
    }

    /// Whether everything was settled, and said.
    pub fn has_ended(&self) -> bool {
        self.shared.lock().receiver.has_ended()
    }

    /// What was said at the end.
    pub fn ending(&self) -> Ending {
        self.shared.lock().ending.clone()
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

    /// The largest files that are being filled.
    pub fn under_way(&self, most: usize) -> Vec<UnderWay> {
        let state = self.shared.lock();
        let found = state.open.values().filter_map(|held| {
            let Content::Arriving(arriving) = &held.content else { return None };
            let len = Some(held.about.len).filter(|len| *len >= UnderWay::BYTES_MIN)?;
            Some(UnderWay { path: held.about.path.clone(), len, done: arriving.bytes_stored(self.shared.cut)? })
        });
        UnderWay::largest(found, most)
    }

    /// Whether everything was announced that there is.
    pub fn is_scanned(&self) -> bool {
        self.shared.lock().receiver.is_scanned()
    }

    /// The sender's scan passed these over, and so many in all.
    pub fn handle_passed_over(&self, passed: &[PassedOver], count: u64) {
        let mut state = self.shared.lock();
        passed.iter().for_each(|passed| state.tally.add_passed_over(passed));
        state.tally.add_unnamed(passed, count.saturating_sub(passed.len() as u64));
    }

    /// Whether big files go past the page cache, and why.
    pub fn direct(&self) -> (bool, &'static str) {
        self.shared.landing.direct()
    }

    /// Where time went.
    pub fn stages(&self) -> &Stages {
        &self.shared.stages
    }

    /// Memory that its folders take, bytes.
    #[cfg(test)]
    pub(super) fn folders_bytes(&self) -> usize {
        deciding::folders(&self.shared).bytes()
    }

    /// Threads that store.
    pub fn storers(&self) -> u32 {
        self.threads.len() as u32
    }

    /// Bytes of content that came over the streams, and what that was there.
    pub fn moved_bytes(&self) -> (u64, u64) {
        (self.shared.moved_bytes.load(Ordering::Relaxed), self.shared.wire_bytes.load(Ordering::Relaxed))
    }

    /// Bytes that an earlier run had stored and proven, and blocks that came damaged.
    pub fn resumed(&self) -> (u64, u64) {
        (self.shared.resumed_bytes.load(Ordering::Relaxed), self.shared.damaged.load(Ordering::Relaxed))
    }

    /// End the threads: what arrived is stored, what is proven goes into the journal, and the rest is given up.
    pub fn stop(&mut self) {
        self.shared.lock().is_stopped = true;
        self.shared.tasks.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        storing::note_all(&self.shared, true);
        self.shared.buffers.close();
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

impl Drop for Sink {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.stop();
        }
    }
}

impl Deliver for Shared {
    fn deliver(&self, arrived: Arrived) -> bool {
        let mut state = self.lock();
        if state.is_stopped {
            return false;
        }
        state.arrived.push_back(arrived);
        drop(state);
        self.tasks.notify_one();
        true
    }
}

impl Shared {
    /// Whoever panicked with it left nothing half done: every change is one call.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Change the state, do what follows from it, and tell whoever may have something to do now.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state);
        state.take_actions();
        let must_ring = state.receiver.has_message() || state.error.is_some();
        drop(state);
        if must_ring {
            self.bell.ring();
        }
        result
    }

    /// A thread's whole life.
    fn run(&self) {
        begin_thread(&self.options);
        let mut laps = Laps::start(&self.stages);
        let mut expander = Expander::new(self.options.piece_bytes);
        while let Some(task) = self.next() {
            laps.lap(Stage::Receive);
            match task {
                Task::Decide(entries) => deciding::decide(self, entries, &mut laps),
                Task::Store(arrived) => storing::store(self, arrived, &mut expander, &mut laps),
                Task::Note => storing::note(self),
                Task::Commit(commits) => committing::commit(self, commits, &mut laps),
                Task::Abandon(held) => committing::abandon(self, held),
                Task::Links(links) => deciding::link(self, links),
                Task::Finish { is_whole } => committing::finish(self, is_whole),
                Task::Sweep => committing::sweep(self),
            }
            laps.lap(Stage::Commit);
        }
    }

    /// Wait for a task; nothing once the copy is over and what arrived is stored.
    fn next(&self) -> Option<Task> {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            if let Some(task) = state.next_task(&self.options, now) {
                state.busy += 1;
                // Whoever waits may find more.
                self.tasks.notify_one();
                return Some(task);
            }
            if state.is_stopped {
                return None;
            }
            state = match state.commits_since {
                Some(since) => {
                    let left = (since + COMMIT_AFTER).saturating_duration_since(now);
                    let left = left.max(Duration::from_millis(1));
                    self.tasks.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.tasks.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// A task is done.
    pub(super) fn done(&self, change: impl FnOnce(&mut State)) {
        self.change(|state| {
            state.busy -= 1;
            change(state);
        });
        self.tasks.notify_one();
    }
}

/// Stands where an entry was that is not needed any more.
pub(super) fn empty_entry() -> Entry {
    Entry {
        id: 0,
        path: Vec::new(),
        kind: EntryKind::Folder,
        attributes: crate::proto::manifest::Attributes::default(),
    }
}

/// Whether anything is to be changed at the destination.
pub(super) fn is_rehearsal(options: &CopyOptions) -> bool {
    options.purpose != Purpose::Copy
}
