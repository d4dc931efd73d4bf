//! Files, links and folders that land, each as the options say.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::*;
use crate::proto::manifest::Attributes;
use crate::store::journal::{Identity, boot_id};

pub(super) const OPTIONS: LandingOptions = LandingOptions {
    durability: Durability::Full,
    existing: Existing::Replace,
    owner: false,
    xattrs: false,
    sparse: true,
};

pub(super) fn land(dir: &Path, options: LandingOptions, witness: Option<Arc<dyn Witness>>) -> Landing {
    let _ = std::fs::create_dir(dir.join("to"));
    let root = Arc::new(Root::open(&dir.join("to")).unwrap());
    let storage = FileStorage::open(&dir.join("journal")).unwrap();
    let identity = Identity::new(b"from", b"to", &[0; 32]);
    let durable = options.durability != Durability::None;
    let journal = Journal::open_or_create(storage, identity, durable, boot_id()).unwrap();
    Landing::open_witnessed(root, journal, options, witness).unwrap()
}

pub(super) fn entry(id: u64, path: &str, kind: EntryKind) -> Entry {
    let attributes = Attributes { mode: 0o4640, modified_s: 1_000_000, modified_ns: 123_456_789, ..Default::default() };
    Entry { id, path: path.into(), kind, attributes }
}

pub(super) fn file(id: u64, path: &str, len: u64) -> Entry {
    entry(id, path, EntryKind::File { len, is_sparse: false })
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(dir.join("to")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_file_lands_whole_with_its_mode_and_time() {
    let dir = tempfile::tempdir().unwrap();
    let landing = land(dir.path(), OPTIONS, None);
    let entry = file(0, "file", 10_000);
    assert!(matches!(landing.decide(&entry), Decision::Make));
    let incoming = landing.begin(&entry, 4096).unwrap();
    let bytes: Vec<u8> = (0..10_000u32).map(|n| n as u8).collect();
    std::thread::scope(|scope| {
        for (n, part) in bytes.chunks(1000).enumerate() {
            let (landing, incoming) = (&landing, &incoming);
            scope.spawn(move || landing.write_at(incoming, n as u64 * 1000, part).unwrap());
        }
    });
    assert!(landing.write_at(&incoming, 9_999, b"xx").is_err(), "beyond its end");
    landing.write_at(&incoming, 500, &[0; 100]).unwrap();
    let ready = landing.finish(incoming, [1; 32]).unwrap();
    assert_eq!(landing.commit(vec![ready]).unwrap().landed, [0]);
    assert_eq!(std::fs::read(dir.path().join("to/file")).unwrap(), bytes);
    let meta = std::fs::metadata(dir.path().join("to/file")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.mtime(), meta.mtime_nsec()), (0o640, 1_000_000, 123_456_789));
    assert!(matches!(landing.decide(&entry), Decision::Have));
    assert_eq!(names(dir.path()), ["file"]);
}

#[test]
fn what_is_not_whole_does_not_land() {
    let dir = tempfile::tempdir().unwrap();
    let landing = land(dir.path(), OPTIONS, None);
    let incoming = landing.begin(&file(0, "file", 100), 10).unwrap();
    landing.write_at(&incoming, 0, &[1; 60]).unwrap();
    assert!(landing.write_at(&incoming, 50, &[2; 20]).unwrap_err().to_string().contains("overlap"));
    assert_eq!(incoming.missing(), [(60, 100)]);
    incoming.discard(10, 20);
    assert_eq!(incoming.missing(), [(10, 20), (60, 100)]);
    assert!(landing.finish(incoming, [0; 32]).unwrap_err().to_string().contains("not whole"));
    assert!(landing.store_small(&file(1, "small", 3), b"four").is_err());
}

#[test]
fn a_copy_goes_on_where_its_journal_says() {
    let dir = tempfile::tempdir().unwrap();
    let entry = file(7, "file", 95);
    let landing = land(dir.path(), OPTIONS, None);
    let incoming = landing.begin(&entry, 10).unwrap();
    landing.write_at(&incoming, 20, &[2; 10]).unwrap();
    landing.write_at(&incoming, 90, &[9; 5]).unwrap();
    let blocks = [(2, [2; 32]), (9, [9; 32]), (3, [3; 32])];
    landing.checkpoint(&[(&incoming, &blocks)]).unwrap();
    drop((incoming, landing));
    // What the journal knows is not swept, what it does not know is.
    let landing = land(dir.path(), OPTIONS, None);
    let stray = landing.temporary(&file(0, "x", 1)).unwrap();
    std::fs::write(dir.path().join("to").join(stray.to_string()), b"stray").unwrap();
    std::fs::write(dir.path().join("to/.lr-0000000000000000-mine"), b"of another copy").unwrap();
    assert_eq!(landing.sweep().unwrap(), 1);
    match landing.decide(&entry) {
        Decision::Resume { block_bytes: 10, blocks } => assert_eq!(blocks, [(2, [2; 32]), (9, [9; 32])]),
        other => panic!("{other:?}"),
    }
    let newer = Entry { attributes: Attributes { modified_s: 1, ..entry.attributes.clone() }, ..entry.clone() };
    assert!(matches!(landing.decide(&newer), Decision::Make));
    let incoming = landing.begin(&entry, 10).unwrap();
    assert_eq!(incoming.missing(), [(0, 20), (30, 90)]);
    landing.write_at(&incoming, 0, &[0; 20]).unwrap();
    landing.write_at(&incoming, 30, &[3; 60]).unwrap();
    let ready = landing.finish(incoming, [0; 32]).unwrap();
    assert_eq!(landing.commit(vec![ready]).unwrap().landed, [7]);
    assert_eq!(std::fs::metadata(dir.path().join("to/file")).unwrap().len(), 95);
    assert!(landing.with_journal(|journal| journal.state().partials().count() == 0));
    landing.complete().unwrap();
    assert!(!dir.path().join("journal").exists());
}

#[test]
fn what_is_there_stays_or_goes_as_is_chosen() {
    for (existing, age, outcome) in [
        (Existing::Replace, 5, "make"),
        (Existing::Skip, 5, "skip"),
        (Existing::Fail, 5, "fail"),
        (Existing::KeepNewer, 5, "make"),
        (Existing::KeepNewer, 2_000_000_000, "skip"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let landing = land(dir.path(), LandingOptions { existing, ..OPTIONS }, None);
        let path = dir.path().join("to/file");
        std::fs::write(&path, b"older").unwrap();
        let modified = std::time::UNIX_EPOCH + std::time::Duration::from_secs(age);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        let entry = file(0, "file", 3);
        let got = match landing.decide(&entry) {
            Decision::Make => "make",
            Decision::Skip(_) => "skip",
            Decision::Fail(_) => "fail",
            _ => "other",
        };
        assert_eq!(got, outcome, "{existing:?}");
        // Also if it came only after it was decided; and whoever has it open reads on in the old one.
        let mut open = std::fs::File::open(&path).unwrap();
        let done = landing.commit(vec![landing.store_small(&entry, b"new").unwrap()]).unwrap();
        let replaces = matches!(existing, Existing::Replace | Existing::KeepNewer);
        assert_eq!((done.landed.len(), done.skipped.len()), (replaces.into(), (existing == Existing::Skip).into()));
        assert_eq!(done.failed.len(), usize::from(existing == Existing::Fail));
        assert_eq!(std::fs::read(&path).unwrap(), if replaces { b"new".as_slice() } else { b"older" });
        let mut old = String::new();
        std::io::Read::read_to_string(&mut open, &mut old).unwrap();
        assert_eq!((old.as_str(), names(dir.path())), ("older", vec!["file".to_string()]));
    }
}

#[test]
fn a_folder_and_a_file_do_not_take_each_others_place() {
    let dir = tempfile::tempdir().unwrap();
    let landing = land(dir.path(), OPTIONS, None);
    std::fs::create_dir(dir.path().join("to/folder")).unwrap();
    std::fs::write(dir.path().join("to/file"), b"file").unwrap();
    let said = |decision| match decision {
        Decision::Fail(error) => error.to_string(),
        other => format!("{other:?}"),
    };
    assert!(said(landing.decide(&file(0, "folder", 1))).contains("is a folder, where a file is to be"));
    assert_eq!(said(landing.decide(&entry(0, "file", EntryKind::Folder))), "Make");
    assert_eq!(said(landing.decide(&entry(0, "folder", EntryKind::Folder))), "Have");
    assert!(said(landing.decide(&file(0, &"n".repeat(300), 1))).contains("255"));
    assert!(said(landing.decide(&file(0, "../out", 1))).contains("leads out"));
    let ready = landing.store_small(&file(0, "folder", 1), b"x").unwrap();
    assert_eq!(landing.commit(vec![ready]).unwrap().failed.len(), 1);
    landing.make_folder(&entry(1, "file", EntryKind::Folder)).unwrap();
    assert_eq!(names(dir.path()), ["file", "folder"]);
}

#[test]
fn folders_and_links_land_with_their_times() {
    let dir = tempfile::tempdir().unwrap();
    let landing = land(dir.path(), OPTIONS, None);
    let mut folder = entry(0, "folder", EntryKind::Folder);
    folder.attributes.mode = 0o555;
    landing.make_folder(&folder).unwrap();
    let small = file(1, "folder/small", 2);
    landing.commit(vec![landing.store_small(&small, b"ok").unwrap()]).unwrap();
    let link = entry(2, "folder/link", EntryKind::Symlink { target: b"../../outside".to_vec() });
    let hard = entry(3, "folder/hard", EntryKind::HardLink { to: 1 });
    for _ in 0..2 {
        assert!(landing.make_symlink(&link).unwrap() && landing.make_hard_link(&hard, &small).unwrap());
    }
    assert!(landing.finish_folders(std::slice::from_ref(&folder)).unwrap().is_empty());
    let at = |name: &str| dir.path().join("to/folder").join(name).symlink_metadata().unwrap();
    assert_eq!((at("").mode() & 0o7777, at("").mtime(), at("link").mtime()), (0o555, 1_000_000, 1_000_000));
    assert_eq!((at("hard").ino(), at("small").nlink()), (at("small").ino(), 2));
    assert_eq!(std::fs::read_dir(dir.path().join("to/folder")).unwrap().count(), 3);
    std::fs::set_permissions(dir.path().join("to/folder"), std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn holes_stay_holes() {
    let dir = tempfile::tempdir().unwrap();
    let landing = land(dir.path(), OPTIONS, None);
    let len = 4 << 20;
    let sparse = entry(0, "sparse", EntryKind::File { len, is_sparse: true });
    let incoming = landing.begin(&sparse, 1 << 20).unwrap();
    let mut bytes = vec![0; len as usize];
    bytes[1_000_001] = 1;
    landing.write_at(&incoming, 0, &[7; 1 << 20]).unwrap();
    incoming.discard(0, 1 << 20);
    for (n, part) in bytes.chunks(100_000).enumerate() {
        landing.write_at(&incoming, n as u64 * 100_000, part).unwrap();
    }
    landing.commit(vec![landing.finish(incoming, [0; 32]).unwrap()]).unwrap();
    let path = dir.path().join("to/sparse");
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    let allocated = std::fs::metadata(&path).unwrap().blocks() * 512;
    assert!(allocated < len / 4, "{allocated}");
}

#[test]
fn a_second_copy_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Root::open(dir.path()).unwrap();
    let held = Lock::take(&open()).unwrap();
    assert!(Lock::take(&open()).unwrap_err().to_string().contains("another copy"));
    drop(held);
    Lock::take(&open()).unwrap();
}

/// `cargo test --release -- --ignored small_files_per_second --nocapture`, with TMPDIR on what is to be measured.
#[test]
#[ignore = "measures"]
fn small_files_per_second() {
    for durability in [Durability::Full, Durability::File, Durability::None] {
        let dir = tempfile::tempdir().unwrap();
        let landing = land(dir.path(), LandingOptions { durability, ..OPTIONS }, None);
        let began = std::time::Instant::now();
        for batch in 0..5 {
            let store = |n: u64| landing.store_small(&file(n, &n.to_string(), 4096), &[1; 4096]).unwrap();
            let ready = (batch * 4000..(batch + 1) * 4000).map(store).collect();
            assert_eq!(landing.commit(ready).unwrap().landed.len(), 4000);
        }
        println!("{durability:?}: {:.0} files/s", 20_000.0 / began.elapsed().as_secs_f64());
    }
}
