//! rsync over ssh and scp, against an sshd of the bench's own with keys of its own.

use std::fs;

use anyhow::Context;

use crate::common::ports;
use crate::mover::{Job, Mover, Ready, text, words};
use crate::process::Process;
use crate::programs::{exists, find, is_root, user, versions};
use crate::rsync;
use crate::workload::Kind;

/// The fastest cipher where the CPU has instructions for AES.
const AES: &str = "aes128-gcm@openssh.com";
/// Where sshd wants to confine its children when it is root.
const CONFINED: &str = "/run/sshd";

/// What runs over ssh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `rsync -aW -e ssh`.
    Rsync,
    /// `scp`.
    Scp,
}

/// A program over ssh.
pub struct OverSsh {
    /// Which.
    pub program: Program,
    /// With AES instead of what ssh agrees on by itself.
    pub aes: bool,
}

impl Mover for OverSsh {
    fn label(&self) -> String {
        let cipher = if self.aes { " aes128-gcm" } else { "" };
        match self.program {
            Program::Rsync => format!("rsync over ssh{cipher}"),
            Program::Scp => format!("scp{cipher}"),
        }
    }

    fn version(&self) -> Result<String, String> {
        exists("sshd")?;
        if self.program == Program::Scp {
            exists("scp")?;
            return versions([("ssh", "-V")]);
        }
        versions([("rsync", "--version"), ("ssh", "-V")])
    }

    fn plays(&self, kind: Kind) -> bool {
        kind == Kind::Tls
    }

    fn ready(&self, job: &Job) -> anyhow::Result<Ready> {
        let server = serve(job)?;
        let config = text(&job.folder.join("ssh_config"));
        let cipher = if self.aes { vec!["-c", AES] } else { Vec::new() };
        let client = match self.program {
            Program::Rsync => {
                let shell = [&["ssh", "-F", &config][..], &cipher].concat().join(" ");
                rsync::through_shell(&shell, job, "far")
            }
            Program::Scp => {
                let destination = format!("far:{}", text(&job.target()));
                let source = text(&job.source.path);
                let parts = [&["scp", "-q", "-F", &config][..], &cipher, &[&source, &destination]].concat();
                parts.into_iter().map(String::from).collect()
            }
        };
        Ok(Ready::with(server, job.durable(client)))
    }
}

/// sshd on loopback for whoever runs this, and a client config that leads there as `far`.
fn serve(job: &Job) -> anyhow::Result<Process> {
    anyhow::ensure!(job.setup.has_ssh_keys(), "ssh-keygen made no keys");
    if is_root() {
        fs::create_dir_all(CONFINED).context(CONFINED)?;
    }
    let [port] = ports::free()?;
    let key = |name: &str| fs::read_to_string(job.setup.path(name)).with_context(|| name.to_owned());
    let file = |name: &str| text(&job.folder.join(name));
    fs::write(job.folder.join("authorized"), key("user.pub")?)?;
    fs::write(job.folder.join("known"), format!("[127.0.0.1]:{port} {}", key("host.pub")?))?;
    let server = format!(
        "ListenAddress 127.0.0.1\nPort {port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\n\
         StrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin \
         prohibit-password\nPrintMotd no\nSubsystem sftp internal-sftp\nSetEnv HOME={}\n",
        text(&job.setup.path("host")),
        file("authorized"),
        text(&job.setup.home()),
    );
    let client = format!(
        "Host far\n HostName 127.0.0.1\n Port {port}\n User {}\n BatchMode yes\n IdentityFile {}\n IdentitiesOnly yes\n \
         IdentityAgent none\n UserKnownHostsFile {}\n GlobalKnownHostsFile /dev/null\n StrictHostKeyChecking yes\n",
        user(),
        text(&job.setup.path("user")),
        file("known"),
    );
    fs::write(job.folder.join("sshd_config"), server)?;
    fs::write(job.folder.join("ssh_config"), client)?;
    let mut server = job.start(&words([&find("sshd"), "-D", "-e", "-f", &file("sshd_config")]))?;
    ports::wait_for(port, &mut server)?;
    Ok(server)
}
