//! Both ends of a copy with a wire between them that a test can look at and damage; no socket.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token, Waker};

use super::bell::Bell;
use super::destination::Destination;
use super::landing_options;
use super::origin::Origins;
use super::sink::{Sink, SinkSetup};
use super::source::{Source, SourceSetup};
use crate::engine::buffers::Buffers;
use crate::engine::copy_receive::{Arrived, Deliver};
use crate::engine::outbox::{Carrier, Payload, Piece};
use crate::proto::copy::CopyError;
use crate::proto::copy::options::{Compression, CopyOptions, Durability, Purpose};
use crate::proto::wire::FrameKind;
use crate::store::journal::{FileStorage, Identity, Journal, boot_id};
use crate::store::landing::Landing;
use crate::sys::priority;

const PIECE: usize = 256 << 10;

/// Damages what it likes of a frame; it is told how many came before.
type Spoil = Box<dyn Fn(usize, FrameKind, &mut [u8]) + Send + Sync>;

struct Wire {
    inbox: Arc<dyn Deliver>,
    buffers: Buffers,
    sent: Mutex<Vec<(FrameKind, usize)>>,
    spoil: Spoil,
}

impl Carrier for Wire {
    fn push(&self, piece: Piece) {
        let mut payload = self.buffers.take().unwrap();
        let len = piece.payload.len() as usize;
        assert_eq!(piece.frame.length, crate::proto::wire::Length::Bytes(len as u64));
        let room = &mut payload.room()[..len];
        match &piece.payload {
            Payload::Buffer(buffer) => room.copy_from_slice(buffer.filled()),
            Payload::Range(range) => {
                std::os::unix::fs::FileExt::read_exact_at(&*range.file, room, range.offset).unwrap()
            }
        }
        let nth = {
            let mut sent = self.sent.lock().unwrap();
            sent.push((piece.frame.kind, len));
            sent.len() - 1
        };
        (self.spoil)(nth, piece.frame.kind, room);
        payload.fill(len);
        self.inbox.deliver(Arrived { frame: piece.frame, payload, near: None });
    }

    fn close(&self) {}
}

struct Pair {
    dir: tempfile::TempDir,
    source: Source,
    sink: Sink,
    wire: Arc<Wire>,
    poll: Poll,
    bell: Bell,
}

impl Pair {
    /// Both ends of a copy of these files to `to`.
    fn new(files: &[(&str, &[u8])], options: &CopyOptions, sends_ranges: bool, spoil: Spoil) -> Pair {
        Pair::within(tempfile::tempdir().unwrap(), files, options, sends_ranges, spoil)
    }

    /// The same in this folder, where more may lie in `from`.
    fn within(
        dir: tempfile::TempDir,
        files: &[(&str, &[u8])],
        options: &CopyOptions,
        sends_ranges: bool,
        spoil: Spoil,
    ) -> Pair {
        std::fs::create_dir_all(dir.path().join("from")).unwrap();
        files.iter().for_each(|(name, bytes)| std::fs::write(dir.path().join("from").join(name), bytes).unwrap());
        let poll = Poll::new().unwrap();
        let bell = Bell::new(Arc::new(Waker::new(poll.registry(), Token(0)).unwrap()));
        let sink = sink(dir.path(), options, &bell);
        let buffers = Buffers::new(PIECE, 64);
        let wire = Arc::new(Wire { inbox: sink.inbox(), buffers, sent: Mutex::default(), spoil });
        let packs = Buffers::new(PIECE, 8);
        let source = Source::start(SourceSetup {
            origins: Origins::own(&[dir.path().join("from")]),
            options: options.clone(),
            readers: 2,
            buffers: if sends_ranges { Buffers::new(8, 8) } else { packs.clone() },
            packs,
            sends_ranges,
            carrier: wire.clone(),
            bell: bell.clone(),
            observer: None,
            handover: None,
        });
        Pair { dir, source: source.unwrap(), sink, wire, poll, bell }
    }

    /// Carry what either has to say now.
    fn pump(&self) -> Result<(), CopyError> {
        while let Some(message) = self.source.poll_message() {
            self.sink.handle_message(message)?;
        }
        while let Some(message) = self.sink.poll_message() {
            self.source.handle_message(message)?;
        }
        Ok(())
    }

    /// Carry messages until it is over.
    fn run(&mut self) -> Result<(), CopyError> {
        let mut events = Events::with_capacity(1);
        loop {
            self.bell.answer();
            self.pump()?;
            if let Some(error) = self.sink.error() {
                return Err(error);
            }
            if self.source.ending().is_some() && self.sink.has_ended() {
                return Ok(());
            }
            // The other end may have something by now.
            self.poll.poll(&mut events, Some(Duration::from_millis(5))).unwrap();
        }
    }

    fn to(&self, name: &str) -> PathBuf {
        self.dir.path().join("to").join(name)
    }

    fn kinds(&self) -> Vec<FrameKind> {
        self.wire.sent.lock().unwrap().iter().map(|(kind, _)| *kind).collect()
    }

    fn same(&self, files: &[(&str, &[u8])]) {
        for (name, bytes) in files {
            assert!(std::fs::read(self.to(name)).unwrap() == *bytes, "{name}");
        }
    }
}

fn sink(dir: &Path, options: &CopyOptions, bell: &Bell) -> Sink {
    let destination = Destination::own(&dir.join("to"), &[Some(b"from".to_vec())], Purpose::Copy).unwrap();
    let storage = FileStorage::open(&dir.join("journal")).unwrap();
    let journal =
        Journal::open_or_create(storage, Identity::new(b"", b"", &[0; 32]), false, boot_id().unwrap()).unwrap();
    let landing = Landing::open(destination.root.clone(), journal, landing_options(options, &destination)).unwrap();
    let setup = SinkSetup {
        destination,
        landing,
        options: options.clone(),
        storers: 2,
        buffers: Buffers::new(PIECE, 64),
        bell: bell.clone(),
        observer: None,
        handover: None,
    };
    Sink::start(setup).unwrap()
}

fn options(compress: Compression) -> CopyOptions {
    CopyOptions { compress, piece_bytes: PIECE as u64, durability: Durability::None, ..CopyOptions::default() }
}

fn text(len: usize) -> Vec<u8> {
    (0..).flat_map(|n: u32| format!("line {n} of a text\n").into_bytes()).take(len).collect()
}

fn noise(len: usize, seed: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(seed).finalize_xof().fill(&mut bytes);
    bytes
}

fn untouched() -> Spoil {
    Box::new(|_, _, _| {})
}

#[test]
fn text_shrinks_on_the_wire_and_noise_is_sent_as_it_is() {
    let (text, noise, small) = (text(3 << 20), noise(3 << 20, b""), text(50_000));
    let files: [(&str, &[u8]); 4] = [("text", &text), ("noise", &noise), ("small", &small), ("film.mp4", &text)];
    for sends_ranges in [false, true] {
        for verify in [true, false] {
            let options = CopyOptions { verify, ..options(Compression::Zstd(1)) };
            let mut pair = Pair::new(&files, &options, sends_ranges, untouched());
            pair.run().unwrap();
            pair.same(&files);
            let (moved, wire) = pair.source.moved_bytes();
            assert_eq!(pair.sink.moved_bytes().1, wire);
            assert!(moved >= 9 << 20 && wire > 6 << 20 && wire < 7 << 20, "{moved} {wire}");
            let kinds = pair.kinds();
            let count = |wanted| kinds.iter().filter(|kind| **kind == wanted).count();
            let counts = (count(FrameKind::DataZstd), count(FrameKind::Data), count(FrameKind::PackZstd));
            assert_eq!(counts, (12, 24, 1));
        }
    }
}

#[test]
fn nothing_is_compressed_unless_it_is_asked_for_or_the_network_is_slow() {
    let text = text(3 << 20);
    for compress in [Compression::None, Compression::Auto] {
        let mut pair = Pair::new(&[("text", &text)], &options(compress), true, untouched());
        pair.run().unwrap();
        assert!(pair.kinds().iter().all(|kind| *kind == FrameKind::Data));
    }
}

#[test]
fn a_compressed_frame_that_arrives_damaged_is_sent_again() {
    let (big, small) = (text(3 << 20), text(50_000));
    let files: [(&str, &[u8]); 3] = [("big", &big), ("small", &small), ("small2", &small[..999])];
    for verify in [true, false] {
        // One bit: where the frame says how long it is, and in the middle.
        for at in [4, 7, 2000] {
            let spoil: Spoil = Box::new(move |nth, kind, bytes| {
                // Far enough apart to be of two blocks.
                if [1, 6].contains(&nth) || (kind == FrameKind::PackZstd && nth < 6) {
                    // Behind the directory of a pack. Where nothing is verified only what cannot be read is noticed.
                    let at = if kind == FrameKind::PackZstd { at + 16 } else { at };
                    let at = at.min(bytes.len() - 1);
                    match verify {
                        true => bytes[at] ^= 4,
                        false => bytes[at..].fill(0xff),
                    }
                }
            });
            let options = CopyOptions { verify, ..options(Compression::Zstd(1)) };
            let mut pair = Pair::new(&files, &options, false, spoil);
            pair.run().unwrap();
            pair.same(&files);
            assert!(pair.sink.resumed().1 >= 2, "blocks that came damaged");
            assert_eq!(pair.sink.tally().failed.entries, 0);
        }
    }
}

#[test]
fn a_peer_that_sends_only_garbage_is_given_up() {
    let (big, small) = (text(600_000), text(5000));
    let spoil: Spoil = Box::new(|_, kind, bytes| match kind {
        FrameKind::PackZstd => bytes[16..].fill(0x5a),
        _ => bytes.fill(0x5a),
    });
    let mut pair = Pair::new(&[("big", &big), ("small", &small)], &options(Compression::Zstd(1)), false, spoil);
    pair.run().unwrap();
    let failed = pair.sink.tally().failures;
    assert!(failed.len() == 2 && failed.iter().all(|(_, why)| why.contains("arrived damaged 4 times")), "{failed:?}");
    assert!(!pair.to("big").exists() && !pair.to("small").exists());
}

#[test]
fn threads_of_a_nice_copy_yield_to_others() {
    for (nice, policy) in [(true, libc::SCHED_IDLE), (false, libc::SCHED_OTHER)] {
        // Whoever sends is a reader.
        let seen = Arc::new(Mutex::new(Vec::new()));
        let own = seen.clone();
        let spoil: Spoil = Box::new(move |_, _, _| own.lock().unwrap().push(priority::of_this_thread().1));
        let options = CopyOptions { nice, ..options(Compression::None) };
        let mut pair = Pair::new(&[("small", b"1")], &options, true, spoil);
        pair.run().unwrap();
        assert_eq!(*seen.lock().unwrap(), [policy]);
    }
}

#[test]
fn a_limit_holds_over_all_readers() {
    let noise = noise(2 << 20, b"");
    let options = CopyOptions { limit: Some(8 << 20), ..options(Compression::None) };
    let since = Instant::now();
    let mut pair = Pair::new(&[("noise", &noise)], &options, true, untouched());
    pair.run().unwrap();
    // The last piece leaves when all before it are paid, but for what is saved up at the start.
    let least = Duration::from_secs_f64((noise.len() - PIECE) as f64 / (8 << 20) as f64) - Duration::from_millis(50);
    assert!(since.elapsed() >= least, "{:?}", since.elapsed());
    pair.same(&[("noise", &noise)]);
}

#[test]
fn a_copy_that_waits_for_its_limit_can_be_stopped() {
    let noise = noise(2 << 20, b"");
    let options = CopyOptions { limit: Some(1), ..options(Compression::None) };
    let mut pair = Pair::new(&[("noise", &noise)], &options, true, untouched());
    // The first piece goes at once; the next would in three days.
    while pair.kinds().is_empty() {
        pair.pump().unwrap();
        std::thread::yield_now();
    }
    pair.source.stop();
    pair.sink.stop();
    assert!(!pair.to("noise").exists());
}

/// A folder with a file that is one hole, longer than most filesystems take; nothing where none does.
fn with_hole(len: u64) -> Option<tempfile::TempDir> {
    let dir = tempfile::tempdir_in("/dev/shm").ok()?;
    std::fs::create_dir(dir.path().join("from")).unwrap();
    let made = std::fs::File::create(dir.path().join("from/hole")).unwrap().set_len(len);
    made.is_ok().then_some(dir)
}

#[test]
fn holes_that_are_too_long_to_be_hashed_fail_at_their_source() {
    let Some(dir) = with_hole(1 << 53) else { return };
    let mut pair = Pair::within(dir, &[("small", b"1")], &options(Compression::None), true, untouched());
    pair.run().unwrap();
    let failures = pair.source.tally().failures;
    assert!(matches!(&failures[..], [(_, why)] if why.contains("source: has holes and is too long")), "{failures:?}");
    assert_eq!(pair.kinds(), [FrameKind::Pack]);
    pair.same(&[("small", b"1")]);
}

#[test]
fn a_long_hole_is_not_hashed_to_its_end_when_the_copy_is_over() {
    // Blocks of 32 GiB.
    let Some(dir) = with_hole(1 << 51) else { return };
    let mut pair = Pair::within(dir, &[], &options(Compression::None), true, untouched());
    while pair.source.under_way(1).is_empty() {
        pair.pump().unwrap();
        std::thread::yield_now();
    }
    pair.source.stop();
    assert_eq!(pair.kinds(), [], "none was hashed to its end");
    pair.sink.stop();
}
