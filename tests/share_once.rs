//! `linerate send` and `receive`, which end by themselves: who has it, and who has not.
#![cfg(feature = "web")]

mod common;

use std::path::Path;
use std::process::Command;

use common::share::Share;
use common::{Done, file_of, folder, linerate, names_in, run_bounded, skip_unless};

fn once(words: &[&str], dir: &Path) -> Share {
    let (verb, rest) = words.split_first().unwrap();
    let mut command = linerate([verb, "--no-announce", "--http", "--listen", "127.0.0.1:0"]);
    Share::by(command.args(rest).current_dir(dir))
}

fn has_curl() -> bool {
    !skip_unless(Command::new("curl").arg("--version").output().is_ok(), "no curl")
}

fn curl(words: &[&str], dir: &Path) -> Done {
    run_bounded(Command::new("curl").args(["-q", "-sS", "--noproxy", "*"]).args(words).current_dir(dir))
}

#[test]
fn it_is_sent_when_two_people_have_all_of_it() {
    if !has_curl() {
        return;
    }
    let (dir, to) = (folder(), folder());
    let big = file_of(dir.path(), "big", 3_000_000);
    std::fs::write(dir.path().join("empty"), "").unwrap();
    let mut share = once(&["send", "--count", "2", "big", "empty"], dir.path());
    let (link, big_url, empty_url) = (
        format!("{}/t/{}", share.origin, share.token),
        format!("{}/f/big", share.origin),
        format!("{}/f/empty", share.origin),
    );
    // Two browsers, by their cookies.
    for jar in ["one", "two"] {
        curl(&["-f", "-o", "page", "-c", jar, &link], to.path()).expect(0);
    }
    // One looks, asks for parts, the same part often, and breaks off: he does not have it.
    curl(&["-f", "-b", "one", "-I", &big_url], to.path()).expect(0);
    for _ in 0..4 {
        curl(&["-f", "-b", "one", "-r", "0-999999", "-o", "part", &big_url], to.path()).expect(0);
    }
    curl(&["-f", "-b", "one", "-r", "2000000-2999999", "-o", "part", &big_url], to.path()).expect(0);
    curl(&["-f", "-b", "one", "-o", "empty", &empty_url], to.path()).expect(0);
    // The other has all of it, and again.
    for _ in 0..2 {
        for (name, url) in [("big", &big_url), ("empty", &empty_url)] {
            curl(&["-f", "-b", "two", "-o", name, url], to.path()).expect(0);
        }
    }
    assert!(common::is_alive(share.pid()));
    // What is missing of it, and he has it too.
    curl(&["-f", "-b", "one", "-r", "1000000-1999999", "-o", "part", &big_url], to.path()).expect(0);
    share.close_stdout();
    let done = share.wait().expect(0);
    assert!(done.stderr.contains("2 visitors have all of it, 2 files"), "{done:?}");
    assert!(done.stderr.trim_end().lines().last().unwrap().starts_with("shared for "), "{done:?}");
    assert_eq!(std::fs::read(to.path().join("big")).unwrap(), std::fs::read(big).unwrap());
}

#[test]
fn nothing_is_no_share_that_anybody_could_have_all_of() {
    let dir = folder();
    std::fs::create_dir_all(dir.path().join("empty/folder")).unwrap();
    std::fs::write(dir.path().join("empty/.hidden"), "x").unwrap();
    let mut command = linerate(["send", "--no-announce", "--http", "--listen", "127.0.0.1:0", "empty"]);
    run_bounded(command.current_dir(dir.path())).expect_line(2, &["empty: holds no file to send"]);
}

#[test]
fn a_download_that_was_broken_off_is_not_had() {
    use std::io::{Read, Write};
    let dir = folder();
    std::fs::File::create(dir.path().join("big")).unwrap().set_len(1 << 30).unwrap();
    let share = once(&["send", "--json", "big"], dir.path());
    let ask = || {
        let mut stream = share.connect();
        stream.write_all(&share.bytes("GET /f/big", &[&share.bearer()], b"")).unwrap();
        stream.read_exact(&mut [0; 100_000]).unwrap();
        stream
    };
    drop(ask());
    let ended: serde_json::Value = loop {
        let event: serde_json::Value = serde_json::from_str(&share.line().unwrap()).unwrap();
        if event["event"] == "ended" {
            break event;
        }
    };
    assert_eq!(ended["complete"], false);
    // Nothing has ended it: somebody still gets all of it.
    let mut rest = ask();
    let got = std::io::copy(&mut Read::by_ref(&mut rest).take((1 << 30) - 100_000), &mut std::io::sink()).unwrap();
    assert!(got >= (1 << 30) - 100_000);
    drop(rest);
    share.wait().expect(0);
}

#[test]
fn an_archive_of_all_counts_and_the_ending_is_told() {
    if !has_curl() {
        return;
    }
    let (dir, to) = (folder(), folder());
    std::fs::create_dir(dir.path().join("photos")).unwrap();
    for name in ["a", "b"] {
        file_of(&dir.path().join("photos"), name, 100_000);
    }
    let share = once(&["send", "photos"], dir.path());
    let bearer = format!("Authorization: Bearer {}", share.token);
    let url = format!("{}/f/?zip", share.origin);
    curl(&["-f", "-o", "all.zip", "-H", &bearer, &url], to.path()).expect(0);
    let done = share.wait().expect(0);
    assert!(done.stderr.contains("1 visitor has all of it, 2 files"), "{done:?}");
    assert!(std::fs::metadata(to.path().join("all.zip")).unwrap().len() > 200_000);
}

#[test]
fn what_people_send_is_sorted_counted_and_told() {
    if !has_curl() {
        return;
    }
    let (dir, from) = (folder(), folder());
    for name in ["film.mp4", "song.mp3", "photo.jpg", "notes.txt", "main.rs", "all.zip", "paper.pdf", "strange"] {
        file_of(from.path(), name, 1000);
    }
    let share = once(&["receive", "--by-type", "--count", "1", "inbox"], dir.path());
    let bearer = format!("Authorization: Bearer {}", share.token);
    let url = format!("{}/f/", share.origin);
    // Looking is not sending.
    curl(&["-f", "-o", "page", "-H", &bearer, &url], from.path()).expect(0);
    // By one program: a pause between two may be taken for the end.
    let mut words = vec!["-f", "-H", &bearer];
    for name in
        ["film.mp4", "song.mp3", "photo.jpg", "notes.txt", "main.rs", "all.zip", "paper.pdf", "strange", "photo.jpg"]
    {
        words.extend(["-T", name, &url]);
    }
    curl(&words, from.path()).expect(0);
    let done = share.wait().expect(0);
    let inbox = dir.path().join("inbox");
    assert_eq!(names_in(&inbox), ["archive", "audio", "code", "documents", "image", "other", "text", "video"]);
    assert_eq!(names_in(&inbox.join("image")), ["photo (2).jpg", "photo.jpg"]);
    assert!(done.stderr.contains("1 visitor has sent"), "{done:?}");
    assert_eq!(done.stderr.trim_end().lines().last().unwrap(), "9 files came into inbox: 9.00 kB", "{done:?}");
}
