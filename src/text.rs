//! Makes text from elsewhere (a peer, a path, a file) safe to show to a person.
//!
//! A terminal obeys what it is shown: an escape sequence in a file name can retitle a window or hide a line, and a
//! bidirectional override can make one name look like another. Everything that is not ours passes through here
//! before it reaches a terminal, a log or an error message. Nothing here decides what a name may be: see `store`.

/// `bytes` as text that shows what it holds and commands nothing.
///
/// Valid UTF-8 is kept, a backslash too, so this is for reading and cannot be turned back. Escaped are:
///
/// | what | becomes |
/// |---|---|
/// | a byte that is not UTF-8 | `\xff` |
/// | newline | `\n` |
/// | control, bidirectional and invisible characters | `\u{202e}` |
pub fn printable(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for piece in pieces(bytes) {
        piece.append_to(&mut shown);
    }
    shown
}

/// [`printable`] for text that is known to be UTF-8.
pub fn printable_str(text: &str) -> String {
    printable(text.as_bytes())
}

/// [`printable`], cut to at most `chars_max` characters, the last of which is `…` when something was left out.
///
/// An escape is never cut in half, so the result can be shorter. With `chars_max` 0 it is empty.
pub fn printable_limit(bytes: &[u8], chars_max: usize) -> String {
    let mut shown = String::new();
    let mut shown_chars = 0;
    // Where to go back to, so that the ellipsis still fits once it turns out to be needed.
    let mut fits_bytes = 0;
    for piece in pieces(bytes) {
        shown_chars += piece.append_to(&mut shown);
        if shown_chars > chars_max {
            shown.truncate(fits_bytes);
            if chars_max > 0 {
                shown.push('…');
            }
            return shown;
        }
        if shown_chars < chars_max {
            fits_bytes = shown.len();
        }
    }
    shown
}

/// What is shown as one: a character or a byte that belongs to none.
enum Piece {
    Char(char),
    Byte(u8),
}

impl Piece {
    /// Appends the piece, escaped if need be; returns how many characters that took.
    fn append_to(&self, shown: &mut String) -> usize {
        let escaped = match *self {
            Piece::Char('\n') => "\\n".to_owned(),
            Piece::Char(c) if is_unsafe(c) => c.escape_unicode().to_string(),
            Piece::Char(c) => {
                shown.push(c);
                return 1;
            }
            Piece::Byte(byte) => format!("\\x{byte:02x}"),
        };
        shown.push_str(&escaped);
        // Escapes are ASCII: bytes are characters.
        escaped.len()
    }
}

fn pieces(bytes: &[u8]) -> impl Iterator<Item = Piece> + '_ {
    bytes.utf8_chunks().flat_map(|chunk| {
        let valid = chunk.valid().chars().map(Piece::Char);
        let invalid = chunk.invalid().iter().copied().map(Piece::Byte);
        valid.chain(invalid)
    })
}

/// JSON as the same JSON that commands no terminal: what is unsafe in its strings is written as `\u202e`.
///
/// Line ends stay, which JSON has between its parts only.
pub fn printable_json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        if c == '\n' || !is_unsafe(c) {
            shown.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            shown.push_str(&format!("\\u{unit:04x}"));
        }
    }
    shown
}

/// Whether a character acts on the text around it, or cannot be seen.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' // soft hyphen, grapheme joiner
            | '\u{61c}' | '\u{200e}' | '\u{200f}' // direction marks
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200d}' | '\u{feff}' // zero width
            | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{3164}' | '\u{ffa0}' // fillers without ink
            | '\u{2028}' | '\u{2029}' // line and paragraph separator
            | '\u{202a}'..='\u{202e}' // direction embeddings and overrides
            | '\u{2060}'..='\u{206f}' // word joiner, invisible operators, direction isolates
            | '\u{fff9}'..='\u{fffb}' // interlinear annotation
            | '\u{e0000}'..='\u{e0fff}' // tags and variation selectors: whole invisible alphabets
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ordinary_text_is_kept() {
        for text in ["", "plain.txt", r"C:\dir", "größe 測試 🦀", "tab-less  spaces"] {
            assert_eq!(printable_str(text), text);
        }
    }

    #[test]
    fn what_acts_on_a_terminal_is_escaped() {
        let table = [
            ("a\nb", r"a\nb"),
            ("a\tb\r", r"a\u{9}b\u{d}"),
            ("\u{1b}[2J", r"\u{1b}[2J"),
            ("\u{9b}31m\u{7f}\0", r"\u{9b}31m\u{7f}\u{0}"),
            ("\u{202e}gpj.exe", r"\u{202e}gpj.exe"),
            ("\u{2066}\u{2069}\u{200f}\u{61c}", r"\u{2066}\u{2069}\u{200f}\u{61c}"),
            ("a\u{200b}\u{feff}\u{ad}\u{2028}", r"a\u{200b}\u{feff}\u{ad}\u{2028}"),
            ("\u{2060}\u{e0041}", r"\u{2060}\u{e0041}"),
        ];
        for (text, shown) in table {
            assert_eq!(printable_str(text), shown);
        }
    }

    #[test]
    fn what_turns_text_around_or_has_no_ink_is_escaped_to_the_last() {
        let ranges = [
            ('\0', '\u{1f}'),
            ('\u{7f}', '\u{9f}'),
            ('\u{ad}', '\u{ad}'),
            ('\u{61c}', '\u{61c}'),
            ('\u{200b}', '\u{200f}'),
            ('\u{2028}', '\u{202e}'),
            ('\u{2060}', '\u{206f}'),
            ('\u{3164}', '\u{3164}'),
            ('\u{feff}', '\u{feff}'),
            ('\u{e0000}', '\u{e0fff}'),
        ];
        for c in ranges.into_iter().flat_map(|(first, last)| first..=last) {
            assert!(printable_str(&c.to_string()).starts_with('\\'), "{}", c.escape_unicode());
        }
        // One of these makes an emoji of a symbol, which a name may well hold.
        assert_eq!(printable_str("\u{2764}\u{fe0f}"), "\u{2764}\u{fe0f}");
    }

    #[test]
    fn bytes_that_are_not_utf8_are_shown_in_hex() {
        assert_eq!(printable(b"a\xffb\xc3"), r"a\xffb\xc3");
        assert_eq!(printable(b"\xe2\x82"), r"\xe2\x82");
    }

    #[test]
    fn the_limit_counts_the_ellipsis_and_keeps_escapes_whole() {
        let table: [(&[u8], usize, &str); 8] = [
            (b"abc", 3, "abc"),
            (b"abcd", 3, "ab…"),
            (b"abcd", 1, "…"),
            (b"abcd", 0, ""),
            (b"", 0, ""),
            ("äöüß".as_bytes(), 3, "äö…"),
            (b"a\nbcd", 3, "a…"),
            (b"ab\xff", 4, "ab…"),
        ];
        for (bytes, limit, shown) in table {
            assert_eq!(printable_limit(bytes, limit), shown, "{bytes:?} {limit}");
        }
    }

    #[test]
    fn json_stays_the_same_and_acts_on_nothing() {
        let said = serde_json::json!({ "a": "x\u{1b}[2J\u{9b}\u{7f}\u{202e}\u{e0041}ü\n" });
        for text in [said.to_string(), serde_json::to_string_pretty(&said).unwrap()] {
            let shown = printable_json(&text);
            assert!(!shown.chars().any(|c| c != '\n' && is_unsafe(c)), "{shown}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), said);
        }
    }

    proptest! {
        #[test]
        fn nothing_unsafe_comes_out(bytes: Vec<u8>, text: String) {
            prop_assert!(!printable(&bytes).chars().any(is_unsafe));
            prop_assert!(!printable_str(&text).chars().any(is_unsafe));
        }

        #[test]
        fn the_limit_holds(text: String, limit in 0_usize..40) {
            let shown = printable_limit(text.as_bytes(), limit);
            prop_assert!(shown.chars().count() <= limit);
            let whole = printable_str(&text);
            prop_assert_eq!(whole.chars().count() <= limit, shown == whole);
        }
    }
}
