//! One run of the program: one cell, one round.

use std::time::Duration;

use anyhow::Context;

use crate::common::corpus::Corpus;
use crate::common::own;
use crate::options::Options;

/// A run may take so much longer than it measures.
const SLACK: Duration = Duration::from_secs(60);

/// The arguments of a run, file and all.
pub fn arguments(options: &Options, corpus: &Corpus, method: &str, size: u64) -> Vec<String> {
    let (sender, receiver) = options.cpus;
    let pairs = [
        ("--methods", method.to_string()),
        ("--sizes", size.to_string()),
        ("--source", corpus.path().display().to_string()),
        ("--cpus", format!("{sender}/{receiver}")),
        ("--congestion", own::CONGESTION.to_string()),
        ("--rounds", "1".to_string()),
        ("--duration", format!("{}ms", options.duration.as_millis())),
        ("--warmup", format!("{}ms", options.warmup.as_millis())),
        ("--json", "-".to_string()),
    ];
    let head = ["bench", "--quiet", "--no-latency"].map(String::from);
    head.into_iter().chain(pairs.into_iter().flat_map(|(option, value)| [option.to_string(), value])).collect()
}

/// Bytes per second that its receiver took, by the median that it reports itself.
pub fn run(options: &Options, corpus: &Corpus, method: &str, size: u64) -> anyhow::Result<f64> {
    let longest = options.duration + options.warmup + SLACK;
    let text = own::run(own::PROGRAM.as_ref(), &arguments(options, corpus, method, size), longest)?;
    let document = own::parse(&text)?;
    let cell = document.cells.first().context("linerate reported no cell")?;
    let reason = || cell.unavailable.clone().unwrap_or_default();
    let throughput = cell.throughput.as_ref().with_context(|| format!("linerate measured nothing: {}", reason()))?;
    Ok(throughput.median_bytes_per_s)
}
