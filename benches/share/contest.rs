//! One file that is moved by curl: by whom, and how long it took.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::resource::{UsageWho, getrusage};
use rand::seq::SliceRandom;
use rand::{RngCore, SeedableRng};
use serde::Serialize;

use crate::common::child::Guard;
use crate::common::interrupt;
use crate::common::nginx::CIPHER;
use crate::common::target::Target;
use crate::output::{self, Section};
use crate::servers::{Kind, Server};

/// Longest run.
pub const RUN_MAX: Duration = Duration::from_secs(300);
const NAME: &str = "big.bin";

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// The file, in the clear, to nowhere.
    Download,
    /// The same in TLS.
    Secure,
    /// `curl -T` into memory.
    Upload,
}

impl Transfer {
    /// As `--only` names it.
    fn option(self) -> &'static str {
        match self {
            Transfer::Download => "download",
            Transfer::Secure => "https",
            Transfer::Upload => "upload",
        }
    }

    /// As the tables name it.
    pub fn name(self) -> &'static str {
        match self {
            Transfer::Download => "download, http",
            Transfer::Secure => "download, https",
            Transfer::Upload => "upload, http",
        }
    }

    /// Whom linerate runs beside, and what is wanted.
    pub fn rivals(self) -> &'static [(Kind, Option<Target>)] {
        match self {
            Transfer::Download => &[
                (Kind::Nginx, Some(Target::AtLeast(0.7))),
                (Kind::Miniserve, Some(Target::AtLeast(1.0))),
                (Kind::Dufs, Some(Target::AtLeast(1.0))),
            ],
            Transfer::Secure => {
                &[(Kind::Nginx, Some(Target::AtLeast(1.0))), (Kind::Miniserve, None), (Kind::Dufs, None)]
            }
            Transfer::Upload => &[(Kind::Dufs, Some(Target::AtLeast(1.5)))],
        }
    }
}

/// One run.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Run {
    /// Bytes of content a second.
    pub bytes_per_s: f64,
    /// CPU time of server and curl for 10 GB, seconds.
    pub cpu_s_per_10_gb: f64,
}

/// A server in a task: its runs, or why there are none.
#[derive(Debug, Serialize)]
pub struct Played {
    /// What is done.
    pub task: &'static str,
    /// By whom.
    pub server: &'static str,
    /// Which.
    pub version: Result<String, String>,
    /// One a round.
    pub runs: Vec<Run>,
    #[serde(skip)]
    pub kind: Kind,
    #[serde(skip)]
    pub of: Transfer,
}

/// Play all rounds of one.
pub fn play(task: Transfer, rounds: usize, bytes: u64) -> anyhow::Result<Section> {
    let source = tempfile::Builder::new().prefix("linerate-share-").tempdir_in("/dev/shm")?;
    let shared = source.path().join("shared");
    fs::create_dir(&shared)?;
    write_noise(&shared.join(NAME), bytes)?;
    let mut rng = rand::rngs::SmallRng::seed_from_u64(jiff::Timestamp::now().as_nanosecond() as u64);
    let kinds = [Kind::Linerate].into_iter().chain(task.rivals().iter().map(|(kind, _)| *kind));
    let mut played: Vec<Played> = kinds
        .map(|kind| {
            let (task_name, server) = (task.name(), kind.label());
            Played { task: task_name, server, version: kind.version(), runs: Vec::new(), kind, of: task }
        })
        .collect();
    for round in 1..=rounds {
        let mut order: Vec<usize> = (0..played.len()).filter(|at| played[*at].version.is_ok()).collect();
        order.shuffle(&mut rng);
        for at in order {
            interrupt::check()?;
            eprintln!("round {round} of {rounds}: {}: {}", played[at].task, played[at].server);
            let run = run(played[at].kind, task, (&shared, source.path()), bytes);
            let run = run.with_context(|| format!("{}, {}", played[at].task, played[at].server))?;
            played[at].runs.push(run);
        }
    }
    let table = output::table(&played);
    Section::new(task.option(), table, &serde_json::json!({ "bytes": bytes, "played": played }))
}

fn run(kind: Kind, task: Transfer, (shared, scratch): (&Path, &Path), bytes: u64) -> anyhow::Result<Run> {
    let folder = tempfile::tempdir_in(scratch)?;
    let into = folder.path().join("into");
    fs::create_dir(&into)?;
    let served: PathBuf = if task == Transfer::Upload { into.clone() } else { shared.to_owned() };
    let server = kind.start(&served, folder.path(), task == Transfer::Secure)?;
    if task == Transfer::Upload {
        touch(&folder.path().join("touched"), bytes)?;
    }
    let mut curl = curl(&server, task, shared);
    let (server_before, ours_before) = (server.process.cpu_s(), children_cpu_s()?);
    let since = Instant::now();
    let mut child = Guard::spawn(curl.stdin(Stdio::null()).stdout(Stdio::piped()))?;
    let status = child.wait(RUN_MAX)?;
    let seconds = since.elapsed().as_secs_f64();
    let mut told = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().context("no output")?, &mut told)?;
    anyhow::ensure!(status.success(), "curl: {status}: {told}");
    let cpu_s = server.process.cpu_s() - server_before + children_cpu_s()? - ours_before;
    check(task, &told, &into, bytes)?;
    Ok(Run { bytes_per_s: bytes as f64 / seconds, cpu_s_per_10_gb: cpu_s * 1e10 / bytes as f64 })
}

fn curl(server: &Server, task: Transfer, shared: &Path) -> Command {
    let mut curl = Command::new("curl");
    curl.args(["-q", "-s", "-S", "--fail", "--noproxy", "*", "-w", "%{size_download}"]);
    for header in &server.headers {
        curl.args(["-H", header]);
    }
    match task {
        Transfer::Download => curl.args(["-o", "/dev/null"]).arg(format!("{}/{NAME}", server.base)),
        Transfer::Secure => curl
            .args(["-k", "--tlsv1.3", "--tls13-ciphers", CIPHER, "-o", "/dev/null"])
            .arg(format!("{}/{NAME}", server.base)),
        Transfer::Upload => {
            curl.args(["-o", "/dev/null", "-T"]).arg(shared.join(NAME)).arg(format!("{}/{NAME}", server.base))
        }
    };
    curl
}

/// Whether all of it was moved.
fn check(task: Transfer, told: &str, into: &Path, bytes: u64) -> anyhow::Result<()> {
    let moved = match task {
        Transfer::Upload => fs::metadata(into.join(NAME)).context("what was uploaded")?.len(),
        _ => told.trim().parse().context("curl does not say how much it got")?,
    };
    anyhow::ensure!(moved == bytes, "{moved} bytes were moved, not {bytes}");
    Ok(())
}

pub fn children_cpu_s() -> anyhow::Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}

pub fn write_noise(path: &Path, bytes: u64) -> anyhow::Result<()> {
    let mut block = vec![0; 1 << 20];
    rand::rngs::SmallRng::seed_from_u64(1).fill_bytes(&mut block);
    write_blocks(path, &block, bytes)
}

/// Memory that a guest has given back to its host is slow to come again.
fn touch(path: &Path, bytes: u64) -> anyhow::Result<()> {
    write_blocks(path, &vec![1; 1 << 20], bytes)?;
    Ok(fs::remove_file(path)?)
}

fn write_blocks(path: &Path, block: &[u8], bytes: u64) -> anyhow::Result<()> {
    let mut file = File::create(path)?;
    let mut left = bytes;
    while left > 0 {
        let n = left.min(block.len() as u64);
        file.write_all(&block[..n as usize])?;
        left -= n;
    }
    Ok(())
}
