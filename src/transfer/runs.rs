//! Which copies a server runs, in all its sessions: who comes back after a lost connection, and who has to wait for one
//! that is ending.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long it may take until a server notices that a client is gone.
const NOTICE_MAX: Duration = Duration::from_millis(500);
/// How long a newcomer waits for a copy that is ending: what arrived has to be stored, and synced.
const ENDING_MAX: Duration = Duration::from_secs(30);
/// How often it looks meanwhile: another server may have the destination.
const LOOK: Duration = Duration::from_millis(50);

/// Copies that run in all sessions of a server, by the run that their clients show.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    runs: Arc<Mutex<HashMap<[u8; 16], Arc<Marks>>>>,
    /// One has ended.
    ended: Arc<Condvar>,
}

/// What is known of one.
#[derive(Debug, Default)]
struct Marks {
    /// Its client has come back over another session.
    is_superseded: AtomicBool,
    /// It is over, and stores what has arrived.
    is_ending: AtomicBool,
}

/// One of them; it is out of the table when this is dropped.
#[derive(Debug)]
pub(super) struct Run {
    runs: Runs,
    id: [u8; 16],
    marks: Arc<Marks>,
}

impl Runs {
    /// Enter a run; nothing if it is there already, which is told that it has to end.
    pub(super) fn enter(&self, id: [u8; 16]) -> Option<Run> {
        let mut runs = self.lock();
        if let Some(before) = runs.get(&id) {
            before.is_superseded.store(true, Ordering::Relaxed);
            return None;
        }
        let marks = Arc::<Marks>::default();
        runs.insert(id, marks.clone());
        Some(Run { runs: self.clone(), id, marks })
    }

    /// Wait, at most so long, until all have ended: what arrived is stored then, and what is proven is kept.
    pub fn wait_ended(&self, longest: Duration) {
        let is_running = |runs: &mut HashMap<_, _>| !runs.is_empty();
        drop(self.ended.wait_timeout_while(self.lock(), longest, is_running));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 16], Arc<Marks>>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Run {
    /// Whether its client has come back over another session.
    pub(super) fn is_superseded(&self) -> bool {
        self.marks.is_superseded.load(Ordering::Relaxed)
    }

    /// It is over: whoever wants its destination may wait for it.
    pub(super) fn begin_to_end(&self) {
        self.marks.is_ending.store(true, Ordering::Relaxed);
    }

    /// To wait for what another run has.
    pub(super) fn chances(&self) -> Chances {
        Chances { runs: self.runs.clone(), since: Instant::now() }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.runs.lock().remove(&self.id);
        self.runs.ended.notify_all();
    }
}

/// Waiting for a destination that another copy has: a moment for a server to notice that the other's client is gone,
/// then as long as one is ending, which is bounded.
pub(super) struct Chances {
    runs: Runs,
    since: Instant,
}

impl Chances {
    /// Wait a little; false once there is nothing to wait for.
    pub(super) fn wait(&mut self) -> bool {
        let passed = self.since.elapsed();
        let runs = self.runs.lock();
        let is_any_ending = runs.values().any(|run| run.is_ending.load(Ordering::Relaxed));
        if passed >= ENDING_MAX || passed >= NOTICE_MAX && !is_any_ending {
            return false;
        }
        drop(self.runs.ended.wait_timeout(runs, LOOK));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newcomer_waits_for_one_that_is_ending() {
        let runs = Runs::default();
        let (first, second) = (runs.enter([1; 16]).unwrap(), runs.enter([2; 16]).unwrap());
        assert!(runs.enter([1; 16]).is_none() && first.is_superseded());
        first.begin_to_end();
        let mut chances = second.chances();
        chances.since -= NOTICE_MAX;
        assert!(chances.wait(), "it is ending");
        drop(first);
        assert!(!chances.wait(), "nobody is");
        assert!(second.chances().wait(), "somebody may not have been noticed yet");
    }
}
