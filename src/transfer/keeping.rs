//! Where the receiving end keeps what it needs to go on later: the journal of a copy, and the lock of its destination.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

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

/// More names than that are not locked one by one, each with an open file, but with the folder that they are in.
const TOPS_MAX: usize = 64;

/// How long another may take to remove the lock of a folder: so often this.
const REMOVAL_WAIT: Duration = Duration::from_millis(1);
const REMOVAL_WAITS: u32 = 10;

/// Keeps other copies out of what this one writes. Its files go when it is dropped.
///
/// Each name has a lock. The folder has one, too, in which all copies of few names have a part, and which a copy of
/// many names has alone.
#[derive(Debug)]
pub struct DestinationLock {
    held: Vec<(PathBuf, File)>,
}

impl DestinationLock {
    /// Take it for every name that the copy may touch, or say that somebody else has one.
    pub fn take(places: &Places, destination: &Destination) -> Result<DestinationLock, KeepError> {
        let (folder, place) = (places.copies()?, place_of(destination)?);
        let path_of = |what: &[u8]| {
            let key = blake3::hash(&[place.as_slice(), what].concat()).to_hex();
            folder.join(format!("{}.lock", &key[..32]))
        };
        let shown = |top: &RelativePath| top.to_string();
        let first = destination.tops.first().map(shown).unwrap_or_default();
        let is_whole = destination.tops.len() > TOPS_MAX;
        let mut lock = DestinationLock { held: Vec::new() };
        // No name of a file has a slash at its beginning.
        lock.add(path_of(b"/"), &first, if is_whole { File::try_lock } else { File::try_lock_shared })?;
        for top in destination.tops.iter().filter(|_| !is_whole) {
            lock.add(path_of(top.as_bytes()), &shown(top), File::try_lock)?;
        }
        Ok(lock)
    }

    fn add(&mut self, path: PathBuf, shown: &str, take: TryLock) -> Result<(), StoreError> {
        let file = lock_file(&path, shown, take)?;
        self.held.push((path, file));
        Ok(())
    }
}

type TryLock = fn(&File) -> Result<(), TryLockError>;

impl Drop for DestinationLock {
    fn drop(&mut self) {
        for (path, file) in &self.held {
            // Others may have a part in the lock of a folder: the last of them removes it.
            if !matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

fn lock_file(path: &Path, shown: &str, take: TryLock) -> Result<File, StoreError> {
    let failed = |what: &'static str| move |error| StoreError::System { name: shown.to_string(), what, error };
    let mut waits = 0;
    loop {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(path).map_err(failed("the lock of the destination cannot be made"))?;
        match take(&file) {
            Ok(()) => {}
            // The last that had a part in it has it alone while he removes it.
            Err(TryLockError::WouldBlock) if waits < REMOVAL_WAITS => {
                waits += 1;
                std::thread::sleep(REMOVAL_WAIT);
                continue;
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::copy::options::Purpose;

    #[test]
    fn copies_of_other_names_run_beside_each_other_but_not_beside_one_of_very_many() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::below(&dir.path().join("home"));
        let take = |names: &[String]| {
            let names: Vec<_> = names.iter().map(|name| Some(name.clone().into_bytes())).collect();
            DestinationLock::take(&places, &Destination::own(dir.path(), &names, Purpose::Copy).unwrap())
        };
        let is_taken = |names: &[String]| take(names).is_err_and(|error| error.is_taken());
        let (a, b) = (["a".to_string()], ["b".to_string()]);
        let many: Vec<String> = (0..2 * TOPS_MAX).map(|n| n.to_string()).collect();
        let held = take(&a).unwrap();
        let beside = take(&b).unwrap();
        assert!(is_taken(&a) && is_taken(&b) && is_taken(&many));
        drop(held);
        assert!(is_taken(&many) && !is_taken(&a));
        drop(beside);
        let held = take(&many).unwrap();
        assert_eq!(held.held.len(), 1);
        assert!(is_taken(&a) && is_taken(&many));
        drop(held);
        assert_eq!(std::fs::read_dir(places.copies().unwrap()).unwrap().count(), 0, "no lock is left");
    }
}
