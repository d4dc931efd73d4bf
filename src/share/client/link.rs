//! The link of a share, as it is shown and typed: `https://192.0.2.1:5291/t/TOKEN`, perhaps with `/f/path` after it.

use std::fmt;
use std::str::FromStr;

use crate::share::gate::Secret;
use crate::share::path::UrlPath;
use crate::store::confined::RelativePath;

/// Longest host name, bytes (RFC 1035).
const HOST_BYTES_MAX: usize = 253;

/// Where a share is, what lets in there, and what of it is meant.
#[derive(Clone, PartialEq, Eq)]
pub struct Link {
    /// Encrypted or in the clear.
    pub is_https: bool,
    /// A name or an address, without brackets; a zone (`fe80::1%eth0`) is this machine's business.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What lets in.
    pub token: Secret,
    /// What is meant; the root is all that is shared.
    pub path: RelativePath,
}

/// Text that is no link. It does not repeat the text, which may hold what lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this link {0}: give it as the share shows it, https://HOST:PORT/t/TOKEN, perhaps with /f/PATH after it")]
pub struct BadLink(&'static str);

impl Link {
    /// `https` or `http`.
    pub fn scheme(&self) -> &'static str {
        if self.is_https { "https" } else { "http" }
    }

    /// Host and port as a request names them, without a zone.
    pub fn authority(&self) -> String {
        let host = self.host.split('%').next().unwrap_or_default();
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_string() };
        let usual = if self.is_https { 443 } else { 80 };
        if self.port == usual { host } else { format!("{host}:{}", self.port) }
    }

    /// `https://192.0.2.1:5291`.
    pub fn origin(&self) -> String {
        format!("{}://{}", self.scheme(), self.authority())
    }
}

/// Never with the token.
impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({}/t/…/{})", self.origin(), self.path)
    }
}

impl FromStr for Link {
    type Err = BadLink;

    fn from_str(text: &str) -> Result<Link, BadLink> {
        let (scheme, rest) = text.split_once("://").ok_or(BadLink("has no https:// in front"))?;
        let is_https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(BadLink("is neither https:// nor http://")),
        };
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let (authority, path) = rest.split_once('/').ok_or(BadLink("has no token"))?;
        let (host, port) = host_and_port(authority).ok_or(BadLink("has no host, or no port that is a number"))?;
        let path = path.strip_prefix("t/").ok_or(BadLink("has no token"))?;
        let (token, below) = path.split_once('/').unwrap_or((path, ""));
        let token = Secret::decode(token).ok_or(BadLink("has a token that is none: 22 letters and digits"))?;
        let below = match below {
            "" | "f" => "",
            below => below.strip_prefix("f/").ok_or(BadLink("has something after its token that is not /f/PATH"))?,
        };
        let path = UrlPath::decode(below).map_err(|_| BadLink("has a path that is none"))?.path;
        let port = port.unwrap_or(if is_https { 443 } else { 80 });
        Ok(Link { is_https, host: host.to_string(), port, token, path })
    }
}

fn host_and_port(authority: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            // RFC 6874: the `%` before a zone is written as `%25`.
            (host.replacen("%25", "%", 1), if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host.to_string(), Some(port)),
            None => (authority.to_string(), None),
        },
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':' | '%');
    let is_good = !host.is_empty() && host.len() <= HOST_BYTES_MAX && host.chars().all(is_plain);
    let port = port.map(str::parse).transpose().ok()?;
    (is_good && port != Some(0)).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "AAAAAAAAAAAAAAAAAAAAAA";

    #[test]
    fn links_are_read_as_they_are_shown() {
        let table = [
            (format!("https://192.0.2.1:5291/t/{TOKEN}"), "192.0.2.1:5291", ""),
            (format!("https://192.0.2.1:5291/t/{TOKEN}/"), "192.0.2.1:5291", ""),
            (format!("HTTPS://nas.local/t/{TOKEN}/f/a%20b/"), "nas.local", "a b"),
            (format!("http://[2001:db8::1]:80/t/{TOKEN}/f/a/b?x#y"), "[2001:db8::1]", "a/b"),
            (format!("https://[fe80::1%25eth0]:7/t/{TOKEN}/f/"), "[fe80::1]:7", ""),
        ];
        for (text, authority, path) in table {
            let link: Link = text.parse().unwrap();
            assert_eq!((link.authority().as_str(), link.path.as_bytes()), (authority, path.as_bytes()), "{text}");
            assert!(!format!("{link:?}").contains(TOKEN));
        }
        let link: Link = format!("https://[fe80::1%25eth0]:7/t/{TOKEN}").parse().unwrap();
        assert_eq!((link.host.as_str(), link.port), ("fe80::1%eth0", 7));
    }

    #[test]
    fn what_is_no_link_is_refused_without_its_token() {
        let bad = [
            "https://".to_string(),
            "https://nas".to_string(),
            "https://nas/".to_string(),
            "https://nas/t/short".to_string(),
            format!("ftp://nas/t/{TOKEN}"),
            format!("https:///t/{TOKEN}"),
            format!("https://nas:0/t/{TOKEN}"),
            format!("https://nas:99999/t/{TOKEN}"),
            format!("https://me@nas/t/{TOKEN}"),
            format!("https://na\ns/t/{TOKEN}"),
            format!("https://[::1/t/{TOKEN}"),
            format!("https://nas/t/{TOKEN}/g/x"),
            format!("https://nas/t/{TOKEN}/f/../x"),
            format!("https://nas/t/{TOKEN}/f/a%2f..%2fb"),
        ];
        for text in bad {
            let error = text.parse::<Link>().unwrap_err();
            assert!(!error.to_string().contains(TOKEN), "{text}");
        }
    }
}
