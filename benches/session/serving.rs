//! A `linerate serve` of the bench's own, which keeps what it knows in a folder that goes with it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Context;
use linerate::link::Access;
use linerate::tls::client::Pin;
use linerate::trust::ticket_file;

use crate::common::child::Guard;
use crate::common::own;

/// Time for the ticket to be there, once the server listens.
const READY_MAX: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A running server.
pub struct Serving {
    server: Guard,
    /// Where it listens.
    pub address: SocketAddr,
    /// What lets us in.
    pub access: Access,
    _home: tempfile::TempDir,
}

impl Serving {
    /// Start one on loopback.
    pub fn start() -> anyhow::Result<Serving> {
        let home = tempfile::tempdir().context("no temporary folder")?;
        let ticket = home.path().join("ticket");
        let mut command = Command::new(own::PROGRAM);
        command.args(["serve", "--quiet", "--listen", "127.0.0.1:0", "--ticket-file"]).arg(&ticket);
        for (name, place) in [("XDG_STATE_HOME", "state"), ("XDG_CONFIG_HOME", "config"), ("XDG_RUNTIME_DIR", "run")] {
            command.env(name, home.path().join(place));
        }
        let mut server = Guard::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
        let mut line = String::new();
        BufReader::new(server.stdout.take().context("no output")?).read_line(&mut line)?;
        let address = line.trim_end().strip_prefix("listening on ");
        let address = address.with_context(|| format!("the server said {line:?}"))?.parse()?;
        Ok(Serving { server, address, access: access(&ticket)?, _home: home })
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> anyhow::Result<usize> {
        descriptors(&self.server.id().to_string())
    }
}

/// How many descriptors this process has open.
pub fn own_descriptors() -> anyhow::Result<usize> {
    descriptors("self")
}

fn descriptors(process: &str) -> anyhow::Result<usize> {
    let folder = format!("/proc/{process}/fd");
    Ok(std::fs::read_dir(&folder).with_context(|| folder.clone())?.count())
}

/// By the ticket, which comes last, and whole.
fn access(ticket: &Path) -> anyhow::Result<Access> {
    let deadline = Instant::now() + READY_MAX;
    loop {
        if let Some(ticket) = ticket_file::read(ticket)? {
            let pin = Pin::Exactly(ticket.fingerprint);
            return Ok(Access { pin, secret: Some(ticket.secret), through_ssh: false });
        }
        anyhow::ensure!(Instant::now() < deadline, "the server leaves no ticket");
        sleep(LOOK_EVERY);
    }
}
