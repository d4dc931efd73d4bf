//! Uploads to `linerate share` from outside: by tus, by PUT, by a form; and by those who mean no good.
#![cfg(feature = "web")]

mod common;

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::share::{Reply, Share, read_reply};
use common::{Done, folder, names_in, run_bounded, wait_until};
use sha2::{Digest, Sha256};

const VERSION: (&str, &str) = ("Tus-Resumable", "1.0.0");
const KIND: (&str, &str) = ("Content-Type", "application/offset+octet-stream");

fn b64(text: impl AsRef<[u8]>) -> String {
    STANDARD.encode(text)
}

fn sha256(bytes: &[u8]) -> String {
    format!("sha256 {}", b64(Sha256::digest(bytes)))
}

/// A request with a body, its length said.
fn ask(share: &Share, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let len = body.len().to_string();
    let headers = [headers, &[("Content-Length", len.as_str())]].concat();
    share.http(&[share.head(method, target, &headers).as_bytes(), body].concat())
}

fn create_with(share: &Share, len: &str, metadata: &str) -> Reply {
    ask(share, "POST", "/api/uploads", &[VERSION, ("Upload-Length", len), ("Upload-Metadata", metadata)], b"")
}

/// Begin an upload; where it is.
fn create(share: &Share, name: &str, len: usize) -> String {
    let reply = create_with(share, &len.to_string(), &format!("filename {},folder ", b64(name)));
    assert_eq!(reply.status, 201, "{reply:?}");
    assert!(reply.value("upload-expires").ends_with("GMT"));
    reply.value("location").to_string()
}

fn patch(share: &Share, upload: &str, offset: usize, body: &[u8]) -> Reply {
    ask(share, "PATCH", upload, &[VERSION, KIND, ("Upload-Offset", &offset.to_string())], body)
}

fn patch_checked(share: &Share, upload: &str, offset: usize, body: &[u8], checksum: &str) -> Reply {
    let offset = offset.to_string();
    ask(share, "PATCH", upload, &[VERSION, KIND, ("Upload-Offset", &offset), ("Upload-Checksum", checksum)], body)
}

fn offset(share: &Share, upload: &str) -> Option<usize> {
    let reply = share.ask("HEAD", upload, &[VERSION]);
    (reply.status == 200).then(|| reply.value("upload-offset").parse().unwrap())
}

fn started(dir: &Path) -> Share {
    Share::start(&["--upload"], dir)
}

/// What is there that visitors see; partial files have to be gone.
fn only(dir: &Path, names: &[&str]) {
    wait_until("nothing partial is left", || names_in(dir).iter().all(|name| !name.starts_with(".lr-")));
    let mut found = names_in(dir);
    found.sort();
    assert_eq!(found, names);
}

#[test]
fn an_upload_goes_on_where_it_was_cut() {
    let dir = folder();
    let share = started(dir.path());
    let options = share.ask("OPTIONS", "/api/uploads", &[]);
    assert_eq!((options.status, options.value("tus-version")), (204, "1.0.0"));
    assert_eq!(options.value("tus-checksum-algorithm"), "sha256");
    let content: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    let upload = create(&share, "a.bin", content.len());
    assert_eq!(offset(&share, &upload), Some(0));
    // The connection ends in the middle of a request.
    let mut stream = share.connect();
    let len = content.len().to_string();
    let head = share.head("PATCH", &upload, &[VERSION, KIND, ("Upload-Offset", "0"), ("Content-Length", &len)]);
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&content[..700_001]).unwrap();
    stream.shutdown(Shutdown::Both).unwrap();
    wait_until("what came is there", || offset(&share, &upload) == Some(700_001));
    assert!(names_in(dir.path()).iter().all(|name| name.starts_with(".lr-up-")));
    // Before, past, and more than was said.
    for (at, body, status) in [(0, &content[..], 409), (700_002, &content[..9], 409), (700_001, &content[..], 413)] {
        assert_eq!(patch(&share, &upload, at, body).status, status);
    }
    let rest = &content[700_001..];
    assert_eq!(patch(&share, &upload, 700_001, &rest[..9]).value("upload-offset"), "700010");
    let done = patch_checked(&share, &upload, 700_010, &rest[9..], &sha256(&rest[9..]));
    assert_eq!((done.status, done.value("lr-href"), done.value("lr-scan")), (204, "a.bin", ""));
    assert_eq!(std::fs::read(dir.path().join("a.bin")).unwrap(), content);
    // Whoever did not get that answer finds it.
    assert_eq!(offset(&share, &upload), Some(content.len()));
    assert_eq!(patch(&share, &upload, content.len(), b"").value("lr-href"), "a.bin");
    assert_eq!(patch(&share, &upload, content.len(), b"x").status, 413);
    only(dir.path(), &["a.bin"]);
}

#[test]
fn folders_times_and_taken_names_come_out_right() {
    let dir = folder();
    std::fs::create_dir(dir.path().join("in")).unwrap();
    let share = started(dir.path());
    let metadata = format!(
        "filename {},folder {},relativePath {},lastModified {}",
        b64("b.jpg"),
        b64("in"),
        b64("trip/day 1/b.jpg"),
        b64("1600000000123")
    );
    for href in ["in/trip/day%201/b.jpg", "in/trip/day%201/b%20%282%29.jpg"] {
        let upload = create_with(&share, "3", &metadata).value("location").to_string();
        assert_eq!(patch(&share, &upload, 0, b"jpg").value("lr-href"), href);
        assert_eq!(share.get(&format!("/f/{href}")).text(), "jpg");
    }
    let modified = dir.path().join("in/trip/day 1/b.jpg").metadata().unwrap().modified().unwrap();
    assert_eq!(modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis(), 1_600_000_000_123);
    let empty = create_with(&share, "0", &format!("filename {}", b64("empty")));
    assert_eq!((empty.status, empty.value("lr-href")), (201, "empty"));
    only(dir.path(), &["empty", "in"]);
}

#[test]
fn a_slice_whose_checksum_is_wrong_is_dropped() {
    let dir = folder();
    let share = started(dir.path());
    let upload = create(&share, "a", 8);
    assert_eq!(patch_checked(&share, &upload, 0, b"1234", &sha256(b"1235")).status, 460);
    assert_eq!(offset(&share, &upload), Some(0));
    assert_eq!(patch_checked(&share, &upload, 0, b"1234", &sha256(b"1234")).status, 204);
    assert_eq!(patch_checked(&share, &upload, 4, b"wrong", &sha256(b"5678")).status, 413);
    assert_eq!(patch_checked(&share, &upload, 4, b"WRNG", &sha256(b"5678")).status, 460);
    for bad in ["md5 AAAA", "sha256", "sha256 !", "sha256 AAAA", ""] {
        assert_eq!(patch_checked(&share, &upload, 4, b"5678", bad).status, 400, "{bad}");
    }
    let long = vec![0; (16 << 20) + 1];
    let big = create(&share, "big", 32 << 20);
    assert_eq!(patch_checked(&share, &big, 0, &long, &sha256(&long)).status, 413);
    assert_eq!(offset(&share, &big), Some(0));
    assert_eq!(patch_checked(&share, &upload, 4, b"5678", &sha256(b"5678")).status, 204);
    assert_eq!(std::fs::read(dir.path().join("a")).unwrap(), b"12345678");
    assert_eq!(share.ask("DELETE", &big, &[VERSION]).status, 204);
    assert_eq!(share.ask("DELETE", &big, &[VERSION]).status, 404);
    only(dir.path(), &["a"]);
}

/// A PATCH of so many bytes that has begun to be taken, and of which nothing was sent yet.
fn begun(share: &Share, upload: &str, len: usize) -> TcpStream {
    let len = len.to_string();
    let said = [VERSION, KIND, ("Upload-Offset", "0"), ("Content-Length", &len), ("Expect", "100-continue")];
    let mut stream = share.connect();
    stream.write_all(share.head("PATCH", upload, &said).as_bytes()).unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream
}

#[test]
fn two_never_write_one_upload() {
    let dir = folder();
    let share = started(dir.path());
    let upload = create(&share, "a", 8);
    let mut first = begun(&share, &upload, 8);
    first.write_all(b"1234").unwrap();
    assert_eq!(patch(&share, &upload, 0, b"abcdefgh").status, 423);
    first.write_all(b"5678").unwrap();
    assert_eq!(read_reply(&mut BufReader::new(first), false).status, 204);
    assert_eq!(std::fs::read(dir.path().join("a")).unwrap(), b"12345678");
    // One that is ended while it is written is gone.
    let upload = create(&share, "b", 8);
    let mut first = begun(&share, &upload, 4);
    assert_eq!(share.ask("DELETE", &upload, &[VERSION]).status, 204);
    assert_eq!(offset(&share, &upload), None);
    first.write_all(b"1234").unwrap();
    assert_eq!(read_reply(&mut BufReader::new(first), false).status, 404);
    only(dir.path(), &["a"]);
}

/// A session, as a browser has it.
fn cookie(share: &Share) -> String {
    let request = format!("GET /t/{} HTTP/1.1\r\nHost: {}\r\n\r\n", share.token, share.authority());
    share.http(request.as_bytes()).value("set-cookie").split(';').next().unwrap().to_string()
}

#[test]
fn an_upload_is_its_sessions_alone() {
    let dir = folder();
    let share = started(dir.path());
    let (mine, other) = (cookie(&share), cookie(&share));
    let asked = |cookie: &str, method: &str, target: &str, origin: &str, more: &[(&str, &str)]| {
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\nCookie: {cookie}\r\n", share.authority());
        let own = [VERSION, ("Origin", origin), ("Content-Length", "0")];
        own.iter().chain(more).for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        share.http(format!("{head}\r\n").as_bytes())
    };
    let metadata = format!("filename {}", b64("a"));
    let new = [("Upload-Length", "4"), ("Upload-Metadata", metadata.as_str())];
    assert_eq!(asked(&mine, "POST", "/api/uploads", "http://evil.example", &new).status, 403);
    let created = asked(&mine, "POST", "/api/uploads", &share.origin, &new);
    assert_eq!(created.status, 201, "{created:?}");
    let upload = created.value("location");
    assert_eq!(asked(&mine, "HEAD", upload, &share.origin, &[]).status, 200);
    let slice = [KIND, ("Upload-Offset", "0")];
    for (method, more) in [("HEAD", &[][..]), ("PATCH", &slice[..]), ("DELETE", &[])] {
        assert_eq!(asked(&other, method, upload, &share.origin, more).status, 404, "{method}");
        assert_eq!(asked("lr=AAAAAAAAAAAAAAAAAAAAAA", method, upload, &share.origin, more).status, 401, "{method}");
    }
    assert_eq!(offset(&share, upload), None);
    assert_eq!(asked(&mine, "DELETE", upload, &share.origin, &[]).status, 204);
    only(dir.path(), &[]);
}

#[test]
fn without_the_right_nothing_is_written() {
    let dir = folder();
    let share = Share::start(&[], dir.path());
    assert_eq!(create_with(&share, "0", &format!("filename {}", b64("a"))).status, 403);
    assert_eq!(ask(&share, "PUT", "/f/a", &[], b"a").status, 403);
    let form = form_of(&[("a", b"a")]);
    assert_eq!(ask(&share, "POST", "/upload/", &[FORM], &form).status, 403);
    for request in ["PUT /f/a", "POST /upload/", "POST /api/uploads", "PATCH /api/uploads/x", "HEAD /api/uploads/x"] {
        let request = format!("{request} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n", share.authority());
        assert_eq!(share.http(request.as_bytes()).status, 401);
    }
    assert!(names_in(dir.path()).is_empty());
}

/// As a header's value: what is no text there is left to the encoded form.
const BAD_NAMES: [&str; 12] =
    ["../x", "a/../x", "/etc/x", "x\0", "C:\\x", "\u{202e}gpj.exe", "a\nb", ".hidden", ".lr-up-x", "a/.b/x", "..", "."];

#[test]
fn names_that_lead_away_or_mislead_are_refused() {
    let dir = folder();
    let outside = folder();
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    symlink(outside.path(), dir.path().join("sub/out")).unwrap();
    let share = Share::start(&["--upload"], &dir.path().join("sub"));
    for name in BAD_NAMES.iter().copied().chain([&*"n".repeat(256), &*"a/".repeat(3000), "out/x"]) {
        for metadata in [
            format!("filename {},relativePath {}", b64("x"), b64(name)),
            format!("filename {}", b64(name)),
            format!("filename {},folder {}", b64("x"), b64(name.trim_end_matches("/x"))),
        ] {
            let status = create_with(&share, "0", &metadata).status;
            assert!(matches!(status, 404 | 409 | 431), "{name:?}: {status}");
        }
    }
    for path in [
        "..%2fx",
        "%2e%2e/x",
        "../x",
        "x%00",
        "C:%5Cx",
        "%E2%80%AEx",
        "a%0Ab",
        ".hidden",
        ".lr-up-x",
        "out/x",
        "none/x",
        "%ff",
        "",
        "a/",
        &"n".repeat(256),
    ] {
        let reply = ask(&share, "PUT", &format!("/f/{path}"), &[], b"a");
        assert!(matches!(reply.status, 404 | 405 | 409), "{path}: {reply:?}");
    }
    for name in BAD_NAMES.iter().filter(|name| !name.contains(['\n', '\0'])) {
        let status = ask(&share, "POST", "/upload/", &[FORM], &form_of(&[(name, b"a")])).status;
        assert!(matches!(status, 400 | 404 | 409), "{name}: {status}");
    }
    only(&dir.path().join("sub"), &["out"]);
    only(dir.path(), &["sub"]);
    assert!(names_in(outside.path()).is_empty());
    // Decoded once: a name that looks encoded is a name.
    assert_eq!(ask(&share, "PUT", "/f/%252e%252e", &[], b"a").status, 201);
    assert!(dir.path().join("sub/%2e%2e").exists());
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let dir = folder();
    let share = started(dir.path());
    let upload = create(&share, "a", 8);
    let filename = format!("filename {}", b64("b"));
    assert_eq!(share.ask("HEAD", &upload, &[]).status, 412);
    for (headers, status) in [
        (vec![("Upload-Length", "4"), ("Upload-Metadata", &*filename)], 412),
        (vec![VERSION, ("Upload-Metadata", &filename)], 400),
        (vec![VERSION, ("Upload-Length", "-1"), ("Upload-Metadata", &filename)], 400),
        (vec![VERSION, ("Upload-Length", "+4"), ("Upload-Metadata", &filename)], 400),
        (vec![VERSION, ("Upload-Length", "99999999999999999999"), ("Upload-Metadata", &filename)], 400),
        (vec![VERSION, ("Upload-Length", "18446744073709551615"), ("Upload-Metadata", &filename)], 413),
        (vec![VERSION, ("Upload-Length", "9223372036854775807"), ("Upload-Metadata", &filename)], 507),
        (vec![VERSION, ("Upload-Length", "4")], 400),
        (vec![VERSION, ("Upload-Length", "4"), ("Upload-Metadata", "filename !!")], 400),
        (vec![VERSION, ("Upload-Length", "4"), ("Upload-Metadata", "filename")], 400),
    ] {
        assert_eq!(ask(&share, "POST", "/api/uploads", &headers, b"").status, status, "{headers:?}");
    }
    for (headers, status) in [
        (vec![VERSION, KIND], 400),
        (vec![VERSION, ("Upload-Offset", "0")], 415),
        (vec![KIND, ("Upload-Offset", "0")], 412),
        (vec![VERSION, KIND, ("Upload-Offset", "x")], 400),
        (vec![VERSION, KIND, ("Upload-Offset", "0"), ("Upload-Offset", "0")], 400),
    ] {
        assert_eq!(ask(&share, "PATCH", &upload, &headers, b"1234").status, status, "{headers:?}");
    }
    for id in ["", "x", "../../etc", &"0".repeat(32), &"0".repeat(33), "%00"] {
        let status = share.ask("HEAD", &format!("/api/uploads/{id}"), &[VERSION]).status;
        assert!(matches!(status, 404 | 405), "{id}: {status}");
    }
    assert_eq!(offset(&share, &upload), Some(0));
    let ranged = [("Content-Range", "bytes 1-1/2")];
    assert_eq!(ask(&share, "PUT", "/f/x", &ranged, b"a").status, 400);
    assert_eq!(ask(&share, "PUT", "/f/x", &[("Content-Encoding", "gzip")], b"a").status, 415);
    // Less than was said, chunks that break off, a chunk that is none.
    let short = share.head("PUT", "/f/x", &[("Content-Length", "10")]);
    let chunks = share.head("PUT", "/f/x", &[("Transfer-Encoding", "chunked")]);
    for (head, body) in
        [(&short, "abc"), (&chunks, "5\r\nab"), (&chunks, "1\r\na\r\n"), (&chunks, "zz\r\na\r\n0\r\n\r\n")]
    {
        let mut stream = share.connect();
        stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_ne!(read_reply(&mut BufReader::new(stream), false).status, 201, "{body:?}");
    }
    assert_eq!(share.ask("DELETE", &upload, &[VERSION]).status, 204);
    only(dir.path(), &[]);
    // In chunks of any length it is a whole file.
    assert_eq!(share.http(&[chunks.as_bytes(), b"1\r\na\r\n4;x=y\r\nbcde\r\n0\r\n\r\n"].concat()).status, 201);
    assert_eq!(std::fs::read(dir.path().join("x")).unwrap(), b"abcde");
    // With a length besides the chunks count, and what follows is no second request.
    let both = share.head("PUT", "/f/y", &[("Content-Length", "3"), ("Transfer-Encoding", "chunked")]);
    let smuggled = share.head("PUT", "/f/z", &[("Content-Length", "1")]) + "z";
    let mut stream = share.connect();
    stream.write_all(&[both.as_bytes(), b"2\r\nab\r\n0\r\n\r\n", smuggled.as_bytes()].concat()).unwrap();
    let mut answers = BufReader::new(stream);
    assert_eq!(read_reply(&mut answers, false).status, 201);
    assert_eq!(read_reply(&mut answers, false).status, 0);
    only(dir.path(), &["x", "y"]);
    assert_eq!(std::fs::read(dir.path().join("y")).unwrap(), b"ab");
}

#[test]
fn the_quota_is_of_all_uploads_together() {
    let dir = folder();
    let share = Share::start(&["--upload", "--max-upload", "100"], dir.path());
    assert_eq!(share.get("/api/share").json()["upload_bytes_max"], 100);
    assert_eq!(share.ask("OPTIONS", "/api/uploads", &[]).value("tus-max-size"), "100");
    assert_eq!(create_with(&share, "101", &format!("filename {}", b64("a"))).status, 413);
    assert_eq!(ask(&share, "PUT", "/f/a", &[], &[1; 101]).status, 413);
    let upload = create(&share, "a", 60);
    assert_eq!(ask(&share, "PUT", "/f/b", &[], &[1; 41]).status, 413);
    assert_eq!(ask(&share, "PUT", "/f/b", &[], &[1; 40]).status, 201);
    let chunked = share.head("PUT", "/f/c", &[("Transfer-Encoding", "chunked")]);
    assert_eq!(share.http(&[chunked.as_bytes(), b"1\r\na\r\n0\r\n\r\n"].concat()).status, 413);
    assert_eq!(ask(&share, "POST", "/upload/", &[FORM], &form_of(&[("c", b"a")])).status, 413);
    // What is ended gives back what it had; what is there does not.
    assert_eq!(share.ask("DELETE", &upload, &[VERSION]).status, 204);
    assert_eq!(ask(&share, "PUT", "/f/c", &[], &[1; 60]).status, 201);
    assert_eq!(ask(&share, "PUT", "/f/d", &[], &[1; 1]).status, 413);
    only(dir.path(), &["b", "c"]);
}

#[test]
fn a_folder_that_goes_or_becomes_a_link_meanwhile_takes_nothing_outside() {
    let dir = folder();
    let outside = folder();
    let share = started(dir.path());
    let metadata = |path: &str| format!("filename {},relativePath {}", b64("x"), b64(path));
    let swapped = create_with(&share, "4", &metadata("in/x")).value("location").to_string();
    let gone = create_with(&share, "4", &metadata("gone/x")).value("location").to_string();
    assert_eq!(patch(&share, &swapped, 0, b"12").status, 204);
    std::fs::rename(dir.path().join("in"), dir.path().join("moved")).unwrap();
    symlink(outside.path(), dir.path().join("in")).unwrap();
    std::fs::remove_dir_all(dir.path().join("gone")).unwrap();
    let _ = patch(&share, &swapped, 2, b"34");
    assert_eq!(patch(&share, &gone, 0, b"1234").status, 410);
    assert_eq!(offset(&share, &gone), None);
    assert!(names_in(outside.path()).is_empty());
    assert!(!dir.path().join("gone").exists());
}

const FORM: (&str, &str) = ("Content-Type", "multipart/form-data; boundary=edge");

fn form_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut form = b"--edge\r\nContent-Disposition: form-data; name=\"other\"\r\n\r\nskipped\r\n".to_vec();
    for (name, content) in files {
        let head = format!("--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n");
        form.extend([head.as_bytes(), content, b"\r\n"].concat());
    }
    form.extend(b"--edge--\r\n");
    form
}

#[test]
fn the_form_of_the_page_takes_several_files() {
    let dir = folder();
    std::fs::create_dir(dir.path().join("a b")).unwrap();
    let share = started(dir.path());
    let form = form_of(&[("one", b"1"), ("", b""), ("sub/two", &[2; 3_000_000]), ("one", b"3")]);
    let reply = ask(&share, "POST", "/upload/a%20b/", &[FORM], &form);
    assert_eq!((reply.status, reply.value("location")), (303, "/f/a%20b/"), "{reply:?}");
    only(&dir.path().join("a b"), &["one", "one (2)", "sub"]);
    assert_eq!(std::fs::read(dir.path().join("a b/sub/two")).unwrap(), [2; 3_000_000]);
    // Cut in the middle: what was whole is there, the rest is not.
    for (body, kind) in [(&form[..form.len() - 20], FORM), (b"nothing", FORM), (b"x", ("Content-Type", "text/plain"))] {
        assert_eq!(ask(&share, "POST", "/upload/", &[kind], body).status, 400);
    }
    only(dir.path(), &["a b", "one", "sub"]);
}

fn curl(args: &[&str]) -> Option<Done> {
    let is_there = Command::new("curl").arg("--version").output().is_ok();
    if !is_there {
        println!("skipped: there is no curl");
        return None;
    }
    // However long it takes to refuse it: nothing is sent before.
    let own = ["-q", "-sS", "-f", "--noproxy", "*", "--expect100-timeout", "60"];
    Some(run_bounded(Command::new("curl").args(own).args(args)))
}

#[test]
fn curl_uploads_files_and_pipes() {
    let (dir, from) = (folder(), folder());
    let share = started(dir.path());
    let content: Vec<u8> = (0..5_000_000u32).flat_map(u32::to_le_bytes).collect();
    let file = from.path().join("big.bin");
    std::fs::write(&file, &content).unwrap();
    let (file, bearer) = (file.display().to_string(), format!("Authorization: Bearer {}", share.token));
    let top = format!("{}/f/", share.origin);
    for name in ["big.bin", "big (2).bin"] {
        let Some(done) = curl(&["-H", &bearer, "-T", &file, &top]) else { return };
        done.expect(0);
        assert!(std::fs::read(dir.path().join(name)).unwrap() == content);
    }
    let piped = ["-H", &bearer, "-H", "Transfer-Encoding: chunked", "-T", &file, &format!("{top}piped")];
    curl(&piped).unwrap().expect(0);
    assert!(std::fs::read(dir.path().join("piped")).unwrap() == content);
    // Without the link nothing is even sent.
    curl(&["-T", &file, &top]).unwrap().expect(22);
    only(dir.path(), &["big (2).bin", "big.bin", "piped"]);
}

/// A small filesystem in memory; nothing, with a reason, where it may not be mounted.
struct Small(tempfile::TempDir);

impl Small {
    fn mount() -> Option<Small> {
        let dir = folder();
        let args = ["-t", "tmpfs", "-o", "size=8m", "tmpfs"];
        let done = Command::new("mount").args(args).arg(dir.path()).output();
        match done.is_ok_and(|done| done.status.success()) {
            true => Some(Small(dir)),
            false => {
                println!("skipped: a small filesystem cannot be mounted here");
                None
            }
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_said_before_and_in_the_middle() {
    let Some(small) = Small::mount() else { return };
    let dir = small.0.path();
    let share = started(dir);
    assert_eq!(create_with(&share, &(9 << 20).to_string(), &format!("filename {}", b64("a"))).status, 507);
    assert_eq!(ask(&share, "PUT", "/f/a", &[], &vec![1; 9 << 20]).status, 507);
    let upload = create(&share, "a", 6 << 20);
    assert_eq!(patch(&share, &upload, 0, &vec![1; 2 << 20]).status, 204);
    // Somebody else takes the room.
    let other = vec![2; 5 << 20];
    std::fs::write(dir.join("other"), &other).unwrap();
    assert_eq!(patch(&share, &upload, 2 << 20, &vec![1; 4 << 20]).status, 507);
    let chunked = share.head("PUT", "/f/b", &[("Transfer-Encoding", "chunked")]);
    let body = [b"400000\r\n".to_vec(), vec![1; 4 << 20], b"\r\n0\r\n\r\n".to_vec()].concat();
    assert_eq!(share.http(&[chunked.as_bytes(), &body].concat()).status, 507);
    // With room again it goes on.
    std::fs::remove_file(dir.join("other")).unwrap();
    let at = offset(&share, &upload).unwrap();
    assert!((2 << 20..6 << 20).contains(&at));
    assert_eq!(patch(&share, &upload, at, &vec![1; (6 << 20) - at]).status, 204);
    assert!(std::fs::read(dir.join("a")).unwrap() == vec![1; 6 << 20]);
    only(dir, &["a"]);
}

#[test]
fn a_killed_share_leaves_nothing_torn_and_a_stopped_one_nothing() {
    let dir = folder();
    let share = started(dir.path());
    let upload = create(&share, "a", 8);
    assert_eq!(patch(&share, &upload, 0, b"1234").status, 204);
    assert_eq!(share.get("/api/list/").json()["total"], 0);
    drop(share);
    assert!(names_in(dir.path()).iter().all(|name| name.starts_with(".lr-up-")));
    std::fs::remove_file(dir.path().join(&names_in(dir.path())[0])).unwrap();
    let share = started(dir.path());
    assert_eq!(offset(&share, &upload), None);
    create(&share, "a", 8);
    common::signal_process(share.pid(), libc::SIGTERM);
    only(dir.path(), &[]);
}

#[test]
fn partial_files_of_earlier_runs_are_swept() {
    let dir = folder();
    let old = dir.path().join(format!(".lr-up-{}", "0".repeat(32)));
    let file = std::fs::File::create(&old).unwrap();
    let before = std::time::SystemTime::now() - std::time::Duration::from_secs(2 * 24 * 3600);
    file.set_modified(before).unwrap();
    let _share = started(dir.path());
    wait_until("it is gone", || !old.exists());
}
