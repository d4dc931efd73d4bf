//! What a copy waits for, from what both ends say of their threads. Pure: reports in, a judgement out.
//!
//! The threads of an end pull: whoever is slower than the rest is busy all the time, and the others wait for it. So the
//! busy shares of two moments tell. Of a stage that one thread at a time does (scan, looking, commit) the share is of
//! one thread, of the others it is of all of them. The first row that holds is the answer:
//!
//! | row | when | what limits |
//! |---|---|---|
//! | 1 | both ends are on one machine, and that is > 95 % busy | CPU of the one machine |
//! | 2 | the destination's threads are ≥ 85 % busy, and not less than those of the source | its largest busy stage |
//! | 3 | the source's threads are ≥ 85 % busy | its largest busy stage |
//! | 4 | one thread looks, or commits, ≥ 85 % of the time | the destination's disk |
//! | 5 | the scan takes ≥ 85 % of the time | the scan |
//! | 6 | the source waits to send, and the destination to receive, ≥ 50 % of their time each | the network, or `--limit` |
//! | 7 | otherwise | nothing clear |
//!
//! Time in TLS and in system calls of sockets is the streams', not these threads': it counts as network. A stage is
//! counted when it ends, so that a sync that takes longer than the time between two moments shows up late.

use crate::measure::cpu::busy_share;
use crate::proto::copy::report::{EndReport, Stage};

/// Threads that are busy for this share have no time left to speak of.
const BUSY_MIN: f64 = 0.85;
/// Threads that wait for this share wait for the other end, or for what is between.
const WAITING_MIN: f64 = 0.5;
/// A machine that is busier has no time left.
const MACHINE_BUSY_MIN: f64 = 0.95;

/// What a copy waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Reading.
    SourceDisk,
    /// Hashing what was read.
    SourceCpu,
    /// Finding entries.
    Scan,
    /// Compressing or decompressing.
    Compression,
    /// What is between the ends, with the streams' threads.
    Network,
    /// The rate that was asked for.
    Pace,
    /// Writing.
    DestinationDisk,
    /// Syncing and renaming.
    DestinationCommit,
    /// Looking at what is there, making folders and links.
    DestinationTree,
    /// Hashing what came.
    DestinationCpu,
    /// The one machine that both ends are on.
    Machine,
}

impl Limit {
    /// For a person, after "limited by".
    pub fn name(self) -> &'static str {
        match self {
            Limit::SourceDisk => "source disk (reading)",
            Limit::SourceCpu => "source CPU (hashing)",
            Limit::Scan => "scan",
            Limit::Compression => "compression",
            Limit::Network => "network",
            Limit::Pace => "the rate that was asked for (--limit)",
            Limit::DestinationDisk => "destination disk (writing)",
            Limit::DestinationCommit => "destination disk (commit: sync and rename)",
            Limit::DestinationTree => "destination disk (looking at what is there)",
            Limit::DestinationCpu => "destination CPU (hashing)",
            Limit::Machine => "CPU of one machine",
        }
    }
}

/// One end over a span of time: its reports at the beginning, or nothing for the beginning of the copy, and at the end.
#[derive(Clone, Copy, Debug)]
pub struct Over<'a> {
    /// At the beginning.
    pub before: Option<&'a EndReport>,
    /// At the end.
    pub after: &'a EndReport,
}

impl Over<'_> {
    /// Nanoseconds that it lasted.
    pub fn elapsed_ns(&self) -> u64 {
        self.after.elapsed_ns.saturating_sub(self.before.map_or(0, |before| before.elapsed_ns))
    }

    /// The share of a stage, from 0 to 1: of one thread where one at a time does it, else of all.
    pub fn share(&self, stage: Stage) -> f64 {
        let threads = if is_single(stage) { 1 } else { self.after.threads.max(1) };
        self.of_threads(stage, threads).min(1.0)
    }

    fn of_threads(&self, stage: Stage, threads: u32) -> f64 {
        let of = |report: &EndReport| report.stages.iter().find(|time| time.stage == stage).map_or(0, |time| time.ns);
        let ns = of(self.after).saturating_sub(self.before.map_or(0, of));
        let all = self.elapsed_ns() as f64 * f64::from(threads);
        if all > 0.0 { ns as f64 / all } else { 0.0 }
    }

    /// Of all threads, what these stages take together.
    fn busy(&self, stages: &[(Stage, Limit)]) -> f64 {
        stages.iter().map(|(stage, _)| self.of_threads(*stage, self.after.threads.max(1))).sum::<f64>().min(1.0)
    }

    /// Which of these takes most.
    fn largest(&self, stages: &[(Stage, Limit)]) -> Option<Limit> {
        let share = |stage| self.of_threads(stage, 1);
        stages.iter().max_by(|(one, _), (other, _)| share(*one).total_cmp(&share(*other))).map(|(_, limit)| *limit)
    }

    fn machine_busy(&self) -> f64 {
        self.before.and_then(|before| busy_share(&before.cpu, &self.after.cpu)).unwrap_or(0.0)
    }
}

/// Whether one thread at a time does it.
fn is_single(stage: Stage) -> bool {
    matches!(stage, Stage::Scan | Stage::Decide | Stage::Commit)
}

const OF_READERS: [(Stage, Limit); 3] =
    [(Stage::Read, Limit::SourceDisk), (Stage::Hash, Limit::SourceCpu), (Stage::Compress, Limit::Compression)];
const OF_STORERS: [(Stage, Limit); 5] = [
    (Stage::Write, Limit::DestinationDisk),
    (Stage::Commit, Limit::DestinationCommit),
    (Stage::Verify, Limit::DestinationCpu),
    (Stage::Decide, Limit::DestinationTree),
    (Stage::Decompress, Limit::Compression),
];

/// What is known beside the reports.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setting {
    /// Both ends are on one machine.
    pub is_one_machine: bool,
    /// A rate was asked for.
    pub is_paced: bool,
}

/// What limited the copy in that time; nothing if that is not clear.
pub fn limit(source: Over<'_>, destination: Over<'_>, setting: Setting) -> Option<Limit> {
    if setting.is_one_machine && source.machine_busy().max(destination.machine_busy()) > MACHINE_BUSY_MIN {
        return Some(Limit::Machine);
    }
    let (reading, storing) = (source.busy(&OF_READERS), destination.busy(&OF_STORERS));
    if storing >= BUSY_MIN && storing >= reading {
        return destination.largest(&OF_STORERS);
    }
    if reading >= BUSY_MIN {
        return source.largest(&OF_READERS);
    }
    for (stage, limit) in OF_STORERS {
        if is_single(stage) && destination.share(stage) >= BUSY_MIN {
            return Some(limit);
        }
    }
    if source.share(Stage::Scan) >= BUSY_MIN {
        return Some(Limit::Scan);
    }
    let waits = source.share(Stage::Send) >= WAITING_MIN && destination.share(Stage::Receive) >= WAITING_MIN;
    waits.then_some(if setting.is_paced { Limit::Pace } else { Limit::Network })
}

/// Which of two ends has the files: this one's way, and what both say.
pub fn ends<'a>(is_push: bool, near: Over<'a>, far: Over<'a>) -> (Over<'a>, Over<'a>) {
    if is_push { (near, far) } else { (far, near) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::copy::report::StageTime;
    use crate::proto::facts::CpuClock;

    const SECOND: u64 = 1_000_000_000;

    /// An end of two threads after 10 s, its stages in percent of all its threads' time.
    fn end(stages: &[(Stage, u64)]) -> EndReport {
        let stages = stages.iter().map(|(stage, percent)| StageTime { stage: *stage, ns: percent * SECOND / 5 });
        EndReport { threads: 2, elapsed_ns: 10 * SECOND, stages: stages.collect(), ..EndReport::default() }
    }

    fn judged(source: &[(Stage, u64)], destination: &[(Stage, u64)], setting: Setting) -> Option<Limit> {
        let (source, destination) = (end(source), end(destination));
        let over = |after| Over { before: None, after };
        limit(over(&source), over(&destination), setting)
    }

    #[test]
    fn each_row_of_the_table_holds() {
        use Stage::*;
        let waits_to_send = [(Send, 80), (Read, 10), (Hash, 10)];
        let waits_for_work = [(Receive, 90), (Write, 10)];
        type Row<'a> = (&'a [(Stage, u64)], &'a [(Stage, u64)], Option<Limit>);
        let table: [Row<'_>; 14] = [
            (&waits_to_send, &[(Write, 60), (Verify, 30)], Some(Limit::DestinationDisk)),
            (&waits_to_send, &[(Write, 30), (Verify, 60)], Some(Limit::DestinationCpu)),
            (&waits_to_send, &[(Write, 30), (Commit, 50), (Verify, 10)], Some(Limit::DestinationCommit)),
            (&waits_to_send, &[(Decompress, 90)], Some(Limit::Compression)),
            // One of two threads commits, or looks, all the time.
            (&waits_to_send, &[(Receive, 50), (Commit, 45)], Some(Limit::DestinationCommit)),
            (&[(AwaitWork, 95)], &[(Receive, 50), (Decide, 45)], Some(Limit::DestinationTree)),
            (&[(Read, 60), (Hash, 30)], &waits_for_work, Some(Limit::SourceDisk)),
            (&[(Read, 30), (Hash, 60)], &waits_for_work, Some(Limit::SourceCpu)),
            (&[(Compress, 80), (Read, 10)], &waits_for_work, Some(Limit::Compression)),
            // Both are busy: the busier one.
            (&[(Read, 100)], &[(Write, 90)], Some(Limit::SourceDisk)),
            (&[(Scan, 45), (AwaitWork, 90)], &waits_for_work, Some(Limit::Scan)),
            (&waits_to_send, &waits_for_work, Some(Limit::Network)),
            (&[(Read, 50), (AwaitWork, 50)], &[(Write, 50), (Receive, 50)], None),
            (&[], &[], None),
        ];
        for (source, destination, expected) in table {
            assert_eq!(judged(source, destination, Setting::default()), expected, "{source:?} {destination:?}");
        }
        let paced = Setting { is_paced: true, ..Setting::default() };
        assert_eq!(judged(&waits_to_send, &waits_for_work, paced), Some(Limit::Pace));
    }

    #[test]
    fn one_machine_that_is_busy_is_what_limits() {
        let at = |machine_busy_ticks, seconds| {
            let cpu = CpuClock { process_ns: 0, machine_busy_ticks, machine_all_ticks: seconds * 200 };
            EndReport { cpu, elapsed_ns: seconds * SECOND, ..end(&[(Stage::Read, 90)]) }
        };
        let judged = |busy, is_one_machine| {
            let (before, after) = (at(0, 0), at(busy, 10));
            let over = Over { before: Some(&before), after: &after };
            limit(over, over, Setting { is_one_machine, is_paced: false })
        };
        assert_eq!(judged(1990, true), Some(Limit::Machine));
        assert_ne!(judged(1990, false), Some(Limit::Machine));
        assert_ne!(judged(1800, true), Some(Limit::Machine));
    }

    #[test]
    fn only_what_happened_since_counts() {
        use Stage::*;
        let before = end(&[(Read, 90)]);
        let mut after = end(&[(Read, 90), (Hash, 95)]);
        after.elapsed_ns *= 2;
        let over = Over { before: Some(&before), after: &after };
        assert!((over.share(Hash) - 0.95).abs() < 1e-9 && over.share(Read) == 0.0);
        let idle = end(&[(Receive, 100)]);
        let idle = Over { before: None, after: &idle };
        assert_eq!(limit(over, idle, Setting::default()), Some(Limit::SourceCpu));
        // A session began anew: nothing is less than nothing.
        let backwards = Over { before: Some(&after), after: &before };
        assert_eq!((backwards.elapsed_ns(), backwards.share(Hash)), (0, 0.0));
        let (source, destination) = ends(false, over, idle);
        assert_eq!((source.share(Receive), destination.share(Hash)), (1.0, over.share(Hash)));
    }
}
