//! What a reader of a source does: take work, read, hash, hand over.
//!
//! Bytes are hashed right after they were read, while they are in the cache, and sent from the same buffer. Whether the
//! file is still what the scan found is looked at after each block was read and before its digest is told: a digest that
//! is told stands for what was found.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::compressing::{Compressor, Spent};
use super::source::{Offered, Shared, SourceFile};
use super::stages::Laps;
use super::storing::{HOLE_BYTES_MAX, HOLE_TOO_LONG};
use crate::engine::buffers::Buffer;
use crate::engine::outbox::{Payload, Piece, Range};
use crate::proto::copy::pack::{self, HeadersCheck};
use crate::proto::copy::report::Stage;
use crate::proto::copy::sender::Work;
use crate::proto::manifest::EntryId;
use crate::proto::verify::{BlockHash, Layout, PartHasher, hash_part, hash_whole, join};
use crate::proto::wire::{Frame, FrameKind, HOLE_BYTES, Length};
use crate::sys::raw;

/// The handle of a file while its blocks are read.
#[derive(Debug, Default)]
pub(super) struct Opened {
    file: Option<Arc<File>>,
    /// Bytes that were read through it.
    read: u64,
}

pub(super) const CHANGED: &str = "was changed during the copy: copy it again when nobody writes it";

/// Stands for a hash where nothing is verified.
const UNVERIFIED: BlockHash = BlockHash([0; 32]);

/// What a reader does next.
enum Job {
    Block(Work, Arc<SourceFile>),
    Pack(Vec<(EntryId, Arc<SourceFile>)>),
}

/// What came of reading: for the state machine.
type Read = (EntryId, u32, Result<BlockHash, String>);

/// Digests that are told together as long as there is more to read.
const DIGESTS_TOGETHER: usize = 64;
/// Bytes that are read at once where they are only hashed: they stay in the second-level cache.
const SCRATCH_BYTES: usize = 256 << 10;

/// Zeros that are hashed before it is looked whether the copy is over, bytes.
const LOOK_EVERY_BYTES: u64 = 64 << 20;

/// One thread, and what it uses again and again.
struct Reader<'a> {
    shared: &'a Shared,
    laps: Laps<'a>,
    scratch: Vec<u8>,
    compressor: Option<Compressor>,
}

/// Read until the copy is over; the thread's whole life.
pub(super) fn run(shared: &Shared) {
    let compressor = Compressor::new(shared.options.compress, shared.options.piece_bytes);
    let mut reader = Reader { shared, laps: Laps::start(&shared.stages), scratch: Vec::new(), compressor };
    while let Some(job) = next(shared) {
        reader.laps.lap(Stage::AwaitWork);
        let read = match job {
            Job::Block(work, file) => reader.read_block(work, &file).map(|hash| vec![(work.id, work.block, hash)]),
            Job::Pack(files) => reader.read_pack(files).map(|()| Vec::new()),
        };
        let Some(read) = read else { return };
        if !read.is_empty() {
            tell(shared, read);
        }
    }
}

/// Wait for work; nothing once the copy is over.
fn next(shared: &Shared) -> Option<Job> {
    let mut state = shared.lock();
    loop {
        if state.is_stopped {
            return None;
        }
        let held = state.held.take();
        if let Some(work) = held.or_else(|| state.sender.poll_work()) {
            let Some(file) = state.open.get_mut(&work.id).and_then(Offered::file) else { continue };
            if !is_small(shared, &work, &file) {
                return Some(Job::Block(work, file));
            }
            let mut files = vec![(work.id, file)];
            let mut bytes = packed_bytes(work.len);
            while files.len() < pack::FILES_MAX
                && let Some(work) = state.sender.poll_work()
            {
                let Some(file) = state.open.get_mut(&work.id).and_then(Offered::file) else { continue };
                bytes += packed_bytes(work.len);
                if !is_small(shared, &work, &file) || bytes > shared.options.piece_bytes {
                    state.held = Some(work);
                    break;
                }
                files.push((work.id, file));
            }
            // There may be more for others.
            if state.held.is_some() || state.sender.has_work() {
                shared.work.notify_one();
            }
            return Some(Job::Pack(files));
        }
        if state.sender.digest_count() > 0 {
            shared.bell.ring();
        }
        state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

fn packed_bytes(len: u64) -> u64 {
    pack::HEADER_BYTES as u64 + len
}

/// Whether it goes into a pack: the whole of a small file.
fn is_small(shared: &Shared, work: &Work, file: &SourceFile) -> bool {
    let fits = packed_bytes(work.len) <= shared.options.piece_bytes;
    work.is_sent && fits && file.len <= pack::FILE_BYTES_MAX && work.len == file.len && !file.is_sparse
}

fn tell(shared: &Shared, read: Vec<Read>) {
    let mut state = shared.lock();
    for (id, block, hash) in read {
        match hash {
            Ok(hash) => state.sender.handle_read(id, block, hash),
            Err(why) => state.sender.handle_unreadable(id, why),
        }
    }
    let must_ring = state.sender.digest_count() >= DIGESTS_TOGETHER || state.sender.has_urgent_message();
    drop(state);
    if must_ring {
        shared.bell.ring();
    }
}

/// A piece of a block that is to be read.
struct Part<'a> {
    layout: &'a Layout,
    file: &'a Arc<File>,
    id: EntryId,
    offset: u64,
    len: u64,
}

/// A hash, or why there is none; nothing once the copy is over.
type Hashed = Option<Result<BlockHash, String>>;

impl Reader<'_> {
    /// Read a block piece by piece.
    fn read_block(&mut self, work: Work, file: &SourceFile) -> Hashed {
        let opened = match file.opened() {
            Ok(opened) => opened,
            Err(why) => return Some(Err(why)),
        };
        let Ok(layout) = self.shared.cut.layout(file.len) else { return Some(Err("has too many blocks".to_string())) };
        let (sends_ranges, is_handed) = match &self.shared.handover {
            Some(handover) => {
                let takes = handover.takes_range(&opened, file.is_sparse);
                (takes, takes)
            }
            None => (self.shared.sends_ranges, false),
        };
        if work.is_sent && !is_handed && file.is_sparse && raw::is_hole(opened.as_fd(), work.offset, work.len) {
            let whole = Part { layout: &layout, file: &opened, id: work.id, offset: work.offset, len: work.len };
            return self.send_hole(&whole, file);
        }
        let mut parts = Vec::new();
        for (offset, len) in self.shared.cut.pieces(work.offset, work.len) {
            let part = Part { layout: &layout, file: &opened, id: work.id, offset, len };
            let read = match (work.is_sent, sends_ranges) {
                // Who only hashes waits for no buffer, which would tell that the copy is over.
                (false, _) if self.shared.lock().is_stopped => None,
                (false, _) => Some(self.hash(&part)),
                (true, _) if self.compresses(file) => self.send_buffer(&part, Some(file)),
                (true, true) => self.send_range(&part),
                (true, false) => self.send_buffer(&part, None),
            };
            match read? {
                Ok(hash) => parts.push(hash),
                Err(why) => return Some(Err(why)),
            }
        }
        let is_as_found = file.is_as_found(&opened);
        file.finish(work.len);
        if !is_as_found {
            return Some(Err(CHANGED.to_string()));
        }
        Some(Ok(join(&layout, &parts).unwrap_or(UNVERIFIED)))
    }

    /// Whether the next piece of a file is to be compressed, if that is worth it.
    fn compresses(&self, file: &SourceFile) -> bool {
        self.compressor.as_ref().is_some_and(|compressor| compressor.tries(&file.worth, file.path.as_bytes()))
    }

    /// Read a piece into a buffer, which is sent; compressed, if a file is given and worth it.
    fn send_buffer(&mut self, part: &Part<'_>, file: Option<&SourceFile>) -> Hashed {
        // Where nothing is encrypted the other pool is one of permits.
        let mut buffer = self.shared.packs.take()?;
        self.laps.lap(Stage::Send);
        if let Err(why) = fill(part.file, &mut buffer, part.offset, part.len as usize) {
            return Some(Err(why));
        }
        self.laps.lap(Stage::Read);
        let hash = match self.shared.options.verify {
            true => hash_part(part.layout, part.offset, buffer.filled()),
            false => UNVERIFIED,
        };
        self.laps.lap(Stage::Hash);
        let mut kind = FrameKind::Data;
        if let (Some(file), Some(compressor)) = (file, &mut self.compressor) {
            if compressor.compress(&mut buffer, &file.worth) {
                kind = FrameKind::DataZstd;
            }
            self.laps.lap(Stage::Compress);
        }
        self.send((part.id, part.offset, kind), part.len, Payload::Buffer(buffer), vec![hash]);
        Some(Ok(hash))
    }

    /// Have the kernel send a piece; here it is read only to be hashed, or to be in memory by then.
    fn send_range(&mut self, part: &Part<'_>) -> Hashed {
        let permit = self.shared.buffers.take()?;
        self.laps.lap(Stage::Send);
        let hash = match self.shared.options.verify || !is_cached(part) {
            true => self.hash(part),
            false => Ok(UNVERIFIED),
        };
        let hash = match hash {
            Ok(hash) => hash,
            Err(why) => return Some(Err(why)),
        };
        let range = Range { file: part.file.clone(), offset: part.offset, len: part.len, permit };
        self.send((part.id, part.offset, FrameKind::Data), part.len, Payload::Range(range), Vec::new());
        Some(Ok(hash))
    }

    /// Say that a block is a hole: it is neither read nor sent.
    fn send_hole(&mut self, part: &Part<'_>, file: &SourceFile) -> Hashed {
        if self.shared.options.verify && part.len > HOLE_BYTES_MAX {
            return Some(Err(HOLE_TOO_LONG.to_string()));
        }
        let mut buffer = self.shared.buffers.take()?;
        self.laps.lap(Stage::Send);
        let hash = if self.shared.options.verify { self.hash_zeros(part)? } else { UNVERIFIED };
        self.laps.lap(Stage::Hash);
        buffer.fill(HOLE_BYTES);
        self.send((part.id, part.offset, FrameKind::Hole), HOLE_BYTES as u64, Payload::Buffer(buffer), Vec::new());
        let is_as_found = file.is_as_found(part.file);
        file.finish(part.len);
        Some(if is_as_found { Ok(hash) } else { Err(CHANGED.to_string()) })
    }

    /// The hash of so many zeros; nothing if the copy is over before that is done, which may take a minute.
    fn hash_zeros(&mut self, part: &Part<'_>) -> Option<BlockHash> {
        let mut hasher = PartHasher::new(part.layout, part.offset, part.len);
        self.scratch.fill(0);
        self.scratch.resize(SCRATCH_BYTES, 0);
        for at in (0..part.len).step_by(SCRATCH_BYTES) {
            if at % LOOK_EVERY_BYTES == 0 && self.shared.lock().is_stopped {
                return None;
            }
            hasher.update(&self.scratch[..(part.len - at).min(SCRATCH_BYTES as u64) as usize]);
        }
        Some(hasher.finish())
    }

    /// Read a piece, and hash it if anything is verified.
    fn hash(&mut self, part: &Part<'_>) -> Result<BlockHash, String> {
        if self.scratch.is_empty() {
            self.scratch = vec![0; SCRATCH_BYTES];
        }
        let mut hasher = PartHasher::new(part.layout, part.offset, part.len);
        let mut at = 0;
        while at < part.len {
            let n = (part.len - at).min(SCRATCH_BYTES as u64) as usize;
            read_exact(part.file, &mut self.scratch[..n], part.offset + at)?;
            self.laps.lap(Stage::Read);
            if self.shared.options.verify {
                hasher.update(&self.scratch[..n]);
                self.laps.lap(Stage::Hash);
            }
            at += n as u64;
        }
        // A hash of nothing is none.
        Ok(if self.shared.options.verify { hasher.finish() } else { UNVERIFIED })
    }

    /// Read small files into one buffer, which is sent after their digests are told: whoever has both can store them
    /// for good at once.
    fn read_pack(&mut self, files: Vec<(EntryId, Arc<SourceFile>)>) -> Option<()> {
        let mut buffer = self.shared.packs.take()?;
        self.laps.lap(Stage::Send);
        let (mut read, mut check) = (Vec::with_capacity(files.len()), HeadersCheck::default());
        let mut hashes = Vec::with_capacity(files.len());
        for (id, file) in files {
            if let Err(why) = append(&mut buffer, id, &file) {
                read.push((id, 0, Err(why)));
                continue;
            }
            self.laps.lap(Stage::Read);
            check.add(&pack::header(id, file.len as u32));
            let content = &buffer.filled()[buffer.filled().len() - file.len as usize..];
            let hash = if self.shared.options.verify { BlockHash(hash_whole(content).0) } else { UNVERIFIED };
            read.push((id, 0, Ok(hash)));
            hashes.push(hash);
            self.laps.lap(Stage::Hash);
        }
        tell(self.shared, read);
        let plain = buffer.filled().len() as u64;
        if plain == 0 {
            return Some(());
        }
        let mut kind = FrameKind::Pack;
        if let Some(compressor) = self.compressor.as_mut().filter(|compressor| compressor.tries_pack()) {
            if compressor.compress_pack(&mut buffer, check.finish()) {
                kind = FrameKind::PackZstd;
            }
            self.laps.lap(Stage::Compress);
        }
        self.send((0, check.finish(), kind), plain, Payload::Buffer(buffer), hashes);
        Some(())
    }

    /// Hand a frame over, which was so many bytes before it was compressed.
    fn send(
        &mut self,
        (file, offset, kind): (EntryId, u64, FrameKind),
        plain: u64,
        payload: Payload,
        hashes: Vec<BlockHash>,
    ) {
        let bytes = payload.len();
        self.shared.keep_pace(bytes);
        self.shared.moved_bytes.fetch_add(plain, Ordering::Relaxed);
        self.shared.wire_bytes.fetch_add(bytes, Ordering::Relaxed);
        let frame = Frame { file, offset, length: Length::Bytes(bytes), kind };
        self.shared.carrier.push(Piece { frame, payload, hashes });
        self.laps.lap(Stage::Send);
        if let Some(compressor) = &mut self.compressor {
            let spent = Spent {
                waiting: self.laps.own_ns(Stage::Send),
                compressing: self.laps.own_ns(Stage::Compress),
                otherwise: self.laps.own_ns(Stage::Read) + self.laps.own_ns(Stage::Hash),
            };
            compressor.handle_sent(plain, spent);
        }
    }
}

/// Whether a piece lies in memory, as far as some places of it tell.
fn is_cached(part: &Part<'_>) -> bool {
    (0..part.len).step_by(SCRATCH_BYTES).all(|at| raw::is_cached(part.file.as_fd(), part.offset + at))
}

/// Put a small file into a pack.
fn append(buffer: &mut Buffer, id: EntryId, source: &SourceFile) -> Result<(), String> {
    let file = source.open()?;
    let room = buffer.room();
    let len = source.len as usize;
    let (header, rest) = room.split_at_mut_checked(pack::HEADER_BYTES).ok_or("does not fit its pack")?;
    let content = rest.get_mut(..len).ok_or("does not fit its pack")?;
    read_exact(&file, content, 0)?;
    header.copy_from_slice(&pack::header(id, len as u32));
    if !source.is_as_found(&file) {
        return Err(CHANGED.to_string());
    }
    buffer.fill(pack::HEADER_BYTES + len);
    Ok(())
}

pub(super) fn fill(file: &File, buffer: &mut Buffer, offset: u64, len: usize) -> Result<(), String> {
    let room = buffer.room().get_mut(..len).ok_or("a piece is larger than its buffer")?;
    read_exact(file, room, offset)?;
    buffer.fill(len);
    Ok(())
}

pub(super) fn read_exact(file: &File, into: &mut [u8], offset: u64) -> Result<(), String> {
    let mut at = 0;
    while at < into.len() {
        match raw::read_at(file.as_fd(), &mut into[at..], offset + at as u64) {
            Ok(0) => return Err(CHANGED.to_string()),
            Ok(n) => at += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("cannot be read: {error}")),
        }
    }
    Ok(())
}

impl SourceFile {
    fn open(&self) -> Result<File, String> {
        self.root.open_plain(&self.path).map_err(|error| error.reason())
    }

    /// Its handle, which readers of its blocks share.
    fn opened(&self) -> Result<Arc<File>, String> {
        let mut opened = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &opened.file {
            return Ok(file.clone());
        }
        let file = Arc::new(self.open()?);
        if !self.is_as_found(&file) {
            return Err(CHANGED.to_string());
        }
        *opened = Opened { file: Some(file.clone()), read: 0 };
        Ok(file)
    }

    /// Bytes that were read of it while it is open; nothing when it is not, or is just being opened.
    pub(super) fn bytes_read(&self) -> Option<u64> {
        let opened = self.open.try_lock().ok()?;
        opened.file.as_ref().map(|_| opened.read)
    }

    /// So many bytes were read; after the last of them the handle goes.
    fn finish(&self, bytes: u64) {
        let mut opened = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        opened.read += bytes;
        if opened.read >= self.len {
            *opened = Opened::default();
        }
    }

    /// Whether a file is still the one that the scan found, as far as its kind, length and time tell.
    fn is_as_found(&self, file: &File) -> bool {
        file.metadata().is_ok_and(|now| {
            now.is_file()
                && now.len() == self.len
                && (now.mtime(), now.mtime_nsec()) == (self.modified.0, self.modified.1.into())
        })
    }
}
