//! `linerate pair`: remember a server's ticket.

use std::io::Read;
use std::path::PathBuf;

use anyhow::Context;
use zeroize::Zeroizing;

use super::access::AccessArgs;
use super::host::Host;
use super::serve::PORT_DEFAULT;
use super::{Exit, access, out};
use crate::engine::dial::{self, Family};
use crate::link::Link;
use crate::proto::ticket::{TICKET_CHARS_MAX, Ticket};
use crate::text::printable_str;
use crate::trust::peers::Peers;
use crate::trust::places::Places;

/// Remember the ticket of a server, so that it lets this user in from now on.
///
/// The ticket is read from --ticket-file, LINERATE_TICKET, or standard input; at a terminal it is asked for. It is kept
/// once the server has let us in by it, in a file that nobody else can read.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  linerate pair nas\n  linerate pair nas:6000 --ticket-file ticket\n  \
                  ssh nas linerate ticket new | linerate pair nas\n  linerate pair --list\n  linerate pair --forget nas")]
pub(super) struct Args {
    /// The host as later commands will name it: HOST, HOST:PORT or [IPV6]:PORT [default port: 5290].
    #[arg(required_unless_present = "list")]
    host: Option<Host>,
    /// Forget the host's ticket instead.
    #[arg(long, conflicts_with = "list")]
    forget: bool,
    /// Show the hosts that this user is paired with instead.
    #[arg(long, conflicts_with = "host")]
    list: bool,
    /// Read the ticket from this file, which nobody else may read [default: LINERATE_TICKET, or standard input].
    #[arg(long, value_name = "PATH", help_heading = "Trust", conflicts_with_all = ["forget", "list"])]
    ticket_file: Option<PathBuf>,
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let peers = Peers::new(&Places::from_env()?);
    let Some(host) = &args.host else { return list(&peers) };
    let port = host.port.unwrap_or(PORT_DEFAULT);
    let name = printable_str(&host.name);
    if args.forget {
        anyhow::ensure!(peers.remove(&host.name, port)?, "{name}:{port}: not paired: linerate pair --list");
        out::say(&format!("forgot {name}:{port}"));
        return Ok(Exit::Ok);
    }
    let access = AccessArgs { ticket_file: args.ticket_file, ..AccessArgs::default() };
    let ticket = match access.named()? {
        Some(ticket) => ticket,
        None => access::ask(&host.name)?.map_or_else(from_stdin, Ok)?,
    };
    let addresses = dial::resolve(&host.name, port, Family::Any)?;
    let link = Link::connect(&addresses, None, &access.access(Some(&ticket)))?;
    let rights = link.welcome().rights;
    link.close();
    peers.store(&host.name, port, &ticket)?;
    out::say(&format!("paired with {name}:{port}: it lets this user {rights}"));
    Ok(Exit::Ok)
}

fn from_stdin() -> anyhow::Result<Ticket> {
    let mut text = Zeroizing::new(String::new());
    let most = TICKET_CHARS_MAX as u64 + 64;
    std::io::stdin().lock().take(most).read_to_string(&mut text).context("standard input")?;
    Ticket::decode(&text).context("standard input")
}

fn list(peers: &Peers) -> anyhow::Result<Exit> {
    let all = peers.list()?;
    if all.is_empty() {
        out::say("paired with nobody: linerate pair HOST");
    }
    let lines: String = all.iter().map(|address| format!("{}\n", printable_str(&address.to_string()))).collect();
    out::print(&lines)?;
    Ok(Exit::Ok)
}
