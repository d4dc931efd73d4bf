//! A copy of a tree, as two state machines that talk over a session: one offers entries and sends blocks, the other
//! wants, verifies and settles them. No file, socket, clock or thread.
//!
//! ```text
//! sender      Entries ──────────────▶ receiver            decide (what is there already?)
//!             ◀───────────────── Ask                        what do the blocks of what may be the same hash to?
//!             ◀────────────── Wants                        only what it lacks
//!             blocks (data streams) ─▶                     store, hash
//!             Digests ──────────────▶                      may come before or after their block
//!             ◀──────────── Settled                        done, there already, skipped or failed: each entry once
//!             ScanEnd ──────────────▶ ◀── End              when every entry is settled
//! ```
//!
//! Nothing waits for a round trip: entries go out ahead of the answers, up to [`UNSETTLED_MAX`] of them. A block that
//! does not have the digest which came over control is wanted again, at most [`TRIES_MAX`] times in all. Success means
//! proven: a file is committed only when every block of it has been stored and has the digest of the sender.
//!
//! | file | what it holds |
//! |---|---|
//! | [`sender`] | offers, answers wants, says what could not be read |
//! | [`receiver`] | asks for decisions, wants, verifies, has files committed |
//! | `filling` | one file on its way: what is wanted, stored and proven of it |
//! | [`blocks`] | into which blocks a file is cut |
//! | [`options`] | what is to be copied, and how |
//! | [`pack`] | many small files in one frame |
//! | [`report`] | what one end says about itself |
//! | [`ids`] | maps by entry |
//! | [`digest`] | one number for all that was proven, the same on both ends |

use serde::{Deserialize, Serialize};

use super::manifest::{Entry, EntryId};
use super::verify::{BlockHash, FileHash};

pub mod blocks;
pub mod digest;
mod filling;
pub mod ids;
pub mod options;
pub mod pack;
pub mod receiver;
pub mod report;
pub mod sender;

#[cfg(test)]
mod tests;

/// Most entries that were offered and not settled: what either end has to remember.
pub const UNSETTLED_MAX: usize = 65_536;
/// How much memory such entries may take at the sender ([`Entry::weight`]), bytes: no more are offered from then on. The
/// receiver allows for twice as much, as they may have longer names there.
pub const UNSETTLED_BYTES_MAX: usize = 32 << 20;
/// Most blocks that were wanted and have not come: what either end has to queue.
pub const WANTED_MAX: usize = 1 << 17;
/// From so many blocks on that were stored and whose digests have not come, nothing more is wanted: what the receiver has
/// to remember, and to store, of a sender that proves nothing. Digests trail their blocks by what is on its way.
pub const UNPROVEN_MAX: usize = 1 << 16;
/// How often a block is sent at most.
pub const TRIES_MAX: u8 = 4;
/// Most items of one message.
pub const ITEMS_MAX: usize = 4096;
/// Longest reason that is carried, bytes.
pub const REASON_BYTES_MAX: usize = 1024;

/// What the items of one message take together at most, encoded, unless it is one: well below the longest message.
pub const ITEMS_BYTES_MAX: usize = 256 << 10;
/// What an item takes beside its texts at most, encoded: a number, a hash, a few lengths.
const ITEM_FIXED_BYTES: usize = 64;

/// What the two ends of a copy say to each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CopyMessage {
    /// From the sender: there is this. Numbers count up without a gap.
    Entries(Vec<Entry>),
    /// From the sender: what the blocks that it has sent, or is about to, hash to.
    Digests(Vec<Digest>),
    /// From the sender: these could not be read, or changed while they were; nothing of them follows.
    Unreadable(Vec<(EntryId, String)>),
    /// From the sender: that was all.
    ScanEnd {
        /// How many entries were offered.
        entries: u64,
        /// Nothing was passed over that could not be read: what was not offered is not there.
        is_whole: bool,
    },
    /// From the receiver: say what these hash to, and do not send them.
    Ask(Vec<Want>),
    /// From the receiver: send this.
    Wants(Vec<Want>),
    /// From the receiver: no more has to be done about these.
    Settled(Vec<(EntryId, Settlement)>),
    /// From the receiver, last: everything is settled and as durable as was asked.
    End(Ending),
}

/// A block's hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// Of which file.
    pub id: EntryId,
    /// Which block of it, from 0.
    pub block: u32,
    /// Its hash, with its place in the file bound in.
    pub hash: BlockHash,
}

/// Consecutive blocks of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// Of which file.
    pub id: EntryId,
    /// The first of them.
    pub first: u32,
    /// How many, at least 1.
    pub count: u32,
}

/// What the receiver has to say at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// What failed after it was settled, such as the time of a folder: paths and reasons, at most [`ITEMS_MAX`], and as
    /// many as one message takes.
    pub failed: Vec<(Vec<u8>, String)>,
    /// How many such there are.
    pub failed_count: u64,
    /// What was removed since the source does not have it.
    pub deleted: u64,
}

/// How an entry ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Settlement {
    /// It is there now; of a file that was verified, with its hash.
    Done(Option<FileHash>),
    /// It would be made, if this were not a rehearsal.
    Planned,
    /// It was there already.
    Had,
    /// It was left out on purpose.
    Skipped(String),
    /// It could not be made, and this is why.
    Failed(String),
}

/// What a peer did wrong; the copy ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// A message of the other role, or after the end.
    #[error("the peer sent a message of a copy out of turn")]
    OutOfTurn,
    /// Entries that do not count up, or more than were announced.
    #[error("the peer numbers the entries of a copy wrongly")]
    Numbering,
    /// A number that stands for nothing, or for something that has no blocks.
    #[error("the peer speaks of entry {0}, which it cannot mean")]
    UnknownEntry(EntryId),
    /// A block that the file does not have.
    #[error("the peer speaks of block {block} of entry {id}, which has fewer")]
    UnknownBlock {
        /// The entry.
        id: EntryId,
        /// The block.
        block: u32,
    },
    /// An entry that is not in what was announced.
    #[error("the peer sends entry {0}, which is not in what it announced")]
    Outside(EntryId),
    /// A piece that is none: at a wrong place, or of a wrong length.
    #[error("the peer sent a piece of entry {0} that does not fit the file")]
    Piece(EntryId),
    /// A pack that is none.
    #[error(transparent)]
    Pack(#[from] pack::PackError),
    /// A frame that is not compressed as it says.
    #[error("the peer sent a frame that does not decompress")]
    Compression,
    /// More than it may have open, or in one message.
    #[error("the peer sent more at once than a copy allows")]
    TooMuch,
    /// Another hash for a block than before.
    #[error("the peer gave two digests for block {block} of entry {id}")]
    TwoDigests {
        /// The entry.
        id: EntryId,
        /// The block.
        block: u32,
    },
    /// A block wanted that was not lacking, or too often.
    #[error("the peer wants block {block} of entry {id} again and again")]
    Insatiable {
        /// The entry.
        id: EntryId,
        /// The block.
        block: u32,
    },
}

impl CopyError {
    /// Whether the network may have done it: a new connection may do better.
    pub fn is_damage(&self) -> bool {
        matches!(self, CopyError::Pack(_))
    }
}

impl Ending {
    /// With as many of the failures named as one message takes.
    fn fitted(mut self) -> Ending {
        self.failed.iter_mut().for_each(|(_, why)| *why = reason(std::mem::take(why)));
        self.failed.truncate(fitting(&self.failed, ITEMS_MAX, |(path, why)| path.len() + why.len() + ITEM_FIXED_BYTES));
        self
    }
}

impl Settlement {
    fn encoded_bytes_max(&self) -> usize {
        let why = if let Settlement::Skipped(why) | Settlement::Failed(why) = self { why.len() } else { 0 };
        ITEM_FIXED_BYTES + why
    }
}

/// How many items from the front fit one message, at most so many: at least one.
fn fitting<T>(items: &[T], most: usize, bytes_of: impl Fn(&T) -> usize) -> usize {
    let mut bytes = 0;
    let fits = |item: &&T| {
        bytes += bytes_of(item);
        bytes <= ITEMS_BYTES_MAX
    };
    items.iter().take(most).take_while(fits).count().max(1)
}

/// A reason, cut to what is carried.
fn reason(mut why: String) -> String {
    if why.len() > REASON_BYTES_MAX {
        let end = (0..=REASON_BYTES_MAX).rev().find(|at| why.is_char_boundary(*at)).unwrap_or(0);
        why.truncate(end);
    }
    why
}
