//! Both ends of a copy, with a store and streams between them that do everything in any order, and some of it wrongly.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::blocks::Cut;
use super::options::PIECE_BYTES_DEFAULT;
use super::receiver::{Action, Decision, Receiver};
use super::sender::{Sender, Work};
use super::*;
use crate::proto::manifest::{Attributes, EntryKind};
use crate::proto::verify::BLOCK_BYTES_DEFAULT;

const CUT: Cut = Cut { piece_bytes: PIECE_BYTES_DEFAULT };

fn entry(kind: EntryKind) -> Entry {
    Entry { id: 0, path: b"x".to_vec(), kind, attributes: Attributes::default() }
}

fn file(blocks: u64) -> Entry {
    entry(EntryKind::File { len: blocks * BLOCK_BYTES_DEFAULT, is_sparse: false })
}

fn hash(id: EntryId, block: u32) -> BlockHash {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&id.to_le_bytes());
    hash[8..12].copy_from_slice(&block.to_le_bytes());
    BlockHash(hash)
}

/// What the destination does with an entry.
#[derive(Clone, Debug)]
enum Fate {
    Make,
    Have,
    Skip,
    CannotDecide,
    /// So many blocks from the front are there from an earlier run.
    Resume(u32),
    CannotStore,
    CannotCommit,
    SourceFails,
    /// Every try of the first block is damaged.
    AlwaysDamaged,
    /// A file of the same length is there; so many of its blocks from the front are the same.
    Compare(u32),
}

struct Pair {
    sender: Sender,
    receiver: Receiver,
    fates: Vec<Fate>,
    streams: Vec<Work>,
    committing: Vec<EntryId>,
    /// Blocks that are stored right, by file.
    right: HashMap<EntryId, HashSet<u32>>,
    committed: HashSet<EntryId>,
    abandoned: HashSet<EntryId>,
    refreshed: HashSet<EntryId>,
    damage_left: u32,
    random: u64,
}

impl Pair {
    fn new(fates: Vec<Fate>, damage: u32, random: u64) -> Pair {
        Pair {
            sender: Sender::new(CUT, true),
            receiver: Receiver::new(CUT, true),
            fates,
            streams: Vec::new(),
            committing: Vec::new(),
            right: HashMap::new(),
            committed: HashSet::new(),
            abandoned: HashSet::new(),
            refreshed: HashSet::new(),
            damage_left: damage,
            random: random | 1,
        }
    }

    /// A number below `n`, always the same for the same seed (xorshift).
    fn pick(&mut self, n: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % n as u64) as usize
    }

    /// Do one thing that can be done; `false` when there is nothing.
    fn step(&mut self) -> bool {
        let first = self.pick(5);
        (0..5).any(|n| match (first + n) % 5 {
            0 => self.sender.poll_message().map(|message| self.receiver.handle_message(message).unwrap()).is_some(),
            1 => self.receiver.poll_message().map(|message| self.sender.handle_message(message).unwrap()).is_some(),
            2 => self.receiver.poll_action().map(|action| self.act(action)).is_some(),
            3 => self.read(),
            _ => self.store() || self.commit(),
        })
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Decide(entry) => {
                let decision = self.decide(&entry);
                self.receiver.handle_decision(entry.id, decision);
            }
            Action::Commit(id, _) => self.committing.push(id),
            Action::Refresh(id, _) => {
                self.refreshed.insert(id);
                self.committing.push(id);
            }
            Action::Finish { is_whole } => {
                assert!(is_whole && self.committing.is_empty());
                self.receiver.handle_finished(Ending::default());
            }
            Action::Closed(_) => unreachable!("nobody waits for it"),
            Action::Abandon(id) => assert!(self.abandoned.insert(id) && !self.committed.contains(&id)),
        }
    }

    fn decide(&mut self, entry: &Entry) -> Decision {
        let EntryKind::File { len, .. } = entry.kind else { return Decision::Commit };
        match self.fates[entry.id as usize] {
            Fate::Have => Decision::Have,
            Fate::Skip => Decision::Skip("not wanted".into()),
            Fate::CannotDecide => Decision::Fail("no folder".into()),
            Fate::Resume(blocks) => {
                let stored: Vec<_> = (0..blocks.min(CUT.block_count(len))).map(|n| (n, hash(entry.id, n))).collect();
                self.right.entry(entry.id).or_default().extend(stored.iter().map(|(n, _)| *n));
                Decision::Fill { stored }
            }
            Fate::Compare(same) => {
                let ours = |n| if n < same { hash(entry.id, n) } else { BlockHash([9; 32]) };
                Decision::Compare { ours: (0..CUT.block_count(len)).map(ours).collect() }
            }
            _ => Decision::Fill { stored: Vec::new() },
        }
    }

    fn read(&mut self) -> bool {
        let Some(work) = self.sender.poll_work() else { return false };
        if let Fate::SourceFails = self.fates[work.id as usize] {
            self.sender.handle_unreadable(work.id, "it shrank".into());
        } else {
            self.sender.handle_read(work.id, work.block, hash(work.id, work.block));
            if work.is_sent {
                self.streams.push(work);
            }
        }
        true
    }

    fn store(&mut self) -> bool {
        if self.streams.is_empty() {
            return false;
        }
        let at = self.pick(self.streams.len());
        let Work { id, block, .. } = self.streams.swap_remove(at);
        if !self.receiver.is_wanted(id, block) {
            return true;
        }
        let always = matches!(self.fates[id as usize], Fate::AlwaysDamaged) && block == 0;
        if let Fate::CannotStore = self.fates[id as usize] {
            self.receiver.handle_failed(id, "no space".into());
        } else if always || (self.damage_left > 0 && self.pick(3) == 0) {
            self.damage_left = self.damage_left.saturating_sub(u32::from(!always));
            match self.pick(2) {
                0 => self.receiver.handle_damaged(id, block),
                _ => self.receiver.handle_stored(id, block, BlockHash([0xff; 32])).unwrap(),
            }
        } else {
            self.right.entry(id).or_default().insert(block);
            self.receiver.handle_stored(id, block, hash(id, block)).unwrap();
        }
        true
    }

    fn commit(&mut self) -> bool {
        let Some(id) = self.committing.pop() else { return false };
        if let Fate::CannotCommit = self.fates[id as usize] {
            self.receiver.handle_failed(id, "no rename".into());
        } else {
            self.committed.insert(id);
            self.receiver.handle_committed(id);
        }
        true
    }
}

fn fates() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => Just(Fate::Make),
        1 => Just(Fate::Have),
        1 => Just(Fate::Skip),
        1 => Just(Fate::CannotDecide),
        2 => (0u32..6).prop_map(Fate::Resume),
        1 => Just(Fate::CannotStore),
        1 => Just(Fate::CannotCommit),
        1 => Just(Fate::SourceFails),
        1 => Just(Fate::AlwaysDamaged),
        2 => (0u32..6).prop_map(Fate::Compare),
    ]
}

proptest! {
    /// In whatever order things happen: it ends, every entry is settled once and rightly, and nothing is committed of
    /// which a block was not verified.
    #[test]
    fn every_entry_is_settled_and_only_what_is_whole_is_committed(
        files in proptest::collection::vec((0u64..6, fates()), 0..30), damage in 0u32..20, random: u64,
    ) {
        let (sizes, fates): (Vec<u64>, Vec<Fate>) = files.into_iter().unzip();
        let mut pair = Pair::new(fates, damage, random);
        for size in &sizes {
            // An empty one stands for what has no content.
            let entry = if *size == 5 { entry(EntryKind::Folder) } else { file(*size) };
            pair.sender.handle_entry(entry);
            pair.step();
        }
        pair.sender.handle_scan_end(true);
        let mut steps = 0;
        while pair.step() {
            steps += 1;
            prop_assert!(steps < 100_000, "it does not come to an end");
        }
        prop_assert!(pair.sender.ending().is_some() && pair.receiver.has_ended());
        prop_assert_eq!(pair.receiver.wanted(), 0);
        let settled: HashMap<_, _> = std::iter::from_fn(|| pair.sender.poll_settled()).collect();
        prop_assert_eq!(settled.len(), sizes.len());
        for (id, settlement) in &settled {
            let size = sizes[*id as usize];
            let blocks = if size == 5 { 0 } else { size as usize };
            let right = pair.right.get(id).map_or(0, HashSet::len);
            match settlement {
                Settlement::Had if pair.refreshed.contains(id) => {
                    let same = matches!(pair.fates[*id as usize], Fate::Compare(same) if same as usize >= blocks);
                    prop_assert!(same);
                }
                Settlement::Done(_) => prop_assert!(pair.committed.contains(id) && right == blocks, "{id}: {right} of {blocks}"),
                _ => prop_assert!(!pair.committed.contains(id)),
            }
        }
    }

    /// A peer that says anything in any order: an error or not, but no panic and no endless memory.
    #[test]
    fn a_lying_peer_is_an_error_and_no_panic(lies in proptest::collection::vec((0u8..8, 0u64..4, 0u32..9, any::<u8>()), 0..40)) {
        let (mut sender, mut receiver) = (Sender::new(CUT, true), Receiver::new(CUT, true));
        for size in 0..3 {
            sender.handle_entry(file(size));
        }
        for (what, id, block, byte) in lies {
            let message = match what {
                0 => CopyMessage::Entries(vec![Entry { id, ..file(u64::from(block)) }]),
                1 => CopyMessage::Digests(vec![Digest { id, block, hash: BlockHash([byte; 32]) }]),
                2 => CopyMessage::Unreadable(vec![(id, "x".repeat(5000))]),
                3 => CopyMessage::ScanEnd { entries: id, is_whole: true },
                4 => CopyMessage::Wants(vec![Want { id, first: block, count: u32::from(byte) }]),
                5 => CopyMessage::Settled(vec![(id, Settlement::Done(None))]),
                6 => CopyMessage::Ask(vec![Want { id, first: block, count: u32::from(byte) }]),
                _ => CopyMessage::End(Ending::default()),
            };
            let _ = sender.handle_message(message.clone());
            let _ = receiver.handle_message(message);
            while let Some(Action::Decide(entry)) = receiver.poll_action() {
                receiver.handle_decision(entry.id, Decision::Fill { stored: Vec::new() });
            }
            let _ = receiver.handle_stored(id, block, BlockHash([byte; 32]));
            while receiver.poll_message().is_some() {}
            prop_assert!(sender.poll_work().is_none_or(|work| work.len > 0));
        }
    }
}

#[test]
fn entries_of_any_length_fit_a_message() {
    let mut sender = Sender::new(CUT, true);
    let long = |n: usize| {
        let xattrs = vec![(vec![b'n'; 200], vec![b'v'; (n * 977) % 60_000]); n % 3];
        let kind = EntryKind::Symlink { target: vec![b't'; (n * 31) % 4096] };
        Entry { path: vec![b'p'; 4096], attributes: Attributes { xattrs, ..Attributes::default() }, ..entry(kind) }
    };
    let mut offered = 0;
    while sender.wants_entries() {
        sender.handle_entry(long(offered));
        offered += 1;
    }
    let mut said = 0;
    while let Some(message) = sender.poll_message() {
        let encoded = postcard::to_stdvec(&message).unwrap().len();
        assert!(encoded <= crate::proto::session::MESSAGE_BYTES_MAX / 2, "{encoded}");
        if let CopyMessage::Entries(entries) = message {
            said += entries.len();
        }
    }
    assert_eq!(said, offered);
}

#[test]
fn a_block_that_stays_damaged_fails_its_file_and_no_other() {
    let mut pair = Pair::new(vec![Fate::AlwaysDamaged, Fate::Make], 0, 7);
    pair.sender.handle_entry(file(2));
    pair.sender.handle_entry(file(2));
    pair.sender.handle_scan_end(true);
    while pair.step() {}
    let settled: HashMap<_, _> = std::iter::from_fn(|| pair.sender.poll_settled()).collect();
    assert!(matches!(&settled[&0], Settlement::Failed(why) if why.contains("block 0 arrived damaged")));
    assert!(matches!(settled[&1], Settlement::Done(Some(_))));
}

#[test]
fn what_was_stored_before_is_not_wanted_again() {
    let mut pair = Pair::new(vec![Fate::Resume(4)], 0, 3);
    pair.sender.handle_entry(file(5));
    pair.sender.handle_scan_end(true);
    let mut read = Vec::new();
    while pair.step() {
        read.extend(pair.streams.iter().map(|work| work.block));
    }
    read.dedup();
    assert_eq!(read, [4]);
    assert!(matches!(pair.sender.poll_settled(), Some((0, Settlement::Done(Some(_))))));
}

#[test]
fn wants_beyond_the_bounds_end_the_copy() {
    let mut sender = Sender::new(CUT, true);
    sender.handle_entry(file(3));
    let want = |id, first, count| CopyMessage::Wants(vec![Want { id, first, count }]);
    assert_eq!(sender.handle_message(want(9, 0, 1)), Err(CopyError::UnknownEntry(9)));
    for (first, count) in [(0, 0), (3, 1), (0, 4), (u32::MAX, 2), (2, u32::MAX)] {
        assert_eq!(sender.handle_message(want(0, first, count)), Err(CopyError::UnknownBlock { id: 0, block: first }));
    }
    for _ in 0..=TRIES_MAX {
        sender.handle_message(want(0, 1, 1)).unwrap();
    }
    assert_eq!(sender.handle_message(want(0, 1, 1)), Err(CopyError::Insatiable { id: 0, block: 1 }));
}

#[test]
fn who_proves_nothing_is_asked_for_no_more_than_can_be_remembered() {
    let (files, blocks) = (4, u64::from(crate::proto::verify::BLOCKS_MAX));
    let mut receiver = Receiver::new(CUT, true);
    let entries = (0..files).map(|id| Entry { id, ..file(blocks) }).collect();
    receiver.handle_message(CopyMessage::Entries(entries)).unwrap();
    while let Some(Action::Decide(entry)) = receiver.poll_action() {
        receiver.handle_decision(entry.id, Decision::Fill { stored: Vec::new() });
    }
    let (mut stored, mut proven) = (Vec::new(), 0);
    loop {
        let before = stored.len();
        while let Some(CopyMessage::Wants(wants)) = receiver.poll_message() {
            for Want { id, first, count } in wants {
                for block in first..first + count {
                    receiver.handle_stored(id, block, hash(id, block)).unwrap();
                    stored.push((id, block));
                }
            }
        }
        let unproven = stored.len() - proven;
        assert!(unproven <= UNPROVEN_MAX + WANTED_MAX, "{unproven}");
        if stored.len() == before {
            break;
        }
        assert!(!receiver.has_message(), "nobody is woken for nothing");
        // Digests that trail, in any number of messages.
        for (id, block) in &stored[proven..] {
            let digest = Digest { id: *id, block: *block, hash: hash(*id, *block) };
            receiver.handle_message(CopyMessage::Digests(vec![digest])).unwrap();
        }
        proven = stored.len();
    }
    assert_eq!(stored.len() as u64, files * blocks, "who proves is asked for all");
    assert_eq!(receiver.wanted(), 0);
}

#[test]
fn the_blocks_of_a_file_that_is_given_up_make_room_for_others() {
    let (mut sender, mut receiver) = (Sender::new(CUT, true), Receiver::new(CUT, true));
    for _ in 0..4 {
        sender.handle_entry(file(u64::from(crate::proto::verify::BLOCKS_MAX)));
    }
    receiver.handle_message(sender.poll_message().unwrap()).unwrap();
    while let Some(Action::Decide(entry)) = receiver.poll_action() {
        receiver.handle_decision(entry.id, Decision::Fill { stored: Vec::new() });
    }
    for id in 0..4 {
        while let Some(message) = receiver.poll_message() {
            sender.handle_message(message).unwrap();
        }
        assert_eq!(receiver.wanted(), WANTED_MAX.min((4 - id) * crate::proto::verify::BLOCKS_MAX as usize));
        assert_eq!(sender.poll_work().unwrap().id, id as EntryId);
        receiver.handle_failed(id as EntryId, "no space".into());
    }
}

#[test]
fn a_file_that_somebody_writes_meanwhile_fails_alone() {
    let mut receiver = Receiver::new(CUT, true);
    receiver.handle_message(CopyMessage::Entries(vec![file(2), Entry { id: 1, ..file(1) }])).unwrap();
    while let Some(Action::Decide(entry)) = receiver.poll_action() {
        receiver.handle_decision(entry.id, Decision::Fill { stored: Vec::new() });
    }
    while receiver.poll_message().is_some() {}
    let digest = |id, of| CopyMessage::Digests(vec![Digest { id, block: 0, hash: hash(7, of) }]);
    receiver.handle_message(digest(0, 1)).unwrap();
    receiver.handle_stored(0, 0, hash(7, 2)).unwrap();
    receiver.handle_message(digest(0, 3)).unwrap();
    let Some(CopyMessage::Settled(settled)) = receiver.poll_message() else { panic!("it is given up") };
    assert!(matches!(&settled[..], [(0, Settlement::Failed(why))] if why.contains("was changed")), "{settled:?}");
    // What was sent once has one digest.
    receiver.handle_message(digest(1, 1)).unwrap();
    assert_eq!(receiver.handle_message(digest(1, 2)), Err(CopyError::TwoDigests { id: 1, block: 0 }));
}

#[test]
fn a_file_that_is_written_after_it_was_compared_comes_as_it_is_then() {
    let mut receiver = Receiver::new(CUT, true);
    receiver.handle_message(CopyMessage::Entries(vec![file(1)])).unwrap();
    assert!(matches!(receiver.poll_action(), Some(Action::Decide(_))));
    receiver.handle_decision(0, Decision::Compare { ours: vec![hash(7, 0)] });
    assert!(matches!(receiver.poll_message(), Some(CopyMessage::Ask(_))));
    let digest = |of| CopyMessage::Digests(vec![Digest { id: 0, block: 0, hash: hash(7, of) }]);
    receiver.handle_message(digest(1)).unwrap();
    assert!(matches!(receiver.poll_message(), Some(CopyMessage::Wants(_))));
    receiver.handle_message(digest(2)).unwrap();
    receiver.handle_stored(0, 0, hash(7, 2)).unwrap();
    assert!(matches!(receiver.poll_action(), Some(Action::Commit(0, _))));
}

/// How long a message is, which has to be well below the longest.
#[track_caller]
fn fits(message: &CopyMessage) {
    let encoded = postcard::to_stdvec(message).unwrap().len();
    assert!(encoded <= crate::proto::session::MESSAGE_BYTES_MAX * 3 / 4, "{encoded}");
}

#[test]
fn reasons_of_any_length_fit_a_message() {
    let (mut sender, mut receiver) = (Sender::new(CUT, true), Receiver::new(CUT, true));
    let count = ITEMS_MAX as u64;
    (0..count).for_each(|_| _ = sender.handle_entry(file(1)));
    while let Some(message) = sender.poll_message() {
        receiver.handle_message(message).unwrap();
    }
    (0..count).for_each(|id| sender.handle_unreadable(id, "x".repeat(5000)));
    let mut settled = 0;
    while let Some(message) = sender.poll_message() {
        fits(&message);
        receiver.handle_message(message).unwrap();
    }
    while let Some(message) = receiver.poll_message() {
        fits(&message);
        let CopyMessage::Settled(some) = message else { panic!("{message:?}") };
        settled += some.len() as u64;
    }
    assert_eq!(settled, count);
}

#[test]
fn an_ending_with_paths_of_any_length_fits_a_message() {
    let mut receiver = Receiver::new(CUT, true);
    receiver.handle_message(CopyMessage::ScanEnd { entries: 0, is_whole: true }).unwrap();
    let failed = vec![(vec![b'p'; 4096], "x".repeat(5000)); ITEMS_MAX];
    receiver.handle_finished(Ending { failed, failed_count: 9999, deleted: 7 });
    let message = receiver.poll_message().unwrap();
    fits(&message);
    let CopyMessage::End(ending) = message else { panic!("{message:?}") };
    assert_eq!((ending.failed_count, ending.deleted), (9999, 7));
    assert!(ending.failed.len() > 10, "{}", ending.failed.len());
}

#[test]
fn what_was_passed_over_fits_a_report_and_failures_are_named_first() {
    use super::report::{EndReport, PASSED_OVER_MAX, PassedOver, PassedOverList};
    for path_bytes in [1, 560, 4096] {
        let mut list = PassedOverList::default();
        let passed = |is_failure| PassedOver { path: vec![b'p'; path_bytes], why: "x".repeat(5000), is_failure };
        (0..2000).for_each(|_| list.add(passed(false)));
        let room = list.named().len();
        assert!(room > 10 && room <= PASSED_OVER_MAX);
        (0..5).for_each(|_| list.add(passed(true)));
        assert_eq!((list.count(), list.named().len()), (2005, room));
        assert_eq!(list.named().iter().filter(|passed| passed.is_failure).count(), 5);
        let report = EndReport { passed_over: list.named().to_vec(), ..EndReport::default() };
        let encoded = postcard::to_stdvec(&report).unwrap().len();
        assert!(encoded <= crate::proto::session::MESSAGE_BYTES_MAX * 3 / 4, "{encoded}");
    }
}
