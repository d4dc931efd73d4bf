//! The sending flow of a stream in TLS: the same frames as [`super::send`], brought into memory by a [`Feed`],
//! encrypted there, and sent with send().
//!
//! One call moves what was asked for, but not more than [`BATCH_BYTES`]: what is encrypted and not yet sent should
//! still be in the processor's second-level cache when the kernel copies it.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;

use super::flow::{Budget, Flow, Progress, Room};
use super::secure::{self, Sealed, SecureError};
use super::send::{Cork, FRAMES_MAX, Outgoing, UnderWay};
use crate::mover::{Fault, Feed};
use crate::proto::message::{Tally, WorkerSample};
use crate::proto::wire::FRAME_BYTES;
use crate::tls::TlsConnection;
use crate::tls::connection::{RECORD_PLAIN_BYTES, REST_BYTES_MAX};

/// Most payload that is encrypted before it is sent.
pub const BATCH_BYTES: usize = 128 << 10;
/// What all streams of a job may have encrypted and not sent, as far as one record for each allows.
pub const BATCHES_BYTES_MAX: usize = 16 << 20;
/// What a worker's buffer must hold: received ciphertext behind the rest of a record, or a header and a batch.
pub const BUFFER_BYTES: usize = 256 << 10;
const _: () = assert!(BUFFER_BYTES > REST_BYTES_MAX && BUFFER_BYTES >= BATCH_BYTES + FRAME_BYTES);

/// What each of so many streams encrypts before it sends.
pub fn batch_bytes(streams: u32) -> usize {
    (BATCHES_BYTES_MAX / streams.max(1) as usize).clamp(RECORD_PLAIN_BYTES, BATCH_BYTES)
}

/// Sends frames through TLS. Finished when its queue is empty and all is with the kernel.
pub struct SecureSendFlow {
    tls: Box<TlsConnection>,
    feed: Box<dyn Feed>,
    chunk: u64,
    batch: usize,
    cork: Cork,
    queue: VecDeque<Outgoing>,
    current: Option<UnderWay>,
    sealed: Sealed,
    /// Payload of what is sealed: counted once all is with the kernel.
    sealed_payload: u64,
    /// The end was said.
    has_ended: bool,
    tally: Tally,
}

impl SecureSendFlow {
    /// A flow that moves up to `chunk` bytes (at least 1) a call, and not more than `batch` (see [`batch_bytes`]). At most [`FRAMES_MAX`] frames are taken.
    pub fn new(
        tls: Box<TlsConnection>,
        feed: Box<dyn Feed>,
        (chunk, batch): (u64, usize),
        cork: Cork,
        frames: impl IntoIterator<Item = Outgoing>,
    ) -> SecureSendFlow {
        let queue = frames.into_iter().take(FRAMES_MAX).collect();
        let (current, sealed, tally) = (None, Sealed::default(), Tally::default());
        SecureSendFlow {
            tls,
            feed,
            chunk: chunk.max(1),
            batch: batch.clamp(1, BATCH_BYTES),
            cork,
            queue,
            current,
            sealed,
            sealed_payload: 0,
            has_ended: false,
            tally,
        }
    }
}

impl Flow for SecureSendFlow {
    fn interest(&self) -> mio::Interest {
        mio::Interest::READABLE | mio::Interest::WRITABLE
    }

    fn drive(&mut self, sock: BorrowedFd<'_>, room: &mut Room<'_>) -> Result<Progress, Fault> {
        let mut budget = Budget::new();
        self.hear(sock, room)?;
        loop {
            let before = self.tally.bytes;
            if !self.send_sealed(sock)? {
                return Ok(Progress::Blocked);
            }
            if !budget.spend(self.tally.bytes - before) {
                return Ok(Progress::Again);
            }
            if self.current.is_none() {
                let next = self.queue.pop_front();
                self.current = next.map(|outgoing| UnderWay::new(outgoing, self.chunk));
            }
            match self.current.take() {
                Some(under_way) => {
                    self.cork.put_in(sock);
                    self.current = self.seal_next(under_way, room)?;
                }
                None => return self.end(sock),
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

impl SecureSendFlow {
    /// Take what the peer's TLS has to say: a change of keys, or why it ended.
    fn hear(&mut self, sock: BorrowedFd<'_>, room: &mut Room<'_>) -> Result<(), Fault> {
        let mut buffer = room.buffer()?;
        self.tally.calls += 1;
        let heard = secure::receive(&mut self.tls, sock, &mut buffer, &mut |_| {});
        room.pool.give(buffer);
        heard.map(drop).map_err(fault)
    }

    /// Whether all that was encrypted is with the kernel.
    fn send_sealed(&mut self, sock: BorrowedFd<'_>) -> Result<bool, Fault> {
        let is_sent = self.sealed.flush(&mut self.tls, sock, &mut self.tally.calls).map_err(Fault::Connection)?;
        if self.sealed.is_empty() {
            self.tally.bytes += std::mem::take(&mut self.sealed_payload);
        }
        Ok(is_sent)
    }

    /// Encrypt the next piece of a frame; the frame again when more of it is to come.
    fn seal_next(&mut self, mut under_way: UnderWay, room: &mut Room<'_>) -> Result<Option<UnderWay>, Fault> {
        let mut plain = room.buffer()?;
        let head = FRAME_BYTES - under_way.header_sent;
        plain[..head].copy_from_slice(&under_way.header[under_way.header_sent..]);
        under_way.header_sent = FRAME_BYTES;
        let len = under_way.next_len().unwrap_or(0).min(self.batch);
        let into = &mut plain[head..head + len];
        let turn = &mut room.turn(&mut self.tally);
        let filled = self.feed.fill(into, &under_way.outgoing.source, under_way.at, turn);
        let sealed = filled.and_then(|()| {
            let sealed = self.sealed.seal(&mut self.tls, &plain[..head + len]);
            sealed.map_err(|error| fault(error.into()))
        });
        room.pool.give(plain);
        sealed?;
        self.sealed_payload = len as u64;
        if len > 0 {
            under_way.handle_sent(len as u64, self.chunk);
        }
        Ok(under_way.next_len().is_some().then_some(under_way))
    }

    fn end(&mut self, sock: BorrowedFd<'_>) -> Result<Progress, Fault> {
        if !self.has_ended {
            self.has_ended = true;
            self.tls.close();
        }
        self.cork.take_out(sock);
        let all_flushed = secure::flush(&mut self.tls, sock).map_err(Fault::Connection)?;
        Ok(if all_flushed { Progress::Finished } else { Progress::Blocked })
    }
}

/// What a failed TLS connection means for its stream.
pub(super) fn fault(error: SecureError) -> Fault {
    match error {
        SecureError::Network(error) => Fault::Connection(error),
        SecureError::Tls(error) => Fault::Secure(error.to_string()),
        SecureError::Cut => Fault::Unfinished,
    }
}
