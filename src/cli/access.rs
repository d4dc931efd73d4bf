//! What lets us in at a server: where a ticket is looked for, and in which order.
//!
//! Never on the command line, which every user of the machine can read.

use std::io::IsTerminal;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context;

use crate::link::Access;
use crate::proto::ticket::{Fingerprint, Ticket};
use crate::tls::client::Pin;
use crate::trust::peers::Peers;
use crate::trust::places::Places;
use crate::trust::{same_user, ticket_file};

/// The variable that may hold a ticket.
pub(super) const TICKET_VARIABLE: &str = "LINERATE_TICKET";

/// What lets us in, and whom we expect.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Trust")]
pub(super) struct AccessArgs {
    /// Read the server's ticket from this file, which nobody else may read [default: LINERATE_TICKET, that of a peer
    /// this user is paired with, or a prompt].
    #[arg(long, value_name = "PATH")]
    pub(super) ticket_file: Option<PathBuf>,
    /// Whom to expect where there is no ticket: the identity that `linerate serve --open-bench` prints, or a share.
    #[arg(long, value_name = "SHA256")]
    pub(super) fingerprint: Option<Fingerprint>,
}

impl AccessArgs {
    /// The options, and whether they were given.
    pub(super) fn given(&self) -> [(&'static str, bool); 2] {
        [("--ticket-file", self.ticket_file.is_some()), ("--fingerprint", self.fingerprint.is_some())]
    }

    /// The ticket that was named for this run.
    pub(super) fn named(&self) -> anyhow::Result<Option<Ticket>> {
        if let Some(path) = &self.ticket_file {
            let ticket = ticket_file::read(path)?;
            return ticket.with_context(|| format!("--ticket-file {}: no such file", path.display())).map(Some);
        }
        match std::env::var(TICKET_VARIABLE) {
            Ok(text) if text.trim().is_empty() => Ok(None),
            Ok(text) => Ticket::decode(&text).context(TICKET_VARIABLE).map(Some),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(_) => anyhow::bail!("{TICKET_VARIABLE}: is no text"),
        }
    }

    /// The ticket for a server: named, paired with, or left for us by a server of our own on this machine.
    pub(super) fn find(&self, host: &str, port: u16, addresses: &[SocketAddr]) -> anyhow::Result<Option<Ticket>> {
        if let Some(ticket) = self.named()? {
            return Ok(Some(ticket));
        }
        // Without a home there are no peers and no servers of ours.
        let Ok(places) = Places::from_env() else { return Ok(None) };
        if let Some(ticket) = Peers::new(&places).find(host, port)? {
            return Ok(Some(ticket));
        }
        match addresses.iter().any(|address| is_this_machine(address.ip())) {
            true => Ok(same_user::find(&places, port)?),
            false => Ok(None),
        }
    }

    /// How to be let in with a ticket, or as a stranger.
    pub(super) fn access(&self, ticket: Option<&Ticket>) -> Access {
        let fingerprint = ticket.map(|ticket| ticket.fingerprint).or(self.fingerprint);
        Access {
            pin: fingerprint.map_or(Pin::Anybody, Pin::Exactly),
            secret: ticket.map(|ticket| ticket.secret.clone()),
            through_ssh: false,
        }
    }
}

/// Ask the person at the terminal; `None` where there is none.
pub(super) fn ask(host: &str) -> anyhow::Result<Option<Ticket>> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Ok(None);
    }
    let text = rpassword::prompt_password(format!("ticket for {host} (it is not shown): "))
        .context("the ticket cannot be read from the terminal")?;
    Ticket::decode(&text).context("that").map(Some)
}

/// Whether an address is one of this machine: a socket can be bound to it.
pub(super) fn is_this_machine(ip: IpAddr) -> bool {
    ip.is_loopback() || std::net::UdpSocket::bind((ip, 0)).is_ok()
}
