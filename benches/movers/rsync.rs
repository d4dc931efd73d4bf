//! rsync against its own daemon.

use std::fs;

use crate::common::ports;
use crate::mover::{Job, Mover, Ready, text, words};
use crate::process::Words;
use crate::programs::{find, is_root, versions};
use crate::workload::Kind;

/// `rsync -aW`, whole files: deltas only cost time where the network is faster than the disk.
pub struct Rsync {
    /// Write into the final file at once.
    pub in_place: bool,
}

impl Mover for Rsync {
    fn label(&self) -> String {
        if self.in_place { "rsync daemon --inplace".to_owned() } else { "rsync daemon".to_owned() }
    }

    fn version(&self) -> Result<String, String> {
        versions([("rsync", "--version")])
    }

    fn plays(&self, kind: Kind) -> bool {
        if self.in_place { matches!(kind, Kind::Big | Kind::BigDisk) } else { kind != Kind::Tls }
    }

    fn ready(&self, job: &Job) -> anyhow::Result<Ready> {
        let [port] = ports::free()?;
        let file = job.folder.join("rsyncd.conf");
        fs::write(&file, configuration(job))?;
        let (port_text, file) = (port.to_string(), text(&file));
        let head = [&find("rsync"), "--daemon", "--no-detach", "--address", "127.0.0.1"];
        let tail = ["--port", &port_text, "--config", &file];
        let mut server = job.start(&[&head[..], &tail].concat().into_iter().map(String::from).collect())?;
        ports::wait_for(port, &mut server)?;
        let mut client = words(["rsync", flags(job.kind)]);
        client.extend(self.in_place.then(|| "--inplace".to_owned()));
        client.extend([text(&job.source.path), format!("rsync://127.0.0.1:{port}/in/")]);
        Ok(Ready::with(server, job.durable(client)))
    }
}

/// Hard links are kept only where there are any: looking for them costs time.
pub fn flags(kind: Kind) -> &'static str {
    if kind == Kind::Links { "-aWH" } else { "-aW" }
}

fn configuration(job: &Job) -> String {
    // As root it would become somebody else, who may not write here. Confined, it has no reason to change where links
    // lead; who is not root cannot confine it, and it loses links that are absolute.
    let account = if is_root() { "uid = 0\ngid = 0\nuse chroot = yes" } else { "use chroot = no" };
    let (log, folder) = (text(&job.folder.join("log")), text(job.destination));
    format!(
        "{account}\nmunge symlinks = no\nreverse lookup = no\nlog file = {log}\n\
         [in]\npath = {folder}\nread only = no\n"
    )
}

/// The words of rsync through a remote shell.
pub fn through_shell(shell: &str, job: &Job, host: &str) -> Words {
    let destination = format!("{host}:{}/", text(job.destination));
    words(["rsync", flags(job.kind), "-e", shell, &text(&job.source.path), &destination])
}
