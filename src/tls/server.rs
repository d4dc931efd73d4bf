//! The server's configuration: one self-signed certificate, no client certificates, no tickets of TLS itself.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::NoServerSessionStorage;

use super::suites::Ciphers;
use super::{PROTOCOL_NAME, TlsError};
use crate::trust::identity::Identity;

/// A configuration for all connections of a server with that identity.
pub fn config(ciphers: &Ciphers, identity: &Identity) -> Result<Arc<ServerConfig>, TlsError> {
    let (chain, key) = of_identity(identity);
    let mut config = ServerConfig::builder_with_provider(ciphers.provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Setup)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(TlsError::Setup)?;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ignore_client_order = ciphers.is_choosy;
    config.alpn_protocols = vec![PROTOCOL_NAME.to_vec()];
    Ok(Arc::new(config))
}

/// A configuration for browsers and other programs that speak HTTP, with any certificate chain, its own first, and the
/// key to it.
pub fn web_config(
    ciphers: &Ciphers,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(ciphers.provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Setup)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(TlsError::Setup)?;
    config.ignore_client_order = ciphers.is_choosy;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The chain and key of [`web_config`] for an identity of ours.
pub fn of_identity(identity: &Identity) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let certificate = CertificateDer::from(identity.certificate_der.clone());
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.key_pkcs8_der.to_vec()));
    (vec![certificate], key)
}
