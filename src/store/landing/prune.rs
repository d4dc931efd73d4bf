//! Removing what the source does not have. No link is followed, and nothing outside the copy's own names is looked at.

use super::Landing;
use crate::store::StoreError;
use crate::store::confined::{Kind, Links, RelativePath};
use crate::store::filter::{Filter, Verdict};
use crate::store::journal::Storage;

/// Most failures that are told.
const FAILED_MAX: usize = 1000;

/// What was removed.
#[derive(Debug, Default)]
pub struct Pruned {
    /// Files, links and folders.
    pub removed: u64,
    /// What could not be, and why.
    pub failed: Vec<(Vec<u8>, StoreError)>,
}

impl<S: Storage> Landing<S> {
    /// Remove from the folders of a copy what it does not keep. What the filter hides stays, as it was hidden in the
    /// source, too; so does a folder in which something stays. A rehearsal only counts.
    pub fn prune(
        &self,
        tops: &[RelativePath],
        filter: &Filter,
        keeps: &dyn Fn(&[u8]) -> bool,
        is_rehearsal: bool,
    ) -> Pruned {
        let mut pruning = Pruning { landing: self, filter, keeps, is_rehearsal, top: 0, pruned: Pruned::default() };
        for top in tops {
            let is_folder = top.is_root()
                || self
                    .disk
                    .root
                    .metadata(top)
                    .is_ok_and(|found| found.kind == Kind::Directory && keeps(top.as_bytes()));
            if is_folder {
                pruning.top = top.as_bytes().len();
                pruning.folder(top, true);
            }
        }
        pruning.pruned
    }
}

struct Pruning<'a, S: Storage> {
    landing: &'a Landing<S>,
    filter: &'a Filter,
    keeps: &'a dyn Fn(&[u8]) -> bool,
    is_rehearsal: bool,
    /// Bytes of the path of the top that is looked through: a filter does not see them.
    top: usize,
    pruned: Pruned,
}

impl<S: Storage> Pruning<'_, S> {
    /// Look through a folder; whether anything stays in it.
    fn folder(&mut self, folder: &RelativePath, is_kept: bool) -> bool {
        let entries = match self.landing.disk.root.read_dir(folder, Links::Refused) {
            // The names first: removing while listing may skip some.
            Ok(entries) => entries.collect::<Result<Vec<_>, _>>(),
            Err(error) => Err(error),
        };
        let entries = match entries {
            Ok(entries) => entries,
            Err(error) => {
                self.fail(folder, error);
                return true;
            }
        };
        let mut stays = false;
        for found in entries {
            let Ok(path) = folder.join(&found.name) else {
                stays = true;
                continue;
            };
            stays |= match found.kind {
                Kind::Directory => self.look_at_folder(&path, is_kept),
                kind => self.look_at(&path, kind, is_kept),
            };
        }
        stays
    }

    /// A folder in the folder; whether it stays.
    fn look_at_folder(&mut self, path: &RelativePath, is_kept: bool) -> bool {
        let is_kept = is_kept && (self.keeps)(path.as_bytes());
        if !is_kept && !self.is_wanted(path) {
            return true;
        }
        let stays = self.folder(path, is_kept);
        if is_kept || stays {
            return true;
        }
        let removed = if self.is_rehearsal { Ok(()) } else { self.landing.disk.root.remove_dir(path) };
        self.note(path, removed)
    }

    /// Anything else; whether it stays.
    fn look_at(&mut self, path: &RelativePath, kind: Kind, is_kept: bool) -> bool {
        let is_ours = path.names().last().is_some_and(|name| name.starts_with(super::PREFIX.as_bytes()));
        if is_ours || (is_kept && (self.keeps)(path.as_bytes())) || !self.is_wanted_file(path, kind) {
            return true;
        }
        let removed = if self.is_rehearsal { Ok(()) } else { self.landing.disk.remove(path) };
        self.note(path, removed)
    }

    /// The path below the top.
    fn judged<'b>(&self, path: &'b RelativePath) -> &'b [u8] {
        let below = path.as_bytes().get(self.top..).unwrap_or_default();
        below.strip_prefix(b"/").unwrap_or(below)
    }

    fn is_wanted(&self, path: &RelativePath) -> bool {
        self.filter.enters(self.judged(path), crate::store::filter::Within::default()).is_some()
    }

    fn is_wanted_file(&self, path: &RelativePath, kind: Kind) -> bool {
        match (kind, self.landing.disk.root.metadata(path)) {
            (Kind::File, Ok(found)) => {
                let first = |into: &mut [u8; crate::store::media::SNIFF_BYTES]| {
                    let file = self.landing.disk.root.open_plain(path).ok();
                    file.and_then(|file| std::os::unix::fs::FileExt::read_at(&file, into, 0).ok()).unwrap_or(0)
                };
                self.filter.matches(self.judged(path), &found, first) == Verdict::Taken
            }
            (_, Ok(found)) => self.filter.matches(self.judged(path), &found, |_| 0) == Verdict::Taken,
            (_, Err(_)) => false,
        }
    }

    fn note(&mut self, path: &RelativePath, removed: Result<(), StoreError>) -> bool {
        match removed {
            Ok(()) => {
                self.pruned.removed += 1;
                false
            }
            Err(error) => {
                self.fail(path, error);
                true
            }
        }
    }

    fn fail(&mut self, path: &RelativePath, error: StoreError) {
        if self.pruned.failed.len() < FAILED_MAX {
            self.pruned.failed.push((path.as_bytes().to_vec(), error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::filter::FilterRules;
    use crate::store::landing::tests::{OPTIONS, land};

    fn tree(dir: &std::path::Path) {
        for folder in ["to/a/keep/deep", "to/a/gone/deep", "to/b"] {
            std::fs::create_dir_all(dir.join(folder)).unwrap();
        }
        for file in ["to/a/keep/x", "to/a/keep/y.tmp", "to/a/keep/deep/old", "to/a/gone/deep/z", "to/b/other"] {
            std::fs::write(dir.join(file), "x").unwrap();
        }
        std::os::unix::fs::symlink("../../b", dir.join("to/a/keep/link")).unwrap();
    }

    #[test]
    fn what_the_source_lacks_goes_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let landing = land(dir.path(), OPTIONS, None);
        tree(dir.path());
        let keeps = |path: &[u8]| matches!(path, b"a" | b"a/keep" | b"a/keep/x" | b"a/keep/deep");
        let rules = FilterRules { exclude: vec!["*.tmp".to_string()], ..FilterRules::default() };
        let filter = Filter::new(rules).unwrap();
        let tops = [RelativePath::parse(b"a").unwrap()];
        let rehearsed = landing.prune(&tops, &filter, &keeps, true);
        assert!(dir.path().join("to/a/gone/deep/z").exists());
        let pruned = landing.prune(&tops, &filter, &keeps, false);
        // old, link, z, gone/deep and gone.
        assert_eq!((rehearsed.removed, pruned.removed, pruned.failed.len()), (5, 5, 0));
        let exists = |path: &str| dir.path().join("to").join(path).symlink_metadata().is_ok();
        for kept in ["a/keep/x", "a/keep/y.tmp", "a/keep/deep", "b/other"] {
            assert!(exists(kept), "{kept}");
        }
        for gone in ["a/gone", "a/keep/deep/old", "a/keep/link"] {
            assert!(!exists(gone), "{gone}");
        }
    }
}
