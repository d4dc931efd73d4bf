//! Bytes that come from a file of this machine without passing through us: shared blocks, and copies by the kernel.
//!
//! Whether they are right is not judged here, as nowhere in a landing. What cannot be done this way is said, and changes
//! nothing: the caller then reads and writes.

use std::fs::File;

use super::disk::Operation;
use super::{Incoming, Landing, LandingError, attributes, shown};
use crate::proto::manifest::Entry;
use crate::store::StoreError;
use crate::store::journal::Storage;
use crate::sys::sharing;

impl<S: Storage> Landing<S> {
    /// Begin a file that shares all blocks of `source`, so that nothing has to be written; `None` if these two cannot,
    /// or if some of it is here already. Its folder has to be there.
    ///
    /// The blocks are on the disk once: what damages one file damages both.
    pub fn begin_shared(
        &self,
        entry: &Entry,
        block_bytes: u64,
        source: &File,
    ) -> Result<Option<Incoming>, LandingError> {
        if self.with_journal(|journal| journal.state().partial(&entry.path).is_some()) {
            return Ok(None);
        }
        let temporary = self.temporary(&super::place_of(entry)?)?;
        let file = self.disk.create(&temporary, attributes::OWNER_ONLY).map_err(|error| error.about(&shown(entry)))?;
        let shared = self.disk.share(&temporary, source, &file);
        let begun = match shared.map_err(|error| error.about(&shown(entry))) {
            // Holes are as in the source: nothing is reserved, and none is to be made.
            Ok(true) => self.begin_with(entry, file, &temporary, (block_bytes, super::incoming::Room::Taken)),
            Ok(false) => {
                self.disk.remove(&temporary).map_err(|error| error.about(&shown(entry)))?;
                return Ok(None);
            }
            Err(error) => Err(error.into()),
        };
        match begun {
            Ok(incoming) => {
                incoming.claim_whole();
                Ok(Some(incoming))
            }
            Err(error) => {
                let _ = self.disk.remove(&temporary);
                Err(error)
            }
        }
    }

    /// Have the kernel copy a range of `source` to the same place of the file, as [`Landing::write_at`] would; `false`
    /// if these two cannot, or if holes are to be made, which only one who sees the bytes can do.
    pub fn copy_at(&self, incoming: &Incoming, at: u64, source: &File, len: u64) -> Result<bool, StoreError> {
        let mut is_copied = true;
        self.write_with(incoming, at, len, |disk| {
            is_copied = !incoming.makes_holes() && disk.copy(&incoming.temporary, source, &incoming.file, at, len)?;
            Ok(is_copied)
        })?;
        Ok(is_copied)
    }
}

impl super::disk::Disk {
    /// Share all blocks of another file; false if it cannot be done.
    fn share(&self, path: &super::RelativePath, source: &File, file: &File) -> Result<bool, StoreError> {
        self.see_at(path, Operation::Share(path))?;
        match sharing::clone_whole(source, file) {
            Ok(()) => Ok(true),
            Err(error) if sharing::cannot(&error) => Ok(false),
            Err(error) => Err(StoreError::system(&path.to_string(), "cannot share the blocks of its source", error)),
        }
    }

    /// Copy a range; false if it cannot be done, or not as a whole.
    fn copy(
        &self,
        path: &super::RelativePath,
        source: &File,
        file: &File,
        mut at: u64,
        len: u64,
    ) -> Result<bool, StoreError> {
        self.see_at(path, Operation::Copy(path, at, len))?;
        let end = at + len;
        while at < end {
            match sharing::copy_range(source, file, at, usize::try_from(end - at).unwrap_or(usize::MAX)) {
                // The source became shorter, or is of a kind that has no length: reading it tells.
                Ok(0) => return Ok(false),
                Ok(n) => at += n as u64,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if sharing::cannot(&error) => return Ok(false),
                Err(error) => return Err(StoreError::system(&path.to_string(), "cannot be written", error)),
            }
        }
        Ok(true)
    }
}
