//! The exact text, because a person reads it.

use super::super::sample::{cell, document, one_round};
use super::*;

const UNICODE: Style = Style { colour: false, unicode: true, width: 100 };

const WHOLE: &str = "\
linerate bench against 192.0.2.7:5290 · 5 rounds × 500 ms
client  alpha: Linux 6.18.0, Some CPU × 2
server  beta: Linux 6.18.0, Some CPU × 2, eth0 25 Gbit/s MTU 1500
data    cubic (the default of both ends), from hot, to discard, 1 worker per end
with    client pinned to CPU 0
run     2026-11-02T10:00:00Z, seed 42, linerate 0.1.0 (abc1234), took 61 s

Gbit/s · send · 1 stream, taken by read
 method     4KiB     64KiB     256KiB
────────────────────────────────────────
 write      5.12      33.0       56.5*
 sendfile   6.30*     57.0*      57.9**
 splice        –         –          –
intervals (at least 93.75 % sure): within ±3.0 %

CPU s/GiB of both ends
 method     4KiB     64KiB     256KiB
────────────────────────────────────────
 write       1.9      0.62       0.40
 sendfile    1.5      0.21       0.25
 splice        –         –          –

** fastest of all; * nothing in its column is measurably faster; one round is never ranked
–  splice: this kernel has no splice

Latency · round trip of a request until its reply of 1B is back
 request       p50       p90       p99    p99.9       max   count    mode
──────────────────────────────────────────────────────────────────────────
 1KiB      61.2 µs   70.1 µs   95.0 µs   180 µs   1.40 ms   20000   sleep

loopback: both ends share this machine: no network device is measured, and both ends use its CPU
hot-source: the bytes came from a small memory region that stays in the CPU's cache: a real file is
  slower

TCP: sendfile at 256KiB was held back by the receiver's window for 40 % of the time with data in
     flight.

Fastest: sendfile at 256KiB, 57.9 Gbit/s [56.2–59.6]; sendfile at 64KiB and write at 256KiB are not
  measurably slower.
Cheapest among these: sendfile at 64KiB, 0.21 CPU s/GiB of both ends.
With sendfile, from 64KiB up no size differs measurably.
";

/// The lines from the first that starts with `start` to the next empty one.
fn section(text: &str, start: &str) -> Vec<String> {
    let from_start = text.lines().skip_while(|line| !line.starts_with(start));
    from_start.take_while(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn a_run_reads_like_this() {
    assert_eq!(render(&document(), &UNICODE), WHOLE);
}

#[test]
fn colour_only_repeats_what_the_marks_say() {
    let coloured = Style { colour: true, ..UNICODE };
    let text = render(&document(), &coloured);
    assert!(text.contains(" write      5.12      33.0       \x1b[32m56.5*\x1b[0m\n"));
    assert!(text.contains("\x1b[1;32m57.9**\x1b[0m"));
    let bare = ["1", "32", "1;32", "0"].iter().fold(text, |text, code| text.replace(&format!("\x1b[{code}m"), ""));
    assert_eq!(bare, WHOLE);
}

#[test]
fn plain_is_ascii_of_the_same_shape() {
    let text = render(&document(), &Style::plain());
    assert!(text.is_ascii());
    assert_eq!(text.lines().count(), WHOLE.lines().count());
    let matrix = section(&text, "Gbit/s");
    assert_eq!(matrix[2], "----------------------------------------");
    assert_eq!(matrix[5], " splice        -         -          -");
    assert_eq!(matrix[6], "intervals (at least 93.75 % sure): within +/-3.0 %");
}

#[test]
fn a_table_too_wide_is_split_by_columns() {
    let mut doc = document();
    doc.cells = (0..6).map(|power| cell("write", 1 << (10 + 2 * power), 9.0, 0.1, 1.0)).collect();
    let narrow = Style { width: 40, ..UNICODE };
    assert_eq!(
        section(&render(&doc, &narrow), "CPU"),
        [
            "CPU s/GiB of both ends",
            " method   1KiB     4KiB     16KiB",
            "────────────────────────────────────",
            " write     1.0      1.0       1.0",
            " method   64KiB     256KiB     1MiB",
            "──────────────────────────────────────",
            " write      1.0        1.0      1.0",
        ]
    );
}

#[test]
fn wide_intervals_are_named() {
    let mut doc = document();
    doc.cells.push(cell("mmap", 4 << 10, 3.0, 0.12, 1.0));
    let text = render(&doc, &UNICODE);
    assert!(text.contains("\nintervals (at least 93.75 % sure): within ±3.0 %, except mmap at 4KiB ±12 %\n"), "{text}");
}

#[test]
fn an_interrupted_run_says_so_and_ranks_nothing() {
    let mut doc = document();
    doc.complete = false;
    doc.settings.rounds_measured = 1;
    doc.cells = vec![one_round(cell("write", 1024, 9.0, 0.0, 1.0))];
    doc.recommendation = Recommendation::default();
    let text = render(&doc, &UNICODE);
    assert_eq!(text.lines().nth(1), Some("!! INCOMPLETE: the run ended early, 1 of 5 rounds were finished !!"));
    assert_eq!(section(&text, "Gbit/s")[3..], [" write    9.00"]);
    assert_eq!(
        section(&text, "One round")[0],
        "One round allows no ranking; the highest number seen: write at 1KiB, 9.00 Gbit/s."
    );
    assert!(text.contains("\nfew-rounds: fewer than 5 rounds were measured: the intervals are weak\n"));
}

#[test]
fn segments_sent_again_are_told() {
    let mut doc = document();
    for (index, segments) in [(0, 12), (5, 300)] {
        let tcp = doc.cells[index].tcp.as_mut().unwrap();
        (tcp.retransmits, tcp.rwnd_limited_us) = (segments, 0);
    }
    assert_eq!(
        section(&render(&doc, &UNICODE), "TCP"),
        ["TCP: segments were sent again in 2 cells, at most 300 (sendfile at 256KiB)."]
    );
}

#[test]
fn a_hostile_document_neither_panics_nor_steers() {
    let mut doc = document();
    let hostile = "\x1b]0;owned\x07\n";
    doc.recommendation.fastest = Some(usize::MAX);
    doc.recommendation.as_fast = vec![usize::MAX];
    doc.latency[0].mode = hostile.into();
    doc.latency[0].labels = vec![hostile.into()];
    doc.environment.client.host = hostile.into();
    doc.settings.peer = hostile.into();
    doc.elapsed_s = f64::NAN;
    for (cell, rate) in doc.cells.iter_mut().zip([f64::NAN, f64::INFINITY, -1.0, 0.0, f64::MAX, 1e-300]) {
        cell.method = hostile.into();
        cell.streams = u32::MAX;
        let throughput = cell.throughput.as_mut().unwrap();
        throughput.median_bytes_per_s = rate;
        throughput.low_bytes_per_s = f64::NAN;
        throughput.rounds_bytes_per_s.clear();
        cell.tcp.as_mut().unwrap().busy_us = 0;
    }
    for style in [UNICODE, Style::plain(), Style { width: 0, ..UNICODE }] {
        let text = render(&doc, &style);
        assert!(!text.contains(['\x1b', '\x07']));
        assert!(text.lines().all(|line| !line.ends_with(' ')), "{text}");
    }
}

#[test]
fn an_empty_document_is_a_header() {
    let mut doc = document();
    doc.cells.clear();
    doc.latency.clear();
    doc.recommendation = Recommendation::default();
    doc.settings = Default::default();
    let text = render(&doc, &UNICODE);
    assert!(text.starts_with("linerate bench against an unnamed peer\n"));
    assert!(text.contains("\ndata    settings not recorded\n"));
    assert!(text.lines().count() <= 8);
}

#[test]
fn the_environment_decides_what_is_shown() {
    let detect = |is_tty, variables: &[(&str, &str)]| {
        let env = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
        let style = Style::detect(is_tty, env, Some(120));
        (style.colour, style.unicode)
    };
    assert_eq!(detect(true, &[]), (true, true));
    assert_eq!(detect(false, &[]), (false, true));
    assert_eq!(detect(true, &[("NO_COLOR", "1")]), (false, true));
    assert_eq!(detect(true, &[("NO_COLOR", "")]), (true, true));
    assert_eq!(detect(true, &[("TERM", "dumb")]), (false, false));
    assert_eq!(detect(true, &[("LANG", "C")]), (true, false));
    assert_eq!(detect(true, &[("LANG", "de_DE.utf8")]), (true, true));
    assert_eq!(detect(true, &[("LC_ALL", "C"), ("LANG", "en_GB.UTF-8")]), (true, false));
    assert_eq!(detect(true, &[("LC_ALL", ""), ("LC_CTYPE", "C.UTF-8"), ("LANG", "C")]), (true, true));
    assert_eq!(Style::detect(true, |_| None, Some(3)).width, 40);
    assert_eq!(Style::detect(false, |_| None, None).width, 100);
}
