//! How fast a tree is scanned: entries per second over many small files in memory.
//!
//! `cargo bench --bench scan`: 100 folders of 1,000 files on /dev/shm, with 1 and with 2 threads. Small in a test run,
//! whose figures mean nothing.

#[path = "common/mode.rs"]
#[allow(dead_code)]
mod mode;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use linerate::store::confined::Root;
use linerate::store::scan::{Scan, ScanOptions, Top};

/// Folders, and files in each.
const FULL: (usize, usize) = (100, 1000);
const SMALL: (usize, usize) = (4, 50);
/// The best and the median of so many scans are told.
const ROUNDS: usize = 21;

fn main() -> anyhow::Result<()> {
    let is_test = mode::is_test();
    let (folders, files) = if is_test { SMALL } else { FULL };
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?;
    for folder in 0..folders {
        let folder = dir.path().join(format!("folder-{folder:03}"));
        std::fs::create_dir(&folder)?;
        for file in 0..files {
            std::fs::write(folder.join(format!("file-{file:05}.dat")), b"")?;
        }
    }
    for threads in [1, 2] {
        let rounds = if is_test { 1 } else { ROUNDS };
        let mut times =
            (0..rounds).map(|_| scan(dir.path(), threads, folders * files)).collect::<Result<Vec<_>, _>>()?;
        times.sort();
        let rate = |time: Duration| (folders * files) as f64 / time.as_secs_f64();
        println!("{threads} threads: median {:.0} entries/s, best {:.0}", rate(times[rounds / 2]), rate(times[0]));
    }
    Ok(())
}

/// One scan, its entries received and dropped.
fn scan(path: &Path, threads: usize, files: usize) -> anyhow::Result<Duration> {
    let root = Arc::new(Root::open(path)?);
    let start = Instant::now();
    let mut scan = Scan::start(vec![Top::whole(root)], ScanOptions { threads, ..ScanOptions::default() })?;
    let entries: usize = scan.by_ref().map(|batch| batch.len()).sum();
    let took = start.elapsed();
    let summary = scan.finish();
    anyhow::ensure!(summary.is_complete && summary.files == files as u64, "{entries} entries: {summary:?}");
    Ok(took)
}
