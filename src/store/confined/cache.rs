//! Handles of folders that were resolved a moment ago, so that a tree of many files is not resolved anew for each.
//!
//! # What a cached handle may be
//! A handle stands for a folder that was inside the root, at that path, when it was resolved. Since then somebody
//! with the right to do so may have moved it, out of the root even. No way of opening files below a handle can tell,
//! and to ask for the folder's path again costs what resolving it costs. So a handle is simply not believed for long:
//!
//! - It serves for [`HANDLE_LIFE`] from before it was resolved, however often it is used. A path that has come to
//!   mean another folder means it here too after that time at the latest.
//! - What this root renames or removes is forgotten at once, with all below it and all that was found through links.
//!   Only a resolution that another thread had under way at that moment may outlive it, for no longer than the above.
//! - A folder that was removed is noticed when something in it is missing (its link count is 0), and resolved again.
//!
//! Is that enough to **write**? A file that is made below a stale handle lands in a folder that was inside the root
//! within that time, and that somebody has moved since. Whoever moved it could have done so just after the file was
//! made, with the same result: the delay gives nobody a place to write to that he could not have had. A folder that
//! was never inside is never reached: handles come from resolutions that follow no link for writes, and one that was
//! found through links is not used for them.
//!
//! Whoever has long known a path, as an upload that took an hour, asks for it anew all the same ([`Root::refresh`]
//! before it is named): then it lands where its path leads at that moment, or not at all.
//!
//! [`Root::refresh`]: super::Root::refresh
//!
//! And to **read**, **remove** or **replace**? A folder that is moved out and then filled with other files is open to
//! that for that time, by names that the peer has to guess. Whoever moves a part of a served folder out waits that
//! long before he trusts it with anything, as he has to for files that are open anyway.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::path::is_below;
use super::resolver::Links;

/// How many handles are held: a quarter of the 1024 open files that a process may usually have. A walk through a tree
/// has use for as many as it is deep and wide in threads.
pub const HANDLES_MAX: usize = 256;
/// How long a handle is believed. Thousands of files are opened in that time, and few people move folders in less.
pub const HANDLE_LIFE: Duration = Duration::from_millis(100);

/// The handles, by path; the one that was used longest ago makes room.
#[derive(Debug)]
pub(super) struct DirCache {
    life: Duration,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// In order, so that what lies below a path is found without looking at all.
    by_path: BTreeMap<Box<[u8]>, Handle>,
    /// Those that were found by following links.
    linked: HashMap<Box<[u8]>, Handle>,
    /// Counts uses, to tell which was the last.
    uses: u64,
}

impl Held {
    /// Let the one go that was used longest ago, if there are too many.
    fn make_room(&mut self) {
        if self.by_path.len() + self.linked.len() < HANDLES_MAX {
            return;
        }
        let all = self.by_path.iter().chain(&self.linked);
        let oldest =
            all.min_by_key(|(_, handle)| handle.last_use).map(|(path, handle)| (path.clone(), handle.last_use));
        if let Some((path, last_use)) = oldest {
            match self.by_path.get(&path).is_some_and(|handle| handle.last_use == last_use) {
                true => self.by_path.remove(&path),
                false => self.linked.remove(&path),
            };
        }
    }
}

#[derive(Debug)]
struct Handle {
    folder: Arc<OwnedFd>,
    /// When its resolution began.
    since: Instant,
    last_use: u64,
}

impl DirCache {
    /// A cache whose handles are believed for `life`.
    pub(super) fn new(life: Duration) -> DirCache {
        DirCache { life, held: Mutex::default() }
    }

    /// The handle of a folder, if there is one that `links` allow.
    pub(super) fn find(&self, path: &[u8], links: Links) -> Option<Arc<OwnedFd>> {
        let mut held = self.lock();
        held.uses += 1;
        let uses = held.uses;
        let mut use_it = |handle: &mut Handle| {
            if handle.since.elapsed() >= self.life {
                return None;
            }
            handle.last_use = uses;
            Some(handle.folder.clone())
        };
        let plain = held.by_path.get_mut(path).and_then(&mut use_it);
        match links {
            Links::Inside => plain.or_else(|| held.linked.get_mut(path).and_then(use_it)),
            Links::Refused => plain,
        }
    }

    /// Hold a folder whose resolution began at `since` and followed links or not.
    pub(super) fn hold(&self, path: &[u8], folder: Arc<OwnedFd>, since: Instant, through: Links) {
        let mut held = self.lock();
        let now = Instant::now();
        let lives = |handle: &Handle| now.duration_since(handle.since) < self.life;
        held.by_path.retain(|_, handle| lives(handle));
        held.linked.retain(|_, handle| lives(handle));
        held.make_room();
        held.uses += 1;
        let handle = Handle { folder, since, last_use: held.uses };
        match through {
            Links::Refused => held.by_path.insert(path.into(), handle),
            Links::Inside => held.linked.insert(path.into(), handle),
        };
    }

    /// Believe nothing any more about what is at a path or below it, or was found through links.
    pub(super) fn forget(&self, path: &[u8]) {
        let mut held = self.lock();
        held.linked.clear();
        let from = (Bound::Included(path), Bound::Unbounded);
        // Beside those below there are those that only begin alike: `a-b` comes between `a` and `a/b`.
        let alike = held.by_path.range::<[u8], _>(from).map(|(of, _)| of).take_while(|of| of.starts_with(path));
        let gone: Vec<_> = alike.filter(|of| ***of == *path || is_below(of, path)).cloned().collect();
        gone.iter().for_each(|of| drop(held.by_path.remove(of)));
    }

    /// A thread that panicked leaves a whole map behind: nothing is half done in it.
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn folder() -> Arc<OwnedFd> {
        Arc::new(std::fs::File::open("/").unwrap().into())
    }

    fn hold(cache: &DirCache, path: &str, through: Links) {
        cache.hold(path.as_bytes(), folder(), Instant::now(), through);
    }

    fn holds(cache: &DirCache, path: &str, links: Links) -> bool {
        cache.find(path.as_bytes(), links).is_some()
    }

    #[test]
    fn no_more_handles_are_held_than_allowed_and_the_used_ones_stay() {
        let cache = DirCache::new(LONG);
        for n in 0..HANDLES_MAX * 3 {
            hold(&cache, &n.to_string(), Links::Refused);
            assert!(holds(&cache, "0", Links::Refused), "{n}");
        }
        assert_eq!(cache.lock().by_path.len(), HANDLES_MAX);
        assert!(!holds(&cache, "1", Links::Refused));
        assert!(holds(&cache, &(HANDLES_MAX * 3 - 1).to_string(), Links::Refused));
    }

    #[test]
    fn a_handle_that_was_found_through_links_is_not_for_writing() {
        let cache = DirCache::new(LONG);
        hold(&cache, "linked", Links::Inside);
        hold(&cache, "plain", Links::Refused);
        let table = [
            ("linked", Links::Inside, true),
            ("linked", Links::Refused, false),
            ("plain", Links::Inside, true),
            ("plain", Links::Refused, true),
        ];
        for (path, links, expected) in table {
            assert_eq!(holds(&cache, path, links), expected, "{path} {links:?}");
        }
    }

    #[test]
    fn a_handle_is_not_believed_for_long_and_then_let_go() {
        let cache = DirCache::new(HANDLE_LIFE);
        let old = Instant::now().checked_sub(HANDLE_LIFE).unwrap();
        cache.hold(b"old", folder(), old, Links::Refused);
        assert!(!holds(&cache, "old", Links::Refused));
        hold(&cache, "new", Links::Refused);
        assert_eq!(cache.lock().by_path.len(), 1);
    }

    #[test]
    fn what_is_forgotten_goes_with_all_below_it() {
        let cache = DirCache::new(LONG);
        for path in ["a", "a/b", "a/b-c", "a/b/c", "ab", "b"] {
            hold(&cache, path, Links::Refused);
        }
        hold(&cache, "link", Links::Inside);
        cache.forget(b"a/b");
        let left = ["a", "a/b", "a/b-c", "a/b/c", "ab", "b", "link"].map(|path| holds(&cache, path, Links::Inside));
        assert_eq!(left, [true, false, true, false, true, true, false]);
    }
}
