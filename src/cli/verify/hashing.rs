//! Hashing files below a root, with a live line on standard error when that is a terminal.

use std::fmt;
use std::fs::File;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::store::StoreError;
use crate::store::confined::{RelativePath, Root};
use crate::store::hashing::{Hashed, Work};

const TEMPLATE: &str = "{wide_bar} {pos}/{len} files · {msg}";
const REDRAWS_PER_S: u8 = 4;
/// The line is told anew after so many bytes, as a power of two.
const TELL_SHIFT: u32 = 24;

/// A file to be hashed.
pub(super) struct Job {
    /// Which of the caller's.
    pub(super) number: usize,
    /// Where it is.
    pub(super) path: RelativePath,
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

/// What hears of each file, from any thread.
type Note<'a> = &'a (dyn Fn(Job, Result<Hashed, StoreError>) + Sync);

/// The work of `store::hashing` on files below a root.
pub(super) struct Hashing<'a> {
    root: &'a Root,
    note: Note<'a>,
    bar: ProgressBar,
    bytes: AtomicU64,
}

impl<'a> Hashing<'a> {
    /// Of so many files. `shown` false keeps the line away.
    pub(super) fn new(root: &'a Root, files: usize, shown: bool, note: Note<'a>) -> Hashing<'a> {
        let target = match shown && std::io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_S),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(files as u64), target);
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style);
        }
        Hashing { root, note, bar, bytes: AtomicU64::new(0) }
    }

    /// Take the line away.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

impl Work for Hashing<'_> {
    type Job = Job;

    fn open(&self, job: &Job) -> Result<File, StoreError> {
        self.root.open_read(&job.path)
    }

    fn tell(&self, bytes: u64) {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if (before + bytes) >> TELL_SHIFT != before >> TELL_SHIFT {
            self.bar.set_message(format!("{:.1} GB", (before + bytes) as f64 / 1e9));
        }
    }

    fn done(&self, job: Job, hashed: Result<Hashed, StoreError>) {
        // A line that is printed meanwhile must not end up in ours.
        self.bar.suspend(|| (self.note)(job, hashed));
        self.bar.inc(1);
    }
}
