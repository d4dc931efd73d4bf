//! Downloads from a share by the programs that people have: curl, wget, aria2c, unzip, tar, b3sum.
#![cfg(feature = "web")]

mod common;

use std::path::Path;
use std::process::Command;

use common::share::Share;
use common::{Done, file_of, folder, run_bounded};

/// Run a program in a folder; nothing, with the reason told, if it is not there.
fn run(program: &str, args: &[&str], dir: &Path) -> Option<Done> {
    if !is_there(program) {
        println!("skipped: no {program}");
        return None;
    }
    let mut command = Command::new(program);
    for name in ["http_proxy", "all_proxy", "ALL_PROXY"] {
        command.env_remove(name);
    }
    Some(run_bounded(command.args(args).current_dir(dir)))
}

fn is_there(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|path| path.join(program).exists())
}

/// A share of one file, the header that lets in, and where the file is.
fn sample(bytes: usize) -> (tempfile::TempDir, Share, String, String, Vec<u8>) {
    let dir = folder();
    let content = std::fs::read(file_of(dir.path(), "file", bytes)).unwrap();
    let share = Share::start(&[], dir.path());
    let header = format!("Authorization: Bearer {}", share.token);
    let url = format!("{}/f/file", share.origin);
    (dir, share, header, url, content)
}

#[test]
fn downloads_are_resumed_where_they_ended() {
    let (_dir, _share, header, url, content) = sample(9_000_001);
    for (program, args) in [
        ("curl", vec!["-sSf", "-C", "-", "-o", "got", "-H", &header, &url]),
        ("wget", vec!["-q", "-c", "-O", "got", "--header", &header, &url]),
        ("aria2c", vec!["-q", "-c", "--file-allocation=none", "-o", "got", "--header", &header, &url]),
    ] {
        let to = folder();
        std::fs::write(to.path().join("got"), &content[..4_000_000]).unwrap();
        let Some(done) = run(program, &args, to.path()) else { continue };
        done.expect(0);
        assert!(std::fs::read(to.path().join("got")).unwrap() == content, "{program}");
    }
}

#[test]
fn parts_are_downloaded_side_by_side() {
    let (_dir, _share, header, url, content) = sample(32 << 20);
    let to = folder();
    let args = ["-q", "-x4", "-s4", "-k1M", "--file-allocation=none", "-o", "got", "--header", &header, &url];
    let Some(done) = run("aria2c", &args, to.path()) else { return };
    done.expect(0);
    assert!(std::fs::read(to.path().join("got")).unwrap() == content);
}

#[test]
fn one_connection_serves_many_requests() {
    let (_dir, share, header, url, content) = sample(5_000_000);
    let to = folder();
    let (text, missing) = (format!("{}/api/share", share.origin), format!("{}/f/none", share.origin));
    let args = [
        "-sS",
        "-H",
        &header,
        "-w",
        "%{num_connects}",
        "-o",
        "a",
        &url,
        "-o",
        "b",
        &text,
        "-o",
        "c",
        &missing,
        "-o",
        "d",
        &url,
    ];
    let Some(done) = run("curl", &args, to.path()) else { return };
    assert_eq!(done.expect(0).stdout, "1000");
    for name in ["a", "d"] {
        assert!(std::fs::read(to.path().join(name)).unwrap() == content, "{name}");
    }
}

#[test]
fn archives_are_understood_by_others() {
    let dir = folder();
    std::fs::create_dir_all(dir.path().join("tree/ünter/empty")).unwrap();
    let tree = dir.path().join("tree");
    for (name, bytes) in [("a b.txt", 10), ("ünter/ä", 3_000_000), ("none", 0)] {
        file_of(&tree, name, bytes);
    }
    let long = "n".repeat(180);
    file_of(&tree, &long, 700);
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    std::fs::File::options().write(true).open(tree.join("none")).unwrap().set_modified(old).unwrap();
    let share = Share::start(&[], dir.path());
    for (program, query, args) in [
        ("unzip", "zip", vec!["-q", "got.zip"]),
        ("python3", "zip", vec!["-m", "zipfile", "-e", "got.zip", "."]),
        ("tar", "tar", vec!["-xf", "got.tar"]),
    ] {
        let to = folder();
        let reply = share.get(&format!("/f/tree/?{query}"));
        assert!(reply.is_whole);
        std::fs::write(to.path().join(format!("got.{query}")), &reply.body).unwrap();
        let Some(done) = run(program, &args, to.path()) else { continue };
        done.expect(0);
        for name in ["a b.txt", "ünter/ä", "none", &long] {
            let (sent, got) = (std::fs::read(tree.join(name)), std::fs::read(to.path().join("tree").join(name)));
            assert!(
                sent.unwrap() == got.unwrap_or_else(|error| panic!("{program}: {name}: {error}")),
                "{program}: {name}"
            );
        }
        assert!(to.path().join("tree/ünter/empty").is_dir(), "{program}");
        let modified = to.path().join("tree/none").metadata().unwrap().modified().unwrap();
        assert!(program == "python3" || modified == old, "{program}");
    }
}

#[test]
fn hashes_are_those_of_b3sum() {
    let (dir, share, _, _, _) = sample(3_000_001);
    let Some(done) = run("b3sum", &["--no-names", "file"], dir.path()) else { return };
    let sum = done.expect(0).stdout.trim().to_string();
    assert_eq!(share.get("/f/file?blake3").json()["blake3"], sum);
}
