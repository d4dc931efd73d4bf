//! A sink whose sender is this test, which says and sends what no honest one would.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token, Waker};

use super::bell::Bell;
use super::destination::Destination;
use super::landing_options;
use super::sink::{KEYS_MAX, Sink, SinkSetup};
use crate::engine::buffers::Buffers;
use crate::engine::copy_receive::Arrived;
use crate::proto::copy::blocks::Cut;
use crate::proto::copy::options::{CopyOptions, Durability, Purpose};
use crate::proto::copy::{CopyMessage, Digest, Ending, Settlement};
use crate::proto::manifest::{Attributes, Entry, EntryId, EntryKind};
use crate::proto::verify::{BlockHash, hash_block};
use crate::proto::wire::{Frame, FrameKind, Length};
use crate::store::journal::{FileStorage, Identity, Journal, boot_id};
use crate::store::landing::{Landing, Operation, Witness};

const PIECE: u64 = 256 << 10;
/// Two blocks, the second a short one.
const LEN: u64 = (1 << 20) + 100;
/// Whoever waits longer waits for nothing.
const PATIENCE: Duration = Duration::from_secs(60);

struct Receiving {
    dir: tempfile::TempDir,
    sink: Sink,
    poll: Poll,
    buffers: Buffers,
    settled: BTreeMap<EntryId, Settlement>,
}

impl Receiving {
    fn new(dir: tempfile::TempDir, options: &CopyOptions) -> Receiving {
        Receiving::witnessed(dir, options, None)
    }

    fn witnessed(dir: tempfile::TempDir, options: &CopyOptions, witness: Option<Arc<dyn Witness>>) -> Receiving {
        let poll = Poll::new().unwrap();
        let bell = Bell::new(Arc::new(Waker::new(poll.registry(), Token(0)).unwrap()));
        let destination = Destination::own(&dir.path().join("to"), &[None], Purpose::Copy).unwrap();
        let setup = SinkSetup {
            landing: landing(dir.path(), &destination, options, witness),
            destination,
            options: options.clone(),
            storers: 2,
            buffers: Buffers::new(PIECE as usize, 64),
            bell,
            observer: None,
            handover: None,
        };
        let (sink, buffers) = (Sink::start(setup).unwrap(), Buffers::new(PIECE as usize, 64));
        Receiving { dir, sink, poll, buffers, settled: BTreeMap::new() }
    }

    fn say(&self, message: CopyMessage) {
        self.sink.handle_message(message).unwrap();
    }

    fn send(&self, kind: FrameKind, file: EntryId, offset: u64, bytes: &[u8]) {
        let mut payload = self.buffers.take().unwrap();
        payload.room()[..bytes.len()].copy_from_slice(bytes);
        payload.fill(bytes.len());
        let frame = Frame { file, offset, length: Length::Bytes(bytes.len() as u64), kind };
        assert!(self.sink.inbox().deliver(Arrived { frame, payload, near: None }));
    }

    /// Send a whole file, with what its blocks hash to.
    fn send_whole(&self, file: EntryId, bytes: &[u8]) {
        self.say(CopyMessage::Digests(digests(file, bytes)));
        let pieces = (0..).step_by(PIECE as usize).zip(bytes.chunks(PIECE as usize));
        pieces.for_each(|(offset, piece)| self.send(FrameKind::Data, file, offset, piece));
    }

    /// Hear until this is said.
    fn hear(&mut self, is_it: impl Fn(&CopyMessage) -> bool) {
        let (mut events, since) = (Events::with_capacity(1), Instant::now());
        loop {
            while let Some(message) = self.sink.poll_message() {
                if let CopyMessage::Settled(settled) = &message {
                    self.settled.extend(settled.iter().cloned());
                }
                if is_it(&message) {
                    return;
                }
            }
            assert_eq!(self.sink.error(), None);
            assert!(since.elapsed() < PATIENCE, "it is never said: {:?}", self.settled);
            self.poll.poll(&mut events, Some(Duration::from_millis(5))).unwrap();
        }
    }

    fn hear_wants(&mut self, id: EntryId) {
        self.hear(|message| matches!(message, CopyMessage::Wants(wants) if wants.iter().any(|want| want.id == id)));
    }

    fn hear_end(&mut self, entries: u64) {
        self.say(CopyMessage::ScanEnd { entries, is_whole: true });
        self.hear(|message| matches!(message, CopyMessage::End(_)));
    }
}

fn landing(dir: &Path, destination: &Destination, options: &CopyOptions, witness: Option<Arc<dyn Witness>>) -> Landing {
    let storage = FileStorage::open(&dir.join("journal")).unwrap();
    let journal =
        Journal::open_or_create(storage, Identity::new(b"", b"", &[0; 32]), false, boot_id().unwrap()).unwrap();
    let options = landing_options(options, destination);
    Landing::open_witnessed(destination.root.clone(), journal, options, witness).unwrap()
}

fn options() -> CopyOptions {
    CopyOptions { piece_bytes: PIECE, durability: Durability::None, ..CopyOptions::default() }
}

fn entry(id: EntryId, path: &str, kind: EntryKind) -> Entry {
    let attributes = Attributes { mode: 0o640, modified_s: 1, ..Attributes::default() };
    Entry { id, path: path.into(), kind, attributes }
}

fn file(len: u64) -> EntryKind {
    EntryKind::File { len, is_sparse: false }
}

fn block_hashes(bytes: &[u8]) -> Vec<BlockHash> {
    let cut = Cut { piece_bytes: PIECE };
    let layout = cut.layout(bytes.len() as u64).unwrap();
    let hash = |(block, bytes): (u32, &[u8])| hash_block(&layout, block, bytes).unwrap();
    (0..).zip(bytes.chunks(cut.block_bytes(bytes.len() as u64) as usize)).map(hash).collect()
}

fn digests(id: EntryId, bytes: &[u8]) -> Vec<Digest> {
    (0..).zip(block_hashes(bytes)).map(|(block, hash)| Digest { id, block, hash }).collect()
}

#[test]
fn a_folder_that_is_announced_again_and_again_takes_no_room() {
    for xattrs in [false, true] {
        let mut receiving = Receiving::new(tempfile::tempdir().unwrap(), &CopyOptions { xattrs, ..options() });
        for id in 0..500 {
            let mut folder = entry(id, "folder", EntryKind::Folder);
            // What it cannot have; what it can is set at once.
            let key = ["trusted.x", "user.x"][id as usize % 2];
            folder.attributes.xattrs = vec![(key.into(), vec![1; 100_000]), (b"user.y".to_vec(), vec![2])];
            receiving.say(CopyMessage::Entries(vec![folder]));
            receiving.hear(|message| matches!(message, CopyMessage::Settled(_)));
        }
        let bytes = receiving.sink.folders_bytes();
        assert!(bytes > 0 && bytes < 1000, "{bytes}");
        receiving.hear_end(500);
        let meta = std::fs::metadata(receiving.dir.path().join("to/folder")).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::mtime(&meta), 1);
    }
}

#[test]
fn a_stray_piece_of_a_file_that_is_compared_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let same = vec![7; LEN as usize];
    std::fs::create_dir(dir.path().join("to")).unwrap();
    std::fs::write(dir.path().join("to/same"), &same).unwrap();
    let mut receiving = Receiving::new(dir, &CopyOptions { checksum: true, ..options() });
    receiving.say(CopyMessage::Entries(vec![entry(0, "same", file(LEN)), entry(1, "other", file(LEN))]));
    receiving.hear(|message| matches!(message, CopyMessage::Ask(_)));
    receiving.send(FrameKind::Data, 0, 0, &[8; PIECE as usize]);
    receiving.send(FrameKind::Hole, 0, 1 << 20, &[0; 8]);
    receiving.hear_wants(1);
    // When this has landed the strays were looked at.
    receiving.send_whole(1, &same);
    receiving.hear(|message| matches!(message, CopyMessage::Settled(_)));
    receiving.say(CopyMessage::Digests(digests(0, &same)));
    receiving.hear_end(2);
    assert_eq!(receiving.settled[&0], Settlement::Had);
    let meta = std::fs::metadata(receiving.dir.path().join("to/same")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::mtime(&meta), 1, "it gets its attributes");
    assert_eq!(std::fs::read(receiving.dir.path().join("to/same")).unwrap(), same);
}

#[test]
fn a_stray_piece_of_a_file_that_an_earlier_run_stored_does_not_lose_it() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = vec![7; LEN as usize];
    let whole = entry(1, "whole", file(LEN));
    {
        let destination = Destination::own(&dir.path().join("to"), &[None], Purpose::Copy).unwrap();
        let landing = landing(dir.path(), &destination, &options(), None);
        let incoming = landing.begin(&whole, Cut { piece_bytes: PIECE }.block_bytes(LEN)).unwrap();
        landing.write_at(&incoming, 0, &bytes).unwrap();
        let blocks: Vec<_> = (0..).zip(block_hashes(&bytes)).collect();
        landing.note(&[(&incoming, &blocks)]).unwrap();
    }
    let mut receiving = Receiving::new(dir, &options());
    // As long as this one is wanted the other waits for its name.
    receiving.say(CopyMessage::Entries(vec![entry(0, "other", file(LEN))]));
    receiving.hear_wants(0);
    receiving.say(CopyMessage::Entries(vec![whole]));
    receiving.send(FrameKind::Data, 1, 0, &[8; PIECE as usize]);
    receiving.send(FrameKind::Hole, 1, 1 << 20, &[0; 8]);
    receiving.send_whole(0, &bytes);
    receiving.hear_end(2);
    assert!(receiving.settled.values().all(|one| matches!(one, Settlement::Done(Some(_)))), "{:?}", receiving.settled);
    assert_eq!(receiving.sink.resumed().0, LEN);
    assert_eq!(std::fs::read(receiving.dir.path().join("to/whole")).unwrap(), bytes);
}

/// A disk that cannot be synced.
#[derive(Debug)]
struct Unsyncable;

impl Witness for Unsyncable {
    fn before(&self, operation: &Operation<'_>) -> std::io::Result<()> {
        match operation {
            Operation::SyncAll => Err(std::io::Error::from_raw_os_error(libc::EIO)),
            _ => Ok(()),
        }
    }
}

#[test]
fn what_cannot_be_read_back_leaves_no_temporary() {
    let options = CopyOptions { reread: true, durability: Durability::File, ..options() };
    let dir = tempfile::tempdir().unwrap();
    let mut receiving = Receiving::witnessed(dir, &options, Some(Arc::new(Unsyncable)));
    receiving.say(CopyMessage::Entries(vec![entry(0, "empty", file(0)), entry(1, "large", file(LEN))]));
    receiving.hear_wants(1);
    receiving.send_whole(1, &[7; LEN as usize]);
    receiving.hear_end(2);
    assert!(receiving.settled.values().all(|one| matches!(one, Settlement::Failed(_))), "{:?}", receiving.settled);
    assert_eq!(std::fs::read_dir(receiving.dir.path().join("to")).unwrap().count(), 0);
}

#[test]
fn nothing_is_removed_if_an_entry_failed_of_which_nothing_was_said_yet() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("to/in-the-way")).unwrap();
    std::fs::write(dir.path().join("to/gone"), b"1").unwrap();
    let mut receiving = Receiving::new(dir, &CopyOptions { delete: true, ..options() });
    let root = entry(0, "", EntryKind::Folder);
    receiving.say(CopyMessage::Entries(vec![root, entry(1, "in-the-way", file(LEN))]));
    receiving.say(CopyMessage::ScanEnd { entries: 2, is_whole: true });
    let since = Instant::now();
    while receiving.sink.ending() == Ending::default() {
        assert!(since.elapsed() < PATIENCE, "it does not come to its end");
        std::thread::yield_now();
    }
    let ending = receiving.sink.ending();
    assert!(ending.deleted == 0 && ending.failed[0].1.contains("nothing was removed"), "{ending:?}");
    receiving.hear(|message| matches!(message, CopyMessage::End(_)));
    assert!(receiving.dir.path().join("to/gone").exists());
}

#[test]
fn a_further_name_of_a_file_that_fails_does_so_too() {
    for fails_at_once in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("to")).unwrap();
        match fails_at_once {
            true => std::fs::create_dir(dir.path().join("to/first")).unwrap(),
            false => std::fs::write(dir.path().join("to/first"), b"what was there").unwrap(),
        }
        let mut receiving = Receiving::new(dir, &CopyOptions { hard_links: true, ..options() });
        let link = |to, first: &str| EntryKind::HardLink { to, path: first.into() };
        let entries = vec![entry(0, "first", file(LEN)), entry(1, "second", link(0, "first"))];
        receiving.say(CopyMessage::Entries(entries));
        if !fails_at_once {
            receiving.hear_wants(0);
            receiving.say(CopyMessage::Unreadable(vec![(0, "is gone".to_string())]));
        }
        // One that names itself has nothing to wait for.
        receiving.say(CopyMessage::Entries(vec![entry(2, "third", link(2, "third"))]));
        receiving.hear_end(3);
        let failed = |id| matches!(receiving.settled.get(&id), Some(Settlement::Failed(_)));
        assert!((0..3).all(failed), "{:?}", receiving.settled);
        let why = format!("{:?}", receiving.settled[&1]);
        assert!(why.contains("another name of first, which could not be copied"), "{why}");
        assert!(!receiving.dir.path().join("to/second").exists());
    }
}

#[test]
fn with_more_paths_than_can_be_remembered_nothing_is_removed() {
    for (count, deleted) in [(KEYS_MAX as u64, 1), (KEYS_MAX as u64 + 1, 0)] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("to")).unwrap();
        std::fs::write(dir.path().join("to/gone"), b"1").unwrap();
        let rehearsal = CopyOptions { delete: true, purpose: Purpose::DryRun, ..options() };
        let mut receiving = Receiving::new(dir, &rehearsal);
        // The first is the folder itself.
        let path = |id: EntryId| if id == 0 { String::new() } else { id.to_string() };
        let entries: Vec<_> = (0..count).map(|id| entry(id, &path(id), EntryKind::Folder)).collect();
        entries.chunks(1000).for_each(|some| receiving.say(CopyMessage::Entries(some.to_vec())));
        receiving.hear_end(count);
        let ending = receiving.sink.ending();
        let is_said = ending.failed.iter().any(|(_, why)| why.contains("more paths than a copy can remember"));
        assert_eq!((ending.deleted, is_said), (deleted, deleted == 0), "{ending:?}");
    }
}

#[test]
fn holes_of_a_file_longer_than_anybody_has_are_not_hashed() {
    let mut receiving = Receiving::new(tempfile::tempdir().unwrap(), &options());
    let giant = |len| EntryKind::File { len, is_sparse: true };
    receiving.say(CopyMessage::Entries(vec![entry(0, "giant", giant(1 << 53)), entry(1, "other", file(LEN))]));
    receiving.hear_wants(1);
    receiving.send(FrameKind::Hole, 0, 0, &[0; 8]);
    receiving.hear(|message| matches!(message, CopyMessage::Settled(_)));
    let settled = receiving.settled[&0].clone();
    assert!(matches!(&settled, Settlement::Failed(why) if why.contains("too long")), "{settled:?}");
    receiving.send_whole(1, &[7; LEN as usize]);
    receiving.hear_end(2);
    assert!(matches!(receiving.settled[&1], Settlement::Done(_)));
}
