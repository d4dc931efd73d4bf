//! The sending flow of a copy: takes the next piece that waits, whichever stream is free first.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::flow::{Budget, Flow, Progress, Room};
use super::outbox::{Found, Outbox, Payload, Piece};
use super::secure::{self, Sealed};
use super::secure_send::{BATCH_BYTES, fault};
use super::send::Cork;
use crate::mover::Fault;
use crate::proto::message::{Tally, WorkerSample};
use crate::proto::wire::FRAME_BYTES;
use crate::sys::{raw, socket};
use crate::tls::TlsConnection;

/// Sends pieces until the outbox is closed and empty.
pub struct CopySendFlow {
    outbox: Outbox,
    tls: Option<Secured>,
    cork: Cork,
    current: Option<UnderWay>,
    has_ended: bool,
    tally: Tally,
}

/// TLS, and ciphertext on its way.
struct Secured {
    tls: Box<TlsConnection>,
    sealed: Sealed,
}

/// Invariant: `at` counts the bytes of header and payload that are dealt with.
struct UnderWay {
    piece: Piece,
    header: [u8; FRAME_BYTES],
    len: usize,
    at: usize,
    /// The file became shorter.
    is_made_up: bool,
}

impl CopySendFlow {
    /// A flow over an outbox that it shares with the other streams.
    pub fn new(outbox: Outbox, tls: Option<Box<TlsConnection>>, cork: Cork) -> CopySendFlow {
        let tls = tls.map(|tls| Secured { tls, sealed: Sealed::default() });
        CopySendFlow { outbox, tls, cork, current: None, has_ended: false, tally: Tally::default() }
    }
}

impl Flow for CopySendFlow {
    fn interest(&self) -> mio::Interest {
        mio::Interest::READABLE | mio::Interest::WRITABLE
    }

    fn drive(&mut self, sock: BorrowedFd<'_>, room: &mut Room<'_>) -> Result<Progress, Fault> {
        let mut budget = Budget::new();
        if let Some(secured) = &mut self.tls {
            let mut buffer = room.buffer()?;
            let heard = secure::receive(&mut secured.tls, sock, &mut buffer, &mut |_| {});
            room.pool.give(buffer);
            heard.map_err(fault)?;
        }
        loop {
            if !self.flush(sock)? {
                return Ok(Progress::Blocked);
            }
            let Some(mut under_way) = self.current.take() else {
                match self.outbox.next() {
                    Found::Piece(piece) => self.current = Some(UnderWay::new(piece)),
                    Found::Later => {
                        self.cork.take_out(sock);
                        return Ok(Progress::Blocked);
                    }
                    Found::Never => return self.end(sock),
                }
                continue;
            };
            self.cork.put_in(sock);
            let n = self.send_next(&mut under_way, sock)?;
            if !under_way.is_over() {
                self.current = Some(under_way);
            }
            match n {
                None => return Ok(Progress::Blocked),
                Some(n) if budget.spend(n) => {}
                Some(_) => return Ok(Progress::Again),
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

impl CopySendFlow {
    /// Send, or encrypt, what comes next; `None` when the socket is full.
    fn send_next(&mut self, under_way: &mut UnderWay, sock: BorrowedFd<'_>) -> Result<Option<u64>, Fault> {
        let is_header = under_way.at < FRAME_BYTES;
        let sent = match (under_way.next(), &mut self.tls) {
            (Next::Bytes(bytes), Some(Secured { tls, sealed })) => {
                let bytes = &bytes[..bytes.len().min(BATCH_BYTES)];
                sealed.seal(tls, bytes).map_err(|error| fault(error.into()))?;
                Ok(bytes.len())
            }
            (Next::Bytes(bytes), None) => {
                self.tally.calls += 1;
                socket::send(sock, bytes, is_header)
            }
            (Next::Range(file, offset, len), None) => {
                self.tally.calls += 1;
                match raw::sendfile(sock, file.as_fd(), offset, len) {
                    // It became shorter, or cannot be read. The frame is announced: what is lacking is made up, and
                    // found wrong by its digest, if the reader has not told of it before.
                    Ok(0) => under_way.give_up_file(),
                    Err(error) if error.raw_os_error() == Some(libc::EIO) => under_way.give_up_file(),
                    other => other,
                }
            }
            (Next::Range(..), Some(_)) => {
                let error = io::ErrorKind::Unsupported.into();
                return Err(Fault::Resource { what: "a part of a file cannot be encrypted unread", error });
            }
        };
        let n = match sent {
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Some(0)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(Fault::Connection(error)),
        };
        under_way.at += n;
        let payload = if is_header { 0 } else { n as u64 };
        self.tally.bytes += payload;
        Ok(Some(payload))
    }

    /// Whether all that was encrypted is with the kernel.
    fn flush(&mut self, sock: BorrowedFd<'_>) -> Result<bool, Fault> {
        let Some(Secured { tls, sealed }) = &mut self.tls else { return Ok(true) };
        sealed.flush(tls, sock, &mut self.tally.calls).map_err(Fault::Connection)
    }

    fn end(&mut self, sock: BorrowedFd<'_>) -> Result<Progress, Fault> {
        self.cork.take_out(sock);
        if let Some(secured) = &mut self.tls
            && !std::mem::replace(&mut self.has_ended, true)
        {
            secured.tls.close();
        }
        Ok(if self.flush(sock)? { Progress::Finished } else { Progress::Blocked })
    }
}

/// What is to be sent next.
enum Next<'a> {
    Bytes(&'a [u8]),
    /// So many bytes of a file from an offset.
    Range(&'a File, u64, usize),
}

/// Stands in for what a file does not have any more.
static ZEROS: [u8; 16 << 10] = [0; 16 << 10];

impl UnderWay {
    fn new(piece: Piece) -> UnderWay {
        let len = piece.payload.len() as usize;
        UnderWay { header: piece.frame.encode(), len, piece, at: 0, is_made_up: false }
    }

    fn next(&self) -> Next<'_> {
        let Some(at) = self.at.checked_sub(FRAME_BYTES) else { return Next::Bytes(&self.header[self.at..]) };
        let left = self.len - at;
        match &self.piece.payload {
            Payload::Buffer(buffer) => Next::Bytes(&buffer.filled()[at..]),
            Payload::Range(_) if self.is_made_up => Next::Bytes(&ZEROS[..left.min(ZEROS.len())]),
            Payload::Range(range) => Next::Range(&range.file, range.offset + at as u64, left),
        }
    }

    /// The file has no more.
    fn give_up_file(&mut self) -> io::Result<usize> {
        self.is_made_up = true;
        Ok(0)
    }

    fn is_over(&self) -> bool {
        self.at == FRAME_BYTES + self.len
    }
}
