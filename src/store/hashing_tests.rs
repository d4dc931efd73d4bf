//! Hashes of files against those of their bytes.

use std::io::Write;

use super::*;
use crate::proto::verify::{BlockSize, hash_block, hash_whole};

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at ^ (at >> 8).wrapping_mul(31) ^ (at >> 16).wrapping_mul(7)) as u8).collect()
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// Files in memory, by their number, and what became of them.
#[derive(Default)]
struct Files {
    contents: Vec<Vec<u8>>,
    told: std::sync::atomic::AtomicU64,
    done: Mutex<Vec<(usize, Result<Hashed, String>)>>,
}

impl Work for Files {
    type Job = usize;

    fn open(&self, job: &usize) -> Result<File, StoreError> {
        let bytes = self.contents.get(*job).ok_or_else(|| StoreError::unfit(&job.to_string(), "is not there"))?;
        Ok(file_of(bytes))
    }

    fn tell(&self, bytes: u64) {
        self.told.fetch_add(bytes, Ordering::Relaxed);
    }

    fn done(&self, job: usize, hashed: Result<Hashed, StoreError>) {
        self.done.lock().unwrap().push((job, hashed.map_err(|error| error.to_string())));
    }
}

#[test]
fn a_file_hashes_as_its_bytes_do() {
    let mut hasher = FileHasher::default();
    for len in [0, 1, BUFFER_BYTES - 1, BUFFER_BYTES, BUFFER_BYTES + 1, 5 * BUFFER_BYTES + 7] {
        let bytes = bytes(len);
        let hashed = hasher.file(&file_of(&bytes), "f", &|_| {}).unwrap();
        assert_eq!(hashed, Hashed { hash: hash_whole(&bytes), len: len as u64 });
    }
}

#[test]
fn a_block_hashes_as_its_bytes_do() {
    let bytes = bytes(3 * BUFFER_BYTES + 5);
    let layout = Layout::new(bytes.len() as u64, BlockSize::new(1 << 19).unwrap()).unwrap();
    let (file, mut hasher) = (file_of(&bytes), FileHasher::default());
    for (index, block) in (0..).zip(bytes.chunks(1 << 19)) {
        let expected = hash_block(&layout, index, block).unwrap();
        assert_eq!(hasher.block(&file, "f", (&layout, index), &|_| {}).unwrap(), expected);
    }
    let said = hasher.block(&file, "f", (&layout, 2), &|_| {}).unwrap_err().to_string();
    assert_eq!(said, "f: there is no block 2: the file has 2");
    file.set_len(bytes.len() as u64 - 1).unwrap();
    let said = hasher.block(&file, "f", (&layout, 1), &|_| {}).unwrap_err().to_string();
    assert!(said.contains("f: ends at byte"), "{said}");
}

#[test]
fn a_file_that_is_written_meanwhile_is_refused() {
    let (contents, mut hasher) = (bytes(3 * BUFFER_BYTES), FileHasher::default());
    let file = file_of(&contents);
    let said = hasher.file(&file, "f", &|_| file.set_len(10).unwrap()).unwrap_err().to_string();
    assert!(said.contains("f: ends at byte 262144"), "{said}");
    let file = file_of(&contents);
    let said = hasher.file(&file, "f", &|_| (&file).write_all(b"x").unwrap()).unwrap_err().to_string();
    assert!(said.contains("f: was changed"), "{said}");
}

#[test]
fn threads_hash_all_files_once() {
    let lens = [0, 1, 1000, (4 << 20) + 1, 9 << 20, 300_000, 4 << 20, 17, (12 << 20) - 1];
    let contents: Vec<Vec<u8>> = lens.into_iter().map(bytes).collect();
    let expected: Vec<Hashed> =
        contents.iter().map(|bytes| Hashed { hash: hash_whole(bytes), len: bytes.len() as u64 }).collect();
    for threads in [1, 2, 5] {
        let files = Files { contents: contents.clone(), ..Files::default() };
        hash_files(NonZeroUsize::new(threads).unwrap(), 0..contents.len() + 1, &files);
        let mut done = files.done.into_inner().unwrap();
        done.sort_by_key(|(job, _)| *job);
        let (missing, reason) = done.pop().unwrap();
        assert_eq!((missing, reason), (contents.len(), Err(format!("{missing}: is not there"))));
        let got: Vec<_> = done.into_iter().map(|(_, hashed)| hashed.unwrap()).collect();
        assert_eq!(got, expected, "{threads} threads");
        assert_eq!(files.told.into_inner(), expected.iter().map(|hashed| hashed.len).sum::<u64>());
    }
}

/// One large file that loses its end when hashing begins.
struct Shrinking {
    file: File,
    said: Mutex<Vec<String>>,
}

impl Work for Shrinking {
    type Job = &'static str;

    fn open(&self, _: &&'static str) -> Result<File, StoreError> {
        Ok(self.file.try_clone().unwrap())
    }

    fn tell(&self, _: u64) {
        self.file.set_len(100).unwrap();
    }

    fn done(&self, _: &'static str, hashed: Result<Hashed, StoreError>) {
        self.said.lock().unwrap().push(hashed.unwrap_err().to_string());
    }
}

#[test]
fn a_large_file_that_shrinks_is_told_of_once() {
    let work = Shrinking { file: file_of(&bytes(20 << 20)), said: Mutex::default() };
    hash_files(NonZeroUsize::new(3).unwrap(), ["big"].into_iter(), &work);
    let said = work.said.into_inner().unwrap();
    assert!(said.len() == 1 && said[0].starts_with("big: ends at byte"), "{said:?}");
}

/// Nothing can be opened.
struct Panicking;

impl Work for Panicking {
    type Job = u8;

    fn open(&self, _: &u8) -> Result<File, StoreError> {
        panic!("on purpose")
    }

    fn tell(&self, _: u64) {}

    fn done(&self, _: u8, _: Result<Hashed, StoreError>) {}
}

#[test]
fn a_panic_leaves_nobody_waiting() {
    let hash = || hash_files(NonZeroUsize::new(3).unwrap(), 0..9, &Panicking);
    assert!(std::panic::catch_unwind(hash).is_err());
}
