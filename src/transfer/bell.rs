//! Waking whoever drives the control connection, once for however many reasons.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mio::Waker;

/// Rung by threads that have something to say; its clones share it.
#[derive(Clone, Debug)]
pub struct Bell {
    is_rung: Arc<AtomicBool>,
    waker: Arc<Waker>,
}

impl Bell {
    /// A bell that wakes a mio loop.
    pub fn new(waker: Arc<Waker>) -> Bell {
        Bell { is_rung: Arc::default(), waker }
    }

    /// Have control look.
    pub fn ring(&self) {
        if !self.is_rung.swap(true, Ordering::AcqRel) {
            // A loop that is gone has nobody who looks.
            let _ = self.waker.wake();
        }
    }

    /// Control is about to look: what happens from now on rings again.
    pub fn answer(&self) {
        self.is_rung.store(false, Ordering::Release);
    }
}
