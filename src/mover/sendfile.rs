//! `sendfile`: the kernel hands pages of the file to the socket.

use std::os::fd::{AsFd, BorrowedFd};

use super::{Fault, Moved, SendMethod, SendRow, Source, Turn, always, moved};
use crate::sys::raw::sendfile;

pub(super) const ROW: SendRow = SendRow {
    name: "sendfile",
    summary: "sendfile(): pages of the file go to the socket inside the kernel",
    descriptors: 0,
    cork_from_bytes: 1,
    probe: always,
    make: |_| Ok(Box::new(Sendfile)),
    feed: None,
};

struct Sendfile;

impl SendMethod for Sendfile {
    fn push(
        &mut self,
        sock: BorrowedFd<'_>,
        source: &Source,
        at: u64,
        len: usize,
        turn: &mut Turn<'_>,
    ) -> Result<Moved, Fault> {
        turn.tally.calls += 1;
        let got = moved(|| sendfile(sock, source.file.as_fd(), at, len));
        match got.map_err(|error| source.fault(error))? {
            Moved::Bytes(0) => Err(source.truncated(at)),
            other => Ok(other),
        }
    }
}
