//! A hot source: a memfd small enough to stay in the CPU's cache. Flatters; cells that use it are labelled so.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use rand::{RngCore, SeedableRng, rngs::SmallRng};

use super::StoreError;
use crate::mover::Source;
use crate::sys::mapping::FileMapping;

/// The region is at least so long, so that small calls do not all hit the same page.
pub const HOT_BYTES_MIN: u64 = 512 << 10;

const NAME: &str = "hot source";

/// A source of random bytes for calls of `chunk` bytes: the least multiple of `chunk` that is [`HOT_BYTES_MIN`] long.
pub fn open(chunk: u64) -> Result<Source, StoreError> {
    let chunk = chunk.max(1);
    let len = HOT_BYTES_MIN.div_ceil(chunk).saturating_mul(chunk);
    let fd = memfd_create(c"linerate-hot", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)
        .map_err(|error| StoreError::system(NAME, "memfd_create", error))?;
    let file = File::from(fd);
    fill(&file, len).map_err(|error| StoreError::system(NAME, "filling it", error))?;
    // Nobody can shorten it any more, us included.
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW))
        .map_err(|error| StoreError::system(NAME, "sealing it", error))?;
    let mapping = FileMapping::new(&file, 0, len as usize)
        .and_then(|mapping| mapping.populate(0, len as usize).map(|()| mapping))
        .map_err(|error| StoreError::system(NAME, "mapping it", error))?;
    Ok(Source {
        file: Arc::new(file),
        len,
        name: NAME.into(),
        resident: Some(Arc::new(mapping)),
        segments: Arc::default(),
    })
}

fn fill(file: &File, len: u64) -> std::io::Result<()> {
    let mut noise = SmallRng::seed_from_u64(len);
    let mut block = vec![0; 64 << 10];
    let mut at = 0;
    while at < len {
        let n = block.len().min((len - at) as usize);
        noise.fill_bytes(&mut block[..n]);
        file.write_all_at(&block[..n], at)?;
        at += n as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_a_whole_number_of_chunks_and_cannot_shrink() {
        for chunk in [1, 3000, 1 << 20, 5 << 20] {
            let source = open(chunk).unwrap();
            assert!(source.len >= HOT_BYTES_MIN && source.len.is_multiple_of(chunk));
            assert!(source.file.set_len(1).is_err());
        }
    }
}
