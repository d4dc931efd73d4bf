//! The live line on standard error while a run goes on; nothing when that is not a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::bench::run::Progress;
use crate::link::Ticker;

const TEMPLATE: &str = "{wide_bar} {pos}/{len} · {msg} · {eta} left";
const REDRAWS_PER_S: u8 = 4;

/// One line: bar, count, what is measured now, time left.
pub(super) struct Line {
    bar: ProgressBar,
    least_time: Duration,
}

impl Line {
    /// For a run that takes at least so long. `shown` false keeps it silent.
    pub(super) fn new(shown: bool, least_time: Duration) -> Line {
        let target =
            if shown { ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_S) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style);
        }
        Line { bar, least_time }
    }

    /// Take the line away.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

impl Ticker for Line {
    fn tick(&mut self) {
        self.bar.tick();
    }
}

impl Progress for Line {
    fn advance(&mut self, done: usize, all: usize, what: &str) {
        if done == 0 {
            self.bar.set_length(all as u64);
            self.bar.set_message(format!("about {} s", self.least_time.as_secs()));
        } else {
            self.bar.set_message(what.to_string());
        }
        self.bar.set_position(done as u64);
    }
}
