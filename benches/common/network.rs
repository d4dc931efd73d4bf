//! A network namespace of our own, in which loopback connections use the same congestion control for every tool.
//!
//! nuttcp, qperf and sockperf cannot be told which to use and take the system's default. Routes can carry one
//! (`congctl`), and in a namespace of our own that touches nobody else. Needs root and the `ip` command; without
//! them the result says that those three ran with the default.

use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use serde::Serialize;

use super::own;

/// Where the runs happen.
#[derive(Clone, Debug, Serialize)]
pub struct Network {
    /// Whether loopback is a namespace's own, with the congestion control on its routes.
    pub is_own: bool,
    /// Why not.
    pub reason: Option<String>,
    /// What connections use whose program does not choose.
    pub default_congestion: String,
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.reason {
            None => write!(f, "loopback of a namespace of its own, {} on its routes", self.default_congestion),
            Some(why) => write!(f, "this machine's loopback, default {} ({why})", self.default_congestion),
        }
    }
}

/// Enter one if we may.
pub fn enter() -> Network {
    match try_enter() {
        Ok(()) => Network { is_own: true, reason: None, default_congestion: own::CONGESTION.to_owned() },
        Err(error) => Network {
            is_own: false,
            reason: Some(format!("{error:#}")),
            default_congestion: linerate::measure::environment::capture(None).congestion_control,
        },
    }
}

fn try_enter() -> anyhow::Result<()> {
    // Tried first: an empty namespace is of no use without it.
    ip(&["-V"])?;
    let before = std::fs::File::open("/proc/thread-self/ns/net")?;
    unshare(CloneFlags::CLONE_NEWNET).map_err(|error| anyhow::anyhow!("no network namespace: {error}"))?;
    set_up().inspect_err(|_| {
        nix::sched::setns(&before, CloneFlags::CLONE_NEWNET).expect("back to the namespace that we came from");
    })
}

fn set_up() -> anyhow::Result<()> {
    ip(&["link", "set", "lo", "up"])?;
    for range in ["127.0.0.0/8", "127.0.0.1"] {
        let route = ["route", "replace", "table", "local", "local", range, "dev", "lo", "src", "127.0.0.1"];
        ip(&[&route[..], &["congctl", own::CONGESTION]].concat())?;
    }
    Ok(())
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip").args(arguments).output().map_err(|error| anyhow::anyhow!("ip: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "ip {}: {}", arguments.join(" "), said.trim());
    Ok(())
}
