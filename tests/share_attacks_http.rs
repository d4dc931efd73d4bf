//! Requests to a share that are no HTTP, or HTTP that may be read in two ways: refused, and the connection closed.
#![cfg(feature = "web")]

mod common;

use std::io::{BufReader, Write};

use common::attack::{canary, exchange, heard, shown};
use common::share::{Share, read_reply};
use common::{folder, names_in, status_kib};

fn sample(args: &[&str]) -> (tempfile::TempDir, Share) {
    let dir = folder();
    std::fs::write(dir.path().join("a.txt"), "hello").unwrap();
    let share = Share::start(args, dir.path());
    (dir, share)
}

/// Nobody else was kept from anything.
fn still_serves(share: &Share) {
    assert_eq!(share.request("GET /f/a.txt", &[&share.bearer()], b"").text(), "hello");
}

#[test]
fn heads_that_may_be_read_in_two_ways_are_refused_and_nothing_behind_them_is_read() {
    let (dir, share) = sample(&["--upload"]);
    let (host, bearer) = (share.authority(), share.bearer());
    for lines in [
        "X: a\r\n b",
        "X : a",
        " X: a",
        "X: a\rY: b",
        "X: a\0b",
        "X",
        ": a",
        "X\u{e4}: a",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding:\r\n chunked",
        "Content-Length: -1",
        "Content-Length: +5",
        "Content-Length: 5, 5",
        "Content-Length: 5 5",
        "Content-Length: 0x5",
        "Content-Length:",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 99999999999999999999",
        "Content-Length: 18446744073709551615",
    ] {
        let head = format!("PUT /f/x HTTP/1.1\r\nHost: {host}\r\n{bearer}\r\n{lines}\r\n\r\n");
        let heard = exchange(&share, &[head.as_bytes(), b"0\r\n\r\n"].concat());
        assert!(matches!(heard.statuses[..], [400 | 431]) && !heard.goes_on, "{lines:?}: {heard:?}");
    }
    for line in [
        "GET /f/a\0.txt HTTP/1.1",
        "GET /f/a .txt HTTP/1.1",
        "GET  /f/a.txt HTTP/1.1",
        "GET /f/a.txt HTTP/1.2",
        "GET /f/a.txt HTTP/3.0",
        "GET /f/a.txt HTTP/0.9",
        "GET /f/a.txt",
        "/f/a.txt",
        "G\u{e4}T /f/a.txt HTTP/1.1",
        "GET /f/a\u{7f}.txt HTTP/1.1",
        "\0",
    ] {
        let heard = exchange(&share, format!("{line}\r\nHost: {host}\r\n{bearer}\r\n\r\n").as_bytes());
        assert!(matches!(heard.statuses[..], [400]) && !heard.goes_on, "{line:?}: {heard:?}");
    }
    // In codings that are not undone here a file would be stored as something else.
    for lines in ["Transfer-Encoding: gzip, chunked", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"] {
        let head = format!("PUT /f/x HTTP/1.1\r\nHost: {host}\r\n{bearer}\r\n{lines}\r\n\r\n");
        let heard = exchange(&share, &[head.as_bytes(), b"2\r\nab\r\n0\r\n\r\n"].concat());
        assert!(matches!(heard.statuses[..], [501]) && !heard.goes_on, "{lines:?}: {heard:?}");
    }
    assert_eq!(names_in(dir.path()), ["a.txt"]);
    still_serves(&share);
}

#[test]
fn a_length_beside_chunks_counts_for_nothing_and_ends_the_connection() {
    let (dir, share) = sample(&["--upload"]);
    for (name, lines) in [
        ("one", ["Content-Length: 3", "Transfer-Encoding: chunked"]),
        ("two", ["Transfer-Encoding: chunked", "Content-Length: 3"]),
        ("three", ["Content-Length: 0", "Transfer-Encoding: chunked"]),
    ] {
        let head = shown(&share, &format!("PUT /f/{name}"), &lines, b"");
        let smuggled = shown(&share, "PUT /f/smuggled", &[], b"x");
        let heard = exchange(&share, &[&head[..], b"2\r\nab\r\n0\r\n\r\n", &smuggled].concat());
        assert!(matches!(heard.statuses[..], [201]) && !heard.goes_on, "{lines:?}: {heard:?}");
    }
    assert_eq!(names_in(dir.path()), ["a.txt", "one", "three", "two"]);
    assert!(["one", "two", "three"].iter().all(|name| std::fs::read(dir.path().join(name)).unwrap() == b"ab"));
}

#[test]
fn chunks_that_are_none_leave_nothing() {
    let (dir, share) = sample(&["--upload"]);
    let (extension, trailers) = ("x".repeat(100_000), "X: y\r\n".repeat(10_000));
    for body in [
        "FFFFFFFFFFFFFFFFF\r\nab",
        "FFFFFFFFFFFFFFFF\r\nab\r\n0\r\n\r\n",
        "-1\r\nab",
        "0x2\r\nab\r\n0\r\n\r\n",
        " 2\r\nab\r\n0\r\n\r\n",
        "2\nab\n0\n\n",
        "2\r\nabc\r\n0\r\n\r\n",
        "2\r\na\r\n0\r\n\r\n",
        "2\r\nab",
        "2\r\nab\r\n",
        "2\r\nab\r\n0\r\n",
        &format!("2;{extension}\r\nab\r\n0\r\n\r\n"),
        &format!("2\r\nab\r\n0\r\n{trailers}\r\n"),
    ] {
        let head = shown(&share, "PUT /f/x", &["Transfer-Encoding: chunked"], b"");
        let mut stream = share.connect();
        let _ = stream.write_all(&[&head[..], body.as_bytes()].concat());
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let heard = heard(&mut stream);
        assert!(!heard.statuses.contains(&201), "{body:.40}: {heard:?}");
    }
    common::wait_until("nothing partial is left", || names_in(dir.path()) == ["a.txt"]);
}

#[test]
fn a_request_names_one_host_that_is_ours() {
    let (_dir, share) = sample(&[]);
    let (ours, bearer) = (share.authority(), share.bearer());
    let ask = |target: &str, hosts: &[&str]| {
        let hosts: String = hosts.iter().map(|host| format!("Host: {host}\r\n")).collect();
        exchange(&share, format!("GET {target} HTTP/1.1\r\n{hosts}{bearer}\r\n\r\n").as_bytes())
    };
    for (target, hosts, status) in [
        ("/f/a.txt", &[][..], 400),
        ("/f/a.txt", &[ours, ours], 400),
        ("/f/a.txt", &[ours, "evil.example"], 400),
        ("/f/a.txt", &[""], 421),
        ("/f/a.txt", &["evil.example"], 421),
        ("/f/a.txt", &["127.0.0.1"], 421),
        ("/f/a.txt", &["127.0.0.1:1"], 421),
        ("/f/a.txt", &[&format!("{ours}.evil.example")], 421),
        ("/f/a.txt", &[&format!("evil@{ours}")], 421),
        ("/f/a.txt", &[&format!("{ours}, {ours}")], 421),
        ("/f/a.txt", &[&format!("{ours}\u{e4}")], 421),
        ("http://evil.example/f/a.txt", &[ours], 421),
        (&format!("http://evil@{ours}/f/a.txt"), &[ours], 421),
        (&format!("http://{ours}/f/a.txt"), &["evil.example"], 421),
        ("evil.example:443", &[ours], 421),
    ] {
        let heard = ask(target, hosts);
        assert!(heard.statuses == [status] && !heard.goes_on, "{target} {hosts:?}: {heard:?}");
        assert!(!heard.text.contains("hello") && !heard.text.contains("evil"), "{target} {hosts:?}: {heard:?}");
    }
    let connect = format!("CONNECT evil.example:443 HTTP/1.1\r\nHost: {ours}\r\n{bearer}\r\n\r\n");
    let heard = exchange(&share, connect.as_bytes());
    assert!(matches!(heard.statuses[..], [421]) && !heard.goes_on, "{heard:?}");
    // As a proxy is asked, and in other letters, it is still the same.
    for (target, host) in [(format!("http://{ours}/f/a.txt"), ours), ("/f/a.txt".to_string(), ours)] {
        assert!(ask(&target, &[host]).text.contains("hello"));
    }
}

#[test]
fn methods_that_mean_nothing_here_do_nothing() {
    let (dir, share) = sample(&["--upload", "--allow", "view,download,delete,chat"]);
    for method in
        ["TRACE", "MOVE", "COPY", "PROPFIND", "MKCOL", "LOCK", "PATCH", "POST", "PURGE", "X".repeat(100).as_str()]
    {
        let reply = share.http(&shown(&share, &format!("{method} /f/a.txt"), &["Destination: /f/b"], b""));
        assert!(matches!(reply.status, 400 | 405), "{method}: {reply:?}");
        let text = reply.text();
        assert!(!text.contains(&share.token) && !text.contains("Destination"), "{method}: {text}");
    }
    assert_eq!(exchange(&share, &shown(&share, "OPTIONS *", &[], b"")).statuses[0], 404);
    assert_eq!(names_in(dir.path()), ["a.txt"]);
}

#[test]
fn other_protocols_are_not_spoken() {
    let (_dir, share) = sample(&[]);
    let garbage: Vec<u8> = (0..5000u32).flat_map(|n| n.wrapping_mul(0x9e37_79b9).to_be_bytes()).collect();
    // The preface of HTTP/2, streams that are opened and reset at once, a head that goes on and on.
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    let reset = b"\0\0\x01\x01\x04\0\0\0\x01\x82\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08".repeat(10_000);
    let goes_on = b"\0\0\x01\x09\0\0\0\0\x01\x82".repeat(10_000);
    let hello = [&b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"[..], &garbage].concat();
    for bytes in [
        [&preface[..], &reset].concat(),
        [&preface[..], b"\0\0\x01\x01\0\0\0\0\x01\x82", &goes_on].concat(),
        hello,
        garbage,
        b"SSH-2.0-OpenSSH_9.9\r\n".to_vec(),
        b"\r\n".repeat(100_000),
        b"\0".repeat(100_000),
        b"EHLO evil.example\r\nMAIL FROM:<a@b>\r\n".to_vec(),
    ] {
        let heard = exchange(&share, &bytes);
        assert!(matches!(heard.statuses[..], [] | [400 | 431]) && !heard.goes_on, "{:?}: {heard:?}", &bytes[..10]);
    }
    // Nobody changes to another protocol in the middle either.
    for upgrade in ["h2c", "websocket", "TLS/1.0"] {
        let headers =
            ["Connection: Upgrade, HTTP2-Settings", &format!("Upgrade: {upgrade}"), "HTTP2-Settings: AAMAAABk"];
        let heard = exchange(&share, &shown(&share, "GET /f/a.txt", &headers, b""));
        assert!(heard.statuses.iter().all(|status| *status == 200), "{upgrade}: {heard:?}");
        assert!(heard.text.contains("hello"), "{upgrade}: {heard:?}");
    }
    still_serves(&share);
}

#[test]
fn heads_beyond_all_bounds_are_refused() {
    let (_dir, share) = sample(&[]);
    let (host, bearer) = (share.authority(), share.bearer());
    let many: String = (0..100_000).map(|n| format!("X-{n}: {n}\r\n")).collect();
    let long = "a".repeat(1 << 20);
    for head in [
        format!("GET /f/a.txt HTTP/1.1\r\nHost: {host}\r\n{bearer}\r\n{many}\r\n"),
        format!("GET /f/a.txt HTTP/1.1\r\nHost: {host}\r\n{bearer}\r\n{}\r\n", &"X: y\r\n".repeat(65)),
        format!("GET /f/a.txt HTTP/1.1\r\nHost: {host}\r\n{bearer}\r\nX: {long}\r\n\r\n"),
        format!("GET /f/a.txt HTTP/1.1\r\nHost: {host}\r\n{bearer}\r\nCookie: {}\r\n\r\n", "lr=x; ".repeat(1 << 18)),
        format!("GET /f/a.txt HTTP/1.1\r\nHost: {host}\r\n{bearer}\r\n{long}: x\r\n\r\n"),
        format!("GET /f/{long} HTTP/1.1\r\nHost: {host}\r\n{bearer}\r\n\r\n"),
        format!("GET /f/?sort={long} HTTP/1.1\r\nHost: {host}\r\n{bearer}\r\n\r\n"),
        format!("{long} /f/a.txt HTTP/1.1\r\nHost: {host}\r\n{bearer}\r\n\r\n"),
    ] {
        let heard = exchange(&share, head.as_bytes());
        // Nothing, where the connection was cut while more was sent.
        assert!(matches!(heard.statuses[..], [] | [400 | 414 | 431]) && !heard.goes_on, "{head:.60}: {heard:?}");
    }
    still_serves(&share);
}

#[test]
fn numbers_beyond_all_bounds_are_pages_without_rows() {
    let (_dir, share) = sample(&[]);
    let get = |target: &str| share.http(&shown(&share, &format!("GET {target}"), &["Accept: text/html"], b""));
    for number in ["0", "1", "4294967296", "18446744073709551615"] {
        let page = get(&format!("/f/?page={number}"));
        assert!(page.status == 200 && page.text().contains("a.txt") == (number.len() == 1), "{number}");
        let list = get(&format!("/api/list/?offset={number}&limit=18446744073709551615"));
        assert!(list.status == 200 && list.text().contains("a.txt") == (number == "0"), "{number}");
    }
    for bad in ["-1", "+-1", "x", "", "1e9", "18446744073709551616", "%00"] {
        for target in [format!("/f/?page={bad}"), format!("/api/list/?offset={bad}"), format!("/api/list/?limit={bad}")]
        {
            let reply = get(&target);
            assert_eq!(reply.status, 400, "{target}");
            let kind = if target.starts_with("/api") { "application/json" } else { "text/html; charset=utf-8" };
            assert_eq!(reply.header("content-type"), Some(kind), "{target}");
        }
    }
}

#[test]
fn ten_thousand_requests_at_once_are_answered_in_order_and_kept_nowhere() {
    const COUNT: usize = 10_000;
    let (_dir, share) = sample(&[]);
    let one = shown(&share, "HEAD /a/icon.svg", &[], b"");
    // Somebody who takes none of the answers.
    let mut deaf = share.connect();
    deaf.set_nonblocking(true).unwrap();
    let all = one.repeat(COUNT);
    let _ = deaf.write(&all);
    let stream = share.connect();
    let mut sender = stream.try_clone().unwrap();
    let last = canary(&share);
    let sending = std::thread::spawn(move || {
        sender.write_all(&all).unwrap();
        sender.write_all(&last).unwrap();
    });
    let mut from = BufReader::new(stream);
    for _ in 0..COUNT {
        assert_eq!(read_reply(&mut from, true).status, 200);
    }
    assert!(read_reply(&mut from, false).text().contains("<svg"));
    sending.join().unwrap();
    assert!(status_kib(share.pid(), "VmRSS").unwrap() < 150 << 10);
    still_serves(&share);
}
