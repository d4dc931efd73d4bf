//! Which setting to use, from the cells of a run. Settings whose intervals overlap are not ranked.
//!
//! Plain arithmetic over the result: it holds for a run that just ended and for one read from a file, so nothing
//! in the cells is trusted to be finite, in order or there at all.

use std::cmp::Ordering;

use super::format::{cost, escape, gbit, size};
use super::labels::{NOT_READ, THROUGH_SSH};
use super::schema::{Cell, Recommendation, Throughput};
use crate::bench::statistics::{self, Interval};

/// Settings named in one sentence as not measurably slower; the others are counted.
const NAMED_MAX: usize = 2;

/// Says which setting is fastest, which are as fast, which of these costs least CPU, and from which size on the
/// size stops to matter. Empty where no cell has a number.
pub fn recommend(cells: &[Cell]) -> Recommendation {
    let mut advice = rank(cells);
    let fastest = advice.fastest.and_then(|index| cells.get(index));
    if fastest.is_some_and(|cell| cell.labels.iter().any(|label| label == THROUGH_SSH)) {
        advice.sentences.push("All of it went through ssh: none of this holds for the network itself.".to_string());
    }
    advice
}

fn rank(cells: &[Cell]) -> Recommendation {
    let candidates = candidates(cells);
    let Some(&fastest) = candidates.first() else {
        return Recommendation::default();
    };
    let names = Names::of(&candidates);
    if !fastest.is_ranked() {
        return Recommendation {
            sentences: vec![unranked_sentence(&fastest, &names)],
            fastest: Some(fastest.index),
            ..Recommendation::default()
        };
    }
    let as_fast: Vec<Candidate> = candidates[1..].iter().filter(|other| fastest.overlaps(other)).copied().collect();
    let cheapest = cheapest(&fastest, &as_fast);
    let mut sentences = vec![fastest_sentence(&fastest, &as_fast, &names)];
    sentences.extend(cheapest.map(|(cell, least)| cheapest_sentence(cell, least, as_fast.is_empty(), &names)));
    sentences.extend(plateau_sentence(&fastest, &candidates));
    sentences.extend(tls_sentence(&candidates));
    Recommendation {
        sentences,
        fastest: Some(fastest.index),
        as_fast: as_fast.iter().map(|cell| cell.index).collect(),
        cheapest: cheapest.map(|(cell, _)| cell.index),
    }
}

/// The interval of a throughput, in bytes per second. One that a file leaves out is computed from its rounds.
pub fn interval(throughput: &Throughput) -> Interval {
    let stored =
        Interval { low: throughput.low_bytes_per_s, high: throughput.high_bytes_per_s, coverage: throughput.coverage };
    if stored.coverage > 0.0 {
        return stored;
    }
    statistics::median_interval(&throughput.rounds_bytes_per_s).unwrap_or(stored)
}

/// CPU seconds per GiB of both ends together; `None` unless both are known.
pub fn cost_of_both_ends(cell: &Cell) -> Option<f64> {
    let both = cell.cpu.sender_s_per_gib? + cell.cpu.receiver_s_per_gib?;
    both.is_finite().then_some(both)
}

/// The median of a cell in bytes per second, where it has one that is a number.
pub fn median(cell: &Cell) -> Option<f64> {
    let throughput = cell.throughput.as_ref()?;
    Some(throughput.median_bytes_per_s).filter(|median| median.is_finite())
}

/// A cell that has a number.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    index: usize,
    cell: &'a Cell,
    median: f64,
    interval: Interval,
}

impl Candidate<'_> {
    fn is_ranked(&self) -> bool {
        self.interval.coverage > 0.0
    }

    fn overlaps(&self, other: &Self) -> bool {
        statistics::overlaps(&self.interval, &other.interval)
    }

    /// Whether the two differ in nothing but the size.
    fn differs_by_size_only(&self, other: &Self) -> bool {
        let of = |candidate: &Self| {
            let cell = candidate.cell;
            (cell.streams, cell.tls, &cell.method, &cell.receive, &cell.direction)
        };
        of(self) == of(other)
    }
}

/// Every cell with a number, fastest first. What nobody read is left out where something was read.
fn candidates(cells: &[Cell]) -> Vec<Candidate<'_>> {
    let mut candidates: Vec<Candidate> = cells
        .iter()
        .enumerate()
        .filter_map(|(index, cell)| {
            let throughput = cell.throughput.as_ref()?;
            let median = median(cell)?;
            let interval = interval(throughput);
            Some(Candidate { index, cell, median, interval })
        })
        .collect();
    let was_read = |candidate: &Candidate| !candidate.cell.labels.iter().any(|label| label == NOT_READ);
    if candidates.iter().any(was_read) {
        candidates.retain(was_read);
    }
    candidates.sort_by(|a, b| b.median.total_cmp(&a.median));
    candidates
}

fn cheapest<'a>(fastest: &Candidate<'a>, as_fast: &[Candidate<'a>]) -> Option<(Candidate<'a>, f64)> {
    std::iter::once(fastest)
        .chain(as_fast)
        .filter_map(|candidate| Some((*candidate, cost_of_both_ends(candidate.cell)?)))
        .min_by(|(_, a), (_, b)| a.partial_cmp(b).unwrap_or(Ordering::Equal))
}

fn unranked_sentence(fastest: &Candidate, names: &Names) -> String {
    format!(
        "One round allows no ranking; the highest number seen: {}, {} Gbit/s.",
        names.name(fastest.cell),
        gbit(fastest.median)
    )
}

fn fastest_sentence(fastest: &Candidate, as_fast: &[Candidate], names: &Names) -> String {
    let mut sentence = format!(
        "Fastest: {}, {} Gbit/s [{}–{}]",
        names.name(fastest.cell),
        gbit(fastest.median),
        gbit(fastest.interval.low),
        gbit(fastest.interval.high)
    );
    if !as_fast.is_empty() {
        let verb = if as_fast.len() == 1 { "is" } else { "are" };
        sentence += &format!("; {} {verb} not measurably slower", enumerate(as_fast, names));
    }
    sentence + "."
}

fn enumerate(cells: &[Candidate], names: &Names) -> String {
    // "and 1 other" is no shorter than the name of that one.
    let named = if cells.len() == NAMED_MAX + 1 { cells.len() } else { NAMED_MAX.min(cells.len()) };
    let mut parts: Vec<String> = cells[..named].iter().map(|cell| names.name(cell.cell)).collect();
    if cells.len() > named {
        parts.push(format!("{} others", cells.len() - named));
    }
    match parts.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => parts.concat(),
    }
}

fn cheapest_sentence(cheapest: Candidate, least: f64, alone: bool, names: &Names) -> String {
    let figure = cost(least);
    if alone {
        return format!("It takes {figure} CPU s/GiB of both ends.");
    }
    let name = names.name(cheapest.cell);
    format!("Cheapest among these: {name}, {figure} CPU s/GiB of both ends.")
}

/// What TLS costs, where a run has cells with and without it. `candidates` are sorted, the fastest first.
fn tls_sentence(candidates: &[Candidate]) -> Option<String> {
    let best = |tls: bool| candidates.iter().find(|candidate| candidate.cell.tls == tls);
    let (clear, secured) = (best(false)?, best(true)?);
    let share = secured.median / clear.median;
    let cpu = match (cost_of_both_ends(clear.cell), cost_of_both_ends(secured.cell)) {
        (Some(clear), Some(secured)) => format!(", at {} instead of {} CPU s/GiB", cost(secured), cost(clear)),
        _ => String::new(),
    };
    share.is_finite().then(|| {
        format!(
            "In TLS the fastest is {} at {}, {} Gbit/s: {share:.2} of the fastest in the clear{cpu}.",
            escape(&secured.cell.method),
            size(secured.cell.size_bytes),
            gbit(secured.median)
        )
    })
}

/// From which size on all sizes of the fastest method are as fast as its best; `None` for fewer than two.
fn plateau_sentence(fastest: &Candidate, candidates: &[Candidate]) -> Option<String> {
    let mut sizes: Vec<&Candidate> = candidates.iter().filter(|other| fastest.differs_by_size_only(other)).collect();
    sizes.sort_by_key(|candidate| candidate.cell.size_bytes);
    let as_fast = sizes.iter().rev().take_while(|other| fastest.overlaps(other)).count();
    if as_fast < 2 {
        return None;
    }
    let first = sizes.get(sizes.len() - as_fast)?;
    let method = escape(&fastest.cell.method);
    let from = size(first.cell.size_bytes);
    Some(format!("With {method}, from {from} up no size differs measurably."))
}

/// What has to be said to tell the cells of this run apart.
struct Names {
    receive: bool,
    streams: bool,
    direction: bool,
    tls: bool,
}

impl Names {
    fn of(candidates: &[Candidate]) -> Self {
        let differs =
            |same: &dyn Fn(&Cell, &Cell) -> bool| candidates.windows(2).any(|pair| !same(pair[0].cell, pair[1].cell));
        Self {
            receive: differs(&|a, b| a.receive == b.receive),
            streams: differs(&|a, b| a.streams == b.streams),
            direction: differs(&|a, b| a.direction == b.direction),
            tls: differs(&|a, b| a.tls == b.tls),
        }
    }

    fn name(&self, cell: &Cell) -> String {
        let mut name = format!("{} at {}", escape(&cell.method), size(cell.size_bytes));
        if self.receive {
            name += &format!(" to {}", escape(&cell.receive));
        }
        if self.streams {
            name += &format!(" over {}", streams(cell.streams));
        }
        if self.direction {
            name += &format!(" ({})", escape(&cell.direction));
        }
        if self.tls {
            name += if cell.tls { " in TLS" } else { " in the clear" };
        }
        name
    }
}

/// `1 stream`, `8 streams`.
pub(super) fn streams(count: u32) -> String {
    format!("{count} stream{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::super::sample::{cell, document, not_read, one_round, unavailable};
    use super::*;

    const KIB: u64 = 1024;

    fn sentences(cells: &[Cell]) -> Vec<String> {
        recommend(cells).sentences
    }

    #[test]
    fn names_the_fastest_the_cheapest_and_where_size_stops_to_matter() {
        let advice = recommend(&document().cells);
        assert_eq!(
            advice.sentences,
            [
                "Fastest: sendfile at 256KiB, 57.9 Gbit/s [56.2–59.6]; sendfile at 64KiB and write at 256KiB are not \
                 measurably slower.",
                "Cheapest among these: sendfile at 64KiB, 0.21 CPU s/GiB of both ends.",
                "With sendfile, from 64KiB up no size differs measurably.",
            ]
        );
        assert_eq!((advice.fastest, advice.cheapest), (Some(5), Some(4)));
        assert_eq!(advice.as_fast, [4, 2]);
    }

    #[test]
    fn what_clearly_wins_stands_alone() {
        let cells = [cell("write", 4 * KIB, 5.0, 0.01, 2.0), cell("mmap", 4 * KIB, 9.0, 0.01, 1.0)];
        let expected = ["Fastest: mmap at 4KiB, 9.00 Gbit/s [8.91–9.09].", "It takes 1.0 CPU s/GiB of both ends."];
        assert_eq!(sentences(&cells), expected);
    }

    #[test]
    fn what_went_through_ssh_is_no_advice_for_the_network() {
        let mut cells = [cell("write", 4 * KIB, 5.0, 0.01, 2.0)];
        assert!(!sentences(&cells).concat().contains("ssh"));
        cells[0].labels.push(THROUGH_SSH.into());
        assert!(sentences(&cells).last().unwrap().contains("through ssh"));
        assert!(sentences(&[]).is_empty());
    }

    #[test]
    fn one_round_is_not_ranked() {
        let cells = [one_round(cell("write", 4 * KIB, 5.0, 0.0, 1.0)), one_round(cell("mmap", 4 * KIB, 9.0, 0.0, 1.0))];
        let advice = recommend(&cells);
        assert_eq!(
            advice.sentences,
            ["One round allows no ranking; the highest number seen: mmap at 4KiB, 9.00 Gbit/s."]
        );
        assert_eq!((advice.fastest, advice.cheapest), (Some(1), None));
        assert!(advice.as_fast.is_empty());
    }

    #[test]
    fn an_interval_that_the_file_leaves_out_comes_from_its_rounds() {
        let mut older = cell("write", KIB, 8.0, 0.1, 1.0);
        let expected = interval(older.throughput.as_ref().unwrap());
        older.throughput.as_mut().unwrap().coverage = 0.0;
        let computed = interval(older.throughput.as_ref().unwrap());
        assert!((computed.coverage - expected.coverage).abs() < 1e-12);
        assert_eq!((computed.low, computed.high), (expected.low, expected.high));
    }

    #[test]
    fn what_nobody_read_does_not_win_over_what_was_read() {
        let discarded = not_read(cell("sendfile", 4 * KIB, 90.0, 0.01, 0.1));
        let read = cell("write", 4 * KIB, 9.0, 0.01, 1.0);
        assert_eq!(recommend(&[discarded.clone(), read]).fastest, Some(1));
        assert_eq!(recommend(&[discarded]).fastest, Some(0));
    }

    #[test]
    fn what_tls_costs_is_said_where_both_were_measured() {
        let clear = cell("write", 64 * KIB, 8.0, 0.1, 0.5);
        let secured = Cell { tls: true, ..cell("mmap", 64 * KIB, 4.0, 0.1, 1.0) };
        let said = sentences(&[clear.clone(), secured.clone()]);
        assert!(said[0].starts_with("Fastest: write at 64KiB in the clear"), "{said:?}");
        let last = said.last().unwrap();
        assert!(last.starts_with("In TLS the fastest is mmap at 64KiB") && last.contains("0.50 of"), "{said:?}");
        assert!(!sentences(&[clear]).concat().contains("TLS") && !sentences(&[secured]).concat().contains("In TLS"));
    }

    #[test]
    fn streams_directions_and_receivers_are_named_where_they_differ() {
        let mut both = cell("write", 4 * KIB, 9.0, 0.01, 1.0);
        (both.streams, both.direction, both.receive) = (8, "both".into(), "splice".into());
        let cells = [cell("write", 4 * KIB, 5.0, 0.01, 2.0), both];
        let expected = "Fastest: write at 4KiB to splice over 8 streams (both), 9.00 Gbit/s [8.91–9.09].";
        assert_eq!(sentences(&cells)[0], expected);
    }

    #[test]
    fn many_equals_are_counted_not_listed() {
        let cells: Vec<Cell> = (1..=6).map(|size| cell("write", size * KIB, 9.0, 0.1, 1.0)).collect();
        assert!(
            sentences(&cells)[0].ends_with("; write at 2KiB, write at 3KiB and 3 others are not measurably slower.")
        );
    }

    #[test]
    fn nothing_measured_is_nothing_recommended() {
        let mut broken = cell("write", KIB, 1.0, 0.1, 1.0);
        broken.throughput.as_mut().unwrap().median_bytes_per_s = f64::NAN;
        let advice = recommend(&[unavailable("mmap", KIB, "no file"), broken]);
        assert_eq!(advice, Recommendation::default());
    }

    #[test]
    fn an_unknown_cost_or_a_hostile_name_is_no_harm() {
        let mut cell = cell("wr\x1bite", KIB, 1.0, 0.1, f64::NAN);
        assert_eq!(sentences(&[cell.clone()]), ["Fastest: wr\\u{1b}ite at 1KiB, 1.00 Gbit/s [0.900–1.10]."]);
        cell.cpu.receiver_s_per_gib = None;
        assert_eq!(recommend(&[cell]).cheapest, None);
    }
}
