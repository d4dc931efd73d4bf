//! The program under test.

use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use linerate::measure::environment;

use crate::common::ports::Server;
use crate::common::{interrupt, own};
use crate::mover::{Job, Mover, Ready, text, words};
use crate::process::{Process, Words};
use crate::workload::Kind;

/// Time for the server to say where it listens.
const READY_MAX: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// How linerate moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linerate {
    /// To a daemon, verified.
    Verified,
    /// To a daemon, not verified.
    Unverified,
    /// From folder to folder.
    Local,
}

impl Mover for Linerate {
    fn label(&self) -> String {
        match self {
            Linerate::Verified => "linerate",
            Linerate::Unverified => "linerate --no-verify",
            Linerate::Local => "linerate, local",
        }
        .to_owned()
    }

    fn version(&self) -> Result<String, String> {
        let mut command = Command::new(own::PROGRAM);
        command.args(["copy", "--help"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let status = command.status().map_err(|error| format!("linerate: {error}"))?;
        if status.success() {
            Ok(format!("linerate {}", environment::version()))
        } else {
            Err("linerate copy is not there yet".to_owned())
        }
    }

    fn plays(&self, kind: Kind) -> bool {
        match self {
            Linerate::Verified => true,
            Linerate::Unverified => kind != Kind::Again,
            Linerate::Local => kind != Kind::Tls,
        }
    }

    fn ready(&self, job: &Job) -> anyhow::Result<Ready> {
        let durability = if job.kind.is_durable() { "full" } else { "none" };
        let mut client = words([own::PROGRAM, "copy", "--quiet", "--durability", durability]);
        client.extend((job.kind == Kind::Links).then(|| "--hard-links".to_owned()));
        client.extend((*self == Linerate::Unverified).then(|| "--no-verify".to_owned()));
        let source = text(&job.source.path);
        if *self == Linerate::Local {
            client.extend([source, text(job.destination)]);
            return Ok(Ready::alone(client));
        }
        let (server, address, ticket) = serve(job)?;
        client.extend((job.kind != Kind::Tls).then(|| "--clear".to_owned()));
        client.extend(words(["--ticket-file", &ticket, &source, &format!("lr://{address}/")]));
        Ok(Ready::with(server, client))
    }

    fn is_ours(&self) -> bool {
        true
    }
}

/// A daemon of one folder: where it listens, and the file with its ticket.
fn serve(job: &Job) -> anyhow::Result<(Process, String, String)> {
    let ticket = job.folder.join("ticket");
    let (folder, ticket_text) = (text(job.destination), text(&ticket));
    let head = words([own::PROGRAM, "serve", &folder, "--quiet", "--listen", "127.0.0.1:0", "--allow", "read,write"]);
    let words: Words = head.into_iter().chain(words(["--ticket-file", &ticket_text])).collect();
    let mut server = job.start(&words)?;
    let deadline = Instant::now() + READY_MAX;
    loop {
        let printed = server.printed()?;
        let address = printed.strip_suffix('\n').and_then(|line| line.strip_prefix("listening on "));
        // The ticket comes last, and whole.
        if let Some(address) = address.filter(|_| ticket.exists()) {
            let address = address.to_owned();
            return Ok((server, address, ticket_text));
        }
        interrupt::check()?;
        anyhow::ensure!(!server.has_ended()?, "linerate serve ended at once: {}", server.said());
        anyhow::ensure!(Instant::now() < deadline, "linerate serve is not ready after {READY_MAX:?}");
        sleep(LOOK_EVERY);
    }
}
