//! A TCP proxy on loopback in the hand of a test: it counts what passes, and cuts, holds, delays, damages or splits it.
//!
//! What is counted, held or cut is told by direction and by what a connection carries ([`Which`]), and in bytes: what a
//! test does "in the middle" it does after a number of bytes, never after a time.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{LOOK_AGAIN, PATIENCE};

/// What one read takes at most.
const PIECE_BYTES: usize = 64 << 10;
/// What a data stream in the clear begins with.
const CLEAR_MAGIC: &[u8; 8] = b"lr-data\n";
/// What TLS begins with.
const TLS_HANDSHAKE: u8 = 0x16;

/// Whither bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// What a connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// TLS: control, and data streams that are encrypted.
    Tls,
    /// A data stream in the clear.
    Clear,
    /// Something else.
    Other,
}

/// Which bytes are meant; `None` stands for all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Which {
    pub way: Option<Way>,
    pub kind: Option<Kind>,
}

/// Bytes of data streams in the clear to the server.
pub const CLEAR_UP: Which = Which { way: Some(Way::Up), kind: Some(Kind::Clear) };
/// Bytes of data streams in the clear to the client.
pub const CLEAR_DOWN: Which = Which { way: Some(Way::Down), kind: Some(Kind::Clear) };
/// Whatever goes to the server.
pub const UP: Which = Which { way: Some(Way::Up), kind: None };
/// Whatever goes to the client.
pub const DOWN: Which = Which { way: Some(Way::Down), kind: None };
/// Whatever passes.
pub const ANY: Which = Which { way: None, kind: None };

impl Which {
    fn has(self, way: Way, kind: Kind) -> bool {
        self.way.is_none_or(|wanted| wanted == way) && self.kind.is_none_or(|wanted| wanted == kind)
    }
}

/// What happens when so many bytes have passed.
#[derive(Clone, Copy)]
struct Limit {
    which: Which,
    /// Total at which it happens, as [`Proxy::bytes`] counts.
    at: u64,
    /// Cut all connections; hold what follows otherwise.
    cuts: bool,
}

/// One bit that arrives wrong.
#[derive(Clone, Copy)]
struct Flip {
    which: Which,
    /// Which connection of that kind, from 0.
    nth: usize,
    /// Which byte in that direction.
    byte: u64,
}

/// A connection through the proxy.
struct Passing {
    client: TcpStream,
    /// Once there is a way on.
    server: Option<TcpStream>,
    kind: Option<Kind>,
    /// How many of its kind came before it.
    nth: usize,
    /// How often all were cut before it came.
    cuts: u64,
    /// How many of its two directions are open.
    open: u8,
}

/// One direction of a connection.
struct Lane {
    index: usize,
    way: Way,
    kind: Kind,
    nth: usize,
    cuts: u64,
    seed: u64,
}

#[derive(Default)]
struct State {
    target: Option<SocketAddr>,
    connections: Vec<Passing>,
    threads: Vec<JoinHandle<()>>,
    /// By [`slot`].
    bytes: [u64; 6],
    limit: Option<Limit>,
    /// Something waits at the limit.
    is_held: bool,
    cuts: u64,
    flips: Vec<Flip>,
    flipped: usize,
    pieces: Option<usize>,
    delay: Duration,
    is_over: bool,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// The proxy; it and its connections end with it.
pub struct Proxy {
    shared: Arc<Shared>,
    listener: TcpListener,
    accepting: Option<JoinHandle<()>>,
}

impl Proxy {
    /// In front of that server.
    pub fn start(server: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let state = State { target: Some(server), ..State::default() };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let (at, own) = (listener.try_clone().unwrap(), Arc::clone(&shared));
        let accepting = std::thread::spawn(move || own.accept(&at));
        Proxy { shared, listener, accepting: Some(accepting) }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// New connections go there; with `None` they are closed at once.
    pub fn lead_to(&self, server: Option<SocketAddr>) {
        self.shared.state().target = server;
    }

    /// Cut all connections once so many more bytes have passed; later ones pass again.
    pub fn cut_after(&self, which: Which, bytes: u64) {
        self.limit(which, bytes, true);
    }

    /// Hold those bytes once so many more have passed, until [`Self::go_on`].
    pub fn hold_after(&self, which: Which, bytes: u64) {
        self.limit(which, bytes, false);
    }

    /// Cut all connections now.
    pub fn cut(&self) {
        self.shared.state().cut();
        self.shared.changed.notify_all();
    }

    /// Wait until something is held, unless `is_over` first; whether it is.
    #[track_caller]
    pub fn wait_held(&self, is_over: impl FnMut() -> bool) -> bool {
        self.wait("nothing was held", |state| state.is_held, is_over)
    }

    /// Hold nothing any more.
    pub fn go_on(&self) {
        let mut state = self.shared.state();
        (state.limit, state.is_held) = (None, false);
        self.shared.changed.notify_all();
    }

    /// Wait until so many bytes in all have passed, unless `is_over` first; whether they have.
    #[track_caller]
    pub fn wait_bytes(&self, which: Which, bytes: u64, is_over: impl FnMut() -> bool) -> bool {
        self.wait("too little passed", |state| state.bytes(which) >= bytes, is_over)
    }

    /// Wait until no connection is left of those that there were.
    #[track_caller]
    pub fn wait_quiet(&self) {
        self.wait("connections are left", State::is_quiet, || false);
    }

    /// Wait until connections were cut so often, unless `is_over` first; whether they were.
    #[track_caller]
    pub fn wait_cuts(&self, cuts: u64, is_over: impl FnMut() -> bool) -> bool {
        self.wait("nothing was cut", |state| state.cuts >= cuts, is_over)
    }

    /// How often all connections were cut.
    pub fn cuts(&self) -> u64 {
        self.shared.state().cuts
    }

    /// Let a bit arrive wrong: of that byte, counted from 0, of the `nth` connection of that kind, counted from 0.
    pub fn flip(&self, way: Way, kind: Kind, nth: usize, byte: u64) {
        let which = Which { way: Some(way), kind: Some(kind) };
        self.shared.state().flips.push(Flip { which, nth, byte });
    }

    /// How many bits arrived wrong.
    pub fn flipped(&self) -> usize {
        self.shared.state().flipped
    }

    /// Pass everything on in pieces of 1 to `longest` bytes.
    pub fn split(&self, longest: usize) {
        self.shared.state().pieces = Some(longest);
    }

    /// Let every piece wait so long.
    pub fn delay(&self, by: Duration) {
        self.shared.state().delay = by;
    }

    /// How many bytes have passed.
    pub fn bytes(&self, which: Which) -> u64 {
        self.shared.state().bytes(which)
    }

    /// How many connections of a kind there were.
    pub fn connections(&self, kind: Kind) -> usize {
        self.shared.state().connections.iter().filter(|passing| passing.kind == Some(kind)).count()
    }

    fn limit(&self, which: Which, bytes: u64, cuts: bool) {
        assert!(bytes > 0, "there is cut() for now");
        let mut state = self.shared.state();
        let at = state.bytes(which) + bytes;
        state.limit = Some(Limit { which, at, cuts });
    }

    /// Whether it holds; `is_over`, which nothing tells of, is looked at again and again.
    #[track_caller]
    fn wait(&self, what: &str, holds: impl Fn(&State) -> bool, mut is_over: impl FnMut() -> bool) -> bool {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.shared.state();
        while !holds(&state) {
            let passed = state.bytes(ANY);
            if Instant::now() >= deadline {
                drop(state);
                panic!("{what} within {PATIENCE:?}; {passed} bytes passed in all");
            }
            drop(state);
            if is_over() {
                // What it did last may just have come.
                return holds(&self.shared.state());
            }
            let waited = self.shared.changed.wait_timeout(self.shared.state(), LOOK_AGAIN);
            state = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
        true
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.is_over = true;
        state.close_all();
        drop(state);
        self.shared.changed.notify_all();
        let _ = socket2::SockRef::from(&self.listener).shutdown(Shutdown::Both);
        let _ = self.accepting.take().map(JoinHandle::join);
        loop {
            // One of them may have started another meanwhile.
            let threads = std::mem::take(&mut self.shared.state().threads);
            if threads.is_empty() {
                break;
            }
            threads.into_iter().for_each(|thread| drop(thread.join()));
        }
    }
}

impl State {
    fn bytes(&self, which: Which) -> u64 {
        let has = |&(way, kind): &(Way, Kind)| which.has(way, kind);
        every_slot().filter(has).map(|(way, kind)| self.bytes[slot(way, kind)]).sum()
    }

    /// There was a connection, and none is left.
    fn is_quiet(&self) -> bool {
        !self.connections.is_empty() && self.connections.iter().all(|passing| passing.open == 0)
    }

    fn close_all(&self) {
        for passing in self.connections.iter().filter(|passing| passing.open > 0) {
            for sock in [Some(&passing.client), passing.server.as_ref()].into_iter().flatten() {
                let _ = sock.shutdown(Shutdown::Both);
            }
        }
    }

    fn cut(&mut self) {
        self.close_all();
        (self.limit, self.is_held) = (None, false);
        self.cuts += 1;
    }

    /// Damage what was read at that place of a connection.
    fn damage(&mut self, lane: &Lane, from: u64, piece: &mut [u8]) {
        for flip in &self.flips {
            let at = flip.byte.checked_sub(from).filter(|&at| at < piece.len() as u64);
            if let (true, true, Some(at)) = (flip.which.has(lane.way, lane.kind), flip.nth == lane.nth, at) {
                piece[at as usize] ^= 1 << (flip.byte % 8);
                self.flipped += 1;
            }
        }
    }
}

impl Shared {
    /// Also after a test's thread has panicked with it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn accept(self: Arc<Shared>, listener: &TcpListener) {
        while let Ok((client, _)) = listener.accept() {
            let mut state = self.state();
            if state.is_over {
                return;
            }
            let (index, cuts) = (state.connections.len(), state.cuts);
            let copy = client.try_clone().unwrap();
            state.connections.push(Passing { client: copy, server: None, kind: None, nth: 0, cuts, open: 1 });
            let own = Arc::clone(&self);
            state.threads.push(std::thread::spawn(move || own.serve(index, client)));
        }
    }

    /// One connection: find out what it is, then pass on what comes from the client.
    fn serve(self: Arc<Shared>, index: usize, client: TcpStream) {
        let Ok((server, first, kind)) = self.open(index, &client) else {
            let _ = client.shutdown(Shutdown::Both);
            self.state().connections[index].open -= 1;
            return self.changed.notify_all();
        };
        let back = (server.try_clone().unwrap(), client.try_clone().unwrap());
        let mut state = self.state();
        let passing = &mut state.connections[index];
        passing.open += 1;
        let (nth, cuts) = (passing.nth, passing.cuts);
        let [up, down] = [Way::Up, Way::Down].map(|way| Lane { index, way, kind, nth, cuts, seed: index as u64 });
        let own = Arc::clone(&self);
        state.threads.push(std::thread::spawn(move || own.pass(down, back, Vec::new())));
        drop(state);
        self.pass(up, (client, server), first);
    }

    /// The way on, the client's first bytes, and what they say.
    fn open(&self, index: usize, client: &TcpStream) -> io::Result<(TcpStream, Vec<u8>, Kind)> {
        let target = self.state().target.ok_or(io::ErrorKind::ConnectionRefused)?;
        let server = TcpStream::connect(target)?;
        server.set_nodelay(true)?;
        client.set_nodelay(true)?;
        let mut first = Vec::new();
        while first.len() < CLEAR_MAGIC.len() && CLEAR_MAGIC.starts_with(&first) {
            let mut byte = [0; 1];
            if (&*client).read(&mut byte)? == 0 {
                break;
            }
            first.push(byte[0]);
        }
        let kind = match first.first() {
            Some(&TLS_HANDSHAKE) => Kind::Tls,
            Some(_) if first == CLEAR_MAGIC => Kind::Clear,
            _ => Kind::Other,
        };
        let mut state = self.state();
        if state.is_over || state.cuts > state.connections[index].cuts {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let nth = state.connections.iter().filter(|passing| passing.kind == Some(kind)).count();
        let passing = &mut state.connections[index];
        (passing.kind, passing.nth, passing.server) = (Some(kind), nth, Some(server.try_clone()?));
        drop(state);
        self.changed.notify_all();
        Ok((server, first, kind))
    }

    /// Pass on all that comes in one direction.
    fn pass(&self, mut lane: Lane, (mut from, mut to): (TcpStream, TcpStream), first: Vec<u8>) {
        let (mut buffer, mut done) = (first, 0);
        loop {
            self.state().damage(&lane, done, &mut buffer);
            if self.pass_piece(&mut lane, &mut to, &buffer).is_err() {
                // One direction that is broken is the end of both.
                let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                break;
            }
            done += buffer.len() as u64;
            buffer.resize(PIECE_BYTES, 0);
            match from.read(&mut buffer) {
                Ok(n) if n > 0 => buffer.truncate(n),
                end => {
                    let _ = to.shutdown(if end.is_ok() { Shutdown::Write } else { Shutdown::Both });
                    break;
                }
            }
        }
        self.state().connections[lane.index].open -= 1;
        self.changed.notify_all();
    }

    fn pass_piece(&self, lane: &mut Lane, to: &mut TcpStream, piece: &[u8]) -> io::Result<()> {
        let mut rest = piece;
        while !rest.is_empty() {
            let (pieces, delay) = {
                let state = self.state();
                (state.pieces, state.delay)
            };
            if delay > Duration::ZERO {
                std::thread::sleep(delay);
            }
            let wanted = pieces.map_or(rest.len(), |longest| next(&mut lane.seed, longest).min(rest.len()));
            let (now, later) = rest.split_at(self.reserve(lane, wanted)?);
            to.write_all(now)?;
            rest = later;
            self.written(lane);
        }
        Ok(())
    }

    /// How many of these bytes may pass; waits while they are held.
    fn reserve(&self, lane: &Lane, wanted: usize) -> io::Result<usize> {
        let mut state = self.state();
        loop {
            if state.is_over || state.cuts > lane.cuts {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            let limit = state.limit.filter(|limit| limit.which.has(lane.way, lane.kind));
            let room = limit.map_or(u64::MAX, |limit| limit.at.saturating_sub(state.bytes(limit.which)));
            if room > 0 {
                let allowed = wanted.min(room.try_into().unwrap_or(usize::MAX));
                state.bytes[slot(lane.way, lane.kind)] += allowed as u64;
                return Ok(allowed);
            }
            // Whoever was given the last bytes before a cut is still writing them.
            if limit.is_some_and(|limit| !limit.cuts) {
                state.is_held = true;
                self.changed.notify_all();
            }
            state = self.changed.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    /// These bytes have gone on.
    fn written(&self, lane: &Lane) {
        let mut state = self.state();
        let limit = state.limit.filter(|limit| limit.cuts && limit.which.has(lane.way, lane.kind));
        if limit.is_some_and(|limit| state.bytes(limit.which) >= limit.at) {
            state.cut();
        }
        drop(state);
        self.changed.notify_all();
    }
}

fn every_slot() -> impl Iterator<Item = (Way, Kind)> {
    [Way::Up, Way::Down].into_iter().flat_map(|way| [Kind::Tls, Kind::Clear, Kind::Other].map(|kind| (way, kind)))
}

fn slot(way: Way, kind: Kind) -> usize {
    way as usize * 3 + kind as usize
}

/// A number from 1 to `longest` that follows from the seed.
fn next(seed: &mut u64, longest: usize) -> usize {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    1 + (*seed >> 33) as usize % longest.max(1)
}
