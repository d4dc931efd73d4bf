//! Shares that end by themselves: `send` when everybody has everything, `receive` when everybody has sent.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use super::watch::Sayer;
use crate::cli::exit::Misuse;
use crate::cli::figures::count;
use crate::share::activity::{Action, Activity, Event, Observer, Outcome, Transfer};
use crate::share::gate::VisitorId;
use crate::share::listing::{ENTRIES_MAX, Listings};
use crate::share::serve::Stop;
use crate::share::tree::Tree;
use crate::store::confined::RelativePath;
use crate::text::printable;

/// How long a visitor who sent something is still waited for: people choose one file after the other.
pub(super) const SENT_QUIET: Duration = Duration::from_secs(10);
/// After the last download: programs then ask for what proves it.
const GOT_QUIET: Duration = Duration::from_secs(2);
/// How long what runs then may go on.
const FAREWELL_MAX: Duration = Duration::from_secs(60);
/// How often is looked whether it has been quiet for long enough.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Most events that wait to be counted.
const EVENTS_MAX: usize = 1 << 16;
/// Most folders of what is sent.
const FOLDERS_MAX: usize = 1 << 16;
/// Most parts of a file that are known of a visitor.
const PARTS_MAX: usize = 1024;
/// Most visitors whose progress is kept.
const VISITORS_MAX: usize = 4096;

/// When a share is over.
#[derive(Clone, Debug)]
pub(super) enum Until {
    /// So many have downloaded all of these files, by name, with their lengths.
    Downloaded(u64, HashMap<String, u64>),
    /// So many have uploaded something, and been quiet since.
    Uploaded(u64),
}

impl Until {
    /// What to say then.
    fn reached(&self) -> String {
        match self {
            Until::Downloaded(people, files) => {
                let files = count(files.len() as u64, "file", "files");
                format!("{} all of it, {files}: this ends now", count(*people, "visitor has", "visitors have"))
            }
            Until::Uploaded(people) => {
                format!("{} sent: this ends now", count(*people, "visitor has", "visitors have"))
            }
        }
    }
}

/// The files of a tree by the names that transfers have, with their lengths.
pub(super) fn files(tree: &Tree) -> anyhow::Result<HashMap<String, u64>> {
    let listings = Listings::default();
    let (mut folders, mut found, mut visited) = (vec![RelativePath::root()], HashMap::new(), 0);
    while let Some(folder) = folders.pop() {
        visited += 1;
        if visited > FOLDERS_MAX || found.len() > ENTRIES_MAX {
            let why =
                "that is too much to know when all of it was sent, or a link leads round in it: use linerate share";
            return Err(Misuse(why.to_string()).into());
        }
        for row in listings.all(tree, &folder)?.iter() {
            let Ok(path) = folder.join(&row.name) else { continue };
            match row.is_folder {
                true => folders.push(path),
                false => drop(found.insert(printable(path.as_bytes()), row.bytes)),
            }
        }
    }
    Ok(found)
}

/// Somebody who has begun: a session, or the programs of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Who(VisitorId, Option<IpAddr>);

impl Who {
    fn of(visitor: VisitorId, from: IpAddr) -> Who {
        Who(visitor, (visitor == VisitorId::PROGRAM).then_some(from))
    }
}

/// How often somebody had a file, and which parts of it since then.
#[derive(Debug, Default)]
struct Had {
    rounds: u64,
    /// From and to, in order, without touching.
    parts: Vec<(u64, u64)>,
}

impl Had {
    /// Some of a file of that length was sent: each byte of it has to be before it counts as had. A download that was
    /// broken off is gone on with in parts, and some programs ask for several at a time.
    fn add(&mut self, (from, to): (u64, u64), len: u64) {
        if from == 0 && to >= len {
            // In one go, whatever else is under way.
            self.rounds += 1;
            return;
        }
        let (mut from, mut to) = (from, to.min(len));
        if from >= to || self.parts.len() >= PARTS_MAX {
            return;
        }
        self.parts.retain(|part| {
            let touches = part.0 <= to && from <= part.1;
            if touches {
                (from, to) = (from.min(part.0), to.max(part.1));
            }
            !touches
        });
        self.parts.push((from, to));
        self.parts.sort_unstable();
        if self.parts == [(0, len)] {
            self.parts.clear();
            self.rounds += 1;
        }
    }
}

/// What is known of it.
struct Count {
    until: Until,
    had: HashMap<Who, HashMap<String, Had>>,
    sent: HashSet<Who>,
}

impl Count {
    fn new(until: Until) -> Count {
        Count { until, had: HashMap::new(), sent: HashSet::new() }
    }

    fn see(&mut self, event: &Event) {
        let Event::Ended(transfer, outcome) = event else { return };
        let who = Who::of(transfer.visitor, transfer.from);
        let is_complete = *outcome == Outcome::Complete;
        match (&self.until, transfer.action) {
            (Until::Downloaded(_, files), Action::Download) => {
                let Some(len) = files.get(&transfer.name) else { return };
                if self.had.len() >= VISITORS_MAX && !self.had.contains_key(&who) {
                    return;
                }
                let had = self.had.entry(who).or_default().entry(transfer.name.clone()).or_default();
                if is_complete || transfer.moved() > 0 {
                    had.add((transfer.at, transfer.at.saturating_add(transfer.moved())), *len);
                }
            }
            (Until::Downloaded(_, files), Action::Archive) if is_complete => {
                // An archive of less than everything is shorter than that.
                let all: u64 = files.values().sum();
                if transfer.moved() >= all && self.had.len() < VISITORS_MAX {
                    let had = self.had.entry(who).or_default();
                    files.keys().for_each(|name| had.entry(name.clone()).or_default().rounds += 1);
                }
            }
            (Until::Uploaded(_), Action::Upload) if is_complete && self.sent.len() < VISITORS_MAX => {
                self.sent.insert(who);
            }
            _ => {}
        }
    }

    fn is_reached(&self) -> bool {
        match &self.until {
            Until::Downloaded(wanted, files) => {
                let rounds = |who: &Who, had: &HashMap<String, Had>| {
                    let least = files.keys().map(|name| had.get(name).map_or(0, |had| had.rounds)).min().unwrap_or(0);
                    // Programs of one address cannot be told apart: each time that everything was had is one.
                    if who.0 == VisitorId::PROGRAM { least } else { least.min(1) }
                };
                self.had.iter().map(|(who, had)| rounds(who, had)).sum::<u64>() >= *wanted
            }
            Until::Uploaded(wanted) => self.sent.len() as u64 >= *wanted,
        }
    }

    fn quiet(&self) -> Duration {
        match self.until {
            Until::Downloaded(..) => GOT_QUIET,
            Until::Uploaded(_) => SENT_QUIET,
        }
    }
}

/// How far each upload that is under way had come, and when it came that far.
///
/// An upload is under way between two of its requests, too, and one that its visitor has given up for as long as its
/// place is kept for him: for that nobody waits. A download goes with its connection.
#[derive(Debug, Default)]
struct Stalled(HashMap<u64, (u64, Instant)>);

impl Stalled {
    /// Whether nothing of what is under way has come further for so long.
    fn are_all(&mut self, running: &[Arc<Transfer>], quiet: Duration, now: Instant) -> bool {
        let before = std::mem::take(&mut self.0);
        let mut are_all = true;
        for transfer in running {
            let moved = transfer.moved();
            let known = before.get(&transfer.number).filter(|(then, _)| *then == moved);
            let since = known.map_or(now, |(_, since)| *since);
            self.0.insert(transfer.number, (moved, since));
            are_all &= transfer.action == Action::Upload && now.saturating_duration_since(since) >= quiet;
        }
        are_all
    }
}

/// Counts what happens; nobody waits for it.
pub(super) struct Counter {
    events: SyncSender<Event>,
}

impl Counter {
    /// With what is counted.
    pub(super) fn new() -> (Counter, Receiver<Event>) {
        let (events, counted) = sync_channel(EVENTS_MAX);
        (Counter { events }, counted)
    }
}

impl Observer for Counter {
    fn see(&self, event: &Event) {
        if !matches!(event, Event::Ended(..) | Event::Began(_)) {
            return;
        }
        // Whoever counts is far faster than anybody downloads; what is lost would only have to be had again.
        let _ = self.events.try_send(event.clone());
    }
}

/// Several are told.
pub(super) struct All(pub(super) Vec<Box<dyn Observer>>);

impl Observer for All {
    fn see(&self, event: &Event) {
        self.0.iter().for_each(|observer| observer.see(event));
    }
}

/// End the share when it is over. This returns then, or when nothing can happen any more.
pub(super) fn end_when(
    until: Until,
    events: &Receiver<Event>,
    activity: &Arc<Activity>,
    (stop, sayer): (&Stop, &Sayer),
) {
    let reached = until.reached();
    let mut count = Count::new(until);
    let mut last = Instant::now();
    let mut stalled = Stalled::default();
    loop {
        match events.recv_timeout(LOOK_AGAIN) {
            Ok(event) => {
                last = Instant::now();
                count.see(&event);
            }
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                let is_idle = stalled.are_all(&activity.running(), count.quiet(), Instant::now());
                // Last, because it goes through all files of all visitors.
                if is_idle && last.elapsed() >= count.quiet() && count.is_reached() {
                    break;
                }
            }
        }
    }
    sayer.say(reached);
    stop.end();
    std::thread::sleep(FAREWELL_MAX);
    stop.now();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::share::activity::Unseen;

    /// The end of a transfer, as the observer sees it.
    fn ended(visitor: u64, from: u8, name: &str, moved: u64, is_complete: bool, action: Action) -> Event {
        part((visitor, from), name, (0, moved), is_complete, action)
    }

    fn part(
        (visitor, from): (u64, u8),
        name: &str,
        (at, moved): (u64, u64),
        is_complete: bool,
        action: Action,
    ) -> Event {
        let activity = Arc::new(Activity::new(Box::new(Unseen)));
        let who = (VisitorId(visitor), IpAddr::from([192, 0, 2, from]));
        let running = activity.begin_at(action, name.to_string(), who, None, at);
        running.add(moved);
        let transfer = activity.running().remove(0);
        Event::Ended(transfer, if is_complete { Outcome::Complete } else { Outcome::Cut })
    }

    #[test]
    fn everybody_has_it_when_all_files_came_to_so_many() {
        let files = HashMap::from([("a".to_string(), 10), ("b".to_string(), 0)]);
        let mut count = Count::new(Until::Downloaded(2, files));
        let mut see = |visitor, from, name, moved, is_complete| {
            count.see(&ended(visitor, from, name, moved, is_complete, Action::Download));
            count.is_reached()
        };
        assert!(!see(1, 1, "a", 10, true));
        assert!(!see(1, 1, "b", 0, true));
        // The same session again is the same person.
        assert!(!see(1, 1, "a", 10, true) && !see(1, 1, "b", 0, true));
        // In two parts, the first of which was broken off.
        assert!(!see(2, 1, "a", 4, false) && !see(2, 1, "b", 0, true) && !see(2, 1, "other", 99, true));
        let rest = part((2, 1), "a", (4, 6), true, Action::Download);
        count.see(&rest);
        assert!(count.is_reached());
    }

    #[test]
    fn each_byte_has_to_be_had_and_the_same_twice_is_not_two() {
        let files = HashMap::from([("a".to_string(), 10)]);
        let mut count = Count::new(Until::Downloaded(1, files));
        let mut see = |at, moved| {
            count.see(&part((1, 1), "a", (at, moved), true, Action::Download));
            count.is_reached()
        };
        assert!(!see(0, 5) && !see(0, 5) && !see(9, 1) && !see(2, 4) && !see(9, 1) && !see(6, 0));
        assert!(see(5, 4));
    }

    #[test]
    fn programs_of_one_address_count_each_time() {
        let files = HashMap::from([("a".to_string(), 1)]);
        let mut count = Count::new(Until::Downloaded(3, files));
        let mut see = |from, moved| {
            count.see(&ended(0, from, "a", moved, true, Action::Download));
            count.is_reached()
        };
        assert!(!see(1, 1) && !see(1, 0) && !see(2, 1));
        assert!(see(1, 1));
    }

    #[test]
    fn all_files_of_a_folder_are_known_however_many_a_page_holds() {
        let dir = tempfile::tempdir().unwrap();
        let many = crate::share::listing::LIMIT_MAX + 1;
        for at in 0..many {
            std::fs::write(dir.path().join(at.to_string()), "").unwrap();
        }
        let tree = Tree::open(&[dir.path()], false).unwrap();
        assert_eq!(files(&tree).unwrap().len(), many);
    }

    #[test]
    fn nobody_waits_for_an_upload_that_was_given_up() {
        let activity = Arc::new(Activity::new(Box::new(Unseen)));
        let who = (VisitorId(1), IpAddr::from([192, 0, 2, 1]));
        let (quiet, begin) = (Duration::from_secs(10), Instant::now());
        let mut stalled = Stalled::default();
        let mut are_all = |seconds| stalled.are_all(&activity.running(), quiet, begin + Duration::from_secs(seconds));
        assert!(are_all(0));
        let upload = activity.begin(Action::Upload, "a".to_string(), who, None);
        assert!(!are_all(1) && !are_all(10));
        upload.add(1);
        assert!(!are_all(11) && !are_all(20) && are_all(21));
        // Whoever downloads has not gone as long as his connection stands.
        let download = activity.begin(Action::Download, "b".to_string(), who, None);
        assert!(!are_all(22) && !are_all(99));
        drop(download);
        assert!(are_all(100));
    }

    #[test]
    fn an_archive_of_everything_and_an_upload_count() {
        let files = HashMap::from([("a".to_string(), 100), ("b".to_string(), 100)]);
        let mut count = Count::new(Until::Downloaded(1, files));
        count.see(&ended(1, 1, "x", 150, true, Action::Archive));
        assert!(!count.is_reached());
        count.see(&ended(1, 1, "x", 250, true, Action::Archive));
        assert!(count.is_reached());
        let mut count = Count::new(Until::Uploaded(2));
        count.see(&ended(1, 1, "x", 1, true, Action::Upload));
        count.see(&ended(1, 1, "y", 1, true, Action::Upload));
        count.see(&ended(2, 1, "y", 1, false, Action::Upload));
        assert!(!count.is_reached());
        count.see(&ended(3, 1, "y", 1, true, Action::Upload));
        assert!(count.is_reached());
    }
}
