//! What the threads have found, on its way to who receives it: numbered, counted, hard links told apart.
//!
//! All batches pass one lock, which is held until the channel has taken the batch: ids then count up in the order in
//! which they are received, and whoever waits for the channel would have nothing better to do.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::mpsc::SyncSender;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{SKIPPED_MAX, ScanSummary, Skipped};
use crate::proto::manifest::{Entry, EntryId, EntryKind};

/// A file that has other names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shared {
    /// Where it is in its batch.
    pub at: usize,
    /// Device and inode.
    pub file: (u64, u64),
    /// How many names it has.
    pub names: u64,
}

/// Where all threads send to.
#[derive(Debug)]
pub(super) struct Output {
    inner: Mutex<Inner>,
    is_linking: bool,
}

#[derive(Debug)]
struct Inner {
    /// Nothing once all threads have ended, so that the receiver learns of it.
    sender: Option<SyncSender<Vec<Entry>>>,
    next: EntryId,
    summary: ScanSummary,
    /// The first name of each file of which not all names have come, and how many are still to come.
    names: HashMap<(u64, u64), (EntryId, Vec<u8>, u64)>,
}

impl Output {
    pub(super) fn new(sender: SyncSender<Vec<Entry>>, is_linking: bool) -> Output {
        let inner = Inner { sender: Some(sender), next: 0, summary: ScanSummary::default(), names: HashMap::default() };
        Output { inner: Mutex::new(inner), is_linking }
    }

    /// Number a batch and send it; waits while the channel is full. False if nobody receives any more.
    pub(super) fn send(&self, mut batch: Vec<Entry>, shared: &[Shared]) -> bool {
        let mut inner = self.lock();
        let first = inner.next;
        for (id, entry) in (first..).zip(&mut batch) {
            entry.id = id;
        }
        if self.is_linking {
            for file in shared {
                inner.link(file, first, &mut batch);
            }
        }
        inner.next += batch.len() as u64;
        inner.summary.count(&batch);
        inner.sender.as_ref().is_some_and(|sender| sender.send(batch).is_ok())
    }

    /// Note that something cannot be had.
    pub(super) fn skip(&self, path: Vec<u8>, why: String) {
        self.pass_over(Skipped { path, why, is_failure: true });
    }

    /// Note that something is left out.
    pub(super) fn pass_over(&self, skipped: Skipped) {
        let summary = &mut self.lock().summary;
        summary.skipped_count += 1;
        summary.failed_count += u64::from(skipped.is_failure);
        if summary.skipped.len() < SKIPPED_MAX {
            summary.skipped.push(skipped);
        }
    }

    /// Let the receiver know that nothing more comes.
    pub(super) fn close(&self) {
        self.lock().sender = None;
    }

    pub(super) fn summary(&self) -> ScanSummary {
        self.lock().summary.clone()
    }

    /// A thread that panicked leaves counts behind that are no worse than the summary, which says so.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Make an entry a hard link if another name of its file came before.
    fn link(&mut self, file: &Shared, first: EntryId, batch: &mut [Entry]) {
        let Some(entry) = batch.get_mut(file.at) else { return };
        match self.names.entry(file.file) {
            Slot::Vacant(slot) => {
                slot.insert((first + file.at as u64, entry.path.clone(), file.names.saturating_sub(1)));
            }
            Slot::Occupied(mut slot) => {
                let (to, path, left) = slot.get_mut();
                entry.kind = EntryKind::HardLink { to: *to, path: path.clone() };
                *left = left.saturating_sub(1);
                // All names have come: none is looked for any more.
                if *left == 0 {
                    slot.remove();
                }
            }
        }
    }
}

impl ScanSummary {
    fn count(&mut self, batch: &[Entry]) {
        self.entries += batch.len() as u64;
        for entry in batch {
            self.bytes = self.bytes.saturating_add(entry.bytes());
            match entry.kind {
                EntryKind::File { .. } => self.files += 1,
                EntryKind::Folder => self.folders += 1,
                EntryKind::Symlink { .. } => self.links += 1,
                EntryKind::HardLink { .. } => self.hard_links += 1,
            }
        }
    }
}
