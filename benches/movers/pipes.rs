//! tar into tar, through nc or mbuffer: what people do by hand. Nothing is verified, and the client knows nothing of
//! the other end, so a run lasts until the other end has ended too.

use anyhow::Context;

use crate::common::ports;
use crate::mover::{Job, Mover, Ready, text, words};
use crate::programs::versions;
use crate::workload::Kind;

/// What carries the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pipe {
    /// netcat of OpenBSD.
    Nc,
    /// mbuffer, with 64 MiB at each end.
    Mbuffer,
}

impl Mover for Pipe {
    fn label(&self) -> String {
        match self {
            Pipe::Nc => "tar | nc".to_owned(),
            Pipe::Mbuffer => "tar | mbuffer".to_owned(),
        }
    }

    fn version(&self) -> Result<String, String> {
        if *self == Pipe::Mbuffer {
            return versions([("tar", "--version"), ("mbuffer", "--version")]);
        }
        let told = versions([("tar", "--version"), ("nc", "-h")])?;
        if told.contains("OpenBSD") {
            Ok(told)
        } else {
            Err(format!("nc: not that of OpenBSD, which ends by itself ({told})"))
        }
    }

    fn plays(&self, kind: Kind) -> bool {
        !matches!(kind, Kind::Tls | Kind::Again)
    }

    fn ready(&self, job: &Job) -> anyhow::Result<Ready> {
        let [port] = ports::free()?;
        let (listen, send) = match self {
            Pipe::Nc => (format!("nc -l 127.0.0.1 {port}"), format!("nc -N 127.0.0.1 {port}")),
            Pipe::Mbuffer => {
                let mbuffer = "mbuffer -q -m 64M -s 256k";
                (format!("{mbuffer} -I 127.0.0.1:{port}"), format!("{mbuffer} -O 127.0.0.1:{port}"))
            }
        };
        let sync = if job.kind.is_durable() { " && sync -f \"$1\"" } else { "" };
        let receive = format!("{listen} | (tar -x -C \"$1\"{sync})");
        let mut server = job.start(&words(["sh", "-c", &receive, "sh", &text(job.destination)]))?;
        ports::wait_for(port, &mut server)?;
        let parent = text(job.source.path.parent().context("a source without a folder")?);
        let send = format!("tar -c -C \"$1\" \"$2\" | {send}");
        let client = words(["sh", "-c", &send, "sh", &parent, &job.source.name]);
        Ok(Ready { server: Some(server), client, server_ends: true })
    }
}
