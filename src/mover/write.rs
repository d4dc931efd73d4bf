//! `write`: send from memory. A hot source is sent from where it lies; a file is read into a pool buffer first.

use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

use super::read_ahead::ReadAhead;
use super::{Fault, Feed, Moved, SendMethod, SendRow, Source, Turn, always, moved};
use crate::sys::socket;

pub(super) const ROW: SendRow = SendRow {
    name: "write",
    summary: "send() from a buffer; a file is read into it with pread() first",
    descriptors: 0,
    cork_from_bytes: 1,
    probe: always,
    make: |_| Ok(Box::new(Write { held: None })),
    feed: Some(|| Box::new(Read)),
};

struct Write {
    held: Option<ReadAhead>,
}

impl SendMethod for Write {
    fn push(
        &mut self,
        sock: BorrowedFd<'_>,
        source: &Source,
        at: u64,
        len: usize,
        turn: &mut Turn<'_>,
    ) -> Result<Moved, Fault> {
        if let Some(hot) = &source.resident {
            turn.tally.calls += 1;
            return moved(|| hot.send(sock, at, len, 0)).map_err(|error| source.fault(error));
        }
        let held = match self.held.take() {
            Some(held) if held.holds(at) => held,
            stale => {
                let Some(buffer) = stale.map(ReadAhead::into_buffer).or_else(|| turn.pool.take_or_make()) else {
                    return Err(Fault::no_buffer());
                };
                ReadAhead::fill(buffer, source, at, len, turn)?
            }
        };
        turn.tally.calls += 1;
        let got = moved(|| socket::send(sock, held.from(at, len), false)).map_err(Fault::Connection)?;
        self.keep_or_give(held, at, got, turn);
        Ok(got)
    }
}

impl Write {
    /// Keep what is left for the next push, unless other streams need the buffer: reading again is cheap then.
    fn keep_or_give(&mut self, held: ReadAhead, at: u64, got: Moved, turn: &mut Turn<'_>) {
        let all_sent = at + got.bytes() == held.end();
        if all_sent || (got == Moved::Blocked && turn.pool.is_empty()) {
            turn.pool.give(held.into_buffer());
        } else {
            self.held = Some(held);
        }
    }
}

/// For TLS: a hot source is copied, a file is read.
struct Read;

impl Feed for Read {
    fn fill(&mut self, into: &mut [u8], source: &Source, at: u64, turn: &mut Turn<'_>) -> Result<(), Fault> {
        if let Some(hot) = &source.resident {
            return hot.copy_to(at, into).map_err(|error| source.fault(error));
        }
        turn.tally.calls += 1;
        source.file.read_exact_at(into, at).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => source.truncated(at),
            _ => source.fault(error),
        })
    }
}
