//! What became of the entries of a copy. Both ends count the same.

use serde::{Deserialize, Serialize};

use crate::proto::copy::digest::CopyDigest;
use crate::proto::copy::report::PassedOver;
use crate::proto::copy::{Ending, Settlement};
use crate::proto::manifest::{Entry, EntryKind};

/// Most failures and skips that are named.
pub const NAMED_MAX: usize = 10_000;

/// Is told of every entry that is settled, while the copy goes on and on its threads.
pub trait Observer: Send {
    /// It was settled so.
    fn settled(&mut self, entry: &Settled, settlement: &Settlement);
}

/// What is remembered of an entry until it is settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Its path within the copy.
    pub path: Vec<u8>,
    /// What it is, in short.
    pub kind: Sort,
    /// Bytes of its content.
    pub len: u64,
    /// Of a further name of a file: the first one, within the copy.
    pub first_name: Option<Box<[u8]>>,
}

/// What an entry is, without what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link, or a further name of a file.
    Link,
}

impl Settled {
    /// What has to be remembered of it.
    pub fn of(entry: &Entry) -> Settled {
        let kind = match entry.kind {
            EntryKind::File { .. } => Sort::File,
            EntryKind::Folder => Sort::Folder,
            EntryKind::Symlink { .. } | EntryKind::HardLink { .. } => Sort::Link,
        };
        let first_name = match &entry.kind {
            EntryKind::HardLink { path, .. } => Some(path.as_slice().into()),
            _ => None,
        };
        Settled { path: entry.path.clone(), kind, len: entry.bytes(), first_name }
    }
}

/// A large file while its content moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnderWay {
    /// Its path within the copy.
    pub path: Vec<u8>,
    /// Bytes of its content.
    pub len: u64,
    /// Bytes of it that this session has moved.
    pub done: u64,
}

impl UnderWay {
    /// Smaller files are over before anybody has read their name.
    pub const BYTES_MIN: u64 = 64 << 20;

    /// The largest of them.
    pub(super) fn largest(found: impl Iterator<Item = UnderWay>, most: usize) -> Vec<UnderWay> {
        let mut found: Vec<UnderWay> = found.collect();
        found.sort_by(|one, other| other.len.cmp(&one.len).then_with(|| one.path.cmp(&other.path)));
        found.truncate(most);
        found
    }
}

/// Counts of one outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Count {
    /// Entries of all kinds.
    pub entries: u64,
    /// Regular files among them.
    pub files: u64,
    /// Bytes of these.
    pub bytes: u64,
}

impl Count {
    fn add(&mut self, entry: &Settled) {
        self.entries += 1;
        self.files += u64::from(entry.kind == Sort::File);
        // A peer says how long its files are.
        self.bytes = self.bytes.saturating_add(entry.len);
    }
}

/// So far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Offered.
    pub found: Count,
    /// There now.
    pub done: Count,
    /// There already.
    pub had: Count,
    /// Would be made.
    pub planned: Count,
    /// Left out on purpose.
    pub skipped: Count,
    /// Not made.
    pub failed: Count,
    /// Over the files that were proven.
    pub digest: CopyDigest,
    /// The first of those that failed, and why.
    pub failures: Vec<(Vec<u8>, String)>,
    /// The first of those that were skipped, and why.
    pub skips: Vec<(Vec<u8>, String)>,
}

impl Tally {
    /// An entry was offered.
    pub fn add_found(&mut self, entry: &Settled) {
        self.found.add(entry);
    }

    /// An entry was settled, which the source calls `path`: for both ends to come to the same digest.
    pub fn add(&mut self, entry: &Settled, path: &[u8], settlement: &Settlement) {
        match settlement {
            Settlement::Done(hash) => {
                self.done.add(entry);
                if let Some(hash) = hash {
                    self.digest.add(path, entry.len, hash);
                }
            }
            Settlement::Had => self.had.add(entry),
            Settlement::Planned => self.planned.add(entry),
            Settlement::Skipped(why) => {
                self.skipped.add(entry);
                name(&mut self.skips, &entry.path, why);
            }
            Settlement::Failed(why) => {
                self.failed.add(entry);
                name(&mut self.failures, &entry.path, why);
            }
        }
    }

    /// The source has something that did not come.
    pub fn add_passed_over(&mut self, passed: &PassedOver) {
        if passed.is_failure {
            self.add_failure(&passed.path, &format!("source: {}", passed.why));
        } else {
            self.skipped.entries += 1;
            name(&mut self.skips, &passed.path, &passed.why);
        }
    }

    /// The source has so much more that did not come than it names.
    pub fn add_unnamed(&mut self, named: &[PassedOver], count: u64) {
        // What failed is named first.
        let are_failures = named.iter().all(|passed| passed.is_failure);
        let counter = if are_failures { &mut self.failed } else { &mut self.skipped };
        counter.entries = counter.entries.saturating_add(count);
    }

    /// The receiver has said this at the end.
    pub fn add_ending(&mut self, ending: &Ending) {
        ending.failed.iter().for_each(|(path, why)| self.add_failure(path, why));
        let unnamed = ending.failed_count.saturating_sub(ending.failed.len() as u64);
        self.failed.entries = self.failed.entries.saturating_add(unnamed);
    }

    /// Something failed that is no entry, or after it was settled.
    pub fn add_failure(&mut self, path: &[u8], why: &str) {
        self.failed.entries = self.failed.entries.saturating_add(1);
        name(&mut self.failures, path, why);
    }
}

fn name(list: &mut Vec<(Vec<u8>, String)>, path: &[u8], why: &str) {
    if list.len() < NAMED_MAX {
        list.push((path.to_vec(), why.to_string()));
    }
}
