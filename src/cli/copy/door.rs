//! The way to the peer of a copy, which is gone more than once where connections are lost.

use crate::cli::exit::Misuse;
use crate::cli::host::Peer;
use crate::cli::reach::{Far, Serves, Ways};
use crate::cli::serve::PORT_DEFAULT;
use crate::cli::ssh::Target;
use crate::link::{Access, Link};
use crate::tls::client::Pin;

/// A session, and what has to stay alive for as long.
pub(super) struct Open {
    pub(super) link: Link,
    /// Ended after the link.
    pub(super) far: Option<Far>,
}

/// How to get a session with a peer.
pub(super) struct Door<'a> {
    ways: Ways<'a>,
    peer: &'a Peer,
    known: Option<Known>,
}

/// How it was reached.
enum Known {
    Daemon { name: String, port: u16, access: Box<Access> },
    Ssh(Target),
}

impl<'a> Door<'a> {
    /// To that peer. Options that say nothing about the way there would be lost without a word.
    pub(super) fn new(ways: Ways<'a>, peer: &'a Peer) -> Result<Door<'a>, Misuse> {
        let of_a_daemon = || ways.access.given().into_iter().find_map(|(option, is_given)| is_given.then_some(option));
        let of_a_start = ways.ssh.of_a_start();
        let why = match peer {
            Peer::Daemon(_) => of_a_start.map(|option| {
                format!("{option} is for a server that is started over ssh: name the place as [USER@]HOST:PATH")
            }),
            Peer::Either(_) if of_a_start.is_none() => None,
            Peer::Ssh(_) | Peer::Either(_) => of_a_daemon().map(|option| {
                format!("{option} is for a server that runs already: name the place as lr://HOST/PATH, or leave it out")
            }),
        };
        why.map_or(Ok(Door { ways, peer, known: None }), |why| Err(Misuse(why)))
    }

    /// Get a session; the second time in the way of the first, and without asking anybody.
    pub(super) fn open(&mut self) -> anyhow::Result<Open> {
        match &self.known {
            Some(Known::Daemon { name, port, access }) => {
                Ok(Open { link: self.ways.daemon_again(name, *port, access)?, far: None })
            }
            Some(Known::Ssh(target)) => self.start(&target.clone()),
            None => self.open_first(),
        }
    }

    fn open_first(&mut self) -> anyhow::Result<Open> {
        match self.peer {
            Peer::Ssh(target) => self.start(target),
            Peer::Daemon(host) => {
                let port = host.port.unwrap_or(PORT_DEFAULT);
                let entered = self.ways.daemon_with_access(&host.name, port)?;
                Ok(self.entered(&host.name, port, entered))
            }
            Peer::Either(host) => {
                if self.ways.ssh.of_a_start().is_none()
                    && let Some(entered) = self.ways.daemon_by_ticket(&host.name, PORT_DEFAULT)?
                {
                    return Ok(self.entered(&host.name, PORT_DEFAULT, entered));
                }
                let target: Target = host.name.parse().map_err(Misuse)?;
                self.start(&target)
            }
        }
    }

    fn entered(&mut self, name: &str, port: u16, (link, access): (Link, Access)) -> Open {
        self.known = Some(Known::Daemon { name: name.to_string(), port, access: Box::new(access) });
        Open { link, far: None }
    }

    fn start(&mut self, target: &Target) -> anyhow::Result<Open> {
        let (remote, link) = self.ways.started_over_ssh(target, Serves::OwnFiles)?;
        self.known = Some(Known::Ssh(target.clone()));
        Ok(Open { link, far: Some(Far::Ssh(remote)) })
    }

    /// What the peer is called where a journal is looked for: by its identity where that lasts.
    pub(super) fn name(&self) -> String {
        match &self.known {
            Some(Known::Daemon { name, port, access }) => match access.pin {
                Pin::Exactly(fingerprint) => fingerprint.to_string(),
                Pin::Anybody => format!("{name}:{port}"),
            },
            Some(Known::Ssh(target)) => target.to_string(),
            None => String::new(),
        }
    }

    /// Whether paths of the peer begin at the home of the user there.
    pub(super) fn is_at_home(&self) -> bool {
        matches!(self.known, Some(Known::Ssh(_)))
    }
}
