//! Both ends in one process: content goes from the reader to the storer in the reader's buffer with the reader's hash,
//! or not at all where the kernel can copy it from file to file.
//!
//! # What a hash proves here
//! The buffer that was hashed is the one that is written, so its hash is not taken a second time: it would be of the
//! same memory. A file is read once and hashed once, and what the disk made of it nobody has looked at.
//! Where the destination **shares** the blocks of the source nothing passes through us: then the source is hashed, and
//! the bytes that the destination gives back are read and hashed, too. That proves that both read the same; they do so
//! from the same place on the disk.
//! Where nothing is verified the kernel copies what it can.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError};

use super::arriving::Arriving;
use super::choices::{self, Found};
use super::reading::{self, CHANGED};
use super::sink::Shared;
use crate::engine::buffers::Buffer;
use crate::engine::copy_receive::{Arrived, Deliver, Near};
use crate::engine::outbox::{Carrier, Payload, Piece, Range};
use crate::proto::copy::report::Choice;
use crate::proto::manifest::Entry;
use crate::proto::verify::{BlockHash, Layout, PartHasher};
use crate::store::landing::Incoming;

/// Bytes that are read back at once: they stay in the second-level cache until they are hashed.
const READ_BACK_BYTES: usize = 256 << 10;

/// What both ends learn about what the kernel can do. By the filesystem of the source: the destination is one.
#[derive(Debug)]
pub(super) struct Handover {
    verify: bool,
    devices: Mutex<HashMap<u64, Ways>>,
}

/// Of one source filesystem; unknown until it was tried.
#[derive(Clone, Copy, Debug, Default)]
struct Ways {
    shares: Option<bool>,
    copies: Option<bool>,
}

impl Handover {
    pub(super) fn new(verify: bool) -> Handover {
        Handover { verify, devices: Mutex::default() }
    }

    /// Whether pieces of this file are best not read into buffers.
    pub(super) fn takes_range(&self, file: &File, is_sparse: bool) -> bool {
        let ways = self.with(file, |ways| *ways);
        let may_copy = !self.verify && !is_sparse && ways.copies != Some(false);
        ways.shares != Some(false) || may_copy
    }

    /// How content came from file to file.
    pub(super) fn choices(&self) -> Vec<Choice> {
        let devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        let any = |is: fn(&Ways) -> bool| devices.values().any(is);
        let (shares, copies) = (any(|ways| ways.shares == Some(true)), any(|ways| ways.copies == Some(true)));
        choices::within_machine(self.verify, Found { shares, copies })
    }

    fn with<T>(&self, file: &File, look: impl FnOnce(&mut Ways) -> T) -> T {
        // A file that cannot be looked at cannot be read either.
        let device = file.metadata().map_or(0, |about| about.dev());
        look(self.devices.lock().unwrap_or_else(PoisonError::into_inner).entry(device).or_default())
    }
}

/// Carries pieces straight to the sink.
pub(super) struct Hand(pub(super) Arc<dyn Deliver>);

impl Carrier for Hand {
    fn push(&self, piece: Piece) {
        let (payload, range) = match piece.payload {
            Payload::Buffer(buffer) => (buffer, None),
            Payload::Range(range) => (range.permit, Some((range.file, range.len))),
        };
        let near = Some(Near { hashes: piece.hashes, range });
        // A sink that takes nothing any more is being stopped, and this end with it.
        let _ = self.0.deliver(Arrived { frame: piece.frame, payload, near });
    }

    fn close(&self) {}
}

/// The bytes that a frame stands for.
pub(super) fn bytes_of(arrived: &Arrived) -> u64 {
    let range = arrived.near.as_ref().and_then(|near| near.range.as_ref());
    range.map_or(arrived.payload.filled().len() as u64, |(_, len)| *len)
}

/// The file that a piece is a range of.
pub(super) fn source_of(arrived: &Arrived) -> Option<&Arc<File>> {
    arrived.near.as_ref().and_then(|near| near.range.as_ref()).map(|(file, _)| file)
}

/// Begin a file: sharing blocks with its source, if that can be.
pub(super) fn begin(shared: &Shared, entry: &Entry, source: Option<&Arc<File>>) -> Result<Incoming, String> {
    let block_bytes = shared.cut.block_bytes(entry.bytes());
    if let (Some(handover), Some(source)) = (&shared.handover, source)
        && handover.with(source, |ways| ways.shares != Some(false))
        // Of what an earlier run began something may be proven.
        && shared.landing.with_journal(|journal| journal.state().partial(&entry.path).is_none())
    {
        let begun = shared.landing.begin_shared(entry, block_bytes, source).map_err(|error| error.reason())?;
        if let Some(incoming) = begun {
            handover.with(source, |ways| ways.shares = Some(true));
            return Ok(incoming);
        }
        handover.with(source, |ways| ways.shares = Some(false));
    }
    shared.landing.begin(entry, block_bytes).map_err(|error| error.reason())
}

/// What is to be written of a piece, and its hash, if that is not what the network brought.
pub(super) fn content(
    shared: &Shared,
    (arriving, incoming): (&Arriving, &Incoming),
    layout: &Layout,
    (offset, buffer, near): (u64, Buffer, Near),
) -> Result<(Payload, Option<BlockHash>), String> {
    let Some((file, len)) = near.range else { return Ok((Payload::Buffer(buffer), near.hashes.first().copied())) };
    let mut range = Range { file, offset, len, permit: buffer };
    let is_there = incoming.holds(offset, offset + len);
    let hash = match (shared.options.verify, is_there) {
        (false, _) => None,
        (true, true) => {
            let hash = read_back(incoming, layout, &mut range).map_err(|why| format!("as it was stored: {why}"))?;
            Some(hash)
        }
        // It has to be read, and hashed by whoever does not know this.
        (true, false) => {
            let mut buffer = range.permit;
            reading::fill(&range.file, &mut buffer, offset, len as usize)?;
            return Ok((Payload::Buffer(buffer), None));
        }
    };
    // The blocks were shared after the reader had looked.
    if !is_as_found(&arriving.entry, &range.file) {
        return Err(CHANGED.to_string());
    }
    Ok((Payload::Range(range), hash))
}

/// Hash what a file holds.
fn read_back(incoming: &Incoming, layout: &Layout, range: &mut Range) -> Result<BlockHash, String> {
    let mut hasher = PartHasher::new(layout, range.offset, range.len);
    let mut at = 0;
    while at < range.len {
        let room = range.permit.room();
        let n = (range.len - at).min(room.len().min(READ_BACK_BYTES) as u64) as usize;
        reading::read_exact(incoming.file(), &mut room[..n], range.offset + at)?;
        hasher.update(&room[..n]);
        at += n as u64;
    }
    Ok(hasher.finish())
}

/// Have the kernel copy a range, or read and write it.
pub(super) fn copy(
    shared: &Shared,
    (arriving, incoming): (&Arriving, &Incoming),
    range: &mut Range,
) -> Result<(), String> {
    let may_copy =
        shared.handover.as_ref().is_some_and(|ours| ours.with(&range.file, |ways| ways.copies != Some(false)));
    let is_there = incoming.holds(range.offset, range.offset + range.len);
    if is_there || may_copy && copy_by_kernel(shared, (arriving, incoming), range)? {
        return Ok(());
    }
    reading::fill(&range.file, &mut range.permit, range.offset, range.len as usize)?;
    if !is_as_found(&arriving.entry, &range.file) {
        return Err(CHANGED.to_string());
    }
    shared.landing.write_at(incoming, range.offset, range.permit.filled()).map_err(|error| error.reason())
}

fn copy_by_kernel(
    shared: &Shared,
    (arriving, incoming): (&Arriving, &Incoming),
    range: &Range,
) -> Result<bool, String> {
    let copied = shared.landing.copy_at(incoming, range.offset, &range.file, range.len);
    let is_copied = copied.map_err(|error| error.reason())?;
    // Of holes only those who see the bytes know.
    if let (false, Some(handover)) = (!is_copied && incoming.makes_holes(), &shared.handover) {
        handover.with(&range.file, |ways| ways.copies = Some(is_copied));
    }
    if is_copied && !is_as_found(&arriving.entry, &range.file) {
        return Err(CHANGED.to_string());
    }
    Ok(is_copied)
}

/// Whether a file is still the one that the scan found, as far as its length and time tell.
fn is_as_found(entry: &Entry, file: &File) -> bool {
    let attributes = &entry.attributes;
    file.metadata().is_ok_and(|now| {
        now.len() == entry.bytes()
            && (now.mtime(), now.mtime_nsec()) == (attributes.modified_s, attributes.modified_ns.into())
    })
}
