//! What is compared, measured in pairs.

use std::path::Path;

use linerate::units::Bytes;
use serde::Serialize;

use crate::build::{self, Run};
use crate::common::pairs::Ratio;
use crate::common::{interrupt, own};
use crate::options::Options;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// One of each send method that moves bytes in its own way, at sizes from small to large.
const CELLS: [(&str, u64); 5] =
    [("write", MIB), ("write", 4 * KIB), ("sendfile", 64 * KIB), ("mmap", 256 * KIB), ("splice", MIB)];

/// One method at one size.
#[derive(Debug, Serialize)]
pub struct Cell {
    /// Send method.
    pub method: &'static str,
    /// Bytes a call.
    pub size_bytes: u64,
    /// Each pair as measured, bytes/s: this build, then the earlier one.
    pub pairs_bytes_per_s: Vec<(f64, f64)>,
    /// Commits of this build and of the earlier one.
    pub commits: Option<(String, String)>,
}

impl Cell {
    /// After over before.
    pub fn ratio(&self) -> Option<Ratio> {
        Ratio::of(&self.pairs_bytes_per_s)
    }
}

/// All cells, pair by pair: one pair of each cell, then the next, so that what drifts falls on all of them.
pub fn measure(options: &Options) -> anyhow::Result<Vec<Cell>> {
    let cell = |(method, size_bytes)| Cell { method, size_bytes, pairs_bytes_per_s: Vec::new(), commits: None };
    let mut cells: Vec<Cell> = CELLS.into_iter().map(cell).collect();
    for pair in 1..=options.pairs {
        for cell in &mut cells {
            interrupt::check()?;
            eprintln!("pair {pair} of {}: {} {}", options.pairs, cell.method, Bytes(cell.size_bytes));
            let (after, before) = measure_pair(options, cell, pair % 2 == 0)?;
            cell.pairs_bytes_per_s.push((after.bytes_per_s, before.bytes_per_s));
            cell.commits = Some((after.commit, before.commit));
        }
    }
    Ok(cells)
}

/// This build and the earlier one, in either order: whoever comes second may find the machine warmer.
fn measure_pair(options: &Options, cell: &Cell, before_first: bool) -> anyhow::Result<(Run, Run)> {
    let run = |program: &Path| build::run(program, options, cell.method, cell.size_bytes);
    if before_first {
        let before = run(&options.before)?;
        return Ok((run(own::PROGRAM.as_ref())?, before));
    }
    let after = run(own::PROGRAM.as_ref())?;
    Ok((after, run(&options.before)?))
}
