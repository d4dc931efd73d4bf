//! A worker's buffers: a bounded number of one size, handed out and given back without a lock or an allocation.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use memmap2::MmapMut;

/// What a pool holds at most, unless two buffers of the wanted size are already more.
pub const POOL_BYTES_MAX: usize = 16 << 20;
/// A pool never has more buffers than this.
pub const POOL_BUFFERS_MAX: usize = 256;
/// A pool never has fewer: one to fill while the kernel still holds another.
pub const POOL_BUFFERS_MIN: usize = 2;

/// Buffers of this size and more are made of huge pages, where the system gives some.
const HUGE_FROM_BYTES: usize = 256 << 10;
/// A huge page.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Buffers of one size, made when first wanted.
///
/// Invariant: `live` counts the buffers that exist, in `free` or out; it never passes `limit`.
#[derive(Debug)]
pub struct Pool {
    buffer_bytes: usize,
    limit: usize,
    free: Vec<PoolBuf>,
    live: Arc<AtomicUsize>,
}

/// One buffer. A buffer that is dropped instead of given back makes room for a new one.
#[derive(Debug)]
pub struct PoolBuf {
    memory: MmapMut,
    /// Bytes of it that are the buffer; the rest fills up a huge page.
    len: usize,
    live: Arc<AtomicUsize>,
}

impl Pool {
    /// A pool of buffers of `buffer_bytes`, at least 1.
    pub fn new(buffer_bytes: usize) -> Pool {
        let buffer_bytes = buffer_bytes.max(1);
        let limit = (POOL_BYTES_MAX / mapped_bytes(buffer_bytes)).clamp(POOL_BUFFERS_MIN, POOL_BUFFERS_MAX);
        Pool { buffer_bytes, limit, free: Vec::with_capacity(limit), live: Arc::default() }
    }

    /// Bytes of each buffer.
    pub fn buffer_bytes(&self) -> usize {
        self.buffer_bytes
    }

    /// A buffer; `None` when all are out, or when the system has no memory.
    pub fn take(&mut self) -> Option<PoolBuf> {
        self.free.pop().or_else(|| self.make())
    }

    /// The same; where others hold all that there are, one beyond them, which is dropped when it is given back. For whoever
    /// would not be woken by one that gets free.
    pub fn take_or_make(&mut self) -> Option<PoolBuf> {
        self.take().or_else(|| Pool::new(self.buffer_bytes).take())
    }

    /// Whether [`Pool::take`] would find nothing.
    pub fn is_empty(&self) -> bool {
        self.free.is_empty() && self.live.load(Ordering::Relaxed) >= self.limit
    }

    /// Give a buffer back. One of another pool is dropped.
    pub fn give(&mut self, buffer: PoolBuf) {
        if Arc::ptr_eq(&buffer.live, &self.live) {
            self.free.push(buffer);
        }
    }

    fn make(&mut self) -> Option<PoolBuf> {
        if self.live.load(Ordering::Relaxed) >= self.limit {
            return None;
        }
        let memory = MmapMut::map_anon(mapped_bytes(self.buffer_bytes)).ok()?;
        if self.buffer_bytes >= HUGE_FROM_BYTES {
            // A hint: without huge pages the buffer is as good, only slower.
            let _ = memory.advise(memmap2::Advice::HugePage);
        }
        self.live.fetch_add(1, Ordering::Relaxed);
        Some(PoolBuf { memory, len: self.buffer_bytes, live: self.live.clone() })
    }
}

/// What a buffer takes of the address space.
fn mapped_bytes(buffer_bytes: usize) -> usize {
    if buffer_bytes < HUGE_FROM_BYTES { buffer_bytes } else { buffer_bytes.next_multiple_of(HUGE_PAGE_BYTES) }
}

impl std::ops::Deref for PoolBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.memory[..self.len]
    }
}

impl std::ops::DerefMut for PoolBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.len]
    }
}

impl Drop for PoolBuf {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_bounded_and_gets_its_buffers_back() {
        let mut pool = Pool::new(8 << 20);
        let (first, second) = (pool.take().unwrap(), pool.take().unwrap());
        assert_eq!(first.len(), 8 << 20);
        assert!(pool.is_empty() && pool.take().is_none());
        let beyond = pool.take_or_make().unwrap();
        pool.give(beyond);
        assert!(pool.is_empty(), "it is none of the pool");
        pool.give(first);
        assert!(!pool.is_empty());
        let first = pool.take().unwrap();
        drop(second);
        assert!(pool.take().is_some(), "a dropped buffer makes room");
        let mut other = Pool::new(1);
        other.give(first);
        assert_eq!(other.free.len(), 0, "buffers of another pool are not taken");
    }

    #[test]
    fn limits_hold_for_every_size() {
        for size in [0, 1, 4096, 1 << 20, 64 << 20] {
            let pool = Pool::new(size);
            assert!(pool.limit >= POOL_BUFFERS_MIN && pool.limit <= POOL_BUFFERS_MAX);
            assert!(pool.limit * pool.buffer_bytes() <= POOL_BYTES_MAX.max(2 * pool.buffer_bytes()));
        }
    }
}
