//! What the operations do when nothing is wrong, and what they say when something is.

use std::io::{ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use nix::fcntl::AT_FDCWD;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::fixture::{CONTENT, Fixture, path, read};
use super::{DEPTH_MAX, Kind, Links, NAME_BYTES_MAX, PATH_BYTES_MAX, RelativePath, Root};
use crate::store::StoreError;

fn kind_of(error: &StoreError) -> Option<ErrorKind> {
    match error {
        StoreError::System { error, .. } => Some(error.kind()),
        _ => None,
    }
}

#[test]
fn a_file_is_made_once_for_its_owner() {
    let it = Fixture::new();
    for root in it.roots() {
        let mut file = root.create_new(&path("new")).unwrap();
        file.write_all(b"data").unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777 & !0o600, 0);
        assert_eq!(read(&root, "new").unwrap(), b"data");
        let again = root.create_new(&path("new")).unwrap_err();
        assert_eq!(kind_of(&again), Some(ErrorKind::AlreadyExists), "{again}");
        it.symlink("nowhere", "dangling");
        assert_eq!(kind_of(&root.create_new(&path("dangling")).unwrap_err()), Some(ErrorKind::AlreadyExists));
        root.remove_file(&path("dangling")).unwrap();
        root.remove_file(&path("new")).unwrap();
        let missing = root.open_read(&path("new")).unwrap_err();
        assert_eq!(kind_of(&missing), Some(ErrorKind::NotFound), "{missing}");
        assert_eq!(kind_of(&root.open_read(&path("inside/x")).unwrap_err()), Some(ErrorKind::NotADirectory));
    }
}

#[test]
fn folders_are_made_as_far_as_they_are_missing() {
    let it = Fixture::new();
    for root in it.roots() {
        assert_eq!(kind_of(&root.create_dir(&path("a/b")).unwrap_err()), Some(ErrorKind::NotFound));
        root.create_dir_all(&path("a/b/c")).unwrap();
        root.create_dir_all(&path("a/b/c")).unwrap();
        root.create_dir_all(&path("a/b/d/e")).unwrap();
        root.create_dir_all(&RelativePath::root()).unwrap();
        assert_eq!(kind_of(&root.create_dir(&path("a")).unwrap_err()), Some(ErrorKind::AlreadyExists));
        for at in ["inside", "inside/x", "inside/x/y"] {
            assert_eq!(kind_of(&root.create_dir_all(&path(at)).unwrap_err()), Some(ErrorKind::NotADirectory), "{at}");
        }
        assert!(it.inside("a/b/c").is_dir() && it.inside("a/b/d/e").is_dir());
        std::fs::remove_dir_all(it.inside("a")).unwrap();
    }
}

#[test]
fn what_is_renamed_replaces_only_when_told_to() {
    let it = Fixture::new();
    for root in it.roots() {
        std::fs::create_dir_all(it.inside("d/e")).unwrap();
        std::fs::write(it.inside("d/new"), b"new").unwrap();
        let exists = root.rename_no_replace(&path("d/new"), &path("inside")).unwrap_err();
        assert_eq!(kind_of(&exists), Some(ErrorKind::AlreadyExists));
        assert!(exists.to_string().starts_with("d/new to inside: cannot be renamed"), "{exists}");
        assert_eq!(read(&root, "inside").unwrap(), CONTENT);
        root.rename_no_replace(&path("d/new"), &path("d/e/moved")).unwrap();
        root.rename_replace(&path("d/e/moved"), &path("inside")).unwrap();
        assert_eq!(read(&root, "inside").unwrap(), b"new");
        for rename in [Root::rename_replace, Root::rename_no_replace] {
            let itself = rename(&root, &path("d"), &path("d/e/f")).unwrap_err();
            assert!(itself.to_string().contains("into itself"), "{itself}");
            let missing = rename(&root, &path("nothing"), &path("d/x")).unwrap_err();
            assert_eq!(kind_of(&missing), Some(ErrorKind::NotFound));
            assert!(rename(&root, &RelativePath::root(), &path("x")).is_err());
            assert!(rename(&root, &path("inside"), &RelativePath::root()).is_err());
        }
        std::fs::write(it.inside("inside"), CONTENT).unwrap();
    }
}

#[test]
fn a_link_is_renamed_and_removed_itself() {
    let it = Fixture::new();
    for root in it.roots() {
        it.symlink("../outside/secret", "link");
        root.rename_no_replace(&path("link"), &path("other")).unwrap();
        assert_eq!(root.metadata(&path("other")).unwrap().kind, Kind::Symlink);
        root.remove_file(&path("other")).unwrap();
        it.assert_outside_untouched();
    }
}

#[test]
fn metadata_is_of_the_entry_itself() {
    let it = Fixture::new();
    std::fs::create_dir(it.inside("folder")).unwrap();
    it.symlink("inside", "link");
    it.symlink("folder", "way");
    std::fs::write(it.inside("folder/file"), b"123").unwrap();
    let old = std::time::UNIX_EPOCH - std::time::Duration::from_millis(1500);
    std::fs::File::options().write(true).open(it.inside("inside")).unwrap().set_modified(old).unwrap();
    for root in it.roots() {
        let of = |at: &str| root.metadata(&path(at)).unwrap();
        let file = of("inside");
        assert_eq!((file.kind, file.len), (Kind::File, CONTENT.len() as u64));
        assert_eq!((file.modified_s, file.modified_ns), (-2, 500_000_000));
        assert_eq!((of("link").kind, of("link").len), (Kind::Symlink, 6));
        assert_eq!(of("way/file").len, 3);
        assert_eq!((of("folder").kind, of("").kind), (Kind::Directory, Kind::Directory));
        assert_eq!(of("folder").device, of("").device);
        assert_ne!(of("folder").inode, of("").inode);
    }
}

#[test]
fn a_folder_lists_its_entries_with_their_kinds() {
    let it = Fixture::new();
    std::fs::create_dir(it.inside("folder")).unwrap();
    it.symlink("folder", "link");
    std::fs::write(it.inside("").join(std::ffi::OsStr::from_bytes(b"\xff\n")), b"").unwrap();
    for root in it.roots() {
        let entries = root.read_dir(&RelativePath::root(), Links::Refused).unwrap();
        let mut entries: Vec<_> = entries.map(|entry| entry.unwrap()).map(|entry| (entry.name, entry.kind)).collect();
        entries.sort_by(|one, other| one.0.cmp(&other.0));
        let expected: [(&[u8], Kind); 4] =
            [(b"folder", Kind::Directory), (b"inside", Kind::File), (b"link", Kind::Symlink), (b"\xff\n", Kind::File)];
        assert_eq!(entries, expected.map(|(name, kind)| (name.to_vec(), kind)));
        let said = root.read_dir(&path("inside"), Links::Inside).unwrap_err();
        assert_eq!(kind_of(&said), Some(ErrorKind::NotADirectory), "{said}");
        assert_eq!(root.read_dir(&path("folder"), Links::Inside).unwrap().count(), 0);
    }
}

#[test]
fn a_path_of_the_greatest_depth_works() {
    // Links are followed with a handle for each folder on the way.
    if crate::sys::limits::raise_open_files().unwrap() < 2 * DEPTH_MAX as u64 {
        return println!("no great depth is tried: too few files may be open");
    }
    let it = Fixture::new();
    let depths: Vec<Vec<u8>> = (1..DEPTH_MAX).map(|depth| vec!["d"; depth].join("/").into_bytes()).collect();
    let deepest = path(depths.last().unwrap());
    for root in it.roots() {
        root.create_dir_all(&deepest).unwrap();
        let file = deepest.join(b"f").unwrap();
        drop(root.create_new(&file).unwrap());
        assert_eq!(read(&root, file.as_bytes()).unwrap(), b"");
        assert_eq!(root.read_dir(&deepest, Links::Inside).unwrap().count(), 1);
        // Back up through a link at the bottom, and down again.
        let up = format!("{}inside", "../".repeat(DEPTH_MAX - 1));
        nix::unistd::symlinkat(
            up.as_str(),
            AT_FDCWD,
            &it.inside("").join(std::ffi::OsStr::from_bytes(deepest.as_bytes())).join("link"),
        )
        .unwrap();
        let link = deepest.join(b"link").unwrap();
        assert_eq!(read(&root, link.as_bytes()).unwrap(), CONTENT);
        assert!(file.join(b"x").is_err());
        root.remove_file(&link).unwrap();
        root.remove_file(&file).unwrap();
        // Not by recursion, which holds a handle or a stack frame for each.
        for depth in depths.iter().rev() {
            unlinkat(&root.folder, std::ffi::OsStr::from_bytes(depth), UnlinkatFlags::RemoveDir).unwrap();
        }
    }
}

#[test]
fn the_longest_path_works() {
    let it = Fixture::new();
    // More than the kernel takes in one piece.
    let folder = path(format!("{}/s", vec!["n".repeat(NAME_BYTES_MAX); 15].join("/")));
    let leaf = |letter: &str| letter.repeat(PATH_BYTES_MAX - folder.as_bytes().len() - 1).into_bytes();
    let (file, link) = (folder.join(&leaf("f")).unwrap(), folder.join(&leaf("l")).unwrap());
    assert_eq!(link.as_bytes().len(), PATH_BYTES_MAX);
    assert!(folder.join(&[leaf("f"), b"f".to_vec()].concat()).unwrap_err().to_string().contains("4096 bytes"));
    for root in it.roots() {
        root.create_dir_all(&folder).unwrap();
        root.create_new(&file).unwrap().write_all(CONTENT).unwrap();
        let parent = root.folder(folder.as_bytes(), Links::Refused).unwrap();
        nix::unistd::symlinkat(leaf("f").as_slice(), &parent, leaf("l").as_slice()).unwrap();
        for at in [&file, &link] {
            assert_eq!(read(&root, at.as_bytes()).unwrap(), CONTENT);
            root.remove_file(at).unwrap();
            root.create_dir(at).unwrap();
            assert_eq!(root.read_dir(at, Links::Inside).unwrap().count(), 0);
            unlinkat(&parent, at.split().unwrap().1, UnlinkatFlags::RemoveDir).unwrap();
            // What the link leads to.
            if at == &file {
                root.create_new(&file).unwrap().write_all(CONTENT).unwrap();
            }
        }
        root.remove_file(&file).unwrap();
    }
}

#[test]
fn a_folder_that_cannot_be_had_is_not_said_to_be_served() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, b"").unwrap();
    let part = Root::open(dir.path()).unwrap().part(&RelativePath::parse(b"file").unwrap());
    for error in [part.unwrap_err(), Root::open(&path).unwrap_err()] {
        assert!(error.to_string().contains("cannot be opened as a folder"), "{error}");
    }
}
