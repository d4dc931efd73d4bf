//! Folders, links, the lock of a destination, and what earlier runs left behind.
//!
//! Folders are made for their owner alone and get their mode and time at the end, deepest first: whatever is put
//! into one changes its time, and a mode without `w` would keep everything out.

use std::fs::{File, TryLockError};

use super::{Existing, Landing, attributes, place_of, shown};
use crate::proto::manifest::{Entry, EntryKind};
use crate::store::StoreError;
use crate::store::confined::{Kind, Links, RelativePath, Root};
use crate::store::journal::Storage;

/// Most folders that a sweep has still to look into at any time.
const SWEEP_FOLDERS_MAX: usize = 1 << 20;

/// Keeps a second copy out of a destination. It is held on the folder itself, so nothing is left behind.
#[derive(Debug)]
pub struct Lock {
    _folder: File,
}

impl Lock {
    /// Take it, or say who has it. Filesystems without locks let everybody in.
    ///
    /// Only copies to the very same folder see each other, not one to a folder in it.
    pub fn take(root: &Root) -> Result<Lock, StoreError> {
        let folder = root.open_folder(&RelativePath::root())?;
        match folder.try_lock() {
            Err(TryLockError::WouldBlock) => {
                Err(StoreError::unfit("the destination", "another copy to it is running: wait for it"))
            }
            Ok(()) | Err(TryLockError::Error(_)) => Ok(Lock { _folder: folder }),
        }
    }
}

impl<S: Storage> Landing<S> {
    /// Make a folder, open to its owner alone for now. One that is there is used.
    pub fn make_folder(&self, entry: &Entry) -> Result<(), StoreError> {
        let path = place_of(entry)?;
        if path.is_root() {
            return Ok(());
        }
        match self.disk.root.metadata(&path).map(|found| found.kind) {
            Ok(Kind::Directory) => return Ok(()),
            Ok(Kind::File) if self.options.existing == Existing::Replace => self.disk.remove(&path)?,
            Ok(_) => return Err(StoreError::unfit(&shown(entry), "is no folder, where one is to be: move it away")),
            Err(_) => {}
        }
        self.disk.make_folder(&path)?;
        self.folder_changed(&path);
        Ok(())
    }

    /// Give folders their owner, mode and time, deepest first, when all is in them. Those that failed are told.
    pub fn finish_folders(&self, entries: &[Entry]) -> Result<Vec<(Entry, StoreError)>, StoreError> {
        self.sync_folders()?;
        let mut deepest: Vec<&Entry> = entries.iter().collect();
        // Whatever lies in a folder has a longer path than it.
        deepest.sort_by_key(|entry| std::cmp::Reverse(entry.path.len()));
        let mut failed = Vec::new();
        for entry in deepest {
            if let Err(error) = self.finish_folder(entry) {
                failed.push((entry.clone(), error));
            }
        }
        Ok(failed)
    }

    fn finish_folder(&self, entry: &Entry) -> Result<(), StoreError> {
        let path = place_of(entry)?;
        self.disk.describe(&path)?;
        let folder = self.disk.root.open_folder(&path)?;
        attributes::set(&folder, &shown(entry), &entry.attributes, &self.options)?;
        if self.options.durability != super::Durability::Full {
            return Ok(());
        }
        folder.sync_all().map_err(|error| StoreError::system(&shown(entry), "cannot be synced", error))
    }

    /// Make a symbolic link; false if what has its name stays. Its folder is synced with the next commit.
    pub fn make_symlink(&self, entry: &Entry) -> Result<bool, StoreError> {
        let EntryKind::Symlink { target } = &entry.kind else {
            return Err(StoreError::unfit(&shown(entry), "is no symbolic link"));
        };
        let temporary = self.temporary(entry)?;
        self.disk.link(&temporary)?;
        self.disk.root.create_symlink(target, &temporary)?;
        let (owner, time) = (attributes::owner(&entry.attributes, &self.options), attributes::time(&entry.attributes));
        let described = self.disk.root.describe_symlink(&temporary, owner, time);
        self.place_link(&temporary, entry, described)
    }

    /// Give the file of `to`, which has landed, one more name; false if what has it stays.
    pub fn make_hard_link(&self, entry: &Entry, to: &Entry) -> Result<bool, StoreError> {
        let temporary = self.temporary(entry)?;
        self.disk.link(&temporary)?;
        self.disk.root.create_hard_link(&place_of(to)?, &temporary)?;
        let placed = self.place_link(&temporary, entry, Ok(()));
        // rename(2) does nothing if both names are the same file already.
        let _ = self.disk.root.remove_file(&temporary);
        placed
    }

    fn place_link(
        &self,
        temporary: &RelativePath,
        entry: &Entry,
        before: Result<(), StoreError>,
    ) -> Result<bool, StoreError> {
        let placed = before.and_then(|()| self.rename(temporary, &place_of(entry)?));
        if !matches!(placed, Ok(true)) {
            let _ = self.disk.remove(temporary);
        }
        placed
    }

    /// Remove what earlier runs of this copy left in the tree and the journal knows nothing of. Call it before
    /// anything is begun. Says how many went.
    pub fn sweep(&self) -> Result<u64, StoreError> {
        let (mut ahead, mut swept) = (vec![RelativePath::root()], 0);
        while let Some(folder) = ahead.pop() {
            let entries = match self.disk.root.read_dir(&folder, Links::Refused) {
                Ok(entries) => entries,
                // One that cannot be listed cannot have got a temporary either.
                Err(_) if !folder.is_root() => continue,
                Err(error) => return Err(error),
            };
            for found in entries {
                let found = found?;
                if found.kind == Kind::Directory && ahead.len() < SWEEP_FOLDERS_MAX {
                    ahead.extend(folder.join(&found.name));
                } else if found.kind != Kind::Directory && self.is_left_over(&folder, &found.name) {
                    self.disk.remove(&folder.join(&found.name)?)?;
                    swept += 1;
                }
            }
        }
        Ok(swept)
    }

    fn is_left_over(&self, folder: &RelativePath, name: &[u8]) -> bool {
        if !name.starts_with(self.prefix.as_bytes()) {
            return false;
        }
        let journal = self.journal();
        !journal.state().partials().any(|(path, partial)| {
            let of = RelativePath::parse(path).ok().and_then(|path| path.parent());
            partial.temporary == name && of.as_ref() == Some(folder)
        })
    }
}
