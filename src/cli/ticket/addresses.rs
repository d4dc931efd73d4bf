//! Where others may find this machine, when nobody says it.

use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};

use nix::net::if_::InterfaceFlags;

use crate::proto::ticket::{ADDRESSES_MAX, Address};

/// The addresses of all interfaces that are up, IPv4 first; else the host's name; as many as a ticket holds.
pub(in crate::cli) fn of_this_machine(port: u16) -> anyhow::Result<Vec<Address>> {
    let mut ips: Vec<IpAddr> = Vec::new();
    let interfaces = nix::ifaddrs::getifaddrs().map_err(|error| {
        anyhow::anyhow!("this machine's addresses cannot be found ({error}): name one with --address")
    })?;
    for interface in interfaces {
        let is_usable =
            interface.flags.contains(InterfaceFlags::IFF_UP) && !interface.flags.contains(InterfaceFlags::IFF_LOOPBACK);
        let v4 = |address: &nix::sys::socket::SockaddrStorage| {
            address.as_sockaddr_in().map(|v4| IpAddr::from(*SocketAddrV4::from(*v4).ip()))
        };
        let v6 = |address: &nix::sys::socket::SockaddrStorage| {
            address.as_sockaddr_in6().map(|v6| IpAddr::from(*SocketAddrV6::from(*v6).ip()))
        };
        let ip = interface.address.filter(|_| is_usable).and_then(|address| v4(&address).or_else(|| v6(&address)));
        ips.extend(ip.filter(|ip| is_reachable(*ip)));
    }
    // The sort is stable: within a family the order is the kernel's.
    ips.sort_by_key(IpAddr::is_ipv6);
    ips.dedup();
    let mut addresses: Vec<Address> =
        ips.iter().take(ADDRESSES_MAX).filter_map(|ip| Address::new(&ip.to_string(), port).ok()).collect();
    if addresses.is_empty() {
        let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        let address = name.and_then(|name| Address::new(&name, port).ok());
        addresses.push(address.ok_or_else(|| anyhow::anyhow!("this machine has no address: name one with --address"))?);
    }
    Ok(addresses)
}

/// Whether an address means this machine elsewhere too: a link-local one does not say on which link.
fn is_reachable(ip: IpAddr) -> bool {
    let is_link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(is_link_local || ip.is_loopback() || ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_has_somewhere_to_be_found() {
        let addresses = of_this_machine(5290).unwrap();
        assert!((1..=ADDRESSES_MAX).contains(&addresses.len()), "{addresses:?}");
        assert!(addresses.iter().all(|address| address.port == 5290 && !address.host.starts_with("127.")));
    }

    #[test]
    fn what_means_another_machine_elsewhere_is_left_out() {
        for ip in ["127.0.0.1", "::1", "fe80::1", "169.254.1.1", "0.0.0.0"] {
            assert!(!is_reachable(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["192.0.2.1", "10.0.0.1", "2001:db8::1", "fd00::1"] {
            assert!(is_reachable(ip.parse().unwrap()), "{ip}");
        }
    }
}
