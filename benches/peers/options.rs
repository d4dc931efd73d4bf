//! The command line of this bench.

use clap::{Parser, ValueEnum};

use crate::common::mode;

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
    /// Leave the other out.
    #[arg(long, value_enum)]
    only: Option<Only>,
    /// Pin the clients of throughput runs to the first CPU and the servers to the second, on both sides.
    #[arg(long)]
    pinned: bool,
}

/// A half of the bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Only {
    /// iperf3, riperf3, nuttcp.
    Throughput,
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
    /// A half of it.
    pub only: Option<Only>,
    /// Pin throughput runs.
    pub pinned: bool,
}

impl Options {
    /// From the command line; in a test run everything that is not said is small.
    pub fn parse() -> anyhow::Result<Options> {
        let Arguments { pairs, seconds, only, pinned } = Arguments::parse_from(mode::own_arguments());
        let is_test = mode::is_test();
        let seconds_or = seconds.unwrap_or(if is_test { 1 } else { 2 });
        Ok(Options {
            is_test,
            pairs: pairs.unwrap_or(if is_test { 1 } else { 5 }),
            seconds: seconds_or,
            own_millis: if is_test && seconds.is_none() { 200 } else { u64::from(seconds_or) * 1000 },
            only,
            pinned,
        })
    }
}
