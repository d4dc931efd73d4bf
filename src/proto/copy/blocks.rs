//! Into which blocks a file is cut: the same on both ends, from its length alone.

/// Blocks of a file of up to [`BLOCKS_MAX`] of them; a larger file has larger ones. A multiple of what BLAKE3 hashes
/// as a unit, and a power of two, so that blocks are subtrees.
pub const BLOCK_BYTES_MIN: u64 = 4 << 20;
/// Most blocks of a file: bounds what is remembered of one.
pub const BLOCKS_MAX: u64 = 65_536;

/// Bytes of every block but the last, for a file of `len` bytes: a power of two.
pub fn block_bytes(len: u64) -> u64 {
    let wanted = len.div_ceil(BLOCKS_MAX).max(BLOCK_BYTES_MIN);
    wanted.checked_next_power_of_two().unwrap_or(1 << 63)
}

/// How many blocks a file of `len` bytes has; none without bytes.
pub fn block_count(len: u64) -> u32 {
    // At most `BLOCKS_MAX`.
    len.div_ceil(block_bytes(len)) as u32
}

/// Where a block begins and how long it is; `None` for one that the file does not have.
pub fn block_range(len: u64, block: u32) -> Option<(u64, u64)> {
    let size = block_bytes(len);
    let offset = u64::from(block).checked_mul(size).filter(|offset| *offset < len)?;
    Some((offset, size.min(len - offset)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn blocks_cover_a_file_once(len in prop_oneof![0u64..100_000_000, any::<u64>()]) {
            let (count, size) = (block_count(len), block_bytes(len));
            prop_assert!(u64::from(count) <= BLOCKS_MAX && size.is_power_of_two() && size >= BLOCK_BYTES_MIN);
            prop_assert_eq!(block_range(len, count), None);
            if let Some(last) = count.checked_sub(1) {
                let (offset, bytes) = block_range(len, last).unwrap();
                prop_assert_eq!(offset + bytes, len);
                prop_assert!(bytes >= 1 && bytes <= size);
                prop_assert!(last == 0 || block_range(len, last - 1) == Some((offset - size, size)));
            }
        }
    }
}
