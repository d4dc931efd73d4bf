//! The same congestion control for every mover, since hardly any can be told: in a network namespace of our own where
//! we may have one, which changes nothing for anybody else; by the machine's setting, put back at the end, where not.

use std::fs;

use serde::Serialize;

use crate::common::network::{self, Network};
use crate::common::own;

const SETTING: &str = "/proc/sys/net/ipv4/tcp_congestion_control";

/// What connections use, and how that came to be.
#[derive(Serialize)]
pub struct Congestion {
    #[serde(flatten)]
    network: Network,
    /// What the machine used before, where it had to be changed for the run.
    machine_changed_from: Option<String>,
}

impl Congestion {
    /// Enter a namespace, or change the machine; say so where neither is possible. Before there is any other thread:
    /// only the calling thread changes its network.
    pub fn choose() -> Congestion {
        let mut network = network::enter();
        let mut machine_changed_from = None;
        if !network.is_own && network.default_congestion != own::CONGESTION {
            let before = network.default_congestion.clone();
            if fs::write(SETTING, own::CONGESTION).is_ok() {
                network.default_congestion = own::CONGESTION.to_owned();
                machine_changed_from = Some(before);
            }
        }
        Congestion { network, machine_changed_from }
    }
}

impl std::fmt::Display for Congestion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.network.fmt(f)?;
        match &self.machine_changed_from {
            Some(before) => write!(f, "; the machine's default is put back to {before} at the end"),
            None if self.network.default_congestion != own::CONGESTION => {
                write!(f, "; it could not be changed to {}", own::CONGESTION)
            }
            None => Ok(()),
        }
    }
}

impl Drop for Congestion {
    fn drop(&mut self) {
        if let Some(before) = &self.machine_changed_from
            && let Err(error) = fs::write(SETTING, before)
        {
            eprintln!("{SETTING}: cannot be put back to {before}: {error}");
        }
    }
}
