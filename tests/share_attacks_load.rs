//! Those who come with many connections, say too much, or take nothing: they cost little, and others are served.
#![cfg(feature = "web")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use common::attack::shown;
use common::share::{Reply, Share, read_reply};
use common::{PATIENCE, at_home, file_of, folder, home, skip_unless, status_kib, wait_until};

/// As another machine would come: from another address.
fn connect_from(share: &Share, last: u8) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, last], 0)).into()).unwrap();
    socket.connect(&share.authority().parse::<SocketAddr>().unwrap().into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn from(share: &Share, last: u8, request: &[u8]) -> Reply {
    let mut stream = connect_from(share, last);
    stream.write_all(request).unwrap();
    read_reply(&mut BufReader::new(stream), false)
}

fn memory_is_bounded(share: &Share) {
    let resident = status_kib(share.pid(), "VmHWM").unwrap();
    assert!(resident < 150 << 10, "{resident} KiB");
}

#[test]
fn one_address_takes_half_of_the_connections_and_others_are_served() {
    /// As many as a share takes of one address, where there are descriptors enough.
    const OF_ADDRESS: usize = 4096;
    let limit = linerate::sys::limits::raise_open_files().unwrap();
    if skip_unless(limit >= 2 * 8192 + 64, "too few files may be open at a time") {
        return;
    }
    let dir = folder();
    file_of(dir.path(), "a", 5);
    let share = Share::start(&[], dir.path());
    let whole = shown(&share, "GET /f/a", &[], b"");
    let begun = [&b""[..], b"GET / HTTP/1.1\r\nHo", &whole[..whole.len() - 1]];
    let mut idle: Vec<TcpStream> = Vec::new();
    for n in 0..OF_ADDRESS {
        let mut stream = share.connect();
        let _ = stream.write_all(begun[n % begun.len()]);
        idle.push(stream);
        // Below the bound nobody notices.
        if n == 2000 {
            assert_eq!(share.http(&whole).status, 200);
        }
    }
    // What is more of it ends at once, and whoever else comes is served.
    let mut more: Vec<TcpStream> = (0..200).map(|_| share.connect()).collect();
    let is_shut = |stream: &mut TcpStream| matches!(stream.read(&mut [0]), Ok(0) | Err(_));
    assert!(more.iter_mut().filter_map(|stream| is_shut(stream).then_some(())).count() == 200);
    for address in 2..10 {
        assert_eq!(from(&share, address, &whole).status, 200, "{address}");
    }
    memory_is_bounded(&share);
    drop((idle, more));
    wait_until("it is let in again", || {
        let mut stream = share.connect();
        let mut said = [0; 12];
        stream.write_all(&whole).is_ok() && stream.read_exact(&mut said).is_ok() && &said == b"HTTP/1.1 200"
    });
}

#[test]
fn few_descriptors_are_not_all_for_one_address() {
    let dir = folder();
    file_of(dir.path(), "a", 5);
    let mut share = Command::new("sh");
    share.args(["-c", "ulimit -n 300 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_linerate")]);
    share.args(["share", "--http", "--listen", "127.0.0.1:0"]).arg(dir.path()).stdin(Stdio::null());
    let share = Share::by(at_home(&mut share, &home()));
    let whole = shown(&share, "GET /f/a", &[], b"");
    // As many as there are descriptors, and more.
    let idle: Vec<TcpStream> = (0..400).map(|_| share.connect()).collect();
    for address in 2..10 {
        assert_eq!(from(&share, address, &whole).status, 200, "{address}");
    }
    drop(idle);
}

#[test]
fn bodies_that_stand_still_keep_nobody_from_anything() {
    let dir = folder();
    let share = Share::start(&["--upload"], dir.path());
    let length = "Content-Length: 1000";
    let form = "Content-Type: application/x-www-form-urlencoded";
    let own = format!("Origin: {}", share.origin);
    let begun = [
        shown(&share, "POST /api/chat", &["Content-Type: application/json", length], b""),
        shown(&share, "POST /archive", &[form, length], b""),
        share.bytes("POST /login", &[form, &own, length], b""),
        shown(&share, "GET /f/", &[length], b""),
    ];
    let stuck = begun.iter().cycle().take(400).map(|request| {
        let mut stream = share.connect();
        stream.write_all(&[&request[..], b"item="].concat()).unwrap();
        stream
    });
    let stuck: Vec<TcpStream> = stuck.collect();
    let put = shown(&share, "PUT /f/x", &["Content-Length: 1000"], b"");
    let uploads = (0..8).map(|_| {
        let mut stream = share.connect();
        stream.write_all(&[&put[..], b"begun"].concat()).unwrap();
        stream
    });
    let uploads: Vec<TcpStream> = uploads.collect();
    assert_eq!(from(&share, 2, &shown(&share, "PUT /f/a", &[], b"whole")).status, 201);
    assert_eq!(from(&share, 2, &shown(&share, "GET /f/a", &[], b"")).text(), "whole");
    let chat = shown(&share, "POST /api/chat", &["Content-Type: application/json"], b"{\"text\":\"x\"}");
    assert_eq!(from(&share, 2, &chat).status, 204);
    memory_is_bounded(&share);
    drop((stuck, uploads));
    wait_until("nothing partial is left", || common::names_in(dir.path()) == ["a"]);
}

/// An event stream, from the line after its head.
fn listen(share: &Share, last: u8) -> BufReader<TcpStream> {
    let mut stream = connect_from(share, last);
    stream.write_all(&shown(share, "GET /api/events?nick=ear", &[], b"")).unwrap();
    let mut from = BufReader::new(stream);
    until(&mut from, "event: who");
    from
}

/// Read until a line begins so.
fn until(from: &mut BufReader<TcpStream>, begin: &str) -> String {
    loop {
        let mut line = String::new();
        assert!(from.read_line(&mut line).unwrap() > 0, "no {begin:?}");
        if line.starts_with(begin) {
            return line;
        }
    }
}

fn say(nick: &str, text: &str) -> String {
    serde_json::json!({ "nick": nick, "text": text }).to_string()
}

#[test]
fn those_who_listen_to_nothing_hold_nobody_up() {
    let dir = folder();
    let share = Share::start(&[], dir.path());
    // They take the head of the answer at most, into as little room as there can be.
    let stuck = (0..60).map(|_| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(1).unwrap();
        socket.connect(&share.authority().parse::<SocketAddr>().unwrap().into()).unwrap();
        let mut stream = TcpStream::from(socket);
        stream.write_all(&shown(&share, "GET /api/events", &[], b"")).unwrap();
        stream
    });
    let stuck: Vec<TcpStream> = stuck.collect();
    let mut ears: Vec<_> = (2..6).map(|last| listen(&share, last)).collect();
    let mut count = 0;
    for speaker in 10..19 {
        let body = say("mouth", &"🦀".repeat(2000));
        let request = shown(&share, "POST /api/chat", &["Content-Type: application/json"], body.as_bytes());
        for _ in 0..9 {
            assert_eq!(from(&share, speaker, &request).status, 204);
            count += 1;
            for ear in &mut ears {
                assert_eq!(until(ear, "id: "), format!("id: {count}\n"));
            }
        }
    }
    memory_is_bounded(&share);
    drop(stuck);
    assert_eq!(share.http(&shown(&share, "GET /f/", &[], b"")).status, 200);
}

#[test]
fn a_flood_of_messages_ends_where_it_comes_from() {
    let dir = folder();
    let share = Share::start(&[], dir.path());
    let speak = |last: u8, headers: &[&str], body: &str| {
        let headers = [headers, &["Content-Type: application/json"]].concat();
        from(&share, last, &share.bytes("POST /api/chat", &headers, body.as_bytes()))
    };
    let own = format!("Origin: {}", share.origin);
    // Many names, and many sessions, are one address in the end.
    let bearer = share.bearer();
    let mut accepted = 0;
    let refused = (0..1000).find_map(|n| {
        let reply = speak(2, &[&bearer], &say(&format!("n{n}"), "x"));
        accepted += usize::from(reply.status == 204);
        (reply.status != 204).then_some(reply)
    });
    assert_eq!(refused.expect("a thousand messages").status, 429);
    assert!(accepted < 500, "{accepted}");
    let cookies: Vec<String> = (0..20).map(|_| share.enter()).collect();
    let mut statuses =
        cookies.iter().flat_map(|cookie| (0..20).map(|_| speak(2, &[cookie, &own], &say("n", "x")).status));
    assert!(statuses.any(|status| status == 429));
    // Whoever is elsewhere speaks on.
    assert_eq!(speak(3, &[&bearer], &say("other", "still here")).status, 204);
    let deep = format!("{{\"text\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let names = format!("{{\"text\":\"x\",\"nick\":\"{}\"}}", "n".repeat(30_000));
    for (body, status) in [
        (&*deep, 400),
        (&names, 204),
        ("{\"text\":\"\\ud800\"}", 400),
        ("{\"text\":\"\\u0000\\u202e\\u200b\"}", 400),
        ("{\"text\":null}", 400),
        ("{\"text\":\"x\",\"text\":\"y\"}", 400),
        ("{\"text\":\"x\",\"n\":1,\"from\":\"v1\",\"at\":\"never\"}", 204),
        ("[]", 400),
        ("\"x\"", 400),
    ] {
        assert_eq!(speak(4, &[&bearer], body).status, status, "{body:.40}");
    }
    assert_eq!(speak(4, &[&bearer], &say("n", &"x".repeat(40_000))).status, 413);
    memory_is_bounded(&share);
}

#[test]
fn a_reader_that_takes_nothing_costs_a_buffer() {
    let dir = folder();
    file_of(dir.path(), "big", 64 << 20);
    (0..2000).for_each(|n| std::fs::write(dir.path().join(format!("name-of-a-file-{n}")), "x").unwrap());
    let share = Share::start(&[], dir.path());
    let requests = [
        shown(&share, "GET /f/big", &[], b""),
        shown(&share, "GET /f/big?view", &["Range: bytes=1-"], b""),
        shown(&share, "GET /api/list/?limit=100000", &[], b""),
        shown(&share, "GET /api/search?q=name", &[], b""),
    ];
    let stuck = requests.iter().cycle().take(32).map(|request| {
        let mut stream = share.connect();
        stream.write_all(request).unwrap();
        // It has begun to answer.
        stream.peek(&mut [0]).unwrap();
        stream
    });
    let stuck: Vec<TcpStream> = stuck.collect();
    memory_is_bounded(&share);
    assert_eq!(from(&share, 2, &shown(&share, "GET /f/big", &["Range: bytes=0-9"], b"")).body.len(), 10);
    drop(stuck);
}
