//! splice() from the file into a pipe of 1 MiB, and from there into the socket.

use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr::null_mut;

use super::{Lane, count, truncated};

/// What the pipe is asked to hold, bytes: as in the engine.
const PIPE_BYTES: i32 = 1 << 20;

pub struct Splice<'a> {
    sock: &'a TcpStream,
    file: &'a File,
    read: OwnedFd,
    write: OwnedFd,
    capacity: usize,
}

impl<'a> Splice<'a> {
    pub fn new(sock: &'a TcpStream, file: &'a File) -> io::Result<Splice<'a>> {
        use nix::fcntl::{FcntlArg, fcntl};
        let (read, write) = nix::unistd::pipe()?;
        let capacity =
            fcntl(&write, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES)).or_else(|_| fcntl(&write, FcntlArg::F_GETPIPE_SZ))?;
        Ok(Splice { sock, file, read, write, capacity: capacity as usize })
    }
}

impl Lane for Splice<'_> {
    fn send(&mut self, at: u64, len: usize) -> io::Result<usize> {
        let (file, write) = (self.file.as_raw_fd(), self.write.as_raw_fd());
        let filled = splice(file, Some(at), write, len.min(self.capacity), 0)?;
        let more = if filled < len { libc::SPLICE_F_MORE } else { 0 };
        let mut left = filled;
        while left > 0 {
            left -= splice(self.read.as_raw_fd(), None, self.sock.as_raw_fd(), left, more)?;
        }
        Ok(filled)
    }
}

/// splice() with SPLICE_F_MOVE: at least one byte.
fn splice(from: RawFd, at: Option<u64>, to: RawFd, len: usize, flags: u32) -> io::Result<usize> {
    let mut offset = at.unwrap_or(0) as libc::loff_t;
    let offset = if at.is_some() { &raw mut offset } else { null_mut() };
    let flags = flags | libc::SPLICE_F_MOVE;
    // SAFETY: both descriptors are open, and `offset` is null or a live integer that the kernel writes.
    let n = count(|| unsafe { libc::splice(from, offset, to, null_mut(), len, flags) })?;
    if n == 0 { Err(truncated()) } else { Ok(n) }
}
