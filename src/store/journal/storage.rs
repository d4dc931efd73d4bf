//! Where a journal's bytes lie: a private file, or, in tests, something that fails as disks do.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::store::StoreError;
use crate::text::printable;

/// Bytes that can be written, synced and read again.
pub trait Storage {
    /// What a person knows it by.
    fn name(&self) -> String;
    /// How many bytes there are.
    fn len(&self) -> Result<u64, StoreError>;
    /// Whether there are none.
    fn is_empty(&self) -> Result<bool, StoreError> {
        Ok(self.len()? == 0)
    }
    /// Fill `into` with what stands at `at`.
    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<(), StoreError>;
    /// Write all of `bytes` at `at`.
    fn write_at(&mut self, at: u64, bytes: &[u8]) -> Result<(), StoreError>;
    /// Wait until all that was written outlasts a power failure, its name too.
    fn sync(&mut self) -> Result<(), StoreError>;
    /// Cut everything from `len` on.
    fn truncate(&mut self, len: u64) -> Result<(), StoreError>;
    /// It is not needed any more.
    fn remove(&mut self) -> Result<(), StoreError>;
}

/// A file of mode 0600. While it is open no other process opens it as a journal.
#[derive(Debug)]
pub struct FileStorage {
    file: File,
    path: PathBuf,
    /// Its folder still has to be synced.
    is_new: bool,
}

impl FileStorage {
    /// Open it, or make it. Refused are a symbolic link, what is no regular file, and what others may write or own.
    pub fn open(path: &Path) -> Result<FileStorage, StoreError> {
        loop {
            if let Some(file) = FileStorage::lock(path, FileStorage::open_file(path)?)? {
                return Ok(FileStorage { file, path: path.to_path_buf(), is_new: true });
            }
        }
    }

    fn open_file(path: &Path) -> Result<File, StoreError> {
        let name = printable(path.as_os_str().as_bytes());
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC);
        let file = options.open(path).map_err(|error| StoreError::system(&name, "cannot be opened", error))?;
        let meta = file.metadata().map_err(|error| StoreError::system(&name, "cannot be looked at", error))?;
        let is_ours = meta.uid() == nix::unistd::geteuid().as_raw() && meta.mode() & 0o022 == 0;
        if !meta.is_file() || !is_ours {
            return Err(StoreError::unfit(&name, "is not a file that only you can write: remove it"));
        }
        Ok(file)
    }

    /// Keep others from it; nothing if the path is not of this file any more: an earlier run that came to its end
    /// removed it since it was opened, and what is written to it would be gone with this process.
    fn lock(path: &Path, file: File) -> Result<Option<File>, StoreError> {
        let name = printable(path.as_os_str().as_bytes());
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(StoreError::unfit(&name, "the same copy is running already: wait for it"));
            }
            Err(std::fs::TryLockError::Error(error)) => {
                return Err(StoreError::system(&name, "cannot be locked", error));
            }
        }
        let ours = file.metadata().map_err(|error| StoreError::system(&name, "cannot be looked at", error))?;
        let is_ours = |now: std::fs::Metadata| (now.dev(), now.ino()) == (ours.dev(), ours.ino());
        Ok(std::fs::symlink_metadata(path).is_ok_and(is_ours).then_some(file))
    }

    fn failed<T>(&self, what: &'static str, done: io::Result<T>) -> Result<T, StoreError> {
        done.map_err(|error| StoreError::system(&self.name(), what, error))
    }
}

impl Storage for FileStorage {
    fn name(&self) -> String {
        printable(self.path.as_os_str().as_bytes())
    }

    fn len(&self) -> Result<u64, StoreError> {
        self.failed("cannot be looked at", self.file.metadata().map(|meta| meta.len()))
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<(), StoreError> {
        self.failed("cannot be read", self.file.read_exact_at(into, at))
    }

    fn write_at(&mut self, at: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.failed("cannot be written", self.file.write_all_at(bytes, at))
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.failed("cannot be synced", self.file.sync_data())?;
        if self.is_new {
            let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            self.failed("its folder cannot be synced", File::open(folder).and_then(|folder| folder.sync_all()))?;
            self.is_new = false;
        }
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> Result<(), StoreError> {
        self.failed("cannot be cut", self.file.set_len(len))
    }

    fn remove(&mut self) -> Result<(), StoreError> {
        self.failed("cannot be removed", std::fs::remove_file(&self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_that_was_removed_between_opening_and_locking_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut earlier = FileStorage::open(&path).unwrap();
        let [opened, late] = [(); 2].map(|()| FileStorage::open_file(&path).unwrap());
        assert!(FileStorage::lock(&path, opened.try_clone().unwrap()).is_err(), "the earlier run has it");
        earlier.remove().unwrap();
        drop(earlier);
        assert!(FileStorage::lock(&path, opened).unwrap().is_none(), "nobody finds it any more");
        // Nor if the next run has begun its own.
        let mut next = FileStorage::open(&path).unwrap();
        assert!(FileStorage::lock(&path, late).unwrap().is_none());
        next.write_at(0, b"next").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"next");
    }
}
