//! Sizes in bytes: `4KiB`.

use std::fmt;
use std::str::FromStr;

use super::number::Parsed;
use super::{Quantity, UnitError};

/// A number of bytes.
///
/// Parses `4096`, `4KiB`, `4 kib`, `1.5MiB`; `4K`, `4M`, `4G` and `4T` count in 1024s as dd and iperf do, `4KB` and
/// `4MB` in 1000s. Prints in the largest unit that divides it: `64KiB`, `1000`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let parsed = Parsed::new(Quantity::Size, text)?;
        let scale = match parsed.unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "t" | "tib" => 1 << 40,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            _ => return Err(parsed.unknown_unit()),
        };
        let bytes = parsed.scaled(scale, 1)?;
        u64::try_from(bytes).map(Bytes).map_err(|_| parsed.too_large())
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        let fitting = |&(shift, _): &(u32, &str)| self.0 != 0 && self.0.trailing_zeros() >= shift;
        match units.into_iter().find(fitting) {
            Some((shift, unit)) => f.pad(&format!("{}{unit}", self.0 >> shift)),
            None => f.pad(&self.0.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(text: &str) -> Result<u64, UnitError> {
        text.parse::<Bytes>().map(|bytes| bytes.0)
    }

    #[test]
    fn sizes_read_as_people_write_them() {
        let table = [
            ("1", 1),
            ("0", 0),
            (" 4096 ", 4096),
            ("4KiB", 4096),
            ("4 KiB", 4096),
            ("4k", 4096),
            ("4K", 4096),
            ("4kib", 4096),
            ("4KB", 4000),
            ("4 KB", 4000),
            ("4kB", 4000),
            ("16b", 16),
            ("1.5MiB", 1_572_864),
            ("0.5k", 512),
            ("1.0", 1),
            ("2G", 2 << 30),
            ("3T", 3 << 40),
            ("1tb", 1_000_000_000_000),
            ("18446744073709551615", u64::MAX),
        ];
        for (text, value) in table {
            assert_eq!(bytes(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn a_bad_size_is_refused_with_what_to_write() {
        let table = [
            ("", "a size is missing"),
            ("  ", "a size is missing"),
            ("-1", "\"-1\" is negative"),
            ("KiB", "\"KiB\" is not a size"),
            (".5k", "\".5k\" is not a size"),
            ("1.k", "\"1.k\" is not a size"),
            ("4XB", "\"4XB\" has the unknown unit \"XB\""),
            ("4 K B", "unknown unit \"K B\""),
            ("1e3", "unknown unit \"e3\""),
            ("1.2.3", "unknown unit \".3\""),
            ("0.3", "\"0.3\" is not a whole number of bytes"),
            ("1.0001KiB", "not a whole number"),
            ("1.0000000000000001TiB", "not a whole number"),
            ("18446744073709551616", "too large"),
            ("16777216T", "too large"),
            ("99999999999999999999999999999999999999999999T", "too large"),
            ("\u{1b}[2J", "\"\\u{1b}[2J\" is not a size"),
        ];
        for (text, start) in table {
            let message = bytes(text).unwrap_err().to_string();
            assert!(message.contains(start), "{text}: {message}");
            assert!(message.ends_with("write a size such as 4096, 4KiB or 1MB"), "{message}");
        }
    }

    #[test]
    fn sizes_print_in_the_largest_unit_that_divides() {
        let table = [(0, "0"), (1000, "1000"), (65536, "64KiB"), (1 << 20, "1MiB"), (1536, "1536"), (3 << 40, "3TiB")];
        for (value, text) in table {
            assert_eq!(Bytes(value).to_string(), text);
        }
        assert_eq!(format!("{:>6}|{:<6}", Bytes(4096), Bytes(0)), "  4KiB|0     ");
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(value: u64, shift in 0_u32..64) {
            for value in [value, value >> shift, (value >> shift) << shift, 1 << shift] {
                prop_assert_eq!(bytes(&Bytes(value).to_string()), Ok(value));
            }
        }

        #[test]
        fn no_text_can_make_it_panic(text: String, number in "[0-9.]{0,30}[ kKMGTibBs/pµ]{0,6}") {
            for text in [&text, &number] {
                let _ = bytes(text);
            }
        }
    }
}
