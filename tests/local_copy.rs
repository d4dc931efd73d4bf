//! Copies within one machine, through the library: what is kept, what is refused, what goes wrong.

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use common::copy::{Image, SmallDisk};
use common::tree::{ALL, CONTENT, PLAIN, Tree, assert_same, no_temporaries};
use common::{folder, is_root};
use linerate::proto::copy::digest::CopyDigest;
use linerate::proto::copy::options::{CopyOptions, Durability};
use linerate::store::hashing::FileHasher;
use linerate::transfer::local::{LocalPlan, run};
use linerate::transfer::run::{Outcome, RunError};
use linerate::trust::places::Places;

const MIB: u64 = 1 << 20;

/// A folder in which everything of a test lies.
struct Site(tempfile::TempDir);

impl Site {
    fn new() -> Site {
        Site(folder())
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn copy(&self, from: &[PathBuf], to: &Path, options: &CopyOptions) -> Result<Outcome, RunError> {
        let places = Places::below(&self.at("home"));
        let plan = LocalPlan {
            from: from.to_vec(),
            to: to.to_path_buf(),
            label: b"test".to_vec(),
            places,
            options: options.clone(),
        };
        run(&plan, &mut ()).result
    }

    #[track_caller]
    fn copies(&self, from: &Path, to: &Path, options: &CopyOptions) -> Outcome {
        let outcome = self.copy(&[from.to_path_buf()], to, options).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(outcome.tally.failed.entries, 0, "{:?}", outcome.tally.failures);
        assert_eq!(outcome.ending.failed, []);
        no_temporaries(self.0.path());
        outcome
    }
}

fn unsynced() -> CopyOptions {
    CopyOptions { durability: Durability::None, ..CopyOptions::default() }
}

fn unverified() -> CopyOptions {
    CopyOptions { verify: false, ..unsynced() }
}

/// What a copy of these files is proven by, whichever way it went.
fn digest_of(root: &Path, at: &str) -> String {
    let (mut digest, mut hasher) = (CopyDigest::default(), FileHasher::default());
    for path in common::tree::files(root) {
        let file = fs::File::open(root.join(&path)).unwrap();
        let hashed = hasher.file(&file, "it", &|_| {}).unwrap();
        let named = Path::new(at).join(&path);
        if hashed.len > 0 {
            digest.add(std::os::unix::ffi::OsStrExt::as_bytes(named.as_os_str()), hashed.len, &hashed.hash);
        }
    }
    digest.to_string()
}

#[test]
fn a_tree_of_everything_is_the_same_afterwards() {
    let site = Site::new();
    let tree = Tree::of_everything(site.at("tree"));
    let all = |options: CopyOptions| CopyOptions { hard_links: true, xattrs: true, owner: is_root(), ..options };
    let table = [
        ("verified", all(CopyOptions::default()), ALL),
        ("small pieces", all(CopyOptions { piece_bytes: 64 << 10, ..unsynced() }), ALL),
        ("unverified", all(unverified()), ALL),
        ("plain", unsynced(), PLAIN),
    ];
    for (name, options, what) in table {
        let outcome = site.copies(&tree.path().join("."), &site.at(name), &options);
        assert_same(tree.path(), &site.at(name), what);
        assert!(outcome.near.moved_bytes.min(outcome.far.moved_bytes) > 10 * MIB, "{name}");
        assert!(outcome.near.threads > 0 && outcome.far.threads > 0 && !outcome.far.stages.is_empty());
        assert_eq!(outcome.near.digest, outcome.far.digest, "{name}");
        // Once more there is nothing to do.
        let again = site.copies(&tree.path().join("."), &site.at(name), &options);
        assert_eq!((again.near.moved_bytes, again.tally.done.files), (0, 0), "{name}");
    }
}

#[test]
fn what_is_proven_is_what_a_network_would_prove() {
    let site = Site::new();
    let tree = Tree::at(site.at("tree"));
    tree.with_sizes().settle();
    fs::remove_file(site.at("tree/sizes/0")).unwrap();
    fs::create_dir(site.at("to")).unwrap();
    let outcome = site.copies(tree.path(), &site.at("to"), &CopyOptions::default());
    assert_eq!(outcome.tally.digest.to_string(), digest_of(tree.path(), "tree"));
    assert_eq!(outcome.tally.found, outcome.tally.done);
    assert_eq!(outcome.near.cpu_ns.min(1), 1);
    assert_eq!(outcome.far.cpu_ns, 0, "one process is counted once");
}

#[test]
fn several_sources_go_into_a_folder_and_one_becomes_a_name() {
    let site = Site::new();
    Tree::at(site.at("")).file("a", b"1").file("d/b", b"2").dir("to");
    site.copy(&[site.at("a"), site.at("d")], &site.at("to"), &unsynced()).unwrap();
    site.copies(&site.at("a"), &site.at("to/new"), &unsynced());
    let found = ["to/a", "to/d/b", "to/new"].map(|path| fs::read(site.at(path)).unwrap());
    assert_eq!(found, [b"1", b"2", b"1"]);
    let missing = site.copy(&[site.at("none")], &site.at("to"), &unsynced()).unwrap_err();
    assert!(missing.to_string().contains("none"), "{missing}");
}

#[test]
fn nothing_is_copied_into_or_onto_itself() {
    let site = Site::new();
    let tree = Tree::at(site.at(""));
    tree.file("a/b/file", b"1").file("a/b/a/x", b"2").file("b/y", b"3").symlink("way", "a/b").hard_link("same", "b/y");
    let before = common::tree::count(&site.at("a"));
    let table = [
        ("a", "a", "into itself"),
        ("a", "a/b", "into itself"),
        ("a", "a/new", "into itself"),
        ("a/.", "a/new", "into itself"),
        ("a", "way", "into itself"),
        ("way/", "a/b/a", "into itself"),
        ("a/.", "a", "into itself"),
        ("b/y", "b/y", "is the destination, too"),
        ("b/y", "b", "is the destination, too"),
        ("b/y", "same", "is the destination, too"),
        ("a/b/a", "", "inside the folder"),
        ("a/b/.", "a", "inside the folder"),
    ];
    for (from, to, expected) in table {
        let error = site.copy(&[site.at(from)], &site.at(to), &unsynced()).expect_err(from).to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{from} to {to}: {error}");
    }
    assert_eq!(common::tree::count(&site.at("a")), before, "nothing was made");
    // What only looks so goes.
    site.copies(&site.at("a/b"), &site.at("new"), &unsynced());
    site.copies(&site.at("a/b/file"), &site.at("a/file"), &unsynced());
    assert_same(&site.at("a/b"), &site.at("new"), CONTENT);
}

#[test]
fn sources_are_refused_in_any_order_where_they_would_be_removed() {
    let site = Site::new();
    let tree = Tree::at(site.at(""));
    tree.file("a/keep", b"1").file("a/b/a/x", b"2").file("a/b/z/y", b"3").file("z/a/g", b"4").file("d/z/f", b"5");
    let before = common::tree::count(site.0.path());
    let table: [(&[&str], &str); 4] = [
        (&["d/z", "a/b/a"], "that it would be copied onto"),
        (&["a/b/a", "d/z"], "that it would be copied onto"),
        (&["0none", "a/b/a"], "that it would be copied onto"),
        (&["z/a", "a/b/z"], "another source lacks"),
    ];
    let options = CopyOptions { delete: true, ..unsynced() };
    for (from, expected) in table {
        let from: Vec<PathBuf> = from.iter().map(|name| site.at(name)).collect();
        let error = site.copy(&from, site.0.path(), &options).expect_err(expected).to_string();
        assert!(error.contains(expected), "{from:?}: {error}");
        assert_eq!(common::tree::count(site.0.path()), before, "nothing was made or removed");
    }
    // Where nothing is removed one may lie in what another is copied onto.
    site.copy(&[site.at("z/a"), site.at("a/b/z")], site.0.path(), &unsynced()).unwrap();
    assert_eq!([fs::read(site.at("a/g")).unwrap(), fs::read(site.at("z/y")).unwrap()], [b"4", b"3"]);
}

#[test]
fn what_is_of_a_kind_that_never_comes_keeps_nothing_from_being_removed() {
    let site = Site::new();
    Tree::at(site.at("tree")).file("file", b"1").fifo("fifo").socket("socket").settle();
    Tree::at(site.at("to")).file("gone", b"2").settle();
    let options = CopyOptions { delete: true, ..unsynced() };
    let outcome = site.copies(&site.at("tree/."), &site.at("to"), &options);
    assert_eq!((outcome.tally.skipped.entries, outcome.ending.deleted), (2, 1));
    assert_eq!(common::tree::files(&site.at("to")), [Path::new("file")]);
}

#[test]
fn a_further_name_of_a_small_file_does_not_wait_for_a_commit() {
    let site = Site::new();
    Tree::at(site.at("tree")).file("x", b"1").hard_link("y", "x").settle();
    let options = CopyOptions { hard_links: true, ..unsynced() };
    site.copies(&site.at("tree"), &site.at("to"), &options);
    let inode = |name: &str| fs::metadata(site.at(name)).unwrap().ino();
    assert_eq!(inode("to/x"), inode("to/y"));
}

#[test]
fn a_full_destination_is_said_and_with_room_the_copy_ends_well() {
    let site = Site::new();
    let Some(disk) = SmallDisk::mount(&site.at("disk"), "6m") else { return };
    let tree = Tree::at(site.at("tree"));
    tree.noise("big", 9 * MIB, 1).noise("other", 2 * MIB, 2).noise("small", 1000, 3).settle();
    for options in [unsynced(), unverified()] {
        let outcome = site.copy(&[tree.path().join(".")], &site.at("disk"), &options).unwrap();
        let failures: Vec<_> = outcome.tally.failures.iter().map(|(path, why)| (&path[..], why.as_str())).collect();
        assert!(matches!(failures[..], [(b"big", why)] if why.contains("no room")), "{failures:?}");
        assert_eq!(fs::metadata(site.at("disk/other")).unwrap().len(), 2 * MIB, "the others are tried");
        no_temporaries(&site.at("disk"));
        fs::remove_file(site.at("disk/other")).unwrap();
    }
    disk.grow("16m");
    site.copies(&tree.path().join("."), &site.at("disk"), &unsynced());
    assert_same(tree.path(), &site.at("disk"), CONTENT);
}

/// Have this thread, and those that it starts, be bound by modes although it is root's.
fn be_bound_by_modes() {
    // CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, which are in the first of the two words.
    const OVERRIDES: u32 = 1 << 1 | 1 << 2;
    const VERSION_3: u32 = 0x2008_0522;
    // Version, and 0 for this thread; twice effective, permitted, inheritable.
    let (mut header, mut sets) = ([VERSION_3, 0], [0u32; 6]);
    // SAFETY: both point at as many words as this version of the call reads and writes.
    let got = unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr()) };
    sets[0] &= !OVERRIDES;
    // SAFETY: as above.
    let set = unsafe { libc::syscall(libc::SYS_capset, header.as_mut_ptr(), sets.as_mut_ptr()) };
    assert_eq!((got, set), (0, 0), "{}", std::io::Error::last_os_error());
}

#[test]
fn what_cannot_be_read_is_named_and_the_others_come() {
    let site = Site::new();
    let tree = Tree::at(site.at("tree"));
    for (name, bytes) in [("big", 3 * MIB), ("small", 10)] {
        tree.noise(format!("closed {name}"), bytes, 1).mode(format!("closed {name}"), 0);
        tree.noise(format!("open {name}"), bytes, 1);
    }
    be_bound_by_modes();
    for (to, options) in [("to", unsynced()), ("unverified", unverified())] {
        let outcome = site.copy(&[tree.path().join(".")], &site.at(to), &options).unwrap();
        let mut names: Vec<_> = outcome.tally.failures.iter().map(|(path, _)| path.clone()).collect();
        names.sort();
        assert_eq!(names, [b"closed big".to_vec(), b"closed small".to_vec()], "{:?}", outcome.tally.failures);
        assert_eq!(outcome.tally.done.files, 2);
        no_temporaries(&site.at(to));
    }
}

#[test]
fn between_filesystems_everything_is_read_and_written() {
    let site = Site::new();
    let Some(_disk) = SmallDisk::mount(&site.at("disk"), "64m") else { return };
    let tree = Tree::at(site.at("tree"));
    tree.with_sizes().with_holes().settle();
    for (to, options) in [("disk/verified", unsynced()), ("disk/unverified", unverified())] {
        site.copies(tree.path(), &site.at(to), &options);
        assert_same(tree.path(), &site.at(to), CONTENT);
    }
}

fn blocks_are_shared(kind: &str) {
    let site = Site::new();
    let (file, at) = (site.at("image"), site.at("mounted"));
    let Some(image) = Image::mount(&file, &at, &[&format!("mkfs.{kind}"), "-q"], "loop") else { return };
    let tree = Tree::at(site.at("mounted/tree"));
    tree.noise("big", 100 * MIB + 5, 1).with_sizes().with_holes().settle();
    let before = image.free();
    for (to, options) in [("mounted/a", unsynced()), ("mounted/b", unverified()), ("mounted/c", CopyOptions::default())]
    {
        let outcome = site.copies(tree.path(), &site.at(to), &options);
        // How much of the disk holes take is the filesystem's business.
        assert_same(tree.path(), &site.at(to), PLAIN);
        assert_eq!(outcome.far.damaged_blocks, 0);
    }
    let used = before.saturating_sub(image.free());
    assert!(used < 40 * MIB, "{kind}: three copies of 125 MiB took {used} bytes");
    // From elsewhere nothing can be shared.
    Tree::at(site.at("outside")).noise("big", 3 * MIB, 1).settle();
    site.copies(&site.at("outside"), &site.at("mounted/d"), &unsynced());
    assert_same(&site.at("outside"), &site.at("mounted/d"), PLAIN);
    assert_ne!(fs::metadata(site.at("outside")).unwrap().dev(), fs::metadata(site.at("mounted")).unwrap().dev());
}

#[test]
fn blocks_are_shared_on_xfs() {
    blocks_are_shared("xfs");
}

#[test]
fn blocks_are_shared_on_btrfs() {
    blocks_are_shared("btrfs");
}
