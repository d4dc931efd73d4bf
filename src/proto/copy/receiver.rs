//! The end that gets the files.
//!
//! Whoever stores takes actions ([`Receiver::poll_action`]) and says what came of them. A file is committed when all
//! its blocks are stored with the sender's digests, and settled when the commit is as durable as was asked.

use std::collections::{HashSet, VecDeque};

use super::blocks::Cut;
use super::filling::{Filling, Outcome};
use super::ids::IdMap;
use super::{
    CopyError, CopyMessage, Digest, Ending, ITEMS_MAX, Settlement, UNPROVEN_MAX, UNSETTLED_BYTES_MAX, UNSETTLED_MAX,
    WANTED_MAX, Want, fitting, reason,
};
use crate::proto::manifest::{ENTRIES_PER_MESSAGE_MAX, Entry, EntryId, EntryKind};
use crate::proto::verify::{BlockHash, FileHash};

/// Most files that are remembered as failed.
const FAILED_FILES_MAX: usize = 1 << 20;

const CHANGED: &str = "source: was changed during the copy: copy it again when nobody writes it";

/// What whoever stores has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Find out what is there; answered by [`Receiver::handle_decision`].
    Decide(Entry),
    /// All of it is stored and verified: give it its name. With the hash of the whole, where there is one. Answered by
    /// [`Receiver::handle_committed`] or [`Receiver::handle_failed`].
    Commit(EntryId, Option<FileHash>),
    /// It is there with the same content: give it its attributes. Answered as a commit is.
    Refresh(EntryId, FileHash),
    /// Nothing more comes of it: drop what was stored.
    Abandon(EntryId),
    /// An entry is settled that somebody waits for, as said by [`Receiver::awaits`].
    Closed(EntryId),
    /// Every entry is settled: do what is left. Answered by [`Receiver::handle_finished`].
    Finish {
        /// The sender passed nothing over.
        is_whole: bool,
    },
}

/// What is to be done about an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It has no content to wait for, or none that is lacking: commit it.
    Commit,
    /// It was made at once.
    Made,
    /// It is there as it should be.
    Have,
    /// It would be made.
    Planned,
    /// Its content is wanted, but for the blocks that are stored and verified already.
    Fill {
        /// In any order.
        stored: Vec<(u32, BlockHash)>,
    },
    /// A file of this length is there, whose blocks hash to this: it is wanted only if the source's hash to something
    /// else.
    Compare {
        /// In their order; as many as it has blocks.
        ours: Vec<BlockHash>,
    },
    /// It is left out, for this reason.
    Skip(String),
    /// It cannot be, for this reason.
    Fail(String),
}

/// One end of a copy.
///
/// Invariants: `open` holds what was offered and is not settled, at most [`UNSETTLED_MAX`]; `wanted` is how many blocks
/// of it were wanted and have not been stored, at most [`WANTED_MAX`]; `unproven` is how many were stored and have no
/// digest, and as nothing is wanted from [`UNPROVEN_MAX`] of them on, at most the sum of both.
#[derive(Debug)]
pub struct Receiver {
    cut: Cut,
    verify: bool,
    next: EntryId,
    open: IdMap<Open>,
    /// What these weigh.
    open_bytes: usize,
    wanted: usize,
    unproven: usize,
    /// Files with blocks that could not be wanted yet.
    hungry: VecDeque<EntryId>,
    again: Vec<Want>,
    asks: VecDeque<Want>,
    settled: Vec<(EntryId, Settlement)>,
    actions: VecDeque<Action>,
    /// Blocks that turned out right and were not asked after.
    right: Vec<(EntryId, u32, BlockHash)>,
    announced: Option<(u64, bool)>,
    /// How many entries failed, those among them of which nothing was said yet.
    failed: u64,
    /// The files among them, at most [`FAILED_FILES_MAX`].
    failed_files: HashSet<EntryId>,
    end: End,
}

#[derive(Debug)]
enum End {
    /// Entries are open, or may come.
    Ahead,
    /// What is left is being done.
    Finishing,
    /// It is done and not said.
    Finished(Ending),
    Said,
}

#[derive(Debug)]
struct Open {
    /// `None` for what has no content.
    len: Option<u64>,
    weight: usize,
    /// Somebody is to be told when it is settled.
    is_awaited: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    Deciding,
    /// The sender was asked what it hashes to; not the least of it is wanted yet.
    Comparing(Filling),
    Filling(Filling),
    Committing(Option<FileHash>),
    Refreshing,
}

impl Receiver {
    /// Files are cut so; `verify` if a block is right only with the sender's digest.
    pub fn new(cut: Cut, verify: bool) -> Receiver {
        Receiver {
            cut,
            verify,
            next: 0,
            open: IdMap::default(),
            open_bytes: 0,
            wanted: 0,
            unproven: 0,
            hungry: VecDeque::new(),
            again: Vec::new(),
            asks: VecDeque::new(),
            settled: Vec::new(),
            actions: VecDeque::new(),
            right: Vec::new(),
            announced: None,
            failed: 0,
            failed_files: HashSet::new(),
            end: End::Ahead,
        }
    }

    /// The sender said something.
    pub fn handle_message(&mut self, message: CopyMessage) -> Result<(), CopyError> {
        match message {
            // What was under way of files that were given up.
            CopyMessage::Digests(_) | CopyMessage::Unreadable(_) if self.has_ended() => Ok(()),
            _ if self.has_ended() => Err(CopyError::OutOfTurn),
            CopyMessage::Entries(entries) if self.announced.is_none() => self.handle_entries(entries),
            CopyMessage::Digests(digests) if digests.len() > ITEMS_MAX => Err(CopyError::TooMuch),
            CopyMessage::Digests(digests) => digests.into_iter().try_for_each(|digest| self.handle_digest(digest)),
            CopyMessage::Unreadable(list) if list.len() > ITEMS_MAX => Err(CopyError::TooMuch),
            CopyMessage::Unreadable(list) => list.into_iter().try_for_each(|(id, why)| self.handle_unreadable(id, why)),
            CopyMessage::ScanEnd { entries, is_whole } if self.announced.is_none() => {
                self.announced = Some((entries, is_whole));
                if entries != self.next {
                    return Err(CopyError::Numbering);
                }
                self.look_for_end();
                Ok(())
            }
            _ => Err(CopyError::OutOfTurn),
        }
    }

    /// What is to be done about an entry, after [`Action::Decide`].
    pub fn handle_decision(&mut self, id: EntryId, decision: Decision) {
        let Some(open) = self.open.get_mut(&id).filter(|open| matches!(open.state, State::Deciding)) else { return };
        let blocks = open.len.map_or(0, |len| self.cut.block_count(len));
        match decision {
            Decision::Have => self.settle(id, Settlement::Had),
            Decision::Made => self.settle(id, Settlement::Done(None)),
            Decision::Planned => self.settle(id, Settlement::Planned),
            Decision::Skip(why) => self.settle(id, Settlement::Skipped(reason(why))),
            Decision::Fail(why) => self.settle(id, Settlement::Failed(reason(why))),
            Decision::Fill { stored } if blocks > 0 => {
                let filling = Filling::new(blocks, &stored);
                let is_full = filling.is_full();
                open.state = State::Filling(filling);
                if is_full { self.commit(id) } else { self.hungry.push_back(id) }
            }
            Decision::Compare { ours } if blocks > 0 && ours.len() == blocks as usize && self.verify => {
                open.state = State::Comparing(Filling::comparing(&ours));
                self.asks.push_back(Want { id, first: 0, count: blocks });
            }
            Decision::Commit | Decision::Fill { .. } | Decision::Compare { .. } => self.commit(id),
        }
    }

    /// A block is stored, with this hash (whatever it is where nothing is verified). Whether it was wanted at all has
    /// to be asked before ([`Receiver::is_wanted`]).
    pub fn handle_stored(&mut self, id: EntryId, block: u32, hash: BlockHash) -> Result<(), CopyError> {
        let verify = self.verify;
        // Given up meanwhile: what was under way still comes.
        let Some(filling) = self.open.get_mut(&id).and_then(Open::filling) else { return Ok(()) };
        let before = filling.unproven_count();
        let (was_wanted, outcome) = filling.handle_stored(block, hash, verify);
        self.unproven += filling.unproven_count() - before;
        let outcome = outcome.ok_or(CopyError::UnknownBlock { id, block })?;
        self.wanted -= usize::from(was_wanted);
        self.handle_outcome(id, block, outcome);
        Ok(())
    }

    /// Something of a wanted block arrived so that it cannot be used: it is wanted again, as a block is whose digest
    /// is wrong. What came of it and was right need not be stored twice.
    pub fn handle_damaged(&mut self, id: EntryId, block: u32) {
        if !self.is_wanted(id, block) {
            return;
        }
        let Some(filling) = self.open.get_mut(&id).and_then(Open::filling) else { return };
        let (was_wanted, outcome) = filling.handle_damaged(block);
        self.wanted -= usize::from(was_wanted);
        self.handle_outcome(id, block, outcome);
    }

    /// A file cannot be stored or committed.
    pub fn handle_failed(&mut self, id: EntryId, why: String) {
        self.give_up(id, Settlement::Failed(reason(why)));
    }

    /// What should be made has to stay away after all.
    pub fn handle_skipped(&mut self, id: EntryId, why: String) {
        self.give_up(id, Settlement::Skipped(reason(why)));
    }

    /// A commit is as durable as was asked, or a file has its attributes.
    pub fn handle_committed(&mut self, id: EntryId) {
        match self.open.get(&id).map(|open| &open.state) {
            Some(State::Committing(hash)) => self.settle(id, Settlement::Done(*hash)),
            Some(State::Refreshing) => self.settle(id, Settlement::Had),
            _ => {}
        }
    }

    /// What was left to do is done.
    pub fn handle_finished(&mut self, ending: Ending) {
        if let End::Finishing = self.end {
            self.end = End::Finished(ending.fitted());
        }
    }

    /// Whether a block may be stored now: it was wanted and has not come.
    pub fn is_wanted(&self, id: EntryId, block: u32) -> bool {
        self.attempt(id, block).is_some()
    }

    /// Which time of sending a block is wanted for, from 1, if it may be stored now.
    pub fn attempt(&self, id: EntryId, block: u32) -> Option<u8> {
        self.open.get(&id).and_then(|open| match &open.state {
            State::Filling(filling) => filling.attempt(block),
            _ => None,
        })
    }

    /// What the sender says that a wanted block hashes to, if that is known.
    pub fn digest(&self, id: EntryId, block: u32) -> Option<BlockHash> {
        self.open.get(&id).and_then(|open| match &open.state {
            State::Filling(filling) => filling.digest(block),
            _ => None,
        })
    }

    /// Whether it is neither settled nor given up.
    pub fn is_open(&self, id: EntryId) -> bool {
        self.open.contains_key(&id)
    }

    /// Whether an entry is open; if it is, [`Action::Closed`] tells when it is so no more.
    pub fn awaits(&mut self, id: EntryId) -> bool {
        self.open.get_mut(&id).map(|open| open.is_awaited = true).is_some()
    }

    /// Whether a file that is settled failed. With more than can be remembered each may have: that keeps a name from
    /// being made, and never makes a wrong one.
    pub fn may_have_failed(&self, id: EntryId) -> bool {
        self.failed_files.len() >= FAILED_FILES_MAX || self.failed_files.contains(&id)
    }

    /// How many entries failed so far.
    pub fn failed(&self) -> u64 {
        self.failed
    }

    /// How many blocks were wanted and have not been stored.
    pub fn wanted(&self) -> usize {
        self.wanted
    }

    /// Blocks that are stored and proven since the last call.
    pub fn take_right(&mut self) -> Vec<(EntryId, u32, BlockHash)> {
        std::mem::take(&mut self.right)
    }

    /// How many such there are.
    pub fn right_count(&self) -> usize {
        self.right.len()
    }

    /// Whether [`Receiver::poll_message`] has something, or may have.
    pub fn has_message(&self) -> bool {
        let may_want = self.wanting_room() > 0 && (!self.hungry.is_empty() || !self.asks.is_empty());
        may_want || !self.settled.is_empty() || !self.again.is_empty() || matches!(self.end, End::Finished(_))
    }

    /// What to say next.
    pub fn poll_message(&mut self) -> Option<CopyMessage> {
        if !self.settled.is_empty() {
            let n = fitting(&self.settled, ITEMS_MAX, |(_, settlement)| settlement.encoded_bytes_max());
            return Some(CopyMessage::Settled(self.settled.drain(..n).collect()));
        }
        let asks = self.next_asks();
        if !asks.is_empty() {
            return Some(CopyMessage::Ask(asks));
        }
        let wants = self.next_wants();
        if !wants.is_empty() {
            return Some(CopyMessage::Wants(wants));
        }
        match std::mem::replace(&mut self.end, End::Said) {
            End::Finished(ending) => Some(CopyMessage::End(ending)),
            other => {
                self.end = other;
                None
            }
        }
    }

    /// What to do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether all entries were announced.
    pub fn is_scanned(&self) -> bool {
        self.announced.is_some()
    }

    /// Whether all is settled, and said.
    pub fn has_ended(&self) -> bool {
        matches!(self.end, End::Said)
    }

    fn handle_entries(&mut self, entries: Vec<Entry>) -> Result<(), CopyError> {
        // What is settled and was not said is open for the sender: whoever hears nothing may not go on for ever.
        let open = self.open.len() + self.settled.len();
        if entries.len() > ENTRIES_PER_MESSAGE_MAX || open + entries.len() > UNSETTLED_MAX {
            return Err(CopyError::TooMuch);
        }
        for entry in entries {
            if self.open_bytes >= 2 * UNSETTLED_BYTES_MAX || entry.is_oversized() {
                return Err(CopyError::TooMuch);
            }
            if entry.id != self.next {
                return Err(CopyError::Numbering);
            }
            self.next += 1;
            let len = if let EntryKind::File { len, .. } = entry.kind { Some(len) } else { None };
            let weight = entry.weight();
            self.open_bytes += weight;
            self.open.insert(entry.id, Open { len, weight, is_awaited: false, state: State::Deciding });
            self.actions.push_back(Action::Decide(entry));
        }
        Ok(())
    }

    fn handle_digest(&mut self, Digest { id, block, hash }: Digest) -> Result<(), CopyError> {
        if id >= self.next {
            return Err(CopyError::UnknownEntry(id));
        }
        if !self.verify {
            return Err(CopyError::OutOfTurn);
        }
        // Given up meanwhile: what was under way still comes.
        let Some(open) = self.open.get_mut(&id) else { return Ok(()) };
        let is_comparing = matches!(open.state, State::Comparing(_));
        let Some(filling) = open.filling() else { return Ok(()) };
        let before = filling.unproven_count();
        let outcome = filling.handle_digest(block, hash);
        self.unproven -= before - filling.unproven_count();
        // What was asked for has come.
        self.wanted -= usize::from(is_comparing && filling.release(block));
        match outcome {
            // Who writes through a mapping does not move the time by which the sender would know.
            Outcome::TwoDigests if filling.was_sent_again(block) => {
                self.give_up(id, Settlement::Failed(CHANGED.to_string()));
            }
            // Once it is sent nobody can have changed it in between.
            Outcome::TwoDigests => return Err(CopyError::TwoDigests { id, block }),
            Outcome::Unknown => return Err(CopyError::UnknownBlock { id, block }),
            Outcome::Unasked => return Err(CopyError::OutOfTurn),
            outcome => self.handle_outcome(id, block, outcome),
        }
        Ok(())
    }

    fn handle_unreadable(&mut self, id: EntryId, why: String) -> Result<(), CopyError> {
        if id >= self.next {
            return Err(CopyError::UnknownEntry(id));
        }
        // One that is being committed was whole before.
        if self.open.get(&id).is_some_and(|open| !matches!(open.state, State::Committing(_) | State::Refreshing)) {
            self.give_up(id, Settlement::Failed(reason(format!("source: {why}"))));
        }
        Ok(())
    }

    fn handle_outcome(&mut self, id: EntryId, block: u32, outcome: Outcome) {
        let Some(open) = self.open.get_mut(&id) else { return };
        let is_comparing = matches!(open.state, State::Comparing(_));
        let Some(filling) = open.filling() else { return };
        match outcome {
            Outcome::Right(hash) if !is_comparing => {
                let is_full = filling.is_full();
                self.right.push((id, block, hash));
                if is_full {
                    self.commit(id);
                }
            }
            _ if is_comparing && filling.has_all_digests() => self.compare(id),
            _ if is_comparing => {}
            Outcome::Again => {
                self.wanted += 1;
                self.again.push(Want { id, first: block, count: 1 });
            }
            Outcome::GiveUp(tries) => {
                let why = format!("block {block} arrived damaged {tries} times: see to the network and the memory");
                self.give_up(id, Settlement::Failed(why));
            }
            _ => {}
        }
    }

    /// All digests of a file are here that may be the same.
    fn compare(&mut self, id: EntryId) {
        let Some(open) = self.open.get_mut(&id) else { return };
        let State::Comparing(filling) = &mut open.state else { return };
        if filling.is_full() {
            let hash = open.len.and_then(|len| self.cut.layout(len).ok()).and_then(|layout| filling.hash(&layout));
            open.state = State::Refreshing;
            self.actions.push_back(Action::Refresh(id, hash.unwrap_or(FileHash([0; 32]))));
        } else {
            filling.forget();
            open.state = State::Filling(std::mem::take(filling));
            self.hungry.push_back(id);
        }
    }

    fn commit(&mut self, id: EntryId) {
        let Some(open) = self.open.get_mut(&id) else { return };
        let layout = open.len.and_then(|len| self.cut.layout(len).ok());
        let hash = match &open.state {
            State::Filling(filling) if self.verify => layout.and_then(|layout| filling.hash(&layout)),
            _ if open.len == Some(0) && self.verify => Some(crate::proto::verify::hash_whole(&[])),
            _ => None,
        };
        open.state = State::Committing(hash);
        self.actions.push_back(Action::Commit(id, hash));
    }

    fn give_up(&mut self, id: EntryId, settlement: Settlement) {
        if self.open.contains_key(&id) {
            self.actions.push_back(Action::Abandon(id));
            self.settle(id, settlement);
        }
    }

    fn settle(&mut self, id: EntryId, settlement: Settlement) {
        if let Some(mut open) = self.open.remove(&id) {
            self.open_bytes -= open.weight;
            self.wanted -= open.filling().map_or(0, |filling| filling.wanted_count());
            self.unproven -= open.filling().map_or(0, |filling| filling.unproven_count());
            if !self.again.is_empty() {
                self.again.retain(|want| want.id != id);
            }
            if let Settlement::Failed(_) = settlement {
                self.failed += 1;
                if open.len.is_some() && self.failed_files.len() < FAILED_FILES_MAX {
                    self.failed_files.insert(id);
                }
            }
            if open.is_awaited {
                self.actions.push_back(Action::Closed(id));
            }
            self.settled.push((id, settlement));
            self.look_for_end();
        }
    }

    fn look_for_end(&mut self) {
        if let Some((entries, is_whole)) = self.announced
            && entries == self.next
            && self.open.is_empty()
            && matches!(self.end, End::Ahead)
        {
            self.end = End::Finishing;
            self.actions.push_back(Action::Finish { is_whole });
        }
    }

    /// How many blocks more may be wanted now.
    fn wanting_room(&self) -> usize {
        if self.unproven < UNPROVEN_MAX { WANTED_MAX - self.wanted.min(WANTED_MAX) } else { 0 }
    }

    /// Files to ask about, as far as the bound allows: what is asked for counts as wanted.
    fn next_asks(&mut self) -> Vec<Want> {
        let mut asks = Vec::new();
        while asks.len() < ITEMS_MAX && self.wanting_room() > 0 {
            let Some(ask) = self.asks.front_mut() else { break };
            let Some(open) = self.open.get_mut(&ask.id) else {
                self.asks.pop_front();
                continue;
            };
            let count = ask.count.min((WANTED_MAX - self.wanted.min(WANTED_MAX)) as u32);
            let part = Want { count, ..*ask };
            ask.first += count;
            ask.count -= count;
            if let Some(filling) = open.filling() {
                filling.ask(part.first, count);
                self.wanted += count as usize;
                asks.push(part);
            }
            if self.asks.front().is_some_and(|ask| ask.count == 0) {
                self.asks.pop_front();
            }
        }
        asks
    }

    /// Ranges to ask for, as far as the bound allows.
    fn next_wants(&mut self) -> Vec<Want> {
        let mut wants: Vec<Want> = self.again.drain(..self.again.len().min(ITEMS_MAX)).collect();
        while wants.len() < ITEMS_MAX && self.wanting_room() > 0 {
            let Some(&id) = self.hungry.front() else { break };
            let filling = self.open.get_mut(&id).and_then(Open::filling);
            match filling.and_then(|filling| filling.next_want(WANTED_MAX - self.wanted)) {
                Some((first, count)) => {
                    self.wanted += count as usize;
                    wants.push(Want { id, first, count });
                }
                None => drop(self.hungry.pop_front()),
            }
        }
        wants
    }
}

impl Open {
    fn filling(&mut self) -> Option<&mut Filling> {
        match &mut self.state {
            State::Filling(filling) | State::Comparing(filling) => Some(filling),
            _ => None,
        }
    }
}
