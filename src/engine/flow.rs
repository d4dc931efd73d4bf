//! What a worker drives on one connection.

use std::fs::File;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use crate::measure::histogram::LatencyHistogram;
use crate::mover::{Fault, Pool, PoolBuf, Turn};
use crate::proto::message::{Tally, WorkerSample};
use crate::sys::pipe::Pipe;

/// System calls that one stream may make before others get their turn.
pub const BUDGET_CALLS: u32 = 256;
/// Bytes that one stream may move before others get their turn; at least one call is always made.
pub const BUDGET_BYTES: u64 = 4 << 20;

/// How a drive ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The socket must become ready first.
    Blocked,
    /// The budget is used up; there is more to do.
    Again,
    /// All is done.
    Finished,
}

/// What runs on one connection until it is finished, fails, or is stopped.
pub trait Flow: Send {
    /// Which readiness it waits for.
    fn interest(&self) -> mio::Interest;

    /// Go on until the socket blocks or the budget is used up.
    fn drive(&mut self, sock: BorrowedFd<'_>, room: &mut Room<'_>) -> Result<Progress, Fault>;

    /// Add what it has moved so far.
    fn account(&self, sample: &mut WorkerSample);

    /// Latencies since the last call.
    fn take_latency(&mut self) -> Option<LatencyHistogram> {
        None
    }

    /// Whether its TCP_INFO is that of a sender.
    fn sends(&self) -> bool;
}

/// What a worker lends to the flow that it drives.
pub struct Room<'a> {
    /// The worker's buffers.
    pub pool: &'a mut Pool,
    /// The worker's pipe, empty between turns.
    pub pipe: &'a mut Option<Pipe>,
    /// `/dev/null`, open for writing.
    pub null: &'a File,
    /// What the worker's clock counts from.
    pub epoch: Instant,
    /// The peer has ended the stream, or it failed: a short read does not mean that nothing more waits.
    pub is_closing: bool,
    /// The worker never sleeps, so a flow need not avoid calls that find nothing.
    pub spin: bool,
}

impl Room<'_> {
    /// The part of it that a mover uses.
    pub fn turn<'b>(&'b mut self, tally: &'b mut Tally) -> Turn<'b> {
        Turn { pool: self.pool, pipe: self.pipe, null: self.null, tally }
    }

    /// A buffer of the worker's pool.
    pub fn buffer(&mut self) -> Result<PoolBuf, Fault> {
        self.pool
            .take()
            .ok_or_else(|| Fault::Resource { what: "no buffer", error: std::io::ErrorKind::OutOfMemory.into() })
    }

    /// The worker's clock, ns.
    pub fn now_ns(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }
}

/// What is left of a turn.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    calls: u32,
    bytes: u64,
}

impl Budget {
    /// A whole turn.
    pub fn new() -> Budget {
        Budget { calls: BUDGET_CALLS, bytes: BUDGET_BYTES }
    }

    /// Count one call that moved `bytes`; `false` when the turn is over.
    pub fn spend(&mut self, bytes: u64) -> bool {
        self.calls = self.calls.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        self.calls > 0 && self.bytes > 0
    }
}

impl Default for Budget {
    fn default() -> Self {
        Budget::new()
    }
}
