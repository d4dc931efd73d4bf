//! `splice`: socket to pipe to file inside the kernel, or to /dev/null when the bytes are discarded.

use std::os::fd::{AsFd, BorrowedFd};

use super::{Fault, Moved, ReceiveMethod, ReceiveRow, Sink, Turn, moved, probe_splice};
use crate::sys::pipe::Pipe;

pub(super) const ROW: ReceiveRow = ReceiveRow {
    name: "splice",
    summary: "splice(): socket to pipe to file (or /dev/null) inside the kernel",
    keeps: true,
    reads: false,
    takes_all: false,
    decrypts: false,
    probe: probe_splice,
    make: || Box::new(Splice),
};

struct Splice;

impl ReceiveMethod for Splice {
    fn pull(
        &mut self,
        sock: BorrowedFd<'_>,
        sink: &Sink,
        at: u64,
        len: usize,
        turn: &mut Turn<'_>,
    ) -> Result<Moved, Fault> {
        // One pipe serves all streams of a worker, because every pull leaves it empty. One that a failed pull left
        // filled belongs to nobody any more.
        let mut pipe = match turn.pipe.take() {
            Some(pipe) if pipe.held() == 0 => pipe,
            _ => Pipe::new().map_err(|error| Fault::Resource { what: "no pipe", error })?,
        };
        turn.tally.calls += 1;
        let got = moved(|| pipe.fill_from_stream(sock, len)).map_err(Fault::Connection)?;
        let drained = drain(&mut pipe, sink, at, turn);
        *turn.pipe = Some(pipe);
        drained.map(|()| if got == Moved::Bytes(0) { Moved::End } else { got })
    }
}

fn drain(pipe: &mut Pipe, sink: &Sink, mut at: u64, turn: &mut Turn<'_>) -> Result<(), Fault> {
    while pipe.held() > 0 {
        let held = pipe.held();
        turn.tally.calls += 1;
        let n = match sink {
            Sink::Discard => pipe
                .drain_to_file(turn.null.as_fd(), None, held)
                .map_err(|error| Fault::Resource { what: "/dev/null", error }),
            Sink::File(file) => {
                let (offset, room) = file.place(at);
                let len = held.min(usize::try_from(room).unwrap_or(usize::MAX));
                pipe.drain_to_file(file.file.as_fd(), Some(offset), len).map_err(|error| file.fault(error))
            }
        }?;
        if n == 0 {
            return Err(Fault::Resource { what: "splice", error: std::io::ErrorKind::WriteZero.into() });
        }
        at += n as u64;
    }
    Ok(())
}
