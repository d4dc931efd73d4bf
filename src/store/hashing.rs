//! Hashing what lies in files: whole ones, single blocks, and many files by several threads.
//!
//! Bytes come by `pread` into a buffer that stays in the cache of the core: hashing through mmap was measured slower.
//! The tree is `proto::verify`'s; what a hash is compared with is not known here.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::StoreError;
use crate::proto::verify::{BlockHash, BlockHasher, FileHash, Layout, Tree, VerifyError};
use crate::sys::raw::read_at;

/// Bytes of one read: they are still in the second-level cache when they are hashed.
pub const BUFFER_BYTES: usize = 256 << 10;
/// Most threads that hash at once.
pub const THREADS_MAX: usize = 256;

const CANNOT_READ: &str = "cannot be read";
const CANNOT_EXAMINE: &str = "cannot be examined";

/// What a file hashed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hashed {
    /// The root of its tree.
    pub hash: FileHash,
    /// How long it is, bytes.
    pub len: u64,
}

/// What tells that a file was written: its length, and the times of its content and of its inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(file: &File, name: &str) -> Result<Stamp, StoreError> {
        let about = file.metadata().map_err(|error| StoreError::system(name, CANNOT_EXAMINE, error))?;
        Ok(Stamp {
            len: about.len(),
            modified: (about.mtime(), about.mtime_nsec()),
            changed: (about.ctime(), about.ctime_nsec()),
        })
    }

    /// Refuse a file that is not as it was.
    fn check(&self, file: &File, name: &str) -> Result<(), StoreError> {
        if Stamp::of(file, name)? == *self { Ok(()) } else { Err(StoreError::Changed { name: name.to_string() }) }
    }
}

/// The buffer of a thread that hashes.
#[derive(Debug)]
pub struct FileHasher {
    buffer: Vec<u8>,
}

impl Default for FileHasher {
    fn default() -> FileHasher {
        FileHasher { buffer: vec![0; BUFFER_BYTES] }
    }
}

impl FileHasher {
    /// Hash a whole file, from its first byte whatever its position; `tell` hears how many bytes were done each time.
    ///
    /// It fails if the file is written meanwhile, as far as its length and times tell.
    pub fn file(&mut self, file: &File, name: &str, tell: &dyn Fn(u64)) -> Result<Hashed, StoreError> {
        let stamp = Stamp::of(file, name)?;
        // Advice that is not taken costs nothing.
        let _ = posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_SEQUENTIAL);
        // One block of any length is hashed as a whole.
        let mut hasher = blake3::Hasher::new();
        self.read(file, name, 0..stamp.len, |bytes| {
            hasher.update(bytes);
            tell(bytes.len() as u64);
            Ok(())
        })?;
        stamp.check(file, name)?;
        Ok(Hashed { hash: FileHash(hasher.finalize().into()), len: stamp.len })
    }

    /// Hash one block of a file that is cut so. Whether the file is written meanwhile is the caller's to know.
    pub fn block(
        &mut self,
        file: &File,
        name: &str,
        (layout, index): (&Layout, u32),
        tell: &dyn Fn(u64),
    ) -> Result<BlockHash, StoreError> {
        let told = |error: VerifyError| StoreError::Block { name: name.to_string(), error };
        let range = layout.range(index).map_err(told)?;
        let mut hasher = BlockHasher::new(layout, index).map_err(told)?;
        advise_need(file, range.start, range.end - range.start);
        self.read(file, name, range, |bytes| {
            hasher.update(bytes).map_err(told)?;
            tell(bytes.len() as u64);
            Ok(())
        })?;
        hasher.finish().map_err(told)
    }

    fn read(
        &mut self,
        file: &File,
        name: &str,
        range: std::ops::Range<u64>,
        mut take: impl FnMut(&[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut at = range.start;
        while at < range.end {
            let wanted = usize::try_from(range.end - at).map_or(BUFFER_BYTES, |left| left.min(BUFFER_BYTES));
            match read_at(file.as_fd(), &mut self.buffer[..wanted], at) {
                Ok(0) => return Err(StoreError::Truncated { name: name.to_string(), at }),
                Ok(got) => {
                    take(&self.buffer[..got])?;
                    at += got as u64;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(StoreError::system(name, CANNOT_READ, error)),
            }
        }
        Ok(())
    }
}

/// Have the kernel read these bytes ahead; it need not.
fn advise_need(file: &File, at: u64, len: u64) {
    if let (Ok(at), Ok(len)) = (i64::try_from(at), i64::try_from(len)) {
        let _ = posix_fadvise(file, at, len, PosixFadviseAdvice::POSIX_FADV_WILLNEED);
    }
}

/// What is done with the files that [`hash_files`] hashes. The threads share one.
pub trait Work: Sync {
    /// Which file; shown in errors.
    type Job: fmt::Display + Send;

    /// Open it for reading.
    fn open(&self, job: &Self::Job) -> Result<File, StoreError>;
    /// So many bytes more were hashed.
    fn tell(&self, bytes: u64);
    /// A file is done. Files end in any order.
    fn done(&self, job: Self::Job, hashed: Result<Hashed, StoreError>);
}

/// Hash files by several threads, one of which is the caller's: small files one each, the blocks of a large one
/// together. Returns when all are done. At most as many files are open as there are threads.
pub fn hash_files<W: Work>(threads: NonZeroUsize, jobs: impl Iterator<Item = W::Job> + Send, work: &W) {
    let pool =
        Pool { queue: Mutex::new(Queue { jobs, large: VecDeque::new(), opening: 0 }), news: Condvar::new(), work };
    std::thread::scope(|scope| {
        for _ in 1..threads.get().min(THREADS_MAX) {
            let helper = std::thread::Builder::new().name("hash".into());
            if helper.spawn_scoped(scope, || pool.run()).is_err() {
                // The system has no more of them: fewer do the same.
                break;
            }
        }
        pool.run();
    });
}

struct Pool<'a, I, W: Work> {
    queue: Mutex<Queue<I, W::Job>>,
    /// A large file was opened, or turned out to be none.
    news: Condvar,
    work: &'a W,
}

struct Queue<I, J> {
    jobs: I,
    /// Files that have blocks nobody took yet.
    large: VecDeque<Arc<Large<J>>>,
    /// Threads that are about to find out whether their file is a large one.
    opening: usize,
}

/// A file of several blocks, which threads share.
struct Large<J> {
    file: File,
    name: String,
    stamp: Stamp,
    layout: Layout,
    /// First block that nobody took.
    next: AtomicU32,
    /// Gone when the file is done, well or not.
    state: Mutex<Option<(J, Tree)>>,
}

/// What a thread does next.
enum Task<J> {
    File(J),
    Block(Arc<Large<J>>, u32),
}

/// While this lives, the others wait: a large file may come of it.
struct Opening<'a, I, J> {
    queue: &'a Mutex<Queue<I, J>>,
    news: &'a Condvar,
}

impl<I, J> Drop for Opening<'_, I, J> {
    fn drop(&mut self) {
        lock(self.queue).opening -= 1;
        self.news.notify_all();
    }
}

impl<I: Iterator<Item = W::Job> + Send, W: Work> Pool<'_, I, W> {
    fn run(&self) {
        let mut hasher = FileHasher::default();
        while let Some(task) = self.next() {
            match task {
                Task::File(job) => self.begin(job, &mut hasher),
                Task::Block(large, index) => self.block(&large, index, &mut hasher),
            }
        }
    }

    /// Blocks first, so that few files are open; nothing when there is nothing and there will be nothing.
    fn next(&self) -> Option<Task<W::Job>> {
        let mut queue = lock(&self.queue);
        loop {
            while let Some(large) = queue.large.front() {
                let index = large.next.fetch_add(1, Ordering::Relaxed);
                if index < large.layout.blocks() {
                    return Some(Task::Block(large.clone(), index));
                }
                queue.large.pop_front();
            }
            if let Some(job) = queue.jobs.next() {
                queue.opening += 1;
                return Some(Task::File(job));
            }
            if queue.opening == 0 {
                return None;
            }
            queue = self.news.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Open a file; hash it if it is small, else let all have its blocks.
    fn begin(&self, job: W::Job, hasher: &mut FileHasher) {
        let opening = Opening { queue: &self.queue, news: &self.news };
        let name = job.to_string();
        let opened = self.work.open(&job).and_then(|file| Ok((Stamp::of(&file, &name)?, file)));
        match opened {
            Ok((stamp, file)) if Layout::for_len(stamp.len).blocks() > 1 => {
                let layout = Layout::for_len(stamp.len);
                let state = Mutex::new(Some((job, Tree::new(layout))));
                let large = Large { file, name, stamp, layout, next: AtomicU32::new(0), state };
                lock(&self.queue).large.push_back(Arc::new(large));
            }
            opened => {
                drop(opening);
                let hashed = opened.and_then(|(_, file)| hasher.file(&file, &name, &|bytes| self.work.tell(bytes)));
                self.work.done(job, hashed);
            }
        }
    }

    fn block(&self, large: &Large<W::Job>, index: u32, hasher: &mut FileHasher) {
        let hashed = hasher.block(&large.file, &large.name, (&large.layout, index), &|bytes| self.work.tell(bytes));
        let mut state = lock(&large.state);
        let Some((_, tree)) = state.as_mut() else { return };
        let told = |error| StoreError::Block { name: large.name.clone(), error };
        let ended = match hashed.and_then(|hash| tree.add(index, hash).map_err(told)) {
            Ok(()) if tree.missing_count() > 0 => return,
            Ok(()) => tree.finish().map_err(told).and_then(|hash| {
                large.stamp.check(&large.file, &large.name)?;
                Ok(Hashed { hash, len: large.stamp.len })
            }),
            Err(error) => {
                // Nobody needs the others.
                large.next.store(large.layout.blocks(), Ordering::Relaxed);
                Err(error)
            }
        };
        let Some((job, _)) = state.take() else { return };
        drop(state);
        self.work.done(job, ended);
    }
}

/// Nothing panics with a lock held, and what it guards would be whole all the same.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "hashing_tests.rs"]
mod hashing_tests;
