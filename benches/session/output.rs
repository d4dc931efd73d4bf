//! The table for a person and the document for a machine.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use linerate::measure::environment;
use linerate::proto::facts::Environment;
use serde::Serialize;

use crate::common::mode;
use crate::opening::Opened;
use crate::options::Options;
use crate::proxy::{Flight, Side};
use crate::round_trips::{Counted, ROUND_TRIPS_MAX};

/// The value of [`Document::schema`].
const SCHEMA: &str = "linerate.session-bench/1";
/// What half of the sessions must keep.
const P50_MAX: Duration = Duration::from_millis(3);

/// The result file.
#[derive(Serialize)]
pub struct Document<'a> {
    schema: &'static str,
    command: Vec<String>,
    version: String,
    environment: Environment,
    target_p50_ns: u64,
    reached: bool,
    opened: &'a Opened,
    counted: &'a Counted,
}

/// Everything that was measured.
pub fn document<'a>(opened: &'a Opened, counted: &'a Counted) -> Document<'a> {
    Document {
        schema: SCHEMA,
        command: mode::command("session"),
        version: environment::version(),
        environment: environment::capture(Some(IpAddr::from(Ipv4Addr::LOCALHOST))),
        target_p50_ns: P50_MAX.as_nanos() as u64,
        reached: is_reached(opened),
        opened,
        counted,
    }
}

fn is_reached(opened: &Opened) -> bool {
    Duration::from_nanos(opened.p50_ns) <= P50_MAX
}

/// Markdown.
pub fn table(opened: &Opened, counted: &Counted, options: &Options) -> String {
    let ms = |ns: u64| ns as f64 / 1e6;
    let verdict = |reached: bool| if reached { "yes" } else { "no" };
    let mut text = format!(
        "{} sessions one after another over loopback, {}: TCP, TLS 1.3 and the ticket until the welcome\n\n\
         | p50 ms | p90 ms | p99 ms | longest ms | p50 ≤ {} ms |\n|---|---|---|---|---|\n\
         | {:.2} | {:.2} | {:.2} | {:.2} | {} |\n\n",
        opened.sessions,
        opened.cipher,
        P50_MAX.as_millis(),
        ms(opened.p50_ns),
        ms(opened.p90_ns),
        ms(opened.p99_ns),
        ms(opened.max_ns),
        verdict(is_reached(opened)),
    );
    text.push_str(&format!(
        "round trips: {} counted (≤ {ROUND_TRIPS_MAX}: {}): TCP; {}. By time, with {} ms each way: {:.1}\n\
         descriptors left: {} of ours, {} of the server's\n",
        counted.round_trips,
        verdict(counted.check().is_ok()),
        counted.flights.iter().map(flight).collect::<Vec<_>>().join(", "),
        counted.delay_ms,
        counted.round_trips_by_time,
        opened.descriptors_left,
        opened.server_descriptors_left,
    ));
    if options.is_test {
        text.push_str("\ntest run: these times mean nothing\n");
    }
    text
}

fn flight(flight: &Flight) -> String {
    let who = if flight.from == Side::Client { "client" } else { "server" };
    format!("{who} {} B", flight.bytes)
}
