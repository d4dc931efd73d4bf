//! What `linerate copy` keeps of files: names, modes, times, links, holes, attributes, owners.

mod common;

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, lchown};
use std::path::Path;
use std::time::Duration;

use common::copy::{CLEAR, Site, copy_in};
use common::tree::{ALL, PLAIN, Tree, What, assert_same, no_temporaries};
use common::{Done, folder, is_root, skip_unless};

/// Push, pull and copy locally with these options, and compare after each.
#[track_caller]
fn all_ways(site: &Site, options: &[&str], what: What) {
    for clear in [&[][..], &CLEAR] {
        let to = |target: &'static str| if clear.is_empty() { target.to_string() } else { format!("{target}-clear") };
        let (there, back, beside) = (to("there"), to("back"), to("beside"));
        let pushed = format!("@{there}");
        site.runs(&[options, clear, &["tree", &pushed]].concat());
        site.same("tree", &there, what);
        site.runs(&[options, clear, &[&pushed, &back]].concat());
        assert_same(&site.near("tree"), &site.near(back), what);
        site.runs(&[options, clear, &["tree", &beside]].concat());
        assert_same(&site.near("tree"), &site.near(beside), what);
        no_temporaries(site.dir());
    }
}

#[test]
fn a_tree_of_everything_keeps_what_nobody_has_to_ask_for() {
    let site = Site::new();
    Tree::of_everything(site.near("tree"));
    all_ways(&site, &[], PLAIN);
}

#[test]
fn a_tree_of_everything_keeps_all_that_is_asked_for() {
    let site = Site::with(&["--allow", "read,write", "--allow-owner"]);
    let tree = Tree::of_everything(site.near("tree"));
    // Who is not root gives everything to himself, as it was.
    if is_root() {
        for (n, path) in ["modes/f600", "links/dangling", "empty", "links/target"].iter().enumerate() {
            lchown(tree.path().join(path), Some(1000 + n as u32), Some(2000)).unwrap();
        }
        tree.mode("modes/f755", 0o4755).mode("modes/d775", 0o2775).settle();
        all_ways(&site, &["--hard-links", "--xattrs", "--owner"], ALL);
    } else {
        all_ways(&site, &["-H", "-X"], ALL);
    }
}

#[test]
fn hard_links_are_files_of_their_own_unless_asked_for() {
    let site = Site::new();
    let tree = Tree::at(site.near("tree"));
    tree.noise("a", 2 << 20, 1).hard_link("b", "a").hard_link("sub/c", "a").file("d", b"").hard_link("e", "d").settle();
    site.runs(&["tree", "@apart"]);
    site.same("tree", "apart", PLAIN);
    let inode = |path: &str| fs::metadata(site.far(path)).unwrap().ino();
    assert!(inode("apart/a") != inode("apart/b"));
    let before = site.proxy.bytes(common::proxy::UP);
    site.runs(&["-H", "tree", "@together"]);
    site.same("tree", "together", What { hard_links: true, ..PLAIN });
    assert_eq!((inode("together/a"), inode("together/d")), (inode("together/sub/c"), inode("together/e")));
    assert!(site.proxy.bytes(common::proxy::UP) - before < 3 << 20, "its content goes once");
    // Again, and after one of the names was lost.
    fs::remove_file(site.far("together/b")).unwrap();
    site.runs(&["-H", "tree/.", "@together"]);
    site.same("tree", "together", What { hard_links: true, ..PLAIN });
}

#[test]
fn set_uid_does_not_come_without_the_owner() {
    let site = Site::new();
    let tree = Tree::at(site.near("tree"));
    tree.file("program", b"1").mode("program", 0o6755).dir("sticky").mode("sticky", 0o1777).settle();
    for target in ["@there", "beside"] {
        site.runs(&["tree", target]);
        let there = target.strip_prefix('@').map_or_else(|| site.near(target), |far| site.far(far));
        let mode = |path: &str| fs::metadata(there.join(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("program"), mode("sticky")), (0o755, 0o777), "{target}");
    }
}

#[test]
fn attributes_come_only_when_asked_for() {
    let site = Site::new();
    let tree = Tree::at(site.near("tree"));
    tree.file("f", b"1");
    if skip_unless(tree.xattr("f", "user.linerate", b"v"), "the filesystem has no extended attributes") {
        return;
    }
    tree.settle();
    site.runs(&["tree", "@without"]);
    assert_eq!(xattr::get(site.far("without/f"), "user.linerate").unwrap(), None);
    site.runs(&["--xattrs", "tree", "@with"]);
    site.same("tree", "with", What { xattrs: true, ..PLAIN });
}

#[test]
fn what_changed_besides_content_is_brought_up_to_date() {
    let site = Site::new();
    let tree = Tree::at(site.near("tree"));
    tree.file("file", b"1").dir("dir").symlink("link", "file").file("dir/other", b"2").settle();
    site.runs(&["tree/.", "@"]);
    tree.mode("file", 0o600).mode("dir", 0o700).mtime("dir", Duration::new(1_000_000_007, 9));
    fs::remove_file(tree.path().join("link")).unwrap();
    tree.symlink("link", "dir/other").mtime("link", Duration::new(1_000_000_008, 10));
    site.runs(&["tree/.", "@"]);
    site.same("tree", "", PLAIN);
}

#[test]
fn a_file_of_more_than_2_to_the_40_bytes_keeps_its_holes() {
    let site = Site::new();
    let tree = Tree::at(site.near("tree"));
    const LEN: u64 = (1 << 40) + 12_345;
    let made = fs::File::create(tree.path().join("huge")).and_then(|file| {
        file.set_len(LEN)?;
        file.write_all_at(b"start", 0)?;
        file.write_all_at(b"end", LEN - 3)
    });
    if skip_unless(made.is_ok(), "the filesystem has no files of that length") {
        return;
    }
    // What is not verified need not be hashed: that would take minutes.
    site.runs(&["--no-verify", "tree", "@there"]);
    let (source, copy) = (tree.path().join("huge").metadata().unwrap(), site.far("there/huge").metadata().unwrap());
    assert_eq!((copy.len(), copy.mtime(), copy.mtime_nsec()), (LEN, source.mtime(), source.mtime_nsec()));
    assert!(copy.blocks() * 512 < 1 << 20, "{} blocks", copy.blocks());
    let file = fs::File::open(site.far("there/huge")).unwrap();
    let mut ends = [0; 8];
    file.read_exact_at(&mut ends[..5], 0).unwrap();
    file.read_exact_at(&mut ends[5..], LEN - 3).unwrap();
    assert_eq!(&ends, b"startend");
}

#[test]
fn special_files_are_named_and_skipped() {
    let site = Site::new();
    let tree = Tree::at(site.near("tree"));
    tree.file("file", b"1").fifo("sub/fi\nfo").socket("socket").settle();
    let check = |done: Done, there: &Path| {
        assert!(done.stderr.contains(r"fi\nfo") && done.stderr.contains("socket"), "{done:#?}");
        assert!(!done.stderr.contains("fi\nfo"), "a name steers the terminal: {done:#?}");
        assert_eq!(common::tree::files(there), [Path::new("file")]);
        assert!(there.join("sub").is_dir() && !there.join("socket").exists());
    };
    check(site.run(&["tree", "@there"]).expect(0), &site.far("there"));
    check(copy_in(&site.near(""), &["tree", "here"]).expect(0), &site.near("here"));
    fs::create_dir(site.far("special")).unwrap();
    Tree::at(site.far("special")).file("file", b"1").fifo("sub/fi\nfo").socket("socket");
    check(site.run(&["@special", "back"]).expect(0), &site.near("back"));
    // One that is named itself is no success.
    let done = site.run(&["tree/socket", "@alone"]);
    assert!(done.code != Some(0) && done.stderr.contains("socket"), "{done:#?}");
}

#[test]
fn names_that_differ_by_case_or_bytes_alone_stay_apart() {
    let dir = folder();
    let tree = Tree::at(dir.path().join("tree"));
    for (n, name) in ["a", "A", "ä", "a\u{308}", "a ", "a.", "a~"].iter().enumerate() {
        tree.file(name, &[n as u8]);
    }
    tree.settle();
    copy_in(dir.path(), &["tree", "copy"]).expect(0);
    assert_same(tree.path(), &dir.path().join("copy"), PLAIN);
}

#[test]
fn many_small_files_in_many_folders_are_all_there() {
    let site = Site::new();
    let tree = Tree::at(site.near("tree"));
    for n in 0..3000 {
        tree.noise(format!("{}/{}/{n}", n % 7, n % 31), n % 5000, n);
    }
    tree.settle();
    site.runs(&["tree", "@there"]);
    site.same("tree", "there", PLAIN);
    site.runs(&["@there", "back"]);
    assert_same(tree.path(), &site.near("back"), PLAIN);
}
