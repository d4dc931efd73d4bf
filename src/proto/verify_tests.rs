//! The tree against the `blake3` crate's own.

use proptest::prelude::*;

use super::*;

fn layout(len: usize, block: u64) -> Layout {
    Layout::new(len as u64, BlockSize::new(block).unwrap()).unwrap()
}

/// Bytes that differ everywhere.
fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at ^ (at >> 8).wrapping_mul(31) ^ (at >> 16).wrapping_mul(7)) as u8).collect()
}

fn block<'a>(bytes: &'a [u8], layout: &Layout, index: u32) -> &'a [u8] {
    let range = layout.range(index).unwrap();
    &bytes[range.start as usize..range.end as usize]
}

fn hashes(bytes: &[u8], layout: &Layout) -> Vec<BlockHash> {
    (0..layout.blocks()).map(|index| hash_block(layout, index, block(bytes, layout, index)).unwrap()).collect()
}

#[test]
fn the_root_is_what_blake3_says() {
    for size in [1024, 4096, 1 << 16] {
        let sizes = size as usize;
        let many = [2 * sizes, 2 * sizes + 1, 3 * sizes, 5 * sizes - 1, 8 * sizes, 13 * sizes + 77];
        let edges = [0, 1, 1023, 1024, 1025, sizes - 1, sizes, sizes + 1];
        for len in edges.into_iter().chain(many) {
            let (bytes, layout) = (bytes(len), layout(len, size));
            let expected = FileHash(blake3::hash(&bytes).into());
            assert_eq!(root(&layout, &hashes(&bytes, &layout)).unwrap(), expected, "{len} in {size}");
            assert_eq!(hash_whole(&bytes), expected);
        }
    }
}

#[test]
fn sizes_of_blocks_are_bounded() {
    for bad in [0, 1, 512, 1025, 3 << 20, 1 << 49, u64::MAX] {
        assert_eq!(BlockSize::new(bad), Err(VerifyError::BlockSize(bad)));
    }
    assert_eq!(BlockSize::for_len(0).bytes(), 1 << 20);
    assert_eq!(BlockSize::for_len(64 << 30).bytes(), 1 << 20);
    assert_eq!(BlockSize::for_len((64 << 30) + 1).bytes(), 2 << 20);
    assert_eq!(BlockSize::for_len(u64::MAX).bytes(), BLOCK_BYTES_MAX);
    let small = BlockSize::new(1024).unwrap();
    assert!(matches!(Layout::new((64 << 20) + 1, small), Err(VerifyError::TooManyBlocks { .. })));
    assert_eq!(Layout::new(64 << 20, small).unwrap().blocks(), BLOCKS_MAX);
    let last = Layout::for_len(u64::MAX);
    assert_eq!(last.range(last.blocks() - 1).unwrap().end, u64::MAX);
    let text = serde_json::to_string(&small).unwrap();
    assert_eq!((text.as_str(), serde_json::from_str::<BlockSize>(&text).unwrap()), ("1024", small));
    assert!(serde_json::from_str::<BlockSize>("1000").is_err());
}

#[test]
fn a_block_must_have_its_length() {
    let layout = layout(2500, 1024);
    let mut hasher = BlockHasher::new(&layout, 2).unwrap();
    assert_eq!(hasher.update(&[0; 453]), Err(VerifyError::TooLong { index: 2, len: 452 }));
    hasher.update(&[0; 451]).unwrap();
    assert_eq!(hasher.finish(), Err(VerifyError::TooShort { index: 2, missing: 1 }));
    hasher.update(&[0]).unwrap();
    assert_eq!(hasher.finish(), hash_block(&layout, 2, &[0; 452]));
    assert_eq!(BlockHasher::new(&layout, 3).unwrap_err(), VerifyError::NoBlock { index: 3, blocks: 3 });
}

#[test]
fn what_is_missing_comes_twice_or_is_too_much_is_noticed() {
    let (bytes, layout) = (bytes(5000), layout(5000, 1024));
    let right = hashes(&bytes, &layout);
    let mut tree = Tree::new(layout);
    tree.add(3, right[3]).unwrap();
    assert_eq!(tree.add(3, right[3]), Err(VerifyError::Twice { index: 3 }));
    assert_eq!(tree.add(5, right[3]), Err(VerifyError::NoBlock { index: 5, blocks: 5 }));
    assert_eq!(tree.missing().collect::<Vec<_>>(), [0, 1, 2, 4]);
    assert_eq!(tree.finish(), Err(VerifyError::Missing { first: 0, count: 4, blocks: 5 }));
    for index in [4, 0, 2, 1] {
        tree.add(index, right[index as usize]).unwrap();
    }
    assert_eq!(tree.finish().unwrap(), hash_whole(&bytes));
    tree.forget(1).unwrap();
    tree.forget(1).unwrap();
    assert_eq!((tree.missing_count(), tree.get(1), tree.get(2)), (1, None, Some(right[2])));
    assert_eq!(root(&layout, &right[..4]), Err(VerifyError::Missing { first: 4, count: 1, blocks: 5 }));
    let more = [right.as_slice(), &right[..1]].concat();
    assert_eq!(root(&layout, &more), Err(VerifyError::NoBlock { index: 5, blocks: 5 }));
    assert!(root(&layout, &[]).is_err());
}

#[test]
fn the_offset_goes_into_a_block() {
    let layout = layout(4096, 1024);
    assert_ne!(hash_block(&layout, 0, &[7; 1024]), hash_block(&layout, 1, &[7; 1024]));
}

#[test]
fn a_hash_prints_as_b3sum_does() {
    let empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
    assert_eq!(hash_whole(b"").to_string(), empty);
    assert_eq!(empty.parse(), Ok(hash_whole(b"")));
    assert_eq!(empty.to_uppercase().parse(), Ok(hash_whole(b"")));
    for bad in ["", "af", &empty[1..], &format!("{empty}0"), &empty.replace('a', "g"), &empty.replace('a', "ä")] {
        assert_eq!(bad.parse::<FileHash>(), Err(FileHashError), "{bad}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_order_and_any_pieces_give_the_same(
        len in 0_usize..100_000,
        shift in 10_u32..15,
        piece in 1_usize..5000,
        seed in any::<prop::sample::Index>(),
        step in 0_u32..50,
    ) {
        let (bytes, layout) = (bytes(len), layout(len, 1 << shift));
        let blocks = layout.blocks();
        let mut order: Vec<u32> = (0..blocks).collect();
        order.rotate_left(seed.index(blocks as usize));
        order.sort_by_key(|index| index.wrapping_mul(step) % 7);
        let mut tree = Tree::new(layout);
        for index in order {
            let mut hasher = BlockHasher::new(&layout, index).unwrap();
            for piece in block(&bytes, &layout, index).chunks(piece) {
                hasher.update(piece).unwrap();
            }
            tree.add(index, hasher.finish().unwrap()).unwrap();
        }
        prop_assert_eq!(tree.finish().unwrap(), FileHash(blake3::hash(&bytes).into()));
    }

    #[test]
    fn a_changed_or_swapped_block_gives_another_root(
        len in 2049_usize..50_000, one: prop::sample::Index, other: prop::sample::Index, at: prop::sample::Index,
    ) {
        let (mut bytes, layout) = (bytes(len), layout(len, 1024));
        let right = hashes(&bytes, &layout);
        let (one, other) = (one.index(right.len()), other.index(right.len()));
        let mut swapped = right.clone();
        swapped.swap(one, other);
        prop_assert_eq!(root(&layout, &swapped).unwrap() == hash_whole(&bytes), one == other);
        bytes[at.index(len)] ^= 1;
        let changed = hashes(&bytes, &layout);
        prop_assert_eq!(right.iter().zip(&changed).filter(|(a, b)| a != b).count(), 1);
        prop_assert_ne!(root(&layout, &changed).unwrap(), root(&layout, &right).unwrap());
    }
}
