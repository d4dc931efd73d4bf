//! What must not be reached, by whatever name and however it is linked.

use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::fixture::{CONTENT, Fixture, path, read, roots_at};
use super::{HANDLE_LIFE, Links, NAME_BYTES_MAX, RelativePath, Root};
use crate::text::printable;

const OUT: &str = "leads out of the folder";
const THROUGH: &str = "through a symbolic link";

/// Every operation that writes refuses the path.
fn assert_no_write(root: &Root, at: &str) {
    let new = path("new-name");
    let refused = [
        root.create_new(&path(at)).map(drop),
        root.create_dir(&path(at)),
        root.create_dir_all(&path(at)),
        root.rename_replace(&path("inside"), &path(format!("{at}/x"))),
        root.rename_no_replace(&path("inside"), &path(format!("{at}/x"))),
        root.rename_replace(&path(format!("{at}/secret")), &new),
        root.rename_no_replace(&path(format!("{at}/secret")), &new),
        root.remove_file(&path(format!("{at}/secret"))),
        root.sinks(at.as_bytes(), 1).map(drop),
        root.check_sink(at.as_bytes()),
    ];
    for (number, refused) in refused.into_iter().enumerate() {
        let said = refused.map_err(|error| error.to_string());
        assert!(said.is_err(), "{at}, operation {number}, {:?}", root.resolver);
    }
}

#[test]
fn a_link_out_is_neither_read_nor_written_through() {
    let it = Fixture::new();
    it.symlink("../outside/secret", "file");
    it.symlink(it.outside().join("secret"), "absolute-file");
    it.symlink("../outside", "folder");
    it.symlink(it.outside(), "absolute-folder");
    it.symlink("folder/secret", "file-by-folder");
    it.symlink("inside/../../outside/secret", "through-a-file");
    it.symlink("..", "up");
    it.symlink("/", "top");
    let table = [
        ("file", OUT),
        ("absolute-file", OUT),
        ("folder/secret", OUT),
        ("absolute-folder/secret", OUT),
        ("file-by-folder", OUT),
        ("through-a-file", "Not a directory"),
        ("up/outside/secret", OUT),
        ("top/etc/passwd", OUT),
    ];
    for root in it.roots() {
        for (at, why) in table {
            for said in [read(&root, at).unwrap_err(), root.source(at.as_bytes(), 1).unwrap_err().to_string()] {
                assert!(said.contains(why), "{said}, {:?}", root.resolver);
            }
            assert_no_write(&root, at);
        }
        for folder in ["folder", "absolute-folder", "up", "top"] {
            for links in [Links::Inside, Links::Refused] {
                let said = root.read_dir(&path(folder), links).unwrap_err().to_string();
                assert!(said.contains(OUT), "{said}");
            }
            assert!(root.metadata(&path(format!("{folder}/secret"))).is_err());
            assert_no_write(&root, &format!("{folder}/new"));
        }
    }
    it.assert_outside_untouched();
}

#[test]
fn a_link_inside_is_followed_to_read_and_not_to_write() {
    let it = Fixture::new();
    std::fs::create_dir_all(it.inside("a/b")).unwrap();
    std::fs::write(it.inside("a/b/file"), b"deep").unwrap();
    it.symlink("a/b", "folder");
    it.symlink("b/file", "a/file");
    it.symlink("../../inside", "a/b/back");
    it.symlink("../../a/../folder/./back/", "a/b/slash");
    it.symlink("../../a/../folder//./back", "a/b/long");
    let table: [(&str, &[u8]); 5] = [
        ("folder/file", b"deep"),
        ("a/file", b"deep"),
        ("a/b/back", CONTENT),
        ("folder/back", CONTENT),
        ("folder/long", CONTENT),
    ];
    for root in it.roots() {
        for (at, content) in table {
            assert_eq!(read(&root, at).unwrap(), content, "{at}");
            assert!(root.create_new(&path(at)).is_err());
        }
        assert!(read(&root, "a/b/slash").unwrap_err().contains("Not a directory"));
        for at in ["folder/new", "folder/new/er"] {
            assert_no_write(&root, at);
            assert!(root.create_dir_all(&path(at)).unwrap_err().to_string().contains(THROUGH));
        }
        // Also once a read has found the folder.
        assert!(read(&root, "folder/file").is_ok() && root.create_new(&path("folder/new")).is_err());
        assert_eq!(root.read_dir(&path("folder"), Links::Inside).unwrap().count(), 4);
        assert!(root.read_dir(&path("folder"), Links::Refused).unwrap_err().to_string().contains(THROUGH));
    }
    assert!(!it.inside("a/b/new").exists());
}

#[test]
fn a_loop_of_links_ends() {
    let it = Fixture::new();
    it.symlink("self", "self");
    it.symlink("b", "a");
    it.symlink("a", "b");
    it.symlink("wide/wide/wide", "wide");
    for n in 0..50 {
        it.symlink(if n == 0 { "inside".into() } else { format!("chain{}", n - 1) }, &format!("chain{n}"));
    }
    for root in it.roots() {
        for at in ["self", "a", "a/x", "self/self", "wide", "wide/x", "chain40", "chain49"] {
            assert!(read(&root, at).unwrap_err().contains(THROUGH), "{at}");
            assert_no_write(&root, at);
        }
        // As many as the kernel follows, and not one less.
        assert_eq!(read(&root, "chain39").unwrap(), CONTENT);
    }
}

#[test]
fn what_is_no_regular_file_is_refused_without_waiting() {
    let it = Fixture::new();
    nix::unistd::mkfifo(&it.inside("fifo"), Mode::S_IRWXU).unwrap();
    let _listener = UnixListener::bind(it.inside("socket")).unwrap();
    std::fs::create_dir(it.inside("folder")).unwrap();
    let mut table = vec![("fifo", "is a named pipe"), ("socket", "is a socket"), ("folder", "is a folder")];
    match mknod(&it.inside("null"), SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 3)) {
        Ok(()) => table.push(("null", "is a device")),
        Err(error) => println!("no device is tried: {error}"),
    }
    it.symlink("/dev/null", "to-null");
    for root in it.roots() {
        for (name, why) in &table {
            let link = format!("to-{name}-{:?}", root.resolver);
            it.symlink(name, &link);
            for at in [*name, &link] {
                assert!(read(&root, at).unwrap_err().contains(why), "{at}");
                let said = root.source(at.as_bytes(), 1).unwrap_err().to_string();
                assert!(said.contains("neither a regular file nor a block device"), "{said}");
            }
            std::fs::remove_file(it.inside(&link)).unwrap();
        }
        assert!(read(&root, "to-null").unwrap_err().contains(OUT));
        assert!(root.open_read(&RelativePath::root()).unwrap_err().to_string().contains("is the folder itself"));
    }
}

#[test]
fn magic_links_lead_nowhere() {
    for root in roots_at(Path::new("/proc/self"), HANDLE_LIFE) {
        for at in ["fd/0", "root/etc/passwd", "root", "cwd", "cwd/Cargo.toml", "exe", "ns/net", "task/../root"] {
            let said = match RelativePath::parse(at.as_bytes()) {
                Ok(path) => root.open_read(&path).unwrap_err().to_string(),
                Err(error) => error.to_string(),
            };
            assert!(said.contains(OUT), "{said}, {:?}", root.resolver);
            assert!(root.sinks(at.as_bytes(), 1).is_err());
        }
        for at in ["root", "cwd", "root/etc"] {
            assert!(root.read_dir(&path(at), Links::Inside).unwrap_err().to_string().contains(OUT));
            assert!(root.create_new(&path(format!("{at}/new"))).is_err());
        }
        assert!(!read(&root, "status").unwrap().is_empty());
    }
    // Nor when the way there is an honest link.
    let it = Fixture::new();
    it.symlink("../../proc/self/root/etc/passwd", "link");
    for root in it.roots() {
        assert!(read(&root, "link").is_err());
    }
}

#[test]
fn a_hard_link_is_a_file_like_any_other_to_read() {
    let it = Fixture::new();
    std::fs::hard_link(it.outside().join("secret"), it.inside("hard")).unwrap();
    for root in it.roots() {
        assert!(read(&root, "hard").is_ok());
        // Writing makes a new file in its place: the other name keeps the old one.
        assert!(root.create_new(&path("hard")).is_err());
        root.create_new(&path("fresh")).unwrap();
        root.rename_replace(&path("fresh"), &path("hard")).unwrap();
        it.assert_outside_untouched();
        std::fs::remove_file(it.inside("hard")).unwrap();
        std::fs::hard_link(it.outside().join("secret"), it.inside("hard")).unwrap();
    }
}

#[test]
fn a_name_may_be_any_bytes_and_is_shown_escaped() {
    let it = Fixture::new();
    let longest = vec![b'n'; NAME_BYTES_MAX];
    let names: [&[u8]; 8] =
        [b"\xff\xfe", b"a\nb", b"\x1b[2J", "\u{202e}gpj.exe".as_bytes(), b"\\", b" ", b"...", &longest];
    for root in it.roots() {
        for name in names {
            let shown = printable(name);
            let folder = RelativePath::root().join(name).unwrap();
            let file = folder.join(name).unwrap();
            root.create_dir(&folder).unwrap();
            let missing = root.open_read(&file).unwrap_err().to_string();
            assert!(missing.starts_with(&format!("{shown}/{shown}: cannot be opened")), "{missing}");
            assert_eq!(printable(missing.as_bytes()), missing);
            drop(root.create_new(&file).unwrap());
            assert_eq!(root.metadata(&file).unwrap().len, 0);
            let listed = root.read_dir(&folder, Links::Refused).unwrap().next().unwrap().unwrap();
            assert_eq!(listed.name, name);
            root.remove_file(&file).unwrap();
            std::fs::remove_dir(
                it.inside("").join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(name)),
            )
            .unwrap();
        }
    }
}

#[test]
fn bad_paths_are_refused_by_the_functions_that_take_bytes() {
    let it = Fixture::new();
    let deep = vec!["d"; 2000].join("/").into_bytes();
    let bad: [&[u8]; 13] = [
        b"",
        b".",
        b"./",
        b"/",
        b"..",
        b"../outside/secret",
        b"/etc/passwd",
        b"./../outside/secret",
        b"inside/../../outside/secret",
        b"inside\0x",
        &[b'a'; NAME_BYTES_MAX + 1],
        &[b'a'; 5000],
        &deep,
    ];
    for root in it.roots() {
        for at in bad {
            assert!(root.source(at, 1).is_err(), "{}", printable(at));
            assert!(root.sinks(at, 1).is_err(), "{}", printable(at));
            assert!(root.check_sink(at).is_err(), "{}", printable(at));
        }
    }
    it.assert_outside_untouched();
}

#[test]
fn a_part_of_the_root_confines_as_the_root_does() {
    let it = Fixture::new();
    for root in it.roots() {
        root.create_dir_all(&path("part/deep")).unwrap();
        std::fs::write(it.inside("part/own"), b"own").unwrap();
        it.symlink("../inside", "part/up");
        it.symlink("part", "linked");
        let part = root.part(&path("part")).unwrap();
        assert_eq!(read(&part, "own").unwrap(), b"own");
        assert!(read(&part, "up").is_err(), "a link out of the part, inside the root");
        assert!(part.source(b"../inside", 1).is_err() && part.sinks(b"../new", 1).is_err());
        assert!(root.part(&path("linked")).is_err(), "no part through a link");
        assert!(root.part(&path("inside")).is_err() && root.part(&path("missing")).is_err());
        assert_eq!(read(&root.part(&RelativePath::root()).unwrap(), "inside").unwrap(), CONTENT);
        std::fs::remove_dir_all(it.inside("part")).unwrap();
        std::fs::remove_file(it.inside("linked")).unwrap();
    }
    it.assert_outside_untouched();
}
