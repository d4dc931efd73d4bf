//! What a journal comes to: which blocks of which temporary files are there.
//!
//! No file is touched here. Of files that are done nothing is kept: they are looked at under their final names.

use std::collections::{BTreeMap, HashMap};

use super::{FileNumber, Record};
use crate::proto::verify::BlockHash;

/// Most blocks that are remembered, of all files together: some 200 MB of memory. Those beyond are sent again.
pub const BLOCKS_HELD_MAX: usize = 4 << 20;
/// Most files that are remembered; those beyond are sent again.
pub const FILES_HELD_MAX: usize = 1 << 20;

/// A file that was begun and is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partial {
    /// Its number in the journal.
    pub file: FileNumber,
    /// Length of the whole, bytes.
    pub len: u64,
    /// The source's modification time then: seconds and nanoseconds.
    pub modified: (i64, u32),
    /// Name of the temporary file, in the same folder.
    pub temporary: Vec<u8>,
    /// Bytes of a block.
    pub block_bytes: u64,
    /// The blocks that are there, with their hashes.
    pub blocks: BTreeMap<u64, BlockHash>,
}

/// What all records together say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    files: HashMap<Vec<u8>, Partial>,
    paths: HashMap<FileNumber, Vec<u8>>,
    next_file: FileNumber,
    blocks: usize,
}

impl State {
    /// What is known of the file that comes to this path.
    pub fn partial(&self, path: &[u8]) -> Option<&Partial> {
        self.files.get(path)
    }

    /// All files that were begun and are not done, with their paths.
    pub fn partials(&self) -> impl Iterator<Item = (&[u8], &Partial)> {
        self.files.iter().map(|(path, partial)| (path.as_slice(), partial))
    }

    /// A number that no file has.
    pub fn next_file(&self) -> FileNumber {
        self.next_file
    }

    pub(super) fn apply(&mut self, record: &Record) {
        match record {
            Record::FileBegun { file, path, len, modified, temporary, block_bytes } => {
                self.next_file = self.next_file.max(file.saturating_add(1));
                let partial = Partial {
                    file: *file,
                    len: *len,
                    modified: *modified,
                    temporary: temporary.clone(),
                    block_bytes: *block_bytes,
                    blocks: BTreeMap::new(),
                };
                self.begin(path, partial);
            }
            Record::BlocksStored { file, blocks } => self.store(*file, blocks),
            Record::FileDropped { file } | Record::FileDone { file, .. } => self.end(*file),
            // They matter where a journal is read, not to who wrote it.
            Record::Synced { .. } | Record::Restarted { .. } => {}
            // Every file was done before, or dropped.
            Record::Finished => {}
        }
    }

    fn begin(&mut self, path: &[u8], partial: Partial) {
        // A file that is begun anew has lost what it had.
        if let Some(before) = self.files.get(path).map(|before| before.file) {
            self.end(before);
        }
        self.end(partial.file);
        if self.files.len() < FILES_HELD_MAX {
            self.paths.insert(partial.file, path.to_vec());
            self.files.insert(path.to_vec(), partial);
        }
    }

    fn store(&mut self, file: FileNumber, blocks: &[(u64, BlockHash)]) {
        let Some(partial) = self.paths.get(&file).and_then(|path| self.files.get_mut(path)) else { return };
        for (index, hash) in blocks {
            let is_inside = index.checked_mul(partial.block_bytes).is_some_and(|start| start < partial.len);
            if is_inside && self.blocks < BLOCKS_HELD_MAX && partial.blocks.insert(*index, *hash).is_none() {
                self.blocks += 1;
            }
        }
    }

    fn end(&mut self, file: FileNumber) {
        let gone = self.paths.remove(&file).and_then(|path| self.files.remove(&path));
        self.blocks -= gone.map_or(0, |partial| partial.blocks.len());
    }
}
