//! What one end of a copy has to say about itself: where its time went, and what it cost. Plain data.

use serde::{Deserialize, Serialize};

use super::{ITEM_FIXED_BYTES, ITEMS_BYTES_MAX, reason};
use crate::proto::facts::CpuClock;

/// Most passed-over paths that are named.
pub const PASSED_OVER_MAX: usize = 1000;

/// A step that threads of a copy spend their time in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Finding entries.
    Scan,
    /// Reading the source.
    Read,
    /// Hashing what was read.
    Hash,
    /// Compressing it.
    Compress,
    /// Waiting for the network, or whoever is behind it, to take more.
    Send,
    /// Waiting for work.
    AwaitWork,
    /// Waiting for what comes over the network.
    Receive,
    /// Decompressing it.
    Decompress,
    /// Looking at what is there already, making folders and links.
    Decide,
    /// Hashing what came.
    Verify,
    /// Writing.
    Write,
    /// Waiting until it is on the disk, and giving files their names.
    Commit,
}

impl Stage {
    /// All of them, in the order of a block's way.
    pub const ALL: [Stage; 12] = [
        Stage::Scan,
        Stage::Read,
        Stage::Hash,
        Stage::Compress,
        Stage::Send,
        Stage::AwaitWork,
        Stage::Receive,
        Stage::Decompress,
        Stage::Decide,
        Stage::Verify,
        Stage::Write,
        Stage::Commit,
    ];

    /// In reports.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Scan => "scan",
            Stage::Read => "read",
            Stage::Hash => "hash",
            Stage::Compress => "compress",
            Stage::Send => "send",
            Stage::AwaitWork => "await-work",
            Stage::Receive => "receive",
            Stage::Decompress => "decompress",
            Stage::Decide => "decide",
            Stage::Verify => "verify",
            Stage::Write => "write",
            Stage::Commit => "commit",
        }
    }

    /// Whether a thread in it waits for somebody else.
    pub fn is_waiting(self) -> bool {
        matches!(self, Stage::Send | Stage::AwaitWork | Stage::Receive)
    }
}

/// Time spent in a stage, over all threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageTime {
    /// Which.
    pub stage: Stage,
    /// ns, all threads together.
    pub ns: u64,
}

/// What a scan passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedOver {
    /// Its path within the copy.
    pub path: Vec<u8>,
    /// Why, without the path.
    pub why: String,
    /// It should have come; otherwise it is of a kind that never does.
    pub is_failure: bool,
}

/// The first of what was passed over, as much as one report has room for, and how much it was in all.
///
/// What failed goes before what is left out on purpose: whoever reads the report has to learn that something did.
#[derive(Debug, Default)]
pub struct PassedOverList {
    named: Vec<PassedOver>,
    bytes: usize,
    count: u64,
}

impl PassedOverList {
    /// One more.
    pub fn add(&mut self, mut passed: PassedOver) {
        self.count += 1;
        passed.why = reason(passed.why);
        while passed.is_failure && !self.has_room(&passed) && self.forget_one_left_out() {}
        if self.has_room(&passed) {
            self.bytes += passed.encoded_bytes_max();
            self.named.push(passed);
        }
    }

    /// Those that are named.
    pub fn named(&self) -> &[PassedOver] {
        &self.named
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    fn has_room(&self, passed: &PassedOver) -> bool {
        self.named.len() < PASSED_OVER_MAX && self.bytes + passed.encoded_bytes_max() <= ITEMS_BYTES_MAX
    }

    fn forget_one_left_out(&mut self) -> bool {
        let at = self.named.iter().rposition(|passed| !passed.is_failure);
        at.map(|at| self.bytes -= self.named.remove(at).encoded_bytes_max()).is_some()
    }
}

impl PassedOver {
    fn encoded_bytes_max(&self) -> usize {
        self.path.len() + self.why.len() + ITEM_FIXED_BYTES
    }
}

/// Most choices that a receipt keeps of all that either end and the command made.
pub const CHOICES_MAX: usize = 32;

/// A choice of the program's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// The option that would have said it, such as `streams`, or what was chosen where no option says it.
    pub option: String,
    /// What was chosen.
    pub value: String,
    /// Why.
    pub reason: String,
}

/// One end, so far or at the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EndReport {
    /// Host name.
    pub host: String,
    /// Program version.
    pub version: String,
    /// Since the copy began there, ns.
    pub elapsed_ns: u64,
    /// Threads that read, or store.
    pub threads: u32,
    /// Where their time went.
    pub stages: Vec<StageTime>,
    /// CPU time of the process and of the machine, at this moment.
    pub cpu: CpuClock,
    /// CPU time of the process since the copy began there, ns.
    pub cpu_ns: u64,
    /// Most memory that the process had, bytes.
    pub memory_peak_bytes: u64,
    /// Bytes of content that went over the streams, as they were before compression.
    pub moved_bytes: u64,
    /// Bytes of payload on the streams.
    pub wire_bytes: u64,
    /// Bytes that an earlier run had stored and proven.
    pub resumed_bytes: u64,
    /// Blocks that arrived damaged and were sent again.
    pub damaged_blocks: u64,
    /// One number for all files that were proven.
    pub digest: String,
    /// Paths that were passed over by the scan, and why, as many as a [`PassedOverList`] names.
    pub passed_over: Vec<PassedOver>,
    /// How many.
    pub passed_over_count: u64,
    /// What this end chose by itself.
    pub choices: Vec<Choice>,
}
