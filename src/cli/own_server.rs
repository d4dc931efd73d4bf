//! A server process of our own on loopback, for a bench without a host.
//!
//! It is a process and not a thread, so that either end's CPU time can be told apart. It serves one session and ends
//! when that ends, or when its standard input does, which is when this process is gone, however it went.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

/// Time for it to end by itself.
const END_MAX: Duration = Duration::from_secs(2);

/// A running server; ended and reaped when dropped.
pub(super) struct OwnServer {
    child: Child,
    address: SocketAddr,
}

impl OwnServer {
    /// Start one on `listen`, serving `folder` if any, and wait until it listens.
    pub(super) fn start(listen: SocketAddr, folder: Option<&Path>) -> anyhow::Result<OwnServer> {
        let program = std::env::current_exe().context("cannot find this program to start it as a server")?;
        let mut command = Command::new(&program);
        command.args(["serve", "--once", "--quiet", "--listen", &listen.to_string()]);
        command.args(folder);
        // A group of its own: Ctrl-C is for us, and we tell it.
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).spawn();
        let mut child = child.with_context(|| format!("{}: cannot be started as a server", program.display()))?;
        let address = ready_line(&mut child);
        let server = OwnServer { child, address: address.unwrap_or(listen) };
        // On failure `server` is dropped here, and the child with it.
        address.map(|_| server).context("the server that was started on loopback did not get ready")
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The address in the line that a server prints once it is ready; `None` when it ended before.
fn ready_line(child: &mut Child) -> Option<SocketAddr> {
    let mut line = String::new();
    BufReader::new(child.stdout.take()?).read_line(&mut line).ok()?;
    line.trim().strip_prefix("listening on ")?.parse().ok()
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let deadline = Instant::now() + END_MAX;
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
