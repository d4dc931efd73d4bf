//! One file on its way: which blocks are wanted, stored, and proven.

use super::TRIES_MAX;
use crate::proto::verify::{BlockHash, FileHash, Layout, root};

/// The blocks of a file that is being filled, or compared.
///
/// Invariants: `left` counts the blocks that are not right; blocks from `next` on were not wanted yet. `blocks` stays
/// empty until something is known of one: many files wait for their turn.
#[derive(Debug, Default)]
pub(super) struct Filling {
    count: u32,
    blocks: Vec<Block>,
    next: u32,
    left: u32,
    digests_missing: u32,
    /// Blocks that were stored and whose digests have not come.
    unproven: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Block {
    tries: u8,
    is_wanted: bool,
    is_right: bool,
    ours: Option<BlockHash>,
    theirs: Option<BlockHash>,
}

/// What came of a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing yet.
    Wait,
    /// The block is proven, with this hash.
    Right(BlockHash),
    /// It is wrong, and wanted again.
    Again,
    /// It was wrong so many times.
    GiveUp(u8),
    /// Another digest than before.
    TwoDigests,
    /// There is no such block.
    Unknown,
    /// Nothing of the file was asked for or wanted.
    Unasked,
}

impl Filling {
    /// A file of so many blocks, of which some are stored and proven.
    pub(super) fn new(count: u32, stored: &[(u32, BlockHash)]) -> Filling {
        let mut filling =
            Filling { count, blocks: Vec::new(), next: 0, left: count, digests_missing: count, unproven: 0 };
        for (block, hash) in stored {
            filling.trust(*block, *hash);
        }
        filling
    }

    /// A file that is there, of whose blocks nothing is proven.
    pub(super) fn comparing(ours: &[BlockHash]) -> Filling {
        let mut filling = Filling::new(ours.len() as u32, &[]);
        filling.blocks = ours.iter().map(|hash| Block { ours: Some(*hash), ..Block::default() }).collect();
        filling
    }

    pub(super) fn is_full(&self) -> bool {
        self.left == 0
    }

    pub(super) fn has_all_digests(&self) -> bool {
        self.digests_missing == 0
    }

    /// Which time of sending a block is wanted for, if it is.
    pub(super) fn attempt(&self, block: u32) -> Option<u8> {
        self.blocks.get(block as usize).filter(|block| block.is_wanted).map(|block| block.tries)
    }

    pub(super) fn wanted_count(&self) -> usize {
        self.blocks.iter().filter(|block| block.is_wanted).count()
    }

    /// What the sender says that a block hashes to, if that is known.
    pub(super) fn digest(&self, block: u32) -> Option<BlockHash> {
        self.blocks.get(block as usize).and_then(|block| block.theirs)
    }

    /// How many blocks were stored and wait for their digests.
    pub(super) fn unproven_count(&self) -> usize {
        self.unproven as usize
    }

    /// The hash of the whole, once it is full.
    pub(super) fn hash(&self, layout: &Layout) -> Option<FileHash> {
        let hashes: Option<Vec<BlockHash>> = self.blocks.iter().map(|block| block.ours).collect();
        root(layout, &hashes?).ok()
    }

    /// What there was turned out to be something else: everything is wanted anew, and digests come with it. Those that
    /// were asked for are of an earlier moment, and a file that somebody writes may have others by now.
    pub(super) fn forget(&mut self) {
        self.blocks.fill(Block::default());
        (self.left, self.next, self.digests_missing) = (self.count, 0, self.count);
    }

    /// Whether a block was wanted more than once.
    pub(super) fn was_sent_again(&self, block: u32) -> bool {
        self.blocks.get(block as usize).is_some_and(|block| block.tries > 1)
    }

    /// The sender is asked for digests: as long as they are missing the blocks count as wanted.
    pub(super) fn ask(&mut self, first: u32, count: u32) {
        self.know();
        for block in self.blocks.iter_mut().skip(first as usize).take(count as usize) {
            block.is_wanted = true;
        }
    }

    /// A block is not waited for any more; whether it was.
    pub(super) fn release(&mut self, block: u32) -> bool {
        self.blocks.get_mut(block as usize).is_some_and(|block| std::mem::take(&mut block.is_wanted))
    }

    /// A block was stored: whether it was wanted, and what came of it; nothing for a block that there is not.
    pub(super) fn handle_stored(&mut self, block: u32, hash: BlockHash, verify: bool) -> (bool, Option<Outcome>) {
        self.know();
        let Some(state) = self.blocks.get_mut(block as usize) else { return (false, None) };
        let was_wanted = std::mem::take(&mut state.is_wanted);
        let is_first = state.ours.replace(hash).is_none();
        self.unproven += u32::from(verify && is_first && state.theirs.is_none());
        if !verify && !state.is_right {
            state.is_right = true;
            self.left -= 1;
            return (was_wanted, Some(Outcome::Right(hash)));
        }
        (was_wanted, Some(self.compare(block)))
    }

    /// What came of a block cannot be used: whether it was wanted, and what comes of it.
    pub(super) fn handle_damaged(&mut self, block: u32) -> (bool, Outcome) {
        let Some(state) = self.blocks.get_mut(block as usize) else { return (false, Outcome::Unknown) };
        if !std::mem::take(&mut state.is_wanted) {
            return (false, Outcome::Wait);
        }
        if state.tries >= TRIES_MAX {
            return (true, Outcome::GiveUp(TRIES_MAX));
        }
        state.tries += 1;
        state.is_wanted = true;
        (true, Outcome::Again)
    }

    pub(super) fn handle_digest(&mut self, block: u32, hash: BlockHash) -> Outcome {
        // Otherwise one message could have the blocks of thousands of huge files remembered.
        if self.blocks.is_empty() {
            return Outcome::Unasked;
        }
        let Some(state) = self.blocks.get_mut(block as usize) else { return Outcome::Unknown };
        match state.theirs {
            Some(before) if before != hash => return Outcome::TwoDigests,
            Some(_) => {}
            None => {
                state.theirs = Some(hash);
                self.digests_missing -= 1;
                // What is compared, or is trusted from an earlier run, was not counted.
                let was_unproven = state.ours.is_some() && !state.is_right && state.tries > 0;
                self.unproven -= u32::from(was_unproven);
            }
        }
        self.compare(block)
    }

    /// Both hashes of a block may be known by now.
    fn compare(&mut self, block: u32) -> Outcome {
        let state = &mut self.blocks[block as usize];
        let (Some(ours), Some(theirs)) = (state.ours, state.theirs) else { return Outcome::Wait };
        if state.is_right {
            return Outcome::Wait;
        }
        if ours == theirs {
            state.is_right = true;
            self.left -= 1;
            return Outcome::Right(ours);
        }
        if state.tries >= TRIES_MAX {
            return Outcome::GiveUp(TRIES_MAX);
        }
        if state.tries == 0 {
            // It is only compared.
            return Outcome::Wait;
        }
        state.ours = None;
        state.tries += 1;
        state.is_wanted = true;
        Outcome::Again
    }

    /// A block that an earlier run has stored and verified.
    fn trust(&mut self, block: u32, hash: BlockHash) {
        self.know();
        if let Some(state) = self.blocks.get_mut(block as usize)
            && !state.is_right
        {
            *state = Block { is_right: true, ours: Some(hash), ..*state };
            self.left -= 1;
        }
    }

    /// The next run of blocks that are lacking, at most so many.
    pub(super) fn next_want(&mut self, most: usize) -> Option<(u32, u32)> {
        self.know();
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

    /// Have a place for what is known of each block.
    fn know(&mut self) {
        if self.blocks.is_empty() {
            self.blocks = vec![Block::default(); self.count as usize];
        }
    }
}
