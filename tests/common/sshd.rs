//! An ssh server of the test's own on loopback, for whoever runs the test, and a client config that leads there.
//!
//! It changes nothing of the machine: keys, configs and the home folder of its sessions are in a folder of its own.

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use linerate::cli::ssh::{SshArgs, Target};

use super::{Done, folder, is_root, run_bounded, signal_process, skip_unless, wait_bounded, wait_until};

const SSHD: &str = "/usr/sbin/sshd";
/// Where sshd wants to confine its children when it is root.
const CONFINED: &str = "/run/sshd";
/// Another program may take a port between our look at it and sshd's.
const PORT_ATTEMPTS: u32 = 5;

/// A running sshd; ended and reaped when dropped.
pub struct Sshd {
    folder: tempfile::TempDir,
    child: Option<Child>,
    port: u16,
}

impl Sshd {
    /// Start one; `None`, and a line that says why, where that cannot be done.
    pub fn start() -> Option<Sshd> {
        Sshd::with_path("")
    }

    /// The same, whose sessions find programs in `path` first.
    pub fn with_path(path: &str) -> Option<Sshd> {
        if skip_unless(Path::new(SSHD).exists() && has("ssh-keygen") && has("ssh"), "no OpenSSH server or client") {
            return None;
        }
        if is_root() {
            std::fs::create_dir_all(CONFINED).unwrap();
        }
        let mut sshd = Sshd { folder: folder(), child: None, port: 0 };
        std::fs::create_dir(sshd.home()).unwrap();
        sshd.make_key("host");
        sshd.make_key("user");
        std::fs::copy(sshd.path("user.pub"), sshd.path("authorized")).unwrap();
        for _ in 0..PORT_ATTEMPTS {
            if sshd.listen(path) {
                sshd.write_client("client", "user", "known", "");
                return sshd.lets_us_in().then_some(sshd);
            }
        }
        panic!("sshd does not listen: {}", sshd.log());
    }

    /// Options that lead there.
    pub fn args(&self) -> SshArgs {
        self.args_with("client")
    }

    /// Options with another client config.
    pub fn args_with(&self, config: &str) -> SshArgs {
        SshArgs { ssh: format!("ssh -F '{}'", self.path(config).display()), ..SshArgs::default() }
    }

    /// Its name in the client config.
    pub fn target(&self) -> Target {
        "far".parse().unwrap()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// A file of the test's in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The home folder of its sessions.
    pub fn home(&self) -> PathBuf {
        self.path("home")
    }

    /// What it has said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// An executable shell script on the far end.
    pub fn script(&self, path: &Path, script: &str) -> PathBuf {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        // By another process: one that a test forks meanwhile would hold a file of ours open for writing, and what is
        // open for writing cannot be executed.
        let mut writer = Command::new("sh");
        writer.args(["-c", "cat > \"$0\" && chmod 755 \"$0\""]).arg(path).stdin(Stdio::piped());
        let mut writer = writer.spawn().unwrap();
        writer.stdin.take().unwrap().write_all(format!("#!/bin/sh\n{script}\n").as_bytes()).unwrap();
        assert!(wait_bounded(&mut writer).success());
        path.to_path_buf()
    }

    /// A new key pair.
    pub fn make_key(&self, name: &str) {
        let mut keygen = Command::new("ssh-keygen");
        run_bounded(keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(self.path(name))).expect(0);
    }

    /// A client config with that key and those known hosts.
    pub fn write_client(&self, name: &str, key: &str, known: &str, more: &str) {
        let host_key = std::fs::read_to_string(self.path("host.pub")).unwrap();
        std::fs::write(self.path("known"), format!("[127.0.0.1]:{} {host_key}", self.port)).unwrap();
        let config = format!(
            "{more}\nHost far 127.0.0.1\n HostName 127.0.0.1\n Port {}\n User {}\n BatchMode yes\n IdentityFile \"{}\"\n \
             IdentitiesOnly yes\n IdentityAgent none\n UserKnownHostsFile \"{}\"\n GlobalKnownHostsFile /dev/null\n \
             StrictHostKeyChecking yes\n",
            self.port,
            user(),
            self.path(key).display(),
            self.path(known).display(),
        );
        std::fs::write(self.path(name), config).unwrap();
    }

    /// Start it on a port that is free now; whether it listens.
    fn listen(&mut self, path: &str) -> bool {
        self.port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let file = |name| self.path(name).display().to_string();
        let path = if path.is_empty() { String::new() } else { format!(" \"PATH={path}:/usr/bin:/bin\"") };
        let config = format!(
            "ListenAddress 127.0.0.1\nPort {}\nHostKey \"{}\"\nAuthorizedKeysFile \"{}\"\nPidFile none\nUsePAM no\n\
             StrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin \
             prohibit-password\nAllowTcpForwarding yes\nPrintMotd no\nLogLevel VERBOSE\nSetEnv \"HOME={}\"{path}\n",
            self.port,
            file("host"),
            file("authorized"),
            file("home"),
        );
        std::fs::write(self.path("sshd_config"), config).unwrap();
        let log = std::fs::File::create(self.path("log")).unwrap();
        let mut command = Command::new(SSHD);
        command.args(["-D", "-e", "-f"]).arg(self.path("sshd_config")).stdin(Stdio::null()).stderr(log);
        let child = self.child.insert(command.spawn().unwrap());
        let log = self.folder.path().join("log");
        let mut listens = false;
        wait_until("sshd listens", || {
            listens = std::fs::read_to_string(&log).unwrap_or_default().contains("Server listening on");
            listens || child.try_wait().unwrap().is_some()
        });
        listens
    }

    /// Whether an account like ours can log in at all.
    fn lets_us_in(&self) -> bool {
        let mut ssh = Command::new("ssh");
        let done: Done = run_bounded(ssh.arg("-F").arg(self.path("client")).args(["far", "true"]).stdin(Stdio::null()));
        // An account that is locked, or has a shell that refuses to run anything.
        let is_closed = self.log().contains("account is locked") || done.stdout.contains("not available");
        assert!(done.code == Some(0) || is_closed, "{done:#?}\n{}", self.log());
        !skip_unless(!is_closed, "nobody can log in with the account that runs the tests")
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            if let Ok(None) = child.try_wait() {
                signal_process(child.id(), libc::SIGTERM);
            }
            wait_bounded(child);
        }
    }
}

/// The name of whoever runs this.
pub fn user() -> String {
    run_bounded(Command::new("id").arg("-un")).expect(0).stdout.trim().to_string()
}

fn has(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).exists()))
}
