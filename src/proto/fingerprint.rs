//! The fingerprint by which a server's certificate is known, and hashes as hex digits.
//!
//! Nothing here parses or checks a certificate: it is bytes.

use std::fmt::{self, Write};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Bytes of a SHA-256.
pub const HASH_BYTES: usize = 32;

/// SHA-256 of a certificate in DER.
///
/// Printed as `ab:cd:…`, as `openssl x509 -fingerprint -sha256` prints it but in lower case; parsed with or without
/// the colons, in any case. In JSON it is 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fingerprint(#[serde(with = "hex_in_text")] pub [u8; HASH_BYTES]);

/// Not 32 bytes in hex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no SHA-256 fingerprint: write its 64 hex digits, with or without colons between the pairs")]
pub struct FingerprintError;

impl Fingerprint {
    /// Of this certificate.
    pub fn of_certificate(der: &[u8]) -> Fingerprint {
        Fingerprint(Sha256::digest(der).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            let colon = if at == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Fingerprint, FingerprintError> {
        let bare = text.trim().as_bytes();
        let pairs: Vec<&[u8]> = match bare.contains(&b':') {
            true => bare.split(|byte| *byte == b':').collect(),
            false => bare.chunks(2).collect(),
        };
        let mut hash = [0; HASH_BYTES];
        if pairs.len() != HASH_BYTES {
            return Err(FingerprintError);
        }
        for (byte, pair) in hash.iter_mut().zip(pairs) {
            *byte = byte_of(pair).ok_or(FingerprintError)?;
        }
        Ok(Fingerprint(hash))
    }
}

/// The byte that exactly two hex digits name.
fn byte_of(pair: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    match *pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    }
}

/// For serde: a hash is hex digits where a person may read it, and bytes elsewhere.
pub(super) mod hex_in_text {
    use serde::de::Error;
    use serde::{Deserializer, Serializer};

    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(hash: &[u8; HASH_BYTES], to: S) -> Result<S::Ok, S::Error> {
        if !to.is_human_readable() {
            return hash.serialize(to);
        }
        let mut text = String::with_capacity(2 * HASH_BYTES);
        for byte in hash {
            // Writing into a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        to.serialize_str(&text)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; HASH_BYTES], D::Error> {
        if !from.is_human_readable() {
            return Deserialize::deserialize(from);
        }
        let text: String = Deserialize::deserialize(from)?;
        text.parse().map(|Fingerprint(hash)| hash).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_is_the_hash_of_the_certificate() {
        let text = "ba:78:16:bf:8f:01:cf:ea:41:41:40:de:5d:ae:22:23:b0:03:61:a3:96:17:7a:9c:b4:10:ff:61:f2:00:15:ad";
        assert_eq!(Fingerprint::of_certificate(b"abc").to_string(), text);
        let json = serde_json::to_string(&Fingerprint::of_certificate(b"abc")).unwrap();
        assert_eq!(json, format!("\"{}\"", text.replace(':', "")));
    }

    #[test]
    fn what_is_no_fingerprint_is_refused() {
        let good = Fingerprint([0xab; HASH_BYTES]).to_string();
        let bare = good.replace(':', "");
        let bad = [
            String::new(),
            ":".repeat(31),
            bare[1..].to_string(),
            format!("{bare}0"),
            format!("{good}:"),
            bare.replace('b', "g"),
            bare.replace("ab", "+b"),
            good.replacen(':', "", 1),
            bare.replace('a', "ä"),
        ];
        for text in bad {
            assert_eq!(text.parse::<Fingerprint>(), Err(FingerprintError), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_way_to_write_it_reads_back(hash: [u8; HASH_BYTES]) {
            let fingerprint = Fingerprint(hash);
            let text = fingerprint.to_string();
            for text in [text.replace(':', ""), text.to_uppercase(), text.to_uppercase().replace(':', ""), text] {
                prop_assert_eq!(text.parse(), Ok(fingerprint));
            }
            let bytes = postcard::to_allocvec(&fingerprint).unwrap();
            prop_assert_eq!(&bytes, &hash);
            prop_assert_eq!(postcard::from_bytes::<Fingerprint>(&bytes).unwrap(), fingerprint);
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = text.parse::<Fingerprint>();
        }
    }
}
