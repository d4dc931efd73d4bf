//! send() from a mapping of the whole file whose pages are made present once, window by window ahead of the sending,
//! as the engine does it: the first pass over the file is part of the work.

use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

use memmap2::{Advice, MmapOptions, MmapRaw};

use super::{Lane, count};

/// What is made present at a time, bytes: as in the engine.
const WINDOW_BYTES: usize = 2 << 20;

/// Invariant: everything before `present` has been made present.
pub struct Mmap<'a> {
    sock: &'a TcpStream,
    mapping: MmapRaw,
    present: usize,
}

impl<'a> Mmap<'a> {
    pub fn new(sock: &'a TcpStream, file: &File) -> io::Result<Mmap<'a>> {
        let mapping = MmapOptions::new().map_raw_read_only(file)?;
        mapping.advise(Advice::Sequential)?;
        Ok(Mmap { sock, mapping, present: 0 })
    }
}

impl Lane for Mmap<'_> {
    fn send(&mut self, at: u64, len: usize) -> io::Result<usize> {
        let at = at as usize;
        assert!(at + len <= self.mapping.len(), "a range within the file");
        while self.present < at + len {
            let window = WINDOW_BYTES.min(self.mapping.len() - self.present);
            self.mapping.advise_range(Advice::PopulateRead, self.present, window)?;
            self.present += window;
        }
        let fd = self.sock.as_raw_fd();
        // SAFETY: `at + len` lies within the mapping, which lives as long as `self`; only the kernel reads it.
        count(|| unsafe { libc::send(fd, self.mapping.as_ptr().add(at).cast(), len, libc::MSG_NOSIGNAL) })
    }
}
