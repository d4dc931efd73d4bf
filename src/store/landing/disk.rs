//! Every operation of a landing that changes the disk, one function each.
//!
//! A witness sees each before it is done and may fail it; that is how tests lose power and fill disks. What an
//! operation is good for is decided elsewhere.

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};

use super::direct::Bypass;
use crate::store::StoreError;
use crate::store::confined::{RelativePath, Root};
use crate::store::journal::Record;
use crate::sys::raw;

const NO_ROOM: &str = "no room for the file: free some, or choose another destination";

/// Something that is about to be done.
#[derive(Debug)]
pub enum Operation<'a> {
    /// Make a file.
    Create(&'a RelativePath),
    /// Reserve so many bytes for it.
    Allocate(&'a RelativePath, u64),
    /// Write bytes at a place.
    Write(&'a RelativePath, u64, &'a [u8]),
    /// Have it share all blocks of another file.
    Share(&'a RelativePath),
    /// Copy so many bytes of another file to this place, which they have there.
    Copy(&'a RelativePath, u64, u64),
    /// Set its length, bytes.
    SetLen(&'a RelativePath, u64),
    /// Set owner, attributes, mode and time.
    Describe(&'a RelativePath),
    /// Sync the content of one file.
    SyncFile(&'a RelativePath),
    /// Sync the whole filesystem.
    SyncAll,
    /// Sync the entries of a folder.
    SyncFolder(&'a RelativePath),
    /// Give a file its final name; `true` replaces what has it.
    Rename(&'a RelativePath, &'a RelativePath, bool),
    /// Remove a file.
    Remove(&'a RelativePath),
    /// Make a folder.
    MakeFolder(&'a RelativePath),
    /// Make a symbolic or a further hard link.
    Link(&'a RelativePath),
    /// Append to the journal.
    Append(&'a [Record]),
    /// Sync the journal.
    SyncJournal,
}

/// Somebody who is told of every operation before it is done.
pub trait Witness: Debug + Send + Sync {
    /// An error takes the place of the operation.
    fn before(&self, operation: &Operation<'_>) -> io::Result<()>;
}

/// The root, seen by a witness.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) root: Arc<Root>,
    pub(super) witness: Option<Arc<dyn Witness>>,
}

impl Disk {
    /// Show an operation to the witness.
    pub(super) fn see(&self, name: &str, operation: &Operation<'_>) -> Result<(), StoreError> {
        let Some(witness) = &self.witness else { return Ok(()) };
        witness.before(operation).map_err(|error| StoreError::system(name, "failed", error))
    }

    pub(super) fn see_at(&self, path: &RelativePath, operation: Operation<'_>) -> Result<(), StoreError> {
        if self.witness.is_none() { Ok(()) } else { self.see(&path.to_string(), &operation) }
    }

    /// Make a file with these permission bits, as far as the umask allows them.
    pub(super) fn create(&self, path: &RelativePath, mode: u32) -> Result<File, StoreError> {
        self.see_at(path, Operation::Create(path))?;
        self.root.create_with_mode(path, mode)
    }

    /// Make a file without a name in the folder of a path.
    pub(super) fn create_unnamed(&self, path: &RelativePath, mode: u32) -> Result<File, StoreError> {
        self.see_at(path, Operation::Create(path))?;
        self.root.create_unnamed(path, mode)
    }

    /// Give it its name.
    pub(super) fn name_unnamed(&self, file: &File, path: &RelativePath) -> Result<(), StoreError> {
        self.see_at(path, Operation::Link(path))?;
        self.root.name_unnamed(file, path)
    }

    /// Reserve room, so that a full disk is said before the first byte. Its length does not change.
    ///
    /// In memory (tmpfs) that would make every page twice, the first time while nobody stores: there it is only looked
    /// whether there is room.
    pub(super) fn allocate(&self, path: &RelativePath, file: &File, len: u64, name: &str) -> Result<(), StoreError> {
        self.see(name, &Operation::Allocate(path, len))?;
        let len = i64::try_from(len).map_err(|_| StoreError::unfit(name, "is longer than any file"))?;
        let full = |error| StoreError::system(name, NO_ROOM, error);
        if let Ok(about) = fstatfs(file)
            && about.filesystem_type() == TMPFS_MAGIC
        {
            let free = about.blocks_available().saturating_mul(about.block_size() as u64);
            return if free < len as u64 { Err(full(Errno::ENOSPC)) } else { Ok(()) };
        }
        match fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, len) {
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS) | Ok(()) => Ok(()),
            Err(error) => Err(full(error)),
        }
    }

    pub(super) fn write(&self, path: &RelativePath, file: &File, at: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.see_at(path, Operation::Write(path, at, bytes))?;
        file.write_all_at(bytes, at).map_err(|error| StoreError::system(&path.to_string(), "cannot be written", error))
    }

    /// The same past the page cache, as far as that can be done.
    pub(super) fn write_past(
        &self,
        path: &RelativePath,
        (file, bypass): (&File, &Bypass),
        at: u64,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        self.see_at(path, Operation::Write(path, at, bytes))?;
        let failed = |error| StoreError::system(&path.to_string(), "cannot be written", error);
        let done = bypass.write(at, bytes).map_err(failed)?;
        file.write_all_at(&bytes[done..], at + done as u64).map_err(failed)
    }

    /// Have the device write what was written here, while more comes: a sync then has little left to wait for.
    pub(super) fn write_behind(&self, file: &File, at: u64, len: u64) {
        // It is advice: what cannot be begun now is written at the sync.
        let _ = raw::start_writeback(file.as_fd(), at, len);
    }

    pub(super) fn set_len(&self, path: &RelativePath, file: &File, len: u64) -> Result<(), StoreError> {
        self.see_at(path, Operation::SetLen(path, len))?;
        file.set_len(len).map_err(|error| StoreError::system(&path.to_string(), "cannot be given its length", error))
    }

    pub(super) fn describe(&self, path: &RelativePath) -> Result<(), StoreError> {
        self.see_at(path, Operation::Describe(path))
    }

    pub(super) fn sync_file(&self, path: &RelativePath, file: &File) -> Result<(), StoreError> {
        self.see_at(path, Operation::SyncFile(path))?;
        file.sync_data().map_err(|error| StoreError::system(&path.to_string(), "cannot be synced", error))
    }

    pub(super) fn sync_all(&self, filesystem: &File) -> Result<(), StoreError> {
        self.see("the destination", &Operation::SyncAll)?;
        nix::unistd::syncfs(filesystem)
            .map_err(|error| StoreError::system("the destination", "its filesystem cannot be synced", error))
    }

    pub(super) fn sync_folder(&self, path: &RelativePath) -> Result<(), StoreError> {
        self.see_at(path, Operation::SyncFolder(path))?;
        let folder = self.root.open_folder(path)?;
        folder.sync_all().map_err(|error| StoreError::system(&path.to_string(), "cannot be synced", error))
    }

    pub(super) fn rename(&self, from: &RelativePath, to: &RelativePath, replaces: bool) -> Result<(), StoreError> {
        self.see_at(to, Operation::Rename(from, to, replaces))?;
        if replaces { self.root.rename_replace(from, to) } else { self.root.rename_no_replace(from, to) }
    }

    pub(super) fn remove(&self, path: &RelativePath) -> Result<(), StoreError> {
        self.see_at(path, Operation::Remove(path))?;
        self.root.remove_file(path)
    }

    pub(super) fn make_folder(&self, path: &RelativePath) -> Result<(), StoreError> {
        self.see_at(path, Operation::MakeFolder(path))?;
        self.root.create_dir(path)
    }

    pub(super) fn link(&self, path: &RelativePath) -> Result<(), StoreError> {
        self.see_at(path, Operation::Link(path))
    }
}
