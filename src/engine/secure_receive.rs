//! The receiving flow of a stream in TLS: decrypts, and takes the same frames as [`super::receive`].

use std::os::fd::BorrowedFd;

use super::batching::Batching;
use super::flow::{Budget, Flow, Progress, Room};
use super::secure::{self, Received};
use super::secure_send::fault;
use crate::mover::{Fault, Sink};
use crate::proto::message::{Tally, Timed, WorkerSample};
use crate::proto::wire::{FRAME_BYTES, Frame, FrameKind, Length};
use crate::tls::TlsConnection;

/// Takes frames until the peer ends the stream.
pub struct SecureReceiveFlow {
    tls: Box<TlsConnection>,
    frames: Frames,
    batching: Batching,
}

/// Where in the frames the plaintext has come to, and what it has brought.
struct Frames {
    sink: Sink,
    state: State,
    /// Payload bytes that went into the sink: where the next one goes.
    placed: u64,
    tally: Tally,
    timed: Timed,
}

enum State {
    /// Inside a header: so many bytes of it are here.
    Header([u8; FRAME_BYTES], usize),
    /// Inside a payload: so many bytes are to come; `u64::MAX` is until the end of the stream.
    Payload { left: u64, bytes: u64, timed_from_ns: Option<u64> },
}

const BETWEEN_FRAMES: State = State::Header([0; FRAME_BYTES], 0);

impl SecureReceiveFlow {
    /// A flow that puts payloads into `sink`.
    pub fn new(tls: Box<TlsConnection>, sink: Sink) -> SecureReceiveFlow {
        let (tally, timed) = (Tally::default(), Timed::default());
        let frames = Frames { sink, state: BETWEEN_FRAMES, placed: 0, tally, timed };
        SecureReceiveFlow { tls, frames, batching: Batching::default() }
    }
}

impl Flow for SecureReceiveFlow {
    fn interest(&self) -> mio::Interest {
        mio::Interest::READABLE | mio::Interest::WRITABLE
    }

    fn drive(&mut self, sock: BorrowedFd<'_>, room: &mut Room<'_>) -> Result<Progress, Fault> {
        let mut budget = Budget::new();
        loop {
            let before = self.frames.tally.bytes;
            let got = self.receive(sock, room)?;
            // A change of keys is answered.
            secure::flush(&mut self.tls, sock).map_err(Fault::Connection)?;
            let n = self.frames.tally.bytes - before;
            self.batching.handle_received(n, self.frames.left(), sock, room);
            match got {
                Received::Bytes { is_all: true } if !room.is_closing => return Ok(Progress::Blocked),
                Received::Bytes { .. } if budget.spend(n) => {}
                Received::Bytes { .. } => return Ok(Progress::Again),
                Received::Blocked => return Ok(Progress::Blocked),
                Received::End if self.frames.may_end() => return Ok(Progress::Finished),
                Received::End => return Err(Fault::Unfinished),
            }
        }
    }

    fn account(&self, sample: &mut WorkerSample) {
        sample.received += self.frames.tally;
        sample.timed += self.frames.timed;
    }

    fn sends(&self) -> bool {
        false
    }
}

impl SecureReceiveFlow {
    fn receive(&mut self, sock: BorrowedFd<'_>, room: &mut Room<'_>) -> Result<Received, Fault> {
        let mut buffer = room.buffer()?;
        self.frames.tally.calls += 1;
        let (frames, epoch) = (&mut self.frames, room.epoch);
        let mut taken = Ok(());
        let got = secure::receive(&mut self.tls, sock, &mut buffer, &mut |plain| {
            if taken.is_ok() {
                taken = frames.take(plain, &|| epoch.elapsed().as_nanos() as u64);
            }
        });
        room.pool.give(buffer);
        taken?;
        got.map_err(fault)
    }
}

impl Frames {
    /// Take the next piece of plaintext.
    fn take(&mut self, mut plain: &[u8], now_ns: &dyn Fn() -> u64) -> Result<(), Fault> {
        while !plain.is_empty() {
            let n = match &mut self.state {
                State::Header(bytes, have) => {
                    let n = plain.len().min(FRAME_BYTES - *have);
                    bytes[*have..*have + n].copy_from_slice(&plain[..n]);
                    *have += n;
                    if *have == FRAME_BYTES {
                        self.state = begin(&Frame::decode(bytes)?, now_ns);
                    }
                    n
                }
                State::Payload { left, bytes, .. } => {
                    let n = plain.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    self.sink.keep(self.placed, &plain[..n], &mut self.tally.calls)?;
                    *left -= if *left == u64::MAX { 0 } else { n as u64 };
                    *bytes += n as u64;
                    self.placed += n as u64;
                    self.tally.bytes += n as u64;
                    n
                }
            };
            plain = &plain[n..];
            self.end_if_whole(now_ns);
        }
        Ok(())
    }

    fn end_if_whole(&mut self, now_ns: &dyn Fn() -> u64) {
        let State::Payload { left: 0, bytes, timed_from_ns } = self.state else { return };
        if let Some(first_ns) = timed_from_ns {
            self.timed += Timed { frames: 1, bytes, first_ns, last_ns: now_ns() };
        }
        self.state = BETWEEN_FRAMES;
    }

    /// How much of the frame is to come; nothing is known of the next.
    fn left(&self) -> u64 {
        if let State::Payload { left, .. } = self.state { left } else { 0 }
    }

    /// Whether the stream may end here.
    fn may_end(&self) -> bool {
        matches!(self.state, State::Header(_, 0) | State::Payload { left: u64::MAX, .. })
    }
}

fn begin(frame: &Frame, now_ns: &dyn Fn() -> u64) -> State {
    let left = match frame.length {
        // A frame that names 2⁶⁴ − 1 bytes never ends either.
        Length::Bytes(n) => n,
        Length::UntilEnd => u64::MAX,
    };
    State::Payload { left, bytes: 0, timed_from_ns: (frame.kind == FrameKind::Timed).then(now_ns) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames() -> Frames {
        Frames {
            sink: Sink::Discard,
            state: BETWEEN_FRAMES,
            placed: 0,
            tally: Tally::default(),
            timed: Timed::default(),
        }
    }

    fn stream(lengths: &[u64]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for length in lengths {
            bytes.extend(Frame { file: 0, offset: 0, length: Length::Bytes(*length), kind: FrameKind::Timed }.encode());
            bytes.resize(bytes.len() + *length as usize, 7);
        }
        bytes
    }

    proptest! {
        /// However records cut the plaintext: every frame is counted once, with all its bytes.
        #[test]
        fn frames_are_found_however_records_cut(lengths in proptest::collection::vec(0u64..5000, 0..20), cut in 1usize..3000) {
            let (mut frames, bytes) = (frames(), stream(&lengths));
            for piece in bytes.chunks(cut) {
                frames.take(piece, &|| 1).unwrap();
            }
            prop_assert!(frames.may_end());
            prop_assert_eq!(frames.timed.frames as usize, lengths.len());
            prop_assert_eq!(frames.tally.bytes, lengths.iter().sum::<u64>());
        }

        #[test]
        fn garbage_is_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = frames().take(&bytes, &|| 1);
        }
    }
}
