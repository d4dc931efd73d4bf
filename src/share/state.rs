//! What all requests of a share have in common.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::broadcast;

use super::activity::Activity;
use super::gate::{Gate, Secret};
use super::hub::Hub;
use super::intake::{Intake, Settings};
use super::listing::Listings;
use super::notice::{NOTICES_MAX, Notice};
use super::reading::Reading;
use super::tree::Tree;
use super::watching::Watching;
use crate::store::confined::RelativePath;

/// What a share tells of itself, and how it is reached.
#[derive(Clone, Debug)]
pub struct About {
    /// What is shared, for the page's heading.
    pub title: String,
    /// The name of the machine.
    pub host: String,
    /// Whether content and cookies are encrypted on the way.
    pub is_https: bool,
    /// Authorities (`192.0.2.1:5291`, `name.local:5291`) that a request may name; the first is the one to pass on.
    pub authorities: Authorities,
}

/// Names that a share is reached by. They change when the machine's addresses do; clones are the same ones.
#[derive(Clone, Debug, Default)]
pub struct Authorities(Arc<RwLock<Arc<[String]>>>);

impl From<Vec<String>> for Authorities {
    fn from(names: Vec<String>) -> Authorities {
        Authorities(Arc::new(RwLock::new(names.into())))
    }
}

impl Authorities {
    /// Those of now.
    pub fn now(&self) -> Arc<[String]> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on these.
    pub fn replace(&self, names: Vec<String>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = names.into();
    }
}

impl About {
    /// `https://192.0.2.1:5291`, without a `/` at the end.
    pub fn origin(&self, authority: &str) -> String {
        format!("{}://{authority}", if self.is_https { "https" } else { "http" })
    }

    /// The authority of this share that a Host header means. Whoever asks at the usual port leaves the port out.
    pub fn meant(&self, host: &str) -> Option<String> {
        let usual = if self.is_https { ":443" } else { ":80" };
        let is_meant = |ours: &str| {
            let bare = ours.strip_suffix(usual);
            ours.eq_ignore_ascii_case(host) || bare.is_some_and(|bare| bare.eq_ignore_ascii_case(host))
        };
        self.authorities.now().iter().find(|ours| is_meant(ours)).cloned()
    }

    /// The link that lets in, by each authority.
    pub fn links(&self, token: &Secret) -> Vec<String> {
        self.authorities
            .now()
            .iter()
            .map(|authority| format!("{}/t/{}", self.origin(authority), token.encode()))
            .collect()
    }
}

/// How a host of a LAN is called: its addresses with the port, and its names.
pub fn authorities(addresses: &[SocketAddr], names: &[String]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let port = addresses.first().map_or(0, SocketAddr::port);
    let named = names.iter().map(|name| format!("{}:{port}", name.to_ascii_lowercase()));
    let all = addresses.iter().map(|address| match address {
        // A scope means something on this machine only.
        SocketAddr::V6(v6) => format!("[{}]:{}", v6.ip(), v6.port()),
        SocketAddr::V4(v4) => v4.to_string(),
    });
    all.chain(named).filter(|authority| seen.insert(authority.clone())).collect()
}

/// A share. Requests hold it in an [`Arc`].
pub struct Share {
    /// What is shared.
    pub tree: Tree,
    /// What it tells of itself.
    pub about: About,
    /// The link's, which visitors may pass on.
    pub token: Secret,
    /// Folders that were read a moment ago.
    pub listings: Listings,
    /// Whether uploads go into one folder for each type of file ([`super::sorting`]).
    pub sorts_by_type: bool,
    /// What happens, for the owner.
    pub activity: Arc<Activity>,
    /// What changes, for whoever tells it on.
    pub notices: broadcast::Sender<Notice>,
    /// The room, and all who listen.
    pub hub: Arc<Hub>,
    /// Archives, searches and hashes that are made.
    pub reading: Reading,
    /// Folders that pages show.
    pub watching: Watching,
    /// What comes in.
    pub intake: Intake,
    gate: Mutex<Gate>,
}

impl Share {
    /// One that nobody has come to.
    pub fn new(tree: Tree, about: About, (token, gate): (Secret, Gate), activity: Arc<Activity>) -> Share {
        let (notices, hub) = (broadcast::Sender::new(NOTICES_MAX), Arc::default());
        let (listings, reading, sorts_by_type) = (Listings::default(), Reading::default(), false);
        let (watching, intake, gate) = (Watching::default(), Intake::new(Settings::default()), Mutex::new(gate));
        Share { tree, about, token, listings, sorts_by_type, activity, notices, hub, reading, watching, intake, gate }
    }

    /// The same, taking uploads so.
    #[must_use]
    pub fn with_intake(self, settings: Settings) -> Share {
        Share { intake: Intake::new(settings), ..self }
    }

    /// What is in a folder is not what it was. Whether anybody listens does not matter.
    pub fn changed(&self, folder: &RelativePath) {
        // A file that grew does not change its folder's time.
        self.listings.forget(folder);
        let _ = self.notices.send(Notice::Changed(folder.clone()));
    }

    /// What is known of a file by a virus scan is not what it was.
    pub fn scanned(&self, path: &RelativePath, state: &'static str) {
        let _ = self.notices.send(Notice::Scan { path: path.clone(), state });
    }

    /// Whoever panicked with it left nothing half done: every change is one call.
    pub fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
