//! What a storing thread does about entries: looks at what is there, and makes what has no content.
//!
//! One thread at a time does this, in the order of the entries: a folder is made before what is in it is looked at.

use super::committing::{path_key, seen_key};
use super::folders::Folders;
use super::sink::{Content, KEYS_MAX, Shared, State, empty_entry, is_rehearsal};
use super::stages::Laps;
use crate::proto::copy::options::Purpose;
use crate::proto::copy::receiver::Decision;
use crate::proto::copy::report::Stage;
use crate::proto::manifest::{Entry, EntryId, EntryKind};
use crate::store::StoreError;
use crate::store::landing::{self, Ready};
use crate::text::printable;

use std::collections::HashSet;
use std::collections::hash_map::Entry as Slot;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

/// Most folders that are remembered as made; in others it is looked for what is there.
const MADE_MAX: usize = 1 << 17;
const EXISTS: &str = "exists already";
const TOO_MANY_NAMES: &str =
    "is one name more than a copy can compare on a filesystem that ignores case: copy the tree in several parts";
const TOO_MANY_FOLDERS: &str = "is one folder more than a copy can remember: copy the tree in several parts";

/// What came of looking at an entry.
struct Judged {
    id: EntryId,
    decision: Decision,
    ready: Option<Ready>,
}

/// Decide about entries.
pub(super) fn decide(shared: &Shared, entries: Vec<Arc<Entry>>, laps: &mut Laps<'_>) {
    let (mut judged, mut links) = (Vec::with_capacity(entries.len()), Vec::new());
    for entry in entries {
        if let (EntryKind::HardLink { .. }, false) = (&entry.kind, is_rehearsal(&shared.options)) {
            links.push(Entry::clone(&entry));
            continue;
        }
        let mut one = judge(shared, &entry);
        let is_there = entry.kind == EntryKind::Folder && matches!(one.decision, Decision::Have | Decision::Made);
        if is_there
            && !is_rehearsal(&shared.options)
            && let Err(error) = keep_folder(shared, Entry::clone(&entry))
        {
            one.decision = Decision::Fail(error.reason());
        }
        judged.push(one);
    }
    laps.lap(Stage::Decide);
    shared.done(|state| {
        settle(state, judged);
        state.add_links(links);
        state.end_deciding();
    });
}

/// Remember what a folder gets in the end; what it can have at once it gets now, so that little has to be remembered.
fn keep_folder(shared: &Shared, mut entry: Entry) -> Result<(), StoreError> {
    let begun = shared.landing.begin_folder(&mut entry);
    folders(shared).add(entry);
    begun
}

/// Make hard links whose file is settled.
pub(super) fn link(shared: &Shared, links: Vec<Entry>) {
    let judged: Vec<Judged> = links.iter().map(|entry| judge_link(shared, entry)).collect();
    shared.done(|state| {
        settle(state, judged);
        state.end_deciding();
    });
}

/// Where its file failed, what has that name is something else.
fn judge_link(shared: &Shared, entry: &Entry) -> Judged {
    match &entry.kind {
        EntryKind::HardLink { to, path } if shared.lock().receiver.may_have_failed(*to) => {
            let why = format!("is another name of {}, which could not be copied: see to that first", printable(path));
            Judged { id: entry.id, decision: Decision::Fail(why), ready: None }
        }
        _ => judge(shared, entry),
    }
}

fn settle(state: &mut State, judged: Vec<Judged>) {
    for Judged { id, decision, ready } in judged {
        if let (Some(ready), Some(held)) = (ready, state.open.get_mut(&id)) {
            held.content = Content::Ready(Box::new(ready), Box::new(empty_entry()));
        }
        state.receiver.handle_decision(id, decision);
    }
}

fn judge(shared: &Shared, entry: &Entry) -> Judged {
    let mut ready = None;
    let decision = match shared.options.purpose {
        Purpose::List => Decision::Planned,
        Purpose::DryRun => rehearsed(shared, entry),
        Purpose::Copy => decided(shared, entry, &mut ready),
    };
    Judged { id: entry.id, decision, ready }
}

fn rehearsed(shared: &Shared, entry: &Entry) -> Decision {
    match shared.landing.decide(entry) {
        landing::Decision::Have => Decision::Have,
        landing::Decision::Make | landing::Decision::Resume { .. } | landing::Decision::Describe => Decision::Planned,
        landing::Decision::Skip(why) => Decision::Skip(why.to_string()),
        landing::Decision::Fail(error) => Decision::Fail(error.reason()),
    }
}

fn decided(shared: &Shared, entry: &Entry, ready: &mut Option<Ready>) -> Decision {
    if entry.kind == EntryKind::Folder && !folders(shared).has_room(entry) {
        return Decision::Fail(TOO_MANY_FOLDERS.to_string());
    }
    if let Some(why) = collision(shared, entry) {
        return Decision::Fail(why);
    }
    if shared.options.checksum
        && let Some(ours) = super::committing::hashes_of(shared, entry)
    {
        return Decision::Compare { ours };
    }
    if is_in_new_folder(shared, entry) {
        return make(shared, entry, ready);
    }
    match shared.landing.decide(entry) {
        landing::Decision::Have => Decision::Have,
        landing::Decision::Describe => match shared.landing.describe(entry) {
            Ok(()) => Decision::Have,
            Err(error) => Decision::Fail(error.reason()),
        },
        landing::Decision::Make => make(shared, entry, ready),
        landing::Decision::Resume { block_bytes, blocks } => {
            let is_same = block_bytes == shared.cut.block_bytes(entry.bytes());
            let stored: Vec<_> = blocks
                .into_iter()
                .filter(|_| is_same)
                .filter_map(|(block, hash)| Some((u32::try_from(block).ok()?, hash)))
                .collect();
            let range = |block| shared.cut.block_range(entry.bytes(), block).map_or(0, |(_, len)| len);
            let bytes = stored.iter().map(|(block, _)| range(*block)).sum();
            shared.resumed_bytes.fetch_add(bytes, Ordering::Relaxed);
            Decision::Fill { stored }
        }
        landing::Decision::Skip(why) => Decision::Skip(why.to_string()),
        landing::Decision::Fail(error) => Decision::Fail(error.reason()),
    }
}

/// What is wrong with a name on a filesystem that ignores case: an entry that came before may have it.
fn collision(shared: &Shared, entry: &Entry) -> Option<String> {
    let folded = shared.folded.as_ref()?;
    let mut folded = folded.lock().unwrap_or_else(PoisonError::into_inner);
    let (count, own) = (folded.len(), path_key(&entry.path));
    match folded.entry(seen_key(&entry.path, true)) {
        Slot::Occupied(before) if *before.get() != own => {
            let other = printable(String::from_utf8_lossy(&entry.path).to_lowercase().as_bytes());
            Some(format!("is the same name as {other} on this filesystem, which ignores case: rename one of them"))
        }
        Slot::Occupied(_) => None,
        Slot::Vacant(_) if count >= KEYS_MAX => Some(TOO_MANY_NAMES.to_string()),
        Slot::Vacant(slot) => {
            slot.insert(own);
            None
        }
    }
}

/// Whether it lies in a folder that this copy made: then it is not there, and nobody has to look.
fn is_in_new_folder(shared: &Shared, entry: &Entry) -> bool {
    let Some(at) = entry.path.iter().rposition(|byte| *byte == b'/') else { return false };
    made(shared).contains(&entry.path[..at])
}

/// A folder was made.
fn remember(shared: &Shared, path: &[u8]) {
    let mut made = made(shared);
    if made.len() < MADE_MAX {
        made.insert(path.to_vec());
    }
}

fn made(shared: &Shared) -> MutexGuard<'_, HashSet<Vec<u8>>> {
    shared.made.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn folders(shared: &Shared) -> MutexGuard<'_, Folders> {
    shared.folders.lock().unwrap_or_else(PoisonError::into_inner)
}

fn make(shared: &Shared, entry: &Entry, ready: &mut Option<Ready>) -> Decision {
    let placed = |made: Result<bool, StoreError>| match made {
        Ok(true) => Decision::Made,
        Ok(false) => Decision::Skip(EXISTS.to_string()),
        Err(error) => Decision::Fail(error.reason()),
    };
    match &entry.kind {
        EntryKind::Folder => {
            let made = shared.landing.make_folder(entry);
            if let Ok(true) = made {
                remember(shared, &entry.path);
            }
            placed(made)
        }
        EntryKind::Symlink { .. } => placed(shared.landing.make_symlink(entry)),
        EntryKind::HardLink { path, .. } => {
            let first = Entry { path: path.clone(), ..entry.clone() };
            placed(shared.landing.make_hard_link(entry, &first))
        }
        EntryKind::File { len: 0, .. } => match shared.landing.store_small(entry, &[]) {
            Ok(whole) => {
                *ready = Some(whole);
                Decision::Commit
            }
            Err(error) => Decision::Fail(error.reason()),
        },
        EntryKind::File { .. } => Decision::Fill { stored: Vec::new() },
    }
}
