//! One file while its pieces arrive: which parts of which blocks are here, and where they are written.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::engine::outbox::Payload;
use crate::proto::copy::blocks::Cut;
use crate::proto::manifest::Entry;
use crate::proto::verify::{BlockHash, Layout, join};
use crate::store::landing::Incoming;

/// A file that is being filled. Threads share one.
#[derive(Debug)]
pub(super) struct Arriving {
    pub(super) entry: Entry,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// From the first piece on.
    pub(super) incoming: Option<Arc<Incoming>>,
    /// Blocks of which some pieces are here.
    blocks: HashMap<u32, Parts>,
    /// Blocks that were stored as a whole, and for which time of sending.
    stored: HashMap<u32, u8>,
    /// Somebody writes. A file is written by one thread at a time: the kernel lets in only one, and others would burn
    /// their time waiting. It lets in several where the page cache is passed.
    is_writing: bool,
    /// What he writes next.
    queue: VecDeque<Hashed>,
}

/// A piece that is to be written.
#[derive(Debug)]
pub(super) struct Hashed {
    pub(super) claim: Claim,
    pub(super) offset: u64,
    pub(super) payload: Payload,
    pub(super) hash: BlockHash,
}

/// The pieces of a block. Invariant: `left` counts those without a hash.
///
/// Only pieces that came are in it: blocks of a file that is said to be huge have more than memory could hold.
#[derive(Debug)]
struct Parts {
    /// Those that somebody has taken on, with their hashes once they are written.
    claimed: BTreeMap<u64, Option<BlockHash>>,
    left: u64,
    /// The latest time of sending that any of them was wanted for.
    attempt: u8,
}

/// A piece that may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) block: u32,
    /// Which of the block's pieces.
    pub(super) part: u64,
    /// Which time of sending the block was wanted for: [`Receiver::attempt`].
    ///
    /// [`Receiver::attempt`]: crate::proto::copy::receiver::Receiver::attempt
    pub(super) attempt: u8,
    /// The block was stored before and was wrong: its range, to be taken back first.
    pub(super) again: Option<(u64, u64)>,
}

impl Arriving {
    pub(super) fn new(entry: Entry) -> Arriving {
        Arriving { entry, state: Mutex::default() }
    }

    /// Bytes that were stored of it in whole blocks; nothing while somebody opens or changes it.
    pub(super) fn bytes_stored(&self, cut: Cut) -> Option<u64> {
        let len = self.entry.bytes();
        let state = self.state.try_lock().ok()?;
        Some((state.stored.len() as u64).saturating_mul(cut.block_bytes(len)).min(len))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The block that a piece belongs to, and which part of it; nothing for what is no piece.
pub(super) fn place(cut: Cut, file_len: u64, offset: u64, len: u64) -> Option<(u32, u64)> {
    let block = u32::try_from(offset / cut.block_bytes(file_len)).ok()?;
    let (start, block_len) = cut.block_range(file_len, block)?;
    let at = offset - start;
    let is_piece = at.is_multiple_of(cut.piece_bytes) && len == cut.piece_bytes.min(block_len - at);
    is_piece.then_some((block, at / cut.piece_bytes))
}

impl State {
    /// Take a piece on; nothing if somebody has, or if the block was stored since it was seen to be wanted: a piece that
    /// comes twice does not take back what is proven.
    pub(super) fn claim(&mut self, cut: Cut, file_len: u64, (block, part, attempt): (u32, u64, u8)) -> Option<Claim> {
        let range = cut.block_range(file_len, block)?;
        let again = self.take_back(block, attempt)?.then_some((range.0, range.0 + range.1));
        let parts = self.blocks.entry(block).or_insert_with(|| Parts {
            claimed: BTreeMap::new(),
            left: range.1.div_ceil(cut.piece_bytes),
            attempt,
        });
        parts.attempt = parts.attempt.max(attempt);
        // None is left while somebody has taken on the whole of it.
        if parts.left == 0 || parts.claimed.contains_key(&part) {
            return None;
        }
        parts.claimed.insert(part, None);
        Some(Claim { block, part, attempt, again })
    }

    /// Take a whole block on of which no piece has come; nothing if somebody has some of it. The range to be taken back
    /// first, if it was stored before.
    pub(super) fn claim_block(
        &mut self,
        cut: Cut,
        file_len: u64,
        (block, attempt): (u32, u8),
    ) -> Option<Option<(u64, u64)>> {
        let (start, len) = cut.block_range(file_len, block)?;
        if self.blocks.contains_key(&block) {
            return None;
        }
        let again = self.take_back(block, attempt)?.then_some((start, start + len));
        let nothing = Parts { claimed: BTreeMap::new(), left: 0, attempt };
        self.blocks.insert(block, nothing);
        Some(again)
    }

    /// Whether a block was stored for an earlier time of sending, which does not count any more; nothing if it was for
    /// this one.
    fn take_back(&mut self, block: u32, attempt: u8) -> Option<bool> {
        match self.stored.get(&block) {
            Some(before) if *before >= attempt => None,
            _ => Some(self.stored.remove(&block).is_some()),
        }
    }

    /// A whole block is stored.
    pub(super) fn handle_block(&mut self, block: u32) {
        let attempt = self.blocks.remove(&block).map_or(0, |parts| parts.attempt);
        self.stored.insert(block, attempt);
    }

    /// Become the one who writes, beginning with this; nothing if somebody is that already, who then writes it, too.
    pub(super) fn start_writing(&mut self, piece: Hashed) -> Option<Hashed> {
        if std::mem::replace(&mut self.is_writing, true) {
            self.queue.push_back(piece);
            return None;
        }
        Some(piece)
    }

    /// What the one who writes has to write next; without anything he is it no more.
    pub(super) fn next_to_write(&mut self) -> Option<Hashed> {
        let next = self.queue.pop_front();
        self.is_writing = next.is_some();
        next
    }

    /// A piece could not be written: it may come again.
    pub(super) fn release(&mut self, claim: Claim) {
        if let Some(parts) = self.blocks.get_mut(&claim.block) {
            parts.claimed.remove(&claim.part);
        }
    }

    /// A piece is written. The hash of its block, once that is whole.
    pub(super) fn handle_written(&mut self, claim: Claim, hash: BlockHash, layout: &Layout) -> Option<BlockHash> {
        let parts = self.blocks.get_mut(&claim.block)?;
        let place = parts.claimed.get_mut(&claim.part)?;
        if place.replace(hash).is_none() {
            parts.left -= 1;
        }
        if parts.left > 0 {
            return None;
        }
        let parts = self.blocks.remove(&claim.block)?;
        self.stored.insert(claim.block, parts.attempt);
        let hashes: Vec<BlockHash> = parts.claimed.into_values().flatten().collect();
        join(layout, &hashes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::verify::{hash_block, hash_part};

    #[test]
    fn pieces_have_their_place_and_nothing_else_has() {
        let cut = Cut { piece_bytes: 256 << 10 };
        let len = (2 << 20) + 5;
        assert_eq!(place(cut, u64::MAX, 1 << 60, 256 << 10), Some((4096, 0)), "at once, however many there are");
        assert_eq!(place(cut, len, 0, 256 << 10), Some((0, 0)));
        assert_eq!(place(cut, len, (1 << 20) + (512 << 10), 256 << 10), Some((1, 2)));
        assert_eq!(place(cut, len, 2 << 20, 5), Some((2, 0)));
        for (offset, bytes) in [(1, 256 << 10), (0, 255), (0, 512 << 10), (2 << 20, 6), (3 << 20, 1), (u64::MAX, 1)] {
            assert_eq!(place(cut, len, offset, bytes), None, "{offset} {bytes}");
        }
    }

    #[test]
    fn a_block_is_whole_with_its_last_piece_and_can_come_again() {
        let (cut, bytes) = (Cut { piece_bytes: 64 << 10 }, vec![7; 200_000]);
        let layout = cut.layout(200_000).unwrap();
        let mut state = State::default();
        for round in 0..2u8 {
            let pieces: Vec<(u64, u64)> = cut.pieces(0, 200_000).collect();
            let mut whole = None;
            for (part, (offset, len)) in (0..).zip(pieces).collect::<Vec<_>>().into_iter().rev() {
                let claim = state.claim(cut, 200_000, (0, part, round + 1)).unwrap();
                assert_eq!(claim.again.is_some(), round == 1 && part == 3);
                assert_eq!(state.claim(cut, 200_000, (0, part, round + 1)), None, "it is taken");
                let hash = hash_part(&layout, offset, &bytes[offset as usize..(offset + len) as usize]);
                assert!(whole.is_none());
                whole = state.handle_written(claim, hash, &layout);
            }
            assert_eq!(whole, Some(hash_block(&layout, 0, &bytes).unwrap()));
            // What was wanted before it was whole is not wanted any more.
            assert_eq!(state.claim(cut, 200_000, (0, 0, round + 1)), None);
            assert_eq!(state.claim_block(cut, 200_000, (0, round + 1)), None);
        }
    }
}
