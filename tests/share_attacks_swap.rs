//! Folders and files of a share that become something else while they are used: nothing outside is read or written.
#![cfg(feature = "web")]

mod common;

use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::attack::{heard, shown};
use common::share::{Reply, Share};
use common::{folder, names_in};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::stat::Mode;

const SECRET: &str = "kept from all";
const ALL: [&str; 2] = ["--allow", "view,download,upload,delete,chat"];
/// Tries at least, and swaps that happened meanwhile.
const TRIES: usize = 60;

fn swap(one: &Path, other: &Path) {
    renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE).unwrap();
}

/// Two names whose meanings change places over and over, until this is dropped. In the end they mean what they did.
struct Swapping {
    is_over: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Swapping {
    fn begin(one: PathBuf, other: PathBuf) -> Swapping {
        let (is_over, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (ends, counted) = (is_over.clone(), count.clone());
        let thread = std::thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                swap(&one, &other);
                std::thread::yield_now();
                swap(&one, &other);
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Swapping { is_over, count, thread: Some(thread) }
    }

    fn swaps(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

impl Drop for Swapping {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// `in` is a folder of the share, `link` one that leads to `outside` beside it.
fn sample() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let dir = folder();
    let (shared, outside) = (dir.path().join("shared"), dir.path().join("outside"));
    std::fs::create_dir_all(shared.join("in/sub")).unwrap();
    std::fs::create_dir_all(outside.join("sub")).unwrap();
    for name in ["secret", "sub/secret"] {
        std::fs::write(shared.join("in").join(name), "for all").unwrap();
        std::fs::write(outside.join(name), SECRET).unwrap();
    }
    symlink(&outside, shared.join("link")).unwrap();
    (dir, shared, outside)
}

fn tus(share: &Share, metadata: &str) -> u16 {
    let metadata = format!("Upload-Metadata: {metadata}");
    let headers = ["Tus-Resumable: 1.0.0", "Upload-Length: 8", "Content-Length: 0", metadata.as_str()];
    let created = share.http(&shown(share, "POST /api/uploads", &headers, b""));
    let Some(upload) = created.header("location") else { return created.status };
    let mut status = 0;
    for (offset, part) in [(0, b"1234"), (4, b"5678")] {
        let offset = format!("Upload-Offset: {offset}");
        let headers = ["Tus-Resumable: 1.0.0", "Content-Type: application/offset+octet-stream", offset.as_str()];
        status = share.http(&shown(share, &format!("PATCH {upload}"), &headers, part)).status;
    }
    status
}

fn form(share: &Share, target: &str, name: &str) -> u16 {
    let head = format!("--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n");
    let body = [head.as_bytes(), b"12345678\r\n--edge--\r\n"].concat();
    let kind = ["Content-Type: multipart/form-data; boundary=edge"];
    share.http(&shown(share, &format!("POST /upload/{target}/"), &kind, &body)).status
}

#[test]
fn uploads_never_land_outside_while_their_folder_becomes_a_link() {
    let (_dir, shared, outside) = sample();
    let share = Share::start(&ALL, &shared);
    let swapping = Swapping::begin(shared.join("in"), shared.join("link"));
    let b64 = |text: &str| STANDARD.encode(text);
    let (mut tries, mut done) = (0, 0);
    // Each way so often, with swaps and some successes in between.
    while tries < TRIES || swapping.swaps() < TRIES || done == 0 && tries < 100 * TRIES {
        let name = format!("new{tries}");
        let folder = format!("{}/{name}", b64("in"));
        let statuses = [
            share.http(&shown(&share, &format!("PUT /f/in/{name}"), &[], b"12345678")).status,
            share.http(&shown(&share, &format!("PUT /f/in/sub/{name}"), &[], b"12345678")).status,
            tus(&share, &format!("filename {},folder {}", b64(&name), b64("in"))),
            tus(&share, &format!("filename x,folder {folder},relativePath {}", b64("x"))),
            tus(&share, &format!("filename {},relativePath {}", b64("x"), b64(&format!("in/{name}-folder/x")))),
            form(&share, "in", &name),
        ];
        for status in statuses {
            // 204 and 201 where it worked; else the folder is a link, gone, or another one now.
            assert!(matches!(status, 201 | 204 | 303 | 400 | 404 | 409 | 410 | 423), "{statuses:?}");
            done += usize::from(matches!(status, 201 | 204 | 303));
        }
        tries += 1;
    }
    drop(swapping);
    assert_eq!(names_in(&outside), ["secret", "sub"]);
    assert_eq!(names_in(&outside.join("sub")), ["secret"]);
    assert_eq!(std::fs::read_to_string(outside.join("secret")).unwrap(), SECRET);
    assert!(done > 0);
}

/// Whether an answer holds something from outside.
fn tells(reply: &Reply) -> bool {
    reply.body.windows(SECRET.len()).any(|part| part == SECRET.as_bytes())
}

/// All that is answered; an archive may be cut where what goes into it has gone.
fn read_whole(share: &Share, target: &str) -> (u16, String) {
    let mut stream = share.connect();
    stream.write_all(&shown(share, &format!("GET {target}"), &["Connection: close"], b"")).unwrap();
    let heard = heard(&mut stream);
    (heard.statuses[0], heard.text)
}

#[test]
fn nothing_outside_is_read_or_deleted_while_a_folder_becomes_a_link() {
    let (_dir, shared, outside) = sample();
    let share = Share::start(&ALL, &shared);
    let swapping = Swapping::begin(shared.join("in"), shared.join("link"));
    let mut tries = 0;
    while tries < TRIES || swapping.swaps() < TRIES {
        for target in [
            "/f/in/secret",
            "/f/in/sub/secret",
            "/f/in/?tar",
            "/f/?tar",
            "/f/in/secret?blake3",
            "/api/search?q=s&in=in",
        ] {
            let (status, text) = read_whole(&share, target);
            assert!(matches!(status, 200 | 308 | 404 | 409) && !text.contains(SECRET), "{target}: {text}");
        }
        for target in ["/f/in/sub/secret", "/f/in/secret", "/f/in/sub/"] {
            let reply = share.http(&shown(&share, &format!("DELETE {target}"), &["Content-Length: 0"], b""));
            assert!(matches!(reply.status, 204 | 404 | 409), "{target}: {reply:?}");
        }
        tries += 1;
    }
    drop(swapping);
    for name in ["secret", "sub/secret"] {
        assert_eq!(std::fs::read_to_string(outside.join(name)).unwrap(), SECRET);
    }
}

#[test]
fn a_file_that_becomes_a_link_or_a_pipe_is_not_taken_for_it() {
    let (_dir, shared, outside) = sample();
    std::fs::write(shared.join("file"), "for all").unwrap();
    symlink(outside.join("secret"), shared.join("out")).unwrap();
    nix::unistd::mkfifo(&shared.join("fifo"), Mode::S_IRWXU).unwrap();
    let share = Share::start(&ALL, &shared);
    for other in ["out", "fifo", "in"] {
        let swapping = Swapping::begin(shared.join("file"), shared.join(other));
        let mut tries = 0;
        while tries < TRIES || swapping.swaps() < TRIES {
            for target in ["/f/file", "/f/file?blake3", "/f/?tar", "/f/?zip"] {
                let (status, text) = read_whole(&share, target);
                // 409 where it is hashed: it is not what it was when that began.
                assert!(matches!(status, 200 | 308 | 404 | 409), "{other} {target}: {text}");
                assert!(!text.contains(SECRET), "{other} {target}: {text}");
            }
            tries += 1;
        }
    }
}

#[test]
fn a_shared_folder_that_is_put_elsewhere_stays_what_is_shared() {
    let (dir, shared, outside) = sample();
    let share = Share::start(&ALL, &shared);
    let moved = dir.path().join("moved");
    std::fs::rename(&shared, &moved).unwrap();
    symlink(&outside, &shared).unwrap();
    let get = |target: &str| share.http(&shown(&share, &format!("GET {target}"), &[], b""));
    assert_eq!(get("/f/secret").status, 404);
    assert_eq!(get("/f/in/secret").text(), "for all");
    assert!(!tells(&get("/f/?tar")) && !get("/api/list/").text().contains("secret"));
    assert_eq!(share.http(&shown(&share, "PUT /f/new", &[], b"new")).status, 201);
    assert_eq!(share.http(&shown(&share, "DELETE /f/secret", &["Content-Length: 0"], b"")).status, 404);
    assert_eq!(names_in(&outside), ["secret", "sub"]);
    assert_eq!(std::fs::read(moved.join("new")).unwrap(), b"new");
    // And once it is gone for good there is nothing, and nothing is made in its place.
    std::fs::remove_dir_all(&moved).unwrap();
    for target in ["/f/in/secret", "/f/in/", "/api/list/in/", "/f/in/?zip", "/api/search?q=s&in=in"] {
        assert_eq!(get(target).status, 404, "{target}");
    }
    let put = share.http(&shown(&share, "PUT /f/other", &[], b"new"));
    assert!(matches!(put.status, 404 | 410), "{put:?}");
    assert_eq!(tus(&share, &format!("filename {}", STANDARD.encode("other"))), put.status);
    assert_eq!(get("/api/share").status, 200);
    assert_eq!(names_in(&outside), ["secret", "sub"]);
}
