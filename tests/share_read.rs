//! Downloads, archives, hashes, searches and deletion of a share, with requests that no client would make.
#![cfg(feature = "web")]

mod common;

use std::io::{BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};

use common::share::{Share, read_reply};
use common::{file_of, folder, status_kib, wait_until};

/// A share with all kinds of things in it, and a secret beside it.
fn sample() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = folder();
    let shared = dir.path().join("shared");
    std::fs::create_dir_all(shared.join("sub/empty")).unwrap();
    std::fs::write(dir.path().join("secret"), "secret").unwrap();
    std::fs::create_dir(dir.path().join("outside")).unwrap();
    std::fs::write(dir.path().join("outside/secret"), "secret").unwrap();
    for name in ["a.txt", "sub/b.txt", ".hidden", "ünï.txt", "back\\slash", "C:\\x"] {
        std::fs::write(shared.join(name), name).unwrap();
    }
    symlink("../secret", shared.join("out")).unwrap();
    symlink("../outside", shared.join("out-folder")).unwrap();
    symlink("/", shared.join("root")).unwrap();
    symlink("sub/b.txt", shared.join("in")).unwrap();
    symlink(".", shared.join("sub/loop")).unwrap();
    nix::unistd::mkfifo(&shared.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    (dir, shared)
}

fn names_of_tar(bytes: &[u8]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for entry in tar::Archive::new(bytes).entries().unwrap() {
        names.push(String::from_utf8_lossy(&entry.unwrap().path_bytes()).into_owned());
    }
    names.sort();
    names
}

fn content_of_zip(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(bytes)).unwrap();
    let mut content: Vec<(String, Vec<u8>)> = (0..zip.len())
        .map(|at| {
            let mut entry = zip.by_index(at).unwrap();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
            (entry.name().unwrap().into_owned(), bytes)
        })
        .collect();
    content.sort();
    content
}

#[test]
fn no_path_leads_out_and_nothing_waits() {
    let (_dir, shared) = sample();
    let share = Share::start(&[], &shared);
    let overlong = "n".repeat(300);
    let deep = "a/".repeat(3000);
    for path in [
        "..%2fsecret",
        "../secret",
        "%2e%2e/secret",
        "%2e%2e%2fsecret",
        "%252e%252e/secret",
        "%252e%252e%252fsecret",
        "..%5csecret",
        "sub/../../secret",
        "a.txt%00",
        "%00",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "C:%5cWindows",
        "out",
        "out-folder/secret",
        "root/etc/passwd",
        ".hidden",
        ".%68idden",
        "fifo",
        "none",
        "a.txt/x",
        &overlong,
        &deep,
        "%e2%80%ae",
        "%ff%fe",
        "sub/empty/..%2f..%2fa.txt",
        "..",
        ".",
        "%2e",
        "%2e%2e",
    ] {
        for query in ["", "?view", "?blake3", "?zip"] {
            let reply = share.get(&format!("/f/{path}{query}"));
            assert!(matches!(reply.status, 404 | 400), "{path}{query}: {reply:?}");
            assert!(!reply.text().contains("secret"), "{path}{query}");
        }
        for base in ["/api/list/", "/f/"] {
            let reply = share.get(&format!("{base}{path}/?tar"));
            assert!(matches!(reply.status, 404 | 400), "{base}{path}: {reply:?}");
        }
    }
    // Names that only look like something else are names.
    for path in ["C:%5cx", "back%5cslash", "in", "%C3%BCn%C3%AF.txt", "sub/loop/loop/b.txt"] {
        assert_eq!(share.get(&format!("/f/{path}")).status, 200, "{path}");
    }
    assert_eq!(Share::start(&["--hidden"], &shared).get("/f/.hidden").text(), ".hidden");
}

#[test]
fn ranges_are_answered_as_the_rfc_has_it() {
    let dir = folder();
    let path = file_of(dir.path(), "file", 3 << 20);
    let bytes = std::fs::read(path).unwrap();
    let share = Share::start(&[], dir.path());
    let whole = share.get("/f/file");
    assert_eq!((whole.status, whole.body == bytes, whole.value("accept-ranges")), (200, true, "bytes"));
    let (etag, date) = (whole.value("etag").to_string(), whole.value("last-modified").to_string());
    let range = |range: &str, more: &[(&str, &str)]| {
        let mut headers = vec![("Range", range)];
        headers.extend_from_slice(more);
        share.ask("GET", "/f/file", &headers)
    };
    for (wanted, start, end) in [
        ("bytes=0-0", 0, 1),
        ("bytes=5-99", 5, 100),
        ("bytes=-7", bytes.len() - 7, bytes.len()),
        ("bytes=1000000-", 1_000_000, bytes.len()),
        ("bytes=2-18446744073709551615", 2, bytes.len()),
        ("bytes=0-99999999999999999999999", 0, bytes.len()),
    ] {
        let reply = range(wanted, &[("If-Range", &etag)]);
        assert_eq!((reply.status, reply.body == bytes[start..end]), (206, true), "{wanted}");
        assert_eq!(reply.value("content-range"), format!("bytes {start}-{}/{}", end - 1, bytes.len()));
    }
    for wanted in ["bytes=3145728-", "bytes=18446744073709551615-", "bytes=-0"] {
        let reply = range(wanted, &[]);
        assert_eq!((reply.status, reply.value("content-range")), (416, "bytes */3145728"), "{wanted}");
    }
    let many = format!("bytes={}", vec!["1-2"; 10_000].join(","));
    for wanted in ["bytes=9-5", "bytes=0-1,5-6", &many, "nonsense", "bytes=", "bytes=x-y"] {
        let reply = range(wanted, &[]);
        assert!(reply.status == 200 && reply.body == bytes || reply.status == 431, "{wanted:.20}: {}", reply.status);
    }
    assert_eq!(range("bytes=0-0", &[("If-Range", "\"other\"")]).status, 200);
    assert_eq!(range("bytes=0-0", &[("If-Range", &date)]).status, 206);
    assert_eq!(share.ask("GET", "/f/file", &[("If-None-Match", &etag)]).status, 304);
    assert_eq!(share.ask("GET", "/f/file", &[("If-Modified-Since", &date)]).status, 304);
    assert_eq!(share.ask("GET", "/f/file", &[("If-Match", "\"other\"")]).status, 412);
    let head = share.ask("HEAD", "/f/file", &[]);
    assert_eq!((head.status, head.value("content-length"), head.value("etag")), (200, "3145728", &*etag));
    let head = share.ask("HEAD", "/f/file", &[("Range", "bytes=0-9")]);
    assert_eq!((head.status, head.value("content-length"), head.header("content-range")), (200, "3145728", None));
    assert!(matches!(share.ask("POST", "/f/file", &[("Content-Length", "0")]).status, 405));
}

#[test]
fn a_file_that_changes_is_cut_and_never_padded() {
    let dir = folder();
    let path = file_of(dir.path(), "file", 64 << 20);
    let bytes = std::fs::read(&path).unwrap();
    let share = Share::start(&[], dir.path());
    for action in ["truncate", "grow", "replace"] {
        std::fs::write(&path, &bytes).unwrap();
        let mut stream = share.connect();
        stream.write_all(share.head("GET", "/f/file", &[]).as_bytes()).unwrap();
        // The head has come: the file is open, and more than fits into the sockets is yet to be read.
        assert!(stream.peek(&mut [0; 64]).unwrap() > 0);
        match action {
            "truncate" => std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(48 << 20).unwrap(),
            "grow" => {
                let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
                file.write_all_at(b"more", 64 << 20).unwrap();
            }
            _ => {
                std::fs::write(dir.path().join("new"), "other").unwrap();
                std::fs::rename(dir.path().join("new"), &path).unwrap();
            }
        }
        let reply = read_reply(&mut BufReader::new(stream), false);
        assert_eq!(reply.status, 200);
        assert!(bytes.starts_with(&reply.body), "{action}: wrong bytes");
        assert_eq!((reply.is_whole, reply.body.len() == bytes.len()), (action != "truncate", action != "truncate"));
    }
}

#[test]
fn a_folder_that_goes_away_is_missing() {
    let (_dir, shared) = sample();
    let share = Share::start(&[], &shared);
    assert_eq!(share.get("/f/sub/b.txt").status, 200);
    std::fs::remove_dir_all(shared.join("sub")).unwrap();
    for path in ["/f/sub/b.txt", "/f/sub/", "/api/list/sub/", "/f/sub/?zip", "/api/search?q=b&in=sub/"] {
        assert_eq!(share.get(path).status, 404, "{path}");
    }
    std::fs::remove_dir_all(&shared).unwrap();
    for path in ["/f/a.txt", "/f/?zip", "/f/", "/api/list/", "/api/search?q=b"] {
        let reply = share.get(path);
        assert!(matches!(reply.status, 200 | 404), "{path}: {reply:?}");
        assert!(!reply.text().contains("a.txt:"), "{path}");
    }
    assert_eq!(share.get("/api/share").status, 200);
}

#[test]
fn archives_hold_what_is_shown_and_nothing_else() {
    let (_dir, shared) = sample();
    std::fs::write(shared.join(std::ffi::OsStr::from_bytes(b"\xff")), "latin").unwrap();
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    std::fs::create_dir(shared.join("d".repeat(200))).unwrap();
    std::fs::write(shared.join(&long), "long").unwrap();
    std::fs::write(shared.join("back_slash"), "other").unwrap();
    let share = Share::start(&[], &shared);

    let tar = share.get("/f/?tar");
    assert_eq!((tar.status, tar.is_whole, tar.value("content-type")), (200, true, "application/x-tar"));
    assert!(tar.value("content-disposition").contains("filename=\"shared.tar\""));
    let names = names_of_tar(&tar.body);
    for name in ["shared/a.txt", "shared/sub/b.txt", "shared/sub/empty/", "shared/in", "shared/C:\\x", "_errors.txt"] {
        assert!(names.iter().any(|other| other == name), "{name}: {names:?}");
    }
    assert!(names.contains(&format!("shared/{long}")));
    for name in ["out", "hidden", "root", "fifo", "secret", "shared/sub/loop/"] {
        assert!(!names.iter().any(|other| other.contains(name)), "{name}: {names:?}");
    }

    let zip = share.get("/f/?zip");
    assert_eq!((zip.status, zip.is_whole, zip.value("content-type")), (200, true, "application/zip"));
    let content = content_of_zip(&zip.body);
    let find = |name: &str| content.iter().find(|(other, _)| other == name).map(|(_, bytes)| &bytes[..]);
    assert_eq!(find("shared/ünï.txt"), Some("ünï.txt".as_bytes()));
    assert_eq!((find("shared/in"), find("shared/\u{fffd}")), (Some(&b"sub/b.txt"[..]), Some(&b"latin"[..])));
    // No name leads out where `\` parts names, and none is there twice.
    assert!(content.iter().all(|(name, _)| !name.contains('\\') && !name.contains("..")));
    assert_eq!(content.iter().filter(|(name, _)| name == "shared/back_slash").count(), 1);
    let told = String::from_utf8(find("_errors.txt").unwrap().to_vec()).unwrap();
    assert!(told.contains("shared/sub/loop: is a link to a folder") && told.contains("slash"), "{told}");
    assert!(!told.contains("out") && !told.contains("secret"), "{told}");
    // A link to a folder is followed when it is what is asked for.
    assert!(names_of_tar(&share.get("/f/sub/loop/?tar").body).contains(&"loop/b.txt".to_string()));
    assert_eq!(share.get("/f/a.txt/?zip").status, 404);
    let head = share.ask("HEAD", "/f/?zip", &[]);
    assert_eq!((head.status, head.value("content-type"), head.body.len()), (200, "application/zip", 0));
}

#[test]
fn a_selection_is_an_archive_of_what_is_in_its_folder() {
    let (_dir, shared) = sample();
    let share = Share::start(&[], &shared);
    let post = |body: &str| {
        let len = body.len().to_string();
        let kind = ("Content-Type", "application/x-www-form-urlencoded");
        let head = share.head("POST", "/archive", &[kind, ("Content-Length", &len)]);
        share.http((head + body).as_bytes())
    };
    let reply = post("format=tar&in=&item=a.txt&item=sub%2F&item=gone");
    assert_eq!(names_of_tar(&reply.body), ["_errors.txt", "a.txt", "sub/", "sub/b.txt", "sub/empty/"]);
    let reply = post("format=zip&in=sub%2F&item=b.txt");
    assert_eq!(content_of_zip(&reply.body), [("b.txt".to_string(), b"sub/b.txt".to_vec())]);
    // Hits of a search lie deeper, and are called as they are there.
    std::fs::write(shared.join("b.txt"), "b").unwrap();
    let reply = post("format=zip&in=&item=b.txt&item=sub%2Fb.txt&item=sub%2Fempty%2F");
    let (top, deep) = (("b.txt".to_string(), b"b".to_vec()), ("sub/b.txt".to_string(), b"sub/b.txt".to_vec()));
    assert_eq!(content_of_zip(&reply.body), [top, deep, ("sub/empty/".to_string(), Vec::new())]);
    for bad in [
        "in=&item=..%252fsecret",
        "in=&item=..",
        "in=&item=sub/../a.txt",
        "in=&item=/a.txt",
        "in=sub/&item=",
        "in=..&item=a",
        "in=&item=%252f",
    ] {
        assert_eq!(post(bad).status, 404, "{bad}");
    }
    for bad in ["format=rar&item=a.txt", "in=", ""] {
        assert_eq!(post(bad).status, 400, "{bad}");
    }
    std::fs::write(shared.join("sub/.hidden"), "secret").unwrap();
    let items = "item=out&item=.hidden&item=sub/.hidden&item=fifo&item=out-folder%2F&item=root/etc/passwd";
    let outside = post(&format!("format=tar&in=&{items}"));
    assert_eq!(names_of_tar(&outside.body), ["_errors.txt"]);
    assert!(!outside.text().contains("secret"));
}

#[test]
fn an_archive_whose_file_shrinks_has_no_end() {
    let dir = folder();
    let path = file_of(dir.path(), "file", 64 << 20);
    let share = Share::start(&[], dir.path());
    for format in ["zip", "tar"] {
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(64 << 20).unwrap();
        let mut stream = share.connect();
        stream.write_all(share.head("GET", &format!("/f/?{format}"), &[]).as_bytes()).unwrap();
        // More than the head has come: the file is open.
        wait_until("content comes", || stream.peek(&mut [0; 1 << 16]).unwrap() > 1 << 14);
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(48 << 20).unwrap();
        let reply = read_reply(&mut BufReader::new(stream), false);
        assert_eq!((reply.status, reply.is_whole), (200, false), "{format}");
    }
}

#[test]
fn what_cannot_be_read_is_told() {
    let dir = folder();
    let path = file_of(dir.path(), "file", 100);
    let share = Share::start(&[], dir.path());
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o000)).unwrap();
    if std::fs::File::open(&path).is_ok() {
        println!("skipped: whoever runs this reads everything");
        return;
    }
    assert_eq!(share.get("/f/file").status, 403);
    assert_eq!(share.get("/f/file?blake3").status, 403);
    assert!(names_of_tar(&share.get("/f/?tar").body).contains(&"_errors.txt".to_string()));
}

#[test]
fn archives_are_bounded_and_end_with_their_connection() {
    let dir = folder();
    file_of(dir.path(), "file", 32 << 20);
    let share = Share::start(&[], dir.path());
    let archives = || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", share.pid())).unwrap().flatten();
        tasks
            .filter(|task| std::fs::read_to_string(task.path().join("comm")).is_ok_and(|it| it.trim() == "archive"))
            .count()
    };
    let head = share.head("GET", "/f/?zip", &[]);
    let begin = || {
        let mut stream = share.connect();
        stream.write_all(head.as_bytes()).unwrap();
        assert!(stream.peek(&mut [0; 16]).unwrap() > 0);
        stream
    };
    let running: Vec<_> = (0..8).map(|_| begin()).collect();
    let refused = share.get("/f/?zip");
    assert_eq!((refused.status, refused.value("retry-after")), (503, "1"));
    // A thread has its name a moment after it has begun to work.
    wait_until("every archive has a thread", || archives() == 8);
    assert!(status_kib(share.pid(), "VmRSS").unwrap() < 150 << 10);
    drop(running);
    wait_until("no archive is made for nobody", || archives() == 0);
    assert_eq!(share.get("/f/?zip").status, 200);
}

#[test]
fn hashes_are_those_of_the_content() {
    let dir = folder();
    for bytes in [0, 1, 100_000, 20 << 20] {
        file_of(dir.path(), "file", bytes);
        let content = std::fs::read(dir.path().join("file")).unwrap();
        let share = Share::start(&[], dir.path());
        for _ in 0..2 {
            let reply = share.get("/f/file?blake3").json();
            assert_eq!(reply["blake3"], blake3::hash(&content).to_hex().to_string());
            assert_eq!(reply["bytes"], bytes);
        }
        std::fs::write(dir.path().join("file"), "other").unwrap();
        assert_eq!(share.get("/f/file?blake3").json()["blake3"], blake3::hash(b"other").to_hex().to_string());
    }
}

fn lines(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn searches_tell_what_fits_and_how_they_ended() {
    let (_dir, shared) = sample();
    let share = Share::start(&[], &shared);
    let search = |query: &str| lines(&share.get(&format!("/api/search?{query}")).text());
    let found = search("q=B+TXT");
    assert_eq!(found[0]["href"], "sub/b.txt");
    assert_eq!((&found[0]["name"], &found[0]["folder"]), (&"b.txt".into(), &"sub".into()));
    assert_eq!((&found[0]["bytes"], &found[0]["kind"], &found[0]["type"]), (&9.into(), &"file".into(), &"text".into()));
    assert_eq!((&found[1]["done"], &found[1]["hits"], &found[1]["cut"]), (&true.into(), &1.into(), &false.into()));
    assert_eq!(search("q=sub")[0]["href"], "sub/");
    for none in ["q=secret", "q=hidden", "q=passwd", "q=fifo", "q=out", "q=b.txt&type=image"] {
        assert_eq!(search(none).len(), 1, "{none}");
    }
    let long = format!("q={}", "a".repeat(300));
    for bad in ["", "q=", "q=%20", &long, "q=a&type=nonsense"] {
        assert_eq!(share.get(&format!("/api/search?{bad}")).status, 400, "{bad:.20}");
    }
    for missing in ["q=a&in=..", "q=a&in=..%252f", "q=a&in=out-folder/", "q=a&in=none/", "q=a&in=a.txt"] {
        assert_eq!(share.get(&format!("/api/search?{missing}")).status, 404, "{missing}");
    }
}

#[test]
fn deleting_takes_the_right_to_it_and_stays_inside() {
    let (dir, shared) = sample();
    let length = ("Content-Length", "0");
    assert_eq!(Share::start(&[], &shared).ask("DELETE", "/f/a.txt", &[length]).status, 403);
    let share = Share::start(&["--allow", "view,download,delete"], &shared);
    let delete = |path: &str| share.ask("DELETE", &format!("/f/{path}"), &[length]);
    assert_eq!(
        share.http(format!("DELETE /f/a.txt HTTP/1.1\r\nHost: {}\r\n\r\n", share.authority()).as_bytes()).status,
        401
    );
    let full = delete("sub/");
    assert_eq!(full.status, 409);
    assert!(full.text().contains("not empty"));
    for (path, status) in [
        ("none", 404),
        (".hidden", 404),
        ("fifo", 404),
        ("out-folder/secret", 404),
        ("..%2fsecret", 404),
        ("sub/loop/b.txt", 409),
        ("root/etc/hostname", 404),
    ] {
        assert_eq!(delete(path).status, status, "{path}");
    }
    for path in ["a.txt", "sub/empty/", "out", "in", "sub/loop"] {
        assert_eq!(delete(path).status, 204, "{path}");
        assert!(shared.join(path).symlink_metadata().is_err(), "{path}");
    }
    assert_eq!(delete("").status, 405);
    assert!(dir.path().join("secret").exists() && shared.join("sub/b.txt").exists() && shared.join("fifo").exists());
    let foreign = share.ask("DELETE", "/f/sub/b.txt", &[length, ("Cookie", "lr=x"), ("Origin", "http://evil.example")]);
    assert_eq!(foreign.status, 403);
}

#[test]
fn what_shrinks_is_coded_for_those_who_take_it() {
    let dir = folder();
    std::fs::write(dir.path().join("a.txt"), "line\n".repeat(5000)).unwrap();
    file_of(dir.path(), "a.jpg", 50_000);
    (0..200).for_each(|n| std::fs::write(dir.path().join(format!("file{n}")), "").unwrap());
    let share = Share::start(&[], dir.path());
    let ask = |path: &str, headers: &[(&str, &str)]| share.ask("GET", path, headers);
    let zstd = ("Accept-Encoding", "gzip, zstd;q=0.9, br");
    for (path, coding) in
        [("/f/", "gzip"), ("/api/list/", "gzip"), ("/f/a.txt", "gzip"), ("/f/a.jpg", ""), ("/f/?tar", "")]
    {
        let reply = ask(path, &[zstd]);
        assert_eq!((reply.status, reply.value("content-encoding")), (200, coding), "{path}");
        assert_eq!(ask(path, &[]).value("content-encoding"), "", "{path}");
    }
    let coded = ask("/f/a.txt", &[("Accept-Encoding", "zstd")]);
    assert_eq!((coded.value("content-encoding"), coded.value("content-length")), ("zstd", ""));
    assert_eq!(zstd::decode_all(&coded.body[..]).unwrap(), "line\n".repeat(5000).into_bytes());
    assert!(coded.value("etag").starts_with("W/"), "{coded:?}");
    assert_eq!(ask("/f/a.txt", &[zstd, ("If-None-Match", coded.value("etag"))]).status, 304);
    let part = ask("/f/a.txt", &[zstd, ("Range", "bytes=0-4")]);
    assert_eq!((part.status, part.value("content-encoding"), &part.body[..]), (206, "", &b"line\n"[..]));
    assert_eq!(ask("/f/a.txt", &[("Accept-Encoding", "identity;q=0, *;q=0")]).status, 200);
    assert_eq!(ask("/api/search?q=file", &[zstd]).value("content-encoding"), "");
}

#[test]
fn requests_beyond_all_bounds_are_refused_and_others_served() {
    let (_dir, shared) = sample();
    let share = Share::start(&[], &shared);
    let giant = share.get(&format!("/f/{}", "a".repeat(1 << 20)));
    assert!(matches!(giant.status, 0 | 400 | 414 | 431), "{}", giant.status);
    let mut head = format!("GET /f/a.txt HTTP/1.1\r\nHost: {}\r\n", share.authority());
    (0..100_000).for_each(|n| head.push_str(&format!("X-{n}: {n}\r\n")));
    let reply = share.http((head + "\r\n").as_bytes());
    assert!(matches!(reply.status, 0 | 400 | 431), "{}", reply.status);
    // Somebody who never ends his head keeps nobody else waiting.
    let mut slow: Vec<_> = (0..50).map(|_| share.connect()).collect();
    slow.iter_mut().for_each(|stream| stream.write_all(b"GET / HTTP/1.1\r\nHo").unwrap());
    assert_eq!(share.get("/f/a.txt").text(), "a.txt");
}
