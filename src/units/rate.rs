//! Rates in bytes per second: `10Gbit/s`.

use std::fmt;
use std::str::FromStr;

use super::number::{Parsed, decimal};
use super::{Quantity, UnitError};

/// A number of bytes per second.
///
/// Parses `10Gbit/s`, `10Gbps`, `1.25GB/s`, `100MiB/s`, and as usual in networking `10G` as bits per second. `b` is a
/// bit and `B` a byte; all else is case-insensitive. Prints in decimal bits: `10Gbit/s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(pub u64);

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let parsed = Parsed::new(Quantity::Rate, text)?;
        let (scale, divisor) = rate_unit(parsed.unit).ok_or_else(|| parsed.unknown_unit())?;
        let bytes_per_s = parsed.scaled(scale, divisor)?;
        u64::try_from(bytes_per_s).map(Rate).map_err(|_| parsed.too_large())
    }
}

/// What one of `unit` is in bytes per second, as a fraction.
fn rate_unit(unit: &str) -> Option<(u128, u128)> {
    let lower = unit.to_ascii_lowercase();
    let suffix = ["/s", "ps"].into_iter().find(|suffix| lower.ends_with(suffix));
    // The suffix is ASCII, so it is as long in both.
    let amount = &unit[..unit.len() - suffix.map_or(0, str::len)];
    let bits = ["bit", "Bit", "b"].into_iter().find_map(|bit| amount.strip_suffix(bit));
    let (prefix, divisor) = match (bits, amount.strip_suffix('B'), suffix) {
        (Some(prefix), _, _) => (prefix, 8),
        (None, Some(prefix), Some(_)) => (prefix, 1),
        // As a bare number and a bare `G` are bits.
        (None, None, None) => (amount, 8),
        // `10GB` is a size and `10G/s` could be either: somebody meant something else.
        (None, Some(_), None) | (None, None, Some(_)) => return None,
    };
    Some((prefix_scale(prefix)?, divisor))
}

fn prefix_scale(prefix: &str) -> Option<u128> {
    Some(match prefix.to_ascii_lowercase().as_str() {
        "" => 1,
        "k" => 1_000,
        "m" => 1_000_000,
        "g" => 1_000_000_000,
        "t" => 1_000_000_000_000,
        "ki" => 1 << 10,
        "mi" => 1 << 20,
        "gi" => 1 << 30,
        "ti" => 1 << 40,
        _ => return None,
    })
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits_per_s = u128::from(self.0) * 8;
        let units = [(12, "Tbit/s"), (9, "Gbit/s"), (6, "Mbit/s"), (3, "kbit/s")];
        let fitting = |&(digits, _): &(u32, &str)| bits_per_s >= 10_u128.pow(digits);
        let (digits, unit) = units.into_iter().find(fitting).unwrap_or((0, "bit/s"));
        f.pad(&format!("{}{unit}", decimal(bits_per_s, digits)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(text: &str) -> Result<u64, UnitError> {
        text.parse::<Rate>().map(|rate| rate.0)
    }

    #[test]
    fn rates_read_as_networkers_write_them() {
        let table = [
            ("10Gbit/s", 1_250_000_000),
            ("10Gbps", 1_250_000_000),
            ("10gbps", 1_250_000_000),
            ("10 Gb/s", 1_250_000_000),
            ("10Gbit", 1_250_000_000),
            ("10G", 1_250_000_000),
            ("10M", 1_250_000),
            ("10k", 1_250),
            ("8", 1),
            ("1.25GB/s", 1_250_000_000),
            ("1.25GBps", 1_250_000_000),
            ("100MiB/s", 104_857_600),
            ("1Mibit/s", 131_072),
            ("5B/s", 5),
        ];
        for (text, value) in table {
            assert_eq!(rate(text), Ok(value), "{text}");
        }
        for text in ["", "fast", "-1G", "10GB", "10X", "10Gps", "10G/s", "1", "10Gbit/m", "400000000T", "1µ/s"] {
            let message = rate(text).unwrap_err().to_string();
            assert!(message.contains("write a rate such as 10Gbit/s"), "{message}");
        }
    }

    #[test]
    fn rates_print_in_bits() {
        let table = [
            (1, "8bit/s"),
            (1_250, "10kbit/s"),
            (1_250_000_000, "10Gbit/s"),
            (312_500_000, "2.5Gbit/s"),
            (125_000_000_000, "1Tbit/s"),
        ];
        for (value, text) in table {
            assert_eq!(Rate(value).to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(value: u64, shift in 0_u32..64) {
            for value in [value, value >> shift, (value >> shift) << shift, 1 << shift] {
                prop_assert_eq!(rate(&Rate(value).to_string()), Ok(value));
            }
        }

        #[test]
        fn no_text_can_make_it_panic(text: String, number in "[0-9.]{0,30}[ kKMGTibBs/pµ]{0,6}") {
            for text in [&text, &number] {
                let _ = rate(text);
            }
        }
    }
}
