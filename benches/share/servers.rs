//! The servers: how each is started on a folder, and where its files are then.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use linerate::trust::identity::Identity;

use crate::common::child::Guard;
use crate::common::nginx::{self, Tls};
use crate::common::pem::pem;
use crate::common::{own, ports, version};

/// Whom we run beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The program under test.
    Linerate,
    /// One process, sendfile on.
    Nginx,
    /// As it comes.
    Miniserve,
    /// As it comes, with uploads allowed.
    Dufs,
}

/// A server that listens.
pub struct Server {
    /// Ended with this.
    pub process: Process,
    /// `http://127.0.0.1:PORT/f` or the like: a `/` and a name follow.
    pub base: String,
    /// Header lines that a request needs.
    pub headers: Vec<String>,
    /// What a person opens.
    pub link: String,
}

/// Its process.
pub struct Process(Guard);

impl Process {
    /// Its number.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// User and system time so far, seconds.
    pub fn cpu_s(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap_or_default();
        let after = stat.rsplit(')').next().unwrap_or_default();
        let ticks: f64 = after.split_ascii_whitespace().skip(11).take(2).filter_map(|n| n.parse::<f64>().ok()).sum();
        let per_s = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
        ticks / per_s as f64
    }
}

impl ports::Server for Process {
    fn has_ended(&mut self) -> anyhow::Result<bool> {
        Ok(self.0.try_wait()?.is_some())
    }

    fn said(&self) -> String {
        "see its own output".to_owned()
    }
}

/// Where `--install` puts rivals.
pub fn rivals() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/rivals")
}

impl Kind {
    /// As the tables name it.
    pub fn label(self) -> &'static str {
        match self {
            Kind::Linerate => "linerate share",
            Kind::Nginx => "nginx",
            Kind::Miniserve => "miniserve",
            Kind::Dufs => "dufs",
        }
    }

    fn program(self) -> String {
        let name = match self {
            Kind::Linerate => own::PROGRAM,
            Kind::Nginx => "nginx",
            Kind::Miniserve => "miniserve",
            Kind::Dufs => "dufs",
        };
        let built = rivals().join("bin").join(name);
        if self != Kind::Linerate && built.exists() { built.display().to_string() } else { name.to_owned() }
    }

    /// Which version is installed; why it cannot be run.
    pub fn version(self) -> Result<String, String> {
        version::version(&self.program(), if self == Kind::Nginx { "-v" } else { "--version" })
    }

    /// Serve a folder; `scratch` is for its configuration.
    pub fn start(self, folder: &Path, scratch: &Path, is_secure: bool) -> anyhow::Result<Server> {
        if self == Kind::Linerate {
            return linerate(folder, scratch, is_secure);
        }
        let [port] = ports::free()?;
        let mut command = Command::new(self.program());
        let (certificate, key) = (scratch.join("certificate.pem"), scratch.join("key.pem"));
        if is_secure {
            let identity = Identity::ephemeral()?;
            fs::write(&certificate, pem("CERTIFICATE", &identity.certificate_der))?;
            fs::write(&key, pem("PRIVATE KEY", &identity.key_pkcs8_der))?;
        }
        match self {
            Kind::Linerate | Kind::Nginx => {
                fs::write(scratch.join("nginx.conf"), nginx(folder, port, is_secure))?;
                command.arg("-p").arg(scratch).args(["-c", "nginx.conf"]);
            }
            Kind::Miniserve => {
                command.args(["--interfaces", "127.0.0.1", "--port", &port.to_string()]).arg(folder);
            }
            Kind::Dufs => {
                command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--allow-all"]).arg(folder);
            }
        }
        if is_secure && self != Kind::Nginx {
            command.arg("--tls-cert").arg(&certificate).arg("--tls-key").arg(&key);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = Process(Guard::spawn(&mut command)?);
        ports::wait_for(port, &mut process)?;
        let base = format!("{}://127.0.0.1:{port}", scheme(is_secure));
        Ok(Server { process, link: format!("{base}/"), base, headers: Vec::new() })
    }
}

fn scheme(is_secure: bool) -> &'static str {
    if is_secure { "https" } else { "http" }
}

fn linerate(folder: &Path, scratch: &Path, is_secure: bool) -> anyhow::Result<Server> {
    // With the limit on open files that a login has nearly everywhere, not the one of this bench.
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -S -n 1024; exec \"$0\" \"$@\"", own::PROGRAM])
        .args(["share", "--listen", "127.0.0.1:0", "--no-announce", "--upload", "--quiet"])
        .arg(folder);
    if !is_secure {
        command.arg("--http");
    }
    command.env("XDG_STATE_HOME", scratch).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut guard = Guard::spawn(&mut command)?;
    let stdout = guard.stdout.take().context("no output")?;
    let mut link = String::new();
    BufReader::new(stdout).read_line(&mut link)?;
    let (origin, token) = link.trim().split_once("/t/").context("linerate share gives no link")?;
    let headers = vec![format!("Authorization: Bearer {token}")];
    Ok(Server { process: Process(guard), base: format!("{origin}/f"), headers, link: link.trim().to_owned() })
}

fn nginx(folder: &Path, port: u16, is_secure: bool) -> String {
    let tls = Tls { certificate: "certificate.pem", key: "key.pem" };
    nginx::configuration(port, is_secure.then_some(&tls), &format!("root {};", folder.display()))
}
