//! The end that has the files.
//!
//! Whoever scans hands in entries ([`Sender::handle_entry`]) as long as [`Sender::wants_entries`]; whoever reads takes
//! work ([`Sender::poll_work`]) and says what each block hashed to, or why a file cannot be read.

use std::collections::VecDeque;

use super::blocks::Cut;
use super::ids::IdMap;
use super::{
    CopyError, CopyMessage, Digest, Ending, ITEM_FIXED_BYTES, ITEMS_MAX, Settlement, TRIES_MAX, UNSETTLED_BYTES_MAX,
    UNSETTLED_MAX, WANTED_MAX, Want, fitting, reason,
};
use crate::proto::manifest::{ENTRIES_PER_MESSAGE_MAX, Entry, EntryId, EntryKind};
use crate::proto::verify::BlockHash;

/// A block to be read.
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
    /// It is sent, too; otherwise only its hash is wanted.
    pub is_sent: bool,
}

/// One end of a copy.
///
/// Invariants: `open` holds what was offered and is not settled, at most [`UNSETTLED_MAX`]; numbers below `next` were
/// given out; `work` is at most [`WANTED_MAX`] long.
#[derive(Debug)]
pub struct Sender {
    cut: Cut,
    verify: bool,
    next: EntryId,
    open: IdMap<Open>,
    /// What these weigh.
    open_bytes: usize,
    work: VecDeque<(EntryId, u32, bool)>,
    entries: Vec<Entry>,
    digests: Vec<Digest>,
    unreadable: Vec<(EntryId, String)>,
    settled: VecDeque<(EntryId, Settlement)>,
    scan: Scan,
    is_whole: bool,
    ending: Option<Ending>,
}

#[derive(Debug, PartialEq, Eq)]
enum Scan {
    Running,
    Over,
    Said,
}

#[derive(Debug)]
struct Open {
    /// Of its content; `None` for what has none.
    len: Option<u64>,
    weight: usize,
    /// How often each block was wanted; empty until one is.
    tries: Vec<u8>,
    is_unreadable: bool,
}

impl Sender {
    /// Cut files so; `verify` for digests of what is sent.
    pub fn new(cut: Cut, verify: bool) -> Sender {
        Sender {
            cut,
            verify,
            next: 0,
            open: IdMap::default(),
            open_bytes: 0,
            work: VecDeque::new(),
            entries: Vec::new(),
            digests: Vec::new(),
            unreadable: Vec::new(),
            settled: VecDeque::new(),
            scan: Scan::Running,
            is_whole: true,
            ending: None,
        }
    }

    /// Whether another entry may be handed in now.
    pub fn wants_entries(&self) -> bool {
        let may_be_open = self.open.len() < UNSETTLED_MAX && self.open_bytes < UNSETTLED_BYTES_MAX;
        self.scan == Scan::Running && may_be_open && self.entries.len() < ENTRIES_PER_MESSAGE_MAX
    }

    /// Offer an entry; it gets its number here, which is returned.
    pub fn handle_entry(&mut self, mut entry: Entry) -> EntryId {
        entry.id = self.next;
        self.next += 1;
        let len = if let EntryKind::File { len, .. } = entry.kind { Some(len) } else { None };
        let weight = entry.weight();
        self.open_bytes += weight;
        self.open.insert(entry.id, Open { len, weight, tries: Vec::new(), is_unreadable: false });
        self.entries.push(entry);
        self.next - 1
    }

    /// Whether all entries were handed in.
    pub fn is_scanned(&self) -> bool {
        self.scan != Scan::Running
    }

    /// How many entries were offered so far: the number of the next one.
    pub fn offered(&self) -> u64 {
        self.next
    }

    /// There are no more entries; `is_whole` if nothing was passed over that could not be read.
    pub fn handle_scan_end(&mut self, is_whole: bool) {
        if self.scan == Scan::Running {
            self.scan = Scan::Over;
            self.is_whole = is_whole;
        }
    }

    /// A block was read, and is being sent if that was wanted.
    pub fn handle_read(&mut self, id: EntryId, block: u32, hash: BlockHash) {
        if self.verify && self.open.contains_key(&id) {
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
            _ if self.ending.is_some() => Err(CopyError::OutOfTurn),
            CopyMessage::Wants(wants) | CopyMessage::Ask(wants) if wants.len() > ITEMS_MAX => Err(CopyError::TooMuch),
            CopyMessage::Wants(wants) => wants.into_iter().try_for_each(|want| self.handle_want(want, true)),
            CopyMessage::Ask(wants) => wants.into_iter().try_for_each(|want| self.handle_want(want, false)),
            CopyMessage::Settled(settled) if settled.len() > ITEMS_MAX => Err(CopyError::TooMuch),
            CopyMessage::Settled(settled) => self.handle_all_settled(settled),
            CopyMessage::End(ending) if ending.failed.len() > ITEMS_MAX => Err(CopyError::TooMuch),
            CopyMessage::End(ending) if self.scan == Scan::Said && self.open.is_empty() => {
                self.ending = Some(ending);
                Ok(())
            }
            _ => Err(CopyError::OutOfTurn),
        }
    }

    /// Digests that wait to be said.
    pub fn digest_count(&self) -> usize {
        self.digests.len()
    }

    /// Whether something waits to be said that somebody waits for.
    pub fn has_urgent_message(&self) -> bool {
        !self.entries.is_empty() || !self.unreadable.is_empty() || self.scan == Scan::Over
    }

    /// What to say next.
    pub fn poll_message(&mut self) -> Option<CopyMessage> {
        if !self.entries.is_empty() {
            let n = fitting(&self.entries, ENTRIES_PER_MESSAGE_MAX, Entry::encoded_bytes_max);
            return Some(CopyMessage::Entries(self.entries.drain(..n).collect()));
        }
        if !self.unreadable.is_empty() {
            let n = fitting(&self.unreadable, ITEMS_MAX, |(_, why)| why.len() + ITEM_FIXED_BYTES);
            return Some(CopyMessage::Unreadable(self.unreadable.drain(..n).collect()));
        }
        if !self.digests.is_empty() {
            let n = self.digests.len().min(ITEMS_MAX);
            return Some(CopyMessage::Digests(self.digests.drain(..n).collect()));
        }
        (self.scan == Scan::Over).then(|| {
            self.scan = Scan::Said;
            CopyMessage::ScanEnd { entries: self.next, is_whole: self.is_whole }
        })
    }

    /// What to read and send next.
    pub fn poll_work(&mut self) -> Option<Work> {
        while let Some((id, block, is_sent)) = self.work.pop_front() {
            let Some(open) = self.open.get(&id).filter(|open| !open.is_unreadable) else { continue };
            let range = open.len.and_then(|len| self.cut.block_range(len, block));
            if let Some((offset, len)) = range {
                return Some(Work { id, block, offset, len, is_sent });
            }
        }
        None
    }

    /// Entries that were settled since the last call, in the order in which they were.
    pub fn poll_settled(&mut self) -> Option<(EntryId, Settlement)> {
        self.settled.pop_front()
    }

    /// What the receiver said at the end, once it did.
    pub fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    /// Whether blocks wait to be read.
    pub fn has_work(&self) -> bool {
        !self.work.is_empty()
    }

    fn handle_want(&mut self, Want { id, first, count }: Want, is_sent: bool) -> Result<(), CopyError> {
        let open = self.open.get_mut(&id).ok_or(CopyError::UnknownEntry(id))?;
        let blocks = open.len.map(|len| self.cut.block_count(len)).ok_or(CopyError::UnknownEntry(id))?;
        let end = first.checked_add(count).filter(|end| *end <= blocks && count > 0);
        let end = end.ok_or(CopyError::UnknownBlock { id, block: first })?;
        if self.work.len() + count as usize > WANTED_MAX {
            return Err(CopyError::TooMuch);
        }
        open.tries.resize(blocks as usize, 0);
        for (block, tries) in (first..end).zip(&mut open.tries[first as usize..]) {
            // Once more than it is sent: it may have been asked for first.
            if *tries > TRIES_MAX {
                return Err(CopyError::Insatiable { id, block });
            }
            *tries += 1;
            self.work.push_back((id, block, is_sent));
        }
        Ok(())
    }

    fn handle_all_settled(&mut self, settled: Vec<(EntryId, Settlement)>) -> Result<(), CopyError> {
        let mut may_be_queued = false;
        for (id, settlement) in settled {
            may_be_queued |= self.handle_settled(id, settlement)?;
        }
        // The receiver counts them as wanted no more, and wants others in their place.
        if may_be_queued {
            let open = &self.open;
            self.work.retain(|(id, ..)| open.contains_key(id));
        }
        Ok(())
    }

    /// Whether blocks of it may be left that were wanted and not read.
    fn handle_settled(&mut self, id: EntryId, settlement: Settlement) -> Result<bool, CopyError> {
        let open = self.open.remove(&id).ok_or(CopyError::UnknownEntry(id))?;
        let is_given_up = matches!(settlement, Settlement::Failed(_) | Settlement::Skipped(_));
        self.open_bytes -= open.weight;
        let settlement = match settlement {
            Settlement::Skipped(why) => Settlement::Skipped(reason(why)),
            Settlement::Failed(why) => Settlement::Failed(reason(why)),
            other => other,
        };
        self.settled.push_back((id, settlement));
        Ok(is_given_up && !open.tries.is_empty())
    }
}
