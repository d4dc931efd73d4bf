//! Figures and foreign text as a person reads them. Rounding only ever happens here, on the way out.

use crate::text::printable_limit;

/// Longest piece of foreign text that is shown, in characters; the rest becomes `…`.
const FOREIGN_CHARS_MAX: usize = 400;

/// Bytes per second as Gbit/s with 3 significant figures, without the unit: `57.9`, `0.123`, `101`.
pub fn gbit(bytes_per_s: f64) -> String {
    // 1 Gbit/s = 1.25e8 bytes/s; one division, because eight times a huge value would overflow.
    significant(bytes_per_s / 1.25e8, 3)
}

/// CPU seconds per GiB with 2 significant figures, without the unit: `0.21`.
pub fn cost(s_per_gib: f64) -> String {
    significant(s_per_gib, 2)
}

/// A size in bytes, exactly: `64KiB`, `1MiB`, `1000B`.
pub fn size(bytes: u64) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes >= 1 << shift && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    format!("{bytes}B")
}

/// Nanoseconds in the unit that fits, with 3 significant figures: `850 ns`, `61.2 µs`, `1.50 s`.
pub fn ns(ns: u64) -> String {
    let (unit, divisor) = match ns {
        0..1_000 => ("ns", 1.0),
        1_000..999_500 => ("µs", 1e3),
        999_500..999_500_000 => ("ms", 1e6),
        _ => ("s", 1e9),
    };
    let figure = if ns < 1_000 { ns.to_string() } else { significant(ns as f64 / divisor, 3) };
    format!("{figure} {unit}")
}

/// A share from 0 to 1 as a percentage with at most 2 significant figures: `3.1 %`.
pub fn percent(share: f64) -> String {
    format!("{} %", significant(share * 100.0, 2))
}

/// Text from a file or a peer, safe on a terminal and not overlong.
pub fn escape(text: &str) -> String {
    printable_limit(text.as_bytes(), FOREIGN_CHARS_MAX)
}

/// `value` rounded to that many significant figures, integer digits never cut; `?` for what is not a number.
fn significant(value: f64, figures: usize) -> String {
    if !value.is_finite() {
        return "?".into();
    }
    if value == 0.0 {
        return "0".into();
    }
    let rounded = format!("{value:.*e}", figures.saturating_sub(1));
    let exponent: i64 = rounded.rsplit('e').next().and_then(|text| text.parse().ok()).unwrap_or(0);
    if exponent.abs() > 15 {
        return rounded;
    }
    let decimals = (figures as i64 - 1 - exponent).max(0) as usize;
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_three_significant_figures() {
        for (gbit_per_s, shown) in [
            (57.94, "57.9"),
            (0.1234, "0.123"),
            (101.4, "101"),
            (99.96, "100"),
            (9.996, "10.0"),
            (1234.0, "1234"),
            (2.0, "2.00"),
            (0.0, "0"),
        ] {
            assert_eq!(gbit(gbit_per_s * 1.25e8), shown);
        }
        assert_eq!(gbit(f64::NAN), "?");
        assert_eq!(gbit(f64::MAX), "1.44e300");
    }

    #[test]
    fn sizes_are_exact() {
        let sizes = [0, 1, 1000, 1024, 1536, 65536, 1 << 20, 3 << 30, u64::MAX].map(size);
        let shown = ["0B", "1B", "1000B", "1KiB", "1536B", "64KiB", "1MiB", "3GiB", "18446744073709551615B"];
        assert_eq!(sizes, shown);
    }

    #[test]
    fn times_take_the_unit_that_fits() {
        let times = [0, 850, 61_234, 999_499, 999_600, 2_500_000, 1_500_000_000].map(ns);
        assert_eq!(times, ["0 ns", "850 ns", "61.2 µs", "999 µs", "1.00 ms", "2.50 ms", "1.50 s"]);
    }

    #[test]
    fn foreign_text_cannot_steer_the_terminal() {
        assert_eq!(escape("eth0 µ"), "eth0 µ");
        assert_eq!(escape("a\x1b[31m\nb"), "a\\u{1b}[31m\\nb");
        assert_eq!(escape("\u{202e}txt"), "\\u{202e}txt");
        assert_eq!(escape(&"x".repeat(500)).chars().count(), FOREIGN_CHARS_MAX);
    }
}
