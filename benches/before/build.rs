//! One run of one build: one cell, one round, with a server of its own.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use crate::common::own;
use crate::options::Options;

/// A run may take so much longer than it measures.
const SLACK: Duration = Duration::from_secs(60);

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Run {
    /// Bytes per second that its receiver took.
    pub bytes_per_s: f64,
    /// Which commit was built.
    pub commit: String,
}

/// The arguments of a run: only what earlier builds know, too.
pub fn arguments(options: &Options, method: &str, size: u64) -> Vec<String> {
    let (sender, receiver) = options.cpus;
    let pairs = [
        ("--methods", method.to_string()),
        ("--sizes", size.to_string()),
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

/// Run a build. Its document is read without our schema: an earlier one says less.
pub fn run(program: &Path, options: &Options, method: &str, size: u64) -> anyhow::Result<Run> {
    let longest = options.duration + options.warmup + SLACK;
    let document: Value = serde_json::from_str(&own::run(program, &arguments(options, method, size), longest)?)?;
    anyhow::ensure!(document["complete"] == true, "it marked its run as incomplete");
    let cell = &document["cells"][0];
    let bytes_per_s = cell["throughput"]["median_bytes_per_s"].as_f64();
    let bytes_per_s = bytes_per_s.with_context(|| format!("it measured nothing: {}", cell["unavailable"]))?;
    let commit = document["environment"]["client"]["git_commit"].as_str();
    let commit = commit.or(document["environment"]["git_commit"].as_str()).unwrap_or("unknown").to_owned();
    Ok(Run { bytes_per_s, commit })
}
