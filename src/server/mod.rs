//! The serving end: many sessions at a time, each with its own jobs on engines of its own, so that one that misbehaves or vanishes
//! costs nothing but itself.
//!
//! One control thread owns the listener and all control connections. It never waits: what takes time (joining,
//! sampling, stopping) is answered when the engine says so.
//!
//! | file | what it holds |
//! |---|---|
//! | `admission` | who is let in, and for what |
//! | `session` | one session: its life, and which kind of job a request or a stream is for |

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;
use slab::Slab;

use crate::bench::serving::BenchJobs;
use crate::engine::control::ControlConnection;
use crate::engine::newcomer::{Arrival, Lobby};
use crate::proto::job::JobTable;
use crate::proto::message::Message;
use crate::proto::session::Session;
use crate::store::StoreError;
use crate::store::confined::Root;
use crate::tls::{self, Ciphers, TlsConnection, TlsError};
use crate::transfer::runs::Runs;
use crate::transfer::serving::CopyJobs;
use crate::trust::identity::Identity;

mod admission;
mod session;

use admission::Admission;
pub use admission::{OpenBench, Policy};
use session::Served;

/// Most sessions at a time that were let in.
pub const SESSIONS_MAX: usize = 256;
/// Most sessions at a time that were not let in yet, or are being turned away; one more, and the oldest is closed.
pub const STRANGERS_AT_THE_DOOR_MAX: usize = 256;
/// Time for copies to store what has arrived when the server ends.
const COPIES_END_MAX: Duration = Duration::from_secs(10);
/// Time for goodbyes to leave when the server ends.
const GOODBYE_MAX: Duration = Duration::from_millis(200);

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
const SIGNALS: Token = Token(2);
const STDIN: Token = Token(3);
const SESSIONS_BASE: usize = 1 << 20;
const NEWCOMERS_BASE: usize = 1 << 40;

/// How to serve.
#[derive(Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The folder in which peers may name sources and sinks.
    pub root: Option<std::path::PathBuf>,
    /// Without a folder: clients may name all files that this user can reach.
    pub own_files: bool,
    /// Clients may give what they copy to the folder an owner.
    pub takes_owners: bool,
    /// End after the first session that was let in, or when standard input ends.
    pub once: bool,
    /// Who we are.
    pub identity: Identity,
    /// Who is let in.
    pub policy: Policy,
}

/// Why serving is impossible.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken or not ours.
    #[error("{address}: cannot listen: {error}: choose another with --listen ADDR:PORT (port 0 takes any free one)")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// The system's answer.
        error: io::Error,
    },
    /// The served folder.
    #[error(transparent)]
    Root(#[from] StoreError),
    /// The identity does not work.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The machine lacks something.
    #[error("{what}: {error}")]
    System {
        /// What was wanted.
        what: &'static str,
        /// The system's answer.
        error: io::Error,
    },
}

/// What a server did in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Sessions that were let in.
    pub sessions: u64,
    /// Sessions that were turned away.
    pub turned_away: u64,
    /// Jobs that ran.
    pub jobs: u64,
    /// Payload bytes taken.
    pub received_bytes: u64,
    /// Payload bytes sent.
    pub sent_bytes: u64,
}

/// A server that listens.
pub struct Server {
    poll: Poll,
    lobby: Lobby,
    signals: Signals,
    shared: Shared,
    sessions: Slab<Served>,
    once: bool,
    watches_stdin: bool,
    ending: bool,
}

/// What the sessions share.
struct Shared {
    waker: Arc<Waker>,
    jobs: JobTable,
    admission: Admission,
    root: Option<Arc<Root>>,
    /// Without a folder: clients may name all files of this user.
    own_files: bool,
    takes_owners: bool,
    runs: Runs,
    streams_max: u32,
    /// Most sessions at a time.
    sessions_max: usize,
    /// Sessions that are let in now, and how many of them are strangers.
    admitted: usize,
    strangers: usize,
    summary: Summary,
}

impl Shared {
    /// Sessions that are let in besides the one that asks.
    fn others(&self) -> u32 {
        self.admitted.saturating_sub(1) as u32
    }
}

impl Server {
    /// Bind and get ready; connections are accepted from now on, and served once [`Server::run`] is called.
    pub fn bind(config: Config) -> Result<Server, ServeError> {
        let root = config.root.as_deref().map(Path::new).map(Root::open).transpose()?.map(Arc::new);
        let listener = listen(config.listen).map_err(|error| ServeError::Listen { address: config.listen, error })?;
        let streams_max = session::streams_max();
        let system = |what| move |error| ServeError::System { what, error };
        let poll = Poll::new().map_err(system("epoll"))?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(system("eventfd"))?);
        let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(system("signals"))?;
        poll.registry().register(&mut signals, SIGNALS, Interest::READABLE).map_err(system("signals"))?;
        let secure = tls::server::config(&Ciphers::of_this_machine(), &config.identity)?;
        let listener = mio::net::TcpListener::from_std(listener);
        let lobby = Lobby::new(listener, secure, poll.registry(), LISTENER, NEWCOMERS_BASE).map_err(system("epoll"))?;
        // A terminal or /dev/null as standard input never ends in a way that means anything.
        let watches_stdin = config.once
            && poll.registry().register(&mut SourceFd(&libc::STDIN_FILENO), STDIN, Interest::READABLE).is_ok();
        let shared = Shared {
            waker,
            jobs: JobTable::default(),
            admission: Admission::new(config.policy),
            root,
            own_files: config.own_files,
            takes_owners: config.takes_owners,
            runs: Runs::default(),
            streams_max,
            sessions_max: if config.once { 1 } else { SESSIONS_MAX },
            admitted: 0,
            strangers: 0,
            summary: Summary::default(),
        };
        Ok(Server {
            poll,
            lobby,
            signals,
            shared,
            sessions: Slab::new(),
            once: config.once,
            watches_stdin,
            ending: false,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.lobby.address()
    }

    /// Serve until SIGINT or SIGTERM, or until the one session is over.
    pub fn run(mut self) -> io::Result<Summary> {
        let mut events = Events::with_capacity(1024);
        while !self.ending {
            match self.poll.poll(&mut events, self.timeout()) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for event in &events {
                self.handle(event.token());
            }
            self.handle_time(Instant::now());
            self.sweep();
        }
        self.say_goodbye();
        self.sessions.clear();
        self.shared.runs.wait_ended(COPIES_END_MAX);
        Ok(self.shared.summary)
    }

    fn handle(&mut self, token: Token) {
        match token {
            LISTENER => self.lobby.handle_listener(self.poll.registry()),
            // Engines are asked in `sweep`, whoever woke us.
            WAKER => {}
            SIGNALS => self.ending |= self.signals.pending().next().is_some(),
            STDIN => self.ending |= self.watches_stdin && stdin_ended(),
            Token(n) if n >= NEWCOMERS_BASE => {
                if let Some(arrival) = self.lobby.handle_newcomer(token, self.poll.registry()) {
                    self.welcome(arrival);
                }
            }
            Token(n) => {
                if let Some(session) = n.checked_sub(SESSIONS_BASE).and_then(|key| self.sessions.get_mut(key)) {
                    session.handle_ready();
                }
            }
        }
    }

    fn welcome(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Control { sock, peer, tls, heard } => {
                self.make_room();
                self.open(sock, peer, *tls, &heard);
            }
            Arrival::Data { sock, tls, token } => {
                let Some(seat) = self.shared.jobs.handle_join(&token, Instant::now()) else {
                    tracing::warn!(peer = ?sock.peer_addr().ok(), "a data stream showed a token that is not, or no longer, valid");
                    return;
                };
                if let Some(session) = self.sessions.get_mut(seat.session as usize) {
                    session.handle_join(seat, sock, tls, &mut self.shared);
                }
            }
        }
    }

    fn open(&mut self, sock: TcpStream, peer: SocketAddr, tls: TlsConnection, heard: &[u8]) {
        let entry = self.sessions.vacant_entry();
        let (key, session) = (entry.key(), Session::server(Instant::now()));
        let place = (self.poll.registry(), Token(SESSIONS_BASE + key));
        if let Ok(mut control) = ControlConnection::new(sock, peer, tls, session, heard, place) {
            control.handle_ready();
            let bench = BenchJobs::new(self.shared.waker.clone(), self.shared.streams_max);
            let copies = CopyJobs::new(self.shared.waker.clone(), self.shared.runs.clone(), peer);
            entry.insert(Served::new(key as u64, control, bench, copies));
        }
    }

    /// Whoever is at the door does not keep others from it: the one that came first goes.
    fn make_room(&mut self) {
        let at_the_door = self.sessions.iter().filter(|(_, session)| !session.is_admitted());
        if at_the_door.clone().count() >= STRANGERS_AT_THE_DOOR_MAX
            && let Some(key) = at_the_door.min_by_key(|(_, session)| session.since()).map(|(key, _)| key)
        {
            self.remove(key);
        }
    }

    fn remove(&mut self, key: usize) {
        let mut session = self.sessions.remove(key);
        session.control.deregister(self.poll.registry());
        self.shared.jobs.handle_session_end(key as u64);
        self.ending |= self.once && session.is_admitted();
        session.end(&mut self.shared);
    }

    fn handle_time(&mut self, now: Instant) {
        self.lobby.handle_timeout(now, self.poll.registry());
        for (session, job) in self.shared.jobs.handle_timeout(now) {
            if let Some(session) = self.sessions.get_mut(session as usize) {
                session.handle_late(job);
            }
        }
        for (_, session) in &mut self.sessions {
            if session.poll_timeout().is_some_and(|at| now >= at) {
                session.handle_ready();
            }
        }
    }

    /// Let every session do what it can, and remove those that are over.
    fn sweep(&mut self) {
        let mut over = Vec::new();
        for (key, session) in &mut self.sessions {
            if !session.advance(&mut self.shared) {
                over.push(key);
            }
        }
        for key in over {
            self.remove(key);
        }
    }

    fn timeout(&self) -> Option<Duration> {
        let sessions = self.sessions.iter().filter_map(|(_, session)| session.poll_timeout());
        let next = sessions.chain(self.lobby.poll_timeout()).chain(self.shared.jobs.poll_timeout()).min();
        next.map(|at| at.saturating_duration_since(Instant::now()))
    }

    fn say_goodbye(&mut self) {
        for (_, session) in &mut self.sessions {
            session.control.send(&Message::Bye("the server is ending".to_string()));
            session.control.say_end();
        }
        if !self.sessions.is_empty() {
            let _ = self.poll.poll(&mut Events::with_capacity(1), Some(GOODBYE_MAX));
        }
    }
}

/// A listening socket: dual stack for `[::]`, and usable again at once after a restart.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    /// Connections that may wait to be accepted; the kernel caps it at net.core.somaxconn.
    const BACKLOG: i32 = 4096;
    let domain = socket2::Domain::for_address(address);
    let sock = socket2::Socket::new(domain, socket2::Type::STREAM.nonblocking().cloexec(), None)?;
    if address.is_ipv6() {
        sock.set_only_v6(false)?;
    }
    sock.set_reuse_address(true)?;
    sock.bind(&address.into())?;
    sock.listen(BACKLOG)?;
    Ok(sock.into())
}

/// Whether standard input has ended; what comes on it otherwise is ignored.
fn stdin_ended() -> bool {
    let mut buffer = [0; 256];
    matches!(nix::unistd::read(io::stdin(), &mut buffer), Ok(0) | Err(nix::errno::Errno::EIO))
}
