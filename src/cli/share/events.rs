//! `--json`: what happens on a share, as lines of JSON on standard output.
//!
//! Every line is one object with `event` and `time` (RFC 3339):
//!
//! | event | when | fields |
//! |---|---|---|
//! | `share` | once, first | `version`, `title`, `links` (the first is the one to pass on) |
//! | `address` | this machine has other addresses | `links`, as in `share` |
//! | `entered` | somebody opened the link | `visitor`, `from`, `agent` |
//! | `began`, `ended` | of a transfer | `transfer`, `action` (`download`, `archive`, `upload`), `name`, `visitor`, `from`, `bytes_expected`; at its end `bytes`, `seconds`, `complete` |
//! | `arrived` | an upload is there | `name`, `bytes` |
//! | `said` | in the room | `nick`, `text` |
//! | `scanned` | a virus scan is done | `name`, `verdict` |
//! | `refused` | something was not allowed | `from`, `what` |
//! | `trouble` | something does not work, and the share goes on without it | `what` |
//! | `progress` | once a second while something is moved | `people`, `running` (transfers), `sent`, `received`, `bytes_per_s` |
//! | `lost` | the reader was too slow | `events`: how many were left out |
//! | `end` | once, last | `sent`, `received`, `visitors`, `transfers`, `seconds` |
//!
//! Requests are in the access log. What is not known is `null`. A reader that goes away ends the events, and nothing else.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::lines::Whole;
use crate::share::activity::{Action, Event, Outcome, Transfer};
use crate::text::printable_json;

/// Where events go.
pub(super) struct Events {
    out: Option<Box<dyn Write + Send>>,
    error: Option<io::Error>,
}

impl Events {
    pub(super) fn new(out: Box<dyn Write + Send>) -> Events {
        Events { out: Some(out), error: None }
    }

    /// Something happened.
    pub(super) fn tell(&mut self, at: jiff::Timestamp, event: &Event) {
        if let Some((name, told)) = describe(event) {
            self.add(at, name, told);
        }
    }

    /// How it goes.
    pub(super) fn progress(&mut self, whole: &Whole) {
        let told = json!({
            "people": whole.people, "running": whole.running, "sent": whole.sent, "received": whole.received,
            "bytes_per_s": whole.bytes_per_s.round(),
        });
        self.add(jiff::Timestamp::now(), "progress", told);
    }

    /// Any other event.
    pub(super) fn add(&mut self, at: jiff::Timestamp, name: &str, mut told: Value) {
        let Some(out) = &mut self.out else { return };
        told["event"] = name.into();
        told["time"] = format!("{at:.3}").into();
        match out.write_all((printable_json(&told.to_string()) + "\n").as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => {}
            Err(error) => {
                self.out = None;
                self.error = Some(error).filter(|error| error.kind() != io::ErrorKind::BrokenPipe);
            }
        }
    }

    /// What went wrong with writing; a reader that went away is no error.
    pub(super) fn take_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }
}

fn describe(event: &Event) -> Option<(&'static str, Value)> {
    Some(match event {
        Event::Entered { visitor, from, agent } => {
            ("entered", json!({ "visitor": visitor.0, "from": from, "agent": agent }))
        }
        Event::Began(transfer) => ("began", of_transfer(transfer)),
        Event::Ended(transfer, outcome) => {
            let mut told = of_transfer(transfer);
            told["bytes"] = transfer.moved().into();
            told["seconds"] = transfer.since.elapsed().as_secs_f64().into();
            told["complete"] = (*outcome == Outcome::Complete).into();
            ("ended", told)
        }
        Event::Arrived { name, bytes } => ("arrived", json!({ "name": name, "bytes": bytes })),
        Event::Said { nick, text } => ("said", json!({ "nick": nick, "text": text })),
        Event::Scanned { name, verdict } => ("scanned", json!({ "name": name, "verdict": verdict })),
        Event::Refused { from, what } => ("refused", json!({ "from": from, "what": what })),
        Event::Trouble { what } => ("trouble", json!({ "what": what })),
        Event::Request { .. } => return None,
    })
}

fn of_transfer(transfer: &Transfer) -> Value {
    let action = match transfer.action {
        Action::Download => "download",
        Action::Archive => "archive",
        Action::Upload => "upload",
    };
    json!({
        "transfer": transfer.number, "action": action, "name": transfer.name, "visitor": transfer.visitor.0,
        "from": transfer.from, "bytes_expected": transfer.expected,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::out::Broken;

    #[test]
    fn events_are_lines_of_json() {
        let said = Event::Said { nick: "Ann".to_string(), text: "a\n<b>\"".to_string() };
        let (name, mut told) = describe(&said).unwrap();
        told["event"] = name.into();
        assert_eq!(told, json!({ "event": "said", "nick": "Ann", "text": "a\n<b>\"" }));
        assert!(!told.to_string().contains('\n'));
    }

    #[test]
    fn a_reader_that_goes_away_is_no_error_and_a_full_disk_is_one() {
        for (kind, is_error) in [(io::ErrorKind::BrokenPipe, false), (io::ErrorKind::StorageFull, true)] {
            let mut events = Events::new(Box::new(Broken(kind)));
            events.add(jiff::Timestamp::UNIX_EPOCH, "share", json!({}));
            events.add(jiff::Timestamp::UNIX_EPOCH, "end", json!({}));
            assert_eq!(events.take_error().is_some(), is_error);
        }
    }
}
