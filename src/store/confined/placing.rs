//! What a copy needs of the root beyond single files: links, folders to sync, and its own temporaries again.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, UtimensatFlags, fstat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat, geteuid, linkat, symlinkat};

use super::entry::Kind;
use super::operations::CANNOT_OPEN;
use super::refusal::Refusal;
use super::resolver::settled;
use super::{Links, RelativePath, Root};
use crate::store::StoreError;

/// A handle that can be synced and described, which those for resolving cannot.
const FOLDER: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);
/// Neither waits nor follows.
const PLAIN: OFlag = OFlag::O_NOFOLLOW.union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY).union(OFlag::O_CLOEXEC);

impl Root {
    /// Open a file for writing that this user made and nobody else has a name of: a temporary of ours.
    pub fn open_own(&self, path: &RelativePath) -> Result<File, StoreError> {
        let opened = self.at(path, Links::Refused, |folder, name| {
            let file = open_plain(folder, name, OFlag::O_RDWR)?;
            let stat = fstat(&file)?;
            let is_ours = stat.st_nlink == 1 && stat.st_uid == geteuid().as_raw();
            if Kind::of_mode(stat.st_mode) != Kind::File || !is_ours {
                return Err(Refusal::Unfit("is no temporary file of this user: remove it"));
            }
            Ok(file)
        });
        opened.map_err(|refusal| refusal.about(path, CANNOT_OPEN))
    }

    /// Open a regular file to sync it; no link is followed.
    pub fn open_plain(&self, path: &RelativePath) -> Result<File, StoreError> {
        let opened = self.at(path, Links::Refused, |folder, name| Ok(open_plain(folder, name, OFlag::O_RDONLY)?));
        opened.map_err(|refusal| refusal.about(path, CANNOT_OPEN))
    }

    /// A handle of a folder that can be synced, locked and described.
    pub fn open_folder(&self, path: &RelativePath) -> Result<File, StoreError> {
        let open = || {
            let folder = self.living_folder(path.as_bytes(), Links::Refused)?;
            settled(|| openat(&folder, ".", FOLDER, Mode::empty()))
        };
        open().map(File::from).map_err(|error: Errno| Refusal::from(error).about(path, CANNOT_OPEN))
    }

    /// Make a symbolic link. Where it leads is nobody's business here: nothing that writes follows it.
    pub fn create_symlink(&self, target: &[u8], path: &RelativePath) -> Result<(), StoreError> {
        let made = self.at(path, Links::Refused, |folder, name| {
            Ok(symlinkat(OsStr::from_bytes(target), folder, OsStr::from_bytes(name))?)
        });
        made.map_err(|refusal| refusal.about(path, "the link cannot be made"))
    }

    /// Give a file one more name. A symbolic link is not followed.
    pub fn create_hard_link(&self, from: &RelativePath, to: &RelativePath) -> Result<(), StoreError> {
        let made = self.at(from, Links::Refused, |from_dir, from| {
            self.at(to, Links::Refused, |to_dir, to| {
                let (from, to) = (OsStr::from_bytes(from), OsStr::from_bytes(to));
                linkat(from_dir, from, to_dir, to, AtFlags::empty()).map_err(|error| match error {
                    Errno::EXDEV => Refusal::Unfit("cannot be one file: they are on different filesystems"),
                    error => error.into(),
                })
            })
        });
        made.map_err(|refusal| refusal.about_both(from, to, "cannot be linked"))
    }

    /// Set the owner, where one is given, and the time of a symbolic link itself.
    pub fn describe_symlink(
        &self,
        path: &RelativePath,
        owner: Option<(u32, u32)>,
        modified: TimeSpec,
    ) -> Result<(), StoreError> {
        let done = self.at(path, Links::Refused, |folder, name| {
            let name = OsStr::from_bytes(name);
            if let Some((user, group)) = owner {
                let (user, group) = (Some(Uid::from_raw(user)), Some(Gid::from_raw(group)));
                fchownat(folder, name, user, group, AtFlags::AT_SYMLINK_NOFOLLOW)?;
            }
            let accessed = TimeSpec::UTIME_OMIT;
            Ok(utimensat(folder, name, &accessed, &modified, UtimensatFlags::NoFollowSymlink)?)
        });
        done.map_err(|refusal| refusal.about(path, "cannot be given its owner or time"))
    }
}

fn open_plain(folder: BorrowedFd<'_>, name: &[u8], access: OFlag) -> Result<File, Errno> {
    settled(|| openat(folder.as_fd(), OsStr::from_bytes(name), access | PLAIN, Mode::empty())).map(File::from)
}
