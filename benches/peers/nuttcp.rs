//! nuttcp. It cannot be told which congestion control to use.

use anyhow::Context;

use crate::common::ports;
use crate::peer::{Congestion, Figures, Peer, Workload};
use crate::processes::{self, End, Running, version};

/// A megabyte of its output.
const MEGABYTE: f64 = (1 << 20) as f64;

/// nuttcp.
#[derive(Clone, Debug)]
pub struct Nuttcp;

impl Peer for Nuttcp {
    fn label(&self, workload: &Workload) -> String {
        format!("nuttcp {}", length(workload))
    }

    fn version(&self) -> Result<String, String> {
        version("nuttcp", "-V")
    }

    fn congestion(&self) -> Congestion {
        Congestion::Default
    }

    fn measure(&self, workload: &Workload) -> anyhow::Result<Figures> {
        let [control, data] = ports::free()?;
        let (client_cpu, server_cpu) = workload.cpus.unzip();
        let port = format!("-P{control}");
        // In the foreground, or it would detach itself from us.
        let words = ["nuttcp", "-S", "-1", "--nofork", &port].map(String::from);
        let mut server = Running::start(&words, server_cpu)?;
        ports::wait_for(control, &mut server)?;
        let (data, time) = (format!("-p{data}"), format!("-T{}", workload.seconds()));
        let client = ["nuttcp", &port, &data, &length(workload), &time, "-fparse", "127.0.0.1"].map(String::from);
        let outcome = processes::run(server, &client, client_cpu, workload.seconds() * 1000, End::ByItself)?;
        figures(&outcome.printed, outcome.figures)
    }
}

fn length(workload: &Workload) -> String {
    match workload.size() {
        bytes if bytes.is_multiple_of(1 << 20) => format!("-l{}m", bytes >> 20),
        bytes => format!("-l{bytes}"),
    }
}

/// Megabytes (of 2^20) and seconds as the receiver saw them, rounded to 10 ms; the rate in Mbit/s is exact.
fn figures(printed: &str, rest: Figures) -> anyhow::Result<Figures> {
    let value = |key: &str| {
        let mut words = printed.split_ascii_whitespace();
        let found = words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        found.with_context(|| format!("no {key} in {printed:?}"))?.parse::<f64>().context(key.to_owned())
    };
    let (megabytes, megabits_per_s) = (value("megabytes")?, value("rate_Mbps")?);
    anyhow::ensure!(megabytes > 0.0, "nothing arrived");
    let cpu_s = rest.client_cpu_s + rest.server_cpu_s;
    let cpu_s_per_10gb = Some(cpu_s / (megabytes * MEGABYTE) * 1e10);
    Ok(Figures { bytes_per_s: Some(megabits_per_s * 1e6 / 8.0), cpu_s_per_10gb, ..rest })
}
