//! What landing many small files costs: microseconds of processor time per file.
//!
//! `cargo bench --bench landing [FOLDER...]`: 100,000 files of 4 KiB into 100 folders, stored and committed in batches
//! by 1 and by 2 threads, in each folder that is named, or on /dev/shm. It is processor time of the whole process, as
//! that does not depend on who else uses the machine. Small in a test run, whose figures mean nothing.

#[path = "common/mode.rs"]
#[allow(dead_code)]
mod mode;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use linerate::proto::manifest::{Attributes, Entry, EntryKind};
use linerate::store::confined::Root;
use linerate::store::journal::{FileStorage, Identity, Journal, boot_id};
use linerate::store::landing::{Direct, Durability, Existing, Landing, LandingOptions};
use nix::sys::resource::{UsageWho, getrusage};

/// Folders, and files in each.
const FULL: (usize, usize) = (100, 1000);
const SMALL: (usize, usize) = (4, 50);
const FILE_BYTES: usize = 4096;
/// Files of one commit.
const BATCH: usize = 4096;
/// The best and the median of so many copies are told.
const ROUNDS: usize = 7;

fn main() -> anyhow::Result<()> {
    let is_test = mode::is_test();
    let size = if is_test { SMALL } else { FULL };
    let mut places: Vec<PathBuf> = mode::own_arguments().into_iter().skip(1).map(PathBuf::from).collect();
    if places.is_empty() {
        let memory = PathBuf::from("/dev/shm");
        places.push(if memory.is_dir() { memory } else { std::env::temp_dir() });
    }
    for place in &places {
        for durability in [Durability::None, Durability::Full] {
            for threads in [1, 2] {
                let rounds = if is_test { 1 } else { ROUNDS };
                let mut runs =
                    (0..rounds).map(|_| copy(place, durability, threads, size)).collect::<Result<Vec<_>, _>>()?;
                runs.sort();
                let each = |time: Duration| time.as_secs_f64() * 1e6 / (size.0 * size.1) as f64;
                let ((median, wall), (best, _)) = (runs[rounds / 2], runs[0]);
                println!(
                    "{} {durability:?}, {threads} threads: median {:.2} us/file of processor time, best {:.2}; {:.2} us on the clock",
                    place.display(),
                    each(median),
                    each(best),
                    each(wall),
                );
            }
        }
    }
    Ok(())
}

/// One copy: processor time and time on the clock.
fn copy(
    place: &Path,
    durability: Durability,
    threads: usize,
    size: (usize, usize),
) -> anyhow::Result<(Duration, Duration)> {
    let dir = tempfile::tempdir_in(place)?;
    let to = dir.path().join("to");
    std::fs::create_dir(&to)?;
    let options = LandingOptions {
        durability,
        existing: Existing::Replace,
        owner: false,
        xattrs: false,
        resumes: true,
        is_served: false,
        direct: Direct::Auto,
    };
    let storage = FileStorage::open(&dir.path().join("journal"))?;
    let identity = Identity::new(b"from", b"to", &[0; 32]);
    let journal = Journal::open_or_create(storage, identity, durability != Durability::None, boot_id()?)?;
    let landing = Landing::open(Arc::new(Root::open(&to)?), journal, options)?;
    let entries = entries(size);
    for folder in 0..size.0 {
        std::fs::create_dir(to.join(format!("folder-{folder:03}")))?;
    }
    let (start, cpu) = (Instant::now(), cpu_time()?);
    std::thread::scope(|scope| {
        let share = entries.len().div_ceil(threads);
        let threads = entries.chunks(share).map(|part| scope.spawn(|| store(&landing, part))).collect::<Vec<_>>();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| anyhow::bail!("a thread panicked")))
    })?;
    Ok((cpu_time()? - cpu, start.elapsed()))
}

fn entries((folders, files): (usize, usize)) -> Vec<Entry> {
    let attributes = Attributes { mode: 0o644, modified_s: 1_700_000_000, modified_ns: 5, ..Attributes::default() };
    let entry = |n: usize| Entry {
        id: n as u64,
        path: format!("folder-{:03}/file-{:05}.dat", n / files, n % files).into_bytes(),
        kind: EntryKind::File { len: FILE_BYTES as u64, is_sparse: false },
        attributes: attributes.clone(),
    };
    (0..folders * files).map(entry).collect()
}

fn store(landing: &Landing, entries: &[Entry]) -> anyhow::Result<()> {
    let bytes = [0x5a; FILE_BYTES];
    for batch in entries.chunks(BATCH) {
        let ready = batch.iter().map(|entry| landing.store_small(entry, &bytes)).collect::<Result<Vec<_>, _>>()?;
        let done = landing.commit(ready)?;
        anyhow::ensure!(done.landed.len() == batch.len(), "{:?}", done.failed.first());
    }
    Ok(())
}

/// User and system time of this process until now.
fn cpu_time() -> anyhow::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let of = |time: nix::sys::time::TimeVal| Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000);
    Ok(of(usage.user_time()) + of(usage.system_time()))
}
