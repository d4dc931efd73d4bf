//! A pipe as the in-kernel buffer that splice needs, and the two ways to splice.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::raw::splice;

/// What a pipe is asked to hold. The kernel's limit for an unprivileged user is 1 MiB a pipe by default.
const CAPACITY_WANTED_BYTES: i32 = 1 << 20;

/// A non-blocking pipe that knows how much it holds.
///
/// Invariant: `held` bytes were spliced in and not yet out; nobody else has its ends.
#[derive(Debug)]
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    capacity: usize,
    held: usize,
}

impl Pipe {
    /// A new pipe, of 1 MiB where the system's limits allow it, else of the default size.
    pub fn new() -> io::Result<Pipe> {
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let capacity = match fcntl(&write, FcntlArg::F_SETPIPE_SZ(CAPACITY_WANTED_BYTES)) {
            Ok(bytes) => bytes,
            Err(_) => fcntl(&write, FcntlArg::F_GETPIPE_SZ)?,
        };
        Ok(Pipe { read, write, capacity: usize::try_from(capacity).unwrap_or(0), held: 0 })
    }

    /// Bytes in it.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Most bytes that it can hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Move up to `len` bytes of `file` from `offset` into the pipe; 0 at the end of the file.
    pub fn fill_from_file(&mut self, file: BorrowedFd<'_>, offset: u64, len: usize) -> io::Result<usize> {
        let n = splice((file, Some(offset)), (self.write.as_fd(), None), len, libc::SPLICE_F_MOVE)?;
        self.held += n;
        Ok(n)
    }

    /// Move up to `len` bytes from a stream into the pipe; 0 when the stream ended.
    pub fn fill_from_stream(&mut self, stream: BorrowedFd<'_>, len: usize) -> io::Result<usize> {
        let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
        let n = splice((stream, None), (self.write.as_fd(), None), len, flags)?;
        self.held += n;
        Ok(n)
    }

    /// Move what the pipe holds, up to `len`, into a stream; `more` says that more follows at once.
    pub fn drain_to_stream(&mut self, stream: BorrowedFd<'_>, len: usize, more: bool) -> io::Result<usize> {
        let more = if more { libc::SPLICE_F_MORE } else { 0 };
        let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK | more;
        self.drain(stream, None, len, flags)
    }

    /// Move what the pipe holds, up to `len`, into a file at `offset`, or into a device that has no offsets.
    pub fn drain_to_file(&mut self, file: BorrowedFd<'_>, offset: Option<u64>, len: usize) -> io::Result<usize> {
        self.drain(file, offset, len, libc::SPLICE_F_MOVE)
    }

    fn drain(&mut self, out: BorrowedFd<'_>, offset: Option<u64>, len: usize, flags: u32) -> io::Result<usize> {
        let n = splice((self.read.as_fd(), None), (out, offset), len, flags)?;
        self.held -= n.min(self.held);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::fs::FileExt;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_file_passes_through_to_a_stream_and_back_to_a_file() {
        let source = tempfile::tempfile().unwrap();
        source.write_all_at(b"0123456789", 0).unwrap();
        let (mut near, mut far) = UnixStream::pair().unwrap();
        let mut pipe = Pipe::new().unwrap();
        assert!(pipe.capacity() >= 4096);
        assert_eq!(pipe.fill_from_file(source.as_fd(), 4, 100).unwrap(), 6);
        assert_eq!(pipe.held(), 6);
        assert_eq!(pipe.drain_to_stream(near.as_fd(), 6, false).unwrap(), 6);
        let mut got = [0; 6];
        far.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"456789");

        far.write_all(b"back").unwrap();
        near.set_nonblocking(true).unwrap();
        assert_eq!(pipe.fill_from_stream(near.as_fd(), 100).unwrap(), 4);
        assert_eq!(pipe.drain_to_file(source.as_fd(), Some(2), 4).unwrap(), 4);
        near.write_all(b"").unwrap();
        let mut got = [0; 10];
        source.read_exact_at(&mut got, 0).unwrap();
        assert_eq!(&got, b"01back6789");
        let empty = pipe.fill_from_stream(near.as_fd(), 100).unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
    }
}
