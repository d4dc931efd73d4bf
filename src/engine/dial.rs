//! Making connections: resolving in bounded time, many at once, each with its options and its first bytes.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustls::ClientConfig;
use socket2::{Domain, Socket, Type};

use super::handshake;
use super::options::{OptionError, apply};
use super::secure::SecureError;
use crate::proto::message::SocketOptions;
use crate::tls::TlsConnection;

/// Connections under way at a time: more could overflow the listener's queue and wait a second for a retry.
pub const UNDER_WAY_MAX: usize = 64;
/// Time for a name to resolve.
pub const RESOLVE_MAX: Duration = Duration::from_secs(10);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name means nothing, or nothing in the wanted address family.
    #[error("{host}: does not resolve: {why}")]
    Resolve {
        /// As given.
        host: String,
        /// The resolver's answer.
        why: String,
    },
    /// Nobody listens there.
    #[error("{address}: connection refused: start `linerate serve` there, or check the port")]
    Refused {
        /// Where.
        address: SocketAddr,
    },
    /// No answer.
    #[error("{address}: no answer within {seconds} s: check the address and the firewall on the way")]
    Timeout {
        /// Where.
        address: SocketAddr,
        /// How long was waited.
        seconds: u64,
    },
    /// Anything else.
    #[error("{address}: {what}: {error}")]
    System {
        /// Where.
        address: SocketAddr,
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        error: io::Error,
    },
    /// An option that does not work.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// TLS failed.
    #[error("{address}: {error}")]
    Secure {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: SecureError,
    },
}

/// Which addresses are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// What comes first.
    #[default]
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

/// The addresses of a host, in the resolver's order, in bounded time.
pub fn resolve(host: &str, port: u16, family: Family) -> Result<Vec<SocketAddr>, DialError> {
    let fail = |why: &str| DialError::Resolve { host: host.to_string(), why: why.to_string() };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let (answer, answers) = channel();
    let wanted = (bare.to_string(), port);
    // The resolver has no time limit of its own that we could set; a thread left behind ends when it answers.
    std::thread::spawn(move || {
        let _ = answer.send(wanted.to_socket_addrs().map(Vec::from_iter));
    });
    let addresses = match answers.recv_timeout(RESOLVE_MAX) {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(error)) => return Err(fail(&error.to_string())),
        Err(_) => return Err(fail("the resolver did not answer in time")),
    };
    let wanted = |address: &SocketAddr| match family {
        Family::Any => true,
        Family::V4 => address.is_ipv4(),
        Family::V6 => address.is_ipv6(),
    };
    let addresses: Vec<_> = addresses.into_iter().filter(wanted).collect();
    if addresses.is_empty() { Err(fail("it has no address of the wanted family")) } else { Ok(addresses) }
}

/// What all connections of a dial share.
#[derive(Clone, Debug)]
pub struct Dial<'a> {
    /// Where to.
    pub address: SocketAddr,
    /// Our address, if it matters.
    pub bind: Option<IpAddr>,
    /// Socket options.
    pub options: &'a SocketOptions,
    /// For those that are under way together, [`UNDER_WAY_MAX`] at most.
    pub timeout: Duration,
}

impl Dial<'_> {
    /// One connection for each element of `first_bytes`, which is sent on it at once; in that order.
    pub fn connect(&self, first_bytes: &[Vec<u8>]) -> Result<Vec<TcpStream>, DialError> {
        let mut done = Vec::with_capacity(first_bytes.len());
        for batch in first_bytes.chunks(UNDER_WAY_MAX) {
            done.extend(self.connect_batch(batch, Instant::now() + self.timeout)?);
        }
        Ok(done)
    }

    /// As [`Dial::connect`], in TLS: the first bytes are sent, encrypted, when the handshake is done.
    pub fn connect_secure(
        &self,
        first_bytes: &[Vec<u8>],
        config: &Arc<ClientConfig>,
    ) -> Result<Vec<(TcpStream, TlsConnection)>, DialError> {
        let failed = |error| DialError::Secure { address: self.address, error };
        let mut done = Vec::with_capacity(first_bytes.len());
        for batch in first_bytes.chunks(UNDER_WAY_MAX) {
            let deadline = Instant::now() + self.timeout;
            let socks = self.connect_batch(&vec![Vec::new(); batch.len()], deadline)?;
            done.extend(handshake::client_side(socks, batch, config, deadline).map_err(failed)?);
        }
        Ok(done)
    }

    fn connect_batch(&self, first_bytes: &[Vec<u8>], deadline: Instant) -> Result<Vec<TcpStream>, DialError> {
        let mut poll = Poll::new().map_err(|error| self.system("epoll", error))?;
        let mut socks = Vec::with_capacity(first_bytes.len());
        for n in 0..first_bytes.len() {
            let mut sock = self.begin()?;
            poll.registry()
                .register(&mut sock, Token(n), Interest::WRITABLE)
                .map_err(|error| self.system("epoll", error))?;
            socks.push((sock, false));
        }
        let mut events = Events::with_capacity(UNDER_WAY_MAX);
        while socks.iter().any(|(_, connected)| !connected) {
            self.wait(&mut poll, &mut events, deadline)?;
            for event in &events {
                let Some((sock, connected)) = socks.get_mut(event.token().0) else { continue };
                *connected = *connected || self.is_connected(sock)?;
            }
        }
        for ((sock, _), bytes) in socks.iter_mut().zip(first_bytes) {
            let _ = poll.registry().deregister(sock);
            // A fresh connection's send buffer always has room for a header.
            sock.write_all(bytes).map_err(|error| self.failed(error))?;
        }
        Ok(socks.into_iter().map(|(sock, _)| sock).collect())
    }

    pub(super) fn begin(&self) -> Result<TcpStream, DialError> {
        let domain = Domain::for_address(self.address);
        let sock = Socket::new(domain, Type::STREAM.nonblocking().cloexec(), None)
            .map_err(|error| self.system("no socket", error))?;
        apply(&sock, domain, self.options)?;
        if let Some(ip) = self.bind {
            let option = || format!("--bind {ip}: not an address of this machine");
            sock.bind(&SocketAddr::new(ip, 0).into()).map_err(|error| OptionError { option: option(), error })?;
        }
        match sock.connect(&self.address.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(self.failed(error)),
        }
        Ok(TcpStream::from_std(sock.into()))
    }

    fn wait(&self, poll: &mut Poll, events: &mut Events, deadline: Instant) -> Result<(), DialError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.late());
        }
        match poll.poll(events, Some(left)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(self.system("epoll", error)),
            _ => Ok(()),
        }
    }

    /// Whether the connection stands by now; see the rules at `mio::net::TcpStream::connect`.
    pub(super) fn is_connected(&self, sock: &TcpStream) -> Result<bool, DialError> {
        if let Some(error) = sock.take_error().map_err(|error| self.failed(error))? {
            return Err(self.failed(error));
        }
        match sock.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(false),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn failed(&self, error: io::Error) -> DialError {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => DialError::Refused { address: self.address },
            io::ErrorKind::TimedOut => self.late(),
            _ => self.system("cannot connect", error),
        }
    }

    pub(super) fn late(&self) -> DialError {
        DialError::Timeout { address: self.address, seconds: self.timeout.as_secs() }
    }

    pub(super) fn system(&self, what: &'static str, error: io::Error) -> DialError {
        DialError::System { address: self.address, what, error }
    }
}
