//! Follows the addresses of this machine while a share runs: a laptop goes to another network, and the link with it.
//!
//! The announcement lives here too, since it names the addresses; both end together.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;

use super::address::Reach;
use super::watch::Sayer;
use crate::cli::out;
use crate::proto::fingerprint::Fingerprint;
use crate::share::announce::{self, Announced, Announcement};
use crate::share::state::{About, authorities};

/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// By which names and addresses a share is told of and reached.
pub(super) struct Known {
    pub(super) reach: Reach,
    pub(super) about: About,
    /// Names besides the addresses.
    pub(super) names: Vec<String>,
    pub(super) fingerprint: Option<Fingerprint>,
    /// The network is told by mDNS.
    pub(super) is_announced: bool,
}

/// The names of a host on its network, besides its addresses.
pub(super) fn names(host: &str) -> Vec<String> {
    vec![announce::local_name(host), format!("{host}.local"), host.to_string(), "localhost".to_string()]
}

/// Somebody who follows, until this is dropped; then the announcement is taken back.
pub(super) struct Following {
    ends: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.ends = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Announce the share, and follow from those addresses on.
pub(super) fn follow(known: Known, addresses: Vec<SocketAddr>, sayer: Sayer) -> anyhow::Result<Following> {
    let announced = known.announce(&addresses);
    let (ends, over) = channel();
    let look = move || known.look(addresses, announced, &over, &sayer);
    let spawned = std::thread::Builder::new().name("addresses".to_string()).spawn(look);
    Ok(Following { ends: Some(ends), thread: Some(spawned.context("a thread cannot be started")?) })
}

impl Known {
    fn announce(&self, addresses: &[SocketAddr]) -> Option<Announced> {
        if !self.is_announced {
            return None;
        }
        let ips: Vec<_> = addresses.iter().map(SocketAddr::ip).collect();
        let announcement = Announcement {
            title: &self.about.title,
            host: &self.about.host,
            addresses: &ips,
            port: addresses.first().map_or(0, SocketAddr::port),
            fingerprint: self.fingerprint,
        };
        // Whoever has the link needs no announcement.
        announce::announce(&announcement).unwrap_or_else(|error| {
            out::say(&format!("linerate: the share is not announced: {error}; its link works all the same"));
            None
        })
    }

    fn look(&self, mut last: Vec<SocketAddr>, announced: Option<Announced>, over: &Receiver<()>, sayer: &Sayer) {
        let mut announced = announced;
        let mut is_lost = false;
        loop {
            match over.recv_timeout(LOOK_EVERY) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.reach.is_lost(&last) != is_lost {
                is_lost = !is_lost;
                sayer.lost(is_lost);
            }
            // What cannot be found out now is found out the next time.
            let Some(now) = self.reach.now().filter(|now| *now != last) else { continue };
            self.about.authorities.replace(authorities(&now, &self.names));
            // The old one is taken back first: both have the same names.
            drop(announced.take());
            announced = self.announce(&now);
            last = now;
            sayer.moved();
        }
    }
}
