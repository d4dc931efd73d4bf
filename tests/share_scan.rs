//! The virus scan of uploads: by a real clamd with a database of the test's own, and by scanners that misbehave.
#![cfg(feature = "web")]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::clamd::{Clamd, STREAM_MAX, eicar};
use common::share::{Reply, Share};
use common::{folder, home, linerate, names_in, run_bounded};

fn put(share: &Share, name: &str, content: &[u8]) -> Reply {
    let len = content.len().to_string();
    let head = share.head("PUT", &format!("/f/{name}"), &[("Content-Length", &len)]);
    share.http(&[head.as_bytes(), content].concat())
}

/// The last answer to an upload by tus.
fn upload(share: &Share, name: &str, content: &[u8]) -> Reply {
    let (version, len) = (("Tus-Resumable", "1.0.0"), content.len().to_string());
    let metadata = format!("filename {}", STANDARD.encode(name));
    let begun = [version, ("Upload-Length", &*len), ("Upload-Metadata", &*metadata), ("Content-Length", "0")];
    let begun = share.ask("POST", "/api/uploads", &begun);
    let kind = ("Content-Type", "application/offset+octet-stream");
    let slice = [version, kind, ("Upload-Offset", "0"), ("Content-Length", &*len)];
    share.http(&[share.head("PATCH", begun.value("location"), &slice).as_bytes(), content].concat())
}

/// Names, each with what is said of its scan.
type Scans = Vec<(String, String)>;

/// What the listing says of the scan of each file, and of what is kept back.
fn listed(share: &Share) -> (Scans, Scans) {
    let list = share.get("/api/list/").json();
    let of = |key: &str| {
        let rows = list[key].as_array().unwrap().iter();
        rows.map(|row| (row["name"].as_str().unwrap().into(), row["scan"].as_str().unwrap_or("null").into())).collect()
    };
    (of("entries"), of("held"))
}

fn pair(name: &str, state: &str) -> (String, String) {
    (name.to_string(), state.to_string())
}

/// Whether a file is kept where nobody is served from, for its owner alone.
fn is_put_away(shared: &Path, content: &[u8]) -> bool {
    let quarantine = home().join("state/linerate/quarantine");
    let hidden = names_in(shared).into_iter().filter(|name| name.starts_with(".lr-quarantine-"));
    let mut all: Vec<PathBuf> = hidden.map(|name| shared.join(name)).collect();
    all.extend(names_in(&quarantine).iter().map(|name| quarantine.join(name)));
    let is_it = |path: &PathBuf| std::fs::read(path).is_ok_and(|found| found == content);
    let found = all.into_iter().find(is_it);
    found.is_some_and(|path| path.metadata().unwrap().permissions().mode() & 0o777 == 0o600)
}

#[test]
fn nothing_is_seen_before_clamd_calls_it_clean() {
    let Some(mut clamd) = Clamd::start() else { return };
    let dir = folder();
    std::fs::write(dir.path().join("before"), b"").unwrap();
    let share = Share::start(&["--upload", "--scan", &clamd.place()], dir.path());
    assert_eq!(share.get("/api/share").json()["scan"], true);
    let bad = [b"first ", &eicar()[..]].concat();
    let refused = put(&share, "bad", &bad);
    assert!(refused.status == 422 && refused.text().contains("Eicar-Of-This-Test"), "{refused:?}");
    assert!(is_put_away(dir.path(), &bad));
    assert_eq!(put(&share, "clean", b"clean").status, 201);
    let again = [b"second ", &eicar()[..]].concat();
    let reply = upload(&share, "bad too", &again);
    assert_eq!((reply.status, reply.value("lr-scan"), reply.value("lr-href")), (204, "infected", ""));
    let reply = upload(&share, "clean too", &vec![7; STREAM_MAX / 2]);
    assert_eq!((reply.status, reply.value("lr-scan"), reply.value("lr-href")), (204, "clean", "clean%20too"));
    let form = [
        b"--e\r\nContent-Disposition: form-data; name=\"file\"; filename=\"bad3\"\r\n\r\n",
        &bad[..],
        b"\r\n--e--\r\n",
    ];
    let form = form.concat();
    let len = form.len().to_string();
    let kind = ("Content-Type", "multipart/form-data; boundary=e");
    let head = share.head("POST", "/upload/", &[kind, ("Content-Length", &len)]);
    assert_eq!(share.http(&[head.as_bytes(), &form].concat()).status, 422);
    // More than clamd takes is not called clean.
    let long = vec![9; 3 * STREAM_MAX];
    assert_eq!(put(&share, "long", &long).status, 503);
    assert!(is_put_away(dir.path(), &long));
    let (seen, held) = listed(&share);
    assert_eq!(seen, [pair("before", "null"), pair("clean", "clean"), pair("clean too", "clean")]);
    let infected = |name| pair(name, "infected");
    assert_eq!(held, [infected("bad"), infected("bad too"), infected("bad3"), pair("long", "not scanned")]);
    // A file that is not the one that was looked at has no state.
    std::fs::write(dir.path().join("clean"), b"another").unwrap();
    std::fs::write(dir.path().join("new"), b"").unwrap();
    assert_eq!(listed(&share).0[1], pair("clean", "null"));
    clamd.stop();
    assert_eq!(put(&share, "unseen", b"unseen content").status, 503);
    assert!(is_put_away(dir.path(), b"unseen content") && !dir.path().join("unseen").exists());
    let reply = upload(&share, "unseen", b"unseen content");
    assert_eq!((reply.status, reply.value("lr-scan"), reply.value("lr-href")), (204, "not scanned", ""));
    assert_eq!(share.get("/f/unseen").status, 404);
}

/// A scanner that is there, and answers each file so before it hangs up.
fn scanner(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = format!("clamd:{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let _ = serve(stream, answer);
        }
    });
    place
}

fn serve(mut stream: TcpStream, answer: &[u8]) -> std::io::Result<()> {
    let mut first = [0; 6];
    stream.read_exact(&mut first)?;
    if &first == b"zPING\0" {
        return stream.write_all(b"PONG\0");
    }
    stream.read_exact(&mut [0; 4])?;
    loop {
        let mut len = [0; 4];
        stream.read_exact(&mut len)?;
        let len = u32::from_be_bytes(len);
        if len == 0 {
            return stream.write_all(answer);
        }
        std::io::copy(&mut Read::by_ref(&mut stream).take(len.into()), &mut std::io::sink())?;
    }
}

#[test]
fn what_is_no_verdict_is_not_called_clean() {
    for answer in [&b""[..], b"stream: OK", b"OK\0", b"stream: OK \0", b"\0", b"stream: ERROR\0", &[b'x'; 10_000]] {
        let dir = folder();
        let share = Share::start(&["--upload", "--scan", &scanner(answer)], dir.path());
        assert_eq!(put(&share, "a", b"a").status, 503, "{answer:?}");
        assert_eq!(listed(&share), (vec![], vec![pair("a", "not scanned")]));
    }
    let dir = folder();
    let share = Share::start(&["--upload", "--scan", &scanner(b"stream: OK\0")], dir.path());
    assert_eq!(put(&share, "a", &vec![1; 1 << 20]).status, 201);
}

#[test]
fn who_wants_it_sees_what_could_not_be_scanned_and_never_what_is_infected() {
    let dir = folder();
    let open = |place: &str| Share::start(&["--upload", "--scan-fail-open", "--scan", place], dir.path());
    let nobody = format!("clamd:{}", dir.path().join("none.ctl").display());
    let share = open(&nobody);
    assert_eq!(put(&share, "a", b"a").status, 201);
    assert_eq!(upload(&share, "b", b"b").value("lr-scan"), "not scanned");
    assert_eq!(listed(&share), (vec![pair("a", "not scanned"), pair("b", "not scanned")], vec![]));
    drop(share);
    let share = open(&scanner(b"stream: Something FOUND\0"));
    assert_eq!(put(&share, "c", b"c").status, 422);
    assert!(!dir.path().join("c").exists());
}

#[test]
fn a_scanner_that_is_not_there_is_said_at_the_start() {
    let dir = folder();
    let nobody = format!("clamd:{}", dir.path().join("none.ctl").display());
    let shared = dir.path().display().to_string();
    let common = ["share", "--http", "--listen", "127.0.0.1:0", "--upload", &shared];
    run_bounded(linerate(common).args(["--scan", &nobody])).expect_line(2, &["--scan", "clamd"]);
    let done = run_bounded(linerate(common).args(["--scan", "/run/clamd"])).expect(2);
    assert!(done.stderr.contains("clamd:host:port"), "{done:?}");
    run_bounded(linerate(common).args(["--scan-fail-open"])).expect(2);
}
