//! `linerate chat`: the room of a share in a terminal, by the whole program.

#![cfg(feature = "web")]

mod common;

use std::io::Write;
use std::process::{Command, Stdio};

use common::person::Person;
use common::share::Share;
use common::{Done, Running, folder, linerate, run_bounded};

/// A share over HTTPS.
fn encrypted(dir: &std::path::Path) -> Share {
    Share::by(linerate(["share", "--listen", "127.0.0.1:0"]).arg(dir))
}

fn link(share: &Share) -> String {
    format!("{}/t/{}", share.origin, share.token)
}

fn chat(share: &Share, args: &[&str]) -> Command {
    let mut command = linerate(["chat"]);
    command.arg(link(share)).args(args);
    command
}

/// The program with lines on its standard input, which then ends.
fn chat_saying(share: &Share, args: &[&str], said: &str) -> Done {
    let input = tempfile::tempfile().unwrap();
    (&input).write_all(said.as_bytes()).unwrap();
    std::io::Seek::rewind(&mut &input).unwrap();
    run_bounded(chat(share, args).stdin(input))
}

fn enter(share: &Share, nick: &str) -> Person {
    Person::enter(&mut chat(share, &["--insecure", "--nick", nick]))
}

#[test]
fn people_talk_and_are_told_of_the_end() {
    let dir = folder();
    let share = encrypted(dir.path());
    let mut ann = enter(&share, "Ann");
    ann.say("hello <b>all</b>");
    assert_eq!(ann.hear(), "Ann: hello <b>all</b>\n");
    let mut bob = enter(&share, "Bob\u{202e}\u{1b}[2J");
    assert_eq!(bob.hear(), "Ann: hello <b>all</b>\n");
    bob.say("a\u{1b}]0;x\u{7}b");
    assert_eq!(bob.hear(), "Bob[2J: a]0;xb\n");
    assert_eq!(ann.hear(), "Bob[2J: a]0;xb\n");
    let mut late = Running::start(chat(&share, &["--insecure"]).stdin(Stdio::piped()));
    assert!(!late.is_over());
    share.end().expect(0);
    assert_eq!((ann.hear(), bob.hear()), (String::new(), String::new()));
    assert_eq!(ann.wait(), Some(0));
    late.finish();
}

#[test]
fn only_the_machine_that_is_meant_is_spoken_to() {
    let dir = folder();
    let share = encrypted(dir.path());
    let asked = chat_saying(&share, &[], "secret\n").expect_line(2, &["--fingerprint", "--insecure"]);
    let found = asked.stderr.split("fingerprint ").nth(1).unwrap().split(": if").next().unwrap();
    let wrong = format!("{}:00:00", &found[..found.len() - 6]);
    chat_saying(&share, &["--fingerprint", &wrong], "secret\n").expect_line(5, &[found, &wrong]);
    chat_saying(&share, &["--fingerprint", found, "--nick", "Ann"], "hello\n").expect(0);
    let mut bob = enter(&share, "Bob");
    assert_eq!(bob.hear(), "Ann: hello\n");
    // In the clear nobody can be known by a fingerprint: nothing is sent there.
    let plain = Share::start(&[], dir.path());
    chat_saying(&plain, &["--fingerprint", found], "secret\n").expect_line(2, &["--fingerprint: ", "in the clear"]);
}

#[test]
fn what_cannot_be_said_is_told_and_the_rest_is_said() {
    let dir = folder();
    let share = Share::start(&[], dir.path());
    let long = "x".repeat(5000);
    let done = chat_saying(&share, &["--nick", "Ann"], &format!("one\n{long}\n\n\u{200b}\ntwo\n")).expect(3);
    assert!(done.stderr.contains("in the clear") && done.stderr.contains("at most 2000 characters"), "{done:?}");
    let mut bob = enter(&share, "Bob");
    assert_eq!((bob.hear(), bob.hear()), ("Ann: one\n".to_string(), "Ann: two\n".to_string()));
    let mute = Share::start(&["--allow", "view"], dir.path());
    let done = chat_saying(&mute, &[], "x\n").expect(3);
    assert!(done.stderr.contains("This share does not allow chat."), "{done:?}");
}

#[test]
fn links_that_lead_nowhere_are_one_line_without_their_token() {
    let token = "AAAAAAAAAAAAAAAAAAAAAA";
    let dir = folder();
    let share = Share::start(&[], dir.path());
    // Bound and not listening: nobody else gets the port, and nobody answers there.
    let silent = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    silent.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    let closed = silent.local_addr().unwrap().as_socket().unwrap();
    let cases = [
        (format!("http://{closed}/t/{token}"), 6),
        (format!("{}/t/{token}", share.origin), 5),
        (format!("ftp://{closed}/t/{token}"), 2),
        (format!("http://{closed}/x/{token}"), 2),
    ];
    for (link, code) in cases {
        let done = run_bounded(linerate(["chat"]).arg(&link)).expect(code);
        assert!(!done.stderr.contains(token) && !done.stderr.is_empty(), "{done:?}");
    }
}
