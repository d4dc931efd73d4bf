//! Changes that are made outside of the share, as by its owner: seen by inotify in the folders that pages show.
//!
//! Whoever lists a folder with a session has it open; so it is watched from before it is read, and nothing that changes
//! after is missed. A session has its last [`FOLDERS_OF_VISITOR_MAX`] folders open as long as it listens to events, and
//! shortly before. Where inotify refuses more, its owner is told once, and pages show what they did without it.
//!
//! Of many changes few are told: a folder that goes on changing is told of less and less often (`Pace`). The top of a
//! list of files is no folder, and is not watched.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io::{self, PipeReader};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use super::activity::Event;
use super::gate::VisitorId;
use super::serve::Stop;
use super::state::Share;
use super::tree::{Found, Tree};
use crate::store::confined::RelativePath;

/// Most folders that are watched for one session, and for all.
pub const FOLDERS_OF_VISITOR_MAX: usize = 8;
/// See [`FOLDERS_OF_VISITOR_MAX`].
pub const FOLDERS_MAX: usize = 1024;
/// How long a folder is watched for somebody who does not listen, yet or any more.
const UNHEARD_MAX: Duration = Duration::from_secs(60);
/// How often it is looked who does not.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// How long after a change others are waited for, to be told with it.
const FIRST: Duration = Duration::from_millis(100);
/// The least time between two tellings of a folder; it doubles as long as there are [`MANY`] changes in it.
const GAP_MIN: Duration = Duration::from_millis(400);
/// See [`GAP_MIN`].
const GAP_MAX: Duration = Duration::from_secs(5);
/// As a program makes them, not a person.
const MANY: u32 = 64;

/// What pages show: entries, and how long they are.
const MASK: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_MOVED_FROM)
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_CLOSE_WRITE)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_ONLYDIR);

/// Who has which folder open, the one that was opened longest ago first.
#[derive(Debug, Default)]
struct Open(VecDeque<(VisitorId, RelativePath, Instant)>);

impl Open {
    fn add(&mut self, visitor: VisitorId, folder: &RelativePath, now: Instant) {
        self.0.retain(|(other, path, _)| *other != visitor || path != folder);
        self.0.push_back((visitor, folder.clone(), now));
        let own = self.0.iter().filter(|(other, ..)| *other == visitor).count();
        if own > FOLDERS_OF_VISITOR_MAX
            && let Some(oldest) = self.0.iter().position(|(other, ..)| *other == visitor)
        {
            self.0.remove(oldest);
        }
        if self.0.len() > FOLDERS_MAX {
            self.0.pop_front();
        }
    }

    fn sweep(&mut self, hears: impl Fn(VisitorId) -> bool, now: Instant) {
        self.0.retain(|(visitor, _, opened)| now.duration_since(*opened) < UNHEARD_MAX || hears(*visitor));
    }

    fn folders(&self) -> HashSet<&RelativePath> {
        self.0.iter().map(|(_, path, _)| path).collect()
    }
}

/// When which folder is told of.
#[derive(Debug, Default)]
struct Pace(BTreeMap<RelativePath, Told>);

#[derive(Debug)]
struct Told {
    due: Option<Instant>,
    last: Option<Instant>,
    gap: Duration,
    /// Since it was told.
    changes: u32,
}

impl Pace {
    /// A folder has changed.
    fn note(&mut self, folder: &RelativePath, now: Instant) {
        let told = self.0.entry(folder.clone()).or_insert(Told { due: None, last: None, gap: GAP_MIN, changes: 0 });
        told.changes = told.changes.saturating_add(1);
        if told.due.is_none() {
            let paced = told.last.map_or(now, |last| last + told.gap);
            told.due = Some(paced.max(now + FIRST));
        }
    }

    /// When something is to be told.
    fn next(&self) -> Option<Instant> {
        self.0.values().filter_map(|told| told.due).min()
    }

    /// What is to be told now. What has been quiet for long is forgotten.
    fn due(&mut self, now: Instant) -> Vec<RelativePath> {
        let mut due = Vec::new();
        for (folder, told) in &mut self.0 {
            if told.due.is_some_and(|at| at <= now) {
                told.gap = if told.changes >= MANY { (told.gap * 2).min(GAP_MAX) } else { GAP_MIN };
                (told.due, told.last, told.changes) = (None, Some(now), 0);
                due.push(folder.clone());
            }
        }
        self.0.retain(|_, told| told.due.is_some() || told.last.is_some_and(|last| now < last + 2 * told.gap));
        due
    }
}

/// Which watch is of which folders: several paths may lead to one.
#[derive(Debug, Default)]
struct Watches {
    open: Open,
    by_path: HashMap<RelativePath, WatchDescriptor>,
    by_watch: HashMap<WatchDescriptor, Vec<RelativePath>>,
}

impl Watches {
    fn bind(&mut self, inotify: &Inotify, folder: &RelativePath, watch: WatchDescriptor) {
        if self.by_path.get(folder) == Some(&watch) {
            return;
        }
        self.unbind(inotify, folder);
        self.by_path.insert(folder.clone(), watch);
        self.by_watch.entry(watch).or_default().push(folder.clone());
    }

    fn unbind(&mut self, inotify: &Inotify, folder: &RelativePath) {
        let Some(watch) = self.by_path.remove(folder) else { return };
        let Some(folders) = self.by_watch.get_mut(&watch) else { return };
        folders.retain(|other| other != folder);
        if folders.is_empty() {
            self.by_watch.remove(&watch);
            // It may have ended with its folder.
            let _ = inotify.rm_watch(watch);
        }
    }

    /// Let go of what nobody has open.
    fn trim(&mut self, inotify: &Inotify) {
        let open = self.open.folders();
        let closed: Vec<_> = self.by_path.keys().filter(|path| !open.contains(path)).cloned().collect();
        closed.iter().for_each(|folder| self.unbind(inotify, folder));
    }
}

/// The folders that are watched.
#[derive(Debug, Default)]
pub struct Watching {
    inotify: OnceLock<Arc<Inotify>>,
    watches: Mutex<Watches>,
    /// Its owner knows that not all is seen.
    is_told: AtomicBool,
}

/// Why not all is seen, for the owner.
fn trouble(limit: &str, error: Errno) -> Event {
    let what = format!(
        "changes that are not made through the share are not shown on open pages at once ({}): raise {limit} if they \
         should be",
        error.desc()
    );
    Event::Trouble { what }
}

impl Watching {
    fn lock(&self) -> MutexGuard<'_, Watches> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody is about to list a folder. What the owner is to be told, once, if it cannot be watched.
    pub fn opened(&self, visitor: VisitorId, (tree, folder): (&Tree, &RelativePath), now: Instant) -> Option<Event> {
        let inotify = self.inotify.get().filter(|_| visitor != VisitorId::PROGRAM)?;
        let Ok(Found::Folder(place)) = tree.find(folder) else { return None };
        let handle = place.root.hold_folder(&place.path).ok()?;
        let mut watches = self.lock();
        // The folder itself, by its handle: a path could be made to lead elsewhere.
        let by_handle = format!("/proc/self/fd/{}", handle.as_raw_fd());
        match inotify.add_watch(by_handle.as_str(), MASK) {
            Ok(watch) => {
                watches.open.add(visitor, folder, now);
                watches.bind(inotify, folder, watch);
                watches.trim(inotify);
                None
            }
            Err(error @ (Errno::ENOSPC | Errno::ENOMEM)) => {
                let is_first = !self.is_told.swap(true, Ordering::Relaxed);
                is_first.then(|| trouble("fs.inotify.max_user_watches", error))
            }
            // One that may not be read shows nothing anyway.
            Err(_) => None,
        }
    }

    /// The folders that are watched.
    pub fn folders(&self) -> Vec<RelativePath> {
        self.lock().by_path.keys().cloned().collect()
    }

    /// Some events, and what they mean: folders that changed.
    fn read(&self, inotify: &Inotify, tree: &Tree, mut changed: impl FnMut(&RelativePath)) -> Result<(), Errno> {
        let events = inotify.read_events()?;
        let mut watches = self.lock();
        for event in events {
            if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                watches.by_path.keys().for_each(&mut changed);
                continue;
            }
            let is_shown = event.name.as_ref().is_none_or(|name| tree.shows(name.as_encoded_bytes()));
            let folders = watches.by_watch.get(&event.wd).cloned().unwrap_or_default();
            if is_shown {
                folders.iter().for_each(&mut changed);
            }
            if event.mask.intersects(AddWatchFlags::IN_IGNORED | AddWatchFlags::IN_MOVE_SELF) {
                // It is not what its path leads to any more; whoever lists that again has it watched again.
                folders.iter().for_each(|folder| watches.unbind(inotify, folder));
            }
        }
        Ok(())
    }

    fn sweep(&self, inotify: &Inotify, hears: impl Fn(VisitorId) -> bool) {
        let mut watches = self.lock();
        watches.open.sweep(hears, Instant::now());
        watches.trim(inotify);
    }
}

/// Watch folders from now on, before anybody can list one. Nothing, and the owner is told, where that cannot be.
pub fn begin(share: &Share) -> Option<Arc<Inotify>> {
    match Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC) {
        Ok(inotify) => {
            let inotify = Arc::new(inotify);
            let _ = share.watching.inotify.set(inotify.clone());
            Some(inotify)
        }
        Err(error) => {
            share.activity.tell(&trouble("fs.inotify.max_user_instances", error));
            None
        }
    }
}

/// Tell on what is seen, until the share is to end.
pub async fn tend(share: Arc<Share>, inotify: Arc<Inotify>, stop: Stop) {
    let Ok((ends, lives)) = io::pipe() else { return };
    let looking = tokio::task::spawn_blocking(move || look(&share, &inotify, &ends));
    stop.ended().await;
    // The other end of the pipe sees that.
    drop(lives);
    let _ = looking.await;
}

/// Look until the other end of `ends` is closed.
fn look(share: &Share, inotify: &Inotify, ends: &PipeReader) {
    let watching = &share.watching;
    let (mut pace, mut sweep_at) = (Pace::default(), Instant::now() + SWEEP_EVERY);
    loop {
        let until = pace.next().map_or(sweep_at, |due| due.min(sweep_at));
        // Rounded up, lest the last millisecond is spent running round.
        let wait_ms = until.saturating_duration_since(Instant::now()).as_millis() + 1;
        let mut fds = [PollFd::new(inotify.as_fd(), PollFlags::POLLIN), PollFd::new(ends.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::try_from(wait_ms).unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
        if fds[1].revents().is_some_and(|events| !events.is_empty()) {
            return;
        }
        let now = Instant::now();
        match watching.read(inotify, &share.tree, |folder| pace.note(folder, now)) {
            Ok(()) | Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(_) => return,
        }
        pace.due(now).iter().for_each(|folder| share.changed(folder));
        if now >= sweep_at {
            sweep_at = now + SWEEP_EVERY;
            watching.sweep(inotify, |visitor| share.hub.hears(visitor));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelativePath {
        RelativePath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn of_a_hundred_thousand_changes_few_are_told_and_the_last_one_is() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let (mut told, mut last) = (0, start);
        let mut at = start;
        for _ in 0..100_000 {
            at += Duration::from_micros(100);
            pace.note(&path("a"), at);
            if pace.next().unwrap() <= at {
                assert_eq!(pace.due(at), [path("a")]);
                (told, last) = (told + 1, at);
            }
        }
        assert!((3..12).contains(&told), "{told}");
        let due = pace.next().unwrap();
        assert!(due > last && due <= at + GAP_MAX);
        assert_eq!(pace.due(due).len(), 1);
        // One now and then is told soon each time.
        let mut at = due + GAP_MAX;
        for _ in 0..100 {
            pace.note(&path("b"), at);
            let due = pace.next().unwrap();
            assert!(due <= at + GAP_MIN);
            assert_eq!(pace.due(due), [path("b")]);
            at = due + FIRST;
        }
        let due = at;
        // After a rest a change is told soon, and nothing is kept for what has been quiet.
        let later = due + 3 * GAP_MAX;
        assert!(pace.due(later).is_empty() && pace.0.is_empty() && pace.next().is_none());
        pace.note(&path("a"), later);
        assert_eq!(pace.next(), Some(later + FIRST));
    }

    #[test]
    fn open_folders_are_bounded_for_each_and_all_and_closed_with_their_page() {
        let (mut open, now) = (Open::default(), Instant::now());
        (0..20).for_each(|n| open.add(VisitorId(1), &path(&n.to_string()), now));
        assert_eq!(open.folders().len(), FOLDERS_OF_VISITOR_MAX);
        assert!(open.folders().contains(&path("19")) && !open.folders().contains(&path("0")));
        // Listed again it is the last that is closed.
        open.add(VisitorId(1), &path("12"), now);
        open.add(VisitorId(1), &path("new"), now);
        assert!(open.folders().contains(&path("12")) && !open.folders().contains(&path("13")));
        (2..9999).for_each(|n| open.add(VisitorId(n), &path(&n.to_string()), now));
        assert_eq!(open.0.len(), FOLDERS_MAX);
        open.sweep(|_| false, now);
        assert_eq!(open.0.len(), FOLDERS_MAX);
        open.sweep(|visitor| visitor == VisitorId(9998), now + UNHEARD_MAX);
        assert_eq!(open.folders(), HashSet::from([&path("9998")]));
    }
}
