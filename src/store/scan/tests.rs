//! What is found in trees that hold still.

use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Arc;

use nix::sys::stat::Mode;
use proptest::prelude::*;

use super::fixture::{Tree, by_path, collect, with_threads};
use super::{Scan, ScanOptions, Top};
use crate::proto::manifest::{Entry, EntryKind};
use crate::store::confined::{RelativePath, Root};
use crate::store::filter::{Filter, FilterRules};
use crate::store::media::MediaKind;

fn names(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|entry| entry.path.escape_ascii().to_string()).collect()
}

fn sorted() -> ScanOptions {
    ScanOptions { sorted: true, ..ScanOptions::default() }
}

#[test]
fn every_kind_of_entry_is_found_or_named() {
    let tree = Tree::new();
    tree.file("a/file", b"12345");
    tree.file(b"a/\xff\xfe\nline", b"");
    tree.folder("empty");
    symlink("/nowhere/at all", tree.at("link")).unwrap();
    symlink("a", tree.at("to folder")).unwrap();
    nix::unistd::mkfifo(&tree.at("pipe"), Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(tree.at("socket")).unwrap();
    let hole = std::fs::File::create(tree.at("sparse")).unwrap();
    hole.set_len(10 << 20).unwrap();
    std::fs::set_permissions(tree.at("a/file"), std::fs::Permissions::from_mode(0o4751)).unwrap();
    let (entries, summary) = tree.scan(ScanOptions { owner: true, ..sorted() });
    let expected = ["", "a", "empty", "link", "sparse", "to folder", "a/file", r"a/\xff\xfe\nline"].map(String::from);
    assert_eq!(names(&entries), expected);
    assert_eq!(entries[4].kind, EntryKind::File { len: 10 << 20, is_sparse: true });
    assert_eq!(entries[6].kind, EntryKind::File { len: 5, is_sparse: false });
    assert_eq!(entries[6].attributes.mode, 0o4751);
    assert_eq!(entries[6].attributes.owner, Some((nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())));
    assert_eq!(entries[3].kind, EntryKind::Symlink { target: b"/nowhere/at all".to_vec() });
    let skipped: Vec<_> = summary.skipped.iter().map(|skipped| (&skipped.path[..], &skipped.why[..9])).collect();
    assert_eq!(skipped, [(&b"pipe"[..], "is a name"), (b"socket", "is a sock")]);
    assert_eq!(by_path(entries), tree.walk());
    assert_eq!(by_path(tree.scan(with_threads(3)).0), tree.walk());
}

#[test]
fn a_scan_may_begin_with_one_file_or_with_several_folders() {
    let tree = Tree::new();
    tree.file("a/b/file", b"123");
    symlink("a", tree.at("link")).unwrap();
    let path = |path: &str| RelativePath::parse(path.as_bytes()).unwrap();
    let root = Arc::new(Root::open(&tree.at("")).unwrap());
    let top = |from: &str, at: RelativePath| Top { root: root.clone(), path: path(from), at };
    let scan = |tops| Scan::start(tops, sorted());
    let (entries, _) = collect(scan(vec![top("a/b/file", RelativePath::root())]).unwrap());
    assert_eq!((names(&entries), entries[0].bytes()), (vec![String::new()], 3));
    let tops = vec![top("a/b", path("one")), top("link", path("two")), top("a", path("three"))];
    let (entries, _) = collect(scan(tops).unwrap());
    assert_eq!(names(&entries), ["one", "two", "three", "one/file", "three/b", "three/b/file"]);
    assert!(scan(vec![top("missing", RelativePath::root())]).is_err());
    nix::unistd::mkfifo(&tree.at("pipe"), Mode::S_IRWXU).unwrap();
    let said = scan(vec![top("pipe", RelativePath::root())]).unwrap_err().to_string();
    assert!(said.starts_with("pipe: is a named pipe"), "{said}");
}

#[test]
fn further_names_of_a_file_are_hard_links_if_asked_for() {
    let tree = Tree::new();
    tree.file("a/one", b"123");
    tree.folder("b");
    std::fs::hard_link(tree.at("a/one"), tree.at("b/two")).unwrap();
    std::fs::hard_link(tree.at("a/one"), tree.at("b/three")).unwrap();
    let (entries, summary) = tree.scan(ScanOptions { hard_links: true, ..sorted() });
    assert_eq!(names(&entries)[3..], ["a/one", "b/three", "b/two"]);
    assert_eq!(
        (entries[4].kind.clone(), summary.bytes),
        (EntryKind::HardLink { to: 3, path: entries[3].path.clone() }, 3)
    );
    assert_eq!(tree.scan(sorted()).1.files, 3);
    for _ in 0..20 {
        assert_eq!(tree.scan(ScanOptions { hard_links: true, ..with_threads(3) }).1.hard_links, 2);
    }
}

#[test]
fn a_thousand_folders_deep_is_reached_and_deeper_is_named() {
    let tree = Tree::new();
    let mut here: std::os::fd::OwnedFd = std::fs::File::open(tree.at("")).unwrap().into();
    for _ in 0..1026 {
        nix::sys::stat::mkdirat(&here, "d", Mode::S_IRWXU).unwrap();
        here = nix::fcntl::openat(here.as_fd(), "d", nix::fcntl::OFlag::O_DIRECTORY, Mode::empty()).unwrap();
    }
    for options in [sorted(), with_threads(2)] {
        // With the second bounds each folder is read at once, as far as handles go.
        for (waiting, held) in [(1000, 4), (0, 4), (0, 1)] {
            let (entries, summary) = tree.scan_bounded(options.clone(), waiting, held);
            assert_eq!((entries.len(), summary.skipped_count), (1025, 1));
            assert!(summary.skipped[0].why.contains("1024"), "{}", summary.skipped[0].why);
            assert!(summary.waiting_max <= 2, "{}", summary.waiting_max);
        }
    }
}

#[test]
fn large_folders_make_nothing_grow() {
    const FILES: usize = 50_000;
    let tree = Tree::new();
    for n in 0..FILES {
        std::fs::write(tree.at(n.to_string()), b"").unwrap();
    }
    let (entries, summary) = tree.scan(with_threads(2));
    assert_eq!((entries.len(), summary.waiting_max), (FILES + 1, 1));
    for n in 0..500 {
        tree.folder(format!("f{n}/in"));
    }
    let (entries, summary) = tree.scan_bounded(with_threads(2), 20, 8);
    assert_eq!(entries.len(), FILES + 1001);
    // Each thread may add one after it has looked.
    assert!(summary.waiting_max <= 22, "{}", summary.waiting_max);
}

#[test]
fn an_unreadable_folder_is_named_and_the_rest_comes() {
    let tree = Tree::new();
    tree.file("closed/file", b"");
    tree.file("open/file", b"");
    std::fs::set_permissions(tree.at("closed"), std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::fs::read_dir(tree.at("closed")).is_ok() {
        println!("skipped: this user may read any folder");
        return;
    }
    let (entries, summary) = tree.scan(sorted());
    std::fs::set_permissions(tree.at("closed"), std::fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(names(&entries), ["", "closed", "open", "open/file"]);
    assert_eq!(summary.skipped[0].path, b"closed");
    assert!(summary.skipped[0].why.contains("cannot be listed"), "{summary:?}");
}

#[test]
fn filters_prune() {
    let tree = Tree::new();
    for path in ["a/x.mp4", "a/y.txt", "cache/x.mp4", "a/cache/z.mp4", "b/talk"] {
        tree.file(path, b"ID3");
    }
    let rules = FilterRules {
        exclude: vec!["cache/".into()],
        kinds: vec![MediaKind::Video, MediaKind::Audio],
        ..FilterRules::default()
    };
    let options = ScanOptions { filter: Filter::new(rules).unwrap(), ..sorted() };
    let (entries, summary) = tree.scan(options);
    assert_eq!(names(&entries), ["", "a", "b", "a/x.mp4", "b/talk"]);
    assert_eq!((summary.skipped_count, summary.files), (0, 2));
}

#[test]
fn extended_attributes_come_if_asked_for() {
    let tree = Tree::new();
    tree.file("file", b"");
    symlink("file", tree.at("link")).unwrap();
    if xattr::set(tree.at("file"), "user.colour", b"red\0").is_err() {
        println!("skipped: no extended attributes here");
        return;
    }
    let (entries, summary) = tree.scan(ScanOptions { xattrs: true, ..sorted() });
    let of = |at: usize| entries[at].attributes.xattrs.iter().find(|(name, _)| name == b"user.colour");
    assert_eq!(of(1).map(|(_, value)| &value[..]), Some(&b"red\0"[..]));
    assert_eq!((of(2), summary.skipped_count), (None, 0), "{summary:?}");
    assert!(tree.scan(sorted()).0[1].attributes.xattrs.is_empty());
}

/// Something to put into a tree; what cannot be put there is left out.
fn thing() -> impl Strategy<Value = (Vec<&'static str>, u8)> {
    let name = proptest::sample::select(&["a", "b", "c", "\n", "d e"][..]);
    (proptest::collection::vec(name, 1..5), 0..4_u8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_scan_finds_what_a_walk_finds(
        things in proptest::collection::vec(thing(), 0..40),
        threads in 1..4_usize, waiting in 0..4_usize, held in 0..3_usize,
    ) {
        let tree = Tree::new();
        for (names, kind) in &things {
            let at = tree.at(names.join("/"));
            let _ = match kind {
                0 | 1 => std::fs::create_dir_all(at),
                2 => symlink(names.join("?"), at),
                _ => at.symlink_metadata().map(drop).or_else(|_| std::fs::write(at, names.concat())),
            };
        }
        let (entries, summary) = tree.scan_bounded(with_threads(threads), waiting, held);
        prop_assert_eq!(by_path(entries), tree.walk());
        prop_assert_eq!(summary.skipped_count, 0);
        let in_order = || tree.scan(sorted()).0;
        prop_assert_eq!(in_order(), in_order());
    }
}
