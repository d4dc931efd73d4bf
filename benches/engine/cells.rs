//! The matrix: every method × size, measured in pairs.

use linerate::units::Bytes;
use serde::Serialize;

use crate::common::corpus::Corpus;
use crate::common::interrupt;
use crate::common::pairs::Ratio;
use crate::options::Options;
use crate::{bare_side, engine_side};

/// One method at one size.
#[derive(Debug, Serialize)]
pub struct Cell {
    /// Send method.
    pub method: &'static str,
    /// Bytes a call.
    pub size_bytes: u64,
    /// Each pair as measured, bytes/s: the engine, then the bare loop.
    pub pairs_bytes_per_s: Vec<(f64, f64)>,
    /// Why there are none, or fewer; `null` when all are there.
    pub fault: Option<String>,
    /// Why the method cannot be measured here at all.
    pub skipped: Option<String>,
}

impl Cell {
    /// Engine over bare loop.
    pub fn ratio(&self) -> Option<Ratio> {
        Ratio::of(&self.pairs_bytes_per_s)
    }
}

/// All cells, pair by pair: one pair of each cell, then the next, so that what drifts falls on all of them.
pub fn measure(options: &Options, corpus: &Corpus) -> anyhow::Result<Vec<Cell>> {
    let mut cells = cells(options);
    for pair in 1..=options.pairs {
        for cell in cells.iter_mut().filter(|cell| cell.skipped.is_none() && cell.fault.is_none()) {
            interrupt::check()?;
            eprintln!("pair {pair} of {}: {} {}", options.pairs, cell.method, Bytes(cell.size_bytes));
            match measure_pair(options, corpus, cell) {
                Ok(pair) => cell.pairs_bytes_per_s.push(pair),
                Err(error) => {
                    interrupt::check()?;
                    eprintln!("{} {}: {error:#}", cell.method, Bytes(cell.size_bytes));
                    cell.fault = Some(format!("{error:#}"));
                }
            }
        }
    }
    Ok(cells)
}

fn cells(options: &Options) -> Vec<Cell> {
    let mut cells = Vec::new();
    for row in &options.methods {
        let skipped = (row.probe)().err();
        if let Some(why) = &skipped {
            eprintln!("{}: skipped: {why}", row.name);
        }
        cells.extend(options.sizes.iter().map(|&size_bytes| Cell {
            method: row.name,
            size_bytes,
            pairs_bytes_per_s: Vec::new(),
            fault: None,
            skipped: skipped.clone(),
        }));
    }
    cells
}

fn measure_pair(options: &Options, corpus: &Corpus, cell: &Cell) -> anyhow::Result<(f64, f64)> {
    let engine = engine_side::run(options, corpus, cell.method, cell.size_bytes)?;
    let bare = bare_side::run(options, corpus, cell.method, cell.size_bytes)?;
    Ok((engine, bare))
}
