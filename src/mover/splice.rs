//! `splice`: pages of the file go into a pipe and from there into the socket, inside the kernel.

use std::os::fd::{AsFd, BorrowedFd};

use super::{Fault, Moved, SendMethod, SendRow, Source, Turn, moved, probe_splice};
use crate::sys::pipe::Pipe;

pub(super) const ROW: SendRow = SendRow {
    name: "splice",
    summary: "splice(): file to pipe to socket inside the kernel",
    descriptors: 2,
    cork_from_bytes: 1,
    probe: probe_splice,
    make: |_| Ok(Box::new(Splice { pipe: Pipe::new()? })),
    feed: None,
};

/// Invariant: what the pipe holds are the bytes of the source that begin where the next push begins.
struct Splice {
    pipe: Pipe,
}

impl SendMethod for Splice {
    fn push(
        &mut self,
        sock: BorrowedFd<'_>,
        source: &Source,
        at: u64,
        len: usize,
        turn: &mut Turn<'_>,
    ) -> Result<Moved, Fault> {
        // Only an empty pipe is filled, so that filling can never wait for the socket.
        if self.pipe.held() == 0 {
            turn.tally.calls += 1;
            let got = self.pipe.fill_from_file(source.file.as_fd(), at, len.min(self.pipe.capacity()));
            if got.map_err(|error| Fault::Source { name: source.name.clone(), error })? == 0 {
                return Err(source.truncated(at));
            }
        }
        turn.tally.calls += 1;
        let held = self.pipe.held();
        moved(|| self.pipe.drain_to_stream(sock, held.min(len), held < len)).map_err(Fault::Connection)
    }
}
