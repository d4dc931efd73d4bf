//! From written to done: syncing, the journal, renaming, the folders; each once for a whole batch.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::{Durability, Existing, Incoming, Landing, LandingError, Ready, attributes, shown};
use crate::proto::manifest::EntryId;
use crate::store::StoreError;
use crate::store::confined::RelativePath;
use crate::store::journal::{BLOCKS_PER_RECORD_MAX, Hash, Record, Storage};

/// Up to so many files each is synced alone; for more the whole filesystem is, which costs one flush of the disk.
pub const SYNC_EACH_MAX: usize = 16;

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Committed {
    /// Those that are done.
    pub landed: Vec<EntryId>,
    /// Those that stayed as they were, since something has their name.
    pub skipped: Vec<EntryId>,
    /// Those that failed, and why. Nothing of them is left.
    pub failed: Vec<(EntryId, StoreError)>,
}

impl<S: Storage> Landing<S> {
    /// Sync what was written of these files, then put these blocks of them into the journal. Blocks that are not
    /// written as a whole are left out. After a failure the files are lost: abandon them.
    pub fn checkpoint(&self, files: &[(&Incoming, &[(u64, Hash)])]) -> Result<(), LandingError> {
        let mut records = Vec::new();
        for (incoming, blocks) in files {
            // Before the sync: what is written while that goes on may or may not be in it.
            let whole: Vec<_> = blocks.iter().filter(|(index, _)| incoming.holds_block(*index)).copied().collect();
            let file = incoming.number;
            let parts = whole.chunks(BLOCKS_PER_RECORD_MAX).map(<[_]>::to_vec);
            records.extend(parts.map(|blocks| Record::BlocksStored { file, blocks }));
        }
        if self.options.durability != Durability::None {
            for (incoming, _) in files {
                let synced = self.disk.sync_file(&incoming.temporary, &incoming.file);
                synced.inspect_err(|_| incoming.is_lost.store(true, Ordering::Relaxed))?;
            }
        }
        self.record(&records)?;
        if self.options.durability == Durability::None { Ok(()) } else { self.sync_journal() }
    }

    /// Bring files to their final names. An error is one of the whole batch: of its files some may stand under their
    /// final names already, each of them whole, and no temporary is left. Errors of single files are in the answer.
    pub fn commit(&self, batch: Vec<Ready>) -> Result<Committed, LandingError> {
        if let Err(error) = self.sync_content(&batch) {
            for ready in batch {
                let _ = self.abandon_ready(ready);
            }
            return Err(error.into());
        }
        let (mut done, mut records) = (Committed::default(), Vec::new());
        for ready in batch {
            let id = ready.entry.id;
            let placed = self.place(&ready);
            match (&placed, ready.known) {
                (Ok(true), Some((file, root))) => records.push(Record::FileDone { file, root }),
                (Ok(true), None) => {}
                _ => drop(self.abandon_ready(ready)),
            }
            match placed {
                Ok(true) => done.landed.push(id),
                Ok(false) => done.skipped.push(id),
                Err(error) => done.failed.push((id, error)),
            }
        }
        self.sync_folders()?;
        if !records.is_empty() {
            self.record(&records)?;
            // Unsynced it only makes a file be looked at again: that it is there under its name says the same.
        }
        Ok(done)
    }

    fn sync_content(&self, batch: &[Ready]) -> Result<(), StoreError> {
        if self.options.durability == Durability::None {
            return Ok(());
        }
        let mut needs_all = batch.len() > SYNC_EACH_MAX;
        for ready in batch {
            if !needs_all || ready.device != self.device {
                needs_all |= !self.sync_one(ready)?;
            }
        }
        if needs_all { self.disk.sync_all(&self.filesystem) } else { Ok(()) }
    }

    /// Sync one file; false if it cannot be opened for that, as with a mode of 0.
    fn sync_one(&self, ready: &Ready) -> Result<bool, StoreError> {
        if let Some(file) = &ready.file {
            return self.disk.sync_file(&ready.temporary, file).map(|()| true);
        }
        match self.disk.root.open_plain(&ready.temporary) {
            Ok(file) => self.disk.sync_file(&ready.temporary, &file).map(|()| true),
            Err(_) if ready.device == self.device => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Describe and rename; false if what has the name is to stay.
    fn place(&self, ready: &Ready) -> Result<bool, StoreError> {
        if let Some(file) = &ready.file {
            self.disk.describe(&ready.temporary)?;
            attributes::set(file, &shown(&ready.entry), &ready.entry.attributes, &self.options)?;
        }
        self.rename(&ready.temporary, &ready.target)
    }

    /// Rename as the options say; false if what has the name is to stay.
    pub(super) fn rename(&self, from: &RelativePath, to: &RelativePath) -> Result<bool, StoreError> {
        let replaces = matches!(self.options.existing, Existing::Replace | Existing::KeepNewer);
        let renamed = self.disk.rename(from, to, replaces);
        match renamed {
            Ok(()) => {
                self.folder_changed(to);
                Ok(true)
            }
            Err(StoreError::System { error, .. })
                if self.options.existing == Existing::Skip && error.raw_os_error() == Some(libc::EEXIST) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Sync every folder that got an entry since the last time, once.
    pub(super) fn sync_folders(&self) -> Result<(), StoreError> {
        let folders: BTreeSet<RelativePath> =
            std::mem::take(&mut *self.unsynced.lock().unwrap_or_else(PoisonError::into_inner));
        if self.options.durability != Durability::Full {
            return Ok(());
        }
        folders.iter().try_for_each(|folder| self.disk.sync_folder(folder))
    }
}
