//! Copies to filesystems that are out of the ordinary: they ignore case, have a quota, are written past the page cache.

mod common;

use std::path::Path;
use std::process::Command;

use common::copy::{Image, copy_in};
use common::tree::{CONTENT, Tree, assert_same, no_temporaries};
use common::{folder, skip_unless};

/// Whether a command does what it should.
fn does(words: &[&str], on: &Path) -> bool {
    Command::new(words[0]).args(&words[1..]).arg(on).output().is_ok_and(|done| done.status.success())
}

/// Two names that differ in their case, and some that do not.
fn with_colliding_names(at: &Path) -> Tree {
    let tree = Tree::at(at.join("tree"));
    tree.file("one/Name", b"1").file("one/name", b"2").file("one/other", b"3").noise("two/big", 3 << 20, 1).settle();
    tree
}

/// `mounted/to` ignores case.
fn one_of_two_names_is_refused(folder: &Path) {
    let tree = with_colliding_names(folder);
    let done = copy_in(folder, &["--durability", "none", "tree/.", "mounted/to"]).expect(3);
    assert!(done.stderr.to_lowercase().contains("one/name: is the same name as one/name"), "{done:#?}");
    assert!(done.stderr.contains("rename one of them") && done.stderr.lines().count() == 1, "{done:#?}");
    let to = folder.join("mounted/to");
    assert_eq!(std::fs::read_dir(to.join("one")).unwrap().count(), 2);
    let kept = std::fs::read(to.join("one/name")).unwrap();
    assert!(kept == b"1" || kept == b"2", "{kept:?}");
    assert_eq!(std::fs::read(to.join("one/other")).unwrap(), b"3");
    assert_same(&tree.path().join("two"), &to.join("two"), CONTENT);
    no_temporaries(&to);
}

#[test]
fn two_names_that_are_one_on_ext4_end_as_one_failure() {
    let dir = folder();
    let maker = ["mkfs.ext4", "-q", "-F", "-O", "casefold"];
    let Some(_image) = Image::mount(&dir.path().join("image"), &dir.path().join("mounted"), &maker, "loop") else {
        return;
    };
    let to = dir.path().join("mounted/to");
    std::fs::create_dir(&to).unwrap();
    if !skip_unless(does(&["chattr", "+F"], &to), "chattr +F is not there, or not for this kernel") {
        one_of_two_names_is_refused(dir.path());
    }
}

#[test]
fn two_names_that_are_one_on_vfat_end_as_one_failure() {
    let dir = folder();
    let (file, at) = (dir.path().join("image"), dir.path().join("mounted"));
    let Some(_image) = Image::mount(&file, &at, &["mkfs.vfat"], "loop") else { return };
    std::fs::create_dir(at.join("to")).unwrap();
    one_of_two_names_is_refused(dir.path());
}

#[test]
fn a_quota_is_said_and_with_room_the_copy_ends_well() {
    let dir = folder();
    let (file, at) = (dir.path().join("image"), dir.path().join("mounted"));
    let Some(_image) = Image::mount(&file, &at, &["mkfs.btrfs", "-q"], "loop") else { return };
    let to = at.join("to");
    let can = does(&["btrfs", "quota", "enable"], &at)
        && does(&["btrfs", "subvolume", "create"], &to)
        && does(&["btrfs", "qgroup", "limit", "16M"], &to);
    if skip_unless(can, "btrfs cannot limit a subvolume here") {
        return;
    }
    let tree = Tree::at(dir.path().join("tree"));
    tree.noise("big", 24 << 20, 1).noise("other", 2 << 20, 2).noise("small", 1000, 3).settle();
    let done = copy_in(dir.path(), &["tree/.", "mounted/to"]).expect(3);
    assert!(done.stderr.starts_with("linerate: big: ") && done.stderr.lines().count() == 1, "{done:#?}");
    assert!(done.stderr.to_lowercase().contains("quota"), "{done:#?}");
    for name in ["other", "small"] {
        assert!(to.join(name).is_file(), "the others are tried");
    }
    no_temporaries(&to);
    assert!(does(&["btrfs", "qgroup", "limit", "none"], &to));
    copy_in(dir.path(), &["tree/.", "mounted/to"]).expect(0);
    assert_same(tree.path(), &to, CONTENT);
    no_temporaries(&to);
}

#[test]
fn what_goes_past_the_cache_is_read_back_right() {
    let dir = folder();
    let (file, at) = (dir.path().join("image"), dir.path().join("mounted"));
    let Some(_image) = Image::mount(&file, &at, &["mkfs.ext4", "-q", "-F"], "loop") else { return };
    let tree = Tree::at(dir.path().join("tree"));
    // From 64 MiB on, and with an end that is no whole page.
    tree.noise("big", (65 << 20) + 5, 1).noise("other", 3 << 20, 2).file("small", b"1").settle();
    let words = ["--reread", "--direct", "on", "--receipt", "receipt", "tree", "mounted/to"];
    copy_in(dir.path(), &words).expect(0);
    assert_same(tree.path(), &at.join("to"), CONTENT);
    let receipt: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("receipt")).unwrap()).unwrap();
    let choices = receipt["settings"]["choices"].as_array().unwrap();
    let direct = choices.iter().find(|choice| choice["option"] == "direct").unwrap();
    assert_eq!((&direct["value"], &direct["reason"]), (&"on".into(), &"--direct on".into()));
    assert_eq!((&receipt["settings"]["reread"], &receipt["verified"]), (&true.into(), &true.into()));
    no_temporaries(&at.join("to"));
}

#[test]
fn what_is_there_in_another_case_is_not_deleted_on_vfat() {
    let dir = folder();
    let (file, at) = (dir.path().join("image"), dir.path().join("mounted"));
    let Some(_image) = Image::mount(&file, &at, &["mkfs.vfat"], "loop") else { return };
    let to = at.join("to");
    std::fs::create_dir_all(to.join("DCIM/Old")).unwrap();
    std::fs::write(to.join("DCIM/A.jpg"), b"other").unwrap();
    std::fs::write(to.join("DCIM/Old/gone.jpg"), b"old").unwrap();
    Tree::at(dir.path().join("tree")).file("dcim/a.JPG", b"1").file("dcim/b.jpg", b"2").settle();
    copy_in(dir.path(), &["--durability", "none", "--delete", "--yes", "tree/.", "mounted/to"]).expect(0);
    assert_eq!(std::fs::read(to.join("dcim/a.jpg")).unwrap(), b"1");
    assert_eq!(std::fs::read(to.join("dcim/b.jpg")).unwrap(), b"2");
    assert!(!to.join("dcim/old").exists());
}
