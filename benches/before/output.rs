//! The table for a person and the document for a machine.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};

use linerate::bench::statistics::median;
use linerate::measure::environment;
use linerate::proto::facts::Environment;
use linerate::units::Bytes;
use serde::Serialize;

use crate::build;
use crate::cells::Cell;
use crate::common::pairs::Ratio;
use crate::common::{mode, own};
use crate::options::Options;

/// The value of [`Document::schema`].
const SCHEMA: &str = "linerate.before-bench/1";
/// What is wanted: this build reaches this share of the earlier one.
const TARGET: f64 = 0.99;

/// The result file.
#[derive(Serialize)]
pub struct Document<'a> {
    schema: &'static str,
    command: Vec<String>,
    version: String,
    environment: Environment,
    settings: Settings,
    target: f64,
    cells: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Settings {
    congestion: &'static str,
    sender_cpu: u32,
    receiver_cpu: u32,
    duration_ms: u64,
    warmup_ms: u64,
    /// Of the first cell, for both builds; the others differ in method and size.
    bench_command: String,
}

#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    cell: &'a Cell,
    ratio: Option<Ratio>,
    reached: Option<bool>,
}

/// Everything that was measured.
pub fn document<'a>(cells: &'a [Cell], options: &Options) -> Document<'a> {
    let row = |cell: &'a Cell| {
        let ratio = cell.ratio();
        Row { cell, ratio, reached: ratio.map(|ratio| ratio.median >= TARGET) }
    };
    Document {
        schema: SCHEMA,
        command: mode::command("before"),
        version: environment::version(),
        environment: environment::capture(Some(IpAddr::from(Ipv4Addr::LOCALHOST))),
        settings: settings(cells, options),
        target: TARGET,
        cells: cells.iter().map(row).collect(),
    }
}

fn settings(cells: &[Cell], options: &Options) -> Settings {
    let arguments = cells.first().map(|cell| build::arguments(options, cell.method, cell.size_bytes));
    let words = std::iter::once("linerate".to_string()).chain(arguments.unwrap_or_default());
    Settings {
        congestion: own::CONGESTION,
        sender_cpu: options.cpus.0,
        receiver_cpu: options.cpus.1,
        duration_ms: options.duration.as_millis() as u64,
        warmup_ms: options.warmup.as_millis() as u64,
        bench_command: own::command_line(words),
    }
}

/// Method × size: ratio, then after and before in GB/s.
pub fn table(cells: &[Cell], options: &Options) -> String {
    let mut text = String::new();
    let commits = cells.iter().find_map(|cell| cell.commits.as_ref());
    let (after, before) = commits.map_or(("unknown", "unknown"), |(after, before)| (after, before));
    let _ = writeln!(
        text,
        "After ({after}) / before ({before}), {} pairs of {} ms, hot memory, one stream, receive read, {}:\n\n\
         | method | size | ratio: median [min–max] | after GB/s | before GB/s | ≥ {TARGET} |\n|---|---|---|---|---|---|",
        options.pairs,
        options.duration.as_millis(),
        own::CONGESTION,
    );
    for cell in cells {
        let _ = writeln!(text, "{}", line(cell));
    }
    if options.is_test {
        text.push_str("\ntest run: these figures mean nothing\n");
    }
    text
}

fn line(cell: &Cell) -> String {
    let head = format!("| {} | {} |", cell.method, Bytes(cell.size_bytes));
    let Some(ratio) = cell.ratio() else { return format!("{head} – | – | – | not measured |") };
    let gb = |pick: fn(&(f64, f64)) -> f64| {
        let rates: Vec<f64> = cell.pairs_bytes_per_s.iter().map(pick).collect();
        median(&rates).unwrap_or(0.0) / 1e9
    };
    let verdict = if ratio.median >= TARGET { "yes" } else { "no" };
    format!("{head} {ratio} | {:.2} | {:.2} | {verdict} |", gb(|pair| pair.0), gb(|pair| pair.1))
}
