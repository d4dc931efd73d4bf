//! What has to be said below the tables: labels, what TCP was limited by, what to use.

use super::super::advice::median;
use super::super::format::{escape, percent, size};
use super::super::labels::LABELS;
use super::super::schema::{Cell, Document, Recommendation, TcpSummary};
use super::{Style, bold, wrap};

/// Labels of another program's making that are shown.
const UNKNOWN_LABELS_MAX: usize = 8;
/// Sentences of a recommendation that are shown.
const SENTENCES_MAX: usize = 8;
/// Share of the busy time from which on a limit is worth a line.
const LIMIT_SHARE: f64 = 0.1;

/// Each label that occurs, explained once.
pub(super) fn labels(doc: &Document, style: &Style) -> Vec<String> {
    let of_cells = doc.cells.iter().flat_map(|cell| &cell.labels);
    let of_rows = doc.latency.iter().flat_map(|row| &row.labels);
    let (mut known, mut unknown) = ([false; LABELS.len()], Vec::new());
    for name in of_cells.chain(of_rows) {
        if let Some(position) = LABELS.iter().position(|label| label.name == name) {
            known[position] = true;
        } else if unknown.len() < UNKNOWN_LABELS_MAX && !unknown.contains(&name) {
            unknown.push(name);
        }
    }
    let explained = LABELS.iter().zip(known).filter(|(_, occurs)| *occurs);
    let mut lines: Vec<String> =
        explained.flat_map(|(label, _)| wrap(&format!("{}: {}", label.name, label.explanation), 2, style)).collect();
    lines.extend(unknown.iter().map(|name| format!("{}: not known to this version", escape(name))));
    lines
}

/// What limited the fastest cell, and segments sent again; empty where neither is worth a line.
pub(super) fn tcp(cells: &[Cell], advised: &Recommendation, style: &Style) -> Vec<String> {
    let fastest = advised.fastest.and_then(|index| cells.get(index));
    let limits = fastest.and_then(|cell| Some((cell, limits(cell.tcp.as_ref()?))));
    let mut parts = Vec::new();
    if let Some((cell, limits)) = limits.filter(|(_, limits)| !limits.is_empty()) {
        parts.push(format!("{} was held back {}", name(cell), limits.join(" and ")));
    }
    parts.extend(retransmits(cells));
    if parts.is_empty() {
        return Vec::new();
    }
    wrap(&format!("TCP: {}.", parts.join("; ")), 5, style)
}

/// The recommendation, one sentence per line.
pub(super) fn sentences(advised: &Recommendation, style: &Style) -> Vec<String> {
    let sentences = advised.sentences.iter().take(SENTENCES_MAX);
    let lines = sentences.flat_map(|sentence| wrap(&escape(sentence), 2, style));
    lines.map(|line| bold(&line, style)).collect()
}

fn limits(tcp: &TcpSummary) -> Vec<String> {
    let share = |part_us: u64| part_us as f64 / tcp.busy_us.max(1) as f64;
    [(tcp.rwnd_limited_us, "the receiver's window"), (tcp.sndbuf_limited_us, "the send buffer")]
        .into_iter()
        .filter(|(part_us, _)| share(*part_us) >= LIMIT_SHARE)
        .map(|(part_us, what)| {
            format!("by {what} for {} of the time with data in flight", percent(share(part_us).min(1.0)))
        })
        .collect()
}

fn retransmits(cells: &[Cell]) -> Option<String> {
    let of = |cell: &Cell| cell.tcp.as_ref().map_or(0, |tcp| tcp.retransmits);
    let measured = cells.iter().filter(|cell| median(cell).is_some());
    let (most, affected) = measured.fold((None, 0u64), |(most, affected), cell| match most {
        _ if of(cell) == 0 => (most, affected),
        Some(other) if of(other) >= of(cell) => (most, affected + 1),
        _ => (Some(cell), affected + 1),
    });
    let most = most?;
    let cells = if affected == 1 { "cell" } else { "cells" };
    Some(format!("segments were sent again in {affected} {cells}, at most {} ({})", of(most), name(most)))
}

fn name(cell: &Cell) -> String {
    format!("{} at {}", escape(&cell.method), size(cell.size_bytes))
}
