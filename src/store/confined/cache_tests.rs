//! The cached handles: what they save, and that they lead nowhere wrong.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::fixture::{CONTENT, Fixture, path, read};
use super::{HANDLE_LIFE, HANDLES_MAX, Links, Root};

/// Longer than any test.
const LONG: Duration = Duration::from_secs(3600);

fn resolutions(root: &Root) -> u64 {
    root.resolutions.load(Ordering::Relaxed)
}

#[test]
fn many_files_in_a_deep_folder_cost_one_resolution() {
    const FILES: u32 = 10_000;
    let it = Fixture::new();
    let folder = path(vec!["deep"; 20].join("/"));
    for root in it.roots_with_life(LONG) {
        root.create_dir_all(&folder).unwrap();
        let before = resolutions(&root);
        for n in 0..FILES {
            let file = folder.join(n.to_string().as_bytes()).unwrap();
            drop(root.create_new(&file).unwrap());
            drop(root.open_read(&file).unwrap());
            // What is missing is common too: is there such a file already?
            assert!(root.metadata(&folder.join(b"missing").unwrap()).is_err());
        }
        assert_eq!(root.read_dir(&folder, Links::Refused).unwrap().count(), FILES as usize);
        assert_eq!(resolutions(&root) - before, 1);
        std::fs::remove_dir_all(it.inside("deep")).unwrap();
    }
}

#[test]
fn threads_share_the_handles() {
    let it = Fixture::new();
    std::fs::create_dir(it.inside("folder")).unwrap();
    std::fs::write(it.inside("folder/file"), b"x").unwrap();
    for root in it.roots_with_life(LONG) {
        let root = &root;
        assert_eq!(read(root, "folder/file").unwrap(), b"x");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..200).for_each(|_| assert_eq!(read(root, "folder/file").unwrap(), b"x")));
            }
        });
        assert_eq!(resolutions(root), 1);
    }
}

#[test]
fn more_folders_than_handles_are_no_matter() {
    let it = Fixture::new();
    let root = &it.roots_with_life(LONG)[0];
    for round in 0..2 {
        for n in 0..HANDLES_MAX * 2 {
            let folder = path(format!("d{n}"));
            root.create_dir_all(&folder).unwrap();
            drop(root.create_new(&folder.join(round.to_string().as_bytes()).unwrap()).unwrap());
        }
    }
    assert!(it.inside("d0/0").exists() && it.inside("d0/1").exists());
}

#[test]
fn what_the_root_renames_is_found_under_its_new_name_at_once() {
    let it = Fixture::new();
    for root in it.roots_with_life(LONG) {
        std::fs::create_dir_all(it.inside("a/b")).unwrap();
        std::fs::create_dir(it.inside("empty")).unwrap();
        it.symlink("a/b", "link");
        std::fs::write(it.inside("a/b/file"), b"old").unwrap();
        for at in ["a/b/file", "link/file"] {
            assert_eq!(read(&root, at).unwrap(), b"old");
        }
        assert!(root.read_dir(&path("empty"), Links::Refused).is_ok());
        root.rename_replace(&path("a"), &path("empty")).unwrap();
        assert_eq!(read(&root, "empty/b/file").unwrap(), b"old");
        for at in ["a/b/file", "link/file"] {
            assert!(read(&root, at).unwrap_err().contains("No such file"), "{at}");
        }
        root.create_dir_all(&path("a/b")).unwrap();
        drop(root.create_new(&path("a/b/file")).unwrap());
        assert_eq!(read(&root, "a/b/file").unwrap(), b"");
        assert_eq!(read(&root, "link/file").unwrap(), b"");
        for name in ["a", "empty"] {
            std::fs::remove_dir_all(it.inside(name)).unwrap();
        }
        root.remove_file(&path("link")).unwrap();
    }
}

#[test]
fn a_folder_that_was_removed_and_made_anew_is_found_at_once() {
    let it = Fixture::new();
    for root in it.roots_with_life(LONG) {
        for round in 0..3 {
            std::fs::create_dir_all(it.inside("a/b")).unwrap();
            std::fs::write(it.inside("a/b/file"), [round]).unwrap();
            assert_eq!(read(&root, "a/b/file").unwrap(), [round]);
            assert_eq!(root.read_dir(&path("a/b"), Links::Refused).unwrap().count(), 1);
            drop(root.create_new(&path("a/b/new")).unwrap());
            std::fs::remove_dir_all(it.inside("a")).unwrap();
            assert!(read(&root, "a/b/file").unwrap_err().contains("No such file"));
            assert!(root.create_new(&path("a/b/new")).is_err());
            assert!(root.read_dir(&path("a/b"), Links::Refused).is_err());
        }
    }
}

#[test]
fn a_folder_that_somebody_else_replaces_is_found_when_the_handle_has_lived() {
    let it = Fixture::new();
    for root in it.roots() {
        for name in ["a", "b"] {
            std::fs::create_dir(it.inside(name)).unwrap();
            std::fs::write(it.inside(name).join("file"), name).unwrap();
        }
        assert_eq!(read(&root, "a/file").unwrap(), b"a");
        std::fs::rename(it.inside("a"), it.inside("old")).unwrap();
        std::fs::rename(it.inside("b"), it.inside("a")).unwrap();
        std::thread::sleep(HANDLE_LIFE);
        assert_eq!(read(&root, "a/file").unwrap(), b"b");
        // And by a link that leads out.
        std::fs::remove_dir_all(it.inside("a")).unwrap();
        it.symlink("../outside", "a");
        std::thread::sleep(HANDLE_LIFE);
        assert!(read(&root, "a/secret").is_err() && root.create_new(&path("a/new")).is_err());
        it.assert_outside_untouched();
        std::fs::remove_file(it.inside("a")).unwrap();
        std::fs::remove_dir_all(it.inside("old")).unwrap();
    }
}

#[test]
fn a_handle_never_leads_to_a_folder_that_was_not_inside() {
    let it = Fixture::new();
    for root in it.roots_with_life(LONG) {
        std::fs::create_dir(it.inside("a")).unwrap();
        std::fs::write(it.inside("a/secret"), CONTENT).unwrap();
        assert_eq!(read(&root, "a/secret").unwrap(), CONTENT);
        std::fs::rename(it.inside("a"), it.inside("old")).unwrap();
        it.symlink("../outside", "a");
        // Until it is forgotten, the handle is of the folder that it was.
        assert_eq!(read(&root, "a/secret").unwrap(), CONTENT);
        drop(root.create_new(&path("a/new")).unwrap());
        assert!(it.inside("old/new").exists());
        it.assert_outside_untouched();
        std::fs::remove_file(it.inside("a")).unwrap();
        std::fs::remove_dir_all(it.inside("old")).unwrap();
    }
}
