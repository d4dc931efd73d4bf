//! What a copy has come to, as text for a person. Pure.

use super::gauge::Reading;
use crate::cli::figures::{bytes, count, rate, span};
use crate::text::printable_limit;
use crate::transfer::tally::UnderWay;

/// Longest name of a file under way.
const NAME_CHARS_MAX: usize = 60;

/// How much of how much: `1.23 of 4.29 GB`, `12 kB of 4.29 GB`.
pub(super) fn amount(reading: &Reading) -> String {
    let (done, found) = (bytes(reading.bytes_done), bytes(reading.bytes_found));
    let unit = |text: &str| text.rsplit(' ').next().map(str::to_string);
    let done = if unit(&done) == unit(&found) { done.split(' ').next().unwrap_or_default() } else { &done };
    let so_far = if reading.is_scanned { "" } else { " so far (scanning…)" };
    format!("{done} of {found}{so_far}")
}

/// A file under way: ` 45 %  src/big of 3.00 GB`.
pub(super) fn file(file: &UnderWay) -> String {
    let percent = (u128::from(file.done) * 100).checked_div(file.len.into()).unwrap_or(0);
    format!("{percent:>3} %  {} of {}", printable_limit(&file.path, NAME_CHARS_MAX), bytes(file.len))
}

/// Whole percent of the bytes, or of the files where there are no bytes.
pub(super) fn percent(reading: &Reading) -> u64 {
    let (done, found) = match reading.bytes_found {
        0 => (reading.files_done, reading.files_found),
        found => (reading.bytes_done, found),
    };
    if found == 0 { 0 } else { (done as u128 * 100 / u128::from(found)) as u64 }
}

/// Rates and time left.
pub(super) fn pace(reading: &Reading) -> String {
    let left = reading.left.map(|left| format!(", {} left", span(left))).unwrap_or_default();
    format!("{} now, {} average{left}", rate(reading.now), rate(reading.average))
}

/// Files, streams and what limits.
pub(super) fn state(reading: &Reading) -> String {
    let mut text = format!("{} of {}", reading.files_done, count(reading.files_found, "file", "files"));
    for (n, what) in [(reading.failed, "failed"), (reading.skipped, "skipped")] {
        if n > 0 {
            text += &format!(", {n} {what}");
        }
    }
    text += &format!(" · {}", count(reading.streams.into(), "stream", "streams"));
    if let Some(limit) = reading.limit {
        text += &format!(" · limited by: {}", limit.name());
    }
    text
}

/// All of it in one line, where there is no terminal.
pub(super) fn plain(reading: &Reading) -> String {
    let percent = if reading.is_scanned { format!(" ({} %)", percent(reading)) } else { String::new() };
    format!("{}{percent} · {} · {}", amount(reading), pace(reading), state(reading))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::bottleneck::Limit;

    #[test]
    fn a_file_under_way_is_shown_safely() {
        let at = |done, len| file(&UnderWay { path: b"a\x1bb".to_vec(), len, done });
        assert_eq!(at(450, 1000), " 45 %  a\\u{1b}b of 1.00 kB");
        assert_eq!(at(0, 0), "  0 %  a\\u{1b}b of 0 B");
    }

    #[test]
    fn a_plain_line_says_everything() {
        let mut reading = Reading {
            seconds: 12.0,
            bytes_done: 1_230_000_000,
            bytes_found: 4_294_967_296,
            is_scanned: true,
            files_done: 120,
            files_found: 4000,
            failed: 3,
            skipped: 0,
            now: 1.1e9,
            average: 1.05e9,
            left: Some(2.8),
            streams: 4,
            limit: Some(Limit::Network),
        };
        assert_eq!(
            plain(&reading),
            "1.23 of 4.29 GB (28 %) · 1.10 GB/s now, 1.05 GB/s average, 3 s left · 120 of 4000 files, 3 failed \
             · 4 streams · limited by: network"
        );
        reading = Reading { is_scanned: false, left: None, limit: None, failed: 0, streams: 1, ..reading };
        reading.bytes_done = 5_000_000;
        assert_eq!(
            plain(&reading),
            "5.00 MB of 4.29 GB so far (scanning…) · 1.10 GB/s now, 1.05 GB/s average · 120 of 4000 files · 1 stream"
        );
    }
}
