//! By which addresses a share is reached, the likeliest first.
//!
//! First stand those of the interface through which the default route goes, since the people next to us are there
//! too; what belongs to containers and virtual machines, and what holds on one link only, comes last.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener};

use anyhow::Context;
use nix::net::if_::InterfaceFlags;

use crate::cli::exit::Misuse;

/// The port that is used when none is named.
const PORT_DEFAULT: u16 = 5291;
/// Most addresses that a share is known by.
const ADDRESSES_MAX: usize = 32;
/// What the interfaces of containers, virtual machines and tunnels to them begin with.
const VIRTUAL: [&str; 10] = ["docker", "br-", "veth", "virbr", "vnet", "podman", "cni", "lxc", "lxd", "vmnet"];

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) interface: String,
    pub(super) ip: IpAddr,
    /// The number of the link, for an address that holds only there.
    pub(super) scope: u32,
}

/// What a share listens on, and what it is called.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) listeners: Vec<TcpListener>,
    /// The likeliest first.
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) reach: Reach,
}

/// What the addresses of a share come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// All that this machine has, whichever those are.
    All(SocketAddr),
    /// Those that an interface had.
    Interface(String),
    /// The one that was named.
    One,
}

impl Reach {
    /// The addresses of now, where they can become others; nothing when they cannot, or cannot be found out.
    pub(super) fn now(&self) -> Option<Vec<SocketAddr>> {
        match self {
            Reach::All(at) => everywhere(*at).ok(),
            Reach::Interface(_) | Reach::One => None,
        }
    }

    /// Whether an interface has none of those addresses any more.
    pub(super) fn is_lost(&self, addresses: &[SocketAddr]) -> bool {
        let Reach::Interface(name) = self else { return false };
        let Ok(all) = own() else { return false };
        let is_there = |at: &SocketAddr| all.iter().any(|own| own.interface == *name && own.ip == at.ip());
        !addresses.iter().any(is_there)
    }
}

/// Whether nobody but this machine comes to these addresses.
pub(super) fn is_only_here(addresses: &[SocketAddr]) -> bool {
    addresses.iter().all(|at| at.ip().is_loopback())
}

/// The links that are worth showing to people, of all that work. Those of this machine alone are left out; so are those
/// of one cable or Wi-Fi (`fe80::`), which mean nothing without the other machine's name of it. Where there are no others
/// they are shown, with this machine's interface as an example of that name.
pub(super) fn for_people(links: &[String]) -> Vec<String> {
    people(links, zone)
}

fn people(links: &[String], zone: impl Fn(Ipv6Addr) -> Option<String>) -> Vec<String> {
    let is_at = |link: &String, hosts: &[&str]| hosts.iter().any(|host| link.contains(host));
    let elsewhere = links.iter().filter(|link| !is_at(link, &["//127.", "//[::1]", "//localhost"]));
    let (cable, wide): (Vec<&String>, Vec<&String>) = elsewhere.partition(|link| is_at(link, &["//[fe80:"]));
    let (mut shown, named): (Vec<String>, Vec<String>) = wide.into_iter().cloned().partition(|link| has_address(link));
    if shown.is_empty() {
        shown = cable.into_iter().map(|link| zoned(link, &zone)).collect();
    }
    if shown.is_empty() {
        // Without any address a name leads nowhere either.
        return links.to_vec();
    }
    shown.extend(named);
    shown
}

/// Whether a link's host is an address.
fn has_address(link: &str) -> bool {
    let authority = link.split_once("//").map_or(link, |(_, rest)| rest).split('/').next().unwrap_or_default();
    authority.parse::<SocketAddr>().is_ok()
}

/// With the zone of this machine (RFC 6874).
fn zoned(link: &str, zone: impl Fn(Ipv6Addr) -> Option<String>) -> String {
    let host = link.split_once("//[").and_then(|(_, rest)| rest.split_once(']')).map(|(host, _)| host);
    let ip = host.and_then(|host| host.parse::<Ipv6Addr>().ok());
    match (host, ip.and_then(zone)) {
        (Some(host), Some(zone)) => link.replacen(&format!("[{host}]"), &format!("[{host}%25{zone}]"), 1),
        _ => link.to_string(),
    }
}

/// The interface that has an address.
fn zone(ip: Ipv6Addr) -> Option<String> {
    own().ok()?.into_iter().find(|own| own.ip == ip).map(|own| own.interface)
}

/// Listen as it is wanted.
pub(super) fn bind(listen: Option<SocketAddr>, interface: Option<&str>) -> anyhow::Result<Bound> {
    if let Some(name) = interface {
        return bind_interface(name);
    }
    let listener = match listen {
        Some(wanted) => TcpListener::bind(wanted).map_err(|error| refused("--listen ", wanted, &error))?,
        None => bind_all()?,
    };
    let at = listener.local_addr().context("the socket")?;
    let (addresses, reach) =
        if at.ip().is_unspecified() { (everywhere(at)?, Reach::All(at)) } else { (vec![at], Reach::One) };
    Ok(Bound { listeners: vec![listener], addresses, reach })
}

/// Both at once, or IPv4 alone where there is no IPv6.
fn bind_all() -> anyhow::Result<TcpListener> {
    let all = SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT_DEFAULT));
    TcpListener::bind(all)
        .or_else(|error| match is_without_ipv6(&error) {
            true => TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], PORT_DEFAULT))),
            false => Err(error),
        })
        .map_err(|error| refused("", all, &error))
}

fn bind_interface(name: &str) -> anyhow::Result<Bound> {
    let (all, default) = (own()?, default_interfaces());
    let wanted: Vec<Own> = all.iter().filter(|own| own.interface == name).cloned().collect();
    if wanted.is_empty() {
        let mut names: Vec<&str> = all.iter().map(|own| own.interface.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let why =
            format!("--interface {name}: no interface that is up has this name: choose one of {}", names.join(", "));
        return Err(Misuse(why).into());
    }
    let (mut listeners, mut addresses) = (Vec::new(), Vec::new());
    for own in ranked(wanted, &default) {
        let at = own.at(PORT_DEFAULT);
        // An address that is being given up or checked cannot be bound; the others can.
        match TcpListener::bind(at) {
            Ok(listener) => {
                listeners.push(listener);
                addresses.push(at);
            }
            Err(error) if addresses.is_empty() && own.ip.is_ipv4() => return Err(refused("", at, &error)),
            Err(error) => tracing::debug!(%error, "an address of the interface is not listened on"),
        }
    }
    if listeners.is_empty() {
        return Err(
            Misuse(format!("--interface {name}: none of its addresses can be listened on: name another")).into()
        );
    }
    Ok(Bound { listeners, addresses, reach: Reach::Interface(name.to_string()) })
}

fn refused(option: &str, wanted: SocketAddr, error: &io::Error) -> anyhow::Error {
    let taken = error.kind() == io::ErrorKind::AddrInUse;
    let why = if taken { "somebody listens there already".to_string() } else { error.to_string() };
    let hint = "name another address or port with --listen ADDR:PORT, or port 0 for a free one";
    Misuse(format!("{option}{wanted}: {why}: {hint}")).into()
}

fn is_without_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL | libc::EPROTONOSUPPORT))
}

/// All addresses of this machine, for a socket that listens on all.
fn everywhere(at: SocketAddr) -> anyhow::Result<Vec<SocketAddr>> {
    let all = own()?.into_iter().filter(|own| at.is_ipv6() || own.ip.is_ipv4()).collect();
    let mut addresses: Vec<SocketAddr> =
        ranked(all, &default_interfaces()).iter().take(ADDRESSES_MAX).map(|own| own.at(at.port())).collect();
    addresses.push(SocketAddr::from(([127, 0, 0, 1], at.port())));
    if at.is_ipv6() {
        addresses.push(SocketAddr::from((Ipv6Addr::LOCALHOST, at.port())));
    }
    Ok(addresses)
}

impl Own {
    fn at(&self, port: u16) -> SocketAddr {
        match self.ip {
            IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, self.scope).into(),
            ip => (ip, port).into(),
        }
    }
}

/// The addresses of all interfaces that are up, without the loopback's.
fn own() -> anyhow::Result<Vec<Own>> {
    let mut all = Vec::new();
    for found in nix::ifaddrs::getifaddrs().context("this machine's addresses cannot be found")? {
        let is_up = found.flags.contains(InterfaceFlags::IFF_UP);
        let Some(address) = found.address.filter(|_| is_up && !found.flags.contains(InterfaceFlags::IFF_LOOPBACK))
        else {
            continue;
        };
        let v4 = address.as_sockaddr_in().map(|v4| (IpAddr::from(*SocketAddrV4::from(*v4).ip()), 0));
        let v6 = address.as_sockaddr_in6().map(|v6| SocketAddrV6::from(*v6));
        let v6 = v6.map(|v6| (IpAddr::from(*v6.ip()), v6.scope_id()));
        all.extend(v4.or(v6).map(|(ip, scope)| Own { interface: found.interface_name.clone(), ip, scope }));
    }
    Ok(all)
}

/// The interfaces that default routes go through, the preferred one first.
fn default_interfaces() -> Vec<String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    of_routes(&read("/proc/net/route"), &read("/proc/net/ipv6_route"))
}

/// The same from what the kernel lists: proc(5), net/route and net/ipv6_route.
fn of_routes(v4: &str, v6: &str) -> Vec<String> {
    let mut found: Vec<(bool, u64, String)> = Vec::new();
    for line in v4.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let [name, "00000000", _, _, _, _, metric, "00000000", ..] = fields.as_slice() {
            found.push((false, metric.parse().unwrap_or(u64::MAX), (*name).to_string()));
        }
    }
    for line in v6.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_default = |to: &str, len: &str| len == "00" && to.bytes().all(|digit| digit == b'0');
        if let [to, len, _, _, _, metric, _, _, _, name] = fields.as_slice()
            && is_default(to, len)
            && *name != "lo"
        {
            found.push((true, u64::from_str_radix(metric, 16).unwrap_or(u64::MAX), (*name).to_string()));
        }
    }
    found.sort();
    let mut names: Vec<String> = Vec::new();
    for (_, _, name) in found {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The likeliest first. Within one rank the order stays the kernel's.
fn ranked(mut all: Vec<Own>, default: &[String]) -> Vec<Own> {
    let is_virtual = |own: &Own| VIRTUAL.iter().any(|prefix| own.interface.starts_with(prefix));
    let route = |own: &Own| default.iter().position(|name| *name == own.interface).unwrap_or(usize::MAX);
    all.sort_by_key(|own| (is_link_local(own.ip), is_virtual(own), route(own), own.ip.is_ipv6(), !is_private(own.ip)));
    all.dedup_by(|a, b| a.ip == b.ip && a.scope == b.scope);
    all
}

pub(super) fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private(),
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(interface: &str, ip: &str) -> Own {
        Own { interface: interface.to_string(), ip: ip.parse().unwrap(), scope: 0 }
    }

    #[test]
    fn the_address_of_the_people_next_to_us_comes_first() {
        let all = vec![
            own("docker0", "172.17.0.1"),
            own("eth1", "203.0.113.9"),
            own("wlan0", "fe80::1"),
            own("eth1", "10.9.9.9"),
            own("wlan0", "2001:db8::5"),
            own("wlan0", "192.168.1.5"),
            own("wlan0", "fd00::5"),
            own("br-1a2b", "172.18.0.1"),
            own("eth1", "169.254.3.3"),
        ];
        let order: Vec<String> = ranked(all, &["wlan0".to_string()]).iter().map(|own| own.ip.to_string()).collect();
        assert_eq!(
            order,
            [
                "192.168.1.5",
                "fd00::5",
                "2001:db8::5",
                "10.9.9.9",
                "203.0.113.9",
                "172.17.0.1",
                "172.18.0.1",
                "fe80::1",
                "169.254.3.3"
            ]
        );
    }

    #[test]
    fn people_are_shown_what_leads_them_here() {
        let all = |hosts: &[&str]| -> Vec<String> { hosts.iter().map(|host| format!("https://{host}/t/x")).collect() };
        let links = all(&[
            "192.0.2.1:7",
            "[2001:db8::1]:7",
            "[fe80::1]:7",
            "127.0.0.1:7",
            "[::1]:7",
            "pc.local:7",
            "localhost:7",
        ]);
        assert_eq!(people(&links, |_| None), all(&["192.0.2.1:7", "[2001:db8::1]:7", "pc.local:7"]));
        let eth0 = |ip: Ipv6Addr| (ip == "fe80::1".parse::<Ipv6Addr>().unwrap()).then(|| "eth0".to_string());
        let links = all(&["[fe80::1]:7", "127.0.0.1:7", "pc.local:7"]);
        assert_eq!(people(&links, eth0), all(&["[fe80::1%25eth0]:7", "pc.local:7"]));
        let alone = all(&["127.0.0.1:7", "pc.local:7", "localhost:7"]);
        assert_eq!(people(&alone, eth0), alone);
    }

    #[test]
    fn default_routes_are_those_to_everywhere_by_metric() {
        let v4 = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                  wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
                  eth0\t00000000\t0102A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
                  eth0\t0002A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n";
        let zeros = "0".repeat(32);
        let v6 = format!(
            "{zeros} 00 {zeros} 00 {zeros} 00000400 00000001 00000000 00000003 tun0\n\
             {zeros} 00 {zeros} 00 {zeros} ffffffff 00000001 00000000 00200200 lo\n\
             fe800000000000000000000000000000 40 {zeros} 00 {zeros} 00000100 00000001 00000000 00000001 eth2\n"
        );
        assert_eq!(of_routes(v4, &v6), ["eth0", "wlan0", "tun0"]);
        assert!(of_routes("", "garbage\n").is_empty());
    }

    #[test]
    fn what_is_taken_or_unknown_is_said_with_what_to_do() {
        let taken = bind(Some("127.0.0.1:0".parse().unwrap()), None).unwrap();
        let error = bind(Some(taken.addresses[0]), None).unwrap_err().to_string();
        assert!(
            error.contains("--listen 127.0.0.1:") && error.contains("already") && error.contains("port 0"),
            "{error}"
        );
        let error = bind(None, Some("nosuch0")).unwrap_err().to_string();
        assert!(error.contains("--interface nosuch0"), "{error}");
    }
}
