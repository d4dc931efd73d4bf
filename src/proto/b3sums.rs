//! The text of `b3sum`: a line `HASH  PATH` for each file, as `b3sum -c` and `linerate verify` read it.
//!
//! A line that begins with `\` has escapes in its path. `b3sum` writes two: `\\` and `\n`. Two more are read:
//!
//! - `\r`, which only other programs write;
//! - `\xff`, a byte that belongs to no UTF-8. `b3sum` writes U+FFFD for it and then refuses to check that line, since
//!   many names become one; and bytes that are no UTF-8 end its reading of the whole text. So we write the escape:
//!   `linerate verify` finds the file, `b3sum -c` complains of that line alone.
//!
//! Nothing here says whether a path may be used: `store::confined` does. No file is read here.

use std::fmt::Write;

use super::manifest::ENTRY_PATH_BYTES_MAX;
use super::verify::{FileHash, HASH_BYTES};
use crate::text::printable_limit;

/// Longest line, bytes, without its newline: all bytes of the longest path escaped.
pub const LINE_BYTES_MAX: usize = 1 + HASH_DIGITS + SEPARATOR.len() + ESCAPE_BYTES_MAX * ENTRY_PATH_BYTES_MAX;

const HASH_DIGITS: usize = 2 * HASH_BYTES;
const SEPARATOR: &[u8] = b"  ";
/// Of `\xff`.
const ESCAPE_BYTES_MAX: usize = 4;
/// How much of a wrong line is shown, characters.
const SHOWN_CHARS_MAX: usize = 60;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sum {
    /// What it hashes to.
    pub hash: FileHash,
    /// Where it is, as it was written: bytes that were not judged.
    pub path: Vec<u8>,
}

/// A line that says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {number}: {why}: {line}")]
pub struct SumsError {
    /// Which line, from 1.
    pub number: u64,
    /// What is wrong.
    pub why: &'static str,
    /// Its beginning, fit to show.
    pub line: String,
}

/// The line of a file, with its newline.
pub fn line(sum: &Sum) -> String {
    let mut path = String::with_capacity(sum.path.len());
    let mut is_escaped = false;
    for chunk in sum.path.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => path.push_str("\\\\"),
                '\n' => path.push_str("\\n"),
                c => path.push(c),
            }
            is_escaped |= matches!(c, '\\' | '\n');
        }
        for byte in chunk.invalid() {
            // Writing into a string cannot fail.
            let _ = write!(path, "\\x{byte:02x}");
            is_escaped = true;
        }
    }
    format!("{}{}  {path}\n", if is_escaped { "\\" } else { "" }, sum.hash)
}

/// All lines of a text. The last may lack its newline.
pub fn parse(text: &[u8]) -> impl Iterator<Item = Result<Sum, SumsError>> + '_ {
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let lines = (!text.is_empty()).then(|| body.split(|byte| *byte == b'\n'));
    (1..).zip(lines.into_iter().flatten()).map(|(number, line)| parse_line(number, line))
}

/// One line, without its newline; `number` is for the error.
pub fn parse_line(number: u64, line: &[u8]) -> Result<Sum, SumsError> {
    sum_of(line).map_err(|why| SumsError { number, why, line: printable_limit(line, SHOWN_CHARS_MAX) })
}

fn sum_of(line: &[u8]) -> Result<Sum, &'static str> {
    if line.len() > LINE_BYTES_MAX {
        return Err("is longer than any path needs");
    }
    let escaped = line.strip_prefix(b"\\");
    let (hash, rest) = escaped.unwrap_or(line).split_at_checked(HASH_DIGITS).ok_or(NO_SUM)?;
    let hash = std::str::from_utf8(hash).ok().and_then(|hash| hash.parse().ok()).ok_or(NO_SUM)?;
    let path = rest.strip_prefix(SEPARATOR).ok_or(NO_SUM)?;
    let path =
        if escaped.is_some() { unescaped(path).ok_or("has an escape that nobody knows")? } else { path.to_vec() };
    match path.len() {
        0 => Err("names no file"),
        len if len > ENTRY_PATH_BYTES_MAX => Err("names a path of more than 4096 bytes"),
        _ if path.contains(&0) => Err("names a path with a NUL byte, which there is not"),
        _ => Ok(Sum { hash, path }),
    }
}

const NO_SUM: &str = "is not `HASH  PATH` as b3sum writes it";

fn unescaped(mut path: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(path.len());
    while let Some(at) = path.iter().position(|byte| *byte == b'\\') {
        plain.extend_from_slice(&path[..at]);
        let (byte, rest) = match &path[at + 1..] {
            [b'\\', rest @ ..] => (b'\\', rest),
            [b'n', rest @ ..] => (b'\n', rest),
            [b'r', rest @ ..] => (b'\r', rest),
            [b'x', high, low, rest @ ..] => (digit(*high)? << 4 | digit(*low)?, rest),
            _ => return None,
        };
        plain.push(byte);
        path = rest;
    }
    plain.extend_from_slice(path);
    Some(plain)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::verify::hash_whole;
    use proptest::prelude::*;

    const EMPTY: &str = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";

    fn sum(path: &[u8]) -> Sum {
        Sum { hash: hash_whole(b""), path: path.to_vec() }
    }

    #[test]
    fn lines_are_those_of_b3sum() {
        let table: [(&[u8], String); 7] = [
            (b"empty", format!("{EMPTY}  empty\n")),
            (b" lead", format!("{EMPTY}   lead\n")),
            (b"cr\r", format!("{EMPTY}  cr\r\n")),
            (b"a\nb", format!("\\{EMPTY}  a\\nb\n")),
            (b"c\\d", format!("\\{EMPTY}  c\\\\d\n")),
            (b"e\xff", format!("\\{EMPTY}  e\\xff\n")),
            ("\u{fffd}ü".as_bytes(), format!("{EMPTY}  \u{fffd}ü\n")),
        ];
        for (path, text) in table {
            assert_eq!(line(&sum(path)), text);
            assert_eq!(parse(text.as_bytes()).collect::<Vec<_>>(), [Ok(sum(path))]);
        }
        let other = format!("\\{EMPTY}  cr\\r\n{}  X\n{EMPTY}  last", EMPTY.to_uppercase());
        let sums: Vec<Sum> = parse(other.as_bytes()).map(Result::unwrap).collect();
        assert_eq!(sums, [sum(b"cr\r"), sum(b"X"), sum(b"last")]);
        assert_eq!(parse(b"").count(), 0);
    }

    #[test]
    fn a_wrong_line_is_told_by_its_number() {
        let longest = vec![b'\xff'; ENTRY_PATH_BYTES_MAX];
        let line_of_longest = line(&sum(&longest));
        assert_eq!(line_of_longest.len(), LINE_BYTES_MAX + 1);
        assert_eq!(parse(line_of_longest.as_bytes()).next(), Some(Ok(sum(&longest))));
        let table = [
            (String::new(), "is not `HASH"),
            ("\u{1b}[2J garbage".to_string(), r"`HASH  PATH` as b3sum writes it: \u{1b}[2J garbage"),
            (EMPTY.to_string(), "is not `HASH"),
            (format!("{EMPTY} one"), "is not `HASH"),
            (format!("g{}  a", &EMPTY[1..]), "is not `HASH"),
            (format!("{EMPTY}  "), "names no file"),
            (format!("{EMPTY}  a\0"), "NUL"),
            (format!("\\{EMPTY}  a\\"), "an escape"),
            (format!("\\{EMPTY}  a\\t"), "an escape"),
            (format!("\\{EMPTY}  a\\x+f"), "an escape"),
            (format!("\\{EMPTY}  a\\xf"), "an escape"),
            (format!("{EMPTY}  {}", "a".repeat(ENTRY_PATH_BYTES_MAX + 1)), "more than 4096"),
            ("x".repeat(LINE_BYTES_MAX + 1), "longer than any"),
        ];
        for (bad, why) in table {
            let text = format!("{EMPTY}  right\n{bad}\n{EMPTY}  right\n");
            let parsed: Vec<_> = parse(text.as_bytes()).collect();
            assert!(parsed.len() == 3 && parsed[0].is_ok() && parsed[2].is_ok(), "{bad}");
            let said = parsed[1].as_ref().unwrap_err().to_string();
            assert!(said.starts_with("line 2: ") && said.contains(why) && said.len() < 500, "{said}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(paths in prop::collection::vec(prop::collection::vec(1_u8.., 1..40), 0..5)) {
            let text: String = paths.iter().map(|path| line(&sum(path))).collect();
            prop_assert_eq!(text.lines().count(), text.matches('\n').count());
            let read: Vec<Vec<u8>> = parse(text.as_bytes()).map(|sum| sum.unwrap().path).collect();
            prop_assert_eq!(read, paths);
        }

        #[test]
        fn nothing_panics(text: Vec<u8>, tail: Vec<u8>) {
            let line = [b"\\", EMPTY.as_bytes(), b"  ", &tail].concat();
            for sum in parse(&text).chain(parse(&line)).flatten() {
                prop_assert!(!sum.path.is_empty());
            }
        }
    }
}
