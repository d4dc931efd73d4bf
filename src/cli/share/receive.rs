//! `linerate receive`: a folder that people put files into, and see nothing of.

use std::path::PathBuf;

use anyhow::Context;

use super::args::HostArgs;
use super::run::{self, Ending, Plan};
use super::uploads::UploadArgs;
use crate::cli::Exit;
use crate::share::rights::{Right, Rights};

/// Receive files from people on this network: they may upload, and see nothing of what is there.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
With --count it ends when files of so many visitors have come and nothing has been under way for 10 s; without, at \
Ctrl-C. Programs of one address count as one visitor.

Examples:\n  linerate receive inbox\n  linerate receive --by-type --count 1")]
pub(in crate::cli) struct Args {
    /// Where files go; it is made if it is not there [default: this folder].
    folder: Option<PathBuf>,
    /// Put what arrives into one folder for each type: video, audio, image, text, code, archive, documents, other.
    #[arg(long)]
    by_type: bool,
    /// From how many people; without it until Ctrl-C.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=4096))]
    count: Option<u64>,
    #[command(flatten)]
    host: HostArgs,
    #[command(flatten)]
    uploads: UploadArgs,
}

pub(in crate::cli) fn run(args: &Args) -> anyhow::Result<Exit> {
    let folder = args.folder.clone().unwrap_or_else(|| PathBuf::from("."));
    std::fs::create_dir_all(&folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
    run::run(&Plan {
        paths: vec![&folder],
        rights: Rights::default().with(Right::Upload).with(Right::Chat),
        shows_hidden: false,
        sorts_by_type: args.by_type,
        ending: args.count.map_or(Ending::Never, Ending::Uploads),
        host: &args.host,
        uploads: &args.uploads,
    })
}
