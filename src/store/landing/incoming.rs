//! One file while it is being written, under a temporary name.
//!
//! Several threads may write it, each its own range. Whether the bytes are right is not judged here.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::fcntl::{FallocateFlags, fallocate};

use super::extents::Extents;
use super::{Landing, attributes, beside, device_of, modified, place_of, shown};
use crate::proto::manifest::{Entry, EntryKind};
use crate::store::StoreError;
use crate::store::confined::RelativePath;
use crate::store::journal::{FileNumber, Hash, Partial, Record, Storage};
use crate::store::landing::{LandingError, Operation};

/// What a hole is made of, bytes: the page of most filesystems.
const HOLE_BYTES: u64 = 4096;

/// A file that is being written.
#[derive(Debug)]
pub struct Incoming {
    pub(super) entry: Entry,
    pub(super) temporary: RelativePath,
    pub(super) target: RelativePath,
    pub(super) file: File,
    pub(super) number: FileNumber,
    pub(super) block_bytes: u64,
    device: u64,
    len: u64,
    written: Mutex<Written>,
    /// Zeros may be left out, as the file holds nothing else where nothing was written.
    makes_holes: AtomicBool,
    /// A sync failed: what was written may be lost.
    pub(super) is_lost: AtomicBool,
}

#[derive(Debug, Default)]
struct Written {
    /// What some thread has taken on.
    claimed: Extents,
    /// What is written.
    done: Extents,
}

/// A file that is whole under its temporary name.
#[derive(Debug)]
pub struct Ready {
    pub(super) entry: Entry,
    pub(super) temporary: RelativePath,
    pub(super) target: RelativePath,
    /// Of a small file nothing is open any more, and it has its attributes already.
    pub(super) file: Option<File>,
    /// Its number in the journal and the hash of the whole, if the journal knows it.
    pub(super) known: Option<(FileNumber, Hash)>,
    pub(super) device: u64,
}

impl<S: Storage> Landing<S> {
    /// Begin a file, or go on with what the journal knows of it. Its folder has to be there.
    pub fn begin(&self, entry: &Entry, block_bytes: u64) -> Result<Incoming, LandingError> {
        let (len, is_sparse) = file_of(entry)?;
        let partial = self.journal().state().partial(&entry.path).cloned();
        if let Some(partial) = partial {
            let is_same = partial.len == len
                && partial.modified == modified(&entry.attributes)
                && partial.block_bytes == block_bytes;
            let temporary = beside(entry, &partial.temporary)?;
            match self.disk.root.open_own(&temporary) {
                Ok(file) if is_same => return Ok(self.resume(entry, file, temporary, &partial)?),
                // What it holds is of another state of the source.
                Ok(_) => self.disk.remove(&temporary)?,
                Err(_) => {}
            }
        }
        let temporary = self.temporary(entry)?;
        let file = self.disk.create(&temporary)?;
        let makes_holes = is_sparse && self.options.sparse;
        let begun = self.begin_with(entry, file, &temporary, block_bytes, makes_holes);
        if begun.is_err() {
            let _ = self.disk.remove(&temporary);
        }
        begun
    }

    fn begin_with(
        &self,
        entry: &Entry,
        file: File,
        temporary: &RelativePath,
        block_bytes: u64,
        makes_holes: bool,
    ) -> Result<Incoming, LandingError> {
        let len = entry.bytes();
        if len > 0 && !makes_holes {
            self.disk.allocate(temporary, &file, len, &shown(entry))?;
        }
        let name = temporary.as_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
        let mut journal = self.journal();
        let number = journal.state().next_file();
        let record = [Record::FileBegun {
            file: number,
            path: entry.path.clone(),
            len,
            modified: modified(&entry.attributes),
            temporary: name,
            block_bytes,
        }];
        self.disk.see("journal", &Operation::Append(&record))?;
        journal.append(&record)?;
        Ok(Incoming::new(entry, file, temporary.clone(), (number, block_bytes), makes_holes)?)
    }

    fn resume(
        &self,
        entry: &Entry,
        file: File,
        temporary: RelativePath,
        partial: &Partial,
    ) -> Result<Incoming, StoreError> {
        let (len, is_sparse) = file_of(entry)?;
        let makes_holes = is_sparse && self.options.sparse;
        let numbers = (partial.file, partial.block_bytes);
        let incoming = Incoming::new(entry, file, temporary, numbers, makes_holes)?;
        let mut written = incoming.written();
        for start in partial.blocks.keys().map(|index| index * partial.block_bytes) {
            let end = start.saturating_add(partial.block_bytes).min(len);
            written.claimed.add(start, end);
            written.done.add(start, end);
        }
        let gaps = written.done.gaps(len);
        drop(written);
        gaps.into_iter().for_each(|(start, end)| incoming.empty(start, end));
        Ok(incoming)
    }

    /// Write into a file. The range must lie inside it and not overlap what another call writes; what is written
    /// already as a whole is left as it is.
    pub fn write_at(&self, incoming: &Incoming, at: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let end = incoming.end_of(at, bytes)?;
        {
            let mut written = incoming.written();
            if written.done.holds(at, end) {
                return Ok(());
            }
            if written.claimed.touches(at, end) {
                return Err(StoreError::unfit(
                    &shown(&incoming.entry),
                    "two parts of it overlap: start the copy again",
                ));
            }
            written.claimed.add(at, end);
        }
        let done = self.write_runs(incoming, at, bytes);
        let mut written = incoming.written();
        match done {
            Ok(()) => written.done.add(at, end),
            Err(_) => written.claimed.remove(at, end),
        }
        done
    }

    /// All of it, or all but what can be a hole.
    fn write_runs(&self, incoming: &Incoming, at: u64, bytes: &[u8]) -> Result<(), StoreError> {
        if !incoming.makes_holes.load(Ordering::Relaxed) {
            return self.disk.write(&incoming.temporary, &incoming.file, at, bytes);
        }
        let (mut from, mut to) = (0, 0);
        while to < bytes.len() {
            let page = (HOLE_BYTES - (at + to as u64) % HOLE_BYTES) as usize;
            let next = bytes.len().min(to + page);
            if next - to == HOLE_BYTES as usize && bytes[to..next].iter().all(|byte| *byte == 0) {
                self.write_run(incoming, at + from as u64, &bytes[from..to])?;
                from = next;
            }
            to = next;
        }
        self.write_run(incoming, at + from as u64, &bytes[from..])
    }

    fn write_run(&self, incoming: &Incoming, at: u64, bytes: &[u8]) -> Result<(), StoreError> {
        if bytes.is_empty() { Ok(()) } else { self.disk.write(&incoming.temporary, &incoming.file, at, bytes) }
    }

    /// All is written: the file is ready to be committed. `root` is the hash of the whole.
    pub fn finish(&self, incoming: Incoming, root: Hash) -> Result<Ready, StoreError> {
        let len = incoming.len;
        if incoming.is_lost.load(Ordering::Relaxed) || !incoming.written().done.holds(0, len) {
            return Err(StoreError::unfit(&shown(&incoming.entry), "is not whole: start the copy again"));
        }
        // A hole at the end is no write, and an older temporary may be longer.
        self.disk.set_len(&incoming.temporary, &incoming.file, len)?;
        Ok(Ready {
            entry: incoming.entry,
            temporary: incoming.temporary,
            target: incoming.target,
            file: Some(incoming.file),
            known: Some((incoming.number, root)),
            device: incoming.device,
        })
    }

    /// A whole small file at once. Nothing of it goes into the journal: after a failure it is sent again.
    pub fn store_small(&self, entry: &Entry, bytes: &[u8]) -> Result<Ready, StoreError> {
        let (len, _) = file_of(entry)?;
        if len != bytes.len() as u64 {
            return Err(StoreError::unfit(&shown(entry), "has another length than was said: start the copy again"));
        }
        let (target, temporary) = (place_of(entry)?, self.temporary(entry)?);
        let file = self.disk.create(&temporary)?;
        let filled = self.fill(entry, &file, &temporary, bytes);
        let device = filled.inspect_err(|_| {
            let _ = self.disk.remove(&temporary);
        })?;
        Ok(Ready { entry: entry.clone(), temporary, target, file: None, known: None, device })
    }

    fn fill(&self, entry: &Entry, file: &File, path: &RelativePath, bytes: &[u8]) -> Result<u64, StoreError> {
        if !bytes.is_empty() {
            self.disk.write(path, file, 0, bytes)?;
        }
        self.disk.describe(path)?;
        attributes::set(file, &shown(entry), &entry.attributes, &self.options)?;
        device_of(file, &shown(entry))
    }

    /// Give a file up: its temporary goes, and the journal forgets it.
    pub fn abandon(&self, incoming: Incoming) -> Result<(), LandingError> {
        self.give_up(&incoming.temporary, Some(incoming.number))
    }

    /// Give up a file that was ready.
    pub fn abandon_ready(&self, ready: Ready) -> Result<(), LandingError> {
        self.give_up(&ready.temporary, ready.known.map(|(file, _)| file))
    }

    /// The file goes even if the journal cannot be told: what it names is looked for before it is believed.
    fn give_up(&self, temporary: &RelativePath, number: Option<FileNumber>) -> Result<(), LandingError> {
        let removed = self.disk.remove(temporary);
        if let Some(file) = number {
            self.record(&[Record::FileDropped { file }])?;
        }
        Ok(removed?)
    }
}

impl Incoming {
    fn new(
        entry: &Entry,
        file: File,
        temporary: RelativePath,
        (number, block_bytes): (FileNumber, u64),
        makes_holes: bool,
    ) -> Result<Incoming, StoreError> {
        let device = device_of(&file, &shown(entry))?;
        Ok(Incoming {
            target: place_of(entry)?,
            entry: entry.clone(),
            temporary,
            file,
            number,
            block_bytes,
            device,
            len: entry.bytes(),
            written: Mutex::default(),
            makes_holes: AtomicBool::new(makes_holes),
            is_lost: AtomicBool::new(false),
        })
    }

    /// Its length when it is whole, bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing is to be written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The file itself, to read back what was written.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The ranges that are not written yet: start and end, bytes.
    pub fn missing(&self) -> Vec<(u64, u64)> {
        self.written().done.gaps(self.len)
    }

    /// Take back a range that turned out wrong, so that it can be written again. No other call may be writing it.
    pub fn discard(&self, start: u64, end: u64) {
        let mut written = self.written();
        written.done.remove(start, end);
        self.empty(start, end);
        written.claimed.remove(start, end);
    }

    /// Whether a block is written as a whole.
    pub(super) fn holds_block(&self, index: u64) -> bool {
        let Some(start) = index.checked_mul(self.block_bytes).filter(|start| *start < self.len) else { return false };
        self.written().done.holds(start, start.saturating_add(self.block_bytes).min(self.len))
    }

    /// Leave only zeros in a range, so that zeros need not be written there; if that fails they are written.
    fn empty(&self, start: u64, end: u64) {
        if !self.makes_holes.load(Ordering::Relaxed) || start >= end {
            return;
        }
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        if fallocate(&self.file, flags, start as i64, (end - start) as i64).is_err() {
            self.makes_holes.store(false, Ordering::Relaxed);
        }
    }

    fn end_of(&self, at: u64, bytes: &[u8]) -> Result<u64, StoreError> {
        let end = at.checked_add(bytes.len() as u64).filter(|end| *end <= self.len);
        end.ok_or_else(|| StoreError::unfit(&shown(&self.entry), "is longer than was said: start the copy again"))
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn file_of(entry: &Entry) -> Result<(u64, bool), StoreError> {
    match entry.kind {
        EntryKind::File { len, is_sparse } if i64::try_from(len).is_ok() => Ok((len, is_sparse)),
        _ => Err(StoreError::unfit(&shown(entry), "is no file, or longer than any file")),
    }
}
