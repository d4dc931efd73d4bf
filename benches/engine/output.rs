//! The table for a person and the document for a machine.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};

use linerate::bench::statistics::median;
use linerate::measure::environment;
use linerate::proto::facts::Environment;
use linerate::units::Bytes;
use serde::Serialize;

use crate::cells::Cell;
use crate::common::corpus::Corpus;
use crate::common::pairs::Ratio;
use crate::common::{mode, own};
use crate::engine_side;
use crate::options::Options;

/// The value of [`Document::schema`].
const SCHEMA: &str = "linerate.engine-bench/1";
/// What is wanted: the engine reaches this share of the bare loop.
const TARGET: f64 = 0.95;

/// The result file.
#[derive(Serialize)]
pub struct Document<'a> {
    schema: &'static str,
    command: Vec<String>,
    environment: Environment,
    settings: Settings,
    target: f64,
    cells: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Settings {
    congestion: &'static str,
    receive: &'static str,
    sender_cpu: u32,
    receiver_cpu: u32,
    duration_ms: u64,
    warmup_ms: u64,
    file_bytes: u64,
    file_folder: String,
    /// The engine's side of the first cell; the others differ in method and size.
    engine_command: String,
    /// What the bare loop is.
    bare_loop: &'static str,
}

#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    cell: &'a Cell,
    ratio: Option<Ratio>,
    reached: Option<bool>,
}

/// Everything that was measured.
pub fn document<'a>(cells: &'a [Cell], options: &Options, corpus: &Corpus) -> Document<'a> {
    let row = |cell: &'a Cell| {
        let ratio = cell.ratio();
        Row { cell, ratio, reached: ratio.map(|ratio| ratio.median >= TARGET) }
    };
    Document {
        schema: SCHEMA,
        command: mode::command("engine"),
        environment: environment::capture(Some(IpAddr::from(Ipv4Addr::LOCALHOST))),
        settings: settings(cells, options, corpus),
        target: TARGET,
        cells: cells.iter().map(row).collect(),
    }
}

fn settings(cells: &[Cell], options: &Options, corpus: &Corpus) -> Settings {
    let engine = |cell: &Cell| engine_side::arguments(options, corpus, cell.method, cell.size_bytes);
    let arguments = cells.first().map(engine).unwrap_or_default();
    Settings {
        congestion: own::CONGESTION,
        receive: "read",
        sender_cpu: options.cpus.0,
        receiver_cpu: options.cpus.1,
        duration_ms: options.duration.as_millis() as u64,
        warmup_ms: options.warmup.as_millis() as u64,
        file_bytes: corpus.bytes,
        file_folder: corpus.folder.display().to_string(),
        engine_command: own::command_line(std::iter::once("linerate".to_string()).chain(arguments)),
        bare_loop: "benches/engine/lanes: blocking sockets, the same system calls, chunk and CPUs, two processes",
    }
}

/// Method × size: ratio, then engine and bare loop in GB/s.
pub fn table(cells: &[Cell], options: &Options) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "Engine / bare loop, {} pairs of {} ms, file of {} in the page cache, one stream, receive read, {}:\n\n\
         | method | size | ratio: median [min–max] | engine GB/s | bare loop GB/s | ≥ {TARGET} |\n|---|---|---|---|---|---|",
        options.pairs,
        options.duration.as_millis(),
        Bytes(options.file_bytes),
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
    let Some(ratio) = cell.ratio() else {
        let why = cell.skipped.as_deref().or(cell.fault.as_deref()).unwrap_or("not measured");
        return format!("{head} – | – | – | {why} |");
    };
    let gb = |pick: fn(&(f64, f64)) -> f64| {
        let rates: Vec<f64> = cell.pairs_bytes_per_s.iter().map(pick).collect();
        median(&rates).unwrap_or(0.0) / 1e9
    };
    let verdict = if ratio.median >= TARGET { "yes" } else { "no" };
    let fault = cell.fault.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
    format!("{head} {ratio} | {:.2} | {:.2} | {verdict}{fault} |", gb(|pair| pair.0), gb(|pair| pair.1))
}
