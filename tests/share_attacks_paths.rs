//! Names that lead out of a share, mislead, or stand for something that is no file, asked for in every way there is.
#![cfg(feature = "web")]

mod common;

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::attack::shown;
use common::folder;
use common::share::{Reply, Share};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, percent_encode};

/// What stands outside, and in what is hidden.
const SECRET: &str = "kept from all";
const ALL: [&str; 2] = ["--allow", "view,download,upload,delete,chat"];

/// A share with what it must not show beside it and in it.
fn sample() -> (tempfile::TempDir, PathBuf) {
    let dir = folder();
    let shared = dir.path().join("shared");
    std::fs::create_dir_all(shared.join("sub/.deep")).unwrap();
    std::fs::create_dir(dir.path().join("outside")).unwrap();
    for name in ["secret", "outside/secret", "shared/.hidden", "shared/.lr-up-0", "shared/sub/.deep/x"] {
        std::fs::write(dir.path().join(name), SECRET).unwrap();
    }
    for name in ["a.txt", "sub/b.txt"] {
        std::fs::write(shared.join(name), name).unwrap();
    }
    symlink("../secret", shared.join("out")).unwrap();
    symlink("../outside", shared.join("out-folder")).unwrap();
    symlink("/", shared.join("root")).unwrap();
    symlink("sub/../../secret", shared.join("round")).unwrap();
    symlink(".hidden", shared.join("to-dot")).unwrap();
    symlink("self", shared.join("self")).unwrap();
    (dir, shared)
}

/// All that is there: links as what they say, files as what they hold.
fn all_of(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        match () {
            () if kind.is_dir() => all.extend(all_of(&path)),
            () if kind.is_symlink() => {
                drop(all.insert(path.clone(), path.read_link().unwrap().as_os_str().as_bytes().into()))
            }
            () if kind.is_file() => drop(all.insert(path.clone(), std::fs::read(&path).unwrap())),
            () => drop(all.insert(path, Vec::new())),
        }
    }
    all
}

fn b64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

fn in_query(text: &str) -> String {
    percent_encode(text.as_bytes(), NON_ALPHANUMERIC).to_string()
}

/// Everything that reads what a path leads to, by what it is and what came of it.
fn reads(share: &Share, path: &str) -> Vec<(String, Reply)> {
    let mut replies = Vec::new();
    let mut ask = |line: String, body: &str| {
        let kind = "Content-Type: application/x-www-form-urlencoded";
        let headers: &[&str] = if body.is_empty() { &[] } else { &[kind] };
        replies.push((format!("{line} {body}"), share.http(&shown(share, &line, headers, body.as_bytes()))));
    };
    for query in ["", "?view", "?blake3", "?zip", "?tar", "/", "/?zip", "/?tar"] {
        ask(format!("GET /f/{path}{query}"), "");
    }
    ask(format!("HEAD /f/{path}"), "");
    ask(format!("GET /api/list/{path}"), "");
    ask(format!("GET /api/list/{path}/"), "");
    ask(format!("GET /api/search?q=e&in={}", in_query(path)), "");
    for body in
        [format!("format=tar&in=&item={}", in_query(path)), format!("format=zip&in={}&item=secret", in_query(path))]
    {
        ask("POST /archive".to_string(), &body);
    }
    replies
}

/// Everything that would change what a path leads to.
fn writes(share: &Share, path: &str) -> Vec<(String, Reply)> {
    let (mut replies, length) = (Vec::new(), "Content-Length: 0");
    let mut ask = |line: &str, headers: &[&str], body: &[u8]| {
        replies.push((format!("{line} {headers:?}"), share.http(&shown(share, line, headers, body))));
    };
    ask(&format!("DELETE /f/{path}"), &[length], b"");
    ask(&format!("PUT /f/{path}"), &[], b"new");
    ask(&format!("PUT /f/{path}/new"), &[], b"new");
    // As it is once decoded: there it stands in headers and bodies.
    let raw: Vec<u8> = percent_decode_str(path).collect();
    for metadata in [
        format!("filename {}", b64(&raw)),
        format!("filename {},relativePath {}", b64(b"new"), b64(&raw)),
        format!("filename {},folder {}", b64(b"new"), b64(&raw)),
    ] {
        let headers = ["Tus-Resumable: 1.0.0", "Upload-Length: 0", length, &format!("Upload-Metadata: {metadata}")];
        ask("POST /api/uploads", &headers, b"");
    }
    let form = |name: &[u8]| {
        let head = b"--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"";
        [&head[..], name, b"\"\r\n\r\nnew\r\n--edge--\r\n"].concat()
    };
    let kind = ["Content-Type: multipart/form-data; boundary=edge"];
    ask("POST /upload/", &kind, &form(&raw));
    ask(&format!("POST /upload/{path}/"), &kind, &form(b"new"));
    replies
}

/// In what an archive that is not coded holds, too.
fn tells(reply: &Reply) -> bool {
    reply.body.windows(SECRET.len()).any(|part| part == SECRET.as_bytes())
}

const LEAD_OUT: [&str; 38] = [
    "..%2fsecret",
    "../secret",
    "%2e%2e/secret",
    ".%2e/secret",
    "%2e%2e%2fsecret",
    "..%5csecret",
    "..%5c..%5csecret",
    "sub/../../secret",
    "sub/%2e%2e/%2e%2e/secret",
    "sub/..%2f..%2fsecret",
    "a.txt%00",
    "%00",
    "a.txt%00.png",
    "/etc/passwd",
    "%2fetc%2fpasswd",
    "/",
    "C:%5cWindows",
    "C:%5c..%5csecret",
    "%5c%5chost%5cshare",
    "%c0%ae%c0%ae/secret",
    "%c0%ae%c0%ae%c0%afsecret",
    "%e0%80%ae%e0%80%ae/secret",
    "%ff",
    "..%01/secret",
    "..;/secret",
    "%2e%2e%3b/secret",
    "out-folder/secret",
    "root/etc/passwd",
    "self/x",
    ".hidden",
    ".%68idden",
    "sub/.deep/x",
    "sub/%2edeep/x",
    ".lr-up-0",
    ".",
    "..",
    "%2e",
    "%2e%2e",
];

#[test]
fn no_name_leads_out_in_any_way_of_asking() {
    let (dir, shared) = sample();
    let share = Share::start(&ALL, &shared);
    let before = all_of(dir.path());
    let (long, deep) = ("n".repeat(256), "a/".repeat(3000) + "x");
    let bidi =
        ["%e2%80%aegpj.exe", "%e2%81%a6x%e2%81%a9", "%d8%9cx", "a%0ab", "a%0db", "a%1bb", "%e2%80%a8x", "%c2%85x"];
    for path in LEAD_OUT.iter().copied().chain(bidi).chain([&*long, &*deep]) {
        for (what, reply) in reads(&share, path) {
            let is_archive = what.starts_with("POST /archive") && reply.status == 200;
            assert!(matches!(reply.status, 400 | 404 | 405 | 431) || is_archive, "{what:.200}: {reply:?}");
            assert!(!tells(&reply), "{what}: {reply:?}");
        }
        // As the folder to put something into, `/` is the top.
        for (what, reply) in if path == "/" { Vec::new() } else { writes(&share, path) } {
            // A part whose name is none is a field without a file, which is left out.
            let is_left_out = reply.status == 303 && what.starts_with("POST /upload/ ");
            assert!(
                is_left_out || matches!(reply.status, 400 | 404 | 405 | 409 | 431),
                "{path:.50} {what:.200}: {reply:?}"
            );
        }
    }
    assert_eq!(all_of(dir.path()), before);
    // Nothing is decoded twice: what only looks encoded is a name like any other.
    for path in ["%252e%252e/secret", "%252e%252e%252fsecret", "%u002e%u002e/secret"] {
        assert!(reads(&share, path).iter().all(|(_, reply)| reply.status != 500 && !tells(reply)), "{path}");
        writes(&share, path);
    }
    let mut after = all_of(dir.path());
    after.retain(|path, _| !path.strip_prefix(&shared).is_ok_and(|path| path.as_os_str().as_bytes().starts_with(b"%")));
    assert_eq!(after, before);
    assert!(!share.end().expect(0).stderr.contains(SECRET));
}

#[test]
fn links_are_followed_inside_only_and_never_written_through() {
    let (dir, shared) = sample();
    symlink("sub", shared.join("in-folder")).unwrap();
    symlink("sub/b.txt", shared.join("in")).unwrap();
    let share = Share::start(&ALL, &shared);
    for path in ["out", "round", "root", "out-folder", "self"] {
        for (what, reply) in reads(&share, path) {
            assert!(
                matches!(reply.status, 404 | 405) || reply.status == 200 && what.starts_with("POST"),
                "{what}: {reply:?}"
            );
            assert!(!tells(&reply), "{what}: {reply:?}");
        }
    }
    for query in ["q=secret", "q=passwd", "q=hidden", "q=deep", "q=lr-up", "q=out", "q=root", "q=self"] {
        let found = share.http(&shown(&share, &format!("GET /api/search?{query}"), &[], b"")).text();
        assert!(found.lines().count() == 1 && found.contains("\"hits\":0"), "{query}: {found}");
    }
    let put = |path: &str| share.http(&shown(&share, &format!("PUT /f/{path}"), &[], b"new"));
    for name in ["out", "round", "in"] {
        // The name is taken, whatever has it.
        let reply = put(name);
        assert_eq!(
            (reply.status, reply.header("location")),
            (201, Some(&*format!("/f/{name}%20%282%29"))),
            "{reply:?}"
        );
    }
    assert_eq!((put("in-folder/new").status, put("self/new").status), (409, 409));
    assert_eq!(share.http(&shown(&share, "DELETE /f/in-folder/b.txt", &["Content-Length: 0"], b"")).status, 409);
    assert_eq!(share.http(&shown(&share, "GET /f/in", &[], b"")).text(), "sub/b.txt");
    // What is deleted of a link is the link.
    for name in ["out", "out-folder", "root", "in", "self"] {
        assert_eq!(share.http(&shown(&share, &format!("DELETE /f/{name}"), &["Content-Length: 0"], b"")).status, 204);
    }
    for name in ["secret", "outside/secret", "shared/sub/b.txt"] {
        assert!(dir.path().join(name).exists(), "{name}");
    }
    assert!(Path::new("/etc/passwd").exists());
}

#[test]
fn what_is_hidden_is_there_only_for_those_who_are_to_see_it() {
    let (_dir, shared) = sample();
    for (args, is_there) in [(&[][..], false), (&["--hidden"], true)] {
        let share = Share::start(args, &shared);
        let get = |target: &str| share.http(&shown(&share, &format!("GET {target}"), &[], b""));
        for path in [".hidden", "sub/.deep/x"] {
            let reply = get(&format!("/f/{path}"));
            assert_eq!((reply.status, tells(&reply)), if is_there { (200, true) } else { (404, false) }, "{path}");
        }
        for target in ["/f/", "/api/list/", "/f/?tar", "/api/search?q=hidden", "/api/search?q=deep&in=sub/"] {
            let text = get(target).text();
            let is_told = text.contains(".hidden") || text.contains(".deep");
            assert_eq!(is_told, is_there, "{target}: {text}");
        }
        // What is not whole yet is nobody's.
        assert_eq!(get("/f/.lr-up-0").status, 404);
        assert!(!get("/api/list/").text().contains("lr-up") && !get("/f/?tar").text().contains("lr-up"));
    }
    // The owner may give something hidden a name that is seen: no visitor can make a link.
    let share = Share::start(&[], &shared);
    assert_eq!(share.http(&shown(&share, "GET /f/to-dot", &[], b"")).status, 200);
}

#[test]
fn pipes_sockets_and_devices_are_never_opened() {
    let (_dir, shared) = sample();
    nix::unistd::mkfifo(&shared.join("fifo"), Mode::S_IRWXU).unwrap();
    symlink("fifo", shared.join("to-fifo")).unwrap();
    symlink("/dev/zero", shared.join("to-zero")).unwrap();
    let _listener = UnixListener::bind(shared.join("socket")).unwrap();
    let mut names = vec!["fifo", "to-fifo", "to-zero", "socket"];
    // The node of /dev/zero, which has no end.
    match mknod(&shared.join("zero"), SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 5)) {
        Ok(()) => names.push("zero"),
        Err(error) => println!("skipped: no device can be made here: {error}"),
    }
    // Whoever opens the pipe for reading lets this one go on.
    let (fifo, was_opened) = (shared.join("fifo"), Arc::new(AtomicBool::new(false)));
    let (for_writer, told) = (fifo.clone(), was_opened.clone());
    let is_over = Arc::new(AtomicBool::new(false));
    let over = is_over.clone();
    let writer = std::thread::spawn(move || {
        let opened = std::fs::OpenOptions::new().write(true).open(for_writer);
        told.store(opened.is_ok() && !over.load(Ordering::SeqCst), Ordering::SeqCst);
    });
    let share = Share::start(&ALL, &shared);
    for name in &names {
        for (what, reply) in reads(&share, name) {
            assert!(
                matches!(reply.status, 404 | 405) || reply.status == 200 && what.starts_with("POST"),
                "{what}: {reply:?}"
            );
        }
        let found = share.http(&shown(&share, &format!("GET /api/search?q={name}"), &[], b"")).text();
        assert!(!found.contains(&format!("\"href\":\"{name}\"")), "{name}: {found}");
        let reply = share.http(&shown(&share, &format!("PUT /f/{name}"), &[], b"new"));
        assert_eq!(reply.status, 201, "{name}: {reply:?}");
        assert!(reply.header("location").unwrap().ends_with("%282%29"), "{name}: {reply:?}");
        let status = share.http(&shown(&share, &format!("DELETE /f/{name}"), &["Content-Length: 0"], b"")).status;
        assert_eq!(status, if name.starts_with("to-") { 204 } else { 404 }, "{name}");
    }
    for target in ["/f/", "/api/list/", "/f/?zip", "/f/?tar"] {
        assert_eq!(share.http(&shown(&share, &format!("GET {target}"), &[], b"")).status, 200, "{target}");
    }
    is_over.store(true, Ordering::SeqCst);
    let reader = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&fifo).unwrap();
    writer.join().unwrap();
    drop(reader);
    assert!(!was_opened.load(Ordering::SeqCst), "somebody read the pipe");
}
