//! TLS 1.3 as a machine without input or output: bytes of the network in, bytes of the session out, and back.
//!
//! The library is rustls over aws-lc-rs. What lives here is how linerate uses it: version 1.3 and nothing older, no
//! resumption and so no secret kept for it, certificates that are known by their fingerprint and not by who signed
//! them. No socket, file or clock of ours.
//!
//! | file | what it holds |
//! |---|---|
//! | [`connection`] | one connection's state: handshake, records in, records out |
//! | [`client`], [`server`] | the two configurations; [`client`] holds the verifier that pins |
//! | `error` | what the library's errors mean to a person |
//! | `suites` | which ciphers, in which order |

pub mod client;
pub mod connection;
mod error;
pub mod server;
mod suites;

pub use connection::TlsConnection;
pub use error::wrong as explain;
pub use suites::{Ciphers, warm_up};

/// What both ends name as their protocol (ALPN), so that no other service's certificate or session is taken for
/// ours.
const PROTOCOL_NAME: &[u8] = b"linerate/1";

/// Why TLS failed: the peer's doing, a wrong identity, or this machine's lack.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The server is not the one that was meant.
    #[error(
        "its certificate has the fingerprint {found}, not {expected} as the ticket says: somebody else answers at this address, or the server has a new identity: get a new ticket from it by a way that you trust"
    )]
    Fingerprint {
        /// Pinned.
        expected: crate::proto::ticket::Fingerprint,
        /// Presented.
        found: crate::proto::ticket::Fingerprint,
    },
    /// The first bytes were not TLS, or those of a TLS without our protocol.
    #[error("it does not speak the linerate protocol (TLS 1.3): is this the port of `linerate serve`?")]
    NotLinerate,
    /// The peer speaks TLS, and not the version or the ciphers that we do.
    #[error(
        "it speaks TLS, but not as linerate does ({0}): is this the port of `linerate serve`, and of this release?"
    )]
    Incompatible(String),
    /// The server showed a certificate and could not prove that it is its own.
    #[error("it has not the key of the certificate that it shows: somebody else answers at this address")]
    Unproven,
    /// The peer gave up, for this reason.
    #[error("the other end broke off the TLS connection ({0})")]
    Alert(String),
    /// What came was not encrypted by the peer, or changed on the way.
    #[error("what arrived was not encrypted by the other end, or was changed on the way")]
    Forged,
    /// The peer broke the protocol in another way.
    #[error("TLS: {0}")]
    Protocol(#[source] rustls::Error),
    /// The configuration is impossible.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[source] rustls::Error),
    /// The peer never reads what the protocol makes us answer.
    #[error("TLS: the peer makes us answer {0} bytes and reads none of them")]
    Backlog(usize),
    /// Somebody used a connection that is not ready, or over.
    #[error("TLS: the connection takes no data now")]
    NotReady,
}
