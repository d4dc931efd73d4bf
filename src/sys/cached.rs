//! Reading what is in memory already, without ever waiting for a disk.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};

/// Read at an offset what can be had at once: `None` if a disk would have to be waited for, or if this filesystem
/// cannot tell. May read less than asked for; 0 is the end of the file.
///
/// See `RWF_NOWAIT` in preadv2(2). tmpfs knows nothing of it; its files are read in any case ([`is_in_memory`]).
pub fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
    let Ok(offset) = libc::off_t::try_from(offset) else { return Err(io::ErrorKind::InvalidInput.into()) };
    let part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: the one part points to `buffer`, which is borrowed for the call and as long as it says; the descriptor is
    // open as long as `file` is.
    let n = unsafe { libc::preadv2(file.as_raw_fd(), &part, 1, offset, libc::RWF_NOWAIT) };
    if let Ok(n) = usize::try_from(n) {
        return Ok(Some(n));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EINTR | libc::EOPNOTSUPP | libc::ENOSYS) => Ok(None),
        _ => Err(error),
    }
}

/// Whether a file has no disk below it that would have to be waited for.
pub fn is_in_memory(file: &File) -> bool {
    fstatfs(file).is_ok_and(|about| about.filesystem_type() == TMPFS_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_just_written_is_read_at_once_or_not_at_all() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"abcdef").unwrap();
        let opened = File::open(file.path()).unwrap();
        let mut buffer = [0; 4];
        if let Some(n) = read_at(&opened, &mut buffer, 1).unwrap() {
            assert_eq!((n, &buffer), (4, b"bcde"));
        }
        assert!(matches!(read_at(&opened, &mut buffer, 6).unwrap(), Some(0) | None));
        assert!(read_at(&opened, &mut buffer, u64::MAX).is_err());
    }
}
