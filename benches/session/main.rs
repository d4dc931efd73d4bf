//! Opening a session: the TCP connection, TLS 1.3 and the ticket, until the server's welcome.
//!
//! ```text
//! cargo bench --bench session                             1,000 sessions, one after another
//! cargo bench --bench session -- --sessions 5000
//! ```
//!
//! A server that runs as a process of its own lets this one in again and again, over loopback; what is timed is what
//! `linerate bench` does itself, [`linerate::link::Link::connect`]. Then a session is opened through a proxy
//! that notes who speaks: round trips are counted, not derived from times. A session that leaves a descriptor behind
//! at either end, or takes more round trips than it may, is an error, in a test run too. Writes
//! `results/session-<UTC time>.json`, schema `linerate.session-bench/1`.
//!
//! | file | what it holds |
//! |---|---|
//! | `options` | the command line |
//! | `serving` | the server |
//! | `opening` | sessions one after another: times, and descriptors left |
//! | `proxy` | a proxy that counts flights, and delays them if it is told to |
//! | `round_trips` | sessions through the proxy |
//! | `output` | the table and the result file |

#[path = "../common/mod.rs"]
mod common;
mod opening;
mod options;
mod output;
mod proxy;
mod round_trips;
mod serving;

use common::interrupt;
use common::record::Record;
use options::Options;
use serving::Serving;

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    // A session notices a signal while it waits, but not between two.
    interrupt::watch()?;
    // A test run proves that the bench works; its times mean nothing and are not kept.
    let record = if options.is_test { None } else { Some(Record::prepare("session")?) };
    let serving = Serving::start()?;
    let opened = opening::measure(&serving, options.sessions)?;
    let counted = round_trips::count(&serving, &opened)?;
    print!("{}", output::table(&opened, &counted, &options));
    if let Some(record) = record {
        let path = record.write(&output::document(&opened, &counted))?;
        println!("saved as {}", path.display());
    }
    counted.check()?;
    opened.check()
}
