//! Where a copy lands: files come to their final names only when they are whole.
//!
//! # The order
//! A file is written under a hidden temporary name in its own folder, and what was written is noted in the journal;
//! from time to time the file is synced, then the journal says so, and is synced; then the file gets its owner, attributes, mode and time, is renamed, and its
//! folder is synced. Only then it is done. Small files go through the same in large batches, with one syncfs(2).
//! What a power failure leaves under a final name is therefore whole, and what the journal names as synced is on the disk.
//!
//! A failed sync is never tried again: the kernel reports lost writes once, so the temporaries of it go.
//!
//! Two entries of one run may have one path, as when two folders are merged. Each is written into a temporary of its
//! own, so that the name gets all of one of them: of that which is committed last.
//!
//! # What lives where
//! | file | what |
//! |---|---|
//! | `disk` | every operation that changes the disk, seen by a witness in tests |
//! | `direct` | writing past the page cache |
//! | `extents` | which parts of a file are written |
//! | `incoming` | one file while it is being written |
//! | `sharing` | what the kernel copies from another file, or shares with it |
//! | `commit` | syncing, the journal, renaming |
//! | `tree` | folders, links, leftovers |
//! | `present` | what is there already; reading back |
//! | `prune` | removing what the source does not have |
//! | `attributes` | owner, extended attributes, mode, time |
//!
//! Nothing here knows of peers, sockets or hashes beyond carrying them.

mod attributes;
mod commit;
mod direct;
mod disk;
mod extents;
mod incoming;
mod present;
mod prune;
mod sharing;
mod tree;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod tests;

use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::stat::{FileStat, fstat};

pub use commit::{Committed, SYNC_EACH_MAX};
pub use disk::{Operation, Witness};
pub use incoming::{Incoming, Ready};
pub use prune::Pruned;

use super::StoreError;
use super::confined::{Kind, Metadata, RelativePath, Root};
use super::journal::{FileNumber, FileStorage, Journal, JournalError, Record, Storage};
pub use crate::proto::copy::options::{Direct, Durability, Existing};
use crate::proto::manifest::{Entry, EntryId, EntryKind};
use crate::proto::verify::BlockHash;
use disk::Disk;

/// What every temporary name begins with.
const PREFIX: &str = ".lr-";

/// How a copy lands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LandingOptions {
    /// What outlasts a power failure.
    pub durability: Durability,
    /// What becomes of what is there.
    pub existing: Existing,
    /// Set owner and group, and with them set-uid, set-gid and sticky.
    pub owner: bool,
    /// Set extended attributes; those that give rights only if the owner is set too.
    pub xattrs: bool,
    /// Go on with files that an earlier run began. Not where two sources may have one path: the journal does not say
    /// which of them a part is of.
    pub resumes: bool,
    /// Whoever names the files may not change what lies outside the root: see [`crate::store::confined`].
    pub is_served: bool,
    /// Whether big files are written past the page cache.
    pub direct: Direct,
}

/// What is to be done about an entry.
#[derive(Debug)]
pub enum Decision {
    /// It is here already.
    Have,
    /// Its content is, with another mode or owner: see [`Landing::describe`].
    Describe,
    /// It has to be made.
    Make,
    /// It stays as it is, for this reason.
    Skip(&'static str),
    /// Some of it is here: these blocks, with their hashes as they were stored.
    Resume {
        /// Bytes of a block.
        block_bytes: u64,
        /// Index and hash of each.
        blocks: Vec<(u64, BlockHash)>,
    },
    /// It cannot be made.
    Fail(StoreError),
}

/// Who has a file of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    /// The entry that asked, from now on.
    Now,
    /// The entry that asked.
    Before,
    /// Another entry of this run.
    ByAnother,
}

/// Why a file could not land.
#[derive(Debug, thiserror::Error)]
pub enum LandingError {
    /// The destination refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The journal does.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl LandingError {
    /// The error without the name, for one who shows the name himself.
    pub fn reason(&self) -> String {
        match self {
            LandingError::Store(error) => error.reason(),
            LandingError::Journal(error) => error.to_string(),
        }
    }
}

/// The destination of a copy. Threads share one.
#[derive(Debug)]
pub struct Landing<S: Storage = FileStorage> {
    disk: Disk,
    options: LandingOptions,
    journal: Mutex<Journal<S>>,
    /// What the names of this copy's temporaries begin with.
    prefix: String,
    /// What the name of the next ends with.
    next_name: AtomicU64,
    /// Opened before anything is written: syncfs(2) reports what failed since then.
    filesystem: File,
    device: u64,
    /// Files without names cannot be had here, or not be named.
    no_unnamed: AtomicBool,
    /// Files of the journal that an entry of this run has been told of, or writes. No other may have them: it may
    /// have the same path and another content.
    taken: Mutex<HashMap<FileNumber, EntryId>>,
    /// Folders that got entries that are not synced.
    unsynced: Mutex<BTreeSet<RelativePath>>,
}

impl<S: Storage> Landing<S> {
    /// Land in `root`, going on where `journal` says.
    pub fn open(root: Arc<Root>, journal: Journal<S>, options: LandingOptions) -> Result<Self, LandingError> {
        Landing::open_witnessed(root, journal, options, None)
    }

    /// [`Landing::open`], with somebody who is told of every operation and may fail it.
    pub fn open_witnessed(
        root: Arc<Root>,
        journal: Journal<S>,
        options: LandingOptions,
        witness: Option<Arc<dyn Witness>>,
    ) -> Result<Self, LandingError> {
        let filesystem = root.open_folder(&RelativePath::root())?;
        let device = device_of(&filesystem, || ".".into())?;
        let tag: String = journal.identity().as_bytes()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let (disk, prefix) = (Disk { root, witness }, format!("{PREFIX}{tag}-"));
        let mut bits = [0; 8];
        getrandom::fill(&mut bits)
            .map_err(|_| StoreError::unfit("the destination", "no random number can be had for names in it"))?;
        Ok(Landing {
            disk,
            options,
            journal: Mutex::new(journal),
            prefix,
            next_name: AtomicU64::new(u64::from_le_bytes(bits)),
            filesystem,
            device,
            no_unnamed: AtomicBool::new(false),
            taken: Mutex::default(),
            unsynced: Mutex::default(),
        })
    }

    /// What is to be done about an entry. It is looked at itself, not what it may link to.
    pub fn decide(&self, entry: &Entry) -> Decision {
        let path = match place_of(entry) {
            Ok(path) => path,
            Err(error) => return Decision::Fail(error),
        };
        match self.disk.root.metadata(&path) {
            Ok(found) => self.decide_about(entry, &path, found),
            Err(StoreError::System { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => {
                self.missing(entry)
            }
            Err(error) => Decision::Fail(error),
        }
    }

    fn decide_about(&self, entry: &Entry, path: &RelativePath, found: Metadata) -> Decision {
        let fail = |why| Decision::Fail(StoreError::unfit(&path.to_string(), why));
        match (&entry.kind, found.kind) {
            (EntryKind::Folder, Kind::Directory) => return Decision::Have,
            (_, Kind::Directory) => return fail("is a folder, where a file is to be: move it away"),
            (EntryKind::Folder, Kind::Symlink) => {
                return fail("is a symbolic link, where a folder is to be: move it away");
            }
            // Whatever is in the folder would take its place, however new the file is.
            (EntryKind::Folder, _) if matches!(self.options.existing, Existing::Replace | Existing::KeepNewer) => {
                return fail("is a file, where a folder is to be: move it away");
            }
            (EntryKind::File { len, .. }, Kind::File) if found.len == *len && is_as_old(entry, &found) => {
                return self.decide_about_same(entry, path, &found);
            }
            _ if self.is_same_link(entry, path, &found) => return Decision::Have,
            _ => {}
        }
        self.decide_about_other(entry, path, &found)
    }

    /// Something else is there, or what may not be changed.
    fn decide_about_other(&self, entry: &Entry, path: &RelativePath, found: &Metadata) -> Decision {
        match self.options.existing {
            Existing::Replace => self.missing(entry),
            Existing::Skip => Decision::Skip("exists already"),
            Existing::Fail => {
                let why = "exists already: remove it, or choose what to do with --existing";
                Decision::Fail(StoreError::unfit(&path.to_string(), why))
            }
            Existing::KeepNewer if modified(&entry.attributes) > (found.modified_s, found.modified_ns) => {
                self.missing(entry)
            }
            Existing::KeepNewer => Decision::Skip("is newer than the source"),
        }
    }

    /// The file is there, as far as its length and time tell.
    fn decide_about_same(&self, entry: &Entry, path: &RelativePath, found: &Metadata) -> Decision {
        match self.options.existing {
            _ if self.is_described(entry, found) => Decision::Have,
            _ if self.may_describe(found.links) => Decision::Describe,
            // What has another name is made anew, so that nothing changes under that one.
            Existing::Replace | Existing::KeepNewer => self.missing(entry),
            Existing::Skip | Existing::Fail => self.decide_about_other(entry, path, found),
        }
    }

    /// Make it, or go on with a part of it.
    fn missing(&self, entry: &Entry) -> Decision {
        if !self.options.resumes {
            return Decision::Make;
        }
        let journal = self.journal();
        let Some(partial) = journal.state().partial(&entry.path) else { return Decision::Make };
        let is_same = partial.len == entry.bytes() && partial.modified == modified(&entry.attributes);
        if !is_same || partial.blocks.is_empty() || !matches!(entry.kind, EntryKind::File { .. }) {
            return Decision::Make;
        }
        let is_there = beside(entry, &partial.temporary).and_then(|path| self.disk.root.open_own(&path)).is_ok();
        if !is_there || self.take(partial.file, entry.id) == Taken::ByAnother {
            return Decision::Make;
        }
        Decision::Resume {
            block_bytes: partial.block_bytes,
            blocks: partial.blocks.iter().map(|(index, hash)| (*index, *hash)).collect(),
        }
    }

    /// Whether big files go past the page cache where the destination is, and why.
    pub fn direct(&self) -> (bool, &'static str) {
        direct::judge(self.options.direct, self.options.durability, &self.filesystem)
    }

    /// How the journal was found, and what it says.
    pub fn with_journal<T>(&self, look: impl FnOnce(&Journal<S>) -> T) -> T {
        look(&self.journal())
    }

    /// The copy is complete: the journal goes, and what only it would find again.
    pub fn complete(&self) -> Result<(), LandingError> {
        self.drop_partials();
        Ok(self.journal().remove()?)
    }

    /// The copy is over, and something of it did not come: what is here of that is kept for the next time.
    pub fn complete_in_part(&self) -> Result<(), LandingError> {
        if self.partials().next().is_none() {
            return self.complete();
        }
        if self.options.durability == Durability::None { Ok(()) } else { self.sync_journal() }
    }

    fn journal(&self) -> MutexGuard<'_, Journal<S>> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Have a file of the journal for an entry, unless another one has it.
    fn take(&self, file: FileNumber, id: EntryId) -> Taken {
        match self.taken().entry(file) {
            Slot::Vacant(slot) => {
                slot.insert(id);
                Taken::Now
            }
            Slot::Occupied(by) if *by.get() == id => Taken::Before,
            Slot::Occupied(_) => Taken::ByAnother,
        }
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<FileNumber, EntryId>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, records: &[Record]) -> Result<(), LandingError> {
        self.disk.see("journal", &Operation::Append(records))?;
        self.journal().append(records)?;
        let mut taken = self.taken();
        for record in records {
            // The journal has it no more, and no other file gets its number.
            if let Record::FileDropped { file } | Record::FileDone { file, .. } = record {
                taken.remove(file);
            }
        }
        Ok(())
    }

    fn sync_journal(&self) -> Result<(), LandingError> {
        self.disk.see("journal", &Operation::SyncJournal)?;
        Ok(self.journal().sync()?)
    }

    /// A new name beside a path. It begins somewhere at random in each run and is counted up from there, so it is new
    /// unless somebody makes it so, who then only keeps this one file from being made. It is short enough for the
    /// kernel to keep it inside a dentry.
    fn temporary(&self, target: &RelativePath) -> Result<RelativePath, StoreError> {
        let number = self.next_name.fetch_add(1, Ordering::Relaxed);
        target.beside(format!("{}{number:016x}", self.prefix).as_bytes())
    }

    fn folder_changed(&self, path: &RelativePath) {
        if self.options.durability != Durability::Full {
            return;
        }
        let mut unsynced = self.unsynced.lock().unwrap_or_else(PoisonError::into_inner);
        if path.parent_bytes().is_some_and(|parent| !unsynced.contains(parent)) {
            unsynced.extend(path.parent());
        }
    }
}

/// The parsed path of an entry.
fn place_of(entry: &Entry) -> Result<RelativePath, StoreError> {
    if entry.path.is_empty() { Ok(RelativePath::root()) } else { RelativePath::parse(&entry.path) }
}

/// A name in the same folder as an entry.
fn beside(entry: &Entry, name: &[u8]) -> Result<RelativePath, StoreError> {
    place_of(entry)?.beside(name)
}

fn shown(entry: &Entry) -> String {
    crate::text::printable(&entry.path)
}

fn modified(attributes: &crate::proto::manifest::Attributes) -> (i64, u32) {
    (attributes.modified_s, attributes.modified_ns)
}

fn is_as_old(entry: &Entry, found: &Metadata) -> bool {
    modified(&entry.attributes) == (found.modified_s, found.modified_ns)
}

fn device_of(file: &File, name: impl Fn() -> String) -> Result<u64, StoreError> {
    stat_of(file, name).map(|stat| stat.st_dev)
}

fn stat_of(file: &File, name: impl Fn() -> String) -> Result<FileStat, StoreError> {
    fstat(file).map_err(|error| StoreError::system(&name(), "cannot be looked at", error))
}
