//! System calls without glibc's cancellation points.
//!
//! In a program with threads each of glibc's `send`, `recv`, `pread`, `splice` first arms and then disarms thread
//! cancellation, which nobody here uses: two atomic operations a call, 2 to 3 % of a 1 KiB send. `syscall(2)` does
//! not. Errors are returned as std does.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `sendto` without an address.
///
/// # Safety
/// `start..start + len` is mapped, or the kernel's EFAULT is an acceptable answer; nobody writes it through a
/// reference meanwhile.
pub(super) unsafe fn send(sock: BorrowedFd<'_>, start: *const u8, len: usize, flags: i32) -> io::Result<usize> {
    let none = std::ptr::null::<libc::sockaddr>();
    // SAFETY: the kernel only reads the range, as the caller allows; the address is absent.
    result(unsafe { libc::syscall(libc::SYS_sendto, sock.as_raw_fd(), start, len, flags, none, 0usize) })
}

/// `recvfrom` without an address.
///
/// # Safety
/// `start..start + len` may be written by the kernel, or `flags` say that it will not.
pub(super) unsafe fn receive(sock: BorrowedFd<'_>, start: *mut u8, len: usize, flags: i32) -> io::Result<usize> {
    let none = std::ptr::null_mut::<libc::sockaddr>();
    // SAFETY: the kernel writes at most the range that the caller gave it; the address is absent.
    result(unsafe { libc::syscall(libc::SYS_recvfrom, sock.as_raw_fd(), start, len, flags, none, none) })
}

/// Read a file at an offset; 0 at its end.
pub fn read_at(file: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let (start, len) = (buffer.as_mut_ptr(), buffer.len());
    // SAFETY: the pointer and length are those of a slice that is ours alone while we hold it mutably.
    result(unsafe { libc::syscall(libc::SYS_pread64, file.as_raw_fd(), start, len, signed(offset)?) })
}

/// Whether the byte at an offset can be read without waiting for a device; also where that cannot be told.
pub fn is_cached(file: BorrowedFd<'_>, offset: u64) -> bool {
    let mut byte = 0u8;
    let part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let Ok(offset) = signed(offset) else { return true };
    // SAFETY: the one part is one byte that lives through the call.
    let got = unsafe { libc::preadv2(file.as_raw_fd(), &raw const part, 1, offset, libc::RWF_NOWAIT) };
    got >= 0 || io::Error::last_os_error().kind() != io::ErrorKind::WouldBlock
}

/// Whether a range of a file is a hole, which reads as zeros; not where the filesystem does not tell.
pub fn is_hole(file: BorrowedFd<'_>, offset: u64, len: u64) -> bool {
    let Ok(start) = signed(offset) else { return false };
    // SAFETY: no memory is handed over. The file's position, which this moves, is used by nobody.
    let data = unsafe { libc::lseek(file.as_raw_fd(), start, libc::SEEK_DATA) };
    match u64::try_from(data) {
        Ok(data) => data >= offset.saturating_add(len),
        // ENXIO: there is no data from there to the end.
        Err(_) => io::Error::last_os_error().raw_os_error() == Some(libc::ENXIO),
    }
}

/// Whether a folder has the flag of ext4 and f2fs that makes it ignore the case of names.
pub fn folds_case(folder: BorrowedFd<'_>) -> bool {
    const FS_CASEFOLD_FL: libc::c_long = 0x4000_0000;
    let mut flags: libc::c_long = 0;
    // SAFETY: FS_IOC_GETFLAGS writes an int, for which a long has room.
    let got = unsafe { libc::ioctl(folder.as_raw_fd(), libc::FS_IOC_GETFLAGS, &raw mut flags) };
    got == 0 && flags & FS_CASEFOLD_FL != 0
}

/// Begin to write dirty pages of a range to the device, without waiting for it.
pub fn start_writeback(file: BorrowedFd<'_>, offset: u64, len: u64) -> io::Result<()> {
    let (offset, len) = (signed(offset)?, signed(len)?);
    // SAFETY: no memory is handed over.
    let done = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Send up to `len` bytes of a file from `offset` into a socket; 0 at the end of the file.
pub fn sendfile(sock: BorrowedFd<'_>, file: BorrowedFd<'_>, offset: u64, len: usize) -> io::Result<usize> {
    let mut offset = signed(offset)?;
    let at = &raw mut offset;
    // SAFETY: `offset` lives through the call, and the kernel writes one i64 there.
    result(unsafe { libc::syscall(libc::SYS_sendfile, sock.as_raw_fd(), file.as_raw_fd(), at, len) })
}

/// Move up to `len` bytes between two descriptors, one of which is a pipe; offsets only where a file has them.
pub fn splice(
    from: (BorrowedFd<'_>, Option<u64>),
    to: (BorrowedFd<'_>, Option<u64>),
    len: usize,
    flags: u32,
) -> io::Result<usize> {
    let (mut from_at, mut to_at) = (from.1.map(signed).transpose()?, to.1.map(signed).transpose()?);
    let pointer = |at: &mut Option<i64>| at.as_mut().map_or(std::ptr::null_mut(), std::ptr::from_mut);
    let (from_fd, to_fd) = (from.0.as_raw_fd(), to.0.as_raw_fd());
    let (from_at, to_at) = (pointer(&mut from_at), pointer(&mut to_at));
    // SAFETY: each offset pointer is null or points at an i64 that lives through the call.
    result(unsafe { libc::syscall(libc::SYS_splice, from_fd, from_at, to_fd, to_at, len, flags) })
}

fn signed(offset: u64) -> io::Result<i64> {
    i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// The usual convention of system calls: a count, or -1 and errno.
pub(super) fn result(got: libc::c_long) -> io::Result<usize> {
    usize::try_from(got).map_err(|_| io::Error::last_os_error())
}
