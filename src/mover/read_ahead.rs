//! Bytes of a file in a pool buffer, on their way to a socket: what `write` and `zerocopy` share.

use std::os::fd::AsFd;

use super::{Fault, PoolBuf, Source, Turn};
use crate::sys::raw::read_at;

/// Bytes that were read and not yet all sent: `buffer[..len]` is the source from offset `at`.
pub(super) struct ReadAhead {
    buffer: PoolBuf,
    at: u64,
    len: usize,
}

impl ReadAhead {
    /// Fill `buffer` with up to `len` bytes of `source` from `at`.
    pub(super) fn fill(
        mut buffer: PoolBuf,
        source: &Source,
        at: u64,
        len: usize,
        turn: &mut Turn<'_>,
    ) -> Result<ReadAhead, Fault> {
        let len = len.min(buffer.len());
        turn.tally.calls += 1;
        match read_at(source.file.as_fd(), &mut buffer[..len], at) {
            Ok(0) => Err(source.truncated(at)),
            Ok(len) => Ok(ReadAhead { buffer, at, len }),
            Err(error) => Err(Fault::Source { name: source.name.clone(), error }),
        }
    }

    /// Whether the byte at `at` is in it.
    pub(super) fn holds(&self, at: u64) -> bool {
        at >= self.at && at < self.end()
    }

    /// The offset after its last byte.
    pub(super) fn end(&self) -> u64 {
        self.at + self.len as u64
    }

    /// Up to `len` bytes of what it holds from `at`, which must be in it.
    pub(super) fn from(&self, at: u64, len: usize) -> &[u8] {
        let held = &self.buffer[(at - self.at) as usize..self.len];
        &held[..held.len().min(len)]
    }

    /// The buffer, for another use.
    pub(super) fn into_buffer(self) -> PoolBuf {
        self.buffer
    }
}
