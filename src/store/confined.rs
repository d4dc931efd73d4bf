//! The confined root: every path that came from a peer is resolved here and nowhere else.
//!
//! The kernel does the confining: openat2 with RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS and RESOLVE_NO_SYMLINKS, from a
//! handle of the root that was opened once. Names are bytes.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, FallocateFlags, OFlag, OpenHow, ResolveFlag, fallocate, openat, openat2};
use nix::sys::stat::Mode;
use nix::unistd::{AccessFlags, UnlinkatFlags, faccessat, unlinkat};

use super::StoreError;
use crate::mover::{FileSink, Source};
use crate::text::printable;

/// What a sink file is long at most, over all streams of a job; they write it round and round.
pub const SINK_BYTES_MAX: u64 = 1 << 30;
/// Longest path that a peer may name.
pub const PATH_BYTES_MAX: usize = 4096;
/// How often a resolution is tried again that a concurrent rename disturbed (EAGAIN, openat2(2)).
const RESOLVE_TRIES_MAX: u32 = 64;

/// A folder that peers may name files in.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
}

impl Root {
    /// Open a folder as root.
    pub fn open(path: &Path) -> Result<Root, StoreError> {
        let name = printable(path.as_os_str().as_bytes());
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = nix::fcntl::open(path, flags, Mode::empty())
            .map_err(|error| StoreError::system(&name, "cannot be served as a folder", error))?;
        Ok(Root { dir })
    }

    /// A file in the folder as a source.
    pub fn source(&self, path: &[u8], needed: u64) -> Result<Source, StoreError> {
        let name = printable(path);
        let fd = self.resolve(path, &name, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?;
        super::file::from_file(File::from(fd), &name, needed)
    }

    /// A new file in the folder, preallocated, as sinks for `streams` streams. It has lost its name again when this
    /// returns, so nothing is left behind however the job ends; a file that exists is never touched.
    pub fn sinks(&self, path: &[u8], streams: u32) -> Result<Vec<FileSink>, StoreError> {
        let name = printable(path);
        let (parent, leaf) = self.parent_and_leaf(path, &name)?;
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(&parent, leaf, flags, Mode::S_IRUSR | Mode::S_IWUSR).map_err(|error| match error {
            Errno::EEXIST => {
                StoreError::unfit(&name, "exists already and is not overwritten: name a new file as --sink")
            }
            error => StoreError::system(&name, "cannot be created", error),
        })?;
        unlinkat(&parent, leaf, UnlinkatFlags::NoRemoveDir)
            .map_err(|error| StoreError::system(&name, "cannot be unlinked", error))?;
        let each = SINK_BYTES_MAX / u64::from(streams.max(1));
        preallocate(&file, each * u64::from(streams), &name)?;
        let file = Arc::new(File::from(file));
        let sink =
            |n: u32| FileSink { file: file.clone(), name: name.as_str().into(), base: u64::from(n) * each, len: each };
        Ok((0..streams).map(sink).collect())
    }

    /// Whether a sink could be made there, without making it.
    pub fn check_sink(&self, path: &[u8]) -> Result<(), StoreError> {
        let name = printable(path);
        let (parent, leaf) = self.parent_and_leaf(path, &name)?;
        match faccessat(&parent, leaf, AccessFlags::F_OK, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(()) => Err(StoreError::unfit(&name, "exists already and is not overwritten: name a new file as --sink")),
            Err(_) => Ok(()),
        }
    }

    /// The folder that holds the last component, and that component.
    fn parent_and_leaf<'a>(&self, path: &'a [u8], name: &str) -> Result<(OwnedFd, &'a OsStr), StoreError> {
        let path = Path::new(OsStr::from_bytes(path));
        let Some(Component::Normal(leaf)) = path.components().next_back() else {
            return Err(StoreError::unfit(name, "does not name a file inside the served folder"));
        };
        let parent = path.parent().map_or(&b""[..], |parent| parent.as_os_str().as_bytes());
        let parent = if parent.is_empty() { b"." } else { parent };
        Ok((self.resolve(parent, name, OFlag::O_PATH | OFlag::O_DIRECTORY)?, leaf))
    }

    fn resolve(&self, path: &[u8], name: &str, flags: OFlag) -> Result<OwnedFd, StoreError> {
        if path.len() > PATH_BYTES_MAX || path.contains(&0) {
            return Err(StoreError::unfit(name, "is no possible path"));
        }
        let resolve =
            ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS | ResolveFlag::RESOLVE_NO_SYMLINKS;
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
        for _ in 0..RESOLVE_TRIES_MAX {
            match openat2(&self.dir, OsStr::from_bytes(path), how) {
                Ok(fd) => return Ok(fd),
                Err(Errno::EAGAIN) => {}
                Err(Errno::EXDEV | Errno::ELOOP) => {
                    return Err(StoreError::unfit(name, "leads out of the served folder or through a symbolic link"));
                }
                Err(error) => return Err(StoreError::system(name, "cannot be opened in the served folder", error)),
            }
        }
        Err(StoreError::system(name, "cannot be resolved", Errno::EAGAIN))
    }
}

/// Reserve the space now, so that a full disk is said before the run and not in its middle.
fn preallocate(file: &OwnedFd, len: u64, name: &str) -> Result<(), StoreError> {
    match fallocate(file, FallocateFlags::empty(), 0, len as i64) {
        Ok(()) | Err(Errno::EOPNOTSUPP) => Ok(()),
        Err(error) => Err(StoreError::system(name, "no room for the sink", error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_the_root_is_reached() {
        let dir = tempfile::tempdir().unwrap();
        let root_path = dir.path().join("root");
        std::fs::create_dir(&root_path).unwrap();
        std::fs::write(dir.path().join("secret"), b"secret").unwrap();
        std::fs::write(root_path.join("open"), b"open").unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret"), root_path.join("out")).unwrap();
        std::os::unix::fs::symlink(dir.path(), root_path.join("dir")).unwrap();
        let root = Root::open(&root_path).unwrap();
        let bad: [&[u8]; 8] =
            [b"../secret", b"/etc/passwd", b"out", b"dir/secret", b"open\0x", b"", b"./../secret", &[b'a'; 5000]];
        for path in bad {
            assert!(root.source(path, 1).is_err(), "{}", printable(path));
            assert!(root.sinks(path, 1).is_err(), "{}", printable(path));
        }
        assert_eq!(root.source(b"open", 1).unwrap().len, 4);
    }

    #[test]
    fn a_sink_is_new_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("mine"), b"precious").unwrap();
        let root = Root::open(dir.path()).unwrap();
        assert!(root.sinks(b"mine", 1).is_err() && root.check_sink(b"mine").is_err());
        root.check_sink(b"new").unwrap();
        let sinks = root.sinks(b"new", 3).unwrap();
        assert_eq!(sinks.len(), 3);
        assert!(sinks[2].base + sinks[2].len <= SINK_BYTES_MAX);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(std::fs::read(dir.path().join("mine")).unwrap(), b"precious");
    }
}
