//! What a peer may name: paths that were parsed once and need no further check.
//!
//! A name is bytes. Whether it is UTF-8, holds a newline or turns text around is no matter here: it is a legal name,
//! and only [`crate::text`] shows it to a person. Nothing here asks a filesystem.

use std::borrow::Borrow;
use std::fmt;

use crate::store::StoreError;
use crate::text::{printable, printable_limit};

/// Longest path that a peer may name.
pub const PATH_BYTES_MAX: usize = 4096;
/// Longest name of one file or folder; Linux has no longer ones.
pub const NAME_BYTES_MAX: usize = 255;
/// Most names in a path. Nothing recurses, so this only bounds what a path may cost.
pub const DEPTH_MAX: usize = 1024;
/// How much of a path that is far too long is shown.
const SHOWN_CHARS_MAX: usize = 200;

/// A path inside a root: names with one `/` between, none of them `.` or `..`. Without any name it is the root itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelativePath {
    bytes: Vec<u8>,
}

impl RelativePath {
    /// The root itself.
    pub fn root() -> RelativePath {
        RelativePath { bytes: Vec::new() }
    }

    /// A path as a program writes it: each name once, with one `/` between.
    pub fn parse(bytes: &[u8]) -> Result<RelativePath, StoreError> {
        let refuse = |why| Err(StoreError::unfit(&shown(bytes), why));
        match fault(bytes) {
            Some(why) => refuse(why),
            None => Ok(RelativePath { bytes: bytes.to_vec() }),
        }
    }

    /// A path as a person types it: `./a//b/` is `a/b`, but something must be named.
    pub fn parse_typed(bytes: &[u8]) -> Result<RelativePath, StoreError> {
        if bytes.len() > PATH_BYTES_MAX || bytes.starts_with(b"/") {
            return RelativePath::parse(bytes);
        }
        let names = bytes.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".");
        let tidy = names.collect::<Vec<_>>().join(&b'/');
        match fault(&tidy) {
            Some(why) => Err(StoreError::unfit(&shown(bytes), why)),
            None => Ok(RelativePath { bytes: tidy }),
        }
    }

    /// The path of an entry of this folder.
    pub fn join(&self, name: &[u8]) -> Result<RelativePath, StoreError> {
        let mut bytes = self.bytes.clone();
        if !self.is_root() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        match fault(&bytes) {
            _ if name.contains(&b'/') => Err(StoreError::unfit(&shown(name), "is no name of an entry: it holds a /")),
            Some(why) => Err(StoreError::unfit(&shown(&bytes), why)),
            None => Ok(RelativePath { bytes }),
        }
    }

    /// The path of another entry of the folder that holds the last name; the root has none beside it.
    pub fn beside(&self, name: &[u8]) -> Result<RelativePath, StoreError> {
        let folder = self.parent_bytes().unwrap_or_default();
        let mut bytes = Vec::with_capacity(folder.len() + 1 + name.len());
        if !folder.is_empty() {
            bytes.extend_from_slice(folder);
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        // The folder is part of a path that was checked.
        let why = fault(name).or(fault_of_len(&bytes));
        match why {
            _ if name.contains(&b'/') => Err(StoreError::unfit(&shown(name), "is no name of an entry: it holds a /")),
            Some(why) => Err(StoreError::unfit(&shown(&bytes), why)),
            None => Ok(RelativePath { bytes }),
        }
    }

    /// The folder that holds the last name, as [`RelativePath::as_bytes`] has it; nothing for the root.
    pub fn parent_bytes(&self) -> Option<&[u8]> {
        self.split().map(|(parent, _)| parent)
    }

    /// Whether it names the root itself.
    pub fn is_root(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The path as it stands on the wire; the root is empty.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The folder that holds the last name; nothing for the root.
    pub fn parent(&self) -> Option<RelativePath> {
        self.split().map(|(parent, _)| RelativePath { bytes: parent.to_vec() })
    }

    /// The names on the way, outermost first.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        names(&self.bytes)
    }

    /// The path of the folder that holds the last name, and that name; nothing for the root.
    pub(super) fn split(&self) -> Option<(&[u8], &[u8])> {
        if self.is_root() {
            return None;
        }
        match self.bytes.iter().rposition(|byte| *byte == b'/') {
            Some(at) => Some((&self.bytes[..at], &self.bytes[at + 1..])),
            None => Some((b"", &self.bytes)),
        }
    }

    /// Whether it lies in the folder `other`, at any depth.
    pub(super) fn is_below(&self, other: &RelativePath) -> bool {
        is_below(&self.bytes, &other.bytes)
    }
}

/// It compares and hashes as its bytes do.
impl Borrow<[u8]> for RelativePath {
    fn borrow(&self) -> &[u8] {
        &self.bytes
    }
}

/// The path as a person may be shown it.
impl fmt::Display for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&if self.is_root() { ".".to_string() } else { printable(&self.bytes) })
    }
}

/// The names in the bytes of a [`RelativePath`].
pub(super) fn names(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
}

/// Whether a path lies below a folder.
pub(super) fn is_below(path: &[u8], folder: &[u8]) -> bool {
    match path.strip_prefix(folder) {
        Some(rest) if folder.is_empty() => !rest.is_empty(),
        Some(rest) => rest.starts_with(b"/"),
        None => false,
    }
}

/// Bytes that are perhaps no path, for a person.
pub(super) fn shown(bytes: &[u8]) -> String {
    if bytes.len() > PATH_BYTES_MAX { printable_limit(bytes, SHOWN_CHARS_MAX) } else { printable(bytes) }
}

/// Why the bytes are no path inside a root.
fn fault(bytes: &[u8]) -> Option<&'static str> {
    if bytes.is_empty() {
        return Some("does not name a file inside the folder");
    }
    if let Some(why) = fault_of_len(bytes) {
        return Some(why);
    }
    if bytes.contains(&0) {
        return Some("is no possible path: it holds a NUL byte");
    }
    if bytes.starts_with(b"/") {
        return Some("leads out of the folder: name a path without a leading /");
    }
    let mut depth = 0;
    for name in bytes.split(|byte| *byte == b'/') {
        depth += 1;
        match name {
            b".." => return Some("leads out of the folder: name a path without .. in it"),
            b"" | b"." => return Some("holds an empty name or a `.`: write each name once, with one / between"),
            _ if name.len() > NAME_BYTES_MAX => return Some("holds a name of more than 255 bytes, the most there is"),
            _ => {}
        }
    }
    (depth > DEPTH_MAX).then_some("is more than 1024 folders deep")
}

fn fault_of_len(bytes: &[u8]) -> Option<&'static str> {
    (bytes.len() > PATH_BYTES_MAX).then_some("is no possible path: it is longer than 4096 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_plain_paths_are_parsed() {
        let deep = |depth: usize| vec!["d"; depth].join("/").into_bytes();
        let long = [vec![b'a'; 255], vec![b'b'; 255]].join(&b'/');
        let good: [&[u8]; 9] =
            [b"a", b"a/b/c", b"...", b"..a/.b", b"a\nb", b"\x1b[2J", b"\xff\xfe", "\u{202e}a".as_bytes(), &long];
        for path in good.into_iter().chain([deep(DEPTH_MAX).as_slice()]) {
            assert_eq!(RelativePath::parse(path).unwrap().as_bytes(), path);
        }
        let bad: [(&[u8], &str); 16] = [
            (b"", "does not name a file"),
            (b".", "an empty name or a `.`"),
            (b"a/./b", "an empty name or a `.`"),
            (b"a//b", "an empty name or a `.`"),
            (b"a/", "an empty name or a `.`"),
            (b"/", "leads out of the folder"),
            (b"/etc/passwd", "leads out of the folder"),
            (b"..", "leads out of the folder"),
            (b"../a", "leads out of the folder"),
            (b"a/../b", "leads out of the folder"),
            (b"a/..", "leads out of the folder"),
            (b"a\0b", "a NUL byte"),
            (&[b'a'; NAME_BYTES_MAX + 1], "more than 255 bytes"),
            (&[b'a'; PATH_BYTES_MAX + 1], "longer than 4096 bytes"),
            (&deep(DEPTH_MAX + 1), "1024 folders deep"),
            (b"\x1b[2J/../\xff", r"\u{1b}[2J/../\xff: leads out"),
        ];
        for (path, why) in bad {
            let said = RelativePath::parse(path).unwrap_err().to_string();
            assert!(said.contains(why), "{said}");
            assert!(said.chars().count() < 300 || path.len() <= PATH_BYTES_MAX, "{said}");
        }
    }

    #[test]
    fn what_a_person_types_is_tidied_but_not_let_out() {
        let table: [(&[u8], Option<&[u8]>); 10] = [
            (b"a/b", Some(b"a/b")),
            (b"./a", Some(b"a")),
            (b"a//b/", Some(b"a/b")),
            (b"a/./b/.", Some(b"a/b")),
            (b"", None),
            (b".", None),
            (b"./", None),
            (b"./../a", None),
            (b"/a", None),
            (b"//a", None),
        ];
        for (typed, parsed) in table {
            let got = RelativePath::parse_typed(typed).ok();
            assert_eq!(got.as_ref().map(RelativePath::as_bytes), parsed, "{}", printable(typed));
        }
    }

    #[test]
    fn a_joined_name_is_one_name() {
        let path = RelativePath::root().join(b"a").unwrap().join(b"\xff\n").unwrap();
        assert_eq!(path.as_bytes(), b"a/\xff\n");
        assert_eq!(path.to_string(), r"a/\xff\n");
        assert_eq!(path.names().collect::<Vec<_>>(), [&b"a"[..], b"\xff\n"]);
        let bad: [&[u8]; 8] = [b"", b".", b"..", b"x/y", b"/", b"a\0", &[b'a'; 256], b"/x"];
        for name in bad {
            assert!(path.join(name).is_err() && RelativePath::root().join(name).is_err(), "{}", printable(name));
            assert!(path.beside(name).is_err(), "{}", printable(name));
        }
        assert!(RelativePath::parse(&[b'a'; 200].map(|a| [a, b'/']).concat()[..399]).unwrap().join(b"b").is_ok());
    }

    #[test]
    fn what_is_beside_a_path_is_in_the_same_folder() {
        let beside = |path: &[u8], name: &[u8]| RelativePath::parse(path).unwrap().beside(name);
        assert_eq!(beside(b"a/b/c", b"d").unwrap().as_bytes(), b"a/b/d");
        assert_eq!(beside(b"a", b"d").unwrap().as_bytes(), b"d");
        assert_eq!(RelativePath::root().beside(b"d").unwrap().as_bytes(), b"d");
        let longest = vec![[b'a'; 255].to_vec(); 16].join(&b'/');
        let path = [&longest[..PATH_BYTES_MAX - 2], b"/b"].concat();
        assert!(beside(&path, b"c").is_ok() && beside(&path, b"cc").is_err());
    }

    #[test]
    fn a_path_splits_into_its_folder_and_its_name() {
        let split = |path: &[u8]| RelativePath::parse(path).unwrap().split().map(|(a, b)| (a.to_vec(), b.to_vec()));
        assert_eq!(split(b"a"), Some((b"".to_vec(), b"a".to_vec())));
        assert_eq!(split(b"a/b/c"), Some((b"a/b".to_vec(), b"c".to_vec())));
        assert_eq!(RelativePath::root().split(), None);
        let table: [(&[u8], &[u8], bool); 6] = [
            (b"a/b", b"a", true),
            (b"a", b"", true),
            (b"", b"", false),
            (b"a", b"a", false),
            (b"ab/c", b"a", false),
            (b"a", b"a/b", false),
        ];
        for (path, folder, below) in table {
            assert_eq!(is_below(path, folder), below);
        }
    }

    proptest! {
        #[test]
        fn what_is_parsed_has_only_plain_names(bytes in proptest::collection::vec(
            prop_oneof![Just(b'/'), Just(b'.'), Just(b'a'), any::<u8>()], 0..12)) {
            for parsed in [RelativePath::parse(&bytes), RelativePath::parse_typed(&bytes)].into_iter().flatten() {
                prop_assert!(parsed.names().all(|name| ![&b""[..], b".", b".."].contains(&name)));
                prop_assert!(!parsed.is_root() && !parsed.as_bytes().contains(&0));
                prop_assert_eq!(parsed.names().collect::<Vec<_>>().join(&b'/'), parsed.as_bytes());
                prop_assert_eq!(RelativePath::parse(parsed.as_bytes()).unwrap(), parsed);
            }
        }
    }
}
