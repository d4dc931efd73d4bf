//! Bytes that nobody should send to a server: other protocols, other versions, lengths that lie, peers that stop in the
//! middle, that never read or that never stop.

mod common;

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use common::host::Host;
use common::peer::{Talk, TlsPeer, asked, dial, framed, hello, preface, read_to_the_end, sending_job};
use common::{descriptors, run_bounded, skip_unless, sockets, status_kib, wait_until};
use linerate::proto::message::{Message, Reply, Request};
use linerate::proto::session::{HELLO_BYTES_MAX, MESSAGE_BYTES_MAX};
use linerate::proto::ticket::Ticket;
use linerate::proto::wire::{PROTOCOL_VERSION, Preface};
use linerate::tls::client::Pin;

/// The alert "protocol version", fatal, in the clear.
const ALERT_VERSION: [u8; 7] = [21, 3, 3, 0, 2, 2, 70];

fn pin(ticket: &Ticket) -> Pin {
    Pin::Exactly(ticket.fingerprint)
}

/// A ClientHello of a TLS before 1.3: random, no session, one cipher suite, no compression, one kind of signature.
fn old_client_hello(version: u8) -> Vec<u8> {
    let signatures = [0, 8, 0, 13, 0, 4, 0, 2, 4, 3];
    let body = [&[3, version][..], &[7; 32], &[0, 0, 2, 0xc0, 0x2f, 1, 0], &signatures].concat();
    let message = [&[1, 0, 0, body.len() as u8], &body[..]].concat();
    [&[22, 3, 1, 0, message.len() as u8], &message[..]].concat()
}

/// A real client of that server measures.
#[track_caller]
fn still_serves(host: &Host) {
    host.enter(&host.text).expect(0);
}

#[test]
fn tls_before_1_3_is_refused_by_name() {
    let host = Host::start();
    for version in [1, 2, 3] {
        let mut sock = dial(host.serving.address());
        sock.write_all(&old_client_hello(version)).unwrap();
        let answer = read_to_the_end(sock);
        assert_eq!(answer, ALERT_VERSION, "TLS 1.{}", version - 1);
    }
    still_serves(&host);
}

#[test]
fn openssl_gets_no_further_than_we_want() {
    if skip_unless(Command::new("openssl").arg("version").output().is_ok(), "no openssl here") {
        return;
    }
    let host = Host::start();
    let connect = |options: &[&str]| {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &host.serving.host()]).args(options);
        run_bounded(command.stdin(std::process::Stdio::null()))
    };
    let old = connect(&["-tls1_2"]);
    assert!(old.code != Some(0) && old.stderr.contains("protocol version"), "{old:#?}");
    let other = connect(&["-tls1_3", "-alpn", "http/1.1"]);
    assert!(other.code != Some(0) && other.stderr.contains("no application protocol"), "{other:#?}");
    // TLS 1.3 without a name for what is spoken inside: agreed on, and over.
    let unnamed = connect(&["-tls1_3"]);
    assert!(!unnamed.stdout.contains("linerate protocol") && unnamed.code.is_some(), "{unnamed:#?}");
    still_serves(&host);
}

#[test]
fn other_protocols_get_one_line_or_nothing() {
    let host = Host::start();
    let table: [(&[u8], &str); 5] = [
        (b"GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "linerate: "),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "linerate: "),
        (&preface(), "linerate: "),
        (&[0x80, 46, 1, 3, 1, 0, 5], "linerate: "),
    ];
    for (bytes, start) in table {
        let mut sock = dial(host.serving.address());
        sock.write_all(bytes).unwrap();
        let answer = String::from_utf8(read_to_the_end(sock)).unwrap();
        assert!(answer.starts_with(start) && answer.len() < 300, "{bytes:?}: {answer:?}");
    }
    still_serves(&host);
}

#[test]
fn garbage_between_records_ends_the_connection() {
    let host = Host::start();
    let ticket = host.ticket();
    let garbage: [&[u8]; 5] =
        [&[0xff; 100], &[23, 3, 3, 0, 32, 9, 9, 9], &[23, 3, 3, 0xff, 0xff], &[22, 3, 3, 0, 1, 0], b"linerate"];
    for bytes in garbage {
        // In the handshake, before the session, and in it.
        let mut half = TlsPeer::half_client(host.serving.address(), pin(&ticket));
        half.flush().unwrap();
        let shaken = TlsPeer::client(host.serving.address(), pin(&ticket)).unwrap();
        let open = Talk::open(host.serving.address(), &ticket).peer;
        for mut peer in [half, shaken, open] {
            peer.send_raw(bytes).unwrap();
            // Where the record is not whole, the end makes it so.
            let _ = peer.sock.shutdown(std::net::Shutdown::Write);
            read_to_the_end(peer.sock);
        }
    }
    still_serves(&host);
}

#[test]
fn a_client_that_sends_byte_by_byte_is_served() {
    let host = Host::start();
    let ticket = host.ticket();
    let mut peer = TlsPeer::half_client(host.serving.address(), pin(&ticket));
    drip(&mut peer.sock, peer.tls.poll_transmit());
    let sent = peer.tls.poll_transmit().len();
    peer.tls.handle_sent(sent);
    peer.shake_hands().unwrap();
    for byte in [preface(), hello(Some(ticket.secret.clone()))].concat() {
        let record = peer.seal(&[byte]);
        drip(&mut peer.sock, &record);
    }
    assert_eq!(peer.recv_exact(preface().len()).unwrap(), preface());
    let heard = peer.recv_exact(4).unwrap();
    let length = u32::from_le_bytes(heard.try_into().unwrap());
    let answer: Message = postcard::from_bytes(&peer.recv_exact(length as usize).unwrap()).unwrap();
    assert!(matches!(answer, Message::Welcome(_)), "{answer:?}");
}

fn drip(sock: &mut TcpStream, bytes: &[u8]) {
    for byte in bytes {
        sock.write_all(&[*byte]).unwrap();
    }
}

#[test]
fn lengths_that_lie_end_the_session_before_the_message_comes() {
    let host = Host::start();
    let ticket = host.ticket();
    for length in [0, HELLO_BYTES_MAX as u32 + 1, 0x8000_0000, u32::MAX] {
        let mut talk = Talk::begin(host.serving.address(), pin(&ticket));
        talk.peer.send_plain(&length.to_le_bytes()).unwrap();
        assert_eq!(talk.hear(), None, "{length} before the hello");
    }
    for length in [0, MESSAGE_BYTES_MAX as u32 + 1, 0x8000_0000, u32::MAX] {
        let mut talk = Talk::open(host.serving.address(), &ticket);
        talk.peer.send_plain(&length.to_le_bytes()).unwrap();
        assert_eq!(talk.hear(), None, "{length} after the welcome");
    }
    still_serves(&host);
}

#[test]
fn messages_that_do_not_decode_end_the_session() {
    let host = Host::start();
    let ticket = host.ticket();
    let request = postcard::to_stdvec(&Message::Request { id: 1, body: Request::Describe }).unwrap();
    let bodies: [&[u8]; 6] = [
        // A tag that no message has; a request that is none; one that is cut off; strings longer than their message.
        &[99],
        &[4, 1, 99],
        &request[..request.len() - 1],
        &[6, 0xff, 0xff, 0xff, 0xff, 0x0f],
        &[6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        &[0xff; 300],
    ];
    for body in bodies {
        let mut talk = Talk::open(host.serving.address(), &ticket);
        talk.peer.send_plain(&framed(body)).unwrap();
        assert_eq!(talk.hear(), None, "{body:?}");
    }
    // What only a server says.
    for message in [Message::Reply { id: 1, body: Reply::Started }, Message::Welcome(Default::default())] {
        let mut talk = Talk::open(host.serving.address(), &ticket);
        talk.say(&message);
        assert_eq!(talk.hear(), None, "{message:?}");
    }
    still_serves(&host);
}

#[test]
fn a_later_version_hears_ours_and_nothing_else() {
    let host = Host::start();
    let ticket = host.ticket();
    for version in [0, PROTOCOL_VERSION + 1, u16::MAX] {
        let mut peer = TlsPeer::client(host.serving.address(), pin(&ticket)).unwrap();
        let hello = hello(Some(ticket.secret.clone()));
        peer.send_plain(&[&Preface { version }.encode()[..], &hello].concat()).unwrap();
        assert_eq!(peer.recv_to_the_end(), preface());
    }
    assert!(host.serving.end().expect(0).stderr.contains("served 0 sessions"));
}

/// Connections that are open and do not go on, by how far they came.
fn stuck(address: SocketAddr, ticket: &Ticket, of_each: usize) -> Vec<TcpStream> {
    let mut socks = Vec::new();
    for _ in 0..of_each {
        let silent = dial(address);
        let mut half = TlsPeer::half_client(address, pin(ticket));
        let hello = half.tls.poll_transmit().to_vec();
        half.sock.write_all(&hello[..hello.len() / 2]).unwrap();
        let mut unfinished = TlsPeer::half_client(address, pin(ticket));
        unfinished.flush().unwrap();
        let shaken = TlsPeer::client(address, pin(ticket)).unwrap();
        let greeted = Talk::begin(address, pin(ticket)).peer;
        socks.extend([silent, half.sock, unfinished.sock, shaken.sock, greeted.sock]);
    }
    socks
}

#[test]
fn whoever_stops_half_way_is_closed_in_time_and_in_nobodys_way() {
    let host = Host::start();
    let stuck = stuck(host.serving.address(), &host.ticket(), 3);
    still_serves(&host);
    for sock in stuck {
        // Bounded by the read timeout.
        read_to_the_end(sock);
    }
    still_serves(&host);
}

#[test]
fn a_crowd_at_the_door_keeps_nobody_out() {
    let limit = linerate::sys::limits::raise_open_files().unwrap();
    if skip_unless(limit >= 2048, "too few files may be open at a time") {
        return;
    }
    let host = Host::start();
    let before = descriptors(host.serving.pid());
    let address = host.serving.address();
    // More than the lobby has room for from one address.
    let silent: Vec<TcpStream> = (0..600).map(|_| dial(address)).collect();
    still_serves(&host);
    let half: Vec<TlsPeer> = (0..600)
        .map(|_| {
            let mut peer = TlsPeer::half_client(address, pin(&host.ticket()));
            // The server may have shown somebody else the door by then.
            let _ = peer.flush();
            peer
        })
        .collect();
    still_serves(&host);
    let greeted: Vec<Talk> = (0..300).map(|_| Talk::begin(address, pin(&host.ticket()))).collect();
    still_serves(&host);
    drop((silent, half, greeted));
    wait_until("the server lets go of them", || descriptors(host.serving.pid()) <= before);
}

#[test]
fn a_peer_that_never_reads_is_ended_and_costs_little_memory() {
    /// Their answers, 4 kB of tokens each, are far more than what the sockets and the server hold.
    const JOBS: u32 = 20_000;
    let host = Host::start();
    still_serves(&host);
    let before = status_kib(host.serving.pid(), "VmRSS").unwrap();
    let mut talk = Talk::open(host.serving.address(), &host.ticket());
    // The less the kernel holds, the sooner the server must.
    socket2::SockRef::from(&talk.peer.sock).set_recv_buffer_size(4096).unwrap();
    // One thread serves both, so an answer here tells that what was asked there is dealt with.
    let mut other = Talk::open(host.serving.address(), &host.ticket());
    let jobs = (0..JOBS).take_while(|job| {
        let prepare = Request::Prepare(Box::new(sending_job(250)));
        let both = [asked(*job, prepare), asked(*job, Request::Stop(*job))].concat();
        let is_open = talk.peer.send_plain(&both).is_ok();
        if job % 8 == 0 {
            assert!(matches!(other.ask(Request::Describe), Reply::Described(_)), "others are served");
        }
        is_open
    });
    let jobs = jobs.count() as u32;
    assert!(jobs < JOBS, "the server listens for ever");
    let peak = status_kib(host.serving.pid(), "VmHWM").unwrap();
    assert!(peak < before + (32 << 10), "{before} KiB before, at most {peak} KiB after {jobs} jobs");
    still_serves(&host);
}

#[test]
fn a_flood_of_requests_starves_nobody() {
    let host = Host::start();
    let (address, ticket) = (host.serving.address(), host.ticket());
    let is_over = AtomicBool::new(false);
    let flood = || {
        let mut answers = 0;
        while !is_over.load(Ordering::Relaxed) {
            let mut talk = Talk::open(address, &ticket);
            let many: Vec<u8> = (0..20).flat_map(|n| asked(n, Request::Describe)).collect();
            while !is_over.load(Ordering::Relaxed) && talk.peer.send_plain(&many).is_ok() {
                answers += (0..20).map_while(|_| talk.hear()).count();
            }
        }
        answers
    };
    std::thread::scope(|scope| {
        let floods: Vec<_> = (0..3).map(|_| scope.spawn(flood)).collect();
        let done: Vec<_> = (0..3).map(|_| host.enter(&host.text)).collect();
        is_over.store(true, Ordering::Relaxed);
        done.into_iter().for_each(|done| drop(done.expect(0)));
        let answers: usize = floods.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert!(answers > 0, "there was no flood");
    });
}

#[test]
fn too_much_at_once_ends_the_session_with_a_bounded_backlog() {
    let host = Host::start();
    let mut talk = Talk::open(host.serving.address(), &host.ticket());
    let many: Vec<u8> = (0..200_000).flat_map(|n| asked(n, Request::Describe)).collect();
    let mut reader = talk.peer.sock.try_clone().unwrap();
    let drain = std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    for piece in many.chunks(1 << 20) {
        if talk.peer.send_plain(piece).is_err() {
            break;
        }
    }
    // It ends although this end is open: the server has closed the other.
    let drained = drain.join().unwrap();
    let is_closed = drained.as_ref().map_or_else(|error| error.kind() == ErrorKind::ConnectionReset, |_| true);
    assert!(is_closed, "{drained:?}");
    still_serves(&host);
}

#[test]
fn a_thousand_sessions_leave_nothing_behind() {
    let host = Host::start();
    let (address, ticket, pid) = (host.serving.address(), host.ticket(), host.serving.pid());
    let visit = |times: usize| {
        for n in 0..times {
            let mut talk = Talk::open(address, &ticket);
            assert!(matches!(talk.ask(Request::Describe), Reply::Described(_)));
            // Some say goodbye, some only go.
            if n % 2 == 0 {
                talk.say(&Message::Bye("done".to_string()));
            }
        }
    };
    visit(50);
    wait_until("all are gone", || sessions_end(pid));
    // Its own memory: which pages of the program are there is up to the kernel.
    let (open, resident) = (descriptors(pid), status_kib(pid, "RssAnon").unwrap());
    visit(1000);
    wait_until("the server lets go of all", || descriptors(pid) <= open);
    let grown = status_kib(pid, "RssAnon").unwrap().saturating_sub(resident);
    assert!(grown < 4 << 10, "{grown} KiB more after 1000 sessions");
    assert!(host.serving.end().expect(0).stderr.contains("served 1050 sessions"));
}

/// Whether a server has no connection: its sockets are the listener and the pair that signals come through.
fn sessions_end(pid: u32) -> bool {
    sockets(pid) <= 3
}
