//! Getting a session with a server: where it is, what lets us in, and what to do when nothing does yet.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use super::access::{self, AccessArgs};
use super::own_server::OwnServer;
use super::ssh::{Remote, SshArgs, Target};
use crate::engine::dial::{self, DialError, Family};
use crate::link::{Access, CONNECT_MAX, Link, LinkError};
use crate::proto::ticket::Ticket;

/// How long a daemon is looked for before ssh is tried: a firewall that drops what it does not know should not cost
/// the whole time-out of a connection.
const LOOK_MAX: Duration = Duration::from_secs(3);

/// In what ssh says when the far end's sshd refuses a forwarding.
const SSH_CHANNEL_FAILED: &str = "open failed";

/// What has to stay alive for as long as the link does.
pub(super) enum Far {
    /// A server of ours on loopback.
    Own(#[expect(dead_code, reason = "kept for its drop")] OwnServer),
    /// One that was started over ssh.
    Ssh(Remote),
}

impl Far {
    /// Where there is no connection to it any more: end it; what was wrong with the way to it, if that is known.
    pub(super) fn end_of_lost(self) -> Option<String> {
        match self {
            Far::Own(_) => None,
            Far::Ssh(remote) => remote.end_of_lost(),
        }
    }
}

/// What a server that we start may be asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Serves<'a> {
    /// No files.
    Nothing,
    /// Those of a folder there.
    Folder(&'a Path),
    /// All that the user there can reach; paths begin at his home.
    OwnFiles,
}

/// What holds for every way to a server.
#[derive(Clone, Copy)]
pub(super) struct Ways<'a> {
    pub(super) access: &'a AccessArgs,
    pub(super) ssh: &'a SshArgs,
    pub(super) family: Family,
    /// Our own address.
    pub(super) bind: Option<IpAddr>,
}

/// The far end runs, and there is no way to it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreachable {
    /// Its port does not answer.
    #[error(
        "{target}: linerate runs there and listens on port {port}, but {why}: open a port in the firewall there and name it with --remote-port, name an address that leads there with --remote-address, or carry everything through ssh with --through-ssh"
    )]
    Directly { target: Target, port: u16, why: String },
    /// sshd there does not let it through.
    #[error(
        "{target}: linerate runs there, but nothing comes through ssh to it: {words}: have sshd there permit it (AllowTcpForwarding), or leave --through-ssh out"
    )]
    ThroughSsh { target: Target, words: String },
}

impl Unreachable {
    /// `None` where a connection failed for a reason that has nothing to do with the way there.
    fn because(target: &Target, port: u16, error: &DialError) -> Option<Unreachable> {
        // The advice of these errors is for those who start their servers themselves.
        let why = match error {
            DialError::Refused { address } => format!("{address} refuses connections"),
            DialError::Timeout { address, seconds } => format!("{address} does not answer within {seconds} s"),
            DialError::System { address, error, .. } => format!("{address} cannot be reached ({error})"),
            _ => return None,
        };
        Some(Unreachable::Directly { target: target.clone(), port, why })
    }
}

impl Ways<'_> {
    /// With a daemon: by a ticket that is at hand, as a stranger, or by a ticket that the person at the terminal gives.
    pub(super) fn daemon(&self, host: &str, port: u16) -> anyhow::Result<Link> {
        Ok(self.daemon_with_access(host, port)?.0)
    }

    /// The same, and what let us in.
    pub(super) fn daemon_with_access(&self, host: &str, port: u16) -> anyhow::Result<(Link, Access)> {
        let addresses = dial::resolve(host, port, self.family)?;
        let ticket = self.access.find(host, port, &addresses)?;
        self.enter(host, &addresses, ticket.as_ref(), CONNECT_MAX)
    }

    /// With the daemon that a ticket is at hand for; `None` where there is no such ticket, or nobody answers.
    pub(super) fn daemon_by_ticket(&self, host: &str, port: u16) -> anyhow::Result<Option<(Link, Access)>> {
        // A name that only ssh knows is none for the resolver.
        let Ok(addresses) = dial::resolve(host, port, self.family) else { return Ok(None) };
        let Some(ticket) = self.access.find(host, port, &addresses)? else { return Ok(None) };
        match self.enter(host, &addresses, Some(&ticket), LOOK_MAX) {
            Err(error) if is_nobody_there(&error) => {
                tracing::info!(host, port, "no daemon answers: trying ssh");
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    /// With a daemon that has let us in before, by the same.
    pub(super) fn daemon_again(&self, host: &str, port: u16, access: &Access) -> anyhow::Result<Link> {
        let addresses = dial::resolve(host, port, self.family)?;
        Ok(Link::connect(&addresses, self.bind, access)?)
    }

    /// With the daemon, if one runs there; `None` where nobody answers and nothing says that somebody should.
    pub(super) fn daemon_if_any(&self, host: &str, port: u16) -> anyhow::Result<Option<Link>> {
        let addresses = match dial::resolve(host, port, self.family) {
            Ok(addresses) => addresses,
            // It has addresses, but none that was asked for.
            Err(error) if self.family != Family::Any && dial::resolve(host, port, Family::Any).is_ok() => {
                return Err(error.into());
            }
            // A name that only ssh knows is none for the resolver.
            Err(_) => return Ok(None),
        };
        if let Some(ticket) = self.access.find(host, port, &addresses)? {
            return self.enter(host, &addresses, Some(&ticket), CONNECT_MAX).map(|(link, _)| Some(link));
        }
        match self.enter(host, &addresses, None, LOOK_MAX) {
            Err(error) if is_nobody_there(&error) => {
                tracing::info!(host, port, "no daemon answers: trying ssh");
                Ok(None)
            }
            other => other.map(|(link, _)| Some(link)),
        }
    }

    /// With the server that made a ticket, at the addresses that stand in it.
    pub(super) fn ticket_holder(&self, ticket: &Ticket) -> anyhow::Result<Link> {
        let addresses = self.addresses(ticket)?;
        Ok(Link::connect(&addresses, self.bind, &self.access.access(Some(ticket)))?)
    }

    /// With a server that is started for this session.
    pub(super) fn started_over_ssh(&self, target: &Target, files: Serves<'_>) -> anyhow::Result<(Remote, Link)> {
        let mut words: Vec<OsString> = ["--allow", "bench,read,write"].map(OsString::from).to_vec();
        match files {
            Serves::Nothing => {}
            Serves::Folder(folder) => words.extend([OsString::from("--"), folder.as_os_str().to_owned()]),
            Serves::OwnFiles => words.push(OsString::from("--own-files")),
        }
        let remote = Remote::start(self.ssh, target, &words)?;
        let ticket = Ticket::decode(remote.ticket()).with_context(|| format!("{target}: the ticket of the far end"))?;
        let port = ticket.addresses.first().map_or(0, |address| address.port);
        let addresses = match (remote.connect_to, &self.ssh.remote_address) {
            (Some(address), _) => vec![address],
            (None, Some(host)) => dial::resolve(host, port, self.family).context("--remote-address")?,
            (None, None) => self.addresses(&ticket)?,
        };
        let through_ssh = remote.connect_to.is_some();
        let access = Access { through_ssh, ..self.access.access(Some(&ticket)) };
        let error = match Link::connect(&addresses, self.bind, &access) {
            Ok(link) => return Ok((remote, link)),
            Err(error) => error,
        };
        match &error {
            LinkError::Dial(dial) if !through_ssh => {
                let unreachable = Unreachable::because(target, port, dial);
                Err(unreachable.map_or_else(|| error.into(), Into::into))
            }
            _ => Err(with_words(error, target, remote)),
        }
    }

    fn enter(
        &self,
        host: &str,
        addresses: &[SocketAddr],
        ticket: Option<&Ticket>,
        timeout: Duration,
    ) -> anyhow::Result<(Link, Access)> {
        let access = self.access.access(ticket);
        match Link::connect_within(addresses, self.bind, &access, timeout) {
            Err(LinkError::WantsTicket { peer, why }) => match access::ask(host)? {
                Some(ticket) => {
                    let access = self.access.access(Some(&ticket));
                    Ok((Link::connect(addresses, self.bind, &access)?, access))
                }
                None => Err(LinkError::WantsTicket { peer, why }.into()),
            },
            other => Ok((other?, access)),
        }
    }

    /// Where a ticket says that its server is; what does not resolve is passed over, unless it is the last hope.
    fn addresses(&self, ticket: &Ticket) -> Result<Vec<SocketAddr>, DialError> {
        let mut all = Vec::new();
        let mut failed = None;
        for address in &ticket.addresses {
            match dial::resolve(&address.host, address.port, self.family) {
                Ok(found) => all.extend(found),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if all.is_empty() => Err(error),
            _ => Ok(all),
        }
    }
}

/// A failed link, and what ssh and the far end said last.
fn with_words(error: LinkError, target: &Target, remote: Remote) -> anyhow::Error {
    if matches!(error, LinkError::Interrupted) {
        return error.into();
    }
    match remote.last_words() {
        words if words.contains(SSH_CHANNEL_FAILED) => Unreachable::ThroughSsh { target: target.clone(), words }.into(),
        words if words.is_empty() => anyhow::Error::from(error).context(target.to_string()),
        words => anyhow::Error::from(error).context(format!("{target}: {words}")),
    }
}

fn is_nobody_there(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref(),
        Some(LinkError::Dial(DialError::Refused { .. } | DialError::Timeout { .. } | DialError::System { .. }))
    )
}
