//! The sending flow of a copy: takes the next piece that waits, whichever stream is free first.

use std::io;
use std::os::fd::BorrowedFd;

use super::flow::{Budget, Flow, Progress, Room};
use super::outbox::{Next, Outbox, Piece};
use super::secure;
use super::secure_send::{BATCH_BYTES, fault};
use super::send::Cork;
use crate::mover::Fault;
use crate::proto::message::{Tally, WorkerSample};
use crate::proto::wire::FRAME_BYTES;
use crate::sys::socket;
use crate::tls::TlsConnection;
use crate::tls::connection::sealed_bytes_max;

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
///
/// Invariant: `sealed[sent..]` is encrypted and not yet sent.
struct Secured {
    tls: Box<TlsConnection>,
    sealed: Vec<u8>,
    sent: usize,
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
        let tls = tls.map(|tls| Secured { tls, sealed: Vec::new(), sent: 0 });
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
            Some(secured) => secured.seal(&next[..next.len().min(BATCH_BYTES)])?,
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
        let Some(secured) = &mut self.tls else { return Ok(true) };
        while secured.sent < secured.sealed.len() {
            self.tally.calls += 1;
            match socket::send(sock, &secured.sealed[secured.sent..], false) {
                Ok(n) => secured.sent += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(Fault::Connection(error)),
            }
        }
        secure::flush(&mut secured.tls, sock).map_err(Fault::Connection)
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

impl Secured {
    fn seal(&mut self, plain: &[u8]) -> Result<usize, Fault> {
        self.sealed.resize(sealed_bytes_max(plain.len()), 0);
        let n = self.tls.encrypt(plain, &mut self.sealed).map_err(|error| fault(error.into()))?;
        self.sealed.truncate(n);
        self.sent = 0;
        Ok(plain.len())
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
