//! A control connection: a socket, TLS and a session, driven by somebody's mio loop.

use std::collections::VecDeque;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::secure::{self, READ_BYTES, Received, Sealed, SecureError};
use crate::proto::message::{Message, TurnedAway, Welcome};
use crate::proto::session::{Event, Session};
use crate::sys::socket;
use crate::sys::tcp_info::tcp_info;
use crate::tls::TlsConnection;

/// Most bytes that are encrypted before they are sent.
const WRITE_BYTES: usize = 16 << 10;
/// Reads before others get their turn.
const READS_MAX: usize = 16;
/// What a port of something else often does when it hears TLS.
const ENDED_EARLY: &str =
    "the peer closed the connection before TLS was agreed on: is this the port of `linerate serve`?";
/// Events not yet taken beyond which nothing more is read.
const EVENTS_WAITING_MAX: usize = 64;

/// One control connection.
pub struct ControlConnection {
    sock: TcpStream,
    peer: SocketAddr,
    tls: TlsConnection,
    session: Session,
    events: VecDeque<Event>,
    /// Encrypted and not yet sent.
    sealed: Sealed,
    /// Reading stopped before the socket was empty: no edge will tell of the rest.
    more_waits: bool,
    /// We said that nothing more comes.
    has_said_end: bool,
}

impl ControlConnection {
    /// Over a connected socket, registered under `token`. `heard` is plaintext that was received already.
    pub fn new(
        mut sock: TcpStream,
        peer: SocketAddr,
        tls: TlsConnection,
        session: Session,
        heard: &[u8],
        (registry, token): (&Registry, Token),
    ) -> io::Result<ControlConnection> {
        sock.set_nodelay(true)?;
        registry.register(&mut sock, token, Interest::READABLE | Interest::WRITABLE)?;
        let mut control = ControlConnection {
            sock,
            peer,
            tls,
            session,
            events: VecDeque::new(),
            sealed: Sealed::default(),
            more_waits: false,
            has_said_end: false,
        };
        control.session.handle_bytes(heard, Instant::now());
        control.flush();
        Ok(control)
    }

    /// Who is at the other end.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Our address on this route.
    pub fn local(&self) -> io::Result<SocketAddr> {
        self.sock.local_addr()
    }

    /// The cipher suite, once it is agreed.
    pub fn cipher(&self) -> Option<&'static str> {
        self.tls.cipher()
    }

    /// The session's state.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The kernel's smoothed round-trip time to the peer; zero before there is one.
    pub fn round_trip(&self) -> Duration {
        tcp_info(self.sock.as_fd()).map(|info| Duration::from_micros(info.rtt_us.into())).unwrap_or_default()
    }

    /// The socket may have become ready, or time has passed.
    pub fn handle_ready(&mut self) {
        self.read_all();
        self.session.handle_timeout(Instant::now());
        self.flush();
    }

    /// Say something.
    pub fn send(&mut self, message: &Message) {
        self.session.send(message, Instant::now());
        self.flush();
    }

    /// Let the client in.
    pub fn welcome(&mut self, welcome: Welcome) {
        self.session.welcome(welcome, Instant::now());
        self.flush();
    }

    /// Do not let the client in, or no longer, and tell it why.
    pub fn turn_away(&mut self, away: TurnedAway) {
        self.session.turn_away(away, Instant::now());
        self.say_end();
    }

    /// Say that nothing more comes from here, as far as the socket takes it now.
    pub fn say_end(&mut self) {
        self.flush();
        if !self.has_said_end && self.sealed.is_empty() {
            self.has_said_end = true;
            self.tls.close();
            if let Ok(true) = secure::flush(&mut self.tls, self.sock.as_fd()) {
                let _ = self.sock.shutdown(Shutdown::Write);
            }
        }
    }

    /// Drop what still comes; `true` once the peer has closed its side, or is gone. A connection that is closed with
    /// bytes unread is reset, and the reset overtakes what we said last.
    pub fn drain(&mut self) -> bool {
        let mut rest = [0; READ_BYTES];
        for _ in 0..READS_MAX {
            match socket::receive(self.sock.as_fd(), &mut rest) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            }
        }
        false
    }

    /// What happened since the last call.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`ControlConnection::handle_ready`] wants to be called even if nothing arrives.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.more_waits { Some(Instant::now()) } else { self.session.poll_timeout() }
    }

    /// Stop watching the socket; dropping the connection then closes it.
    pub fn deregister(&mut self, registry: &Registry) {
        let _ = registry.deregister(&mut self.sock);
    }

    fn read_all(&mut self) {
        self.more_waits = true;
        let mut buffer = [0; READ_BYTES];
        for _ in 0..READS_MAX {
            if self.events.len() > EVENTS_WAITING_MAX {
                return;
            }
            let (session, now) = (&mut self.session, Instant::now());
            let mut hear = |plain: &[u8]| session.handle_bytes(plain, now);
            match secure::receive(&mut self.tls, self.sock.as_fd(), &mut buffer, &mut hear) {
                Ok(Received::Bytes { .. }) => {
                    self.collect();
                    continue;
                }
                Ok(Received::Blocked) => {}
                Ok(Received::End) | Err(SecureError::Cut | SecureError::Network(_)) => self.handle_end(),
                Err(SecureError::Tls(error)) => {
                    // The alert tells the peer why.
                    let _ = secure::flush(&mut self.tls, self.sock.as_fd());
                    self.session.handle_failure(error.to_string());
                }
            }
            self.collect();
            self.more_waits = false;
            return;
        }
    }

    fn collect(&mut self) {
        while let Some(event) = self.session.poll_event() {
            self.events.push_back(event);
        }
    }

    fn flush(&mut self) {
        match self.try_flush() {
            Ok(()) => {}
            Err(SecureError::Tls(error)) => self.session.handle_failure(error.to_string()),
            Err(_) => self.handle_end(),
        }
        self.collect();
    }

    fn handle_end(&mut self) {
        match self.tls.is_handshaking() {
            true => self.session.handle_failure(ENDED_EARLY.to_string()),
            false => self.session.handle_end(),
        }
    }

    fn try_flush(&mut self) -> Result<(), SecureError> {
        loop {
            let all_flushed = self.sealed.flush(&mut self.tls, self.sock.as_fd(), &mut 0)?;
            let waiting = self.session.poll_transmit();
            if !all_flushed || waiting.is_empty() || self.tls.is_handshaking() || self.has_said_end {
                return Ok(());
            }
            let piece = &waiting[..waiting.len().min(WRITE_BYTES)];
            let taken = piece.len();
            self.sealed.seal(&mut self.tls, piece)?;
            self.session.handle_sent(taken);
        }
    }
}
