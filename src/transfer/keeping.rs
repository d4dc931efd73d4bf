//! Where the receiving end keeps what it needs to go on later: the journal of a copy, and the lock of its destination.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::destination::Destination;
use crate::proto::copy::options::{CopyOptions, Durability};
use crate::store::StoreError;
use crate::store::confined::RelativePath;
use crate::store::journal::{FileStorage, Identity, Journal, JournalError, boot_id};
use crate::trust::TrustError;
use crate::trust::places::Places;

/// Why a destination cannot be had now.
pub const TAKEN: &str = "another copy to it is running: wait for it";

/// Why nothing can be kept.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// There is no folder for it.
    #[error(transparent)]
    Place(#[from] TrustError),
    /// The file cannot be had.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is no journal of this copy.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl KeepError {
    /// Whether another copy has the destination.
    pub fn is_taken(&self) -> bool {
        matches!(self, KeepError::Store(StoreError::Unfit { why, .. }) if *why == TAKEN)
    }
}

/// Keeps other copies out of what this one writes. Its files go when it is dropped.
#[derive(Debug)]
pub struct DestinationLock {
    held: Vec<(PathBuf, File)>,
}

impl DestinationLock {
    /// Take it for every name that the copy may touch, or say that somebody else has one.
    pub fn take(places: &Places, destination: &Destination) -> Result<DestinationLock, KeepError> {
        let folder = places.copies()?;
        let mut lock = DestinationLock { held: Vec::new() };
        for top in &destination.tops {
            let key = blake3::hash(&[place_of(destination)?.as_slice(), top.as_bytes()].concat()).to_hex();
            let path = folder.join(format!("{}.lock", &key[..32]));
            let file = lock_file(&path, &top.to_string())?;
            lock.held.push((path, file));
        }
        Ok(lock)
    }
}

impl Drop for DestinationLock {
    fn drop(&mut self) {
        for (path, _) in &self.held {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn lock_file(path: &Path, shown: &str) -> Result<File, StoreError> {
    let failed = |what: &'static str| move |error| StoreError::System { name: shown.to_string(), what, error };
    loop {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(path).map_err(failed("the lock of the destination cannot be made"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Unfit { name: shown.to_string(), why: TAKEN });
            }
            // A filesystem without locks.
            Err(TryLockError::Error(_)) => return Ok(file),
        }
        // Whoever had it may have removed it meanwhile.
        let is_same = |now: std::fs::Metadata| file.metadata().is_ok_and(|ours| ours.ino() == now.ino());
        if std::fs::symlink_metadata(path).is_ok_and(is_same) {
            return Ok(file);
        }
    }
}

/// The journal of a copy from `source`, as the other end calls it, to this destination.
pub fn journal(
    places: &Places,
    source: &[u8],
    destination: &Destination,
    options: &CopyOptions,
) -> Result<Journal<FileStorage>, KeepError> {
    let identity = identity(source, destination, options)?;
    let storage = FileStorage::open(&journal_path(places, &identity)?)?;
    Ok(Journal::open_or_create(storage, identity, options.durability != Durability::None, boot_id()?)?)
}

/// Whether a copy from `source` to this destination was begun and not brought to its end.
pub fn has_journal(places: &Places, source: &[u8], destination: &Destination, options: &CopyOptions) -> bool {
    let path = identity(source, destination, options).map_err(KeepError::from);
    path.and_then(|identity| journal_path(places, &identity)).is_ok_and(|path| path.exists())
}

fn journal_path(places: &Places, identity: &Identity) -> Result<PathBuf, KeepError> {
    let name: String = identity.as_bytes()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(places.copies()?.join(format!("{name}.journal")))
}

fn identity(source: &[u8], destination: &Destination, options: &CopyOptions) -> Result<Identity, StoreError> {
    let tops: Vec<u8> = destination.tops.iter().flat_map(|top| [top.as_bytes(), b"\0"].concat()).collect();
    let place = [place_of(destination)?, tops].concat();
    Ok(Identity::new(source, &place, &options_hash(options)))
}

/// By what a folder is known, whatever it is called.
fn place_of(destination: &Destination) -> Result<Vec<u8>, StoreError> {
    let folder = destination.root.metadata(&RelativePath::root())?;
    Ok([folder.device.to_le_bytes(), folder.inode.to_le_bytes()].concat())
}

/// Of the options that make one journal useless to another copy.
fn options_hash(options: &CopyOptions) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&options.piece_bytes.to_le_bytes());
    hasher.update(&[u8::from(options.verify), options.purpose as u8]);
    *hasher.finalize().as_bytes()
}
