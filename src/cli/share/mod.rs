//! `linerate share`, and its one-shot forms `send` and `receive`: a folder for the people on a LAN.
//!
//! | file | what it holds |
//! |---|---|
//! | [`args`] | the options that all forms have |
//! | `address` | by which addresses a share is reached, the likeliest first |
//! | `follow` | the announcement, and what becomes of the addresses while it runs |
//! | `certificate`, [`password`] | what it proves itself with; what visitors prove |
//! | `show`, `front` | the links and the QR code; again when they or the terminal become others |
//! | `run` | a share from its options to its end |
//! | `once` | shares that end by themselves |
//! | `watch`, `live`, `lines`, `events`, `log` | what the owner sees, and keeps |
//! | [`visit`] | coming into somebody else's share by its link |
//! | [`links`] | `get` and `put` with the link of somebody else's share |

use std::path::{Path, PathBuf};

use super::Exit;
use crate::share::rights::{Right, Rights};

mod address;
pub(super) mod args;
mod certificate;
mod events;
mod follow;
mod front;
mod lines;
pub(super) mod links;
mod live;
mod log;
mod once;
pub(super) mod password;
pub(super) mod receive;
mod run;
pub(super) mod send;
mod show;
mod uploads;
pub(super) mod visit;
mod watch;

use args::HostArgs;
use run::{Ending, Plan};
use uploads::UploadArgs;

/// Share a folder, or some files, with the people on this network: they open a link or scan a code.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  linerate share photos\n  linerate share report.pdf slides.pdf --expires 1h\n  \
                        linerate share inbox --upload --password\n\nThe link lets in whoever has it. A phone warns \
                        once that nobody vouches for the certificate: compare the fingerprint.")]
pub(super) struct Args {
    /// What is shared: a folder, or files and folders by their names [default: this folder].
    paths: Vec<PathBuf>,
    /// What visitors may do: view, download, upload, chat, delete [default: view,download,chat].
    #[arg(long, value_name = "RIGHTS")]
    allow: Option<Rights>,
    /// Let visitors upload, too.
    #[arg(long)]
    upload: bool,
    /// Show names that begin with a dot.
    #[arg(long)]
    hidden: bool,
    #[command(flatten)]
    host: HostArgs,
    #[command(flatten)]
    uploads: UploadArgs,
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let mut rights = args.allow.unwrap_or_else(Rights::usual);
    if args.upload {
        rights = rights.with(Right::Upload);
    }
    run::run(&Plan {
        paths: or_here(&args.paths),
        rights,
        shows_hidden: args.hidden,
        sorts_by_type: false,
        ending: Ending::Never,
        host: &args.host,
        uploads: &args.uploads,
    })
}

fn or_here(paths: &[PathBuf]) -> Vec<&Path> {
    if paths.is_empty() { vec![Path::new(".")] } else { paths.iter().map(PathBuf::as_path).collect() }
}
