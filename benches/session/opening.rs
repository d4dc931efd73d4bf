//! Sessions one after another.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use linerate::link::{Access, Link};
use linerate::measure::histogram::LatencyHistogram;
use serde::Serialize;

use crate::common::interrupt;
use crate::serving::{Serving, own_descriptors};

/// Not counted: the first draws the first random number, which takes aws-lc tens of milliseconds.
const FIRST_SESSIONS: u32 = 10;
/// Time for the server to notice that its sessions are over.
const SETTLE_MAX: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Opened {
    /// Sessions that were timed.
    pub sessions: u32,
    /// Half of them took at most so long, ns.
    pub p50_ns: u64,
    /// Nine of ten.
    pub p90_ns: u64,
    /// 99 of 100.
    pub p99_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// What both ends agreed on.
    pub cipher: String,
    /// Descriptors that our end has open more than before.
    pub descriptors_left: usize,
    /// … the server.
    pub server_descriptors_left: usize,
}

impl Opened {
    /// An error if something was left behind.
    pub fn check(&self) -> anyhow::Result<()> {
        let (ours, theirs) = (self.descriptors_left, self.server_descriptors_left);
        anyhow::ensure!(ours == 0, "{ours} descriptors left after {} sessions", self.sessions);
        anyhow::ensure!(theirs == 0, "the server has {theirs} descriptors left after {} sessions", self.sessions);
        Ok(())
    }
}

/// Open so many.
pub fn measure(serving: &Serving, sessions: u32) -> anyhow::Result<Opened> {
    let idle = serving.descriptors()?;
    for _ in 0..FIRST_SESSIONS {
        open(serving.address, &serving.access, |_| ())?;
    }
    let theirs = settle(serving, idle)?;
    let ours = own_descriptors()?;
    let mut histogram = LatencyHistogram::new();
    let mut cipher = "";
    for _ in 0..sessions {
        let (took, used) = open(serving.address, &serving.access, |link| link.cipher())?;
        histogram.record_duration(took);
        cipher = used;
    }
    let at = |q| histogram.quantile_ns(q);
    Ok(Opened {
        sessions,
        p50_ns: at(0.5),
        p90_ns: at(0.9),
        p99_ns: at(0.99),
        max_ns: at(1.0),
        cipher: cipher.to_owned(),
        descriptors_left: own_descriptors()?.saturating_sub(ours),
        server_descriptors_left: settle(serving, theirs)?.saturating_sub(theirs),
    })
}

/// One session, closed when we were let in: how long that took, and what `look` sees then.
pub fn open<T>(address: SocketAddr, access: &Access, look: impl FnOnce(&Link) -> T) -> anyhow::Result<(Duration, T)> {
    interrupt::check()?;
    let since = Instant::now();
    let link = Link::connect(&[address], None, access)?;
    let took = since.elapsed();
    let seen = look(&link);
    link.close();
    Ok((took, seen))
}

/// Descriptors of the server, once they are no more than `wanted` or it had its time.
fn settle(serving: &Serving, wanted: usize) -> anyhow::Result<usize> {
    let deadline = Instant::now() + SETTLE_MAX;
    loop {
        let open = serving.descriptors()?;
        if open <= wanted || Instant::now() >= deadline {
            return Ok(open);
        }
        sleep(LOOK_EVERY);
    }
}
