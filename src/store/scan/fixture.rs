//! What the tests of the scan share: a tree to scan, and a naive walk to compare with.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use super::{Bounds, Scan, ScanOptions, ScanSummary, Top};
use crate::proto::manifest::{Entry, EntryKind};
use crate::store::confined::Root;

/// A folder in memory, if there is such a place: these tests make many files.
pub(super) struct Tree {
    dir: TempDir,
}

impl Tree {
    pub(super) fn new() -> Tree {
        Tree { dir: tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap() }
    }

    pub(super) fn at(&self, path: impl AsRef<[u8]>) -> PathBuf {
        self.dir.path().join(OsStr::from_bytes(path.as_ref()))
    }

    /// Make a file, and the folders above it.
    pub(super) fn file(&self, path: impl AsRef<[u8]>, content: &[u8]) {
        let at = self.at(path);
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        std::fs::write(at, content).unwrap();
    }

    pub(super) fn folder(&self, path: impl AsRef<[u8]>) {
        std::fs::create_dir_all(self.at(path)).unwrap();
    }

    pub(super) fn top(&self) -> Top {
        Top::whole(Arc::new(Root::open(self.dir.path()).unwrap()))
    }

    pub(super) fn scan(&self, options: ScanOptions) -> (Vec<Entry>, ScanSummary) {
        collect(Scan::start(vec![self.top()], options).unwrap())
    }

    pub(super) fn scan_bounded(&self, options: ScanOptions, waiting: usize, held: usize) -> (Vec<Entry>, ScanSummary) {
        collect(Scan::start_bounded(vec![self.top()], options, Bounds { waiting, held }).unwrap())
    }

    /// Paths and kinds by the simplest means there are.
    pub(super) fn walk(&self) -> BTreeMap<Vec<u8>, EntryKind> {
        let mut found = BTreeMap::from([(Vec::new(), EntryKind::Folder)]);
        walk(self.dir.path(), b"", &mut found);
        found
    }
}

fn walk(folder: &Path, prefix: &[u8], found: &mut BTreeMap<Vec<u8>, EntryKind>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let path = [prefix, entry.file_name().as_bytes()].concat();
        let known = entry.path().symlink_metadata().unwrap();
        let kind = if known.is_dir() {
            walk(&entry.path(), &[&path, &b"/"[..]].concat(), found);
            EntryKind::Folder
        } else if known.is_symlink() {
            EntryKind::Symlink {
                target: std::fs::read_link(entry.path()).unwrap().into_os_string().into_encoded_bytes(),
            }
        } else if known.is_file() {
            EntryKind::File { len: known.len(), is_sparse: known.blocks() * 512 < known.len() }
        } else {
            continue;
        };
        found.insert(path, kind);
    }
}

/// All entries and the summary, with what holds for every scan checked.
pub(super) fn collect(mut scan: Scan) -> (Vec<Entry>, ScanSummary) {
    let mut entries = Vec::new();
    for batch in scan.by_ref() {
        assert!(!batch.is_empty() && batch.len() <= super::BATCH_ENTRIES_MAX);
        entries.extend(batch);
    }
    let summary = scan.finish();
    assert!(summary.is_complete);
    check(&entries, &summary);
    (entries, summary)
}

fn check(entries: &[Entry], summary: &ScanSummary) {
    let mut folders = std::collections::HashSet::new();
    for (id, entry) in entries.iter().enumerate() {
        assert_eq!(entry.id, id as u64);
        if let Some(at) = entry.path.iter().rposition(|byte| *byte == b'/') {
            assert!(folders.contains(&entry.path[..at]), "{} before its folder", entry.path.escape_ascii());
        }
        match entry.kind {
            EntryKind::Folder => assert!(folders.insert(&entry.path[..])),
            EntryKind::HardLink { to, ref path } => {
                let first = &entries[to as usize];
                assert!(to < entry.id && first.path == *path && matches!(first.kind, EntryKind::File { .. }));
            }
            _ => {}
        }
    }
    let count = |is: fn(&EntryKind) -> bool| entries.iter().filter(|entry| is(&entry.kind)).count() as u64;
    assert_eq!(summary.entries, entries.len() as u64);
    assert_eq!(summary.files, count(|kind| matches!(kind, EntryKind::File { .. })));
    assert_eq!(summary.folders, count(|kind| matches!(kind, EntryKind::Folder)));
    assert_eq!(summary.links, count(|kind| matches!(kind, EntryKind::Symlink { .. })));
    assert_eq!(summary.hard_links, count(|kind| matches!(kind, EntryKind::HardLink { .. })));
    assert_eq!(summary.bytes, entries.iter().map(Entry::bytes).sum::<u64>());
}

pub(super) fn by_path(entries: Vec<Entry>) -> BTreeMap<Vec<u8>, EntryKind> {
    let count = entries.len();
    let found: BTreeMap<_, _> = entries.into_iter().map(|entry| (entry.path, entry.kind)).collect();
    assert_eq!(found.len(), count, "a path twice");
    found
}

pub(super) fn with_threads(threads: usize) -> ScanOptions {
    ScanOptions { threads, ..ScanOptions::default() }
}
