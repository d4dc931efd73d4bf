//! Naming a peer: `host`, `host:port`, `192.0.2.1:5290`, `[2001:db8::1]:5290`, `2001:db8::1`, `lr://host:port`,
//! `user@host`.

use super::ssh::Target;
use crate::proto::ticket::{Address, TicketError};

/// How a peer was named, and so how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// `host:port` or `lr://host`: a daemon, and nothing else.
    Daemon(Host),
    /// `user@host`: over ssh, and in no other way.
    Ssh(Target),
    /// `host`: the daemon there, or over ssh where none runs.
    Either(Host),
}

impl std::str::FromStr for Peer {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix("lr://") {
            return Ok(Peer::Daemon(rest.strip_suffix('/').unwrap_or(rest).parse()?));
        }
        if text.contains('@') {
            return text.parse().map(Peer::Ssh);
        }
        let host: Host = text.parse()?;
        Ok(if host.port.is_some() { Peer::Daemon(host) } else { Peer::Either(host) })
    }
}

/// A host and, if it was named, a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) port: Option<u16>,
}

impl Host {
    /// As it stands in a ticket, with that port unless it names one.
    pub(super) fn at(&self, port: u16) -> Result<Address, TicketError> {
        Ok(Address::new(&self.name, self.port.unwrap_or(port))?)
    }
}

impl std::str::FromStr for Host {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no host: write HOST, HOST:PORT or [IPV6]:PORT");
        let host = |name: &str, port| Host { name: name.to_string(), port };
        let is_bare_ipv6 = !text.starts_with('[') && text.matches(':').count() > 1;
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (name, port) = rest.split_once(']').ok_or_else(wrong)?;
                (name, if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or_else(wrong)?) })
            }
            None if is_bare_ipv6 => (text, None),
            None => text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port))),
        };
        let port = port.map(|port| port.parse().map_err(|_| wrong())).transpose()?;
        if name.is_empty() || name.starts_with('-') || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(wrong());
        }
        Ok(host(name, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_how_a_peer_is_reached() {
        let host = |name: &str, port| Host { name: name.to_string(), port };
        let target = Target { user: Some("me".to_string()), host: "nas".to_string() };
        let table = [
            ("nas", Peer::Either(host("nas", None))),
            ("nas:7", Peer::Daemon(host("nas", Some(7)))),
            ("lr://nas", Peer::Daemon(host("nas", None))),
            ("lr://[::1]:7/", Peer::Daemon(host("::1", Some(7)))),
            ("me@nas", Peer::Ssh(target)),
        ];
        for (text, peer) in table {
            assert_eq!(text.parse(), Ok(peer), "{text}");
        }
        for text in ["lr://", "-x@nas", "me@", "@nas", "me@-x"] {
            assert!(text.parse::<Peer>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn hosts_and_ports_are_told_apart() {
        let table = [
            ("nas", "nas", None),
            ("nas:80", "nas", Some(80)),
            ("192.0.2.1:5290", "192.0.2.1", Some(5290)),
            ("::1", "::1", None),
            ("fe80::1%eth0", "fe80::1%eth0", None),
            ("[::1]", "::1", None),
            ("[::1]:7", "::1", Some(7)),
        ];
        for (text, name, port) in table {
            assert_eq!(text.parse(), Ok(Host { name: name.to_string(), port }), "{text}");
        }
        for text in ["", ":80", "nas:x", "nas:70000", "[::1", "[::1]80", "a b", "-x"] {
            assert!(text.parse::<Host>().is_err(), "{text:?}");
        }
    }
}
