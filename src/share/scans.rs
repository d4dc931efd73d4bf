//! What virus scans said of the files that came in, for listings and pages. Bounded; the oldest are forgotten.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::listing::Row;
use crate::store::confined::{Metadata, RelativePath};

/// Most files whose state is known.
pub const FILES_MAX: usize = 65_536;
/// Most that are known to be kept back.
pub const HELD_MAX: usize = 1024;

/// How a file stands to the virus scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanState {
    /// It is being looked at, and not to be seen yet.
    Pending,
    /// Nothing was found in all of it.
    Clean,
    /// Something was found; it is kept where nobody is served from.
    Infected,
    /// It could not be looked at.
    NotScanned,
}

impl ScanState {
    /// As pages and programs are told.
    pub fn name(self) -> &'static str {
        match self {
            ScanState::Pending => "pending",
            ScanState::Clean => "clean",
            ScanState::Infected => "infected",
            ScanState::NotScanned => "not scanned",
        }
    }
}

/// A file that came, and is not to be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// What it would be called.
    pub path: RelativePath,
    /// Why it is not there.
    pub state: ScanState,
    /// What was found, or why it was not looked at.
    pub why: String,
}

/// By what a file is known to be the one that was looked at.
type Stamp = (u64, i64, u32);

#[derive(Debug, Default)]
struct Known {
    files: HashMap<Vec<u8>, (Stamp, ScanState)>,
    oldest: VecDeque<Vec<u8>>,
    held: VecDeque<Held>,
}

/// What is known of all files.
#[derive(Debug, Default)]
pub struct Scans(Mutex<Known>);

impl Scans {
    /// A file is there, as it was looked at or not.
    pub fn landed(&self, path: &RelativePath, metadata: &Metadata, state: ScanState) {
        let mut known = self.lock();
        let stamp = (metadata.len, metadata.modified_s, metadata.modified_ns);
        let key = path.as_bytes().to_vec();
        if known.files.insert(key.clone(), (stamp, state)).is_none() {
            known.oldest.push_back(key);
        }
        while known.oldest.len() > FILES_MAX
            && let Some(oldest) = known.oldest.pop_front()
        {
            known.files.remove(&oldest);
        }
    }

    /// A file is kept back.
    pub fn hold(&self, held: Held) {
        let mut known = self.lock();
        known.held.push_back(held);
        if known.held.len() > HELD_MAX {
            known.held.pop_front();
        }
    }

    /// What was being looked at is decided.
    pub fn decided(&self, path: &RelativePath) {
        let mut known = self.lock();
        let at = known.held.iter().position(|held| held.state == ScanState::Pending && held.path == *path);
        at.map(|at| known.held.remove(at));
    }

    /// What is known of a row of a folder. A file that is not the one that was looked at any more has no state.
    pub fn of(&self, folder: &RelativePath, row: &Row) -> Option<ScanState> {
        let known = self.lock();
        if known.files.is_empty() {
            return None;
        }
        let path = folder.join(&row.name).ok()?;
        let (stamp, state) = known.files.get(path.as_bytes())?;
        (*stamp == (row.bytes, row.modified_s, row.modified_ns)).then_some(*state)
    }

    /// What is kept back of a folder.
    pub fn held(&self, folder: &RelativePath) -> Vec<Held> {
        let is_there = |held: &&Held| held.path.parent_bytes() == Some(folder.as_bytes());
        self.lock().held.iter().filter(is_there).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
