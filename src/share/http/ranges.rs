//! Which part of a file is asked for, and whether it is needed at all: RFC 9110, sections 13 and 14.
//!
//! Without file or socket. A single range is answered with 206; several, or nonsense, with the whole, as the RFC
//! allows; one that begins past the end with 416.

use axum::http::{HeaderMap, header};

/// What is known of a file without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its length, bytes.
    pub len: u64,
    /// When it was changed, seconds since 1970.
    pub modified_s: i64,
    /// And the nanoseconds after.
    pub modified_ns: u32,
    /// Its number on its filesystem.
    pub inode: u64,
}

impl Version {
    /// The entity tag. It is a strong one: content that changes has another length or time in nanoseconds.
    pub fn etag(&self) -> String {
        format!("\"{:x}-{:x}-{:x}.{:x}\"", self.inode, self.len, self.modified_s, self.modified_ns)
    }

    /// The date of `Last-Modified`; nothing for one that has no such form.
    pub fn last_modified(&self) -> Option<String> {
        http_date(self.modified_s)
    }
}

/// What is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// 200, all of it.
    Whole,
    /// 206, from the first byte so many.
    Part {
        /// The first byte.
        start: u64,
        /// How many, at least 1.
        len: u64,
    },
    /// 304: whoever asks has it.
    NotModified,
    /// 412: it is not what he has.
    Failed,
    /// 416: nothing of what he asks for exists.
    Unsatisfiable,
}

/// What the headers of a GET or HEAD ask for. Parts are of GET alone (RFC 9110, section 14.2).
pub fn wanted((headers, is_get): (&HeaderMap, bool), version: &Version) -> Wanted {
    let text = |name| headers.get(name).and_then(|value: &axum::http::HeaderValue| value.to_str().ok());
    let etag = version.etag();
    if let Some(wanted) = text(header::IF_MATCH) {
        if !names(wanted, &etag, false) {
            return Wanted::Failed;
        }
    } else if let Some(since) = text(header::IF_UNMODIFIED_SINCE).and_then(parse_http_date)
        && version.modified_s > since
    {
        return Wanted::Failed;
    }
    if let Some(had) = text(header::IF_NONE_MATCH) {
        if names(had, &etag, true) {
            return Wanted::NotModified;
        }
    } else if let Some(since) = text(header::IF_MODIFIED_SINCE).and_then(parse_http_date)
        && version.modified_s <= since
    {
        return Wanted::NotModified;
    }
    let mut ranges = headers.get_all(header::RANGE).iter();
    let (Some(range), None, true) = (ranges.next(), ranges.next(), is_get) else { return Wanted::Whole };
    if text(header::IF_RANGE).is_some_and(|had| !is_same(had, version, &etag)) {
        return Wanted::Whole;
    }
    range.to_str().map_or(Wanted::Whole, |range| part(range, version.len))
}

/// Whether a list of entity tags names this one. Weak comparison leaves `W/` aside.
fn names(list: &str, etag: &str, is_weak: bool) -> bool {
    let list = list.trim();
    list == "*"
        || list.split(',').map(str::trim).any(|tag| match tag.strip_prefix("W/") {
            Some(opaque) => is_weak && opaque == etag,
            None => tag == etag,
        })
}

/// If-Range names a strong tag, or a date that is exactly the file's.
fn is_same(had: &str, version: &Version, etag: &str) -> bool {
    let had = had.trim();
    if had.starts_with('"') || had.starts_with("W/") {
        return had == etag;
    }
    parse_http_date(had) == Some(version.modified_s)
}

/// The one range of `bytes=…`.
fn part(range: &str, len: u64) -> Wanted {
    let Some((unit, set)) = range.split_once('=') else { return Wanted::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") || set.contains(',') {
        return Wanted::Whole;
    }
    let Some((first, last)) = set.trim().split_once('-') else { return Wanted::Whole };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // A number that is too large for us is larger than any file.
    let number = |text: &str| text.parse::<u64>().unwrap_or(u64::MAX);
    match (first.trim(), last.trim()) {
        ("", suffix) if is_number(suffix) => match number(suffix).min(len) {
            0 => Wanted::Unsatisfiable,
            n => Wanted::Part { start: len - n, len: n },
        },
        (first, "") if is_number(first) => from(number(first), u64::MAX, len),
        (first, last) if is_number(first) && is_number(last) => match (number(first), number(last)) {
            (first, last) if first > last => Wanted::Whole,
            (first, last) => from(first, last, len),
        },
        _ => Wanted::Whole,
    }
}

fn from(first: u64, last: u64, len: u64) -> Wanted {
    if first >= len {
        return Wanted::Unsatisfiable;
    }
    let last = last.min(len - 1);
    Wanted::Part { start: first, len: last - first + 1 }
}

/// Seconds since 1970 as `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn http_date(unix_s: i64) -> Option<String> {
    let at = jiff::Timestamp::from_second(unix_s).ok()?;
    jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).ok()
}

/// Seconds since 1970 of such a date.
pub fn parse_http_date(text: &str) -> Option<i64> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok().map(|at| at.as_second())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const VERSION: Version = Version { len: 100, modified_s: 784_111_777, modified_ns: 5, inode: 7 };

    fn ask(headers: &[(&'static str, &str)]) -> Wanted {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        wanted((&map, true), &VERSION)
    }

    #[test]
    fn single_ranges_are_answered_in_part_and_others_whole() {
        let part = |start, len| Wanted::Part { start, len };
        let table = [
            ("bytes=0-0", part(0, 1)),
            ("bytes=0-99", part(0, 100)),
            ("bytes=10-", part(10, 90)),
            ("bytes=-1", part(99, 1)),
            ("bytes=-1000", part(0, 100)),
            ("bytes=99-18446744073709551615", part(99, 1)),
            ("Bytes = 5-6", part(5, 2)),
            ("bytes=100-", Wanted::Unsatisfiable),
            ("bytes=18446744073709551615-", Wanted::Unsatisfiable),
            ("bytes=99999999999999999999999-", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=5-4", Wanted::Whole),
            ("bytes=0-0,2-3", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("bytes=--5", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes", Wanted::Whole),
            ("lines=1-2", Wanted::Whole),
        ];
        for (range, expected) in table {
            assert_eq!(ask(&[("range", range)]), expected, "{range}");
        }
        let many = format!("bytes={}", vec!["1-2"; 10_000].join(","));
        assert_eq!(ask(&[("range", &many)]), Wanted::Whole);
        assert_eq!(ask(&[("range", "bytes=0-0"), ("range", "bytes=1-1")]), Wanted::Whole);
    }

    #[test]
    fn conditions_are_judged_in_the_order_of_the_rfc() {
        let etag = VERSION.etag();
        let date = VERSION.last_modified().unwrap();
        assert_eq!(date, "Sun, 06 Nov 1994 08:49:37 GMT");
        let weak = format!("W/{etag}");
        assert_eq!(ask(&[("if-none-match", &etag)]), Wanted::NotModified);
        assert_eq!(ask(&[("if-none-match", &weak)]), Wanted::NotModified);
        assert_eq!(ask(&[("if-none-match", "\"x\""), ("if-modified-since", &date)]), Wanted::Whole);
        assert_eq!(ask(&[("if-modified-since", &date)]), Wanted::NotModified);
        assert_eq!(ask(&[("if-modified-since", "Sun, 06 Nov 1994 08:49:36 GMT")]), Wanted::Whole);
        assert_eq!(ask(&[("if-match", &weak)]), Wanted::Failed);
        assert_eq!(ask(&[("if-match", "*")]), Wanted::Whole);
        assert_eq!(ask(&[("if-unmodified-since", "Sun, 06 Nov 1994 08:49:36 GMT")]), Wanted::Failed);
        let half = Wanted::Part { start: 50, len: 50 };
        assert_eq!(ask(&[("range", "bytes=50-"), ("if-range", &etag)]), half);
        assert_eq!(ask(&[("range", "bytes=50-"), ("if-range", &date)]), half);
        assert_eq!(ask(&[("range", "bytes=50-"), ("if-range", &weak)]), Wanted::Whole);
        assert_eq!(ask(&[("range", "bytes=50-"), ("if-range", "\"old\"")]), Wanted::Whole);
    }

    /// A number, or what may be taken for one.
    fn number() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<u64>().prop_map(|n| n.to_string()),
            (0..300u64).prop_map(|n| n.to_string()),
            "[-+0-9a-f ,.]{0,30}"
        ]
    }

    proptest! {
        #[test]
        fn what_is_answered_is_in_the_file(
            (unit, first, last, more) in ("(bytes|BYTES| bytes |bit)", number(), number(), "(,[0-9]*-[0-9]*){0,3}"),
            len in prop_oneof![any::<u64>(), 0..300u64],
        ) {
            let range = format!("{unit}={first}-{last}{more}");
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, HeaderValue::from_str(&range).unwrap());
            match wanted((&headers, true), &Version { len, ..VERSION }) {
                Wanted::Part { start, len: part } => {
                    prop_assert!(part >= 1 && start.checked_add(part).is_some_and(|end| end <= len), "{}", range);
                    prop_assert!(more.is_empty());
                }
                Wanted::Whole | Wanted::Unsatisfiable => {}
                other => prop_assert!(false, "{}: {:?}", range, other),
            }
        }

        #[test]
        fn no_header_panics(name in 0..6usize, value in proptest::collection::vec(any::<u8>(), 0..100), text in "\\PC{0,20}") {
            let names = [
                header::RANGE,
                header::IF_RANGE,
                header::IF_MATCH,
                header::IF_NONE_MATCH,
                header::IF_MODIFIED_SINCE,
                header::IF_UNMODIFIED_SINCE,
            ];
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, HeaderValue::from_static("bytes=1-2"));
            for value in [&value[..], text.as_bytes()] {
                let Ok(value) = HeaderValue::from_bytes(value) else { continue };
                headers.insert(&names[name], value);
                let _ = wanted((&headers, true), &VERSION);
            }
        }
    }
}
