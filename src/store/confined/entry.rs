//! What an entry of a folder is, and opening one that is held by its folder's handle.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;

use nix::dir::{OwningIter, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};

use super::path::RelativePath;
use super::refusal::Refusal;
use super::resolver::settled;
use crate::store::StoreError;
use crate::text::printable;

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

/// What stat(2) counts allocated space in, whatever the filesystem's own blocks are.
pub const BLOCK_BYTES: u64 = 512;

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
    /// How many names it has.
    pub links: u64,
    /// The number of its user.
    pub uid: u32,
    /// The number of its group.
    pub gid: u32,
    /// What is allocated for it, in blocks of [`BLOCK_BYTES`].
    pub blocks: u64,
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
            // 64 bits on some machines, 32 on others.
            #[allow(clippy::useless_conversion)]
            links: stat.st_nlink.into(),
            uid: stat.st_uid,
            gid: stat.st_gid,
            blocks: u64::try_from(stat.st_blocks).unwrap_or_default(),
        }
    }

    /// Of a file that is open.
    pub fn of_open(file: &File) -> std::io::Result<Metadata> {
        Ok(Metadata::of(&fstat(file)?))
    }

    /// Whether less is allocated than its length needs: it has holes, or its filesystem compresses.
    pub fn is_sparse(&self) -> bool {
        self.kind == Kind::File && self.blocks.saturating_mul(BLOCK_BYTES) < self.len
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

/// An entry as it was listed, with its name but not on the heap.
#[derive(Debug, Clone)]
pub struct Listed {
    found: nix::dir::Entry,
}

impl Listed {
    /// Its name in the folder.
    pub fn name(&self) -> &[u8] {
        self.found.file_name().to_bytes()
    }

    /// What it was when it was listed, where the filesystem tells that with the name.
    pub fn kind(&self) -> Option<Kind> {
        self.found.file_type().map(Kind::of_entry)
    }

    fn failed(&self, error: Errno, what: &'static str) -> StoreError {
        Refusal::from(error).named(&printable(self.name()), what)
    }
}

/// Whether a name is that of the folder itself or of the one above.
fn is_dots(name: &[u8]) -> bool {
    name == b"." || name == b".."
}

/// A handle of an entry itself; nothing is opened for reading, so nothing waits.
pub(super) fn hold_entry(folder: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    settled(|| openat(folder, OsStr::from_bytes(name), flags, Mode::empty()))
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

    /// The next entry, with no allocation for it; an error ends the list.
    ///
    /// Unlike the iterator this asks for the kind only where the filesystem tells it with the name.
    pub fn next_listed(&mut self) -> Option<Result<Listed, StoreError>> {
        loop {
            match self.entries.as_mut()?.next()? {
                Ok(found) if is_dots(found.file_name().to_bytes()) => {}
                Ok(found) => return Some(Ok(Listed { found })),
                Err(error) => {
                    self.entries = None;
                    return Some(Err(self.failed(error)));
                }
            }
        }
    }

    /// What is known of an entry, from the folder's handle; nothing if it was removed since it was listed.
    pub fn metadata(&self, listed: &Listed) -> Result<Option<Metadata>, StoreError> {
        match fstatat(&self.folder, listed.found.file_name(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Metadata::of(&stat))),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(listed.failed(error, "cannot be examined")),
        }
    }

    /// Where an entry that is a link leads, as it stands there; nothing if it is none any more.
    pub fn target(&self, listed: &Listed) -> Result<Option<Vec<u8>>, StoreError> {
        match readlinkat(&self.folder, listed.found.file_name()) {
            Ok(target) => Ok(Some(target.into_vec())),
            Err(Errno::ENOENT | Errno::EINVAL) => Ok(None),
            Err(error) => Err(listed.failed(error, "cannot be read as a link")),
        }
    }

    /// A handle of an entry itself, be it a link, that is good for asking about it only.
    pub fn hold(&self, listed: &Listed) -> Result<OwnedFd, StoreError> {
        hold_entry(self.folder.as_fd(), listed.name()).map_err(|error| listed.failed(error, "cannot be examined"))
    }

    /// Open an entry that is a regular file for reading. It never waits.
    pub fn open_read(&self, listed: &Listed) -> Result<File, StoreError> {
        let opened = open_entry(self.folder.as_fd(), listed.name(), Accept::Files);
        opened.map(File::from).map_err(|refusal| refusal.named(&printable(listed.name()), "cannot be opened"))
    }

    fn entry(&self, found: &nix::dir::Entry) -> Result<Option<Entry>, Errno> {
        let name = found.file_name().to_bytes();
        if is_dots(name) {
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
