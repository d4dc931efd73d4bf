//! How a copy is made: what both ends have to know of it.

use serde::{Deserialize, Serialize};

/// Most paths that one request names.
pub const PATHS_MAX: usize = 65_536;
/// Smallest piece that one frame carries, bytes.
pub const PIECE_BYTES_MIN: u64 = 64 << 10;
/// Largest piece, bytes.
pub const PIECE_BYTES_MAX: u64 = 16 << 20;
/// A piece unless told otherwise, bytes: with larger ones the buffers leave the cache, with smaller ones the calls add
/// up (measured from 256 KiB to 4 MiB: within 5 % from 256 KiB to 1 MiB, 20 % slower at 4 MiB).
pub const PIECE_BYTES_DEFAULT: u64 = 1 << 20;

/// What outlasts a power failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Durability {
    /// What is said to be done.
    Full,
    /// Content of files, but perhaps not their final names.
    File,
    /// Nothing in particular.
    None,
}

/// What becomes of a file that is there already and differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Existing {
    /// It is replaced.
    Replace,
    /// It stays.
    Skip,
    /// It stays, and that is an error.
    Fail,
    /// It is replaced unless it was modified later than the source, or at the same time.
    KeepNewer,
}

/// Whether what is sent is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compression {
    /// Never.
    None,
    /// Where it shrinks, and as long as the network is what everything waits for.
    Auto,
    /// Where it shrinks, at this level of zstd.
    Zstd(i32),
}

/// Whether files are written past the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direct {
    /// Where that is faster.
    Auto,
    /// Wherever it can be done.
    On,
    /// Never.
    Off,
}

/// What is wanted of a tree, as text and numbers; whoever scans prepares it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Patterns of which a file must match one.
    pub include: Vec<String>,
    /// Patterns of what is left out.
    pub exclude: Vec<String>,
    /// Kinds of content by name.
    pub kinds: Vec<String>,
    /// Only files that were modified after this: seconds of Unix time, and nanoseconds.
    pub newer: Option<(i64, u32)>,
    /// Length of the largest file that is wanted, bytes.
    pub max_size: Option<u64>,
    /// Length of the smallest file that is wanted, bytes.
    pub min_size: Option<u64>,
}

/// What is done with the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// They are copied.
    Copy,
    /// It is found out what would be copied.
    DryRun,
    /// What lies in the named folders is listed, and nothing below.
    List,
}

/// How a copy is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyOptions {
    /// What for.
    pub purpose: Purpose,
    /// Every block is hashed on both ends.
    pub verify: bool,
    /// What was stored is read back past the page cache and hashed again.
    pub reread: bool,
    /// Files of the same length are compared by content, whatever their times.
    pub checksum: bool,
    /// Further names of a file become hard links.
    pub hard_links: bool,
    /// Users and groups.
    pub owner: bool,
    /// Extended attributes, ACLs among them.
    pub xattrs: bool,
    /// What becomes of what is there.
    pub existing: Existing,
    /// What outlasts a power failure.
    pub durability: Durability,
    /// What is there and not in the source is removed.
    pub delete: bool,
    /// Bytes that one frame carries at most: a power of two.
    pub piece_bytes: u64,
    /// Whether files are written past the page cache.
    pub direct: Direct,
    /// Whether what is sent is compressed.
    pub compress: Compression,
    /// Most bytes a second that the sender sends, over all streams.
    pub limit: Option<u64>,
    /// In the background: idle CPU and I/O classes.
    pub nice: bool,
    /// What is wanted of the source.
    pub selection: Selection,
}

impl Default for CopyOptions {
    fn default() -> CopyOptions {
        CopyOptions {
            purpose: Purpose::Copy,
            verify: true,
            reread: false,
            checksum: false,
            hard_links: false,
            owner: false,
            xattrs: false,
            existing: Existing::Replace,
            durability: Durability::Full,
            delete: false,
            piece_bytes: PIECE_BYTES_DEFAULT,
            direct: Direct::Auto,
            compress: Compression::None,
            limit: None,
            nice: false,
            selection: Selection::default(),
        }
    }
}

impl CopyOptions {
    /// Why they cannot be meant, if they cannot.
    pub fn check(&self) -> Result<(), &'static str> {
        let is_fit =
            self.piece_bytes.is_power_of_two() && (PIECE_BYTES_MIN..=PIECE_BYTES_MAX).contains(&self.piece_bytes);
        match self {
            _ if !is_fit => Err("pieces are a power of two from 64 KiB to 16 MiB"),
            _ if !self.is_level_fit() => Err("levels of zstd are 1 to 22, above 19 with pieces of at most 4 MiB"),
            _ if self.limit == Some(0) => Err("a limit of 0 bytes a second moves nothing"),
            _ if (self.reread || self.checksum) && !self.verify => Err("nothing can be compared without verification"),
            _ => Ok(()),
        }
    }

    /// A level decides about memory on the sending end: at most 84 MiB a reader within these bounds.
    fn is_level_fit(&self) -> bool {
        let Compression::Zstd(level) = self.compress else { return true };
        (1..=19).contains(&level) || ((20..=22).contains(&level) && self.piece_bytes <= 4 << 20)
    }
}

/// Which way a copy goes, and between what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CopyRoute {
    /// From the client to the server.
    Push {
        /// Where to, as it was typed.
        to: Vec<u8>,
        /// What the sources are called: `None` for the content of a folder, which comes without a name.
        names: Vec<Option<Vec<u8>>>,
        /// What the client calls the sources: a journal is found again by it.
        from: Vec<u8>,
    },
    /// From the server to the client.
    Pull {
        /// Where from, as they were typed.
        from: Vec<Vec<u8>>,
    },
}

/// A copy, as a client wants it of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopySpec {
    /// Random, and the same when the client comes back after its connection was lost: then what is left of the session
    /// before gives way.
    pub run: [u8; 16],
    /// Which way.
    pub route: CopyRoute,
    /// How.
    pub options: CopyOptions,
}

impl CopySpec {
    /// Why it cannot be meant, if it cannot.
    pub fn check(&self) -> Result<(), &'static str> {
        let paths = match &self.route {
            CopyRoute::Push { names, .. } => names.len(),
            CopyRoute::Pull { from } => from.len(),
        };
        match paths {
            0 => Err("no source is named"),
            n if n > PATHS_MAX => Err("too many sources are named: copy the folder above them"),
            _ => self.options.check(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_would_take_too_much_memory_is_refused() {
        let check = |level, piece_bytes| {
            CopyOptions { compress: Compression::Zstd(level), piece_bytes, ..CopyOptions::default() }.check()
        };
        for (level, piece_bytes) in [(1, 16 << 20), (19, 16 << 20), (22, 4 << 20)] {
            assert_eq!(check(level, piece_bytes), Ok(()));
        }
        for (level, piece_bytes) in [(0, 1 << 20), (-1, 1 << 20), (23, 1 << 20), (20, 8 << 20), (i32::MAX, 1 << 20)] {
            assert!(check(level, piece_bytes).is_err(), "{level}");
        }
    }
}
