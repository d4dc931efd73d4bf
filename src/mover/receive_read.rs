//! `read`: receive into a buffer of this program; for a file, write it there with pwrite().

use std::os::fd::BorrowedFd;

use super::{Fault, Moved, ReceiveMethod, ReceiveRow, Sink, Turn, always, moved};
use crate::sys::socket;

pub(super) const ROW: ReceiveRow = ReceiveRow {
    name: "read",
    summary: "recv() into a buffer; a file is written from it with pwrite()",
    keeps: true,
    reads: true,
    takes_all: true,
    decrypts: true,
    probe: always,
    make: || Box::new(Read),
};

struct Read;

impl ReceiveMethod for Read {
    fn pull(
        &mut self,
        sock: BorrowedFd<'_>,
        sink: &Sink,
        at: u64,
        len: usize,
        turn: &mut Turn<'_>,
    ) -> Result<Moved, Fault> {
        let mut buffer = turn.pool.take_or_make().ok_or_else(Fault::no_buffer)?;
        let len = len.min(buffer.len());
        turn.tally.calls += 1;
        let got = moved(|| socket::receive(sock, &mut buffer[..len])).map_err(Fault::Connection)?;
        let kept = sink.keep(at, &buffer[..got.bytes() as usize], &mut turn.tally.calls);
        turn.pool.give(buffer);
        kept.map(|()| if got == Moved::Bytes(0) { Moved::End } else { got })
    }
}
