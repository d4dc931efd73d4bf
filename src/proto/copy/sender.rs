//! The end that has the files.
//!
//! Whoever scans hands in entries ([`Sender::handle_entry`]) as long as [`Sender::wants_entries`]; whoever reads takes
//! work ([`Sender::poll_work`]) and says what each block hashed to, or why a file cannot be read.

use std::collections::{HashMap, VecDeque};

use super::blocks::{block_count, block_range};
use super::{CopyError, CopyMessage, Digest, ITEMS_MAX, Settlement, TRIES_MAX, UNSETTLED_MAX, WANTED_MAX, reason};
use crate::proto::manifest::{ENTRIES_BYTES_MAX, ENTRIES_PER_MESSAGE_MAX, Entry, EntryId, EntryKind};
use crate::proto::verify::BlockHash;

/// A block to be read and sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Of which file.
    pub id: EntryId,
    /// Which block of it.
    pub block: u32,
    /// Where it begins.
    pub offset: u64,
    /// Its bytes, at least 1.
    pub len: u64,
}

/// What became of the entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// There now, verified.
    pub done: u64,
    /// There already.
    pub had: u64,
    /// Left out on purpose.
    pub skipped: u64,
    /// Not made.
    pub failed: u64,
    /// Bytes of the files among `done`.
    pub done_bytes: u64,
}

/// One end of a copy.
///
/// Invariants: `open` holds what was offered and is not settled, at most [`UNSETTLED_MAX`]; numbers below `next` were
/// given out; `work` is at most [`WANTED_MAX`] long.
#[derive(Debug, Default)]
pub struct Sender {
    next: EntryId,
    open: HashMap<EntryId, Open>,
    work: VecDeque<(EntryId, u32)>,
    entries: Vec<Entry>,
    digests: Vec<Digest>,
    unreadable: Vec<(EntryId, String)>,
    settled: VecDeque<(EntryId, Settlement)>,
    scan: Scan,
    has_ended: bool,
    tally: Tally,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Scan {
    #[default]
    Running,
    Over,
    Said,
}

#[derive(Debug)]
struct Open {
    /// Of its content; `None` for what has none.
    len: Option<u64>,
    /// How often each block was wanted; empty until one is.
    tries: Vec<u8>,
    is_unreadable: bool,
}

impl Sender {
    /// Whether another entry may be handed in now.
    pub fn wants_entries(&self) -> bool {
        self.scan == Scan::Running && self.open.len() < UNSETTLED_MAX && self.entries.len() < ENTRIES_PER_MESSAGE_MAX
    }

    /// Offer an entry; it gets its number here, which is returned.
    pub fn handle_entry(&mut self, mut entry: Entry) -> EntryId {
        entry.id = self.next;
        self.next += 1;
        let len = if let EntryKind::File { len, .. } = entry.kind { Some(len) } else { None };
        self.open.insert(entry.id, Open { len, tries: Vec::new(), is_unreadable: false });
        self.entries.push(entry);
        self.next - 1
    }

    /// There are no more entries.
    pub fn handle_scan_end(&mut self) {
        if self.scan == Scan::Running {
            self.scan = Scan::Over;
        }
    }

    /// A block was read, and is being sent.
    pub fn handle_read(&mut self, id: EntryId, block: u32, hash: BlockHash) {
        if self.open.contains_key(&id) {
            self.digests.push(Digest { id, block, hash });
        }
    }

    /// A file cannot be read, or is not what it was when it was found.
    pub fn handle_unreadable(&mut self, id: EntryId, why: String) {
        if let Some(open) = self.open.get_mut(&id)
            && !std::mem::replace(&mut open.is_unreadable, true)
        {
            self.unreadable.push((id, reason(why)));
        }
    }

    /// The receiver said something.
    pub fn handle_message(&mut self, message: CopyMessage) -> Result<(), CopyError> {
        match message {
            _ if self.has_ended => Err(CopyError::OutOfTurn),
            CopyMessage::Wants(wants) if wants.len() > ITEMS_MAX => Err(CopyError::TooMuch),
            CopyMessage::Wants(wants) => {
                wants.into_iter().try_for_each(|want| self.handle_want(want.id, want.first, want.count))
            }
            CopyMessage::Settled(settled) if settled.len() > ITEMS_MAX => Err(CopyError::TooMuch),
            CopyMessage::Settled(settled) => {
                settled.into_iter().try_for_each(|(id, settlement)| self.handle_settled(id, settlement))
            }
            CopyMessage::End if self.scan == Scan::Said && self.open.is_empty() => {
                self.has_ended = true;
                Ok(())
            }
            _ => Err(CopyError::OutOfTurn),
        }
    }

    /// What to say next.
    pub fn poll_message(&mut self) -> Option<CopyMessage> {
        if !self.entries.is_empty() {
            let n = fitting(&self.entries);
            return Some(CopyMessage::Entries(self.entries.drain(..n).collect()));
        }
        if !self.unreadable.is_empty() {
            return Some(CopyMessage::Unreadable(drain(&mut self.unreadable)));
        }
        if !self.digests.is_empty() {
            return Some(CopyMessage::Digests(drain(&mut self.digests)));
        }
        (self.scan == Scan::Over).then(|| {
            self.scan = Scan::Said;
            CopyMessage::ScanEnd { entries: self.next }
        })
    }

    /// What to read and send next.
    pub fn poll_work(&mut self) -> Option<Work> {
        while let Some((id, block)) = self.work.pop_front() {
            let Some(open) = self.open.get(&id).filter(|open| !open.is_unreadable) else { continue };
            let range = open.len.and_then(|len| block_range(len, block));
            if let Some((offset, len)) = range {
                return Some(Work { id, block, offset, len });
            }
        }
        None
    }

    /// Entries that were settled since the last call, in the order in which they were.
    pub fn poll_settled(&mut self) -> Option<(EntryId, Settlement)> {
        self.settled.pop_front()
    }

    /// Whether the receiver has said that all is done.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// What became of the entries so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    fn handle_want(&mut self, id: EntryId, first: u32, count: u32) -> Result<(), CopyError> {
        let open = self.open.get_mut(&id).ok_or(CopyError::UnknownEntry(id))?;
        let blocks = open.len.map(block_count).ok_or(CopyError::UnknownEntry(id))?;
        let end = first.checked_add(count).filter(|end| *end <= blocks && count > 0);
        let end = end.ok_or(CopyError::UnknownBlock { id, block: first })?;
        if self.work.len() + count as usize > WANTED_MAX {
            return Err(CopyError::TooMuch);
        }
        open.tries.resize(blocks as usize, 0);
        for (block, tries) in (first..end).zip(&mut open.tries[first as usize..]) {
            if *tries >= TRIES_MAX {
                return Err(CopyError::Insatiable { id, block });
            }
            *tries += 1;
            self.work.push_back((id, block));
        }
        Ok(())
    }

    fn handle_settled(&mut self, id: EntryId, settlement: Settlement) -> Result<(), CopyError> {
        let open = self.open.remove(&id).ok_or(CopyError::UnknownEntry(id))?;
        let settlement = match settlement {
            Settlement::Skipped(why) => Settlement::Skipped(reason(why)),
            Settlement::Failed(why) => Settlement::Failed(reason(why)),
            other => other,
        };
        let counter = match &settlement {
            Settlement::Done => {
                self.tally.done_bytes += open.len.unwrap_or(0);
                &mut self.tally.done
            }
            Settlement::Had => &mut self.tally.had,
            Settlement::Skipped(_) => &mut self.tally.skipped,
            Settlement::Failed(_) => &mut self.tally.failed,
        };
        *counter += 1;
        self.settled.push_back((id, settlement));
        Ok(())
    }
}

/// How many entries from the front fit one message: at least one.
fn fitting(entries: &[Entry]) -> usize {
    let mut bytes = 0;
    let fits = |entry: &&Entry| {
        bytes += entry.encoded_bytes_max();
        bytes <= ENTRIES_BYTES_MAX
    };
    entries.iter().take(ENTRIES_PER_MESSAGE_MAX).take_while(fits).count().max(1)
}

/// As many items as one message takes.
fn drain<T>(items: &mut Vec<T>) -> Vec<T> {
    items.drain(..items.len().min(ITEMS_MAX)).collect()
}
