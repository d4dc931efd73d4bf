//! TLS on a socket: the calls that carry bytes between a [`TlsConnection`] and the network. They never block.

use std::io;
use std::os::fd::BorrowedFd;

use crate::sys::socket;
use crate::tls::connection::{REST_BYTES_MAX, sealed_bytes_max};
use crate::tls::{TlsConnection, TlsError};

/// Room to receive into where little is expected: behind what waits for the rest of its record.
pub(super) const READ_BYTES: usize = REST_BYTES_MAX + (16 << 10);

/// What protects a data stream, if anything does.
pub type Protection = Option<Box<TlsConnection>>;

/// Why a TLS connection is over.
#[derive(Debug, thiserror::Error)]
pub enum SecureError {
    /// The network's doing.
    #[error("{0}")]
    Network(#[from] io::Error),
    /// The peer's doing.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The connection ended without the peer's word that this is the end: somebody cut it, or the peer died.
    #[error("the connection was cut")]
    Cut,
}

/// What one call brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Ciphertext.
    Bytes {
        /// The buffer had room for more, so the socket is empty.
        is_all: bool,
    },
    /// The socket is empty.
    Blocked,
    /// The peer said that nothing more comes.
    End,
}

/// Ciphertext on its way.
///
/// Invariant: `bytes[sent..]` is encrypted and not yet sent.
#[derive(Debug, Default)]
pub struct Sealed {
    bytes: Vec<u8>,
    sent: usize,
}

impl Sealed {
    /// Encrypt; what was sealed before must have been sent ([`Sealed::flush`]).
    pub fn seal(&mut self, tls: &mut TlsConnection, plain: &[u8]) -> Result<(), TlsError> {
        // Hardly anything is zeroed again: it is cut by what a record may add at most, and does add.
        self.bytes.resize(sealed_bytes_max(plain.len()), 0);
        self.sent = 0;
        let sealed = tls.encrypt(plain, &mut self.bytes);
        self.bytes.truncate(*sealed.as_ref().unwrap_or(&0));
        sealed.map(drop)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    /// Send what waits, and then what the protocol itself has to say; whether all of it went. Counts its calls.
    pub fn flush(&mut self, tls: &mut TlsConnection, sock: BorrowedFd<'_>, calls: &mut u64) -> io::Result<bool> {
        while !self.is_empty() {
            *calls += 1;
            match socket::send(sock, &self.bytes[self.sent..], false) {
                Ok(n) => self.sent += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        flush(tls, sock)
    }
}

/// Receive once and decrypt. `buffer` is longer than [`crate::tls::connection::REST_BYTES_MAX`].
pub fn receive(
    tls: &mut TlsConnection,
    sock: BorrowedFd<'_>,
    buffer: &mut [u8],
    plain: &mut dyn FnMut(&[u8]),
) -> Result<Received, SecureError> {
    let waiting = tls.carry_over(buffer);
    let got = loop {
        match socket::receive(sock, &mut buffer[waiting..]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Received::Blocked),
            other => break other?,
        }
    };
    if got == 0 {
        return if tls.is_peer_closed() { Ok(Received::End) } else { Err(SecureError::Cut) };
    }
    tls.handle_ciphertext(&mut buffer[..waiting + got], plain)?;
    let is_all = waiting + got < buffer.len();
    Ok(if tls.is_peer_closed() { Received::End } else { Received::Bytes { is_all } })
}

/// Send what the protocol itself has to say; whether all of it went.
pub fn flush(tls: &mut TlsConnection, sock: BorrowedFd<'_>) -> io::Result<bool> {
    while !tls.poll_transmit().is_empty() {
        match socket::send(sock, tls.poll_transmit(), false) {
            Ok(n) => tls.handle_sent(n),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
