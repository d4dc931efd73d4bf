//! linerate beside the tools that people use today: iperf3, riperf3 and nuttcp for throughput and CPU cost, nginx with
//! curl and openssl for TLS, qperf and sockperf for latency.
//!
//! ```text
//! cargo bench --bench peers                               all of it
//! cargo bench --bench peers -- --only latency --pairs 9 --seconds 3
//! cargo bench --bench peers -- --only tls
//! ```
//!
//! Each rival is measured in turns with linerate, A B A B, over loopback and with the same congestion control; the
//! figure is the median of the ratios of pairs. What is not installed is skipped, with the reason. Writes
//! `results/peers-<UTC time>.json`, schema `linerate.peers-bench/2`, and prints a table for the README.
//!
//! | file | what it holds |
//! |---|---|
//! | `options` | the command line |
//! | `peer` | the trait that every tool stands behind, workloads and figures |
//! | `own_side`, `iperf`, `nuttcp`, `nginx`, `openssl`, `qperf`, `sockperf` | one tool each |
//! | `processes` | a server and a client process: output, CPU time, memory |
//! | `contests` | who meets whom at what, and the targets |
//! | `matches` | the pairs of a contest |
//! | `output` | the tables and the result file |

#[path = "../common/mod.rs"]
mod common;
mod contests;
mod iperf;
mod matches;
mod nginx;
mod nuttcp;
mod openssl;
mod options;
mod output;
mod own_side;
mod peer;
mod processes;
mod qperf;
mod sockperf;

use common::record::Record;
use common::{interrupt, network};
use options::Options;

fn main() -> anyhow::Result<()> {
    let options = Options::parse()?;
    // Before there is any other thread: only the calling thread changes its network.
    let network = network::enter();
    interrupt::watch()?;
    eprintln!("network: {network}");
    // A test run proves that the bench works; its figures mean nothing and are not kept.
    let record = if options.is_test { None } else { Some(Record::prepare("peers")?) };
    let played = matches::play(&options, &network)?;
    print!("{}", output::tables(&played, &options, &network));
    if let Some(record) = record {
        let path = record.write(&output::document(&played, &options, &network))?;
        println!("saved as {}", path.display());
    }
    let faults = played.contests.iter().filter(|result| result.fault.is_some()).count();
    anyhow::ensure!(faults == 0, "{faults} of {} contests could not be measured", played.contests.len());
    Ok(())
}
