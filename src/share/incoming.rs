//! The file of one upload: hidden and partial while it comes, then given its name, which nothing else has.
//!
//! Everything goes through the confined root, and through no link. What is dropped without having got its name is
//! removed, with the folders that were made for it if they are empty ([`Folders`]); what a killed program leaves is
//! swept by a later one ([`sweep`]).
//!
//! A file gets its name in the folder that its path leads to at that moment, which is resolved anew then. If the folder
//! was moved meanwhile, be it out of the share, the partial file is not where it is looked for, and nothing lands: not
//! where the folder is now, nor in another that has its name. Only whoever moves it between that look and the rename
//! right after takes the file along, as he could have a moment later.

use std::ffi::CString;
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};

use super::folders::Folders;
use super::target::Target;
use super::tree::{Place, TreeError};
use super::uploads::{Grant, UploadId};
use crate::store::StoreError;
use crate::store::confined::{DEPTH_MAX, Kind, Metadata, NAME_BYTES_MAX, RelativePath, Root};
use crate::sys::rename;

/// What the names of partial files begin with; [`UploadId::file_name`] follows.
pub const PREFIX: &str = ".lr-up-";
/// What the names of files begin with that a scan found something in, where they cannot be moved away.
pub const QUARANTINE_PREFIX: &str = ".lr-quarantine-";
/// Most numbers in parentheses that are tried for a name that is taken.
const CLASHES_MAX: u32 = 9999;
/// What is left free on the filesystem: so many parts of the whole, and no more than so many bytes.
const FREE_PARTS: u64 = 100;
const FREE_BYTES_MAX: u64 = 256 << 20;
/// What the blocks of a file are counted in, bytes.
const BLOCK_BYTES: u64 = 512;
/// Permission bits before the umask.
const FILE_MODE: u32 = 0o666;

/// Why a file does not come in.
#[derive(Debug, thiserror::Error)]
pub enum IncomingError {
    /// No file of a share may have this name.
    #[error("this name is not allowed: {0}")]
    Name(&'static str),
    /// There is no room.
    #[error("no room is left")]
    Full,
    /// The partial file, or its folder, is not there any more.
    #[error("the upload's file or folder is gone")]
    Gone,
    /// It has another length than was said.
    #[error("the file is not as long as was said")]
    Length,
    /// Something on the way is a link, or a file.
    #[error("files are added only in real folders")]
    Folder,
    /// More files and folders than a share takes.
    #[error("no more files and folders are taken here")]
    Entries,
    /// All names that would do are taken.
    #[error("too many files have that name")]
    Taken,
    /// The tree or the system refuses.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

impl From<StoreError> for IncomingError {
    fn from(error: StoreError) -> IncomingError {
        let system = match &error {
            StoreError::System { error, .. } => error,
            // A path that leads out of the root, or through a link.
            StoreError::Unfit { .. } => return IncomingError::Folder,
            _ => return TreeError::Store(error).into(),
        };
        match system.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG) => IncomingError::Full,
            Some(Errno::ENOENT | Errno::ESTALE) => IncomingError::Gone,
            Some(Errno::ELOOP | Errno::ENOTDIR | Errno::EXDEV) => IncomingError::Folder,
            Some(Errno::ENAMETOOLONG) => IncomingError::Name("it is too long"),
            _ => TreeError::Store(error).into(),
        }
    }
}

/// The system's answer about a file that is open.
pub fn failed(error: io::Error) -> IncomingError {
    StoreError::System { name: "an upload".to_string(), what: "cannot be written", error }.into()
}

/// Bytes that may still be written to the filesystem of a file or folder.
pub fn room(of: &File) -> Result<u64, IncomingError> {
    let about = fstatfs(of).map_err(|error| failed(error.into()))?;
    let block = u64::try_from(about.block_size()).unwrap_or(0);
    let kept = (about.blocks().saturating_mul(block) / FREE_PARTS).min(FREE_BYTES_MAX);
    Ok(about.blocks_available().saturating_mul(block).saturating_sub(kept))
}

/// The file of an upload while it comes.
#[derive(Debug)]
pub struct Incoming {
    target: Target,
    id: UploadId,
    partial: RelativePath,
    folders: Arc<Folders>,
    /// The file has neither its name nor been removed.
    is_there: bool,
    /// When it was changed, as whoever sends it says.
    modified: Option<SystemTime>,
    /// What it has of the quota.
    pub grant: Grant,
}

/// How a file is to come in.
#[derive(Debug)]
pub struct Begin {
    /// Where to.
    pub target: Target,
    /// Its number.
    pub id: UploadId,
    /// When it was changed.
    pub modified: Option<SystemTime>,
    /// What it will need, bytes, as far as that is known.
    pub bytes: u64,
    /// What it has of the quota.
    pub grant: Grant,
    /// Permission bits that are taken away.
    pub umask: u32,
    /// Those that uploads made.
    pub folders: Arc<Folders>,
}

impl Incoming {
    /// Make the partial file. It is its owner's alone until it is whole.
    pub fn begin(begin: Begin) -> Result<(Incoming, File), IncomingError> {
        let Begin { target, id, modified, bytes, grant, umask, folders } = begin;
        let partial = target.at(format!("{PREFIX}{}", id.file_name()).as_bytes())?;
        let mut held = folders.hold();
        held.make(&target, umask, &grant)?;
        let place = target.place();
        let made = || {
            if room(&place.root.open_folder(&place.path)?)? < bytes {
                return Err(IncomingError::Full);
            }
            Ok(place.root.create_new(&partial)?)
        };
        let file = made().inspect_err(|_| held.leave(place))?;
        drop(held);
        Ok((Incoming { target, id, partial, folders, is_there: true, modified, grant }, file))
    }

    /// Open the partial file again, if it is still the one.
    pub fn open(&self) -> Result<File, IncomingError> {
        Ok(self.root().open_own(&self.partial)?)
    }

    /// Reserve room for all of a file that is empty, so that a full disk is said before the first byte.
    ///
    /// It is looked anew whether there is room: others may have taken it since the upload was begun. In memory (tmpfs)
    /// that look is all, as reserving would make every page twice.
    pub fn reserve(file: &File, bytes: u64) -> Result<(), IncomingError> {
        let Ok(len) = i64::try_from(bytes) else { return Err(IncomingError::Full) };
        if len == 0 {
            return Ok(());
        }
        // What an earlier request reserved for it counts as there.
        let has = file.metadata().map_err(failed)?.blocks().saturating_mul(BLOCK_BYTES);
        if room(file)?.saturating_add(has) < bytes {
            return Err(IncomingError::Full);
        }
        if fstatfs(file).is_ok_and(|about| about.filesystem_type() == TMPFS_MAGIC) {
            return Ok(());
        }
        match fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, len) {
            Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(()),
            Err(error) => {
                // Some filesystems keep what they found until then: the disk would be full for all the others.
                let _ = file.set_len(0);
                Err(failed(error.into()))
            }
        }
    }

    /// Where it goes.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// It goes elsewhere, in the same root, once it is whole.
    pub fn retarget(&mut self, target: Target, umask: u32) -> Result<(), IncomingError> {
        if !Arc::ptr_eq(&target.place().root, &self.target.place().root) {
            return Err(IncomingError::Folder);
        }
        self.folders.hold().make(&target, umask, &self.grant)?;
        self.target = target;
        Ok(())
    }

    fn root(&self) -> &Root {
        &self.target.place().root
    }

    /// Where the partial file is.
    fn at_first(&self) -> Place {
        let path = self.partial.parent().unwrap_or_else(RelativePath::root);
        Place { root: self.target.place().root.clone(), path }
    }

    /// All of it is written: make that sure, and so that it outlasts a power failure before it has a name.
    pub fn settle(file: &File, len: u64) -> Result<(), IncomingError> {
        if Metadata::of_open(file).map_err(failed)?.len != len {
            return Err(IncomingError::Length);
        }
        file.sync_data().map_err(failed)
    }

    /// Give it its name, or that with a number where others have it; the share's path of what it is called now.
    pub fn land(mut self, file: &File, umask: u32) -> Result<RelativePath, IncomingError> {
        if let Some(modified) = self.modified {
            file.set_modified(modified).map_err(failed)?;
        }
        file.set_permissions(Permissions::from_mode(FILE_MODE & !umask)).map_err(failed)?;
        let first = self.at_first();
        self.root().refresh(&first.path);
        self.root().refresh(&self.target.place().path);
        for number in 1..=CLASHES_MAX {
            let name = numbered(self.target.name(), number);
            let place = self.target.at(&name)?;
            match self.name_in_its_folder(&place, umask)? {
                Ok(()) => {
                    self.is_there = false;
                    self.grant.keep();
                    let mut held = self.folders.hold();
                    held.keep(self.target.place());
                    held.leave(&first);
                    return self.target.beside(&name);
                }
                Err(StoreError::System { error, .. }) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(IncomingError::Taken)
    }

    /// Give it a name in the folder that it goes to. The end of another upload may have removed that folder, which was
    /// empty: it is made again, and nobody removes it before the file is in it.
    fn name_in_its_folder(&self, place: &RelativePath, umask: u32) -> Result<Result<(), StoreError>, IncomingError> {
        let mut held = self.folders.hold();
        held.make(&self.target, umask, &self.grant)?;
        Ok(self.name(place))
    }

    fn name(&self, place: &RelativePath) -> Result<(), StoreError> {
        match self.root().rename_no_replace(&self.partial, place) {
            // A filesystem that cannot do it in one step: a second name is no replacement either.
            Err(StoreError::Unfit { .. }) => {
                self.root().create_hard_link(&self.partial, place)?;
                self.root().remove_file(&self.partial)
            }
            done => done,
        }
    }

    /// Put it where nobody is served from: into `folder`, or, if that is on another filesystem, hidden where it is.
    /// Where it is then, for the owner.
    pub fn put_away(mut self, folder: Option<&Path>) -> Result<String, IncomingError> {
        let name = self.id.file_name();
        if let Some(folder) = folder
            && self.move_to(folder, &name).is_ok()
        {
            self.is_there = false;
            self.grant.keep();
            return Ok(folder.join(name).display().to_string());
        }
        let first = self.at_first();
        let named = first.path.join(format!("{QUARANTINE_PREFIX}{name}").as_bytes());
        let hidden = named.map_err(|_| IncomingError::Name("it is too long"))?;
        self.root().rename_no_replace(&self.partial, &hidden)?;
        self.is_there = false;
        self.grant.keep();
        self.folders.hold().keep(&first);
        Ok(hidden.to_string())
    }

    fn move_to(&self, folder: &Path, name: &str) -> Result<(), IncomingError> {
        let from = self.root().open_folder(&self.at_first().path)?;
        let partial = self.partial.names().last().unwrap_or_default();
        let to = File::open(folder).map_err(failed)?;
        let c_string = |bytes: &[u8]| CString::new(bytes).map_err(|error| failed(error.into()));
        let (partial, name) = (c_string(partial)?, c_string(name.as_bytes())?);
        rename::without_replacing((from.as_fd(), &partial), (to.as_fd(), &name)).map_err(failed)
    }
}

/// What has got no name is not left behind, nor are folders that were made for it.
impl Drop for Incoming {
    fn drop(&mut self) {
        if self.is_there
            && let Err(error) = self.root().remove_file(&self.partial)
        {
            tracing::debug!(%error, "a partial file is left");
        }
        let mut held = self.folders.hold();
        held.leave(&self.at_first());
        held.leave(self.target.place());
    }
}

/// `a.txt`, `a (2).txt`, `a (3).txt`; the stem is cut where the name would be too long.
fn numbered(name: &[u8], number: u32) -> Vec<u8> {
    if number < 2 {
        return name.to_vec();
    }
    let text = String::from_utf8_lossy(name);
    let dot = text.rfind('.').filter(|dot| *dot > 0 && text.len() - dot <= 16);
    let (stem, extension) = text.split_at(dot.unwrap_or(text.len()));
    let mark = format!(" ({number})");
    let mut end = stem.len().min(NAME_BYTES_MAX.saturating_sub(mark.len() + extension.len()));
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{mark}{extension}", &stem[..end]).into_bytes()
}

/// Permission bits that this process takes away from what it makes. Asking by umask(2) would change it for a moment.
pub fn umask() -> u32 {
    const USUAL: u32 = 0o022;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok()).unwrap_or(USUAL)
}

/// Remove partial files of earlier runs below a place that nobody has written for so long. How many there were.
pub fn sweep(root: &Arc<Root>, top: &RelativePath, older_than: Duration) -> usize {
    let is_ours = |name: &[u8]| {
        let number = name.strip_prefix(PREFIX.as_bytes()).and_then(|number| std::str::from_utf8(number).ok());
        number.is_some_and(|number| UploadId::decode(number).is_some())
    };
    let before = SystemTime::now().checked_sub(older_than);
    let Some(before) = before.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok()) else { return 0 };
    let (mut folders, mut removed) = (vec![top.clone()], 0);
    while let Some(folder) = folders.pop() {
        let Ok(mut entries) = root.read_dir_once(&folder) else { continue };
        while let Some(Ok(listed)) = entries.next_listed() {
            let Ok(path) = folder.join(listed.name()) else { continue };
            let metadata = || entries.metadata(&listed).ok().flatten();
            let kind = listed.kind().or_else(|| metadata().map(|found| found.kind));
            if kind == Some(Kind::Directory) && path.names().count() < DEPTH_MAX {
                folders.push(path);
            } else if kind == Some(Kind::File) && is_ours(listed.name()) {
                let is_old = metadata().is_some_and(|found| {
                    found.uid == nix::unistd::geteuid().as_raw() && found.modified_s < before.as_secs() as i64
                });
                removed += usize::from(is_old && root.remove_file(&path).is_ok());
            }
        }
    }
    removed
}

#[cfg(test)]
#[path = "incoming_tests.rs"]
mod tests;
