//! What several sessions of one copy come to, and how long to wait between them. Pure: whoever waits has the clock.

use std::time::Duration;

use crate::proto::copy::report::EndReport;
use crate::transfer::tally::{Count, Tally};

/// The first wait after a connection was lost.
const WAIT_MIN: Duration = Duration::from_millis(100);
/// The longest.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Waits that get longer: many clients of one server must not come back all at once, nor all the time.
#[derive(Clone, Debug)]
pub(super) struct BackOff {
    next: Duration,
}

impl BackOff {
    /// From the shortest wait on.
    pub(super) fn new() -> BackOff {
        BackOff { next: WAIT_MIN }
    }

    /// How long to wait now: from half of it to all of it, as `random` decides.
    pub(super) fn wait(&mut self, random: u32) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(WAIT_MAX);
        whole / 2 + (whole / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
    }
}

/// What was done in the sessions before the one that runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Earlier {
    tally: Tally,
    moved_bytes: u64,
    wire_bytes: u64,
    damaged_blocks: u64,
    /// What the first session found stored by an earlier run, bytes.
    kept_bytes: Option<u64>,
}

impl Earlier {
    /// A session was broken off; `near` is the last that is known of this end,
    /// and `resumed_bytes` what either end said last that it found stored.
    pub(super) fn add(&mut self, tally: &Tally, near: Option<&EndReport>, resumed_bytes: u64) {
        self.tally = self.so_far(tally);
        self.kept_bytes.get_or_insert(resumed_bytes);
        let Some(near) = near else { return };
        self.moved_bytes += near.moved_bytes;
        self.wire_bytes += near.wire_bytes;
        self.damaged_blocks += near.damaged_blocks;
    }

    /// The sum while a session runs, which has yet to find again what was done before.
    pub(super) fn so_far(&self, now: &Tally) -> Tally {
        Tally {
            found: each(self.tally.found, now.found, u64::max),
            done: each(self.tally.done, now.done, u64::saturating_add),
            had: each(now.had, self.tally.done, u64::saturating_sub),
            digest: self.digest(now),
            ..now.clone()
        }
    }

    /// The sum of a copy whose last session has seen everything: what was done before is what it found there, but for
    /// that which had to be done again.
    pub(super) fn in_all(&self, last: &Tally) -> Tally {
        let again = each(self.tally.done, last.had, u64::min);
        Tally {
            done: each(last.done, again, u64::saturating_add),
            had: each(last.had, again, u64::saturating_sub),
            digest: self.digest(last),
            ..last.clone()
        }
    }

    /// A report of this end with the bytes that moved before; times are those of its session.
    pub(super) fn reported(&self, now: &EndReport) -> EndReport {
        EndReport {
            moved_bytes: now.moved_bytes + self.moved_bytes,
            wire_bytes: now.wire_bytes + self.wire_bytes,
            damaged_blocks: now.damaged_blocks + self.damaged_blocks,
            resumed_bytes: self.kept(now.resumed_bytes),
            ..now.clone()
        }
    }

    /// What is of an earlier run of what a session found stored, bytes: the sessions before it stored no more than they
    /// moved. The first session may have been lost before it said all that it found; then this is the least.
    pub(super) fn kept(&self, found: u64) -> u64 {
        self.kept_bytes.map_or(found, |kept| kept.max(found.saturating_sub(self.moved_bytes)))
    }

    fn digest(&self, now: &Tally) -> crate::proto::copy::digest::CopyDigest {
        let mut digest = now.digest;
        digest.merge(&self.tally.digest);
        digest
    }
}

fn each(a: Count, b: Count, with: impl Fn(u64, u64) -> u64) -> Count {
    Count { entries: with(a.entries, b.entries), files: with(a.files, b.files), bytes: with(a.bytes, b.bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(entries: u64) -> Count {
        Count { entries, files: entries, bytes: entries * 10 }
    }

    fn tally(found: u64, done: u64, had: u64) -> Tally {
        Tally { found: count(found), done: count(done), had: count(had), ..Tally::default() }
    }

    #[test]
    fn waits_get_longer_up_to_a_limit() {
        let mut back_off = BackOff::new();
        let waits: Vec<u128> = (0..8).map(|_| back_off.wait(u32::MAX).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(BackOff::new().wait(0).as_millis(), 50);
    }

    #[test]
    fn what_an_earlier_session_did_is_done() {
        let mut earlier = Earlier::default();
        // 10 entries: 3 were there before, 4 are made, then the connection is lost.
        let near = EndReport { moved_bytes: 40, ..EndReport::default() };
        earlier.add(&tally(10, 4, 3), Some(&near), 0);
        let begun = earlier.so_far(&tally(2, 0, 2));
        assert_eq!((begun.found, begun.done, begun.had), (count(10), count(4), count(0)));
        // The second makes one more; it is lost, too.
        earlier.add(&tally(10, 1, 7), Some(&near), 0);
        let end = earlier.in_all(&tally(10, 2, 8));
        assert_eq!((end.found, end.done, end.had), (count(10), count(7), count(3)));
        assert_eq!(earlier.reported(&near).moved_bytes, 120);
    }

    #[test]
    fn what_had_to_be_done_again_is_counted_once() {
        let mut earlier = Earlier::default();
        earlier.add(&tally(4, 4, 0), None, 0);
        let end = earlier.in_all(&tally(4, 3, 1));
        assert_eq!((end.found, end.done, end.had), (count(4), count(4), count(0)));
    }

    #[test]
    fn what_an_earlier_run_stored_is_not_what_this_one_did() {
        let near = EndReport { moved_bytes: 40, ..EndReport::default() };
        let of = |first: u64| {
            let mut earlier = Earlier::default();
            assert_eq!(earlier.kept(70), 70, "one session knows it all");
            earlier.add(&tally(2, 0, 0), Some(&near), first);
            // Later sessions have nothing to say about what was there at first.
            earlier.add(&tally(2, 0, 0), None, 1000);
            earlier
        };
        // What the next one finds may be of both; what is done by then it does not find.
        for (first, found, kept) in [(30, 70, 30), (30, 10, 30), (0, 40, 0), (0, 35, 0), (0, 70, 30)] {
            assert_eq!(of(first).kept(found), kept, "{first} at first, {found} later");
        }
    }

    #[test]
    fn a_single_session_is_itself() {
        let one = tally(5, 2, 3);
        assert_eq!((Earlier::default().so_far(&one), Earlier::default().in_all(&one)), (one.clone(), one));
    }
}
