//! Bringing bytes of a source into memory, where TLS encrypts them.

use super::{Fault, Source, Turn};

/// How a send method gets at the bytes of a source when they have to be seen.
pub trait Feed: Send {
    /// Fill `into` with the bytes of `source` from `at`; `at + into.len()` lies within the source.
    fn fill(&mut self, into: &mut [u8], source: &Source, at: u64, turn: &mut Turn<'_>) -> Result<(), Fault>;
}
