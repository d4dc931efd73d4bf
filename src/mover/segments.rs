//! Mapped parts of a source, shared by all streams that send from it: a thousand streams cost the page tables of
//! one. Looked up once a gigabyte and stream, never per chunk.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::{Fault, Source, Turn};
use crate::sys::mapping::FileMapping;

/// What is mapped at a time: bounds the page tables of a very large file.
pub(super) const SEGMENT_BYTES: u64 = 1 << 30;
/// What is made present at a time.
const WINDOW_BYTES: u64 = 2 << 20;

/// The segments of one source that are in use, by the file offset where they begin.
#[derive(Debug, Default)]
pub struct Segments {
    live: Mutex<HashMap<u64, Weak<Segment>>>,
}

/// Up to [`SEGMENT_BYTES`] of a file.
///
/// Invariant: everything in the mapping before `present_until` (a file offset, only growing) was made present once.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) mapping: FileMapping,
    present_until: AtomicU64,
}

impl Segments {
    /// The segment that holds byte `at` of `source`, mapped now if no stream has it mapped.
    pub(super) fn around(source: &Source, at: u64, turn: &mut Turn<'_>) -> Result<Arc<Segment>, Fault> {
        let base = at - at % SEGMENT_BYTES;
        let mut live = source.segments.live.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(segment) = live.get(&base).and_then(Weak::upgrade) {
            return Ok(segment);
        }
        live.retain(|_, segment| segment.strong_count() > 0);
        let len = (source.len - base).min(SEGMENT_BYTES) as usize;
        turn.tally.calls += 2;
        let mapping = FileMapping::new(&source.file, base, len)
            .map_err(|error| Fault::Source { name: source.name.clone(), error })?;
        mapping.advise_sequential();
        let segment = Arc::new(Segment { mapping, present_until: AtomicU64::new(base) });
        live.insert(base, Arc::downgrade(&segment));
        Ok(segment)
    }
}

impl Segment {
    /// The file offset after its last byte.
    pub(super) fn end(&self) -> u64 {
        self.mapping.base() + self.mapping.len() as u64
    }

    /// Make everything before `wanted` present that is not yet. Two streams at once may do the same twice.
    pub(super) fn make_present(&self, source: &Source, wanted: u64, turn: &mut Turn<'_>) -> Result<(), Fault> {
        let mut until = self.present_until.load(Ordering::Relaxed);
        while until < wanted {
            let window = (self.end() - until).min(WINDOW_BYTES);
            turn.tally.calls += 2;
            check_length(source, until + window)?;
            self.mapping.populate(until, window as usize).map_err(|error| fault(source, until, error))?;
            until += window;
            self.present_until.fetch_max(until, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// A page that is cut in the middle reads as zeros without any error: look at the length before it is mapped in.
/// A block device has no length of its own here.
fn check_length(source: &Source, needed: u64) -> Result<(), Fault> {
    let meta = source.file.metadata().map_err(|error| Fault::Source { name: source.name.clone(), error })?;
    if meta.is_file() && meta.len() < needed {
        return Err(source.truncated(meta.len()));
    }
    Ok(())
}

/// What a failed access to the mapping at `at` means: EFAULT is a file that no longer reaches so far.
pub(super) fn fault(source: &Source, at: u64, error: io::Error) -> Fault {
    match error.raw_os_error() {
        Some(libc::EFAULT) => source.truncated(at),
        _ => source.fault(error),
    }
}
