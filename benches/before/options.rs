//! The command line of this bench.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use linerate::sys::affinity;

use crate::common::{mode, own};

/// Where the earlier build is. A variable, so that the command in the result file names no path.
pub const BEFORE_VARIABLE: &str = "LINERATE_BEFORE";

/// Compare streams in the clear with an earlier build, which LINERATE_BEFORE names.
#[derive(Debug, Parser)]
#[command(name = "before")]
struct Arguments {
    /// Pairs of runs in each cell [default: 12].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pairs: Option<u32>,
    /// Length of a run, ms [default: 1000].
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=600_000))]
    duration: Option<u64>,
    /// Left out before it, ms [default: 100].
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(0..=600_000))]
    warmup: Option<u64>,
}

/// What to do.
#[derive(Debug)]
pub struct Options {
    /// Only show that it works.
    pub is_test: bool,
    /// The earlier build.
    pub before: PathBuf,
    /// Pairs a cell.
    pub pairs: u32,
    /// Length of a run.
    pub duration: Duration,
    /// Left out before it.
    pub warmup: Duration,
    /// CPUs of the sender and of the receiver.
    pub cpus: (u32, u32),
}

impl Options {
    /// From the command line; in a test run everything that is not said is small. `None`: there is nothing to compare
    /// with.
    pub fn parse() -> anyhow::Result<Option<Options>> {
        let arguments = Arguments::parse_from(mode::own_arguments());
        let is_test = mode::is_test();
        let before = match std::env::var_os(BEFORE_VARIABLE).map(PathBuf::from) {
            Some(path) => path,
            None if is_test => Path::new(own::PROGRAM).to_path_buf(),
            None => return Ok(None),
        };
        // Benches run in the crate's folder, wherever they are called from.
        let before = before.canonicalize().with_context(|| format!("{BEFORE_VARIABLE}: {}", before.display()))?;
        let millis =
            |given: Option<u64>, test, full| Duration::from_millis(given.unwrap_or(if is_test { test } else { full }));
        Ok(Some(Options {
            is_test,
            before,
            pairs: arguments.pairs.unwrap_or(if is_test { 1 } else { 12 }),
            duration: millis(arguments.duration, 20, 1000),
            warmup: millis(arguments.warmup, 5, 100),
            cpus: cpus()?,
        }))
    }
}

/// The first two CPUs that we may use: the same one only where there is no other.
fn cpus() -> anyhow::Result<(u32, u32)> {
    let allowed = affinity::allowed_cpus();
    match (allowed.first(), allowed.get(1).or(allowed.first())) {
        (Some(&sender), Some(&receiver)) => Ok((sender, receiver)),
        _ => anyhow::bail!("the CPUs of this process cannot be read"),
    }
}
