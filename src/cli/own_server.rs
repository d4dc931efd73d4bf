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
use zeroize::Zeroizing;

use super::serve::TICKET_LINE;
use crate::proto::ticket::Ticket;

/// Time for it to end by itself.
const END_MAX: Duration = Duration::from_secs(2);

/// A running server; ended and reaped when dropped.
pub(super) struct OwnServer {
    child: Child,
    ticket: Ticket,
}

impl OwnServer {
    /// Start one on `listen`, serving `folder` if any, and wait until it listens.
    pub(super) fn start(listen: SocketAddr, folder: Option<&Path>) -> anyhow::Result<OwnServer> {
        let program = std::env::current_exe().context("cannot find this program to start it as a server")?;
        let mut command = Command::new(&program);
        command.args(["serve", "--once", "--ticket-on-stdout", "--allow", "bench,read,write"]);
        command.args(["--listen", &listen.to_string()]).args(folder);
        // A group of its own: Ctrl-C is for us, and we tell it.
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).spawn();
        let mut child = child.with_context(|| format!("{}: cannot be started as a server", program.display()))?;
        match ready_line(&mut child) {
            Some(ticket) => Ok(OwnServer { child, ticket }),
            None => {
                end(&mut child);
                Err(anyhow::anyhow!("the server that was started on loopback did not get ready"))
            }
        }
    }

    /// What lets us in, and where.
    pub(super) fn ticket(&self) -> &Ticket {
        &self.ticket
    }
}

/// The ticket in the line that a server prints once it is ready; `None` when it ended before.
fn ready_line(child: &mut Child) -> Option<Ticket> {
    let mut line = Zeroizing::new(String::new());
    BufReader::new(child.stdout.take()?).read_line(&mut line).ok()?;
    Ticket::decode(line.strip_prefix(TICKET_LINE)?).ok()
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    drop(child.stdin.take());
    let deadline = Instant::now() + END_MAX;
    while Instant::now() < deadline {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let _ = child.kill();
    let _ = child.wait();
}
