//! Archives of a share: what comes is what is there, whatever its length, over both kinds of connection.
#![cfg(feature = "web")]

mod common;

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use common::share::{Reply, Share, read_reply};
use common::{descriptors, folder, linerate, run_bounded, wait_until};
use proptest::prelude::*;

const MIB: usize = 1 << 20;

/// Content by name.
type Files = BTreeMap<String, Vec<u8>>;

/// A file whose content is like that of no other, nor itself elsewhere.
fn add(files: &mut Files, dir: &Path, name: &str, bytes: usize) {
    let mut content = vec![0; bytes];
    blake3::Hasher::new().update(name.as_bytes()).finalize_xof().fill(&mut content);
    std::fs::write(dir.join(name), &content).unwrap();
    files.insert(name.to_string(), content);
}

/// Lengths where something else begins: pages, pieces of a queue, what a connection sends by itself.
fn lengths() -> Vec<usize> {
    let mut lengths = vec![0, 1, 20 * MIB + 5];
    for around in [4 << 10, 64 << 10, 128 << 10, 132 << 10, 256 << 10, MIB, MIB + (4 << 10), MIB + (132 << 10), 2 * MIB]
    {
        lengths.extend([around - 1, around, around + 1]);
    }
    lengths
}

fn sample() -> (tempfile::TempDir, Files) {
    let (dir, mut files) = (folder(), Files::new());
    lengths().iter().for_each(|len| add(&mut files, dir.path(), &format!("file{len}"), *len));
    (dir, files)
}

fn get(share: &Share, target: &str) -> Reply {
    share.request(&format!("GET {target}"), &[&share.bearer()], b"")
}

fn of_zip(bytes: &[u8]) -> Files {
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(bytes)).unwrap();
    let mut files = Files::new();
    for at in 0..zip.len() {
        let mut entry = zip.by_index(at).unwrap();
        let name = entry.name().unwrap().into_owned();
        let mut content = Vec::new();
        // Its checksum is compared at its end.
        entry.read_to_end(&mut content).unwrap_or_else(|error| panic!("{name}: {error}"));
        files.insert(name, content);
    }
    without_folder(files)
}

fn of_tar(bytes: &[u8]) -> Files {
    let mut files = Files::new();
    for entry in tar::Archive::new(bytes).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        files.insert(name, content);
    }
    without_folder(files)
}

/// Without what is before a name, and the folders.
fn without_folder(files: Files) -> Files {
    let last = |name: &str| name.rsplit('/').next().unwrap_or_default().to_string();
    files.into_iter().map(|(name, content)| (last(&name), content)).filter(|(name, _)| !name.is_empty()).collect()
}

#[track_caller]
fn check(got: &Files, expected: &Files) {
    assert_eq!(got.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, content) in expected {
        assert!(got[name] == *content, "{name}");
    }
}

#[test]
fn files_of_every_length_come_whole() {
    let (dir, files) = sample();
    let share = Share::start(&[], dir.path());
    check(&of_zip(&get(&share, "/f/?zip").body), &files);
    check(&of_tar(&get(&share, "/f/?tar").body), &files);
}

#[test]
fn archives_over_both_kinds_of_connection_are_understood_by_others() {
    let (dir, files) = sample();
    let plain = ["share", "--http", "--listen", "127.0.0.1:0"];
    for args in [&plain[..], &["share", "--listen", "127.0.0.1:0"]] {
        let share = Share::by(linerate(args).arg(dir.path()));
        for (form, program, args) in [("zip", "unzip", ["-q", "got.zip"]), ("tar", "tar", ["-xf", "got.tar"])] {
            let to = folder();
            let (target, url) = (format!("got.{form}"), format!("{}/f/?{form}", share.origin));
            let mut curl = Command::new("curl");
            curl.args(["-q", "-sSfk", "--noproxy", "*", "-H", &share.bearer(), "-o", &target, &url]);
            let others = [curl, Command::new(program)];
            for mut other in others {
                let program = other.get_program().to_owned();
                if Command::new(&program).arg("--help").output().is_err() {
                    println!("skipped: no {}", program.display());
                    return;
                }
                let args: &[&str] = if program == "curl" { &[] } else { &args };
                run_bounded(other.args(args).current_dir(to.path())).expect(0);
            }
            let folder = std::fs::read_dir(to.path()).unwrap().map(|entry| entry.unwrap().path());
            let folder = folder.into_iter().find(|path| path.is_dir()).unwrap();
            let read = |name: &String| (name.clone(), std::fs::read(folder.join(name)).unwrap());
            check(&common::names_in(&folder).iter().map(read).collect(), &files);
        }
    }
}

#[test]
fn one_connection_sends_archives_and_files_in_turn() {
    let (dir, files) = sample();
    let share = Share::start(&[], dir.path());
    let large = format!("/f/file{}", 2 * MIB + 1);
    let targets = ["/f/?zip", &large, "/api/share", "/f/?tar", "/f/?zip", &large];
    // All at once: the answers follow each other as fast as they can.
    let ask = |target: &&str| share.bytes(&format!("GET {target}"), &[&share.bearer()], b"");
    let asked: Vec<u8> = targets.iter().flat_map(ask).collect();
    let mut stream = share.connect();
    stream.write_all(&asked).unwrap();
    let mut stream = BufReader::new(stream);
    for target in targets {
        let body = read_reply(&mut stream, false).body;
        match target {
            "/f/?zip" => check(&of_zip(&body), &files),
            "/f/?tar" => check(&of_tar(&body), &files),
            "/api/share" => assert!(body.starts_with(b"{")),
            _ => assert!(body == files[&target[3..]], "{target}"),
        }
    }
}

#[test]
fn four_archives_at_once_do_not_mix() {
    let (dir, files) = sample();
    let share = Share::start(&[], dir.path());
    // All have begun before the first is read on.
    let streams: Vec<_> = ["zip", "tar", "zip", "tar"].map(|form| (form, begin(&share, form))).into();
    std::thread::scope(|scope| {
        for (form, stream) in streams {
            let files = &files;
            scope.spawn(move || {
                let body = read_reply(&mut BufReader::new(stream), false).body;
                check(&if form == "zip" { of_zip(&body) } else { of_tar(&body) }, files);
            });
        }
    });
}

/// Ask for an archive, and wait until some of its content has come.
fn begin(share: &Share, form: &str) -> std::net::TcpStream {
    let mut stream = share.connect();
    stream.write_all(&share.bytes(&format!("GET /f/?{form}"), &[&share.bearer()], b"")).unwrap();
    wait_until("content comes", || stream.peek(&mut [0; 1 << 16]).unwrap() > 1 << 14);
    stream
}

#[test]
fn a_file_that_is_written_to_meanwhile_is_told() {
    let (dir, mut files) = (folder(), Files::new());
    add(&mut files, dir.path(), "file", 64 * MIB);
    let share = Share::start(&[], dir.path());
    let path = dir.path().join("file");
    for (form, what, at) in [("zip", "in it", 63 * MIB), ("tar", "in it", 63 * MIB), ("zip", "more", 64 * MIB)] {
        std::fs::write(&path, &files["file"]).unwrap();
        let stream = begin(&share, form);
        std::fs::File::options().write(true).open(&path).unwrap().write_all_at(b"other", at as u64).unwrap();
        let body = read_reply(&mut BufReader::new(stream), false).body;
        let got = if form == "zip" { of_zip(&body) } else { of_tar(&body) };
        // As long as it was said to be, and with nothing of what was added.
        let same = if what == "more" { 64 * MIB } else { at };
        assert!(got["file"].len() == 64 * MIB && got["file"][..same] == files["file"][..same], "{form}, {what}");
        let told = String::from_utf8_lossy(&got["_errors.txt"]);
        assert!(told.contains("/file: was changed while it was sent"), "{form}, {what}: {told}");
    }
}

#[test]
fn whoever_leaves_in_the_middle_leaves_nothing_behind() {
    let (dir, mut files) = (folder(), Files::new());
    add(&mut files, dir.path(), "file", 64 * MIB);
    let share = Share::start(&[], dir.path());
    // The first request has whatever stays open be open.
    get(&share, "/f/?zip");
    let path = dir.path().join("file");
    let is_held = || {
        let open = std::fs::read_dir(format!("/proc/{}/fd", share.pid())).unwrap().flatten();
        open.filter_map(|fd| std::fs::read_link(fd.path()).ok()).any(|to| to == path)
    };
    wait_until("nothing is sent", || !is_held());
    let before = descriptors(share.pid());
    for round in 0..3 {
        // As many as one may have at a time: their places are free again each time.
        let streams: Vec<_> = (0..8).map(|n| begin(&share, if n % 2 == 0 { "zip" } else { "tar" })).collect();
        assert!(is_held());
        drop(streams);
        wait_until("the file is closed", || !is_held());
        wait_until("and so are the connections", || descriptors(share.pid()) <= before);
        let body = get(&share, "/f/?zip").body;
        assert!(round > 0 || of_zip(&body)["file"] == files["file"]);
        wait_until("nothing is sent", || !is_held() && descriptors(share.pid()) <= before);
    }
}

/// A length near one where something else begins, or any.
fn length() -> impl Strategy<Value = usize> {
    let near = (0..5_usize, prop_oneof![Just(0), Just(4 << 10), Just(128 << 10), Just(132 << 10)], 0..9_usize);
    prop_oneof![
        2 => near.prop_map(|(mib, more, off)| (mib * MIB + more + off).saturating_sub(4)),
        1 => 0..3 * MIB,
        1 => 0..9_usize,
    ]
}

#[test]
fn any_files_come_whole() {
    let dir = folder();
    let share = Share::start(&[], dir.path());
    let run = |lengths: Vec<usize>| {
        std::fs::remove_dir_all(dir.path().join("tree")).ok();
        std::fs::create_dir(dir.path().join("tree")).unwrap();
        let mut files = Files::new();
        for (n, len) in lengths.iter().enumerate() {
            add(&mut files, &dir.path().join("tree"), &format!("{n}"), *len);
        }
        check(&of_zip(&get(&share, "/f/tree/?zip").body), &files);
        check(&of_tar(&get(&share, "/f/tree/?tar").body), &files);
        Ok(())
    };
    let mut config = ProptestConfig::with_cases(12);
    config.failure_persistence = None;
    proptest::test_runner::TestRunner::new(config).run(&proptest::collection::vec(length(), 0..8), run).unwrap();
}
