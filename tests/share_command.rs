//! `linerate share`, `send`, `receive` and `peers` as commands: what they refuse, how they end, whom they let in.
#![cfg(feature = "web")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};

use common::{PATIENCE, linerate, run_bounded, signal_process, skip_unless, wait_bounded};

/// A share of the test's own, killed with it.
struct Sharing {
    child: Child,
    /// The likeliest.
    link: String,
}

impl Sharing {
    /// With that subcommand and these arguments, on a port of the kernel's choice.
    fn start(args: &[&str], folder: &Path) -> Sharing {
        let mut command = linerate(args);
        command.args(["--listen", "127.0.0.1:0"]).current_dir(folder).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut link = String::new();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        said.read_line(&mut link).unwrap();
        // Whoever says more must not wait for us.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Sharing { child, link: link.trim().to_string() }
    }

    fn address(&self) -> SocketAddr {
        let rest = self.link.split_once("://").unwrap().1;
        rest.split('/').next().unwrap().parse().unwrap()
    }

    fn token(&self) -> &str {
        self.link.rsplit('/').next().unwrap()
    }

    /// Ask over plain HTTP; gives the whole answer.
    fn ask(&self, target: &str, host: &str) -> String {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let token = self.token();
        write!(
            stream,
            "GET {target} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn host(&self) -> String {
        self.address().to_string()
    }

    fn wait(mut self) -> Option<i32> {
        wait_bounded(&mut self.child).code()
    }
}

impl Drop for Sharing {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_cannot_be_shared_is_said_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::create_dir_all(dir.path().join("sub")).unwrap();
    for (name, content) in [("a", "x"), ("sub/a", "y"), ("empty", ""), ("bad.pem", "-----BEGIN NONSENSE-----")] {
        std::fs::write(dir.path().join(name), content).unwrap();
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let (a, sub, none, bad, empty) = (path("a"), path("sub/a"), path("none"), path("bad.pem"), path("empty"));
    let table: &[(i32, &[&str], &[&str])] = &[
        (2, &["share", &a, "--listen", &taken], &[&taken, "already", "port 0"]),
        (2, &["share", &a, "--interface", "nosuch0"], &["--interface nosuch0", "choose one of"]),
        (1, &["share", &none], &["none", "cannot be shared"]),
        (1, &["share", &a, &sub], &["a:", "name of two"]),
        (2, &["share", &a, "--expires", "0"], &["--expires 0", "such as 1h"]),
        (2, &["share", &a, "--cert", &bad, "--key", &bad], &["--cert", "no certificate in PEM"]),
        (1, &["share", &a, "--cert", &none, "--key", &bad], &["--cert", "none"]),
        (2, &["share", &a, "--password-file", &empty], &["empty", "lets everybody in"]),
        (1, &["share", &a, "--password-file", &none], &["--password-file", "none"]),
        (2, &["share", &a, "--password"], &["--password", "no terminal", "LINERATE_SHARE_PASSWORD"]),
        (1, &["send", &none], &["none", "cannot be shared"]),
        (2, &["peers", "--wait", "0"], &["--wait 0s"]),
        (2, &["get", "https://nas/t/short", "x"], &["token"]),
        (2, &["put", &a, "https://nas"], &["token"]),
        (2, &["copy", "https://nas/t/x", "x"], &["linerate get and put"]),
        (2, &["get", "https://nas/t/AAAAAAAAAAAAAAAAAAAAAA", "x", "--delete", "--yes"], &["only --fingerprint"]),
    ];
    for (code, args, words) in table {
        let done = run_bounded(linerate(args.iter()).env_remove("LINERATE_SHARE_PASSWORD"));
        assert!(!done.stderr.contains("AAAAAAAA"), "{done:?}");
        done.expect_line(*code, words);
    }
    // These are told by the parser of the command line.
    for args in [&["share", &a, "--cert", &a][..], &["share", &a, "--http", "--cert", &a, "--key", &a], &["send"]] {
        run_bounded(&mut linerate(args)).expect(2);
    }
}

#[test]
fn a_folder_that_cannot_be_read_is_not_shared() {
    use std::os::unix::fs::PermissionsExt;
    if nix::unistd::geteuid().is_root() {
        eprintln!("skipped: root reads every folder");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let closed = dir.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o000)).unwrap();
    run_bounded(linerate(["share"]).arg(&closed)).expect_line(1, &["closed", "cannot read"]);
}

/// As RFC 7468 writes it.
fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

#[test]
fn a_certificate_of_ones_own_must_have_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str| {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_string()]).unwrap();
        let (cert, key) = (dir.path().join(format!("{name}.crt")), dir.path().join(format!("{name}.key")));
        std::fs::write(&cert, pem("CERTIFICATE", made.cert.der())).unwrap();
        std::fs::write(&key, pem("PRIVATE KEY", &made.signing_key.serialize_der())).unwrap();
        (cert.display().to_string(), key.display().to_string())
    };
    let ((cert, key), (_, other)) = (make("one"), make("two"));
    let args = ["share", ".", "--cert", &cert, "--key", &other];
    run_bounded(linerate(args).current_dir(&dir)).expect_line(2, &["--cert and --key do not fit together"]);
    let share = Sharing::start(&["share", ".", "--cert", &cert, "--key", &key], dir.path());
    assert!(share.link.starts_with("https://127.0.0.1:"));
}

#[test]
fn only_the_link_as_it_was_given_lets_in() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a"), "hello").unwrap();
    let share = Sharing::start(&["share", "--http", "--no-announce", "."], dir.path());
    assert_eq!(share.token().len(), 22);
    assert!(share.ask("/f/a", &share.host()).ends_with("hello"));
    // As after a change of address: nobody knows the share by that name.
    let elsewhere = share.ask("/f/a", "198.51.100.7:5291");
    assert!(elsewhere.starts_with("HTTP/1.1 421") && elsewhere.contains("not known by that name"), "{elsewhere}");
    let foreign = share.link.replace(share.token(), "AAAAAAAAAAAAAAAAAAAAAA");
    let done = run_bounded(linerate(["get", &foreign]).current_dir(&dir)).expect(5);
    assert!(
        done.stderr.contains("WARNING") && done.stderr.contains("403") && !done.stderr.contains("AAAA"),
        "{done:?}"
    );
}

#[test]
fn nobody_is_taken_for_the_share_that_is_meant() {
    let dir = tempfile::tempdir().unwrap();
    let share = Sharing::start(&["share", "."], dir.path());
    let to = dir.path().join("to").display().to_string();
    let get = |more: &[&str]| run_bounded(linerate(["get", &share.link, &to]).args(more));
    get(&[]).expect_line(2, &["--fingerprint", "answers"]);
    get(&["--fingerprint", &"ab".repeat(32)]).expect_line(5, &["somebody else answers", "ab:ab:"]);
    // A share in the clear shows no certificate, and one that is encrypted speaks no plain HTTP with a token.
    let plain = share.link.replace("https://", "http://");
    let done = run_bounded(&mut linerate(["get", &plain, &to])).expect(5);
    assert!(done.stderr.contains("https://") && !done.stderr.contains(share.token()), "{done:?}");
    run_bounded(linerate(["get", &plain, &to, "--fingerprint"]).arg("ab".repeat(32))).expect_line(2, &["in the clear"]);
    assert!(!Path::new(&to).exists());
    drop(share);
}

#[test]
fn an_expired_share_ends() {
    let dir = tempfile::tempdir().unwrap();
    let share = Sharing::start(&["share", "--http", ".", "--expires", "1ms"], dir.path());
    assert_eq!(share.wait(), Some(0));
}

#[test]
fn a_closed_standard_output_ends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = linerate(["share", ".", "--listen", "127.0.0.1:0"]);
    let mut child = command.current_dir(&dir).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("the fingerprint of this share is"), "{line}");
    assert!(child.try_wait().unwrap().is_none());
    signal_process(child.id(), libc::SIGINT);
    assert_eq!(wait_bounded(&mut child).code(), Some(0));
}

#[test]
fn the_second_interrupt_ends_what_the_first_lets_finish() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::File::create(dir.path().join("big")).unwrap().set_len(1 << 32).unwrap();
    let share = Sharing::start(&["share", "--http", "."], dir.path());
    // Somebody who takes little of a large file.
    let mut slow = TcpStream::connect(share.address()).unwrap();
    let (host, token) = (share.host(), share.token().to_string());
    write!(slow, "GET /f/big HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n").unwrap();
    slow.read_exact(&mut [0; 1000]).unwrap();
    signal_process(share.child.id(), libc::SIGINT);
    signal_process(share.child.id(), libc::SIGTERM);
    assert_eq!(share.wait(), Some(0));
}

#[test]
fn what_is_sent_once_ends_when_it_was_had() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        std::fs::write(dir.path().join(name), name.repeat(1000)).unwrap();
    }
    let share = Sharing::start(&["send", "--http", "a", "b"], dir.path());
    for name in ["a", "b"] {
        let answer = share.ask(&format!("/f/{name}"), &share.host());
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(name), "{name}");
    }
    assert_eq!(share.wait(), Some(0));
}

#[test]
fn who_may_only_add_sees_nothing_of_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let share = Sharing::start(&["receive", "--http", "inbox"], dir.path());
    std::fs::write(dir.path().join("inbox/secret-name"), "x").unwrap();
    assert!(dir.path().join("inbox").is_dir());
    let page = share.ask("/f/", &share.host());
    assert!(page.starts_with("HTTP/1.1 200") && !page.contains("secret-name"), "{page}");
    for target in ["/f/secret-name", "/api/list/"] {
        assert!(share.ask(target, &share.host()).starts_with("HTTP/1.1 403"), "{target}");
    }
    assert!(share.ask("/api/share", &share.host()).contains("[\"upload\",\"chat\"]"));
}

#[test]
fn a_share_is_heard_of_without_what_lets_in() {
    if skip_unless(std::net::UdpSocket::bind("[::]:0").is_ok(), "this machine has no IPv6") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let name = format!("of-test-{}", std::process::id());
    std::fs::create_dir(dir.path().join(&name)).unwrap();
    let mut command = linerate(["share", &name, "--listen", "[::]:0"]);
    let mut child = command.current_dir(&dir).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut link = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut link).unwrap();
    let token = link.trim().rsplit('/').next().unwrap().to_string();
    let done = run_bounded(&mut linerate(["peers", "--json", "--wait", "3s"])).expect(0);
    signal_process(child.id(), libc::SIGINT);
    wait_bounded(&mut child);
    assert!(!token.is_empty() && !done.stdout.contains(&token));
    let peers: Vec<serde_json::Value> = serde_json::from_str(&done.stdout).unwrap();
    match peers.iter().find(|peer| peer["title"] == name.as_str()) {
        Some(peer) => assert!(peer["https"] == true && peer["fingerprint"].as_str().unwrap().len() == 95, "{peer}"),
        None => eprintln!("skipped: no multicast reaches this machine from itself"),
    }
}
