//! The room of a share: who is here, under which name, and what was said last.
//!
//! A state machine without clock or socket: it is given `now`. Everything that visitors write is cleaned here, once, of
//! what acts on the text around it; markup is left as it is, since nobody shows it as anything but text.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::gate::VisitorId;
use crate::text::is_unsafe;

/// Messages that are kept.
pub const MESSAGES_MAX: usize = 500;
/// Longest message, characters.
pub const TEXT_CHARS_MAX: usize = 2000;
/// Longest name, characters. What is longer is cut.
pub const NICK_CHARS_MAX: usize = 40;
/// Most people who are known to be here.
pub const PEOPLE_MAX: usize = 4096;
/// Most senders whose messages are counted.
const SENDERS_MAX: usize = 8192;

/// So many messages may come at once, and then one more each time.
#[derive(Clone, Copy, Debug)]
struct Pace {
    burst: u32,
    each: Duration,
}

/// Of one visitor.
const OF_VISITOR: Pace = Pace { burst: 10, each: Duration::from_secs(1) };
/// Of one address, whoever is behind it.
const OF_ADDRESS: Pace = Pace { burst: 40, each: Duration::from_millis(250) };
/// Of all together.
const OF_ALL: Pace = Pace { burst: 100, each: Duration::from_millis(50) };

/// Whoever speaks or listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Who {
    /// Somebody with a session.
    Session(VisitorNumber),
    /// A program that shows the token: known by its address and the name it gives itself.
    Program(IpAddr, String),
}

/// The number of a session's visitor.
pub type VisitorNumber = u64;

impl Who {
    /// Of a request.
    pub fn new(visitor: VisitorId, from: IpAddr, nick: &str) -> Who {
        match visitor.0 {
            0 => Who::Program(from, clean_nick(nick)),
            session => Who::Session(session),
        }
    }

    /// What others know him by; it says nothing and opens nothing.
    pub fn public(&self) -> String {
        match self {
            Who::Session(number) => format!("v{number}"),
            Who::Program(from, nick) => {
                let hash = blake3::hash(format!("{from} {nick}").as_bytes());
                format!("p{}", &hash.to_hex()[..12])
            }
        }
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Counts up from 1.
    pub number: u64,
    /// Whose, [`Who::public`].
    pub from: String,
    /// Under this name.
    pub nick: String,
    /// Cleaned.
    pub text: String,
}

/// Why a message is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// There is nothing in it.
    #[error("Write something first.")]
    Empty,
    /// It is too long.
    #[error("A message has at most {TEXT_CHARS_MAX} characters.")]
    Long,
    /// There were too many; wait so long.
    #[error("Too many messages: wait a moment.")]
    Flood(Duration),
}

#[derive(Debug)]
struct Person {
    nick: String,
    streams: u32,
}

/// When the next message would be taken: a bucket that leaks.
#[derive(Clone, Copy, Debug)]
struct Bucket(Instant);

impl Bucket {
    /// How long to wait for room for one more.
    fn wait(self, pace: Pace, now: Instant) -> Duration {
        let room = pace.each * (pace.burst - 1);
        self.0.saturating_duration_since(now).saturating_sub(room)
    }

    fn take(self, pace: Pace, now: Instant) -> Bucket {
        Bucket(self.0.max(now) + pace.each)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Sender {
    Visitor(VisitorNumber),
    Address(IpAddr),
}

/// A room; `T` is what is kept of a message.
#[derive(Debug)]
pub struct Room<T> {
    people: BTreeMap<Who, Person>,
    /// Their names, in small letters.
    nicks: HashSet<String>,
    kept: VecDeque<(u64, T)>,
    next: u64,
    senders: HashMap<Sender, Bucket>,
    all: Option<Bucket>,
}

impl<T> Default for Room<T> {
    fn default() -> Room<T> {
        let (people, nicks, kept, senders) = Default::default();
        Room { people, nicks, kept, next: 1, senders, all: None }
    }
}

impl<T: Clone> Room<T> {
    /// Somebody comes, or opens one more page. Gives back the name under which he is known here; nothing when the room
    /// is full.
    pub fn enter(&mut self, who: &Who, nick: &str) -> Option<String> {
        if self.people.len() >= PEOPLE_MAX && !self.people.contains_key(who) {
            return None;
        }
        let nick = self.nick_for(who, nick);
        self.people.entry(who.clone()).or_insert(Person { nick: String::new(), streams: 0 }).streams += 1;
        self.rename(who, &nick);
        Some(nick)
    }

    /// He closes a page. True if he is gone with it.
    pub fn leave(&mut self, who: &Who) -> bool {
        let Some(person) = self.people.get_mut(who) else { return false };
        person.streams = person.streams.saturating_sub(1);
        let is_gone = person.streams == 0;
        if is_gone {
            self.nicks.remove(&person.nick.to_lowercase());
            self.people.remove(who);
        }
        is_gone
    }

    /// Somebody says something, from an address. Gives back the message, which is to be given to [`keep`](Self::keep),
    /// and whether somebody here is called otherwise than before.
    pub fn say(
        &mut self,
        (who, from): (&Who, IpAddr),
        nick: &str,
        text: &str,
        now: Instant,
    ) -> Result<(Message, bool), Rejection> {
        if text.chars().count() > TEXT_CHARS_MAX {
            return Err(Rejection::Long);
        }
        let text = clean_text(text);
        if text.is_empty() {
            return Err(Rejection::Empty);
        }
        self.count(who, from, now)?;
        let nick = self.nick_for(who, nick);
        let is_renamed = self.rename(who, &nick);
        let number = self.next;
        self.next += 1;
        Ok((Message { number, from: who.public(), nick, text }, is_renamed))
    }

    /// Keep what was made of a message.
    pub fn keep(&mut self, number: u64, made: T) {
        if self.kept.len() >= MESSAGES_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back((number, made));
    }

    /// The number of the last message; zero before the first.
    pub fn last(&self) -> u64 {
        self.next - 1
    }

    /// What is kept of those after a message. A number that was never given is from another share: then all.
    pub fn since(&self, number: u64) -> VecDeque<T> {
        let after = if number >= self.next { 0 } else { number };
        self.kept.iter().filter(|(number, _)| *number > after).map(|(_, made)| made.clone()).collect()
    }

    /// Who is here: [`Who::public`] and name.
    pub fn people(&self) -> impl ExactSizeIterator<Item = (String, &str)> {
        self.people.iter().map(|(who, person)| (who.public(), person.nick.as_str()))
    }

    /// The name of a visitor who is here.
    pub fn nick_of(&self, visitor: VisitorId) -> Option<&str> {
        self.people.get(&Who::Session(visitor.0)).map(|person| person.nick.as_str())
    }

    /// Somebody who is here is called so from now on. True if that is new.
    fn rename(&mut self, who: &Who, nick: &str) -> bool {
        let Some(person) = self.people.get_mut(who).filter(|person| person.nick != nick) else { return false };
        self.nicks.remove(&person.nick.to_lowercase());
        self.nicks.insert(nick.to_lowercase());
        person.nick = nick.to_string();
        true
    }

    /// A clean name that nobody else here has.
    fn nick_for(&self, who: &Who, wanted: &str) -> String {
        let mut wanted = clean_nick(wanted);
        if wanted.is_empty() {
            // Whoever does not say his name again keeps it.
            if let Some(person) = self.people.get(who) {
                return person.nick.clone();
            }
            wanted = match who {
                Who::Session(number) => format!("guest {number}"),
                Who::Program(..) => "guest".to_string(),
            };
        }
        let own = self.people.get(who).map(|person| person.nick.to_lowercase());
        let is_taken = |nick: &str| {
            let folded = nick.to_lowercase();
            Some(&folded) != own.as_ref() && self.nicks.contains(&folded)
        };
        let numbered = (2..).map(|n: u64| {
            let number = format!(" {n}");
            let room = NICK_CHARS_MAX - number.len();
            wanted.chars().take(room).collect::<String>() + &number
        });
        std::iter::once(wanted.clone()).chain(numbered.take(PEOPLE_MAX)).find(|nick| !is_taken(nick)).unwrap_or(wanted)
    }

    fn count(&mut self, who: &Who, from: IpAddr, now: Instant) -> Result<(), Rejection> {
        let visitor = match who {
            Who::Session(number) => Some((Sender::Visitor(*number), OF_VISITOR)),
            // By his address only: a name is quickly changed.
            Who::Program(..) => None,
        };
        let of_address = if visitor.is_some() { OF_ADDRESS } else { OF_VISITOR };
        let counted: Vec<_> = visitor.into_iter().chain([(Sender::Address(from), of_address)]).collect();
        let waits = counted.iter().map(|(sender, pace)| self.senders.get(sender).map(|bucket| bucket.wait(*pace, now)));
        let wait = waits.flatten().chain(self.all.map(|bucket| bucket.wait(OF_ALL, now))).max().unwrap_or_default();
        if !wait.is_zero() {
            return Err(Rejection::Flood(wait));
        }
        if self.senders.len() + counted.len() > SENDERS_MAX {
            self.senders.retain(|_, bucket| bucket.0 > now);
        }
        for (sender, pace) in counted {
            let bucket = self.senders.entry(sender).or_insert(Bucket(now));
            *bucket = bucket.take(pace, now);
        }
        self.all = Some(self.all.unwrap_or(Bucket(now)).take(OF_ALL, now));
        Ok(())
    }
}

/// A name: one line without what acts on text or cannot be seen, spaces made one, cut.
pub fn clean_nick(nick: &str) -> String {
    let visible = nick.chars().take(NICK_CHARS_MAX * 8).map(|c| if c.is_whitespace() { ' ' } else { c });
    let visible: String = visible.filter(|c| !is_unsafe(*c)).collect();
    let words: Vec<&str> = visible.split(' ').filter(|word| !word.is_empty()).collect();
    let cut: String = words.join(" ").chars().take(NICK_CHARS_MAX).collect();
    cut.trim_end().to_string()
}

/// A text: lines are kept, so is what joins letters and emoji; what acts on a terminal or turns text around is not.
pub fn clean_text(text: &str) -> String {
    let is_kept = |c: &char| !is_unsafe(*c) || matches!(*c, '\n' | '\u{200c}' | '\u{200d}');
    let lines = text.replace("\r\n", "\n").replace(['\u{2028}', '\u{2029}', '\r'], "\n").replace('\t', " ");
    lines.chars().filter(is_kept).collect::<String>().trim().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn who(n: u64) -> Who {
        Who::Session(n)
    }

    #[test]
    fn names_are_clean_short_and_told_apart() {
        let mut room = Room::<u8>::default();
        assert_eq!(room.enter(&who(1), "Ann").unwrap(), "Ann");
        assert_eq!(room.enter(&who(2), " aNN\u{202e}\n").unwrap(), "aNN 2");
        assert_eq!(room.enter(&who(3), "\u{1b}\u{200b}  ").unwrap(), "guest 3");
        assert_eq!(room.enter(&who(1), "Ann").unwrap(), "Ann");
        let long = room.enter(&who(4), &"n".repeat(10_000)).unwrap();
        assert_eq!(long.chars().count(), NICK_CHARS_MAX);
        let other = room.enter(&who(5), &"n".repeat(10_000)).unwrap();
        assert!(other != long && other.chars().count() <= NICK_CHARS_MAX);
        assert_eq!(clean_nick("<b>x</b> &amp;\u{7}\t y"), "<b>x</b> &amp; y");
        assert_eq!(room.people().len(), 5);
        assert!(!room.leave(&who(1)) && room.leave(&who(1)) && !room.leave(&who(1)));
        assert_eq!(room.people().len(), 4);
    }

    #[test]
    fn texts_lose_what_acts_on_them_and_keep_the_rest() {
        assert_eq!(clean_text("a\r\nb\u{2028}c\u{202e}d\u{1b}[2J\0"), "a\nb\ncd[2J");
        assert_eq!(clean_text("<script>alert(1)</script>"), "<script>alert(1)</script>");
        assert_eq!(clean_text("👨\u{200d}👩 \u{7}"), "👨\u{200d}👩");
        let mut room = Room::<u8>::default();
        let mut say = |text: &str| room.say((&who(1), ADDRESS), "Ann", text, Instant::now()).map(|said| said.0.number);
        assert_eq!(say(" \u{200b}\n"), Err(Rejection::Empty));
        assert_eq!(say(&"x".repeat(TEXT_CHARS_MAX + 1)), Err(Rejection::Long));
        assert_eq!(say(&"ü".repeat(TEXT_CHARS_MAX)), Ok(1));
    }

    #[test]
    fn a_flood_is_stopped_and_ends() {
        let mut room = Room::<u8>::default();
        let now = Instant::now();
        for n in 0..OF_VISITOR.burst {
            assert!(room.say((&who(1), ADDRESS), "Ann", "x", now).is_ok(), "{n}");
        }
        let flood = Err(Rejection::Flood(OF_VISITOR.each));
        assert_eq!(room.say((&who(1), ADDRESS), "Ann", "x", now), flood);
        assert!(room.say((&who(2), ADDRESS), "Bob", "x", now).is_ok());
        assert!(room.say((&who(1), ADDRESS), "Ann", "x", now + OF_VISITOR.each).is_ok());
        // New sessions from one address help only so far, and new addresses neither.
        let taken = |room: &mut Room<u8>, from: fn(u64) -> IpAddr| {
            (10..1000).filter(|n| room.say((&who(*n), from(*n)), "", "x", now).is_ok()).count()
        };
        assert!(taken(&mut room, |_| ADDRESS) < OF_ADDRESS.burst as usize);
        assert!(taken(&mut room, |n| IpAddr::from((n as u32).to_be_bytes())) < OF_ALL.burst as usize);
        // A program is counted by its address, however it calls itself.
        let later = now + Duration::from_secs(3600);
        let program = |n: u64| Who::new(VisitorId(0), ADDRESS, &n.to_string());
        let said = (0..100).filter(|n| room.say((&program(*n), ADDRESS), "", "x", later).is_ok()).count();
        assert_eq!(said, OF_VISITOR.burst as usize);
    }

    #[test]
    fn the_last_messages_are_kept_and_asked_for_by_number() {
        let mut room = Room::default();
        let mut now = Instant::now();
        for n in 1..=600_u64 {
            now += Duration::from_secs(60);
            let (message, _) = room.say((&who(1), ADDRESS), "Ann", &n.to_string(), now).unwrap();
            assert_eq!(message.number, n);
            room.keep(n, message.text);
        }
        assert_eq!(room.since(0).len(), MESSAGES_MAX);
        assert_eq!(room.since(0)[0], "101");
        assert_eq!(room.since(598), ["599", "600"]);
        assert!(room.since(600).is_empty());
        assert_eq!(room.since(601).len(), MESSAGES_MAX);
        assert_eq!(room.since(u64::MAX).len(), MESSAGES_MAX);
    }

    #[test]
    fn who_says_it_under_a_new_name_is_renamed() {
        let mut room = Room::<u8>::default();
        room.enter(&who(1), "Ann");
        let mut say = |nick: &str| room.say((&who(1), ADDRESS), nick, "x", Instant::now()).unwrap();
        assert!(!say("Ann").1);
        let (message, is_renamed) = say("Anna");
        assert!(is_renamed && message.nick == "Anna");
        assert_eq!(say("").0.nick, "Anna");
        assert_eq!(room.nick_of(VisitorId(1)), Some("Anna"));
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(64))]

        #[test]
        fn whatever_is_said_is_bounded_and_acts_on_nothing_around_it(nick: String, text in "(\\PC|[\u{0}-\u{20}]|\u{202e}|\u{200b}){0,100}") {
            let (mut room, now) = (Room::<u8>::default(), Instant::now());
            let name = room.enter(&who(1), &nick).unwrap();
            proptest::prop_assert!(!name.trim().is_empty() && name.chars().count() <= NICK_CHARS_MAX + 6, "{:?}", name);
            proptest::prop_assert!(!name.chars().any(is_unsafe), "{:?}", name);
            let from = IpAddr::from([127, 0, 0, 1]);
            match room.say((&who(1), from), &nick, &text, now) {
                Ok((said, _)) => {
                    proptest::prop_assert!((1..=TEXT_CHARS_MAX).contains(&said.text.chars().count()));
                    proptest::prop_assert!(!said.text.chars().any(|c| is_unsafe(c) && !"\n\u{200c}\u{200d}".contains(c)), "{:?}", said.text);
                }
                Err(rejection) => proptest::prop_assert!(matches!(rejection, Rejection::Empty | Rejection::Long)),
            }
        }
    }
}
