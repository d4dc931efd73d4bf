//! What ssh and the far end say on standard error: collected, bounded, shown in time, and made safe to show.
//!
//! Which of it means what, `error` knows.

use std::io::Read;
use std::process::ChildStderr;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::text::printable_limit;

/// The last bytes of it that are kept.
const KEPT_MAX: usize = 16 << 10;
/// Characters of one line that are shown.
const LINE_CHARS_MAX: usize = 240;
/// What was said is shown to the person only this much later: when ssh ends right after it, the words are part of
/// the error, and when it does not, it may be waiting for the person to do something (touch a key).
const SHOW_AFTER: Duration = Duration::from_millis(300);

/// The words so far. One thread collects, another looks.
#[derive(Debug, Default)]
pub(super) struct Words {
    said: Mutex<Said>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct Said {
    kept: Vec<u8>,
    /// Of `kept`, the bytes at its end that were not shown.
    unshown: usize,
    unshown_since: Option<Instant>,
    has_ended: bool,
}

/// How an ssh ended.
#[derive(Debug)]
pub(super) struct Ending {
    /// `None` when a signal did it.
    pub(super) code: Option<i32>,
    /// Its last words, safe to show.
    pub(super) lines: Vec<String>,
}

impl Words {
    /// Collect all there is, until it ends.
    pub(super) fn collect(&self, mut stderr: ChildStderr) {
        let mut chunk = [0; 1024];
        while let Ok(bytes @ 1..) = stderr.read(&mut chunk) {
            self.add(&chunk[..bytes]);
        }
        self.lock().has_ended = true;
        self.ended.notify_all();
    }

    fn add(&self, bytes: &[u8]) {
        let mut said = self.lock();
        said.kept.extend_from_slice(bytes);
        let excess = said.kept.len().saturating_sub(KEPT_MAX);
        said.kept.drain(..excess);
        said.unshown = (said.unshown + bytes.len()).min(said.kept.len());
        said.unshown_since.get_or_insert_with(Instant::now);
    }

    /// What it is time to show.
    pub(super) fn to_show(&self) -> Vec<String> {
        self.to_show_at(Instant::now())
    }

    fn to_show_at(&self, now: Instant) -> Vec<String> {
        let mut said = self.lock();
        if said.unshown_since.is_none_or(|since| now.saturating_duration_since(since) < SHOW_AFTER) {
            return Vec::new();
        }
        let start = said.kept.len() - said.unshown;
        let lines = lines(&said.kept[start..]);
        said.unshown = 0;
        said.unshown_since = None;
        lines
    }

    /// Wait until all was said, but no longer than that.
    pub(super) fn wait_for_end(&self, longest: Duration) {
        let has_more = |said: &mut Said| !said.has_ended;
        drop(self.ended.wait_timeout_while(self.lock(), longest, has_more));
    }

    /// The last lines, safe to show.
    pub(super) fn last(&self) -> Vec<String> {
        lines(&self.lock().kept)
    }

    /// Whoever holds it leaves it whole.
    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lines(bytes: &[u8]) -> Vec<String> {
    let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    lines.map(|line| printable_limit(line, LINE_CHARS_MAX)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_and_safe() {
        let words = Words::default();
        words.add(b"one\r\n\n  two\x1b[2J\nthr");
        words.add(b"ee");
        assert_eq!(words.last(), ["one", r"two\u{1b}[2J", "three"]);
        words.add(&b"x".repeat(KEPT_MAX + 1));
        assert_eq!(words.last().len(), 1);
        assert_eq!(words.last()[0].chars().count(), LINE_CHARS_MAX);
    }

    #[test]
    fn words_are_shown_once_and_not_at_once() {
        let (words, begun) = (Words::default(), Instant::now());
        words.add(b"touch the key\n");
        assert!(words.to_show_at(begun).is_empty());
        assert_eq!(words.to_show_at(Instant::now() + SHOW_AFTER), ["touch the key"]);
        words.add(b"again\n");
        assert!(words.to_show_at(begun).is_empty());
        assert_eq!(words.last(), ["touch the key", "again"]);
    }
}
