//! The confined root: every path that came from a peer or a URL is resolved here and nowhere else.
//!
//! # What is promised
//! Whatever a peer names, and whatever somebody else renames, links or removes meanwhile: nothing outside the folder
//! is read, written, made or removed, and no FIFO makes anybody wait. Everything works on handles, the first of which
//! is that of the root; nothing is checked by one path and then used by another.
//!
//! - **Reads** follow symbolic links as long as they stay inside the root ([`Links::Inside`]). An absolute link does
//!   not, even if it leads back inside, nor does one of procfs that is no real link.
//! - **Writes** go through no link at all ([`Links::Refused`]), and only make new files, which may then be renamed
//!   over others. So they never reach through a hard link into a file that has another name outside. Attributes are
//!   the one thing that a file gets which is there: a copy from a peer gives it others only if it has no second name,
//!   and replaces it otherwise (`landing::present`).
//! - A **hard link** inside the root is a file inside the root: it cannot be told from another, and is read.
//! - **Only regular files** are opened, and block devices for the source of a benchmark. Devices, FIFOs and sockets
//!   are refused before they are opened, and opening does not wait if one takes the name at that moment.
//! - **Mounts** below the root belong to it.
//!
//! Whoever may move a folder out of the root at the right moment takes with it what is being done in it: a handle
//! goes where its folder goes. `cache` says for how long, and why that is no way in.
//!
//! # What lives where
//! | file | what |
//! |---|---|
//! | `path` | paths that were parsed once, and the bounds on them |
//! | `resolver` | openat2, and whether there is one |
//! | `walk` | the same name by name, without it |
//! | `cache` | handles of folders that were resolved a moment ago |
//! | `entry` | what an entry of a folder is; opening one for reading |
//! | `operations` | what the copy and the share do with paths |
//! | `bench_files` | sources and sinks of the benchmark |
//! | `placing` | links, folders to sync, temporaries of ours again |
//! | `refusal` | why not |

mod bench_files;
mod cache;
mod entry;
mod operations;
mod path;
mod placing;
mod refusal;
mod resolver;
mod walk;

#[cfg(test)]
mod cache_tests;
#[cfg(test)]
mod escape_tests;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod operation_tests;
#[cfg(test)]
mod race_tests;
#[cfg(test)]
mod resolver_tests;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fstat};

pub use bench_files::SINK_BYTES_MAX;
pub use cache::{HANDLE_LIFE, HANDLES_MAX};
pub use entry::{BLOCK_BYTES, Entry, Kind, Listed, Metadata, ReadDir};
pub use path::{DEPTH_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX, RelativePath};
pub use resolver::Links;

use super::StoreError;
use crate::text::printable;
use cache::DirCache;
use refusal::Refusal;
use resolver::Resolver;

/// A folder that peers may name files in, or one file. Threads share one.
#[derive(Debug)]
pub struct Root {
    folder: Arc<OwnedFd>,
    resolver: Resolver,
    handles: DirCache,
    /// How often a path was resolved from the root on, for the tests of the cache.
    resolutions: AtomicU64,
}

impl Root {
    /// Open a folder as root.
    pub fn open(path: &Path) -> Result<Root, StoreError> {
        let folder = open_folder(path)?;
        let resolver = Resolver::probed(folder.as_fd());
        Ok(Root::new(folder, resolver, HANDLE_LIFE))
    }

    /// A folder in it as a root of its own, out of which no path leads either. No link is followed on the way.
    pub fn part(&self, path: &RelativePath) -> Result<Root, StoreError> {
        let folder = match path.is_root() {
            true => self
                .folder
                .try_clone()
                .map_err(|error| Refusal::System(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))),
            false => self.resolver.folder(self.folder.as_fd(), path.as_bytes(), Links::Refused).map_err(Refusal::from),
        };
        let folder = folder.map_err(|refusal| refusal.about(path, "cannot be opened as a folder"))?;
        Ok(Root::new(folder, self.resolver, HANDLE_LIFE))
    }

    /// One file as a root of its own, whether it has a name or not: [`RelativePath::root`] is the file, and nothing is
    /// in it.
    pub fn of_file(file: File) -> Root {
        // There is no folder that could tell what the kernel can do, and no path to resolve.
        Root::new(file.into(), Resolver::Walk, HANDLE_LIFE)
    }

    fn new(folder: OwnedFd, resolver: Resolver, life: Duration) -> Root {
        Root { folder: Arc::new(folder), resolver, handles: DirCache::new(life), resolutions: AtomicU64::new(0) }
    }

    /// A handle of a folder, cached or resolved now; the path is of a [`RelativePath`], or empty for the root.
    fn folder(&self, path: &[u8], links: Links) -> Result<Arc<OwnedFd>, Errno> {
        if path.is_empty() {
            return Ok(self.folder.clone());
        }
        if let Some(folder) = self.handles.find(path, links) {
            return Ok(folder);
        }
        self.resolutions.fetch_add(1, Ordering::Relaxed);
        let since = Instant::now();
        // Without links first: most paths have none, and then the handle serves for writes too.
        let (folder, through) = match self.resolver.folder(self.folder.as_fd(), path, Links::Refused) {
            Err(Errno::ELOOP) if links == Links::Inside => {
                (self.resolver.folder(self.folder.as_fd(), path, links)?, links)
            }
            folder => (folder?, Links::Refused),
        };
        let folder = Arc::new(folder);
        self.handles.hold(path, folder.clone(), since, through);
        Ok(folder)
    }

    /// [`Root::folder`], but not one that has been removed since.
    fn living_folder(&self, path: &[u8], links: Links) -> Result<Arc<OwnedFd>, Errno> {
        let folder = self.folder(path, links)?;
        if !is_removed(folder.as_fd()) {
            return Ok(folder);
        }
        self.handles.forget(path);
        self.folder(path, links)
    }

    /// Do something with the folder that holds the last name of a path, and that name.
    fn at<T>(
        &self,
        path: &RelativePath,
        links: Links,
        act: impl Fn(BorrowedFd<'_>, &[u8]) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let (parent, name) = path.split().ok_or(Refusal::Unfit("is the folder itself: name something in it"))?;
        let folder = self.folder(parent, links)?;
        match act(folder.as_fd(), name) {
            // A handle of what is no more: somebody may have made the folder anew.
            Err(Refusal::System(Errno::ENOENT | Errno::ESTALE)) if is_removed(folder.as_fd()) => {
                self.handles.forget(parent);
                act(self.folder(parent, links)?.as_fd(), name)
            }
            done => done,
        }
    }
}

/// Open what a person, not a peer, names as the root.
fn open_folder(path: &Path) -> Result<OwnedFd, StoreError> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    nix::fcntl::open(path, flags, Mode::empty()).map_err(|error| {
        StoreError::system(&printable(path.as_os_str().as_bytes()), "cannot be opened as a folder", error)
    })
}

/// Whether a folder has no name any more; also if it cannot be asked, as after ESTALE.
fn is_removed(folder: BorrowedFd<'_>) -> bool {
    fstat(folder).map_or(true, |stat| stat.st_nlink == 0)
}
