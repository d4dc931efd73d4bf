//! `mmap`: send from a mapping of the file, whose pages are made present window by window ahead of the sending.
//!
//! Only the kernel reads the mapping ([`crate::sys::mapping`]), so a file that is truncated meanwhile is an error of
//! this stream and never a signal.

use std::os::fd::BorrowedFd;

use super::{Fault, Moved, SendMethod, SendRow, Source, Turn, always, moved};
use crate::sys::mapping::FileMapping;

/// What is mapped at a time: bounds the page tables of a very large file.
const SEGMENT_BYTES: u64 = 1 << 30;
/// What is made present at a time.
const WINDOW_BYTES: u64 = 2 << 20;

pub(super) const ROW: SendRow = SendRow {
    name: "mmap",
    summary: "send() straight from a mapping of the file (memmap2), populated ahead",
    descriptors: 0,
    probe: always,
    make: |_| Ok(Box::new(Mmap { segment: None })),
};

struct Mmap {
    segment: Option<Segment>,
}

/// Invariant: everything in the mapping before `present_until` (a file offset) has been made present once.
struct Segment {
    mapping: FileMapping,
    present_until: u64,
}

impl SendMethod for Mmap {
    fn push(
        &mut self,
        sock: BorrowedFd<'_>,
        source: &Source,
        at: u64,
        len: usize,
        turn: &mut Turn<'_>,
    ) -> Result<Moved, Fault> {
        let mut segment = match self.segment.take() {
            Some(segment) if segment.mapping.covers(at, 1) => segment,
            _ => Segment::around(source, at, turn)?,
        };
        let end = segment.mapping.base() + segment.mapping.len() as u64;
        let len = len.min(usize::try_from(end - at).unwrap_or(usize::MAX));
        segment.make_present(source, at, len, turn)?;
        turn.tally.calls += 1;
        let got = moved(|| segment.mapping.send(sock, at, len, 0)).map_err(|error| fault(source, at, error));
        self.segment = Some(segment);
        got
    }
}

impl Segment {
    fn around(source: &Source, at: u64, turn: &mut Turn<'_>) -> Result<Segment, Fault> {
        let base = at - at % SEGMENT_BYTES;
        let len = (source.len - base).min(SEGMENT_BYTES) as usize;
        turn.tally.calls += 2;
        let mapping = FileMapping::new(&source.file, base, len)
            .map_err(|error| Fault::Source { name: source.name.clone(), error })?;
        mapping.advise_sequential();
        Ok(Segment { mapping, present_until: base })
    }

    fn make_present(&mut self, source: &Source, at: u64, len: usize, turn: &mut Turn<'_>) -> Result<(), Fault> {
        let wanted = at + len as u64;
        let end = self.mapping.base() + self.mapping.len() as u64;
        while self.present_until < wanted {
            let window = (end - self.present_until).min(WINDOW_BYTES);
            turn.tally.calls += 2;
            check_length(source, self.present_until + window)?;
            self.mapping
                .populate(self.present_until, window as usize)
                .map_err(|error| fault(source, self.present_until, error))?;
            self.present_until += window;
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

fn fault(source: &Source, at: u64, error: std::io::Error) -> Fault {
    match error.raw_os_error() {
        Some(libc::EFAULT) => source.truncated(at),
        _ => source.fault(error),
    }
}
