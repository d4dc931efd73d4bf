//! The terminal of whoever shares: what is under way in bars, the whole in one line, what happened above them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::lines::{self, Whole};
use crate::cli::out;
use crate::share::activity::Transfer;

const REDRAWS_PER_S: u8 = 8;
const WHOLE: &str = "{wide_msg}";
const OF_A_TRANSFER: &str = "{bar:20} {wide_msg}";
const OF_UNKNOWN_LENGTH: &str = "{spinner:20} {wide_msg}";
/// Most transfers that have a line.
const ROWS_MAX: usize = 8;
/// Rates are those of about so long.
const SMOOTHING: Duration = Duration::from_secs(2);

/// How fast a count grows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gauge {
    at: Instant,
    count: u64,
    per_s: f64,
}

impl Gauge {
    pub(super) fn new(at: Instant, count: u64) -> Gauge {
        Gauge { at, count, per_s: 0.0 }
    }

    /// The count at a moment gives the rate now.
    pub(super) fn read(&mut self, now: Instant, count: u64) -> f64 {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        if seconds > 0.0 {
            let grown = count.saturating_sub(self.count) as f64 / seconds;
            let weight = (seconds / SMOOTHING.as_secs_f64()).min(1.0);
            self.per_s += (grown - self.per_s) * weight;
            (self.at, self.count) = (now, count);
        }
        self.per_s
    }
}

/// The bars.
pub(super) struct Live {
    all: MultiProgress,
    whole: ProgressBar,
    rows: Vec<ProgressBar>,
    gauges: HashMap<u64, Gauge>,
}

impl Live {
    pub(super) fn new() -> Live {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_S));
        let whole = all.add(ProgressBar::no_length());
        wear(&whole, WHOLE);
        Live { all, whole, rows: Vec::new(), gauges: HashMap::new() }
    }

    /// Show how it is now.
    pub(super) fn show(
        &mut self,
        whole: &Whole,
        running: &[Arc<Transfer>],
        nick_of: impl Fn(&Transfer) -> Option<String>,
    ) {
        let shown = &running[..running.len().min(ROWS_MAX)];
        let now = Instant::now();
        self.gauges.retain(|number, _| shown.iter().any(|transfer| transfer.number == *number));
        while self.rows.len() > shown.len() {
            if let Some(row) = self.rows.pop() {
                row.finish_and_clear();
                self.all.remove(&row);
            }
        }
        while self.rows.len() < shown.len() {
            self.rows.push(self.all.insert_before(&self.whole, ProgressBar::no_length()));
        }
        for (row, transfer) in self.rows.iter().zip(shown) {
            let gauge = self.gauges.entry(transfer.number).or_insert(Gauge::new(transfer.since, 0));
            let bytes_per_s = gauge.read(now, transfer.moved());
            wear(row, if transfer.expected.is_some() { OF_A_TRANSFER } else { OF_UNKNOWN_LENGTH });
            row.set_length(transfer.expected.unwrap_or(0).max(1));
            row.set_position(transfer.moved());
            row.set_message(lines::under_way(transfer, nick_of(transfer).as_deref(), bytes_per_s));
        }
        let more = running.len() - shown.len();
        let more = if more == 0 { String::new() } else { format!(" · {more} of them not shown") };
        self.whole.set_message(lines::whole(whole) + &more);
        self.whole.tick();
    }

    /// Print a line above the bars.
    pub(super) fn say(&self, line: &str) {
        self.all.suspend(|| out::say(line));
    }
}

impl Drop for Live {
    /// Nothing of it stays.
    fn drop(&mut self) {
        self.rows.iter().for_each(ProgressBar::finish_and_clear);
        self.whole.finish_and_clear();
        // The terminal is somebody else's from here on: there is nobody to tell that it went away.
        let _ = self.all.clear();
    }
}

fn wear(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_follows_what_is_counted() {
        let mut now = Instant::now();
        let mut gauge = Gauge::new(now, 0);
        let mut count = 0;
        for _ in 0..100 {
            now += Duration::from_millis(250);
            count += 250;
            gauge.read(now, count);
        }
        assert!((gauge.read(now, count) - 1000.0).abs() < 1.0);
        now += Duration::from_secs(10);
        assert_eq!(gauge.read(now, count), 0.0);
    }
}
