//! How many round trips a session takes to open.

use std::time::Duration;

use linerate::bench::statistics::median;
use serde::Serialize;

use crate::opening::{self, Opened};
use crate::proxy::{Flight, Proxy, Side};
use crate::serving::Serving;

/// Most that it may take.
pub const ROUND_TRIPS_MAX: usize = 3;
/// That of TCP itself, which ends at the proxy.
const OF_TCP: usize = 1;
/// Sessions through the proxy, of which the longest count is taken, and as many with a delay.
const SESSIONS: usize = 5;
/// How long the proxy holds back what either side says.
const DELAY: Duration = Duration::from_millis(20);

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Counted {
    /// That of TCP, and those in which the client speaks and waits for the answer.
    pub round_trips: usize,
    /// Most that it may be.
    pub round_trips_max: usize,
    /// Who spoke, until the client was let in.
    pub flights: Vec<Flight>,
    /// For comparison: that of TCP, and the time that is added when all is held back, in round trips of that delay.
    pub round_trips_by_time: f64,
    /// The delay each way, ms.
    pub delay_ms: u64,
}

impl Counted {
    /// An error if it takes too many.
    pub fn check(&self) -> anyhow::Result<()> {
        let (count, flights) = (self.round_trips, &self.flights);
        anyhow::ensure!(count <= ROUND_TRIPS_MAX, "a session takes {count} round trips: {flights:?}");
        Ok(())
    }
}

/// Count them.
pub fn count(serving: &Serving, opened: &Opened) -> anyhow::Result<Counted> {
    let mut flights = Vec::new();
    for _ in 0..SESSIONS {
        let (_, seen) = through_proxy(serving, Duration::ZERO)?;
        flights = if seen.len() > flights.len() { seen } else { flights };
    }
    let mut times = Vec::new();
    for _ in 0..SESSIONS {
        times.push(through_proxy(serving, DELAY)?.0.as_secs_f64());
    }
    let added = median(&times).unwrap_or(0.0) - Duration::from_nanos(opened.p50_ns).as_secs_f64();
    Ok(Counted {
        round_trips: OF_TCP + flights.iter().filter(|flight| flight.from == Side::Client).count(),
        round_trips_max: ROUND_TRIPS_MAX,
        flights,
        round_trips_by_time: OF_TCP as f64 + added / (2.0 * DELAY.as_secs_f64()),
        delay_ms: DELAY.as_millis() as u64,
    })
}

fn through_proxy(serving: &Serving, delay: Duration) -> anyhow::Result<(Duration, Vec<Flight>)> {
    let proxy = Proxy::start(serving.address, delay)?;
    let (took, flights) = opening::open(proxy.address, &serving.access, |_| proxy.flights())?;
    anyhow::ensure!(flights.last().is_some_and(|last| last.from == Side::Server), "nobody let us in: {flights:?}");
    Ok((took, flights))
}
