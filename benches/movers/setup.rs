//! What servers need and no run changes: a home for all programs, a certificate, keys for ssh.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use linerate::trust::identity::Identity;

use crate::common::pem::pem;

/// A folder with all of it, which goes with this value.
pub struct Setup {
    folder: tempfile::TempDir,
    has_ssh_keys: bool,
}

impl Setup {
    /// Make everything that can be made here.
    pub fn new() -> anyhow::Result<Setup> {
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let identity = Identity::ephemeral()?;
        let write =
            |name: &str, text: String| fs::write(folder.path().join(name), text).with_context(|| name.to_owned());
        write("certificate.pem", pem("CERTIFICATE", &identity.certificate_der))?;
        write("key.pem", pem("PRIVATE KEY", &identity.key_pkcs8_der))?;
        fs::create_dir(folder.path().join("home"))?;
        let has_ssh_keys = ["host", "user"].iter().all(|name| keygen(&folder.path().join(name)));
        Ok(Setup { folder, has_ssh_keys })
    }

    /// The home folder of every program that a run starts.
    pub fn home(&self) -> PathBuf {
        self.path("home")
    }

    /// A file of it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Whether there are the keys `host` and `user` of ssh.
    pub fn has_ssh_keys(&self) -> bool {
        self.has_ssh_keys
    }
}

fn keygen(path: &Path) -> bool {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// A folder that servers under another account may look into, in `place`.
pub fn open_folder(place: &Path) -> anyhow::Result<tempfile::TempDir> {
    let why = || format!("{}: no folder can be made in it", place.display());
    fs::create_dir_all(place).with_context(why)?;
    let folder = tempfile::Builder::new().prefix("linerate-movers-").tempdir_in(place).with_context(why)?;
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).with_context(why)?;
    Ok(folder)
}
