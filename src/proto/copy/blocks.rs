//! Into which blocks a file is cut: the same on both ends, from its length alone.

use crate::proto::verify::BlockSize;

/// Bytes of every block but the last, for a file of `len` bytes: a power of two.
pub fn block_bytes(len: u64) -> u64 {
    BlockSize::for_len(len).bytes()
}

/// How many blocks of a file of `len` bytes have to be sent: none without bytes.
pub fn block_count(len: u64) -> u32 {
    // At most `verify::BLOCKS_MAX`.
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
    use crate::proto::verify::{BLOCK_BYTES_DEFAULT, BLOCKS_MAX, Layout};

    proptest! {
        #[test]
        fn blocks_cover_a_file_once(len in prop_oneof![0u64..100_000_000, any::<u64>()]) {
            let (count, size) = (block_count(len), block_bytes(len));
            prop_assert!(count <= BLOCKS_MAX && size.is_power_of_two() && size >= BLOCK_BYTES_DEFAULT);
            prop_assert_eq!(block_range(len, count), None);
            // The same blocks as those that are hashed; the empty one of an empty file is not sent.
            prop_assert_eq!(count, if len == 0 { 0 } else { Layout::for_len(len).blocks() });
            if let Some(last) = count.checked_sub(1) {
                let (offset, bytes) = block_range(len, last).unwrap();
                prop_assert_eq!(offset + bytes, len);
                prop_assert!(bytes >= 1 && bytes <= size);
                prop_assert!(last == 0 || block_range(len, last - 1) == Some((offset - size, size)));
            }
        }
    }
}
