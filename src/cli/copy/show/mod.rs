//! What the user sees of a copy: a bar or lines on standard error, events on standard output, a manifest, a summary.
//!
//! One [`Show`] lives as long as the command, over all sessions of its copy. It is told what happens and decides nothing.
//!
//! | file | what it holds |
//! |---|---|
//! | `gauge` | rates, time left and what limits, from one moment to the next |
//! | `lines`, `summary` | figures as text |
//! | `live` | the bar of a terminal |
//! | `events` | `--json`; the events are described there |
//! | `manifest` | `--manifest` |

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::cli::{figures, out};
use crate::proto::copy::Settlement;
use crate::proto::copy::report::EndReport;
use crate::proto::verify::FileHash;
use crate::text::printable;
use crate::transfer::bottleneck::{self, Limit, Over, Setting};
use crate::transfer::receipt::{Receipt, Route};
use crate::transfer::run::{Progress, Watcher};
use crate::transfer::tally::{Observer, Settled, Sort};

mod events;
mod gauge;
pub(in crate::cli) mod lines;
mod live;
mod manifest;
mod summary;

use events::Events;
use gauge::Gauge;
use live::Live;
use manifest::Manifest;

/// How often there is a line where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// How often there is an event of progress.
const EVENT_EVERY: Duration = Duration::from_secs(1);

/// What is to be seen, and of what.
#[derive(Clone, Debug)]
pub(super) struct ShowOptions {
    /// Nothing on standard error but errors.
    pub(super) quiet: bool,
    /// Events on standard output, and no progress on standard error.
    pub(super) json: bool,
    /// Where the manifest goes.
    pub(super) manifest: Option<PathBuf>,
    /// Standard error is a terminal.
    pub(super) is_tty: bool,
    /// Paths in the manifest begin below the name of the source: there is one source, and it has a name.
    pub(super) strips_top: bool,
    /// From here to there, not from there to here.
    pub(super) is_push: bool,
    /// What is known of the ends, for what limits.
    pub(super) setting: Setting,
    /// Random; the same in all sessions.
    pub(super) run: [u8; 16],
    /// The command line.
    pub(super) command: Vec<String>,
    /// From where to where.
    pub(super) route: Route,
}

/// Shows a copy.
pub(super) struct Show {
    options: ShowOptions,
    since: Instant,
    gauge: Gauge,
    live: Option<Live>,
    line_at: Duration,
    event_at: Duration,
    sessions: u32,
    /// The moments in which each thing limited.
    limits: Vec<(Limit, u32)>,
    moments: u32,
    ledger: Arc<Mutex<Ledger>>,
}

/// What hears of every entry, from whichever thread settles it.
#[derive(Default)]
struct Ledger {
    events: Option<Events>,
    manifest: Option<Manifest>,
    unhashed: Vec<Unhashed>,
    /// Further names of files, each with the first one.
    further: BTreeMap<Vec<u8>, Box<[u8]>>,
}

/// A file whose hash the manifest lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unhashed {
    /// Within the copy, as entries are named.
    pub(super) path: Vec<u8>,
    /// Bytes.
    pub(super) len: u64,
}

impl Show {
    /// Before the first session. A manifest that cannot be written is an error at once.
    pub(super) fn begin(options: ShowOptions) -> anyhow::Result<Show> {
        let manifest = options.manifest.as_deref().map(|path| Manifest::begin(path, options.strips_top)).transpose()?;
        let events = options.json.then(|| {
            let mut events = Events::new(Box::new(std::io::stdout()));
            events.start(&options.run, &options.command, &options.route, format!("{:.3}", jiff::Timestamp::now()));
            events
        });
        let live = (options.is_tty && !options.quiet && !options.json).then(Live::new);
        Ok(Show {
            gauge: Gauge::new(options.is_push, options.setting),
            since: Instant::now(),
            live,
            line_at: LINE_EVERY,
            event_at: EVENT_EVERY,
            sessions: 0,
            limits: Vec::new(),
            moments: 0,
            ledger: Arc::new(Mutex::new(Ledger { events, manifest, ..Ledger::default() })),
            options,
        })
    }

    /// The connection was lost, or is refused for now: it is made again after that time. `attempt` counts from 1.
    pub(super) fn reconnect(&mut self, why: &str, attempt: u32, wait: Duration) {
        if let Some(events) = &mut self.lock().events {
            events.reconnect(why, attempt, wait.as_secs_f64());
        }
        if !self.options.quiet {
            let why = printable(why.as_bytes());
            self.say(&format!("linerate: {why}; trying again in {}", figures::span(wait.as_secs_f64())));
        }
    }

    /// Print a line on standard error, beside whatever is shown there.
    pub(super) fn say(&self, text: &str) {
        match &self.live {
            Some(live) => live.aside(|| out::say(text)),
            None => out::say(text),
        }
    }

    /// What limited it for most of the time, or else over all of it, where that is clear: for the receipt.
    pub(super) fn bottleneck(&self, near: &EndReport, far: Option<&EndReport>) -> Option<String> {
        let most = self.limits.iter().max_by_key(|(_, moments)| *moments);
        let most = most.filter(|(_, moments)| moments * 2 > self.moments).map(|(limit, _)| *limit);
        let whole = || {
            let [near, far] = [near, far?].map(|after| Over { before: None, after });
            let (source, destination) = bottleneck::ends(self.options.is_push, near, far);
            bottleneck::limit(source, destination, self.options.setting)
        };
        most.or_else(whole).map(|limit| limit.name().to_string())
    }

    /// Files that are in the copy and whose hash the manifest lacks: those that were there already, and all without
    /// verification. Nothing where no manifest is wanted. Call it once, after the last session.
    pub(super) fn unhashed(&mut self) -> anyhow::Result<Vec<Unhashed>> {
        let sessions = self.sessions;
        let mut ledger = self.lock();
        let mut unhashed = std::mem::take(&mut ledger.unhashed);
        let Some(manifest) = ledger.manifest.as_mut().filter(|_| sessions > 1) else { return Ok(unhashed) };
        // What a session before has proven is "there already" to the next.
        let known = manifest.settle()?;
        unhashed.sort_by(|one, other| one.path.cmp(&other.path));
        unhashed.dedup();
        unhashed.retain(|file| !known.contains_key(manifest.name_of(&file.path)));
        Ok(unhashed)
    }

    /// One of those hashes to that.
    pub(super) fn hashed(&mut self, path: &[u8], hash: FileHash) {
        if let Some(manifest) = &mut self.lock().manifest {
            manifest.add(path, hash);
        }
    }

    /// All files are hashed: their further names get lines of their own. Those whose file the manifest does not know.
    pub(super) fn add_further_names(&mut self) -> anyhow::Result<Vec<Vec<u8>>> {
        let mut ledger = self.lock();
        let further = std::mem::take(&mut ledger.further);
        let Some(manifest) = ledger.manifest.as_mut().filter(|_| !further.is_empty()) else { return Ok(Vec::new()) };
        let known = manifest.settle()?;
        let mut unknown = Vec::new();
        for (path, first) in further {
            match known.get(manifest.name_of(&first)) {
                Some(hash) => manifest.add(&path, *hash),
                None => unknown.push(path),
            }
        }
        Ok(unknown)
    }

    /// The copy is over: the manifest gets its name if it came to its end, the last event, the summary.
    pub(super) fn finish(mut self, receipt: &Receipt) -> anyhow::Result<()> {
        self.live = None;
        let mut ledger = std::mem::take(&mut *self.lock());
        let manifest = ledger.manifest.take().filter(|_| receipt.complete).map_or(Ok(()), Manifest::finish);
        if let Some(events) = &mut ledger.events {
            events.end(receipt);
        }
        if !self.options.quiet {
            out::say(&summary::render(receipt));
        }
        manifest?;
        match ledger.events.as_mut().and_then(Events::take_error) {
            Some(error) => Err(anyhow::anyhow!("standard output: {error}")),
            None => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }
}

/// Whoever panicked with it left nothing half done.
fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watcher for Show {
    fn progress(&mut self, progress: &Progress<'_>) {
        let at = self.since.elapsed();
        let reading = self.gauge.read(at, progress);
        self.moments += 1;
        if let Some(limit) = reading.limit {
            match self.limits.iter_mut().find(|(other, _)| *other == limit) {
                Some((_, moments)) => *moments += 1,
                None => self.limits.push((limit, 1)),
            }
        }
        if let Some(live) = &mut self.live {
            live.show(&reading, progress.under_way);
        } else if at >= self.line_at {
            self.line_at = at + LINE_EVERY;
            if !self.options.quiet && !self.options.json {
                out::say(&lines::plain(&reading));
            }
        }
        let is_due = at >= self.event_at;
        if is_due {
            self.event_at = at + EVENT_EVERY;
        }
        if let Some(events) = &mut self.lock().events {
            if is_due { events.progress(&reading) } else { events.flush() }
        }
    }

    fn observer(&mut self) -> Option<Box<dyn Observer>> {
        self.sessions += 1;
        self.gauge.begin_session();
        let is_wanted = self.options.json || self.options.manifest.is_some();
        is_wanted.then(|| Box::new(Note(self.ledger.clone())) as Box<dyn Observer>)
    }
}

/// Enters what is settled.
struct Note(Arc<Mutex<Ledger>>);

impl Observer for Note {
    fn settled(&mut self, entry: &Settled, settlement: &Settlement) {
        let mut ledger = lock(&self.0);
        if let Some(events) = &mut ledger.events {
            events.settled(entry, settlement);
        }
        if let (Some(first), Settlement::Done(_) | Settlement::Had, Some(_)) =
            (&entry.first_name, settlement, &ledger.manifest)
        {
            ledger.further.insert(entry.path.clone(), first.clone());
        }
        if entry.kind != Sort::File || ledger.manifest.is_none() {
            return;
        }
        match (settlement, &mut ledger.manifest) {
            (Settlement::Done(Some(hash)), Some(manifest)) => manifest.add(&entry.path, *hash),
            (Settlement::Done(None) | Settlement::Had, _) => {
                ledger.unhashed.push(Unhashed { path: entry.path.clone(), len: entry.len });
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::verify::hash_whole;

    fn options(manifest: Option<PathBuf>) -> ShowOptions {
        ShowOptions {
            quiet: true,
            json: false,
            manifest,
            is_tty: false,
            strips_top: true,
            is_push: true,
            setting: Setting::default(),
            run: [1; 16],
            command: Vec::new(),
            route: Route::default(),
        }
    }

    #[test]
    fn what_one_session_proves_the_next_need_not_hash() {
        let dir = tempfile::tempdir().unwrap();
        let mut show = Show::begin(options(Some(dir.path().join("sums")))).unwrap();
        let entry = |path: &str, kind| Settled { path: path.as_bytes().to_vec(), kind, len: 1, first_name: None };
        let (hash, had) = (hash_whole(b"x"), Settlement::Had);
        let mut first = show.observer().unwrap();
        first.settled(&entry("tree/a", Sort::File), &Settlement::Done(Some(hash)));
        first.settled(&entry("tree/b", Sort::File), &had);
        first.settled(&entry("tree", Sort::Folder), &Settlement::Done(None));
        let mut second = show.observer().unwrap();
        for (path, settlement) in [("tree/a", &had), ("tree/b", &had), ("tree/c", &Settlement::Done(None))] {
            second.settled(&entry(path, Sort::File), settlement);
        }
        let unhashed = show.unhashed().unwrap();
        let paths: Vec<&[u8]> = unhashed.iter().map(|file| file.path.as_slice()).collect();
        assert_eq!(paths, [b"tree/b", b"tree/c"]);
    }

    #[test]
    fn nobody_is_told_of_entries_whom_they_do_not_concern() {
        let mut show = Show::begin(options(None)).unwrap();
        assert!(show.observer().is_none() && show.unhashed().unwrap().is_empty());
        assert_eq!(show.bottleneck(&EndReport::default(), None), None);
    }
}
