//! What is there already: whether it is the same, giving it its attributes, and reading back what was stored.

use std::os::fd::AsFd;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::{Landing, Ready, attributes, modified, place_of, shown, stat_of};
use crate::proto::manifest::{Entry, EntryKind};
use crate::proto::verify::FileHash;
use crate::store::StoreError;
use crate::store::confined::{Kind, Metadata, RelativePath};
use crate::store::hashing::FileHasher;
use crate::store::journal::Storage;

impl<S: Storage> Landing<S> {
    /// Whether a link is there as it should be: a symbolic one that leads to the same place since the same time, or
    /// another name of the same file.
    pub(super) fn is_same_link(&self, entry: &Entry, path: &RelativePath, found: &Metadata) -> bool {
        match (&entry.kind, found.kind) {
            (EntryKind::Symlink { target }, Kind::Symlink) => {
                let is_as_old = modified(&entry.attributes) == (found.modified_s, found.modified_ns);
                is_as_old && self.disk.root.read_link(path).is_ok_and(|found| found == *target)
            }
            (EntryKind::HardLink { path: first, .. }, Kind::File) => {
                let first = RelativePath::parse(first).and_then(|first| self.disk.root.metadata(&first));
                first.is_ok_and(|first| (first.device, first.inode) == (found.device, found.inode))
            }
            _ => false,
        }
    }

    /// Whether what is found has the mode, and the owner where that is wanted, of an entry.
    pub(super) fn is_described(&self, entry: &Entry, found: &Metadata) -> bool {
        let owner = attributes::owner(&entry.attributes, &self.options);
        let mode = attributes::mode(&entry.attributes, &self.options);
        found.mode & 0o7777 == mode && owner.is_none_or(|owner| owner == (found.uid, found.gid))
    }

    /// Whether a file with so many names may get other attributes. In a served folder not if it has several: one of
    /// them may lie outside.
    pub(super) fn may_describe(&self, names: u64) -> bool {
        !self.options.is_served || names <= 1
    }

    /// Whether a file that is there can stay: it has the attributes of the entry, or may be given them.
    pub fn can_describe(&self, entry: &Entry, found: &Metadata) -> bool {
        self.is_described(entry, found) || self.may_describe(found.links)
    }

    /// Give a file that is there the attributes of its entry.
    pub fn describe(&self, entry: &Entry) -> Result<(), StoreError> {
        let path = place_of(entry)?;
        self.disk.describe(&path)?;
        let file = self.disk.root.open_plain(&path)?;
        // It may have got another name since it was looked at.
        if !self.may_describe(stat_of(&file, || shown(entry))?.st_nlink) {
            return Err(StoreError::unfit(&shown(entry), "has several names: it cannot be changed, only replaced"));
        }
        attributes::set(&file, entry, None, &self.options)
    }

    /// What files hash to that are ready, read back from the device as far as the system lets us: they are synced and
    /// their pages dropped first. In memory (tmpfs) there is nothing else to read than what was written.
    pub fn reread(&self, batch: &[Ready]) -> Result<Vec<Result<FileHash, StoreError>>, StoreError> {
        self.disk.sync_all(&self.filesystem)?;
        let mut hasher = FileHasher::default();
        Ok(batch.iter().map(|ready| self.reread_one(ready, &mut hasher)).collect())
    }

    fn reread_one(&self, ready: &Ready, hasher: &mut FileHasher) -> Result<FileHash, StoreError> {
        let name = ready.target.to_string();
        let file = self.disk.root.open_plain(&ready.temporary).map_err(|error| error.about(&name))?;
        // On another filesystem in the tree it was not synced yet.
        file.sync_data().map_err(|error| StoreError::system(&name, "cannot be synced", error))?;
        let _ = posix_fadvise(file.as_fd(), 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        hasher.file(&file, &name, &|_| {}).map(|hashed| hashed.hash)
    }
}
