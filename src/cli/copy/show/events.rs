//! `--json`: what happens, as lines of JSON on standard output.
//!
//! Every line is one object; `event` says what it is:
//!
//! | event | when | fields |
//! |---|---|---|
//! | `start` | once, first | `version`, `commit`, `run`, `command`, `time` (RFC 3339), `route` as in the receipt |
//! | `progress` | once a second | `seconds`, `bytes_done`, `bytes_found`, `scanned`, `files_done`, `files_found`, `failed`, `skipped`, `bytes_per_s`, `average_bytes_per_s`, `seconds_left`, `streams`, `bottleneck` |
//! | `file` | for each entry that is settled | `path`, `path_base64` where it is not UTF-8, `type` (`file`, `folder`, `link`), `outcome` (`done`, `had`, `planned`, `skipped`, `failed`), `bytes`, `blake3`, `why` |
//! | `reconnect` | the connection was lost | `why`, `attempt` from 1, `wait_seconds` until it is made again |
//! | `end` | once, last | all fields of the receipt, [`crate::transfer::receipt`] |
//!
//! What is not known is left out. In a copy of several sessions an entry may be settled once in each. A reader that goes
//! away ends the events, and nothing else.

use std::io::{self, Write};

use serde::Serialize;

use super::gauge::Reading;
use crate::proto::copy::Settlement;
use crate::proto::verify::FileHash;
use crate::transfer::receipt::{Name, Receipt, Route};
use crate::transfer::tally::{Settled, Sort};

/// So much is gathered at most before it is written.
const GATHERED_BYTES_MAX: usize = 256 << 10;

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Event<'a> {
    Start {
        version: &'static str,
        commit: &'static str,
        run: String,
        command: &'a [String],
        time: String,
        route: &'a Route,
    },
    Progress {
        seconds: f64,
        bytes_done: u64,
        bytes_found: u64,
        scanned: bool,
        files_done: u64,
        files_found: u64,
        failed: u64,
        skipped: u64,
        bytes_per_s: f64,
        average_bytes_per_s: f64,
        #[serde(skip_serializing_if = "Option::is_none")]
        seconds_left: Option<f64>,
        streams: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        bottleneck: Option<&'static str>,
    },
    File {
        #[serde(flatten)]
        name: Name,
        r#type: &'static str,
        outcome: &'static str,
        bytes: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        blake3: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        why: Option<&'a str>,
    },
    Reconnect {
        why: &'a str,
        attempt: u32,
        wait_seconds: f64,
    },
    End(&'a Receipt),
}

/// Where events go.
pub(super) struct Events {
    out: Option<Box<dyn Write + Send>>,
    gathered: Vec<u8>,
    error: Option<io::Error>,
}

impl Events {
    pub(super) fn new(out: Box<dyn Write + Send>) -> Events {
        Events { out: Some(out), gathered: Vec::new(), error: None }
    }

    pub(super) fn start(&mut self, run: &[u8; 16], command: &[String], route: &Route, time: String) {
        let run = run.iter().map(|byte| format!("{byte:02x}")).collect();
        let (version, commit) = (env!("CARGO_PKG_VERSION"), env!("LINERATE_COMMIT"));
        self.add(&Event::Start { version, commit, run, command, time, route });
        self.flush();
    }

    pub(super) fn progress(&mut self, reading: &Reading) {
        self.add(&Event::Progress {
            seconds: reading.seconds,
            bytes_done: reading.bytes_done,
            bytes_found: reading.bytes_found,
            scanned: reading.is_scanned,
            files_done: reading.files_done,
            files_found: reading.files_found,
            failed: reading.failed,
            skipped: reading.skipped,
            bytes_per_s: reading.now,
            average_bytes_per_s: reading.average,
            seconds_left: reading.left,
            streams: reading.streams,
            bottleneck: reading.limit.map(|limit| limit.name()),
        });
        self.flush();
    }

    /// Written with the next flush, or when there is much of it.
    pub(super) fn settled(&mut self, entry: &Settled, settlement: &Settlement) {
        let (outcome, hash, why): (_, Option<&FileHash>, Option<&str>) = match settlement {
            Settlement::Done(hash) => ("done", hash.as_ref(), None),
            Settlement::Had => ("had", None, None),
            Settlement::Planned => ("planned", None, None),
            Settlement::Skipped(why) => ("skipped", None, Some(why)),
            Settlement::Failed(why) => ("failed", None, Some(why)),
        };
        let kind = match entry.kind {
            Sort::File => "file",
            Sort::Folder => "folder",
            Sort::Link => "link",
        };
        self.add(&Event::File {
            name: Name::of(&entry.path),
            r#type: kind,
            outcome,
            bytes: entry.len,
            blake3: hash.map(ToString::to_string),
            why,
        });
        if self.gathered.len() >= GATHERED_BYTES_MAX {
            self.flush();
        }
    }

    pub(super) fn reconnect(&mut self, why: &str, attempt: u32, wait_seconds: f64) {
        self.add(&Event::Reconnect { why, attempt, wait_seconds });
        self.flush();
    }

    pub(super) fn end(&mut self, receipt: &Receipt) {
        self.add(&Event::End(receipt));
        self.flush();
    }

    /// Write what was gathered. Without a reader there is nothing more to do.
    pub(super) fn flush(&mut self) {
        let Some(out) = &mut self.out else { return };
        if let Err(error) = out.write_all(&self.gathered).and_then(|()| out.flush()) {
            self.out = None;
            self.error = Some(error).filter(|error| error.kind() != io::ErrorKind::BrokenPipe);
        }
        self.gathered.clear();
    }

    /// Why events are not written any more, if it is not that nobody reads them.
    pub(super) fn take_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }

    fn add(&mut self, event: &Event<'_>) {
        if self.out.is_none() {
            return;
        }
        let before = self.gathered.len();
        // Memory takes everything, and all keys are strings; a half line would break the rest.
        match serde_json::to_writer(&mut self.gathered, event) {
            Ok(()) => self.gathered.push(b'\n'),
            Err(_) => self.gathered.truncate(before),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::cli::out::Broken;
    use crate::proto::verify::hash_whole;
    use crate::transfer::bottleneck::Limit;
    use serde_json::{Value, json};

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn events_are_lines_of_json() {
        let kept = Kept::default();
        let mut events = Events::new(Box::new(kept.clone()));
        let route = Route { direction: "push".to_string(), to: Some(Name::of(b"/x")), ..Route::default() };
        events.start(&[1; 16], &["linerate".to_string()], &route, "2023-11-14T22:13:20Z".to_string());
        let reading = Reading { bytes_done: 5, now: 2.5, limit: Some(Limit::Scan), streams: 1, ..Reading::default() };
        events.progress(&reading);
        let entry = |path: &[u8], kind| Settled { path: path.to_vec(), kind, len: 3, first_name: None };
        let hash = hash_whole(b"abc");
        events.settled(&entry(b"a\nb", Sort::File), &Settlement::Done(Some(hash)));
        events.settled(&entry(b"\xff", Sort::Folder), &Settlement::Failed("no \"space\"".to_string()));
        events.reconnect("reset", 2, 0.5);
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 5);
        assert_eq!((&lines[0]["event"], &lines[0]["route"]["to"]["path"]), (&json!("start"), &json!("/x")));
        assert_eq!(lines[0]["run"], json!("01".repeat(16)));
        let progress = json!({
            "event": "progress", "seconds": 0.0, "bytes_done": 5, "bytes_found": 0, "scanned": false, "files_done": 0,
            "files_found": 0, "failed": 0, "skipped": 0, "bytes_per_s": 2.5, "average_bytes_per_s": 0.0, "streams": 1,
            "bottleneck": "scan",
        });
        assert_eq!(lines[1], progress);
        let file = json!({
            "event": "file", "path": "a\nb", "type": "file", "outcome": "done", "bytes": 3,
            "blake3": hash.to_string(),
        });
        assert_eq!(lines[2], file);
        let failed = json!({
            "event": "file", "path": "\u{fffd}", "path_base64": "/w==", "type": "folder", "outcome": "failed",
            "bytes": 3, "why": "no \"space\"",
        });
        assert_eq!(lines[3], failed);
        assert_eq!(lines[4], json!({"event": "reconnect", "why": "reset", "attempt": 2, "wait_seconds": 0.5}));
    }

    #[test]
    fn a_reader_that_goes_away_is_no_error_and_a_full_disk_is() {
        for (kind, is_error) in [(io::ErrorKind::BrokenPipe, false), (io::ErrorKind::StorageFull, true)] {
            let mut events = Events::new(Box::new(Broken(kind)));
            events.reconnect("x", 1, 0.0);
            events.reconnect("y", 2, 0.0);
            assert!(events.gathered.is_empty() && events.out.is_none());
            assert_eq!(events.take_error().is_some(), is_error);
        }
    }
}
