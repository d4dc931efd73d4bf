//! Folders, links, and what earlier runs left behind.
//!
//! Folders are made for their owner alone and get their mode and time at the end, deepest first: whatever is put
//! into one changes its time, and a mode without `w` would keep everything out.

use std::collections::HashSet;

use super::{Decision, Landing, attributes, place_of, shown};
use crate::proto::manifest::{Entry, EntryKind};
use crate::store::StoreError;
use crate::store::confined::{Kind, RelativePath};
use crate::store::journal::Storage;

/// Most folders that a sweep has still to look into at any time.
const SWEEP_FOLDERS_MAX: usize = 1 << 20;

impl<S: Storage> Landing<S> {
    /// Make a folder, open to its owner alone for now. One that is there is used; false if a file that has its name
    /// stays, as [`Landing::decide`] says.
    pub fn make_folder(&self, entry: &Entry) -> Result<bool, StoreError> {
        let path = place_of(entry)?;
        if path.is_root() {
            return Ok(true);
        }
        match self.decide(entry) {
            Decision::Have | Decision::Describe => return Ok(true),
            Decision::Skip(_) => return Ok(false),
            Decision::Fail(error) => return Err(error),
            Decision::Make | Decision::Resume { .. } => {}
        }
        self.disk.make_folder(&path)?;
        self.folder_changed(&path);
        Ok(true)
    }

    /// Give a folder at once those of its extended attributes that can go before all is in it, and take them out of
    /// the entry, as are those that it never gets. Left are ACLs, which let others in and are handed down to what is
    /// made in it, and labels of the system, which are handed down, too.
    pub fn begin_folder(&self, entry: &mut Entry) -> Result<(), StoreError> {
        let mut xattrs = std::mem::take(&mut entry.attributes.xattrs);
        xattrs.retain(|(key, _)| self.options.xattrs && attributes::is_ours(key, &self.options));
        let (now, later): (Vec<_>, Vec<_>) = xattrs.into_iter().partition(|(key, _)| key.starts_with(b"user."));
        entry.attributes.xattrs = later;
        if now.is_empty() {
            return Ok(());
        }
        let path = place_of(entry)?;
        self.disk.describe(&path)?;
        let folder = self.disk.root.open_folder(&path)?;
        now.iter().try_for_each(|(key, value)| attributes::set_xattr(&folder, entry, (key, value), &self.options))
    }

    /// Give folders their owner, mode and time when all is in them, in this order, which has to be the deepest first.
    /// Those that failed are told.
    pub fn finish_folders(
        &self,
        deepest_first: impl Iterator<Item = Entry>,
        failed: &mut dyn FnMut(Entry, StoreError),
    ) -> Result<(), StoreError> {
        self.sync_folders()?;
        for entry in deepest_first {
            if let Err(error) = self.finish_folder(&entry) {
                failed(entry, error);
            }
        }
        Ok(())
    }

    fn finish_folder(&self, entry: &Entry) -> Result<(), StoreError> {
        let path = place_of(entry)?;
        self.disk.describe(&path)?;
        let folder = self.disk.root.open_folder(&path)?;
        attributes::set(&folder, entry, None, &self.options)?;
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
        let temporary = self.temporary(&place_of(entry)?)?;
        let made = self.disk.link(&temporary).and_then(|()| self.disk.root.create_symlink(target, &temporary));
        made.map_err(|error| error.about(&shown(entry)))?;
        let described = attributes::set_of_symlink(&self.disk.root, &temporary, entry, &self.options);
        self.place_link(&temporary, entry, described)
    }

    /// Give the file of `to`, which has landed, one more name; false if what has it stays.
    pub fn make_hard_link(&self, entry: &Entry, to: &Entry) -> Result<bool, StoreError> {
        let temporary = self.temporary(&place_of(entry)?)?;
        let from = place_of(to)?;
        let made = self.disk.link(&temporary).and_then(|()| self.disk.root.create_hard_link(&from, &temporary));
        made.map_err(|error| error.about(&shown(entry)))?;
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
        let placed = placed.map_err(|error| error.about(&shown(entry)));
        if !matches!(placed, Ok(true)) {
            let _ = self.disk.remove(temporary);
        }
        placed
    }

    /// Remove what earlier runs of this copy left in the tree and the journal knows nothing of: in the root folder
    /// itself, and in and below the named ones. Call it before anything is begun. Says how many went.
    pub fn sweep(&self, tops: &[RelativePath]) -> Result<u64, StoreError> {
        let known = self.known_temporaries();
        let (mut ahead, mut swept) = (Vec::new(), 0);
        if !tops.iter().any(RelativePath::is_root) {
            swept += self.sweep_folder(&RelativePath::root(), &known, None)?;
        }
        ahead.extend(tops.iter().filter(|top| self.is_folder(top)).cloned());
        while let Some(folder) = ahead.pop() {
            swept += self.sweep_folder(&folder, &known, Some(&mut ahead))?;
        }
        Ok(swept)
    }

    /// Sweep one folder, and tell those in it, if that is wanted.
    fn sweep_folder(
        &self,
        folder: &RelativePath,
        known: &HashSet<RelativePath>,
        mut ahead: Option<&mut Vec<RelativePath>>,
    ) -> Result<u64, StoreError> {
        let entries = match self.disk.root.read_dir_once(folder) {
            Ok(entries) => entries,
            // One that cannot be listed cannot have got a temporary either.
            Err(_) if !folder.is_root() => return Ok(0),
            Err(error) => return Err(error),
        };
        let mut swept = 0;
        for found in entries {
            let found = found?;
            if found.kind == Kind::Directory {
                let ahead = ahead.as_mut().filter(|ahead| ahead.len() < SWEEP_FOLDERS_MAX);
                if let Some(ahead) = ahead {
                    ahead.extend(folder.join(&found.name));
                }
            } else if found.name.starts_with(self.prefix.as_bytes()) {
                let path = folder.join(&found.name)?;
                if !known.contains(&path) {
                    self.disk.remove(&path)?;
                    swept += 1;
                }
            }
        }
        Ok(swept)
    }

    /// Remove the temporaries that the journal knows: of files that were begun and that the source has no more.
    pub(super) fn drop_partials(&self) {
        for path in self.partials() {
            let _ = self.disk.remove(&path);
        }
    }

    /// The temporaries that the journal knows and that are there: one that has got its name meanwhile is not.
    pub(super) fn partials(&self) -> impl Iterator<Item = RelativePath> {
        self.known_temporaries().into_iter().filter(|path| {
            let name = path.as_bytes().rsplit(|byte| *byte == b'/').next();
            let is_ours = name.is_some_and(|name| name.starts_with(self.prefix.as_bytes()));
            is_ours && self.disk.root.metadata(path).is_ok()
        })
    }

    /// Where the temporaries are that the journal knows.
    fn known_temporaries(&self) -> HashSet<RelativePath> {
        let journal = self.journal();
        let path_of = |path: &[u8], temporary: &[u8]| RelativePath::parse(path).ok()?.parent()?.join(temporary).ok();
        journal.state().partials().filter_map(|(path, partial)| path_of(path, &partial.temporary)).collect()
    }

    fn is_folder(&self, path: &RelativePath) -> bool {
        self.disk.root.metadata(path).is_ok_and(|found| found.kind == Kind::Directory)
    }
}
