//! What a share proves itself with: the identity that is kept for this user, or a certificate of one's own.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::args::TrustArgs;
use crate::cli::exit::Misuse;
use crate::proto::fingerprint::Fingerprint;
use crate::tls::{self, Ciphers};
use crate::trust::identity::Identity;
use crate::trust::places::Places;

/// Longest file that is read as PEM.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// What TLS is spoken with.
pub(super) struct Proof {
    pub(super) config: Arc<rustls::ServerConfig>,
    pub(super) fingerprint: Fingerprint,
    /// Made by us: a browser knows nobody who vouches for it.
    pub(super) is_self_signed: bool,
}

/// As the options say; nothing in the clear.
pub(super) fn proof(args: &TrustArgs) -> anyhow::Result<Option<Proof>> {
    if args.http {
        return Ok(None);
    }
    let (chain, key, is_self_signed) = match (&args.cert, &args.key) {
        (Some(cert), Some(key)) => (chain(cert)?, private_key(key)?, false),
        _ => {
            let identity = match Places::from_env() {
                Ok(places) => Identity::load_or_create(&places)?,
                // Whoever has no home still shares, but is another one each time.
                Err(_) => Identity::ephemeral()?,
            };
            let (chain, key) = tls::server::of_identity(&identity);
            (chain, key, true)
        }
    };
    let first = chain.first().map(|certificate| Fingerprint::of_certificate(certificate));
    let fingerprint = first.ok_or_else(|| Misuse("--cert: no certificate".to_string()))?;
    let config = tls::server::web_config(&Ciphers::of_this_machine(), chain, key);
    let config = match is_self_signed {
        true => config?,
        false => config.map_err(|error| Misuse(format!("--cert and --key do not fit together: {error}")))?,
    };
    Ok(Some(Proof { config, fingerprint, is_self_signed }))
}

fn chain(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let pem = read("--cert", path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(Misuse(format!("--cert {}: holds no certificate in PEM", path.display())).into()),
    }
}

fn private_key(path: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    let pem = read("--key", path)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        let why = "holds no private key in PEM that can be used: it must not be encrypted";
        Misuse(format!("--key {}: {why}", path.display())).into()
    })
}

fn read(option: &str, path: &Path) -> anyhow::Result<zeroize::Zeroizing<Vec<u8>>> {
    use std::io::Read;
    let shown = || format!("{option} {}", path.display());
    let file = std::fs::File::open(path).with_context(shown)?;
    let mut pem = zeroize::Zeroizing::new(Vec::new());
    file.take(PEM_BYTES_MAX).read_to_end(&mut pem).with_context(shown)?;
    Ok(pem)
}
