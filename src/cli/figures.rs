//! Figures as text for a person, in one way whatever is told of. Pure.

/// Bytes with 3 significant figures and a decimal unit, as rates have: `1.23 GB`, `999 B`.
pub(super) fn bytes(bytes: u64) -> String {
    let units = [("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    // What would be rounded to 1000 of a unit is 1 of the next.
    match units.into_iter().find(|(_, unit)| bytes as f64 >= unit * 0.9995) {
        Some((name, unit)) => format!("{} {name}", three(bytes as f64 / unit)),
        None => format!("{bytes} B"),
    }
}

/// A rate in bytes a second: `1.23 GB/s`.
pub(super) fn rate(bytes_per_s: f64) -> String {
    format!("{}/s", bytes(bytes_per_s as u64))
}

fn three(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A span of time, as exact as it is of use: `3 s`, `2 min 05 s`, `1 h 10 min`, `3 d 4 h`.
pub(super) fn span(seconds: f64) -> String {
    let s = seconds.ceil() as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {:02} s", s / 60, s % 60),
        3600..86_400 => format!("{} h {:02} min", s / 3600, s / 60 % 60),
        _ => format!("{} d {} h", s / 86_400, s / 3600 % 24),
    }
}

/// A number and its noun: `1 file`, `2 files`.
pub(super) fn count(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        let table = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (12_345, "12.3 kB"),
            (999_499, "999 kB"),
            (999_500, "1.00 MB"),
            (4_294_967_296, "4.29 GB"),
            (123_000_000_000_000, "123 TB"),
            (u64::MAX, "18447 PB"),
        ];
        for (value, shown) in table {
            assert_eq!(bytes(value), shown);
        }
        assert_eq!(rate(1.5e9), "1.50 GB/s");
        assert_eq!(rate(f64::NAN), "0 B/s");
    }

    #[test]
    fn spans_are_as_exact_as_is_of_use() {
        let table = [
            (0.0, "0 s"),
            (0.1, "1 s"),
            (59.9, "1 min 00 s"),
            (125.0, "2 min 05 s"),
            (4200.0, "1 h 10 min"),
            (273_600.0, "3 d 4 h"),
        ];
        for (seconds, shown) in table {
            assert_eq!(span(seconds), shown);
        }
    }
}
