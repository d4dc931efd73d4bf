//! Telling the network by mDNS that there is a share, and hearing of others (RFC 6762, 6763).
//!
//! What lets in is never told: whoever hears of a share still has to be given its link. What others tell is text from
//! elsewhere, bounded here and made safe by whoever shows it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use mdns_sd::{IfKind, ServiceDaemon, ServiceEvent, ServiceInfo};
use serde::Serialize;

use crate::proto::fingerprint::Fingerprint;

/// What programs look for.
const LINERATE: &str = "_linerate._tcp.local.";
/// What browsers and file managers look for.
const HTTP: &str = "_http._tcp.local.";
/// Longest label of the DNS, and what a text of a property may have, bytes.
const LABEL_BYTES_MAX: usize = 63;
const TEXT_BYTES_MAX: usize = 200;
/// Most shares, and addresses of each, that are listed.
const PEERS_MAX: usize = 1000;
const ADDRESSES_MAX: usize = 16;
/// How long taking an announcement back may take.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

/// Why it does not work.
#[derive(Debug, thiserror::Error)]
#[error("mDNS: {0}")]
pub struct AnnounceError(#[from] mdns_sd::Error);

/// What is told of a share.
#[derive(Clone, Debug)]
pub struct Announcement<'a> {
    /// What is shared.
    pub title: &'a str,
    /// The name of the machine.
    pub host: &'a str,
    /// Where; those of the loopback are left out.
    pub addresses: &'a [IpAddr],
    /// The port.
    pub port: u16,
    /// By what it is known; nothing in the clear.
    pub fingerprint: Option<Fingerprint>,
}

/// A share that is being announced; it is taken back when this is dropped.
pub struct Announced {
    daemon: ServiceDaemon,
    names: Vec<String>,
}

/// The name that the announced addresses have in `.local`. It is not that of the machine itself, for which another
/// responder may already speak.
pub fn local_name(host: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let first: String = host.split('.').next().unwrap_or_default().chars().map(plain).collect();
    format!("{}-linerate.local", cut(first.trim_matches('-'), LABEL_BYTES_MAX - "-linerate".len()))
}

/// Tell the network. Nothing is told if only this machine can reach the share.
pub fn announce(what: &Announcement<'_>) -> Result<Option<Announced>, AnnounceError> {
    let addresses: Vec<IpAddr> = what.addresses.iter().filter(|ip| !ip.is_loopback()).copied().collect();
    if addresses.is_empty() {
        return Ok(None);
    }
    let daemon = ServiceDaemon::new()?;
    let instance = cut(&format!("{} on {}", what.title, what.host), LABEL_BYTES_MAX).to_string();
    let fingerprint = what.fingerprint.map(|fingerprint| fingerprint.to_string()).unwrap_or_default();
    let host = format!("{}.", local_name(what.host));
    let mut properties = vec![("path", "/"), ("title", cut(what.title, TEXT_BYTES_MAX))];
    properties.push(("host", cut(what.host, TEXT_BYTES_MAX)));
    if what.fingerprint.is_some() {
        properties.push(("fingerprint", fingerprint.as_str()));
    }
    let mut names = Vec::new();
    for kind in [LINERATE, HTTP] {
        let mut service = ServiceInfo::new(kind, &instance, &host, &addresses[..], what.port, &properties[..])?;
        service.set_interfaces(addresses.iter().map(|ip| IfKind::Addr(*ip)).collect());
        names.push(service.get_fullname().to_string());
        daemon.register(service)?;
    }
    Ok(Some(Announced { daemon, names }))
}

impl Drop for Announced {
    fn drop(&mut self) {
        for name in &self.names {
            if let Ok(done) = self.daemon.unregister(name) {
                let _ = done.recv_timeout(FAREWELL_MAX);
            }
        }
        if let Ok(done) = self.daemon.shutdown() {
            let _ = done.recv_timeout(FAREWELL_MAX);
        }
    }
}

/// A share somewhere on the network, as it tells of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Peer {
    /// What it shares.
    pub title: String,
    /// The name of its machine.
    pub host: String,
    /// Encrypted or in the clear.
    pub https: bool,
    /// Where it answers.
    pub addresses: Vec<String>,
    /// And on which port.
    pub port: u16,
    /// By what it is known, if it says so; believe it only if it is what its owner's terminal shows.
    pub fingerprint: Option<String>,
}

/// Listen for so long to who is there, sorted by host and title.
pub fn listen(time: Duration) -> Result<Vec<Peer>, AnnounceError> {
    let daemon = ServiceDaemon::new()?;
    let events = daemon.browse(LINERATE)?;
    let end = Instant::now() + time;
    let mut found: BTreeMap<String, Peer> = BTreeMap::new();
    while let Ok(event) = events.recv_timeout(end.saturating_duration_since(Instant::now())) {
        match event {
            ServiceEvent::ServiceResolved(service) => {
                let known = found.len() < PEERS_MAX || found.contains_key(&service.fullname);
                if known {
                    found.insert(service.fullname.clone(), peer(&service));
                }
            }
            ServiceEvent::ServiceRemoved(_, name) => {
                found.remove(&name);
            }
            _ => {}
        }
    }
    if let Ok(done) = daemon.shutdown() {
        let _ = done.recv_timeout(FAREWELL_MAX);
    }
    let mut peers: Vec<Peer> = found.into_values().collect();
    peers.sort_by(|a, b| (&a.host, &a.title, a.port).cmp(&(&b.host, &b.title, b.port)));
    Ok(peers)
}

fn peer(service: &mdns_sd::ResolvedService) -> Peer {
    let text = |key: &str| service.get_property_val_str(key).map(|text| cut(text, TEXT_BYTES_MAX).to_string());
    let fingerprint = text("fingerprint").and_then(|text| text.parse::<Fingerprint>().ok()).map(|it| it.to_string());
    let mut ips: Vec<IpAddr> = service.get_addresses().iter().map(mdns_sd::ScopedIp::to_ip_addr).collect();
    ips.sort();
    ips.truncate(ADDRESSES_MAX);
    let name = service.get_fullname().split("._").next().unwrap_or_default();
    Peer {
        title: text("title").unwrap_or_else(|| cut(name, TEXT_BYTES_MAX).to_string()),
        host: text("host").unwrap_or_else(|| cut(service.get_hostname(), TEXT_BYTES_MAX).to_string()),
        https: fingerprint.is_some(),
        addresses: ips.iter().map(IpAddr::to_string).collect(),
        port: service.get_port(),
        fingerprint,
    }
}

/// The beginning of a text that is at most so long.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_to_what_the_dns_holds() {
        assert_eq!(local_name("Desk.example.org"), "desk-linerate.local");
        assert_eq!(local_name("größe"), "gr--e-linerate.local");
        let long = local_name(&"x".repeat(200));
        assert_eq!(long.split('.').next().unwrap().len(), LABEL_BYTES_MAX);
        assert_eq!((cut("äää", 3), cut("a", 9)), ("ä", "a"));
    }

    #[test]
    fn what_only_this_machine_reaches_is_not_told() {
        let loopback = [IpAddr::from([127, 0, 0, 1])];
        let what = Announcement { title: "t", host: "h", addresses: &loopback, port: 1, fingerprint: None };
        assert!(announce(&what).unwrap().is_none());
    }
}
