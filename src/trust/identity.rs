//! The key and the certificate by which this user's servers on this machine are known.
//!
//! Made once and kept: every ticket and every paired client names its fingerprint. A damaged one is an error, never
//! replaced in silence, as that would look like an attack to everybody who knew the old one.

use std::fmt;
use std::path::{Path, PathBuf};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use zeroize::Zeroizing;

use super::places::Places;
use super::private_file::{self, Lock};
use super::{TrustError, der};
use crate::proto::ticket::Fingerprint;

/// Subject and alternative name. Clients know the certificate by its fingerprint and ask for no other name.
pub const SERVER_NAME: &str = "linerate";

const CERTIFICATE_FILE: &str = "identity.crt";
const KEY_FILE: &str = "identity.key";
/// Longest certificate and key file; ours have a few hundred bytes.
const DER_BYTES_MAX: u64 = 16 << 10;
/// What to do about a damaged identity.
const REMOVE: &str =
    "both identity.key and identity.crt for a new identity, after which all tickets and pairings must be made anew";

/// A key and its certificate, both in DER.
#[derive(Clone)]
pub struct Identity {
    /// Self-signed X.509.
    pub certificate_der: Vec<u8>,
    /// ECDSA P-256 key in PKCS #8. Wiped from memory when it is dropped.
    pub key_pkcs8_der: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Identity {
    /// Shows whose it is, not the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.fingerprint())
    }
}

impl Identity {
    /// By what others know it.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_certificate(&self.certificate_der)
    }

    /// A new one that is kept nowhere.
    pub fn ephemeral() -> Result<Identity, TrustError> {
        make().map_err(|_| TrustError::Make("identity"))
    }

    /// The one that is kept in `places`; when there is none, a new one, which is kept from now on. Servers that
    /// start at the same time get the same.
    pub fn load_or_create(places: &Places) -> Result<Identity, TrustError> {
        let files = Files { key: places.state_file(KEY_FILE)?, certificate: places.state_file(CERTIFICATE_FILE)? };
        let _lock = Lock::take(&files.key)?;
        if let Some(identity) = files.load()? {
            return Ok(identity);
        }
        let identity = Identity::ephemeral()?;
        private_file::write(&files.key, &identity.key_pkcs8_der)?;
        private_file::write(&files.certificate, &identity.certificate_der)?;
        Ok(identity)
    }
}

/// Where an identity is kept.
struct Files {
    key: PathBuf,
    certificate: PathBuf,
}

impl Files {
    /// `None` when there is neither file.
    fn load(&self) -> Result<Option<Identity>, TrustError> {
        let key = private_file::read(&self.key, DER_BYTES_MAX)?;
        let certificate = private_file::read(&self.certificate, DER_BYTES_MAX)?;
        let (key_pkcs8_der, certificate) = match (key, certificate) {
            (None, None) => return Ok(None),
            (Some(key), Some(certificate)) => (key, certificate),
            (None, Some(_)) => return Err(damaged(&self.key, "it is missing and the certificate is not")),
            (Some(_), None) => return Err(damaged(&self.certificate, "it is missing and the key is not")),
        };
        let key_pair = KeyPair::try_from(key_pkcs8_der.as_slice()).ok();
        let key_pair = key_pair.filter(|key| key.is_compatible(&PKCS_ECDSA_P256_SHA256));
        let key_pair = key_pair.ok_or_else(|| damaged(&self.key, "no ECDSA P-256 key"))?;
        if !is_signed_by(&certificate, &key_pair) {
            return Err(damaged(&self.certificate, "no certificate of the key in identity.key"));
        }
        Ok(Some(Identity { certificate_der: certificate.to_vec(), key_pkcs8_der }))
    }
}

fn damaged(path: &Path, why: &str) -> TrustError {
    TrustError::Damaged { path: path.to_path_buf(), why: why.to_string(), remove: REMOVE }
}

/// Whether every signed byte of a certificate is as it was, and the key is the one that signed it.
fn is_signed_by(certificate: &[u8], key: &KeyPair) -> bool {
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.der_bytes());
    der::signed(certificate).is_some_and(|signed| public.verify(signed.content, signed.signature).is_ok())
}

fn make() -> Result<Identity, rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new([SERVER_NAME.to_string()])?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, SERVER_NAME);
    // Valid always: it is known by its fingerprint, so dates prove nothing, and a machine whose clock is wrong (a
    // board without a battery says 1970) must not be locked out.
    params.not_before = rcgen::date_time_ymd(1970, 1, 1);
    params.not_after = rcgen::date_time_ymd(4096, 1, 1);
    params.is_ca = rcgen::IsCa::ExplicitNoCa;
    let certificate = params.self_signed(&key)?;
    Ok(Identity { certificate_der: certificate.der().to_vec(), key_pkcs8_der: Zeroizing::new(key.serialize_der()) })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn an_identity_is_kept_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::below(dir.path());
        let first = Identity::load_or_create(&places).unwrap();
        let again = Identity::load_or_create(&places).unwrap();
        assert_eq!((first.fingerprint(), &first.key_pkcs8_der), (again.fingerprint(), &again.key_pkcs8_der));
        assert_eq!(std::fs::metadata(places.state.join(KEY_FILE)).unwrap().mode() & 0o7777, 0o600);
        assert_ne!(Identity::ephemeral().unwrap().fingerprint(), first.fingerprint());
        assert_eq!(format!("{first:?}"), format!("Identity({})", first.fingerprint()));
    }

    #[test]
    fn servers_that_start_together_have_one_identity() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::below(dir.path());
        let load = || Identity::load_or_create(&places).unwrap().fingerprint();
        let found: Vec<Fingerprint> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(load)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(found.iter().all(|other| *other == found[0]), "{found:?}");
    }

    #[test]
    fn what_is_damaged_is_named_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::below(dir.path());
        Identity::load_or_create(&places).unwrap();
        for name in [KEY_FILE, CERTIFICATE_FILE] {
            let path = places.state.join(name);
            let good = std::fs::read(&path).unwrap();
            let flipped = |at: usize| [&good[..at], &[good[at] ^ 1], &good[at + 1..]].concat();
            let mut bad = vec![Vec::new(), good[..good.len() - 1].to_vec()];
            bad.extend([0, 10, good.len() / 2, good.len() - 1].map(flipped));
            for bad in bad {
                std::fs::write(&path, &bad).unwrap();
                let message = Identity::load_or_create(&places).unwrap_err().to_string();
                assert!(message.contains("damaged") && message.contains("identity."), "{message}");
                assert_eq!(std::fs::read(&path).unwrap(), bad);
            }
            std::fs::remove_file(&path).unwrap();
            let message = Identity::load_or_create(&places).unwrap_err().to_string();
            assert!(message.contains(name) && message.contains("missing"), "{message}");
            std::fs::write(&path, &good).unwrap();
            private_file::write(&path, &good).unwrap();
            Identity::load_or_create(&places).unwrap();
        }
        // A key and a certificate, but of different identities.
        let other = Identity::ephemeral().unwrap();
        private_file::write(&places.state.join(KEY_FILE), &other.key_pkcs8_der).unwrap();
        assert!(Identity::load_or_create(&places).unwrap_err().to_string().contains(CERTIFICATE_FILE));
    }
}
