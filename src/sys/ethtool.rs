//! Offloads of a network device, by the ethtool requests that need no privilege.
//!
//! Only reads. Link speed, MTU and driver are in sysfs and read by `measure`.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// Offloads of a device by their ethtool names, and whether each is on.
///
/// Those that the device or the kernel does not know are left out; so is everything when there is no such device.
pub fn offloads(interface: &str) -> Vec<(&'static str, bool)> {
    let Some(name) = interface_name(interface) else {
        return Vec::new();
    };
    // Any socket will do: it only leads to the network namespace.
    let flags = SockFlag::SOCK_CLOEXEC;
    let Ok(sock) = socket(AddressFamily::Inet, SockType::Datagram, flags, None) else {
        return Vec::new();
    };
    let read = |(offload, command)| Some((offload, value(sock.as_fd(), name, command)? != 0));
    REQUESTS.into_iter().filter_map(read).collect()
}

/// The requests and what they ask for (linux/ethtool.h).
const REQUESTS: [(&str, u32); 6] = [
    ("tso", 0x1e),
    ("gso", 0x23),
    ("gro", 0x2b),
    ("scatter-gather", 0x18),
    ("tx-checksum", 0x16),
    ("rx-checksum", 0x14),
];

/// The name of an interface as the kernel takes it: padded with at least one zero.
type InterfaceName = [libc::c_char; libc::IFNAMSIZ];

fn interface_name(interface: &str) -> Option<InterfaceName> {
    let bytes = interface.as_bytes();
    if bytes.is_empty() || bytes.len() >= libc::IFNAMSIZ || bytes.contains(&0) {
        return None;
    }
    let mut name: InterfaceName = [0; libc::IFNAMSIZ];
    for (to, &from) in name.iter_mut().zip(bytes) {
        *to = from as libc::c_char;
    }
    Some(name)
}

/// The kernel's `struct ethtool_value`.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

fn value(sock: BorrowedFd<'_>, interface: InterfaceName, command: u32) -> Option<u32> {
    let mut value = EthtoolValue { command, data: 0 };
    let mut request = libc::ifreq {
        ifr_name: interface,
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: (&raw mut value).cast() },
    };
    // SAFETY: SIOCETHTOOL reads `request`, a whole `ifreq`, and through its `ifru_data` reads and writes one
    // `ethtool_value`, which is what each of `REQUESTS` takes and what `value` is. Both live past the call, and the
    // kernel keeps neither pointer.
    let result = unsafe { libc::ioctl(sock.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    (result == 0).then_some(value.data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_offloads_or_says_nothing() {
        // A sandbox may refuse the request; where it is answered, each offload is answered once.
        let offloads = offloads("lo");
        let names: Vec<_> = offloads.iter().map(|&(name, _)| name).collect();
        let known: Vec<_> = REQUESTS.iter().map(|&(name, _)| name).filter(|name| names.contains(name)).collect();
        assert_eq!(names, known);
    }

    #[test]
    fn a_device_that_cannot_be_has_none() {
        for name in ["", "no-such-device", "a-name-that-is-far-too-long", "l\0o"] {
            assert_eq!(offloads(name), [], "{name:?}");
        }
    }
}
