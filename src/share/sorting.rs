//! Which folder an upload goes to when uploads are sorted by what they are.

use crate::store::media::{self, SNIFF_BYTES};

/// Where files go of which nobody knows what they are.
const OTHER: &str = "other";

/// The folder for a file of that name; `first` fills in its first bytes, if the name does not tell, and returns how
/// many.
pub fn folder_for(name: &[u8], first: impl FnOnce(&mut [u8; SNIFF_BYTES]) -> usize) -> &'static str {
    media::classify(name, first).map_or(OTHER, |found| found.kind.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_decide_and_bytes_where_they_do_not() {
        let of = |name: &str, content: &[u8]| {
            folder_for(name.as_bytes(), |first| {
                first[..content.len()].copy_from_slice(content);
                content.len()
            })
        };
        assert_eq!(of("a.png", b""), "image");
        assert_eq!(of("a.rs", b""), "code");
        assert_eq!(of("holiday", b"\x89PNG\r\n\x1a\n"), "image");
        assert_eq!(of("x.unknown", b"\x00\x01\x02\xff"), "other");
    }
}
