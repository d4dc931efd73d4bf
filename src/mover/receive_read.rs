//! `read`: receive into a buffer of this program; for a file, write it there with pwrite().

use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

use super::{Fault, Moved, ReceiveMethod, ReceiveRow, Sink, Turn, always, moved};
use crate::sys::socket;

pub(super) const ROW: ReceiveRow = ReceiveRow {
    name: "read",
    summary: "recv() into a buffer; a file is written from it with pwrite()",
    keeps: true,
    reads: true,
    takes_all: true,
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
        let mut buffer = turn.pool.take().ok_or_else(Fault::no_buffer)?;
        let len = len.min(buffer.len());
        turn.tally.calls += 1;
        let got = moved(|| socket::receive(sock, &mut buffer[..len])).map_err(Fault::Connection)?;
        let kept = keep(sink, at, &buffer[..got.bytes() as usize], turn);
        turn.pool.give(buffer);
        kept.map(|()| if got == Moved::Bytes(0) { Moved::End } else { got })
    }
}

fn keep(sink: &Sink, mut at: u64, mut bytes: &[u8], turn: &mut Turn<'_>) -> Result<(), Fault> {
    let Sink::File(file) = sink else { return Ok(()) };
    while !bytes.is_empty() {
        let (offset, room) = file.place(at);
        let (now, later) = bytes.split_at(bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
        turn.tally.calls += 1;
        file.file.write_all_at(now, offset).map_err(|error| file.fault(error))?;
        at += now.len() as u64;
        bytes = later;
    }
    Ok(())
}
