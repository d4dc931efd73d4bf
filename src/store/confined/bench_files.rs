//! Files in the root as sources and sinks of the benchmark.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::entry::Accept;
use super::operations::{CANNOT_OPEN, OWNER_ONLY, create_entry};
use super::path::shown;
use super::{Links, RelativePath, Root};
use crate::mover::{FileSink, Source};
use crate::store::{StoreError, file};

/// What a sink file is long at most, over all streams of a job; they write it round and round.
pub const SINK_BYTES_MAX: u64 = 1 << 30;

const EXISTS: &str = "exists already and is not overwritten: name a new file as --sink";

impl Root {
    /// A file or block device in the folder as a source. The path may be as a person types it.
    pub fn source(&self, path: &[u8], needed: u64) -> Result<Source, StoreError> {
        let parsed = RelativePath::parse_typed(path)?;
        let file = self.open_accepted(&parsed, Accept::FilesAndBlockDevices)?;
        file::from_file(file, &shown(path), needed)
    }

    /// A new file in the folder, preallocated, as sinks for `streams` streams. It has lost its name again when this
    /// returns, so nothing is left behind however the job ends; a file that exists is never touched.
    pub fn sinks(&self, path: &[u8], streams: u32) -> Result<Vec<FileSink>, StoreError> {
        let parsed = RelativePath::parse_typed(path)?;
        let name = shown(path);
        let (file, unlinked) = self
            .at(&parsed, Links::Refused, |folder, leaf| Ok(create_nameless(folder, leaf)?))
            .map_err(|refusal| match refusal {
                super::Refusal::System(Errno::EEXIST) => StoreError::unfit(&name, EXISTS),
                refusal => refusal.named(&name, "cannot be created"),
            })?;
        unlinked.map_err(|error| StoreError::system(&name, "cannot be unlinked", error))?;
        let each = SINK_BYTES_MAX / u64::from(streams.max(1));
        preallocate(&file, each * u64::from(streams), &name)?;
        let file = Arc::new(File::from(file));
        let sink =
            |n: u32| FileSink { file: file.clone(), name: name.as_str().into(), base: u64::from(n) * each, len: each };
        Ok((0..streams).map(sink).collect())
    }

    /// Whether a sink could be made there, without making it.
    pub fn check_sink(&self, path: &[u8]) -> Result<(), StoreError> {
        let parsed = RelativePath::parse_typed(path)?;
        let name = shown(path);
        match self.at(&parsed, Links::Refused, |folder, leaf| Ok(super::entry::stat_entry(folder, leaf).is_ok())) {
            Ok(true) => Err(StoreError::unfit(&name, EXISTS)),
            Ok(false) => Ok(()),
            Err(refusal) => Err(refusal.named(&name, CANNOT_OPEN)),
        }
    }
}

/// Make a file and take its name away again.
fn create_nameless(folder: BorrowedFd<'_>, name: &[u8]) -> Result<(OwnedFd, Result<(), Errno>), Errno> {
    let file = create_entry(folder, name, OWNER_ONLY)?;
    Ok((file, unlinkat(folder, OsStr::from_bytes(name), UnlinkatFlags::NoRemoveDir)))
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

    #[test]
    fn a_file_may_be_named_as_a_person_types_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("sub/open"), b"open").unwrap();
        let root = Root::open(dir.path()).unwrap();
        for path in ["sub/open", "./sub/open", "sub//open"] {
            assert_eq!(root.source(path.as_bytes(), 1).unwrap().len, 4);
        }
        root.check_sink(b"./sub//new").unwrap();
        assert!(root.check_sink(b"./sub//open").is_err());
    }
}
