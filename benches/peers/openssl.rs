//! openssl speed: what one core encrypts when it does nothing else. No stream can be faster that encrypts on one core.

use anyhow::Context;

use crate::peer::{Congestion, Figures, Peer, Workload};
use crate::processes::{self, version};

/// The payload of a full TLS record.
const BLOCK_BYTES: &str = "16384";

/// openssl.
#[derive(Clone, Debug)]
pub struct Openssl;

impl Peer for Openssl {
    fn label(&self, _: &Workload) -> String {
        format!("openssl speed aes-128-gcm -bytes {BLOCK_BYTES}")
    }

    fn version(&self) -> Result<String, String> {
        version("openssl", "version")
    }

    fn congestion(&self) -> Congestion {
        Congestion::NoNetwork
    }

    fn measure(&self, workload: &Workload) -> anyhow::Result<Figures> {
        let seconds = workload.seconds().to_string();
        let words = ["openssl", "speed", "-mr", "-evp", "aes-128-gcm", "-bytes", BLOCK_BYTES, "-seconds", &seconds];
        let cpu = workload.cpus.map(|(client, _)| client);
        let outcome = processes::run_alone(&words.map(String::from), cpu, workload.seconds() * 1000)?;
        figures(&outcome.printed, outcome.figures)
    }
}

/// `+F:25:AES-128-GCM:5344571877.97`, bytes per second of its CPU time.
fn figures(printed: &str, rest: Figures) -> anyhow::Result<Figures> {
    let line = printed.lines().find(|line| line.starts_with("+F:") && line.to_ascii_uppercase().contains("GCM"));
    let rate = line.and_then(|line| line.rsplit(':').next()).with_context(|| format!("no rate in {printed:?}"))?;
    let bytes_per_s: f64 = rate.trim().parse().context("rate")?;
    anyhow::ensure!(bytes_per_s > 0.0, "it encrypted nothing");
    Ok(Figures { bytes_per_s: Some(bytes_per_s), ..rest })
}
