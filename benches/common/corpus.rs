//! A file to be sent: random bytes in the page cache.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rand::{RngCore, SeedableRng, rngs::SmallRng};

use super::interrupt;

/// Memory that is a file system, where there is one: nothing is ever written back from it to a disk.
const MEMORY: &str = "/dev/shm";
const BLOCK_BYTES: u64 = 1 << 20;
const SEED: u64 = 0x11e7a7e;

/// A file without a name: it is gone with this process, however that ends.
#[derive(Debug)]
pub struct Corpus {
    file: File,
    /// Its length in bytes.
    pub bytes: u64,
    /// The folder that it is in.
    pub folder: PathBuf,
}

impl Corpus {
    /// A new one, written and then read once.
    pub fn new(bytes: u64) -> anyhow::Result<Corpus> {
        let memory = Path::new(MEMORY);
        let folder = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
        let why = || format!("{}: no room for a file of {} MiB", folder.display(), bytes >> 20);
        let file = tempfile::tempfile_in(&folder).with_context(why)?;
        fill(&file, bytes).with_context(why)?;
        touch(&file, bytes).with_context(why)?;
        Ok(Corpus { file, bytes, folder })
    }

    /// A path under which child processes find it.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()))
    }
}

fn fill(file: &File, bytes: u64) -> anyhow::Result<()> {
    let mut noise = SmallRng::seed_from_u64(SEED);
    let mut block = vec![0; BLOCK_BYTES as usize];
    for at in (0..bytes).step_by(block.len()) {
        interrupt::check()?;
        let n = BLOCK_BYTES.min(bytes - at) as usize;
        noise.fill_bytes(&mut block[..n]);
        file.write_all_at(&block[..n], at)?;
    }
    Ok(())
}

fn touch(file: &File, bytes: u64) -> anyhow::Result<()> {
    let mut block = vec![0; BLOCK_BYTES as usize];
    for at in (0..bytes).step_by(block.len()) {
        interrupt::check()?;
        file.read_exact_at(&mut block[..BLOCK_BYTES.min(bytes - at) as usize], at)?;
    }
    Ok(())
}
