//! Which uploads are under way: whose they are, how far, who writes, and until when. Also how much may come at all.
//!
//! A table without clock, file or socket: it is given `now`, and keeps for each upload something of its caller's, such
//! as the partial file. Whoever writes an upload takes that something out, so there is one writer at a time by
//! construction; what he gives back says how far it came.
//!
//! # Whose an upload is
//! Whoever goes on with an upload, asks for it or ends it has to be let in, to know its number, and to be its owner:
//!
//! - What was begun in a **session** (a browser's cookie) is that session's. Its number is of no use to another.
//! - What was begun by a **program** that shows the token belongs to whoever has its number, and the token. Programs
//!   have no session: `linerate put` that goes on with what an earlier run left, perhaps from another address after
//!   the network changed, is another connection with the same two secrets. The number is 128 random bits, is told to
//!   nobody but in the answer to whoever began it, and is not guessed; the name of the partial file does not tell it
//!   ([`UploadId::file_name`]), nor does anything else that visitors see. A session is not such a program: it cannot
//!   go on with what one began even if it has the number.
//!
//! What one may have is counted by session, for programs by address, and for all of an address together.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::gate::VisitorId;
use super::slots::{Who, share_of_address};

/// Bytes of an upload's number.
pub const ID_BYTES: usize = 16;
/// Most uploads at a time that are not complete, and of one visitor.
pub const UPLOADS_MAX: usize = 4096;
/// Most of one visitor.
pub const UPLOADS_OF_VISITOR_MAX: usize = 1024;
/// Complete ones that are remembered for whoever did not get the answer, besides.
pub const COMPLETE_MAX: usize = 4096;
/// An upload that nobody went on with for so long is over.
pub const IDLE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Most files and folders that come while a share runs.
pub const ENTRIES_MAX: u64 = 1 << 20;
/// A complete one is remembered for so long.
pub const COMPLETE_KEPT: Duration = Duration::from_secs(3600);

/// 128 bits that name an upload; issued here, and guessed by nobody.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct UploadId([u8; ID_BYTES]);

impl UploadId {
    /// A new one.
    pub fn draw() -> Result<UploadId, getrandom::Error> {
        let mut bytes = [0; ID_BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(UploadId(bytes))
    }

    /// As it stands in a URL: 32 hexadecimal digits.
    pub fn encode(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What its file is called while it comes, after a prefix: as long and as unique, but whoever lists the folder on
    /// this machine does not learn the number.
    pub fn file_name(&self) -> String {
        blake3::hash(&self.0).to_hex()[..2 * ID_BYTES].to_string()
    }

    /// Read such text; nothing if it is none.
    pub fn decode(text: &str) -> Option<UploadId> {
        let is_plain = text.len() == 2 * ID_BYTES && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        let number = u128::from_str_radix(text, 16).ok().filter(|_| is_plain)?;
        Some(UploadId(number.to_be_bytes()))
    }
}

impl std::fmt::Debug for UploadId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UploadId(…)")
    }
}

/// Why an upload is not begun, or not gone on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UploadRefusal {
    /// There are too many.
    #[error("too many uploads are under way: end some of them first")]
    TooMany,
    /// There is none of that number, or it is somebody else's, or it has expired.
    #[error("there is no such upload, or it has expired")]
    Unknown,
    /// Another request writes it.
    #[error("another request writes this upload")]
    Busy,
    /// It stands elsewhere.
    #[error("the upload stands at byte {0}")]
    Offset(u64),
    /// It would be longer than was said.
    #[error("that is more than the upload was said to be")]
    TooLong,
}

/// How far an upload is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress<D> {
    /// Bytes that are there.
    pub offset: u64,
    /// Bytes that it will have.
    pub len: u64,
    /// After that it is over, if nobody goes on with it.
    pub expires: Instant,
    /// What became of it, once it is complete.
    pub done: Option<D>,
}

#[derive(Debug)]
enum State<P, D> {
    Idle(P),
    /// Somebody has taken it out; whether it is to be dropped when it comes back.
    Taken(bool),
    Done(D),
}

#[derive(Debug)]
struct Entry<P, D> {
    owner: Who,
    offset: u64,
    len: u64,
    expires: Instant,
    state: State<P, D>,
}

/// The uploads of a share. `P` is what is kept while one is under way, `D` what is remembered of a complete one.
#[derive(Debug)]
pub struct Uploads<P, D> {
    entries: HashMap<UploadId, Entry<P, D>>,
}

impl<P, D> Default for Uploads<P, D> {
    fn default() -> Self {
        Uploads { entries: HashMap::new() }
    }
}

impl<P, D: Clone> Uploads<P, D> {
    /// Whether one more may begin.
    pub fn check_room(&self, owner: Who) -> Result<(), UploadRefusal> {
        let (mut all, mut of_owner, mut of_address) = (0, 0, 0);
        for entry in self.entries.values().filter(|entry| !matches!(entry.state, State::Done(_))) {
            let is_from_there = entry.owner.1 == owner.1;
            let is_his = entry.owner.0 == owner.0 && (owner.0 != VisitorId::PROGRAM || is_from_there);
            all += 1;
            of_owner += usize::from(is_his);
            of_address += usize::from(is_from_there);
        }
        let is_full = all >= UPLOADS_MAX || of_address >= share_of_address(UPLOADS_MAX);
        if is_full || of_owner >= UPLOADS_OF_VISITOR_MAX { Err(UploadRefusal::TooMany) } else { Ok(()) }
    }

    /// An upload begins. When there are too many, what was to be kept comes back.
    pub fn insert(
        &mut self,
        id: UploadId,
        owner: Who,
        (len, kept): (u64, P),
        now: Instant,
    ) -> Result<Instant, (UploadRefusal, P)> {
        if let Err(refusal) = self.check_room(owner) {
            return Err((refusal, kept));
        }
        let expires = now + IDLE_MAX;
        self.entries.insert(id, Entry { owner, offset: 0, len, expires, state: State::Idle(kept) });
        Ok(expires)
    }

    /// How far it is.
    pub fn look(&self, id: UploadId, owner: Who, now: Instant) -> Result<Progress<D>, UploadRefusal> {
        let entry = self.entries.get(&id).filter(|entry| entry.owner.0 == owner.0 && now < entry.expires);
        let entry = entry.filter(|entry| !matches!(entry.state, State::Taken(true))).ok_or(UploadRefusal::Unknown)?;
        let done = match &entry.state {
            State::Done(done) => Some(done.clone()),
            _ => None,
        };
        Ok(Progress { offset: entry.offset, len: entry.len, expires: entry.expires, done })
    }

    /// Take it out, to write at `offset`; `more` bytes, if that is known. It has to be given back.
    pub fn take(
        &mut self,
        id: UploadId,
        owner: Who,
        (offset, more): (u64, Option<u64>),
        now: Instant,
    ) -> Result<P, UploadRefusal> {
        let found = self.look(id, owner, now)?;
        if offset != found.offset {
            return Err(UploadRefusal::Offset(found.offset));
        }
        if more.is_some_and(|more| more > found.len - found.offset) {
            return Err(UploadRefusal::TooLong);
        }
        let entry = self.entries.get_mut(&id).ok_or(UploadRefusal::Unknown)?;
        match std::mem::replace(&mut entry.state, State::Taken(false)) {
            State::Idle(kept) => Ok(kept),
            State::Done(done) => {
                entry.state = State::Done(done);
                Err(UploadRefusal::TooLong)
            }
            State::Taken(is_dropped) => {
                entry.state = State::Taken(is_dropped);
                Err(UploadRefusal::Busy)
            }
        }
    }

    /// It is written up to here and goes on later. What is kept comes back if it was ended meanwhile.
    pub fn give_back(&mut self, id: UploadId, (offset, kept): (u64, P), now: Instant) -> Option<P> {
        match self.entries.get_mut(&id) {
            Some(entry) if matches!(entry.state, State::Taken(false)) => {
                entry.offset = offset.min(entry.len);
                entry.expires = now + IDLE_MAX;
                entry.state = State::Idle(kept);
                None
            }
            _ => {
                self.entries.remove(&id);
                Some(kept)
            }
        }
    }

    /// It is complete. What is told of it may be told again, when more is known.
    pub fn complete(&mut self, id: UploadId, done: D, now: Instant) {
        let count = self.entries.values().filter(|entry| matches!(entry.state, State::Done(_))).count();
        if count >= COMPLETE_MAX
            && let Some(oldest) = self.oldest_complete()
        {
            self.entries.remove(&oldest);
        }
        if let Some(entry) = self.entries.get_mut(&id) {
            (entry.offset, entry.expires, entry.state) = (entry.len, now + COMPLETE_KEPT, State::Done(done));
        }
    }

    fn oldest_complete(&self) -> Option<UploadId> {
        let complete = self.entries.iter().filter(|(_, entry)| matches!(entry.state, State::Done(_)));
        complete.min_by_key(|(_, entry)| entry.expires).map(|(id, _)| *id)
    }

    /// It failed for good while it was taken out.
    pub fn forget(&mut self, id: UploadId) {
        self.entries.remove(&id);
    }

    /// End it. What was kept comes back, unless somebody has it, who then learns of it when he gives it back.
    pub fn end(&mut self, id: UploadId, owner: Who, now: Instant) -> Result<Option<P>, UploadRefusal> {
        self.look(id, owner, now)?;
        Ok(self.drop_entry(id))
    }

    /// End all that have expired. What is being written has not.
    pub fn expire(&mut self, now: Instant) -> Vec<P> {
        let is_over = |entry: &Entry<P, D>| now >= entry.expires && !matches!(entry.state, State::Taken(_));
        let over: Vec<UploadId> = self.entries.iter().filter(|(_, entry)| is_over(entry)).map(|(id, _)| *id).collect();
        over.into_iter().filter_map(|id| self.drop_entry(id)).collect()
    }

    fn drop_entry(&mut self, id: UploadId) -> Option<P> {
        let entry = self.entries.get_mut(&id)?;
        if let State::Taken(is_dropped) = &mut entry.state {
            *is_dropped = true;
            return None;
        }
        match self.entries.remove(&id)?.state {
            State::Idle(kept) => Some(kept),
            _ => None,
        }
    }
}

/// How much may come while the share runs, and how much of that is taken.
#[derive(Debug, Default)]
pub struct Quota {
    bytes_max: Option<u64>,
    taken: AtomicU64,
    entries: AtomicU64,
}

impl Quota {
    /// At most so much, if there is a bound.
    pub fn new(bytes_max: Option<u64>) -> Arc<Quota> {
        Arc::new(Quota { bytes_max, ..Quota::default() })
    }

    /// The bound, bytes.
    pub fn bytes_max(&self) -> Option<u64> {
        self.bytes_max
    }

    /// One file or folder, without bytes yet; nothing if there are too many.
    pub fn grant(self: &Arc<Self>) -> Option<Grant> {
        let more = |taken: u64| (taken < ENTRIES_MAX).then_some(taken + 1);
        self.entries.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Grant { quota: self.clone(), bytes: 0, is_kept: false })
    }
}

/// What one upload has of the quota. It is given back unless the upload is kept.
#[derive(Debug)]
pub struct Grant {
    quota: Arc<Quota>,
    bytes: u64,
    is_kept: bool,
}

impl Grant {
    /// Of the same quota for something else.
    pub fn another(&self) -> Option<Grant> {
        self.quota.grant()
    }

    /// So much more; whether there is.
    #[must_use]
    pub fn add(&mut self, bytes: u64) -> bool {
        let max = self.quota.bytes_max.unwrap_or(u64::MAX);
        let more = |taken: u64| taken.checked_add(bytes).filter(|taken| *taken <= max);
        let is_granted = self.quota.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok();
        if is_granted {
            self.bytes += bytes;
        }
        is_granted
    }

    /// The upload stays where it is, and so does what it takes.
    pub fn keep(&mut self) {
        self.is_kept = true;
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        if !self.is_kept {
            self.quota.taken.fetch_sub(self.bytes, Ordering::AcqRel);
            self.quota.entries.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    const WHO: Who = (VisitorId(1), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
    const OTHER: Who = (VisitorId(2), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)));

    fn id(n: u8) -> UploadId {
        UploadId([n; ID_BYTES])
    }

    fn begun() -> (Uploads<&'static str, &'static str>, Instant) {
        let (mut uploads, now) = (Uploads::default(), Instant::now());
        uploads.insert(id(1), WHO, (100, "file"), now).unwrap();
        (uploads, now)
    }

    #[test]
    fn an_id_is_32_digits() {
        let drawn = UploadId::draw().unwrap();
        assert_eq!(UploadId::decode(&drawn.encode()), Some(drawn));
        let text = drawn.encode();
        for wrong in ["", "a", &text[1..], &format!("{text}0"), &format!("+{}", &text[1..]), &text.replace('0', "G")] {
            assert!(UploadId::decode(wrong).is_none_or(|id| id.encode() == wrong), "{wrong}");
        }
        assert_eq!(UploadId::decode(&"A".repeat(32)), None);
    }

    #[test]
    fn one_writes_at_a_time_from_where_it_stands() {
        let (mut uploads, now) = begun();
        for (offset, refusal) in [(1, UploadRefusal::Offset(0)), (u64::MAX, UploadRefusal::Offset(0))] {
            assert_eq!(uploads.take(id(1), WHO, (offset, None), now), Err(refusal));
        }
        assert_eq!(uploads.take(id(1), WHO, (0, Some(101)), now), Err(UploadRefusal::TooLong));
        assert_eq!(uploads.take(id(1), WHO, (0, Some(100)), now), Ok("file"));
        assert_eq!(uploads.take(id(1), WHO, (0, None), now), Err(UploadRefusal::Busy));
        assert_eq!(uploads.give_back(id(1), (60, "file"), now), None);
        assert_eq!(uploads.look(id(1), WHO, now).unwrap().offset, 60);
        assert_eq!(uploads.take(id(1), WHO, (0, None), now), Err(UploadRefusal::Offset(60)));
        assert_eq!(uploads.take(id(1), WHO, (60, Some(41)), now), Err(UploadRefusal::TooLong));
        assert_eq!(uploads.take(id(1), WHO, (60, Some(40)), now), Ok("file"));
        uploads.complete(id(1), "done", now);
        let found = uploads.look(id(1), WHO, now).unwrap();
        assert_eq!((found.offset, found.done), (100, Some("done")));
        assert_eq!(uploads.take(id(1), WHO, (100, None), now), Err(UploadRefusal::TooLong));
    }

    #[test]
    fn only_whoever_began_it_goes_on_with_it() {
        let (mut uploads, now) = begun();
        assert_eq!(uploads.look(id(1), OTHER, now), Err(UploadRefusal::Unknown));
        assert_eq!(uploads.take(id(1), OTHER, (0, None), now), Err(UploadRefusal::Unknown));
        assert_eq!(uploads.end(id(1), OTHER, now), Err(UploadRefusal::Unknown));
        assert_eq!(uploads.look(id(2), WHO, now), Err(UploadRefusal::Unknown));
        assert_eq!(uploads.end(id(1), WHO, now), Ok(Some("file")));
        assert_eq!(uploads.look(id(1), WHO, now), Err(UploadRefusal::Unknown));
    }

    #[test]
    fn a_session_goes_on_from_anywhere_and_a_program_with_the_number() {
        let (mut uploads, now) = begun();
        let elsewhere = IpAddr::from([198, 51, 100, 7]);
        assert!(uploads.look(id(1), (WHO.0, elsewhere), now).is_ok());
        let program = (VisitorId::PROGRAM, WHO.1);
        assert_eq!(uploads.look(id(1), program, now), Err(UploadRefusal::Unknown));
        uploads.insert(id(2), program, (100, "file"), now).unwrap();
        assert_eq!(uploads.take(id(2), (VisitorId::PROGRAM, elsewhere), (0, None), now), Ok("file"));
        for session in [WHO, OTHER] {
            assert_eq!(uploads.look(id(2), session, now), Err(UploadRefusal::Unknown));
        }
        assert_ne!(id(1).file_name(), id(1).encode());
        assert!(UploadId::decode(&id(1).file_name()).is_some_and(|other| other != id(1)));
    }

    #[test]
    fn programs_are_counted_by_address_and_sessions_of_one_address_together() {
        let (mut uploads, now) = (Uploads::<(), ()>::default(), Instant::now());
        let mut number = 0;
        let mut taken = |owner: &dyn Fn(u64) -> Who| {
            (0..UPLOADS_MAX as u64 + 1)
                .filter(|n| {
                    number += 1_u128;
                    uploads.insert(UploadId(number.to_be_bytes()), owner(*n), (1, ()), now).is_ok()
                })
                .count()
        };
        assert_eq!(taken(&|_| (VisitorId::PROGRAM, OTHER.1)), UPLOADS_OF_VISITOR_MAX);
        // Somebody else's programs have a bound of their own; there is no more room for one address than for all.
        assert_eq!(taken(&|_| (VisitorId::PROGRAM, WHO.1)), UPLOADS_OF_VISITOR_MAX);
        assert_eq!(taken(&|n| (VisitorId(n + 1), WHO.1)), share_of_address(UPLOADS_MAX) - UPLOADS_OF_VISITOR_MAX);
    }

    #[test]
    fn what_is_ended_while_it_is_written_comes_back_to_the_writer() {
        let (mut uploads, now) = begun();
        uploads.take(id(1), WHO, (0, None), now).unwrap();
        assert_eq!(uploads.end(id(1), WHO, now), Ok(None));
        assert_eq!(uploads.look(id(1), WHO, now), Err(UploadRefusal::Unknown));
        assert_eq!(uploads.give_back(id(1), (10, "file"), now), Some("file"));
        assert!(uploads.entries.is_empty());
    }

    #[test]
    fn what_nobody_goes_on_with_expires_and_what_is_written_does_not() {
        let (mut uploads, now) = begun();
        let later = now + IDLE_MAX;
        assert_eq!(uploads.look(id(1), WHO, later), Err(UploadRefusal::Unknown));
        uploads.take(id(1), WHO, (0, None), now).unwrap();
        assert!(uploads.expire(later).is_empty());
        uploads.give_back(id(1), (10, "file"), later);
        assert_eq!(uploads.look(id(1), WHO, later).unwrap().offset, 10);
        assert_eq!(uploads.expire(later + IDLE_MAX), ["file"]);
    }

    #[test]
    fn the_number_of_uploads_is_bounded() {
        let (mut uploads, now) = (Uploads::<(), ()>::default(), Instant::now());
        for n in 0..UPLOADS_OF_VISITOR_MAX {
            uploads.insert(UploadId((n as u128).to_be_bytes()), WHO, (1, ()), now).unwrap();
        }
        assert_eq!(uploads.insert(id(255), WHO, (1, ()), now), Err((UploadRefusal::TooMany, ())));
        assert!(uploads.insert(id(255), OTHER, (1, ()), now).is_ok());
        uploads.complete(UploadId(0u128.to_be_bytes()), (), now);
        assert!(uploads.insert(id(254), WHO, (1, ()), now).is_ok());
    }

    #[test]
    fn what_is_not_kept_goes_back_to_the_quota() {
        let quota = Quota::new(Some(10));
        let mut first = quota.grant().unwrap();
        assert!(first.add(6) && !first.add(5));
        let mut second = quota.grant().unwrap();
        assert!(!second.add(5) && second.add(4) && !second.add(1) && !second.add(u64::MAX));
        drop(first);
        assert!(second.add(6));
        second.keep();
        drop(second);
        assert!(!quota.grant().unwrap().add(1));
        assert!(Quota::new(None).grant().unwrap().add(u64::MAX));
    }

    #[test]
    fn files_and_folders_are_counted_as_long_as_they_are_there() {
        let quota = Quota::new(None);
        let mut taken: Vec<Grant> = (0..2 * ENTRIES_MAX).map_while(|_| quota.grant()).collect();
        assert_eq!(taken.len() as u64, ENTRIES_MAX);
        assert!(taken[0].another().is_none());
        taken.pop().unwrap().keep();
        assert!(quota.grant().is_none());
        taken.pop();
        assert!(quota.grant().is_some());
    }
}
