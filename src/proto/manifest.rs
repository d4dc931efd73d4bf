//! What is in a tree, entry by entry, as it travels over control and lies in journals.
//!
//! An entry says what there is, not where its bytes are: data streams name entries by their number. Paths are bytes,
//! relative to the root of the copy, `/` between their names; whoever uses one parses it first
//! ([`crate::store::confined::RelativePath`] does).

use serde::{Deserialize, Serialize};

/// Number of an entry within its copy, counting up from 0 in the order in which the sender found them.
pub type EntryId = u64;

/// Longest path of an entry, bytes.
pub const ENTRY_PATH_BYTES_MAX: usize = 4096;
/// Most extended attributes of an entry.
pub const XATTRS_MAX: usize = 256;
/// Most bytes of the names and values of an entry's extended attributes (the kernel allows 64 KiB for one value).
pub const XATTRS_BYTES_MAX: usize = 128 << 10;
/// Most entries of one message.
pub const ENTRIES_PER_MESSAGE_MAX: usize = 4096;

/// What the fixed parts of an entry take at most, encoded.
const ENTRY_FIXED_BYTES: usize = 96;

/// One file, folder or link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number.
    pub id: EntryId,
    /// Where it is; empty for the root of the copy itself.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// What belongs to it beside its content.
    pub attributes: Attributes,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// A regular file of so many bytes when it was found.
    File {
        /// Bytes, holes included.
        len: u64,
        /// It has holes: fewer blocks are allocated than its length needs.
        is_sparse: bool,
    },
    /// A folder.
    Folder,
    /// A symbolic link, which leads wherever it leads.
    Symlink {
        /// As it stands in the link.
        target: Vec<u8>,
    },
    /// Another name of a file that was sent before.
    HardLink {
        /// The entry of the first name.
        to: EntryId,
        /// The path of that entry.
        path: Vec<u8>,
    },
}

/// What belongs to an entry beside its content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// Permission bits, set-uid, set-gid and sticky among them (07777).
    pub mode: u32,
    /// When the content was last modified, seconds of Unix time.
    pub modified_s: i64,
    /// … and nanoseconds, below 10⁹.
    pub modified_ns: u32,
    /// User and group, by number, where they are wanted.
    pub owner: Option<(u32, u32)>,
    /// Extended attributes, where they are wanted; ACLs are among them.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    /// How long it is at most, encoded.
    pub fn encoded_bytes_max(&self) -> usize {
        let target = match &self.kind {
            EntryKind::Symlink { target } => target.len(),
            EntryKind::HardLink { path, .. } => path.len(),
            EntryKind::File { .. } | EntryKind::Folder => 0,
        };
        // A length takes up to 5 bytes in postcard, and each attribute has two.
        let xattrs = self.attributes.xattrs.iter().map(|(name, value)| name.len() + value.len() + 10);
        ENTRY_FIXED_BYTES + self.path.len() + target + xattrs.sum::<usize>()
    }

    /// About how much memory it takes, bytes.
    pub fn weight(&self) -> usize {
        // An attribute is two vectors, however short.
        self.encoded_bytes_max() + self.attributes.xattrs.len() * 48
    }

    /// Whether it is longer than what a scan finds, with room for another first name.
    pub fn is_oversized(&self) -> bool {
        const PATH_BYTES: usize = 2 * ENTRY_PATH_BYTES_MAX;
        let target = match &self.kind {
            EntryKind::Symlink { target } => target.len(),
            EntryKind::HardLink { path, .. } => path.len(),
            EntryKind::File { .. } | EntryKind::Folder => 0,
        };
        let xattrs = &self.attributes.xattrs;
        let xattr_bytes: usize = xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.path.len() > PATH_BYTES
            || target > PATH_BYTES
            || xattrs.len() > XATTRS_MAX
            || xattr_bytes > XATTRS_BYTES_MAX
    }

    /// Bytes of its content; 0 for all but files.
    pub fn bytes(&self) -> u64 {
        if let EntryKind::File { len, .. } = self.kind { len } else { 0 }
    }
}
