//! How fast BLAKE3 goes: blocks in the cache by one core, and a file in the page cache by one thread and by all.
//!
//! `cargo bench --bench hash`; run small by `cargo bench -- --test` and `cargo test --benches`. The file lies in the
//! folder for temporary files, and must fit into memory.

#[path = "common/mode.rs"]
#[allow(dead_code, reason = "each bench uses its own part of it")]
mod mode;

use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::num::NonZeroUsize;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use linerate::proto::verify::{BlockSize, Layout, Tree, hash_block};
use linerate::store::StoreError;
use linerate::store::hashing::{Hashed, Work, hash_files};

/// Sizes of blocks that are hashed hot, bytes: of a read, and of a block of a file.
const BLOCKS: [u64; 3] = [64 << 10, 256 << 10, 4 << 20];
/// Bytes of the file when it is measured.
const FILE_BYTES: u64 = 1 << 30;
/// And when it only has to work: more than one block.
const FILE_BYTES_IN_TEST: u64 = 9 << 20;
const SAMPLES: usize = 10;

criterion_group!(benches, blocks, trees, files);
criterion_main!(benches);

fn blocks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hash/block");
    for size in BLOCKS {
        let layout = Layout::new(4 * size, BlockSize::new(size).unwrap()).unwrap();
        let bytes = vec![0x5a; size as usize];
        group.throughput(Throughput::Bytes(size));
        group.bench_function(format!("{} KiB", size >> 10), |bencher| {
            bencher.iter(|| hash_block(&layout, 2, black_box(&bytes)).unwrap());
        });
    }
    group.finish();
}

/// Joining the blocks of the largest tree.
fn trees(criterion: &mut Criterion) {
    let layout = Layout::for_len(256 << 30);
    let mut tree = Tree::new(layout);
    let small = Layout::new(2048, BlockSize::new(1024).unwrap()).unwrap();
    let hash = hash_block(&small, 0, &[0; 1024]).unwrap();
    (0..layout.blocks()).for_each(|index| tree.add(index, hash).unwrap());
    criterion.bench_function("hash/tree/65536 blocks", |bencher| {
        bencher.iter_batched_ref(|| tree.clone(), |tree| tree.finish().unwrap(), BatchSize::LargeInput);
    });
}

/// One file, again and again.
struct One(File);

impl Work for One {
    type Job = &'static str;

    fn open(&self, _: &&'static str) -> Result<File, StoreError> {
        Ok(self.0.try_clone().unwrap())
    }

    fn tell(&self, _: u64) {}

    fn done(&self, _: &'static str, hashed: Result<Hashed, StoreError>) {
        black_box(hashed.unwrap());
    }
}

fn files(criterion: &mut Criterion) {
    let len = if mode::is_test() { FILE_BYTES_IN_TEST } else { FILE_BYTES };
    let mut file = tempfile::tempfile().unwrap();
    let piece: Vec<u8> = (0..1_usize << 20).map(|at| (at >> 3) as u8).collect();
    (0..len / piece.len() as u64).for_each(|_| file.write_all(&piece).unwrap());
    let work = One(file);
    let mut group = criterion.benchmark_group("hash/file");
    group.throughput(Throughput::Bytes(len)).sample_size(SAMPLES).measurement_time(Duration::from_secs(10));
    let all = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let mut counts = vec![NonZeroUsize::MIN, all];
    counts.dedup();
    for threads in counts {
        group.bench_function(format!("{threads} threads"), |bencher| {
            bencher.iter(|| hash_files(threads, ["file"].into_iter(), &work));
        });
    }
    group.finish();
}
