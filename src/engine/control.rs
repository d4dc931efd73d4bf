//! A control connection: a socket, a transport and a session, driven by somebody's mio loop.
//!
//! The [`Transport`] stands between the socket and the session. In the clear it does nothing; TLS slots in here.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::proto::message::Message;
use crate::proto::session::{Event, Role, Session};
use crate::sys::tcp_info::tcp_info;

/// Read from the socket at a time.
const READ_BYTES: usize = 16 << 10;
/// Reads before others get their turn.
const READS_MAX: usize = 16;
/// Events not yet taken beyond which nothing more is read.
const EVENTS_WAITING_MAX: usize = 64;

/// What stands between a socket and the session's bytes.
pub trait Transport: Send {
    /// Take what `sock` has, once, and append what it means to `plain`. `Ok(0)` is the end of the connection;
    /// `WouldBlock` as usual. A transport may take bytes and yield nothing yet: then it says how many it took.
    fn read(&mut self, sock: &mut dyn Read, plain: &mut Vec<u8>) -> io::Result<usize>;

    /// Send as much of `plain` as `sock` takes; says how much of it is dealt with. `WouldBlock` as usual.
    fn write(&mut self, sock: &mut dyn Write, plain: &[u8]) -> io::Result<usize>;
}

/// In the clear: bytes are what they are.
#[derive(Debug, Default)]
pub struct Clear;

impl Transport for Clear {
    fn read(&mut self, sock: &mut dyn Read, plain: &mut Vec<u8>) -> io::Result<usize> {
        let mut buffer = [0; READ_BYTES];
        let n = sock.read(&mut buffer)?;
        plain.extend_from_slice(&buffer[..n]);
        Ok(n)
    }

    fn write(&mut self, sock: &mut dyn Write, plain: &[u8]) -> io::Result<usize> {
        sock.write(plain)
    }
}

/// One control connection.
pub struct ControlConnection {
    sock: TcpStream,
    peer: SocketAddr,
    transport: Box<dyn Transport>,
    session: Session,
    plain: Vec<u8>,
    events: VecDeque<Event>,
    /// Reading stopped before the socket was empty: no edge will tell of the rest.
    more_waits: bool,
}

impl ControlConnection {
    /// Over a connected socket, registered under `token`.
    pub fn new(
        mut sock: TcpStream,
        peer: SocketAddr,
        role: Role,
        transport: Box<dyn Transport>,
        registry: &Registry,
        token: Token,
    ) -> io::Result<ControlConnection> {
        sock.set_nodelay(true)?;
        registry.register(&mut sock, token, Interest::READABLE | Interest::WRITABLE)?;
        let session = Session::new(role, Instant::now());
        let mut control = ControlConnection {
            sock,
            peer,
            transport,
            session,
            plain: Vec::new(),
            events: VecDeque::new(),
            more_waits: false,
        };
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
        for _ in 0..READS_MAX {
            if self.events.len() > EVENTS_WAITING_MAX {
                return;
            }
            self.plain.clear();
            match self.transport.read(&mut self.sock, &mut self.plain) {
                Ok(0) => self.session.handle_end(),
                Ok(_) => {
                    self.session.handle_bytes(&self.plain, Instant::now());
                    self.collect();
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => self.session.handle_end(),
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
        loop {
            let waiting = self.session.poll_transmit();
            if waiting.is_empty() {
                break;
            }
            match self.transport.write(&mut self.sock, waiting) {
                Ok(n) => self.session.handle_sent(n),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.session.handle_end();
                    break;
                }
            }
        }
        self.collect();
    }
}
