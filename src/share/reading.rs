//! What costly reading for visitors is going on, and what came of it: archives, searches, hashes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::slots::{Slots, Who, share_of_address};
use crate::store::confined::Metadata;

/// Archives that are made at a time, by all and each: each has a thread and a few buffers.
const ARCHIVES_MAX: usize = 64;
const ARCHIVES_OF_ONE_MAX: usize = 8;
/// Searches at a time. Who begins one more than his own most ends his oldest: people type on.
const SEARCHES_MAX: usize = 16;
const SEARCHES_OF_ONE_MAX: usize = 3;
/// Files that are hashed at a time, and requests for that which run or wait.
const HASHES_MAX: usize = 2;
const HASHES_WAITING_MAX: usize = 64;
const HASHES_OF_ONE_MAX: usize = 16;
/// Hashes that are kept.
const KEPT_MAX: usize = 1024;

/// What is going on.
#[derive(Debug)]
pub struct Reading {
    /// Places for archives.
    pub archives: Arc<Slots>,
    /// Searches.
    pub searches: Arc<Searches>,
    /// Places for those who want a hash.
    pub hashes: Arc<Slots>,
    /// Of those, the ones whose file is read.
    pub hashing: Arc<Semaphore>,
    /// Hashes of files that were not changed since.
    pub hashed: Hashed,
}

impl Default for Reading {
    fn default() -> Reading {
        Reading {
            archives: Slots::new(ARCHIVES_MAX, ARCHIVES_OF_ONE_MAX),
            searches: Arc::default(),
            hashes: Slots::new(HASHES_WAITING_MAX, HASHES_OF_ONE_MAX),
            hashing: Arc::new(Semaphore::new(HASHES_MAX)),
            hashed: Hashed::default(),
        }
    }
}

/// By what a file's content is known as long as it is not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, u32),
}

impl From<&Metadata> for Key {
    fn from(about: &Metadata) -> Key {
        let Metadata { device, inode, len, .. } = *about;
        Key { device, inode, len, modified: (about.modified_s, about.modified_ns) }
    }
}

/// Hashes, the last ones.
#[derive(Debug, Default)]
pub struct Hashed(Mutex<VecDeque<(Key, [u8; 32])>>);

impl Hashed {
    /// The hash of a file that was hashed as it is.
    pub fn find(&self, key: &Key) -> Option<[u8; 32]> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|(known, _)| known == key).map(|(_, hash)| *hash)
    }

    /// Keep one.
    pub fn keep(&self, key: Key, hash: [u8; 32]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(known, _)| *known != key);
        if kept.len() >= KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back((key, hash));
    }
}

/// Searches that run.
#[derive(Debug, Default)]
pub struct Searches(Mutex<Vec<(Who, Arc<AtomicBool>)>>);

/// One of them.
#[derive(Debug)]
pub struct Searching {
    searches: Arc<Searches>,
    is_ended: Arc<AtomicBool>,
}

impl Searches {
    /// Begin one; the visitor's oldest ends if he has too many. Nothing if there are too many of others, or of those at
    /// his address.
    pub fn begin(self: &Arc<Self>, who: Who) -> Option<Searching> {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = running.iter().filter(|((_, from), _)| *from == who.1).count();
        if running.len() >= SEARCHES_MAX || of_address >= share_of_address(SEARCHES_MAX) {
            return None;
        }
        let own = running.iter().filter(|(other, _)| *other == who);
        if own.clone().count() >= SEARCHES_OF_ONE_MAX
            && let Some((_, oldest)) = own.clone().find(|(_, is_ended)| !is_ended.load(Ordering::Relaxed))
        {
            oldest.store(true, Ordering::Relaxed);
        }
        let is_ended = Arc::new(AtomicBool::new(false));
        running.push((who, is_ended.clone()));
        Some(Searching { searches: self.clone(), is_ended })
    }
}

impl Searching {
    /// Whether a newer one took its place.
    pub fn is_ended(&self) -> bool {
        self.is_ended.load(Ordering::Relaxed)
    }
}

impl Drop for Searching {
    fn drop(&mut self) {
        let mut running = self.searches.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|(_, is_ended)| !Arc::ptr_eq(is_ended, &self.is_ended));
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::share::gate::VisitorId;

    #[test]
    fn the_newest_searches_of_a_visitor_run() {
        let searches = Arc::new(Searches::default());
        let who = |id| (VisitorId(id), IpAddr::from([192, 0, 2, if id == 1 { 1 } else { 2 }]));
        let own: Vec<Searching> = (0..SEARCHES_OF_ONE_MAX + 2).map(|_| searches.begin(who(1)).unwrap()).collect();
        let ended: Vec<bool> = own.iter().map(Searching::is_ended).collect();
        assert_eq!(ended, [true, true, false, false, false]);
        let others: Vec<Searching> = (0..20).map_while(|id| searches.begin(who(10 + id))).collect();
        assert_eq!(others.len(), SEARCHES_MAX - own.len());
        drop(own);
        assert!(searches.begin(who(1)).is_some());
    }

    #[test]
    fn one_address_never_has_all_searches_however_many_sessions_it_opens() {
        let searches = Arc::new(Searches::default());
        let who = |id, last| (VisitorId(id), IpAddr::from([192, 0, 2, last]));
        let greedy: Vec<Searching> = (0..99).filter_map(|n| searches.begin(who(n / 3, 1))).collect();
        assert_eq!(greedy.len(), share_of_address(SEARCHES_MAX));
        assert!(searches.begin(who(100, 2)).is_some());
    }

    #[test]
    fn hashes_are_of_one_state_of_a_file() {
        let hashed = Hashed::default();
        let key = |len| Key { device: 1, inode: 2, len, modified: (3, 4) };
        hashed.keep(key(1), [7; 32]);
        assert_eq!((hashed.find(&key(1)), hashed.find(&key(2))), (Some([7; 32]), None));
        (0..2 * KEPT_MAX as u64).for_each(|len| hashed.keep(key(len), [0; 32]));
        assert_eq!(hashed.0.lock().unwrap().len(), KEPT_MAX);
    }
}
