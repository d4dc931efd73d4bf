//! What the project wants to reach, and what was measured.

use serde::Serialize;

use crate::common::target::Target;
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

/// A target and what came of it.
#[derive(Serialize)]
pub struct Verdict {
    /// Which ratio.
    what: String,
    /// What it has to be.
    wanted: String,
    /// What it is.
    measured: Option<String>,
    /// Whether that is reached.
    reached: Option<bool>,
    /// Why it was not measured.
    why: Option<String>,
}

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
        Some(Verdict::of("rate", (ours, rival), Target::AtLeast(least), rival.ratio(ours, |run| run.wall_s)))
    };
    let rsync = if played.workload == Kind::Tls { "rsync over ssh aes128-gcm" } else { RSYNC };
    let cpu = pair(OURS, rsync).map(|(ours, rival)| {
        let ratio = ours.ratio(rival, |run| run.cpu_s());
        Verdict::of("CPU time", (ours, rival), Target::AtMost(1.0), ratio)
    });
    rates(played.workload).iter().filter_map(rate).chain(cpu).chain(find(OURS).map(memory)).collect()
}

fn memory(ours: &Contestant) -> Verdict {
    let peak = ours.good().iter().map(|run| run.rss_peak_bytes()).max();
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64);
    Verdict {
        what: "most resident memory of either end of linerate".to_owned(),
        wanted: format!("≤ {}", mib(RSS_BYTES_MAX)),
        measured: peak.map(mib),
        reached: peak.map(|peak| peak <= RSS_BYTES_MAX),
        why: ours.out(),
    }
}

impl Verdict {
    fn of(
        figure: &str,
        (ours, rival): (&Contestant, &Contestant),
        target: Target,
        ratio: Option<crate::common::pairs::Ratio>,
    ) -> Verdict {
        let tell = |one: &Contestant| one.out().map(|why| format!("{} {why}", one.label));
        Verdict {
            what: format!("{figure}: {} / {}", ours.label, rival.label),
            wanted: target.to_string(),
            measured: ratio.map(|ratio| ratio.to_string()),
            reached: ratio.map(|ratio| target.is_reached(ratio.median)),
            why: ratio.is_none().then(|| tell(ours).or_else(|| tell(rival))).flatten(),
        }
    }

    /// A line of the table.
    pub fn line(&self) -> String {
        let measured = self.measured.as_deref().unwrap_or("–");
        let reached = match (self.reached, &self.why) {
            (Some(true), _) => "yes",
            (Some(false), _) => "no",
            (None, Some(why)) => why,
            (None, None) => "not measured",
        };
        // The name of a pipeline would end a cell.
        let what = self.what.replace('|', "\\|");
        format!("| {what} | {} | {measured} | {reached} |\n", self.wanted)
    }
}
