//! `mmap`: send from a mapping of the file, whose pages are made present window by window ahead of the sending.
//!
//! Only the kernel reads the mapping ([`crate::sys::mapping`]), so a file that is truncated meanwhile is an error of
//! this stream and never a signal.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::segments::{Segment, Segments, fault};
use super::{Fault, Feed, Moved, SendMethod, SendRow, Source, Turn, always, moved};

pub(super) const ROW: SendRow = SendRow {
    name: "mmap",
    summary: "send() straight from a mapping of the file (memmap2), populated ahead",
    descriptors: 0,
    cork_from_bytes: 1,
    probe: always,
    make: |_| Ok(Box::new(Mmap { segment: None })),
    feed: Some(|| Box::new(Mmap { segment: None })),
};

struct Mmap {
    segment: Option<Arc<Segment>>,
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
        let segment = self.segment(source, at, turn)?;
        let len = len.min(usize::try_from(segment.end() - at).unwrap_or(usize::MAX));
        segment.make_present(source, at + len as u64, turn)?;
        turn.tally.calls += 1;
        let got = moved(|| segment.mapping.send(sock, at, len, 0)).map_err(|error| fault(source, at, error));
        self.segment = Some(segment);
        got
    }
}

impl Mmap {
    fn segment(&mut self, source: &Source, at: u64, turn: &mut Turn<'_>) -> Result<Arc<Segment>, Fault> {
        match self.segment.take() {
            Some(segment) if segment.mapping.covers(at, 1) => Ok(segment),
            _ => Segments::around(source, at, turn),
        }
    }
}

/// For TLS: the kernel copies out of the mapping (process_vm_readv), because reading it ourselves would die with a
/// file that is truncated meanwhile.
impl Feed for Mmap {
    fn fill(&mut self, into: &mut [u8], source: &Source, at: u64, turn: &mut Turn<'_>) -> Result<(), Fault> {
        let mut done = 0;
        while done < into.len() {
            let here = at + done as u64;
            let segment = self.segment(source, here, turn)?;
            let len = (into.len() - done).min(usize::try_from(segment.end() - here).unwrap_or(usize::MAX));
            segment.make_present(source, here + len as u64, turn)?;
            turn.tally.calls += 1;
            let copied = segment.mapping.copy_to(here, &mut into[done..done + len]);
            copied.map_err(|error| fault(source, here, error))?;
            self.segment = Some(segment);
            done += len;
        }
        Ok(())
    }
}
