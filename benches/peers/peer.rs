//! What every tool stands behind: workloads in, figures out.

use serde::Serialize;

/// What is measured, over loopback, on one connection.
#[derive(Clone, Debug, Serialize)]
pub struct Workload {
    /// What the bytes do.
    pub kind: Kind,
    /// Bytes that one call is asked to move; `None` leaves the tool's own default.
    pub size_bytes: Option<u64>,
    /// Length of a run, ms.
    pub millis: u64,
    /// CPUs of client and server; `None` leaves it to the scheduler.
    pub cpus: Option<(u32, u32)>,
}

impl Workload {
    /// Its length for tools that know whole seconds only.
    pub fn seconds(&self) -> u64 {
        self.millis.div_ceil(1000).max(1)
    }

    /// The size where a tool must be told one.
    pub fn size(&self) -> u64 {
        self.size_bytes.unwrap_or(DEFAULT_BYTES)
    }
}

/// What iperf3 uses for TCP when it is not told.
pub const DEFAULT_BYTES: u64 = 128 << 10;

/// What the bytes do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One stream, client to server, from memory that stays in the cache, by plain writes.
    Stream,
    /// The same without a copy by the sender (`-Z`, sendfile).
    ZeroCopyStream,
    /// The same as [`Kind::Stream`] in TLS 1.3 with AES-128-GCM.
    SecureStream,
    /// Request and response of the same size, sleeping in between.
    Sleeping,
    /// The same, busy polling at both ends.
    Spinning,
}

impl Kind {
    /// Whether the figure is a time.
    pub fn is_latency(self) -> bool {
        matches!(self, Kind::Sleeping | Kind::Spinning)
    }
}

/// Which congestion control a tool uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Congestion {
    /// The one that we tell it.
    Chosen,
    /// The system's default: it cannot be told.
    Default,
    /// It has no connections.
    NoNetwork,
}

/// What came of one run. What a tool does not tell is absent.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// Bytes per second that the receiver took.
    pub bytes_per_s: Option<f64>,
    /// Round-trip time, ns, by `statistic`.
    pub round_trip_ns: Option<f64>,
    /// What `round_trip_ns` is: `p50` or `mean`.
    pub statistic: Option<&'static str>,
    /// CPU seconds of both ends for 10 GB.
    pub cpu_s_per_10gb: Option<f64>,
    /// CPU seconds of each process in its whole life, start included, by /proc (resolution 10 ms).
    pub client_cpu_s: f64,
    /// … of the server.
    pub server_cpu_s: f64,
    /// Most memory that the client had resident, bytes (VmHWM).
    pub client_rss_peak_bytes: u64,
    /// … the server.
    pub server_rss_peak_bytes: u64,
    /// The client's exact command.
    pub client_command: String,
    /// The server's.
    pub server_command: String,
}

impl Figures {
    /// The figure that a workload is about.
    pub fn main(&self, kind: Kind) -> Option<f64> {
        if kind.is_latency() { self.round_trip_ns } else { self.bytes_per_s }
    }
}

/// A tool.
pub trait Peer {
    /// How to call it in a table, for a workload.
    fn label(&self, workload: &Workload) -> String;

    /// Its version; the reason why it cannot be used here.
    fn version(&self) -> Result<String, String>;

    /// Which congestion control it uses.
    fn congestion(&self) -> Congestion;

    /// One run.
    fn measure(&self, workload: &Workload) -> anyhow::Result<Figures>;
}
