//! A hot source: a memfd small enough to stay in the CPU's cache. Flatters; cells that use it are labelled so.
//!
//! Its bytes are one piece of 32 KiB, repeated. Methods that send from memory read that piece over and over, however
//! long a call is: it stays in the first-level cache, as bytes do that a program has just made. sendfile, splice and
//! mmap work on the file itself, which is as long as one call; the receiver then reads from its pages.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use rand::{RngCore, SeedableRng, rngs::SmallRng};

use super::StoreError;
use crate::mover::Source;
use crate::sys::mapping::{FileMapping, page_bytes};

/// What repeats. Fits the first-level data cache of any CPU in use.
pub const PIECE_BYTES: usize = 32 << 10;

const NAME: &str = "hot source";

/// A source of random bytes for calls of `chunk` bytes: the least multiple of `chunk` that holds a piece.
pub fn open(chunk: u64) -> Result<Source, StoreError> {
    let chunk = chunk.max(1);
    let len = (PIECE_BYTES as u64).div_ceil(chunk).saturating_mul(chunk);
    let fd = memfd_create(c"linerate-hot", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)
        .map_err(|error| StoreError::system(NAME, "memfd_create", error))?;
    let file = File::from(fd);
    fill(&file, len).map_err(|error| StoreError::system(NAME, "filling it", error))?;
    // Nobody can change it any more, us included: what a mapping of it may be read for.
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).map_err(|error| StoreError::system(NAME, "sealing it", error))?;
    let mapping = map(&file, len as usize).map_err(|error| StoreError::system(NAME, "mapping it", error))?;
    let resident = Some(Arc::new(mapping));
    Ok(Source { file: Arc::new(file), len, name: NAME.into(), resident, segments: Arc::default() })
}

fn fill(file: &File, len: u64) -> std::io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    SmallRng::seed_from_u64(len).fill_bytes(&mut piece);
    let mut at = 0;
    while at < len {
        let n = piece.len().min((len - at) as usize);
        file.write_all_at(&piece[..n], at)?;
        at += n as u64;
    }
    Ok(())
}

fn map(file: &File, len: usize) -> std::io::Result<FileMapping> {
    // With pages larger than a piece there is nothing to repeat.
    let mapping = match PIECE_BYTES.is_multiple_of(page_bytes() as usize) {
        true => FileMapping::repeated(file, PIECE_BYTES, len)?,
        false => FileMapping::new(file, 0, len)?,
    };
    mapping.populate(0, len)?;
    Ok(mapping)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn it_holds_a_whole_number_of_chunks_and_cannot_shrink() {
        for chunk in [1, 3000, 1 << 20, 5 << 20] {
            let source = open(chunk).unwrap();
            assert!(source.len >= PIECE_BYTES as u64 && source.len.is_multiple_of(chunk));
            assert!(source.file.set_len(1).is_err());
        }
    }

    #[test]
    fn memory_and_file_hold_the_same_bytes() {
        let source = open(100_000).unwrap();
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut sent = 0;
        let mapping = source.resident.as_ref().unwrap();
        let (mut from_memory, mut from_file) = (Vec::new(), vec![0; source.len as usize]);
        while sent < source.len {
            let n = mapping.send(near.as_fd(), sent, (source.len - sent).min(9_999) as usize, 0).unwrap();
            let mut got = vec![0; n];
            far.read_exact(&mut got).unwrap();
            from_memory.extend(got);
            sent += n as u64;
        }
        source.file.read_exact_at(&mut from_file, 0).unwrap();
        assert!(from_memory == from_file);
        let mut copied = vec![0; source.len as usize - 3];
        mapping.copy_to(3, &mut copied).unwrap();
        assert!(copied == from_file[3..]);
    }
}
