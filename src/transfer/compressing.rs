//! What a reader does about `--compress`: which pieces it compresses, and when.
//!
//! # Which
//! A file whose name says that it is compressed already (video, audio, pictures, archives, as far as their format is) is
//! left alone. Of the others the first piece is probed: a few samples of it are compressed at level 1, and only if they
//! shrink below 90 % the piece is. What does not shrink is sent as it is, and so are the next [`SKIP_MIN`] pieces of
//! that file, then twice as many, up to [`SKIP_MAX`]. A pack is judged in the same way by the packs before it.
//!
//! # When
//! With a level: always. With `auto`, at level 1, a reader compresses while the network, or `--limit`, is what it waits
//! for. It looks at its own time in windows of [`WINDOW_NS`]:
//! - it begins if it waited to hand over pieces at least twice as long as compressing what it read would have taken;
//! - it ends, for [`HOLD_WINDOWS`], if it then gets less done than it did without, and hardly waits any more;
//! - now and then it sends a window uncompressed, to see whether the network has become faster.
//!
//! So a link that takes the bytes as fast as they can be compressed is never held up: there nothing is compressed, not
//! even to try, and all that is spent is a look at counters.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use zstd::bulk;
use zstd::zstd_safe::CParameter;

use crate::engine::buffers::{Buffer, Buffers};
use crate::proto::copy::options::Compression;
use crate::proto::copy::pack;
use crate::store::media::{self, ByName, MediaKind};

/// The level of probes, and of `auto`.
const LEVEL_QUICK: i32 = 1;
/// Worth it is what shrinks to so much or less, percent.
const SHRUNK_PERCENT: usize = 90;
/// Bytes of a sample.
const SAMPLE_BYTES: usize = 16 << 10;
/// After a piece that does not shrink so many are sent as they are.
const SKIP_MIN: u32 = 16;
/// Most pieces that are sent as they are until one is probed again.
const SKIP_MAX: u32 = 256;
/// How often a reader asks itself whether to compress, ns.
const WINDOW_NS: u64 = 100_000_000;
/// So many windows nothing is compressed after it turned out to slow the copy down.
const HOLD_WINDOWS: u32 = 50;
/// So many windows are compressed until one is not.
const ON_WINDOWS: u32 = 100;
/// How fast a reader compresses until it knows, bytes a second.
const SPEED_GUESS: u64 = 400_000_000;

/// Formats of pictures, sound and archives that are not compressed, or only a little.
const ROOMY: [&str; 8] = [
    "application/x-tar",
    "application/x-cpio",
    "application/x-iso9660-image",
    "image/bmp",
    "image/svg+xml",
    "image/x-portable-anymap",
    "audio/wav",
    "audio/aiff",
];

/// What is known of a file's worth for compression. Readers share one.
#[derive(Debug, Default)]
pub(super) struct Worth {
    by_name: OnceLock<bool>,
    /// Pieces that are still to be sent as they are.
    skip: AtomicU32,
    /// How many that were last time.
    skipped: AtomicU32,
}

impl Worth {
    /// Whether its next piece is to be tried.
    fn is_tried(&self, name: &[u8]) -> bool {
        let may = *self.by_name.get_or_init(|| !is_compressed_by_name(name));
        may && self.skip.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err()
    }

    /// A piece was tried.
    fn handle_tried(&self, shrank: bool) {
        let skip = match self.skipped.load(Ordering::Relaxed) {
            _ if shrank => 0,
            before => (before * 2).clamp(SKIP_MIN, SKIP_MAX),
        };
        self.skipped.store(skip, Ordering::Relaxed);
        self.skip.store(skip, Ordering::Relaxed);
    }
}

/// Whether a file is of a format that is compressed, as far as its name tells.
fn is_compressed_by_name(name: &[u8]) -> bool {
    let ByName::Clear(found) = media::by_name(name) else { return false };
    let is_packed = matches!(found.kind, MediaKind::Video | MediaKind::Audio | MediaKind::Image | MediaKind::Archive);
    is_packed && !ROOMY.contains(&found.mime)
}

/// One reader's means to compress.
pub(super) struct Compressor {
    /// At the level that was asked for.
    zstd: bulk::Compressor<'static>,
    quick: bulk::Compressor<'static>,
    scratch: Buffer,
    auto: Option<Auto>,
    packs: Worth,
}

impl Compressor {
    /// As the options want it; nothing where nothing is to be compressed, or there is no memory for it.
    pub(super) fn new(compression: Compression, piece_bytes: u64) -> Option<Compressor> {
        let (level, auto) = match compression {
            Compression::None => return None,
            Compression::Auto => (LEVEL_QUICK, Some(Auto::default())),
            Compression::Zstd(level) => (level, None),
        };
        let made = bulk::Compressor::new(level).and_then(|zstd| Ok((zstd, bulk::Compressor::new(LEVEL_QUICK)?)));
        let made = made.inspect_err(|error| tracing::warn!(%error, "nothing is compressed"));
        let (zstd, quick) = made.ok()?;
        let scratch = Buffers::new(piece_bytes as usize, 1).take()?;
        Some(Compressor { zstd, quick, scratch, auto, packs: Worth::default() })
    }

    /// Whether the next piece of a file is to be tried.
    pub(super) fn tries(&self, worth: &Worth, name: &[u8]) -> bool {
        self.is_on() && worth.is_tried(name)
    }

    /// Whether the next pack is to be tried.
    pub(super) fn tries_pack(&self) -> bool {
        self.is_on() && self.packs.is_tried(b"")
    }

    fn is_on(&self) -> bool {
        self.auto.as_ref().is_none_or(|auto| auto.is_on)
    }

    /// Put a compressed piece in place of a plain one, if that is worth it; whether it is there.
    pub(super) fn compress(&mut self, piece: &mut Buffer, worth: &Worth) -> bool {
        let shrank = self.shrinks(piece.filled()) && self.run(piece, &[], false);
        worth.handle_tried(shrank);
        shrank
    }

    /// Put a pack with its directory in place of a plain one, which has that check of its headers, if that is worth it;
    /// whether it is there.
    pub(super) fn compress_pack(&mut self, piece: &mut Buffer, check: u64) -> bool {
        let Ok(files) = pack::unpack(piece.filled(), check) else { return false };
        let directory = pack::directory(files.iter().map(|(id, _)| *id));
        let shrank = self.shrinks(piece.filled()) && self.run(piece, &directory, true);
        self.packs.handle_tried(shrank);
        shrank
    }

    /// Whether samples from the start, the middle and the end shrink.
    fn shrinks(&mut self, bytes: &[u8]) -> bool {
        let (mut plain, mut shrunk) = (0, 0);
        let last = bytes.len().saturating_sub(SAMPLE_BYTES);
        for start in [0, last / 2, last] {
            let sample = &bytes[start..bytes.len().min(start + SAMPLE_BYTES)];
            let room = self.scratch.room();
            plain += sample.len();
            // One that does not fit has become longer.
            shrunk += self.quick.compress_to_buffer(sample, room).unwrap_or(sample.len());
        }
        is_shrunk(plain, shrunk)
    }

    fn run(&mut self, piece: &mut Buffer, directory: &[u8], has_checksum: bool) -> bool {
        let plain = piece.filled();
        let most = plain.len() * SHRUNK_PERCENT / 100;
        self.scratch.clear();
        let Some(room) = self.scratch.room().get_mut(..most) else { return false };
        let Some((front, room)) = room.split_at_mut_checked(directory.len()) else { return false };
        front.copy_from_slice(directory);
        // Of a piece the digest tells whether it is right; what a pack holds has to be right to be read at all.
        let done = self.zstd.set_parameter(CParameter::ChecksumFlag(has_checksum));
        let Ok(len) = done.and_then(|()| self.zstd.compress_to_buffer(plain, room)) else { return false };
        self.scratch.fill(directory.len() + len);
        piece.swap(&mut self.scratch);
        self.scratch.clear();
        true
    }

    /// A piece was handed over: what the reader's time went into until now.
    pub(super) fn handle_sent(&mut self, bytes: u64, spent: Spent) {
        if let Some(auto) = &mut self.auto {
            auto.handle_sent(bytes, spent);
        }
    }
}

fn is_shrunk(plain: usize, shrunk: usize) -> bool {
    shrunk * 100 <= plain * SHRUNK_PERCENT
}

/// What a reader's time went into, since it began, ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spent {
    /// Waiting until the network took more.
    pub(super) waiting: u64,
    /// Compressing.
    pub(super) compressing: u64,
    /// Everything else but waiting for work.
    pub(super) otherwise: u64,
}

/// Whether `auto` compresses now. Knows no clock: it is told what time went into.
#[derive(Debug, Default)]
struct Auto {
    is_on: bool,
    /// At the start of the window.
    since: Spent,
    /// Read in it, bytes.
    bytes: u64,
    /// What was compressed in all, and the time it took.
    compressed: (u64, u64),
    /// What got done without compression, bytes a second.
    plain_rate: u64,
    /// Windows until it may change its mind: off, until it may begin; on, until it looks how it is without.
    left: u32,
}

impl Auto {
    fn handle_sent(&mut self, bytes: u64, now: Spent) {
        self.bytes += bytes;
        let waited = now.waiting - self.since.waiting;
        let compressing = now.compressing - self.since.compressing;
        let elapsed = waited + compressing + now.otherwise - self.since.otherwise;
        if elapsed < WINDOW_NS {
            return;
        }
        let rate = per_second(self.bytes, elapsed);
        if self.is_on {
            self.compressed.0 += self.bytes;
            self.compressed.1 += compressing;
        }
        self.left = self.left.saturating_sub(1);
        match self.is_on {
            true if rate < self.plain_rate / 10 * 9 && waited < elapsed / 4 => {
                (self.is_on, self.left) = (false, HOLD_WINDOWS)
            }
            true if self.left == 0 => self.is_on = false,
            false => {
                self.plain_rate = rate;
                if self.left == 0 && waited / 2 >= self.time_for(self.bytes) {
                    (self.is_on, self.left) = (true, ON_WINDOWS);
                }
            }
            true => {}
        }
        (self.since, self.bytes) = (now, 0);
    }

    /// How long it would take to compress so many bytes, ns.
    fn time_for(&self, bytes: u64) -> u64 {
        let speed = match self.compressed {
            (_, 0) => SPEED_GUESS,
            (bytes, ns) => per_second(bytes, ns).max(1),
        };
        (u128::from(bytes) * 1_000_000_000 / u128::from(speed)) as u64
    }
}

fn per_second(bytes: u64, ns: u64) -> u64 {
    (u128::from(bytes) * 1_000_000_000 / u128::from(ns.max(1))) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: usize = 1 << 20;

    fn piece(pool: &Buffers, bytes: &[u8]) -> Buffer {
        let mut buffer = pool.take().unwrap();
        buffer.room()[..bytes.len()].copy_from_slice(bytes);
        buffer.fill(bytes.len());
        buffer
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    fn text(len: usize) -> Vec<u8> {
        (0..).flat_map(|n: u32| format!("line {n} of a text\n").into_bytes()).take(len).collect()
    }

    #[test]
    fn names_of_compressed_formats_are_left_alone() {
        for name in ["a.mp4", "a.jpg", "a.zip", "a.tar.gz", "a.MP3"] {
            assert!(is_compressed_by_name(name.as_bytes()), "{name}");
        }
        for name in ["a.txt", "a.tar", "a.wav", "a.bmp", "a.svg", "a.iso", "a", "a.csv", "a.rs"] {
            assert!(!is_compressed_by_name(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn what_does_not_shrink_is_tried_less_and_less() {
        let worth = Worth::default();
        let mut tried = 0;
        for _ in 0..1000 {
            if worth.is_tried(b"file") {
                tried += 1;
                worth.handle_tried(false);
            }
        }
        // After 16, 32, 64, 128, 256, 256 more.
        assert_eq!(tried, 7);
        while !worth.is_tried(b"file") {}
        worth.handle_tried(true);
        assert!((0..1000).all(|_| worth.is_tried(b"file")), "what shrinks is tried again and again");
        assert!(!Worth::default().is_tried(b"film.mkv"));
    }

    #[test]
    fn text_shrinks_and_noise_stays_as_it_is() {
        let pool = Buffers::new(PIECE, 4);
        let mut compressor = Compressor::new(Compression::Zstd(3), PIECE as u64).unwrap();
        let worth = Worth::default();
        for len in [PIECE, 100_000, 5000, 300] {
            let mut shrinks = piece(&pool, &text(len));
            assert!(compressor.compress(&mut shrinks, &worth), "{len}");
            assert_eq!(zstd::bulk::decompress(shrinks.filled(), PIECE).unwrap(), text(len));
            assert!(shrinks.filled().len() * 100 <= len * SHRUNK_PERCENT);
            let mut stays = piece(&pool, &noise(len));
            assert!(!compressor.compress(&mut stays, &worth));
            assert_eq!(stays.filled(), noise(len));
        }
        // Samples that shrink in front of something that does not.
        let mixed = [text(16 << 10), noise(PIECE - (32 << 10)), text(16 << 10)].concat();
        let mut stays = piece(&pool, &mixed);
        assert!(!compressor.compress(&mut stays, &worth) && stays.filled() == mixed);
        assert!(Compressor::new(Compression::None, 1).is_none());
    }

    #[test]
    fn a_pack_comes_with_its_directory() {
        let pool = Buffers::new(PIECE, 1);
        let mut compressor = Compressor::new(Compression::Auto, PIECE as u64).unwrap();
        let (mut plain, mut check) = (Vec::new(), pack::HeadersCheck::default());
        for id in [3, 4, 9] {
            check.add(&pack::header(id, 2000));
            plain.extend(pack::header(id, 2000));
            plain.extend(text(2000));
        }
        let mut packed = piece(&pool, &plain);
        assert!(compressor.compress_pack(&mut packed, check.finish()));
        let (ids, frame) = pack::split_directory(packed.filled()).unwrap();
        assert_eq!(ids, [3, 4, 9]);
        assert_eq!(zstd::bulk::decompress(frame, PIECE).unwrap(), plain);
    }

    /// A reader that reads a piece in 0.3 ms, waits for a network of `rate`, and compresses at 500 MB/s to a third.
    struct Link {
        auto: Auto,
        spent: Spent,
        /// When the network is free, in the reader's time.
        free_at: u64,
        compressed: u64,
    }

    impl Link {
        fn run(&mut self, rate: u64, pieces: u64) -> u64 {
            let before = self.compressed;
            for _ in 0..pieces {
                let mut wire = PIECE as u64;
                self.spent.otherwise += 300_000;
                if self.auto.is_on {
                    self.spent.compressing += wire * 2;
                    wire /= 3;
                    self.compressed += 1;
                }
                let now = self.spent.otherwise + self.spent.compressing + self.spent.waiting;
                // Up to four pieces are under way.
                let cost = wire * 1_000_000_000 / rate;
                self.spent.waiting += self.free_at.saturating_sub(now + 4 * cost);
                self.free_at = self.free_at.max(now) + cost;
                self.auto.handle_sent(PIECE as u64, self.spent);
            }
            self.compressed - before
        }
    }

    #[test]
    fn auto_compresses_on_slow_networks_only_and_notices_when_they_change() {
        let mut link = Link { auto: Auto::default(), spent: Spent::default(), free_at: 0, compressed: 0 };
        assert_eq!(link.run(2_000_000_000, 10_000), 0);
        assert_eq!(link.run(600_000_000, 5_000), 0);
        assert!(link.run(50_000_000, 2_000) > 1_800);
        assert!(link.run(2_000_000, 200) > 180);
        link.run(3_000_000_000, 30_000);
        assert_eq!(link.run(3_000_000_000, 5_000), 0);
        assert!(link.run(100_000_000, 5_000) > 4_500);
    }
}
