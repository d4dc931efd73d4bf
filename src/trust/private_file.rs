//! Files that hold what lets somebody in: of mode 0600, never open to others for an instant, never half written.
//!
//! What is read is checked as well as what is written: a key that others could read is no key any more, and one
//! that another user put there is not ours. Nothing here knows what the files hold.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc;
use zeroize::Zeroizing;

use super::TrustError;

/// Permission bits of every file here.
const FILE_MODE: u32 = 0o600;
/// Permission bits of every folder here.
const FOLDER_MODE: u32 = 0o700;
/// What no file may grant.
const OF_OTHERS: u32 = 0o077;
/// What no folder may grant.
const WRITE_OF_OTHERS: u32 = 0o022;
/// All permission bits.
const ALL_BITS: u32 = 0o7777;

/// The content of a file; `None` when there is none. It is wiped from memory when it is dropped.
///
/// Refused are a symbolic link, what is no regular file, what others may read or write, what another user owns, and
/// more than `bytes_max` bytes.
pub fn read(path: &Path, bytes_max: u64) -> Result<Option<Zeroizing<Vec<u8>>>, TrustError> {
    // Without O_NONBLOCK a fifo would hang us before it is seen to be one.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return Err(TrustError::NotRegular(path.to_path_buf()));
        }
        Err(error) => return Err(TrustError::system(path, "cannot be opened", error)),
    };
    let len = check(&file, path)?;
    if len > bytes_max {
        return Err(TrustError::TooLong { path: path.to_path_buf(), bytes_max });
    }
    // One byte more than is allowed shows a file that grows; the room is taken at once, so that no copy is left
    // behind when the vector moves.
    let mut content = Zeroizing::new(Vec::with_capacity(usize::try_from(bytes_max.min(len) + 2).unwrap_or_default()));
    let mut bounded = file.take(bytes_max.saturating_add(1));
    bounded.read_to_end(&mut content).map_err(|error| TrustError::system(path, "cannot be read", error))?;
    if content.len() as u64 > bytes_max {
        return Err(TrustError::TooLong { path: path.to_path_buf(), bytes_max });
    }
    Ok(Some(content))
}

/// The length of a file that is private.
fn check(file: &File, path: &Path) -> Result<u64, TrustError> {
    let meta = file.metadata().map_err(|error| TrustError::system(path, "cannot be looked at", error))?;
    let path = path.to_path_buf();
    if !meta.is_file() {
        return Err(TrustError::NotRegular(path));
    }
    if meta.uid() != nix::unistd::geteuid().as_raw() {
        return Err(TrustError::Foreign { path, uid: meta.uid() });
    }
    if meta.mode() & OF_OTHERS != 0 {
        return Err(TrustError::Exposed { path, mode: meta.mode() & ALL_BITS, right: "600" });
    }
    Ok(meta.len())
}

/// Put `content` in the place of whatever the file held. A reader sees the old or the new, whole.
pub fn write(path: &Path, content: &[u8]) -> Result<(), TrustError> {
    let partial = beside(path, &format!("{}.partial", random_hex()?));
    let done = create(&partial, content).and_then(|()| {
        std::fs::rename(&partial, path).map_err(|error| TrustError::system(path, "cannot be replaced", error))
    });
    if done.is_err() {
        let _ = std::fs::remove_file(&partial);
        return done;
    }
    // The rename itself outlasts a power failure only once the folder is on the disk.
    let folder = folder_of(path);
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| TrustError::system(folder, "cannot be synced", error))
}

/// A new file with this content; one that exists is left alone.
pub fn create(path: &Path, content: &[u8]) -> Result<(), TrustError> {
    let mut options = OpenOptions::new();
    // O_EXCL takes no symbolic link either.
    options.write(true).create_new(true).mode(FILE_MODE).custom_flags(libc::O_CLOEXEC);
    let mut file = options.open(path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => TrustError::Exists(path.to_path_buf()),
        _ => TrustError::system(path, "cannot be created", error),
    })?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(|error| {
        let _ = std::fs::remove_file(path);
        TrustError::system(path, "cannot be written", error)
    })
}

/// Replace a file by what `change` makes of it, while nobody else does; what `change` returns beside it is passed
/// on. With `None` the file stays as it is.
pub fn update<T>(
    path: &Path,
    bytes_max: u64,
    change: impl FnOnce(Option<&[u8]>) -> Result<(Option<Vec<u8>>, T), TrustError>,
) -> Result<T, TrustError> {
    let _lock = Lock::take(path)?;
    let before = read(path, bytes_max)?;
    let (after, passed_on) = change(before.as_ref().map(|content| content.as_slice()))?;
    if let Some(content) = after.map(Zeroizing::new) {
        write(path, &content)?;
    }
    Ok(passed_on)
}

/// Keeps every other process from changing a file, as long as they ask too.
///
/// It is held on a file beside it, as the file itself is replaced. That one is never removed: a process that waits
/// for it would hold a lock that nobody else sees.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Wait for it.
    pub fn take(path: &Path) -> Result<Lock, TrustError> {
        let (file, beside) = Lock::open(path, "lock")?;
        file.lock().map_err(|error| TrustError::system(&beside, "cannot be locked", error))?;
        Ok(Lock { _file: file })
    }

    /// Say, for as long as this is held, that somebody whom the file is about lives. Many can.
    pub fn live(path: &Path) -> Result<Lock, TrustError> {
        let (file, beside) = Lock::open(path, "alive")?;
        file.lock_shared().map_err(|error| TrustError::system(&beside, "cannot be locked", error))?;
        Ok(Lock { _file: file })
    }

    /// Whether anybody holds what [`Lock::live`] gives.
    pub fn is_anybody_alive(path: &Path) -> Result<bool, TrustError> {
        let (file, beside) = Lock::open(path, "alive")?;
        match file.try_lock() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(TrustError::system(&beside, "cannot be locked", error)),
        }
    }

    fn open(path: &Path, suffix: &str) -> Result<(File, PathBuf), TrustError> {
        let beside = beside(path, suffix);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
        options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC);
        let file = options.open(&beside).map_err(|error| TrustError::system(&beside, "cannot be opened", error))?;
        Ok((file, beside))
    }
}

/// Make a folder, and those above it, that only this user can get at. One that is there already must not let others
/// write: they could put files in the place of ours.
pub fn make_folder(path: &Path) -> Result<(), TrustError> {
    let made = DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path);
    made.map_err(|error| TrustError::system(path, "the folder cannot be made", error))?;
    let meta = std::fs::metadata(path).map_err(|error| TrustError::system(path, "cannot be looked at", error))?;
    if meta.mode() & WRITE_OF_OTHERS != 0 {
        let mode = meta.mode() & ALL_BITS;
        return Err(TrustError::Exposed { path: path.to_path_buf(), mode, right: "go-w" });
    }
    Ok(())
}

/// A hidden file in the same folder.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".");
    name.push(suffix);
    path.with_file_name(name)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A name that no process that died can have left behind.
fn random_hex() -> Result<String, TrustError> {
    let bits = getrandom::u64().map_err(|_| TrustError::Make("file name"))?;
    Ok(format!("{bits:016x}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const BYTES_MAX: u64 = 100;

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & ALL_BITS
    }

    fn content(path: &Path) -> Vec<u8> {
        read(path, BYTES_MAX).unwrap().unwrap().to_vec()
    }

    #[test]
    fn what_is_written_is_private_and_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        assert!(read(&path, BYTES_MAX).unwrap().is_none());
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!((content(&path), mode(&path)), (b"two".to_vec(), FILE_MODE));
        assert!(matches!(create(&path, b"three"), Err(TrustError::Exists(_))));
        assert_eq!(content(&path), b"two");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
        // Even what was open before is private after.
        set_mode(&path, 0o644);
        write(&path, b"four").unwrap();
        assert_eq!(mode(&path), FILE_MODE);
    }

    #[test]
    fn what_others_can_get_at_is_refused_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        write(&path, b"x").unwrap();
        for bad in [0o644, 0o640, 0o660, 0o604, 0o602, 0o610] {
            set_mode(&path, bad);
            let message = read(&path, BYTES_MAX).unwrap_err().to_string();
            let advice = format!("chmod 600 {}", path.display());
            assert!(message.contains(&advice) && message.contains(&format!("{bad:04o}")), "{message}");
        }
        for good in [0o600, 0o400] {
            set_mode(&path, good);
            assert!(read(&path, BYTES_MAX).is_ok());
        }
    }

    #[test]
    fn what_is_no_such_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        write(&path("file"), &[0; BYTES_MAX as usize]).unwrap();
        assert!(read(&path("file"), BYTES_MAX).unwrap().is_some());
        assert!(matches!(read(&path("file"), BYTES_MAX - 1), Err(TrustError::TooLong { .. })));
        std::os::unix::fs::symlink(path("file"), path("link")).unwrap();
        nix::unistd::mkfifo(path("fifo").as_path(), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::fs::create_dir(path("folder")).unwrap();
        for name in ["link", "fifo", "folder"] {
            assert!(matches!(read(&path(name), BYTES_MAX), Err(TrustError::NotRegular(_))), "{name}");
        }
        assert!(matches!(create(&path("link"), b"x"), Err(TrustError::Exists(_))));
    }

    #[test]
    fn what_another_user_owns_is_refused() {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: only root can give a file away");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        write(&path, b"x").unwrap();
        std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
        assert!(matches!(read(&path, BYTES_MAX), Err(TrustError::Foreign { uid: 12345, .. })));
    }

    #[test]
    fn folders_are_private_and_open_ones_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        make_folder(&path).unwrap();
        make_folder(&path).unwrap();
        assert_eq!((mode(&path), mode(&dir.path().join("a"))), (FOLDER_MODE, FOLDER_MODE));
        set_mode(&path, 0o755);
        make_folder(&path).unwrap();
        set_mode(&path, 0o770);
        assert!(make_folder(&path).unwrap_err().to_string().contains("chmod go-w"));
    }

    #[test]
    fn no_update_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("count");
        let count = || {
            for _ in 0..25 {
                update(&path, BYTES_MAX, |before| {
                    let before = before.map_or(0, |text| String::from_utf8_lossy(text).parse::<u32>().unwrap());
                    Ok((Some((before + 1).to_string().into_bytes()), ()))
                })
                .unwrap();
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(count);
            }
        });
        assert_eq!(content(&path), b"100");
        let kept = update(&path, BYTES_MAX, |before| Ok((None, before.map(<[u8]>::to_vec)))).unwrap();
        assert_eq!((kept, content(&path)), (Some(b"100".to_vec()), b"100".to_vec()));
    }
}
