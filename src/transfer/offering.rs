//! The scan of a source: one origin after the other, entries handed to the state machine as fast as it takes them.

use std::sync::{Arc, Mutex, PoisonError};

use super::compressing::Worth;
use super::origin::{Origin, Origins};
use super::source::{Offer, Offered, Shared, SourceFile};
use super::stages::Laps;
use super::tally::Settled;
use crate::proto::copy::options::{CopyOptions, Purpose, Selection};
use crate::proto::copy::report::{PassedOver, Stage};
use crate::proto::manifest::{Entry, EntryKind};
use crate::store::StoreError;
use crate::store::confined::RelativePath;
use crate::store::filter::{Filter, FilterRules};
use crate::store::scan::{Scan, ScanOptions, Top};

/// What can be wrong with the options is found before anything runs.
pub(super) fn prepare(origins: &mut Origins, options: &CopyOptions) -> Result<ScanOptions, StoreError> {
    if origins.found.is_empty() {
        let nothing = || StoreError::Unfit { name: "the source".to_string(), why: "nothing of it is there" };
        return Err(origins.missing.drain(..).next().unwrap_or_else(nothing));
    }
    let filter = filter(&options.selection)?;
    Ok(ScanOptions {
        filter,
        owner: options.owner,
        xattrs: options.xattrs,
        hard_links: options.hard_links,
        depth_max: (options.purpose == Purpose::List).then_some(1),
        ..ScanOptions::default()
    })
}

/// The rules of a selection, ready for use.
pub(super) fn filter(selection: &Selection) -> Result<Filter, StoreError> {
    let rejected = |why: String| StoreError::Filter { why };
    let kinds = selection.kinds.iter().map(|kind| kind.parse()).collect::<Result<Vec<_>, _>>();
    let rules = FilterRules {
        include: selection.include.clone(),
        exclude: selection.exclude.clone(),
        kinds: kinds.map_err(|error: crate::store::media::UnknownKind| rejected(error.to_string()))?,
        newer: selection.newer,
        max_size: selection.max_size,
        min_size: selection.min_size,
    };
    Filter::new(rules).map_err(|error| rejected(error.to_string()))
}

/// Scan all origins; the thread's whole life.
pub(super) fn run(shared: &Shared, origins: Origins, options: ScanOptions) {
    let mut is_whole = origins.missing.is_empty();
    for error in &origins.missing {
        let (path, why) = (error.name().as_bytes().to_vec(), error.reason());
        shared.lock().pass_over(PassedOver { path, why, is_failure: true });
    }
    for origin in origins.found {
        is_whole &= scan(shared, &Arc::new(origin), &options);
    }
    let mut state = shared.lock();
    if !state.is_stopped {
        state.sender.handle_scan_end(is_whole);
    }
    drop(state);
    shared.bell.ring();
}

/// Scan one; whether nothing of it was missed.
fn scan(shared: &Shared, origin: &Arc<Origin>, options: &ScanOptions) -> bool {
    let top = Top { root: origin.root.clone(), path: origin.path.clone(), at: origin.at.clone() };
    let failed = |why| PassedOver { path: origin.at.as_bytes().to_vec(), why, is_failure: true };
    let mut laps = Laps::start(&shared.stages);
    let mut scan = match Scan::start(vec![top], options.clone()) {
        Ok(scan) => scan,
        Err(error) => {
            shared.lock().pass_over(failed(error.reason()));
            return false;
        }
    };
    let first = shared.lock().sender.offered();
    for batch in scan.by_ref() {
        laps.lap(Stage::Scan);
        if !offer(shared, origin, first, batch) {
            return false;
        }
        shared.bell.ring();
        laps.lap(Stage::AwaitWork);
    }
    let summary = scan.finish();
    let mut state = shared.lock();
    for skipped in summary.skipped {
        state.pass_over(PassedOver { path: skipped.path, why: skipped.why, is_failure: skipped.is_failure });
    }
    if !summary.is_complete {
        state.pass_over(failed("the scan did not come to its end".to_string()));
    }
    // What is left out on purpose, such as a socket, is not missed.
    summary.is_complete && summary.failed_count == 0
}

/// Hand entries over as there is room; `false` when the copy is over.
fn offer(shared: &Shared, origin: &Arc<Origin>, first: u64, batch: Vec<Entry>) -> bool {
    let mut state = shared.lock();
    for mut entry in batch {
        while !state.sender.wants_entries() && !state.is_stopped {
            shared.bell.ring();
            state = shared.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.is_stopped {
            return false;
        }
        if let EntryKind::HardLink { to, .. } = &mut entry.kind {
            *to += first;
        }
        let about = Settled::of(&entry);
        let content = match entry.kind {
            EntryKind::File { is_sparse, .. } => {
                let modified = (entry.attributes.modified_s, entry.attributes.modified_ns);
                Offer::Found { origin: origin.clone(), modified, is_sparse }
            }
            _ => Offer::Nothing,
        };
        state.tally.add_found(&about);
        let id = state.sender.handle_entry(entry);
        state.open.insert(id, Offered { about, content });
    }
    true
}

impl Offered {
    /// Where its content is read; nothing for what has none.
    pub(super) fn file(&mut self) -> Option<Arc<SourceFile>> {
        let (origin, modified, is_sparse) = match &self.content {
            Offer::Nothing => return None,
            Offer::Read(file) => return Some(file.clone()),
            Offer::Found { origin, modified, is_sparse } => (origin, *modified, *is_sparse),
        };
        let path = path_in_root(origin, &self.about.path)?;
        let (root, len, worth, open) = (origin.root.clone(), self.about.len, Worth::default(), Mutex::default());
        let file = Arc::new(SourceFile { root, path, len, modified, is_sparse, worth, open });
        self.content = Offer::Read(file.clone());
        Some(file)
    }
}

fn path_in_root(origin: &Origin, entry: &[u8]) -> Option<RelativePath> {
    let below = entry.strip_prefix(origin.at.as_bytes())?;
    let below = below.strip_prefix(b"/").unwrap_or(below);
    if origin.path.is_root() {
        // Only a root that is a file has content itself.
        return if below.is_empty() { Some(RelativePath::root()) } else { RelativePath::parse(below).ok() };
    }
    if below.is_empty() {
        return Some(origin.path.clone());
    }
    RelativePath::parse(&[origin.path.as_bytes(), b"/", below].concat()).ok()
}
