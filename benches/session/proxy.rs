//! A proxy between a client and the server that counts flights: what one side says until the other side speaks.
//!
//! Of messages that answer one another, each begins a flight. So however TCP cuts the bytes, and whoever is slow,
//! there are never fewer flights than steps of the protocol that wait for each other.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use serde::Serialize;

/// Longest piece that is passed on.
const PIECE_BYTES: usize = 64 << 10;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Who connected.
    Client,
    /// Who answers.
    Server,
}

/// What one side said until the other side spoke.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flight {
    /// Who.
    pub from: Side,
    /// How much.
    pub bytes: u64,
}

/// A proxy for one connection.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    flights: Arc<Mutex<Vec<Flight>>>,
}

impl Proxy {
    /// To `server`; every piece is held back for `delay`.
    pub fn start(server: SocketAddr, delay: Duration) -> anyhow::Result<Proxy> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let proxy = Proxy { address: listener.local_addr()?, flights: Arc::default() };
        let flights = proxy.flights.clone();
        spawn(move || {
            // A failure shows at the client, whose connection ends.
            let _ = carry(&listener, server, delay, &flights);
        });
        Ok(proxy)
    }

    /// The flights so far. Each is noted before it is passed on.
    pub fn flights(&self) -> Vec<Flight> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn carry(
    listener: &TcpListener,
    server: SocketAddr,
    delay: Duration,
    flights: &Arc<Mutex<Vec<Flight>>>,
) -> std::io::Result<()> {
    let (client, server) = (listener.accept()?.0, TcpStream::connect(server)?);
    for sock in [&client, &server] {
        sock.set_nodelay(true)?;
    }
    for (side, from, to) in [(Side::Client, &client, &server), (Side::Server, &server, &client)] {
        let (from, to, flights) = (from.try_clone()?, to.try_clone()?, flights.clone());
        let (pass, passed) = channel();
        spawn(move || deliver(&passed, to));
        spawn(move || {
            let note = |bytes| note(&mut flights.lock().unwrap_or_else(PoisonError::into_inner), side, bytes);
            listen(from, delay, &note, &mut |piece| pass.send(piece).is_ok());
        });
    }
    Ok(())
}

/// A piece, and when it is to be passed on.
type Piece = (Instant, Vec<u8>);

fn listen(mut from: TcpStream, delay: Duration, note: &dyn Fn(u64), pass: &mut dyn FnMut(Piece) -> bool) {
    let mut buffer = vec![0; PIECE_BYTES];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        note(n as u64);
        if !pass((Instant::now() + delay, buffer[..n].to_vec())) {
            return;
        }
    }
}

fn deliver(pieces: &Receiver<Piece>, mut to: TcpStream) {
    while let Ok((at, bytes)) = pieces.recv() {
        sleep(at.saturating_duration_since(Instant::now()));
        if to.write_all(&bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

fn note(flights: &mut Vec<Flight>, from: Side, bytes: u64) {
    match flights.last_mut() {
        Some(last) if last.from == from => last.bytes += bytes,
        _ => flights.push(Flight { from, bytes }),
    }
}
