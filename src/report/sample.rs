//! Documents for tests: small, of round figures, like those of a run.

use super::labels::{FEW_ROUNDS, HOT_SOURCE, LOOPBACK, NOT_READ};
use super::schema::{Cell, Cpu, Document, Ends, Environment, Latency, SCHEMA, Settings, TcpSummary, Throughput};
use crate::proto::facts::Nic;

/// Two methods × three sizes of one send stream, one method that the kernel lacks, and a latency row: all
/// intervals of five rounds, `sendfile` at 256KiB fastest.
pub fn document() -> Document {
    let mut cells = Vec::new();
    for (method, gbit, cost) in
        [("write", [5.12, 33.0, 56.5], [1.9, 0.62, 0.4]), ("sendfile", [6.3, 57.0, 57.9], [1.5, 0.21, 0.25])]
    {
        for (index, size) in [4 << 10, 64 << 10, 256 << 10].into_iter().enumerate() {
            cells.push(cell(method, size, gbit[index], 0.03, cost[index]));
        }
    }
    cells.extend([4 << 10, 64 << 10, 256 << 10].map(|size| unavailable("splice", size, "this kernel has no splice")));
    let recommendation = super::advice::recommend(&cells);
    Document {
        schema: SCHEMA.into(),
        version: "0.1.0".into(),
        command: vec!["linerate".into(), "bench".into()],
        seed: 42,
        started_at: "2026-11-02T10:00:00Z".into(),
        elapsed_s: 61.4,
        complete: true,
        environment: Ends { client: environment("alpha", None), server: environment("beta", Some(nic())) },
        settings: settings(),
        cells,
        latency: vec![latency(1 << 10)],
        recommendation,
    }
}

/// A cell of five rounds around `gbit` Gbit/s with an interval of ± `spread`, both ends together `cost` CPU s/GiB.
pub fn cell(method: &str, size_bytes: u64, gbit: f64, spread: f64, cost: f64) -> Cell {
    let rate = gbit * 1.25e8;
    let rounds = [1.0, 1.0 - spread, 1.0 + spread, 1.0 - spread / 2.0, 1.0 + spread / 2.0];
    Cell {
        throughput: Some(Throughput {
            median_bytes_per_s: rate,
            low_bytes_per_s: rate * (1.0 - spread),
            high_bytes_per_s: rate * (1.0 + spread),
            coverage: 0.9375,
            rounds_bytes_per_s: rounds.map(|share| share * rate).into(),
        }),
        cpu: Cpu { sender_s_per_gib: Some(cost * 0.75), receiver_s_per_gib: Some(cost * 0.25), ..Cpu::default() },
        tcp: Some(tcp()),
        unavailable: None,
        ..unavailable(method, size_bytes, "")
    }
}

/// A cell without a number.
pub fn unavailable(method: &str, size_bytes: u64, reason: &str) -> Cell {
    Cell {
        method: method.into(),
        receive: "read".into(),
        size_bytes,
        streams: 1,
        tls: false,
        direction: "send".into(),
        source: "hot".into(),
        labels: vec![LOOPBACK.into(), HOT_SOURCE.into()],
        throughput: None,
        cpu: Cpu::default(),
        tcp: None,
        calls: Default::default(),
        unavailable: Some(reason.into()),
    }
}

/// The cell as if only one round had been measured.
pub fn one_round(mut cell: Cell) -> Cell {
    if let Some(throughput) = &mut cell.throughput {
        throughput.coverage = 0.0;
        throughput.low_bytes_per_s = throughput.median_bytes_per_s;
        throughput.high_bytes_per_s = throughput.median_bytes_per_s;
        throughput.rounds_bytes_per_s.truncate(1);
    }
    cell.labels.push(FEW_ROUNDS.into());
    cell
}

/// The cell as if the receiver had thrown the bytes away.
pub fn not_read(mut cell: Cell) -> Cell {
    cell.receive = "trunc".into();
    cell.labels.push(NOT_READ.into());
    cell
}

fn tcp() -> TcpSummary {
    TcpSummary {
        streams: 1,
        rtt_us: 61,
        min_rtt_us: 20,
        cwnd_segments: 10,
        mss_bytes: 1448,
        retransmits: 0,
        delivery_rate_bytes_per_s: 7_000_000_000,
        busy_us: 490_000,
        rwnd_limited_us: 196_000,
        sndbuf_limited_us: 0,
        age_us: 500_000,
        congestion_control: "cubic".into(),
    }
}

fn latency(size_bytes: u64) -> Latency {
    Latency {
        size_bytes,
        reply_bytes: 1,
        tls: false,
        mode: "sleep".into(),
        count: 20_000,
        p50_ns: 61_200,
        p90_ns: 70_100,
        p99_ns: 95_000,
        p999_ns: 180_000,
        max_ns: 1_400_000,
        histogram: String::new(),
        labels: vec![LOOPBACK.into()],
        unavailable: None,
    }
}

fn settings() -> Settings {
    Settings {
        peer: "192.0.2.7:5290".into(),
        rounds: 5,
        rounds_measured: 5,
        duration_ns: 500_000_000,
        congestion: "cubic".into(),
        congestion_reason: Some("the default of both ends".into()),
        workers: 1,
        client_cpus: vec![0],
        source: "hot".into(),
        sink: "discard".into(),
        ..Settings::default()
    }
}

fn environment(host: &str, nic: Option<Nic>) -> Environment {
    Environment {
        host: host.into(),
        kernel: "Linux 6.18.0".into(),
        cpu_model: "Some CPU".into(),
        cores: 2,
        nic,
        congestion_control: "cubic".into(),
        program_version: "0.1.0".into(),
        git_commit: "abc1234".into(),
        ..Environment::default()
    }
}

fn nic() -> Nic {
    Nic { name: "eth0".into(), speed_mbit_per_s: Some(25_000), mtu_bytes: Some(1500), ..Nic::default() }
}
