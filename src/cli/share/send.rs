//! `linerate send`: a share of some files that ends when everybody has them.

use std::path::PathBuf;

use super::args::HostArgs;
use super::run::{self, Ending, Plan};
use super::uploads::UploadArgs;
use crate::cli::Exit;
use crate::share::rights::{Right, Rights};

/// Send files to people on this network: it ends when they have them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A visitor has them when he has downloaded each file whole, in one go or in parts, or one archive of all of them; \
programs of one address count each time. What is still being sent then is finished.

Examples:\n  linerate send report.pdf\n  linerate send photos --count 3 --expires 1h")]
pub(in crate::cli) struct Args {
    /// What is sent: files and folders.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// To how many people.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=4096))]
    count: u64,
    /// Send names in folders that begin with a dot, too.
    #[arg(long)]
    hidden: bool,
    #[command(flatten)]
    host: HostArgs,
}

pub(in crate::cli) fn run(args: &Args) -> anyhow::Result<Exit> {
    run::run(&Plan {
        paths: args.paths.iter().map(PathBuf::as_path).collect(),
        rights: Rights::default().with(Right::View).with(Right::Download),
        shows_hidden: args.hidden,
        sorts_by_type: false,
        ending: Ending::Downloads(args.count),
        host: &args.host,
        uploads: &UploadArgs::default(),
    })
}
