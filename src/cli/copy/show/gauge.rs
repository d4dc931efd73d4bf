//! What the figures of a copy that is under way say: rates, time left, what limits it. Pure: the time comes from outside.

use std::collections::VecDeque;
use std::time::Duration;

use crate::proto::copy::report::EndReport;
use crate::transfer::bottleneck::{self, Limit, Over, Setting};
use crate::transfer::run::Progress;

/// Rates now, and what limits now, are over so much time.
const WINDOW: Duration = Duration::from_millis(2500);
/// Moments closer together are one.
const MOMENTS_APART: Duration = Duration::from_millis(250);
/// Less time than this says nothing about what limits.
const JUDGED_NS_MIN: u64 = 500_000_000;
/// A time left that is longer than this is none.
const LEFT_S_MAX: f64 = 1e8;

/// A moment of a copy, as it is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Reading {
    /// Since the beginning, s.
    pub(super) seconds: f64,
    /// Bytes that are there now, or are settled otherwise.
    pub(super) bytes_done: u64,
    /// Bytes that were found so far.
    pub(super) bytes_found: u64,
    /// All was found.
    pub(super) is_scanned: bool,
    /// Files that are there now, or would be.
    pub(super) files_done: u64,
    pub(super) files_found: u64,
    /// Entries.
    pub(super) failed: u64,
    pub(super) skipped: u64,
    /// Bytes a second that were moved lately, and since the beginning.
    pub(super) now: f64,
    pub(super) average: f64,
    /// At the present rate, s; nothing as long as that cannot be said.
    pub(super) left: Option<f64>,
    pub(super) streams: u32,
    pub(super) limit: Option<Limit>,
}

/// Remembers the last few seconds.
#[derive(Debug)]
pub(super) struct Gauge {
    is_push: bool,
    setting: Setting,
    moments: VecDeque<Moment>,
    /// What sessions before this one moved, and this one so far.
    moved_before: u64,
    moved: u64,
    /// What was stored before the first session: what a later one finds was moved by those before it.
    resumed: u64,
    sessions: u32,
    limit: Option<Limit>,
}

#[derive(Debug)]
struct Moment {
    at: Duration,
    moved: u64,
    near: EndReport,
    far: Option<EndReport>,
}

impl Gauge {
    pub(super) fn new(is_push: bool, setting: Setting) -> Gauge {
        Gauge {
            is_push,
            setting,
            moments: VecDeque::new(),
            moved_before: 0,
            moved: 0,
            resumed: 0,
            sessions: 0,
            limit: None,
        }
    }

    /// A session begins: what the ends report from now on is of it.
    pub(super) fn begin_session(&mut self) {
        self.sessions += 1;
        self.moments.clear();
        self.limit = None;
    }

    /// The copy is so far, `at` after its beginning.
    pub(super) fn read(&mut self, at: Duration, progress: &Progress<'_>) -> Reading {
        let (near, far) = (&progress.near, progress.far);
        if near.moved_bytes < self.moved {
            self.moved_before += self.moved;
        }
        self.moved = near.moved_bytes;
        let moved = self.moved_before + self.moved;
        let is_oldest_needless = |moments: &VecDeque<Moment>| moments.get(1).is_some_and(|next| next.at + WINDOW <= at);
        while is_oldest_needless(&self.moments) {
            self.moments.pop_front();
        }
        let now = self.moments.front().map_or(0.0, |first| rate(moved - first.moved.min(moved), at - first.at.min(at)));
        self.judge(near, far);
        if self.moments.back().is_none_or(|last| at >= last.at + MOMENTS_APART) {
            self.moments.push_back(Moment { at, moved, near: bare(near), far: far.map(bare) });
        }
        let tally = &progress.tally;
        if self.sessions <= 1 {
            self.resumed = near.resumed_bytes.max(far.map_or(0, |far| far.resumed_bytes));
        }
        let settled = tally.had.bytes + tally.planned.bytes + tally.skipped.bytes + tally.failed.bytes;
        let bytes_found = tally.found.bytes;
        let bytes_done = (settled + tally.done.bytes.max(moved + self.resumed)).min(bytes_found);
        let left = (bytes_found - bytes_done) as f64 / now;
        Reading {
            seconds: at.as_secs_f64(),
            bytes_done,
            bytes_found,
            is_scanned: progress.is_scanned,
            files_done: tally.done.files + tally.had.files + tally.planned.files,
            files_found: tally.found.files,
            failed: tally.failed.entries,
            skipped: tally.skipped.entries,
            now,
            average: rate(moved, at),
            left: Some(left).filter(|left| progress.is_scanned && *left < LEFT_S_MAX),
            streams: progress.streams,
            limit: self.limit,
        }
    }

    /// What limits now; as before where nothing new is known.
    fn judge(&mut self, near: &EndReport, far: Option<&EndReport>) {
        let (Some(first), Some(far)) = (self.moments.front(), far) else { return };
        let over_near = Over { before: Some(&first.near), after: near };
        let over_far = Over { before: first.far.as_ref(), after: far };
        if over_near.elapsed_ns().min(over_far.elapsed_ns()) >= JUDGED_NS_MIN {
            let (source, destination) = bottleneck::ends(self.is_push, over_near, over_far);
            self.limit = bottleneck::limit(source, destination, self.setting);
        }
    }
}

/// What is compared later.
fn bare(report: &EndReport) -> EndReport {
    EndReport {
        threads: report.threads,
        elapsed_ns: report.elapsed_ns,
        stages: report.stages.clone(),
        cpu: report.cpu,
        ..EndReport::default()
    }
}

/// Bytes a second; none in no time.
fn rate(bytes: u64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { bytes as f64 / time.as_secs_f64() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::copy::report::{Stage, StageTime};
    use crate::transfer::tally::{Count, Tally};

    const MB: u64 = 1_000_000;

    fn report(seconds: u64, moved_bytes: u64, stage: Stage) -> EndReport {
        let stages = vec![StageTime { stage, ns: seconds * 1_000_000_000 }];
        EndReport { threads: 1, elapsed_ns: seconds * 1_000_000_000, moved_bytes, stages, ..EndReport::default() }
    }

    fn tally() -> Tally {
        let count = |files, bytes| Count { entries: files, files, bytes };
        Tally { found: count(10, 1000 * MB), had: count(2, 100 * MB), done: count(1, MB), ..Tally::default() }
    }

    fn at(gauge: &mut Gauge, second: u64, session_second: u64, moved: u64) -> Reading {
        let far = report(session_second, moved, Stage::Receive);
        let near = report(session_second, moved, Stage::Send);
        let progress = Progress { tally: tally(), near, far: Some(&far), streams: 2, is_scanned: true, under_way: &[] };
        gauge.read(Duration::from_secs(second), &progress)
    }

    #[test]
    fn rates_are_of_the_last_seconds_and_of_all() {
        let mut gauge = Gauge::new(true, Setting::default());
        assert_eq!(at(&mut gauge, 0, 0, 0).now, 0.0);
        (1..=5).for_each(|second| _ = at(&mut gauge, second, second, second * 10 * MB));
        let reading = at(&mut gauge, 6, 6, 110 * MB);
        // From 3 s to 6 s: the window begins at the last moment that is older than it.
        assert_eq!((reading.now, reading.average), (80e6 / 3.0, 110e6 / 6.0));
        assert_eq!((reading.bytes_done, reading.bytes_found, reading.files_done), (210 * MB, 1000 * MB, 3));
        assert!((reading.left.unwrap() - 790.0 / (80.0 / 3.0)).abs() < 1e-9);
        assert_eq!(reading.limit, Some(Limit::Network));
    }

    #[test]
    fn another_session_goes_on_where_the_one_before_was() {
        let mut gauge = Gauge::new(false, Setting::default());
        gauge.begin_session();
        at(&mut gauge, 0, 0, 0);
        at(&mut gauge, 1, 1, 50 * MB);
        gauge.begin_session();
        let after = at(&mut gauge, 10, 1, 5 * MB);
        assert_eq!((after.bytes_done, after.now), (155 * MB, 0.0));
        assert_eq!(at(&mut gauge, 11, 2, 15 * MB).now, 10e6);
    }

    #[test]
    fn nothing_is_left_to_be_said_of_a_scan_that_goes_on() {
        let mut gauge = Gauge::new(true, Setting::default());
        let progress = |moved_bytes| Progress {
            tally: tally(),
            near: EndReport { moved_bytes, ..EndReport::default() },
            far: None,
            streams: 1,
            is_scanned: false,
            under_way: &[],
        };
        gauge.read(Duration::ZERO, &progress(0));
        let reading = gauge.read(Duration::from_secs(1), &progress(5000 * MB));
        assert_eq!((reading.left, reading.limit), (None, None));
        assert_eq!(reading.bytes_done, reading.bytes_found, "never more than there is");
    }
}
