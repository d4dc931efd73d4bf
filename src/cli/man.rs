//! `linerate man`: the manual pages.

use anyhow::Context;
use clap::CommandFactory;

use super::{Cli, Exit, out};

/// Print the manual page, or write one for every subcommand into a folder.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  linerate man | man -l -\n  linerate man --folder /usr/local/share/man/man1")]
pub(super) struct Args {
    /// Write linerate.1, linerate-bench.1, … there instead of printing.
    #[arg(long, value_name = "DIR")]
    folder: Option<std::path::PathBuf>,
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    match args.folder {
        Some(folder) => {
            std::fs::create_dir_all(&folder)
                .and_then(|()| clap_mangen::generate_to(Cli::command(), &folder))
                .with_context(|| format!("{}: cannot write manual pages", folder.display()))?;
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            out::print(&String::from_utf8_lossy(&page))?;
        }
    }
    Ok(Exit::Ok)
}
