//! What happens on a share, for its owner: who came in, what is moved, how fast, what was refused.
//!
//! Requests write here; the terminal reads. Counters are atomics that whoever moves bytes adds to; everything else is
//! told to one observer, who must not wait.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::gate::VisitorId;

/// What is done with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A file is sent.
    Download,
    /// Several are, as one archive.
    Archive,
    /// One comes.
    Upload,
}

/// How a transfer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All that was asked for was moved.
    Complete,
    /// The visitor went away, or something failed.
    Cut,
}

/// Something that is being moved.
#[derive(Debug)]
pub struct Transfer {
    /// Counts up.
    pub number: u64,
    /// What is done.
    pub action: Action,
    /// With which file, as it is shown.
    pub name: String,
    /// By whom.
    pub visitor: VisitorId,
    /// From where.
    pub from: IpAddr,
    /// How much it will be, bytes, if that is known.
    pub expected: Option<u64>,
    /// Which byte of the file is the first.
    pub at: u64,
    /// When it began.
    pub since: Instant,
    moved: AtomicU64,
}

impl Transfer {
    /// So much more was moved.
    pub fn add(&self, bytes: u64) {
        self.moved.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes so far.
    pub fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// Somebody opened the link.
    Entered {
        /// Who.
        visitor: VisitorId,
        /// From where.
        from: IpAddr,
        /// His browser, as it calls itself.
        agent: String,
    },
    /// A transfer began.
    Began(Arc<Transfer>),
    /// And ended.
    Ended(Arc<Transfer>, Outcome),
    /// A file came in and is there.
    Arrived {
        /// Its path, as it is shown.
        name: String,
        /// Its length.
        bytes: u64,
    },
    /// Somebody said something.
    Said {
        /// Under this name.
        nick: String,
        /// This.
        text: String,
    },
    /// What a virus scan found.
    Scanned {
        /// The file, as it is shown.
        name: String,
        /// `clean`, `infected: NAME`, `not scanned: WHY`.
        verdict: String,
    },
    /// Something was not allowed.
    Refused {
        /// From where.
        from: IpAddr,
        /// What, and why.
        what: String,
    },
    /// Something does not work as it should, and the share goes on without it.
    Trouble {
        /// What, why, and what to do.
        what: String,
    },
    /// One request, for the access log.
    Request {
        /// From where.
        from: IpAddr,
        /// By whom, if anybody known.
        visitor: Option<VisitorId>,
        /// `GET /f/a.txt`: never with a token.
        line: String,
        /// The status of the answer.
        status: u16,
        /// The length of its body, if that is known when it begins.
        bytes: Option<u64>,
    },
}

/// Who is told.
pub trait Observer: Send + Sync {
    /// Something happened. Called by whoever serves requests: it must not wait.
    fn see(&self, event: &Event);
}

/// Nobody is told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unseen;

impl Observer for Unseen {
    fn see(&self, _: &Event) {}
}

/// All that is going on.
pub struct Activity {
    observer: Box<dyn Observer>,
    running: Mutex<HashMap<u64, Arc<Transfer>>>,
    next: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

impl Activity {
    /// Nothing is, yet.
    pub fn new(observer: Box<dyn Observer>) -> Activity {
        let (next, sent, received) = Default::default();
        Activity { observer, running: Mutex::default(), next, sent, received }
    }

    /// Tell what happened.
    pub fn tell(&self, event: &Event) {
        self.observer.see(event);
    }

    /// A transfer begins; it ends when what is given back is dropped.
    pub fn begin(
        self: &Arc<Self>,
        action: Action,
        name: String,
        (visitor, from): (VisitorId, IpAddr),
        expected: Option<u64>,
    ) -> Running {
        self.begin_at(action, name, (visitor, from), expected, 0)
    }

    /// The same of what begins in the middle of a file.
    pub fn begin_at(
        self: &Arc<Self>,
        action: Action,
        name: String,
        (visitor, from): (VisitorId, IpAddr),
        expected: Option<u64>,
        at: u64,
    ) -> Running {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let moved = AtomicU64::new(0);
        let since = Instant::now();
        let transfer = Arc::new(Transfer { number, action, name, visitor, from, expected, at, since, moved });
        self.lock().insert(number, transfer.clone());
        self.tell(&Event::Began(transfer.clone()));
        Running { activity: self.clone(), transfer, is_complete: false }
    }

    /// What is being moved, oldest first.
    pub fn running(&self) -> Vec<Arc<Transfer>> {
        let mut running: Vec<_> = self.lock().values().cloned().collect();
        running.sort_by_key(|transfer| transfer.number);
        running
    }

    /// Bytes of content sent and received since the share began, those of running transfers too.
    pub fn totals(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), self.received.load(Ordering::Relaxed))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Transfer>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A transfer, for whoever does it.
pub struct Running {
    activity: Arc<Activity>,
    transfer: Arc<Transfer>,
    is_complete: bool,
}

impl Running {
    /// So much more was moved.
    pub fn add(&self, bytes: u64) {
        self.transfer.add(bytes);
        let total = match self.transfer.action {
            Action::Download | Action::Archive => &self.activity.sent,
            Action::Upload => &self.activity.received,
        };
        total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// It came to its end.
    pub fn complete(&mut self) {
        self.is_complete = true;
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.transfer.fmt(f)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.activity.lock().remove(&self.transfer.number);
        let outcome = if self.is_complete { Outcome::Complete } else { Outcome::Cut };
        self.activity.tell(&Event::Ended(self.transfer.clone(), outcome));
    }
}
