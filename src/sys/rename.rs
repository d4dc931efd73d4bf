//! renameat2(2), which not every libc wraps.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::raw::result;

/// Rename an entry of one directory to an entry of another, unless that exists already (EEXIST).
///
/// EINVAL also means that the filesystem cannot do it.
pub fn without_replacing(from: (BorrowedFd<'_>, &CStr), to: (BorrowedFd<'_>, &CStr)) -> io::Result<()> {
    let (from_dir, to_dir) = (from.0.as_raw_fd(), to.0.as_raw_fd());
    let (from_name, to_name) = (from.1.as_ptr(), to.1.as_ptr());
    let flags = libc::RENAME_NOREPLACE;
    // SAFETY: both names end with a NUL and live through the call, in which the kernel only reads them.
    result(unsafe { libc::syscall(libc::SYS_renameat2, from_dir, from_name, to_dir, to_name, flags) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn what_exists_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), b"a").unwrap();
        std::fs::write(dir.path().join("b"), b"b").unwrap();
        let handle = std::fs::File::open(dir.path()).unwrap();
        let rename = |from, to| without_replacing((handle.as_fd(), from), (handle.as_fd(), to));
        assert_eq!(rename(c"a", c"b").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        rename(c"a", c"c").unwrap();
        assert_eq!(std::fs::read(dir.path().join("c")).unwrap(), b"a");
        assert_eq!(std::fs::read(dir.path().join("b")).unwrap(), b"b");
    }
}
