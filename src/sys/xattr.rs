//! Extended attributes of open files, which std and nix do not know.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::raw::result;

/// Set an extended attribute of an open file or folder, be there one of that name or not.
pub fn set(file: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> io::Result<()> {
    let (fd, start, len) = (file.as_raw_fd(), value.as_ptr(), value.len());
    // SAFETY: the name ends with a NUL, the value is as long as is said, and the kernel only reads both in the call.
    result(unsafe { libc::syscall(libc::SYS_fsetxattr, fd, name.as_ptr(), start, len, 0) })?;
    Ok(())
}
