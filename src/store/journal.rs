//! The journal of a copy: an append-only log that says which blocks are on the disk, so that a copy can go on.
//!
//! # The file
//! A header (magic, version, the copy's identity, a random salt, the boot during which it was begun), then records:
//! length (u32, little endian), checksum (8 bytes), body (postcard). The checksum is the start of a SHA-256 over the
//! header's own checksum, the place in the file, and the body: a record of another journal, or one in another place,
//! does not count. What follows the first record that does not check out is cut, never guessed at.
//!
//! # What is believed
//! Blocks are noted when they are written, without waiting for the disk. As long as the machine runs, what was written
//! is there, even if the program was killed: in the same boot every block counts. In another boot only those count
//! that a `Synced` record covers, which is written after the data was synced; one covers what was noted before that
//! sync began, since the time of the last `Restarted`, and nothing else. Where nothing is ever synced, nothing counts.
//!
//! Nothing here knows how a file comes to its place: the landing does. What a record says is only as true as
//! what was written, or synced, before it.

mod replay;
pub mod state;
pub mod storage;

#[cfg(test)]
mod tests;

use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use replay::Replay;
pub use state::{Partial, State};
pub use storage::{FileStorage, Storage};

use super::StoreError;
use crate::proto::manifest::ENTRY_PATH_BYTES_MAX;
use crate::proto::verify::{BlockHash, FileHash};

/// Most bytes of the body of one record.
pub const RECORD_BYTES_MAX: usize = 64 << 10;
/// Most blocks that one record names: 42 bytes each at most, so they always fit.
pub const BLOCKS_PER_RECORD_MAX: usize = 1024;

/// What the file begins with.
const MAGIC: [u8; 8] = *b"lrjournl";
/// The only version that is read. 1 knew no blocks that were noted before they were synced.
const VERSION: u32 = 2;
/// Bytes of a checksum.
const SUM_BYTES: usize = 8;
/// Magic, version, durable or not, identity, salt, boot, checksum.
const HEADER_BYTES: usize = 8 + 4 + 4 + 32 + 16 + 16 + SUM_BYTES;
/// Length and checksum before each body.
const PREFIX_BYTES: usize = 4 + SUM_BYTES;
/// Longest name of a temporary file, bytes.
const NAME_BYTES_MAX: usize = 255;

/// Number of a file within a journal; that of the entry may differ from run to run.
pub type FileNumber = u64;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// A temporary file was made.
    FileBegun {
        /// Its number from here on.
        file: FileNumber,
        /// Of the entry.
        path: Vec<u8>,
        /// Length of the whole, bytes.
        len: u64,
        /// The source's modification time: seconds and nanoseconds.
        modified: (i64, u32),
        /// Name of the temporary file, in the same folder.
        temporary: Vec<u8>,
        /// Bytes of a block; the last may be shorter.
        block_bytes: u64,
    },
    /// These blocks of it are written; whether they are on the disk, `Synced` says.
    BlocksStored {
        /// Which file.
        file: FileNumber,
        /// Index and hash of each, at most [`BLOCKS_PER_RECORD_MAX`].
        blocks: Vec<(u64, BlockHash)>,
    },
    /// Blocks of a file are on the disk.
    Synced {
        /// Which file.
        file: FileNumber,
        /// Those in the records of this journal before the one with this number, counted from 0.
        before: u64,
    },
    /// The machine was started anew: what no `Synced` covered until here may be lost, and none that follows covers it.
    Restarted {
        /// Its present run.
        boot: [u8; 16],
    },
    /// What was stored of a file is not to be trusted any more.
    FileDropped {
        /// Which file.
        file: FileNumber,
    },
    /// It is whole, under its final name.
    FileDone {
        /// Which file.
        file: FileNumber,
        /// Hash over the whole.
        root: FileHash,
    },
    /// The copy is complete.
    Finished,
}

impl Record {
    fn is_within_bounds(&self) -> bool {
        match self {
            Record::FileBegun { path, temporary, block_bytes, .. } => {
                path.len() <= ENTRY_PATH_BYTES_MAX && temporary.len() <= NAME_BYTES_MAX && *block_bytes > 0
            }
            Record::BlocksStored { blocks, .. } => blocks.len() <= BLOCKS_PER_RECORD_MAX,
            Record::Synced { .. } | Record::Restarted { .. } => true,
            Record::FileDropped { .. } | Record::FileDone { .. } | Record::Finished => true,
        }
    }
}

/// Which copy a journal is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity([u8; 32]);

impl Identity {
    /// Of the names of source and destination and a hash of the options that matter.
    pub fn new(source: &[u8], destination: &[u8], options: &[u8; 32]) -> Identity {
        let mut hash = Sha256::new_with_prefix(b"linerate copy 1");
        for part in [source, destination, options] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Identity(hash.finalize().into())
    }

    /// As it stands in the header.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file or its system failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Written by another version.
    #[error(
        "{name}: is a journal of version {version}, this program knows {VERSION}: finish with the one that began it, or remove it"
    )]
    Version {
        /// The file.
        name: String,
        /// Its version.
        version: u32,
    },
    /// Not a journal.
    #[error("{name}: is no journal of a copy: move it away, or name another place")]
    Foreign {
        /// The file.
        name: String,
    },
    /// Of another copy.
    #[error("{name}: is the journal of another copy: finish that one, or remove it")]
    OtherCopy {
        /// The file.
        name: String,
    },
    /// A record that nobody could read back.
    #[error("{name}: a record is out of bounds and was not written")]
    Bounds {
        /// The file.
        name: String,
    },
    /// Failed before.
    #[error("{name}: failed before, nothing is added any more: start the copy again")]
    Broken {
        /// The file.
        name: String,
    },
}

/// How a journal was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// An earlier run of this copy began it, and did not come to its end: whatever it says, that run may have left
    /// temporaries of which it says nothing.
    pub is_resumed: bool,
    /// Bytes that were cut off its end, as they were torn or damaged.
    pub cut_bytes: u64,
    /// What it held was dropped: its blocks were not synced, and the machine was started anew since.
    pub is_outdated: bool,
}

/// A journal that is open for appending.
#[derive(Debug)]
pub struct Journal<S: Storage = FileStorage> {
    storage: S,
    salt: [u8; SUM_BYTES],
    identity: Identity,
    /// Where the next record goes.
    end: u64,
    /// How many records there are.
    count: u64,
    /// A write or sync failed: what is in the file past `end` is unknown.
    is_broken: bool,
    opened: Opened,
    state: State,
}

impl<S: Storage> Journal<S> {
    /// Use what is there of this copy, or begin anew. `is_durable` says whether blocks are ever synced; if not, nothing
    /// is believed once the machine was started anew. `boot` identifies its present run.
    pub fn open_or_create(
        storage: S,
        identity: Identity,
        is_durable: bool,
        boot: [u8; 16],
    ) -> Result<Self, JournalError> {
        let end = HEADER_BYTES as u64;
        let (state, opened) = (State::default(), Opened::default());
        let mut journal = Journal { storage, salt: [0; 8], identity, end, count: 0, is_broken: false, opened, state };
        let len = journal.storage.len()?;
        journal.opened.is_resumed = len > 0;
        match journal.read_header(len, is_durable, boot)? {
            Found::Usable(began) => {
                let is_same_boot = journal.replay(len, began, boot)?;
                journal.opened.cut_bytes = len - journal.end;
                journal.storage.truncate(journal.end)?;
                if !is_same_boot {
                    journal.append(&[Record::Restarted { boot }])?;
                }
            }
            found => {
                journal.opened.cut_bytes = if found == Found::Torn { len } else { 0 };
                journal.opened.is_outdated = found == Found::Outdated;
                journal.begin(is_durable, boot)?;
            }
        }
        Ok(journal)
    }

    /// How it was found.
    pub fn opened(&self) -> Opened {
        self.opened
    }

    /// What it says, with all that was appended since.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// How many records it holds: the number of the next.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Which copy it is of.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Add records. They outlast the program from now on, and a power failure once [`Journal::sync`] has returned.
    pub fn append(&mut self, records: &[Record]) -> Result<(), JournalError> {
        let mut bytes = Vec::new();
        for record in records {
            self.frame(record, &mut bytes)?;
            if bytes.len() >= RECORD_BYTES_MAX {
                self.write(&bytes)?;
                bytes.clear();
            }
        }
        self.write(&bytes)?;
        self.count += records.len() as u64;
        records.iter().for_each(|record| self.state.apply(record));
        Ok(())
    }

    /// Wait until all that was appended outlasts a power failure. After a failure nothing can be added: the kernel
    /// says once that writes were lost, and a second sync would succeed over the hole.
    pub fn sync(&mut self) -> Result<(), JournalError> {
        self.usable()?;
        self.storage.sync().inspect_err(|_| self.is_broken = true)?;
        Ok(())
    }

    /// The copy is complete: say so, and remove the file.
    pub fn remove(&mut self) -> Result<(), JournalError> {
        self.append(&[Record::Finished])?;
        // Nothing may come after that.
        self.is_broken = true;
        Ok(self.storage.remove()?)
    }

    fn usable(&self) -> Result<(), JournalError> {
        if self.is_broken { Err(JournalError::Broken { name: self.storage.name() }) } else { Ok(()) }
    }

    fn frame(&self, record: &Record, bytes: &mut Vec<u8>) -> Result<(), JournalError> {
        let body = postcard::to_stdvec(record).unwrap_or_default();
        if body.is_empty() || body.len() > RECORD_BYTES_MAX || !record.is_within_bounds() {
            return Err(JournalError::Bounds { name: self.storage.name() });
        }
        let at = self.end + bytes.len() as u64;
        bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&sum(&self.salt, at, &body));
        bytes.extend_from_slice(&body);
        Ok(())
    }

    /// All or nothing: a record that was written in part is overwritten by the next, or cut by the next run.
    fn write(&mut self, bytes: &[u8]) -> Result<(), JournalError> {
        self.usable()?;
        self.storage.write_at(self.end, bytes).inspect_err(|_| self.is_broken = true)?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    fn begin(&mut self, is_durable: bool, boot: [u8; 16]) -> Result<(), JournalError> {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt)
            .map_err(|_| StoreError::unfit(&self.storage.name(), "no random number can be had"))?;
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&u32::from(is_durable).to_le_bytes());
        for part in [self.identity.0.as_slice(), &salt, &boot] {
            header.extend_from_slice(part);
        }
        self.salt = sum(&[], 0, &header);
        header.extend_from_slice(&self.salt);
        self.end = HEADER_BYTES as u64;
        self.storage.truncate(0)?;
        self.storage.write_at(0, &header)?;
        self.sync()
    }

    fn read_header(&mut self, len: u64, is_durable: bool, boot: [u8; 16]) -> Result<Found, JournalError> {
        let mut bytes = [0; HEADER_BYTES];
        let got = usize::try_from(len).map_or(HEADER_BYTES, |len| len.min(HEADER_BYTES));
        self.storage.read_at(0, &mut bytes[..got])?;
        let name = || self.storage.name();
        // What a filesystem leaves of a file that was never synced: nothing, a part, or zeros.
        if got == 0 || bytes.iter().all(|byte| *byte == 0) {
            return Ok(Found::Nothing);
        }
        let magic = got.min(MAGIC.len());
        if bytes[..magic] != MAGIC[..magic] {
            return Err(JournalError::Foreign { name: name() });
        }
        let version = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        if got >= 12 && version != VERSION {
            return Err(JournalError::Version { name: name(), version });
        }
        let (header, stored) = bytes.split_at(HEADER_BYTES - SUM_BYTES);
        self.salt = sum(&[], 0, header);
        if got < HEADER_BYTES || stored != self.salt {
            return Ok(Found::Torn);
        }
        if header[16..48] != self.identity.0 {
            return Err(JournalError::OtherCopy { name: name() });
        }
        let was_durable = header[12..16] == 1u32.to_le_bytes();
        let mut began = [0; 16];
        began.copy_from_slice(&header[64..80]);
        let is_trusted = was_durable || began == boot;
        Ok(if is_trusted && was_durable == is_durable { Found::Usable(began) } else { Found::Outdated })
    }

    /// Take in record after record until one does not check out. Says whether the last was written in this boot.
    fn replay(&mut self, len: u64, began: [u8; 16], boot: [u8; 16]) -> Result<bool, JournalError> {
        let mut replay = Replay::new(began);
        while let Some((record, next)) = self.record_at(self.end, len)? {
            replay.take(&mut self.state, self.count, record);
            self.end = next;
            self.count += 1;
        }
        Ok(replay.finish(&mut self.state, boot))
    }

    /// The record at a place, and where the next begins; nothing if there is no whole one.
    fn record_at(&self, at: u64, len: u64) -> Result<Option<(Record, u64)>, JournalError> {
        let mut prefix = [0; PREFIX_BYTES];
        if len - at < PREFIX_BYTES as u64 {
            return Ok(None);
        }
        self.storage.read_at(at, &mut prefix)?;
        let body_len = u32::from_le_bytes([prefix[0], prefix[1], prefix[2], prefix[3]]) as usize;
        let next = at + (PREFIX_BYTES + body_len) as u64;
        if body_len == 0 || body_len > RECORD_BYTES_MAX || next > len {
            return Ok(None);
        }
        let mut body = vec![0; body_len];
        self.storage.read_at(at + PREFIX_BYTES as u64, &mut body)?;
        if sum(&self.salt, at, &body) != prefix[4..] {
            return Ok(None);
        }
        match postcard::take_from_bytes::<Record>(&body) {
            Ok((record, [])) if record.is_within_bounds() => Ok(Some((record, next))),
            _ => Ok(None),
        }
    }
}

/// What is in the place of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    Torn,
    Outdated,
    /// And the boot in which it was begun.
    Usable([u8; 16]),
}

fn sum(salt: &[u8], at: u64, body: &[u8]) -> [u8; SUM_BYTES] {
    let mut hash = Sha256::new_with_prefix(salt);
    hash.update(at.to_le_bytes());
    hash.update((body.len() as u64).to_le_bytes());
    hash.update(body);
    let whole: [u8; 32] = hash.finalize().into();
    let mut start = [0; SUM_BYTES];
    start.copy_from_slice(&whole[..SUM_BYTES]);
    start
}

/// What identifies the present run of the machine. Where the kernel does not say it is another one each time, so that
/// only what was synced is believed.
pub fn boot_id() -> Result<[u8; 16], StoreError> {
    boot_id_in(Path::new("/proc/sys/kernel/random/boot_id"))
}

fn boot_id_in(file: &Path) -> Result<[u8; 16], StoreError> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let mut id = [0; 16];
    match text.trim() {
        "" => getrandom::fill(&mut id)
            .map_err(|_| StoreError::unfit("the journal of the copy", "no random number can be had"))?,
        said => id.copy_from_slice(&Sha256::digest(said.as_bytes())[..16]),
    }
    Ok(id)
}
