//! What an entry of a folder is, and opening one that is held by its folder's handle.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use nix::dir::{OwningIter, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};

use super::path::RelativePath;
use super::refusal::Refusal;
use super::resolver::settled;
use crate::store::StoreError;

/// What kind of thing a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// Something that Linux did not know of when this was written.
    Other,
}

impl Kind {
    /// From the `st_mode` of stat(2).
    pub(super) fn of_mode(mode: libc::mode_t) -> Kind {
        match SFlag::from_bits_truncate(mode & libc::S_IFMT) {
            SFlag::S_IFREG => Kind::File,
            SFlag::S_IFDIR => Kind::Directory,
            SFlag::S_IFLNK => Kind::Symlink,
            SFlag::S_IFIFO => Kind::Fifo,
            SFlag::S_IFSOCK => Kind::Socket,
            SFlag::S_IFCHR => Kind::CharDevice,
            SFlag::S_IFBLK => Kind::BlockDevice,
            _ => Kind::Other,
        }
    }

    fn of_entry(kind: Type) -> Kind {
        match kind {
            Type::File => Kind::File,
            Type::Directory => Kind::Directory,
            Type::Symlink => Kind::Symlink,
            Type::Fifo => Kind::Fifo,
            Type::Socket => Kind::Socket,
            Type::CharacterDevice => Kind::CharDevice,
            Type::BlockDevice => Kind::BlockDevice,
        }
    }
}

/// What is known of an entry without opening it. A link is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: Kind,
    /// Its length, bytes; of a link that of its target's name.
    pub len: u64,
    /// Permission bits, without the kind.
    pub mode: u32,
    /// When its contents changed last: whole seconds since 1970, which may be negative.
    pub modified_s: i64,
    /// And the nanoseconds after that.
    pub modified_ns: u32,
    /// The device that it is on.
    pub device: u64,
    /// Its number there; both are equal for hard links.
    pub inode: u64,
}

impl Metadata {
    pub(super) fn of(stat: &FileStat) -> Metadata {
        Metadata {
            kind: Kind::of_mode(stat.st_mode),
            len: u64::try_from(stat.st_size).unwrap_or_default(),
            mode: stat.st_mode & !libc::S_IFMT,
            modified_s: stat.st_mtime,
            modified_ns: u32::try_from(stat.st_mtime_nsec).unwrap_or_default(),
            device: stat.st_dev,
            inode: stat.st_ino,
        }
    }
}

/// What may be opened for reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accept {
    /// Regular files.
    Files,
    /// Block devices too.
    FilesAndBlockDevices,
}

impl Accept {
    fn check_kind(self, kind: Kind) -> Result<(), Refusal> {
        match (self, kind) {
            (_, Kind::File) | (Accept::FilesAndBlockDevices, Kind::BlockDevice) => Ok(()),
            (Accept::FilesAndBlockDevices, _) => {
                Err(Refusal::Unfit("is neither a regular file nor a block device: name one of these"))
            }
            (_, Kind::Directory) => Err(Refusal::Unfit("is a folder: name a file in it")),
            (_, Kind::Fifo) => Err(Refusal::Unfit("is a named pipe: name a regular file")),
            (_, Kind::Socket) => Err(Refusal::Unfit("is a socket: name a regular file")),
            (_, Kind::CharDevice | Kind::BlockDevice) => Err(Refusal::Unfit("is a device: name a regular file")),
            (_, Kind::Symlink | Kind::Other) => Err(Refusal::Unfit("is no regular file: name one")),
        }
    }

    /// Refuse what is held if it is not fit.
    pub(super) fn check(self, held: BorrowedFd<'_>) -> Result<(), Refusal> {
        self.check_kind(Kind::of_mode(fstat(held)?.st_mode))
    }
}

/// Stat an entry, not what it may link to.
pub(super) fn stat_entry(folder: BorrowedFd<'_>, name: &[u8]) -> Result<FileStat, Errno> {
    fstatat(folder, OsStr::from_bytes(name), AtFlags::AT_SYMLINK_NOFOLLOW)
}

/// Open an entry for reading. ELOOP if it is a link, also one that has only just taken the name.
///
/// It is looked at first, because opening alone makes some devices act, and again when open, because the name may
/// have changed hands between. That needs no comparison of the two: whatever was opened was an entry of the folder
/// at that moment, no link, and O_NONBLOCK kept a FIFO from waiting.
pub(super) fn open_entry(folder: BorrowedFd<'_>, name: &[u8], accept: Accept) -> Result<OwnedFd, Refusal> {
    match Kind::of_mode(stat_entry(folder, name)?.st_mode) {
        Kind::Symlink => return Err(Errno::ELOOP.into()),
        kind => accept.check_kind(kind)?,
    }
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = settled(|| openat(folder, OsStr::from_bytes(name), flags, Mode::empty()))?;
    accept.check(file.as_fd())?;
    Ok(file)
}

/// An entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name there.
    pub name: Vec<u8>,
    /// What it is; a link is not followed.
    pub kind: Kind,
}

/// The entries of a folder, without `.` and `..`, in the order of the filesystem, read as they are asked for.
///
/// It ends at the first error that concerns the folder as a whole.
#[derive(Debug)]
pub struct ReadDir {
    /// Nothing once it has failed, lest it fail for ever.
    entries: Option<OwningIter>,
    /// The same folder, for filesystems that list names without kinds.
    folder: Arc<OwnedFd>,
    path: RelativePath,
}

impl ReadDir {
    pub(super) fn new(entries: OwningIter, folder: Arc<OwnedFd>, path: RelativePath) -> ReadDir {
        ReadDir { entries: Some(entries), folder, path }
    }

    fn entry(&self, found: &nix::dir::Entry) -> Result<Option<Entry>, Errno> {
        let name = found.file_name().to_bytes();
        if name == b"." || name == b".." {
            return Ok(None);
        }
        let kind = match found.file_type() {
            Some(kind) => Kind::of_entry(kind),
            None => match stat_entry(self.folder.as_fd(), name) {
                Ok(stat) => Kind::of_mode(stat.st_mode),
                // Removed since it was listed.
                Err(Errno::ENOENT) => return Ok(None),
                Err(error) => return Err(error),
            },
        };
        Ok(Some(Entry { name: name.to_vec(), kind }))
    }

    fn failed(&self, error: Errno) -> StoreError {
        Refusal::from(error).about(&self.path, "cannot be listed")
    }
}

impl Iterator for ReadDir {
    type Item = Result<Entry, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.entries.as_mut()?.next()? {
                Ok(found) => match self.entry(&found).map_err(|error| self.failed(error)).transpose() {
                    None => {}
                    some => return some,
                },
                Err(error) => {
                    self.entries = None;
                    return Some(Err(self.failed(error)));
                }
            }
        }
    }
}
