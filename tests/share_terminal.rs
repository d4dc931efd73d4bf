//! `linerate share` on a terminal: what its owner sees of it, on a screen of 80 by 24 and on smaller ones.
#![cfg(feature = "web")]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use common::pty::{Pty, foreign_controls};
use common::{PATIENCE, folder, linerate};

/// Pixels of a half block's side.
const SCALE: usize = 4;

fn share(args: &[&str], dir: &Path) -> Command {
    let mut command = linerate(["share", "--no-announce", "--listen", "127.0.0.1:0"]);
    command.args(args).arg(dir);
    command
}

/// The link that the screen shows, at the beginning of a row, even where it goes on in the next.
fn link(screen: &vt100::Screen) -> Option<String> {
    let width = usize::from(screen.size().1);
    let rows: Vec<String> = screen.rows(0, screen.size().1).collect();
    let at = rows.iter().rposition(|row| row.starts_with("http"))?;
    let mut text = rows[at].trim_end().to_string();
    if text.chars().count() == width {
        text += rows.get(at + 1)?.trim_end();
    }
    (text.split_once("/t/")?.1.len() == 22).then_some(text)
}

/// What a camera reads from the screen of a terminal whose own background is that bright.
fn read_code(screen: &vt100::Screen, background: u8) -> Option<String> {
    let (rows, columns) = screen.size();
    let (width, height) = (usize::from(columns) * SCALE, usize::from(rows) * 2 * SCALE);
    let shade = |colour: vt100::Color, own: u8| match colour {
        vt100::Color::Default => own,
        vt100::Color::Idx(16) => 0,
        vt100::Color::Idx(231) => 255,
        other => panic!("a colour that themes may change: {other:?}"),
    };
    let brightness = |x: usize, y: usize| {
        let (row, half) = (y / SCALE / 2, y / SCALE % 2);
        let cell = screen.cell(row as u16, (x / SCALE) as u16).unwrap();
        let (ink, paper) = (shade(cell.fgcolor(), 255 - background), shade(cell.bgcolor(), background));
        match (cell.contents(), half) {
            ("█", _) | ("▀", 0) | ("▄", 1) => ink,
            _ => paper,
        }
    };
    let mut image = rqrr::PreparedImage::prepare_from_greyscale(width, height, brightness);
    let grids = image.detect_grids();
    grids.iter().find_map(|grid| grid.decode().ok()).map(|(_, text)| text)
}

fn has_code(screen: &vt100::Screen) -> bool {
    screen.contents().contains(['▀', '▄', '█'])
}

#[test]
fn the_code_is_read_by_a_camera_on_dark_and_light_and_all_is_in_sight() {
    let dir = folder();
    let pty = Pty::start(&mut share(&[], dir.path()), (24, 80));
    let link = pty.wait("the link and the live line", |screen| {
        link(screen).filter(|_| screen.contents().contains("0 here · 0 transfers"))
    });
    for background in [0, 255] {
        let read = pty.wait("a code", |screen| read_code(screen, background));
        assert_eq!(read, link, "on {background}");
    }
    let contents = pty.contents();
    let joined: String = contents.split('\n').collect();
    let fingerprint = joined.split("SHA-256 ").nth(1).unwrap_or_else(|| panic!("{contents}"));
    let is_whole = |text: &str| text.len() == 95 && text.split(':').all(|byte| byte.len() == 2);
    assert!(is_whole(&fingerprint[..95]), "{contents}");
    pty.signal(libc::SIGTERM);
    let (code, said) = pty.finish();
    assert_eq!(code, Some(0));
    assert!(said.contains("shared for") && foreign_controls(&said).is_empty(), "{:?}", foreign_controls(&said));
}

#[test]
fn a_terminal_that_is_too_small_shows_the_link_and_why_there_is_no_code() {
    let dir = folder();
    for (size, why) in [((10, 80), "too few lines"), ((24, 30), "too narrow"), ((24, 40), "")] {
        let pty = Pty::start(&mut share(&["--http"], dir.path()), size);
        let link = pty.wait("the link", |screen| link(screen).filter(|_| screen.contents().contains("0 here")));
        let (has_code, read) = pty.wait("the screen", |screen| Some((has_code(screen), read_code(screen, 0))));
        if why.is_empty() {
            assert_eq!(read, Some(link), "{size:?}");
        } else {
            assert!(!has_code && pty.said().contains(why), "{size:?}: {}", pty.said());
        }
        pty.keys("\x03");
        assert_eq!(pty.finish().0, Some(0));
    }
}

#[test]
fn another_size_of_the_window_is_drawn_for() {
    let dir = folder();
    let pty = Pty::start(&mut share(&["--http"], dir.path()), (10, 80));
    // The live line is the last: from then on another size is another size.
    let first = pty.wait("the link", |screen| link(screen).filter(|_| screen.contents().contains("0 here")));
    assert!(pty.said().contains("too few lines"));
    pty.resize((24, 80));
    let read = pty.wait("a code", |screen| read_code(screen, 0).filter(|_| screen.contents().contains("0 here")));
    assert_eq!(read, first);
    pty.resize((24, 30));
    pty.wait_text("too narrow");
    assert_eq!(pty.wait("the link on two rows", link), first);
    pty.wait("one live line", |screen| (screen.contents().matches("0 here").count() == 1).then_some(()));
    pty.resize((40, 100));
    assert_eq!(pty.wait("a code", |screen| read_code(screen, 255)), first);
    pty.signal(libc::SIGINT);
    assert_eq!(pty.finish().0, Some(0));
}

/// A visitor of a share in the clear.
struct Visitor {
    address: SocketAddr,
    token: String,
}

impl Visitor {
    fn of(link: &str) -> Visitor {
        let rest = link.strip_prefix("http://").unwrap();
        let (address, token) = rest.split_once("/t/").unwrap();
        Visitor { address: address.parse().unwrap(), token: token.to_string() }
    }

    /// Send a request; its answer is read by whoever wants it.
    fn send(&self, line: &str, headers: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let Visitor { address, token } = self;
        let head = format!("{line} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n{headers}\r\n");
        stream.write_all((head + body).as_bytes()).unwrap();
        stream
    }

    fn chat(&self, nick: &str, text: &str) {
        let body = serde_json::json!({ "nick": nick, "text": text }).to_string();
        let headers = format!(
            "Origin: http://{}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n",
            self.address,
            body.len()
        );
        let mut answer = String::new();
        self.send("POST /api/chat", &headers, &body).read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 2"), "{answer}");
    }
}

#[test]
fn who_moves_what_and_how_much_is_seen_while_it_goes() {
    let dir = folder();
    for name in ["film", "song"] {
        std::fs::File::create(dir.path().join(name)).unwrap().set_len(1 << 30).unwrap();
    }
    let pty = Pty::start(&mut share(&["--http", "--upload"], dir.path()), (24, 100));
    let visitor = Visitor::of(&pty.wait("the link", link));
    // Two who take little of a lot, and one who sends the first part of something.
    let mut film = visitor.send("GET /f/film", "", "");
    let mut song = visitor.send("GET /f/song", "", "");
    film.read_exact(&mut [0; 1000]).unwrap();
    song.read_exact(&mut [0; 1000]).unwrap();
    let letter = visitor.send("PUT /f/letter", "Content-Length: 10000000\r\n", &"x".repeat(3_000_000));
    visitor.chat("Ann", "hello all");
    pty.wait_text("Ann: hello all");
    pty.wait_line(&["gets film", "of 1.07 GB", "/s", "127.0.0.1"]);
    pty.wait_line(&["gets song", "of 1.07 GB", "/s"]);
    pty.wait_line(&["sends letter", "of 10.0 MB", "/s"]);
    let whole = pty.wait_line(&["here", "3 transfers", "/s", "sent", "received"]);
    assert!(whole.chars().count() <= 100, "{whole}");
    drop((film, song, letter));
    pty.wait_line(&["0 transfers"]);
    pty.wait_text("did not get all of film");
    pty.wait_text("did not send all of letter");
    // Nothing of them is left below.
    pty.wait("one line below", |screen| {
        let contents = screen.contents();
        (!contents.contains("gets film ·") && contents.matches(" here ·").count() == 1).then_some(())
    });
    pty.keys("\x03");
    assert_eq!(pty.finish().0, Some(0));
}

#[test]
fn no_name_and_no_message_acts_on_the_terminal_or_in_the_log() {
    let dir = folder();
    let log = folder();
    let log = log.path().join("access");
    let evil = "x\x1b]0;PWNED\x07\x1b[2J\u{9b}2J\u{202e}gpj\n";
    std::fs::write(dir.path().join(evil), "content").unwrap();
    let long = "long-".repeat(50);
    std::fs::write(dir.path().join(&long), "content").unwrap();
    let args = ["--http", "--upload", "--access-log", log.to_str().unwrap()];
    let pty = Pty::start(&mut share(&args, dir.path()), (24, 80));
    let visitor = Visitor::of(&pty.wait("the link", link));
    let name = "x%1B%5D0;PWNED%07%1B%5B2J%C2%9B2J%E2%80%AEgpj%0A";
    for target in [format!("GET /f/{name}"), format!("GET /f/{long}"), format!("GET /f/none{name}")] {
        let mut answer = Vec::new();
        let agent = "User-Agent: \t\u{9b}31m\u{202e}agent\r\nConnection: close\r\n";
        visitor.send(&target, agent, "").read_to_end(&mut answer).unwrap();
    }
    let mut answer = Vec::new();
    let headers = "Content-Length: 1\r\nConnection: close\r\n";
    visitor.send(&format!("PUT /f/up{name}"), headers, "x").read_to_end(&mut answer).unwrap();
    visitor.chat("\u{1b}]0;PWNED\u{7}\u{202e}Eve", "\u{1b}]0;PWNED\u{7}\u{1b}[2J\u{9b}31m\u{202e}text\nEve: no");
    let entered = format!("GET /t/{}", visitor.token);
    let mut answer = Vec::new();
    visitor
        .send(&entered, "User-Agent: \u{9b}31m\u{202e}b\r\nConnection: close\r\n", "")
        .read_to_end(&mut answer)
        .unwrap();
    pty.wait_text("PWNED");
    pty.wait_text("came in");
    pty.wait_text("long-");
    pty.keys("\x03");
    let (code, said) = pty.finish();
    assert_eq!(code, Some(0));
    assert_eq!(foreign_controls(&said), Vec::<String>::new());
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("PWNED") && !log.contains(&visitor.token), "{log}");
    assert!(log.lines().all(|line| !line.chars().any(linerate::text::is_unsafe)), "{log}");
    assert!(log.lines().all(|line| line.starts_with("127.0.0.1 - ")), "{log}");
}

#[test]
fn two_interrupts_end_at_once_and_leave_the_terminal_as_it_was() {
    let dir = folder();
    std::fs::File::create(dir.path().join("big")).unwrap().set_len(1 << 32).unwrap();
    let pty = Pty::start(&mut share(&["--http"], dir.path()), (24, 80));
    let visitor = Visitor::of(&pty.wait("the link", link));
    let mut slow = visitor.send("GET /f/big", "", "");
    slow.read_exact(&mut [0; 1000]).unwrap();
    pty.wait_line(&["gets big"]);
    pty.keys("\x03");
    pty.wait_text("ending: 1 transfer has 5 s to finish; Ctrl-C again ends at once");
    pty.keys("\x03");
    let (code, said) = pty.finish();
    assert_eq!(code, Some(0));
    assert!(said.contains("did not get all of big"), "{said}");
    // Somebody who looks while it is killed finds the cursor, too: it is never hidden for long.
    let pty = Pty::start(&mut share(&["--http"], dir.path()), (24, 80));
    pty.wait("the link", link);
    pty.signal(libc::SIGKILL);
    assert_eq!(pty.finish().0, None);
}

#[test]
fn what_runs_at_the_first_interrupt_may_finish() {
    let dir = folder();
    let big = 20_000_000;
    std::fs::File::create(dir.path().join("big")).unwrap().set_len(big).unwrap();
    let pty = Pty::start(&mut share(&["--http"], dir.path()), (24, 80));
    let visitor = Visitor::of(&pty.wait("the link", link));
    let mut slow = visitor.send("GET /f/big", "Connection: close\r\n", "");
    slow.read_exact(&mut [0; 1000]).unwrap();
    pty.wait_line(&["gets big"]);
    pty.keys("\x03");
    pty.wait_text("to finish");
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).unwrap();
    assert!(rest.len() as u64 > big - 1000);
    let (code, said) = pty.finish();
    assert_eq!(code, Some(0));
    assert!(said.contains("got big: 20.0 MB"), "{said}");
}
