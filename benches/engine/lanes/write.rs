//! pread() into one buffer, send() from it.

use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

use memmap2::{MmapMut, MmapOptions};

use super::{Lane, count, truncated};

pub struct Write<'a> {
    sock: &'a TcpStream,
    file: &'a File,
    buffer: MmapMut,
}

impl<'a> Write<'a> {
    pub fn new(sock: &'a TcpStream, file: &'a File, chunk: usize) -> io::Result<Write<'a>> {
        Ok(Write { sock, file, buffer: MmapOptions::new().len(chunk).populate().map_anon()? })
    }
}

impl Lane for Write<'_> {
    fn send(&mut self, at: u64, len: usize) -> io::Result<usize> {
        let len = read(self.file, &mut self.buffer[..len], at)?;
        let mut bytes = &self.buffer[..len];
        while !bytes.is_empty() {
            let n = send(self.sock, bytes, 0)?;
            bytes = &bytes[n..];
        }
        Ok(len)
    }
}

/// pread(): at least one byte.
pub fn read(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let fd = file.as_raw_fd();
    // SAFETY: the pointer and length are those of a live slice that nobody else sees while we hold it mutably.
    let n = count(|| unsafe { libc::pread(fd, buffer.as_mut_ptr().cast(), buffer.len(), at as libc::off_t) })?;
    if n == 0 { Err(truncated()) } else { Ok(n) }
}

/// send() with these flags.
pub fn send(sock: &TcpStream, bytes: &[u8], flags: i32) -> io::Result<usize> {
    let (fd, flags) = (sock.as_raw_fd(), flags | libc::MSG_NOSIGNAL);
    // SAFETY: the pointer and length are those of a live slice, which the kernel only reads.
    count(|| unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) })
}
