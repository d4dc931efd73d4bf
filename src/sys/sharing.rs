//! Copying between files inside the kernel: sharing blocks (reflink), and copy_file_range(2).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use super::raw::result;

/// Have an empty file share all blocks of another, on filesystems that can (FICLONE).
///
/// EXDEV, EOPNOTSUPP, EINVAL and ENOTTY say that these two cannot.
pub fn clone_whole(from: &File, to: &File) -> io::Result<()> {
    // SAFETY: the argument of this request is a descriptor; no memory is handed over.
    result(unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONE, from.as_raw_fd()) }.into())?;
    Ok(())
}

/// Copy up to `len` bytes from `offset` of one file to the same place of another; 0 at the end of the first.
///
/// EXDEV, EOPNOTSUPP, EINVAL and ENOSYS say that these two cannot.
pub fn copy_range(from: &File, to: &File, offset: u64, len: usize) -> io::Result<usize> {
    let at = i64::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let (mut from_at, mut to_at) = (at, at);
    let (from_at, to_at) = (&raw mut from_at, &raw mut to_at);
    let call = libc::SYS_copy_file_range;
    // SAFETY: both offsets live through the call, and the kernel writes one i64 to each.
    result(unsafe { libc::syscall(call, from.as_raw_fd(), from_at, to.as_raw_fd(), to_at, len, 0u32) })
}

/// Whether an error of these says that the two files are of the wrong kind, and not that something is broken or full.
pub fn cannot(error: &io::Error) -> bool {
    const CANNOT: [i32; 7] =
        [libc::EXDEV, libc::EOPNOTSUPP, libc::EINVAL, libc::ENOSYS, libc::ENOTTY, libc::EPERM, libc::ETXTBSY];
    error.raw_os_error().is_some_and(|code| CANNOT.contains(&code))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn a_range_is_copied_to_its_place() {
        let (from, to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        from.write_all_at(b"0123456789", 0).unwrap();
        match copy_range(&from, &to, 4, 3) {
            Ok(n) => {
                assert_eq!(n, 3);
                let mut got = [1; 7];
                to.read_exact_at(&mut got, 0).unwrap();
                assert_eq!(&got, b"\0\0\0\x00456");
                assert_eq!(copy_range(&from, &to, 10, 5).unwrap(), 0, "it ends there");
            }
            Err(error) => assert!(cannot(&error), "{error}"),
        }
    }

    #[test]
    fn a_clone_has_the_same_bytes_or_is_refused() {
        let (from, to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        from.write_all_at(b"0123456789", 0).unwrap();
        match clone_whole(&from, &to) {
            Ok(()) => {
                let mut got = [0; 10];
                to.read_exact_at(&mut got, 0).unwrap();
                assert_eq!(&got, b"0123456789");
            }
            Err(error) => assert!(cannot(&error), "{error}"),
        }
    }

    #[test]
    fn a_full_disk_is_no_wrong_kind() {
        assert!(!cannot(&io::Error::from_raw_os_error(libc::ENOSPC)));
        assert!(!cannot(&io::Error::from_raw_os_error(libc::EIO)));
    }
}
