//! The receiving flow: frame headers, and payloads into a sink, by one receive method.

use std::os::fd::BorrowedFd;

use super::batching::Batching;
use super::flow::{Budget, Flow, Progress, Room};
use crate::mover::{Fault, Moved, ReceiveMethod, Sink};
use crate::proto::message::{Tally, Timed, WorkerSample};
use crate::proto::wire::{FRAME_BYTES, Frame, FrameKind, Length};
use crate::sys::socket;

/// Takes frames until the peer ends the stream.
pub struct ReceiveFlow {
    method: Box<dyn ReceiveMethod>,
    /// Whether a pull that got less than it asked for has emptied the socket.
    short_is_empty: bool,
    chunk: u64,
    sink: Sink,
    state: State,
    /// Payload bytes that went into the sink: where the next one goes.
    placed: u64,
    batching: Batching,
    tally: Tally,
    timed: Timed,
}

enum State {
    /// Inside a header: so many bytes of it are here.
    Header([u8; FRAME_BYTES], usize),
    /// Inside a payload: so many bytes are to come; `None` is until the end of the stream.
    Payload { left: Option<u64>, bytes: u64, timed_from_ns: Option<u64> },
}

const BETWEEN_FRAMES: State = State::Header([0; FRAME_BYTES], 0);

impl ReceiveFlow {
    /// A flow that takes up to `chunk` bytes (at least 1) a call. `takes_all` is that of the
    /// method's row.
    pub fn new(method: Box<dyn ReceiveMethod>, takes_all: bool, chunk: u64, sink: Sink) -> ReceiveFlow {
        ReceiveFlow {
            method,
            short_is_empty: takes_all,
            chunk: chunk.max(1),
            sink,
            state: BETWEEN_FRAMES,
            placed: 0,
            batching: Batching::default(),
            tally: Tally::default(),
            timed: Timed::default(),
        }
    }
}

impl Flow for ReceiveFlow {
    fn interest(&self) -> mio::Interest {
        mio::Interest::READABLE
    }

    fn drive(&mut self, sock: BorrowedFd<'_>, room: &mut Room<'_>) -> Result<Progress, Fault> {
        let mut budget = Budget::new();
        loop {
            let step = match self.state {
                State::Header(..) => self.take_header(sock, room)?,
                State::Payload { .. } => self.take_payload(sock, room, &mut budget)?,
            };
            if let Some(progress) = step {
                return Ok(progress);
            }
        }
    }

    fn account(&self, sample: &mut WorkerSample) {
        sample.received += self.tally;
        sample.timed += self.timed;
    }

    fn sends(&self) -> bool {
        false
    }
}

impl ReceiveFlow {
    fn take_header(&mut self, sock: BorrowedFd<'_>, room: &mut Room<'_>) -> Result<Option<Progress>, Fault> {
        let State::Header(bytes, have) = &mut self.state else { return Ok(None) };
        self.tally.calls += 1;
        match socket::receive(sock, &mut bytes[*have..]) {
            Ok(0) if *have == 0 => return Ok(Some(Progress::Finished)),
            Ok(0) => return Err(Fault::Unfinished),
            Ok(n) => *have += n,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(Some(Progress::Blocked)),
            Err(error) => return Err(Fault::Connection(error)),
        }
        if *have < FRAME_BYTES {
            return Ok(None);
        }
        let frame = Frame::decode(bytes)?;
        let left = match frame.length {
            Length::Bytes(n) => Some(n),
            Length::UntilEnd => None,
        };
        self.state =
            State::Payload { left, bytes: 0, timed_from_ns: (frame.kind == FrameKind::Timed).then(|| room.now_ns()) };
        self.end_frame_if_whole(room);
        Ok(None)
    }

    fn take_payload(
        &mut self,
        sock: BorrowedFd<'_>,
        room: &mut Room<'_>,
        budget: &mut Budget,
    ) -> Result<Option<Progress>, Fault> {
        let may_stop_short = self.short_is_empty && !room.is_closing;
        while let State::Payload { left, bytes, .. } = &mut self.state {
            let wanted = left.unwrap_or(u64::MAX).min(self.chunk) as usize;
            let mut turn = room.turn(&mut self.tally);
            let n = match self.method.pull(sock, &self.sink, self.placed, wanted, &mut turn)? {
                Moved::Bytes(n) => n,
                Moved::Blocked => return Ok(Some(Progress::Blocked)),
                Moved::End if left.is_none() => return Ok(Some(Progress::Finished)),
                Moved::End => return Err(Fault::Unfinished),
            };
            *left = left.map(|left| left - n as u64);
            *bytes += n as u64;
            self.placed += n as u64;
            self.tally.bytes += n as u64;
            let left = left.unwrap_or(u64::MAX);
            self.batching.handle_received(n as u64, left, sock, room);
            self.end_frame_if_whole(room);
            if n < wanted && may_stop_short {
                // The socket is empty, and whatever comes now comes with a new edge.
                return Ok(Some(Progress::Blocked));
            }
            if !budget.spend(n as u64) {
                return Ok(Some(Progress::Again));
            }
        }
        Ok(None)
    }

    fn end_frame_if_whole(&mut self, room: &Room<'_>) {
        let State::Payload { left: Some(0), bytes, timed_from_ns } = self.state else { return };
        if let Some(first_ns) = timed_from_ns {
            self.timed += Timed { frames: 1, bytes, first_ns, last_ns: room.now_ns() };
        }
        self.state = BETWEEN_FRAMES;
    }
}
