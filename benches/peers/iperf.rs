//! iperf3, and riperf3, which takes the same options and prints the same JSON.

use anyhow::Context;
use serde_json::Value;

use crate::common::own;
use crate::common::ports;
use crate::peer::{Congestion, Figures, Kind, Peer, Workload};
use crate::processes::{self, End, Running, version};

/// One of the two.
#[derive(Clone, Debug)]
pub struct Iperf {
    name: &'static str,
    program: String,
}

impl Iperf {
    /// The one in C.
    pub fn original() -> Iperf {
        Iperf { name: "iperf3", program: "iperf3".to_owned() }
    }

    /// The one in Rust: `$RIPERF3`, or `riperf3` of the PATH.
    pub fn in_rust() -> Iperf {
        Iperf { name: "riperf3", program: std::env::var("RIPERF3").unwrap_or_else(|_| "riperf3".to_owned()) }
    }
}

impl Peer for Iperf {
    fn label(&self, workload: &Workload) -> String {
        std::iter::once(self.name.to_owned()).chain(choices(workload)).collect::<Vec<_>>().join(" ")
    }

    fn version(&self) -> Result<String, String> {
        version(&self.program, "--version")
    }

    fn congestion(&self) -> Congestion {
        Congestion::Chosen
    }

    fn measure(&self, workload: &Workload) -> anyhow::Result<Figures> {
        let [port] = ports::free()?;
        let (client_cpu, server_cpu) = workload.cpus.unzip();
        let words = [&self.program, "-s", "-1", "-p", &port.to_string()].map(String::from);
        let mut server = Running::start(&words, server_cpu)?;
        ports::wait_for(port, &mut server)?;
        let (port, seconds) = (port.to_string(), workload.seconds().to_string());
        let fixed = [&self.program, "-c", "127.0.0.1", "-p", &port, "-t", &seconds, "-J", "-C", own::CONGESTION];
        let client: Vec<String> = fixed.into_iter().map(String::from).chain(choices(workload)).collect();
        let outcome = processes::run(server, &client, client_cpu, workload.seconds() * 1000, End::ByItself)?;
        figures(&outcome.printed, outcome.figures)
    }
}

fn choices(workload: &Workload) -> Vec<String> {
    let zero_copy = (workload.kind == Kind::ZeroCopyStream).then(|| "-Z".to_owned());
    let size = workload.size_bytes.map(|bytes| ["-l".to_owned(), letter(bytes)]);
    zero_copy.into_iter().chain(size.into_iter().flatten()).collect()
}

/// 1M, 64K: K and M are powers of 1024 here.
fn letter(bytes: u64) -> String {
    match bytes {
        _ if bytes.is_multiple_of(1 << 20) => format!("{}M", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{}K", bytes >> 10),
        _ => bytes.to_string(),
    }
}

/// What its receiver took; the CPU time of both processes' whole lives for as many bytes.
fn figures(printed: &str, rest: Figures) -> anyhow::Result<Figures> {
    let document: Value = serde_json::from_str(printed).context("no JSON")?;
    let end = &document["end"];
    for side in ["sender_tcp_congestion", "receiver_tcp_congestion"] {
        anyhow::ensure!(end[side] == own::CONGESTION, "{side} is {}, not {}", end[side], own::CONGESTION);
    }
    let received = &end["sum_received"];
    let number = |key: &str| received[key].as_f64().filter(|n| *n > 0.0).with_context(|| format!("no {key}"));
    let (bits_per_s, bytes) = (number("bits_per_second")?, number("bytes")?);
    let cpu_s = rest.client_cpu_s + rest.server_cpu_s;
    Ok(Figures { bytes_per_s: Some(bits_per_s / 8.0), cpu_s_per_10gb: Some(cpu_s / bytes * 1e10), ..rest })
}
