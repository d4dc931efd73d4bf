//! The lobby: a listener, and connections that have not yet said what they are.
//!
//! A newcomer is looked at, not read (MSG_PEEK), until its first bytes tell what it is; then it leaves as an
//! [`Arrival`], or is shown the door with one plain line.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use slab::Slab;

use crate::proto::wire::{self, JOIN_BYTES, Join, Opening};
use crate::sys::socket::receive;

/// Time for a newcomer to say what it is.
pub const FIRST_BYTES_MAX: Duration = Duration::from_secs(5);
/// Most newcomers at a time; those beyond are closed at once.
pub const NEWCOMERS_MAX: usize = 10_000;
/// When the process has no descriptor left, accepting is tried again after this.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

const SAY_UNKNOWN: &[u8] = b"linerate: this port speaks the linerate protocol: use `linerate bench HOST`\n";
const SAY_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 69\r\n\
Connection: close\r\n\r\nThis is a linerate server, not a web page: use `linerate bench HOST`\n";

/// A newcomer that has said what it is.
#[derive(Debug)]
pub enum Arrival {
    /// A control connection; its first bytes are still unread.
    Control(TcpStream, SocketAddr),
    /// A data stream; its join header is read.
    Data {
        /// No longer registered anywhere.
        sock: TcpStream,
        /// What it presents. Not judged yet.
        token: wire::Token,
    },
}

/// A listener and its newcomers.
pub struct Lobby {
    listener: TcpListener,
    newcomers: Slab<Newcomer>,
    /// Newcomer `k` is registered under `base + k`.
    base: usize,
    accept_again_at: Option<Instant>,
}

struct Newcomer {
    sock: TcpStream,
    peer: SocketAddr,
    since: Instant,
}

impl Lobby {
    /// Register a bound listener under `token`; newcomers take tokens from `base` up.
    pub fn new(mut listener: TcpListener, registry: &Registry, token: Token, base: usize) -> io::Result<Lobby> {
        registry.register(&mut listener, token, Interest::READABLE)?;
        Ok(Lobby { listener, newcomers: Slab::new(), base, accept_again_at: None })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Accept whoever waits.
    pub fn handle_listener(&mut self, registry: &Registry) {
        self.accept_again_at = None;
        loop {
            match self.listener.accept() {
                Ok((sock, peer)) => self.admit(sock, peer, registry),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if is_about_one_connection(&error) => {}
                Err(_) => {
                    self.accept_again_at = Some(Instant::now() + ACCEPT_AGAIN);
                    return;
                }
            }
        }
    }

    /// A newcomer's socket became readable.
    pub fn handle_newcomer(&mut self, token: Token, registry: &Registry) -> Option<Arrival> {
        let key = token.0.checked_sub(self.base)?;
        let newcomer = self.newcomers.get_mut(key)?;
        let mut first = [0; JOIN_BYTES];
        let n = match newcomer.sock.peek(&mut first) {
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Err(_) => 0,
        };
        let verdict = if n == 0 { None } else { Some(Opening::of(&first[..n])) };
        match verdict {
            Some(Opening::More) => return None,
            Some(Opening::Data) if n < JOIN_BYTES => return None,
            _ => {}
        }
        let mut newcomer = self.newcomers.remove(key);
        let _ = registry.deregister(&mut newcomer.sock);
        match verdict {
            Some(Opening::Control) => Some(Arrival::Control(newcomer.sock, newcomer.peer)),
            Some(Opening::Data) => join(newcomer.sock, &first),
            Some(Opening::Http) => turn_away(newcomer.sock, SAY_HTTP),
            Some(_) => turn_away(newcomer.sock, SAY_UNKNOWN),
            None => None,
        }
    }

    /// Close newcomers that said nothing for too long; accept again after a shortage.
    pub fn handle_timeout(&mut self, now: Instant, registry: &Registry) {
        if self.accept_again_at.is_some_and(|at| now >= at) {
            self.handle_listener(registry);
        }
        self.newcomers.retain(|_, newcomer| now < newcomer.since + FIRST_BYTES_MAX);
    }

    /// When [`Lobby::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let oldest = self.newcomers.iter().map(|(_, newcomer)| newcomer.since + FIRST_BYTES_MAX).min();
        oldest.into_iter().chain(self.accept_again_at).min()
    }

    fn admit(&mut self, mut sock: TcpStream, peer: SocketAddr, registry: &Registry) {
        if self.newcomers.len() >= NEWCOMERS_MAX {
            return;
        }
        let entry = self.newcomers.vacant_entry();
        let token = Token(self.base + entry.key());
        if registry.register(&mut sock, token, Interest::READABLE).is_ok() {
            entry.insert(Newcomer { sock, peer, since: Instant::now() });
        }
    }
}

/// Errors of accept() that are about the connection that was to be accepted, not about the listener (accept(2)).
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

fn join(sock: TcpStream, first: &[u8; JOIN_BYTES]) -> Option<Arrival> {
    let mut taken = [0; JOIN_BYTES];
    let n = receive(sock.as_fd(), &mut taken).ok()?;
    let header = Join::decode(first).ok()?;
    (n == JOIN_BYTES).then_some(Arrival::Data { sock, token: header.token })
}

fn turn_away(mut sock: TcpStream, line: &[u8]) -> Option<Arrival> {
    let _ = sock.write(line);
    // Unread bytes would turn the close into a reset that overtakes the line.
    let mut rest = [0; 4096];
    let _ = receive(sock.as_fd(), &mut rest);
    None
}
