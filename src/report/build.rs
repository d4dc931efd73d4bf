//! From what was measured to the result document: medians, costs and labels.
//!
//! Every number in the document is finite; what cannot be said is `None`.

use super::labels;
use super::schema::{Calls, Cell, Cpu, Document, Ends, Latency, SCHEMA, Settings, TcpSummary, Throughput};
use crate::bench::outcome::{CellOutcome, EndCost, LatencyOutcome, Outcome, Round};
use crate::bench::plan::Draft;
use crate::bench::statistics::{median, median_interval};
use crate::measure::cpu::busy_share;
use crate::proto::facts::CpuClock;
use crate::proto::message::SocketOptions;
use crate::text::printable;
use crate::units::Rate;

const GIB: f64 = (1u64 << 30) as f64;
/// With fewer rounds than this, intervals are weak.
const ROUNDS_ENOUGH: usize = 5;
/// A sender whose connection had data in flight for less than this share of its life was limited by its program.
const BUSY_SHARE_MIN: f64 = 0.9;

/// The document of a run, with the command line that made it.
pub fn document(outcome: &Outcome, command: Vec<String>) -> Document {
    let cells: Vec<Cell> = outcome.cells.iter().map(|cell| cell_of(outcome, cell)).collect();
    let latency = outcome.latency.iter().map(|row| latency_of(outcome, row)).collect();
    Document {
        schema: SCHEMA.to_string(),
        version: outcome.link.client.program_version.clone(),
        command,
        seed: outcome.plan.seed,
        started_at: outcome.started_at.clone(),
        elapsed_s: outcome.elapsed_s,
        complete: outcome.cut_short.is_none(),
        environment: Ends { client: outcome.link.client.clone(), server: outcome.link.server.clone() },
        settings: settings(outcome),
        recommendation: super::advice::recommend(&cells),
        cells,
        latency,
    }
}

fn settings(outcome: &Outcome) -> Settings {
    let (draft, link) = (&outcome.plan.draft, &outcome.link);
    let path = |path: &std::path::PathBuf| printable(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()));
    Settings {
        peer: link.peer.clone(),
        loopback: link.loopback,
        rounds: draft.rounds,
        rounds_measured: outcome.rounds_measured,
        duration_ns: if draft.bytes.is_some() { 0 } else { draft.duration.as_nanos() as u64 },
        bytes_per_cell: draft.bytes.unwrap_or(0),
        warmup_ns: draft.warmup.as_nanos() as u64,
        congestion: link.congestion.clone(),
        congestion_reason: link.congestion_reason.clone(),
        cipher: link.cipher.clone(),
        server_known: link.is_server_known,
        through_ssh: link.through_ssh,
        workers: draft.workers,
        client_cpus: draft.client_cpus.clone(),
        server_cpus: draft.server_cpus.clone(),
        spin: draft.spin,
        source: draft.source.as_ref().map_or("hot".to_string(), path),
        sink: draft.sink.as_ref().map_or("discard".to_string(), path),
        socket_options: socket_options(draft),
    }
}

fn socket_options(draft: &Draft) -> Vec<String> {
    let SocketOptions { congestion, nodelay, send_buffer, receive_buffer, mss, dscp, pace } = &draft.options;
    let named = |name: &str, value: Option<String>| value.map(|value| format!("{name}={value}"));
    let all = [
        named("congestion", congestion.clone()),
        named("nodelay", nodelay.then(|| "on".to_string())),
        named("send-buffer", send_buffer.map(|bytes| bytes.to_string())),
        named("receive-buffer", receive_buffer.map(|bytes| bytes.to_string())),
        named("mss", mss.map(|bytes| bytes.to_string())),
        named("dscp", dscp.map(|code| code.to_string())),
        named("pace", pace.map(|rate| Rate(rate).to_string())),
    ];
    all.into_iter().flatten().collect()
}

fn cell_of(outcome: &Outcome, cell: &CellOutcome) -> Cell {
    Cell {
        method: cell.cell.send.name.to_string(),
        receive: cell.cell.receive.name.to_string(),
        size_bytes: cell.cell.size,
        streams: cell.cell.streams,
        tls: cell.cell.tls,
        direction: outcome.plan.draft.direction.name().to_string(),
        source: if outcome.plan.draft.source.is_some() { "file" } else { "hot" }.to_string(),
        labels: labels_of(outcome, cell),
        throughput: throughput(&cell.rounds),
        cpu: cpu_of(&cell.rounds),
        tcp: cell.tcp.clone(),
        calls: calls_of(&cell.rounds),
        unavailable: cell.unavailable.clone(),
    }
}

fn labels_of(outcome: &Outcome, cell: &CellOutcome) -> Vec<String> {
    let draft = &outcome.plan.draft;
    let completions: u64 = cell.rounds.iter().map(|round| round.completions).sum();
    let copied: u64 = cell.rounds.iter().map(|round| round.copied).sum();
    let not_read = !cell.cell.receive.reads && draft.sink.is_none();
    let table = [
        (labels::LOOPBACK, outcome.link.loopback),
        (labels::THROUGH_SSH, outcome.link.through_ssh),
        (labels::HOT_SOURCE, draft.source.is_none()),
        (labels::COPIED, completions > 0 && copied * 2 >= completions),
        (labels::NOT_READ, not_read),
        (labels::APP_LIMITED, cell.tcp.as_ref().is_some_and(is_app_limited)),
        (labels::SHARED, cell.rounds.iter().any(|round| round.shared)),
        (labels::FEW_ROUNDS, !cell.rounds.is_empty() && cell.rounds.len() < ROUNDS_ENOUGH),
    ];
    table.into_iter().filter(|(_, holds)| *holds).map(|(name, _)| name.to_string()).collect()
}

fn is_app_limited(tcp: &TcpSummary) -> bool {
    tcp.age_us > 0 && (tcp.busy_us as f64) < BUSY_SHARE_MIN * tcp.age_us as f64
}

fn throughput(rounds: &[Round]) -> Option<Throughput> {
    let rates: Vec<f64> = rounds.iter().map(|round| round.bytes_per_s).filter(|rate| rate.is_finite()).collect();
    let interval = median_interval(&rates)?;
    Some(Throughput {
        median_bytes_per_s: median(&rates)?,
        low_bytes_per_s: interval.low,
        high_bytes_per_s: interval.high,
        coverage: interval.coverage,
        rounds_bytes_per_s: rates,
    })
}

fn cpu_of(rounds: &[Round]) -> Cpu {
    Cpu {
        sender_s_per_gib: seconds_per_gib(&sum(rounds, |round| round.sender)),
        receiver_s_per_gib: seconds_per_gib(&sum(rounds, |round| round.receiver)),
        client_machine_busy: busy(rounds, |round| round.client_cpu),
        server_machine_busy: busy(rounds, |round| round.server_cpu),
    }
}

fn calls_of(rounds: &[Round]) -> Calls {
    let per_gib = |cost: EndCost| if cost.bytes == 0 { 0.0 } else { cost.calls as f64 / (cost.bytes as f64 / GIB) };
    Calls {
        sender_per_gib: per_gib(sum(rounds, |round| round.sender)),
        receiver_per_gib: per_gib(sum(rounds, |round| round.receiver)),
        zerocopy_completions: rounds.iter().map(|round| round.completions).sum(),
        zerocopy_copied: rounds.iter().map(|round| round.copied).sum(),
    }
}

fn sum(rounds: &[Round], pick: fn(&Round) -> EndCost) -> EndCost {
    rounds.iter().map(pick).fold(EndCost::default(), |all, cost| EndCost {
        bytes: all.bytes + cost.bytes,
        cpu_ns: all.cpu_ns + cost.cpu_ns,
        calls: all.calls + cost.calls,
    })
}

fn seconds_per_gib(cost: &EndCost) -> Option<f64> {
    (cost.bytes > 0).then(|| cost.cpu_ns as f64 / 1e9 / (cost.bytes as f64 / GIB))
}

/// Busy share over all rounds together: one round is only a few ticks long.
fn busy(rounds: &[Round], pick: fn(&Round) -> (CpuClock, CpuClock)) -> Option<f64> {
    let mut all = CpuClock::default();
    for (before, after) in rounds.iter().map(pick) {
        all.machine_busy_ticks += after.machine_busy_ticks.saturating_sub(before.machine_busy_ticks);
        all.machine_all_ticks += after.machine_all_ticks.saturating_sub(before.machine_all_ticks);
    }
    busy_share(&CpuClock::default(), &all)
}

fn latency_of(outcome: &Outcome, row: &LatencyOutcome) -> Latency {
    let quantile = |q| row.histogram.quantile_ns(q);
    let encoded = row.histogram.to_base64();
    let none = (row.histogram.count() == 0).then(|| "not measured before the run was cut short".to_string());
    let unavailable = row.unavailable.clone().or_else(|| encoded.as_ref().err().map(ToString::to_string)).or(none);
    let link = &outcome.link;
    let table =
        [(labels::LOOPBACK, link.loopback), (labels::THROUGH_SSH, link.through_ssh), (labels::SHARED, row.shared)];
    Latency {
        size_bytes: row.size,
        reply_bytes: row.reply,
        tls: row.tls,
        mode: if outcome.plan.draft.spin { "spin" } else { "sleep" }.to_string(),
        count: row.histogram.count(),
        p50_ns: quantile(0.5),
        p90_ns: quantile(0.9),
        p99_ns: quantile(0.99),
        p999_ns: quantile(0.999),
        max_ns: row.histogram.max_ns(),
        histogram: encoded.unwrap_or_default(),
        labels: table.into_iter().filter(|(_, holds)| *holds).map(|(name, _)| name.to_string()).collect(),
        unavailable,
    }
}
