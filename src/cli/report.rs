//! `linerate report`: show a saved run again.

use std::path::PathBuf;

#[cfg(feature = "chart")]
use anyhow::Context;

use super::{Exit, out};
use crate::report::terminal;

/// Show a saved run again, as `linerate bench` did when it ended.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  linerate report results/bench-20261120T120000Z.json\n  \
                  linerate report run.json --svg matrix.svg")]
pub(super) struct Args {
    /// A result file of `linerate bench`.
    run: PathBuf,
    /// Also draw the matrix as a picture.
    #[cfg(feature = "chart")]
    #[arg(long, value_name = "PATH")]
    svg: Option<PathBuf>,
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let document = crate::report::read(&args.run)?;
    #[cfg(feature = "chart")]
    if let Some(path) = &args.svg {
        let picture = crate::report::chart::svg(&document)?;
        std::fs::write(path, picture).with_context(|| format!("{}: cannot be written", path.display()))?;
    }
    out::print(&terminal::render(&document, &out::style_of_stdout()))?;
    Ok(Exit::Ok)
}
