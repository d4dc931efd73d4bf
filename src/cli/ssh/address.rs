//! The address under which an ssh client reached a server. Reading the environment is left to the caller.

use std::net::IpAddr;

/// The server's own address in the value of `$SSH_CONNECTION`: `CLIENT PORT SERVER PORT`.
///
/// The client has just reached it there, which no other address of this host can promise. A zone (`fe80::1%eth0`) is
/// left out: it names an interface of this host, and the client needs one of its own. An IPv4 address that sshd
/// writes as an IPv6 one (`::ffff:192.0.2.1`) is given as IPv4.
pub fn address_of_ssh_connection(value: &str) -> Option<IpAddr> {
    let fields: Vec<&str> = value.split(' ').collect();
    let [_, _, server, _] = fields[..] else { return None };
    let address = match server.split_once('%') {
        Some((address, zone)) if !zone.is_empty() => IpAddr::V6(address.parse().ok()?),
        _ => server.parse().ok()?,
    };
    let address: IpAddr = address.to_canonical();
    (!address.is_unspecified()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_field_is_the_servers_address() {
        let table = [
            ("192.0.2.1 50000 192.0.2.2 22", Some("192.0.2.2")),
            ("2001:db8::1 50000 2001:db8::2 22", Some("2001:db8::2")),
            ("fe80::1%eth0 50000 fe80::2%eth1 22", Some("fe80::2")),
            ("::ffff:192.0.2.1 50000 ::ffff:192.0.2.2 22", Some("192.0.2.2")),
            // sshd without a socket, as behind inetd or a proxy.
            ("UNKNOWN 65535 UNKNOWN 65535", None),
            ("192.0.2.1 50000 192.0.2.2%eth0 22", None),
            ("192.0.2.1 50000 fe80::1% 22", None),
            ("192.0.2.1 50000 0.0.0.0 22", None),
            ("192.0.2.1 50000 192.0.2.2", None),
            ("192.0.2.1 50000 192.0.2.2 22 23", None),
            ("192.0.2.1 50000  22", None),
            ("", None),
            ("   ", None),
            ("a b c d", None),
        ];
        for (value, expected) in table {
            let expected = expected.map(|address| address.parse().unwrap());
            assert_eq!(address_of_ssh_connection(value), expected, "{value:?}");
        }
    }
}
