//! The program under test.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Context;
use linerate::measure::environment;

use crate::common::ports::Server;
use crate::common::{interrupt, own};
use crate::peer::{Congestion, Figures, Kind, Peer, Workload};
use crate::processes::{self, End, Running};

/// Time for the server to say where it listens.
const READY_MAX: Duration = Duration::from_secs(5);
/// What 10 GB are in GiB.
const GIB_PER_10GB: f64 = 1e10 / (1u64 << 30) as f64;

/// linerate with one send method.
#[derive(Clone, Debug)]
pub struct Linerate {
    /// Send method of throughput workloads.
    pub method: String,
}

impl Peer for Linerate {
    fn label(&self, workload: &Workload) -> String {
        let size = linerate::units::Bytes(workload.size());
        match workload.kind {
            Kind::Sleeping => format!("linerate {size}"),
            Kind::Spinning => format!("linerate --spin {size}"),
            Kind::SecureStream => format!("linerate --tls on {} {size}", self.method),
            _ => format!("linerate {} {size}", self.method),
        }
    }

    fn version(&self) -> Result<String, String> {
        Ok(format!("linerate {}", environment::version()))
    }

    fn congestion(&self) -> Congestion {
        Congestion::Chosen
    }

    fn measure(&self, workload: &Workload) -> anyhow::Result<Figures> {
        let (client_cpu, server_cpu) = workload.cpus.unzip();
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let ticket = folder.path().join("ticket");
        let (server, address) = serve(&ticket, server_cpu)?;
        let client = self.arguments(workload, &address, &ticket);
        let outcome = processes::run(server, &client, client_cpu, workload.millis, End::ByItself)?;
        figures(&outcome.printed, outcome.figures)
    }
}

impl Linerate {
    fn arguments(&self, workload: &Workload, address: &str, ticket: &Path) -> Vec<String> {
        let ticket = ticket.display().to_string();
        let mut words = vec![own::PROGRAM, "bench", address, "--quiet", "--json", "-", "--rounds", "1"];
        words.extend(["--ticket-file", &ticket, "--congestion", own::CONGESTION]);
        match workload.kind {
            Kind::Stream | Kind::ZeroCopyStream => words.extend(["--no-latency", "--methods", &self.method]),
            Kind::SecureStream => words.extend(["--no-latency", "--methods", &self.method, "--tls", "on"]),
            Kind::Sleeping => words.extend(["--no-throughput", "--reply", "same"]),
            Kind::Spinning => words.extend(["--no-throughput", "--reply", "same", "--spin"]),
        }
        let (size, duration) = (workload.size().to_string(), format!("{}ms", workload.millis));
        words.extend(["--sizes", &size, "--duration", &duration]);
        words.into_iter().map(String::from).collect()
    }
}

/// A server for one session, which leaves its ticket in a file, and where it listens.
fn serve(ticket: &Path, cpu: Option<u32>) -> anyhow::Result<(Running, String)> {
    let head = [own::PROGRAM, "serve", "--once", "--quiet", "--listen", "127.0.0.1:0", "--ticket-file"];
    let words: Vec<String> = head.map(String::from).into_iter().chain([ticket.display().to_string()]).collect();
    let mut server = Running::start(&words, cpu)?;
    let deadline = Instant::now() + READY_MAX;
    loop {
        let printed = server.printed()?;
        let address = printed.strip_suffix('\n').and_then(|line| line.strip_prefix("listening on "));
        // The ticket comes last, and whole.
        if let Some(address) = address.filter(|_| ticket.exists()) {
            return Ok((server, address.to_owned()));
        }
        interrupt::check()?;
        anyhow::ensure!(!server.look()?, "linerate serve ended at once: {}", server.said());
        anyhow::ensure!(Instant::now() < deadline, "linerate serve is not ready after {READY_MAX:?}");
        sleep(Duration::from_millis(2));
    }
}

/// Its own figures: bytes and CPU time of the window alone.
fn figures(printed: &str, rest: Figures) -> anyhow::Result<Figures> {
    let document = own::parse(printed)?;
    if let Some(row) = document.latency.first() {
        anyhow::ensure!(row.count > 0, "no exchange was measured: {}", row.unavailable.as_deref().unwrap_or(""));
        return Ok(Figures { round_trip_ns: Some(row.p50_ns as f64), statistic: Some("p50"), ..rest });
    }
    let cell = document.cells.first().context("linerate reported nothing")?;
    let why = || cell.unavailable.clone().unwrap_or_default();
    let throughput = cell.throughput.as_ref().with_context(|| format!("linerate measured nothing: {}", why()))?;
    let both = cell.cpu.sender_s_per_gib.zip(cell.cpu.receiver_s_per_gib);
    let cpu_s_per_10gb = both.map(|(sender, receiver)| (sender + receiver) * GIB_PER_10GB);
    Ok(Figures { bytes_per_s: Some(throughput.median_bytes_per_s), cpu_s_per_10gb, ..rest })
}
