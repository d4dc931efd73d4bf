//! The journal under prefixes, flipped bits, garbage and disks that fail.

use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::*;

const BOOT: [u8; 16] = [7; 16];

/// A disk in memory that fails where it is told to.
#[derive(Clone, Debug, Default)]
struct Lying {
    bytes: Arc<Mutex<Vec<u8>>>,
    /// From this length on there is no room; what fits is written.
    full_at: Option<usize>,
    fails_sync: bool,
}

impl Lying {
    fn of(bytes: &[u8]) -> Lying {
        Lying { bytes: Arc::new(Mutex::new(bytes.to_vec())), ..Lying::default() }
    }

    fn content(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }
}

fn fails(errno: i32) -> StoreError {
    StoreError::system("lying", "fails", std::io::Error::from_raw_os_error(errno))
}

impl Storage for Lying {
    fn name(&self) -> String {
        "lying".into()
    }
    fn len(&self) -> Result<u64, StoreError> {
        Ok(self.content().len() as u64)
    }
    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<(), StoreError> {
        let bytes = self.content();
        into.copy_from_slice(bytes.get(at as usize..at as usize + into.len()).ok_or_else(|| fails(libc::EIO))?);
        Ok(())
    }
    fn write_at(&mut self, at: u64, new: &[u8]) -> Result<(), StoreError> {
        let mut bytes = self.bytes.lock().unwrap();
        let end = (at as usize + new.len()).min(self.full_at.unwrap_or(usize::MAX));
        let fits = end.saturating_sub(at as usize);
        let grown = bytes.len().max(end);
        bytes.resize(grown, 0);
        bytes[at as usize..at as usize + fits].copy_from_slice(&new[..fits]);
        if fits < new.len() { Err(fails(libc::ENOSPC)) } else { Ok(()) }
    }
    fn sync(&mut self) -> Result<(), StoreError> {
        if self.fails_sync { Err(fails(libc::EIO)) } else { Ok(()) }
    }
    fn truncate(&mut self, len: u64) -> Result<(), StoreError> {
        self.bytes.lock().unwrap().truncate(len as usize);
        Ok(())
    }
    fn remove(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

fn identity() -> Identity {
    Identity::new(b"source", b"destination", &[1; 32])
}

fn open(storage: Lying) -> Result<Journal<Lying>, JournalError> {
    Journal::open_or_create(storage, identity(), true, BOOT)
}

fn begun(file: u64, path: &[u8]) -> Record {
    let (path, temporary) = (path.to_vec(), b".temporary".to_vec());
    Record::FileBegun { file, path, len: 1000, modified: (5, 6), temporary, block_bytes: 10 }
}

fn hash() -> impl Strategy<Value = BlockHash> {
    any::<[u8; 32]>().prop_map(BlockHash)
}

fn record() -> impl Strategy<Value = Record> {
    let blocks = proptest::collection::vec((0u64..200, hash()), 0..5);
    prop_oneof![
        3 => (0u64..4, proptest::sample::select(vec!["a", "b", "c/d"])).prop_map(|(n, path)| begun(n, path.as_bytes())),
        5 => (0u64..4, blocks).prop_map(|(file, blocks)| Record::BlocksStored { file, blocks }),
        1 => (0u64..4).prop_map(|file| Record::FileDropped { file }),
        1 => (0u64..4, any::<[u8; 32]>().prop_map(FileHash)).prop_map(|(file, root)| Record::FileDone { file, root }),
        3 => (0u64..4, 0u64..12).prop_map(|(file, before)| Record::Synced { file, before }),
        1 => Just(Record::Finished),
    ]
}

/// The file, where each record ends in it, and what all up to there say.
fn written(records: &[Record]) -> (Vec<u8>, Vec<(usize, State)>) {
    let disk = Lying::default();
    let mut journal = open(disk.clone()).unwrap();
    let mut steps = vec![(journal.end as usize, State::default())];
    for record in records {
        journal.append(std::slice::from_ref(record)).unwrap();
        steps.push((journal.end as usize, journal.state().clone()));
    }
    (disk.content(), steps)
}

proptest! {
    #[test]
    fn a_prefix_of_the_file_gives_a_prefix_of_the_records(
        records in proptest::collection::vec(record(), 0..12), cut in any::<prop::sample::Index>(),
    ) {
        let (bytes, steps) = written(&records);
        let cut = cut.index(bytes.len() + 1);
        let journal = open(Lying::of(&bytes[..cut])).unwrap();
        let whole = steps.iter().rfind(|(end, _)| *end <= cut);
        prop_assert_eq!(journal.state(), &whole.map_or(State::default(), |(_, state)| state.clone()));
        let kept = whole.map_or(0, |(end, _)| *end);
        prop_assert_eq!(journal.opened().cut_bytes, (cut - kept) as u64);
    }

    #[test]
    fn a_flipped_bit_never_gives_what_was_not_written(
        records in proptest::collection::vec(record(), 1..12), bit in any::<prop::sample::Index>(),
    ) {
        let (mut bytes, steps) = written(&records);
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(journal) = open(Lying::of(&bytes)) {
            // All before the record that it hit.
            let whole = steps.iter().rfind(|(end, _)| *end * 8 <= bit);
            prop_assert_eq!(journal.state(), &whole.map_or(State::default(), |(_, state)| state.clone()));
        }
    }

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), behind in any::<bool>()) {
        let (mut whole, _) = written(&[]);
        if !behind { whole.clear(); }
        whole.extend_from_slice(&bytes);
        if let Ok(journal) = open(Lying::of(&whole)) {
            prop_assert_eq!(journal.state(), &State::default());
        }
    }

    #[test]
    fn a_full_disk_leaves_what_was_whole(
        records in proptest::collection::vec(record(), 1..12), room in 0usize..600,
    ) {
        let disk = Lying { full_at: Some(HEADER_BYTES + room), ..Lying::default() };
        let mut journal = open(disk.clone()).unwrap();
        let mut kept = State::default();
        for record in &records {
            match journal.append(std::slice::from_ref(record)) {
                Ok(()) => kept = journal.state().clone(),
                Err(_) => break,
            }
        }
        let again = open(Lying::of(&disk.content())).unwrap();
        prop_assert_eq!(again.state(), &kept);
    }
}

#[test]
fn a_failed_sync_is_final() {
    let mut journal = open(Lying::default()).unwrap();
    journal.storage.fails_sync = true;
    assert!(journal.sync().is_err());
    journal.storage.fails_sync = false;
    assert!(matches!(journal.sync(), Err(JournalError::Broken { .. })));
    assert!(matches!(journal.append(&[Record::Finished]), Err(JournalError::Broken { .. })));
}

#[test]
fn what_is_no_journal_of_this_copy_is_refused_clearly() {
    let (good, _) = written(&[begun(0, b"a")]);
    let mut newer = good.clone();
    newer[8] = 3;
    let said = |bytes: &[u8]| open(Lying::of(bytes)).unwrap_err().to_string();
    assert!(said(&newer).contains("version 3"));
    assert!(said(b"precious text").contains("is no journal"));
    let other = Identity::new(b"sourc", b"edestination", &[1; 32]);
    let refused = Journal::open_or_create(Lying::of(&good), other, true, BOOT);
    assert!(refused.unwrap_err().to_string().contains("another copy"));
    let long = Record::FileBegun {
        file: 0,
        path: vec![b'a'; 5000],
        len: 1,
        modified: (0, 0),
        temporary: vec![],
        block_bytes: 1,
    };
    assert!(matches!(open(Lying::default()).unwrap().append(&[long]), Err(JournalError::Bounds { .. })));
}

#[test]
fn what_was_never_synced_is_not_believed_after_a_restart() {
    let disk = Lying::default();
    let run = |boot| Journal::open_or_create(disk.clone(), identity(), false, boot).unwrap();
    run([1; 16]).append(&[begun(0, b"a")]).unwrap();
    assert!(run([1; 16]).state().partial(b"a").is_some());
    let later = run([2; 16]);
    assert!(later.opened().is_outdated && later.opened().is_resumed && later.state().partial(b"a").is_none());
}

#[test]
fn after_a_restart_only_what_is_covered_counts() {
    let disk = Lying::default();
    let run = |boot| Journal::open_or_create(disk.clone(), identity(), true, [boot; 16]).unwrap();
    let stored = |index: u64| Record::BlocksStored { file: 0, blocks: vec![(index, BlockHash([1; 32]))] };
    let held =
        |journal: &Journal<Lying>| journal.state().partial(b"a").unwrap().blocks.keys().copied().collect::<Vec<_>>();
    let mut first = run(1);
    // The second and third are noted while a sync goes on, which knows of the first only.
    first.append(&[begun(0, b"a"), stored(0), stored(1), stored(2), Record::Synced { file: 0, before: 2 }]).unwrap();
    assert_eq!((held(&run(1)), first.count()), (vec![0, 1, 2], 5));
    let mut second = run(2);
    assert_eq!((held(&second), second.count()), (vec![0], 6));
    // Of the second nothing is left on the disk: a sync in a later boot does not bring it back.
    second.append(&[stored(7), Record::Synced { file: 0, before: 7 }, stored(8)]).unwrap();
    assert_eq!(held(&run(2)), [0, 7, 8]);
    assert_eq!(held(&run(3)), [0, 7]);
    assert_eq!(held(&run(3)), [0, 7]);
}

#[test]
fn a_journal_in_a_file_is_private_locked_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let open = || FileStorage::open(&path).map(|disk| Journal::open_or_create(disk, identity(), true, BOOT).unwrap());
    let journal = open().unwrap();
    assert!(!journal.opened().is_resumed);
    drop(journal);
    // One that was begun counts, even if it says nothing yet.
    let mut journal = open().unwrap();
    assert!(journal.opened().is_resumed);
    journal.append(&[begun(0, b"a"), Record::BlocksStored { file: 0, blocks: vec![(3, BlockHash([9; 32]))] }]).unwrap();
    journal.sync().unwrap();
    assert!(open().unwrap_err().to_string().contains("running already"));
    drop(journal);
    let mut journal = open().unwrap();
    assert!(journal.opened().is_resumed && journal.state().next_file() == 1);
    assert_eq!(journal.state().partial(b"a").unwrap().blocks.get(&3), Some(&BlockHash([9; 32])));
    journal.remove().unwrap();
    assert!(!path.exists());
    std::os::unix::fs::symlink("elsewhere", &path).unwrap();
    assert!(FileStorage::open(&path).is_err());
}

#[test]
fn two_runs_of_a_machine_that_does_not_name_them_are_two() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("boot_id");
    assert_ne!(boot_id_in(&file).unwrap(), boot_id_in(&file).unwrap());
    std::fs::write(&file, "\n").unwrap();
    assert_ne!(boot_id_in(&file).unwrap(), boot_id_in(&file).unwrap());
    std::fs::write(&file, "5a1f3c6e\n").unwrap();
    assert_eq!(boot_id_in(&file).unwrap(), boot_id_in(&file).unwrap());
}
