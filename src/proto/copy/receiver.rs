//! The end that gets the files.
//!
//! Whoever stores takes actions ([`Receiver::poll_action`]) and says what came of them. A file is committed when all
//! its blocks are stored with the sender's digests, and settled when the commit is as durable as was asked.

use std::collections::{HashMap, VecDeque};

use super::blocks::block_count;
use super::{
    CopyError, CopyMessage, Digest, ITEMS_MAX, Settlement, TRIES_MAX, UNSETTLED_MAX, WANTED_MAX, Want, reason,
};
use crate::proto::manifest::{ENTRIES_PER_MESSAGE_MAX, Entry, EntryId, EntryKind};
use crate::proto::verify::BlockHash;

/// What whoever stores has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Find out what is there; answered by [`Receiver::handle_decision`].
    Decide(Entry),
    /// All of it is stored and verified: give it its name. Answered by [`Receiver::handle_committed`] or
    /// [`Receiver::handle_failed`].
    Commit(EntryId),
    /// Nothing more comes of it: drop what was stored.
    Abandon(EntryId),
}

/// What is to be done about an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It has no content to wait for, or none that is lacking: commit it.
    Commit,
    /// It is there as it should be.
    Have,
    /// Its content is wanted, but for the blocks that are stored and verified already.
    Fill {
        /// In any order.
        stored: Vec<(u32, BlockHash)>,
    },
    /// It is left out, for this reason.
    Skip(String),
    /// It cannot be, for this reason.
    Fail(String),
}

/// One end of a copy.
///
/// Invariants: `open` holds what was offered and is not settled, at most [`UNSETTLED_MAX`]; `wanted` is how many blocks
/// of it were wanted and have not been stored, at most [`WANTED_MAX`].
#[derive(Debug, Default)]
pub struct Receiver {
    next: EntryId,
    open: HashMap<EntryId, Open>,
    wanted: usize,
    /// Files with blocks that could not be wanted yet.
    hungry: VecDeque<EntryId>,
    again: Vec<Want>,
    settled: Vec<(EntryId, Settlement)>,
    actions: VecDeque<Action>,
    announced: Option<u64>,
    has_ended: bool,
}

#[derive(Debug)]
struct Open {
    /// `None` for what has no content.
    blocks: Option<u32>,
    state: State,
}

#[derive(Debug)]
enum State {
    Deciding,
    Filling(Filling),
    Committing,
}

/// A file that is being filled.
///
/// Invariant: `left` counts the blocks that are not `Right`; blocks from `next` on were not wanted yet.
#[derive(Debug)]
struct Filling {
    blocks: Vec<Block>,
    next: u32,
    left: u32,
}

#[derive(Clone, Copy, Debug)]
struct Block {
    tries: u8,
    is_wanted: bool,
    is_right: bool,
    ours: Option<BlockHash>,
    theirs: Option<BlockHash>,
}

const NEW_BLOCK: Block = Block { tries: 0, is_wanted: false, is_right: false, ours: None, theirs: None };

impl Receiver {
    /// The sender said something.
    pub fn handle_message(&mut self, message: CopyMessage) -> Result<(), CopyError> {
        match message {
            // What was under way of files that were given up.
            CopyMessage::Digests(_) | CopyMessage::Unreadable(_) if self.has_ended => Ok(()),
            _ if self.has_ended => Err(CopyError::OutOfTurn),
            CopyMessage::Entries(entries) if self.announced.is_none() => self.handle_entries(entries),
            CopyMessage::Digests(digests) if digests.len() > ITEMS_MAX => Err(CopyError::TooMuch),
            CopyMessage::Digests(digests) => digests.into_iter().try_for_each(|digest| self.handle_digest(digest)),
            CopyMessage::Unreadable(list) if list.len() > ITEMS_MAX => Err(CopyError::TooMuch),
            CopyMessage::Unreadable(list) => list.into_iter().try_for_each(|(id, why)| self.handle_unreadable(id, why)),
            CopyMessage::ScanEnd { entries } if self.announced.is_none() => {
                self.announced = Some(entries);
                if entries == self.next { Ok(()) } else { Err(CopyError::Numbering) }
            }
            _ => Err(CopyError::OutOfTurn),
        }
    }

    /// What is to be done about an entry, after [`Action::Decide`].
    pub fn handle_decision(&mut self, id: EntryId, decision: Decision) {
        let Some(open) = self.open.get_mut(&id).filter(|open| matches!(open.state, State::Deciding)) else { return };
        match (decision, open.blocks) {
            (Decision::Have, _) => self.settle(id, Settlement::Had),
            (Decision::Skip(why), _) => self.settle(id, Settlement::Skipped(reason(why))),
            (Decision::Fail(why), _) => self.settle(id, Settlement::Failed(reason(why))),
            (Decision::Fill { stored }, Some(blocks)) if blocks > 0 => {
                let mut filling = Filling { blocks: vec![NEW_BLOCK; blocks as usize], next: 0, left: blocks };
                for (block, hash) in stored {
                    filling.trust(block, hash);
                }
                let is_full = filling.left == 0;
                open.state = State::Filling(filling);
                if is_full { self.commit(id) } else { self.hungry.push_back(id) }
            }
            (Decision::Commit | Decision::Fill { .. }, _) => self.commit(id),
        }
    }

    /// A block is stored, with this hash. Whether it was wanted at all is told: if not, it must not have been stored,
    /// and the peer that sent it breaks the rules.
    pub fn handle_stored(&mut self, id: EntryId, block: u32, hash: BlockHash) -> Result<(), CopyError> {
        // Given up meanwhile: what was under way still comes.
        let Some(filling) = self.open.get_mut(&id).and_then(Open::filling) else { return Ok(()) };
        let state = filling.blocks.get_mut(block as usize).ok_or(CopyError::UnknownBlock { id, block })?;
        if std::mem::take(&mut state.is_wanted) {
            self.wanted -= 1;
        }
        state.ours = Some(hash);
        self.compare(id, block);
        Ok(())
    }

    /// A file cannot be stored or committed.
    pub fn handle_failed(&mut self, id: EntryId, why: String) {
        self.give_up(id, Settlement::Failed(reason(why)));
    }

    /// A commit is as durable as was asked.
    pub fn handle_committed(&mut self, id: EntryId) {
        if self.open.get(&id).is_some_and(|open| matches!(open.state, State::Committing)) {
            self.settle(id, Settlement::Done);
        }
    }

    /// Whether a block may be stored now: it was wanted and has not come.
    pub fn is_wanted(&self, id: EntryId, block: u32) -> bool {
        let filling = self.open.get(&id).and_then(|open| match &open.state {
            State::Filling(filling) => Some(filling),
            _ => None,
        });
        filling.and_then(|filling| filling.blocks.get(block as usize)).is_some_and(|block| block.is_wanted)
    }

    /// What to say next.
    pub fn poll_message(&mut self) -> Option<CopyMessage> {
        if !self.settled.is_empty() {
            let n = self.settled.len().min(ITEMS_MAX);
            return Some(CopyMessage::Settled(self.settled.drain(..n).collect()));
        }
        let wants = self.next_wants();
        if !wants.is_empty() {
            return Some(CopyMessage::Wants(wants));
        }
        let is_all = self.announced == Some(self.next) && self.open.is_empty() && !self.has_ended;
        is_all.then(|| {
            self.has_ended = true;
            CopyMessage::End
        })
    }

    /// What to do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether all is settled, and said.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    fn handle_entries(&mut self, entries: Vec<Entry>) -> Result<(), CopyError> {
        if entries.len() > ENTRIES_PER_MESSAGE_MAX || self.open.len() + entries.len() > UNSETTLED_MAX {
            return Err(CopyError::TooMuch);
        }
        for entry in entries {
            if entry.id != self.next {
                return Err(CopyError::Numbering);
            }
            self.next += 1;
            let blocks = if let EntryKind::File { len, .. } = entry.kind { Some(block_count(len)) } else { None };
            self.open.insert(entry.id, Open { blocks, state: State::Deciding });
            self.actions.push_back(Action::Decide(entry));
        }
        Ok(())
    }

    fn handle_digest(&mut self, Digest { id, block, hash }: Digest) -> Result<(), CopyError> {
        if id >= self.next {
            return Err(CopyError::UnknownEntry(id));
        }
        // Given up meanwhile: what was under way still comes.
        let Some(filling) = self.open.get_mut(&id).and_then(Open::filling) else { return Ok(()) };
        let state = filling.blocks.get_mut(block as usize).ok_or(CopyError::UnknownBlock { id, block })?;
        match state.theirs {
            // A source that changes under the copy is told by the sender as unreadable, not by another digest.
            Some(before) if before != hash => return Err(CopyError::TwoDigests { id, block }),
            _ => state.theirs = Some(hash),
        }
        self.compare(id, block);
        Ok(())
    }

    fn handle_unreadable(&mut self, id: EntryId, why: String) -> Result<(), CopyError> {
        if id >= self.next {
            return Err(CopyError::UnknownEntry(id));
        }
        // One that is being committed was whole before.
        if self.open.get(&id).is_some_and(|open| !matches!(open.state, State::Committing)) {
            self.give_up(id, Settlement::Failed(reason(format!("source: {why}"))));
        }
        Ok(())
    }

    /// Both hashes of a block may be known by now.
    fn compare(&mut self, id: EntryId, block: u32) {
        let Some(filling) = self.open.get_mut(&id).and_then(Open::filling) else { return };
        let state = &mut filling.blocks[block as usize];
        let (Some(ours), Some(theirs)) = (state.ours, state.theirs) else { return };
        if state.is_right {
            return;
        }
        if ours == theirs {
            state.is_right = true;
            filling.left -= 1;
            if filling.left == 0 {
                self.commit(id);
            }
        } else if state.tries >= TRIES_MAX {
            let why = format!("block {block} arrived damaged {TRIES_MAX} times: see to the network and the memory");
            self.give_up(id, Settlement::Failed(why));
        } else {
            state.ours = None;
            state.tries += 1;
            state.is_wanted = true;
            self.wanted += 1;
            self.again.push(Want { id, first: block, count: 1 });
        }
    }

    fn commit(&mut self, id: EntryId) {
        if let Some(open) = self.open.get_mut(&id) {
            open.state = State::Committing;
            self.actions.push_back(Action::Commit(id));
        }
    }

    fn give_up(&mut self, id: EntryId, settlement: Settlement) {
        if self.open.contains_key(&id) {
            self.actions.push_back(Action::Abandon(id));
            self.settle(id, settlement);
        }
    }

    fn settle(&mut self, id: EntryId, settlement: Settlement) {
        if let Some(mut open) = self.open.remove(&id) {
            let under_way = open.filling().map_or(0, |filling| filling.blocks.iter().filter(|b| b.is_wanted).count());
            self.wanted -= under_way;
            self.again.retain(|want| want.id != id);
            self.settled.push((id, settlement));
        }
    }

    /// Ranges to ask for, as far as the bound allows.
    fn next_wants(&mut self) -> Vec<Want> {
        let mut wants: Vec<Want> = self.again.drain(..self.again.len().min(ITEMS_MAX)).collect();
        while wants.len() < ITEMS_MAX && self.wanted < WANTED_MAX {
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
        if let State::Filling(filling) = &mut self.state { Some(filling) } else { None }
    }
}

impl Filling {
    /// A block that an earlier run has stored and verified.
    fn trust(&mut self, block: u32, hash: BlockHash) {
        if let Some(state) = self.blocks.get_mut(block as usize)
            && !state.is_right
        {
            *state = Block { is_right: true, ours: Some(hash), ..*state };
            self.left -= 1;
        }
    }

    /// The next run of blocks that are lacking, at most so many.
    fn next_want(&mut self, most: usize) -> Option<(u32, u32)> {
        let lacking = |block: &Block| !block.is_right;
        let first = self.next as usize + self.blocks[self.next as usize..].iter().position(lacking)?;
        let run = self.blocks[first..].iter().take(most).take_while(|block| lacking(block)).count();
        for block in &mut self.blocks[first..first + run] {
            block.is_wanted = true;
            block.tries = 1;
        }
        self.next = (first + run) as u32;
        Some((first as u32, run as u32))
    }
}
