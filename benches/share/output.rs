//! The tables of what curl moves, and the result file.

use std::fs;
use std::path::Path;

use linerate::bench::statistics;
use linerate::measure::environment;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::common::mode;
use crate::common::network::Network;
use crate::common::pairs::Ratio;
use crate::contest::{Played, Run};
use crate::servers::Kind;

const SCHEMA: &str = "linerate.share-bench/2";

/// What came of a task.
pub struct Section {
    /// As `--only` names it.
    pub name: &'static str,
    /// As Markdown.
    pub table: String,
    /// For the result file.
    pub document: Value,
}

impl Section {
    /// Of what serializes to an object.
    pub fn new(name: &'static str, table: String, document: &impl Serialize) -> anyhow::Result<Section> {
        Ok(Section { name, table, document: serde_json::to_value(document)? })
    }
}

/// The middle of values and their range, for a table: `12 [10–15]`.
pub fn spread(values: &[f64], decimals: usize) -> String {
    let Some(median) = statistics::median(values) else { return "–".to_owned() };
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{median:.decimals$} [{least:.decimals$}–{most:.decimals$}]")
}

/// Whether the middle of values is below a bound, for a table.
pub fn is_below(values: &[f64], bound: f64, unit: &str) -> String {
    let reached = statistics::median(values).map_or("", |median| if median < bound { ": yes" } else { ": no" });
    format!("< {bound} {unit}{reached}")
}

fn ratio(ours: &Played, other: &Played) -> Option<Ratio> {
    let pairs: Vec<_> = ours.runs.iter().zip(&other.runs).map(|(a, b)| (a.bytes_per_s, b.bytes_per_s)).collect();
    Ratio::of(&pairs)
}

fn median(one: &Played, of: impl Fn(&Run) -> f64) -> Option<f64> {
    statistics::median(&one.runs.iter().map(of).collect::<Vec<_>>())
}

/// What curl moved, as Markdown.
pub fn table(played: &[Played]) -> String {
    let mut text =
        "| what | server | GB/s: median | CPU s/10 GB | linerate / it | wanted |\n|---|---|---|---|---|---|\n"
            .to_owned();
    for one in played {
        let (Some(rate), Some(cpu)) = (median(one, |run| run.bytes_per_s), median(one, |run| run.cpu_s_per_10_gb))
        else {
            let why = one.version.as_ref().err().map_or("", String::as_str);
            text.push_str(&format!("| {} | {} | – | – | {why} | – |\n", one.task, one.server));
            continue;
        };
        let (beside, wanted) = beside(played, one);
        let gb = rate / 1e9;
        text.push_str(&format!("| {} | {} | {gb:.2} | {cpu:.1} | {beside} | {wanted} |\n", one.task, one.server));
    }
    text
}

/// What linerate has beside one, and what it should have.
fn beside(played: &[Played], one: &Played) -> (String, String) {
    let wanted = one.of.rivals().iter().find(|(kind, _)| *kind == one.kind).and_then(|(_, wanted)| *wanted);
    let ours = played.iter().find(|other| other.kind == Kind::Linerate && one.kind != Kind::Linerate);
    let ratio = ours.and_then(|ours| ratio(ours, one));
    let wanted = wanted.map_or("–".to_owned(), |wanted| {
        let reached = ratio.map_or("", |ratio| if wanted.is_reached(ratio.median) { ": yes" } else { ": no" });
        format!("{wanted}{reached}")
    });
    (ratio.map_or("–".to_owned(), |ratio| ratio.to_string()), wanted)
}

/// The result file: the sections that are new, and of the file that is there those that are not.
pub fn document(new: Vec<Section>, rounds: usize, network: &Network) -> anyhow::Result<Value> {
    let mut sections = kept();
    for section in new {
        let about = json!({
            "command": mode::command("share"),
            "environment": environment::capture(None),
            "network": network,
            "rounds": rounds,
            "result": section.document,
        });
        sections.insert(section.name.to_owned(), about);
    }
    Ok(
        json!({ "schema": SCHEMA, "path": "loopback, both ends on this machine; files in memory (tmpfs)", "sections": sections }),
    )
}

/// The sections of the file that is there; none if it is of another schema.
fn kept() -> Map<String, Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("results/share.json");
    let old = fs::read(path).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
    let old = old.filter(|old| old["schema"] == SCHEMA);
    old.and_then(|mut old| old["sections"].as_object_mut().map(std::mem::take)).unwrap_or_default()
}
