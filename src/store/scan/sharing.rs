//! Folders that wait for a thread without work, and how threads learn that there is none left.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::store::confined::RelativePath;
use crate::store::filter::Within;

/// A folder that waits to be read.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Of which top it is a part.
    pub top: usize,
    /// Where it is in the top's root.
    pub path: RelativePath,
    /// What its entries lie within.
    pub within: Within,
}

/// What threads hand to each other.
#[derive(Debug)]
pub(super) struct Sharing {
    threads: usize,
    inner: Mutex<Inner>,
    woken: Condvar,
    /// Threads that wait for work.
    hungry: AtomicUsize,
    /// Folders that wait, here and with the threads, and the most there were.
    waiting: AtomicUsize,
    waiting_max: AtomicUsize,
    is_stopped: AtomicBool,
    /// Threads that have ended.
    left: AtomicUsize,
}

#[derive(Debug, Default)]
struct Inner {
    folders: Vec<Waiting>,
    idle: usize,
    has_ended: bool,
}

impl Sharing {
    pub(super) fn new(threads: usize) -> Sharing {
        Sharing {
            threads,
            inner: Mutex::default(),
            woken: Condvar::new(),
            hungry: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            waiting_max: AtomicUsize::new(0),
            is_stopped: AtomicBool::new(false),
            left: AtomicUsize::new(0),
        }
    }

    /// A folder that another thread has given away; waits for one. Nothing when all threads have come to wait, or
    /// the scan is given up.
    pub(super) fn take(&self) -> Option<Waiting> {
        let mut inner = self.lock();
        inner.idle += 1;
        self.hungry.fetch_add(1, Ordering::Relaxed);
        while inner.folders.is_empty() && !inner.has_ended && !self.is_stopped() {
            if inner.idle == self.threads {
                inner.has_ended = true;
                self.woken.notify_all();
                break;
            }
            inner = self.woken.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        let found = if self.is_stopped() { None } else { inner.folders.pop() };
        if found.is_some() {
            inner.idle -= 1;
            self.hungry.fetch_sub(1, Ordering::Relaxed);
        }
        found
    }

    /// Give folders away. Their entries must have been sent.
    pub(super) fn give(&self, folders: impl Iterator<Item = Waiting>) {
        self.lock().folders.extend(folders);
        self.woken.notify_all();
    }

    /// Whether a thread waits that has not been given anything yet.
    pub(super) fn wants_more(&self) -> bool {
        self.hungry.load(Ordering::Relaxed) > 0 && self.lock().folders.is_empty()
    }

    /// Count a folder that waits from now on.
    pub(super) fn count_in(&self) {
        let now = self.waiting.fetch_add(1, Ordering::Relaxed) + 1;
        self.waiting_max.fetch_max(now, Ordering::Relaxed);
    }

    /// Count one that waits no more.
    pub(super) fn count_out(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(super) fn waiting_max(&self) -> usize {
        self.waiting_max.load(Ordering::Relaxed)
    }

    /// Make all threads end soon.
    pub(super) fn stop(&self) {
        // Under the lock, so that nobody is between looking and waiting.
        let inner = self.lock();
        self.is_stopped.store(true, Ordering::Relaxed);
        drop(inner);
        self.woken.notify_all();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    /// Count a thread that ends; whether it is the last.
    pub(super) fn leave(&self) -> bool {
        self.left.fetch_add(1, Ordering::AcqRel) + 1 == self.threads
    }

    /// Whether every folder was read.
    pub(super) fn has_ended(&self) -> bool {
        self.lock().has_ended
    }

    /// A thread that panicked leaves a whole list behind: nothing is half done in it.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
