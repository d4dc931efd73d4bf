//! Whether what somebody sends comes fast enough to be waited for.
//!
//! Only waiting counts: how long a disk takes is not the sender's fault. Whoever sends less than [`WINDOW_BYTES_MIN`] in
//! a [`WINDOW`] of waiting, or nothing for [`SILENCE_MAX`], is not waited for any longer: he would hold a place that
//! others want. What came until then stays, and he can go on with it.

use std::time::Duration;

use tokio::time::{Instant, timeout};

/// What nothing comes of for so long is over.
pub const SILENCE_MAX: Duration = Duration::from_secs(30);
/// So much has to come while it is waited for so long: about 1 KiB/s, which the slowest phone does.
pub const WINDOW: Duration = Duration::from_secs(60);
/// See [`WINDOW`].
pub const WINDOW_BYTES_MIN: u64 = 64 << 10;

/// Measures one body.
#[derive(Debug, Default)]
pub struct Meter {
    waited: Duration,
    came: u64,
}

/// Why somebody is not waited for any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tired {
    /// Nothing came.
    Silent,
    /// Too little came.
    Slow,
}

impl Meter {
    /// Wait for what comes next.
    pub async fn wait<T>(&mut self, next: impl Future<Output = T>) -> Result<T, Tired> {
        // Judged before more is waited for: what has just ended is not refused for having been slow.
        if self.waited >= WINDOW {
            if self.came < WINDOW_BYTES_MIN {
                return Err(Tired::Slow);
            }
            *self = Meter::default();
        }
        let since = Instant::now();
        let come = timeout(SILENCE_MAX, next).await.map_err(|_| Tired::Silent)?;
        self.waited += since.elapsed();
        Ok(come)
    }

    /// So much came.
    pub fn add(&mut self, bytes: u64) {
        self.came = self.came.saturating_add(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn after(seconds: u64, meter: &mut Meter, bytes: u64) -> Result<(), Tired> {
        meter.wait(tokio::time::sleep(Duration::from_secs(seconds))).await?;
        meter.add(bytes);
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn trickles_are_not_waited_for_and_slow_phones_are() {
        let mut meter = Meter::default();
        for n in 0..3 {
            assert_eq!(after(20, &mut meter, 1).await, Ok(()), "{n}");
        }
        assert_eq!(after(20, &mut meter, 1).await, Err(Tired::Slow));
        let mut meter = Meter::default();
        assert_eq!(after(31, &mut meter, 1 << 20).await, Err(Tired::Silent));
        for _ in 0..1000 {
            assert_eq!(after(5, &mut meter, 6 << 10).await, Ok(()));
        }
        // A disk that takes its time between two pieces is not his fault.
        let mut meter = Meter::default();
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_secs(600)).await;
            assert_eq!(after(0, &mut meter, 1).await, Ok(()));
        }
    }
}
