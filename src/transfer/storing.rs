//! What a storing thread does with what arrived: hash it, write it, tell.
//!
//! A piece is written only if its block is wanted; whether the bytes are right is known when the digest of the sender is
//! here, and nothing gets its name before.

use std::fs::File;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::arriving::{self, Arriving, Claim, Hashed, place};
use super::expanding::Expander;
use super::handing;
use super::sink::{Content, Held, Shared, State};
use super::stages::Laps;
use crate::engine::copy_receive::Arrived;
use crate::engine::outbox::Payload;
use crate::proto::copy::blocks::Cut;
use crate::proto::copy::report::Stage;
use crate::proto::copy::{CopyError, pack};
use crate::proto::manifest::{Entry, EntryId};
use crate::proto::verify::{BlockHash, Layout, PartHasher, hash_part, hash_whole};
use crate::proto::wire::FrameKind;
use crate::store::StoreError;
use crate::store::landing::{Incoming, Ready};

/// So much at most has to be sent again after a power failure, bytes.
const SYNC_AFTER_BYTES: u64 = 2 << 30;
/// Longest block of zeros that either end hashes, bytes: those of a file of 4 PiB.
pub(super) const HOLE_BYTES_MAX: u64 = 64 << 30;
/// From this length on blocks of zeros are hashed one at a time, bytes: those of files beyond 64 TiB.
const HOLE_LONG_BYTES: u64 = 1 << 30;
pub(super) const HOLE_TOO_LONG: &str =
    "has holes and is too long for them to be verified: leave it out, or copy with --no-verify";
/// Zeros that are written before it is looked whether the copy is over, bytes.
const ZEROS_AT_ONCE_BYTES: u64 = 64 << 20;
/// Stands for a hash where nothing is verified.
const UNVERIFIED: BlockHash = BlockHash([0; 32]);

/// Store what arrived.
pub(super) fn store(shared: &Shared, arrived: Arrived, expander: &mut Expander, laps: &mut Laps<'_>) {
    shared.wire_bytes.fetch_add(handing::bytes_of(&arrived), Ordering::Relaxed);
    let file = arrived.frame.file;
    let stored = match arrived.frame.kind {
        FrameKind::Data => store_piece(shared, arrived, laps),
        FrameKind::Hole => store_hole(shared, file, arrived.frame.offset, laps),
        FrameKind::Pack => store_pack(shared, &arrived, laps),
        FrameKind::DataZstd => store_compressed(shared, arrived, expander, laps),
        FrameKind::PackZstd => store_compressed_pack(shared, arrived, expander, laps),
        FrameKind::Timed => Err(CopyError::Piece(file)),
    };
    shared.done(|state| {
        if let Err(error) = stored {
            state.error.get_or_insert(error);
        }
    });
}

/// One that does not decompress arrived damaged: it is wanted again, as it is when its digest is wrong.
fn store_compressed(
    shared: &Shared,
    mut arrived: Arrived,
    expander: &mut Expander,
    laps: &mut Laps<'_>,
) -> Result<(), CopyError> {
    let (id, offset) = (arrived.frame.file, arrived.frame.offset);
    let expanded = expander.expand(&mut arrived.payload, 0);
    laps.lap(Stage::Decompress);
    if expanded.is_ok() {
        return store_piece(shared, arrived, laps);
    }
    let Some(len) = shared.lock().open.get(&id).map(|held| held.about.len) else { return Ok(()) };
    let block = u32::try_from(offset / shared.cut.block_bytes(len)).ok();
    let block = block.filter(|block| *block < shared.cut.block_count(len)).ok_or(CopyError::Compression)?;
    handle_damaged(shared, &[(id, block)]);
    Ok(())
}

/// The same of a pack: its directory tells what was in it.
fn store_compressed_pack(
    shared: &Shared,
    mut arrived: Arrived,
    expander: &mut Expander,
    laps: &mut Laps<'_>,
) -> Result<(), CopyError> {
    let (ids, frame) = pack::split_directory(arrived.payload.filled())?;
    let at = arrived.payload.filled().len() - frame.len();
    let expanded = expander.expand(&mut arrived.payload, at);
    laps.lap(Stage::Decompress);
    match expanded {
        Ok(()) => store_pack(shared, &arrived, laps),
        Err(_) => {
            handle_damaged(shared, &ids.into_iter().map(|id| (id, 0)).collect::<Vec<_>>());
            Ok(())
        }
    }
}

/// These blocks have to be sent again, as far as they are wanted.
fn handle_damaged(shared: &Shared, blocks: &[(EntryId, u32)]) {
    shared.change(|state| {
        for (id, block) in blocks {
            if state.receiver.is_wanted(*id, *block) {
                shared.damaged.fetch_add(1, Ordering::Relaxed);
                state.receiver.handle_damaged(*id, *block);
            }
        }
    });
}

/// A block is all zeros.
fn store_hole(shared: &Shared, id: EntryId, offset: u64, laps: &mut Laps<'_>) -> Result<(), CopyError> {
    let block_of = |len| hole_at(shared.cut, len, offset);
    let Some(Wanted { arriving, place: block, attempt }) = wanted_of(shared, id, block_of, |block| *block)? else {
        return Ok(());
    };
    let (len, wrong) = (arriving.entry.bytes(), CopyError::Piece(id));
    let (start, block_len) = shared.cut.block_range(len, block).ok_or(wrong)?;
    let layout = shared.cut.layout(len).map_err(|_| wrong)?;
    if shared.options.verify && block_len > HOLE_BYTES_MAX {
        return fail(shared, id, HOLE_TOO_LONG.to_string());
    }
    let hash = match shared.options.verify {
        true => hash_zeros(shared, (id, block), &layout, (start, block_len)),
        false => Some(UNVERIFIED),
    };
    let Some(hash) = hash else { return Ok(()) };
    laps.lap(Stage::Verify);
    let mut state = arriving.lock();
    let Some(again) = state.claim_block(shared.cut, len, (block, attempt)) else { return Ok(()) };
    let incoming = match incoming_of(shared, &arriving.entry, &mut state, None) {
        Ok(incoming) => incoming,
        Err(why) => {
            drop(state);
            return fail(shared, id, why);
        }
    };
    if let Some((start, end)) = again {
        incoming.discard(start, end);
    }
    drop(state);
    let written = write_zeros(shared, &incoming, (start, block_len));
    laps.lap(Stage::Write);
    match written {
        Ok(true) => {
            arriving.lock().handle_block(block);
            shared.change(|state| state.receiver.handle_stored(id, block, hash))
        }
        // The copy is over: what is written of it is written again by the next.
        Ok(false) => Ok(()),
        Err(error) => fail(shared, id, error.reason()),
    }
}

/// The block that a hole is; nothing if it begins where none does.
fn hole_at(cut: Cut, len: u64, offset: u64) -> Option<u32> {
    let block = u32::try_from(offset / cut.block_bytes(len)).ok()?;
    cut.block_range(len, block).filter(|(start, _)| *start == offset).map(|_| block)
}

/// Write zeros, or leave a hole; false if the copy is over before that is done.
fn write_zeros(shared: &Shared, incoming: &Incoming, (start, len): (u64, u64)) -> Result<bool, StoreError> {
    let mut done = 0;
    while done < len {
        // A hole costs nothing, however long it is.
        let n = if incoming.makes_holes() { len - done } else { ZEROS_AT_ONCE_BYTES.min(len - done) };
        shared.landing.write_zeros(incoming, start + done, n)?;
        done += n;
        if done < len && shared.lock().is_over() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The hash of a block of zeros; nothing if it is not wanted any more before that is done, or the copy is over.
///
/// A frame of eight bytes has this end hash as much as the file is said to be long, and BLAKE3 binds in the place of
/// each chunk, so nothing of it can be kept for the next block. What a peer can have of it is bounded three ways: no
/// block of zeros is longer than [`HOLE_BYTES_MAX`], which takes one core less than a minute; long ones are hashed one
/// at a time, so that one copy takes no more than that core for them, beside what it pays for in bytes; and it ends
/// with the copy. Sparse files as people have them, up to 64 TiB, have short blocks and are hashed by all threads.
fn hash_zeros(
    shared: &Shared,
    (id, block): (EntryId, u32),
    layout: &Layout,
    (start, len): (u64, u64),
) -> Option<BlockHash> {
    static ZEROS: [u8; 256 << 10] = [0; 256 << 10];
    let is_wanted = || {
        let state = shared.lock();
        !state.is_over() && state.receiver.is_wanted(id, block)
    };
    let _one_at_a_time =
        (len > HOLE_LONG_BYTES).then(|| shared.long_hole.lock().unwrap_or_else(PoisonError::into_inner));
    let mut hasher = PartHasher::new(layout, start, len);
    let mut left = len;
    while left > 0 {
        let n = left.min(ZEROS.len() as u64);
        hasher.update(&ZEROS[..n as usize]);
        left -= n;
        if left > 0 && !is_wanted() {
            return None;
        }
    }
    Some(hasher.finish())
}

fn store_piece(shared: &Shared, arrived: Arrived, laps: &mut Laps<'_>) -> Result<(), CopyError> {
    let (id, offset, bytes) = (arrived.frame.file, arrived.frame.offset, handing::bytes_of(&arrived));
    let place_of = |len| place(shared.cut, len, offset, bytes);
    let Some(Wanted { arriving, place: at, attempt }) = wanted_of(shared, id, place_of, |at| at.0)? else {
        return Ok(());
    };
    let layout = shared.cut.layout(arriving.entry.bytes()).map_err(|_| CopyError::Piece(id))?;
    shared.moved_bytes.fetch_add(bytes, Ordering::Relaxed);
    let (claim, incoming) = match begin(shared, &arriving, (at.0, at.1, attempt), handing::source_of(&arrived)) {
        Ok(Some(begun)) => begun,
        Ok(None) => return Ok(()),
        Err(why) => return fail(shared, id, why),
    };
    let content = match arrived.near {
        None => Ok((Payload::Buffer(arrived.payload), None)),
        Some(near) => handing::content(shared, (&arriving, &incoming), &layout, (offset, arrived.payload, near)),
    };
    let (payload, known) = match content {
        Ok(content) => content,
        Err(why) => {
            arriving.lock().release(claim);
            return fail(shared, id, why);
        }
    };
    let hash = match (known, &payload) {
        (Some(hash), _) => hash,
        (None, Payload::Buffer(buffer)) if shared.options.verify => hash_part(&layout, offset, buffer.filled()),
        (None, _) => UNVERIFIED,
    };
    laps.lap(Stage::Verify);
    let piece = Hashed { claim, offset, payload, hash };
    if incoming.is_direct() {
        let written = write(shared, id, (&arriving, &incoming), (piece, &layout));
        laps.lap(Stage::Write);
        return written;
    }
    let mut next = arriving.lock().start_writing(piece);
    while let Some(piece) = next {
        if let Err(error) = write(shared, id, (&arriving, &incoming), (piece, &layout)) {
            shared.lock().error.get_or_insert(error);
        }
        laps.lap(Stage::Write);
        next = arriving.lock().next_to_write();
    }
    Ok(())
}

/// Write a piece, and tell if its block is whole with it.
fn write(
    shared: &Shared,
    id: EntryId,
    (arriving, incoming): (&Arriving, &Incoming),
    (mut piece, layout): (Hashed, &Layout),
) -> Result<(), CopyError> {
    let done = match &mut piece.payload {
        Payload::Buffer(buffer) => {
            shared.landing.write_at(incoming, piece.offset, buffer.filled()).map_err(|error| error.reason())
        }
        Payload::Range(range) => handing::copy(shared, (arriving, incoming), range),
    };
    if let Err(why) = done {
        arriving.lock().release(piece.claim);
        return fail(shared, id, why);
    }
    // The streams may be waiting for it.
    drop(piece.payload);
    let whole = arriving.lock().handle_written(piece.claim, piece.hash, layout);
    match whole {
        Some(hash) => shared.change(|state| state.receiver.handle_stored(id, piece.claim.block, hash)),
        None => Ok(()),
    }
}

/// Something of a block that is wanted.
struct Wanted<P> {
    /// The file.
    arriving: Arc<Arriving>,
    /// Where in it.
    place: P,
    /// Which time of sending it is wanted for.
    attempt: u8,
}

/// The file of what has come, if the block is wanted that it belongs to; an error if it belongs to none.
///
/// Only a wanted block begins a file: one that is still looked at, is compared, or is whole from an earlier run gets its
/// name without one, and would never be settled.
fn wanted_of<P>(
    shared: &Shared,
    id: EntryId,
    place_of: impl Fn(u64) -> Option<P>,
    block_of: impl Fn(&P) -> u32,
) -> Result<Option<Wanted<P>>, CopyError> {
    let mut state = shared.lock();
    let len = match state.open.get(&id).map(|held| &held.content) {
        Some(Content::Arriving(arriving)) => arriving.entry.bytes(),
        Some(Content::None(entry)) if entry.bytes() > 0 => entry.bytes(),
        _ => return Ok(None),
    };
    let place = place_of(len).ok_or(CopyError::Piece(id))?;
    let Some(attempt) = state.receiver.attempt(id, block_of(&place)) else { return Ok(None) };
    let Some(held) = state.open.get_mut(&id).filter(|held| !held.is_storing) else { return Ok(None) };
    let arriving = match &held.content {
        Content::Arriving(arriving) => arriving.clone(),
        Content::None(entry) => Arc::new(Arriving::new((**entry).clone())),
        Content::Landed | Content::Ready(..) => return Ok(None),
    };
    held.content = Content::Arriving(arriving.clone());
    Ok(Some(Wanted { arriving, place, attempt }))
}

/// Take a piece on, with the file to write it into; nothing if somebody has it already.
fn begin(
    shared: &Shared,
    arriving: &Arriving,
    at: (u32, u64, u8),
    source: Option<&Arc<File>>,
) -> Result<Option<(Claim, Arc<Incoming>)>, String> {
    let len = arriving.entry.bytes();
    let mut state = arriving.lock();
    // Before the file is begun: whoever comes too late would begin it anew.
    let Some(claim) = state.claim(shared.cut, len, at) else { return Ok(None) };
    let incoming = incoming_of(shared, &arriving.entry, &mut state, source).inspect_err(|_| state.release(claim))?;
    if let Some((start, end)) = claim.again {
        shared.damaged.fetch_add(1, Ordering::Relaxed);
        incoming.discard(start, end);
    }
    Ok(Some((claim, incoming)))
}

/// The file that is written, begun with the first of it.
fn incoming_of(
    shared: &Shared,
    entry: &Entry,
    state: &mut arriving::State,
    source: Option<&Arc<File>>,
) -> Result<Arc<Incoming>, String> {
    if let Some(incoming) = &state.incoming {
        return Ok(incoming.clone());
    }
    let begun = Arc::new(handing::begin(shared, entry, source)?);
    state.incoming = Some(begun.clone());
    Ok(begun)
}

/// A file of a pack.
struct Packed<'a> {
    entry: Entry,
    content: &'a [u8],
    /// What the sender says that it hashes to, if that is known by now.
    digest: Option<BlockHash>,
    /// What these very bytes hash to, if that is known.
    hash: Option<BlockHash>,
}

/// What was done with it.
enum Stored {
    /// It has its name.
    Landed,
    /// It waits for its digest.
    Ready(Box<Ready>),
    /// It is damaged, and was not stored.
    Damaged,
}

fn store_pack(shared: &Shared, arrived: &Arrived, laps: &mut Laps<'_>) -> Result<(), CopyError> {
    let files = pack::unpack(arrived.payload.filled(), arrived.frame.offset)?;
    let known = arrived.near.as_ref().map_or(&[][..], |near| &near.hashes);
    let wanted = wanted(&mut shared.lock(), files, known)?;
    let mut stored = Vec::with_capacity(wanted.len());
    for Packed { entry, content, digest, hash: known } in wanted {
        shared.moved_bytes.fetch_add(content.len() as u64, Ordering::Relaxed);
        let hash = match known {
            _ if !shared.options.verify => UNVERIFIED,
            Some(hash) => hash,
            None => BlockHash(hash_whole(content).0),
        };
        laps.lap(Stage::Verify);
        // Whoever knows the hash of these bytes has it from the sender.
        let digest = if shared.options.verify { known.or(digest) } else { Some(hash) };
        let done = store_small(shared, &entry, content, digest, hash);
        stored.push((entry, hash, done));
        laps.lap(Stage::Write);
    }
    let replaced = {
        let mut state = shared.lock();
        stored.into_iter().filter_map(|(entry, hash, done)| keep(&mut state, entry, hash, done)).collect::<Vec<_>>()
    };
    for ready in replaced {
        // It came again, since it was damaged, or is not wanted any more.
        let _ = shared.landing.abandon_ready(ready);
    }
    Ok(())
}

/// Store a small file: at once for good if it is known to be right, else until its digest comes.
fn store_small(
    shared: &Shared,
    entry: &Entry,
    content: &[u8],
    digest: Option<BlockHash>,
    hash: BlockHash,
) -> Result<Stored, StoreError> {
    match digest {
        Some(digest) if digest != hash => {
            shared.damaged.fetch_add(1, Ordering::Relaxed);
            return Ok(Stored::Damaged);
        }
        // What is to be read back has no name before.
        Some(_) if !shared.options.reread && shared.landing.place_small(entry, content)? => return Ok(Stored::Landed),
        _ => {}
    }
    shared.landing.store_small(entry, content).map(|ready| Stored::Ready(Box::new(ready)))
}

/// Those of a pack that are wanted, with their entries.
fn wanted<'a>(
    state: &mut State,
    files: Vec<(EntryId, &'a [u8])>,
    known: &[BlockHash],
) -> Result<Vec<Packed<'a>>, CopyError> {
    let mut wanted = Vec::with_capacity(files.len());
    for (at, (id, content)) in files.into_iter().enumerate() {
        if !state.receiver.is_wanted(id, 0) {
            continue;
        }
        let Some(held) = state.open.get_mut(&id).filter(|held| !held.is_storing) else { continue };
        let entry = match &held.content {
            Content::None(entry) => (**entry).clone(),
            Content::Ready(_, entry) => (**entry).clone(),
            Content::Arriving(_) | Content::Landed => continue,
        };
        if entry.bytes() != content.len() as u64 {
            return Err(CopyError::Piece(id));
        }
        held.is_storing = true;
        let (digest, hash) = (state.receiver.digest(id, 0), known.get(at).copied());
        wanted.push(Packed { entry, content, digest, hash });
    }
    Ok(wanted)
}

/// A small file is stored, or not: tell, and keep it until it gets its name. Gives back what it takes the place of.
fn keep(state: &mut State, entry: Entry, hash: BlockHash, done: Result<Stored, StoreError>) -> Option<Ready> {
    let id = entry.id;
    let is_wanted = state.receiver.is_wanted(id, 0);
    if let Some(held) = state.open.get_mut(&id) {
        held.is_storing = false;
    }
    let content = match done {
        Ok(Stored::Landed) => Some(Content::Landed),
        Ok(Stored::Ready(ready)) if !is_wanted => return Some(*ready),
        Ok(Stored::Ready(ready)) => Some(Content::Ready(ready, Box::new(entry))),
        Ok(Stored::Damaged) => None,
        Err(error) => {
            state.receiver.handle_failed(id, error.reason());
            return None;
        }
    };
    let held = state.open.get_mut(&id)?;
    let before = content.map(|content| std::mem::replace(&mut held.content, content));
    // Block 0 is one that there is: it was wanted.
    let _ = state.receiver.handle_stored(id, 0, hash);
    if let Some(Content::Ready(before, _)) = before { Some(*before) } else { None }
}

fn fail(shared: &Shared, id: EntryId, why: String) -> Result<(), CopyError> {
    shared.lock().receiver.handle_failed(id, why);
    Ok(())
}

/// Put into the journal what is proven.
pub(super) fn note(shared: &Shared) {
    note_all(shared, false);
    shared.done(|_| {});
}

/// Blocks of a file that are to be noted.
type Noted = (Arc<Incoming>, Vec<(u64, BlockHash)>);

/// The same, outside a task; `is_last` if nothing more comes: then it is synced, too.
pub(super) fn note_all(shared: &Shared, is_last: bool) {
    let mut files: Vec<Noted> = Vec::new();
    {
        let mut state = shared.lock();
        for (id, block, hash) in state.receiver.take_right() {
            let Some(Held { content: Content::Arriving(arriving), .. }) = state.open.get(&id) else { continue };
            let Some(incoming) = arriving.lock().incoming.clone() else { continue };
            match files.iter_mut().find(|(file, _)| Arc::ptr_eq(file, &incoming)) {
                Some((_, blocks)) => blocks.push((block.into(), hash)),
                None => files.push((incoming, vec![(block.into(), hash)])),
            }
        }
    }
    let files: Vec<(&Incoming, &[(u64, BlockHash)])> =
        files.iter().map(|(file, blocks)| (file.as_ref(), blocks.as_slice())).collect();
    if files.is_empty() {
        return;
    }
    let bytes = files.iter().map(|(file, blocks)| bytes_of(shared.cut, file.len(), blocks)).sum();
    // What is noted outlasts this process, what is synced the machine: the one is cheap, the other now and then.
    let unsynced = shared.unsynced_bytes.fetch_add(bytes, Ordering::Relaxed);
    let noted = if is_last || unsynced >= SYNC_AFTER_BYTES {
        shared.unsynced_bytes.store(0, Ordering::Relaxed);
        shared.landing.checkpoint(&files)
    } else {
        shared.landing.note(&files)
    };
    if let Err(error) = noted {
        // The copy goes on; after a break more has to be sent again.
        tracing::warn!(%error, "the journal of the copy cannot be kept");
    }
}

/// Bytes of these blocks of a file: the longer it is, the longer they are.
fn bytes_of(cut: Cut, len: u64, blocks: &[(u64, BlockHash)]) -> u64 {
    let block_bytes = |block: u64| Some(cut.block_range(len, u32::try_from(block).ok()?)?.1);
    blocks.iter().filter_map(|(block, _)| block_bytes(*block)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_long_files_count_as_what_they_are() {
        let cut = Cut { piece_bytes: 1 << 20 };
        let blocks = |count: u64| -> Vec<_> { (0..count).map(|block| (block, UNVERIFIED)).collect() };
        // The last is a short one, and one that the file does not have is nothing.
        assert_eq!(bytes_of(cut, (3 << 20) + 5, &blocks(5)), (3 << 20) + 5);
        let (len, block_bytes) = (1 << 40, cut.block_bytes(1 << 40));
        assert!(block_bytes > 1 << 20);
        assert_eq!(bytes_of(cut, len, &blocks(128)), 128 * block_bytes);
    }
}
