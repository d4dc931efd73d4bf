//! Request and response: percentiles of the round trip.

use std::collections::BTreeSet;

use super::super::format::{escape, ns, size};
use super::super::schema::Latency;
use super::{Style, bold, table, wrap};

/// Rows that are shown.
const ROWS_MAX: usize = 256;

/// Empty where nothing was measured.
pub(super) fn lines(rows: &[Latency], style: &Style) -> Vec<String> {
    if rows.is_empty() {
        return Vec::new();
    }
    let has_tls = rows.iter().any(|row| row.tls);
    let head = ["request", "p50", "p90", "p99", "p99.9", "max", "count", "mode"];
    let mut lines = vec![bold(&title(rows), style)];
    let mut head = head.map(str::to_owned).to_vec();
    head.extend(has_tls.then(|| "TLS".to_owned()));
    let cells = rows.iter().take(ROWS_MAX).map(|latency| {
        let mut cells = row(latency);
        cells.extend(has_tls.then(|| if latency.tls { "on" } else { "off" }.to_owned()));
        cells
    });
    lines.extend(table(head, cells.collect()));
    if rows.len() > ROWS_MAX {
        lines.push(format!("{} more rows are in the file but not shown", rows.len() - ROWS_MAX));
    }
    let reasons: BTreeSet<&str> = rows.iter().take(ROWS_MAX).filter_map(|row| row.unavailable.as_deref()).collect();
    lines.extend(reasons.iter().flat_map(|reason| wrap(&format!("–  {}", escape(reason)), 3, style)));
    lines
}

fn title(rows: &[Latency]) -> String {
    let reply = rows.first().map_or(0, |row| row.reply_bytes);
    if reply > 0 && rows.iter().all(|row| row.reply_bytes == reply) {
        format!("Latency · round trip of a request until its reply of {} is back", size(reply))
    } else {
        "Latency · round trip of a request until its reply is back".into()
    }
}

fn row(row: &Latency) -> Vec<String> {
    let mut cells = vec![size(row.size_bytes)];
    if row.unavailable.is_some() {
        cells.extend(vec!["–".to_owned(); 6]);
    } else {
        cells.extend([row.p50_ns, row.p90_ns, row.p99_ns, row.p999_ns, row.max_ns].map(ns));
        cells.push(row.count.to_string());
    }
    cells.push(escape(&row.mode));
    cells
}
