//! How long to wait before the next attempt, and when that is enough.

use std::time::{Duration, Instant};

/// The first and the longest wait before trying again.
const WAIT_FIRST: Duration = Duration::from_millis(250);
const WAIT_MAX: Duration = Duration::from_secs(8);

/// Attempts at one thing.
pub(super) struct Retry {
    /// For so long since the last progress it is tried again.
    retry_for: Duration,
    wait: Duration,
    since: Instant,
}

impl Retry {
    /// The first attempt begins.
    pub(super) fn new(retry_for: Duration) -> Retry {
        Retry { retry_for, wait: WAIT_FIRST, since: Instant::now() }
    }

    /// It has come further.
    pub(super) fn progress(&mut self) {
        *self = Retry::new(self.retry_for);
    }

    /// How long to wait before the next attempt; nothing when there is to be none.
    pub(super) fn wait(&mut self) -> Option<Duration> {
        let wait = self.wait;
        self.wait = (wait * 2).min(WAIT_MAX);
        (self.since.elapsed() + wait <= self.retry_for).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_become_longer_until_there_is_progress() {
        let mut retry = Retry::new(Duration::MAX);
        let waits: Vec<u128> = (0..7).filter_map(|_| retry.wait()).map(|wait| wait.as_millis()).collect();
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 8000, 8000]);
        retry.progress();
        assert_eq!(retry.wait(), Some(WAIT_FIRST));
        assert_eq!(Retry::new(Duration::ZERO).wait(), None);
    }
}
