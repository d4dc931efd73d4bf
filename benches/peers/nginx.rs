//! nginx and curl: a file in memory, downloaded through TLS 1.3 with AES-128-GCM. Neither can be told which congestion
//! control to use.
//!
//! nginx runs as it comes: one process, sendfile on, records of 16 KiB. It encrypts in its own memory, as we do; the
//! kernel's TLS is off unless it is asked for.

use std::fs;
use std::path::Path;

use anyhow::Context;
use linerate::trust::identity::Identity;

use crate::common::corpus::Corpus;
use crate::common::nginx::{self, CIPHER, Tls};
use crate::common::pem::pem;
use crate::common::ports;
use crate::peer::{Congestion, Figures, Peer, Workload};
use crate::processes::{self, End, Running, version};

/// Where systems have it that keep it from the PATH of users.
const ELSEWHERE: &str = "/usr/sbin/nginx";
/// A download is given the time that it takes at this rate.
const SLOWEST_BYTES_PER_MS: u64 = 20_000;

/// Both, with a file to download.
#[derive(Debug)]
pub struct Nginx {
    /// Absent where either program is missing.
    corpus: Option<Corpus>,
    versions: Result<String, String>,
}

impl Nginx {
    /// With a file of that length.
    pub fn new(bytes: u64) -> anyhow::Result<Nginx> {
        let versions = versions();
        let corpus = versions.is_ok().then(|| Corpus::new(bytes)).transpose()?;
        Ok(Nginx { corpus, versions })
    }
}

impl Peer for Nginx {
    fn label(&self, _: &Workload) -> String {
        "nginx + curl".to_owned()
    }

    fn version(&self) -> Result<String, String> {
        self.versions.clone()
    }

    fn congestion(&self) -> Congestion {
        Congestion::Default
    }

    fn measure(&self, workload: &Workload) -> anyhow::Result<Figures> {
        let corpus = self.corpus.as_ref().context("no file to download")?;
        let [port] = ports::free()?;
        let (client_cpu, server_cpu) = workload.cpus.unzip();
        let folder = tempfile::tempdir().context("no temporary folder")?;
        prepare(folder.path(), port, corpus)?;
        let place = folder.path().display().to_string();
        let words = [program(), "-p", &place, "-c", "nginx.conf"].map(String::from);
        let mut server = Running::start(&words, server_cpu)?;
        ports::wait_for(port, &mut server)?;
        let millis = corpus.bytes / SLOWEST_BYTES_PER_MS;
        let outcome = processes::run(server, &client(port), client_cpu, millis, End::Killed)?;
        figures(&outcome.printed, corpus.bytes, outcome.figures)
    }
}

/// nginx, curl and their TLS libraries; why they cannot be used.
fn versions() -> Result<String, String> {
    let (nginx, curl) = (version(program(), "-v")?, version("curl", "--version")?);
    if !curl.contains("OpenSSL") {
        return Err(format!("curl: its TLS library cannot be told the cipher ({curl})"));
    }
    Ok(format!("{nginx}; {curl}"))
}

fn program() -> &'static str {
    let is_in_path = version("nginx", "-v").is_ok();
    if is_in_path || !Path::new(ELSEWHERE).exists() { "nginx" } else { ELSEWHERE }
}

fn client(port: u16) -> Vec<String> {
    let url = format!("https://127.0.0.1:{port}/file");
    let quiet = ["curl", "-q", "-s", "-S", "--fail", "-k", "--noproxy", "*"];
    let secure = ["--tlsv1.3", "--tls13-ciphers", CIPHER, "-o", "/dev/null"];
    let told = ["-w", "%{size_download} %{speed_download}", &url];
    quiet.iter().chain(&secure).chain(&told).map(|word| (*word).to_owned()).collect()
}

/// A certificate, its key and the configuration.
fn prepare(folder: &Path, port: u16, corpus: &Corpus) -> anyhow::Result<()> {
    let identity = Identity::ephemeral()?;
    let write = |name: &str, text: String| fs::write(folder.join(name), text).with_context(|| name.to_owned());
    write("certificate.pem", pem("CERTIFICATE", &identity.certificate_der))?;
    write("key.pem", pem("PRIVATE KEY", &identity.key_pkcs8_der))?;
    write("nginx.conf", configuration(port, &corpus.path()))
}

fn configuration(port: u16, file: &Path) -> String {
    let tls = Tls { certificate: "certificate.pem", key: "key.pem" };
    nginx::configuration(port, Some(&tls), &format!("location = /file {{ alias {}; }}", file.display()))
}

/// What curl says: bytes, and bytes per second over the whole of its life, the handshake included.
fn figures(printed: &str, wanted: u64, rest: Figures) -> anyhow::Result<Figures> {
    let (bytes, rate) = printed.trim().split_once(' ').with_context(|| format!("curl said {printed:?}"))?;
    let (bytes, rate): (u64, f64) = (bytes.parse().context("bytes")?, rate.parse().context("speed")?);
    anyhow::ensure!(bytes == wanted && rate > 0.0, "curl took {bytes} of {wanted} bytes");
    let cpu_s = rest.client_cpu_s + rest.server_cpu_s;
    Ok(Figures { bytes_per_s: Some(rate), cpu_s_per_10gb: Some(cpu_s / bytes as f64 * 1e10), ..rest })
}
