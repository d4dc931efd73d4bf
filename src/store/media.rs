//! What a file holds, by its name or its first bytes: one table for `--type` and for whoever serves files.
//!
//! `types` is the table of extensions, `magic` that of first bytes. The extension decides where it is known and has
//! one meaning; the bytes decide where it is missing, unknown or has several. Nothing here opens a file, and nothing
//! relies on the answer for safety: anybody may name a file as he likes.

mod magic;
mod types;

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

pub use magic::{SNIFF_BYTES, sniff};
pub use types::MediaType;

/// Longest extension in the table, bytes.
const EXTENSION_BYTES_MAX: usize = 16;

/// The kinds of `--type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MediaKind {
    /// Moving pictures.
    Video,
    /// Sound.
    Audio,
    /// Pictures.
    Image,
    /// Plain text and its light markup, logs, tables.
    Text,
    /// What programs are written in and configured with, web pages among them.
    Code,
    /// Archives, compressed files, packages, disk images.
    Archive,
    /// What office programs and e-readers open.
    Document,
}

impl MediaKind {
    /// All, in the order of the help text.
    pub const ALL: [MediaKind; 7] = [
        MediaKind::Video,
        MediaKind::Audio,
        MediaKind::Image,
        MediaKind::Text,
        MediaKind::Code,
        MediaKind::Archive,
        MediaKind::Document,
    ];

    /// As `--type` names it.
    pub fn name(self) -> &'static str {
        match self {
            MediaKind::Video => "video",
            MediaKind::Audio => "audio",
            MediaKind::Image => "image",
            MediaKind::Text => "text",
            MediaKind::Code => "code",
            MediaKind::Archive => "archive",
            MediaKind::Document => "documents",
        }
    }
}

impl fmt::Display for MediaKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that names no kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no type of file: write one or several of video,audio,image,text,code,archive,documents")]
pub struct UnknownKind(pub String);

/// One name, singular or plural, in any case.
impl FromStr for MediaKind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<MediaKind, UnknownKind> {
        let lower = text.trim().to_ascii_lowercase();
        let singular = lower.strip_suffix('s').unwrap_or(&lower);
        let named = |kind: &MediaKind| kind.name().trim_end_matches('s') == singular;
        MediaKind::ALL.into_iter().find(named).ok_or_else(|| UnknownKind(text.to_string()))
    }
}

/// What the table says of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByName {
    /// Its extension has one meaning.
    Clear(&'static MediaType),
    /// Its extension has several, of which this is the usual one; the first bytes tell.
    Unclear(&'static MediaType),
    /// It has none, or one that is not in the table.
    Unknown,
}

/// What a file is, by the extension of its last name.
pub fn by_name(path: &[u8]) -> ByName {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    let whole = known(name).filter(|found| found.is_whole_name);
    // A dot in front hides a file and begins no extension.
    let dot = name.iter().rposition(|byte| *byte == b'.').filter(|at| *at > 0);
    let extended = || dot.and_then(|at| known(&name[at + 1..])).filter(|found| !found.is_whole_name);
    match whole.or_else(extended) {
        None => ByName::Unknown,
        Some(found) if found.is_unclear => ByName::Unclear(found),
        Some(found) => ByName::Clear(found),
    }
}

/// What a file is, by its name and, only if that does not tell, its first bytes: `first` fills in up to
/// [`SNIFF_BYTES`] and returns how many.
pub fn classify(path: &[u8], first: impl FnOnce(&mut [u8; SNIFF_BYTES]) -> usize) -> Option<&'static MediaType> {
    let usual = match by_name(path) {
        ByName::Clear(found) => return Some(found),
        ByName::Unclear(usual) => Some(usual),
        ByName::Unknown => None,
    };
    let mut bytes = [0; SNIFF_BYTES];
    let len = first(&mut bytes).min(SNIFF_BYTES);
    match sniff(&bytes[..len]) {
        // That it is text says nothing against the usual meaning.
        Some(seen) if usual.is_none() || seen.kind != MediaKind::Text => Some(seen),
        _ => usual,
    }
}

/// The row of an extension or whole name, in any case.
fn known(word: &[u8]) -> Option<&'static MediaType> {
    static INDEX: OnceLock<HashMap<&'static [u8], &'static MediaType>> = OnceLock::new();
    let mut lower = [0; EXTENSION_BYTES_MAX];
    let lower = lower.get_mut(..word.len())?;
    lower.copy_from_slice(word);
    lower.make_ascii_lowercase();
    let index = INDEX.get_or_init(|| {
        let words = |row: &'static MediaType| row.extensions.split_ascii_whitespace().map(move |word| (word, row));
        types::TYPES.iter().flat_map(words).map(|(word, row)| (word.as_bytes(), row)).collect()
    });
    index.get(&*lower).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(path: &str, first: &[u8]) -> Option<MediaKind> {
        let fill = |buffer: &mut [u8; SNIFF_BYTES]| {
            buffer[..first.len()].copy_from_slice(first);
            first.len()
        };
        classify(path.as_bytes(), fill).map(|found| found.kind)
    }

    #[test]
    fn extensions_decide_in_any_case() {
        use MediaKind::*;
        let table = [
            ("a.mp4", Video),
            ("a/b.MKV", Video),
            ("song.FlAc", Audio),
            ("x.jpeg", Image),
            ("x.HEIC", Image),
            ("photo.cr2", Image),
            ("notes.md", Text),
            ("table.csv", Text),
            ("main.rs", Code),
            ("Makefile", Code),
            ("dir/Dockerfile", Code),
            ("index.html", Code),
            ("a.tar.gz", Archive),
            ("a.7z", Archive),
            ("disk.iso", Archive),
            ("letter.docx", Document),
            ("paper.pdf", Document),
            ("book.epub", Document),
        ];
        for (path, expected) in table {
            assert_eq!(kind(path, b"\0\0"), Some(expected), "{path}");
            assert!(matches!(by_name(path.as_bytes()), ByName::Clear(_)), "{path}");
        }
    }

    #[test]
    fn names_without_meaning_are_left_to_the_bytes() {
        for path in ["mp4", ".mp4", "a.", "", "a.unheardof", "dir.mp4/a", "a.makefile", "a.averyveryverylongextension"]
        {
            assert_eq!(by_name(path.as_bytes()), ByName::Unknown, "{path}");
        }
        assert_eq!(kind("mp4", b"\0\0\0\x18ftypisom"), Some(MediaKind::Video));
        assert_eq!(kind("README", b"plain text\n"), Some(MediaKind::Text));
        assert_eq!(kind("noise", b"\x01\x02\x03\0\xff"), None);
        assert_eq!(by_name(b"a.\xff\xfe"), ByName::Unknown);
    }

    #[test]
    fn extensions_with_several_meanings_are_settled_by_the_bytes() {
        let mut stream = [0; 400];
        (stream[0], stream[188], stream[376]) = (0x47, 0x47, 0x47);
        assert_eq!(kind("a.ts", &stream), Some(MediaKind::Video));
        assert_eq!(kind("a.ts", b"export const a = 1;"), Some(MediaKind::Code));
        assert_eq!(kind("a.ts", b""), Some(MediaKind::Code));
        assert_eq!(kind("a.ogg", b"OggS\0\0"), Some(MediaKind::Audio));
    }

    #[test]
    fn no_extension_is_in_the_table_twice_and_all_can_be_found() {
        let mut seen = std::collections::HashSet::new();
        for row in types::TYPES {
            assert!(row.mime.contains('/'), "{row:?}");
            for word in row.extensions.split_ascii_whitespace() {
                assert!(seen.insert(word), "{word} twice");
                assert_eq!(known(word.as_bytes()), Some(row), "{word}");
                assert_eq!(word, word.to_ascii_lowercase());
            }
        }
        assert!(seen.len() > 300, "{}", seen.len());
    }

    #[test]
    fn kinds_are_named_as_people_write_them() {
        for kind in MediaKind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        for (text, kind) in
            [("Documents", MediaKind::Document), ("document", MediaKind::Document), (" videos ", MediaKind::Video)]
        {
            assert_eq!(text.parse(), Ok(kind));
        }
        let said = "films".parse::<MediaKind>().unwrap_err().to_string();
        assert!(said.contains("\"films\"") && said.contains("documents"), "{said}");
    }
}
