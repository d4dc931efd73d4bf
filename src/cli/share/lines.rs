//! What happens on a share as lines for a person. Pure.
//!
//! Everything that comes from visitors is made safe to be shown here, whether it was before or not.

use std::net::IpAddr;
use std::time::Duration;

use crate::cli::figures::{bytes, count, rate, span};
use crate::share::activity::{Action, Event, Outcome, Transfer};
use crate::text::printable_limit;

/// Longest name of a file, a person or a browser.
const NAME_CHARS_MAX: usize = 60;
/// Longest message and reason.
const TEXT_CHARS_MAX: usize = 400;

/// Who somebody is: `Ann (192.0.2.7)`.
pub(super) fn person(nick: Option<&str>, from: IpAddr) -> String {
    match nick {
        Some(nick) => format!("{} ({from})", name(nick)),
        None => from.to_string(),
    }
}

fn name(text: &str) -> String {
    printable_limit(text.as_bytes(), NAME_CHARS_MAX)
}

fn text(text: &str) -> String {
    printable_limit(text.as_bytes(), TEXT_CHARS_MAX)
}

/// Something that happened; nothing for what is not worth a line. `nick_of` knows the names of the room.
pub(super) fn event(event: &Event, nick_of: impl Fn(&Transfer) -> Option<String>) -> Option<String> {
    Some(match event {
        Event::Entered { from, agent, .. } if agent.is_empty() => format!("{from} came in"),
        Event::Entered { from, agent, .. } => format!("{from} came in: {}", name(agent)),
        Event::Ended(transfer, outcome) => {
            let who = person(nick_of(transfer).as_deref(), transfer.from);
            let (took, broke) = match transfer.action {
                Action::Download => ("got", "did not get all of"),
                Action::Archive => ("got, as an archive,", "did not get all of the archive"),
                Action::Upload => ("sent", "did not send all of"),
            };
            let verb = if *outcome == Outcome::Complete { took } else { broke };
            format!("{who} {verb} {}: {}", name(&transfer.name), account(transfer.moved(), transfer.since.elapsed()))
        }
        Event::Arrived { name: file, bytes: len } => format!("{} is here, {}", name(file), bytes(*len)),
        Event::Said { nick, text: said } => format!("{}: {}", name(nick), text(said)),
        Event::Scanned { name: file, verdict } => format!("{}: {}", name(file), text(verdict)),
        Event::Refused { from, what } => format!("refused {from}: {}", text(what)),
        Event::Trouble { what } => format!("linerate: {}", text(what)),
        Event::Began(_) | Event::Request { .. } => return None,
    })
}

fn account(moved: u64, took: Duration) -> String {
    let seconds = took.as_secs_f64();
    match seconds {
        ..0.1 => bytes(moved),
        _ => format!("{} in {}, {}", bytes(moved), span(seconds), rate(moved as f64 / seconds)),
    }
}

/// A transfer under way: `Ann (192.0.2.7) gets photo.jpg · 1.20 MB of 3.00 MB · 2.00 MB/s`.
pub(super) fn under_way(transfer: &Transfer, nick: Option<&str>, bytes_per_s: f64) -> String {
    let verb = match transfer.action {
        Action::Download => "gets",
        Action::Archive => "gets the archive",
        Action::Upload => "sends",
    };
    let of = transfer.expected.map_or(String::new(), |expected| format!(" of {}", bytes(expected)));
    let (who, file, moved) = (person(nick, transfer.from), name(&transfer.name), bytes(transfer.moved()));
    format!("{who} {verb} {file} · {moved}{of} · {}", rate(bytes_per_s))
}

/// The whole at a moment.
pub(super) struct Whole {
    /// In the room.
    pub(super) people: usize,
    /// Transfers under way.
    pub(super) running: usize,
    /// Both directions together.
    pub(super) bytes_per_s: f64,
    pub(super) sent: u64,
    pub(super) received: u64,
}

/// `3 here · 2 transfers · 120 MB/s · sent 1.20 GB · received 0 B`.
pub(super) fn whole(whole: &Whole) -> String {
    let Whole { people, running, bytes_per_s, sent, received } = whole;
    let running = count(*running as u64, "transfer", "transfers");
    let pace = rate(*bytes_per_s);
    format!("{people} here · {running} · {pace} · sent {} · received {}", bytes(*sent), bytes(*received))
}

/// The end.
pub(super) fn summary((sent, received): (u64, u64), (visitors, transfers): (u64, u64), took: Duration) -> String {
    let people = count(visitors, "visitor", "visitors");
    let transfers = count(transfers, "transfer", "transfers");
    let took = span(took.as_secs_f64());
    format!("shared for {took}: {people}, {transfers}, sent {}, received {}", bytes(sent), bytes(received))
}

/// What came, and where it is: `3 files came into inbox: 1.20 MB`.
pub(super) fn arrived((files, len): (u64, u64), folder: &str) -> String {
    format!("{} came into {folder}: {}", count(files, "file", "files"), bytes(len))
}

/// What is still running when the share is to end.
pub(super) fn ending(running: usize, grace: Duration) -> String {
    let running = count(running as u64, "transfer has", "transfers have");
    format!("ending: {running} {} to finish; Ctrl-C again ends at once", span(grace.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::share::gate::VisitorId;

    const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    #[test]
    fn nothing_that_visitors_write_acts_on_a_terminal() {
        let evil = "\u{1b}]0;x\u{7}\u{202e}\n".to_string();
        let events = [
            Event::Entered { visitor: VisitorId(1), from: FROM, agent: evil.clone() },
            Event::Arrived { name: evil.clone(), bytes: 5 },
            Event::Said { nick: evil.clone(), text: evil.clone() },
            Event::Scanned { name: evil.clone(), verdict: evil.clone() },
            Event::Refused { from: FROM, what: evil.clone() },
        ];
        for event in events {
            let line = super::event(&event, |_| None).unwrap();
            assert!(!line.chars().any(crate::text::is_unsafe), "{line:?}");
        }
        assert!(!person(Some(&evil), FROM).chars().any(crate::text::is_unsafe));
    }

    #[test]
    fn figures_are_told_as_people_read_them() {
        let now = Whole { people: 3, running: 1, bytes_per_s: 2e6, sent: 1_200_000_000, received: 0 };
        assert_eq!(whole(&now), "3 here · 1 transfer · 2.00 MB/s · sent 1.20 GB · received 0 B");
        let end = summary((5, 0), (1, 2), Duration::from_secs(60));
        assert_eq!(end, "shared for 1 min 00 s: 1 visitor, 2 transfers, sent 5 B, received 0 B");
        assert_eq!(
            ending(2, Duration::from_secs(5)),
            "ending: 2 transfers have 5 s to finish; Ctrl-C again ends at once"
        );
        assert_eq!(arrived((2, 5), "inbox"), "2 files came into inbox: 5 B");
        let said = Event::Said { nick: "Ann".to_string(), text: "<b>hi</b>".to_string() };
        assert_eq!(event(&said, |_| None).unwrap(), "Ann: <b>hi</b>");
    }
}
