//! Which parts of a file are written: ranges of bytes that do not touch each other.
//!
//! Memory grows with the number of gaps, which a receiver of blocks in rough order keeps small.

use std::collections::BTreeMap;

/// Ranges, by start, with their ends.
#[derive(Debug, Default)]
pub(super) struct Extents {
    ranges: BTreeMap<u64, u64>,
}

impl Extents {
    /// Whether all of a range is in.
    pub(super) fn holds(&self, start: u64, end: u64) -> bool {
        start == end || self.ranges.range(..=start).next_back().is_some_and(|(_, have)| *have >= end)
    }

    /// Whether any of a range is in.
    pub(super) fn touches(&self, start: u64, end: u64) -> bool {
        start < end && self.ranges.range(..end).next_back().is_some_and(|(_, have)| *have > start)
    }

    /// Put a range in.
    pub(super) fn add(&mut self, mut start: u64, mut end: u64) {
        while start < end {
            let Some((from, to)) = self.ranges.range(..=end).next_back().map(|(a, b)| (*a, *b)) else { break };
            if to < start {
                break;
            }
            self.ranges.remove(&from);
            (start, end) = (start.min(from), end.max(to));
        }
        if start < end {
            self.ranges.insert(start, end);
        }
    }

    /// Take a range out.
    pub(super) fn remove(&mut self, start: u64, end: u64) {
        while let Some((from, to)) = self.ranges.range(..end).next_back().map(|(a, b)| (*a, *b)) {
            if to <= start || start >= end {
                break;
            }
            self.ranges.remove(&from);
            if to > end {
                self.ranges.insert(end, to);
            }
            if from < start {
                self.ranges.insert(from, start);
            }
        }
    }

    /// What is missing of the first `len` bytes.
    pub(super) fn gaps(&self, len: u64) -> Vec<(u64, u64)> {
        let mut at = 0;
        let mut gaps = Vec::new();
        for (start, end) in &self.ranges {
            if *start > at {
                gaps.push((at, *start));
            }
            at = *end;
        }
        if at < len {
            gaps.push((at, len));
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn they_are_as_a_table_of_bytes(
            steps in proptest::collection::vec((any::<bool>(), 0u64..40, 0u64..12), 0..30),
            start in 0u64..40, len in 0u64..12,
        ) {
            let (mut extents, mut table) = (Extents::default(), [false; 64]);
            for (adds, start, len) in steps {
                if adds { extents.add(start, start + len) } else { extents.remove(start, start + len) }
                table[start as usize..(start + len) as usize].fill(adds);
            }
            let range = &table[start as usize..(start + len) as usize];
            prop_assert_eq!(extents.holds(start, start + len), range.iter().all(|byte| *byte));
            prop_assert_eq!(extents.touches(start, start + len), range.iter().any(|byte| *byte));
            let missing: u64 = extents.gaps(64).iter().map(|(start, end)| end - start).sum();
            prop_assert_eq!(missing as usize, table.iter().filter(|byte| !**byte).count());
        }
    }
}
