//! What the two ends tell each other about themselves and about what they measured: plain data, no behaviour.
//!
//! Every type travels over the control connection and most are kept in the result file, so each field says its
//! unit. Who fills them in is `measure`.

use serde::{Deserialize, Serialize};

/// The machine, kernel and network path of one end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Host name.
    pub host: String,
    /// `uname -sr`, for example `Linux 6.18.0`.
    pub kernel: String,
    /// `model name` of /proc/cpuinfo, or what stands for it on this architecture.
    pub cpu_model: String,
    /// CPUs online.
    pub cores: u32,
    /// Physical memory in bytes.
    pub memory_bytes: u64,
    /// cpufreq governor of CPU 0, where it can be read.
    pub governor: Option<String>,
    /// Hypervisor or container, where one can be seen.
    pub virtualisation: Option<String>,
    /// The network device that the run's route uses.
    pub nic: Option<Nic>,
    /// The system's default congestion control.
    pub congestion_control: String,
    /// Those that may be chosen.
    pub congestion_available: Vec<String>,
    /// net.ipv4.tcp_rmem: minimum, default, maximum, in bytes.
    pub tcp_rmem: [u64; 3],
    /// net.ipv4.tcp_wmem: minimum, default, maximum, in bytes.
    pub tcp_wmem: [u64; 3],
    /// Version of this program.
    pub program_version: String,
    /// Commit that it was built from, `unknown` outside a checkout.
    pub git_commit: String,
    /// Wall-clock time of the capture, RFC 3339, UTC.
    pub time: String,
}

/// A network device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// Interface name.
    pub name: String,
    /// The local address of the route.
    pub address: String,
    /// Kernel driver.
    pub driver: Option<String>,
    /// Link speed in Mbit/s.
    pub speed_mbit_per_s: Option<u64>,
    /// Maximum transmission unit in bytes.
    pub mtu_bytes: Option<u32>,
    /// Offloads that can be read without privilege: `tso`, `gso`, `gro`, `rx-checksum`, `tx-checksum`, `scatter-gather`.
    pub offloads: Vec<Offload>,
}

/// One offload of a network device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offload {
    /// Its ethtool name.
    pub name: String,
    /// Whether it is on.
    pub on: bool,
}

/// TCP_INFO of the sending sockets of one measurement, over all its streams.
///
/// Counters are sums; `rtt`, `cwnd` and `mss` are medians over streams, `min_rtt` is the least.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpSummary {
    /// Sockets that were read.
    pub streams: u32,
    /// Smoothed round-trip time, µs.
    pub rtt_us: u32,
    /// Least round-trip time, µs.
    pub min_rtt_us: u32,
    /// Congestion window, segments.
    pub cwnd_segments: u32,
    /// Maximum segment size towards the peer, bytes.
    pub mss_bytes: u32,
    /// Segments sent again.
    pub retransmits: u64,
    /// The kernel's delivery-rate estimate, bytes/s, summed over streams.
    pub delivery_rate_bytes_per_s: u64,
    /// Time with unacknowledged data in flight, µs, summed.
    pub busy_us: u64,
    /// … of it held back by the receiver's window, µs, summed.
    pub rwnd_limited_us: u64,
    /// … of it held back by the send buffer, µs, summed.
    pub sndbuf_limited_us: u64,
    /// Age of the connections when read, µs, summed: what `busy_us` is a share of.
    pub age_us: u64,
    /// Congestion control in use.
    pub congestion_control: String,
}

/// CPU time, as read at one moment. Differences of two moments mean something, the values do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuClock {
    /// User + system time of this process, ns (getrusage).
    pub process_ns: u64,
    /// Busy time of the whole machine over all CPUs, in /proc/stat ticks (user, nice, system, irq, softirq, steal).
    pub machine_busy_ticks: u64,
    /// Busy and idle time of the whole machine, ticks.
    pub machine_all_ticks: u64,
}
