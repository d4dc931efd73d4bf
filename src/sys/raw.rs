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
