//! One run of the program: one cell, one round.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;

use crate::common::child::Guard;
use crate::common::own;
use crate::corpus::Corpus;
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
    let mut command = Command::new(own::PROGRAM);
    command.args(arguments(options, corpus, method, size)).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = Guard::spawn(&mut command)?;
    let mut output = child.stdout.take().context("no output")?;
    // Its output fits no pipe for certain, so it is read while the program runs.
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        output.read_to_string(&mut text).map(|_| text)
    });
    let status = child.wait(options.duration + options.warmup + SLACK)?;
    let text = reader.join().map_err(|_| anyhow::anyhow!("the reader of its output failed"))??;
    anyhow::ensure!(status.success(), "linerate: {status}");
    let document = own::parse(&text)?;
    let cell = document.cells.first().context("linerate reported no cell")?;
    let reason = || cell.unavailable.clone().unwrap_or_default();
    let throughput = cell.throughput.as_ref().with_context(|| format!("linerate measured nothing: {}", reason()))?;
    Ok(throughput.median_bytes_per_s)
}
