//! The lobby: a listener, and connections that have not yet said what they are.
//!
//! A newcomer's first bytes are looked at, not read (MSG_PEEK). One that speaks TLS is taken through the handshake here
//! and then says inside TLS what it is; one that brings a stream's token is a data stream in the clear. They leave as
//! an [`Arrival`]; everybody else is shown the door with one plain line. Whoever takes too long is closed, and nobody
//! can fill the lobby: the oldest of a crowded address goes first.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use rustls::ServerConfig;
use slab::Slab;

use super::secure::{self, Protection, READ_BYTES, Received};
use crate::proto::wire::{self, JOIN_BYTES, Join, Opening};
use crate::sys::socket::receive;
use crate::tls::TlsConnection;

/// Time for a newcomer to say what it is, the TLS handshake included.
pub const FIRST_BYTES_MAX: Duration = Duration::from_secs(5);
/// Most newcomers at a time; one more, and the oldest is closed.
pub const NEWCOMERS_MAX: usize = 4096;
/// Most newcomers of one address at a time; one more, and its oldest is closed. A client that joins many streams has
/// [`super::dial::UNDER_WAY_MAX`] under way at most.
pub const NEWCOMERS_PER_ADDRESS_MAX: usize = 512;
/// Most plaintext that a newcomer may send before it is clear what it is.
const HEARD_BYTES_MAX: usize = 8 << 10;
/// Newcomers that are accepted at a time, so that those who have said what they are leave before more come in.
const ACCEPTS_MAX: usize = 64;
/// When the process has no descriptor left, accepting is tried again after this.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

const SAY_UNKNOWN: &[u8] = b"linerate: this port speaks the linerate protocol: use `linerate bench HOST`\n";
const SAY_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 69\r\n\
Connection: close\r\n\r\nThis is a linerate server, not a web page: use `linerate bench HOST`\n";

/// A newcomer that has said what it is. No longer registered anywhere.
#[derive(Debug)]
pub enum Arrival {
    /// A control connection.
    Control {
        /// Its socket.
        sock: TcpStream,
        /// Where from.
        peer: SocketAddr,
        /// The handshake is done.
        tls: Box<TlsConnection>,
        /// Plaintext that has come already.
        heard: Vec<u8>,
    },
    /// A data stream; its join header is read.
    Data {
        /// Its socket.
        sock: TcpStream,
        /// What protects it, if anything does.
        tls: Protection,
        /// What it presents. Not judged yet.
        token: wire::Token,
    },
}

/// A listener and its newcomers.
pub struct Lobby {
    listener: TcpListener,
    config: Arc<ServerConfig>,
    newcomers: Slab<Newcomer>,
    /// Newcomer `k` is registered under `base + k`.
    base: usize,
    accept_again_at: Option<Instant>,
}

struct Newcomer {
    sock: TcpStream,
    peer: SocketAddr,
    since: Instant,
    /// Once it began to speak TLS.
    tls: Option<Box<TlsConnection>>,
    /// What it said inside TLS.
    heard: Vec<u8>,
}

/// What is known of a newcomer now.
enum Verdict {
    More,
    Arrived(Opening),
    Leave(&'static [u8]),
}

impl Lobby {
    /// Register a bound listener under `token`; newcomers take tokens from `base` up.
    pub fn new(
        mut listener: TcpListener,
        config: Arc<ServerConfig>,
        registry: &Registry,
        token: Token,
        base: usize,
    ) -> io::Result<Lobby> {
        registry.register(&mut listener, token, Interest::READABLE)?;
        Ok(Lobby { listener, config, newcomers: Slab::new(), base, accept_again_at: None })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Accept whoever waits.
    pub fn handle_listener(&mut self, registry: &Registry) {
        self.accept_again_at = None;
        for _ in 0..ACCEPTS_MAX {
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
        // No edge will tell of those who still wait.
        self.accept_again_at = Some(Instant::now());
    }

    /// A newcomer's socket became ready.
    pub fn handle_newcomer(&mut self, token: Token, registry: &Registry) -> Option<Arrival> {
        let key = token.0.checked_sub(self.base)?;
        let verdict = self.newcomers.get_mut(key)?.look(&self.config);
        if let Verdict::More = verdict {
            return None;
        }
        let mut newcomer = self.newcomers.remove(key);
        let _ = registry.deregister(&mut newcomer.sock);
        match verdict {
            Verdict::Arrived(opening) => newcomer.arrive(opening),
            Verdict::Leave(line) => {
                newcomer.leave(line);
                None
            }
            Verdict::More => None,
        }
    }

    /// Close newcomers that took too long; accept again after a shortage.
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
        self.make_room(peer.ip());
        let entry = self.newcomers.vacant_entry();
        let token = Token(self.base + entry.key());
        if registry.register(&mut sock, token, Interest::READABLE | Interest::WRITABLE).is_ok() {
            entry.insert(Newcomer { sock, peer, since: Instant::now(), tls: None, heard: Vec::new() });
        }
    }

    /// Close the oldest where a bound is reached: whoever has something to say has said it by then.
    fn make_room(&mut self, ip: IpAddr) {
        let of_address = self.newcomers.iter().filter(|(_, newcomer)| newcomer.peer.ip() == ip);
        let oldest = match self.newcomers.len() {
            n if n >= NEWCOMERS_MAX => self.newcomers.iter().min_by_key(|(_, newcomer)| newcomer.since),
            n if n < NEWCOMERS_PER_ADDRESS_MAX => None,
            _ if of_address.clone().count() < NEWCOMERS_PER_ADDRESS_MAX => None,
            _ => of_address.min_by_key(|(_, newcomer)| newcomer.since),
        };
        if let Some(key) = oldest.map(|(key, _)| key) {
            self.newcomers.remove(key);
        }
    }
}

impl Newcomer {
    fn look(&mut self, config: &Arc<ServerConfig>) -> Verdict {
        if self.tls.is_none() {
            match self.peek() {
                Verdict::Arrived(Opening::Tls) => match TlsConnection::server(config.clone()) {
                    Ok(tls) => self.tls = Some(Box::new(tls)),
                    Err(_) => return Verdict::Leave(b""),
                },
                other => return other,
            }
        }
        self.listen().unwrap_or(Verdict::Leave(b""))
    }

    /// What the first bytes say, which stay where they are.
    fn peek(&mut self) -> Verdict {
        let mut first = [0; JOIN_BYTES];
        let n = match self.sock.peek(&mut first) {
            Ok(0) => return Verdict::Leave(b""),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Verdict::More,
            Err(_) => return Verdict::Leave(b""),
        };
        match Opening::of(&first[..n]) {
            Opening::More => Verdict::More,
            Opening::Data if n < JOIN_BYTES => Verdict::More,
            Opening::Data => Verdict::Arrived(Opening::Data),
            Opening::Tls => Verdict::Arrived(Opening::Tls),
            Opening::Http => Verdict::Leave(SAY_HTTP),
            Opening::Control | Opening::Unknown => Verdict::Leave(SAY_UNKNOWN),
        }
    }

    /// Go on with TLS and what is said inside; `None` when that failed.
    fn listen(&mut self) -> Option<Verdict> {
        let (sock, tls, heard) = (self.sock.as_fd(), self.tls.as_mut()?, &mut self.heard);
        let mut buffer = [0; READ_BYTES];
        loop {
            let got = secure::receive(tls, sock, &mut buffer, &mut |plain| heard.extend_from_slice(plain));
            // Also the alert after a failure: it tells the peer why.
            secure::flush(tls, sock).ok()?;
            let is_blocked = match got.inspect_err(|error| tracing::debug!(peer = %self.peer, %error, "handshake")) {
                Ok(Received::Bytes { .. }) => false,
                Ok(Received::Blocked) => true,
                Ok(Received::End) | Err(_) => return None,
            };
            match Opening::of(heard) {
                Opening::Control => return Some(Verdict::Arrived(Opening::Control)),
                // A stream has nothing to send until its job starts.
                Opening::Data if heard.len() == JOIN_BYTES => return Some(Verdict::Arrived(Opening::Data)),
                Opening::Data if heard.len() < JOIN_BYTES => {}
                Opening::More if heard.len() < HEARD_BYTES_MAX => {}
                _ => return None,
            }
            if is_blocked {
                return Some(Verdict::More);
            }
        }
    }

    fn arrive(mut self, opening: Opening) -> Option<Arrival> {
        match (opening, self.tls.take()) {
            (Opening::Control, Some(tls)) => {
                Some(Arrival::Control { sock: self.sock, peer: self.peer, tls, heard: self.heard })
            }
            (Opening::Data, Some(tls)) => {
                let join = Join::decode(self.heard.first_chunk()?).ok()?;
                Some(Arrival::Data { sock: self.sock, tls: Some(tls), token: join.token })
            }
            (Opening::Data, None) => {
                let mut bytes = [0; JOIN_BYTES];
                let n = receive(self.sock.as_fd(), &mut bytes).ok()?;
                let join = Join::decode(&bytes).ok()?;
                (n == JOIN_BYTES).then_some(Arrival::Data { sock: self.sock, tls: None, token: join.token })
            }
            _ => None,
        }
    }

    fn leave(mut self, line: &[u8]) {
        let _ = self.sock.write(line);
        // Unread bytes would turn the close into a reset that overtakes the line.
        let mut rest = [0; 4096];
        let _ = receive(self.sock.as_fd(), &mut rest);
    }
}

/// Errors of accept() that are about the connection that was to be accepted, not about the listener (accept(2)).
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}
