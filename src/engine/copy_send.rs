//! The sending flow of a copy: takes the next piece that waits, whichever stream is free first.

use std::io;
use std::os::fd::BorrowedFd;

use super::flow::{Budget, Flow, Progress, Room};
use super::outbox::{Next, Outbox, Piece};
use super::secure::{self, Sealed};
use super::secure_send::{BATCH_BYTES, fault};
use super::send::Cork;
use crate::mover::Fault;
use crate::proto::message::{Tally, WorkerSample};
use crate::proto::wire::FRAME_BYTES;
use crate::sys::socket;
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
    at: usize,
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
                    Next::Piece(piece) => self.current = Some(UnderWay::new(piece)),
                    Next::Later => {
                        self.cork.take_out(sock);
                        return Ok(Progress::Blocked);
                    }
                    Next::Never => return self.end(sock),
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
        let next = under_way.next();
        let n = match &mut self.tls {
            Some(Secured { tls, sealed }) => {
                let next = &next[..next.len().min(BATCH_BYTES)];
                sealed.seal(tls, next).map_err(|error| fault(error.into()))?;
                next.len()
            }
            None => {
                self.tally.calls += 1;
                match socket::send(sock, next, is_header) {
                    Ok(n) => n,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Some(0)),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                    Err(error) => return Err(Fault::Connection(error)),
                }
            }
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

impl UnderWay {
    fn new(piece: Piece) -> UnderWay {
        UnderWay { header: piece.frame.encode(), piece, at: 0 }
    }

    fn next(&self) -> &[u8] {
        match self.at.checked_sub(FRAME_BYTES) {
            None => &self.header[self.at..],
            Some(at) => &self.piece.payload.filled()[at..],
        }
    }

    fn is_over(&self) -> bool {
        self.at == FRAME_BYTES + self.piece.payload.filled().len()
    }
}
