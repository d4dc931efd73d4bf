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
//! And to **read**, **remove** or **replace**? A folder that is moved out and then filled with other files is open to
//! that for that time, by names that the peer has to guess. Whoever moves a part of a served folder out waits that
//! long before he trusts it with anything, as he has to for files that are open anyway.

use std::collections::HashMap;
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
    by_path: HashMap<Box<[u8]>, Handle>,
    /// Counts uses, to tell which was the last.
    uses: u64,
}

#[derive(Debug)]
struct Handle {
    folder: Arc<OwnedFd>,
    /// When its resolution began.
    since: Instant,
    last_use: u64,
    /// Found by following links.
    through: Links,
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
        let handle = held.by_path.get_mut(path)?;
        let fits = handle.through == Links::Refused || links == Links::Inside;
        if !fits || handle.since.elapsed() >= self.life {
            return None;
        }
        handle.last_use = uses;
        Some(handle.folder.clone())
    }

    /// Hold a folder whose resolution began at `since` and followed links or not.
    pub(super) fn hold(&self, path: &[u8], folder: Arc<OwnedFd>, since: Instant, through: Links) {
        let mut held = self.lock();
        let now = Instant::now();
        held.by_path.retain(|_, handle| now.duration_since(handle.since) < self.life);
        if held.by_path.len() >= HANDLES_MAX {
            let oldest = held.by_path.iter().min_by_key(|(_, handle)| handle.last_use).map(|(path, _)| path.clone());
            oldest.map(|path| held.by_path.remove(&path));
        }
        held.uses += 1;
        let last_use = held.uses;
        held.by_path.insert(path.into(), Handle { folder, since, last_use, through });
    }

    /// Believe nothing any more about what is at a path or below it, or was found through links.
    pub(super) fn forget(&self, path: &[u8]) {
        let stays =
            |of: &[u8], handle: &mut Handle| handle.through == Links::Refused && of != path && !is_below(of, path);
        self.lock().by_path.retain(|of, handle| stays(of, handle));
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
        for path in ["a", "a/b", "a/b/c", "ab", "b"] {
            hold(&cache, path, Links::Refused);
        }
        hold(&cache, "link", Links::Inside);
        cache.forget(b"a/b");
        let left = ["a", "a/b", "a/b/c", "ab", "b", "link"].map(|path| holds(&cache, path, Links::Inside));
        assert_eq!(left, [true, false, false, true, true, false]);
    }
}
