//! Ports for tools that must be told one, and who listens, without connecting: a one-off server would take a
//! connection for its client.

use std::fs;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::interrupt;

/// Time for a server to listen.
const READY_MAX: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// TCP_LISTEN in /proc/net/tcp.
const LISTENING: &str = "0A";

/// A server that is about to listen.
pub trait Server {
    /// Whether it has ended already.
    fn has_ended(&mut self) -> anyhow::Result<bool>;

    /// What it printed, short, for a message.
    fn said(&self) -> String;
}

/// Ports that the kernel had free a moment ago, all different. Somebody may take one before it is used; then the
/// server says so and the run fails.
pub fn free<const N: usize>() -> anyhow::Result<[u16; N]> {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    let held = (0..N)
        .map(|_| TcpListener::bind(any).or_else(|_| TcpListener::bind("127.0.0.1:0")))
        .collect::<Result<Vec<_>, _>>()?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&held) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

/// Wait until somebody listens on the port, as long as the server lives.
pub fn wait_for(port: u16, server: &mut impl Server) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY_MAX;
    while !listens(port) {
        interrupt::check()?;
        anyhow::ensure!(!server.has_ended()?, "the server ended at once: {}", server.said());
        anyhow::ensure!(Instant::now() < deadline, "the server does not listen after {READY_MAX:?}");
        sleep(LOOK_EVERY);
    }
    Ok(())
}

fn listens(port: u16) -> bool {
    let tables = ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"];
    let suffix = format!(":{port:04X}");
    let is_it = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        fields.next().is_some_and(|local| local.ends_with(&suffix)) && fields.nth(1) == Some(LISTENING)
    };
    tables.iter().any(|table| fs::read_to_string(table).is_ok_and(|text| text.lines().any(is_it)))
}
