//! The room of a share, its events, and what its owner sees, by the whole program.

#![cfg(feature = "web")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use common::share::{Reply, Share};
use common::{file_of, folder, linerate, run_bounded, wait_until};

/// An event stream that is read.
struct Listening {
    from: BufReader<TcpStream>,
    /// The status, and all lines so far.
    heard: Vec<String>,
}

impl Listening {
    fn begin(share: &Share, target: &str, headers: &[&str]) -> Listening {
        let mut stream = share.connect();
        stream.write_all(&share.bytes(&format!("GET {target}"), headers, b"")).unwrap();
        let mut listening = Listening { from: BufReader::new(stream), heard: Vec::new() };
        listening.next();
        listening
    }

    fn status(&self) -> u16 {
        self.heard[0].split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// One more line; false at the end.
    fn next(&mut self) -> bool {
        let mut line = Vec::new();
        let more = self.from.read_until(b'\n', &mut line).unwrap() > 0;
        self.heard.push(String::from_utf8(line).unwrap().trim_end().to_string());
        more
    }

    /// The data of the next event of that name.
    #[track_caller]
    fn wait_for(&mut self, event: &str) -> serde_json::Value {
        let mark = format!("event: {event}");
        loop {
            assert!(self.next(), "no {event}: {:#?}", self.heard);
            if self.heard.last() == Some(&mark) {
                assert!(self.next());
                let data = self.heard.last().unwrap().strip_prefix("data: ").unwrap();
                return serde_json::from_str(data).unwrap();
            }
        }
    }

    fn read_all(&mut self) -> String {
        while self.next() {}
        self.heard.join("\n")
    }
}

fn say(share: &Share, headers: &[&str], nick: &str, text: &str) -> Reply {
    let body = serde_json::json!({ "nick": nick, "text": text }).to_string();
    let headers = [headers, &["Content-Type: application/json"]].concat();
    share.request("POST /api/chat", &headers, body.as_bytes())
}

fn own_origin(share: &Share) -> String {
    format!("Origin: {}", share.origin)
}

#[test]
fn what_is_said_reaches_all_and_whoever_comes_later_as_text_only() {
    let dir = folder();
    let share = Share::start(&[], dir.path());
    let (ann, bob, origin) = (share.enter(), share.enter(), own_origin(&share));
    let mut one = Listening::begin(&share, "/api/events?nick=Ann", &[&ann]);
    assert_eq!(one.status(), 200);
    let hello = one.wait_for("hello");
    assert_eq!(hello["nick"], "Ann");
    // The same name in other letters, with what turns text around, is another.
    let mut two = Listening::begin(&share, "/api/events?nick=aNN%E2%80%AE%0A%1B", &[&bob]);
    assert_eq!(two.wait_for("hello")["nick"], "aNN 2");
    let text = "<img src=x onerror=alert(1)> /f/a\u{202e}\u{1b}[2J\u{0}\nnext";
    assert_eq!(say(&share, &[&ann, &origin], "Ann", text).status, 204);
    for listening in [&mut one, &mut two] {
        let said = listening.wait_for("chat");
        assert_eq!(said["text"], "<img src=x onerror=alert(1)> /f/a[2J\nnext");
        assert_eq!((&said["from"], &said["n"], &said["nick"]), (&hello["you"], &1.into(), &"Ann".into()));
    }
    assert_eq!(say(&share, &[&bob, &origin], &"n".repeat(10_000), "second").status, 204);
    let said = two.wait_for("chat");
    assert_eq!(said["nick"].as_str().unwrap().len(), 40);
    // Somebody who has the first gets the second only; somebody new gets both.
    let mut late = Listening::begin(&share, "/api/events", &[&ann, "Last-Event-ID: 1"]);
    assert_eq!(late.wait_for("chat")["n"], 2);
    let mut new = Listening::begin(&share, &format!("/api/events?nick={}", "x".repeat(10_000)), &[&share.bearer()]);
    assert_eq!(new.wait_for("hello")["nick"].as_str().unwrap().len(), 40);
    assert_eq!(new.wait_for("chat")["n"], 1);
    assert_eq!(new.wait_for("chat")["n"], 2);
    let who = new.wait_for("who");
    assert_eq!(who["people"].as_array().unwrap().len(), 3, "{who}");
    // Whoever goes is not here any more.
    drop((one, new));
    loop {
        let people = late.wait_for("who")["people"].as_array().unwrap().len();
        if people == 2 {
            break;
        }
    }
}

#[test]
fn bad_messages_and_floods_are_refused() {
    let dir = folder();
    let share = Share::start(&[], dir.path());
    let (ann, origin) = (share.enter(), own_origin(&share));
    let both = [ann.as_str(), origin.as_str()];
    assert_eq!(say(&share, &both, "Ann", "  \u{200b} ").status, 400);
    assert_eq!(say(&share, &both, "Ann", &"x".repeat(2001)).status, 413);
    assert_eq!(say(&share, &both, "Ann", &"x".repeat(1 << 20)).status, 413);
    let json = [&both[..], &["Content-Type: application/json"]].concat();
    for body in ["", "{", "[]", "{\"text\":5}", "{\"nick\":\"x\"}", "\u{0}"] {
        let reply = share.request("POST /api/chat", &json, body.as_bytes());
        assert_eq!(reply.status, 400, "{body:?}");
        assert!(reply.text().starts_with("{\"error\":\""), "{reply:?}");
    }
    assert_eq!(share.request("POST /api/chat", &both, b"{\"text\":\"x\"}").status, 415);
    let form = [&both[..], &["Content-Type: text/plain; application/json"]].concat();
    assert_eq!(share.request("POST /api/chat", &form, b"{\"text\":\"x\"}").status, 415);
    let flood = (0..1000).map(|_| say(&share, &both, "Ann", "x")).find(|reply| reply.status != 204).unwrap();
    assert_eq!(flood.status, 429);
    assert!(flood.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
}

#[test]
fn only_pages_of_the_share_speak_with_its_cookie() {
    let dir = folder();
    let share = Share::start(&[], dir.path());
    let ann = share.enter();
    let own = own_origin(&share);
    let foreign =
        ["Origin: null", "Origin: http://evil.example", "Origin: https://127.0.0.1", "Sec-Fetch-Site: cross-site"];
    for headers in foreign.iter().map(|origin| vec![&*ann, *origin]).chain([vec![&*ann]]) {
        assert_eq!(say(&share, &headers, "Ann", "x").status, 403, "{headers:?}");
    }
    // Two names for where it comes from: the origin decides.
    assert_eq!(say(&share, &[&ann, "Origin: null", "Sec-Fetch-Site: same-origin"], "Ann", "x").status, 403);
    assert_eq!(say(&share, &[&own], "Ann", "x").status, 401);
    assert_eq!(say(&share, &[&ann, &own], "Ann", "x").status, 204);
    assert_eq!(say(&share, &[&share.bearer()], "curl", "x").status, 204);
    assert_eq!(share.request("GET /api/events", &[], b"").status, 401);
}

#[test]
fn without_the_right_nobody_speaks_or_hears() {
    let dir = folder();
    let share = Share::start(&["--allow", "view,download"], dir.path());
    let (ann, origin) = (share.enter(), own_origin(&share));
    let refused = say(&share, &[&ann, &origin], "Ann", "x");
    assert_eq!((refused.status, refused.text().as_str()), (403, "{\"error\":\"This share does not allow chat.\"}"));
    let mut listening = Listening::begin(&share, "/api/events?nick=Ann", &[&ann]);
    assert_eq!(listening.wait_for("hello")["nick"], "");
    share.signal(libc::SIGINT);
    let heard = listening.read_all();
    assert!(heard.contains("event: bye") && !heard.contains("event: who") && !heard.contains("event: chat"), "{heard}");
    let done = share.wait().expect(0);
    assert!(done.stderr.contains("refused 127.0.0.1: POST /api/chat"), "{done:?}");
}

#[test]
fn two_thousand_streams_of_one_visitor_are_too_many() {
    let dir = folder();
    let share = Share::start(&[], dir.path());
    let ann = share.enter();
    let mut open = Vec::new();
    for _ in 0..2000 {
        let listening = Listening::begin(&share, "/api/events", &[&ann]);
        match listening.status() {
            200 => open.push(listening),
            other => assert_eq!(other, 429),
        }
    }
    assert_eq!(open.len(), 16);
    // Others are not kept out, and a place that is given back is taken again.
    assert_eq!(Listening::begin(&share, "/api/events", &[&share.enter()]).status(), 200);
    assert_eq!(share.request("GET /f/", &[&ann], b"").status, 200);
    drop(open);
    wait_until("a stream can be opened again", || Listening::begin(&share, "/api/events", &[&ann]).status() == 200);
}

#[test]
fn the_end_is_told_and_does_not_wait_for_those_who_do_not_listen() {
    let dir = folder();
    let share = Share::start(&[], dir.path());
    let (ann, origin) = (share.enter(), own_origin(&share));
    for _ in 0..9 {
        assert_eq!(say(&share, &[&ann, &origin], "Ann", &"🦀".repeat(2000)).status, 204);
    }
    // One who reads nothing of all that, into as little room as there can be.
    let stuck = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    stuck.set_recv_buffer_size(1).unwrap();
    let address: std::net::SocketAddr = share.authority().parse().unwrap();
    stuck.connect(&address.into()).unwrap();
    let mut stuck = TcpStream::from(stuck);
    stuck.write_all(&share.bytes("GET /api/events", &[&ann], b"")).unwrap();
    let mut listening = Listening::begin(&share, "/api/events", &[&ann]);
    listening.wait_for("who");
    share.signal(libc::SIGINT);
    assert_eq!(listening.wait_for("bye")["why"], "The share has ended.");
    listening.read_all();
    let done = share.wait().expect(0);
    assert!(done.stderr.contains("shared for") && done.stderr.contains("1 visitor"), "{done:?}");
}

#[test]
fn a_download_may_finish_after_ctrl_c_and_a_second_one_cuts_it() {
    let dir = folder();
    let len = 16 << 20;
    file_of(dir.path(), "big", len);
    for is_cut in [false, true] {
        let share = Share::start(&[], dir.path());
        let mut stream = share.connect();
        stream.write_all(&share.bytes("GET /f/big", &[&share.bearer()], b"")).unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert!(line.contains(" 200 "), "{line}");
        share.signal(libc::SIGINT);
        // Nobody new comes in.
        wait_until("the port is closed", || TcpStream::connect(share.authority()).is_err());
        if is_cut {
            share.signal(libc::SIGINT);
            let done = share.wait().expect(0);
            assert!(done.stderr.contains("ending: 1 transfer has 5 s to finish"), "{done:?}");
            assert!(done.stderr.contains("did not get all of big"), "{done:?}");
            continue;
        }
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        assert!(rest.len() > len, "{}", rest.len());
        let done = share.wait().expect(0);
        assert!(done.stderr.contains("127.0.0.1 got big: 16.8 MB"), "{done:?}");
        assert!(done.stderr.contains("1 transfer, sent 16.8 MB"), "{done:?}");
    }
}

/// Whether nothing is said but that --http is in the clear, which no option silences.
fn only_warns(stderr: &str) -> bool {
    stderr.lines().all(|line| line.contains("WARNING: --http"))
}

#[test]
fn the_access_log_has_a_line_for_each_request_and_no_token() {
    let dir = folder();
    file_of(dir.path(), "a\"b", 5);
    let logs = folder();
    let log = logs.path().join("log");
    let share = Share::start(&["--access-log", log.to_str().unwrap(), "-q"], dir.path());
    let ann = share.enter();
    let token = share.token.clone();
    assert_eq!(share.request("GET /f/a%22b", &[&ann], b"").status, 200);
    assert_eq!(share.request(&format!("GET /x/{token}/y?{token}"), &[], b"").status, 404);
    assert_eq!(share.request(&format!("GET /{}{token}", "x".repeat(180)), &[], b"").status, 404);
    assert_eq!(share.request("GET /%1b%5b2J%e2%80%ae%0a", &[], b"").status, 404);
    let done = share.end().expect(0);
    assert!(only_warns(&done.stderr), "{done:?}");
    let log = std::fs::read_to_string(log).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len(), 5, "{log}");
    assert!(lines[0].starts_with("127.0.0.1 - - [") && lines[0].contains("\"GET /t/… HTTP/1.1\" 200 "), "{log}");
    assert!(lines[1].contains(" - v1 [") && lines[1].ends_with("\"GET /f/a\\\"b HTTP/1.1\" 200 5"), "{log}");
    assert!(!log.contains(&token[..12]) && !log.contains('\u{1b}') && !log.contains('\u{202e}'), "{log}");
    let mut unwritable = linerate(["share", "--http", "--listen", "127.0.0.1:0", "--access-log", "/nowhere/log"]);
    run_bounded(unwritable.arg(dir.path())).expect_line(1, &["--access-log /nowhere/log", "No such file"]);
}

#[test]
fn events_are_json_on_standard_output_and_nobody_has_to_read_them() {
    let dir = folder();
    file_of(dir.path(), "a", 5);
    let share = Share::start(&["--json"], dir.path());
    let first: serde_json::Value = serde_json::from_str(&share.first).unwrap();
    assert_eq!((&first["event"], first["links"][0].is_string()), (&"share".into(), true));
    let (ann, origin) = (share.enter(), own_origin(&share));
    assert_eq!(share.request("GET /f/a", &[&ann], b"").status, 200);
    assert_eq!(say(&share, &[&ann, &origin], "Ann", "a\nb").status, 204);
    let done = share.end().expect(0);
    let events: Vec<serde_json::Value> = done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |name: &str| events.iter().find(|event| event["event"] == name).unwrap_or_else(|| panic!("{done:?}"));
    assert_eq!((&of("entered")["visitor"], &of("entered")["from"]), (&1.into(), &"127.0.0.1".into()));
    assert_eq!((&of("began")["name"], &of("began")["bytes_expected"]), (&"a".into(), &5.into()));
    assert_eq!((&of("ended")["complete"], &of("ended")["bytes"]), (&true.into(), &5.into()));
    assert_eq!((&of("said")["nick"], &of("said")["text"]), (&"Ann".into(), &"a\nb".into()));
    assert_eq!((&of("end")["sent"], &of("end")["visitors"]), (&5.into(), &1.into()));
    assert!(events.iter().all(|event| event["time"].is_string()) && only_warns(&done.stderr), "{done:?}");

    // A reader that goes away ends the events, and nothing else.
    let mut share = Share::start(&["--json"], dir.path());
    share.close_stdout();
    for _ in 0..3 {
        let ann = share.enter();
        assert_eq!(share.request("GET /f/a", &[&ann], b"").status, 200);
    }
    share.end().expect(0);
}
