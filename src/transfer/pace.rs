//! `--limit`: a token bucket that all readers of a copy draw from, and a pace for the sockets.
//!
//! The bucket keeps the rate over all streams; the kernel spreads what it grants, which are pieces of up to 16 MiB, over
//! the time until the next.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::proto::message::SocketOptions;

/// No stream is paced more slowly, bytes a second: it has to be made and agreed upon, too.
const STREAM_PACE_MIN: u64 = 64 << 10;
/// What may be sent at once after a pause.
const BURST: Duration = Duration::from_millis(50);

/// So many bytes a second, over all who ask.
#[derive(Debug)]
pub struct Pace {
    bytes_per_s: u64,
    /// When everything that was granted will have been sent.
    paid_until: Mutex<Instant>,
}

impl Pace {
    /// At least one byte a second.
    pub fn new(bytes_per_s: u64) -> Pace {
        Pace { bytes_per_s: bytes_per_s.max(1), paid_until: Mutex::new(Instant::now()) }
    }

    /// Take `bytes`; how long to wait before they are sent.
    pub fn take(&self, bytes: u64, now: Instant) -> Duration {
        let mut paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        let from = now.checked_sub(BURST).map_or(*paid_until, |earliest| (*paid_until).max(earliest));
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_s as f64);
        *paid_until = from + cost;
        from.saturating_duration_since(now)
    }
}

/// Options of the sockets of a copy at one end: how to send is of interest only where content is sent. Each stream gets
/// its share of the limit, and a twentieth more for headers.
pub fn sockets_for(wanted: &SocketOptions, sends: bool, limit: Option<u64>, streams: u32) -> SocketOptions {
    if !sends {
        return SocketOptions { congestion: None, pace: None, ..wanted.clone() };
    }
    let share = limit.map(|limit| {
        let share = limit / u64::from(streams.max(1));
        share.saturating_add(share / 20).max(STREAM_PACE_MIN)
    });
    SocketOptions { pace: wanted.pace.into_iter().chain(share).min(), ..wanted.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_share_the_limit_where_content_is_sent() {
        let wanted = SocketOptions { congestion: Some("cubic".into()), ..SocketOptions::default() };
        let pace = |sends, limit, streams| sockets_for(&wanted, sends, limit, streams).pace;
        assert_eq!(pace(true, Some(8_000_000), 4), Some(2_100_000));
        assert_eq!(pace(true, Some(1), 4), Some(STREAM_PACE_MIN));
        assert_eq!(pace(true, Some(u64::MAX), 1), Some(u64::MAX));
        assert_eq!((pace(true, None, 4), pace(false, Some(8_000_000), 4)), (None, None));
        let paced = SocketOptions { pace: Some(1000), ..wanted.clone() };
        assert_eq!(sockets_for(&paced, true, Some(8_000_000), 1).pace, Some(1000));
        assert_eq!(sockets_for(&wanted, true, None, 1).congestion, wanted.congestion);
        assert_eq!(sockets_for(&wanted, false, None, 1).congestion, None);
    }

    #[test]
    fn bytes_are_granted_at_the_rate() {
        let pace = Pace::new(1000);
        let start = Instant::now() + Duration::from_secs(1);
        assert_eq!(pace.take(1000, start), Duration::ZERO);
        // 1 s is paid, of which the burst was saved up.
        assert_eq!(pace.take(500, start), Duration::from_millis(950));
        assert_eq!(pace.take(1, start), Duration::from_millis(1450));
        let later = start + Duration::from_secs(60);
        assert_eq!(pace.take(100, later), Duration::ZERO);
        assert_eq!(pace.take(100, later), Duration::from_millis(50));
    }
}
