//! Paths in URLs: percent-encoded names with `/` between, decoded once.
//!
//! What was decoded is a [`RelativePath`], which holds no `..`, no empty name and no NUL. An encoded `/` is none that
//! parts names, and is refused, since no name holds one. Nothing is decoded twice.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

use crate::store::confined::{PATH_BYTES_MAX, RelativePath};

/// What stands for itself in a URL's path.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A path that can be none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such file or folder")]
pub struct BadPath;

/// What a URL names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlPath {
    /// Where it is in what is shared.
    pub path: RelativePath,
    /// It ended with `/`, or was empty: a folder is meant.
    pub is_folder: bool,
}

impl UrlPath {
    /// Read the encoded path of a URL, without the `/` in front.
    pub fn decode(encoded: &str) -> Result<UrlPath, BadPath> {
        if encoded.is_empty() {
            return Ok(UrlPath { path: RelativePath::root(), is_folder: true });
        }
        // Encoded, a path is at most three times as long.
        if encoded.len() > 3 * PATH_BYTES_MAX {
            return Err(BadPath);
        }
        let (names, is_folder) = match encoded.strip_suffix('/') {
            Some(names) => (names, true),
            None => (encoded, false),
        };
        let mut path = RelativePath::root();
        for name in names.split('/') {
            let name: Vec<u8> = percent_decode_str(name).collect();
            path = path.join(&name).map_err(|_| BadPath)?;
        }
        Ok(UrlPath { path, is_folder })
    }
}

/// One name, for a URL.
pub fn encode_name(name: &[u8]) -> String {
    percent_encode(name, KEPT).to_string()
}

/// A path, for a URL: without a `/` in front, with one at its end if it is a folder other than the root.
pub fn encode(path: &RelativePath, is_folder: bool) -> String {
    let mut encoded = path.names().map(encode_name).collect::<Vec<_>>().join("/");
    if is_folder && !path.is_root() {
        encoded.push('/');
    }
    encoded
}

/// Whether a name is hidden, as shells do it.
pub fn is_hidden_name(name: &[u8]) -> bool {
    name.starts_with(b".")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::confined::NAME_BYTES_MAX;

    #[test]
    fn what_is_encoded_is_decoded_to_the_same() {
        for path in [&b"a"[..], b"a/b c/%41", b"\xff\n/\xe2\x80\xae", b"C:\\x", b"~/-_.", b"a?b#c&d=e+f"] {
            let path = RelativePath::parse(path).unwrap();
            for is_folder in [false, true] {
                let encoded = encode(&path, is_folder);
                assert!(encoded.is_ascii());
                assert_eq!(UrlPath::decode(&encoded), Ok(UrlPath { path: path.clone(), is_folder }));
            }
        }
        assert!(UrlPath::decode("").unwrap().path.is_root() && encode(&RelativePath::root(), true).is_empty());
    }

    #[test]
    fn nothing_leads_up_or_hides_a_separator() {
        let long = "a/".repeat(5000);
        let name = "n".repeat(256);
        for bad in
            ["..", "../x", "a/..", "a/../b", "%2e%2e/x", "..%2fx", "a%2fb", "%00", "a//b", "/a", "//", &long, &name]
        {
            assert_eq!(UrlPath::decode(bad), Err(BadPath), "{bad}");
        }
        // Decoded once: a name that only looks encoded is a name.
        assert_eq!(UrlPath::decode("%252e%252e").unwrap().path.as_bytes(), b"%2e%2e");
        assert_eq!(UrlPath::decode("..%5cx").unwrap().path.as_bytes(), b"..\\x");
        assert_eq!(UrlPath::decode("a%").unwrap().path.as_bytes(), b"a%");
    }

    #[test]
    fn names_that_begin_with_a_dot_are_hidden() {
        assert!(is_hidden_name(b".git") && is_hidden_name(b"..") && !is_hidden_name(b"a.b") && !is_hidden_name(b""));
    }

    proptest! {
        #[test]
        fn whatever_is_decoded_stays_inside_and_is_encoded_to_the_same(text in "([%./\\\\a-f0-9]|\\PC){0,30}") {
            if let Ok(url) = UrlPath::decode(&text) {
                for name in url.path.names() {
                    prop_assert!(!name.is_empty() && name != b"." && name != b".." && name.len() <= NAME_BYTES_MAX);
                    prop_assert!(!name.contains(&0) && !name.contains(&b'/'));
                }
                prop_assert_eq!(UrlPath::decode(&encode(&url.path, url.is_folder)), Ok(url));
            }
        }

        #[test]
        fn every_path_that_can_be_is_named_by_a_url(path in proptest::collection::vec(any::<u8>(), 1..80)) {
            if let Ok(path) = RelativePath::parse(&path) {
                let encoded = encode(&path, false);
                prop_assert!(encoded.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#\\\"<>&'".contains(&byte)));
                prop_assert_eq!(UrlPath::decode(&encoded), Ok(UrlPath { path, is_folder: false }));
            }
        }
    }
}
