//! Regular files and block devices as sources.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use super::StoreError;
use crate::mover::Source;
use crate::text::printable;

/// Open a file or block device as a source; it must hold at least `needed` bytes.
pub fn open(path: &Path, needed: u64) -> Result<Source, StoreError> {
    let name = printable(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()));
    // O_NONBLOCK: opening a FIFO must not wait for a writer. It means nothing to files and block devices.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
        .map_err(|error| StoreError::system(&name, "cannot be opened", error))?;
    from_file(file, &name, needed)
}

/// Make an open file a source, if it is fit to be one.
pub(super) fn from_file(mut file: File, name: &str, needed: u64) -> Result<Source, StoreError> {
    let kind = file.metadata().map_err(|error| StoreError::system(name, "cannot be examined", error))?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Err(StoreError::unfit(name, "is neither a regular file nor a block device: name one of these"));
    }
    // A block device has no length in its metadata, but an end that can be sought.
    let len = file.seek(SeekFrom::End(0)).map_err(|error| StoreError::system(name, "cannot be measured", error))?;
    if len == 0 {
        return Err(StoreError::unfit(name, "is empty: name a file that holds data"));
    }
    if len < needed {
        return Err(StoreError::TooShort { name: name.to_string(), len, needed });
    }
    Ok(Source { file: Arc::new(file), len, name: name.into(), resident: None, segments: Arc::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfit_sources_are_refused_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("empty"), b"").unwrap();
        std::fs::write(path("short"), b"abc").unwrap();
        nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let table = [
            ("missing", "No such file"),
            ("empty", "is empty"),
            ("short", "holds 3 bytes"),
            ("fifo", "neither a regular file"),
            (".", "neither a regular file"),
        ];
        for (name, expected) in table {
            let said = open(&path(name), 4).unwrap_err().to_string();
            assert!(said.contains(expected), "{name}: {said}");
        }
        assert_eq!(open(&path("short"), 3).unwrap().len, 3);
    }
}
