//! The bars on a terminal.

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::gauge::Reading;
use super::lines;
use crate::transfer::tally::UnderWay;

const REDRAWS_PER_S: u8 = 10;
const KNOWN: &str = "{bar:30} {prefix}\n{wide_msg}";
const SCANNING: &str = "{spinner} {prefix}\n{wide_msg}";
const OF_A_FILE: &str = "{bar:30} {wide_msg}";

/// How far it is and how it goes, in two lines, and a line for each of the largest files under way.
pub(super) struct Live {
    all: MultiProgress,
    bar: ProgressBar,
    files: Vec<ProgressBar>,
    is_known: bool,
}

impl Live {
    pub(super) fn new() -> Live {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_S));
        let bar = all.add(ProgressBar::no_length());
        wear(&bar, SCANNING);
        Live { all, bar, files: Vec::new(), is_known: false }
    }

    pub(super) fn show(&mut self, reading: &Reading, under_way: &[UnderWay]) {
        if reading.is_scanned != self.is_known {
            self.is_known = reading.is_scanned;
            wear(&self.bar, if self.is_known { KNOWN } else { SCANNING });
        }
        // By files where there are no bytes.
        let (done, found) = match reading.bytes_found {
            0 => (reading.files_done, reading.files_found),
            found => (reading.bytes_done, found),
        };
        let percent = if self.is_known { format!("{:>3} %  ", lines::percent(reading)) } else { String::new() };
        self.bar.set_length(found.max(1));
        self.bar.set_position(done);
        self.bar.set_prefix(format!("{percent}{} · {}", lines::amount(reading), lines::pace(reading)));
        self.bar.set_message(lines::state(reading));
        // A single file is what the first bar shows.
        self.show_files(if reading.files_found > 1 { under_way } else { &[] });
        self.bar.tick();
    }

    fn show_files(&mut self, under_way: &[UnderWay]) {
        while self.files.len() > under_way.len() {
            if let Some(bar) = self.files.pop() {
                bar.finish_and_clear();
                self.all.remove(&bar);
            }
        }
        while self.files.len() < under_way.len() {
            let bar = self.all.add(ProgressBar::no_length());
            wear(&bar, OF_A_FILE);
            self.files.push(bar);
        }
        for (bar, file) in self.files.iter().zip(under_way) {
            bar.set_length(file.len.max(1));
            bar.set_position(file.done);
            bar.set_message(lines::file(file));
        }
    }

    /// Print something that does not end up in the bars.
    pub(super) fn aside(&self, print: impl FnOnce()) {
        self.all.suspend(print);
    }
}

impl Drop for Live {
    /// Nothing of it stays.
    fn drop(&mut self) {
        self.files.iter().for_each(ProgressBar::finish_and_clear);
        self.bar.finish_and_clear();
        // The terminal is somebody else's from here on: there is nobody to tell that it went away.
        let _ = self.all.clear();
    }
}

fn wear(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}
