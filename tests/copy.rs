//! `linerate copy` as a person runs it: where things go, what is skipped, and what it says.

mod common;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use common::copy::{CLEAR, Site, copy_in};
use common::proxy::{ANY, CLEAR_DOWN, CLEAR_UP, Kind};
use common::tree::{CONTENT, PLAIN, Tree, assert_same, count, name, noise};
use common::{Done, Running, folder, names_in, run_bounded, skip_unless};
use serde_json::Value;

/// A site whose clients have a small tree `tree`.
fn site_with_tree() -> (Site, Tree) {
    let site = Site::new();
    let tree = Tree::random(site.near("tree"), 11, 60, 300_000);
    (site, tree)
}

fn read(path: impl AsRef<Path>) -> Vec<u8> {
    std::fs::read(path.as_ref()).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

/// The events of a run with `--json`, each a line.
fn events(done: &Done) -> Vec<Value> {
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    done.stdout.lines().map(parse).collect()
}

/// Every number at any depth of a document that has such a key.
fn numbers(document: &Value, key: &str) -> Vec<u64> {
    match document {
        Value::Object(map) => {
            let own = map.get(key).and_then(Value::as_u64);
            own.into_iter().chain(map.values().flat_map(|value| numbers(value, key))).collect()
        }
        Value::Array(all) => all.iter().flat_map(|value| numbers(value, key)).collect(),
        _ => Vec::new(),
    }
}

// Where things go. Each of these is a push, a pull, and a local copy: the destination decides in all of them.

/// What is there before, the words, and what is there afterwards (of the content "1").
struct Case {
    before: fn(&Tree),
    words: &'static [&'static str],
    there: &'static [&'static str],
}

const CASES: [Case; 9] = [
    Case { before: |_| (), words: &["file", "TO/new"], there: &["new"] },
    Case { before: |to| _ = to.file("old", b"other"), words: &["file", "TO/old"], there: &["old"] },
    Case { before: |to| _ = to.dir("d"), words: &["file", "TO/d"], there: &["d/file"] },
    Case { before: |to| _ = to.dir("d"), words: &["file", "TO/d/"], there: &["d/file"] },
    Case { before: |_| (), words: &["dir", "TO/new"], there: &["new/a", "new/sub/b"] },
    Case { before: |to| _ = to.dir("d"), words: &["dir", "TO/d"], there: &["d/dir/a", "d/dir/sub/b"] },
    Case { before: |to| _ = to.dir("d"), words: &["dir/.", "TO/d"], there: &["d/a", "d/sub/b"] },
    Case {
        before: |to| _ = to.dir("d"),
        words: &["file", "dir", "FROM/dir/sub", "TO/d"],
        there: &["d/file", "d/dir/a", "d/dir/sub/b", "d/sub/b"],
    },
    Case { before: |to| _ = to.file("d/dir/kept", b"1"), words: &["dir", "TO/d"], there: &["d/dir/a", "d/dir/kept"] },
];

/// Run all cases between two folders, which words name so.
fn check_cases(site: &Site, (from, named_from): (&Path, &str), (to, named_to): (&Path, &str)) {
    for (n, case) in CASES.iter().enumerate() {
        let source = Tree::at(from.join(n.to_string()));
        source.file("file", b"1").file("dir/a", b"1").file("dir/sub/b", b"1").settle();
        let target = Tree::at(to.join(n.to_string()));
        (case.before)(&target);
        let named = |word: &&str| match word.strip_prefix("TO/") {
            Some(rest) => format!("{named_to}{n}/{rest}"),
            None => format!("{named_from}{n}/{}", word.strip_prefix("FROM/").unwrap_or(word)),
        };
        let words: Vec<String> = case.words.iter().map(named).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        site.runs(&words);
        for path in case.there {
            assert_eq!(read(target.path().join(path)), b"1", "{words:?}: {path}");
        }
        let files = case.there.len() + usize::from(n == 8);
        let found = common::tree::files(target.path());
        assert_eq!(found.len(), files, "{words:?}: {found:?}");
    }
}

#[test]
fn a_push_goes_where_cp_would_put_it() {
    let site = Site::new();
    check_cases(&site, (&site.near(""), ""), (&site.far(""), "@"));
}

#[test]
fn a_pull_goes_where_cp_would_put_it() {
    let site = Site::new();
    check_cases(&site, (&site.far(""), "@"), (&site.near(""), ""));
}

#[test]
fn a_local_copy_goes_where_cp_would_put_it() {
    let site = Site::new();
    let (from, to) = (site.near("from"), site.near("to"));
    check_cases(&site, (&from, "from/"), (&to, "to/"));
    assert_eq!(site.proxy.bytes(ANY), 0, "no server has to do with it");
}

#[test]
fn trees_are_the_same_after_a_push_and_a_pull_in_tls_and_in_the_clear() {
    for clear in [&[][..], &CLEAR] {
        let (site, tree) = site_with_tree();
        site.runs(&[clear, &["tree", "@pushed"]].concat());
        site.same("tree", "pushed", PLAIN);
        site.runs(&[clear, &["@pushed", "pulled"]].concat());
        assert_same(tree.path(), &site.near("pulled"), PLAIN);
        assert_eq!(site.proxy.connections(Kind::Clear) > 0, !clear.is_empty());
    }
}

#[test]
fn standard_input_and_output_are_one_file() {
    let site = Site::new();
    let bytes = noise(3_000_000, 5);
    for target in ["@piped", "piped"] {
        let mut command = site.copy(&["-", target]);
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }
    assert!(read(site.far("piped")) == bytes && read(site.near("piped")) == bytes);
    for source in ["@piped", "piped"] {
        let done = site.copy(&[source, "-"]).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        assert!(done.stdout == bytes, "{} bytes", done.stdout.len());
    }
    Tree::at(site.far("folder"));
    assert_eq!(site.run(&["@folder", "-"]).expect(2).stdout, "", "a folder is no single file");
}

#[test]
fn standard_input_that_is_killed_leaves_nothing() {
    let site = Site::new();
    let temporary = Tree::at(site.near("temporary")).path().to_path_buf();
    let mut command = site.copy(&["-", "@piped"]);
    command.env("TMPDIR", &temporary).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // More than a pipe holds: most of it has been read when this returns, and the rest is waited for.
    child.stdin.as_mut().unwrap().write_all(&noise(4 << 20, 5)).unwrap();
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    assert_eq!(names_in(&temporary), [""; 0]);
    // In a folder it is called as what it is.
    Tree::at(site.far("folder"));
    let mut command = site.copy(&["-", "@folder", "--manifest", "sums", "--no-verify"]);
    let mut child = command.env("TMPDIR", &temporary).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"12").unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(read(site.far("folder/stdin")), b"12");
    assert_eq!(read(site.near("sums")), format!("{}  stdin\n", blake3::hash(b"12")).into_bytes());
    command.env("TMPDIR", temporary.join("none"));
    let done = run_bounded(command.stdin(Stdio::null()));
    done.expect_line(1, &["none", "standard input cannot be kept there", "TMPDIR"]);
}

#[test]
fn get_put_and_ls_are_the_short_forms() {
    let site = Site::new();
    Tree::at(site.near("tree"))
        .file("sub/file", b"123")
        .symlink("link", "sub/file")
        .file(name(b"a\nb\xff"), b"")
        .settle();
    let short = |words: &[&str]| run_bounded(&mut site.command(words));
    short(&["put", "tree", &site.url("there")]).expect(0);
    short(&["get", &site.url("there/sub/file")]).expect(0);
    assert_eq!(read(site.near("file")), b"123");
    short(&["get", &site.url("there"), "back"]).expect(0);
    assert_same(&site.near("tree"), &site.near("back"), PLAIN);
    let listed = short(&["ls", &site.url("there")]).expect(0).stdout;
    assert!(listed.contains("sub") && listed.contains("link") && listed.lines().count() >= 3, "{listed}");
    assert!(!listed.contains("a\nb"), "a name steers the terminal: {listed}");
    let listed = short(&["ls", "--json", &site.url("there/sub")]).expect(0).stdout;
    assert!(
        listed.lines().all(|line| serde_json::from_str::<Value>(line).is_ok())
            || serde_json::from_str::<Value>(&listed).is_ok()
    );
    assert!(listed.contains("file"), "{listed}");
    short(&["ls", &site.url("not/there")]).expect_line(1, &["not/there", "no such file or folder"]);
}

#[test]
fn what_does_not_exist_is_said_so() {
    let site = Site::new();
    Tree::at(site.near("")).file("file", b"1");
    for words in [["@nothing", "here"], ["nothing", "@there"], ["nothing", "here"]] {
        let done = site.run(&words);
        assert!(matches!(done.code, Some(1 | 3)), "{words:?}: {done:#?}");
        assert!(done.stderr.contains("nothing") && done.stderr.contains("no such file or folder"), "{done:#?}");
    }
    // The folder that a destination would be in has to be there.
    for target in ["@no/folder/file", "no/folder/file"] {
        let done = site.run(&["file", target]);
        assert!(done.code != Some(0) && done.stderr.contains("no such file or folder"), "{done:#?}");
    }
    assert_eq!((names_in(&site.near("")), names_in(&site.far(""))), (vec!["file".to_string()], Vec::new()));
    // What can be copied is.
    let done = site.run(&["nothing", "file", "@"]).expect(3);
    assert!(done.stderr.contains("nothing"), "{done:#?}");
    assert_eq!(read(site.far("file")), b"1");
}

#[test]
fn several_sources_need_a_folder_to_go_to() {
    let site = Site::new();
    Tree::at(site.near("")).file("a", b"1").file("b", b"2").file("c", b"3");
    for target in ["@nothing", "nothing", "c"] {
        let done = site.run(&["a", "b", target]);
        assert!(matches!(done.code, Some(1 | 2)) && done.stderr.contains(target.trim_start_matches('@')), "{done:#?}");
    }
    assert_eq!((names_in(&site.near("")).len(), read(site.near("c"))), (3, b"3".to_vec()));
}

#[test]
fn exit_codes_say_what_went_wrong() {
    let site = Site::new();
    Tree::at(site.near("")).file("file", b"1");
    let code = |words: &[&str], code: i32| site.run(words).expect(code);
    code(&["file"], 2);
    code(&["file", "@x", "--existing", "never"], 2);
    code(&["file", "@x", "--block", "many"], 2);
    let mut stranger = site.copy(&["file", "@x"]);
    run_bounded(stranger.env_remove("LINERATE_TICKET")).expect(5);
    site.proxy.lead_to(None);
    let done = code(&["--retry-for", "1ms", "file", "@x"], 6);
    assert!(done.stderr.contains(&site.proxy.address().to_string()), "{done:#?}");
    assert!(names_in(&site.far("")).is_empty());
}

#[test]
fn an_interrupt_ends_it_at_once_and_it_goes_on_later() {
    let site = Site::new();
    Tree::at(site.near("")).noise("file", 24 << 20, 1).settle();
    let running = site.held(CLEAR_UP, 4 << 20, &["--clear", "file", "@file"]);
    running.signal(libc::SIGINT);
    running.finish().expect(130);
    assert!(!site.far("file").exists(), "it is not whole");
    site.proxy.go_on();
    site.runs(&["--clear", "file", "@file"]);
    site.same("file", "file", PLAIN);
}

#[test]
fn a_folder_that_gets_a_new_name_goes_on_under_it() {
    for (words, which) in [(["tree", "@new"], CLEAR_UP), (["@tree", "new"], CLEAR_DOWN)] {
        let site = Site::new();
        let near = words[1].starts_with('@');
        let (from, to) = if near { (site.near(""), site.far("")) } else { (site.far(""), site.near("")) };
        Tree::at(from.join("tree")).noise("file", 24 << 20, 1).settle();
        let words = [&CLEAR[..], &words].concat();
        let running = site.held(which, 8 << 20, &words);
        running.signal(libc::SIGTERM);
        running.finish().expect(130);
        // By now there is a folder of that name, into which it would go if it were a copy of its own.
        assert!(to.join("new").is_dir());
        site.proxy.go_on();
        let running = site.held(which, 4 << 20, &words);
        site.proxy.cut();
        site.proxy.go_on();
        running.finish().expect(0);
        assert_same(&from.join("tree"), &to.join("new"), PLAIN);
        site.runs(&words);
        assert_same(&from.join("tree"), &to.join("new/tree"), CONTENT);
    }
}

#[test]
fn more_sources_are_copied_than_files_may_be_open_at_first() {
    let dir = folder();
    std::fs::create_dir_all(dir.path().join("many")).unwrap();
    std::fs::create_dir(dir.path().join("to")).unwrap();
    for n in 0..400 {
        std::fs::write(dir.path().join(format!("many/{n}")), vec![1; 20_000]).unwrap();
    }
    let mut command = Command::new("sh");
    let script = "ulimit -S -n 200 && exec \"$0\" copy --quiet many/* to";
    command.args(["-c", script, env!("CARGO_BIN_EXE_linerate")]).current_dir(dir.path());
    run_bounded(common::at_home(&mut command, &common::home())).expect(0);
    assert_eq!(names_in(&dir.path().join("to")).len(), 400);
}

#[test]
fn what_is_not_written_of_standard_input_is_refused() {
    let dir = folder();
    std::fs::write(dir.path().join("there"), "x").unwrap();
    for words in [["-", "f", "--json"], ["-", "f", "--manifest=m"], ["-", "f", "--receipt=r"], ["there", "-", "--json"]]
    {
        let option = words[2].split('=').next().unwrap();
        copy_in(dir.path(), &words).expect_line(2, &[option, "within this machine"]);
    }
    assert_eq!(names_in(dir.path()), ["there"]);
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let (site, tree) = site_with_tree();
    for (words, there) in [(["tree", "@there"], site.far("there")), (["tree", "here"], site.near("here"))] {
        let words: Vec<String> =
            words.iter().map(|w| w.strip_prefix('@').map_or(w.to_string(), |w| site.url(w))).collect();
        let done = run_bounded(site.command(["copy", "--dry-run"]).args(words)).expect(0);
        let files = common::tree::files(tree.path()).len().to_string();
        assert!(done.stdout.contains(&files) || done.stderr.contains(&files), "{files} files: {done:#?}");
        assert!(!there.exists());
    }
    // The content of a folder, which would make one; and standard input.
    for words in [["tree/.", "@there"], ["tree/.", "here"]] {
        let words = words.map(|w| w.strip_prefix('@').map_or(w.to_string(), |w| site.url(w)));
        run_bounded(site.command(["copy", "-n"]).args(words)).expect(0);
    }
    run_bounded(site.command(["copy", "-n", "-", "here"]).stdin(Stdio::null())).expect(0);
    assert!(!site.far("there").exists() && !site.near("here").exists());
}

#[test]
fn existing_files_are_treated_as_was_asked_for() {
    let content = |existing: &[&str], code: i32, newer: bool| {
        let site = Site::new();
        Tree::at(site.near("")).file("dir/f", b"source").file("dir/other", b"1").settle();
        Tree::at(site.far("")).file("dir/f", b"old").settle();
        if newer {
            common::tree::touch_later(&site.far("dir/f"));
        } else {
            Tree::at(site.far("")).mtime("dir/f", Duration::new(1_000_000_000, 5));
        }
        let done = site.run(&[existing, &["dir", "@"]].concat()).expect(code);
        assert_eq!(done.stderr.contains("dir/f") || done.stderr.contains("\"f\""), code != 0, "{done:#?}");
        assert_eq!(read(site.far("dir/other")), b"1", "the rest is copied");
        String::from_utf8(read(site.far("dir/f"))).unwrap()
    };
    for newer in [false, true] {
        assert_eq!(content(&[], 0, newer), "source");
        assert_eq!(content(&["--existing", "replace"], 0, newer), "source");
        assert_eq!(content(&["--existing", "skip"], 0, newer), "old");
        assert_eq!(content(&["--existing", "fail"], 3, newer), "old");
    }
    assert_eq!(content(&["--existing", "keep-newer"], 0, false), "source");
    assert_eq!(content(&["--existing", "keep-newer"], 0, true), "old");
}

#[test]
fn only_what_the_source_lacks_is_deleted_and_only_when_that_is_confirmed() {
    let (site, tree) = site_with_tree();
    site.runs(&["tree/.", "@"]);
    let far = Tree::at(site.far(""));
    far.file("extra/deep/file", b"1").file("more", b"2").symlink("to-near", site.near("tree")).settle();
    site.runs(&["tree/.", "@"]);
    assert!(site.far("more").exists(), "nobody asked for it");
    // Nobody is at the terminal who could confirm it.
    let done = site.run(&["--delete", "tree/.", "@"]);
    assert!(done.code != Some(0) && done.stderr.contains("--yes"), "{done:#?}");
    assert!(site.far("more").exists());
    run_bounded(site.command(["copy", "--dry-run", "--delete", "--yes", "tree/."]).arg(site.url(""))).expect(0);
    assert!(site.far("more").exists());
    site.runs(&["--delete", "--yes", "tree/.", "@"]);
    site.same("tree", "", CONTENT);
    assert!(count(tree.path()) > 0, "the link was not followed");
}

#[test]
fn nothing_is_deleted_where_the_source_could_not_be_read_or_was_filtered() {
    let site = Site::new();
    Tree::at(site.near("tree")).file("a", b"1").file("b.tmp", b"2").settle();
    Tree::at(site.far("")).file("kept.tmp", b"3").file("gone", b"4");
    site.runs(&["--delete", "--yes", "--exclude", "*.tmp", "tree/.", "@"]);
    assert_eq!(names_in(&site.far("")), ["a", "kept.tmp"], "what a filter leaves out is no reason to delete");
    let done = site.run(&["--delete", "--yes", "nothing/.", "@"]);
    assert!(done.code != Some(0), "{done:#?}");
    assert_eq!(names_in(&site.far("")), ["a", "kept.tmp"]);
}

#[test]
fn filters_choose_what_is_copied() {
    let site = Site::new();
    let tree = Tree::at(site.near("tree"));
    tree.file("a.rs", b"fn main() {}").file("sub/b.rs", b"1").file("sub/c.txt", b"text").noise("big.bin", 200_000, 1);
    tree.file("cache/d.rs", b"2").file("photo.png", b"\x89PNG\r\n\x1a\n").settle();
    tree.mtime("sub/b.rs", SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap());
    let cases: [(&[&str], &[&str]); 7] = [
        (&["--include", "*.rs"], &["a.rs", "cache/d.rs", "sub/b.rs"]),
        (&["--include", "*.rs", "--exclude", "cache/"], &["a.rs", "sub/b.rs"]),
        (&["--exclude", "*.rs", "--exclude", "big*"], &["photo.png", "sub/c.txt"]),
        (&["--exclude", "/sub/*.txt", "--max-size", "100KiB"], &["a.rs", "cache/d.rs", "photo.png", "sub/b.rs"]),
        (&["--type", "image"], &["photo.png"]),
        (&["--type", "image,code"], &["a.rs", "cache/d.rs", "photo.png", "sub/b.rs"]),
        (&["--newer", "1h"], &["sub/b.rs"]),
    ];
    for (n, (filters, wanted)) in cases.into_iter().enumerate() {
        for target in [format!("@{n}"), format!("to{n}")] {
            site.runs(&[filters, &["tree", &target]].concat());
            let there = target.strip_prefix('@').map_or_else(|| site.near(&target), |far| site.far(far));
            let found = common::tree::files(&there);
            assert_eq!(found.iter().map(|path| path.to_str().unwrap()).collect::<Vec<_>>(), wanted, "{filters:?}");
        }
        // A pull is filtered by the far end.
        site.runs(&[filters, &["--existing", "fail", &format!("@{n}"), &format!("back{n}")]].concat());
        assert_eq!(common::tree::files(&site.near(format!("back{n}"))).len(), wanted.len(), "{filters:?}");
    }
}

#[test]
fn a_manifest_is_what_b3sum_writes() {
    let site = Site::new();
    let tree = Tree::at(site.near("tree"));
    tree.with_sizes().with_holes().file("back\\slash", b"1").file("new\nline", b"2").file("sub/ü", b"3").settle();
    for words in [["tree", "@there"], ["@there", "back"], ["tree", "here"]] {
        site.runs(&[&["--manifest", "sums"], &words[..]].concat());
        let sums = String::from_utf8(read(site.near("sums"))).unwrap();
        assert_eq!(sums.lines().count(), common::tree::files(tree.path()).len(), "{sums}");
        let mut verify = site.command(["verify", "tree", "sums", "--quiet"]);
        run_bounded(&mut verify).expect(0);
        let b3sum = Command::new("b3sum").args(["--check", "--quiet", "../sums"]).current_dir(tree.path()).output();
        if !skip_unless(b3sum.is_ok(), "b3sum is not installed") {
            let done = b3sum.unwrap();
            assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stdout));
        }
        std::fs::remove_file(site.near("sums")).unwrap();
    }
    // What was there already is in it, too.
    site.runs(&["--manifest", "sums", "tree/.", "@there"]);
    run_bounded(&mut site.command(["verify", "tree", "sums", "--quiet"])).expect(0);
}

#[test]
fn a_manifest_has_every_name_of_a_file() {
    let site = Site::new();
    let tree = Tree::at(site.near("tree"));
    tree.noise("one", 100_000, 1).hard_link("other", "one").file("sub/small", b"2").hard_link("third", "one");
    tree.hard_link("a\nb", "sub/small").settle();
    let without = ["--no-verify", "tree", "@unverified"];
    for words in [&["tree", "@there"][..], &["@there", "back"], &["tree", "here"], &["tree/.", "@there"], &without] {
        site.runs(&[&["--hard-links", "--manifest", "sums"], words].concat());
        let sums = String::from_utf8(read(site.near("sums"))).unwrap();
        assert_eq!(sums.lines().count(), 5, "{words:?}: {sums}");
        run_bounded(&mut site.command(["verify", "tree", "sums", "--quiet"])).expect(0);
        std::fs::remove_file(site.near("sums")).unwrap();
    }
}

#[test]
fn a_second_run_moves_nothing() {
    let (site, tree) = site_with_tree();
    for (words, back) in [(["tree/.", "@"], false), (["@", "pulled"], true), (["tree/.", "here"], false)] {
        if words[1] == "here" {
            Tree::at(site.near("here"));
        }
        let first = site.receipt(&words);
        assert_eq!(first["schema"], "linerate.receipt/1", "{first}");
        let before = site.proxy.bytes(ANY);
        // By now there is a folder of that name.
        let again = if back { ["@.", "pulled"] } else { words };
        site.receipt(&again);
        let moved = site.proxy.bytes(ANY) - before;
        let total: u64 =
            common::tree::files(tree.path()).iter().map(|f| tree.path().join(f).metadata().unwrap().len()).sum();
        assert!(moved < 200_000 && total > 400_000, "{words:?}: {moved} bytes of {total}");
    }
    assert_same(tree.path(), &site.near("pulled"), PLAIN);
}

#[test]
fn a_checksum_finds_what_size_and_time_hide() {
    let site = Site::new();
    let tree = Tree::at(site.near("tree"));
    tree.noise("big", 5 << 20, 1).file("small", b"good").settle();
    site.runs(&["tree/.", "@"]);
    let far = Tree::at(site.far(""));
    far.noise("big", 5 << 20, 2).file("small", b"evil");
    for path in ["big", "small"] {
        let modified = site.near("tree").join(path).metadata().unwrap().modified().unwrap();
        far.mtime(path, modified.duration_since(SystemTime::UNIX_EPOCH).unwrap());
    }
    site.runs(&["tree/.", "@"]);
    assert_eq!(read(site.far("small")), b"evil", "by size and time it is the same");
    site.runs(&["--checksum", "tree/.", "@"]);
    site.same("tree", "", PLAIN);
    let before = site.proxy.bytes(ANY);
    site.runs(&["--checksum", "tree/.", "@"]);
    assert!(site.proxy.bytes(ANY) - before < 200_000, "by content it is the same");
}

#[test]
fn events_are_lines_of_json_and_tell_of_failures() {
    let (site, tree) = site_with_tree();
    tree.fifo("a fifo");
    let done = run_bounded(site.command(["copy", "--json", "tree"]).arg(site.url("there"))).expect(0);
    let events = events(&done);
    assert!(!events.is_empty() && events.iter().all(Value::is_object), "{done:#?}");
    assert!(done.stdout.contains("a fifo"), "what is skipped is named: {done:#?}");
    let done = run_bounded(site.command(["copy", "--json", "nothing"]).arg(site.url("there")));
    assert!(done.code != Some(0));
    self::events(&done);
}

#[test]
fn a_receipt_says_what_was_done() {
    let (site, tree) = site_with_tree();
    let files: Vec<_> = common::tree::files(tree.path()).iter().map(|file| tree.path().join(file)).collect();
    let total: u64 = files.iter().map(|file| file.metadata().unwrap().len()).sum();
    for options in [&[][..], &["--no-verify"], &["--reread"], &["--streams", "3", "--block", "1MiB"]] {
        let target = format!("@to{}", options.join(""));
        let receipt = site.receipt(&[options, &["tree", &target]].concat());
        assert_eq!(receipt["schema"], "linerate.receipt/1");
        assert!(numbers(&receipt, "files").contains(&(files.len() as u64)), "{receipt}");
        assert!(numbers(&receipt, "bytes").contains(&total), "{total} bytes: {receipt}");
        site.same("tree", target.trim_start_matches('@'), PLAIN);
    }
}

#[test]
fn every_option_of_the_pace_and_the_stored_form_leads_to_the_same_tree() {
    let (site, _tree) = site_with_tree();
    let options: [&[&str]; 12] = [
        &["--streams", "1"],
        &["--streams", "8", "--clear"],
        &["--block", "64KiB"],
        &["--direct", "on"],
        &["--direct", "off", "--reread"],
        &["--compress", "auto"],
        &["--compress", "zstd:3", "--clear"],
        &["--durability", "full"],
        &["--durability", "none"],
        &["--limit", "400Mbit/s"],
        &["--nice"],
        &["--no-verify", "--clear"],
    ];
    for (n, options) in options.into_iter().enumerate() {
        site.runs(&[options, &["tree", &format!("@{n}")]].concat());
        site.same("tree", &n.to_string(), PLAIN);
        site.runs(&[options, &[&format!("@{n}"), &format!("back{n}")]].concat());
        assert_same(&site.near("tree"), &site.near(format!("back{n}")), PLAIN);
    }
}

#[test]
fn one_daemon_serves_many_clients_at_once_in_both_directions() {
    let (site, tree) = site_with_tree();
    Tree::at(site.far("")).file("big/keep", b"1");
    site.runs(&["tree", "@big/tree"]);
    let push = (0..6).map(|n| site.start(&["tree", &format!("@{n}")]));
    let pull = (0..6).map(|n| site.start(&["@big/tree", &format!("back{n}")]));
    let running: Vec<Running> = push.chain(pull).collect();
    for client in running {
        client.finish().expect(0);
    }
    for n in 0..6 {
        site.same("tree", &n.to_string(), PLAIN);
        assert_same(tree.path(), &site.near(format!("back{n}")), PLAIN);
    }
}

#[test]
fn a_daemon_that_only_lets_read_refuses_a_push() {
    for options in [&["--read-only"][..], &["--allow", "read"]] {
        let site = Site::with(options);
        Tree::at(site.near("")).file("file", b"1");
        Tree::at(site.far("")).file("there", b"2");
        let done = site.run(&["file", "@new"]).expect(5);
        assert!(done.stderr.contains("write"), "{done:#?}");
        site.run(&["file", "@there"]).expect(5);
        site.runs(&["@there", "back"]);
        assert_eq!((read(site.near("back")), names_in(&site.far(""))), (b"2".to_vec(), vec!["there".to_string()]));
    }
}

#[test]
fn nobody_gets_out_of_the_folder_that_is_served() {
    let site = Site::new();
    Tree::at(site.dir()).file("secret", b"1");
    Tree::at(site.far("")).symlink("out", "..").symlink("absolute", site.dir());
    Tree::at(site.near("")).file("file", b"2");
    site.runs(&["file", "@inside"]);
    for path in ["@../secret", "@/../secret", "@out/secret", "@absolute/secret"] {
        let done = site.run(&[path, "got"]);
        assert!(done.code != Some(0) && !site.near("got").exists(), "{path}: {done:#?}");
        let target = path.replace("secret", "put");
        let done = site.run(&["file", &target]);
        assert!(done.code != Some(0) && !site.dir().join("put").exists(), "{target}: {done:#?}");
    }
}

#[test]
fn a_local_copy_needs_no_ticket_and_no_home() {
    let dir = folder();
    let tree = Tree::random(dir.path().join("tree"), 3, 40, 100_000);
    copy_in(dir.path(), &["tree", "copy"]).expect(0);
    assert_same(tree.path(), &dir.path().join("copy"), PLAIN);
    // A folder into itself would never end.
    let done = copy_in(dir.path(), &["tree", "tree/inside"]);
    assert!(done.code != Some(0) && done.stderr.contains("into itself"), "{done:#?}");
    // And a file onto itself would be lost.
    let file = Tree::at(dir.path());
    file.file("file", b"1");
    let done = copy_in(dir.path(), &["file", "file"]);
    assert_eq!(read(dir.path().join("file")), b"1", "{done:#?}");
}
