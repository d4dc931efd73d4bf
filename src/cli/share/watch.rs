//! What the owner of a share sees of it: told by requests, shown by a thread of its own, so that a terminal, a pipe or a
//! disk that does not take it keeps nobody waiting.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::json;

use super::events::Events;
use super::front::Front;
use super::lines::{self, Whole};
use super::live::{Gauge, Live};
use super::log::{AccessLog, Entry};
use super::show::Shown;
use crate::cli::out;
use crate::share::activity::{Event, Observer, Transfer};
use crate::share::state::Share;

/// What may wait to be shown; what is more is counted, and told of as left out.
const WAITING_MAX: usize = 16 << 10;
/// How often is looked how it goes.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often there is an event of progress.
const EVENT_EVERY: Duration = Duration::from_secs(1);
/// How often there is a line of the whole where there is no terminal, while something is moved.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Lines about happenings in a second: what is more is counted.
const LINES_PER_S: u32 = 30;
/// How long the end waits until all is shown: a terminal that is stopped, or a log on a disk that hangs, shows nothing.
const END_MAX: Duration = Duration::from_secs(10);

/// What is to be seen.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct WatchArgs {
    /// Append one line for each request to this file, as web servers do; never with the link's token.
    #[arg(long, value_name = "FILE")]
    access_log: Option<PathBuf>,
    /// Print what happens as lines of JSON on standard output.
    #[arg(long)]
    pub(super) json: bool,
    /// Show nothing but the link, what failed, and the warning of --http.
    #[arg(long, short)]
    quiet: bool,
}

impl WatchArgs {
    /// Whether there is a live view, below the links.
    pub(super) fn is_live(&self) -> bool {
        !self.quiet && !self.json && std::io::stderr().is_terminal()
    }
}

enum Told {
    Happened(jiff::Timestamp, Event),
    Shared(Arc<Share>, Shown),
    Ending {
        running: usize,
        grace: Duration,
    },
    /// Something that is worth a line.
    Line(String),
    /// This machine has other addresses.
    Moved,
    /// The interface that was named has none of its addresses any more, or has them again.
    Lost(bool),
}

/// For whoever tells.
#[derive(Clone)]
struct Teller {
    waiting: SyncSender<Told>,
    lost: Arc<AtomicU64>,
    wants_requests: bool,
}

impl Teller {
    fn tell(&self, told: Told) {
        if self.waiting.try_send(told).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Observer for Teller {
    fn see(&self, event: &Event) {
        if self.wants_requests || !matches!(event, Event::Request { .. }) {
            self.tell(Told::Happened(jiff::Timestamp::now(), event.clone()));
        }
    }
}

/// The owner's view, until it is finished.
pub(super) struct Watch {
    teller: Teller,
    ends: Arc<AtomicBool>,
    is_over: Receiver<anyhow::Result<()>>,
}

/// Tells the view, from any thread.
#[derive(Clone)]
pub(super) struct Sayer(Teller);

impl Sayer {
    /// The share is to end: so many transfers run, and have so long to finish.
    pub(super) fn ending(&self, running: usize, grace: Duration) {
        self.0.tell(Told::Ending { running, grace });
    }

    /// Something for the owner.
    pub(super) fn say(&self, line: String) {
        self.0.tell(Told::Line(line));
    }

    /// The share has other addresses.
    pub(super) fn moved(&self) {
        self.0.tell(Told::Moved);
    }

    /// Its interface has lost its addresses, or has them again.
    pub(super) fn lost(&self, is_lost: bool) {
        self.0.tell(Told::Lost(is_lost));
    }
}

impl Watch {
    /// Begin to look. A log that cannot be written is an error at once.
    pub(super) fn begin(args: &WatchArgs) -> anyhow::Result<Watch> {
        let log = args.access_log.as_deref().map(AccessLog::open).transpose()?;
        let (waiting, told) = sync_channel(WAITING_MAX);
        let (over, is_over) = sync_channel(1);
        let lost = Arc::<AtomicU64>::default();
        let teller = Teller { waiting, lost: lost.clone(), wants_requests: log.is_some() };
        let ends = Arc::<AtomicBool>::default();
        let view = View {
            live: args.is_live().then(Live::new),
            events: args.json.then(|| Events::new(Box::new(std::io::stdout()))),
            is_quiet: args.quiet || args.json,
            log,
            share: None,
            front: None,
            lost,
            since: Instant::now(),
            gauge: Gauge::new(Instant::now(), 0),
            visitors: 0,
            transfers: 0,
            arrived: (0, 0),
            budget: Budget::new(Instant::now()),
            due: Due::default(),
        };
        let ended = ends.clone();
        let look = move || drop(over.try_send(view.look(&told, &ended)));
        std::thread::Builder::new().name("view".to_string()).spawn(look).context("a thread cannot be started")?;
        Ok(Watch { teller, ends, is_over })
    }

    /// What requests tell.
    pub(super) fn observer(&self) -> Box<dyn Observer> {
        Box::new(self.teller.clone())
    }

    /// For whoever has something to say later.
    pub(super) fn sayer(&self) -> Sayer {
        Sayer(self.teller.clone())
    }

    /// This is what is shared.
    pub(super) fn show(&self, share: &Arc<Share>, shown: Shown) {
        self.teller.tell(Told::Shared(share.clone(), shown));
    }

    /// It is over: the last lines, and the log on the disk. A terminal that takes nothing is not waited for.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        self.ends.store(true, Ordering::Release);
        self.is_over.recv_timeout(END_MAX).unwrap_or(Ok(()))
    }
}

/// So many lines a second.
struct Budget {
    since: Instant,
    used: u32,
    left_out: u64,
}

impl Budget {
    fn new(since: Instant) -> Budget {
        Budget { since, used: 0, left_out: 0 }
    }

    /// Whether there may be one more; the second is how many were left out before it.
    fn take(&mut self, now: Instant) -> (bool, u64) {
        let is_new = now.saturating_duration_since(self.since) >= Duration::from_secs(1);
        if is_new {
            (self.since, self.used) = (now, 0);
        }
        self.used += 1;
        if self.used > LINES_PER_S {
            self.left_out += 1;
            return (false, 0);
        }
        (true, if is_new { std::mem::take(&mut self.left_out) } else { 0 })
    }
}

#[derive(Default)]
struct Due {
    event: Option<Instant>,
    line: Option<Instant>,
    /// Sent and received when it was told last.
    told: (u64, u64),
}

struct View {
    live: Option<Live>,
    events: Option<Events>,
    is_quiet: bool,
    log: Option<AccessLog>,
    share: Option<Arc<Share>>,
    front: Option<Front>,
    lost: Arc<AtomicU64>,
    since: Instant,
    gauge: Gauge,
    visitors: u64,
    transfers: u64,
    /// Files that came in, and their bytes.
    arrived: (u64, u64),
    budget: Budget,
    due: Due,
}

impl View {
    /// Until the end.
    fn look(mut self, told: &Receiver<Told>, ends: &AtomicBool) -> anyhow::Result<()> {
        let mut look_at = Instant::now() + LOOK_EVERY;
        loop {
            match told.recv_timeout(look_at.saturating_duration_since(Instant::now())) {
                Ok(told) => self.take(told),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.end(),
            }
            if Instant::now() < look_at {
                continue;
            }
            look_at = Instant::now() + LOOK_EVERY;
            self.refresh();
            if ends.load(Ordering::Acquire) {
                loop {
                    match told.try_recv() {
                        Ok(told) => self.take(told),
                        Err(TryRecvError::Empty | TryRecvError::Disconnected) => return self.end(),
                    }
                }
            }
        }
    }

    fn take(&mut self, told: Told) {
        match told {
            Told::Happened(at, event) => self.happened(at, &event),
            Told::Shared(share, shown) => {
                if let Some(events) = &mut self.events {
                    let (about, links) = (&share.about, share.about.links(&share.token));
                    let told = json!({
                        "version": env!("CARGO_PKG_VERSION"), "title": about.title, "links": links,
                    });
                    events.add(jiff::Timestamp::now(), "share", told);
                }
                self.front = Some(Front::new(share.clone(), shown));
                self.share = Some(share);
            }
            Told::Line(line) if !self.is_quiet => self.say(&line),
            Told::Line(_) => {}
            Told::Moved => self.moved(),
            Told::Lost(true) => self.say(
                "linerate: the interface has lost the addresses that are listened on: end this and start it again if \
                 it does not get them back",
            ),
            Told::Lost(false) => self.say("linerate: the interface has its addresses again"),
            Told::Ending { running, grace } => {
                if running > 0 && !self.is_quiet {
                    self.say(&lines::ending(running, grace));
                }
            }
        }
    }

    fn happened(&mut self, at: jiff::Timestamp, event: &Event) {
        match event {
            Event::Request { from, visitor, line, status, bytes } => {
                if let Some(log) = &mut self.log {
                    log.add(&Entry { at, from: *from, visitor: *visitor, line, status: *status, bytes: *bytes });
                }
                return;
            }
            Event::Entered { .. } => self.visitors += 1,
            Event::Ended(..) => self.transfers += 1,
            Event::Arrived { bytes, .. } => {
                self.arrived.0 += 1;
                self.arrived.1 += bytes;
            }
            _ => {}
        }
        if let Some(events) = &mut self.events {
            events.tell(at, event);
        }
        // Of what fails a quiet one is told, unless he has it as an event.
        if self.is_quiet && (self.events.is_some() || !matches!(event, Event::Trouble { .. })) {
            return;
        }
        let Some(line) = lines::event(event, |transfer| self.nick_of(transfer)) else { return };
        let (may, left_out) = self.budget.take(Instant::now());
        if left_out > 0 {
            self.say(&format!("… and {left_out} more"));
        }
        if may {
            self.say(&line);
        }
    }

    /// This machine has other addresses, and the share with it.
    fn moved(&mut self) {
        let (Some(share), Some(front)) = (&self.share, &mut self.front) else { return };
        let links = share.about.links(&share.token);
        if let Some(events) = &mut self.events {
            return events.add(jiff::Timestamp::now(), "address", json!({ "links": links }));
        }
        let told = front.moved();
        if self.is_quiet {
            return;
        }
        told.iter().for_each(|line| self.say(line));
    }

    /// How it is now.
    fn refresh(&mut self) {
        if let Some(log) = &mut self.log {
            log.flush();
        }
        let Some(share) = self.share.clone() else { return };
        if let (Some(live), Some(front)) = (&self.live, &mut self.front)
            && let Some(anew) = front.resized(Instant::now())
        {
            live.say(&anew);
        }
        let (now, running) = (Instant::now(), share.activity.running());
        let whole = self.whole(&share, running.len(), now);
        if let Some(live) = &mut self.live {
            live.show(&whole, &running, |transfer| share.hub.nick_of(transfer.visitor));
        }
        let totals = (whole.sent, whole.received);
        let is_moving = !running.is_empty() || totals != self.due.told;
        let is_due = |at: Option<Instant>| at.is_none_or(|at| now >= at);
        if is_moving && self.events.is_some() && is_due(self.due.event) {
            self.due.event = Some(now + EVENT_EVERY);
            self.due.told = totals;
            if let Some(events) = &mut self.events {
                events.progress(&whole);
            }
        }
        if !running.is_empty() && !self.is_quiet && self.live.is_none() && is_due(self.due.line) {
            // The first after a while of nothing: a short transfer has its own line.
            if self.due.line.is_some_and(|at| now < at + LINE_EVERY) {
                out::say(&lines::whole(&whole));
            }
            self.due.line = Some(now + LINE_EVERY);
        }
        self.tell_lost();
    }

    fn whole(&mut self, share: &Share, running: usize, now: Instant) -> Whole {
        let (sent, received) = share.activity.totals();
        let bytes_per_s = self.gauge.read(now, sent + received);
        Whole { people: share.hub.people(), running, bytes_per_s, sent, received }
    }

    fn tell_lost(&mut self) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost == 0 {
            return;
        }
        if let Some(events) = &mut self.events {
            events.add(jiff::Timestamp::now(), "lost", json!({ "events": lost }));
        }
        self.say(&format!("linerate: too much happened at once: {lost} events are neither shown nor logged"));
    }

    fn nick_of(&self, transfer: &Transfer) -> Option<String> {
        self.share.as_ref()?.hub.nick_of(transfer.visitor)
    }

    fn say(&self, line: &str) {
        match &self.live {
            Some(live) => live.say(line),
            None => out::say(line),
        }
    }

    fn end(mut self) -> anyhow::Result<()> {
        if let Some(log) = &mut self.log {
            log.flush();
        }
        self.tell_lost();
        self.live = None;
        let totals = self.share.as_ref().map_or((0, 0), |share| share.activity.totals());
        let took = self.since.elapsed();
        if !self.is_quiet {
            out::say(&lines::summary(totals, (self.visitors, self.transfers), took));
            let folder = self.front.as_ref().and_then(Front::folder);
            if let (1.., Some(folder)) = (self.arrived.0, folder) {
                out::say(&lines::arrived(self.arrived, folder));
            }
        }
        let Some(events) = &mut self.events else { return Ok(()) };
        let told = json!({
            "sent": totals.0, "received": totals.1, "visitors": self.visitors, "transfers": self.transfers,
            "seconds": took.as_secs_f64(),
        });
        events.add(jiff::Timestamp::now(), "end", told);
        events.take_error().map_or(Ok(()), |error| Err(anyhow::anyhow!("standard output: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_and_what_is_left_out_is_counted() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        let shown = (0..1000).filter(|_| budget.take(start).0).count();
        assert_eq!(shown, LINES_PER_S as usize);
        assert_eq!(budget.take(start + Duration::from_secs(1)), (true, 1000 - u64::from(LINES_PER_S)));
        assert_eq!(budget.take(start + Duration::from_secs(1)), (true, 0));
    }
}
