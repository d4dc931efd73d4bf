//! A copy that others have tests about.

use jiff::Timestamp;

use super::{Account, Keeper, Name, Route, Settings};
use crate::proto::copy::Settlement;
use crate::proto::copy::options::CopyOptions;
use crate::proto::copy::report::{EndReport, PassedOver, Stage, StageTime};
use crate::proto::verify::hash_whole;
use crate::transfer::choices::choice_of;
use crate::transfer::tally::{Settled, Sort, Tally};

pub(super) fn tally() -> Tally {
    let mut tally = Tally::default();
    let entry = |path: &[u8], len| Settled { path: path.to_vec(), kind: Sort::File, len, first_name: None };
    let table = [
        (entry(b"a", 3), Settlement::Done(Some(hash_whole(b"abc")))),
        (entry(b"b", 5), Settlement::Had),
        (entry(b"c\xff", 7), Settlement::Failed("no space left".to_string())),
    ];
    for (entry, settlement) in table {
        tally.add_found(&entry);
        tally.add(&entry, &entry.path, &settlement);
    }
    tally.add_passed_over(&PassedOver { path: b"fifo".to_vec(), why: "a FIFO".to_string(), is_failure: false });
    tally
}

pub(super) fn report(host: &str, stages: &[(Stage, u64)], tally: &Tally) -> EndReport {
    EndReport {
        host: host.to_string(),
        version: "1.2.3".to_string(),
        elapsed_ns: 2_000_000_000,
        threads: 2,
        stages: stages.iter().map(|(stage, ms)| StageTime { stage: *stage, ns: ms * 1_000_000 }).collect(),
        cpu_ns: 1_500_000_000,
        memory_peak_bytes: 20 << 20,
        moved_bytes: 3,
        wire_bytes: 3,
        digest: tally.digest.to_string(),
        ..EndReport::default()
    }
}

pub(super) fn account<'a>(
    tally: &'a Tally,
    near: &'a EndReport,
    far: Option<&'a EndReport>,
    options: &'a CopyOptions,
) -> Account<'a> {
    Account {
        run: [0xab; 16],
        keeper: Keeper::Client,
        command: ["linerate", "copy", "tree", "lr://nas/"].map(String::from).to_vec(),
        started_at: Timestamp::new(1_700_000_000, 0).unwrap_or_default(),
        seconds: 2.0,
        route: Route {
            direction: "push".to_string(),
            from: vec![Name::of(b"tree")],
            to: Some(Name::of(b"/")),
            peer: "10.0.0.2:5290".to_string(),
            through_ssh: false,
            server_known: Some(true),
        },
        options,
        settings: Settings {
            streams: 2,
            tls: true,
            choices: vec![choice_of("streams", 2, "one for each core")],
            ..Settings::default()
        },
        tally,
        deleted: 1,
        failed_at_end: &[],
        near,
        far,
        is_source: true,
        reconnections: 1,
        bottleneck: Some("network".to_string()),
        broken: None,
        exit_code: Some(3),
    }
}
