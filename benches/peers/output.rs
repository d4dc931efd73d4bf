//! Tables for the README and the document for a machine.

use std::net::{IpAddr, Ipv4Addr};

use linerate::measure::environment;
use linerate::proto::facts::Environment;
use serde::Serialize;

use crate::common::network::Network;
use crate::common::pairs::Ratio;
use crate::common::verdict::Verdict;
use crate::common::{mode, own};
use crate::contests::Target;
use crate::matches::{Played, Result};
use crate::options::Options;
use crate::peer::{Congestion, Figures};

/// The value of [`Document::schema`].
const SCHEMA: &str = "linerate.peers-bench/2";
/// Most memory that either of our ends may have resident at one stream.
const RSS_BYTES_MAX: u64 = 32 << 20;

/// The result file.
#[derive(Serialize)]
pub struct Document<'a> {
    schema: &'static str,
    command: Vec<String>,
    version: String,
    environment: Environment,
    network: &'a Network,
    congestion: &'static str,
    pairs: u32,
    seconds: u32,
    /// Length of the file that nginx serves.
    file_bytes: u64,
    targets: Vec<Verdict>,
    #[serde(flatten)]
    played: &'a Played,
}

/// Everything that was measured.
pub fn document<'a>(played: &'a Played, options: &Options, network: &'a Network) -> Document<'a> {
    Document {
        schema: SCHEMA,
        command: mode::command("peers"),
        version: environment::version(),
        environment: environment::capture(Some(IpAddr::from(Ipv4Addr::LOCALHOST))),
        network,
        congestion: own::CONGESTION,
        pairs: options.pairs,
        seconds: options.seconds,
        file_bytes: options.file_bytes,
        targets: verdicts(&played.contests),
        played,
    }
}

/// Throughput, latency, targets; Markdown.
pub fn tables(played: &Played, options: &Options, network: &Network) -> String {
    let results = &played.contests;
    let mut text =
        format!("{} pairs of {} s, one stream, {}; {network}\n", options.pairs, options.seconds, own::CONGESTION);
    let (latency, throughput): (Vec<&Result>, Vec<&Result>) =
        results.iter().partition(|result| result.our_workload.kind.is_latency());
    if !throughput.is_empty() {
        text.push_str(
            "\n| linerate | GB/s | CPU s/10 GB | rival | GB/s | CPU s/10 GB | throughput: median [min–max] | \
             CPU: median [min–max] |\n|---|---|---|---|---|---|---|---|\n",
        );
        throughput.iter().for_each(|result| text.push_str(&throughput_line(result)));
    }
    if !latency.is_empty() {
        text.push_str(
            "\n| linerate | round trip µs | rival | round trip µs | ratio: median [min–max] |\n|---|---|---|---|---|\n",
        );
        latency.iter().for_each(|result| text.push_str(&latency_line(result)));
    }
    text.push_str("\n| target | wanted | measured | reached |\n|---|---|---|---|\n");
    verdicts(results).iter().for_each(|verdict| text.push_str(&verdict.line()));
    if options.is_test {
        text.push_str("\ntest run: these figures mean nothing\n");
    }
    text
}

fn throughput_line(result: &Result) -> String {
    let (ours, rival) = result.medians(|figures| figures.bytes_per_s.map(|rate| rate / 1e9));
    let (our_cpu, rival_cpu) = result.medians(|figures| figures.cpu_s_per_10gb);
    format!(
        "| {} | {} | {} | {} | {} | {} | {} | {} |\n",
        result.ours,
        number(ours),
        number(our_cpu),
        rival_name(result),
        number(rival),
        number(rival_cpu),
        ratio(result.ratio),
        ratio(result.cpu_ratio)
    )
}

fn latency_line(result: &Result) -> String {
    let (ours, rival) = result.medians(|figures| figures.round_trip_ns.map(|ns| ns / 1e3));
    let first = result.pairs.first();
    let statistic = |pick: fn(&(Figures, Figures)) -> &Figures| {
        first.and_then(|pair| pick(pair).statistic).map(|name| format!(" ({name})")).unwrap_or_default()
    };
    format!(
        "| {} | {}{} | {} | {}{} | {} |\n",
        result.ours,
        number(ours),
        statistic(|pair| &pair.0),
        rival_name(result),
        number(rival),
        statistic(|pair| &pair.1),
        ratio(result.ratio)
    )
}

/// With what the reader must know before comparing.
fn rival_name(result: &Result) -> String {
    let why = result.skipped.as_deref().or(result.fault.as_deref());
    let why = why.map(|why| format!(" — {why}")).unwrap_or_default();
    let congestion = match result.contest.rival.congestion() {
        Congestion::Default if result.rival_congestion != own::CONGESTION => {
            format!(" ({}: cannot choose)", result.rival_congestion)
        }
        _ => String::new(),
    };
    format!("`{}`{congestion}{why}", result.rival)
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}"))
}

fn ratio(value: Option<Ratio>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| value.to_string())
}

fn verdicts(results: &[Result]) -> Vec<Verdict> {
    let of = |result: &Result| {
        let what = format!("{} / {}", result.ours, result.rival);
        let main = result.contest.target.map(|target| verdict(what.clone(), target, result.ratio, result));
        let cpu = |target| verdict(format!("CPU per byte: {what}"), target, result.cpu_ratio, result);
        [main, result.contest.cpu_target.map(cpu)]
    };
    results.iter().flat_map(of).flatten().chain(memory(results)).collect()
}

/// Our own need of memory, over all runs.
fn memory(results: &[Result]) -> Option<Verdict> {
    let ends = |figures: &Figures| figures.client_rss_peak_bytes.max(figures.server_rss_peak_bytes);
    let peak = results.iter().flat_map(|result| &result.pairs).map(|pair| ends(&pair.0)).max()?;
    Some(Verdict::of_memory(Some(peak), RSS_BYTES_MAX, None))
}

fn verdict(what: String, target: Target, ratio: Option<Ratio>, result: &Result) -> Verdict {
    let missing = || "the rival does not tell".to_owned();
    let why = result.skipped.clone().or(result.fault.clone()).unwrap_or_else(missing);
    Verdict::of_ratio(what, target, ratio, Some(why))
}
