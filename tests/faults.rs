//! What goes wrong in the middle: peers that are something else, that vanish or lie, signals, files that change.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::thread::JoinHandle;

use common::peer::{Talk, TlsPeer, asked, dial, framed, preface, read_to_the_end, said, welcome};
use common::{
    Done, ONE_CELL, PATIENCE, Running, Serving, bench, children_of, default_result, file_of, folder, is_alive,
    linerate, names_in, read_result, run_bounded, wait_until, wait_until_idle, wait_until_measuring,
};
use linerate::proto::message::{Message, Reply, Request};
use linerate::proto::session::{HELLO_BYTES_MAX, MESSAGE_BYTES_MAX};
use linerate::proto::ticket::Ticket;
use linerate::proto::wire::{Join, Preface};
use linerate::report::schema::Document;
use linerate::tls::client::Pin;
use linerate::trust::identity::Identity;

/// Options of a run that goes on until something ends it: far longer than the patience of any test.
const ENDLESS: [&str; 8] = ["--methods", "write", "--sizes", "64KiB", "--rounds", "1000", "--duration", "300ms"];

/// A listener that does `with` to whoever comes, once.
fn impostor(with: impl FnOnce(TcpStream) + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let (sock, _) = listener.accept().unwrap();
        sock.set_read_timeout(Some(PATIENCE)).unwrap();
        with(sock);
    });
    (address, thread)
}

/// A linerate server of the test's own making: `with` gets a connection on which TLS is agreed on.
fn liar(with: impl FnOnce(TlsPeer) + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
    impostor(|sock| with(TlsPeer::server_over(sock, &Identity::ephemeral().unwrap()).unwrap()))
}

/// A run against that server goes well.
#[track_caller]
fn still_serves(serving: &Serving) {
    let folder = folder();
    let options = ["-q", "--json", "run.json", "--methods", "write", "--sizes", "4KiB"];
    run_bounded(bench(folder.path(), options).arg(serving.host())).expect(0);
    let document = read_result(&folder.path().join("run.json"));
    assert!(document.complete && document.cells[0].throughput.is_some() && document.latency[0].count > 0);
}

/// An endless run in `folder`, saved as `run.json`, that is measuring by now.
fn endless(folder: &Path, options: &[&str]) -> Running {
    let mut command = linerate(["bench", "--json", "run.json"]);
    Running::start(command.args(ENDLESS).args(options).current_dir(folder))
}

/// What a run that was cut short has left: a file that says so, and that can be shown.
#[track_caller]
fn check_incomplete(folder: &Path) -> Document {
    let path = folder.join("run.json");
    let document = read_result(&path);
    assert!(!document.complete && document.settings.rounds_measured < document.settings.rounds);
    let shown = run_bounded(linerate(["report"]).arg(&path)).expect(0);
    assert!(shown.stdout.contains("INCOMPLETE"), "{shown:#?}");
    assert_eq!(names_in(folder), ["run.json"]);
    document
}

#[test]
fn a_server_of_another_protocol_is_recognised() {
    let folder = folder();
    let greetings: [&[u8]; 4] = [b"SSH-2.0-x\r\n", b"220 ftp ready\r\n", b"\0\0\0\0\0\0\0\0", b"l"];
    for greeting in greetings {
        let (address, thread) = impostor(|mut sock| {
            sock.write_all(greeting).unwrap();
            if greeting.len() > 1 {
                read_to_the_end(sock);
            }
        });
        let done = run_bounded(bench(folder.path(), ONE_CELL).arg(address.to_string()));
        done.expect_line(6, &[&address.to_string(), "does not speak the linerate protocol"]);
        thread.join().unwrap();
    }
}

#[test]
fn a_server_that_hangs_up_or_says_nothing_is_given_up() {
    let folder = folder();
    let (address, thread) = impostor(drop);
    let done = run_bounded(bench(folder.path(), ONE_CELL).arg(address.to_string()));
    done.expect_line(6, &[&address.to_string(), "closed the connection"]);
    thread.join().unwrap();
    let (address, thread) = impostor(|sock| drop(read_to_the_end(sock)));
    let done = run_bounded(bench(folder.path(), ONE_CELL).arg(address.to_string()));
    done.expect_line(6, &[&address.to_string(), "did not open the session within 5 s"]);
    thread.join().unwrap();
}

#[test]
fn a_server_that_opens_and_then_never_answers_is_given_up() {
    let folder = folder();
    // Before it judges who we are, and after it let us in.
    let openings = [preface(), [preface(), welcome()].concat()];
    let tries = openings.map(|opening| {
        let (address, thread) = liar(move |mut peer| {
            peer.send_plain(&opening).unwrap();
            peer.recv_to_the_end();
        });
        (address, thread, Running::start(bench(folder.path(), ONE_CELL).arg(address.to_string())))
    });
    for (address, thread, client) in tries {
        client.finish().expect_line(6, &[&address.to_string(), "did not answer within 15 s"]);
        thread.join().unwrap();
    }
}

#[test]
fn a_server_of_another_version_is_named_with_the_way_out() {
    let folder = folder();
    let (address, thread) = liar(|mut peer| {
        peer.send_plain(&Preface { version: 77 }.encode()).unwrap();
        peer.recv_to_the_end();
    });
    let done = run_bounded(bench(folder.path(), ONE_CELL).arg(address.to_string()));
    done.expect_line(6, &[&address.to_string(), "version 77", "same linerate release on both ends"]);
    thread.join().unwrap();
}

#[test]
fn a_server_that_lies_is_the_servers_fault_and_no_crash() {
    let answers: [(Vec<u8>, &str); 5] = [
        (u32::MAX.to_le_bytes().to_vec(), "announced a message of 4294967295 bytes"),
        (framed(&[0xff; 100]), "does not know"),
        (0u32.to_le_bytes().to_vec(), "announced a message of 0 bytes"),
        (said(&Message::Reply { id: 1, body: Reply::Started }), "answered out of turn"),
        (said(&Message::Bye("\x1b[2Jno room".to_string())), "no room"),
    ];
    let folder = folder();
    for (answer, reason) in answers {
        let (address, thread) = liar(move |mut peer| {
            peer.send_plain(&preface()).unwrap();
            peer.send_plain(&welcome()).unwrap();
            peer.send_plain(&answer).unwrap();
            peer.recv_to_the_end();
        });
        let done = run_bounded(bench(folder.path(), ONE_CELL).arg(address.to_string()));
        let done = done.expect_line(6, &[&address.to_string(), reason]);
        assert!(!done.stderr.contains('\x1b'), "a peer steers the terminal: {done:?}");
        thread.join().unwrap();
    }
}

#[test]
fn a_client_of_another_version_is_sent_away_and_told_ours() {
    let serving = Serving::start();
    let mut peer = TlsPeer::client(serving.address(), Pin::Anybody).unwrap();
    peer.send_plain(&Preface { version: 77 }.encode()).unwrap();
    assert_eq!(peer.recv_to_the_end(), preface());
    still_serves(&serving);
}

#[test]
fn a_client_without_tls_is_told_so_in_one_plain_line() {
    let serving = Serving::start();
    for first in [&preface()[..], b"SSH-2.0-x\r\n", b"EHLO x\r\n"] {
        let mut sock = dial(serving.address());
        sock.write_all(first).unwrap();
        let line = String::from_utf8(read_to_the_end(sock)).unwrap();
        assert!(line.starts_with("linerate: ") && line.contains("linerate bench HOST"), "{line:?}");
        assert!(line.ends_with('\n') && line.lines().count() == 1, "{line:?}");
    }
    still_serves(&serving);
}

#[test]
fn a_browser_gets_an_answer_that_it_can_show() {
    let serving = Serving::start();
    let mut sock = dial(serving.address());
    sock.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let answer = String::from_utf8(read_to_the_end(sock)).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
    assert_eq!(length.parse(), Ok(body.len()), "{body:?}");
    assert!(body.contains("linerate bench"), "{body}");
    still_serves(&serving);
}

#[test]
fn garbage_costs_nobody_but_who_sent_it() {
    let serving = Serving::start();
    let ticket = Ticket::decode(&serving.ticket()).unwrap();
    let join = Join { token: [7; 16] }.encode();
    let mut other_join = join;
    other_join[8] = 99;
    let table: [(&str, Vec<u8>); 8] = [
        ("nothing", vec![]),
        ("noise", (0..100u32).map(|n| ((n * 7919) >> 3) as u8).collect()),
        ("much noise", vec![0xa5; 1 << 20]),
        ("half of TLS", vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]),
        ("half a join", join[..16].to_vec()),
        ("an unknown token", join.to_vec()),
        ("a join of another version", other_join.to_vec()),
        ("half a preface", preface()[..7].to_vec()),
    ];
    for (name, bytes) in &table {
        let mut sock = dial(serving.address());
        // The server may close before it has read all.
        let _ = sock.write_all(bytes);
        let _ = sock.shutdown(std::net::Shutdown::Write);
        let answer = read_to_the_end(sock);
        assert!(answer.len() < 4096, "{name}: {} bytes of answer", answer.len());
    }
    garbage_inside_tls(&serving, &ticket);
    // Some that stay: half-open connections are in nobody's way.
    let stay: Vec<TcpStream> = table
        .iter()
        .map(|(_, bytes)| {
            let mut sock = dial(serving.address());
            let _ = sock.write_all(&bytes[..bytes.len().min(4096)]);
            sock
        })
        .collect();
    still_serves(&serving);
    drop(stay);
    still_serves(&serving);
    serving.end().expect(0);
}

/// Garbage from who was not let in, and from who was.
fn garbage_inside_tls(serving: &Serving, ticket: &Ticket) {
    let job = || asked(1, Request::Start(99));
    let of_a_server = || said(&Message::Reply { id: 1, body: Reply::Started });
    let inside: [(&str, Vec<u8>); 6] = [
        ("nothing", vec![]),
        ("an absurd length", u32::MAX.to_le_bytes().to_vec()),
        ("no length", vec![0; 4]),
        ("a message that is none", framed(&[0xff; 100])),
        ("half a message", framed(&[1; 100])[..50].to_vec()),
        ("a message of a server", of_a_server()),
    ];
    let just_too_long = [HELLO_BYTES_MAX, MESSAGE_BYTES_MAX].map(|most| (most as u32 + 1).to_le_bytes().to_vec());
    let [long_hello, long_message] = just_too_long;
    let before = [("a hello that is too long", long_hello), ("no hello", job())];
    for (name, bytes) in before.into_iter().chain(inside.clone()) {
        let mut talk = Talk::begin(serving.address(), Pin::Exactly(ticket.fingerprint));
        ends(&mut talk, name, &bytes);
    }
    let after = [("a message that is too long", long_message), ("a job that is not there", job())];
    for (name, bytes) in after.into_iter().chain(inside) {
        let mut talk = Talk::open(serving.address(), ticket);
        ends(&mut talk, name, &bytes);
    }
}

/// The server ends the session after these bytes, and says little more.
fn ends(talk: &mut Talk, name: &str, bytes: &[u8]) {
    let _ = talk.peer.send_plain(bytes);
    talk.peer.say_end();
    let answers = std::iter::from_fn(|| talk.hear()).count();
    assert!(answers <= 1, "{name}: {answers} answers");
}

#[test]
fn half_open_connections_are_closed_in_time() {
    let serving = Serving::start();
    let starts: [&[u8]; 3] = [b"", b"lr-data\n", b"linerate"];
    let socks = starts.map(|start| {
        let mut sock = dial(serving.address());
        sock.write_all(start).unwrap();
        sock
    });
    for sock in socks {
        // Bounded by the read timeout.
        read_to_the_end(sock);
    }
    serving.end().expect(0);
}

#[test]
fn a_client_that_vanishes_leaves_the_server_to_the_next() {
    let serving = Serving::start();
    for direction in ["send", "receive", "both"] {
        let folder = folder();
        let client = endless(folder.path(), &["-q", "-P", "3", "-d", direction, &serving.host()]);
        wait_until_measuring(serving.pid());
        client.signal(libc::SIGKILL);
        assert_eq!(client.finish().code, None);
        still_serves(&serving);
        wait_until_idle(serving.pid());
    }
    let said = serving.end().expect(0).stderr;
    // Before it, perhaps, that a stream of a killed client came too late.
    assert!(said.lines().any(|line| line.starts_with("served 6 sessions, ")), "{said}");
}

#[test]
fn a_server_that_vanishes_is_one_line_and_what_was_measured_is_kept() {
    for direction in ["send", "receive", "both"] {
        let folder = folder();
        let serving = Serving::start();
        let address = serving.host();
        let client = endless(folder.path(), &["-q", "-P", "3", "-d", direction, &address]);
        wait_until_measuring(serving.pid());
        serving.kill();
        client.finish().expect_line(6, &[&address, "what was measured until then is kept"]);
        check_incomplete(folder.path());
    }
}

#[test]
fn a_server_that_is_ended_says_so_to_its_clients() {
    let folder = folder();
    let serving = Serving::start();
    let client = endless(folder.path(), &["-q", &serving.host()]);
    wait_until_measuring(serving.pid());
    let said = serving.end().expect(0).stderr;
    assert!(said.starts_with("served 1 sessions, ") && said.contains(" received, "), "{said}");
    client.finish().expect_line(6, &["the server is ending", "what was measured until then is kept"]);
    check_incomplete(folder.path());
}

#[test]
fn an_idle_server_ends_with_a_summary() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let server = Running::start(&mut linerate(["serve", "--listen", "127.0.0.1:0"]));
        // A signal that comes sooner ends it without a word, as it ends any program.
        wait_until("it heeds the signal", || caught(server.pid()) & (1 << (signal - 1)) != 0);
        server.signal(signal);
        let done = server.finish().expect_line(0, &["served 0 sessions, 0 jobs, "]);
        assert!(done.stdout.starts_with("listening on 127.0.0.1:"), "{done:#?}");
    }
}

/// The signals that a process has a handler for, one bit each.
fn caught(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}

#[test]
fn an_interrupted_run_keeps_what_it_has_and_takes_its_server_along() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let folder = folder();
        let client = endless(folder.path(), &["-q"]);
        wait_until("it has a server", || !children_of(client.pid()).is_empty());
        let server = children_of(client.pid())[0];
        wait_until_measuring(server);
        client.signal(signal);
        client.finish().expect_line(130, &["interrupted", "what was measured until then is kept"]);
        check_incomplete(folder.path());
        assert!(!is_alive(server), "its server lives on");
    }
}

#[test]
fn a_server_of_our_own_does_not_outlive_a_killed_client() {
    let folder = folder();
    let client = endless(folder.path(), &["-q"]);
    wait_until("it has a server", || !children_of(client.pid()).is_empty());
    let server = children_of(client.pid())[0];
    wait_until_measuring(server);
    client.signal(libc::SIGKILL);
    wait_until("the server ends too", || !is_alive(server));
    assert_eq!(client.finish().code, None);
}

#[test]
fn a_source_that_shrinks_during_the_run_is_said_for_each_method() {
    for direction in ["send", "receive"] {
        let folder = folder();
        let path = file_of(folder.path(), "source", 64 << 20);
        let serving = Serving::of_folder(folder.path());
        let mut command =
            linerate(["bench", "--json", "run.json", "--no-latency", "--sizes", "64KiB", "--rounds", "30"]);
        command.args(["--source", "source", "-d", direction, "--duration", "50ms", "--warmup", "5ms"]);
        let client = Running::start(command.arg(serving.host()).current_dir(folder.path()));
        wait_until_measuring(serving.pid());
        std::fs::File::options().write(true).open(&path).unwrap().set_len(5000).unwrap();
        let done = client.finish();
        assert!(matches!(done.code, Some(1 | 3)), "{done:#?}");
        assert!(!done.stderr.contains("panicked"), "{done:#?}");
        let document = read_result(&folder.path().join("run.json"));
        assert!(document.complete, "the other cells go on");
        let reasons: Vec<&str> = document.cells.iter().filter_map(|cell| cell.unavailable.as_deref()).collect();
        assert!(!reasons.is_empty(), "{direction}: nobody noticed");
        for reason in reasons {
            assert!(reason.contains("source: "), "the file is named: {reason}");
            assert!(reason.contains("shorter while it was read") || reason.contains("holds 5000 bytes"), "{reason}");
        }
        serving.end().expect(0);
    }
}

#[test]
fn a_reader_that_leaves_early_costs_nothing() {
    let folder = folder();
    let mut command = bench(folder.path(), ONE_CELL);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    let code = child.wait().unwrap().code();
    let done = Done { code, stdout: String::new(), stderr: said }.expect(0);
    assert!(done.stderr.contains("saved as "), "{done:#?}");
    let path = default_result(folder.path());
    assert!(read_result(&path).complete);
    for args in [&["report", &path.display().to_string()][..], &["--help"], &["man"], &["completions", "bash"]] {
        let mut child = linerate(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn a_result_is_saved_even_if_it_cannot_be_shown() {
    let folder = folder();
    let mut command = bench(folder.path(), ONE_CELL);
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut child = command.stdout(full).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{said}");
    assert!(said.contains("standard output: No space left"), "{said}");
    assert!(read_result(&default_result(folder.path())).complete);
}

#[test]
fn a_server_of_one_session_turns_a_second_away() {
    let serving = Serving::with(["--once", "--listen", "127.0.0.1:0"]);
    let ticket = serving.ticket();
    let first = Talk::open(serving.address(), &Ticket::decode(&ticket).unwrap());
    let folder = folder();
    let mut second = bench(folder.path(), ONE_CELL);
    let done = run_bounded(second.arg(serving.host()).env("LINERATE_TICKET", &ticket));
    done.expect_line(5, &["takes 1 at a time", "try again later"]);
    drop(first);
    let said = serving.wait().expect(0).stderr;
    assert!(said.starts_with("served 1 sessions, ") && said.ends_with("; turned away 1\n"), "{said}");
}
