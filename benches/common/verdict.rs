//! What the project wants to reach, and what came of it: a line of a table, and an entry of a result file.

use serde::Serialize;

use super::pairs::Ratio;
use super::target::Target;

/// A target and what came of it.
#[derive(Serialize)]
pub struct Verdict {
    /// Of what.
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

impl Verdict {
    /// About a ratio; `why` there is none.
    pub fn of_ratio(what: String, target: Target, ratio: Option<Ratio>, why: Option<String>) -> Verdict {
        Verdict {
            what,
            wanted: target.to_string(),
            measured: ratio.map(|ratio| ratio.to_string()),
            reached: ratio.map(|ratio| target.is_reached(ratio.median)),
            why: why.filter(|_| ratio.is_none()),
        }
    }

    /// About the most memory that either end of linerate had, bytes; `why` that is not known.
    pub fn of_memory(peak: Option<u64>, most: u64, why: Option<String>) -> Verdict {
        let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64);
        Verdict {
            what: "most resident memory of either end of linerate".to_owned(),
            wanted: format!("≤ {}", mib(most)),
            measured: peak.map(mib),
            reached: peak.map(|peak| peak <= most),
            why,
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
