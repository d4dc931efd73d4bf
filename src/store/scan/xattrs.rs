//! Extended attributes of what is held, be it a file, a folder or a link.
//!
//! A handle that was not opened for reading is refused by fgetxattr(2), so they are asked for at its name in /proc,
//! which leads to the very thing that is held and no further, links included.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use crate::proto::manifest::{XATTRS_BYTES_MAX, XATTRS_MAX};

/// Names and values.
pub(super) type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// The attributes, by name; none where the filesystem has no such thing. An error says what is wrong in words.
pub(super) fn read(held: BorrowedFd<'_>) -> Result<Xattrs, String> {
    let path = format!("/proc/self/fd/{}", held.as_raw_fd());
    let names = match xattr::list_deref(&path) {
        Ok(names) => names,
        Err(error) if is_unsupported(&error) => return Ok(Vec::new()),
        Err(error) => return Err(format!("its extended attributes cannot be listed: {error}")),
    };
    let (mut found, mut bytes) = (Vec::new(), 0);
    for name in names {
        // Nothing: removed since it was listed.
        let Some(value) = value(&path, &name)? else { continue };
        bytes += name.len() + value.len();
        if found.len() == XATTRS_MAX || bytes > XATTRS_BYTES_MAX {
            return Err(format!(
                "its extended attributes are more than {XATTRS_MAX} or {XATTRS_BYTES_MAX} bytes: it comes without them"
            ));
        }
        found.push((name.as_bytes().to_vec(), value));
    }
    found.sort_unstable();
    Ok(found)
}

fn value(path: &str, name: &OsStr) -> Result<Option<Vec<u8>>, String> {
    xattr::get_deref(path, name).map_err(|error| format!("its extended attributes cannot be read: {error}"))
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS))
}
