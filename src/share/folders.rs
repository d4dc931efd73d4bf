//! Folders that visitors make: with a file that comes in one that does not exist yet, or empty, by a request.
//!
//! What was made for a file is there for good once something has landed in it, and goes again if nothing does and it is
//! empty. Until then it is known here. Making one and looking whether it is empty exclude each other: nobody finds a
//! folder gone that was there when he began.

use std::collections::HashMap;
use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::incoming::{IncomingError, failed};
use super::target::Target;
use super::tree::Place;
use super::uploads::Grant;
use crate::store::StoreError;
use crate::store::confined::{Kind, RelativePath, Root};

/// Permission bits before the umask.
const FOLDER_MODE: u32 = 0o777;

/// By the root, and the path in it.
type Key = (usize, RelativePath);

/// Folders that were made and that nothing has landed in, each with what it has of the quota.
#[derive(Debug, Default)]
pub struct Folders(Mutex<HashMap<Key, Grant>>);

/// The same while nobody else makes or removes one.
pub struct Held<'a>(MutexGuard<'a, HashMap<Key, Grant>>);

fn key(root: &Arc<Root>, path: &RelativePath) -> Key {
    (Arc::as_ptr(root) as usize, path.clone())
}

/// A path, and those above it.
fn upwards(path: &RelativePath) -> impl Iterator<Item = RelativePath> {
    std::iter::successors(Some(path.clone()), RelativePath::parent).take_while(|path| !path.is_root())
}

fn make(root: &Root, path: &RelativePath, umask: u32) -> Result<bool, IncomingError> {
    match root.create_dir(path) {
        Ok(()) => {
            let folder = root.open_folder(path)?;
            folder.set_permissions(Permissions::from_mode(FOLDER_MODE & !umask)).map_err(failed)?;
            Ok(true)
        }
        Err(StoreError::System { error, .. }) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error.into()),
    }
}

impl Folders {
    /// Let nobody else make or remove one.
    pub fn hold(&self) -> Held<'_> {
        Held(self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether nothing is to be removed again.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.hold().0.is_empty()
    }

    /// Make a folder that somebody asks for, in one that is there. False if it is there already.
    pub fn add(&self, target: &Target, umask: u32, mut grant: Grant) -> Result<bool, IncomingError> {
        let mut held = self.hold();
        let (root, path) = (&target.place().root, target.at(target.name())?);
        root.refresh(&target.place().path);
        let is_new = make(root, &path, umask)?;
        if !is_new && root.metadata(&path)?.kind != Kind::Directory {
            return Err(IncomingError::Taken);
        }
        held.keep(&Place { root: root.clone(), path });
        if is_new {
            grant.keep();
        }
        Ok(is_new)
    }
}

impl Held<'_> {
    /// Make the folders below the one that files are added to, as far as they do not exist. Each counts as an entry of
    /// the quota that `like` is of.
    pub fn make(&mut self, target: &Target, umask: u32, like: &Grant) -> Result<(), IncomingError> {
        let Place { root, path: whole } = target.place();
        let there = whole.names().count().saturating_sub(target.makes());
        let mut path = RelativePath::root();
        for (at, name) in whole.names().enumerate() {
            path = path.join(name).map_err(|_| IncomingError::Name("it is too long"))?;
            if at + 1 == there {
                root.refresh(&path);
            }
            if at < there {
                continue;
            }
            let grant = like.another();
            let made = grant.ok_or(IncomingError::Entries).and_then(|grant| Ok((make(root, &path, umask)?, grant)));
            match made {
                Ok((true, grant)) => drop(self.0.insert(key(root, &path), grant)),
                Ok((false, _)) => {}
                Err(error) => {
                    self.leave(target.place());
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Something is there for good in a folder, and so are those above it.
    pub fn keep(&mut self, place: &Place) {
        for path in upwards(&place.path) {
            if let Some(mut grant) = self.0.remove(&key(&place.root, &path)) {
                grant.keep();
            }
        }
    }

    /// Nothing comes to a folder any more: it goes, and those above it, if they were made for that and are empty.
    pub fn leave(&mut self, place: &Place) {
        for path in upwards(&place.path) {
            let key = key(&place.root, &path);
            if !self.0.contains_key(&key) {
                continue;
            }
            match place.root.remove_dir(&path) {
                Ok(()) => drop(self.0.remove(&key)),
                // Its owner, or somebody else, was faster.
                Err(StoreError::System { error, .. }) if error.kind() == ErrorKind::NotFound => {
                    self.0.remove(&key);
                }
                Err(_) => return,
            }
        }
    }
}
