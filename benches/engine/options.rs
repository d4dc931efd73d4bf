//! The command line of this bench.

use std::time::Duration;

use clap::Parser;
use linerate::bench::plan::Draft;
use linerate::mover::{SEND, SendRow, send_row};
use linerate::sys::affinity;
use linerate::units::parse_size_list;

use crate::common::mode;

/// Compare every send method and size with a bare loop of the same system calls.
#[derive(Debug, Parser)]
#[command(name = "engine")]
struct Arguments {
    /// Pairs of runs in each cell [default: 6].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pairs: Option<u32>,
    /// Length of a run, ms [default: 400].
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=600_000))]
    duration: Option<u64>,
    /// Left out before it, ms [default: 50].
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(0..=600_000))]
    warmup: Option<u64>,
    /// Send methods [default: all].
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    methods: Vec<String>,
    /// Sizes, as `linerate bench --sizes` takes them [default: as there].
    #[arg(long, value_name = "LIST")]
    sizes: Option<String>,
    /// Length of the file, MiB [default: 1024].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    file_mib: Option<u64>,
}

/// What to do; possible as far as can be told.
#[derive(Debug)]
pub struct Options {
    /// Only show that it works.
    pub is_test: bool,
    /// Pairs a cell.
    pub pairs: u32,
    /// Length of a run.
    pub duration: Duration,
    /// Left out before it.
    pub warmup: Duration,
    /// Send methods.
    pub methods: Vec<&'static SendRow>,
    /// Bytes a call.
    pub sizes: Vec<u64>,
    /// Length of the file.
    pub file_bytes: u64,
    /// CPUs of the sender and of the receiver.
    pub cpus: (u32, u32),
}

impl Options {
    /// From the command line; in a test run everything that is not said is small.
    pub fn parse() -> anyhow::Result<Options> {
        let arguments = Arguments::parse_from(mode::own_arguments());
        let is_test = mode::is_test();
        let millis =
            |given: Option<u64>, test, full| Duration::from_millis(given.unwrap_or(if is_test { test } else { full }));
        let options = Options {
            is_test,
            pairs: arguments.pairs.unwrap_or(if is_test { 1 } else { 6 }),
            duration: millis(arguments.duration, 20, 400),
            warmup: millis(arguments.warmup, 5, 50),
            methods: methods(&arguments.methods)?,
            sizes: sizes(arguments.sizes.as_deref(), is_test)?,
            file_bytes: arguments.file_mib.unwrap_or(if is_test { 16 } else { 1024 }) << 20,
            cpus: cpus()?,
        };
        let largest = options.sizes.iter().max().copied().unwrap_or(0);
        anyhow::ensure!(largest <= options.file_bytes, "--file-mib: the file is shorter than the largest size");
        Ok(options)
    }
}

fn methods(names: &[String]) -> anyhow::Result<Vec<&'static SendRow>> {
    if names.is_empty() {
        return Ok(SEND.iter().collect());
    }
    let find = |name: &String| send_row(name).ok_or_else(|| anyhow::anyhow!("--methods: no send method {name:?}"));
    names.iter().map(find).collect()
}

fn sizes(list: Option<&str>, is_test: bool) -> anyhow::Result<Vec<u64>> {
    match list {
        Some(list) => Ok(parse_size_list(list)?.into_iter().map(|size| size.0).collect()),
        None if is_test => Ok(vec![4 << 10, 1 << 20]),
        None => Ok(Draft::default().sizes),
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
