//! Resolution without openat2: one name after the other, each from the handle of the folder before.
//!
//! Every step opens a single name with O_NOFOLLOW, so the kernel is never given a `..` or a link to follow: a step
//! leads to an entry of the folder that is held, or nowhere. Links are read and their names walked likewise; `..` in
//! them goes back to the handle that was held before and does not ask the filesystem, so a folder that is moved
//! meanwhile takes nobody out. For the same reason a magic link of procfs is only text here, which leads nowhere;
//! links on procfs are refused all the same, so that the answer is clear. That is stricter than the kernel, which
//! follows the few ordinary links there.
//!
//! Nothing recurses. Following links holds a handle for each folder on the way, of which there are at most
//! [`DEPTH_MAX`]; a walk without links holds one.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use super::entry::Kind;
use super::path::{DEPTH_MAX, names};

/// How many links one resolution follows: as many as the kernel (path_resolution(7)).
const LINKS_MAX: u32 = 40;

/// Where a path that may go through links leads.
#[derive(Debug)]
pub(super) enum Place {
    /// To a folder.
    Folder(OwnedFd),
    /// To an entry of a folder that was neither a folder nor a link when it was looked at.
    Entry(OwnedFd, Vec<u8>),
}

/// A handle of a folder, on the way to which nothing is a link.
pub(super) fn folder(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let mut held: Option<OwnedFd> = None;
    for name in names(path) {
        let from = held.as_ref().map_or(root, AsFd::as_fd);
        held = Some(folder_in(from, name)?);
    }
    held.map_or_else(|| again(root), Ok)
}

/// A handle of a folder that is an entry of another.
pub(super) fn folder_in(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    match open(parent, name, OFlag::O_DIRECTORY) {
        // What a link gives here; it may have become something else meanwhile, which is no folder either.
        Err(Errno::ENOTDIR) => match kind_of(open(parent, name, OFlag::empty())?.as_fd())? {
            Kind::Symlink => Err(Errno::ELOOP),
            _ => Err(Errno::ENOTDIR),
        },
        other => other,
    }
}

/// A handle of a folder, through links that stay inside the root.
pub(super) fn linked_folder(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    match place(root, path)? {
        Place::Folder(folder) => Ok(folder),
        Place::Entry(..) => Err(Errno::ENOTDIR),
    }
}

/// Where a path leads through links that stay inside the root.
pub(super) fn place(root: BorrowedFd<'_>, path: &[u8]) -> Result<Place, Errno> {
    Walk::new(root, path)?.run()
}

/// A walk through links.
struct Walk {
    /// The folders on the way, the root first; the last is where the walk stands.
    way: Vec<OwnedFd>,
    /// The names still to go, the next one last.
    ahead: Vec<Vec<u8>>,
    links: u32,
}

impl Walk {
    fn new(root: BorrowedFd<'_>, path: &[u8]) -> Result<Walk, Errno> {
        let mut ahead: Vec<Vec<u8>> = names(path).map(<[u8]>::to_vec).collect();
        ahead.reverse();
        Ok(Walk { way: vec![again(root)?], ahead, links: 0 })
    }

    fn run(mut self) -> Result<Place, Errno> {
        while let Some(name) = self.ahead.pop() {
            match name.as_slice() {
                b"." => {}
                b".." if self.way.len() > 1 => drop(self.way.pop()),
                b".." => return Err(Errno::EXDEV),
                _ if self.step(&name)? => {}
                _ => return Ok(Place::Entry(self.way.pop().ok_or(Errno::ENOENT)?, name)),
            }
        }
        Ok(Place::Folder(self.way.pop().ok_or(Errno::ENOENT)?))
    }

    /// Go on by one name; false if it is what the path leads to.
    fn step(&mut self, name: &[u8]) -> Result<bool, Errno> {
        let here = self.way.last().ok_or(Errno::ENOENT)?.as_fd();
        // O_DIRECTORY first: most are folders, and it makes an automounter mount.
        let found = match open(here, name, OFlag::O_DIRECTORY) {
            Err(Errno::ENOTDIR) => open(here, name, OFlag::empty())?,
            other => other?,
        };
        match kind_of(found.as_fd())? {
            Kind::Directory if self.way.len() > DEPTH_MAX => Err(Errno::ENAMETOOLONG),
            Kind::Directory => {
                self.way.push(found);
                Ok(true)
            }
            Kind::Symlink => self.follow(found.as_fd()).map(|()| true),
            _ if self.ahead.is_empty() => Ok(false),
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// Put the names in a link before those still to go.
    fn follow(&mut self, link: BorrowedFd<'_>) -> Result<(), Errno> {
        self.links += 1;
        if self.links > LINKS_MAX || fstatfs(link)?.filesystem_type() == PROC_SUPER_MAGIC {
            return Err(Errno::ELOOP);
        }
        let target = readlinkat(link, "")?.into_vec();
        if target.starts_with(b"/") {
            return Err(Errno::EXDEV);
        }
        // A `/` at the end asks for a folder.
        if target.ends_with(b"/") {
            self.ahead.push(b".".to_vec());
        }
        let first = self.ahead.len();
        self.ahead.extend(names(&target).map(<[u8]>::to_vec));
        self.ahead[first..].reverse();
        Ok(())
    }
}

/// What kind of thing is held.
fn kind_of(held: BorrowedFd<'_>) -> Result<Kind, Errno> {
    Ok(Kind::of_mode(fstat(held)?.st_mode))
}

/// A handle of one entry itself, be it a link; nothing is opened for reading, so nothing waits.
fn open(parent: BorrowedFd<'_>, name: &[u8], more: OFlag) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | more;
    openat(parent, OsStr::from_bytes(name), flags, Mode::empty())
}

/// One more handle of the same folder.
fn again(folder: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    folder.try_clone_to_owned().map_err(|error| error.raw_os_error().map_or(Errno::EMFILE, Errno::from_raw))
}
