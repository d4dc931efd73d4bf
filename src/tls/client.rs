//! The client's configuration: a server is known by the fingerprint of its certificate.
//!
//! The fingerprint is compared inside the handshake, when the certificate arrives and before anything of ours is
//! encrypted to it; the signature of the handshake is verified as ever, so that a copied certificate without its key
//! is worth nothing (RFC 8446, 4.4.3). Names, dates and issuers of the certificate are not looked at.

use std::fmt;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, SignatureScheme};

use super::suites::Ciphers;
use super::{PROTOCOL_NAME, TlsError};
use crate::proto::ticket::Fingerprint;

/// Whom a client accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// Only the server with that certificate.
    Exactly(Fingerprint),
    /// Whoever answers. Protects against listeners only, not against somebody in between.
    Anybody,
}

/// A configuration for connections to one server.
pub fn config(ciphers: &Ciphers, pin: Pin) -> Result<Arc<ClientConfig>, TlsError> {
    let verifier = Arc::new(Pinned { pin, provider: ciphers.provider.clone() });
    let mut config = ClientConfig::builder_with_provider(ciphers.provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Setup)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config.alpn_protocols = vec![PROTOCOL_NAME.to_vec()];
    Ok(Arc::new(config))
}

/// The same for one server that speaks HTTP.
pub fn web_config(ciphers: &Ciphers, pin: Pin) -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = ClientConfig::clone(&*config(ciphers, pin)?);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The name that rustls wants for a server; nobody looks at it.
pub fn nominal_name() -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from("linerate")
        .map_err(|_| TlsError::Setup(Error::General("the nominal server name is no name".to_string())))
}

struct Pinned {
    pin: Pin,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pinned").field(&self.pin).finish()
    }
}

/// Carried through rustls' own error.
#[derive(Clone, Copy, Debug)]
pub(super) struct WrongFingerprint {
    pub(super) expected: Fingerprint,
    pub(super) found: Fingerprint,
}

impl fmt::Display for WrongFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("another fingerprint than the pinned one")
    }
}

impl std::error::Error for WrongFingerprint {}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = Fingerprint::of_certificate(certificate);
        match self.pin {
            Pin::Exactly(expected) if expected != found => {
                let wrong = OtherError(Arc::new(WrongFingerprint { expected, found }));
                Err(Error::InvalidCertificate(CertificateError::Other(wrong)))
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(rustls::PeerIncompatible::ServerDoesNotSupportTls12Or13))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
