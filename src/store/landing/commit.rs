//! From written to done: syncing, the journal, renaming, the folders; each once for a whole batch.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::{Durability, Existing, Incoming, Landing, LandingError, Ready, attributes};
use crate::proto::manifest::EntryId;
use crate::proto::verify::BlockHash;
use crate::store::StoreError;
use crate::store::confined::RelativePath;
use crate::store::journal::{BLOCKS_PER_RECORD_MAX, Record, Storage};

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
    /// Put these blocks of files into the journal, without waiting for the disk: they outlast the program, and a power
    /// failure after the next [`Landing::checkpoint`]. Blocks that are not written as a whole are left out.
    pub fn note(&self, files: &[(&Incoming, &[(u64, BlockHash)])]) -> Result<(), LandingError> {
        let mut records = Vec::new();
        for (incoming, blocks) in files {
            let whole: Vec<_> = blocks.iter().filter(|(index, _)| incoming.holds_block(*index)).copied().collect();
            let file = incoming.number;
            let parts = whole.chunks(BLOCKS_PER_RECORD_MAX).map(<[_]>::to_vec);
            records.extend(parts.map(|blocks| Record::BlocksStored { file, blocks }));
        }
        if records.is_empty() { Ok(()) } else { self.record(&records) }
    }

    /// [`Landing::note`], then make sure that all blocks of these files that were noted until now outlast a power
    /// failure. After a failure the files are lost: abandon them.
    pub fn checkpoint(&self, files: &[(&Incoming, &[(u64, BlockHash)])]) -> Result<(), LandingError> {
        self.note(files)?;
        if self.options.durability == Durability::None {
            return Ok(());
        }
        // Taken before the sync: what is noted while that goes on may or may not be in it.
        let before = self.journal().count();
        for (incoming, _) in files {
            if let Err(error) = self.disk.sync_file(&incoming.temporary, &incoming.file) {
                incoming.is_lost.store(true, Ordering::Relaxed);
                // Not even in this boot is what was noted of it to be believed.
                let _ = self.record(&[Record::FileDropped { file: incoming.number }]);
                return Err(error.about(&incoming.target.to_string()).into());
            }
        }
        let synced = files.iter().map(|(incoming, _)| Record::Synced { file: incoming.number, before });
        self.record(&synced.collect::<Vec<_>>())?;
        self.sync_journal()
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
            let id = ready.id;
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
                let synced = self.sync_one(ready).map_err(|error| error.about(&ready.target.to_string()));
                needs_all |= !synced?;
            }
        }
        if needs_all { self.disk.sync_all(&self.filesystem) } else { Ok(()) }
    }

    /// Sync one file; false if it cannot be opened for that, as with a mode of 0.
    fn sync_one(&self, ready: &Ready) -> Result<bool, StoreError> {
        if let Some((file, _)) = &ready.open {
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
        if let Some((file, entry)) = &ready.open {
            self.disk.describe(&ready.temporary).map_err(|error| error.about(&ready.target.to_string()))?;
            attributes::set(file, entry, None, &self.options)?;
        }
        self.rename(&ready.temporary, &ready.target)
    }

    /// Rename as the options say; false if what has the name is to stay.
    pub(super) fn rename(&self, from: &RelativePath, to: &RelativePath) -> Result<bool, StoreError> {
        let replaces = matches!(self.options.existing, Existing::Replace | Existing::KeepNewer);
        let renamed = self.disk.rename(from, to, replaces).map_err(|error| error.about(&to.to_string()));
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
