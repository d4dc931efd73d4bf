//! `linerate serve`: the other end of a measurement.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::{Exit, out};
use crate::bench::server::{Config, ServeError, Server};

/// The port that is used when none is named.
pub(super) const PORT_DEFAULT: u16 = 5290;

/// Let others measure against this machine, until Ctrl-C.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  linerate serve\n  linerate serve --listen 192.0.2.7:5290\n  \
                  linerate serve /data          # clients may name files in /data as --sink and --source")]
pub(super) struct Args {
    /// A folder in which clients may name sources and make new sink files; without it they can do neither.
    root: Option<PathBuf>,
    /// Where to listen; port 0 takes a free one and says which [default: [::]:5290, which takes IPv4 too].
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// End after one session, or when standard input ends.
    #[arg(long)]
    once: bool,
    /// Say nothing but errors.
    #[arg(long, short)]
    quiet: bool,
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let everywhere = SocketAddr::from(([0u16; 8], PORT_DEFAULT));
    let config = Config { listen: args.listen.unwrap_or(everywhere), root: args.root, once: args.once };
    let server = match Server::bind(&config) {
        // A kernel without IPv6.
        Err(ServeError::Listen { error, .. })
            if args.listen.is_none() && error.raw_os_error() == Some(libc::EAFNOSUPPORT) =>
        {
            let listen = SocketAddr::from(([0u8; 4], PORT_DEFAULT));
            Server::bind(&Config { listen, ..config })?
        }
        other => other?,
    };
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
    const STEPS: [(u64, &str); 4] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match STEPS.iter().find(|(size, _)| bytes >= *size) {
        Some((size, unit)) => format!("{:.1} {unit}", bytes as f64 / *size as f64),
        None => format!("{bytes} B"),
    }
}
