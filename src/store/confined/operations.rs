//! What can be done with a path in the root.
//!
//! Files and folders are made for their owner alone: whoever makes them sets their permissions when they are whole.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::entry::{Accept, Metadata, ReadDir, hold_entry, open_entry, stat_entry};
use super::refusal::Refusal;
use super::resolver::settled;
use super::walk::folder_in;
use super::{Links, RelativePath, Root};
use crate::store::StoreError;
use crate::sys::rename;

pub(super) const CANNOT_OPEN: &str = "cannot be opened in the folder";
/// What a file is made with if nothing else is said.
pub(super) const OWNER_ONLY: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);
const CANNOT_CREATE: &str = "cannot be created";
const CANNOT_RENAME: &str = "cannot be renamed";

impl Root {
    /// Open a regular file for reading, through links that stay inside the root.
    ///
    /// It never waits; the file keeps O_NONBLOCK, which means nothing to reads of regular files.
    pub fn open_read(&self, path: &RelativePath) -> Result<File, StoreError> {
        self.open_accepted(path, Accept::Files)
    }

    pub(super) fn open_accepted(&self, path: &RelativePath, accept: Accept) -> Result<File, StoreError> {
        let opened = self.at(path, Links::Inside, |folder, name| match open_entry(folder, name, accept) {
            // A link, which may lead anywhere in the root: not this folder's business.
            Err(Refusal::System(Errno::ELOOP)) => {
                self.resolutions.fetch_add(1, Ordering::Relaxed);
                self.resolver.linked_file(self.folder.as_fd(), path.as_bytes(), accept)
            }
            other => other,
        });
        opened.map(File::from).map_err(|refusal| refusal.about(path, CANNOT_OPEN))
    }

    /// What is known of an entry; a link as the last name is not followed, others are if they stay inside.
    pub fn metadata(&self, path: &RelativePath) -> Result<Metadata, StoreError> {
        let stat = match path.is_root() {
            true => fstat(&self.folder).map_err(Refusal::from),
            false => self.at(path, Links::Inside, |folder, name| Ok(stat_entry(folder, name)?)),
        };
        let stat = stat.map_err(|refusal| refusal.about(path, "cannot be examined"))?;
        Ok(Metadata::of(&stat))
    }

    /// By what a folder and all those above it are known, those above the root too: device and inode of each, from the
    /// folder upwards. Nothing else is looked at there.
    pub fn identities_up(&self, path: &RelativePath) -> Result<Vec<(u64, u64)>, StoreError> {
        let climb = || -> Result<Vec<(u64, u64)>, Errno> {
            let mut folder = self.folder(path.as_bytes(), Links::Refused)?;
            let mut found = Vec::new();
            loop {
                let stat = fstat(&folder)?;
                // The top is its own parent.
                if found.last() == Some(&(stat.st_dev, stat.st_ino)) {
                    return Ok(found);
                }
                found.push((stat.st_dev, stat.st_ino));
                let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
                folder = Arc::new(openat(&folder, "..", flags, Mode::empty())?);
            }
        };
        climb().map_err(|error| Refusal::System(error).about(path, "cannot be examined"))
    }

    /// List a folder. `links` say whether one on the way, the last name too, may be followed inside the root; those
    /// among the entries are not.
    pub fn read_dir(&self, path: &RelativePath, links: Links) -> Result<ReadDir, StoreError> {
        let list = || {
            let folder = self.living_folder(path.as_bytes(), links)?;
            list_folder(folder, path)
        };
        list().map_err(|refusal: Refusal| refusal.about(path, "cannot be listed"))
    }

    /// [`Root::read_dir`] through no link, for one who reads each folder once: no handle is cached.
    pub fn read_dir_once(&self, path: &RelativePath) -> Result<ReadDir, StoreError> {
        let list = || {
            let folder = match path.is_root() {
                true => self.folder.clone(),
                false => Arc::new(self.resolver.folder(self.folder.as_fd(), path.as_bytes(), Links::Refused)?),
            };
            list_folder(folder, path)
        };
        list().map_err(|refusal: Refusal| refusal.about(path, "cannot be listed"))
    }

    /// Believe nothing about a folder, nor what is below it, that was resolved before now: what is done there next is
    /// done where its path leads then.
    pub fn refresh(&self, path: &RelativePath) {
        self.handles.forget(path.as_bytes());
    }

    /// A handle of an entry itself, be it a link, that is good for asking about it only.
    pub fn hold(&self, path: &RelativePath) -> Result<OwnedFd, StoreError> {
        let held = match path.is_root() {
            true => self.folder.try_clone().map_err(|error| Refusal::from(errno(&error))),
            false => self.at(path, Links::Inside, |folder, name| Ok(hold_entry(folder, name)?)),
        };
        held.map_err(|refusal| refusal.about(path, "cannot be examined"))
    }

    /// A handle of a folder, through links that stay inside the root, that is good for asking about it only.
    pub fn hold_folder(&self, path: &RelativePath) -> Result<Arc<OwnedFd>, StoreError> {
        let held = self.living_folder(path.as_bytes(), Links::Inside);
        held.map_err(|error| Refusal::System(error).about(path, "cannot be examined"))
    }

    /// Make a file that does not exist yet, for reading and writing by its owner.
    pub fn create_new(&self, path: &RelativePath) -> Result<File, StoreError> {
        self.create_with_mode(path, OWNER_ONLY.bits())
    }

    /// [`Root::create_new`], for others too: with these permission bits, as far as the umask or the folder allow them.
    pub fn create_with_mode(&self, path: &RelativePath, mode: u32) -> Result<File, StoreError> {
        let mode = Mode::from_bits_truncate(mode);
        let made = self.at(path, Links::Refused, |folder, name| Ok(create_entry(folder, name, mode)?));
        made.map(File::from).map_err(|refusal| refusal.about(path, CANNOT_CREATE))
    }

    /// Make a folder that does not exist yet.
    pub fn create_dir(&self, path: &RelativePath) -> Result<(), StoreError> {
        self.make_folder(path).map_err(|refusal| refusal.about(path, CANNOT_CREATE))
    }

    /// Make a folder and those above it, as far as they do not exist yet.
    pub fn create_dir_all(&self, path: &RelativePath) -> Result<(), StoreError> {
        let made = match self.make_folder(path) {
            _ if path.is_root() => Ok(()),
            Err(Refusal::System(Errno::EEXIST)) => {
                self.living_folder(path.as_bytes(), Links::Refused).map(drop).map_err(Refusal::from)
            }
            Err(Refusal::System(Errno::ENOENT)) => self.make_folders(path).map_err(Refusal::from),
            made => made,
        };
        made.map_err(|refusal| refusal.about(path, CANNOT_CREATE))
    }

    fn make_folder(&self, path: &RelativePath) -> Result<(), Refusal> {
        self.at(path, Links::Refused, |folder, name| Ok(make_folder_in(folder, name)?))
    }

    /// From the root on, with the handle of one folder at a time.
    fn make_folders(&self, path: &RelativePath) -> Result<(), Errno> {
        let mut held: Option<OwnedFd> = None;
        for name in path.names() {
            let parent = held.as_ref().map_or(self.folder.as_fd(), AsFd::as_fd);
            let folder = match folder_in(parent, name) {
                Err(Errno::ENOENT) => match make_folder_in(parent, name) {
                    Ok(()) | Err(Errno::EEXIST) => folder_in(parent, name),
                    Err(error) => Err(error),
                },
                folder => folder,
            };
            held = Some(folder?);
        }
        Ok(())
    }

    /// Remove a file, or anything else that is no folder; of a link itself, not what it leads to.
    pub fn remove_file(&self, path: &RelativePath) -> Result<(), StoreError> {
        let remove = |folder: BorrowedFd<'_>, name: &[u8]| {
            Ok(unlinkat(folder, OsStr::from_bytes(name), UnlinkatFlags::NoRemoveDir)?)
        };
        let removed = self.at(path, Links::Refused, remove);
        self.handles.forget(path.as_bytes());
        removed.map_err(|refusal| refusal.about(path, "cannot be removed"))
    }

    /// Rename a file or folder, unless something has the new name already. Links are renamed, not followed.
    pub fn rename_no_replace(&self, from: &RelativePath, to: &RelativePath) -> Result<(), StoreError> {
        self.rename(from, to, |(from_dir, from), (to_dir, to)| {
            let (from, to) = (c_string(from)?, c_string(to)?);
            rename::without_replacing((from_dir, &from), (to_dir, &to)).map_err(|error| match errno(&error) {
                Errno::EINVAL | Errno::ENOSYS => Refusal::Unfit(
                    "cannot be renamed without perhaps replacing a file, or not so: its filesystem lacks that, use another",
                ),
                error => error.into(),
            })
        })
    }

    /// Rename a file or folder; a file, or an empty folder, that has the new name is replaced in the same instant.
    ///
    /// If both names are hard links of one file, rename(2) leaves both as they are.
    pub fn rename_replace(&self, from: &RelativePath, to: &RelativePath) -> Result<(), StoreError> {
        self.rename(from, to, |(from_dir, from), (to_dir, to)| {
            Ok(renameat(from_dir, OsStr::from_bytes(from), to_dir, OsStr::from_bytes(to))?)
        })
    }

    fn rename(
        &self,
        from: &RelativePath,
        to: &RelativePath,
        act: impl Fn((BorrowedFd<'_>, &[u8]), (BorrowedFd<'_>, &[u8])) -> Result<(), Refusal>,
    ) -> Result<(), StoreError> {
        // The kernel's answer to this is that of a filesystem that cannot rename so.
        if to.is_below(from) {
            return Err(StoreError::unfit(&from.to_string(), "cannot be moved into itself: name another folder"));
        }
        let act = |from: (BorrowedFd<'_>, &[u8]), to: (BorrowedFd<'_>, &[u8])| {
            act(from, to).map_err(|refusal| match refusal {
                // Of a rename this is not the answer of a path that leads out.
                Refusal::System(Errno::EXDEV) => {
                    Refusal::Unfit("cannot be renamed to another filesystem: copy it and remove it here")
                }
                refusal => refusal,
            })
        };
        let renamed = self.at(from, Links::Refused, |from_dir, from_name| match to.split() {
            // Within one folder, which is found once.
            Some((folder, name)) if from.parent_bytes() == Some(folder) => act((from_dir, from_name), (from_dir, name)),
            _ => self.at(to, Links::Refused, |to_dir, to| act((from_dir, from_name), (to_dir, to))),
        });
        self.handles.forget(from.as_bytes());
        self.handles.forget(to.as_bytes());
        renamed.map_err(|refusal| refusal.about_both(from, to, CANNOT_RENAME))
    }
}

/// List a folder of which there is a handle.
fn list_folder(folder: Arc<OwnedFd>, path: &RelativePath) -> Result<ReadDir, Refusal> {
    // The handle is good for resolving only; `.` in it is the same folder, open for reading.
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let open = settled(|| openat(&folder, ".", flags, Mode::empty()))?;
    Ok(ReadDir::new(Dir::from_fd(open)?.into_iter(), folder, path.clone()))
}

/// Make a file in a folder.
pub(super) fn create_entry(folder: BorrowedFd<'_>, name: &[u8], mode: Mode) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(folder, OsStr::from_bytes(name), flags, mode)
}

fn make_folder_in(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    mkdirat(parent, OsStr::from_bytes(name), Mode::S_IRWXU)
}

fn c_string(name: &[u8]) -> Result<CString, Errno> {
    CString::new(name).map_err(|_| Errno::EINVAL)
}

pub(super) fn errno(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
