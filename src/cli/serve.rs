//! `linerate serve`: the other end of a measurement.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::{Exit, out};
use crate::bench::server::{Config, Server};
use crate::units::Bytes;

/// The port that is used when none is named.
pub(super) const PORT_DEFAULT: u16 = 5290;

/// Let others measure against this machine, until Ctrl-C.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  linerate serve\n  linerate serve --listen 192.0.2.7:5290\n  \
                  linerate serve /data          # clients may name files in /data as --sink and --source")]
pub(super) struct Args {
    /// A folder in which clients may name sources and make new sink files; without it they can do neither.
    root: Option<PathBuf>,
    /// Where to listen; port 0 takes a free one and says which.
    #[arg(long, value_name = "ADDR:PORT", default_value_t = SocketAddr::from(([0u16; 8], PORT_DEFAULT)))]
    listen: SocketAddr,
    /// End after one session, or when standard input ends.
    #[arg(long)]
    once: bool,
    /// Say nothing but errors.
    #[arg(long, short)]
    quiet: bool,
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let config = Config { listen: args.listen, root: args.root, once: args.once };
    let server = Server::bind(&config)?;
    out::print(&format!("listening on {}\n", server.address()?))?;
    let summary = server.run()?;
    if !args.quiet {
        out::say(&format!(
            "served {} sessions, {} jobs, {} received, {} sent",
            summary.sessions,
            summary.jobs,
            about(summary.received_bytes),
            about(summary.sent_bytes)
        ));
    }
    Ok(Exit::Ok)
}

/// A byte count rounded for a person.
fn about(bytes: u64) -> String {
    const GIB: u64 = 1 << 30;
    if bytes >= GIB { format!("{:.1} GiB", bytes as f64 / GIB as f64) } else { Bytes(bytes).to_string() }
}
