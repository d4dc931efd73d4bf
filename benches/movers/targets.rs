//! What the project wants to reach, and what was measured.

use crate::common::pairs::Ratio;
use crate::common::target::Target;
use crate::common::verdict::Verdict;
use crate::rounds::{Contestant, Played};
use crate::workload::Kind;

/// Most memory that either end of linerate may have resident.
const RSS_BYTES_MAX: u64 = 128 << 20;
const OURS: &str = "linerate";
const UNVERIFIED: &str = "linerate --no-verify";
const RSYNC: &str = "rsync daemon";
const RSYNC_IN_PLACE: &str = "rsync daemon --inplace";
const CURL: &str = "nginx + curl";
const GLOBUS: &str = "globus-url-copy";
const NC: &str = "tar | nc";

/// Ours, the rival, the least ratio of rates.
fn rates(kind: Kind) -> &'static [(&'static str, &'static str, f64)] {
    match kind {
        Kind::Big => &[
            (OURS, RSYNC, 1.35),
            (OURS, RSYNC_IN_PLACE, 1.35),
            (OURS, GLOBUS, 0.9),
            (UNVERIFIED, "xrdcp", 1.0),
            (UNVERIFIED, "cp -a", 0.95),
        ],
        Kind::BigDisk => &[
            (OURS, "dd oflag=direct bs=1M", 0.9),
            (OURS, "cp -a", 1.0),
            (OURS, "xrdcp", 1.0),
            (OURS, GLOBUS, 1.0),
            (OURS, CURL, 1.0),
            (OURS, RSYNC, 1.0),
            (OURS, RSYNC_IN_PLACE, 1.0),
            (OURS, NC, 1.0),
        ],
        Kind::Tls => &[(OURS, "nginx + curl https", 1.0), (OURS, "rsync over ssh aes128-gcm", 2.5)],
        Kind::Small => &[(OURS, RSYNC, 1.8), (OURS, NC, 1.0)],
        Kind::SmallDisk => &[(OURS, RSYNC, 1.5), (OURS, NC, 1.0)],
        Kind::Links => &[(OURS, NC, 1.0)],
        Kind::Again => &[(OURS, RSYNC, 2.0)],
    }
}

/// Of a workload: rates, then CPU time and memory.
pub fn verdicts(played: &Played) -> Vec<Verdict> {
    let find = |label: &str| played.contestants.iter().find(|one| one.label == label);
    let pair = |ours: &str, rival: &str| find(ours).zip(find(rival));
    let rate = |&(ours, rival, least): &(&str, &str, f64)| {
        let (ours, rival) = pair(ours, rival)?;
        Some(verdict("rate", (ours, rival), Target::AtLeast(least), rival.ratio(ours, |run| run.wall_s)))
    };
    let rsync = if played.workload == Kind::Tls { "rsync over ssh aes128-gcm" } else { RSYNC };
    let cpu = pair(OURS, rsync).map(|(ours, rival)| {
        let ratio = ours.ratio(rival, |run| run.cpu_s());
        verdict("CPU time", (ours, rival), Target::AtMost(1.0), ratio)
    });
    rates(played.workload).iter().filter_map(rate).chain(cpu).chain(find(OURS).map(memory)).collect()
}

fn memory(ours: &Contestant) -> Verdict {
    Verdict::of_memory(ours.good().iter().map(|run| run.rss_peak_bytes()).max(), RSS_BYTES_MAX, ours.out())
}

fn verdict(figure: &str, (ours, rival): (&Contestant, &Contestant), target: Target, ratio: Option<Ratio>) -> Verdict {
    let tell = |one: &Contestant| one.out().map(|why| format!("{} {why}", one.label));
    let what = format!("{figure}: {} / {}", ours.label, rival.label);
    Verdict::of_ratio(what, target, ratio, tell(ours).or_else(|| tell(rival)))
}
