//! Lists and ranges of sizes: `1KiB..4MiB,1MB`. Bounded in number and in size, because each is measured.

use std::collections::BTreeSet;

use super::{Bytes, UnitError};

/// Least size in a list of sizes, bytes.
pub const SIZE_BYTES_MIN: u64 = 1;
/// Greatest size in a list of sizes, bytes.
pub const SIZE_BYTES_MAX: u64 = 64 << 20;
/// Most sizes in a list of sizes.
pub const SIZES_MAX: usize = 64;
/// From one size of a range to the next, where the range does not say.
const RANGE_FACTOR: u64 = 4;

/// Reads a list of sizes: `4KiB,64KiB`, `1KiB..4MiB` (every fourfold from the low end, and the high end),
/// `1KiB..4MiB*2` (every twofold). Returns them in ascending order, each once.
///
/// # Errors
/// When one cannot be read or is not within [`SIZE_BYTES_MIN`] and [`SIZE_BYTES_MAX`], or when there are more than
/// [`SIZES_MAX`].
pub fn parse_size_list(list: &str) -> Result<Vec<Bytes>, UnitError> {
    let mut sizes = BTreeSet::new();
    for item in list.split(',') {
        match item.split_once("..") {
            None => {
                sizes.insert(parse_listed_size(item)?);
            }
            Some((low, rest)) => sizes.extend(parse_range(item, low, rest)?),
        }
        // After each item, so that a list without end does not become a set without end.
        if sizes.len() > SIZES_MAX {
            return Err(UnitError::TooMany { input: list.to_owned() });
        }
    }
    Ok(sizes.into_iter().collect())
}

fn parse_range(item: &str, low: &str, rest: &str) -> Result<Vec<Bytes>, UnitError> {
    let (high, factor) = match rest.split_once('*') {
        None => (rest, Some(RANGE_FACTOR)),
        Some((high, factor)) => (high, factor.trim().parse().ok().filter(|&factor| factor >= 2)),
    };
    let (low, high) = (parse_listed_size(low)?, parse_listed_size(high)?);
    let input = || item.trim().to_owned();
    let factor = factor.ok_or_else(|| UnitError::Factor { input: input() })?;
    if low > high {
        return Err(UnitError::Backwards { input: input() });
    }
    // At least doubling and at most SIZE_BYTES_MAX, so this ends within 27 steps.
    let steps = std::iter::successors(Some(low), |size| size.0.checked_mul(factor).map(Bytes));
    let mut sizes: Vec<_> = steps.take_while(|&size| size < high).collect();
    sizes.push(high);
    Ok(sizes)
}

fn parse_listed_size(text: &str) -> Result<Bytes, UnitError> {
    let size: Bytes = text.parse()?;
    if !(SIZE_BYTES_MIN..=SIZE_BYTES_MAX).contains(&size.0) {
        return Err(UnitError::OutOfBounds { input: text.trim().to_owned() });
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_are_sorted_and_hold_each_size_once() {
        let table: [(&str, &[u64]); 6] = [
            ("4096", &[4096]),
            ("64KiB, 1K,64K", &[1024, 65536]),
            ("1KiB..64KiB", &[1024, 4096, 16384, 65536]),
            ("1KiB..20KiB*2", &[1024, 2048, 4096, 8192, 16384, 20480]),
            ("4K..4K", &[4096]),
            ("16M..64M,1", &[1, 16 << 20, 64 << 20]),
        ];
        for (text, sizes) in table {
            let expected: Vec<_> = sizes.iter().copied().map(Bytes).collect();
            assert_eq!(parse_size_list(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_bad_list_is_refused_with_what_to_write() {
        let table = [
            ("", "write a size such as"),
            ("1K,,2K", "write a size such as"),
            ("1K..", "write a size such as"),
            ("0", "\"0\" is out of bounds: write one from 1 to 64MiB"),
            ("65MiB", "write one from 1 to 64MiB"),
            ("4M..1K", "\"4M..1K\" runs backwards"),
            ("1K..4M*1", "no usable factor: write a whole number from 2"),
            ("1K..4M*x", "no usable factor"),
            ("1K..4M*", "no usable factor"),
        ];
        for (text, part) in table {
            let message = parse_size_list(text).unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
        }
        let list = |count: usize| (1..=count).map(|size| size.to_string()).collect::<Vec<_>>().join(",");
        assert_eq!(parse_size_list(&list(SIZES_MAX)).map(|sizes| sizes.len()), Ok(SIZES_MAX));
        let message = parse_size_list(&list(SIZES_MAX + 1)).unwrap_err().to_string();
        assert!(message.contains("more than 64 sizes"), "{message}");
    }

    proptest! {
        #[test]
        fn no_text_can_make_it_panic(text: String, number in "[0-9.]{0,30}[ kKMGTibBs/pµ]{0,6}") {
            for text in [&text, &number] {
                let _ = parse_size_list(text);
            }
        }

        #[test]
        fn every_range_is_ascending_and_has_both_ends(low in 1_u64..1000, more in 0_u64..1 << 25, factor in 2_u64..9) {
            let sizes = parse_size_list(&format!("{low}..{}*{factor}", low + more)).unwrap();
            prop_assert_eq!((sizes[0].0, sizes[sizes.len() - 1].0), (low, low + more));
            prop_assert!(sizes.is_sorted_by(|one, next| one < next));
        }
    }
}
