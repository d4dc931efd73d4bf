//! sockperf ping-pong: request and response, busy polling: with `--nonblocked` it calls recvfrom() until something
//! comes. It cannot be told which congestion control to use.

use anyhow::Context;

use crate::common::ports;
use crate::peer::{Congestion, Figures, Peer, Workload};
use crate::processes::{self, End, Running, version};

/// sockperf.
#[derive(Clone, Debug)]
pub struct Sockperf;

impl Peer for Sockperf {
    fn label(&self, workload: &Workload) -> String {
        format!("sockperf ping-pong --nonblocked -m {}", workload.size())
    }

    fn version(&self) -> Result<String, String> {
        version("sockperf", "--version").map(|line| line.trim_matches(|c: char| !c.is_alphanumeric()).to_owned())
    }

    fn congestion(&self) -> Congestion {
        Congestion::Default
    }

    fn measure(&self, workload: &Workload) -> anyhow::Result<Figures> {
        let [port] = ports::free()?;
        let (client_cpu, server_cpu) = workload.cpus.unzip();
        let (port_text, time, size) = (port.to_string(), workload.seconds().to_string(), workload.size().to_string());
        let shared = ["--tcp", "-i", "127.0.0.1", "-p", &port_text, "--nonblocked", "-m", &size];
        let words = |role| -> Vec<String> { ["sockperf", role].into_iter().chain(shared).map(String::from).collect() };
        let mut server = Running::start(&words("server"), server_cpu)?;
        ports::wait_for(port, &mut server)?;
        let mut client = words("ping-pong");
        client.extend(["--full-rtt", "-t", &time].map(String::from));
        let outcome = processes::run(server, &client, client_cpu, workload.seconds() * 1000, End::Killed)?;
        figures(&outcome.printed, outcome.figures)
    }
}

/// `percentile 50.000 = N`, µs.
fn figures(printed: &str, rest: Figures) -> anyhow::Result<Figures> {
    let line = printed.lines().find_map(|line| line.split_once("percentile 50.000").map(|(_, value)| value));
    let value = line.and_then(|line| line.trim().strip_prefix('='));
    let value = value.with_context(|| format!("no percentile 50 in {printed:?}"))?;
    let round_trip_us: f64 = value.trim().parse().context("percentile 50")?;
    Ok(Figures { round_trip_ns: Some(round_trip_us * 1e3), statistic: Some("p50"), ..rest })
}
