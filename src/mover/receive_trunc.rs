//! `trunc`: MSG_TRUNC. The kernel drops the bytes and this program never sees them: the least a receiver can cost.

use std::os::fd::BorrowedFd;

use super::{Fault, Moved, ReceiveMethod, ReceiveRow, Sink, Turn, always, moved};
use crate::sys::socket;

pub(super) const ROW: ReceiveRow = ReceiveRow {
    name: "trunc",
    summary: "recv() with MSG_TRUNC: the kernel discards, nothing is copied out",
    keeps: false,
    reads: false,
    takes_all: true,
    decrypts: false,
    probe: always,
    make: || Box::new(Trunc),
};

struct Trunc;

impl ReceiveMethod for Trunc {
    fn pull(
        &mut self,
        sock: BorrowedFd<'_>,
        _sink: &Sink,
        _at: u64,
        len: usize,
        turn: &mut Turn<'_>,
    ) -> Result<Moved, Fault> {
        turn.tally.calls += 1;
        match moved(|| socket::discard(sock, len)).map_err(Fault::Connection)? {
            Moved::Bytes(0) => Ok(Moved::End),
            other => Ok(other),
        }
    }
}
