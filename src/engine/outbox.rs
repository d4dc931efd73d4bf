//! What waits to be sent on whichever stream of a copy is free next.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Nudger;
use super::buffers::Buffer;
use crate::proto::verify::BlockHash;
use crate::proto::wire::Frame;

/// A frame and its payload.
#[derive(Debug)]
pub struct Piece {
    /// Announces as many bytes as `payload` has.
    pub frame: Frame,
    /// What follows it.
    pub payload: Payload,
    /// Hashes of its content, for a carrier that need not send it: one, or one of each file of a pack. Not sent.
    pub hashes: Vec<BlockHash>,
}

/// What follows a frame.
#[derive(Debug)]
pub enum Payload {
    /// What this was filled with; it goes back to its pool when it is with the kernel.
    Buffer(Buffer),
    /// A part of a file, which the kernel sends without our touching it. Only on streams in the clear.
    Range(Range),
}

/// A part of a file. Whoever hands it over has seen to it that it lies in memory: the loop does not wait for a disk.
#[derive(Debug)]
pub struct Range {
    /// The file.
    pub file: Arc<File>,
    /// Where the part begins.
    pub offset: u64,
    /// How long it is, bytes.
    pub len: u64,
    /// Keeps the number of such pieces within bounds; goes back when the part is with the kernel.
    pub permit: Buffer,
}

impl Payload {
    /// Its bytes.
    pub fn len(&self) -> u64 {
        match self {
            Payload::Buffer(buffer) => buffer.filled().len() as u64,
            Payload::Range(range) => range.len,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where pieces go that are to reach the other end.
pub trait Carrier: Send + Sync {
    /// Have it sent, after what waits already. Bounded by the buffers that there are.
    fn push(&self, piece: Piece);

    /// Nothing more comes.
    fn close(&self);
}

/// What came of asking for a piece.
#[derive(Debug)]
pub(super) enum Found {
    Piece(Piece),
    /// Not now: the flow is nudged when there is one.
    Later,
    /// There will be no more.
    Never,
}

/// A queue that readers fill and streams empty. Bounded by the buffers that can be in it. Its clones share it.
#[derive(Clone, Debug)]
pub struct Outbox {
    shared: Arc<Mutex<State>>,
    nudger: Nudger,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Piece>,
    is_closed: bool,
    /// Streams found it empty.
    is_missed: bool,
}

impl Outbox {
    /// An empty one for the streams that `nudger` drives.
    pub fn new(nudger: Nudger) -> Outbox {
        Outbox { shared: Arc::default(), nudger }
    }

    pub(super) fn next(&self) -> Found {
        let mut state = self.lock();
        match state.queue.pop_front() {
            Some(piece) => Found::Piece(piece),
            None if state.is_closed => Found::Never,
            None => {
                state.is_missed = true;
                Found::Later
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Carrier for Outbox {
    fn push(&self, piece: Piece) {
        let mut state = self.lock();
        state.queue.push_back(piece);
        let is_missed = std::mem::take(&mut state.is_missed);
        drop(state);
        if is_missed {
            self.nudger.nudge();
        }
    }

    /// The streams end when they have sent what waits.
    fn close(&self) {
        self.lock().is_closed = true;
        self.nudger.nudge();
    }
}
