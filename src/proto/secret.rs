//! The 128 bits that let a ticket's holder in, and the digest by which a server knows them.
//!
//! Whoever holds a [`Secret`] is let in, so it is never shown, is compared in constant time and is wiped from memory.
//! A server keeps only its [`SecretDigest`]. Secrets are drawn by the caller, not here.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroize;

use super::fingerprint::{HASH_BYTES, hex_in_text};

/// Bytes of a [`Secret`].
pub const SECRET_BYTES: usize = 16;
/// Tells this digest from every other use of SHA-256, here and elsewhere.
const DIGEST_DOMAIN: &[u8] = b"linerate ticket secret 1\0";

/// What only the holders of a ticket know. Its bytes are for the wire and for drawing it, and for nothing else.
///
/// It is random and never chosen by a person, which is why one round of SHA-256 is enough to keep it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Secret(pub [u8; SECRET_BYTES]);

impl Secret {
    /// What the server keeps of it.
    pub fn digest(&self) -> SecretDigest {
        SecretDigest(Sha256::new().chain_update(DIGEST_DOMAIN).chain_update(self.0).finalize().into())
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Secret) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    /// Never shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// SHA-256 of a [`Secret`], which cannot be turned back. In JSON 64 hex digits.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct SecretDigest(#[serde(with = "hex_in_text")] pub [u8; HASH_BYTES]);

impl ConstantTimeEq for SecretDigest {
    fn ct_eq(&self, other: &SecretDigest) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl PartialEq for SecretDigest {
    fn eq(&self, other: &SecretDigest) -> bool {
        self.ct_eq(other).into()
    }
}

impl Eq for SecretDigest {}

impl fmt::Debug for SecretDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretDigest({:02x?}…)", &self.0[..4])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_shown() {
        let secret = Secret([0xab; SECRET_BYTES]);
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "Secret(…) Some(Secret(…))");
    }

    #[test]
    fn digests_are_of_their_secret_and_of_no_other_hash() {
        let (one, two) = (Secret([1; SECRET_BYTES]), Secret([2; SECRET_BYTES]));
        assert!(one == one.clone() && one != two);
        assert!(one.digest() == one.clone().digest() && one.digest() != two.digest());
        let plain: [u8; HASH_BYTES] = Sha256::digest([1; SECRET_BYTES]).into();
        assert_ne!(one.digest().0, plain);
        // Kept in files: it must stay what it is.
        let json = serde_json::to_string(&Secret([0; SECRET_BYTES]).digest()).unwrap();
        assert_eq!(json, "\"8dac370a90056e933d5937a3f6f8944c61acd18579b9489717297b9008212754\"");
        assert_eq!(serde_json::from_str::<SecretDigest>(&json).unwrap(), Secret([0; SECRET_BYTES]).digest());
    }
}
