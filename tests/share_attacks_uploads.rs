//! Uploads to a share that want more than there is, that are none, or that get in each other's way.
#![cfg(feature = "web")]

mod common;

use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Barrier;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::attack::shown;
use common::share::{Reply, Share, read_reply};
use common::{PATIENCE, folder, names_in, status_kib, wait_until};

const TUS: &str = "Tus-Resumable: 1.0.0";
const SLICE: &str = "Content-Type: application/offset+octet-stream";
const FORM: &str = "Content-Type: multipart/form-data; boundary=edge";

fn b64(text: impl AsRef<[u8]>) -> String {
    STANDARD.encode(text)
}

fn created(share: &Share, len: usize, metadata: &str) -> Vec<u8> {
    let (len, metadata) = (format!("Upload-Length: {len}"), format!("Upload-Metadata: {metadata}"));
    shown(share, "POST /api/uploads", &[TUS, "Content-Length: 0", &len, &metadata], b"")
}

fn create(share: &Share, len: usize, metadata: &str) -> Reply {
    share.http(&created(share, len, metadata))
}

fn patched(share: &Share, upload: &str, offset: &str, body: &[u8]) -> Vec<u8> {
    shown(share, &format!("PATCH {upload}"), &[TUS, SLICE, &format!("Upload-Offset: {offset}")], body)
}

fn patch(share: &Share, upload: &str, offset: &str, body: &[u8]) -> Reply {
    share.http(&patched(share, upload, offset, body))
}

/// Send these at once, each on a connection of its own. Of what has two, the second goes to where the first says.
fn at_once(share: &Share, requests: &[(Vec<u8>, Option<Vec<u8>>)]) -> Vec<u16> {
    let (begin, address) = (&Barrier::new(requests.len()), share.authority());
    let ask = |request: &[u8]| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stream.write_all(request);
        read_reply(&mut BufReader::new(stream), false)
    };
    let one = |first: &[u8], second: Option<&Vec<u8>>| {
        begin.wait();
        let reply = ask(first);
        let (Some(second), Some(location)) = (second, reply.header("location")) else { return reply.status };
        let (line, rest) = second.split_at(second.iter().position(|byte| *byte == b'\n').unwrap());
        let line = String::from_utf8_lossy(line).replace("WHERE", location);
        ask(&[line.as_bytes(), rest].concat()).status
    };
    std::thread::scope(|scope| {
        let one = &one;
        let all: Vec<_> =
            requests.iter().map(|(first, second)| scope.spawn(move || one(first, second.as_ref()))).collect();
        all.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Where an upload stands; nothing if there is none.
fn offset(share: &Share, upload: &str) -> Option<u64> {
    let reply = share.http(&shown(share, &format!("HEAD {upload}"), &[TUS], b""));
    reply.header("upload-offset")?.parse().ok()
}

fn in_chunks(share: &Share, line: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut request = shown(share, line, &[headers, &["Transfer-Encoding: chunked"]].concat(), b"");
    body.chunks(10_000).for_each(|chunk| {
        request.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
        request.extend([chunk, b"\r\n"].concat());
    });
    request.extend(b"0\r\n\r\n");
    request
}

fn chunked(share: &Share, line: &str, headers: &[&str], body: &[u8]) -> Reply {
    share.http(&in_chunks(share, line, headers, body))
}

fn form_of(name: &str, content: &[u8]) -> Vec<u8> {
    let head = format!("--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n");
    [head.as_bytes(), content, b"\r\n--edge--\r\n"].concat()
}

/// What is there once nothing is partial any more.
fn settled(dir: &Path) -> Vec<String> {
    wait_until("nothing partial is left", || names_in(dir).iter().all(|name| !name.starts_with(".lr-")));
    names_in(dir)
}

fn bytes_in(dir: &Path) -> usize {
    settled(dir).iter().map(|name| dir.join(name).metadata().unwrap().len() as usize).sum()
}

#[test]
fn all_uploads_at_once_do_not_exceed_the_quota() {
    const QUOTA: usize = 1_000_000;
    const EACH: usize = 90_000;
    let dir = folder();
    let share = Share::start(&["--upload", "--max-upload", &QUOTA.to_string()], dir.path());
    let content = vec![7; EACH];
    let request = |n: usize| {
        let (line, name) = (format!("PUT /f/f{n}"), format!("f{n}"));
        match n % 4 {
            0 => (shown(&share, &line, &[], &content), None),
            1 => (in_chunks(&share, &line, &[], &content), None),
            2 => (in_chunks(&share, "POST /upload/", &[FORM], &form_of(&name, &content)), None),
            _ => {
                let first = created(&share, EACH, &format!("filename {}", b64(name)));
                (first, Some(patched(&share, "WHERE", "0", &content)))
            }
        }
    };
    let statuses = at_once(&share, &(0..24).map(request).collect::<Vec<_>>());
    let done = statuses.iter().filter(|status| matches!(**status, 201 | 204 | 303)).count();
    assert!(statuses.iter().all(|status| matches!(status, 201 | 204 | 303 | 413)), "{statuses:?}");
    // Whatever was refused took nothing: what is left is there to the last byte.
    assert_eq!(bytes_in(dir.path()), done * EACH);
    let left = QUOTA - done * EACH;
    assert_eq!(share.http(&shown(&share, "PUT /f/more", &[], &vec![1; left + 1])).status, 413);
    assert_eq!(chunked(&share, "PUT /f/more", &[], &vec![1; left + 1]).status, 413);
    assert_eq!(share.http(&shown(&share, "PUT /f/rest", &[], &vec![1; left])).status, 201);
    assert_eq!(bytes_in(dir.path()), QUOTA);
}

#[test]
fn of_many_who_write_the_same_bytes_one_does() {
    const SLICE_BYTES: usize = 200_000;
    const SLICES: usize = 5;
    let dir = folder();
    let share = Share::start(&["--upload"], dir.path());
    let created = create(&share, SLICES * SLICE_BYTES, &format!("filename {}", b64("a")));
    let upload = created.header("location").unwrap();
    for slice in 0..SLICES {
        let at = (slice * SLICE_BYTES).to_string();
        let write = |writer: u8| (patched(&share, upload, &at, &vec![b'a' + writer; SLICE_BYTES]), None);
        let statuses = at_once(&share, &(0..8).map(write).collect::<Vec<_>>());
        assert_eq!(statuses.iter().filter(|status| **status == 204).count(), 1, "{statuses:?}");
        // The others met him, or came when it was done.
        assert!(statuses.iter().all(|status| matches!(status, 204 | 409 | 413 | 423)), "{statuses:?}");
    }
    assert_eq!(settled(dir.path()), ["a"]);
    let content = std::fs::read(dir.path().join("a")).unwrap();
    assert_eq!(content.len(), SLICES * SLICE_BYTES);
    assert!(content.chunks(SLICE_BYTES).all(|slice| slice.iter().all(|byte| *byte == slice[0])), "two wrote one slice");
}

#[test]
fn slices_that_do_not_fit_change_nothing() {
    let dir = folder();
    let share = Share::start(&["--upload"], dir.path());
    let created = create(&share, 8, &format!("filename {}", b64("a")));
    let upload = created.header("location").unwrap().to_string();
    assert_eq!(patch(&share, &upload, "0", b"1234").status, 204);
    for (at, body, statuses) in [
        ("0", &b"XXXX"[..], &[409][..]),
        ("3", b"XX", &[409]),
        ("5", b"XX", &[409]),
        ("8", b"", &[409]),
        ("18446744073709551615", b"X", &[409]),
        ("9223372036854775808", b"X", &[409]),
        ("-1", b"X", &[400]),
        ("18446744073709551616", b"X", &[400]),
        ("4.0", b"X", &[400]),
        ("0x4", b"X", &[400]),
        ("", b"X", &[400]),
        ("4, 4", b"X", &[400]),
        ("4", b"XXXXX", &[413]),
    ] {
        let reply = patch(&share, &upload, at, body);
        assert!(statuses.contains(&reply.status), "{at:?}: {reply:?}");
        assert_eq!(offset(&share, &upload), Some(4), "{at:?}");
    }
    // In chunks nobody says how much it is: what is too much is not taken, and what was stays.
    let target = format!("PATCH {upload}");
    let reply = chunked(&share, &target, &[TUS, SLICE, "Upload-Offset: 4"], &[b'X'; 50_000]);
    assert_eq!(reply.status, 413, "{reply:?}");
    assert!(matches!(offset(&share, &upload), Some(4)), "{:?}", offset(&share, &upload));
    assert_eq!(patch(&share, &upload, "4", b"5678").status, 204);
    assert_eq!(std::fs::read(dir.path().join("a")).unwrap(), b"12345678");
    assert_eq!(settled(dir.path()), ["a"]);
}

#[test]
fn metadata_that_is_none_or_too_much_begins_nothing() {
    let dir = folder();
    let share = Share::start(&["--upload"], dir.path());
    let (huge, pairs) = (b64("n".repeat(40_000)), "x eA==,".repeat(8_000));
    for metadata in [
        "",
        ",",
        " ",
        "filename",
        "filename ",
        "filename  ",
        "filename =",
        "filename eA",
        "filename e A==",
        "filename eA==\teA==",
        "filename eA==,filename",
        &format!("filename {huge}"),
        &format!("filename eA==,relativePath {huge}"),
        &format!("filename eA==,folder {huge}"),
        &format!("filename {}", b64([0xff, 0xfe])),
        &format!("filename {}", b64([0])),
        &format!("{pairs}filename {}", b64("../x")),
        "FILENAME eA==",
    ] {
        let status = create(&share, 0, metadata).status;
        // A key that comes twice counts once, the first.
        let is_fine = metadata == "filename eA==,filename";
        assert!(is_fine && status == 201 || matches!(status, 400 | 409 | 431), "{metadata:.60}: {status}");
    }
    for modified in ["-1", "x", "18446744073709551615", "15000000000001", "1e3", ""] {
        let metadata = format!("filename {},lastModified {}", b64(format!("m{modified}")), b64(modified));
        assert_eq!(create(&share, 0, &metadata).status, 201, "{modified}");
    }
    let names = settled(dir.path());
    assert!(names.iter().all(|name| name.starts_with(['x', 'm'])), "{names:?}");
}

#[test]
fn forms_that_come_to_nothing_are_not_kept_in_memory() {
    let dir = folder();
    let share = Share::start(&["--upload"], dir.path());
    let head = "--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"";
    for begin in ["", "--edge", "--edge\r\n", "--edge\r\nX: ", head, "--edge\r\nX: y\r\nX: "] {
        let mut stream = share.connect();
        let request = shown(&share, "POST /upload/", &[FORM, "Content-Length: 100000000000"], begin.as_bytes());
        // Without the length of what comes here, which the other one says already.
        let request = String::from_utf8(request).unwrap().replace(&format!("Content-Length: {}\r\n", begin.len()), "");
        stream.write_all(request.as_bytes()).unwrap();
        let more = [b'x'; 1 << 16];
        let was_cut = (0..1024).any(|_| stream.write_all(&more).is_err());
        let mut from = BufReader::new(stream);
        let status = match was_cut {
            true => 400,
            false => read_reply(&mut from, false).status,
        };
        assert_eq!(status, 400, "{begin:?}");
    }
    let resident = status_kib(share.pid(), "VmHWM").unwrap();
    assert!(resident < 150 << 10, "{resident} KiB");
    for (kind, body) in [
        (FORM.to_string(), b"--edge\r\n\r\nx\r\n".repeat(1001)),
        (FORM.to_string(), b"--edge\r\n".to_vec()),
        (FORM.to_string(), b"--edge--\r\n".repeat(1000)),
        (FORM.to_string(), [head.as_bytes(), "n".repeat(100_000).as_bytes(), b"\"\r\n\r\nx\r\n--edge--\r\n"].concat()),
        (FORM.to_string(), form_of("../x", b"x")),
        (FORM.to_string(), form_of("", b"x")),
        (FORM.replace("edge", &"e".repeat(30_000)), form_of("x", b"x")),
        (FORM.replace("edge", ""), form_of("x", b"x")),
        (FORM.replace("edge", "\"edge"), form_of("x", b"x")),
        ("Content-Type: multipart/form-data".to_string(), form_of("x", b"x")),
        ("Content-Type: multipart/mixed; boundary=edge".to_string(), form_of("x", b"x")),
        (FORM.to_string(), form_of("x", b"x").repeat(2).split_off(1)),
    ] {
        let reply = share.http(&shown(&share, "POST /upload/", &[&kind], &body));
        assert!(matches!(reply.status, 303 | 400 | 409 | 413 | 415), "{kind:.60}: {reply:?}");
    }
    assert!(settled(dir.path()).iter().all(|name| name.starts_with('x')), "{:?}", names_in(dir.path()));
}
