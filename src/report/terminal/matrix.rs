//! The matrices: methods × sizes, throughput and then CPU cost, with marks for what is best.

use std::collections::BTreeMap;

use super::super::advice::{cost_of_both_ends, interval, median, streams};
use super::super::format::{cost, escape, gbit, percent, size};
use super::super::grid::{Grid, Grids};
use super::super::schema::{Cell, Recommendation};
use super::{Style, best, bold, good, table, wrap};
use crate::bench::statistics;

/// Longest name of a method in the first column, in characters.
const METHOD_CHARS_MAX: usize = 24;
/// Reasons for missing cells that are told apart.
const REASONS_MAX: usize = 16;
/// Cells whose wide interval is named.
const WIDE_NAMED_MAX: usize = 3;
/// An interval is wide when half of it is more than this share of the median, and more than twice the usual.
const WIDE_SHARE: f64 = 0.05;

/// Two sections per matrix, and one that explains.
pub(super) fn sections(grids: &Grids, advised: &Recommendation, style: &Style) -> Vec<Vec<String>> {
    let mut sections = Vec::new();
    for grid in &grids.grids {
        let marks = Marks::of(grid, advised);
        sections.push(throughput(grid, &marks, style));
        sections.push(cpu(grid, style));
    }
    sections.push(footnotes(grids, style));
    sections
}

fn throughput(grid: &Grid, marks: &Marks, style: &Style) -> Vec<String> {
    let receive = match grid.receive {
        "" => String::new(),
        receive => format!(", taken by {}", escape(receive)),
    };
    let tls = if grid.tls { " · in TLS" } else { "" };
    let title = format!("Gbit/s · {} · {}{receive}{tls}", escape(grid.direction), streams(grid.streams));
    let figure = |index: usize, cell: &Cell| match median(cell) {
        Some(median) => format!("{}{:<2}", gbit(median), marks.of_cell(index)),
        None => "–  ".into(),
    };
    let mut lines = vec![bold(&title, style)];
    lines.extend(blocks(grid, style, figure).iter().map(|line| painted(line, style)));
    lines.extend(intervals(grid).iter().flat_map(|text| wrap(text, 1, style)));
    lines
}

/// Empty where no cell knows its cost.
fn cpu(grid: &Grid, style: &Style) -> Vec<String> {
    let known =
        grid.sizes.iter().flat_map(|size| grid.column(*size)).any(|(_, cell)| cost_of_both_ends(cell).is_some());
    if !known {
        return Vec::new();
    }
    let figure = |_: usize, cell: &Cell| cost_of_both_ends(cell).map_or("–  ".into(), |both| cost(both) + "  ");
    let tls = if grid.tls { " · in TLS" } else { "" };
    let mut lines = vec![bold(&format!("CPU s/GiB of both ends{tls}"), style)];
    lines.extend(blocks(grid, style, figure));
    lines
}

/// One table, or several below each other where the line is too short for all sizes.
fn blocks(grid: &Grid, style: &Style, figure: impl Fn(usize, &Cell) -> String) -> Vec<String> {
    let method = |name: &str| -> String { escape(name).chars().take(METHOD_CHARS_MAX).collect() };
    let columns: Vec<Vec<String>> = grid.sizes.iter().map(|bytes| column(grid, *bytes, &figure)).collect();
    let names: Vec<String> = grid.methods.iter().map(|name| method(name)).collect();
    let widest = |texts: &[String]| texts.iter().map(|text| text.chars().count() + 2).max().unwrap_or(0);
    let first = widest(&names).max("method".len() + 2);
    let each = columns.iter().map(|column| widest(column)).max().unwrap_or(1);
    let per_block = (style.width.saturating_sub(first) / each).max(1);
    let mut lines = Vec::new();
    for block in columns.chunks(per_block) {
        let row = |index: usize, name: String| {
            let figures = block.iter().filter_map(|column| column.get(index).cloned());
            std::iter::once(name).chain(figures).collect::<Vec<String>>()
        };
        let rows = names.iter().enumerate().map(|(index, name)| row(index + 1, name.clone()));
        lines.extend(table(row(0, "method".into()), rows.collect()));
    }
    lines
}

/// Head and figures of one size; two characters at the end of each are for marks.
fn column(grid: &Grid, bytes: u64, figure: &impl Fn(usize, &Cell) -> String) -> Vec<String> {
    let head = size(bytes) + "  ";
    let figures = grid.methods.iter().map(|method| match grid.cell(method, bytes) {
        Some((index, cell)) => figure(index, cell),
        None => String::new(),
    });
    std::iter::once(head).chain(figures).collect()
}

/// Colours the figures that carry a mark.
fn painted(line: &str, style: &Style) -> String {
    let paint = |word: &str| match word {
        _ if word.ends_with("**") => best(word, style),
        _ if word.ends_with('*') => good(word, style),
        _ => word.into(),
    };
    line.split(' ').map(paint).collect::<Vec<String>>().join(" ")
}

/// `**` for the fastest of the run, `*` for the best of each column and what is not measurably slower.
struct Marks {
    fastest: Option<usize>,
    good: Vec<usize>,
}

impl Marks {
    fn of(grid: &Grid, advised: &Recommendation) -> Self {
        let good: Vec<usize> = grid.sizes.iter().flat_map(|size| best_of_column(grid, *size)).collect();
        let fastest = advised.fastest.filter(|index| good.contains(index));
        Self { fastest, good }
    }

    fn of_cell(&self, index: usize) -> &'static str {
        match () {
            () if self.fastest == Some(index) => "**",
            () if self.good.contains(&index) => "*",
            () => "",
        }
    }
}

/// Indices of what nothing in its column is measurably faster than; none where one round allows no ranking.
fn best_of_column(grid: &Grid, bytes: u64) -> Vec<usize> {
    let ranked: Vec<_> = grid
        .column(bytes)
        .filter_map(|(index, cell)| Some((index, median(cell)?, interval(cell.throughput.as_ref()?))))
        .filter(|(_, _, interval)| interval.coverage > 0.0)
        .collect();
    let Some(best) = ranked.iter().max_by(|a, b| a.1.total_cmp(&b.1)) else {
        return Vec::new();
    };
    let as_good =
        ranked.iter().filter(|(index, _, interval)| *index == best.0 || statistics::overlaps(interval, &best.2));
    as_good.map(|(index, ..)| *index).collect()
}

/// How wide the intervals of a matrix are; `None` where no cell has one.
fn intervals(grid: &Grid) -> Option<String> {
    let mut halves: Vec<(f64, String)> = Vec::new();
    let mut coverage = f64::INFINITY;
    for (_, cell) in grid.all() {
        let (Some(median), Some(throughput)) = (median(cell), &cell.throughput) else {
            continue;
        };
        let interval = interval(throughput);
        let half = (interval.high - interval.low) / 2.0 / median;
        if interval.coverage > 0.0 && half.is_finite() {
            coverage = coverage.min(interval.coverage);
            halves.push((half, format!("{} at {}", escape(&cell.method), size(cell.size_bytes))));
        }
    }
    halves.sort_by(|a, b| b.0.total_cmp(&a.0));
    let usual = halves.get(halves.len() / 2)?.0;
    let is_wide = |half: f64| half > WIDE_SHARE.max(2.0 * usual);
    let wide = halves.iter().take_while(|(half, _)| is_wide(*half)).count();
    let rest = halves.get(wide)?.0;
    let within = format!("intervals ({}): within ±{}", coverage_text(coverage), percent(rest));
    Some(within + &exceptions(&halves[..wide]))
}

fn coverage_text(coverage: f64) -> String {
    format!("at least {:.4}", coverage * 100.0).trim_end_matches('0').trim_end_matches('.').to_owned() + " % sure"
}

fn exceptions(wide: &[(f64, String)]) -> String {
    if wide.is_empty() {
        return String::new();
    }
    let named = wide.iter().take(WIDE_NAMED_MAX).map(|(half, name)| format!("{name} ±{}", percent(*half)));
    let more = wide.len().saturating_sub(WIDE_NAMED_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!(", except {}{more}", named.collect::<Vec<_>>().join(", "))
}

/// What the marks mean, and each reason for missing cells once.
fn footnotes(grids: &Grids, style: &Style) -> Vec<String> {
    if grids.grids.is_empty() {
        return Vec::new();
    }
    let mut lines =
        wrap("** fastest of all; * nothing in its column is measurably faster; one round is never ranked", 3, style);
    for (reason, methods) in reasons(grids).into_iter().take(REASONS_MAX) {
        lines.extend(wrap(&format!("–  {}: {reason}", methods.join(", ")), 3, style));
    }
    if grids.left_out > 0 {
        lines.push(format!("{} more cells are in the file but not shown", grids.left_out));
    }
    lines
}

/// The methods that each reason is given for.
fn reasons(grids: &Grids) -> BTreeMap<String, Vec<String>> {
    let mut reasons: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (_, cell) in grids.grids.iter().flat_map(Grid::all) {
        if median(cell).is_some() {
            continue;
        }
        let reason = cell.unavailable.as_deref().map_or("not measured".into(), escape);
        let methods = reasons.entry(reason).or_default();
        let method = escape(&cell.method);
        if !methods.contains(&method) {
            methods.push(method);
        }
    }
    reasons
}
