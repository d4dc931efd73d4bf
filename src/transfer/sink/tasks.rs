//! Which task a thread of a sink does next, and what the receiver wants done.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Commit, Content, Held, State, Task, empty_entry};
use crate::proto::copy::Settlement;
use crate::proto::copy::options::{CopyOptions, Durability};
use crate::proto::copy::receiver::Action;
use crate::proto::manifest::{Entry, EntryId, EntryKind};
use crate::transfer::destination::Destination;
use crate::transfer::tally::Settled;

/// Entries that one thread decides about in one go.
const DECIDE_MAX: usize = 256;
/// From so many blocks on that are on their way, storing goes before deciding: there is enough to do.
const WANTED_ENOUGH: usize = 4096;
/// Files that are committed together where a sync costs something.
const COMMIT_MAX: usize = 8192;
/// Files that are committed together where it does not.
const COMMIT_LIGHT_MAX: usize = 512;
/// No file that is whole waits longer for its name.
pub(super) const COMMIT_AFTER: Duration = Duration::from_secs(2);
/// Blocks that are put into the journal together.
const NOTE_BLOCKS: usize = 16;

impl State {
    pub(super) fn next_task(&mut self, options: &CopyOptions, now: Instant) -> Option<Task> {
        if self.error.is_some() {
            self.arrived.clear();
            return None;
        }
        if self.is_stopped {
            return self.arrived.pop_front().map(Task::Store);
        }
        if std::mem::take(&mut self.must_sweep) {
            // Nothing is decided before.
            self.is_deciding = true;
            return Some(Task::Sweep);
        }
        if let Some(held) = self.abandons.pop_front() {
            return Some(Task::Abandon(held));
        }
        if !self.links.is_empty() && !self.is_deciding {
            self.is_deciding = true;
            return Some(Task::Links(std::mem::take(&mut self.links)));
        }
        let is_hungry = self.arrived.is_empty() || self.receiver.wanted() < WANTED_ENOUGH;
        if !self.is_deciding && !self.decides.is_empty() && is_hungry {
            self.is_deciding = true;
            let n = self.decides.len().min(DECIDE_MAX);
            return Some(Task::Decide(self.decides.drain(..n).collect()));
        }
        if self.receiver.right_count() >= NOTE_BLOCKS {
            return Some(Task::Note);
        }
        if !self.is_committing && self.should_commit(options, now) {
            self.is_committing = true;
            self.commits_since = None;
            return Some(Task::Commit(std::mem::take(&mut self.commits)));
        }
        if let Some(arrived) = self.arrived.pop_front() {
            return Some(Task::Store(arrived));
        }
        match self.finish {
            Some(is_whole) if self.busy == 0 => {
                self.finish = None;
                Some(Task::Finish { is_whole })
            }
            _ => None,
        }
    }

    fn should_commit(&self, options: &CopyOptions, now: Instant) -> bool {
        let most = if options.durability == Durability::None { COMMIT_LIGHT_MAX } else { COMMIT_MAX };
        let is_overdue = self.commits_since.is_some_and(|since| now >= since + COMMIT_AFTER);
        // Nothing is on its way, and nothing that is here would bring more.
        let is_idle =
            self.receiver.wanted() == 0 && self.arrived.is_empty() && self.decides.is_empty() && !self.is_deciding;
        !self.commits.is_empty() && (self.commits.len() >= most || is_overdue || is_idle)
    }

    /// Put what the receiver wants done where threads find it.
    pub(super) fn take_actions(&mut self) {
        while let Some(action) = self.receiver.poll_action() {
            match action {
                Action::Decide(entry) => {
                    let about = Settled::of(&entry);
                    self.tally.add_found(&about);
                    let entry = Arc::new(entry);
                    self.open
                        .insert(entry.id, Held { about, content: Content::None(entry.clone()), is_storing: false });
                    self.decides.push_back(entry);
                }
                Action::Commit(id, _)
                    if self.open.get(&id).is_some_and(|held| matches!(held.content, Content::Landed)) =>
                {
                    self.receiver.handle_committed(id);
                }
                Action::Commit(id, hash) => self.add_commit(Commit { id, hash, is_refresh: false }),
                Action::Refresh(id, hash) => self.add_commit(Commit { id, hash: Some(hash), is_refresh: true }),
                Action::Abandon(id) => {
                    // Its account is closed when the settlement is said; here only what it holds is of interest.
                    if let Some(held) = self.open.get_mut(&id) {
                        let nothing = Content::None(Arc::new(empty_entry()));
                        let content = std::mem::replace(&mut held.content, nothing);
                        self.abandons.push_back(Held { about: held.about.clone(), content, is_storing: false });
                    }
                }
                Action::Closed(id) => self.links.extend(self.links_of.remove(&id).unwrap_or_default()),
                Action::Finish { is_whole } => self.finish = Some(is_whole),
            }
        }
    }

    fn add_commit(&mut self, commit: Commit) {
        self.commits_since.get_or_insert_with(Instant::now);
        self.commits.push(commit);
    }

    /// Whether nothing more comes of it, however long what is being done takes.
    pub(in crate::transfer) fn is_over(&self) -> bool {
        self.is_stopped || self.error.is_some()
    }

    /// Commits that have to wait for somebody who still writes.
    pub(in crate::transfer) fn commit_later(&mut self, commits: Vec<Commit>) {
        commits.into_iter().for_each(|commit| self.add_commit(commit));
    }

    pub(in crate::transfer) fn abandon_later(&mut self, held: Held) {
        self.abandons.push_back(held);
    }

    pub(in crate::transfer) fn end_deciding(&mut self) {
        self.is_deciding = false;
    }

    pub(in crate::transfer) fn end_committing(&mut self) {
        self.is_committing = false;
    }

    /// Make hard links: at once, or when their file is settled, whatever becomes of it.
    pub(in crate::transfer) fn add_links(&mut self, links: Vec<Entry>) {
        for link in links {
            match link.kind {
                // Those that name each other would wait for ever: a first name comes before the others.
                EntryKind::HardLink { to, .. } if to < link.id && self.receiver.awaits(to) => {
                    self.links_of.entry(to).or_default().push(link);
                }
                _ => self.links.push(link),
            }
        }
    }

    /// What was said to be settled is.
    pub(super) fn settle(&mut self, settled: &[(EntryId, Settlement)], destination: &Destination) {
        for (id, settlement) in settled {
            let Some(held) = self.open.remove(id) else { continue };
            self.tally.add(&held.about, &destination.announced(&held.about.path), settlement);
            if let Some(observer) = &mut self.observer {
                observer.settled(&held.about, settlement);
            }
        }
    }
}
