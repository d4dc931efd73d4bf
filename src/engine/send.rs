//! The sending flow: frames from a queue, each a header and a range of a source, by one send method.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;

use super::flow::{Budget, Flow, Progress, Room};
use crate::mover::{Fault, Moved, SendMethod, Source};
use crate::proto::message::{Tally, WorkerSample};
use crate::proto::wire::{FRAME_BYTES, Frame, Length};
use crate::sys::socket;

/// Frames that may wait in one flow.
pub const FRAMES_MAX: usize = 64;

/// A frame to send: the source is read from `frame.offset`, round and round when the frame is longer than it.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// What is announced.
    pub frame: Frame,
    /// Where the payload comes from.
    pub source: Source,
}

/// Sends frames. Finished when its queue is empty and the kernel has let go of everything.
pub struct SendFlow {
    method: Box<dyn SendMethod>,
    chunk: u64,
    queue: VecDeque<Outgoing>,
    current: Option<UnderWay>,
    tally: Tally,
}

/// Invariant: `header_sent` ≤ `FRAME_BYTES`, and `sent` > 0 only when the header is out.
struct UnderWay {
    outgoing: Outgoing,
    header: [u8; FRAME_BYTES],
    header_sent: usize,
    sent: u64,
}

impl SendFlow {
    /// A flow that moves up to `chunk` bytes (at least 1) a call. At most [`FRAMES_MAX`] frames are taken.
    pub fn new(method: Box<dyn SendMethod>, chunk: u64, frames: impl IntoIterator<Item = Outgoing>) -> SendFlow {
        let queue = frames.into_iter().take(FRAMES_MAX).collect();
        SendFlow { method, chunk: chunk.max(1), queue, current: None, tally: Tally::default() }
    }
}

impl Flow for SendFlow {
    fn interest(&self) -> mio::Interest {
        mio::Interest::WRITABLE
    }

    fn drive(&mut self, sock: BorrowedFd<'_>, room: &mut Room<'_>) -> Result<Progress, Fault> {
        let mut budget = Budget::new();
        loop {
            let Some(mut under_way) = self.current.take().or_else(|| self.queue.pop_front().map(UnderWay::new)) else {
                let released = self.method.settle(sock, &mut room.turn(&mut self.tally))?;
                return Ok(if released { Progress::Finished } else { Progress::Blocked });
            };
            let progress = self.advance(&mut under_way, sock, room, &mut budget)?;
            if progress != Progress::Finished {
                self.current = Some(under_way);
                return Ok(progress);
            }
        }
    }

    fn account(&self, sample: &mut WorkerSample) {
        sample.sent += self.tally;
    }

    fn sends(&self) -> bool {
        true
    }
}

impl SendFlow {
    /// Go on with one frame; `Finished` when all of it is with the kernel.
    fn advance(
        &mut self,
        under_way: &mut UnderWay,
        sock: BorrowedFd<'_>,
        room: &mut Room<'_>,
        budget: &mut Budget,
    ) -> Result<Progress, Fault> {
        while under_way.header_sent < FRAME_BYTES {
            self.tally.calls += 1;
            match socket::send(sock, &under_way.header[under_way.header_sent..], true) {
                Ok(n) => under_way.header_sent += n,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(Progress::Blocked),
                Err(error) => return Err(Fault::Connection(error)),
            }
        }
        let mut turn = room.turn(&mut self.tally);
        while let Some((at, len)) = under_way.next_range(self.chunk) {
            match self.method.push(sock, &under_way.outgoing.source, at, len, &mut turn)? {
                Moved::Bytes(n) => {
                    under_way.sent += n as u64;
                    turn.tally.bytes += n as u64;
                    if !budget.spend(n as u64) {
                        return Ok(Progress::Again);
                    }
                }
                Moved::Blocked | Moved::End => {
                    // Completions waiting on the error queue would never wake an edge-triggered loop again.
                    self.method.settle(sock, &mut turn)?;
                    return Ok(Progress::Blocked);
                }
            }
        }
        Ok(Progress::Finished)
    }
}

impl UnderWay {
    fn new(outgoing: Outgoing) -> UnderWay {
        UnderWay { header: outgoing.frame.encode(), outgoing, header_sent: 0, sent: 0 }
    }

    /// Where in the source the next call reads, and how much: up to the end of the chunk, of the frame and of the
    /// source. After a partial send only the rest of the chunk is asked for, so that chunks stay aligned.
    fn next_range(&self, chunk: u64) -> Option<(u64, usize)> {
        let left = match self.outgoing.frame.length {
            Length::Bytes(all) => all - self.sent,
            Length::UntilEnd => u64::MAX,
        };
        if left == 0 {
            return None;
        }
        let source = self.outgoing.source.len;
        let at = (self.outgoing.frame.offset % source + self.sent % source) % source;
        let len = left.min(chunk - self.sent % chunk).min(source - at);
        Some((at, len as usize))
    }
}
