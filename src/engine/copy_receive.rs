//! The receiving flow of a copy: frames into shared buffers, and whole frames to those who store them.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::batching::Batching;
use super::buffers::{Buffer, Buffers};
use super::flow::{Budget, Flow, Progress, Room};
use super::secure::{self, Received};
use super::secure_send::fault;
use crate::mover::Fault;
use crate::proto::message::{Tally, WorkerSample};
use crate::proto::verify::BlockHash;
use crate::proto::wire::{FRAME_BYTES, Frame, Length, WireError};
use crate::sys::socket;
use crate::tls::TlsConnection;

/// A frame that came whole.
#[derive(Debug)]
pub struct Arrived {
    /// Its header.
    pub frame: Frame,
    /// Its payload.
    pub payload: Buffer,
    /// Of a frame that comes from this very process; nothing came over a stream then.
    pub near: Option<Near>,
}

/// What is known of content that did not leave the process.
#[derive(Debug)]
pub struct Near {
    /// Hashes of what is in the buffer: one, or one of each file of a pack; none where nothing is verified.
    pub hashes: Vec<BlockHash>,
    /// The buffer is empty: so many bytes of this file, at the offset of the frame, are meant.
    pub range: Option<(Arc<File>, u64)>,
}

/// Where frames go that came whole; all streams of a copy share it.
pub trait Deliver: Send + Sync {
    /// Take one, without waiting; `false` when nobody stores any more.
    fn deliver(&self, arrived: Arrived) -> bool;
}

/// Takes frames until the peer ends the stream.
pub struct CopyReceiveFlow {
    buffers: Buffers,
    arrived: Arc<dyn Deliver>,
    tls: Option<Box<TlsConnection>>,
    /// Plaintext that waits for a buffer.
    plain: Vec<u8>,
    /// The peer said that nothing more comes; what waits is still to be taken.
    is_over: bool,
    state: State,
    batching: Batching,
    tally: Tally,
}

enum State {
    /// Inside a header: so many bytes of it are here.
    Header([u8; FRAME_BYTES], usize),
    /// A header is here, and waits for a buffer.
    Waiting(Frame),
    /// Inside a payload: so many bytes are to come.
    Payload(Frame, Buffer, usize),
}

const BETWEEN_FRAMES: State = State::Header([0; FRAME_BYTES], 0);

impl CopyReceiveFlow {
    /// A flow that takes frames of up to the size of a buffer.
    pub fn new(buffers: Buffers, arrived: Arc<dyn Deliver>, tls: Option<Box<TlsConnection>>) -> CopyReceiveFlow {
        let (state, batching, tally) = (BETWEEN_FRAMES, Batching::default(), Tally::default());
        CopyReceiveFlow { buffers, arrived, tls, plain: Vec::new(), is_over: false, state, batching, tally }
    }
}

impl Flow for CopyReceiveFlow {
    fn interest(&self) -> mio::Interest {
        mio::Interest::READABLE | mio::Interest::WRITABLE
    }

    fn drive(&mut self, sock: BorrowedFd<'_>, room: &mut Room<'_>) -> Result<Progress, Fault> {
        let mut budget = Budget::new();
        loop {
            if !self.have_buffer()? {
                return Ok(Progress::Blocked);
            }
            let before = self.tally.bytes;
            let got = match self.tls {
                None => self.receive(sock)?,
                Some(_) => self.receive_secure(sock, room)?,
            };
            let n = self.tally.bytes - before;
            let left = if let State::Payload(_, _, left) = self.state { left as u64 } else { 0 };
            self.batching.handle_received(n, left, sock, room);
            match got {
                Got::Some if budget.spend(n) => {}
                Got::Some => return Ok(Progress::Again),
                Got::Blocked => return Ok(Progress::Blocked),
                Got::End if matches!(self.state, State::Header(_, 0)) => return Ok(Progress::Finished),
                Got::End => return Err(Fault::Unfinished),
            }
        }
    }

    fn account(&self, sample: &mut WorkerSample) {
        sample.received += self.tally;
    }

    fn sends(&self) -> bool {
        false
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Got {
    Some,
    Blocked,
    End,
}

impl CopyReceiveFlow {
    /// Have a place for what comes next; `false` when there is no buffer now.
    fn have_buffer(&mut self) -> Result<bool, Fault> {
        if let State::Waiting(frame) = self.state {
            match self.buffers.try_take() {
                None => return Ok(false),
                Some(buffer) => self.state = State::Payload(frame, buffer, self.length_of(&frame)?),
            }
        }
        Ok(true)
    }

    fn receive(&mut self, sock: BorrowedFd<'_>) -> Result<Got, Fault> {
        self.tally.calls += 1;
        let got = match &mut self.state {
            State::Header(bytes, have) => socket::receive(sock, &mut bytes[*have..]),
            State::Payload(_, buffer, left) => socket::receive(sock, &mut buffer.room()[..*left]),
            State::Waiting(_) => return Ok(Got::Blocked),
        };
        match got {
            Ok(0) => Ok(Got::End),
            Ok(n) => self.handle_moved(n).map(|()| Got::Some),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Got::Some),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Got::Blocked),
            Err(error) => Err(Fault::Connection(error)),
        }
    }

    fn receive_secure(&mut self, sock: BorrowedFd<'_>, room: &mut Room<'_>) -> Result<Got, Fault> {
        if !self.plain.is_empty() {
            let waiting = std::mem::take(&mut self.plain);
            self.take(&waiting)?;
            return Ok(Got::Some);
        }
        if self.is_over {
            return Ok(Got::End);
        }
        let Some(mut tls) = self.tls.take() else { return Ok(Got::Blocked) };
        let mut buffer = room.buffer()?;
        self.tally.calls += 1;
        let mut taken = Ok(());
        let got = secure::receive(&mut tls, sock, &mut buffer, &mut |plain| {
            if taken.is_ok() {
                taken = self.take(plain);
            }
        });
        room.pool.give(buffer);
        // A change of keys is answered.
        let flushed = secure::flush(&mut tls, sock);
        self.tls = Some(tls);
        taken?;
        flushed.map_err(Fault::Connection)?;
        match got.map_err(fault)? {
            Received::Bytes { .. } => Ok(Got::Some),
            Received::Blocked => Ok(Got::Blocked),
            Received::End => {
                self.is_over = true;
                Ok(Got::Some)
            }
        }
    }

    /// Take plaintext; what finds no buffer is kept for later.
    fn take(&mut self, mut plain: &[u8]) -> Result<(), Fault> {
        while !plain.is_empty() {
            if !self.plain.is_empty() || !self.have_buffer()? {
                self.plain.extend_from_slice(plain);
                return Ok(());
            }
            let n = match &mut self.state {
                State::Header(bytes, have) => {
                    let n = plain.len().min(FRAME_BYTES - *have);
                    bytes[*have..*have + n].copy_from_slice(&plain[..n]);
                    n
                }
                State::Payload(_, buffer, left) => {
                    let n = plain.len().min(*left);
                    buffer.room()[..n].copy_from_slice(&plain[..n]);
                    n
                }
                State::Waiting(_) => 0,
            };
            self.handle_moved(n)?;
            plain = &plain[n..];
        }
        Ok(())
    }

    /// `n` bytes were put where they belong.
    fn handle_moved(&mut self, n: usize) -> Result<(), Fault> {
        match std::mem::replace(&mut self.state, BETWEEN_FRAMES) {
            State::Header(bytes, have) if have + n == FRAME_BYTES => {
                let frame = Frame::decode(&bytes)?;
                self.length_of(&frame)?;
                self.state = State::Waiting(frame);
            }
            State::Header(bytes, have) => self.state = State::Header(bytes, have + n),
            State::Payload(frame, mut payload, left) => {
                payload.fill(n);
                self.tally.bytes += n as u64;
                if left > n {
                    self.state = State::Payload(frame, payload, left - n);
                } else if !self.arrived.deliver(Arrived { frame, payload, near: None }) {
                    return Err(Fault::Resource {
                        what: "nobody stores any more",
                        error: io::ErrorKind::BrokenPipe.into(),
                    });
                }
            }
            waiting @ State::Waiting(_) => self.state = waiting,
        }
        Ok(())
    }

    /// A frame of a copy says how long it is, and fits a buffer.
    fn length_of(&self, frame: &Frame) -> Result<usize, Fault> {
        match frame.length {
            Length::Bytes(n) if n >= 1 && n <= self.buffers.buffer_bytes() as u64 => Ok(n as usize),
            _ => Err(WireError::Frame.into()),
        }
    }
}
