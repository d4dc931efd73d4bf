//! What is in one or several trees, found by several threads while somebody else works on what was found before.
//!
//! # What is promised
//! - Entries come in batches through a bounded channel. Ids count up from 0 in the order in which entries come, a
//!   folder comes before what is in it, and a hard link after the entry that it names.
//! - No link is followed and nothing outside the root is listed, whatever is renamed meanwhile: folders are opened by
//!   their path through the confined root, their entries examined from their handle.
//! - What cannot be had (an unreadable folder, a FIFO, a path that is too long) is named in the summary, and the rest
//!   comes nevertheless. An entry that vanishes before it is examined was never there. Whether a file can be read is
//!   not tried: who opens it sees that.
//! - Memory is bounded: [`BATCHES_MAX`] batches of [`BATCH_ENTRIES_MAX`], and folders that wait to be read. Each thread
//!   works depth-first, so these are few; from [`WAITING_MAX`] on it reads a folder it finds at once and holds the ones
//!   above open, up to [`HELD_MAX`] of them. Only a tree that has more than the one in folders and is deeper than the
//!   other below makes more wait. With `hard_links` one also remembers files of which not all names have come yet.
//!
//! # What lives where
//! | file | what |
//! |---|---|
//! | `worker` | what one thread does: read folders, make entries |
//! | `sharing` | folders that wait for a thread without work; the end |
//! | `output` | numbering, hard links, the channel, the summary |
//! | `xattrs` | extended attributes of what is held |
//!
//! Whether an entry is wanted is decided in [`super::filter`]. Nothing here opens a file for its content, but for the
//! first bytes where the filter asks for them.

mod output;
mod sharing;
mod worker;
mod xattrs;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod race_tests;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use super::StoreError;
use super::confined::{Kind, Metadata, RelativePath, Root};
use super::filter::Filter;
use crate::proto::manifest::Entry;
use output::Output;
use sharing::Sharing;
use worker::Worker;

/// Most entries of a batch; a thread's first are smaller, so that work can begin.
pub const BATCH_ENTRIES_MAX: usize = 1024;
/// A batch is sent from so many bytes of paths, targets and attributes on.
pub const BATCH_BYTES: usize = 1 << 20;
/// Most batches that wait to be received.
pub const BATCHES_MAX: usize = 16;
/// How many folders wait to be read, over all threads, before they are read at once.
pub const WAITING_MAX: usize = 65_536;
/// How many folders a thread then holds open.
pub const HELD_MAX: usize = 32;
/// Most threads.
pub const THREADS_MAX: usize = 64;
/// How many skipped paths are named; further ones are counted.
pub const SKIPPED_MAX: usize = 1000;
/// Threads unless told otherwise: more gain little on a local disk.
const THREADS_DEFAULT: usize = 4;

/// Where a scan begins.
#[derive(Clone, Debug)]
pub struct Top {
    /// What it never leaves.
    pub root: Arc<Root>,
    /// The folder, file or link to begin with.
    pub path: RelativePath,
    /// What that is called among the entries; the root for a copy of this one thing.
    pub at: RelativePath,
}

impl Top {
    /// A whole root as the root of the copy.
    pub fn whole(root: Arc<Root>) -> Top {
        Top { root, path: RelativePath::root(), at: RelativePath::root() }
    }
}

/// How to scan.
#[derive(Clone, Debug)]
pub struct ScanOptions {
    /// What is wanted. What a scan begins with is not judged.
    pub filter: Filter,
    /// Threads, from 1 to [`THREADS_MAX`].
    pub threads: usize,
    /// Note users and groups.
    pub owner: bool,
    /// Note extended attributes.
    pub xattrs: bool,
    /// Make further names of a file hard links instead of files.
    pub hard_links: bool,
    /// Do not enter folders that lie so deep below what the scan begins with; `None` for any depth.
    pub depth_max: Option<usize>,
    /// One thread, and names in order: for tests, since it holds all names of a folder at once.
    pub sorted: bool,
}

impl Default for ScanOptions {
    fn default() -> ScanOptions {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        ScanOptions {
            filter: Filter::default(),
            threads: cores.min(THREADS_DEFAULT),
            owner: false,
            xattrs: false,
            hard_links: false,
            depth_max: None,
            sorted: false,
        }
    }
}

/// A path that is not among the entries, or not whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// As its entry would have it.
    pub path: Vec<u8>,
    /// Why, and what to do; without the path.
    pub why: String,
    /// It should have come; otherwise it is of a kind that never does.
    pub is_failure: bool,
}

/// What came of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanSummary {
    /// Entries of all kinds that came.
    pub entries: u64,
    /// Regular files, hard links not counted.
    pub files: u64,
    /// Folders.
    pub folders: u64,
    /// Symbolic links.
    pub links: u64,
    /// Further names of files.
    pub hard_links: u64,
    /// Content of the files, holes included, bytes.
    pub bytes: u64,
    /// The first [`SKIPPED_MAX`] of what was skipped.
    pub skipped: Vec<Skipped>,
    /// How many were skipped.
    pub skipped_count: u64,
    /// How many of it should have come.
    pub failed_count: u64,
    /// The most folders that waited to be read at one time.
    pub waiting_max: usize,
    /// It came to its end: it was not given up, and no thread failed.
    pub is_complete: bool,
}

/// A scan under way. Its batches are received by iterating; dropping it ends its threads.
#[derive(Debug)]
pub struct Scan {
    /// Nothing once given up.
    receiver: Option<Receiver<Vec<Entry>>>,
    threads: Vec<JoinHandle<()>>,
    sharing: Arc<Sharing>,
    output: Arc<Output>,
}

/// Bounds that tests make smaller.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    waiting: usize,
    held: usize,
}

impl Scan {
    /// Begin. An error is about what the scan should begin with, which is missing or nothing to copy.
    pub fn start(tops: Vec<Top>, options: ScanOptions) -> Result<Scan, StoreError> {
        Scan::start_bounded(tops, options, Bounds { waiting: WAITING_MAX, held: HELD_MAX })
    }

    fn start_bounded(tops: Vec<Top>, options: ScanOptions, bounds: Bounds) -> Result<Scan, StoreError> {
        let known = tops.iter().map(examine).collect::<Result<Vec<Metadata>, _>>()?;
        let threads = if options.sorted { 1 } else { options.threads.clamp(1, THREADS_MAX) };
        let (sender, receiver) = sync_channel(BATCHES_MAX);
        let output = Arc::new(Output::new(sender, options.hard_links));
        let sharing = Arc::new(Sharing::new(threads));
        let mut scan =
            Scan { receiver: Some(receiver), threads: Vec::new(), sharing: sharing.clone(), output: output.clone() };
        let common = Arc::new(worker::Common { tops, known, options, bounds, sharing, output });
        for number in 0..threads {
            let worker = Worker::new(common.clone());
            // Those that were started end when the scan is dropped.
            let thread = std::thread::Builder::new()
                .name(format!("scan-{number}"))
                .spawn(move || worker.run(number == 0))
                .map_err(|error| StoreError::system("the scan", "a thread cannot be started", error))?;
            scan.threads.push(thread);
        }
        Ok(scan)
    }

    /// Give up if there is more, wait for the threads, and tell what came of it.
    pub fn finish(mut self) -> ScanSummary {
        let is_whole = self.end();
        let mut summary = self.output.summary();
        summary.is_complete = is_whole && self.sharing.has_ended();
        summary.waiting_max = self.sharing.waiting_max();
        summary
    }

    /// End the threads; whether none had failed.
    fn end(&mut self) -> bool {
        // All has come if every sender is gone and nothing is left. Otherwise this makes the threads' sends fail.
        drop(self.receiver.take());
        self.sharing.stop();
        let results: Vec<_> = self.threads.drain(..).map(JoinHandle::join).collect();
        results.iter().all(Result::is_ok)
    }
}

impl Iterator for Scan {
    type Item = Vec<Entry>;

    /// Waits for the next batch.
    fn next(&mut self) -> Option<Vec<Entry>> {
        self.receiver.as_ref()?.recv().ok()
    }
}

impl Drop for Scan {
    fn drop(&mut self) {
        self.end();
    }
}

/// Look at what a scan begins with.
fn examine(top: &Top) -> Result<Metadata, StoreError> {
    let known = top.root.metadata(&top.path)?;
    match unfit(known.kind) {
        Some(why) => Err(StoreError::unfit(&top.path.to_string(), why)),
        None => Ok(known),
    }
}

/// Why an entry of a kind cannot be copied, if it cannot.
fn unfit(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::File | Kind::Directory | Kind::Symlink => None,
        Kind::Fifo => Some("is a named pipe, which has no content to copy: it is left out"),
        Kind::Socket => Some("is a socket, which has no content to copy: it is left out"),
        Kind::CharDevice | Kind::BlockDevice => Some("is a device, which is not copied: it is left out"),
        Kind::Other => Some("is neither a file, a folder nor a link: it is left out"),
    }
}
