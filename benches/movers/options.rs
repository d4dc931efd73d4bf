//! The command line of this bench.

use std::path::{Path, PathBuf};

use clap::Parser;
use linerate::units::Bytes;

use crate::common::mode;
use crate::workload::Kind;

/// Memory that is a file system.
const MEMORY: &str = "/dev/shm";
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Compare linerate with the movers of files that are installed here.
#[derive(Debug, Parser)]
#[command(name = "movers")]
struct Arguments {
    /// Leave the other workloads out; may be given several times.
    #[arg(long, value_enum, value_name = "NAME")]
    only: Vec<Kind>,
    /// Runs of each mover [default: 5].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Length of the big file [default: 4GiB].
    #[arg(long)]
    size: Option<Bytes>,
    /// Small files of 4 KiB, in 100 folders [default: 100000].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    files: Option<u64>,
    /// About what the tree with links holds [default: 800MB].
    #[arg(long)]
    tree: Option<Bytes>,
    /// Folder in memory: sources, and destinations that are not on a disk [default: /dev/shm].
    #[arg(long, value_name = "DIR")]
    tmpfs: Option<PathBuf>,
    /// Folder on the disk that is measured [default: in the target folder].
    #[arg(long, value_name = "DIR")]
    disk: Option<PathBuf>,
    /// Leave out every mover whose name does not contain one of these words; linerate always stays.
    #[arg(long, value_name = "WORD")]
    rival: Vec<String>,
    /// What the order of the runs follows from [default: another each time].
    #[arg(long)]
    seed: Option<u64>,
    /// Keep the figures as `results/movers-<workload>.json`.
    #[arg(long)]
    save: bool,
}

/// What to do.
#[derive(Debug)]
pub struct Options {
    /// Only show that it works.
    pub is_test: bool,
    /// Workloads, in the order in which they run.
    pub kinds: Vec<Kind>,
    /// Runs of each mover.
    pub rounds: u32,
    /// Length of the big file.
    pub big_bytes: u64,
    /// How many small files.
    pub files: u64,
    /// About what the tree with links holds.
    pub tree_bytes: u64,
    /// Folder in memory.
    pub memory: PathBuf,
    /// Folder on a disk.
    pub disk: PathBuf,
    /// Words in the names of rivals; empty for all.
    pub rivals: Vec<String>,
    /// What the order of the runs follows from.
    pub seed: u64,
    /// Whether to write result files.
    pub save: bool,
}

impl Options {
    /// From the command line; in a test run everything that is not said is small.
    pub fn parse() -> Options {
        let given = Arguments::parse_from(mode::own_arguments());
        let is_test = mode::is_test();
        let or = |test: u64, full: u64| if is_test { test } else { full };
        let memory = || {
            let memory = Path::new(MEMORY);
            if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() }
        };
        // The deletion of many small files slows the disk for minutes, so their workload stands last of all.
        let wants = |kind: &Kind| given.only.is_empty() || given.only.contains(kind);
        Options {
            is_test,
            kinds: Kind::ALL.into_iter().filter(wants).collect(),
            rounds: given.rounds.unwrap_or(if is_test { 1 } else { 5 }),
            big_bytes: given.size.map_or(or(4 * MIB + 4 * KIB + 1, 4096 * MIB), |size| size.0),
            files: given.files.unwrap_or(or(200, 100_000)),
            tree_bytes: given.tree.map_or(or(4 * MIB, 800_000_000), |size| size.0),
            memory: given.tmpfs.unwrap_or_else(memory),
            disk: given.disk.unwrap_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR"))),
            rivals: given.rival,
            seed: given.seed.unwrap_or_else(|| jiff::Timestamp::now().as_microsecond().unsigned_abs()),
            save: given.save && !is_test,
        }
    }
}
