//! Streams of a copy between two engines: every piece arrives whole, whoever is slow.

use std::sync::mpsc::{Receiver, channel};

use mio::{Poll, Token};

use super::buffers::Buffers;
use super::copy_receive::{Arrived, CopyReceiveFlow, Deliver};
use super::copy_send::CopySendFlow;
use super::outbox::{Carrier, Outbox, Payload, Piece};
use super::send::Cork;
use super::*;
use crate::proto::wire::{Frame, FrameKind, Length};
use crate::tls::client::Pin;
use crate::tls::{Ciphers, TlsConnection, client, server};
use crate::trust::identity::Identity;

const GROUP: Group = 1;

struct Inbox(std::sync::mpsc::Sender<Arrived>);

impl Deliver for Inbox {
    fn deliver(&self, arrived: Arrived) -> bool {
        self.0.send(arrived).is_ok()
    }
}

fn engine(workers: u32) -> (Engine, Poll) {
    let poll = Poll::new().unwrap();
    let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
    (Engine::start(Config { workers, ..Config::default() }, waker).unwrap(), poll)
}

/// Two connected sockets.
fn connected() -> (TcpStream, TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    for sock in [&near, &far] {
        sock.set_nonblocking(true).unwrap();
    }
    (TcpStream::from_std(near), TcpStream::from_std(far))
}

/// Two ends that have shaken hands.
fn secured() -> (Box<TlsConnection>, Box<TlsConnection>) {
    let (ciphers, identity) = (Ciphers::of_this_machine(), Identity::ephemeral().unwrap());
    let mut near = TlsConnection::client(client::config(&ciphers, Pin::Anybody).unwrap()).unwrap();
    let mut far = TlsConnection::server(server::config(&ciphers, &identity).unwrap()).unwrap();
    while near.is_handshaking() || far.is_handshaking() {
        carry(&mut near, &mut far);
        carry(&mut far, &mut near);
    }
    (Box::new(near), Box::new(far))
}

fn carry(from: &mut TlsConnection, to: &mut TlsConnection) {
    let mut bytes = from.poll_transmit().to_vec();
    from.handle_sent(bytes.len());
    to.handle_ciphertext(&mut bytes, &mut |_| {}).unwrap();
}

fn payload_of(file: u64, len: usize) -> Vec<u8> {
    (0..len).map(|n| (n as u64 * 31 + file) as u8).collect()
}

struct Running {
    sender: Engine,
    _receiver: Engine,
    arrived: Receiver<Arrived>,
    outbox: Outbox,
    reading: Buffers,
}

/// A copy over so many streams, with few buffers on both ends.
fn running(streams: u32, tls: bool, buffer_bytes: usize) -> Running {
    let ((sender, _), (receiver, _)) = (engine(2), engine(2));
    for engine in [&sender, &receiver] {
        engine.shape(super::secure_send::BUFFER_BYTES);
    }
    let outbox = Outbox::new(sender.nudger(GROUP));
    let (reading, storing) = (Buffers::new(buffer_bytes, 3), Buffers::new(buffer_bytes, 2));
    storing.nudge_with(receiver.nudger(GROUP));
    let (arrive, arrived) = channel();
    let arrive: Arc<dyn Deliver> = Arc::new(Inbox(arrive));
    for stream in 0..streams {
        let (near, far) = connected();
        let (ours, theirs) = if tls { Some(secured()).unzip() } else { (None, None) };
        let receive = CopyReceiveFlow::new(storing.clone(), arrive.clone(), theirs);
        receiver.add(GROUP, stream, far, Box::new(receive));
        let send = CopySendFlow::new(outbox.clone(), ours, Cork::Wanted);
        sender.add(GROUP, stream, near, Box::new(send));
    }
    Running { sender, _receiver: receiver, arrived, outbox, reading }
}

fn every_piece_arrives(streams: u32, tls: bool) {
    const PIECES: u64 = 300;
    let running = running(streams, tls, 100_000);
    let (outbox, reading) = (running.outbox.clone(), running.reading.clone());
    let len_of = |file: u64| 1 + (file as usize * 7919) % 100_000;
    let reader = std::thread::spawn(move || {
        for file in 0..PIECES {
            let (mut payload, bytes) = (reading.take().unwrap(), payload_of(file, len_of(file)));
            payload.room()[..bytes.len()].copy_from_slice(&bytes);
            payload.fill(bytes.len());
            let length = Length::Bytes(bytes.len() as u64);
            outbox.push(Piece {
                frame: Frame { file, offset: 0, length, kind: FrameKind::Data },
                payload: Payload::Buffer(payload),
                hashes: Vec::new(),
            });
        }
        outbox.close();
    });
    let mut seen = vec![false; PIECES as usize];
    for Arrived { frame, payload, .. } in running.arrived.iter().take(PIECES as usize) {
        assert!(payload.filled() == payload_of(frame.file, len_of(frame.file)), "piece {}", frame.file);
        assert!(!std::mem::replace(&mut seen[frame.file as usize], true));
    }
    reader.join().unwrap();
    assert!(seen.iter().all(|seen| *seen));
    drop(running.sender);
}

#[test]
fn every_piece_arrives_over_one_stream() {
    every_piece_arrives(1, false);
}

#[test]
fn every_piece_arrives_over_whichever_stream_is_free() {
    every_piece_arrives(5, false);
}

#[test]
fn every_piece_arrives_through_tls() {
    every_piece_arrives(3, true);
}

#[test]
fn whoever_stores_slowly_holds_back_whoever_reads() {
    let running = running(2, false, 1 << 20);
    for file in 0..3 {
        let mut payload = running.reading.take().unwrap();
        payload.fill(1 << 20);
        let frame = Frame { file, offset: 0, length: Length::Bytes(1 << 20), kind: FrameKind::Data };
        running.outbox.push(Piece { frame, payload: Payload::Buffer(payload), hashes: Vec::new() });
    }
    // Two buffers of the storing end: the third piece waits until one is back.
    let (first, second) = (running.arrived.recv().unwrap(), running.arrived.recv().unwrap());
    assert!(running.arrived.try_recv().is_err());
    drop(first);
    drop((running.arrived.recv().unwrap(), second));
}

#[test]
fn a_frame_that_fits_no_buffer_ends_its_stream() {
    let mut running = running(1, false, 1000);
    let big = Buffers::new(2000, 1);
    let mut payload = big.take().unwrap();
    payload.fill(2000);
    let frame = Frame { file: 0, offset: 0, length: Length::Bytes(2000), kind: FrameKind::Data };
    running.outbox.push(Piece { frame, payload: Payload::Buffer(payload), hashes: Vec::new() });
    assert!(running.arrived.recv().is_err(), "the flow is gone, and nothing arrived");
    running.sender.stop(GROUP, 1);
}
