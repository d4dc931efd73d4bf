//! What a copy needs of the root beyond single files: links, folders to sync, and its own temporaries again.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, UtimensatFlags, fstat, utimensat};
use nix::sys::statfs::fstatfs;
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, geteuid, linkat, symlinkat, unlinkat};

use super::entry::{Kind, Metadata};
use super::operations::{CANNOT_OPEN, errno};
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

    /// Open a regular file to read or sync it; no link is followed. Of a root that is a file this is the same handle.
    pub fn open_plain(&self, path: &RelativePath) -> Result<File, StoreError> {
        if path.is_root() && is_file(self.folder.as_fd()) {
            let handle = self.folder.try_clone().map_err(|error| Refusal::from(errno(&error)));
            return handle.map(File::from).map_err(|refusal| refusal.about(path, CANNOT_OPEN));
        }
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

    /// Whether names that differ only in their case are one here, as far as the filesystem is known for that.
    pub fn folds_case(&self) -> bool {
        /// statfs(2): vfat, exfat, ntfs3, ntfs, cifs, smb2, hfs+.
        const FOLDING: [i64; 7] = [0x4d44, 0x2011_bab0, 0x7366_746e, 0x5346_544e, 0xff53_4d42, 0xfe53_4d42, 0x482b];
        let Ok(folder) = self.open_folder(&RelativePath::root()) else { return false };
        let is_known = fstatfs(&folder).is_ok_and(|about| FOLDING.contains(&about.filesystem_type().0));
        // ext4 and f2fs fold in folders that have the flag, which those made in them inherit.
        is_known || crate::sys::raw::folds_case(folder.as_fd())
    }

    /// Where a symbolic link leads, as it stands there.
    pub fn read_link(&self, path: &RelativePath) -> Result<Vec<u8>, StoreError> {
        let read = self.at(path, Links::Inside, |folder, name| Ok(readlinkat(folder, OsStr::from_bytes(name))?));
        read.map(OsStringExt::into_vec).map_err(|refusal| refusal.about(path, "cannot be read as a link"))
    }

    /// Remove an empty folder.
    pub fn remove_dir(&self, path: &RelativePath) -> Result<(), StoreError> {
        let remove = |folder: BorrowedFd<'_>, name: &[u8]| {
            Ok(unlinkat(folder, OsStr::from_bytes(name), UnlinkatFlags::RemoveDir)?)
        };
        let removed = self.at(path, Links::Refused, remove);
        self.handles.forget(path.as_bytes());
        removed.map_err(|refusal| refusal.about(path, "cannot be removed"))
    }

    /// A file without a name, in the folder that holds the last name of a path, with these permission bits as far as
    /// the umask allows them. It is gone with its handle unless it gets a name ([`Root::name_unnamed`]). Not all
    /// filesystems have such files.
    pub fn create_unnamed(&self, path: &RelativePath, mode: u32) -> Result<File, StoreError> {
        let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_truncate(mode);
        let made = self.at(path, Links::Refused, |folder, _| Ok(settled(|| openat(folder, ".", flags, mode))?));
        made.map(File::from).map_err(|refusal| refusal.about(path, "cannot be created"))
    }

    /// Give a file without a name this one; it must not exist. Not everybody may.
    pub fn name_unnamed(&self, file: &File, path: &RelativePath) -> Result<(), StoreError> {
        let made = self.at(path, Links::Refused, |folder, name| {
            Ok(linkat(file, "", folder, OsStr::from_bytes(name), AtFlags::AT_EMPTY_PATH)?)
        });
        made.map_err(|refusal| refusal.about(path, "cannot be given its name"))
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

fn is_file(handle: BorrowedFd<'_>) -> bool {
    fstat(handle).is_ok_and(|stat| Metadata::of(&stat).kind == Kind::File)
}

fn open_plain(folder: BorrowedFd<'_>, name: &[u8], access: OFlag) -> Result<File, Errno> {
    settled(|| openat(folder.as_fd(), OsStr::from_bytes(name), access | PLAIN, Mode::empty())).map(File::from)
}
