//! The result file, schema `linerate.bench/1`.
//!
//! One JSON object. Fields are only ever added; a reader ignores those it does not know, and every field that
//! was added after the first release of a schema has a default, so an older file reads as if it had said nothing.
//!
//! | field | what it holds |
//! |---|---|
//! | `schema` | `linerate.bench/1` |
//! | `version` | version of the program that measured |
//! | `command` | the exact command line, one string per argument |
//! | `seed` | seed of the order in which cells were measured |
//! | `started_at` | RFC 3339, UTC |
//! | `complete` | `false` when the run was interrupted: what was measured until then is here |
//! | `environment` | `client` and `server`: [`Environment`] of both ends |
//! | `settings` | what holds for every cell: [`Settings`] |
//! | `cells` | throughput: [`Cell`] |
//! | `latency` | request/response: [`Latency`] |
//! | `recommendation` | [`Recommendation`] |

use serde::{Deserialize, Serialize};

pub use crate::proto::facts::{Environment, TcpSummary};

/// The value of [`Document::schema`] that this program writes.
pub const SCHEMA: &str = "linerate.bench/1";

/// A whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// [`SCHEMA`].
    pub schema: String,
    /// Version of the program.
    pub version: String,
    /// The command line, one string per argument.
    pub command: Vec<String>,
    /// Seed of the order of the cells.
    pub seed: u64,
    /// Start, RFC 3339, UTC.
    pub started_at: String,
    /// Seconds from start to end.
    #[serde(default)]
    pub elapsed_s: f64,
    /// Whether every planned cell was measured in every round.
    #[serde(default = "yes")]
    pub complete: bool,
    /// Both ends.
    pub environment: Ends,
    /// What holds for every cell.
    #[serde(default)]
    pub settings: Settings,
    /// Throughput cells, in the order of the table: method, then size, then streams.
    pub cells: Vec<Cell>,
    /// Latency rows, by size.
    pub latency: Vec<Latency>,
    /// What to use.
    pub recommendation: Recommendation,
}

/// The environment of the two ends.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ends {
    /// Where `linerate bench` ran.
    pub client: Environment,
    /// Where `linerate serve` ran.
    pub server: Environment,
}

/// What holds for every cell of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The server's address as it was reached.
    pub peer: String,
    /// Whether the link is the loopback device.
    pub loopback: bool,
    /// Rounds planned.
    pub rounds: u32,
    /// Rounds finished.
    pub rounds_measured: u32,
    /// Length of one cell in one round, ns; 0 when `bytes_per_cell` rules.
    pub duration_ns: u64,
    /// Bytes of one cell in one round instead of a duration; 0 when `duration_ns` rules.
    pub bytes_per_cell: u64,
    /// Warm-up before each cell, ns.
    pub warmup_ns: u64,
    /// Congestion control of the data streams.
    pub congestion: String,
    /// Why that one, where the user did not choose.
    pub congestion_reason: Option<String>,
    /// Cipher suite of the streams in TLS, by its name in the TLS registry.
    pub cipher: String,
    /// Whether the server proved to be the one that was meant.
    pub server_known: bool,
    /// Whether everything went through an ssh connection.
    pub through_ssh: bool,
    /// Worker threads of either end.
    pub workers: u32,
    /// CPUs the client was pinned to.
    pub client_cpus: Vec<u32>,
    /// CPUs the server was pinned to.
    pub server_cpus: Vec<u32>,
    /// Busy polling instead of sleeping.
    pub spin: bool,
    /// Where the sent bytes came from: `hot` or a path.
    pub source: String,
    /// Where the received bytes went: `discard` or a path on the server.
    pub sink: String,
    /// Socket options asked for by the user, as `name=value`.
    pub socket_options: Vec<String>,
}

/// One setting of the matrix, over all its rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// How the sender moved the bytes: `write`, `mmap`, `sendfile`, `splice`, `zerocopy`.
    pub method: String,
    /// How the receiver took them: `read`, `trunc`, `splice`.
    pub receive: String,
    /// Bytes that one system call was asked to move.
    pub size_bytes: u64,
    /// Connections, per direction.
    pub streams: u32,
    /// Whether they went through TLS 1.3.
    #[serde(default)]
    pub tls: bool,
    /// `send` (client to server), `receive` (server to client) or `both` (at the same time, summed).
    pub direction: String,
    /// `hot` or `file`.
    pub source: String,
    /// What makes the number flatter or differ: see `report::labels`.
    pub labels: Vec<String>,
    /// Bytes per second taken by the receiving application.
    pub throughput: Option<Throughput>,
    /// CPU cost.
    #[serde(default)]
    pub cpu: Cpu,
    /// The sender's TCP_INFO in the last round.
    pub tcp: Option<TcpSummary>,
    /// System calls, per GiB moved.
    #[serde(default)]
    pub calls: Calls,
    /// Why this cell has no number; `null` where it has one.
    pub unavailable: Option<String>,
}

/// Throughput over rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Throughput {
    /// Median of the rounds.
    pub median_bytes_per_s: f64,
    /// Lower end of the interval.
    pub low_bytes_per_s: f64,
    /// Upper end of the interval.
    pub high_bytes_per_s: f64,
    /// Probability that the interval holds the median of the distribution (order statistics, no assumption about
    /// its form): 0.9375 for minimum to maximum of 5 rounds; 0 for one round.
    #[serde(default)]
    pub coverage: f64,
    /// Each round, in the order measured.
    pub rounds_bytes_per_s: Vec<f64>,
}

/// CPU cost over all rounds of a cell. In direction `both` each process does both: then the sender is the client's
/// process and the receiver the server's, each over the bytes that it moved both ways.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cpu {
    /// CPU seconds (user + system) of the sending process per GiB that it sent.
    pub sender_s_per_gib: Option<f64>,
    /// CPU seconds (user + system) of the receiving process per GiB that it took.
    pub receiver_s_per_gib: Option<f64>,
    /// Busy share of all CPUs of the client's machine, 0 to 1: holds softirq time, which processes do not show.
    pub client_machine_busy: Option<f64>,
    /// The same of the server's machine.
    pub server_machine_busy: Option<f64>,
}

/// System calls that moved the data or waited for it, per GiB.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Calls {
    /// By the sender.
    pub sender_per_gib: f64,
    /// By the receiver.
    pub receiver_per_gib: f64,
    /// MSG_ZEROCOPY completions.
    pub zerocopy_completions: u64,
    /// … of them that the kernel copied after all.
    pub zerocopy_copied: u64,
}

/// Request/response latency at one size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Request size in bytes.
    pub size_bytes: u64,
    /// Reply size in bytes.
    #[serde(default)]
    pub reply_bytes: u64,
    /// Whether it went through TLS 1.3.
    #[serde(default)]
    pub tls: bool,
    /// `sleep` or `spin`.
    pub mode: String,
    /// Exchanges measured.
    pub count: u64,
    /// Median of the round-trip time, ns.
    pub p50_ns: u64,
    /// 90th percentile, ns.
    pub p90_ns: u64,
    /// 99th percentile, ns.
    pub p99_ns: u64,
    /// 99.9th percentile, ns.
    pub p999_ns: u64,
    /// Longest, ns.
    pub max_ns: u64,
    /// Every exchange: HDR histogram, V2 encoding, base64.
    pub histogram: String,
    /// What makes the number flatter or differ.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Why this row has no number.
    #[serde(default)]
    pub unavailable: Option<String>,
}

/// What the run says to use. Settings whose intervals overlap are not ranked against each other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Recommendation {
    /// One or two sentences for a person.
    pub sentences: Vec<String>,
    /// Index in `cells` of the highest median.
    pub fastest: Option<usize>,
    /// Indices of the cells that are not measurably slower.
    pub as_fast: Vec<usize>,
    /// Index of the least CPU seconds of both ends per GiB among `fastest` and `as_fast`.
    pub cheapest: Option<usize>,
}

fn yes() -> bool {
    true
}
