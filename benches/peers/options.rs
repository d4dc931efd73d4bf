//! The command line of this bench.

use clap::{Parser, ValueEnum};

use crate::common::mode;

/// Bounds of the length of the file that is downloaded, unless it is said.
const FILE_MIB_LEAST: u64 = 256;
const FILE_MIB_MOST: u64 = 4096;

/// Compare linerate with the tools that are installed here.
#[derive(Debug, Parser)]
#[command(name = "peers")]
struct Arguments {
    /// Pairs of runs in each contest [default: 5].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pairs: Option<u32>,
    /// Length of a run, s; whole seconds, because the rivals know no others [default: 2].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: Option<u32>,
    /// Leave the others out.
    #[arg(long, value_enum)]
    only: Option<Only>,
    /// Pin the clients of throughput runs to the first CPU and the servers to the second, on both sides.
    #[arg(long)]
    pinned: bool,
    /// Length of the file that is downloaded, MiB [default: 4096, or a quarter of the memory that is available].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    file_mib: Option<u64>,
}

/// A part of the bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Only {
    /// iperf3, riperf3, nuttcp.
    Throughput,
    /// nginx with curl, and openssl.
    Tls,
    /// qperf, sockperf.
    Latency,
}

/// What to do.
#[derive(Debug)]
pub struct Options {
    /// Only show that it works.
    pub is_test: bool,
    /// Pairs a contest.
    pub pairs: u32,
    /// Length of a rival's run, s.
    pub seconds: u32,
    /// Length of a run of our own, ms: shorter in a test run, where the rivals' granularity does not bind us.
    pub own_millis: u64,
    /// A part of it.
    pub only: Option<Only>,
    /// Pin throughput runs.
    pub pinned: bool,
    /// Length of the file that is downloaded.
    pub file_bytes: u64,
}

impl Options {
    /// From the command line; in a test run everything that is not said is small.
    pub fn parse() -> anyhow::Result<Options> {
        let Arguments { pairs, seconds, only, pinned, file_mib } = Arguments::parse_from(mode::own_arguments());
        let is_test = mode::is_test();
        let seconds_or = seconds.unwrap_or(if is_test { 1 } else { 2 });
        Ok(Options {
            is_test,
            pairs: pairs.unwrap_or(if is_test { 1 } else { 5 }),
            seconds: seconds_or,
            own_millis: if is_test && seconds.is_none() { 200 } else { u64::from(seconds_or) * 1000 },
            only,
            pinned,
            file_bytes: file_mib.unwrap_or_else(|| if is_test { 64 } else { file_mib_default() }) << 20,
        })
    }

    /// Whether that part is wanted.
    pub fn wants(&self, part: Only) -> bool {
        self.only.is_none_or(|only| only == part)
    }
}

/// Long enough for a download of seconds, without taking memory that others need.
fn file_mib_default() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let available_kib: Option<u64> = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
    available_kib.map_or(FILE_MIB_LEAST, |kib| (kib / 4 / 1024).clamp(FILE_MIB_LEAST, FILE_MIB_MOST))
}
