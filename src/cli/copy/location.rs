//! A source or destination: a local path, `[user@]host:path`, `lr://host[:port]/path`, or `-`.
//!
//! As scp has it: what has a `:` before the first `/` is remote; `./a:b` is a local file with a colon in its name.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::cli::host::{Host, Peer};

/// Where something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Location {
    /// A path of this machine.
    Local(PathBuf),
    /// Standard input or output.
    Stdio,
    /// A path of a peer, as it was typed.
    Remote(Peer, Vec<u8>),
}

/// Why an argument is no location.
#[derive(Debug, thiserror::Error)]
#[error("{0}: write a path, [USER@]HOST:PATH, lr://HOST[:PORT]/PATH or -")]
pub(in crate::cli) struct LocationError(String);

impl Location {
    /// Read an argument; names are bytes, hosts are text.
    pub(super) fn parse(argument: &OsStr) -> Result<Location, LocationError> {
        let bytes = argument.as_bytes();
        let wrong = |why: String| LocationError(why);
        if bytes == b"-" {
            return Ok(Location::Stdio);
        }
        if bytes.is_empty() {
            return Err(wrong("an empty path".to_string()));
        }
        if bytes.starts_with(b"https://") || bytes.starts_with(b"http://") {
            return Err(wrong("the link of a share, which goes with linerate get and put alone".to_string()));
        }
        if let Some(rest) = bytes.strip_prefix(b"lr://") {
            let at = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
            let host: Host = text(&rest[..at])?.parse().map_err(wrong)?;
            return Ok(Location::Remote(Peer::Daemon(host), rest.get(at + 1..).unwrap_or_default().to_vec()));
        }
        match colon(bytes) {
            None => Ok(Location::Local(PathBuf::from(argument))),
            Some(at) => {
                let (host, path) = (text(&bytes[..at])?, bytes[at + 1..].to_vec());
                let peer = if host.contains('@') {
                    Peer::Ssh(host.parse().map_err(wrong)?)
                } else {
                    let name = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
                    let host: Host = format!("[{name}]").parse().map_err(wrong)?;
                    Peer::Either(host)
                };
                Ok(Location::Remote(peer, path))
            }
        }
    }
}

/// The colon that parts host and path.
fn colon(bytes: &[u8]) -> Option<usize> {
    let from = if bytes.starts_with(b"[") || bytes.contains(&b'@') { after_bracket(bytes) } else { 0 };
    let at = from + bytes[from..].iter().position(|byte| matches!(byte, b':' | b'/'))?;
    (bytes[at] == b':' && at > 0).then_some(at)
}

/// Where an address in brackets ends, which may hold colons.
fn after_bracket(bytes: &[u8]) -> usize {
    let slash = bytes.iter().position(|byte| *byte == b'/').unwrap_or(bytes.len());
    bytes[..slash].iter().position(|byte| *byte == b']').map_or(0, |at| at + 1)
}

fn text(bytes: &[u8]) -> Result<&str, LocationError> {
    std::str::from_utf8(bytes).map_err(|_| LocationError("a host name that is no text".to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ssh::Target;

    #[test]
    fn places_are_told_apart() {
        let host = |name: &str, port| Host { name: name.to_string(), port };
        let target = Target { user: Some("me".to_string()), host: "nas".to_string() };
        let remote = |peer, path: &str| Location::Remote(peer, path.as_bytes().to_vec());
        let table = [
            ("a/b", Location::Local("a/b".into())),
            ("/a:b", Location::Local("/a:b".into())),
            ("./a:b", Location::Local("./a:b".into())),
            ("a/b:c", Location::Local("a/b:c".into())),
            ("-", Location::Stdio),
            ("nas:", remote(Peer::Either(host("nas", None)), "")),
            ("nas:a:b", remote(Peer::Either(host("nas", None)), "a:b")),
            ("nas:/a", remote(Peer::Either(host("nas", None)), "/a")),
            ("me@nas:a b", remote(Peer::Ssh(target), "a b")),
            ("[::1]:x", remote(Peer::Either(host("::1", None)), "x")),
            ("lr://nas/a/b", remote(Peer::Daemon(host("nas", None)), "a/b")),
            ("lr://nas", remote(Peer::Daemon(host("nas", None)), "")),
            ("lr://[::1]:7/a", remote(Peer::Daemon(host("::1", Some(7))), "a")),
        ];
        for (argument, location) in table {
            assert_eq!(Location::parse(OsStr::new(argument)).unwrap(), location, "{argument}");
        }
        for argument in ["", "https://nas/t/x", "http://nas", "lr:///a", "me@-x:a", "-x:a", "lr://nas:x/a"] {
            assert!(Location::parse(OsStr::new(argument)).is_err(), "{argument}");
        }
    }
}
