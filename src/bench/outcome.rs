//! What was measured, raw: one entry for each round. Medians and labels are made from it by `report`.

use crate::measure::histogram::LatencyHistogram;
use crate::proto::facts::{CpuClock, Environment, TcpSummary};

use super::plan::{CellPlan, Plan};

/// A whole run.
#[derive(Debug)]
pub struct Outcome {
    /// What was planned.
    pub plan: Plan,
    /// Where the server was reached.
    pub link: LinkFacts,
    /// Start, RFC 3339, UTC.
    pub started_at: String,
    /// How long it took, seconds.
    pub elapsed_s: f64,
    /// Rounds in which everything was measured.
    pub rounds_measured: u32,
    /// Why it ended early.
    pub cut_short: Option<String>,
    /// In the order of the plan's cells.
    pub cells: Vec<CellOutcome>,
    /// In the order of the plan's latency table.
    pub latency: Vec<LatencyOutcome>,
}

/// Facts about the link and the two ends.
#[derive(Clone, Debug, Default)]
pub struct LinkFacts {
    /// The server's address.
    pub peer: String,
    /// Whether both ends are the same machine.
    pub loopback: bool,
    /// This end.
    pub client: Environment,
    /// The other end.
    pub server: Environment,
    /// Congestion control of the data streams.
    pub congestion: String,
    /// Why that one, where nobody chose it.
    pub congestion_reason: Option<String>,
    /// Cipher suite of the streams in TLS, and of the control connection.
    pub cipher: String,
    /// Whether the server proved to be the one that was meant.
    pub is_server_known: bool,
    /// Everything went through an ssh connection.
    pub through_ssh: bool,
}

/// One cell over all rounds.
#[derive(Clone, Debug)]
pub struct CellOutcome {
    /// Which.
    pub cell: CellPlan,
    /// Rounds that were measured.
    pub rounds: Vec<Round>,
    /// The senders' TCP_INFO in the last round.
    pub tcp: Option<TcpSummary>,
    /// Why it could not be measured, or failed.
    pub unavailable: Option<String>,
    /// Whether that was known before the run: an end lacks the method.
    pub lacking: bool,
}

/// One cell in one round.
#[derive(Clone, Debug, Default)]
pub struct Round {
    /// Bytes per second taken by the receiving application over its own window.
    pub bytes_per_s: f64,
    /// What the sending ends did.
    pub sender: EndCost,
    /// What the receiving ends did.
    pub receiver: EndCost,
    /// MSG_ZEROCOPY completions.
    pub completions: u64,
    /// … copied after all.
    pub copied: u64,
    /// CPU clocks of the client's machine, before and after.
    pub client_cpu: (CpuClock, CpuClock),
    /// CPU clocks of the server's machine, before and after.
    pub server_cpu: (CpuClock, CpuClock),
    /// The server had other sessions.
    pub shared: bool,
}

/// Cost of one end in one round.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EndCost {
    /// Payload bytes.
    pub bytes: u64,
    /// Process CPU time, ns.
    pub cpu_ns: u64,
    /// System calls.
    pub calls: u64,
}

/// Latency at one size over all rounds.
#[derive(Clone, Debug)]
pub struct LatencyOutcome {
    /// Request size, bytes.
    pub size: u64,
    /// Whether it went through TLS.
    pub tls: bool,
    /// Reply size, bytes.
    pub reply: u64,
    /// Every exchange.
    pub histogram: LatencyHistogram,
    /// The server had other sessions.
    pub shared: bool,
    /// Why there is none.
    pub unavailable: Option<String>,
}
