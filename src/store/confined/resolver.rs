//! How a path is resolved: by the kernel's openat2, or by [`walk`] where there is none.
//!
//! Both give the same promise, and the same answers but on procfs (see there). Containers are what lacks openat2 in
//! practice: seccomp filters that do not know it answer ENOSYS or EPERM.
//!
//! The kernel gives up on a link with `..` in it (EAGAIN) when anything at all is renamed meanwhile, anywhere on the
//! system. It is asked again some times; where files are renamed without end, the walk finds the way nevertheless.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use super::entry::{Accept, open_entry};
use super::refusal::Refusal;
use super::walk::{self, Place};

/// How often a resolution is tried again that a concurrent rename disturbed (EAGAIN, openat2(2)).
const TRIES_MAX: u32 = 64;
/// From this length on the kernel takes no path in one piece.
const KERNEL_PATH_BYTES: usize = libc::PATH_MAX as usize;
/// A handle of a folder, to resolve from.
const FOLDER: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY);

/// Whether symbolic links are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// Followed as long as they stay inside the root. An absolute one does not, wherever it leads.
    Inside,
    /// None is, anywhere on the way.
    Refused,
}

/// Who resolves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resolver {
    /// openat2.
    Kernel,
    /// Ourselves, name by name.
    Walk,
}

impl Resolver {
    /// The best that this system has; asked once in a process.
    pub(super) fn probed(folder: BorrowedFd<'_>) -> Resolver {
        static BEST: OnceLock<Resolver> = OnceLock::new();
        // Whatever the error is: a filter may answer what it likes, and the walk promises no less.
        *BEST.get_or_init(|| match kernel(folder, b".", FOLDER, Links::Refused) {
            Ok(_) => Resolver::Kernel,
            Err(_) => Resolver::Walk,
        })
    }

    /// A handle of a folder.
    pub(super) fn folder(self, root: BorrowedFd<'_>, path: &[u8], links: Links) -> Result<OwnedFd, Errno> {
        let walk = || match links {
            Links::Refused => walk::folder(root, path),
            Links::Inside => walk::linked_folder(root, path),
        };
        match self.for_path(path) {
            Resolver::Kernel => unless_disturbed(settled(|| kernel(root, path, FOLDER, links)), walk),
            Resolver::Walk => walk(),
        }
    }

    /// A file for reading, through links that stay inside.
    pub(super) fn linked_file(self, root: BorrowedFd<'_>, path: &[u8], accept: Accept) -> Result<OwnedFd, Refusal> {
        let walk = || linked_by_walk(root, path, accept);
        match self.for_path(path) {
            Resolver::Kernel => unless_disturbed(linked_by_kernel(root, path, accept), walk),
            Resolver::Walk => walk(),
        }
    }

    fn for_path(self, path: &[u8]) -> Resolver {
        if path.len() >= KERNEL_PATH_BYTES { Resolver::Walk } else { self }
    }
}

fn linked_by_kernel(root: BorrowedFd<'_>, path: &[u8], accept: Accept) -> Result<OwnedFd, Refusal> {
    // Looked at before it is opened: opening alone makes some devices act.
    let seen = settled(|| kernel(root, path, OFlag::O_PATH, Links::Inside))?;
    accept.check(seen.as_fd())?;
    let file = settled(|| kernel(root, path, OFlag::O_RDONLY | OFlag::O_NONBLOCK, Links::Inside))?;
    accept.check(file.as_fd())?;
    Ok(file)
}

fn linked_by_walk(root: BorrowedFd<'_>, path: &[u8], accept: Accept) -> Result<OwnedFd, Refusal> {
    for _ in 0..TRIES_MAX {
        match walk::place(root, path)? {
            Place::Folder(folder) => {
                accept.check(folder.as_fd())?;
                return Err(Errno::EISDIR.into());
            }
            Place::Entry(folder, name) => match open_entry(folder.as_fd(), &name, accept) {
                // It was replaced by a link meanwhile: look again.
                Err(Refusal::System(Errno::ELOOP)) => {}
                other => return other,
            },
        }
    }
    Err(Errno::EAGAIN.into())
}

/// openat2 below a root; `path` is not empty.
fn kernel(root: BorrowedFd<'_>, path: &[u8], flags: OFlag, links: Links) -> Result<OwnedFd, Errno> {
    let inside = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let resolve = match links {
        Links::Inside => inside,
        Links::Refused => inside | ResolveFlag::RESOLVE_NO_SYMLINKS,
    };
    openat2(root, OsStr::from_bytes(path), OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve))
}

/// The kernel's answer, or the walk's if the kernel could come to none.
fn unless_disturbed<T, E: From<Errno> + PartialEq>(
    kernel: Result<T, E>,
    walk: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    match kernel {
        Err(error) if error == Errno::EAGAIN.into() => walk(),
        answer => answer,
    }
}

/// Try until nothing interferes, for so long.
pub(super) fn settled<T>(mut attempt: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    for _ in 1..TRIES_MAX {
        match attempt() {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            other => return other,
        }
    }
    attempt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disturbed_resolution_is_tried_again_but_not_for_ever() {
        let mut tries = 0;
        let settles_at_third = settled(|| {
            tries += 1;
            if tries < 3 { Err(Errno::EAGAIN) } else { Ok(tries) }
        });
        assert_eq!(settles_at_third, Ok(3));
        let mut tries = 0;
        let never: Result<(), Errno> = settled(|| {
            tries += 1;
            Err(Errno::EAGAIN)
        });
        assert_eq!((never, tries), (Err(Errno::EAGAIN), TRIES_MAX));
    }

    #[test]
    fn where_the_kernel_comes_to_no_answer_the_walk_does() {
        let walk = || Ok("walk");
        assert_eq!(unless_disturbed(Err(Errno::EAGAIN), walk), Ok("walk"));
        assert_eq!(unless_disturbed(Err(Errno::EXDEV), walk), Err(Errno::EXDEV));
        assert_eq!(unless_disturbed(Ok("kernel"), walk), Ok("kernel"));
        let refused: Result<&str, Refusal> = Err(Errno::EAGAIN.into());
        assert_eq!(unless_disturbed(refused, || Ok("walk")), Ok("walk"));
    }

    #[test]
    fn other_errors_are_final() {
        let mut tries = 0;
        let got: Result<(), Errno> = settled(|| {
            tries += 1;
            Err(Errno::ENOSYS)
        });
        assert_eq!((got, tries), (Err(Errno::ENOSYS), 1));
    }
}
