//! The messages of a request/response stream through TLS.

use std::io;
use std::os::fd::BorrowedFd;

use super::flow::Room;
use super::secure::{self, Received, Sealed};
use super::secure_send::{BATCH_BYTES, fault};
use crate::mover::Fault;
use crate::sys::mapping::FileMapping;
use crate::tls::TlsConnection;

/// TLS, and what waits on either side of it.
pub(super) struct SecureLine {
    tls: Box<TlsConnection>,
    sealed: Sealed,
    /// Plaintext that came and was not yet asked for.
    arrived: u64,
    is_over: bool,
}

impl SecureLine {
    pub(super) fn new(tls: Box<TlsConnection>) -> SecureLine {
        SecureLine { tls, sealed: Sealed::default(), arrived: 0, is_over: false }
    }

    /// Send what waits; whether all of it went.
    pub(super) fn flush(&mut self, sock: BorrowedFd<'_>, calls: &mut u64) -> Result<bool, Fault> {
        self.sealed.flush(&mut self.tls, sock, calls).map_err(Fault::Connection)
    }

    /// Encrypt up to `len` bytes of the payload and send as much as the socket takes; how many are dealt with.
    pub(super) fn send(
        &mut self,
        payload: &FileMapping,
        len: usize,
        sock: BorrowedFd<'_>,
        room: &mut Room<'_>,
    ) -> Result<u64, Fault> {
        let mut calls = 0;
        if !self.flush(sock, &mut calls)? {
            return Err(Fault::Connection(io::ErrorKind::WouldBlock.into()));
        }
        let len = len.min(BATCH_BYTES);
        let mut plain = room.buffer()?;
        let sealed = match payload.copy_to(0, &mut plain[..len]) {
            Ok(()) => self.sealed.seal(&mut self.tls, &plain[..len]).map_err(|error| fault(error.into())),
            Err(error) => Err(Fault::Connection(error)),
        };
        room.pool.give(plain);
        sealed?;
        self.flush(sock, &mut calls)?;
        Ok(len as u64)
    }

    /// Up to `left` bytes of a message, and whether the socket is empty; no byte at the end of the stream.
    pub(super) fn receive(
        &mut self,
        left: u64,
        sock: BorrowedFd<'_>,
        buffer: &mut [u8],
    ) -> Result<(usize, bool), Fault> {
        let mut is_empty = false;
        if self.arrived == 0 && !self.is_over {
            let arrived = &mut self.arrived;
            match secure::receive(&mut self.tls, sock, buffer, &mut |plain| *arrived += plain.len() as u64) {
                Ok(Received::Bytes { is_all }) => is_empty = is_all,
                Ok(Received::End) => self.is_over = true,
                Ok(Received::Blocked) => return Err(Fault::Connection(io::ErrorKind::WouldBlock.into())),
                Err(error) => return Err(fault(error)),
            }
        }
        if self.arrived == 0 && !self.is_over {
            // Part of a record, or something of the protocol's own.
            return Err(Fault::Connection(io::ErrorKind::WouldBlock.into()));
        }
        let n = self.arrived.min(left);
        self.arrived -= n;
        Ok((n as usize, is_empty && self.arrived == 0))
    }
}
