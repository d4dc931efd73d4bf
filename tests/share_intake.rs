//! What comes to `linerate share` and `receive`: whose it is, the folders that are made for it, where it is sorted to.
#![cfg(feature = "web")]

mod common;

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::share::{Reply, Share};
use common::{folder, linerate, names_in, wait_until};

const VERSION: &str = "Tus-Resumable: 1.0.0";
const KIND: &str = "Content-Type: application/offset+octet-stream";

fn started(dir: &Path) -> Share {
    Share::start(&["--upload"], dir)
}

/// `linerate receive` with this option.
fn receiving(option: &str, dir: &Path) -> Share {
    let mut command: Command = linerate(["receive", "--http", "--listen", "127.0.0.1:0", "--no-announce", option]);
    Share::by(command.arg(dir))
}

/// A request of one with this header line, by which he is known.
fn ask(share: &Share, who: &str, line: &str, headers: &[&str], body: &[u8]) -> Reply {
    let origin = format!("Origin: {}", share.origin);
    let mut all = vec![who, VERSION, &origin];
    all.extend(headers);
    if body.is_empty() && !line.starts_with("HEAD") {
        all.push("Content-Length: 0");
    }
    share.request(line, &all, body)
}

fn create(share: &Share, who: &str, path: &str, len: usize) -> Reply {
    let metadata = format!("Upload-Metadata: filename {},relativePath {}", STANDARD.encode("x"), STANDARD.encode(path));
    ask(share, who, "POST /api/uploads", &[&format!("Upload-Length: {len}"), &metadata], b"")
}

fn patch(share: &Share, who: &str, upload: &str, offset: usize, body: &[u8]) -> Reply {
    ask(share, who, &format!("PATCH {upload}"), &[KIND, &format!("Upload-Offset: {offset}")], body)
}

fn status_of(share: &Share, who: &str, line: &str) -> u16 {
    ask(share, who, line, &[], b"").status
}

#[test]
fn what_a_program_began_needs_its_number_and_the_token() {
    let dir = folder();
    let share = started(dir.path());
    let (program, session) = (share.bearer(), share.enter());
    let stranger = "Authorization: Bearer AAAAAAAAAAAAAAAAAAAAAA";
    let created = create(&share, &program, "a", 4);
    let upload = created.header("location").unwrap().to_string();
    let number = upload.rsplit('/').next().unwrap();
    assert_eq!((created.status, number.len()), (201, 32));
    // Nothing on the disk tells the number.
    assert!(names_in(dir.path()).iter().all(|name| !name.contains(number)), "{:?}", names_in(dir.path()));
    // Each request has a connection of its own, as that of a later run has.
    assert_eq!(patch(&share, &program, &upload, 0, b"12").status, 204);
    assert_eq!(ask(&share, &program, &format!("HEAD {upload}"), &[], b"").header("upload-offset"), Some("2"));
    for (who, status) in [(stranger, 403), ("X-Nobody: 1", 401), (session.as_str(), 404)] {
        assert_eq!(status_of(&share, who, &format!("HEAD {upload}")), status, "{who}");
        assert_eq!(patch(&share, who, &upload, 2, b"34").status, status, "{who}");
        assert_eq!(status_of(&share, who, &format!("DELETE {upload}")), status, "{who}");
    }
    // Nor does a program go on with what a session began, though it has the number.
    let of_session = create(&share, &session, "b", 4).header("location").unwrap().to_string();
    assert_eq!(status_of(&share, &program, &format!("HEAD {of_session}")), 404);
    assert_eq!(status_of(&share, &program, &format!("DELETE {of_session}")), 404);
    assert_eq!(patch(&share, &program, &upload, 2, b"34").status, 204);
    assert_eq!(std::fs::read(dir.path().join("a")).unwrap(), b"1234");
}

#[test]
fn an_empty_folder_is_made_in_one_that_is_there() {
    let (dir, outside) = (folder(), folder());
    symlink(outside.path(), dir.path().join("out")).unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let share = started(dir.path());
    let session = share.enter();
    let make = |path: &str| ask(&share, &session, &format!("PUT /f/{path}"), &[], b"");
    let made = make("a%20b/");
    assert_eq!((made.status, made.header("location")), (201, Some("/f/a%20b/")), "{made:?}");
    assert_eq!(make("a%20b/").status, 204);
    assert_eq!(make("a%20b/c/").status, 201);
    assert!(names_in(&dir.path().join("a b/c")).is_empty());
    for (path, status) in [
        ("none/x/", 404),
        ("file/", 409),
        ("out/", 409),
        ("out/x/", 409),
        ("file/x/", 409),
        (".hidden/", 409),
        ("..%2fx/", 409),
        ("../x/", 409),
        ("%2e%2e/", 409),
        ("a%5Cb/", 409),
        ("%E2%80%AEx/", 409),
        ("x%00/", 409),
        ("%ff/", 409),
        (&format!("{}/", "n".repeat(256)), 409),
        ("", 405),
    ] {
        assert_eq!(make(path).status, status, "{path}");
    }
    let with_body = ask(&share, &session, "PUT /f/x/", &[], b"x");
    assert_eq!(with_body.status, 409);
    let foreign = share.request("PUT /f/x/", &[&session, "Origin: http://evil.example", "Content-Length: 0"], b"");
    assert_eq!(foreign.status, 403);
    let mut names = names_in(dir.path());
    names.sort();
    assert_eq!(names, ["a b", "file", "out"]);
    assert!(names_in(outside.path()).is_empty());
    let without = Share::start(&[], dir.path());
    assert_eq!(status_of(&without, &without.bearer(), "PUT /f/x/"), 403);
    let list = Share::by(
        linerate(["share", "--http", "--upload", "--listen", "127.0.0.1:0"])
            .args([dir.path().join("file"), dir.path().join("a b")]),
    );
    assert_eq!(status_of(&list, &list.bearer(), "PUT /f/new/"), 409);
    assert_eq!(status_of(&list, &list.bearer(), "PUT /f/a%20b/new/"), 201);
    assert!(dir.path().join("a b/new").is_dir());
}

#[test]
fn folders_go_again_with_the_upload_that_they_were_made_for() {
    let dir = folder();
    let share = started(dir.path());
    let program = share.bearer();
    let begun = |path: &str| create(&share, &program, path, 4).header("location").unwrap().to_string();
    let end = |upload: &str| assert_eq!(status_of(&share, &program, &format!("DELETE {upload}")), 204);
    let (first, second) = (begun("a/b/x"), begun("a/y"));
    end(&first);
    assert_eq!(names_in(dir.path()), ["a"]);
    assert!(!dir.path().join("a/b").exists());
    end(&second);
    assert!(names_in(dir.path()).is_empty());
    // Somebody wants the folder itself meanwhile.
    let first = begun("a/b/x");
    assert_eq!(status_of(&share, &program, "PUT /f/a/"), 204);
    end(&first);
    assert_eq!(names_in(dir.path()), ["a"]);
    assert!(names_in(&dir.path().join("a")).is_empty());
    // What is begun when the share ends is gone with it.
    begun("c/d/x");
    share.end().expect(0);
    wait_until("it is gone", || names_in(dir.path()) == ["a"]);
}

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n and so on";

#[test]
fn what_is_sorted_by_type_is_looked_into_where_its_name_does_not_tell() {
    let dir = folder();
    let share = receiving("--by-type", dir.path());
    let program = share.bearer();
    for (name, content, landed) in [
        ("holiday", PNG, "image/holiday"),
        ("trip/day1", PNG, "image/trip/day1"),
        ("photo.png", b"no picture".as_slice(), "image/photo.png"),
        ("notes.txt", PNG, "text/notes.txt"),
        ("unknown.xyzzy", b"\x00\x01\x02\xff", "other/unknown.xyzzy"),
    ] {
        let upload = create(&share, &program, name, content.len()).header("location").unwrap().to_string();
        assert_eq!(patch(&share, &program, &upload, 0, content).header("lr-href"), Some(landed), "{name}");
        assert_eq!(std::fs::read(dir.path().join(landed)).unwrap(), content);
    }
    let put = ask(&share, &program, "PUT /f/IMG_0001", &[], PNG);
    assert_eq!((put.status, put.header("location")), (201, Some("/f/image/IMG_0001")));
    assert_eq!(status_of(&share, &program, "PUT /f/empty/"), 409);
    let mut names = names_in(dir.path());
    names.sort();
    assert_eq!(names, ["image", "other", "text"]);
    let mut other = names_in(&dir.path().join("other"));
    other.sort();
    assert_eq!(other, ["unknown.xyzzy"]);
}
