//! nginx with curl, and with aria2c: the destination fetches.
//!
//! nginx runs as it comes: one process, sendfile on.

use std::fs::{self, File};
use std::io::{BufWriter, Write};

use anyhow::Context;

use crate::common::nginx::{self, CIPHER, Tls};
use crate::common::ports;
use crate::mover::{Job, Mover, Ready, text, words};
use crate::process::Process;
use crate::programs::{find, versions};
use crate::trees::EntryKind;
use crate::workload::Kind;

/// nginx and curl.
pub struct Curl {
    /// By https.
    pub secure: bool,
}

impl Mover for Curl {
    fn label(&self) -> String {
        if self.secure { "nginx + curl https".to_owned() } else { "nginx + curl".to_owned() }
    }

    fn version(&self) -> Result<String, String> {
        let told = versions([("nginx", "-v"), ("curl", "--version")])?;
        if self.secure && !told.contains("OpenSSL") {
            return Err(format!("curl: its TLS library cannot be told the cipher ({told})"));
        }
        Ok(told)
    }

    fn plays(&self, kind: Kind) -> bool {
        // A tree with links cannot be told to it.
        if self.secure { kind == Kind::Tls } else { !matches!(kind, Kind::Tls | Kind::Links | Kind::Again) }
    }

    fn ready(&self, job: &Job) -> anyhow::Result<Ready> {
        let (server, port) = serve(job, self.secure)?;
        let base = format!("{}://127.0.0.1:{port}", if self.secure { "https" } else { "http" });
        let mut client = words(["curl", "-q", "-s", "-S", "--fail", "--noproxy", "*"]);
        if self.secure {
            client.extend(words(["-k", "--tlsv1.3", "--tls13-ciphers", CIPHER]));
        }
        if job.kind.is_big() {
            client.extend(words(["-o", &text(&job.target()), &format!("{base}/{}", job.source.name)]));
        } else {
            let list = job.folder.join("list");
            write_list(job, &base, BufWriter::new(File::create(&list)?)).context("list for curl")?;
            client.extend(words(["--create-dirs", "-K", &text(&list)]));
        }
        Ok(Ready::with(server, job.durable(client)))
    }
}

/// nginx and aria2c with four connections.
pub struct Aria;

impl Mover for Aria {
    fn label(&self) -> String {
        "nginx + aria2c -x4".to_owned()
    }

    fn version(&self) -> Result<String, String> {
        versions([("nginx", "-v"), ("aria2c", "--version")])
    }

    fn plays(&self, kind: Kind) -> bool {
        matches!(kind, Kind::Big | Kind::BigDisk)
    }

    fn ready(&self, job: &Job) -> anyhow::Result<Ready> {
        let (server, port) = serve(job, false)?;
        let name = &job.source.name;
        let mut client = words(["aria2c", "--no-conf", "--quiet", "-x4", "-s4", "-k1M", "--file-allocation=falloc"]);
        let url = format!("http://127.0.0.1:{port}/{name}");
        client.extend(words(["-d", &text(job.destination), "-o", name, &url]));
        Ok(Ready::with(server, job.durable(client)))
    }
}

/// Every file and where it goes. A list of its own lets one curl and one connection fetch them all.
fn write_list(job: &Job, base: &str, mut list: impl Write) -> anyhow::Result<()> {
    let target = text(&job.target());
    for entry in &job.source.entries {
        if let EntryKind::File(_) = entry.kind {
            let path = text(&entry.path);
            writeln!(list, "url = \"{base}/{}/{path}\"\noutput = \"{target}/{path}\"", job.source.name)?;
        }
    }
    Ok(list.flush()?)
}

fn serve(job: &Job, secure: bool) -> anyhow::Result<(Process, u16)> {
    let [port] = ports::free()?;
    fs::write(job.folder.join("nginx.conf"), configuration(job, port, secure)?)?;
    let mut server = job.start(&words([&find("nginx"), "-p", &text(job.folder), "-c", "nginx.conf"]))?;
    ports::wait_for(port, &mut server)?;
    Ok((server, port))
}

fn configuration(job: &Job, port: u16, secure: bool) -> anyhow::Result<String> {
    let root = text(job.source.path.parent().context("a source without a folder")?);
    let (certificate, key) = (text(&job.setup.path("certificate.pem")), text(&job.setup.path("key.pem")));
    let tls = secure.then_some(Tls { certificate: &certificate, key: &key });
    Ok(nginx::configuration(port, tls.as_ref(), &format!("root {root};")))
}
