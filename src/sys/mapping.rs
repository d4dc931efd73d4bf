//! File mappings that our own code never reads, so that a file truncated under us cannot raise SIGBUS.
//!
//! Only the kernel follows the pointers, inside `send`, `madvise` and `process_vm_readv`; where the file has no page
//! any more these return EFAULT. There is deliberately no way to get a `&[u8]` out of a [`FileMapping`]. The one
//! exception is a memfd that is sealed against shrinking and writing: [`FileMapping::copy_to`] reads that directly.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use memmap2::{MmapOptions, MmapRaw};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};

/// `MADV_POPULATE_READ`, Linux 5.14.
const MADV_POPULATE_READ: i32 = 22;

/// A read-only, shared mapping of a part of a file.
#[derive(Debug)]
pub struct FileMapping {
    memory: Memory,
    base: u64,
    /// The file can neither shrink nor change: it was sealed so before it was mapped.
    is_sealed: bool,
}

#[derive(Debug)]
enum Memory {
    Part(MmapRaw),
    Repeated(Repeated),
}

impl FileMapping {
    /// Map `len` bytes of `file` from `base`, which must be a multiple of the page size.
    pub fn new(file: &File, base: u64, len: usize) -> io::Result<FileMapping> {
        let raw = MmapOptions::new().offset(base).len(len).map_raw_read_only(file)?;
        Ok(FileMapping { memory: Memory::Part(raw), base, is_sealed: is_sealed(file) })
    }

    /// Map the first `piece` bytes of `file`, a multiple of the page size, again and again, as if it were a file of
    /// `len` bytes. However long one send is, it then reads no more memory than a piece.
    pub fn repeated(file: &File, piece: usize, len: usize) -> io::Result<FileMapping> {
        let memory = Memory::Repeated(Repeated::new(file, piece, len)?);
        Ok(FileMapping { memory, base: 0, is_sealed: is_sealed(file) })
    }

    /// Whether the mapping holds all of `len` bytes of the file from `offset`.
    pub fn covers(&self, offset: u64, len: usize) -> bool {
        let end = self.base + self.len() as u64;
        offset >= self.base && offset.checked_add(len as u64).is_some_and(|wanted| wanted <= end)
    }

    /// First file offset in the mapping.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Bytes mapped.
    pub fn len(&self) -> usize {
        match &self.memory {
            Memory::Part(raw) => raw.len(),
            Memory::Repeated(repeated) => repeated.len,
        }
    }

    /// Whether nothing is mapped.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Send bytes of the file straight from the mapping, without blocking. `flags` are added to MSG_DONTWAIT and
    /// MSG_NOSIGNAL. EFAULT means that the file no longer reaches so far.
    pub fn send(&self, sock: BorrowedFd<'_>, offset: u64, len: usize, flags: i32) -> io::Result<usize> {
        let start = self.pointer(offset, len)?;
        let flags = flags | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: `start..start + len` lies inside the mapping, which lives as long as `self`; only the kernel reads
        // it, and it answers with EFAULT where the file has shrunk. With MSG_ZEROCOPY the kernel holds references
        // to the pages themselves, so they outlive even the mapping.
        unsafe { super::raw::send(sock, start, len, flags) }
    }

    /// Copy bytes of the file out of the mapping. EFAULT means that the file no longer reaches so far.
    pub fn copy_to(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let start = self.pointer(offset, into.len())?;
        if self.is_sealed {
            // SAFETY: `start..start + len` lies inside the mapping, and `into` is memory of ours elsewhere. The seals
            // say that the file never shrinks, so every page is there, and never changes, so nobody writes meanwhile.
            unsafe { std::ptr::copy_nonoverlapping(start, into.as_mut_ptr(), into.len()) };
            return Ok(());
        }
        let wanted = [RemoteIoVec { base: start.addr(), len: into.len() }];
        let len = into.len();
        let got = process_vm_readv(nix::unistd::getpid(), &mut [io::IoSliceMut::new(into)], &wanted)?;
        // It stops at the first page that is not there.
        if got == len { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EFAULT)) }
    }

    /// Make the pages of a range present; EFAULT when the file no longer reaches so far. Before Linux 5.14 this
    /// only asks for readahead.
    pub fn populate(&self, offset: u64, len: usize) -> io::Result<()> {
        match self.advise(offset, len, MADV_POPULATE_READ) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                // Only a hint: sending works without it.
                let _ = self.advise(offset, len, libc::MADV_WILLNEED);
                Ok(())
            }
            other => other,
        }
    }

    /// Tell the kernel that the mapping is read front to back. A hint: failure changes nothing.
    pub fn advise_sequential(&self) {
        if let Memory::Part(raw) = &self.memory {
            let _ = raw.advise(memmap2::Advice::Sequential);
        }
    }

    fn advise(&self, offset: u64, len: usize, advice: i32) -> io::Result<()> {
        let page = page_bytes();
        let slack = (offset - self.base) % page;
        let start = self.pointer(offset - slack, len + slack as usize)?;
        // SAFETY: the range lies inside the mapping and neither MADV_POPULATE_READ nor MADV_WILLNEED changes what is
        // mapped or what it holds.
        let got = unsafe { libc::madvise(start.cast_mut().cast(), len + slack as usize, advice) };
        if got == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    fn pointer(&self, offset: u64, len: usize) -> io::Result<*const u8> {
        if !self.covers(offset, len) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let start = match &self.memory {
            Memory::Part(raw) => raw.as_ptr(),
            Memory::Repeated(repeated) => repeated.start.as_ptr().cast_const().cast(),
        };
        // SAFETY: `covers` says that the offset lies inside the mapping, so the pointer stays in its allocation.
        Ok(unsafe { start.add((offset - self.base) as usize) })
    }
}

/// The same piece of a file, mapped side by side.
///
/// Invariant: `start..start + mapped` is ours, and unmapped when this is dropped; `len` ≤ `mapped`.
#[derive(Debug)]
struct Repeated {
    start: NonNull<libc::c_void>,
    len: usize,
    mapped: usize,
}

// SAFETY: the range belongs to this value alone, is never written by us, and only the kernel follows its addresses.
unsafe impl Send for Repeated {}
// SAFETY: as above; sharing it shares only reads by the kernel.
unsafe impl Sync for Repeated {}

impl Repeated {
    fn new(file: &File, piece: usize, len: usize) -> io::Result<Repeated> {
        let sizes = NonZeroUsize::new(piece).zip(NonZeroUsize::new(len.next_multiple_of(piece.max(1))));
        let (piece, mapped) = sizes.ok_or(io::ErrorKind::InvalidInput)?;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: a new range at a place of the kernel's choice, which nobody else knows.
        let start = unsafe { mmap_anonymous(None, mapped, ProtFlags::PROT_NONE, flags)? };
        // From here on dropping it gives the range back, whatever fails.
        let repeated = Repeated { start, len, mapped: mapped.get() };
        for at in (0..mapped.get()).step_by(piece.get()) {
            let here = NonZeroUsize::new(start.as_ptr().addr() + at);
            let flags = MapFlags::MAP_SHARED | MapFlags::MAP_FIXED;
            // SAFETY: MAP_FIXED replaces only pages of the range that was reserved above, which is ours: `at + piece`
            // is at most `mapped`, because that is a multiple of `piece`.
            unsafe { mmap(here, piece, ProtFlags::PROT_READ, flags, file, 0)? };
        }
        Ok(repeated)
    }
}

impl Drop for Repeated {
    fn drop(&mut self) {
        // SAFETY: the range is ours, and nobody can hold an address in it any more: none is ever given out.
        let _ = unsafe { munmap(self.start, self.mapped) };
    }
}

/// Whether a file is a memfd that can neither shrink nor be written any more.
fn is_sealed(file: &File) -> bool {
    let wanted = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_WRITE;
    // Only a memfd has seals; other files answer with EINVAL.
    fcntl(file, FcntlArg::F_GET_SEALS).is_ok_and(|seals| SealFlag::from_bits_truncate(seals).contains(wanted))
}

/// Size of a memory page.
pub fn page_bytes() -> u64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().map_or(4096, |n| n as u64)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_file_truncated_under_the_mapping_is_an_error_and_no_signal() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&vec![7; 64 * 1024], 0).unwrap();
        let mapping = FileMapping::new(&file, 0, 64 * 1024).unwrap();
        let (near, mut far) = UnixStream::pair().unwrap();
        mapping.populate(100, 5000).unwrap();
        assert_eq!(mapping.send(near.as_fd(), 8000, 3, 0).unwrap(), 3);
        let mut got = [0; 3];
        far.read_exact(&mut got).unwrap();
        assert_eq!(got, [7; 3]);
        let mut copied = [0; 5000];
        mapping.copy_to(9000, &mut copied).unwrap();
        assert_eq!(copied, [7; 5000]);
        file.set_len(10_000).unwrap();
        assert_eq!(mapping.copy_to(9000, &mut copied).unwrap_err().raw_os_error(), Some(libc::EFAULT));
        file.set_len(0).unwrap();
        let fault = mapping.send(near.as_fd(), 8000, 3, 0).unwrap_err();
        assert_eq!(fault.raw_os_error(), Some(libc::EFAULT));
        assert!(mapping.populate(0, 64 * 1024).is_err());
    }

    #[test]
    fn a_piece_repeats_as_if_the_file_did() {
        let page = page_bytes() as usize;
        let file = tempfile::tempfile().unwrap();
        let pattern: Vec<u8> = (0..page).map(|n| (n % 251) as u8).collect();
        file.write_all_at(&pattern, 0).unwrap();
        let mapping = FileMapping::repeated(&file, page, 2 * page + 10).unwrap();
        assert_eq!(mapping.len(), 2 * page + 10);
        mapping.populate(0, mapping.len()).unwrap();
        let (near, mut far) = UnixStream::pair().unwrap();
        let offset = page as u64 - 5;
        assert_eq!(mapping.send(near.as_fd(), offset, page + 8, 0).unwrap(), page + 8);
        let mut got = vec![0; page + 8];
        far.read_exact(&mut got).unwrap();
        let expected: Vec<u8> = pattern.iter().cycle().skip(page - 5).take(page + 8).copied().collect();
        assert_eq!(got, expected);
        assert!(mapping.send(near.as_fd(), 0, 3 * page, 0).is_err());
        assert!(FileMapping::repeated(&file, 0, 1).is_err() && FileMapping::repeated(&file, page, 0).is_err());
    }

    #[test]
    fn ranges_outside_the_mapping_are_refused() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8192).unwrap();
        let mapping = FileMapping::new(&file, 4096, 4096).unwrap();
        let (near, _far) = UnixStream::pair().unwrap();
        for (offset, len) in [(0, 1), (4095, 2), (8192, 1), (u64::MAX, 1), (4096, 4097)] {
            assert!(mapping.send(near.as_fd(), offset, len, 0).is_err(), "{offset} {len}");
        }
        assert!(mapping.covers(4096, 4096) && !mapping.is_empty());
    }
}
