//! As much DER as is needed to see that a certificate of our own is whole. Judges no foreign certificate.

/// SEQUENCE, constructed.
const SEQUENCE: u8 = 0x30;
/// BIT STRING.
const BIT_STRING: u8 = 0x03;

/// The parts of a certificate that its signature binds.
pub(super) struct Signed<'a> {
    /// What is signed, with its header.
    pub(super) content: &'a [u8],
    /// The signature.
    pub(super) signature: &'a [u8],
}

/// `Certificate ::= SEQUENCE { tbsCertificate SEQUENCE, signatureAlgorithm SEQUENCE, signatureValue BIT STRING }`,
/// and nothing after it.
pub(super) fn signed(certificate: &[u8]) -> Option<Signed<'_>> {
    let (outer, after) = element(certificate, SEQUENCE)?;
    let (_, rest) = element(outer.body, SEQUENCE)?;
    let content = &outer.body[..outer.body.len() - rest.len()];
    let (_, rest) = element(rest, SEQUENCE)?;
    let (signature, rest) = element(rest, BIT_STRING)?;
    let (unused_bits, signature) = signature.body.split_first()?;
    (after.is_empty() && rest.is_empty() && *unused_bits == 0).then_some(Signed { content, signature })
}

struct Element<'a> {
    body: &'a [u8],
}

/// The first element, which must be of this kind, and what follows it.
fn element(bytes: &[u8], kind: u8) -> Option<(Element<'_>, &[u8])> {
    let (&[found, first], rest) = bytes.split_first_chunk::<2>()?;
    // Up to 127 in one byte, else the number of bytes that hold it; ours have at most two.
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => rest.split_first_chunk::<1>().map(|(&[len], rest)| (usize::from(len), rest))?,
        0x82 => rest.split_first_chunk::<2>().map(|(len, rest)| (usize::from(u16::from_be_bytes(*len)), rest))?,
        _ => return None,
    };
    let (body, rest) = rest.split_at_checked(len)?;
    (found == kind).then_some((Element { body }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_parts_are_found() {
        let bytes = [&[SEQUENCE, 0x81, 11, SEQUENCE, 1, 7, SEQUENCE, 0, BIT_STRING, 4, 0][..], b"sig"].concat();
        let found = signed(&bytes).unwrap();
        assert_eq!((found.content, found.signature), (&[SEQUENCE, 1, 7][..], &b"sig"[..]));
        for cut in 0..bytes.len() {
            assert!(signed(&bytes[..cut]).is_none());
        }
        assert!(signed(&[&bytes[..], &[0]].concat()).is_none());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, len in 0u8..40) {
            let _ = signed(&bytes);
            let _ = signed(&[&[SEQUENCE, len, SEQUENCE][..], &bytes].concat());
        }
    }
}
