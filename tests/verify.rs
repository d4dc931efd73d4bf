//! `linerate verify` from outside, and `b3sum` beside it where that is installed.

mod common;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Done, folder, linerate, run_bounded};

const EMPTY: &str = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
/// More than one block.
const BIG: usize = (9 << 20) + 5;

/// A folder `d` with files of all kinds.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Tree {
        let tree = Tree(folder());
        fs::create_dir_all(tree.path("d/sub/deep")).unwrap();
        tree.put(b"plain", b"hello");
        tree.put(b"empty", b"");
        tree.put(b"sub/new\nline", b"1");
        tree.put(b"sub/back\\slash", b"2");
        tree.put(b"sub/deep/no\xffutf8", b"3");
        tree.put("sub/ü \u{202e}x".as_bytes(), b"4");
        tree.put(b"big", &(0..BIG).map(|at| (at >> 9) as u8).collect::<Vec<_>>());
        fs::File::create(tree.path("d/sparse")).unwrap().set_len(20 << 20).unwrap();
        tree
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &[u8], bytes: &[u8]) {
        fs::write(self.path("d").join(OsStr::from_bytes(name)), bytes).unwrap();
    }

    fn run(&self, args: &[&str]) -> Done {
        let mut command = linerate(["verify"]);
        run_bounded(command.args(args).current_dir(self.0.path()))
    }

    /// With its manifest `m`.
    fn written() -> Tree {
        let tree = Tree::new();
        tree.run(&["d", "--write", "m"]).expect(0);
        tree
    }

    /// Check by a manifest with this text.
    fn by(&self, text: &str) -> Done {
        fs::write(self.path("by"), text).unwrap();
        self.run(&["d", "by"])
    }
}

/// `b3sum` in a folder; says why not if it is not installed.
fn b3sum(folder: &Path, args: &[&OsStr]) -> Option<(bool, String)> {
    match Command::new("b3sum").args(args).current_dir(folder).stdin(Stdio::null()).output() {
        Ok(done) => Some((done.status.success(), String::from_utf8_lossy(&done.stdout).into_owned())),
        Err(error) => {
            println!("skipped: b3sum: {error}: install the package b3sum");
            None
        }
    }
}

#[test]
fn what_was_written_verifies() {
    let tree = Tree::written();
    tree.put(b"extra", b"nobody named it");
    let done = tree.run(&["d", "m"]).expect(0);
    let total = BIG + (20 << 20) + 9;
    assert!(done.stdout.starts_with(&format!("8 files, {total} bytes in ")), "{done:#?}");
    assert!(done.stdout.ends_with(" GB/s: all right\n") && done.stderr.is_empty(), "{done:#?}");
    for args in [&["d", "m", "--quiet"][..], &["d", "m", "-q", "--threads", "1"], &["d/", "m", "-q", "--threads", "7"]]
    {
        let done = tree.run(args).expect(0);
        assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""));
    }
    let manifest = fs::read_to_string(tree.path("m")).unwrap();
    assert!(manifest.contains(&format!("{EMPTY}  empty\n")), "{manifest}");
    assert!(manifest.contains("  sub/deep/no\\xffutf8\n") && manifest.contains("  sub/new\\nline\n"), "{manifest}");
    let again = tree.run(&["d", "--write", "-", "--quiet", "--threads", "3"]).expect(0);
    assert_eq!(again.stdout.lines().filter(|line| !line.ends_with("  extra")).count(), manifest.lines().count());
}

#[test]
fn what_is_wrong_is_named() {
    let tree = Tree::written();
    let mut big = fs::read(tree.path("d/big")).unwrap();
    big[5 << 20] ^= 1;
    tree.put(b"big", &big);
    tree.put(b"sub/new\nline", b"one");
    fs::remove_file(tree.path("d/plain")).unwrap();
    let done = tree.run(&["d", "m"]).expect(4);
    for line in ["big: FAILED\n", "sub/new\\nline: FAILED\n", "plain: missing\n", ": 2 FAILED, 1 missing\n"] {
        assert!(done.stdout.contains(line), "no {line:?} in {done:#?}");
    }
    assert_eq!(tree.run(&["d", "m", "-q"]).expect(4).stdout.lines().count(), 3);
    let done = tree.run(&["d", "m", "--json"]).expect(4);
    let json: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((&json["files"], &json["right"]), (&8.into(), &5.into()));
    assert_eq!(json["failed"], serde_json::json!(["big", "sub/new\\nline"]));
    assert_eq!((&json["missing"][0], json["unreadable"].as_array().unwrap().len()), (&"plain".into(), 0));
}

#[test]
fn what_cannot_be_read_is_an_error_of_its_own() {
    let tree = Tree::written();
    fs::remove_file(tree.path("d/plain")).unwrap();
    fs::create_dir(tree.path("d/plain")).unwrap();
    let done = tree.run(&["d", "m"]).expect(1);
    assert!(
        done.stdout.contains("plain: unreadable (is a folder") && done.stdout.contains(": 1 unreadable\n"),
        "{done:#?}"
    );
    nix::unistd::mkfifo(&tree.path("d/fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(tree.by(&format!("{EMPTY}  fifo\n")).expect(1).stdout.contains("fifo: unreadable (is a named pipe"));
    tree.by(&format!("{EMPTY}  empty/below\n")).expect(4);
    tree.run(&["nowhere", "m"]).expect_line(1, &["nowhere", "No such file"]);
    tree.run(&["d", "nowhere"]).expect_line(1, &["nowhere", "cannot be opened"]);
}

#[test]
fn links_are_followed_inside_and_not_out() {
    let tree = Tree::new();
    fs::write(tree.path("secret"), b"").unwrap();
    symlink("sub/../empty", tree.path("d/inside")).unwrap();
    symlink("../secret", tree.path("d/outside")).unwrap();
    symlink("..", tree.path("d/up")).unwrap();
    symlink("nowhere", tree.path("d/dangling")).unwrap();
    tree.by(&format!("{EMPTY}  inside\n{EMPTY}  ./sub//../empty\n")).expect_line(2, &["by: line 2: ", "leads out"]);
    tree.by(&format!("{EMPTY}  inside\n{EMPTY}  .//empty\n")).expect(0);
    for name in ["outside", "up/secret"] {
        let done = tree.by(&format!("{EMPTY}  {name}\n")).expect(1);
        assert!(done.stdout.contains(&format!("{name}: unreadable (leads out")), "{done:#?}");
    }
    tree.by(&format!("{EMPTY}  dangling\n")).expect(4);
    let done = tree.run(&["d", "--write", "m"]).expect(0);
    assert!(done.stderr.ends_with("; 4 links and other things that are no regular files left out\n"), "{done:#?}");
    assert_eq!(fs::read_to_string(tree.path("m")).unwrap().lines().count(), 8);
}

#[test]
fn a_manifest_that_is_none_is_refused_before_anything_is_hashed() {
    let tree = Tree::new();
    let right = format!("{EMPTY}  empty\n");
    for (line, words) in [
        ("\u{1b}[2Jgarbage", r"by: line 2: is not `HASH  PATH` as b3sum writes it: \u{1b}[2Jgarbage"),
        ("", "by: line 2: is not"),
        (&format!("\\{EMPTY}  a\\tb"), "by: line 2: has an escape"),
        (&format!("{EMPTY}  ../secret"), "by: line 2: ../secret: leads out"),
        (&format!("{EMPTY}  /etc/passwd"), "by: line 2: /etc/passwd: leads out"),
        (&format!("{EMPTY}  ."), "by: line 2: "),
    ] {
        let done = tree.by(&format!("{right}{line}\n{right}")).expect_line(2, &[words]);
        assert_eq!(done.stdout, "");
    }
    tree.by("").expect(0);
    assert_eq!(tree.run(&["d"]).code, Some(2));
    assert_eq!(tree.run(&["d", "m", "--write", "m"]).code, Some(2));
    assert_eq!(tree.run(&["d", "m", "--threads", "0"]).code, Some(2));
}

#[test]
fn a_manifest_in_its_own_folder_is_not_in_itself() {
    let tree = Tree::new();
    for _ in 0..2 {
        tree.run(&["d", "--write", "d/m"]).expect(0);
        assert_eq!(fs::read_to_string(tree.path("d/m")).unwrap().lines().count(), 8);
        tree.run(&["d", "d/m"]).expect(0);
    }
    tree.run(&["d", "--write", "nowhere/m"]).expect_line(1, &["nowhere/m: cannot be written"]);
    let names = fs::read_dir(tree.path("d")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(!names.into_iter().any(|name| name.to_string_lossy().ends_with("partial")));
}

#[test]
fn b3sum_checks_what_we_write_and_we_what_it_writes() {
    let tree = Tree::written();
    let inside = tree.path("d");
    let Some((_, said)) = b3sum(&inside, &["-c", "../m"].map(OsStr::new)) else { return };
    let (right, rest): (Vec<&str>, Vec<&str>) = said.lines().partition(|line| line.ends_with(": OK"));
    // The name that is no UTF-8 is the one that it cannot check.
    assert!(right.len() == 7 && rest.is_empty(), "{said}");
    let names = ["plain", "empty", "big", "sparse", "sub/new\nline", "sub/back\\slash", "./sub/ü \u{202e}x"];
    let (went_well, theirs) = b3sum(&inside, &names.map(OsStr::new)).unwrap();
    assert!(went_well, "{theirs}");
    tree.by(&theirs).expect(0);
    fs::remove_file(inside.join("sub/deep").join(OsStr::from_bytes(b"no\xffutf8"))).unwrap();
    tree.run(&["d", "--write", "m"]).expect(0);
    assert!(b3sum(&inside, &["-c", "../m"].map(OsStr::new)).unwrap().0);
}
