use std::os::unix::fs::{FileExt, symlink};

use super::*;
use crate::share::tree::Tree;
use crate::share::uploads::Quota;

fn target(tree: &Tree, below: &str) -> Result<Target, IncomingError> {
    Target::find(tree, &RelativePath::root(), below.as_bytes())
}

fn begin(target: Target) -> Result<(Incoming, File), IncomingError> {
    begin_in(target, &Arc::default())
}

fn begin_in(target: Target, folders: &Arc<Folders>) -> Result<(Incoming, File), IncomingError> {
    let (id, grant) = (UploadId::draw().unwrap(), Quota::new(None).grant().unwrap());
    let begin = Begin { target, id, modified: None, bytes: 1, grant, umask: 0o027, folders: folders.clone() };
    Incoming::begin(begin)
}

fn land(target: Target, content: &[u8]) -> Result<String, IncomingError> {
    let (incoming, file) = begin(target)?;
    file.write_all_at(content, 0).unwrap();
    Incoming::settle(&file, content.len() as u64)?;
    incoming.land(&file, 0o027).map(|path| path.to_string())
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn names_that_mislead_or_lead_away_are_none() {
    let dir = tempfile::tempdir().unwrap();
    let tree = Tree::open(&[dir.path()], false).unwrap();
    let long = "n".repeat(256);
    for name in [
        "",
        ".",
        "..",
        "../x",
        "a/../x",
        "/x",
        "a//b",
        "a/",
        "x\0",
        "C:\\x",
        "a\\b",
        "\u{202e}gpj.exe",
        "a\nb",
        "\x1b[2J",
        "\u{2066}x",
        ".hidden",
        ".lr-up-00",
        "a/.b/c",
        ".lr-x/y",
        &long,
    ] {
        assert!(matches!(target(&tree, name), Err(IncomingError::Name(_))), "{name:?}");
    }
    let bytes = Target::find(&tree, &RelativePath::root(), b"\xff");
    assert!(matches!(bytes, Err(IncomingError::Name(_))));
    for name in ["a", "größe 🦀", "a b.txt", "a/b/c.txt", "C:x", "a..", &"n".repeat(255)] {
        assert!(target(&tree, name).is_ok(), "{name:?}");
    }
    let all = Tree::open(&[dir.path()], true).unwrap();
    assert!(target(&all, ".hidden").is_ok() && target(&all, ".lr-up-00").is_err());
    assert!(names(dir.path()).is_empty());
}

#[test]
fn a_name_that_is_taken_gets_a_number() {
    let dir = tempfile::tempdir().unwrap();
    let tree = Tree::open(&[dir.path()], false).unwrap();
    std::fs::create_dir(dir.path().join("x")).unwrap();
    symlink("nowhere", dir.path().join("link")).unwrap();
    for (name, landed) in
        [("a.txt", "a.txt"), ("a.txt", "a (2).txt"), ("a.txt", "a (3).txt"), ("x", "x (2)"), ("link", "link (2)")]
    {
        assert_eq!(land(target(&tree, name).unwrap(), landed.as_bytes()).unwrap(), landed);
        assert_eq!(std::fs::read(dir.path().join(landed)).unwrap(), landed.as_bytes());
    }
    let mode = dir.path().join("a.txt").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    assert_eq!(numbered(b".profile", 2), b".profile (2)");
    let long = numbered("ö".repeat(127).as_bytes(), 12);
    assert!(long.len() <= NAME_BYTES_MAX && String::from_utf8(long).unwrap().ends_with("ö (12)"));
}

#[test]
fn nothing_is_written_through_links_and_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let (shared, outside) = (dir.path().join("shared"), dir.path().join("outside"));
    std::fs::create_dir(&shared).unwrap();
    std::fs::create_dir(&outside).unwrap();
    symlink(&outside, shared.join("out")).unwrap();
    std::fs::create_dir(shared.join("in")).unwrap();
    symlink("in", shared.join("through")).unwrap();
    std::fs::write(shared.join("file"), b"").unwrap();
    let tree = Tree::open(&[&shared], false).unwrap();
    for below in ["out/x", "through/x", "file/x", "out/new/x"] {
        let refused = begin(target(&tree, below).unwrap()).map(drop);
        assert!(matches!(refused, Err(IncomingError::Folder)), "{below}: {refused:?}");
    }
    // The folder is swapped for a link while the file comes.
    let (incoming, file) = begin(target(&tree, "in/x").unwrap()).unwrap();
    std::fs::rename(shared.join("in"), shared.join("moved")).unwrap();
    symlink(&outside, shared.join("in")).unwrap();
    let _ = incoming.land(&file, 0);
    assert!(names(&outside).is_empty());
    // It is removed while the file comes.
    let (incoming, file) = begin(target(&tree, "gone/x").unwrap()).unwrap();
    std::fs::remove_dir_all(shared.join("gone")).unwrap();
    assert!(matches!(incoming.open(), Err(IncomingError::Gone)));
    assert!(matches!(incoming.land(&file, 0), Err(IncomingError::Gone)));
    let (incoming, _) = begin(target(&tree, "kept/x").unwrap()).unwrap();
    assert_eq!(names(&shared.join("kept")).len(), 1);
    drop(incoming);
    assert!(!shared.join("kept").exists());
}

#[test]
fn a_folder_that_was_moved_a_moment_ago_takes_nothing_along() {
    let dir = tempfile::tempdir().unwrap();
    let (shared, outside) = (dir.path().join("shared"), dir.path().join("outside"));
    std::fs::create_dir_all(shared.join("in")).unwrap();
    std::fs::create_dir(&outside).unwrap();
    let tree = Tree::open(&[&shared], false).unwrap();
    // Within the root, out of it, and with another of its name in its place: all faster than a handle ages.
    for (to, is_remade) in [(shared.join("moved"), false), (outside.join("moved"), false), (outside.join("m"), true)] {
        let (incoming, file) = begin(target(&tree, "in/x").unwrap()).unwrap();
        std::fs::rename(shared.join("in"), &to).unwrap();
        if is_remade {
            std::fs::create_dir(shared.join("in")).unwrap();
        }
        assert!(matches!(incoming.land(&file, 0), Err(IncomingError::Gone)), "{to:?}");
        assert!(names(&to).iter().all(|name| name.starts_with(PREFIX)), "{to:?}");
        let _ = std::fs::create_dir(shared.join("in"));
    }
    assert!(names(&shared.join("in")).is_empty());
}

#[test]
fn a_list_of_files_takes_none_at_its_top() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("folder")).unwrap();
    std::fs::write(dir.path().join("one"), b"").unwrap();
    let tree = Tree::open(&[&dir.path().join("one"), &dir.path().join("folder")], false).unwrap();
    assert!(target(&tree, "one").is_err() && target(&tree, "new").is_err() && target(&tree, "folder/x").is_err());
    let folder = RelativePath::parse(b"folder").unwrap();
    assert_eq!(land(Target::find(&tree, &folder, b"x").unwrap(), b"x").unwrap(), "folder/x");
    let one = RelativePath::parse(b"one").unwrap();
    assert!(Target::find(&tree, &one, b"x").is_err());
    assert_eq!(names(dir.path()), ["folder", "one"]);
}

#[test]
fn what_is_put_away_is_not_in_the_share() {
    let dir = tempfile::tempdir().unwrap();
    let (shared, away) = (dir.path().join("shared"), dir.path().join("away"));
    std::fs::create_dir(&shared).unwrap();
    std::fs::create_dir(&away).unwrap();
    let tree = Tree::open(&[&shared], false).unwrap();
    let (incoming, _) = begin(target(&tree, "x").unwrap()).unwrap();
    incoming.put_away(Some(&away)).unwrap();
    assert!(names(&shared).is_empty());
    let kept = away.join(&names(&away)[0]).metadata().unwrap();
    assert_eq!(kept.permissions().mode() & 0o777, 0o600);
    let (incoming, _) = begin(target(&tree, "x").unwrap()).unwrap();
    let place = incoming.put_away(Some(&dir.path().join("none"))).unwrap();
    assert!(place.starts_with(QUARANTINE_PREFIX) && !tree.shows(place.as_bytes()));
}

#[test]
fn old_partial_files_are_swept_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let sub = dir.path().join("sub");
    std::fs::create_dir(&sub).unwrap();
    let number = UploadId::draw().unwrap().encode();
    let old = SystemTime::now() - Duration::from_secs(100);
    for (name, modified) in [
        (format!("{PREFIX}{number}"), old),
        (format!("{PREFIX}{}", "0".repeat(32)), SystemTime::now()),
        (format!("{PREFIX}mine"), old),
        ("file".to_string(), old),
    ] {
        File::create(sub.join(name)).unwrap().set_modified(modified).unwrap();
    }
    let root = Arc::new(Root::open(dir.path()).unwrap());
    assert_eq!(sweep(&root, &RelativePath::root(), Duration::from_secs(60)), 1);
    assert_eq!(names(&sub).len(), 3);
    assert!(!sub.join(format!("{PREFIX}{number}")).exists());
}

#[test]
fn folders_that_were_made_for_nothing_go_again() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("there")).unwrap();
    let (tree, folders) = (Tree::open(&[dir.path()], false).unwrap(), Arc::default());
    let begin = |below: &str| begin_in(target(&tree, below).unwrap(), &folders).unwrap();
    let (first, _) = begin("a/b/c/x");
    let (second, _) = begin("a/b/y");
    let (third, _) = begin("there/d/x");
    drop(first);
    assert_eq!(names(&dir.path().join("a/b")).len(), 1, "only the second's partial file");
    drop((second, third));
    assert_eq!(names(dir.path()), ["there"]);
    assert!(names(&dir.path().join("there")).is_empty() && folders.is_empty());
    // What something landed in stays, and what its owner has put something in.
    let (first, _) = begin("a/b/x");
    let (second, file) = begin("a/y");
    file.write_all_at(b"y", 0).unwrap();
    second.land(&file, 0).unwrap();
    drop(first);
    assert_eq!(names(&dir.path().join("a")), ["y"]);
    let (first, _) = begin("e/f/x");
    std::fs::write(dir.path().join("e/mine"), "").unwrap();
    drop(first);
    assert_eq!(names(&dir.path().join("e")), ["mine"]);
}

#[test]
fn the_folder_that_an_upload_is_about_to_land_in_stays_when_another_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (tree, folders) = (Tree::open(&[dir.path()], false).unwrap(), Arc::default());
    let (mut sorted, file) = begin_in(target(&tree, "other/a").unwrap(), &folders).unwrap();
    file.write_all_at(b"a", 0).unwrap();
    sorted.retarget(sorted.target().in_type(&tree, "image").unwrap().unwrap(), 0).unwrap();
    // It is not there yet: the folder looks as if it were for this one alone.
    let (cut, _) = begin_in(target(&tree, "image/b").unwrap(), &folders).unwrap();
    drop(cut);
    assert_eq!(sorted.land(&file, 0).unwrap().to_string(), "image/a");
    assert_eq!(std::fs::read(dir.path().join("image/a")).unwrap(), b"a");
    assert!(names(dir.path()) == ["image"] && folders.is_empty());
}

#[test]
fn room_is_looked_for_again_before_the_first_byte() {
    // In memory, where nothing is reserved: that look is all there is.
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let file = File::create(dir.path().join("x")).unwrap();
    let about = fstatfs(&file).unwrap();
    let whole = about.blocks() * u64::try_from(about.block_size()).unwrap();
    assert!(matches!(Incoming::reserve(&file, whole + 1), Err(IncomingError::Full)));
    assert!(Incoming::reserve(&file, 1).is_ok());
}

#[test]
fn what_is_reserved_for_a_file_counts_as_its_room() {
    let dir = tempfile::tempdir().unwrap();
    let file = File::create(dir.path().join("x")).unwrap();
    for _ in 0..2 {
        Incoming::reserve(&file, 1 << 20).unwrap();
        assert!(file.metadata().unwrap().len() == 0);
    }
}

#[test]
fn what_goes_elsewhere_in_the_end_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (tree, folders) = (Tree::open(&[dir.path()], false).unwrap(), Arc::default());
    let (mut incoming, file) = begin_in(target(&tree, "other/trip/x").unwrap(), &folders).unwrap();
    let there = incoming.target().in_type(&tree, "image").unwrap().unwrap();
    assert!(there.in_type(&tree, "image").unwrap().is_none());
    incoming.retarget(there, 0).unwrap();
    assert_eq!(incoming.land(&file, 0).unwrap().to_string(), "image/trip/x");
    assert_eq!(names(dir.path()), ["image"]);
    let (mut incoming, _) = begin_in(target(&tree, "other/x").unwrap(), &folders).unwrap();
    incoming.retarget(incoming.target().in_type(&tree, "video").unwrap().unwrap(), 0).unwrap();
    drop(incoming);
    assert_eq!(names(dir.path()), ["image"]);
}
