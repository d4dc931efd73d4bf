//! Where things are moved from and to, and what has to be done to these places between runs.
//!
//! Memory that a guest has given back to its host is slow to come again, so it is touched just before each run. The
//! deletion of many small files slows a disk for minutes: those of a disk go at the very end, and until then each run
//! has a name of its own.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::statvfs::statvfs;

use crate::common::interrupt;
use crate::options::Options;
use crate::setup::open_folder;
use crate::trees::Source;
use crate::workload::Kind;

const BLOCK_BYTES: usize = 1 << 20;
/// Dirty memory of the whole machine at which a disk is at rest, and for how long that is waited for.
const DIRTY_BYTES_MAX: u64 = 32 << 20;
const REST_MAX: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// For what the disk still does by itself.
const PAUSE: Duration = Duration::from_secs(2);

/// Folders of this bench's own, which go with this value.
pub struct Places {
    memory: tempfile::TempDir,
    disk: tempfile::TempDir,
    runs: u32,
    is_test: bool,
}

impl Places {
    /// In the folders that were asked for.
    pub fn new(options: &Options) -> anyhow::Result<Places> {
        let (memory, disk) = (open_folder(&options.memory)?, open_folder(&options.disk)?);
        Ok(Places { memory, disk, runs: 0, is_test: options.is_test })
    }

    /// Where sources lie.
    pub fn sources(&self) -> &Path {
        self.memory.path()
    }

    /// Whether a workload has the room that it needs.
    pub fn check_room(&self, source: &Source, kind: Kind, runs: u64) -> anyhow::Result<()> {
        let copies = match kind {
            Kind::SmallDisk => runs,
            // Some follow links.
            Kind::Links => 3,
            _ => 1,
        };
        let (place, needed) = (self.place(kind), source.needs_bytes() * copies);
        let room = statvfs(place).with_context(|| place.display().to_string())?;
        let free = room.blocks_available() * room.fragment_size();
        anyhow::ensure!(
            free > needed,
            "{}: {} MB free, {} needs {} MB: name another folder with --tmpfs or --disk, or less with --size, --files",
            place.display(),
            free / 1_000_000,
            kind.name(),
            needed / 1_000_000,
        );
        Ok(())
    }

    /// A destination that no run has had before.
    pub fn destination(&mut self, kind: Kind) -> anyhow::Result<PathBuf> {
        self.runs += 1;
        let path = self.place(kind).join(format!("run-{}", self.runs));
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    /// A folder in memory for one run's configurations.
    pub fn scratch(&self) -> anyhow::Result<tempfile::TempDir> {
        open_folder(self.memory.path())
    }

    /// Put a place at rest before a run that will fill so much.
    pub fn rest(&self, kind: Kind, bytes: u64) -> anyhow::Result<()> {
        if self.is_test {
            return Ok(());
        }
        if kind.is_durable() {
            self.wait_for_disk()?;
        }
        self.touch(bytes)
    }

    /// What a run has left is not needed any more.
    pub fn clear(&self, kind: Kind, destination: &Path) -> anyhow::Result<()> {
        if kind == Kind::SmallDisk {
            return Ok(());
        }
        fs::remove_dir_all(destination).with_context(|| destination.display().to_string())
    }

    fn place(&self, kind: Kind) -> &Path {
        if kind.is_durable() { self.disk.path() } else { self.memory.path() }
    }

    fn touch(&self, bytes: u64) -> anyhow::Result<()> {
        let why = || format!("{}: no room for {} MB more", self.memory.path().display(), bytes / 1_000_000);
        let file = tempfile::tempfile_in(self.memory.path()).with_context(why)?;
        let block = vec![0; BLOCK_BYTES];
        for at in (0..bytes).step_by(BLOCK_BYTES) {
            interrupt::check()?;
            file.write_all_at(&block, at).with_context(why)?;
        }
        Ok(())
    }

    fn wait_for_disk(&self) -> anyhow::Result<()> {
        nix::unistd::syncfs(File::open(self.disk.path())?).context("syncfs")?;
        let deadline = Instant::now() + REST_MAX;
        while dirty_bytes() > DIRTY_BYTES_MAX && Instant::now() < deadline {
            interrupt::check()?;
            sleep(LOOK_EVERY);
        }
        sleep(PAUSE);
        interrupt::check()
    }
}

/// Memory that has to be written to disks, on the whole machine.
fn dirty_bytes() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let is_meant = |line: &&str| line.starts_with("Dirty:") || line.starts_with("Writeback:");
    let kib = |line: &str| line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok();
    text.lines().filter(is_meant).filter_map(kib).sum::<u64>() << 10
}
