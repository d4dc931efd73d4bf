//! The command line of this bench.

use clap::Parser;

use crate::common::mode;

/// Measure how long a session takes to open.
#[derive(Debug, Parser)]
#[command(name = "session")]
struct Arguments {
    /// Sessions that are timed [default: 1000].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    sessions: Option<u32>,
}

/// What to do.
#[derive(Debug)]
pub struct Options {
    /// Only show that it works.
    pub is_test: bool,
    /// Sessions that are timed.
    pub sessions: u32,
}

impl Options {
    /// From the command line; in a test run everything that is not said is small.
    pub fn parse() -> Options {
        let arguments = Arguments::parse_from(mode::own_arguments());
        let is_test = mode::is_test();
        Options { is_test, sessions: arguments.sessions.unwrap_or(if is_test { 100 } else { 1000 }) }
    }
}
