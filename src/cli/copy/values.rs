//! Values of the options of a copy that are words, and what they mean.

use std::str::FromStr;
use std::time::{Duration, SystemTime};

use clap::ValueEnum;
use jiff::Timestamp;

use crate::proto::copy::options::{self, Compression, PIECE_BYTES_MAX, PIECE_BYTES_MIN};
use crate::units::{Bytes, Span};

/// Levels of zstd.
const LEVELS: std::ops::RangeInclusive<i32> = 1..=22;
/// That of `zstd` alone.
const LEVEL_DEFAULT: i32 = 3;

/// What becomes of a file that is there and differs.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Existing {
    Replace,
    Skip,
    Fail,
    KeepNewer,
}

impl From<Existing> for options::Existing {
    fn from(existing: Existing) -> Self {
        match existing {
            Existing::Replace => options::Existing::Replace,
            Existing::Skip => options::Existing::Skip,
            Existing::Fail => options::Existing::Fail,
            Existing::KeepNewer => options::Existing::KeepNewer,
        }
    }
}

/// What outlasts a power failure.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Durability {
    Full,
    File,
    None,
}

impl Durability {
    /// As it is typed.
    pub(super) fn name(self) -> &'static str {
        match self {
            Durability::Full => "full",
            Durability::File => "file",
            Durability::None => "none",
        }
    }
}

impl From<Durability> for options::Durability {
    fn from(durability: Durability) -> Self {
        match durability {
            Durability::Full => options::Durability::Full,
            Durability::File => options::Durability::File,
            Durability::None => options::Durability::None,
        }
    }
}

/// Whether files are written past the page cache.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Direct {
    Auto,
    On,
    Off,
}

impl From<Direct> for options::Direct {
    fn from(direct: Direct) -> Self {
        match direct {
            Direct::Auto => options::Direct::Auto,
            Direct::On => options::Direct::On,
            Direct::Off => options::Direct::Off,
        }
    }
}

/// `none`, `auto`, `zstd` or `zstd:N`.
pub(super) fn compression(text: &str) -> Result<Compression, String> {
    let wrong = || format!("{text:?} is no compression: write none, auto, zstd or zstd:LEVEL, from 1 to 22");
    match text {
        "none" => Ok(Compression::None),
        "auto" => Ok(Compression::Auto),
        "zstd" => Ok(Compression::Zstd(LEVEL_DEFAULT)),
        _ => {
            let level = text.strip_prefix("zstd:").and_then(|level| level.parse().ok());
            level.filter(|level| LEVELS.contains(level)).map(Compression::Zstd).ok_or_else(wrong)
        }
    }
}

/// Bytes of a piece.
pub(super) fn piece(text: &str) -> Result<u64, String> {
    let bytes = text.parse::<Bytes>().map_err(|error| error.to_string())?.0;
    match bytes.is_power_of_two() && (PIECE_BYTES_MIN..=PIECE_BYTES_MAX).contains(&bytes) {
        true => Ok(bytes),
        false => Err("it is a power of two from 64KiB to 16MiB".to_string()),
    }
}

/// A moment in the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Since {
    /// Seconds of Unix time, and nanoseconds.
    pub(super) unix: (i64, u32),
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Since, String> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Since::from(text, now)
    }
}

impl Since {
    fn from(text: &str, now: Duration) -> Result<Since, String> {
        let example = "write a time before now such as 12h or 7d, or a date such as 2027-01-31 or 2027-01-31T12:00:00Z";
        if let Ok(span) = text.parse::<Span>() {
            let then = now.checked_sub(span.0).ok_or_else(|| format!("{text:?} is before 1970: {example}"))?;
            return Ok(Since { unix: (i64::try_from(then.as_secs()).unwrap_or(i64::MAX), then.subsec_nanos()) });
        }
        let midnight = format!("{text}T00:00:00Z");
        let date = text.parse::<Timestamp>().or_else(|_| midnight.parse());
        let date = date.map_err(|_| format!("{text:?} is no time: {example}"))?;
        // Before 1970 nanoseconds count backwards from the second.
        let ns = i64::from(date.subsec_nanosecond());
        let (s, ns) = if ns < 0 { (date.as_second() - 1, ns + 1_000_000_000) } else { (date.as_second(), ns) };
        Ok(Since { unix: (s, u32::try_from(ns).unwrap_or(0)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compression_is_a_word_and_perhaps_a_level() {
        assert_eq!(compression("none"), Ok(Compression::None));
        assert_eq!(compression("auto"), Ok(Compression::Auto));
        assert_eq!(compression("zstd"), Ok(Compression::Zstd(3)));
        assert_eq!(compression("zstd:19"), Ok(Compression::Zstd(19)));
        for text in ["", "gzip", "zstd:", "zstd:0", "zstd:23", "zstd:x", "auto:3"] {
            assert!(compression(text).is_err(), "{text}");
        }
    }

    #[test]
    fn pieces_are_powers_of_two() {
        assert_eq!((piece("64KiB"), piece("16MiB")), (Ok(64 << 10), Ok(16 << 20)));
        for text in ["32KiB", "32MiB", "100KiB", "many", ""] {
            assert!(piece(text).is_err(), "{text}");
        }
    }

    #[test]
    fn moments_are_spans_before_now_and_dates() {
        let now = Duration::new(1_800_000_000, 7);
        let table = [
            ("1h", (1_800_000_000 - 3600, 7)),
            ("0s", (1_800_000_000, 7)),
            ("1970-01-02", (86_400, 0)),
            ("1970-01-01T00:00:01.5Z", (1, 500_000_000)),
            ("1969-12-31T23:59:59.25Z", (-1, 250_000_000)),
        ];
        for (text, unix) in table {
            assert_eq!(Since::from(text, now), Ok(Since { unix }), "{text}");
        }
        for text in ["", "soon", "100000d", "2027-13-01"] {
            assert!(Since::from(text, now).unwrap_err().contains("such as 12h"), "{text}");
        }
    }
}
