//! The client's side of many TLS handshakes at a time.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustls::ClientConfig;

use super::secure::{self, READ_BYTES, Received, Sealed, SecureError};
use crate::tls::TlsConnection;

/// Shake hands on connected sockets, and send each its first bytes, encrypted.
pub(super) fn client_side(
    socks: Vec<TcpStream>,
    first_bytes: &[Vec<u8>],
    config: &Arc<ClientConfig>,
    deadline: Instant,
) -> Result<Vec<(TcpStream, TlsConnection)>, SecureError> {
    let mut poll = Poll::new()?;
    let mut streams = Vec::with_capacity(socks.len());
    for (n, mut sock) in socks.into_iter().enumerate() {
        poll.registry().register(&mut sock, Token(n), Interest::READABLE | Interest::WRITABLE)?;
        streams.push((sock, TlsConnection::client(config.clone())?));
    }
    let mut events = Events::with_capacity(streams.len().max(1));
    let mut buffer = vec![0; READ_BYTES];
    while streams.iter().any(|(_, tls)| tls.is_handshaking()) {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::from(io::ErrorKind::TimedOut).into());
        }
        match poll.poll(&mut events, Some(left)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &events {
            if let Some((sock, tls)) = streams.get_mut(event.token().0) {
                go_on(sock, tls, &mut buffer)?;
            }
        }
    }
    for ((sock, tls), bytes) in streams.iter_mut().zip(first_bytes) {
        let _ = poll.registry().deregister(sock);
        say(sock, tls, bytes)?;
    }
    Ok(streams)
}

fn go_on(sock: &TcpStream, tls: &mut TlsConnection, buffer: &mut [u8]) -> Result<(), SecureError> {
    while tls.is_handshaking() {
        secure::flush(tls, sock.as_fd())?;
        // Nothing comes before the server knows which stream this is.
        match secure::receive(tls, sock.as_fd(), buffer, &mut |_| {}) {
            Ok(Received::Bytes { .. }) => {}
            Ok(Received::Blocked) => return Ok(()),
            Ok(Received::End) => return Err(SecureError::Cut),
            Err(error) => {
                // The alert tells the peer why.
                let _ = secure::flush(tls, sock.as_fd());
                return Err(error);
            }
        }
    }
    Ok(())
}

/// The end of the handshake and the first bytes: a fresh connection's send buffer always has room for them.
fn say(sock: &TcpStream, tls: &mut TlsConnection, bytes: &[u8]) -> Result<(), SecureError> {
    let mut sealed = Sealed::default();
    secure::flush(tls, sock.as_fd())?;
    sealed.seal(tls, bytes)?;
    if sealed.flush(tls, sock.as_fd(), &mut 0)? { Ok(()) } else { Err(SecureError::Cut) }
}
