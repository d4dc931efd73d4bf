//! Extended attributes of open files and of links, which std and nix do not know.

use std::ffi::{CStr, CString};
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

/// [`set`] of what is held by a handle that is good for nothing else (O_PATH), be it a symbolic link.
pub fn set_of_held(held: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> io::Result<()> {
    // fsetxattr refuses such a handle. Its name in /proc leads to what is held itself, which is not followed further.
    let path = CString::new(format!("/proc/self/fd/{}", held.as_raw_fd()))?;
    let (start, len) = (value.as_ptr(), value.len());
    // SAFETY: both names end with a NUL, the value is as long as is said, and the kernel only reads them in the call.
    result(unsafe { libc::syscall(libc::SYS_setxattr, path.as_ptr(), name.as_ptr(), start, len, 0) })?;
    Ok(())
}
