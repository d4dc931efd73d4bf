//! TLS on a socket: the calls that carry bytes between a [`TlsConnection`] and the network. They never block.

use std::io;
use std::os::fd::BorrowedFd;

use crate::sys::socket;
use crate::tls::{TlsConnection, TlsError};

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
