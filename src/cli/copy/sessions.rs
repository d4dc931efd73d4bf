//! A copy to its end, over as many sessions as that takes.

use std::time::{Duration, Instant};

use super::attempts::{BackOff, Earlier};
use super::door::{Door, Open};
use super::interrupt::Interrupts;
use crate::cli::exit;
use crate::cli::{Exit, reach::Far};
use crate::proto::copy::report::EndReport;
use crate::transfer::run::{self, CopyPlan, Outcome, Progress, RunError, Watcher};
use crate::transfer::tally::{Observer, Tally};

/// Is also told when a connection is made again.
pub(super) trait Retried: Watcher {
    /// It was lost, or is refused for now; it is made again after that time. `attempt` counts from 1, over all losses.
    fn reconnect(&mut self, why: &str, attempt: u32, wait: Duration);
}

/// What is copied, over which way.
pub(super) struct Sessions<'a, 'd> {
    pub(super) door: &'a mut Door<'d>,
    pub(super) interrupts: &'a Interrupts,
    /// How long without progress it is tried again.
    pub(super) retry_for: Duration,
}

/// How a copy ended.
pub(super) struct Finished {
    /// What became of the entries in all sessions.
    pub(super) tally: Tally,
    /// How the last one ended.
    pub(super) result: anyhow::Result<Outcome>,
    /// How many sessions there were; the first is one.
    pub(super) sessions: u32,
}

impl Sessions<'_, '_> {
    /// Copy, beginning with a session that is there.
    pub(super) fn run(&mut self, plan: &CopyPlan, mut open: Open, watcher: &mut dyn Retried) -> Finished {
        let mut earlier = Earlier::default();
        let (mut sessions, mut attempts) = (1, 0);
        let mut seen = Seen::new();
        let mut back_off = BackOff::new();
        loop {
            let mut adding = Adding { inner: watcher, earlier: &earlier, seen: &mut seen };
            let session = self.interrupts.in_session(|| run::run(plan, &mut open.link, &mut adding));
            let error = match session.result {
                Ok(outcome) => {
                    open.link.close();
                    let tally = earlier.in_all(&outcome.tally);
                    let near = earlier.reported(&outcome.near);
                    let resumed_bytes = earlier.kept(outcome.far.resumed_bytes);
                    let far = EndReport { resumed_bytes, ..outcome.far };
                    let outcome = Outcome { tally: tally.clone(), near, far, ..outcome };
                    return Finished { tally, result: Ok(outcome), sessions };
                }
                Err(error) => error,
            };
            if !(error.is_passing() || sessions > 1 && error.is_given_way()) {
                return Finished { tally: earlier.so_far(&session.tally), result: Err(error.into()), sessions };
            }
            if seen.note(&session.tally, seen.moved()) {
                back_off = BackOff::new();
            }
            earlier.add(&session.tally, seen.near.take().as_ref(), seen.resumed_bytes);
            seen.begin();
            let until = seen.progress_at.checked_add(self.retry_for);
            let mut tell = |why: &str, wait| {
                attempts += 1;
                watcher.reconnect(why, attempts, wait);
            };
            match self.reopen(open, error, &mut back_off, until, &mut tell) {
                Ok(again) => open = again,
                Err(error) => {
                    return Finished { tally: earlier.so_far(&Tally::default()), result: Err(error), sessions };
                }
            }
            sessions += 1;
        }
    }

    /// Another session instead of one that is lost; the error when there is none until then. Without that moment it is
    /// so far away that no clock has it.
    fn reopen(
        &mut self,
        lost: Open,
        error: RunError,
        back_off: &mut BackOff,
        until: Option<Instant>,
        tell: &mut dyn FnMut(&str, Duration),
    ) -> anyhow::Result<Open> {
        drop(lost.link);
        let way = lost.far.and_then(Far::end_of_lost);
        let mut error = anyhow::Error::from(error);
        if let Some(way) = way {
            error = error.context(way);
        }
        loop {
            let left = until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Err(error.context("the connection was lost, and the same command goes on from there"));
            }
            let random = getrandom::u32().unwrap_or(0);
            tracing::info!(%error, "the connection was lost: trying again");
            let wait = back_off.wait(random).min(left);
            tell(&error.to_string(), wait);
            std::thread::sleep(wait);
            match self.door.open() {
                Ok(open) => return Ok(open),
                Err(other) if exit::of_error(&other) == Exit::Unconnected => error = other,
                Err(other) => return Err(other),
            }
        }
    }
}

/// What is known of the session that runs.
struct Seen {
    /// What had been done when progress was seen last.
    done: (u64, u64),
    progress_at: Instant,
    near: Option<EndReport>,
    /// What either end said that it found stored when the session began.
    resumed_bytes: u64,
}

impl Seen {
    fn new() -> Seen {
        Seen { done: (0, 0), progress_at: Instant::now(), near: None, resumed_bytes: 0 }
    }

    /// Another session begins, with nothing done in it.
    fn begin(&mut self) {
        self.done = (0, 0);
        self.resumed_bytes = 0;
    }

    fn moved(&self) -> u64 {
        self.near.as_ref().map_or(0, |near| near.moved_bytes)
    }

    /// Whether something was done since the last look. What was found again is no progress.
    fn note(&mut self, tally: &Tally, moved_bytes: u64) -> bool {
        let now = (tally.done.entries, moved_bytes);
        let is_more = now != self.done;
        self.done = now;
        if is_more {
            self.progress_at = Instant::now();
        }
        is_more
    }
}

/// Adds what was done before, for whoever watches.
struct Adding<'a> {
    inner: &'a mut dyn Retried,
    earlier: &'a Earlier,
    seen: &'a mut Seen,
}

impl Watcher for Adding<'_> {
    fn progress(&mut self, progress: &Progress<'_>) {
        self.seen.note(&progress.tally, progress.near.moved_bytes);
        self.seen.near = Some(progress.near.clone());
        let far = progress.far.map_or(0, |far| far.resumed_bytes);
        self.seen.resumed_bytes = progress.near.resumed_bytes.max(far);
        self.inner.progress(&Progress {
            tally: self.earlier.so_far(&progress.tally),
            // Whoever shows it makes out sessions by what they report.
            near: progress.near.clone(),
            ..*progress
        });
    }

    fn observer(&mut self) -> Option<Box<dyn Observer>> {
        self.inner.observer()
    }
}
