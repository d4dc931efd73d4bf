//! pread() into rotating buffers, send() with MSG_ZEROCOPY; a buffer is used again after its completion.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::os::fd::AsFd;

use linerate::mover::pool::{POOL_BUFFERS_MAX, POOL_BUFFERS_MIN, POOL_BYTES_MAX};
use linerate::sys::{socket, zerocopy};
use memmap2::{MmapMut, MmapOptions};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Lane;
use super::write::{read, send};

/// Completions are looked for after so many sends: as in the engine.
const REAP_EVERY: u32 = 16;

/// Invariants: sends `released..next` (counting in a circle) have not completed; `lent` is in the order of its sends.
pub struct Zerocopy<'a> {
    sock: &'a TcpStream,
    file: &'a File,
    free: Vec<MmapMut>,
    lent: VecDeque<(MmapMut, u32)>,
    next: u32,
    released: u32,
}

impl<'a> Zerocopy<'a> {
    pub fn new(sock: &'a TcpStream, file: &'a File, chunk: usize) -> io::Result<Zerocopy<'a>> {
        socket::set_zerocopy(sock.as_fd())?;
        let buffers = (POOL_BYTES_MAX / chunk).clamp(POOL_BUFFERS_MIN, POOL_BUFFERS_MAX);
        let buffer = |_| MmapOptions::new().len(chunk).map_anon();
        let free = (0..buffers).map(buffer).collect::<io::Result<_>>()?;
        Ok(Zerocopy { sock, file, free, lent: VecDeque::with_capacity(buffers), next: 0, released: 0 })
    }

    /// Take back what the kernel has let go of.
    fn reap(&mut self) -> io::Result<()> {
        while let Some(done) = zerocopy::next_completion(self.sock.as_fd())? {
            self.released = done.last.wrapping_add(1);
        }
        while self.lent.front().is_some_and(|(_, last)| self.released.wrapping_sub(*last).wrapping_sub(1) < 1 << 31) {
            self.free.extend(self.lent.pop_front().map(|(buffer, _)| buffer));
        }
        Ok(())
    }

    /// Sleep until there is a completion, which always wakes a poll for errors.
    fn wait(&mut self) -> io::Result<()> {
        poll(&mut [PollFd::new(self.sock.as_fd(), PollFlags::empty())], PollTimeout::NONE)?;
        self.reap()
    }

    /// send() all of it.
    fn send_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match send(self.sock, bytes, libc::MSG_ZEROCOPY) {
                Ok(n) => {
                    self.next = self.next.wrapping_add(1);
                    bytes = &bytes[n..];
                }
                // No memory for notifications: those under way must come back first.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) && self.released != self.next => {
                    self.wait()?
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Lane for Zerocopy<'_> {
    fn send(&mut self, at: u64, len: usize) -> io::Result<usize> {
        if self.next.is_multiple_of(REAP_EVERY) {
            self.reap()?;
        }
        let mut buffer = loop {
            match self.free.pop() {
                Some(buffer) => break buffer,
                None => self.wait()?,
            }
        };
        let len = read(self.file, &mut buffer[..len], at)?;
        self.send_all(&buffer[..len])?;
        self.lent.push_back((buffer, self.next.wrapping_sub(1)));
        Ok(len)
    }
}
