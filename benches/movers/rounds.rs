//! Rounds: every mover once, in an order of chance, then all of them again, so that what drifts falls on all alike.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use linerate::bench::statistics::median;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use serde::Serialize;

use crate::common::interrupt;
use crate::common::pairs::Ratio;
use crate::compare::compare;
use crate::globus::Globus;
use crate::local::{Cp, Dd};
use crate::mover::{Job, Mover};
use crate::nginx::{Aria, Curl};
use crate::options::Options;
use crate::own_side::Linerate;
use crate::pipes::Pipe;
use crate::places::Places;
use crate::rsync::Rsync;
use crate::run::{self, Run};
use crate::setup::Setup;
use crate::ssh::{OverSsh, Program};
use crate::trees::Source;
use crate::workload::Kind;
use crate::xrootd::Xrootd;

/// A mover and what came of it.
#[derive(Serialize)]
pub struct Contestant {
    /// As in the table.
    pub label: String,
    /// Its programs.
    pub version: Option<String>,
    /// Why it did not run: something is not here.
    pub skipped: Option<String>,
    /// What it lost at the destination. It has no time then.
    pub incomplete: Option<String>,
    /// What else went wrong.
    pub fault: Option<String>,
    /// The client of the first run.
    pub client_command: Option<String>,
    /// The server of it.
    pub server_command: Option<String>,
    /// Good runs.
    pub runs: Vec<Run>,
    #[serde(skip)]
    mover: Box<dyn Mover>,
}

/// A workload, played.
#[derive(Serialize)]
pub struct Played {
    /// The workload.
    pub workload: Kind,
    /// Bytes in the files of the source.
    pub bytes: u64,
    /// Its files.
    pub files: u64,
    /// Its entries of any kind.
    pub entries: usize,
    /// The movers.
    pub contestants: Vec<Contestant>,
}

/// linerate first.
fn movers() -> Vec<Box<dyn Mover>> {
    let over_ssh = |program, aes| Box::new(OverSsh { program, aes });
    vec![
        Box::new(Linerate::Verified),
        Box::new(Linerate::Unverified),
        Box::new(Linerate::Local),
        Box::new(Cp),
        Box::new(Dd),
        Box::new(Rsync { in_place: false }),
        Box::new(Rsync { in_place: true }),
        over_ssh(Program::Rsync, false),
        over_ssh(Program::Rsync, true),
        over_ssh(Program::Scp, false),
        over_ssh(Program::Scp, true),
        Box::new(Curl { secure: false }),
        Box::new(Curl { secure: true }),
        Box::new(Aria),
        Box::new(Pipe::Nc),
        Box::new(Pipe::Mbuffer),
        Box::new(Globus),
        Box::new(Xrootd),
    ]
}

/// All rounds of a workload.
pub fn play(kind: Kind, options: &Options, setup: &Setup, places: &mut Places) -> anyhow::Result<Played> {
    let is_wanted = |mover: &dyn Mover| {
        let label = mover.label();
        let is_named = options.rivals.is_empty() || options.rivals.iter().any(|word| label.contains(word));
        mover.plays(kind) && (mover.is_ours() || is_named)
    };
    let movers = movers().into_iter().filter(|mover| is_wanted(mover.as_ref()));
    let mut contestants: Vec<Contestant> = movers.map(Contestant::new).collect();
    eprintln!("{}: making the source", kind.name());
    let source = Source::make(kind, places.sources(), options)?;
    let runners = contestants.iter().filter(|one| one.skipped.is_none()).count() as u64;
    places.check_room(&source, kind, runners * u64::from(options.rounds))?;
    let standing = if kind == Kind::Again { Some(already_there(&source, places)?) } else { None };
    // The same seed gives every workload the same orders, whichever workloads are asked for.
    let mut chance = SmallRng::seed_from_u64(options.seed);
    for round in 1..=options.rounds {
        let mut order: Vec<usize> = (0..contestants.len()).collect();
        order.shuffle(&mut chance);
        for at in order {
            let contestant = &mut contestants[at];
            if contestant.is_out() {
                continue;
            }
            eprintln!("{}: round {round} of {}: {}", kind.name(), options.rounds, contestant.label);
            contestant.play(round, kind, &source, standing.as_deref(), (setup, places))?;
        }
    }
    remove(&source.path)?;
    if let Some(standing) = standing {
        places.clear(kind, &standing)?;
    }
    Ok(Played { workload: kind, bytes: source.bytes, files: source.files, entries: source.entries.len(), contestants })
}

/// A destination at which nothing is left to do.
fn already_there(source: &Source, places: &mut Places) -> anyhow::Result<PathBuf> {
    let folder = places.destination(Kind::Again)?;
    let status = Command::new("cp").arg("-a").arg(&source.path).arg(&folder).status().context("cp")?;
    anyhow::ensure!(status.success(), "cp -a: {status}");
    Ok(folder)
}

fn remove(path: &Path) -> anyhow::Result<()> {
    let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    removed.with_context(|| path.display().to_string())
}

impl Contestant {
    fn new(mover: Box<dyn Mover>) -> Contestant {
        let version = mover.version();
        let contestant = Contestant {
            label: mover.label(),
            version: version.as_ref().ok().cloned(),
            skipped: version.err(),
            incomplete: None,
            fault: None,
            client_command: None,
            server_command: None,
            runs: Vec::new(),
            mover,
        };
        if let Some(why) = &contestant.skipped {
            eprintln!("{}: skipped: {why}", contestant.label);
        }
        contestant
    }

    /// Whether it is linerate.
    pub fn is_ours(&self) -> bool {
        self.mover.is_ours()
    }

    /// A mover that failed once, or lost something, is out; the others go on.
    pub fn is_out(&self) -> bool {
        self.out().is_some()
    }

    /// Why it is out.
    pub fn out(&self) -> Option<String> {
        let incomplete = self.incomplete.as_ref().map(|what| format!("incomplete: {what}"));
        let skipped = self.skipped.as_ref().map(|why| format!("skipped: {why}"));
        let fault = self.fault.as_ref().map(|what| format!("failed: {what}"));
        skipped.or(fault).or(incomplete)
    }

    fn play(
        &mut self,
        round: u32,
        kind: Kind,
        source: &Source,
        standing: Option<&Path>,
        (setup, places): (&Setup, &mut Places),
    ) -> anyhow::Result<()> {
        let destination = standing.map_or_else(|| places.destination(kind), |there| Ok(there.to_path_buf()))?;
        places.rest(kind, if standing.is_some() { 0 } else { source.needs_bytes() })?;
        let scratch = places.scratch()?;
        let job = Job { kind, source, destination: &destination, folder: scratch.path(), setup };
        // Nothing of a run lives longer than this call, so its destination can go.
        let outcome = self.run(&job, round);
        interrupt::check()?;
        if let Err(error) = outcome {
            self.fault = Some(format!("{error:#}"));
        }
        if let Some(why) = self.out() {
            eprintln!("{}: {why}", self.label);
        }
        if standing.is_none() { places.clear(kind, &destination) } else { Ok(()) }
    }

    fn run(&mut self, job: &Job, round: u32) -> anyhow::Result<()> {
        let timed = run::time(self.mover.ready(job)?, job, round)?;
        self.client_command.get_or_insert(timed.client_command);
        self.server_command = self.server_command.take().or(timed.server_command);
        // One that says that it failed has still lost what it has lost.
        let code = timed.run.exit_code.map_or_else(|| "no exit code".to_owned(), |code| format!("exit code {code}"));
        self.incomplete = compare(job.source, &job.target())?.map(|lost| format!("{lost} ({code})"));
        self.fault = timed.fault;
        if !self.is_out() {
            self.runs.push(timed.run);
        }
        Ok(())
    }

    /// A figure of all good runs: median, least, greatest.
    pub fn range(&self, pick: impl Fn(&Run) -> f64) -> Option<[f64; 3]> {
        let values: Vec<f64> = self.good().iter().map(pick).collect();
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Some([median(&values)?, least, most])
    }

    /// What counts: nothing of a mover that lost something even once.
    pub fn good(&self) -> &[Run] {
        if self.is_out() { &[] } else { &self.runs }
    }

    /// This one by another, of a figure, by the rounds in which both ran.
    pub fn ratio(&self, other: &Contestant, pick: impl Fn(&Run) -> f64) -> Option<Ratio> {
        let same = |run: &Run| other.good().iter().find(|theirs| theirs.round == run.round);
        let pair = |run: &Run| Some((pick(run), pick(same(run)?)));
        Ratio::of(&self.good().iter().filter_map(pair).collect::<Vec<_>>())
    }
}

impl Run {
    /// CPU seconds of both ends.
    pub fn cpu_s(&self) -> f64 {
        self.client_cpu_s + self.server_cpu_s
    }

    /// The greater of both ends' peaks, bytes.
    pub fn rss_peak_bytes(&self) -> u64 {
        self.client_rss_peak_bytes.max(self.server_rss_peak_bytes.unwrap_or(0))
    }
}
