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
    let certificate = CertificateDer::from(identity.certificate_der.clone());
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.key_pkcs8_der.to_vec()));
    let mut config = ServerConfig::builder_with_provider(ciphers.provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Setup)?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .map_err(TlsError::Setup)?;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ignore_client_order = ciphers.is_choosy;
    config.alpn_protocols = vec![PROTOCOL_NAME.to_vec()];
    Ok(Arc::new(config))
}
