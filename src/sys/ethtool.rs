//! Offloads and driver of a network device, by the ethtool requests that need no privilege.
//!
//! Only reads. Link speed and MTU are in sysfs and read by `measure`; so is the driver of a device that has hardware.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// Offloads of a device by their ethtool names, and whether each is on.
///
/// Those that the device or the kernel does not know are left out; so is everything when there is no such device.
pub fn offloads(interface: &str) -> Vec<(&'static str, bool)> {
    let (Some(name), Some(sock)) = (interface_name(interface), any_socket()) else {
        return Vec::new();
    };
    let read = |(offload, command)| Some((offload, value(sock.as_fd(), name, command)? != 0));
    REQUESTS.into_iter().filter_map(read).collect()
}

/// Driver of a device. A virtual one (veth, bridge) has no device in sysfs, but this name.
pub fn driver(interface: &str) -> Option<String> {
    let (name, sock) = (interface_name(interface)?, any_socket()?);
    let mut info = EthtoolDriver { command: DRIVER_REQUEST, driver: [0; 32], others: [0; 160] };
    // SAFETY: DRIVER_REQUEST takes an `ethtool_drvinfo`, which is what `info` is.
    unsafe { request(sock.as_fd(), name, &mut info)? };
    let end = info.driver.iter().position(|byte| *byte == 0).unwrap_or(info.driver.len());
    let driver = String::from_utf8_lossy(&info.driver[..end]).into_owned();
    (!driver.is_empty()).then_some(driver)
}

/// Any will do: it only leads to the network namespace.
fn any_socket() -> Option<OwnedFd> {
    socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).ok()
}

/// `ETHTOOL_GDRVINFO`.
const DRIVER_REQUEST: u32 = 0x3;

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

/// The kernel's `struct ethtool_drvinfo`.
#[repr(C)]
struct EthtoolDriver {
    command: u32,
    driver: [u8; 32],
    /// Version, firmware, bus, ROM (32 bytes each), 12 bytes in reserve and 5 counts of 4 bytes.
    others: [u8; 160],
}

fn value(sock: BorrowedFd<'_>, interface: InterfaceName, command: u32) -> Option<u32> {
    let mut value = EthtoolValue { command, data: 0 };
    // SAFETY: each of `REQUESTS` takes an `ethtool_value`, which is what `value` is.
    unsafe { request(sock, interface, &mut value)? };
    Some(value.data)
}

/// Ask the kernel; `None` when it does not answer.
///
/// # Safety
/// `data` is the structure that the request in its first four bytes takes.
unsafe fn request<T>(sock: BorrowedFd<'_>, interface: InterfaceName, data: &mut T) -> Option<()> {
    let mut request = libc::ifreq {
        ifr_name: interface,
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: std::ptr::from_mut(data).cast() },
    };
    // SAFETY: SIOCETHTOOL reads `request`, a whole `ifreq`, and through its `ifru_data` reads and writes the structure
    // that the request takes, which is what the caller says `data` is. Both live past the call, and the kernel keeps
    // neither pointer.
    let result = unsafe { libc::ioctl(sock.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    (result == 0).then_some(())
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
    fn structures_are_as_long_as_the_kernels() {
        assert_eq!((size_of::<EthtoolValue>(), size_of::<EthtoolDriver>()), (8, 196));
    }

    #[test]
    fn a_device_that_cannot_be_has_none() {
        for name in ["", "no-such-device", "a-name-that-is-far-too-long", "l\0o"] {
            assert_eq!(offloads(name), [], "{name:?}");
            assert_eq!(driver(name), None, "{name:?}");
        }
    }
}
