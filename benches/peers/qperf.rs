//! qperf tcp_lat: request and response, sleeping. It reports one way, which is half of a round trip, and the mean,
//! not the median. It cannot be told which congestion control to use.

use anyhow::Context;

use crate::common::ports;
use crate::peer::{Congestion, Figures, Peer, Workload};
use crate::processes::{self, End, Running, version};

/// `latency` is half of the time between a request and its response: `msg_rate` counts both.
const WAYS: f64 = 2.0;

/// qperf.
#[derive(Clone, Debug)]
pub struct Qperf;

impl Peer for Qperf {
    fn label(&self, workload: &Workload) -> String {
        format!("qperf tcp_lat -m {}", workload.size())
    }

    fn version(&self) -> Result<String, String> {
        version("qperf", "--version")
    }

    fn congestion(&self) -> Congestion {
        Congestion::Default
    }

    fn measure(&self, workload: &Workload) -> anyhow::Result<Figures> {
        let [listen, data] = ports::free()?;
        let (client_cpu, server_cpu) = workload.cpus.unzip();
        let listen_text = listen.to_string();
        let words = ["qperf", "-lp", &listen_text].map(String::from);
        let mut server = Running::start(&words, server_cpu)?;
        ports::wait_for(listen, &mut server)?;
        let (data, time, size) = (data.to_string(), workload.seconds().to_string(), workload.size().to_string());
        let head = ["qperf", "-lp", &listen_text, "127.0.0.1", "-ip", &data, "-t", &time, "-m", &size];
        // `quit` has the server end itself, with the children that it made.
        let client: Vec<String> = head.into_iter().chain(["-uu", "-vc", "tcp_lat", "quit"]).map(String::from).collect();
        let outcome = processes::run(server, &client, client_cpu, workload.seconds() * 1000, End::ByItself)?;
        figures(&outcome.printed, outcome.figures)
    }
}

/// `latency = N ns`.
fn figures(printed: &str, rest: Figures) -> anyhow::Result<Figures> {
    let line = printed.lines().find_map(|line| line.trim().strip_prefix("latency"));
    let value = line.and_then(|line| line.trim().strip_prefix('=')?.trim().strip_suffix("ns"));
    let value = value.with_context(|| format!("no latency in ns in {printed:?}"))?;
    let one_way_ns: f64 = value.trim().replace(',', "").parse().context("latency")?;
    Ok(Figures { round_trip_ns: Some(one_way_ns * WAYS), statistic: Some("mean"), ..rest })
}
