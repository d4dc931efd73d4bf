//! The tables for the README and the document for a machine.

use std::net::{IpAddr, Ipv4Addr};

use linerate::measure::environment;
use linerate::proto::facts::Environment;
use serde::Serialize;

use crate::common::mode;
use crate::common::verdict::Verdict;
use crate::congestion::Congestion;
use crate::options::Options;
use crate::rounds::{Contestant, Played};
use crate::targets::verdicts;
use crate::workload::Kind;

/// The value of [`Document::schema`].
const SCHEMA: &str = "linerate.movers-bench/1";
const MIB: f64 = (1 << 20) as f64;

/// The result file.
#[derive(Serialize)]
pub struct Document<'a> {
    schema: &'static str,
    command: Vec<String>,
    version: String,
    environment: Environment,
    network: &'a Congestion,
    path: &'static str,
    seed: u64,
    rounds: u32,
    /// Kind of file system at the destination, by its magic number.
    file_system: Option<String>,
    targets: Vec<Verdict>,
    #[serde(flatten)]
    played: &'a Played,
}

/// A workload, as it was measured.
pub fn document<'a>(played: &'a Played, options: &Options, network: &'a Congestion) -> Document<'a> {
    Document {
        schema: SCHEMA,
        command: mode::command("movers"),
        version: environment::version(),
        environment: environment::capture(Some(IpAddr::from(Ipv4Addr::LOCALHOST))),
        network,
        path: "loopback, both ends on this machine",
        seed: options.seed,
        rounds: options.rounds,
        file_system: file_system(played.workload, options),
        targets: verdicts(played),
        played,
    }
}

fn file_system(kind: Kind, options: &Options) -> Option<String> {
    let folder = if kind.is_durable() { &options.disk } else { &options.memory };
    let stat = nix::sys::statfs::statfs(folder.as_path()).ok()?;
    Some(match stat.filesystem_type() {
        nix::sys::statfs::TMPFS_MAGIC => "tmpfs".to_owned(),
        nix::sys::statfs::EXT4_SUPER_MAGIC => "ext4".to_owned(),
        nix::sys::statfs::XFS_SUPER_MAGIC => "xfs".to_owned(),
        nix::sys::statfs::BTRFS_SUPER_MAGIC => "btrfs".to_owned(),
        other => format!("{other:?}"),
    })
}

/// Markdown.
pub fn tables(played: &Played, options: &Options, network: &Congestion) -> String {
    let kind = played.workload;
    let file_system = file_system(kind, options).unwrap_or_default();
    let place = if kind.is_durable() { "durable" } else { "in memory" };
    let mut text = format!(
        "\n## {}: {} files, {:.3} GB, onto {file_system}, {place}; {} rounds, seed {}\n{network}\n\n\
         | mover | {} | s | CPU s/10 GB | RSS client MiB | RSS server MiB | linerate / mover |\n\
         |---|---|---|---|---|---|---|\n",
        kind.name(),
        played.files,
        played.bytes as f64 / 1e9,
        options.rounds,
        options.seed,
        if kind.counts_files() { "files/s: median [least–greatest]" } else { "GB/s: median [least–greatest]" },
    );
    let ours = played.contestants.first();
    played.contestants.iter().for_each(|one| text.push_str(&line(one, ours, played)));
    text.push_str("\n| target | wanted | measured | reached |\n|---|---|---|---|\n");
    verdicts(played).iter().for_each(|verdict| text.push_str(&verdict.line()));
    if options.is_test {
        text.push_str("\ntest run: these figures mean nothing\n");
    }
    text
}

fn line(one: &Contestant, ours: Option<&Contestant>, played: &Played) -> String {
    let label = one.label.replace('|', "\\|");
    if let Some(why) = one.out() {
        return format!("| {label} | {why} | – | – | – | – | – |\n");
    }
    let amount = if played.workload.counts_files() { played.files as f64 } else { played.bytes as f64 / 1e9 };
    let digits = if played.workload.counts_files() { 0 } else { 2 };
    let range = |[median, least, most]: [f64; 3]| format!("{median:.digits$} [{least:.digits$}–{most:.digits$}]");
    let median = |pick: &dyn Fn(&crate::run::Run) -> f64, digits: usize| {
        one.range(pick).map_or_else(|| "–".to_owned(), |[median, ..]| format!("{median:.digits$}"))
    };
    let rate = one.range(|run| amount / run.wall_s).map_or_else(|| "–".to_owned(), range);
    let ratio = ours.filter(|ours| !std::ptr::eq(*ours, one)).and_then(|ours| one.ratio(ours, |run| run.wall_s));
    let has_server = one.good().iter().any(|run| run.server_rss_peak_bytes.is_some());
    format!(
        "| {label} | {rate} | {} | {} | {} | {} | {} |\n",
        median(&|run| run.wall_s, 3),
        median(&|run| run.cpu_s() / played.bytes as f64 * 1e10, 1),
        median(&|run| run.client_rss_peak_bytes as f64 / MIB, 1),
        if has_server {
            median(&|run| run.server_rss_peak_bytes.unwrap_or(0) as f64 / MIB, 1)
        } else {
            "–".to_owned()
        },
        ratio.map_or_else(|| "–".to_owned(), |ratio| ratio.to_string()),
    )
}
