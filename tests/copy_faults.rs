//! What goes wrong in the middle of a copy: the network, the source, the destination. What happens "meanwhile" happens
//! while a proxy holds the data after a number of bytes.

mod common;

use std::fs;
use std::path::Path;
use std::time::Duration;

use common::copy::{CLEAR, Site, SmallDisk, bound_by_modes};
use common::proxy::{CLEAR_DOWN, CLEAR_UP, DOWN, Kind, UP, Way, Which};
use common::tree::{CONTENT, PLAIN, Tree, assert_same, differences, no_temporaries, noise, touch_later};
use common::{Done, Running, folder, names_in, skip_unless, wait_until};

/// Long enough that no end has read all of it ahead when the first MiB has passed.
const BIG: u64 = 160 << 20;
/// One stream, whose bytes come in order.
const ONE_STREAM: [&str; 4] = ["--streams", "1", "--block", "1MiB"];
const MIB: u64 = 1 << 20;
/// So many more files than any end has opened ahead.
const LATER: u64 = 400;

/// A tree with a few files of many blocks and many of less than one.
fn mixed(root: impl AsRef<Path>) -> Tree {
    let tree = Tree::at(root.as_ref());
    for n in 0..4 {
        tree.noise(format!("big {n}"), (5 + n) * MIB + n, n);
    }
    for n in 0..200 {
        tree.noise(format!("small/{}/{n}", n % 5), 37 * n, n);
    }
    tree.settle();
    tree
}

/// A copy of the mixed tree each way: in the words for it, from where to where, and which way its data goes.
fn each_way(check: impl Fn(&Site, &[&str], (&Path, &Path), (Which, Way))) {
    let site = Site::new();
    mixed(site.near("tree"));
    check(&site, &["tree/.", "@there"], (&site.near("tree"), &site.far("there")), (UP, Way::Up));
    let site = Site::new();
    mixed(site.far("tree"));
    check(&site, &["@tree/.", "back"], (&site.far("tree"), &site.near("back")), (DOWN, Way::Down));
}

// The network.

#[test]
fn a_lost_connection_comes_again_and_the_copy_ends_well() {
    each_way(|site, words, (source, copy), (which, _)| {
        let running = site.held(which, 7 * MIB, words);
        // Nothing passes before it is known where the next cut is.
        site.proxy.lead_to(None);
        site.proxy.cut();
        site.proxy.cut_after(which, 9 * MIB);
        site.proxy.lead_to(Some(site.address()));
        site.wait_cut(2, running).finish().expect(0);
        assert_same(source, copy, PLAIN);
        no_temporaries(site.dir());
        assert!(site.proxy.bytes(which) < 2 * 27 * MIB, "{} bytes for 26 MiB", site.proxy.bytes(which));
    });
}

#[test]
fn a_connection_lost_at_its_start_or_end_comes_again() {
    for after in [1, 300, 2000, 5000, 10_000] {
        let site = Site::new();
        Tree::at(site.near("tree")).file("f", b"1").settle();
        site.proxy.cut_after(if after % 1000 == 0 { UP } else { DOWN }, after);
        let done = site.run(&["--retry-for", "20s", "tree/.", "@there"]);
        // At its very start it is no connection yet that could be lost.
        assert!(done.code == Some(0) || (after < 5000 && done.code == Some(6)), "after {after} bytes: {done:#?}");
        if done.code == Some(0) {
            site.same("tree", "there", PLAIN);
        }
    }
}

#[test]
fn one_stream_of_several_that_is_lost_costs_nothing_but_its_blocks() {
    let site = Site::new();
    mixed(site.near("tree"));
    site.proxy.cut_after(CLEAR_UP, 6 * MIB);
    site.runs(&["--clear", "--streams", "4", "tree/.", "@there"]);
    assert_eq!(site.proxy.cuts(), 1);
    site.same("tree", "there", PLAIN);
}

#[test]
fn who_cannot_be_reached_again_is_given_up_in_time_and_goes_on_later() {
    each_way(|site, words, (source, copy), (which, _)| {
        let running = site.held(which, 10 * MIB, &[&["--retry-for", "200ms"], words].concat());
        site.proxy.lead_to(None);
        site.proxy.cut();
        let done = running.finish().expect(6);
        assert!(done.stderr.contains(&site.proxy.address().ip().to_string()), "{done:#?}");
        // What stands under its name is whole.
        for path in common::tree::files(copy) {
            let is_temporary = path.file_name().unwrap().to_string_lossy().starts_with(".lr-");
            let same = || fs::read(copy.join(&path)).unwrap() == fs::read(source.join(&path)).unwrap();
            assert!(is_temporary || same(), "{path:?}");
        }
        site.proxy.lead_to(Some(site.address()));
        site.runs(words);
        assert_same(source, copy, PLAIN);
        no_temporaries(site.dir());
    });
}

#[test]
fn a_network_that_stands_still_for_a_while_is_waited_for() {
    each_way(|site, words, (source, copy), (which, _)| {
        let mut running = site.held(which, 5 * MIB, words);
        assert!(!running.is_over());
        site.proxy.go_on();
        running.finish().expect(0);
        assert_same(source, copy, PLAIN);
    });
}

#[test]
fn a_bit_that_arrives_wrong_is_sent_again() {
    each_way(|site, words, (source, copy), (_, way)| {
        // In headers of frames, and in the middle of files.
        for (nth, byte) in [(0, 3 * MIB + 77), (1, MIB + 5), (2, 500_000)] {
            site.proxy.flip(way, Kind::Clear, nth, byte);
        }
        site.runs(&[&CLEAR[..], &["--streams", "3"], words].concat());
        assert_same(source, copy, PLAIN);
        no_temporaries(site.dir());
        println!("{} bits arrived wrong", site.proxy.flipped());
    });
}

#[test]
fn a_time_that_no_clock_reaches_is_no_bound() {
    let site = Site::new();
    Tree::at(site.near("tree")).file("f", b"1").settle();
    site.proxy.cut_after(UP, 10_000);
    site.run(&["--retry-for", "18000000000000000000s", "tree/.", "@there"]).expect(0);
    site.same("tree", "there", PLAIN);
}

#[test]
fn a_bit_that_arrives_wrong_anywhere_is_found() {
    // Around the start of a stream: its join, the first frame's header, and all of a small file.
    for byte in [8, 17, 32, 36, 40, 50, 60, 64, 65, 100, 1000] {
        let site = Site::new();
        Tree::at(site.near("tree")).noise("file", 3000, 1).noise("other", 9000, 2).settle();
        site.proxy.flip(Way::Up, Kind::Clear, 0, byte);
        let done = site.run(&["--clear", "--streams", "1", "--retry-for", "20s", "tree/.", "@there"]);
        // It comes right, or is said to be wrong; what is there is whole.
        assert!(matches!(done.code, Some(0 | 3 | 4 | 6)), "byte {byte}: {done:#?}");
        if done.code == Some(0) {
            site.same("tree", "there", PLAIN);
        } else {
            assert!(!done.stderr.is_empty(), "byte {byte}");
            site.runs(&["--clear", "tree/.", "@there"]);
            site.same("tree", "there", PLAIN);
        }
    }
}

#[test]
fn a_network_that_damages_all_is_given_up_and_nothing_wrong_stands_there() {
    let site = Site::new();
    Tree::at(site.near("tree")).noise("file", 2 * MIB, 1).file("small", b"1").settle();
    // In far more than all that is sent again.
    for nth in 0..64 {
        (1..512).for_each(|n| site.proxy.flip(Way::Up, Kind::Clear, nth, n * 65_536));
    }
    let done = site.run(&["--clear", "--streams", "1", "--retry-for", "1s", "tree/.", "@there"]);
    assert!(matches!(done.code, Some(3 | 4 | 6)) && !site.far("there/file").exists(), "{done:#?}");
    assert!(done.stderr.contains("file") || done.code == Some(6), "{done:#?}");
}

#[test]
fn bytes_that_come_in_pieces_of_any_length_are_put_together() {
    for clear in [&[][..], &CLEAR] {
        let site = Site::new();
        let tree = Tree::at(site.near("tree"));
        tree.noise("file", 200_000, 1).file("empty", b"").noise("small", 300, 2).dir("folder").settle();
        site.proxy.split(7);
        site.runs(&[clear, &["tree/.", "@there"]].concat());
        site.same("tree", "there", PLAIN);
        site.runs(&[clear, &["@there", "back"]].concat());
        assert_same(tree.path(), &site.near("back"), PLAIN);
    }
}

#[test]
fn a_slow_way_is_no_error() {
    let site = Site::new();
    mixed(site.near("tree"));
    site.proxy.delay(Duration::from_millis(1));
    site.runs(&["tree/.", "@there"]);
    site.same("tree", "there", PLAIN);
}

// The source.

/// Something that happens to the big file of a source whose first MiB has been sent. The copy must say so, with these
/// words, and copy the rest; the next one must come right.
fn happens_to_the_source(act: fn(&Path), reason: &[&str]) {
    let check = |site: &Site, source: &Path, copy: &Path, words: [&str; 2], which| {
        let tree = Tree::at(source);
        tree.noise("big", BIG, 1).noise("z", 3 * MIB, 2).file("small", b"1").settle();
        let words = [&ONE_STREAM[..], &words].concat();
        let done = site.interrupted(which, MIB, &words, || act(&source.join("big"))).expect(3);
        let line = done.stderr.lines().find(|line| line.contains("big")).unwrap_or_else(|| panic!("{done:#?}"));
        assert!(reason.iter().any(|reason| line.contains(reason)), "none of {reason:?} in {line:?}");
        assert!(!copy.join("big").exists(), "it is neither the old nor the new one");
        assert_eq!(fs::read(copy.join("small")).unwrap(), b"1", "the rest is complete");
        assert!(fs::read(copy.join("z")).unwrap() == noise(3 << 20, 2 ^ (3 << 20)));
        site.runs(&[&CLEAR[..], &words].concat());
        assert_same(source, copy, PLAIN);
        no_temporaries(site.dir());
    };
    let site = Site::new();
    check(&site, &site.near("tree"), &site.far("there"), ["tree/.", "@there"], CLEAR_UP);
    let site = Site::new();
    check(&site, &site.far("tree"), &site.near("back"), ["@tree/.", "back"], CLEAR_DOWN);
}

#[test]
fn a_source_that_is_truncated_fails_alone() {
    let act = |big: &Path| fs::OpenOptions::new().write(true).open(big).unwrap().set_len(2 << 20).unwrap();
    happens_to_the_source(act, &["changed", "shorter", "truncated"]);
}

#[test]
fn a_source_that_grows_fails_alone() {
    use std::io::Write;
    let act = |big: &Path| fs::OpenOptions::new().append(true).open(big).unwrap().write_all(b"more").unwrap();
    happens_to_the_source(act, &["changed"]);
}

#[test]
fn a_source_that_is_written_to_fails_alone() {
    use std::os::unix::fs::FileExt;
    let act = |big: &Path| {
        let file = fs::OpenOptions::new().write(true).open(big).unwrap();
        file.write_all_at(b"other", BIG - 7).unwrap();
        touch_later(big);
    };
    happens_to_the_source(act, &["changed"]);
}

#[test]
fn a_source_that_is_replaced_fails_alone_or_arrives_as_it_was() {
    let site = Site::new();
    Tree::at(site.near("tree")).noise("big", BIG, 1).file("small", b"1").settle();
    let (source, beside) = (site.near("tree/big"), site.near("old"));
    let act = || {
        fs::rename(&source, &beside).unwrap();
        fs::write(&source, b"another file").unwrap();
    };
    let done = site.interrupted(CLEAR_UP, MIB, &[&ONE_STREAM[..], &["tree/.", "@there"]].concat(), act);
    match done.code {
        Some(0) => assert_same(&beside, &site.far("there/big"), CONTENT),
        _ => assert!(done.expect(3).stderr.contains("big") && !site.far("there/big").exists()),
    }
    site.runs(&["tree/.", "@there"]);
    site.same("tree", "there", PLAIN);
}

/// Something that happens to files of a source that were not opened yet.
fn happens_to_later_files(site: &Site, act: impl FnOnce(&Path)) -> Done {
    let tree = Tree::at(site.near("tree"));
    tree.noise("a big", BIG, 1);
    for n in 0..LATER {
        tree.noise(format!("b{n}"), MIB / 2, n);
    }
    tree.settle();
    site.proxy.hold_after(CLEAR_UP, MIB);
    let mut command = site.copy(&[&CLEAR[..], &ONE_STREAM, &["tree/.", "@there"]].concat());
    bound_by_modes(&mut command);
    let mut running = Running::start(&mut command);
    if !site.proxy.wait_held(|| running.is_over()) {
        panic!("it is over before so much passed: {:#?}", running.finish());
    }
    act(tree.path());
    site.proxy.go_on();
    running.finish()
}

#[test]
fn sources_that_are_deleted_fail_with_their_reason() {
    let site = Site::new();
    let done = happens_to_later_files(&site, |tree| {
        (LATER / 2..LATER).for_each(|n| fs::remove_file(tree.join(format!("b{n}"))).unwrap())
    });
    let failed = (LATER / 2..LATER).filter(|n| !site.far(format!("there/b{n}")).exists()).collect::<Vec<_>>();
    assert!(!failed.is_empty(), "all were open");
    let done = done.expect(3);
    for n in &failed {
        assert!(done.stderr.contains(&format!("b{n}")) && done.stderr.contains("no such file"), "{n}: {done:#?}");
    }
    assert!(differences(&site.near("tree"), &site.far("there"), CONTENT).iter().all(|line| line.contains("only in")));
    site.runs(&["--delete", "--yes", "tree/.", "@there"]);
    site.same("tree", "there", PLAIN);
}

#[test]
fn sources_that_become_unreadable_fail_with_their_reason() {
    if skip_unless(bound_by_modes(&mut std::process::Command::new("true")), "root cannot be bound by modes") {
        return;
    }
    let site = Site::new();
    let set = |tree: &Path, mode| (LATER / 2..LATER).for_each(|n| _ = Tree::at(tree).mode(format!("b{n}"), mode));
    let done = happens_to_later_files(&site, |tree| set(tree, 0)).expect(3);
    assert!(done.stderr.contains("ermission denied") || done.stderr.contains("may not be read"), "{done:#?}");
    set(&site.near("tree"), 0o644);
    site.runs(&["tree/.", "@there"]);
    site.same("tree", "there", PLAIN);
}

#[test]
fn an_unreadable_folder_is_named_and_the_rest_is_copied() {
    let site = Site::new();
    let tree = Tree::at(site.near("tree"));
    tree.file("closed/in it", b"1").file("open/in it", b"2").file("secret", b"3").mode("closed", 0).mode("secret", 0);
    let mut command = site.copy(&["tree/.", "@there"]);
    if skip_unless(bound_by_modes(&mut command), "root cannot be bound by modes") {
        return;
    }
    let done = Running::start(&mut command).finish().expect(3);
    for words in ["closed", "secret", "ermission denied"] {
        assert!(done.stderr.contains(words), "{words}: {done:#?}");
    }
    assert_eq!(fs::read(site.far("there/open/in it")).unwrap(), b"2");
    tree.mode("closed", 0o755).mode("secret", 0o644);
}

// The destination.

#[test]
fn a_full_destination_is_said_so_and_goes_on_when_there_is_room() {
    let dir = folder();
    let Some(disk) = SmallDisk::mount(&dir.path().join("far"), "24m") else { return };
    let site = Site::in_folder(dir, &["--allow", "read,write"]);
    Tree::at(site.near("tree")).noise("big", 40 * MIB, 1).noise("a small", 9000, 2).noise("small too", 100, 3).settle();
    let done = site.run(&["--block", "1MiB", "tree/.", "@there"]);
    assert!(matches!(done.code, Some(1 | 3)), "{done:#?}");
    assert!(done.stderr.contains("big") && done.stderr.to_lowercase().contains("no space left"), "{done:#?}");
    assert!(!site.far("there/big").exists());
    disk.grow("96m");
    site.runs(&["--block", "1MiB", "tree/.", "@there"]);
    site.same("tree", "there", PLAIN);
    // The server has it open; it goes first.
    drop(site);
    drop(disk);
}

#[test]
fn a_read_only_destination_is_said_so() {
    let site = Site::new();
    Tree::at(site.near("tree")).file("file", b"1").settle();
    let near = Tree::at(site.near("closed"));
    near.mode("", 0o555);
    let mut command = site.copy(&["tree", "closed"]);
    if skip_unless(bound_by_modes(&mut command), "root cannot be bound by modes") {
        return;
    }
    let done = Running::start(&mut command).finish();
    assert!(done.code != Some(0) && done.stderr.contains("ermission denied"), "{done:#?}");
    assert!(names_in(near.path()).is_empty());
    near.mode("", 0o755);
}

#[test]
fn a_folder_where_a_file_should_go_stays_and_so_does_a_file_where_a_folder_should() {
    let site = Site::new();
    let tree = Tree::at(site.near("tree"));
    tree.file("a", b"file")
        .file("b/in it", b"1")
        .file("b/too/deep", b"2")
        .symlink("c", "a")
        .file("rest", b"3")
        .settle();
    for target in ["@there", "here"] {
        let there = target.strip_prefix('@').map_or_else(|| site.near(target), |far| site.far(far));
        let far = Tree::at(&there);
        far.file("a/kept", b"4").file("b", b"kept").file("c/kept", b"5");
        let done = site.run(&["tree/.", target]).expect(3);
        for path in ["a", "b", "c"] {
            assert!(done.stderr.lines().any(|line| line.contains(path)), "{path}: {done:#?}");
        }
        let read = |path: &str| fs::read(there.join(path)).unwrap();
        assert_eq!(
            (read("a/kept"), read("b"), read("c/kept"), read("rest")),
            (b"4".to_vec(), b"kept".to_vec(), b"5".to_vec(), b"3".to_vec())
        );
        no_temporaries(&there);
    }
}

#[test]
fn a_link_at_the_destination_is_not_followed() {
    let site = Site::new();
    let tree = Tree::at(site.near("tree"));
    tree.file("a", b"new").file("dir/in it", b"new").settle();
    Tree::at(site.dir()).file("outside/a", b"old").dir("outside/dir");
    for target in ["@there", "here"] {
        let there = target.strip_prefix('@').map_or_else(|| site.near(target), |far| site.far(far));
        Tree::at(&there).symlink("a", site.dir().join("outside/a")).symlink("dir", site.dir().join("outside/dir"));
        let done = site.run(&["tree/.", target]);
        assert!(matches!(done.code, Some(0 | 3)), "{done:#?}");
        assert_eq!(fs::read(site.dir().join("outside/a")).unwrap(), b"old");
        assert!(names_in(&site.dir().join("outside/dir")).is_empty(), "{done:#?}");
        assert_eq!(fs::read(there.join("a")).unwrap(), b"new", "the link is replaced");
    }
}

#[test]
fn a_name_that_is_too_long_there_fails_alone() {
    let site = Site::new();
    let tree = Tree::at(site.near("tree"));
    // Where it goes, the path gets longer than any can be.
    let deep: std::path::PathBuf = (0..17).map(|_| "d".repeat(200)).collect();
    tree.file(deep.join("bottom"), b"1").file("rest", b"2").settle();
    let target = format!("@{}", ["t".repeat(200), "t".repeat(200), "t".repeat(200)].join("/"));
    fs::create_dir_all(site.far(&target[1..])).unwrap();
    let done = site.run(&["tree/.", &target]);
    // Who opens one folder after the other needs no limit.
    match done.code {
        Some(0) => (),
        _ => assert!(done.expect(3).stderr.contains("too long")),
    }
    assert_eq!(fs::read(site.far(&target[1..]).join("rest")).unwrap(), b"2");
}

#[test]
fn the_second_copy_to_the_same_destination_is_told() {
    let check = |words: [&str; 2], which: Which| {
        let site = Site::new();
        mixed(site.near("tree"));
        mixed(site.far("tree"));
        fs::create_dir(site.far("there")).unwrap();
        fs::create_dir(site.near("back")).unwrap();
        let mut second = None;
        let done = site.interrupted(which, MIB, &words, || second = Some(site.run(&words)));
        done.expect(0);
        let second = second.unwrap();
        assert!(second.code != Some(0) && second.stderr.contains("another copy"), "{second:#?}");
        // And it was not in the way of the first.
        let copy = if words[1] == "back" { site.near("back") } else { site.far("there") };
        assert_same(&site.near("tree"), &copy, PLAIN);
        site.runs(&words);
        no_temporaries(site.dir());
    };
    check(["tree/.", "@there"], CLEAR_UP);
    check(["@tree/.", "back"], CLEAR_DOWN);
}

/// How long the journals of those who have this home are together.
fn journal_bytes(home: &Path) -> u64 {
    let entries = fs::read_dir(home.join("state/linerate/copies")).into_iter().flatten().map_while(Result::ok);
    let journals = entries.filter(|entry| entry.path().extension().is_some_and(|end| end == "journal"));
    journals.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

#[test]
fn what_is_resumed_is_not_sent_again() {
    for (words, which) in [(["tree/.", "@there"], CLEAR_UP), (["@tree/.", "back"], CLEAR_DOWN)] {
        let site = Site::new();
        let (near, far) = (Tree::at(site.near("tree")), Tree::at(site.far("tree")));
        for tree in [&near, &far] {
            tree.noise("file", 64 * MIB, 1).settle();
        }
        let running = site.held(which, 58 * MIB, &[&CLEAR[..], &ONE_STREAM, &words].concat());
        // What has passed may still be on its way to the disk: a header, 33 bytes at least for each of 42 blocks.
        let side = if which.way == Some(Way::Up) { "home" } else { "away" };
        wait_until("most of it is noted", || journal_bytes(&site.dir().join(side)) > 1600);
        running.signal(libc::SIGKILL);
        assert_eq!(running.finish().code, None);
        site.proxy.go_on();
        let before = site.proxy.bytes(which);
        site.runs(&[&CLEAR[..], &ONE_STREAM, &words].concat());
        let moved = site.proxy.bytes(which) - before;
        // What was under way when it ended was not on the disk.
        assert!(moved < 32 * MIB, "{moved} bytes for the last 6 MiB");
        let copy = if which.way == Some(Way::Up) { site.far("there") } else { site.near("back") };
        assert_same(near.path(), &copy, PLAIN);
        no_temporaries(site.dir());
    }
}
