//! Into which blocks a file is cut: the same on both ends, from its length and the size of a piece.

use crate::proto::verify::{BlockSize, Layout, VerifyError};

/// How files are cut. A block is what is wanted, hashed and journalled; it travels in one or several pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Bytes that one frame carries at most: a power of two.
    pub piece_bytes: u64,
}

impl Cut {
    /// Bytes of every block but the last, for a file of `len` bytes: a power of two, at least a piece.
    pub fn block_bytes(self, len: u64) -> u64 {
        BlockSize::for_len_from(len, self.piece_bytes).bytes()
    }

    /// How many blocks of a file of `len` bytes have to be sent: none without bytes.
    pub fn block_count(self, len: u64) -> u32 {
        // At most `verify::BLOCKS_MAX`.
        len.div_ceil(self.block_bytes(len)) as u32
    }

    /// Where a block begins and how long it is; `None` for one that the file does not have.
    pub fn block_range(self, len: u64, block: u32) -> Option<(u64, u64)> {
        let size = self.block_bytes(len);
        let offset = u64::from(block).checked_mul(size).filter(|offset| *offset < len)?;
        Some((offset, size.min(len - offset)))
    }

    /// How it is hashed.
    pub fn layout(self, len: u64) -> Result<Layout, VerifyError> {
        Layout::new(len, BlockSize::for_len_from(len, self.piece_bytes))
    }

    /// The pieces of a block: where each begins in the file, and how long it is.
    pub fn pieces(self, offset: u64, len: u64) -> impl Iterator<Item = (u64, u64)> {
        (0..len.div_ceil(self.piece_bytes)).map(move |n| {
            let at = n * self.piece_bytes;
            (offset + at, self.piece_bytes.min(len - at))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::verify::{BLOCK_BYTES_DEFAULT, BLOCKS_MAX, hash_block, hash_part, join};

    fn cuts() -> impl Strategy<Value = Cut> {
        (16u32..25).prop_map(|shift| Cut { piece_bytes: 1 << shift })
    }

    proptest! {
        #[test]
        fn blocks_cover_a_file_once(len in prop_oneof![0u64..100_000_000, any::<u64>()], cut in cuts()) {
            let (count, size) = (cut.block_count(len), cut.block_bytes(len));
            prop_assert!(count <= BLOCKS_MAX && size.is_power_of_two());
            prop_assert!(size >= BLOCK_BYTES_DEFAULT.max(cut.piece_bytes));
            prop_assert_eq!(cut.block_range(len, count), None);
            // The same blocks as those that are hashed; the empty one of an empty file is not sent.
            prop_assert_eq!(count, if len == 0 { 0 } else { cut.layout(len).unwrap().blocks() });
            if let Some(last) = count.checked_sub(1) {
                let (offset, bytes) = cut.block_range(len, last).unwrap();
                prop_assert_eq!(offset + bytes, len);
                prop_assert!(bytes >= 1 && bytes <= size);
                prop_assert!(last == 0 || cut.block_range(len, last - 1) == Some((offset - size, size)));
            }
        }

        #[test]
        fn the_parts_of_a_block_hash_to_the_block(len in 1usize..5_000_000, shift in 16u32..23) {
            let cut = Cut { piece_bytes: 1 << shift };
            let bytes: Vec<u8> = (0..len).map(|n| (n * 31 % 251) as u8).collect();
            let layout = cut.layout(len as u64).unwrap();
            for block in 0..layout.blocks() {
                let (offset, block_len) = cut.block_range(len as u64, block).unwrap();
                let of = |at: u64, len: u64| &bytes[at as usize..(at + len) as usize];
                let parts: Vec<_> =
                    cut.pieces(offset, block_len).map(|(at, len)| hash_part(&layout, at, of(at, len))).collect();
                prop_assert_eq!(join(&layout, &parts), Some(hash_block(&layout, block, of(offset, block_len)).unwrap()));
            }
        }
    }
}
