//! Telling what happens to all who listen: one encoded event, shared by all.
//!
//! Whoever listens has a queue of `QUEUE_MAX` events. One who does not take them is dropped, not waited for: his
//! stream ends, and he comes back with the number of the last message that he has. Who is here and which folders
//! changed is told at most every `PAUSE`, however often it changes.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use http_body::{Body, Frame};
use serde::Serialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, mpsc};
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use super::gate::VisitorId;
use super::notice::Notice;
use super::path;
use super::room::{Message, Rejection, Room, Who};
use super::serve::Stop;
use super::slots::{one_less, share_of_address};
use super::state::Share;
use crate::store::confined::RelativePath;

/// Most event streams at a time.
pub const STREAMS_MAX: usize = 4096;
/// Most of one session.
pub const STREAMS_OF_SESSION_MAX: usize = 16;
/// Most of the programs at one address.
pub const STREAMS_OF_PROGRAMS_MAX: usize = 64;
/// Events that wait for one who does not take them.
const QUEUE_MAX: usize = 64;
/// People whom pages are told of by name.
const PEOPLE_SHOWN_MAX: usize = 200;
/// Most changed folders of one pause; what is more is told as a change of the top.
const FOLDERS_MAX: usize = 256;
/// The least time between two events of one kind that replace each other.
const PAUSE: Duration = Duration::from_millis(400);
/// How often there is a sign of life.
const BEAT: Duration = Duration::from_secs(15);
/// After which a page comes back, ms.
const RETRY_MS: u32 = 2000;

/// What somebody may hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hears {
    /// Messages, and who is here.
    pub chat: bool,
    /// What changes in the folder.
    pub changes: bool,
}

/// Why somebody is not listened to or told anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// He has too many pages open.
    #[error("Too many pages of this share are open here: close one.")]
    Own,
    /// All have.
    #[error("Too many people are here: try again later.")]
    All,
}

/// All who listen, and the room that they are in.
#[derive(Default)]
pub struct Hub {
    state: Mutex<State>,
    /// Somebody came, went or is called otherwise.
    people_changed: Notify,
}

#[derive(Default)]
struct State {
    room: Room<Bytes>,
    listeners: HashMap<u64, Listener>,
    next: u64,
    /// Open streams of each, those too that are not told anything any more.
    streams: HashMap<Owner, usize>,
    /// And from each address, however many sessions it has.
    from: HashMap<IpAddr, usize>,
    total: usize,
    is_over: bool,
}

struct Listener {
    queue: mpsc::Sender<Bytes>,
    hears: Hears,
}

/// Whose a stream is, for counting.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Owner {
    Session(u64),
    Programs(IpAddr),
}

impl Owner {
    fn of(who: &Who) -> (Owner, usize) {
        match who {
            Who::Session(number) => (Owner::Session(*number), STREAMS_OF_SESSION_MAX),
            Who::Program(from, _) => (Owner::Programs(*from), STREAMS_OF_PROGRAMS_MAX),
        }
    }
}

#[derive(Serialize)]
struct Person<'a> {
    id: String,
    nick: &'a str,
}

impl Hub {
    /// Somebody begins to listen; he has the messages up to `seen`.
    pub fn listen(
        self: &Arc<Self>,
        (who, from): (Who, IpAddr),
        nick: &str,
        hears: Hears,
        seen: u64,
    ) -> Result<Stream, Full> {
        let mut state = self.lock();
        let (owner, owned_max) = Owner::of(&who);
        if state.total >= STREAMS_MAX {
            return Err(Full::All);
        }
        let of_address = state.from.get(&from).copied().unwrap_or(0);
        let own = state.streams.get(&owner).copied().unwrap_or(0);
        if own >= owned_max || of_address >= share_of_address(STREAMS_MAX) {
            return Err(Full::Own);
        }
        let named = if hears.chat { Some(state.room.enter(&who, nick).ok_or(Full::All)?) } else { None };
        let nick = named.clone().unwrap_or_default();
        let hello = serde_json::json!({ "you": who.public(), "nick": nick, "n": state.room.last() });
        let mut first = VecDeque::from([format!("retry: {RETRY_MS}\n").into(), event("hello", None, &hello)]);
        if hears.chat {
            first.extend(state.room.since(seen));
            first.push_back(state.who());
            self.people_changed.notify_one();
        }
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        let number = state.next;
        state.next += 1;
        state.total += 1;
        *state.streams.entry(owner).or_default() += 1;
        *state.from.entry(from).or_default() += 1;
        match state.is_over {
            true => first.push_back(bye()),
            false => drop(state.listeners.insert(number, Listener { queue: sender, hears })),
        }
        Ok(Stream { first, queue, hub: self.clone(), number, person: named.map(|_| who.clone()), who, from })
    }

    /// Somebody says something; what was made of his name and text.
    pub fn say(&self, (who, from): (&Who, IpAddr), nick: &str, text: &str) -> Result<(String, String), Rejection> {
        let mut state = self.lock();
        let (message, is_renamed) = state.room.say((who, from), nick, text, Instant::now())?;
        let Message { number, from, nick, text } = message;
        let at = format!("{:.3}", jiff::Timestamp::now());
        let told = serde_json::json!({ "n": number, "at": at, "from": from, "nick": nick, "text": text });
        let encoded = event("chat", Some(number), &told);
        state.room.keep(number, encoded.clone());
        state.tell(&encoded, |hears| hears.chat);
        if is_renamed {
            self.people_changed.notify_one();
        }
        Ok((nick, text))
    }

    /// Streams that are open, those too that are not told anything any more.
    pub fn streams(&self) -> usize {
        self.lock().total
    }

    /// Whether somebody with a session listens.
    pub fn hears(&self, visitor: VisitorId) -> bool {
        self.lock().streams.contains_key(&Owner::Session(visitor.0))
    }

    /// The name that a visitor has in the room.
    pub fn nick_of(&self, visitor: VisitorId) -> Option<String> {
        self.lock().room.nick_of(visitor).map(str::to_string)
    }

    /// How many people are in the room.
    pub fn people(&self) -> usize {
        self.lock().room.people().len()
    }

    fn tell(&self, encoded: &Bytes, may_hear: impl Fn(Hears) -> bool) {
        self.lock().tell(encoded, may_hear);
    }

    fn end(&self) {
        let mut state = self.lock();
        state.is_over = true;
        state.tell(&bye(), |_| true);
        state.listeners.clear();
    }

    fn closed(&self, stream: &Stream) {
        let mut state = self.lock();
        state.listeners.remove(&stream.number);
        state.total -= 1;
        let (owner, _) = Owner::of(&stream.who);
        one_less(&mut state.streams, &owner);
        one_less(&mut state.from, &stream.from);
        if stream.person.as_ref().is_some_and(|who| state.room.leave(who)) {
            self.people_changed.notify_one();
        }
    }

    /// Whoever panicked with it left nothing half done that matters: a stream that is counted once too often.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whoever does not take what he is told is not told anything any more.
    fn tell(&mut self, encoded: &Bytes, may_hear: impl Fn(Hears) -> bool) {
        self.listeners
            .retain(|_, listener| !may_hear(listener.hears) || listener.queue.try_send(encoded.clone()).is_ok());
    }

    fn who(&self) -> Bytes {
        let people = self.room.people();
        let more = people.len().saturating_sub(PEOPLE_SHOWN_MAX);
        let people: Vec<_> = people.take(PEOPLE_SHOWN_MAX).map(|(id, nick)| Person { id, nick }).collect();
        event("who", None, &serde_json::json!({ "people": people, "more": more }))
    }
}

/// An event as it is sent.
fn event(name: &str, number: Option<u64>, data: &serde_json::Value) -> Bytes {
    let id = number.map_or(String::new(), |number| format!("id: {number}\n"));
    format!("{id}event: {name}\ndata: {data}\n\n").into()
}

fn bye() -> Bytes {
    event("bye", None, &serde_json::json!({ "why": "The share has ended." }))
}

/// Tell on what changes, until the share is to end.
///
/// The `notices` are subscribed to before anybody can come.
pub async fn tend(share: Arc<Share>, mut notices: Receiver<Notice>, stop: Stop) {
    let hub = &share.hub;
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let comment = Bytes::from_static(b": here\n\n");
    let mut folders = BTreeSet::<String>::new();
    let mut is_who_due = false;
    let mut due = None;
    loop {
        let pause = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.ended() => break,
            _ = beat.tick() => hub.tell(&comment, |_| true),
            () = hub.people_changed.notified() => is_who_due = true,
            notice = notices.recv() => match notice {
                Ok(Notice::Changed(folder)) => note(&mut folders, &folder),
                Ok(Notice::Scan { path, state }) => {
                    let told = serde_json::json!({ "href": path::encode(&path, false), "state": state });
                    hub.tell(&event("scan", None, &told), |hears| hears.changes);
                }
                // Something was missed: it may have been any that a page shows.
                Err(RecvError::Lagged(_)) => {
                    note(&mut folders, &RelativePath::root());
                    share.watching.folders().iter().for_each(|folder| note(&mut folders, folder));
                }
                Err(RecvError::Closed) => break,
            },
            () = pause => {
                due = None;
                if std::mem::take(&mut is_who_due) {
                    let mut state = hub.lock();
                    let who = state.who();
                    state.tell(&who, |hears| hears.chat);
                }
                // All at once: many would fill the queue of one who is a moment away.
                let told = std::mem::take(&mut folders).into_iter().map(|folder| serde_json::json!({ "folder": folder }));
                let told: Vec<u8> = told.flat_map(|told| event("changed", None, &told)).collect();
                if !told.is_empty() {
                    hub.tell(&told.into(), |hears| hears.changes);
                }
            }
        }
        if due.is_none() && (is_who_due || !folders.is_empty()) {
            due = Some(tokio::time::Instant::now() + PAUSE);
        }
    }
    hub.end();
}

fn note(folders: &mut BTreeSet<String>, folder: &RelativePath) {
    let folder = if folders.len() < FOLDERS_MAX { path::encode(folder, true) } else { String::new() };
    folders.insert(folder);
}

/// What one who listens is sent: the body of an answer.
pub struct Stream {
    first: VecDeque<Bytes>,
    queue: mpsc::Receiver<Bytes>,
    hub: Arc<Hub>,
    number: u64,
    who: Who,
    from: IpAddr,
    /// He is in the room by this stream.
    person: Option<Who>,
}

impl Body for Stream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::convert::Infallible>>> {
        if let Some(first) = self.first.pop_front() {
            if self.first.is_empty() {
                self.first = VecDeque::new();
            }
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        self.queue.poll_recv(cx).map(|next| next.map(|next| Ok(Frame::data(next))))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let hub = self.hub.clone();
        hub.closed(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const ALL: Hears = Hears { chat: true, changes: true };

    /// What the stream has at the moment; the second is whether it has ended.
    fn taken(stream: &mut Stream) -> (String, bool) {
        let mut text = String::new();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        loop {
            match Pin::new(&mut *stream).poll_frame(&mut cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    text.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
                }
                Poll::Ready(_) => return (text, true),
                Poll::Pending => return (text, false),
            }
        }
    }

    fn hub_of(people: u64) -> (Arc<Hub>, Vec<Stream>) {
        let hub = Arc::new(Hub::default());
        let streams = (1..=people).map(|n| hub.listen((Who::Session(n), ADDRESS), "", ALL, 0).unwrap()).collect();
        (hub, streams)
    }

    #[test]
    fn what_is_said_is_heard_once_by_all_in_the_room() {
        let (hub, mut streams) = hub_of(2);
        let deaf = Hears { chat: false, changes: true };
        let mut other = hub.listen((Who::Session(3), ADDRESS), "Spy", deaf, 0).unwrap();
        assert!(taken(&mut streams[0]).0.starts_with("retry: 2000\nevent: hello\ndata: {"));
        hub.say((&Who::Session(1), ADDRESS), "Ann\n", "a\n<b>").unwrap();
        for stream in &mut streams {
            let (text, is_over) = taken(stream);
            assert!(text.contains("id: 1\nevent: chat\ndata: {") && text.contains(r#""text":"a\n<b>""#) && !is_over);
            assert_eq!(text.matches("event: chat").count(), 1);
        }
        let (text, _) = taken(&mut other);
        assert!(text.contains("event: hello") && !text.contains("chat") && !text.contains("who"), "{text}");
        let mut late = hub.listen((Who::Session(4), ADDRESS), "", ALL, 0).unwrap();
        let (text, _) = taken(&mut late);
        assert!(text.contains("id: 1\n") && text.contains("event: hello\ndata: {\"n\":1,"), "{text}");
        let mut again = hub.listen((Who::Session(4), ADDRESS), "", ALL, 1).unwrap();
        assert!(!taken(&mut again).0.contains("id: 1\n"));
        assert_eq!((hub.streams(), hub.people()), (5, 3));
        drop((streams, other, late, again));
        assert_eq!((hub.streams(), hub.people()), (0, 0));
    }

    #[test]
    fn whoever_does_not_take_events_is_dropped_and_the_others_are_not() {
        let (hub, mut streams) = hub_of(2);
        for n in 0..3 * QUEUE_MAX {
            hub.tell(&event("changed", None, &n.into()), |_| true);
            assert!(!taken(&mut streams[0]).1, "{n}");
        }
        let (text, is_over) = taken(&mut streams[1]);
        assert!(is_over && text.matches("event: changed").count() == QUEUE_MAX);
        // He is counted until his connection is gone.
        assert_eq!(hub.streams(), 2);
    }

    #[test]
    fn streams_are_bounded_and_given_back() {
        let (hub, _streams) = hub_of(1);
        let listen_at = |who: Who, from: IpAddr| hub.listen((who, from), "", ALL, 0);
        let listen = |who: Who| listen_at(who, ADDRESS);
        let own: Vec<_> = (0..2000).map_while(|_| listen(Who::Session(1)).ok()).collect();
        assert_eq!(own.len() + 1, STREAMS_OF_SESSION_MAX);
        let programs: Vec<_> = (0..2000).map_while(|n| listen(Who::Program(ADDRESS, format!("{n}"))).ok()).collect();
        assert_eq!(programs.len(), STREAMS_OF_PROGRAMS_MAX);
        let others: Vec<_> = (2..9999).map_while(|n| listen(Who::Session(n)).ok()).collect();
        assert_eq!(own.len() + 1 + programs.len() + others.len(), share_of_address(STREAMS_MAX));
        assert_eq!(listen(Who::Session(9999)).err(), Some(Full::Own));
        let elsewhere = IpAddr::from([192, 0, 2, 2]);
        let more: Vec<_> = (9999..).map_while(|n| listen_at(Who::Session(n), elsewhere).ok()).collect();
        assert_eq!(hub.streams(), STREAMS_MAX);
        assert_eq!(listen_at(Who::Session(1), elsewhere).err(), Some(Full::All));
        drop((own, programs, others, more));
        assert_eq!(hub.lock().from.len(), 1);
        assert!(listen(Who::Session(1)).is_ok());
        let who = hub.lock().who();
        assert!(who.len() < 32 << 10);
    }

    #[test]
    fn in_the_end_everybody_is_told_and_nobody_stays() {
        let (hub, mut streams) = hub_of(2);
        hub.end();
        streams.push(hub.listen((Who::Session(3), ADDRESS), "", ALL, 0).unwrap());
        for stream in &mut streams {
            let (text, is_over) = taken(stream);
            assert!(text.ends_with("event: bye\ndata: {\"why\":\"The share has ended.\"}\n\n") && is_over);
        }
    }
}
