//! What the owner of a share is told whatever he asked for, and how a share ends by its time.
#![cfg(feature = "web")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use common::share::Share;
use common::{Done, linerate, wait_until};

#[test]
fn that_nothing_is_encrypted_is_said_loudly_and_never_among_the_events() {
    let dir = tempfile::tempdir().unwrap();
    for quiet in [&[][..], &["--quiet"], &["--json"], &["--quiet", "--json"]] {
        let share = Share::start(quiet, dir.path());
        let first = share.first.clone();
        let done = share.end().expect(0);
        assert!(done.stderr.contains("WARNING: --http: nothing is encrypted"), "{quiet:?}: {done:?}");
        let said = format!("{first}\n{}", done.stdout);
        assert!(!said.contains("WARNING"), "{quiet:?}: {said}");
        if quiet.contains(&"--json") {
            let events: Vec<serde_json::Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_eq!((&events[0]["event"], &events.last().unwrap()["event"]), (&"share".into(), &"end".into()));
        }
    }
    // With a certificate there is nothing to warn of.
    let share = Share::by(linerate(["share", "--quiet", "--listen", "127.0.0.1:0"]).arg(dir.path()));
    assert!(!share.end().stderr.contains("WARNING"));
}

/// Longer than all that is on its way between two programs.
const BYTES: usize = 16 << 20;

/// A share that is about to expire, on which somebody hears events and somebody else has begun a download.
fn expiring(dir: &std::path::Path) -> (Share, BufReader<TcpStream>, BufReader<TcpStream>) {
    std::fs::write(dir.join("big"), vec![7; BYTES]).unwrap();
    let share = Share::start(&["--expires", "6s"], dir);
    let begin = |line: &str| {
        let mut stream = share.connect();
        stream.write_all(&share.bytes(line, &[&share.bearer()], b"")).unwrap();
        BufReader::new(stream)
    };
    let (events, mut download) = (begin("GET /api/events?nick=Ann"), begin("GET /f/big"));
    let mut status = String::new();
    download.read_line(&mut status).unwrap();
    assert!(status.contains(" 200 "), "{status}");
    (share, events, download)
}

#[test]
fn a_quiet_share_ends_what_runs_without_a_word() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("big"), vec![7; BYTES]).unwrap();
    let share = Share::start(&["--quiet"], dir.path());
    let mut download = share.connect();
    download.write_all(&share.bytes("GET /f/big", &[&share.bearer()], b"")).unwrap();
    let mut status = String::new();
    BufReader::new(&download).read_line(&mut status).unwrap();
    share.signal(libc::SIGINT);
    wait_until("nobody is taken in", || TcpStream::connect(share.authority()).is_err());
    share.signal(libc::SIGINT);
    let done = share.wait().expect(0);
    assert!(!done.stderr.contains("ending"), "{done:?}");
}

/// The rest of what an event stream tells.
fn rest(events: &mut BufReader<TcpStream>) -> String {
    let mut told = String::new();
    let _ = events.read_to_string(&mut told);
    told
}

#[test]
fn a_share_that_expires_tells_its_pages_refuses_what_is_new_and_finishes_what_runs() {
    let dir = tempfile::tempdir().unwrap();
    let (share, mut events, mut download) = expiring(dir.path());
    let mut idle = share.connect();
    let told = rest(&mut events);
    assert!(told.contains("event: bye"), "{told}");
    // Nobody comes in any more, on a connection of before or a new one; nor is anything said.
    let chat = share.bytes("POST /api/chat", &[&share.bearer(), "Content-Type: application/json"], br#"{"text":"x"}"#);
    let answered = idle.write_all(&chat).and_then(|()| {
        let mut first = [0; 12];
        idle.read_exact(&mut first).map(|()| first)
    });
    assert!(answered.is_err() || answered.is_ok_and(|first| &first == b"HTTP/1.1 410"));
    wait_until("nobody is taken in", || TcpStream::connect(share.authority()).is_err());
    // What ran comes whole.
    loop {
        let mut line = String::new();
        download.read_line(&mut line).unwrap();
        if line == "\r\n" {
            break;
        }
    }
    let mut content = Vec::new();
    download.read_to_end(&mut content).unwrap();
    assert!(content.len() == BYTES && content.iter().all(|byte| *byte == 7), "{}", content.len());
    let Done { stderr, .. } = share.wait().expect(0);
    assert!(stderr.contains("ending: 1 transfer has 5 s to finish"), "{stderr}");
}

#[test]
fn what_does_not_finish_in_time_does_not_keep_an_expired_share() {
    let dir = tempfile::tempdir().unwrap();
    let (share, mut events, mut download) = expiring(dir.path());
    assert!(rest(&mut events).contains("event: bye"));
    // Nothing of it is read until the program has ended.
    share.wait().expect(0);
    let mut content = Vec::new();
    let _ = download.read_to_end(&mut content);
    assert!(content.len() < BYTES);
}
