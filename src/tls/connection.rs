//! One TLS connection, either side.
//!
//! Ciphertext goes in through [`TlsConnection::carry_over`] and [`TlsConnection::handle_ciphertext`], plaintext comes
//! out of the latter. Plaintext is encrypted by [`TlsConnection::encrypt`] into the caller's buffer. What the protocol
//! itself has to say (handshake, key updates, alerts) waits in [`TlsConnection::poll_transmit`] and goes before
//! anything that is encrypted later.
//!
//! Life: handshaking → open → closed by the peer, by us, or failed. A failure is final.

use std::fmt;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{CipherSuite, ClientConfig, CommonState, Error, ServerConfig};

use super::client::nominal_name;
use super::error::wrong;
use super::{PROTOCOL_NAME, TlsError};

/// Most plaintext of one record (RFC 8446, 5.1).
pub const RECORD_PLAIN_BYTES: usize = 16 << 10;
/// What a record adds to its plaintext at most: header, padding, tag (RFC 8446, 5.2).
pub const RECORD_EXTRA_BYTES: usize = 5 + 256;
/// Most bytes that wait for the rest of their record, or of their handshake message (65,535 bytes and headers).
pub const REST_BYTES_MAX: usize = 80 << 10;
/// Most bytes of the protocol's own that wait for a peer that does not read.
pub const OUTGOING_BYTES_MAX: usize = 256 << 10;

/// The first byte of a record: change_cipher_spec, alert, handshake, application_data (RFC 8446, 5.1).
const RECORD_TYPES: std::ops::RangeInclusive<u8> = 20..=23;

/// Room that [`TlsConnection::encrypt`] needs for so much plaintext, a key update included.
pub const fn sealed_bytes_max(plain: usize) -> usize {
    plain + (plain / RECORD_PLAIN_BYTES + 2) * RECORD_EXTRA_BYTES
}

/// One end of a TLS connection.
///
/// Invariant: `rest` is what was received and not yet understood, from the beginning of a record on; rustls keeps
/// positions in it, so every call is given the whole of it.
pub struct TlsConnection {
    side: Side,
    rest: Vec<u8>,
    outgoing: Vec<u8>,
    is_peer_closed: bool,
    has_failed: bool,
}

enum Side {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

impl fmt::Debug for TlsConnection {
    /// Shows where it is, nothing of what it carries.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConnection")
            .field("is_handshaking", &self.is_handshaking())
            .field("is_peer_closed", &self.is_peer_closed)
            .field("has_failed", &self.has_failed)
            .finish_non_exhaustive()
    }
}

/// What one step of rustls came to.
enum Step {
    /// There may be more to do.
    Again,
    /// It waits for the peer, or for something to encrypt.
    Idle,
    PeerClosed,
}

impl TlsConnection {
    /// The end that begins.
    pub fn client(config: Arc<ClientConfig>) -> Result<TlsConnection, TlsError> {
        let client = UnbufferedClientConnection::new(config, nominal_name()?).map_err(TlsError::Setup)?;
        let mut connection = TlsConnection::of(Side::Client(client));
        connection.handle_ciphertext(&mut [], &mut |_| {})?;
        Ok(connection)
    }

    /// The end that answers.
    pub fn server(config: Arc<ServerConfig>) -> Result<TlsConnection, TlsError> {
        Ok(TlsConnection::of(Side::Server(UnbufferedServerConnection::new(config).map_err(TlsError::Setup)?)))
    }

    fn of(side: Side) -> TlsConnection {
        TlsConnection { side, rest: Vec::new(), outgoing: Vec::new(), is_peer_closed: false, has_failed: false }
    }

    /// Whether the handshake is under way, so that nothing can be encrypted yet.
    pub fn is_handshaking(&self) -> bool {
        self.common().is_handshaking()
    }

    /// Whether the peer said that nothing more comes (close_notify). An end without it is a cut connection.
    pub fn is_peer_closed(&self) -> bool {
        self.is_peer_closed
    }

    /// The cipher suite, once it is agreed, by its name in the TLS registry.
    pub fn cipher(&self) -> Option<&'static str> {
        self.common().negotiated_cipher_suite().map(|suite| match suite.suite() {
            CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
            _ => "an unknown cipher suite",
        })
    }

    /// Copy what waits for its rest to the front of `buffer`, which must be longer than [`REST_BYTES_MAX`]; what is
    /// received goes behind it, and all together to [`TlsConnection::handle_ciphertext`].
    pub fn carry_over(&self, buffer: &mut [u8]) -> usize {
        buffer[..self.rest.len()].copy_from_slice(&self.rest);
        self.rest.len()
    }

    /// Ciphertext that has arrived, behind what [`TlsConnection::carry_over`] put there. `plain` gets the plaintext,
    /// piece by piece and in order.
    pub fn handle_ciphertext(&mut self, bytes: &mut [u8], plain: &mut dyn FnMut(&[u8])) -> Result<(), TlsError> {
        if self.has_failed {
            return Err(TlsError::NotReady);
        }
        let is_at_record = self.is_handshaking() && self.rest.is_empty();
        if is_at_record && bytes.first().is_some_and(|first| !RECORD_TYPES.contains(first)) {
            self.fail();
            return Err(TlsError::NotLinerate);
        }
        let mut used = 0;
        let done = loop {
            let (discard, step) = self.step(&mut bytes[used..], plain);
            used += discard;
            match step {
                Ok(Step::Again) => {}
                Ok(Step::Idle) => break Ok(()),
                Ok(Step::PeerClosed) => self.is_peer_closed = true,
                Err(error) => break Err(error),
            }
        };
        self.rest.clear();
        self.rest.extend_from_slice(&bytes[used..]);
        done.and_then(|()| self.check()).inspect_err(|_| self.fail())
    }

    /// What the protocol itself has to send; say how much was taken with [`TlsConnection::handle_sent`].
    pub fn poll_transmit(&self) -> &[u8] {
        &self.outgoing
    }

    /// The first `n` bytes of [`TlsConnection::poll_transmit`] were taken.
    pub fn handle_sent(&mut self, n: usize) {
        self.outgoing.drain(..n.min(self.outgoing.len()));
    }

    /// Encrypt `plain` into `sealed`, which needs room for [`sealed_bytes_max`] of it; how many bytes that made. Keys
    /// are changed in time (RFC 8446, 5.5). [`TlsConnection::poll_transmit`] must be empty.
    pub fn encrypt(&mut self, plain: &[u8], sealed: &mut [u8]) -> Result<usize, TlsError> {
        if self.has_failed || !self.outgoing.is_empty() {
            return Err(TlsError::NotReady);
        }
        let rest = &mut self.rest;
        let sealed = match &mut self.side {
            Side::Client(client) => seal(client.process_tls_records(rest), plain, sealed),
            Side::Server(server) => seal(server.process_tls_records(rest), plain, sealed),
        };
        sealed.inspect_err(|_| self.has_failed = true)
    }

    /// Say that nothing more comes.
    pub fn close(&mut self) {
        let mut alert = [0; 2 * RECORD_EXTRA_BYTES];
        let rest = &mut self.rest;
        let n = match &mut self.side {
            Side::Client(client) => seal_end(client.process_tls_records(rest), &mut alert),
            Side::Server(server) => seal_end(server.process_tls_records(rest), &mut alert),
        };
        self.outgoing.extend_from_slice(&alert[..n]);
    }

    fn common(&self) -> &CommonState {
        match &self.side {
            Side::Client(client) => client,
            Side::Server(server) => server,
        }
    }

    fn step(&mut self, bytes: &mut [u8], plain: &mut dyn FnMut(&[u8])) -> (usize, Result<Step, TlsError>) {
        let outgoing = &mut self.outgoing;
        match &mut self.side {
            Side::Client(client) => advance(client.process_tls_records(bytes), outgoing, plain),
            Side::Server(server) => advance(server.process_tls_records(bytes), outgoing, plain),
        }
    }

    /// Bounds, and the protocol's name once it is known.
    fn check(&self) -> Result<(), TlsError> {
        if self.outgoing.len() > OUTGOING_BYTES_MAX {
            return Err(TlsError::Backlog(OUTGOING_BYTES_MAX));
        }
        if self.rest.len() > REST_BYTES_MAX {
            return Err(TlsError::Protocol(Error::General("a message without end".to_string())));
        }
        if !self.is_handshaking() && self.common().alpn_protocol() != Some(PROTOCOL_NAME) {
            return Err(TlsError::NotLinerate);
        }
        Ok(())
    }

    /// Nothing more is taken; the alert that tells the peer why waits to be sent. rustls is only asked for that: given
    /// the bytes that failed once more, it would fail again, and not gracefully.
    fn fail(&mut self) {
        self.has_failed = true;
        self.rest.clear();
        while self.common().wants_write() {
            if !matches!(self.step(&mut [], &mut |_| {}), (_, Ok(Step::Again))) {
                return;
            }
        }
    }
}

/// Deal with one state of rustls; how many bytes were used up.
fn advance<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    outgoing: &mut Vec<u8>,
    plain: &mut dyn FnMut(&[u8]),
) -> (usize, Result<Step, TlsError>) {
    let mut used = status.discard;
    let step = match status.state {
        Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
            match traffic.next_record() {
                Some(Ok(record)) => {
                    used += record.discard;
                    plain(record.payload);
                }
                Some(Err(error)) => break Err(wrong(error)),
                None => break Ok(Step::Again),
            }
        },
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            append(outgoing, |room| data.encode(room)).map(|()| Step::Again)
        }
        // What is in `outgoing` will be sent, or the connection is over.
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok(Step::Again)
        }
        Ok(ConnectionState::PeerClosed) => Ok(Step::PeerClosed),
        Ok(_) => Ok(Step::Idle),
        Err(error) => Err(wrong(error)),
    };
    (used, step)
}

fn append(
    outgoing: &mut Vec<u8>,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) -> Result<(), TlsError> {
    let start = outgoing.len();
    let mut room = 0;
    loop {
        outgoing.resize(start + room, 0);
        match encode(&mut outgoing[start..]) {
            Ok(n) => {
                outgoing.truncate(start + n);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(wanted)) if wanted.required_size > room => room = wanted.required_size,
            Err(_) => return Err(TlsError::NotReady),
        }
    }
}

fn seal<Data>(status: UnbufferedStatus<'_, '_, Data>, plain: &[u8], sealed: &mut [u8]) -> Result<usize, TlsError> {
    // Whatever came is dealt with before, so there is nothing to discard and nothing else to be done.
    match status.state.map_err(wrong)? {
        ConnectionState::WriteTraffic(mut traffic) => traffic.encrypt(plain, sealed).map_err(|error| match error {
            EncryptError::InsufficientSize(_) => TlsError::NotReady,
            EncryptError::EncryptExhausted => TlsError::Protocol(Error::EncryptError),
        }),
        _ => Err(TlsError::NotReady),
    }
}

fn seal_end<Data>(status: UnbufferedStatus<'_, '_, Data>, alert: &mut [u8]) -> usize {
    match status.state {
        Ok(ConnectionState::WriteTraffic(mut traffic)) => traffic.queue_close_notify(alert).unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
