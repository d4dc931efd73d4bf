//! Whether this kernel can do TLS itself (kTLS).

use std::io;
use std::os::fd::AsRawFd;
use std::sync::OnceLock;

/// Ask once whether a socket could be given TLS (TCP_ULP); the kernel's own words when not.
///
/// On a socket without a connection a kernel that has TLS answers ENOTCONN, one that lacks it ENOENT
/// (`tcp_set_ulp` in net/ipv4/tcp_ulp.c, `tls_init` in net/tls/tls_main.c).
pub fn probe() -> Result<(), String> {
    static ANSWER: OnceLock<Result<(), String>> = OnceLock::new();
    ANSWER.get_or_init(|| ask().map_err(|error| error.to_string())).clone()
}

fn ask() -> io::Result<()> {
    let sock = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM.cloexec(), None)?;
    let name = b"tls";
    // SAFETY: the option's value is three bytes of a static array, which the kernel only reads.
    let got = unsafe {
        libc::setsockopt(sock.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_ULP, name.as_ptr().cast(), name.len() as u32)
    };
    match io::Error::last_os_error() {
        _ if got == 0 => Ok(()),
        error if error.raw_os_error() == Some(libc::ENOTCONN) => Ok(()),
        error => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_answer_stays_the_same() {
        assert_eq!(super::probe(), super::probe());
    }
}
