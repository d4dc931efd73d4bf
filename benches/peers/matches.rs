//! Contests played: pairs of runs, one right after the other.

use linerate::bench::statistics::median;
use serde::Serialize;

use crate::common::network::Network;
use crate::common::pairs::Ratio;
use crate::common::{interrupt, own};
use crate::contests::{self, CANDIDATES, Contest, Ours};
use crate::options::Options;
use crate::own_side::Linerate;
use crate::peer::{Congestion, Figures, Peer, Workload};
use crate::processes::version;

/// What came of a contest.
#[derive(Serialize)]
pub struct Result {
    /// linerate, as in the table.
    pub ours: String,
    /// The rival, as in the table.
    pub rival: String,
    /// The rival's version.
    pub rival_version: Option<String>,
    /// What its connections used.
    pub rival_congestion: String,
    /// Our workload.
    pub our_workload: Workload,
    /// The rival's.
    pub rival_workload: Workload,
    /// Each pair: ours, then the rival's.
    pub pairs: Vec<(Figures, Figures)>,
    /// linerate / rival: bytes per second, or round-trip time.
    pub ratio: Option<Ratio>,
    /// linerate / rival: CPU seconds per 10 GB.
    pub cpu_ratio: Option<Ratio>,
    /// Why it was not played: the rival is not here.
    pub skipped: Option<String>,
    /// What went wrong.
    pub fault: Option<String>,
    /// The contest itself.
    #[serde(skip)]
    pub contest: Contest,
}

/// One method's rates while the best was looked for.
#[derive(Serialize)]
pub struct Scouted {
    /// Send method, at the workload of the first contest that wants the best.
    pub method: &'static str,
    /// Each round, bytes/s.
    pub rounds_bytes_per_s: Vec<f64>,
}

/// Everything that was measured.
#[derive(Serialize)]
pub struct Played {
    /// How the best method was found; empty where nothing asked for it.
    pub scouting: Vec<Scouted>,
    /// The contests.
    pub contests: Vec<Result>,
}

/// All contests, pair by pair: one pair of each, then the next, so that what drifts falls on all of them.
pub fn play(options: &Options, network: &Network) -> anyhow::Result<Played> {
    let contests = contests::all(options)?;
    let scouting = scout(options, &contests)?;
    let best = best(&scouting);
    let side = |contest: &Contest| match contest.ours {
        Ours::Method(method) => Linerate { method: method.to_owned() },
        Ours::Best | Ours::Exchange => Linerate { method: best.to_owned() },
    };
    let mut results: Vec<(Linerate, Result)> = contests
        .into_iter()
        .map(|contest| {
            let ours = side(&contest);
            let result = Result::new(&ours, contest, network);
            (ours, result)
        })
        .collect();
    for pair in 1..=options.pairs {
        for (ours, result) in &mut results {
            result.play_pair(ours, &format!("pair {pair} of {}", options.pairs))?;
        }
    }
    let contests = results.into_iter().map(|(_, result)| result.finish()).collect();
    Ok(Played { scouting, contests })
}

/// Which method is best is found before the pairs begin: picking the best of each pair would flatter us.
fn scout(options: &Options, contests: &[Contest]) -> anyhow::Result<Vec<Scouted>> {
    let Some(first) = contests.iter().find(|contest| contest.ours == Ours::Best) else { return Ok(Vec::new()) };
    let mut scouted = CANDIDATES.map(|method| Scouted { method, rounds_bytes_per_s: Vec::new() });
    for round in 1..=options.pairs {
        for Scouted { method, rounds_bytes_per_s } in &mut scouted {
            eprintln!("round {round} of {}: which is best? {method}", options.pairs);
            let figures = Linerate { method: (*method).to_owned() }.measure(&first.our_workload)?;
            rounds_bytes_per_s.extend(figures.bytes_per_s);
        }
    }
    Ok(scouted.into())
}

/// The one with the highest median; the first candidate where none was asked for.
fn best(scouted: &[Scouted]) -> &'static str {
    let ranked = scouted.iter().filter_map(|one| Some((one.method, median(&one.rounds_bytes_per_s)?)));
    ranked.max_by(|a, b| a.1.total_cmp(&b.1)).map_or(CANDIDATES[0], |(method, _)| method)
}

impl Result {
    fn new(ours: &Linerate, contest: Contest, network: &Network) -> Result {
        let version = contest.rival.version().and_then(|version| can_pin(&contest).map(|()| version));
        let congestion = match contest.rival.congestion() {
            Congestion::Chosen => own::CONGESTION,
            Congestion::Default => &network.default_congestion,
            Congestion::NoNetwork => "none",
        };
        let result = Result {
            ours: ours.label(&contest.our_workload),
            rival: contest.rival.label(&contest.rival_workload),
            rival_version: version.as_ref().ok().cloned(),
            rival_congestion: congestion.to_owned(),
            our_workload: contest.our_workload.clone(),
            rival_workload: contest.rival_workload.clone(),
            pairs: Vec::new(),
            ratio: None,
            cpu_ratio: None,
            skipped: version.err(),
            fault: None,
            contest,
        };
        if let Some(why) = &result.skipped {
            eprintln!("{}: skipped: {why}", result.rival);
        }
        result
    }

    /// Measure one more pair. A contest that failed once is over; the others go on.
    fn play_pair(&mut self, ours: &Linerate, which: &str) -> anyhow::Result<()> {
        if self.skipped.is_some() || self.fault.is_some() {
            return Ok(());
        }
        eprintln!("{which}: {} — {}", self.ours, self.rival);
        let ours = ours.measure(&self.our_workload);
        let pair = ours.and_then(|ours| Ok((ours, self.contest.rival.measure(&self.rival_workload)?)));
        match pair {
            Ok(pair) => self.pairs.push(pair),
            Err(error) => {
                interrupt::check()?;
                eprintln!("{}: {error:#}", self.rival);
                self.fault = Some(format!("{error:#}"));
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result {
        let kind = self.our_workload.kind;
        self.ratio = self.ratio_of(|figures| figures.main(kind));
        self.cpu_ratio = self.ratio_of(|figures| figures.cpu_s_per_10gb);
        self
    }

    fn ratio_of(&self, pick: impl Fn(&Figures) -> Option<f64>) -> Option<Ratio> {
        let values = |(ours, rival): &(Figures, Figures)| pick(ours).zip(pick(rival));
        Ratio::of(&self.pairs.iter().filter_map(values).collect::<Vec<_>>())
    }

    /// The median of a figure over the pairs: ours and the rival's.
    pub fn medians(&self, pick: impl Fn(&Figures) -> Option<f64>) -> (Option<f64>, Option<f64>) {
        let ours: Vec<f64> = self.pairs.iter().filter_map(|pair| pick(&pair.0)).collect();
        let rival: Vec<f64> = self.pairs.iter().filter_map(|pair| pick(&pair.1)).collect();
        (median(&ours), median(&rival))
    }
}

/// Whether the contest's processes can be put where it wants them.
fn can_pin(contest: &Contest) -> std::result::Result<(), String> {
    let wanted = contest.our_workload.cpus.or(contest.rival_workload.cpus);
    wanted.map_or(Ok(()), |_| version("taskset", "--version").map(drop))
}
