//! Buffers that threads share: a bounded number of one size. An empty pool is the back-pressure of a copy.
//!
//! Threads that read or store wait for one ([`Buffers::take`]); a worker's loop never waits: it finds none
//! ([`Buffers::try_take`]) and is nudged when one comes back.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use memmap2::MmapMut;

use super::Nudger;

/// Buffers of this size and more are made of huge pages, where the system gives some.
const HUGE_FROM_BYTES: usize = 2 << 20;

/// A pool; its clones share it.
#[derive(Clone, Debug)]
pub struct Buffers {
    shared: Arc<Shared>,
}

/// One buffer, which goes back when it is dropped.
#[derive(Debug)]
pub struct Buffer {
    /// `None` only while it is being dropped.
    memory: Option<MmapMut>,
    len: usize,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    bytes: usize,
    limit: usize,
    state: Mutex<State>,
    returned: Condvar,
    /// Who is told of a buffer that a loop found lacking.
    nudger: OnceLock<Nudger>,
}

/// Invariant: `live` counts the buffers that exist, in `free` or out; it never passes the limit.
#[derive(Debug, Default)]
struct State {
    free: Vec<MmapMut>,
    live: usize,
    is_closed: bool,
    is_missed: bool,
}

impl Buffers {
    /// At most `limit` buffers (at least 1) of `bytes` (at least 1), made when first wanted.
    pub fn new(bytes: usize, limit: usize) -> Buffers {
        let (state, returned, nudger) = (Mutex::default(), Condvar::new(), OnceLock::new());
        Buffers { shared: Arc::new(Shared { bytes: bytes.max(1), limit: limit.max(1), state, returned, nudger }) }
    }

    /// Bytes that a buffer holds.
    pub fn buffer_bytes(&self) -> usize {
        self.shared.bytes
    }

    /// Have these streams driven when a buffer comes back that [`Buffers::try_take`] missed. Only the first counts.
    pub fn nudge_with(&self, nudger: Nudger) {
        let _ = self.shared.nudger.set(nudger);
    }

    /// A buffer, when there is one; `None` once the pool is closed, or when the system has no memory.
    pub fn take(&self) -> Option<Buffer> {
        let mut state = self.shared.lock();
        loop {
            if state.is_closed {
                return None;
            }
            if state.can_give(self.shared.limit) {
                return self.give(state);
            }
            state = self.shared.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A buffer, if there is one.
    pub fn try_take(&self) -> Option<Buffer> {
        let mut state = self.shared.lock();
        if state.is_closed || !state.can_give(self.shared.limit) {
            state.is_missed = true;
            return None;
        }
        self.give(state)
    }

    /// Nobody gets a buffer any more; whoever waits for one stops waiting.
    pub fn close(&self) {
        self.shared.lock().is_closed = true;
        self.shared.returned.notify_all();
    }

    fn give(&self, mut state: MutexGuard<'_, State>) -> Option<Buffer> {
        let memory = match state.free.pop() {
            Some(memory) => memory,
            None => {
                let memory = MmapMut::map_anon(self.shared.bytes).ok()?;
                if self.shared.bytes >= HUGE_FROM_BYTES {
                    // A hint: without huge pages the buffer is as good, only slower.
                    let _ = memory.advise(memmap2::Advice::HugePage);
                }
                state.live += 1;
                memory
            }
        };
        Some(Buffer { memory: Some(memory), len: 0, shared: self.shared.clone() })
    }
}

impl State {
    fn can_give(&self, limit: usize) -> bool {
        !self.free.is_empty() || self.live < limit
    }
}

impl Shared {
    /// A thread that panicked leaves a whole state behind: nothing is half done in it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buffer {
    /// What was put into it.
    pub fn filled(&self) -> &[u8] {
        &self.all()[..self.len]
    }

    /// Room behind what was put into it; say how much of it was used with [`Buffer::fill`].
    pub fn room(&mut self) -> &mut [u8] {
        let len = self.len;
        self.memory.as_mut().map_or(&mut [][..], |memory| &mut memory[len..])
    }

    /// `n` more bytes were put into its room.
    pub fn fill(&mut self, n: usize) {
        self.len = (self.len + n).min(self.all().len());
    }

    /// Nothing is in it any more.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Exchange what two buffers of the same size hold, without copying it; others keep what they have.
    pub fn swap(&mut self, other: &mut Buffer) {
        if self.shared.bytes == other.shared.bytes {
            std::mem::swap(&mut self.memory, &mut other.memory);
            std::mem::swap(&mut self.len, &mut other.len);
        }
    }

    fn all(&self) -> &[u8] {
        self.memory.as_deref().unwrap_or(&[])
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let Some(memory) = self.memory.take() else { return };
        let mut state = self.shared.lock();
        state.free.push(memory);
        let is_missed = std::mem::take(&mut state.is_missed);
        drop(state);
        self.shared.returned.notify_one();
        if is_missed && let Some(nudger) = self.shared.nudger.get() {
            nudger.nudge();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_bounded_and_gets_its_buffers_back() {
        let buffers = Buffers::new(8, 2);
        let (mut first, second) = (buffers.take().unwrap(), buffers.try_take().unwrap());
        assert!(buffers.try_take().is_none());
        first.room()[..3].copy_from_slice(b"abc");
        first.fill(3);
        assert_eq!(first.filled(), b"abc");
        assert_eq!(first.room().len(), 5);
        drop(first);
        assert!(buffers.try_take().unwrap().filled().is_empty(), "a buffer comes back empty");
        drop(second);
    }

    #[test]
    fn buffers_of_one_size_exchange_what_they_hold() {
        let hold = |pool: &Buffers, text: &[u8]| {
            let mut buffer = pool.take().unwrap();
            buffer.room()[..text.len()].copy_from_slice(text);
            buffer.fill(text.len());
            buffer
        };
        let (one, two, other) = (Buffers::new(8, 1), Buffers::new(8, 1), Buffers::new(9, 1));
        let (mut a, mut b, mut c) = (hold(&one, b"a"), hold(&two, b"bb"), hold(&other, b"ccc"));
        a.swap(&mut b);
        a.swap(&mut c);
        assert_eq!([a.filled(), b.filled(), c.filled()], [&b"bb"[..], b"a", b"ccc"]);
        a.clear();
        assert_eq!((a.filled().len(), a.room().len()), (0, 8));
    }

    #[test]
    fn whoever_waits_gets_one_or_is_told_that_none_comes() {
        let buffers = Buffers::new(1, 1);
        let held = buffers.take().unwrap();
        let waiting = std::thread::spawn({
            let buffers = buffers.clone();
            move || buffers.take().map(drop).is_some()
        });
        drop(held);
        assert!(waiting.join().unwrap());
        let held = buffers.take().unwrap();
        let waiting = std::thread::spawn({
            let buffers = buffers.clone();
            move || buffers.take().is_none()
        });
        buffers.close();
        assert!(waiting.join().unwrap());
        drop(held);
    }
}
