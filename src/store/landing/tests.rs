//! Files, links and folders that land, each as the options say.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::*;
use crate::proto::manifest::Attributes;
use crate::proto::verify::FileHash;
use crate::store::journal::{Identity, boot_id};

pub(super) const OPTIONS: LandingOptions = LandingOptions {
    durability: Durability::Full,
    existing: Existing::Replace,
    owner: false,
    xattrs: false,
    resumes: true,
    is_served: false,
    direct: Direct::Auto,
};

pub(super) fn land(dir: &Path, options: LandingOptions, witness: Option<Arc<dyn Witness>>) -> Landing {
    land_in_boot(dir, options, witness, boot_id().unwrap())
}

fn land_in_boot(dir: &Path, options: LandingOptions, witness: Option<Arc<dyn Witness>>, boot: [u8; 16]) -> Landing {
    let _ = std::fs::create_dir(dir.join("to"));
    let root = Arc::new(Root::open(&dir.join("to")).unwrap());
    let storage = FileStorage::open(&dir.join("journal")).unwrap();
    let identity = Identity::new(b"from", b"to", &[0; 32]);
    let durable = options.durability != Durability::None;
    let journal = Journal::open_or_create(storage, identity, durable, boot).unwrap();
    Landing::open_witnessed(root, journal, options, witness).unwrap()
}

pub(super) fn entry(id: u64, path: &str, kind: EntryKind) -> Entry {
    let attributes = Attributes { mode: 0o4640, modified_s: 1_000_000, modified_ns: 123_456_789, ..Default::default() };
    Entry { id, path: path.into(), kind, attributes }
}

pub(super) fn file(id: u64, path: &str, len: u64) -> Entry {
    entry(id, path, EntryKind::File { len, is_sparse: false })
}

/// Some block, and what stands for its hash.
fn block(index: u8) -> (u64, BlockHash) {
    (index.into(), BlockHash([index; 32]))
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
    let ready = landing.finish(incoming, FileHash([1; 32])).unwrap();
    assert_eq!(landing.commit(vec![ready]).unwrap().landed, [0]);
    assert_eq!(std::fs::read(dir.path().join("to/file")).unwrap(), bytes);
    let meta = std::fs::metadata(dir.path().join("to/file")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.mtime(), meta.mtime_nsec()), (0o640, 1_000_000, 123_456_789));
    assert!(matches!(landing.decide(&entry), Decision::Have));
    assert_eq!(names(dir.path()), ["file"]);
}

#[test]
fn a_big_file_goes_past_the_cache_as_well_as_through_it() {
    // The last page is no whole one, and one piece is neither where a page begins nor in such memory.
    let len = direct::FROM_BYTES + 5000;
    let mut memory = memmap2::MmapMut::map_anon(len as usize).unwrap();
    memory.chunks_mut(1000).enumerate().for_each(|(n, part)| part.fill(n as u8));
    for direct in [Direct::On, Direct::Off, Direct::Auto] {
        let dir = tempfile::tempdir().unwrap();
        let landing = land(dir.path(), LandingOptions { direct, ..OPTIONS }, None);
        let entry = file(0, "file", len);
        let incoming = landing.begin(&entry, 16 << 20).unwrap();
        println!("{direct:?}: {:?}, {}", landing.direct(), incoming.is_direct());
        assert!(direct != Direct::Off || !incoming.is_direct());
        let pieces = [(0, 1 << 20), (1 << 20, (1 << 20) + 100), ((1 << 20) + 100, 2 << 20)];
        let rest = (2..).map(|n| (n << 20, (n + 1) << 20)).take_while(|(start, _)| *start < len);
        std::thread::scope(|scope| {
            for (start, end) in pieces.into_iter().chain(rest) {
                let (landing, incoming, memory) = (&landing, &incoming, &memory);
                let part = &memory[start as usize..len.min(end) as usize];
                scope.spawn(move || landing.write_at(incoming, start, part).unwrap());
            }
        });
        // What was wrong is written again.
        incoming.discard(3 << 20, 4 << 20);
        landing.write_at(&incoming, 3 << 20, &memory[3 << 20..4 << 20]).unwrap();
        let ready = landing.finish(incoming, FileHash([1; 32])).unwrap();
        assert_eq!(landing.commit(vec![ready]).unwrap().landed, [0]);
        assert!(std::fs::read(dir.path().join("to/file")).unwrap() == memory[..], "{direct:?}");
    }
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
    assert!(landing.finish(incoming, FileHash([0; 32])).unwrap_err().to_string().contains("not whole"));
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
    let blocks = [2, 9, 3].map(block);
    landing.checkpoint(&[(&incoming, &blocks)]).unwrap();
    drop((incoming, landing));
    // What the journal knows is not swept, what it does not know is.
    let landing = land(dir.path(), OPTIONS, None);
    let stray = landing.temporary(&RelativePath::parse(b"x").unwrap()).unwrap();
    std::fs::write(dir.path().join("to").join(stray.to_string()), b"stray").unwrap();
    std::fs::write(dir.path().join("to/.lr-0000000000000000-mine"), b"of another copy").unwrap();
    assert_eq!(landing.sweep(&[]).unwrap(), 1);
    match landing.decide(&entry) {
        Decision::Resume { block_bytes: 10, blocks } => assert_eq!(blocks, [2, 9].map(block)),
        other => panic!("{other:?}"),
    }
    let newer = Entry { attributes: Attributes { modified_s: 1, ..entry.attributes.clone() }, ..entry.clone() };
    assert!(matches!(landing.decide(&newer), Decision::Make));
    let incoming = landing.begin(&entry, 10).unwrap();
    assert_eq!(incoming.missing(), [(0, 20), (30, 90)]);
    landing.write_at(&incoming, 0, &[0; 20]).unwrap();
    landing.write_at(&incoming, 30, &[3; 60]).unwrap();
    let ready = landing.finish(incoming, FileHash([0; 32])).unwrap();
    assert_eq!(landing.commit(vec![ready]).unwrap().landed, [7]);
    assert_eq!(std::fs::metadata(dir.path().join("to/file")).unwrap().len(), 95);
    assert!(landing.with_journal(|journal| journal.state().partials().count() == 0));
    landing.complete().unwrap();
    assert!(!dir.path().join("journal").exists());
}

#[test]
fn a_copy_that_was_killed_goes_on_with_all_that_was_noted_and_after_a_power_failure_with_what_was_synced() {
    for (durability, after_restart) in [(Durability::Full, vec![block(0)]), (Durability::None, vec![])] {
        let dir = tempfile::tempdir().unwrap();
        let entry = file(7, "file", 95);
        let landing = |boot| land_in_boot(dir.path(), LandingOptions { durability, ..OPTIONS }, None, [boot; 16]);
        let run = landing(1);
        let incoming = run.begin(&entry, 10).unwrap();
        run.write_at(&incoming, 0, &[0; 30]).unwrap();
        run.checkpoint(&[(&incoming, &[block(0)])]).unwrap();
        run.note(&[(&incoming, &[block(1), block(5)])]).unwrap();
        drop((incoming, run));
        let held = |landing: Landing| match landing.decide(&entry) {
            Decision::Resume { blocks, .. } => blocks,
            Decision::Make => vec![],
            other => panic!("{other:?}"),
        };
        assert_eq!(held(landing(1)), [block(0), block(1)]);
        assert_eq!(held(landing(2)), after_restart, "{durability:?}");
        // What was lost is not covered by what is synced later, and what is noted later counts in its own boot.
        let run = landing(2);
        run.decide(&entry);
        let incoming = run.begin(&entry, 10).unwrap();
        run.write_at(&incoming, 20, &[2; 20]).unwrap();
        run.checkpoint(&[(&incoming, &[block(2)])]).unwrap();
        run.note(&[(&incoming, &[block(3)])]).unwrap();
        drop((incoming, run));
        let later = |blocks: &[u8]| [after_restart.clone(), blocks.iter().copied().map(block).collect()].concat();
        assert_eq!(held(landing(2)), later(&[2, 3]));
        let synced = if durability == Durability::None { vec![] } else { later(&[2]) };
        assert_eq!(held(landing(3)), synced);
    }
}

/// Write some blocks of a file, and put them into the journal.
fn store(landing: &Landing, incoming: &Incoming, blocks: &[u8], byte: u8) {
    for index in blocks {
        landing.write_at(incoming, u64::from(*index) * 10, &[byte; 10]).unwrap();
        landing.note(&[(incoming, &[block(*index)])]).unwrap();
    }
}

#[test]
fn two_files_of_one_path_are_never_mixed() {
    let dir = tempfile::tempdir().unwrap();
    let landing = land(dir.path(), OPTIONS, None);
    let entries = [1, 2].map(|id| file(id, "file", 50));
    let first = landing.begin(&entries[0], 10).unwrap();
    store(&landing, &first, &[0, 1], 1);
    // It is under way: nothing of it counts for the other.
    assert!(matches!(landing.decide(&entries[1]), Decision::Make));
    let second = landing.begin(&entries[1], 10).unwrap();
    store(&landing, &second, &[4, 3], 2);
    store(&landing, &first, &[2, 3, 4], 1);
    let ready = landing.finish(first, FileHash([1; 32])).unwrap();
    assert_eq!(landing.commit(vec![ready]).unwrap().landed, [1]);
    assert_eq!(std::fs::read(dir.path().join("to/file")).unwrap(), [1; 50]);
    store(&landing, &second, &[0, 1, 2], 2);
    let ready = landing.finish(second, FileHash([2; 32])).unwrap();
    assert_eq!(landing.commit(vec![ready]).unwrap().landed, [2]);
    assert_eq!(std::fs::read(dir.path().join("to/file")).unwrap(), [2; 50]);
    assert_eq!(names(dir.path()), ["file"]);
}

#[test]
fn what_an_earlier_run_stored_is_for_the_one_entry_that_was_told_of_it() {
    let entries = [1, 2].map(|id| file(id, "file", 50));
    // Where two sources may have one path nobody can tell of which of them it is.
    for resumes in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let run = land(dir.path(), OPTIONS, None);
        store(&run, &run.begin(&entries[0], 10).unwrap(), &[0, 1], 1);
        drop(run);
        let landing = land(dir.path(), LandingOptions { resumes, ..OPTIONS }, None);
        assert_eq!(matches!(landing.decide(&entries[1]), Decision::Resume { .. }), resumes);
        assert!(matches!(landing.decide(&entries[0]), Decision::Make));
        assert_eq!(landing.begin(&entries[0], 10).unwrap().missing(), [(0, 50)]);
    }
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
    assert!(said(landing.decide(&entry(0, "file", EntryKind::Folder))).contains("is a file, where a folder is to be"));
    assert_eq!(said(landing.decide(&entry(0, "folder", EntryKind::Folder))), "Have");
    assert!(said(landing.decide(&file(0, &"n".repeat(300), 1))).contains("255"));
    assert!(said(landing.decide(&file(0, "../out", 1))).contains("leads out"));
    let ready = landing.store_small(&file(0, "folder", 1), b"x").unwrap();
    assert_eq!(landing.commit(vec![ready]).unwrap().failed.len(), 1);
    assert!(landing.make_folder(&entry(1, "file", EntryKind::Folder)).is_err());
    assert_eq!(names(dir.path()), ["file", "folder"]);
    assert!(dir.path().join("to/file").is_file());
}

#[test]
fn a_file_in_the_way_of_a_folder_stays() {
    for (existing, age) in
        [(Existing::Skip, 5), (Existing::Fail, 5), (Existing::KeepNewer, 5), (Existing::KeepNewer, 2_000_000_000)]
    {
        let dir = tempfile::tempdir().unwrap();
        let landing = land(dir.path(), LandingOptions { existing, ..OPTIONS }, None);
        let path = dir.path().join("to/name");
        std::fs::write(&path, b"file").unwrap();
        let modified = std::time::UNIX_EPOCH + std::time::Duration::from_secs(age);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        let folder = entry(0, "name", EntryKind::Folder);
        let decided = landing.decide(&folder);
        let made = landing.make_folder(&folder);
        assert_eq!(std::fs::read(&path).unwrap(), b"file", "{existing:?}");
        match decided {
            Decision::Skip(_) if existing == Existing::Skip => assert!(!made.unwrap()),
            Decision::Fail(error) => assert_eq!(made.unwrap_err().to_string(), error.to_string()),
            other => panic!("{existing:?}: {other:?}"),
        }
    }
}

#[test]
fn a_peer_changes_nothing_outside_through_a_hard_link() {
    for existing in [Existing::Replace, Existing::KeepNewer, Existing::Skip, Existing::Fail] {
        let dir = tempfile::tempdir().unwrap();
        let landing = land(dir.path(), LandingOptions { existing, is_served: true, ..OPTIONS }, None);
        let (outside, inside) = (dir.path().join("secret"), dir.path().join("to/file"));
        std::fs::write(&outside, b"secret").unwrap();
        std::fs::set_permissions(&outside, std::fs::Permissions::from_mode(0o600)).unwrap();
        let entry = file(0, "file", 6);
        let modified = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000, 123_456_789);
        std::fs::File::options().write(true).open(&outside).unwrap().set_modified(modified).unwrap();
        std::fs::hard_link(&outside, &inside).unwrap();
        let decided = landing.decide(&entry);
        match existing {
            Existing::Replace | Existing::KeepNewer => assert!(matches!(decided, Decision::Make), "{decided:?}"),
            Existing::Skip => assert!(matches!(decided, Decision::Skip(_)), "{decided:?}"),
            Existing::Fail => assert!(matches!(decided, Decision::Fail(_)), "{decided:?}"),
        }
        // Nor if it got its second name after it was decided.
        assert!(landing.describe(&entry).unwrap_err().to_string().contains("several names"));
        assert_eq!(outside.metadata().unwrap().mode() & 0o7777, 0o600);
        // As it is to be it stays; one that has no other name is described.
        let same = Entry { attributes: Attributes { mode: 0o600, ..entry.attributes.clone() }, ..entry.clone() };
        assert!(matches!(landing.decide(&same), Decision::Have));
        std::fs::remove_file(&outside).unwrap();
        assert!(matches!(landing.decide(&entry), Decision::Describe));
        landing.describe(&entry).unwrap();
        assert_eq!(inside.metadata().unwrap().mode() & 0o7777, 0o640);
    }
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
    let hard = entry(3, "folder/hard", EntryKind::HardLink { to: 1, path: b"folder/small".to_vec() });
    for _ in 0..2 {
        assert!(landing.make_symlink(&link).unwrap() && landing.make_hard_link(&hard, &small).unwrap());
    }
    landing.finish_folders([folder.clone()].into_iter(), &mut |_, error| panic!("{error}")).unwrap();
    let at = |name: &str| dir.path().join("to/folder").join(name).symlink_metadata().unwrap();
    assert_eq!((at("").mode() & 0o7777, at("").mtime(), at("link").mtime()), (0o555, 1_000_000, 1_000_000));
    assert_eq!((at("hard").ino(), at("small").nlink()), (at("small").ino(), 2));
    assert_eq!(std::fs::read_dir(dir.path().join("to/folder")).unwrap().count(), 3);
    std::fs::set_permissions(dir.path().join("to/folder"), std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// An access list for user 1234 as the kernel stores it: version, then tag, rights and number of each.
fn access_list() -> Vec<u8> {
    let all = u32::MAX;
    let rows: [(u16, u16, u32); 5] = [(1, 6, all), (2, 4, 1234), (4, 4, all), (16, 4, all), (32, 0, all)];
    let row = |(tag, rights, id): (u16, u16, u32)| {
        [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    [2u32.to_le_bytes().to_vec(), rows.into_iter().flat_map(row).collect()].concat()
}

#[test]
fn extended_attributes_and_access_lists_land() {
    let dir = tempfile::tempdir().unwrap();
    let landing = land(dir.path(), LandingOptions { xattrs: true, ..OPTIONS }, None);
    let to = |name: &str| dir.path().join("to").join(name);
    std::fs::write(dir.path().join("probe"), b"").unwrap();
    let can = |key: &str, value: &[u8]| xattr::set(dir.path().join("probe"), key, value).is_ok();
    if !can("user.colour", b"red") || !can("system.posix_acl_access", &access_list()) {
        return eprintln!("skipped: the filesystem of {} has no extended attributes or lists", dir.path().display());
    }
    let xattrs = vec![
        (b"system.posix_acl_access".to_vec(), access_list()),
        (b"trusted.roots".to_vec(), b"own".to_vec()),
        (b"user.colour".to_vec(), b"red".to_vec()),
    ];
    let with = |mut entry: Entry| {
        entry.attributes.xattrs = xattrs.clone();
        entry
    };
    let (small, folder) = (with(file(0, "small", 2)), with(entry(2, "folder", EntryKind::Folder)));
    let incoming = landing.begin(&with(file(1, "large", 3)), 10).unwrap();
    landing.write_at(&incoming, 0, b"abc").unwrap();
    let ready = vec![landing.store_small(&small, b"ok").unwrap(), landing.finish(incoming, FileHash([0; 32])).unwrap()];
    assert_eq!(landing.commit(ready).unwrap().landed, [0, 1]);
    assert!(landing.make_folder(&folder).unwrap());
    landing.finish_folders([folder.clone()].into_iter(), &mut |_, error| panic!("{error}")).unwrap();
    for name in ["small", "large", "folder"] {
        let of = |key: &str| xattr::get(to(name), key).unwrap();
        assert_eq!(of("user.colour").as_deref(), Some(b"red".as_slice()), "{name}");
        assert_eq!(of("system.posix_acl_access"), Some(access_list()), "{name}");
        // That is root's, and not asked for without the owner.
        assert_eq!(of("trusted.roots"), None, "{name}");
        assert_eq!(to(name).metadata().unwrap().mtime(), 1_000_000);
    }
}

#[test]
fn owners_land_with_rights_that_only_they_may_give() {
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("skipped: only root may give files away");
    }
    let dir = tempfile::tempdir().unwrap();
    let landing = land(dir.path(), LandingOptions { owner: true, xattrs: true, ..OPTIONS }, None);
    let is_kept = xattr::set(dir.path(), "trusted.probe", b"").is_ok();
    let owned = |mut entry: Entry| {
        entry.attributes.owner = Some((1234, 2345));
        entry.attributes.mode = 0o4755;
        // A link has no other kind: `user.` is for files and folders.
        entry.attributes.xattrs = if is_kept { vec![(b"trusted.roots".to_vec(), b"own".to_vec())] } else { vec![] };
        entry
    };
    landing.commit(vec![landing.store_small(&owned(file(0, "small", 2)), b"ok").unwrap()]).unwrap();
    let link = owned(entry(1, "link", EntryKind::Symlink { target: b"nowhere".to_vec() }));
    assert!(landing.make_symlink(&link).unwrap());
    for name in ["small", "link"] {
        let path = dir.path().join("to").join(name);
        let meta = path.symlink_metadata().unwrap();
        assert_eq!((meta.uid(), meta.gid(), meta.mtime()), (1234, 2345, 1_000_000), "{name}");
        match is_kept {
            true => assert_eq!(xattr::get(&path, "trusted.roots").unwrap().as_deref(), Some(b"own".as_slice())),
            false => eprintln!("skipped: the filesystem of {} has no trusted attributes", path.display()),
        }
    }
    assert_eq!(dir.path().join("to/small").metadata().unwrap().mode() & 0o7777, 0o4755);
}

#[test]
fn what_fails_is_told_by_its_final_name() {
    let dir = tempfile::tempdir().unwrap();
    let landing = land(dir.path(), OPTIONS, None);
    let said = |error: StoreError| assert!(error.to_string().starts_with("absent/file: "), "{error}");
    said(landing.store_small(&file(0, "absent/file", 1), b"x").unwrap_err());
    said(landing.make_symlink(&entry(0, "absent/file", EntryKind::Symlink { target: b"x".to_vec() })).unwrap_err());
    let begun = landing.begin(&file(0, "absent/file", 1), 10).unwrap_err().to_string();
    assert!(begun.starts_with("absent/file: "), "{begun}");
    std::fs::create_dir(dir.path().join("to/folder")).unwrap();
    let ready = landing.store_small(&file(0, "folder", 1), b"x").unwrap();
    let failed = landing.commit(vec![ready]).unwrap().failed.remove(0).1.to_string();
    assert!(failed.starts_with("folder: "), "{failed}");
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
    landing.commit(vec![landing.finish(incoming, FileHash([0; 32])).unwrap()]).unwrap();
    let path = dir.path().join("to/sparse");
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    let allocated = std::fs::metadata(&path).unwrap().blocks() * 512;
    assert!(allocated < len / 4, "{allocated}");
}

#[test]
fn only_the_named_folders_and_the_root_itself_are_swept() {
    let dir = tempfile::tempdir().unwrap();
    let landing = land(dir.path(), OPTIONS, None);
    let to = |name: &str| dir.path().join("to").join(name);
    std::fs::create_dir_all(to("named/deep")).unwrap();
    std::fs::create_dir_all(to("other")).unwrap();
    let stray = |name: &str| {
        let path = landing.temporary(&RelativePath::parse(name.as_bytes()).unwrap()).unwrap();
        std::fs::write(to(&path.to_string()), b"stray").unwrap();
    };
    ["x", "named/x", "named/deep/x", "other/x"].into_iter().for_each(stray);
    std::fs::write(to("plain"), b"").unwrap();
    let known = landing.begin(&file(1, "named/deep/known", 10), 10).unwrap();
    let top = |name: &str| RelativePath::parse(name.as_bytes()).unwrap();
    // A link to a folder is no folder, and what is beside the named ones is not looked at.
    std::os::unix::fs::symlink("other", to("link")).unwrap();
    assert_eq!(landing.sweep(&["named", "absent", "plain", "link"].map(top)).unwrap(), 3);
    assert_eq!(std::fs::read_dir(to("other")).unwrap().count(), 1);
    assert_eq!(landing.sweep(&[RelativePath::root()]).unwrap(), 1);
    landing.abandon(known).unwrap();
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
