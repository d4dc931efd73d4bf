//! `linerate get` with the link of a share: what a server must not be able to do to whoever downloads from it.
#![cfg(feature = "web")]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use common::{Done, PATIENCE, linerate, run_bounded};

const TOKEN: &str = "AAAAAAAAAAAAAAAAAAAAAA";
const DATE: &str = "Sun, 09 Sep 2001 01:46:40 GMT";

/// What a server does with the head of a request: write what it likes, and hang up.
type Answer = dyn Fn(&str, &mut TcpStream) + Send + Sync;

/// A server that answers as a test wants it to; it lives as long as the test's process.
struct Fake {
    link: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    fn start(answer: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let link = format!("http://{}/t/{TOKEN}", listener.local_addr().unwrap());
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (answer, noted): (Arc<Answer>, _) = (Arc::new(answer), heads.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (answer, noted) = (answer.clone(), noted.clone());
                std::thread::spawn(move || serve(stream, &*answer, &noted));
            }
        });
        Fake { link, heads }
    }

    fn get(&self, below: &str, to: &Path) -> Done {
        let link = format!("{}{below}", self.link);
        run_bounded(linerate(["get", &link]).arg(to).args(["--retry-for", "0"]))
    }

    /// Send these files of a folder.
    fn put(&self, names: &[&str], dir: &Path) -> Done {
        run_bounded(linerate(["put"]).args(names).arg(&self.link).args(["--retry-for", "0"]).current_dir(dir))
    }

    fn asked(&self, word: &str) -> bool {
        self.heads.lock().unwrap().iter().any(|head| head.contains(word))
    }
}

fn serve(mut stream: TcpStream, answer: &Answer, noted: &Mutex<Vec<String>>) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    noted.lock().unwrap().push(head.clone());
    answer(&head, &mut stream);
}

fn say(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) {
    let length = format!("Content-Length: {}\r\n", body.len());
    let length = if headers.contains("Content-Length") || headers.contains("chunked") { "" } else { &length };
    let _ = write!(stream, "HTTP/1.1 {status}\r\n{headers}{length}Connection: close\r\n\r\n");
    let _ = stream.write_all(body);
}

fn json(stream: &mut TcpStream, text: &str) {
    say(stream, "200 OK", "Content-Type: application/json\r\n", text.as_bytes());
}

/// What every share answers, whatever else it does.
fn usual(head: &str, stream: &mut TcpStream, list: &str, hash: &str, bytes: usize) -> bool {
    if head.starts_with("get /api/share ") {
        json(stream, "{}");
    } else if head.starts_with("get /api/list/?") {
        json(stream, list);
    } else if head.starts_with("get /api/list/") {
        say(stream, "404 Not Found", "Content-Type: application/json\r\n", b"{\"error\":\"No such file or folder.\"}");
    } else if head.contains("?blake3 ") {
        json(stream, &format!("{{\"blake3\":\"{hash}\",\"bytes\":{bytes}}}"));
    } else {
        return false;
    }
    true
}

fn file(stream: &mut TcpStream, headers: &str, body: &[u8]) {
    say(stream, "200 OK", &format!("ETag: \"1\"\r\nLast-Modified: {DATE}\r\n{headers}"), body);
}

fn hash(content: &[u8]) -> String {
    blake3::hash(content).to_hex().to_string()
}

fn listed(href: &str) -> String {
    format!(
        "{{\"path\":[],\"total\":1,\"offset\":0,\"entries\":[{{\"name\":\"x\",\"href\":\"{href}\",\"kind\":\"file\",\
         \"bytes\":5,\"modified\":\"2001-09-09T01:46:40Z\",\"type\":\"text\",\"scan\":null}}]}}"
    )
}

/// All files below a folder, by their paths.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

#[test]
fn what_is_got_is_proven_and_has_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(|head, stream| {
        if !usual(head, stream, &listed("a%20b"), &hash(b"hello"), 5) {
            file(stream, "", b"hello");
        }
    });
    let to = dir.path().join("to");
    fake.get("", &to).expect(0);
    assert_eq!(std::fs::read(to.join("a b")).unwrap(), b"hello");
    let modified = std::fs::metadata(to.join("a b")).unwrap().modified().unwrap();
    assert_eq!(modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(), 1_000_000_000);
    assert_eq!(files(&to).len(), 1);
    // What is there already is not got again.
    fake.heads.lock().unwrap().clear();
    fake.get("", &to).expect(0);
    assert!(!fake.asked("get /f/"));
    // One file alone goes where it is told.
    fake.get("/f/a%20b", &dir.path().join("name")).expect(0);
    assert_eq!(std::fs::read(dir.path().join("name")).unwrap(), b"hello");
}

#[test]
fn no_name_of_a_listing_leads_out() {
    for href in ["../out", "..%2fout", "%2e%2e", "/etc/out", "a%2fb", "", ".", "a%00", ".lr-get-x", "a/../../out"] {
        let dir = tempfile::tempdir().unwrap();
        let fake = Fake::start(move |head, stream| {
            if !usual(head, stream, &listed(href), &hash(b"hello"), 5) {
                file(stream, "", b"hello");
            }
        });
        let done = fake.get("", &dir.path().join("to"));
        assert_eq!(done.code, Some(1), "{href}: {done:?}");
        assert!(done.stderr.contains("a name that is none"), "{href}: {done:?}");
        assert_eq!(files(dir.path()), Vec::<PathBuf>::new(), "{href}");
    }
}

#[test]
fn no_link_that_lies_there_leads_out_either() {
    let dir = tempfile::tempdir().unwrap();
    let (to, outside) = (dir.path().join("to"), dir.path().join("outside"));
    std::fs::create_dir_all(&to).unwrap();
    std::fs::write(&outside, "mine").unwrap();
    std::os::unix::fs::symlink(&outside, to.join("x")).unwrap();
    let fake = Fake::start(|head, stream| {
        if !usual(head, stream, &listed("x"), &hash(b"hello"), 5) {
            file(stream, "", b"hello");
        }
    });
    fake.get("", &to).expect(0);
    assert_eq!(std::fs::read(&outside).unwrap(), b"mine");
    assert_eq!(std::fs::read(to.join("x")).unwrap(), b"hello");
}

#[test]
fn what_is_not_what_the_share_says_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(|head, stream| {
        if !usual(head, stream, &listed("a"), &hash(b"other"), 5) {
            file(stream, "", b"hello");
        }
    });
    let done = fake.get("", &dir.path().join("to")).expect(4);
    assert!(done.stderr.contains("does not hash to"), "{done:?}");
    assert_eq!(files(dir.path()), Vec::<PathBuf>::new());
}

#[test]
fn bodies_are_as_long_as_they_were_said_to_be() {
    // Without end, without a length, shorter, and of a length that is no number.
    type Body = fn(&mut TcpStream);
    let endless: Body = |stream| {
        say(stream, "200 OK", "ETag: \"1\"\r\nTransfer-Encoding: chunked\r\n", b"");
        while stream.write_all(b"5\r\nhello\r\n").is_ok() {}
    };
    let unsaid: Body = |stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello");
    };
    let short: Body = |stream| file(stream, "Content-Length: 9\r\n", b"hello");
    let senseless: Body = |stream| file(stream, "Content-Length: -5\r\n", b"hello");
    let nothing: Body = |stream| file(stream, "Content-Length: 9000000000000000000\r\n", b"");
    for (name, body, code) in [
        ("endless", endless, 1),
        ("unsaid", unsaid, 1),
        ("short", short, 6),
        ("senseless", senseless, 1),
        ("nothing", nothing, 6),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let fake = Fake::start(move |head, stream| {
            if !usual(head, stream, &listed("a"), &hash(b"hello"), 5) {
                body(stream);
            }
        });
        let done = fake.get("", &dir.path().join("to"));
        assert_eq!(done.code, Some(code), "{name}: {done:?}");
        assert!(!dir.path().join("to/a").exists(), "{name}");
    }
}

#[test]
fn no_answer_takes_all_memory() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(|_, stream| {
        say(stream, "200 OK", "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n", b"");
        let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
        while stream.write_all(&chunk).is_ok() {}
    });
    let done = fake.get("", &dir.path().join("to")).expect(1);
    assert!(done.stderr.contains("more than anybody asked for"), "{done:?}");
    let fake = Fake::start(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        while stream.write_all(b"X-More: and more and more and more\r\n").is_ok() {}
    });
    assert_ne!(fake.get("", &dir.path().join("to")).code, Some(0));
    let fake = Fake::start(|_, stream| drop(stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n")));
    assert_eq!(fake.get("", &dir.path().join("to")).code, Some(1));
}

#[test]
fn what_was_broken_off_is_gone_on_with() {
    let content: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
    let dir = tempfile::tempdir().unwrap();
    let body = content.clone();
    let fake = Fake::start(move |head, stream| {
        if usual(head, stream, "", &hash(&body), body.len()) {
            return;
        }
        let range = head.split("range: bytes=").nth(1).and_then(|rest| rest.split('-').next()?.parse::<usize>().ok());
        match range.filter(|_| head.contains("if-range: \"1\"")) {
            // The first time it hangs up in the middle.
            None => file(stream, &format!("Content-Length: {}\r\n", body.len()), &body[..body.len() / 2]),
            Some(from) => {
                let range = format!("Content-Range: bytes {from}-{}/{}\r\n", body.len() - 1, body.len());
                say(stream, "206 Partial Content", &format!("ETag: \"1\"\r\n{range}"), &body[from..]);
            }
        }
    });
    let to = dir.path().join("big");
    fake.get("/f/big", &to).expect(6);
    assert!(!to.exists());
    assert_eq!(files(dir.path()).len(), 1, "what came stays, hidden");
    // What the file holds is told, not what came just now.
    expect_word(fake.get("/f/big", &to), 0, "got 1 file, 800 kB");
    assert!(fake.asked("if-range"));
    assert_eq!(std::fs::read(&to).unwrap(), content);
    assert_eq!(files(dir.path()).len(), 1);
}

#[test]
fn a_part_that_was_not_asked_for_is_not_taken() {
    for range in ["bytes 0-4/9", "bytes 5-8/10", "bytes 5-8/*", "nonsense", "bytes 5-18446744073709551615/9"] {
        let dir = tempfile::tempdir().unwrap();
        let fake = Fake::start(move |head, stream| {
            if usual(head, stream, "", &hash(b"helloyou!"), 9) {
                return;
            }
            match head.contains("range: ") {
                false => file(stream, "Content-Length: 9\r\n", b"hello"),
                true => {
                    let range = format!("ETag: \"1\"\r\nContent-Range: {range}\r\n");
                    say(stream, "206 Partial Content", &range, b"you!");
                }
            }
        });
        let to = dir.path().join("a");
        fake.get("/f/a", &to).expect(6);
        let done = fake.get("/f/a", &to).expect(1);
        assert!(done.stderr.contains("another part"), "{range}: {done:?}");
        assert!(!to.exists());
    }
}

/// A share that takes uploads; `last` is what it says of each when it is whole.
fn taking(last: &'static str) -> Fake {
    Fake::start(move |head, stream| {
        // What is left unread would take the answer with it.
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse::<u64>().ok());
        std::io::copy(&mut stream.take(length.unwrap_or(0)), &mut std::io::sink()).unwrap();
        if head.starts_with("post /api/uploads ") {
            say(stream, "201 Created", "Location: /api/uploads/a\r\n", b"");
        } else if head.starts_with("patch ") {
            say(stream, "204 No Content", &format!("Upload-Offset: {}\r\n{last}", length.unwrap()), b"");
        } else if !usual(head, stream, "", "", 0) {
            say(stream, "404 Not Found", "", b"");
        }
    })
}

#[track_caller]
fn expect_word(done: Done, code: i32, word: &str) {
    let done = done.expect(code);
    assert!(done.stderr.contains(word), "{done:?}");
}

#[test]
fn a_file_that_nobody_gets_is_not_called_sent() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a"), "hello").unwrap();
    let put = |last| taking(last).put(&["a"], dir.path());
    expect_word(put("Lr-Scan: infected\r\n"), 1, "a: the share's virus scan found something");
    expect_word(put("Lr-Scan: not scanned\r\n"), 1, "a: the share could not scan it");
    // It is told that nobody sees it yet, or nothing where the share lets everybody have it.
    expect_word(put("Lr-Scan: pending\r\nLr-Href: a\r\n"), 0, "still being scanned");
    for last in ["Lr-Scan: clean\r\nLr-Href: a\r\n", "Lr-Scan: not scanned\r\nLr-Href: a\r\n", "Lr-Href: a\r\n"] {
        let done = put(last).expect(0);
        assert!(!done.stderr.contains("scan"), "{done:?}");
    }
}

#[test]
fn a_share_that_is_over_is_not_asked_for_each_file() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        std::fs::write(dir.path().join(name), "hello").unwrap();
    }
    let fake = Fake::start(|head, stream| {
        if !usual(head, stream, "", "", 0) {
            say(stream, "410 Gone", "", b"");
        }
    });
    expect_word(fake.put(&["a", "b", "c"], dir.path()), 5, "2 files more not tried");
    let begun = fake.heads.lock().unwrap().iter().filter(|head| head.starts_with("post ")).count();
    assert_eq!(begun, 1);
}

/// The first file that is asked for never comes, and nobody ever learns what it hashes to.
#[test]
fn nobody_waits_for_the_hash_of_what_did_not_come() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(|head, stream| {
        if head.contains("?blake3 ") {
            // Until whoever asked has gone.
            let _ = stream.read(&mut [0]);
        } else if !usual(head, stream, "", "", 0) {
            say(stream, "403 Forbidden", "", b"");
        }
    });
    fake.get("/f/a", &dir.path().join("a")).expect(5);
}

#[test]
fn what_only_its_proof_is_missing_of_stays() {
    let dir = tempfile::tempdir().unwrap();
    let is_over = Arc::new(AtomicBool::new(true));
    let over = is_over.clone();
    let fake = Fake::start(move |head, stream| {
        if head.contains("?blake3 ") && over.load(Ordering::SeqCst) {
            say(stream, "410 Gone", "", b"");
        } else if head.contains("range: bytes=5-") {
            say(stream, "416 Range Not Satisfiable", "Content-Range: bytes */5\r\n", b"");
        } else if !usual(head, stream, "", &hash(b"hello"), 5) {
            file(stream, "", b"hello");
        }
    });
    let to = dir.path().join("a");
    fake.get("/f/a", &to).expect(5);
    assert!(!to.exists() && files(dir.path()).len() == 1);
    is_over.store(false, Ordering::SeqCst);
    fake.get("/f/a", &to).expect(0);
    assert_eq!(std::fs::read(&to).unwrap(), b"hello");
    let heads = fake.heads.lock().unwrap();
    assert_eq!(heads.iter().filter(|head| head.starts_with("get /f/a ")).count(), 2);
}

#[test]
fn a_folder_is_known_before_anything_of_it_is_got() {
    let dir = tempfile::tempdir().unwrap();
    let is_less = Arc::new(AtomicBool::new(false));
    let fake = Fake::start(move |head, stream| {
        // One row a page; with the first download the first file goes, and the others move up.
        let names: &[&str] = if is_less.load(Ordering::SeqCst) { &["b", "c"] } else { &["a", "b", "c"] };
        let offset = head.split("offset=").nth(1).and_then(|rest| rest.split('&').next()?.parse::<usize>().ok());
        match offset {
            Some(at) => {
                let rows = names.get(at).map_or(String::new(), |name| {
                    format!("{{\"href\":\"{name}\",\"kind\":\"file\",\"bytes\":5,\"modified\":null}}")
                });
                json(stream, &format!("{{\"total\":{},\"entries\":[{rows}]}}", names.len()));
            }
            None if usual(head, stream, "", &hash(b"hello"), 5) => {}
            None => {
                is_less.store(true, Ordering::SeqCst);
                file(stream, "", b"hello");
            }
        }
    });
    let to = dir.path().join("to");
    fake.get("", &to).expect(0);
    assert_eq!(common::names_in(&to), ["a", "b", "c"]);
}
