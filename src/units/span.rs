//! Spans of time: `1.5s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::number::{Parsed, decimal};
use super::{Quantity, UnitError};

/// A span of time.
///
/// Parses `200ms`, `1.5s`, `2m`, `1h`, `7d`, `500us`, `500µs`, `10ns`, and a bare number as seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let parsed = Parsed::new(Quantity::Span, text)?;
        let scale_ns = match parsed.unit.to_lowercase().as_str() {
            "ns" => 1,
            // U+03BC is what a Greek keyboard types and what U+00B5 becomes in lower case on some systems.
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "" | "s" => NS_PER_S,
            "m" | "min" => 60 * NS_PER_S,
            "h" => 3600 * NS_PER_S,
            "d" => 24 * 3600 * NS_PER_S,
            _ => return Err(parsed.unknown_unit()),
        };
        let ns = parsed.scaled(scale_ns, 1)?;
        let seconds = u64::try_from(ns / NS_PER_S).map_err(|_| parsed.too_large())?;
        // A remainder of NS_PER_S fits.
        Ok(Span(Duration::new(seconds, (ns % NS_PER_S) as u32)))
    }
}

/// Nanoseconds in a second.
const NS_PER_S: u128 = 1_000_000_000;

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = self.0.as_nanos();
        let text = match ns {
            0 => "0s".to_owned(),
            1..1_000 => format!("{ns}ns"),
            1_000..1_000_000 => format!("{}µs", decimal(ns, 3)),
            1_000_000..NS_PER_S => format!("{}ms", decimal(ns, 6)),
            _ if ns.is_multiple_of(3600 * NS_PER_S) => format!("{}h", ns / (3600 * NS_PER_S)),
            _ if ns.is_multiple_of(60 * NS_PER_S) => format!("{}m", ns / (60 * NS_PER_S)),
            _ => format!("{}s", decimal(ns, 9)),
        };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn span(text: &str) -> Result<Duration, UnitError> {
        text.parse::<Span>().map(|span| span.0)
    }

    #[test]
    fn spans_of_time_read_and_print() {
        let table = [
            ("200ms", Duration::from_millis(200), "200ms"),
            ("1.5s", Duration::from_millis(1500), "1.5s"),
            ("2m", Duration::from_secs(120), "2m"),
            ("1h", Duration::from_secs(3600), "1h"),
            ("1.5d", Duration::from_secs(129_600), "36h"),
            ("500us", Duration::from_micros(500), "500µs"),
            ("500\u{b5}s", Duration::from_micros(500), "500µs"),
            ("500\u{3bc}s", Duration::from_micros(500), "500µs"),
            ("10ns", Duration::from_nanos(10), "10ns"),
            ("10", Duration::from_secs(10), "10s"),
            ("0", Duration::ZERO, "0s"),
            ("90 s", Duration::from_secs(90), "90s"),
            ("0.25", Duration::from_millis(250), "250ms"),
            ("1234567ns", Duration::from_nanos(1_234_567), "1.234567ms"),
        ];
        for (text, value, printed) in table {
            assert_eq!(span(text), Ok(value), "{text}");
            assert_eq!(Span(value).to_string(), printed);
        }
        for text in ["", "soon", "-1s", "0.1ns", "1w", "99999999999999999999h"] {
            let message = span(text).unwrap_err().to_string();
            assert!(message.contains("write a time such as 200ms"), "{message}");
        }
    }

    #[test]
    fn the_longest_span_reads_back() {
        assert_eq!(span(&Span(Duration::MAX).to_string()), Ok(Duration::MAX));
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(seconds: u64, ns in 0_u32..1_000_000_000, shift in 0_u32..64) {
            let short = Duration::from_nanos(seconds >> shift);
            for duration in [short, Duration::new(seconds, ns), Duration::new(seconds >> shift, 0)] {
                prop_assert_eq!(span(&Span(duration).to_string()), Ok(duration));
            }
        }

        #[test]
        fn no_text_can_make_it_panic(text: String, number in "[0-9.]{0,30}[ kKMGTibBs/pµ]{0,6}") {
            for text in [&text, &number] {
                let _ = span(text);
            }
        }
    }
}
