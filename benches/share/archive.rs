//! A folder as a zip beside the plain download of the files in it, in the same round, from the same server.
//!
//! The files are of mixed sizes. Those of one size are names of one file (hard links): every one is read and sent anew,
//! and no cache of the processor holds any, so that 10 GiB take half as much memory.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::Context;
use linerate::bench::statistics;
use serde::Serialize;

use crate::common::child::Guard;
use crate::common::interrupt;
use crate::common::pairs::Ratio;
use crate::contest::{RUN_MAX, children_cpu_s, write_noise};
use crate::output::Section;
use crate::servers::{Kind, Server};

/// Of what is to be in the folder: how many files of one size, and that size in 64ths of a tenth of all.
const SIZES: [(u64, u64); 3] = [(1, 256), (5, 64), (64, 1)];
/// What the zip has to reach of the plain rate.
const WANTED: f64 = 0.8;

/// One round, bytes of content a second, and CPU time of server and curl for 10 GB, seconds.
#[derive(Clone, Copy, Debug, Serialize)]
struct Run {
    plain_bytes_per_s: f64,
    plain_cpu_s_per_10_gb: f64,
    zip_bytes_per_s: f64,
    zip_cpu_s_per_10_gb: f64,
}

#[derive(Serialize)]
struct Document {
    bytes: u64,
    files: usize,
    ratio: Option<Ratio>,
    runs: Vec<Run>,
}

/// Play all rounds with a folder of so many bytes.
pub fn play(rounds: usize, bytes: u64) -> anyhow::Result<Section> {
    let source = tempfile::Builder::new().prefix("linerate-share-").tempdir_in("/dev/shm")?;
    let shared = source.path().join("shared");
    let names = fill(&shared, bytes)?;
    let mut runs = Vec::new();
    for round in 1..=rounds {
        interrupt::check()?;
        eprintln!("round {round} of {rounds}: zip");
        let scratch = tempfile::tempdir_in(source.path())?;
        let server = Kind::Linerate.start(&shared, scratch.path(), false)?;
        // Which goes first changes, so that what drifts falls on both.
        let plain = |server: &Server| fetch(server, &names, bytes);
        let zip = |server: &Server| fetch(server, &["?zip".to_owned()], bytes);
        let (plain, zip) = if round % 2 == 1 {
            let plain = plain(&server)?;
            (plain, zip(&server)?)
        } else {
            let zip = zip(&server)?;
            (plain(&server)?, zip)
        };
        runs.push(Run {
            plain_bytes_per_s: plain.0,
            plain_cpu_s_per_10_gb: plain.1,
            zip_bytes_per_s: zip.0,
            zip_cpu_s_per_10_gb: zip.1,
        });
    }
    let pairs: Vec<_> = runs.iter().map(|run| (run.zip_bytes_per_s, run.plain_bytes_per_s)).collect();
    let document = Document { bytes, files: names.len(), ratio: Ratio::of(&pairs), runs };
    Section::new("zip", table(&document), &document)
}

/// Make the folder; the names in it.
fn fill(shared: &Path, bytes: u64) -> anyhow::Result<Vec<String>> {
    fs::create_dir(shared)?;
    let mut names = Vec::new();
    for (count, part) in SIZES {
        let first = format!("{part:03}-00.bin");
        write_noise(&shared.join(&first), bytes / 640 * part)?;
        for at in 1..count {
            let name = format!("{part:03}-{at:02}.bin");
            fs::hard_link(shared.join(&first), shared.join(&name))?;
            names.push(name);
        }
        names.push(first);
    }
    Ok(names)
}

/// Get all of these to nowhere, by one curl over one connection: bytes of content a second, CPU for 10 GB.
fn fetch(server: &Server, names: &[String], bytes: u64) -> anyhow::Result<(f64, f64)> {
    let mut curl = Command::new("curl");
    curl.args(["-q", "-s", "-S", "--fail", "--noproxy", "*", "-w", "%{size_download}\n"]);
    for header in &server.headers {
        curl.args(["-H", header]);
    }
    for name in names {
        curl.args(["-o", "/dev/null"]).arg(format!("{}/{name}", server.base));
    }
    let (server_before, ours_before) = (server.process.cpu_s(), children_cpu_s()?);
    let since = Instant::now();
    let mut child = Guard::spawn(curl.stdin(Stdio::null()).stdout(Stdio::piped()))?;
    let status = child.wait(RUN_MAX)?;
    let seconds = since.elapsed().as_secs_f64();
    let told = std::io::read_to_string(child.stdout.take().context("no output")?)?;
    anyhow::ensure!(status.success(), "curl: {status}: {told}");
    let got: u64 = told.lines().filter_map(|line| line.trim().parse::<u64>().ok()).sum();
    let content = bytes / 640 * SIZES.iter().map(|(count, part)| count * part).sum::<u64>();
    let is_zip = names == ["?zip"];
    anyhow::ensure!(if is_zip { got > content } else { got == content }, "{got} bytes were moved for {content}");
    let cpu_s = server.process.cpu_s() - server_before + children_cpu_s()? - ours_before;
    Ok((content as f64 / seconds, cpu_s * 1e10 / content as f64))
}

fn table(document: &Document) -> String {
    let median = |of: fn(&Run) -> f64| statistics::median(&document.runs.iter().map(of).collect::<Vec<_>>());
    let mut text = "| what | GB/s: median | CPU s/10 GB | zip / plain | wanted |\n|---|---|---|---|---|\n".to_owned();
    let mut row = |what: &str, (rate, cpu): (Option<f64>, Option<f64>), ratio: &str, wanted: &str| {
        let (rate, cpu) = (rate.unwrap_or_default() / 1e9, cpu.unwrap_or_default());
        text.push_str(&format!("| {what} | {rate:.2} | {cpu:.1} | {ratio} | {wanted} |\n"));
    };
    let plain = (median(|run| run.plain_bytes_per_s), median(|run| run.plain_cpu_s_per_10_gb));
    row(&format!("{} files, one after the other, http", document.files), plain, "–", "–");
    let ratio = document.ratio.map_or("–".to_owned(), |ratio| ratio.to_string());
    let reached = document.ratio.map_or("", |ratio| if ratio.median >= WANTED { ": yes" } else { ": no" });
    let zip = (median(|run| run.zip_bytes_per_s), median(|run| run.zip_cpu_s_per_10_gb));
    row("the folder as zip, http", zip, &ratio, &format!("≥ {WANTED}{reached}"));
    text
}
