//! Where the time of a copy's threads goes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::proto::copy::report::{Stage, StageTime};

/// Time by stage, added up over threads.
#[derive(Debug, Default)]
pub struct Stages {
    ns: [AtomicU64; Stage::ALL.len()],
}

impl Stages {
    /// So far.
    pub fn times(&self) -> Vec<StageTime> {
        let of = |stage: &Stage| StageTime { stage: *stage, ns: self.ns[*stage as usize].load(Ordering::Relaxed) };
        Stage::ALL.iter().map(of).filter(|time| time.ns > 0).collect()
    }

    fn add(&self, stage: Stage, ns: u64) {
        self.ns[stage as usize].fetch_add(ns, Ordering::Relaxed);
    }
}

/// One thread's clock: each lap goes to a stage.
#[derive(Debug)]
pub struct Laps<'a> {
    stages: &'a Stages,
    since: Instant,
    own_ns: [u64; Stage::ALL.len()],
}

impl<'a> Laps<'a> {
    /// From now on.
    pub fn start(stages: &'a Stages) -> Laps<'a> {
        Laps { stages, since: Instant::now(), own_ns: [0; Stage::ALL.len()] }
    }

    /// The time since the last lap went into this.
    pub fn lap(&mut self, stage: Stage) {
        let now = Instant::now();
        let ns = now.duration_since(self.since).as_nanos() as u64;
        self.stages.add(stage, ns);
        self.own_ns[stage as usize] += ns;
        self.since = now;
    }

    /// What this thread has spent in a stage, ns.
    pub fn own_ns(&self, stage: Stage) -> u64 {
        self.own_ns[stage as usize]
    }
}
