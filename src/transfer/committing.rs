//! What a storing thread does with files that are whole: names, attributes, and in the end folders and leftovers.

use std::sync::Arc;

use super::sink::{Commit, Content, Held, KEYS_MAX, Shared};
use super::stages::Laps;
use crate::proto::copy::options::Purpose;
use crate::proto::copy::report::Stage;
use crate::proto::copy::{Ending, ITEMS_MAX};
use crate::proto::manifest::{Entry, EntryId, EntryKind};
use crate::proto::verify::{BlockHash, FileHash};
use crate::store::StoreError;
use crate::store::hashing::FileHasher;
use crate::store::landing::{LandingError, Ready};

const EXISTS: &str = "exists already";
const NOT_BEGUN: &str = "is said to be whole, and nothing of it is here: start the copy again";
const TOO_MANY_PATHS: &str =
    "nothing was removed, as these are more paths than a copy can remember: copy the tree in several parts";
const NOTHING_REMOVED: &str = "nothing was removed, as not everything could be read or copied: see to that first";

/// Bring files to their names.
pub(super) fn commit(shared: &Shared, commits: Vec<Commit>, laps: &mut Laps<'_>) {
    let (mut ready, mut hashes, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    let (mut later, mut refreshed) = (Vec::new(), Vec::new());
    for commit in commits {
        if commit.is_refresh {
            refreshed.push((commit.id, describe(shared, commit.id)));
            continue;
        }
        match whole(shared, &commit) {
            Whole::Ready(file) => {
                hashes.push(commit.hash);
                ready.push(*file);
            }
            Whole::Busy => later.push(commit),
            Whole::Failed(why) => failed.push((commit.id, why)),
            Whole::Gone => {}
        }
    }
    if shared.options.reread {
        ready = reread(shared, ready, &hashes, &mut failed);
        laps.lap(Stage::Verify);
    }
    let ids: Vec<EntryId> = ready.iter().map(Ready::id).collect();
    let done = shared.landing.commit(ready);
    laps.lap(Stage::Commit);
    shared.done(|state| {
        match done {
            Ok(done) => {
                done.landed.into_iter().for_each(|id| state.receiver.handle_committed(id));
                done.skipped.into_iter().for_each(|id| state.receiver.handle_skipped(id, EXISTS.to_string()));
                done.failed.into_iter().for_each(|(id, error)| state.receiver.handle_failed(id, error.reason()));
            }
            Err(error) => {
                ids.into_iter().for_each(|id| state.receiver.handle_failed(id, error.reason()));
            }
        }
        failed.into_iter().for_each(|(id, why)| state.receiver.handle_failed(id, why));
        for (id, described) in refreshed {
            match described {
                Ok(()) => state.receiver.handle_committed(id),
                Err(why) => state.receiver.handle_failed(id, why),
            }
        }
        state.commit_later(later);
        state.end_committing();
    });
}

/// Read back what is stored, and keep what is as it should be.
fn reread(
    shared: &Shared,
    batch: Vec<Ready>,
    hashes: &[Option<FileHash>],
    failed: &mut Vec<(EntryId, String)>,
) -> Vec<Ready> {
    let mut right = Vec::with_capacity(batch.len());
    let read = match shared.landing.reread(&batch) {
        Ok(read) => read,
        Err(error) => {
            for ready in batch {
                failed.push((ready.id(), error.to_string()));
                let _ = shared.landing.abandon_ready(ready);
            }
            return right;
        }
    };
    for ((ready, read), hash) in batch.into_iter().zip(read).zip(hashes) {
        let why = match read {
            Ok(read) if hash.is_none_or(|hash| hash == read) => {
                right.push(ready);
                continue;
            }
            Ok(_) => "what was read back from the device is not what was written: see to the device".to_string(),
            Err(error) => error.reason(),
        };
        failed.push((ready.id(), why));
        let _ = shared.landing.abandon_ready(ready);
    }
    right
}

/// Give a file that is there its attributes.
fn describe(shared: &Shared, id: EntryId) -> Result<(), String> {
    let entry = match shared.lock().open.get(&id).map(|held| &held.content) {
        Some(Content::None(entry)) => entry.clone(),
        _ => return Ok(()),
    };
    shared.landing.describe(&entry).map_err(|error| error.reason())
}

enum Whole {
    Ready(Box<Ready>),
    /// Somebody still looks at it.
    Busy,
    Failed(String),
    /// It was given up meanwhile.
    Gone,
}

/// Take a file that is whole out of what is open.
fn whole(shared: &Shared, commit: &Commit) -> Whole {
    let (content, incoming) = {
        let mut state = shared.lock();
        let Some(held) = state.open.get_mut(&commit.id) else { return Whole::Gone };
        let mut incoming = None;
        if let Content::Arriving(arriving) = &held.content {
            let mut arriving = arriving.lock();
            // Looked at and taken in one go: whoever came between would have it lost.
            match arriving.incoming.take().map(Arc::try_unwrap) {
                Some(Err(busy)) => {
                    arriving.incoming = Some(busy);
                    return Whole::Busy;
                }
                taken => incoming = taken.and_then(Result::ok),
            }
        }
        let nothing = Content::None(Arc::new(super::sink::empty_entry()));
        (std::mem::replace(&mut held.content, nothing), incoming)
    };
    let hash = commit.hash.unwrap_or(FileHash([0; 32]));
    match content {
        Content::Ready(ready, _) => Whole::Ready(ready),
        Content::Arriving(_) => match incoming {
            Some(incoming) => finished(shared.landing.finish(incoming, hash).map_err(LandingError::from)),
            None => Whole::Failed(NOT_BEGUN.to_string()),
        },
        // Every block of it was stored by an earlier run.
        Content::None(entry) if entry.bytes() > 0 => {
            let begun = shared.landing.begin(&entry, shared.cut.block_bytes(entry.bytes()));
            finished(begun.and_then(|incoming| Ok(shared.landing.finish(incoming, hash)?)))
        }
        Content::None(_) | Content::Landed => Whole::Gone,
    }
}

fn finished(ready: Result<Ready, LandingError>) -> Whole {
    match ready {
        Ok(ready) => Whole::Ready(Box::new(ready)),
        Err(error) => Whole::Failed(error.reason()),
    }
}

/// Drop what was stored of a file.
pub(super) fn abandon(shared: &Shared, held: Held) {
    let mut later = None;
    match held.content {
        Content::Ready(ready, _) => drop(shared.landing.abandon_ready(*ready)),
        Content::Arriving(arriving) => {
            let incoming = arriving.lock().incoming.take();
            match incoming.map(Arc::try_unwrap) {
                Some(Ok(incoming)) => drop(shared.landing.abandon(incoming)),
                // Somebody still writes it, and is about to be done.
                Some(Err(incoming)) => {
                    arriving.lock().incoming = Some(incoming);
                    later = Some(Held { about: held.about, content: Content::Arriving(arriving), is_storing: false });
                }
                None => {}
            }
        }
        Content::None(_) | Content::Landed => {}
    }
    shared.done(|state| {
        if let Some(held) = later {
            state.abandon_later(held);
        }
    });
}

/// Remove what an earlier run of the same copy left behind.
pub(super) fn sweep(shared: &Shared) {
    if let Err(error) = shared.landing.sweep(&shared.destination.tops) {
        tracing::warn!(%error, "what an earlier run left behind cannot be looked for");
    }
    shared.done(|state| state.end_deciding());
}

/// Everything is settled: what the source lacks goes, folders get their times, and the journal goes.
pub(super) fn finish(shared: &Shared, is_whole: bool) {
    let folders = std::mem::take(&mut *super::deciding::folders(shared));
    // Not those of the tally: the last that failed are in it only when control has said so.
    let is_all_here = is_whole && shared.lock().receiver.failed() == 0;
    let mut ending = Ending::default();
    if shared.options.delete && shared.options.purpose != Purpose::List {
        match is_all_here {
            true => prune(shared, &mut ending),
            false => add(&mut ending, Vec::new(), NOTHING_REMOVED.to_string()),
        }
    }
    let failed = &mut |entry: Entry, error: StoreError| add(&mut ending, entry.path, error.reason());
    if let Err(error) = shared.landing.finish_folders(folders.into_entries(), failed) {
        add(&mut ending, Vec::new(), error.to_string());
    }
    let closed = if is_all_here { shared.landing.complete() } else { shared.landing.complete_in_part() };
    if let Err(error) = closed {
        add(&mut ending, Vec::new(), error.to_string());
    }
    shared.done(|state| {
        state.tally.add_ending(&ending);
        state.ending = ending.clone();
        state.receiver.handle_finished(ending);
    });
}

fn add(ending: &mut Ending, path: Vec<u8>, why: String) {
    ending.failed_count += 1;
    if ending.failed.len() < ITEMS_MAX {
        ending.failed.push((path, why));
    }
}

fn prune(shared: &Shared, ending: &mut Ending) {
    let filter = match super::offering::filter(&shared.options.selection) {
        Ok(filter) => filter,
        Err(error) => return add(ending, Vec::new(), error.to_string()),
    };
    let seen = std::mem::take(&mut shared.lock().seen);
    if seen.len() > KEYS_MAX {
        return add(ending, Vec::new(), TOO_MANY_PATHS.to_string());
    }
    let keeps = |path: &[u8]| seen.contains(&seen_key(path, shared.folded.is_some()));
    let pruned =
        shared.landing.prune(&shared.destination.tops, &filter, &keeps, super::sink::is_rehearsal(&shared.options));
    ending.deleted = pruned.removed;
    pruned.failed.into_iter().for_each(|(path, error)| add(ending, path, error.reason()));
}

/// What is remembered of a path of the source where what it lacks is removed. Where case is ignored a file may be here
/// under a name in another case than the one it came by, and has to stay.
pub(super) fn seen_key(path: &[u8], folds_case: bool) -> u64 {
    if folds_case { path_key(String::from_utf8_lossy(path).to_lowercase().as_bytes()) } else { path_key(path) }
}

/// A path in short: two that share it only make something stay.
pub(super) fn path_key(path: &[u8]) -> u64 {
    let hash = blake3::hash(path);
    hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// What the blocks of the file hash to that is there, if it may be the one that is to come.
pub(super) fn hashes_of(shared: &Shared, entry: &Entry) -> Option<Vec<BlockHash>> {
    let EntryKind::File { len, .. } = entry.kind else { return None };
    let path = crate::store::confined::RelativePath::parse(&entry.path).ok()?;
    let found = shared.destination.root.metadata(&path).ok()?;
    if found.kind != crate::store::confined::Kind::File || found.len != len || len == 0 {
        return None;
    }
    // One that could not be given its attributes has to come again.
    if !shared.landing.can_describe(entry, &found) {
        return None;
    }
    let file = shared.destination.root.open_plain(&path).ok()?;
    let layout = shared.cut.layout(len).ok()?;
    let mut hasher = FileHasher::default();
    let name = path.to_string();
    (0..layout.blocks()).map(|block| hasher.block(&file, &name, (&layout, block), &|_| {}).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_here_in_another_case_stays_where_case_is_ignored() {
        assert_eq!(seen_key(b"dcim/X.jpg", true), seen_key(b"DCIM/x.JPG", true));
        assert_ne!(seen_key(b"dcim/X.jpg", false), seen_key(b"DCIM/x.JPG", false));
        assert_ne!(seen_key(b"dcim/x.jpg", true), seen_key(b"dcim/y.jpg", true));
    }
}
