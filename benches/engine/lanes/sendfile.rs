//! sendfile() from the file to the socket.

use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

use super::{Lane, count, truncated};

pub struct Sendfile<'a> {
    pub sock: &'a TcpStream,
    pub file: &'a File,
}

impl Lane for Sendfile<'_> {
    fn send(&mut self, at: u64, len: usize) -> io::Result<usize> {
        let mut offset = at as libc::off_t;
        let (sock, file) = (self.sock.as_raw_fd(), self.file.as_raw_fd());
        // SAFETY: both descriptors are open and `offset` is a live integer that the kernel writes.
        let n = count(|| unsafe { libc::sendfile(sock, file, &raw mut offset, len) })?;
        if n == 0 { Err(truncated()) } else { Ok(n) }
    }
}
