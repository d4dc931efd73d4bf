//! The network device that a run uses: found by its address, described from sysfs and ethtool.
//!
//! What cannot be read is left out; nothing here fails.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;

use super::environment::read_text;
use crate::proto::facts::{Nic, Offload};
use crate::sys::ethtool;

/// The device that holds the address `local`, if there is one in this network namespace.
pub fn capture(local: IpAddr) -> Option<Nic> {
    // A dual-stack socket calls an IPv4 address ::ffff:a.b.c.d; the interface does not.
    let local = local.to_canonical();
    let name = interface_of(local)?;
    let sysfs = Path::new("/sys/class/net").join(&name);
    let driver = fs::read_link(sysfs.join("device/driver")).ok();
    let driver = driver.and_then(|link| Some(link.file_name()?.to_string_lossy().into_owned()));
    let offload = |(name, on): (&str, bool)| Offload { name: name.to_owned(), on };
    Some(Nic {
        address: local.to_string(),
        driver: driver.or_else(|| ethtool::driver(&name)),
        speed_mbit_per_s: read_text(sysfs.join("speed")).and_then(|text| parse_speed(&text)),
        mtu_bytes: read_text(sysfs.join("mtu")).and_then(|text| text.trim().parse().ok()),
        offloads: ethtool::offloads(&name).into_iter().map(offload).collect(),
        name,
    })
}

fn interface_of(local: IpAddr) -> Option<String> {
    let interfaces: Vec<InterfaceAddress> = getifaddrs().ok()?.collect();
    let holds = |interface: &&InterfaceAddress| interface.address.and_then(|address| ip(&address)) == Some(local);
    // All of 127.0.0.0/8 is at the loopback device, which holds only one address of it.
    let is_loopback =
        |interface: &&InterfaceAddress| local.is_loopback() && interface.flags.contains(InterfaceFlags::IFF_LOOPBACK);
    let found = interfaces.iter().find(holds).or_else(|| interfaces.iter().find(is_loopback))?;
    Some(found.interface_name.clone())
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = || address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    let v6 = || address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip()));
    v4().or_else(v6)
}

/// Mbit/s, where the device has a speed: a virtual one says -1, and older kernels print that unsigned.
fn parse_speed(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|&speed| speed > 0 && speed < u64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_speed_is_none() {
        assert_eq!(parse_speed("100000\n"), Some(100_000));
        for text in ["-1\n", "4294967295\n", "0", "", "fast"] {
            assert_eq!(parse_speed(text), None, "{text:?}");
        }
    }

    #[test]
    fn loopback_is_found_by_any_of_its_addresses() {
        for address in ["127.0.0.1", "127.1.2.3", "::ffff:127.0.0.1"] {
            let nic = capture(address.parse().unwrap()).unwrap();
            assert_eq!((nic.name.as_str(), nic.driver), ("lo", None), "{address}");
            assert!(nic.mtu_bytes.is_none_or(|mtu_bytes| mtu_bytes > 0));
        }
    }

    #[test]
    fn an_address_of_nobody_here_has_no_device() {
        // Reserved for documentation.
        assert_eq!(capture("192.0.2.77".parse().unwrap()), None);
    }
}
