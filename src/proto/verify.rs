//! BLAKE3 of a file, block by block, in BLAKE3's own tree: the result is what `b3sum` prints.
//!
//! A [`Layout`] says how a file is cut into blocks. A block's hash is the chaining value of its subtree, into which
//! its offset goes; so blocks are hashed in any order by anybody, and a right block at a wrong place is a wrong
//! block. The only block of a small file is the root of its tree, which BLAKE3 finishes otherwise. Nobody has to
//! think of that: whoever hashes or joins blocks does it by the layout, which knows.
//!
//! No file is read here, and nothing is sent: see `store::hashing` for the one.

use std::fmt::{self, Write};
use std::ops::Range;
use std::str::FromStr;

use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use serde::{Deserialize, Serialize};

/// Bytes of a hash.
pub const HASH_BYTES: usize = blake3::OUT_LEN;
/// Most blocks of a file: a [`Tree`] takes 33 bytes for each, so 2.1 MiB at most.
pub const BLOCKS_MAX: u32 = 65_536;
/// Smallest block that a file is cut into unasked, bytes: what is sent anew when a block was wrong.
pub const BLOCK_BYTES_DEFAULT: u64 = 1 << 20;
/// Smallest block there can be, bytes: a chunk of BLAKE3, the leaf of its tree.
pub const BLOCK_BYTES_MIN: u64 = blake3::CHUNK_LEN as u64;
/// Largest block, bytes: with it [`BLOCKS_MAX`] blocks hold any file.
pub const BLOCK_BYTES_MAX: u64 = 1 << 48;

/// Why blocks do not make a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// No size of a block.
    #[error("blocks of {0} bytes: choose a power of two from 1 KiB to 256 TiB")]
    BlockSize(u64),
    /// Too many blocks.
    #[error("{len} bytes in blocks of {block_size} are more than 65536 blocks: choose larger blocks")]
    TooManyBlocks {
        /// The file's length, bytes.
        len: u64,
        /// The blocks' size.
        block_size: BlockSize,
    },
    /// The file has no such block.
    #[error("there is no block {index}: the file has {blocks}")]
    NoBlock {
        /// What was named.
        index: u32,
        /// How many there are.
        blocks: u32,
    },
    /// More bytes than the block has.
    #[error("block {index} got more than its {len} bytes")]
    TooLong {
        /// The block.
        index: u32,
        /// Its length, bytes.
        len: u64,
    },
    /// Fewer bytes than the block has.
    #[error("block {index} lacks {missing} bytes")]
    TooShort {
        /// The block.
        index: u32,
        /// How many bytes more it has.
        missing: u64,
    },
    /// A block came again.
    #[error("block {index} came twice")]
    Twice {
        /// The block.
        index: u32,
    },
    /// Blocks did not come.
    #[error("{count} of {blocks} blocks are missing, block {first} first")]
    Missing {
        /// The first of them.
        first: u32,
        /// How many.
        count: u32,
        /// Of how many.
        blocks: u32,
    },
}

/// Not 32 bytes in hex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no BLAKE3 hash: write its 64 hex digits")]
pub struct FileHashError;

/// Size of a block: a power of two from [`BLOCK_BYTES_MIN`] to [`BLOCK_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct BlockSize {
    shift: u8,
}

impl BlockSize {
    /// So many bytes.
    pub fn new(bytes: u64) -> Result<BlockSize, VerifyError> {
        let is_fit = bytes.is_power_of_two() && (BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&bytes);
        let shift = u8::try_from(bytes.trailing_zeros()).ok().filter(|_| is_fit);
        shift.map(|shift| BlockSize { shift }).ok_or(VerifyError::BlockSize(bytes))
    }

    /// For a file of `len` bytes: 1 MiB, or the least that makes at most [`BLOCKS_MAX`] blocks of it.
    pub fn for_len(len: u64) -> BlockSize {
        BlockSize::for_len_from(len, BLOCK_BYTES_DEFAULT)
    }

    /// The same with at least `bytes`, or the power of two below, in a block.
    pub fn for_len_from(len: u64, bytes: u64) -> BlockSize {
        let mut shift = bytes.clamp(BLOCK_BYTES_DEFAULT, BLOCK_BYTES_MAX).ilog2() as u8;
        while len.div_ceil(1 << shift) > u64::from(BLOCKS_MAX) {
            shift += 1;
        }
        BlockSize { shift }
    }

    /// In bytes.
    pub fn bytes(self) -> u64 {
        1 << self.shift
    }
}

impl fmt::Display for BlockSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes().fmt(f)
    }
}

impl TryFrom<u64> for BlockSize {
    type Error = VerifyError;

    fn try_from(bytes: u64) -> Result<BlockSize, VerifyError> {
        BlockSize::new(bytes)
    }
}

impl From<BlockSize> for u64 {
    fn from(size: BlockSize) -> u64 {
        size.bytes()
    }
}

/// How a file of a known length is cut into blocks. An empty file has one block, which is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    len: u64,
    block_size: BlockSize,
    blocks: u32,
}

impl Layout {
    /// A file of `len` bytes in blocks of that size.
    pub fn new(len: u64, block_size: BlockSize) -> Result<Layout, VerifyError> {
        let blocks = len.div_ceil(block_size.bytes()).max(1);
        match u32::try_from(blocks) {
            Ok(blocks) if blocks <= BLOCKS_MAX => Ok(Layout { len, block_size, blocks }),
            _ => Err(VerifyError::TooManyBlocks { len, block_size }),
        }
    }

    /// A file of `len` bytes in blocks of [`BlockSize::for_len`].
    pub fn for_len(len: u64) -> Layout {
        let block_size = BlockSize::for_len(len);
        // That size makes at most 65,536.
        Layout { len, block_size, blocks: len.div_ceil(block_size.bytes()).max(1) as u32 }
    }

    /// The file's length, bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the file is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The size of all blocks but the last, which may be shorter.
    pub fn block_size(&self) -> BlockSize {
        self.block_size
    }

    /// How many blocks: at least 1, at most [`BLOCKS_MAX`].
    pub fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Which bytes of the file a block is.
    pub fn range(&self, index: u32) -> Result<Range<u64>, VerifyError> {
        if index >= self.blocks {
            return Err(VerifyError::NoBlock { index, blocks: self.blocks });
        }
        let start = u64::from(index) * self.block_size.bytes();
        Ok(start..start.saturating_add(self.block_size.bytes()).min(self.len))
    }
}

/// What a file hashes to: the root of its tree.
///
/// Printed as `b3sum` does, in 64 hex digits; parsed in any case.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileHash(pub [u8; HASH_BYTES]);

impl fmt::Display for FileHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for FileHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileHash({self})")
    }
}

impl FromStr for FileHash {
    type Err = FileHashError;

    fn from_str(text: &str) -> Result<FileHash, FileHashError> {
        blake3::Hash::from_hex(text).map(|hash| FileHash(hash.into())).map_err(|_| FileHashError)
    }
}

/// What a block hashes to at its place in its file. It means nothing without the [`Layout`] that it was made by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BlockHash(pub [u8; HASH_BYTES]);

impl fmt::Debug for BlockHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BlockHash(")?;
        hex(&self.0, f)?;
        f.write_char(')')
    }
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// Hashes one block of a file, piece by piece.
#[derive(Clone, Debug)]
pub struct BlockHasher {
    hasher: blake3::Hasher,
    index: u32,
    len: u64,
    missing: u64,
    is_only: bool,
}

impl BlockHasher {
    /// For a block of a file that is cut so.
    pub fn new(layout: &Layout, index: u32) -> Result<BlockHasher, VerifyError> {
        let range = layout.range(index)?;
        let len = range.end - range.start;
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(range.start);
        Ok(BlockHasher { hasher, index, len, missing: len, is_only: layout.blocks == 1 })
    }

    /// Take the next bytes of the block. Nothing is taken if they are too many.
    pub fn update(&mut self, bytes: &[u8]) -> Result<(), VerifyError> {
        match self.missing.checked_sub(bytes.len() as u64) {
            Some(missing) => self.missing = missing,
            None => return Err(VerifyError::TooLong { index: self.index, len: self.len }),
        }
        self.hasher.update(bytes);
        Ok(())
    }

    /// How many bytes the block still lacks.
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// The hash, once all bytes were there.
    pub fn finish(&self) -> Result<BlockHash, VerifyError> {
        match (self.missing, self.is_only) {
            (0, true) => Ok(BlockHash(self.hasher.finalize().into())),
            (0, false) => Ok(BlockHash(self.hasher.finalize_non_root())),
            (missing, _) => Err(VerifyError::TooShort { index: self.index, missing }),
        }
    }
}

/// Hash a block that is in memory as a whole.
pub fn hash_block(layout: &Layout, index: u32, bytes: &[u8]) -> Result<BlockHash, VerifyError> {
    let mut hasher = BlockHasher::new(layout, index)?;
    hasher.update(bytes)?;
    hasher.finish()
}

/// Hashes a part of a block in steps; see [`hash_part`].
#[derive(Clone, Debug)]
pub struct PartHasher {
    hasher: blake3::Hasher,
    is_file: bool,
}

impl PartHasher {
    /// For the `len` bytes from `offset` of the file on.
    pub fn new(layout: &Layout, offset: u64, len: u64) -> PartHasher {
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(offset);
        PartHasher { hasher, is_file: offset == 0 && len == layout.len }
    }

    /// Take the next of them; never more than were announced.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// The hash; zeros where nothing was taken, which is the hash of nothing.
    pub fn finish(&self) -> BlockHash {
        if self.hasher.count() == 0 && !self.is_file {
            return BlockHash([0; HASH_BYTES]);
        }
        BlockHash(if self.is_file { self.hasher.finalize().into() } else { self.hasher.finalize_non_root() })
    }
}

/// Hash a part of a block: `bytes` from `offset` of the file on. Parts of a block are as long as each other, a power of
/// two of at least [`BLOCK_BYTES_MIN`], but for the last of the file; [`join`] makes a block of them.
pub fn hash_part(layout: &Layout, offset: u64, bytes: &[u8]) -> BlockHash {
    let mut hasher = PartHasher::new(layout, offset, bytes.len() as u64);
    hasher.update(bytes);
    hasher.finish()
}

/// The hash of a block by those of all its parts, in their order.
pub fn join(layout: &Layout, parts: &[BlockHash]) -> Option<BlockHash> {
    match parts {
        [] => None,
        [only] => Some(*only),
        _ if layout.blocks == 1 => {
            let (left, right) = halves(parts);
            Some(BlockHash(merge_subtrees_root(&subtree(left), &subtree(right), Mode::Hash).into()))
        }
        _ => Some(BlockHash(subtree(parts))),
    }
}

/// Hash a file that is in memory as a whole.
pub fn hash_whole(bytes: &[u8]) -> FileHash {
    FileHash(blake3::hash(bytes).into())
}

/// The file's hash by those of all its blocks, in their order.
pub fn root(layout: &Layout, blocks: &[BlockHash]) -> Result<FileHash, VerifyError> {
    let needed = layout.blocks;
    match (u32::try_from(blocks.len()).unwrap_or(u32::MAX), blocks) {
        (given, _) if given > needed => Err(VerifyError::NoBlock { index: needed, blocks: needed }),
        (given, _) if given < needed => {
            Err(VerifyError::Missing { first: given, count: needed - given, blocks: needed })
        }
        (_, [only]) => Ok(FileHash(only.0)),
        _ => {
            let (left, right) = halves(blocks);
            Ok(FileHash(merge_subtrees_root(&subtree(left), &subtree(right), Mode::Hash).into()))
        }
    }
}

/// The chaining value of neighbours. At most 16 deep.
fn subtree(blocks: &[BlockHash]) -> [u8; HASH_BYTES] {
    if let [only] = blocks {
        return only.0;
    }
    let (left, right) = halves(blocks);
    merge_subtrees_non_root(&subtree(left), &subtree(right), Mode::Hash)
}

/// At least two blocks, as BLAKE3 parts them: the left subtree is the largest full one that leaves something.
fn halves(blocks: &[BlockHash]) -> (&[BlockHash], &[BlockHash]) {
    blocks.split_at(blocks.len().next_power_of_two() / 2)
}

/// Collects the hashes of a file's blocks in any order.
#[derive(Clone, Debug)]
pub struct Tree {
    layout: Layout,
    hashes: Vec<Option<BlockHash>>,
    missing: u32,
}

impl Tree {
    /// Without any block yet. It allocates for all of them now, 33 bytes each.
    pub fn new(layout: Layout) -> Tree {
        Tree { layout, hashes: vec![None; layout.blocks as usize], missing: layout.blocks }
    }

    /// How the file is cut.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Take the hash of a block. One that is there already stays: [`Tree::forget`] it first.
    pub fn add(&mut self, index: u32, hash: BlockHash) -> Result<(), VerifyError> {
        let place = self.place(index)?;
        if place.is_some() {
            return Err(VerifyError::Twice { index });
        }
        *place = Some(hash);
        self.missing -= 1;
        Ok(())
    }

    /// Let go of a block that turned out to be wrong; it is missing again.
    pub fn forget(&mut self, index: u32) -> Result<(), VerifyError> {
        if self.place(index)?.take().is_some() {
            self.missing += 1;
        }
        Ok(())
    }

    fn place(&mut self, index: u32) -> Result<&mut Option<BlockHash>, VerifyError> {
        let blocks = self.layout.blocks;
        self.hashes.get_mut(index as usize).ok_or(VerifyError::NoBlock { index, blocks })
    }

    /// The hash of a block, if it is there.
    pub fn get(&self, index: u32) -> Option<BlockHash> {
        self.hashes.get(index as usize).copied().flatten()
    }

    /// How many blocks are missing.
    pub fn missing_count(&self) -> u32 {
        self.missing
    }

    /// Which blocks are missing, in their order.
    pub fn missing(&self) -> impl Iterator<Item = u32> + '_ {
        (0..).zip(&self.hashes).filter(|(_, hash)| hash.is_none()).map(|(index, _)| index)
    }

    /// The file's hash, once all blocks are there.
    pub fn finish(&self) -> Result<FileHash, VerifyError> {
        if let Some(first) = self.missing().next() {
            return Err(VerifyError::Missing { first, count: self.missing, blocks: self.layout.blocks });
        }
        let hashes: Vec<BlockHash> = self.hashes.iter().copied().flatten().collect();
        root(&self.layout, &hashes)
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod verify_tests;
