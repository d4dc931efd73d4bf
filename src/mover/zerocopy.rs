//! `zerocopy`: MSG_ZEROCOPY. The kernel takes the pages of our buffer and tells when it has let go of them.
//!
//! A file is read into a pool buffer first; that buffer is not touched again before its completion. A hot source
//! never changes, so it needs no waiting for, only the reaping.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::read_ahead::ReadAhead;
use super::{Fault, Moved, PoolBuf, SendMethod, SendRow, Source, Turn, moved};
use crate::sys::{socket, zerocopy};

/// Completions are looked for after so many sends; each waiting one costs the socket's option memory.
const REAP_EVERY: u32 = 16;

/// Segments made of many small borrowed pieces cost the receiver a page for each piece: below this size they overflow
/// its buffer (measured on loopback: at 1 KiB a call the connection lives from one retransmission to the next).
const CORK_FROM_BYTES: u64 = 4 << 10;

pub(super) const ROW: SendRow = SendRow {
    name: "zerocopy",
    summary: "send() with MSG_ZEROCOPY; the kernel borrows the buffer until it says so",
    descriptors: 0,
    cork_from_bytes: CORK_FROM_BYTES,
    probe: || {
        let probe = || -> io::Result<()> {
            let sock = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
            socket::set_zerocopy(sock.as_fd())
        };
        probe().map_err(|error| format!("SO_ZEROCOPY: {error}"))
    },
    make: |sock| {
        socket::set_zerocopy(sock)?;
        Ok(Box::new(Zerocopy { next: 0, released: 0, early: Vec::new(), held: None, lent: VecDeque::new() }))
    },
    feed: None,
};

/// Invariants, counting in a circle: sends before `released` have completed, `released` itself has not or is `next`;
/// `early` holds completed ranges behind it; `lent` is ordered by its last send, and none of its buffers was touched
/// since.
struct Zerocopy {
    next: u32,
    released: u32,
    /// First and last, of completions that came out of order, as they may after a retransmission.
    early: Vec<(u32, u32)>,
    held: Option<ReadAhead>,
    lent: VecDeque<Lent>,
}

/// Sent, and perhaps still used by the kernel: until send number `last` has completed.
struct Lent {
    buffer: PoolBuf,
    last: u32,
}

impl SendMethod for Zerocopy {
    fn push(
        &mut self,
        sock: BorrowedFd<'_>,
        source: &Source,
        at: u64,
        len: usize,
        turn: &mut Turn<'_>,
    ) -> Result<Moved, Fault> {
        if self.next.is_multiple_of(REAP_EVERY) {
            self.settle(sock, turn)?;
        }
        match &source.resident {
            Some(hot) => self.send(sock, turn, |flags| hot.send(sock, at, len, flags)),
            None => self.push_file(sock, source, at, len, turn),
        }
    }

    fn settle(&mut self, sock: BorrowedFd<'_>, turn: &mut Turn<'_>) -> Result<bool, Fault> {
        loop {
            turn.tally.calls += 1;
            let Some(done) = zerocopy::next_completion(sock).map_err(Fault::Connection)? else { break };
            let count = u64::from(done.count());
            turn.tally.completions += count;
            turn.tally.copied += if done.copied { count } else { 0 };
            self.handle_completed(done.first, done.last);
        }
        while self.lent.front().is_some_and(|lent| is_before(lent.last, self.released)) {
            if let Some(lent) = self.lent.pop_front() {
                turn.pool.give(lent.buffer);
            }
        }
        Ok(self.released == self.next)
    }
}

impl Zerocopy {
    /// Sends `first..=last` have completed.
    fn handle_completed(&mut self, first: u32, last: u32) {
        self.early.push((first, last));
        while let Some(at) = self.early.iter().position(|(first, _)| *first == self.released) {
            self.released = self.early.swap_remove(at).1.wrapping_add(1);
        }
    }

    fn push_file(
        &mut self,
        sock: BorrowedFd<'_>,
        source: &Source,
        at: u64,
        len: usize,
        turn: &mut Turn<'_>,
    ) -> Result<Moved, Fault> {
        let held = match self.held.take() {
            Some(held) if held.holds(at) => held,
            _ => {
                let Some(buffer) = self.buffer(sock, turn)? else { return Ok(Moved::Blocked) };
                ReadAhead::fill(buffer, source, at, len, turn)?
            }
        };
        let got = self.send(sock, turn, |flags| socket::send_flags(sock, held.from(at, len), flags))?;
        if at + got.bytes() == held.end() {
            self.lent.push_back(Lent { buffer: held.into_buffer(), last: self.next.wrapping_sub(1) });
        } else {
            self.held = Some(held);
        }
        Ok(got)
    }

    /// A buffer that the kernel does not use; `None` when this stream must wait for a completion.
    fn buffer(&mut self, sock: BorrowedFd<'_>, turn: &mut Turn<'_>) -> Result<Option<PoolBuf>, Fault> {
        if turn.pool.is_empty() {
            self.settle(sock, turn)?;
        }
        match turn.pool.take() {
            Some(buffer) => Ok(Some(buffer)),
            None if !self.lent.is_empty() => Ok(None),
            // Other streams hold all buffers, and nothing of ours would wake us.
            None => turn.pool.take_or_make().map(Some).ok_or_else(Fault::no_buffer),
        }
    }

    /// Send and count. When the kernel has no memory left for notifications (ENOBUFS) wait for those under way; when
    /// there are none to wait for, have it copied this once.
    fn send(
        &mut self,
        sock: BorrowedFd<'_>,
        turn: &mut Turn<'_>,
        mut call: impl FnMut(i32) -> io::Result<usize>,
    ) -> Result<Moved, Fault> {
        turn.tally.calls += 1;
        match moved(|| call(libc::MSG_ZEROCOPY)) {
            Ok(Moved::Bytes(n)) => {
                self.next = self.next.wrapping_add(1);
                Ok(Moved::Bytes(n))
            }
            Ok(other) => Ok(other),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                if !self.settle(sock, turn)? {
                    return Ok(Moved::Blocked);
                }
                turn.tally.calls += 1;
                let got = moved(|| call(0)).map_err(Fault::Connection)?;
                let copied = u64::from(got != Moved::Blocked);
                turn.tally.completions += copied;
                turn.tally.copied += copied;
                Ok(got)
            }
            Err(error) => Err(Fault::Connection(error)),
        }
    }
}

/// Whether send number `a` comes before `b`, counting in a circle.
fn is_before(a: u32, b: u32) -> bool {
    a != b && b.wrapping_sub(a) < 1 << 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completions_out_of_order_release_only_what_has_no_gap_before_it() {
        let start = u32::MAX - 1;
        let mut zerocopy = Zerocopy { next: 4, released: start, early: Vec::new(), held: None, lent: VecDeque::new() };
        zerocopy.handle_completed(1, 2);
        assert_eq!(zerocopy.released, start);
        zerocopy.handle_completed(start, u32::MAX);
        assert_eq!(zerocopy.released, 0);
        zerocopy.handle_completed(0, 0);
        assert_eq!((zerocopy.released, zerocopy.early.len()), (3, 0));
        assert!(is_before(2, zerocopy.released) && !is_before(3, zerocopy.released));
    }
}
