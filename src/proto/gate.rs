//! Who is let in: the tickets a server has given out, and how long the answer to a wrong one waits.
//!
//! Sans-IO: Unix time and instants are handed in, and where the book is kept is in `trust`. It holds digests only;
//! the secrets left the server with their tickets.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use subtle::{ConditionallySelectable, ConstantTimeEq};

use super::rights::Rights;
use super::secret::SecretDigest;

/// Most tickets of one server.
pub const GRANTS_MAX: usize = 1000;
/// Longest folder of a grant; a ticket has no room for a longer one.
pub const FOLDER_BYTES_MAX: usize = 600;
/// Longest label of a grant.
pub const LABEL_BYTES_MAX: usize = 200;
/// So long an expired ticket is remembered, so that its holder hears that it has expired.
pub const EXPIRED_KEPT_S: u64 = 7 * 24 * 3600;
/// Most addresses whose failures are counted.
pub const ADDRESSES_MAX: usize = 4096;
/// How long the answer to an address's first failure is held back; twice as long for each further one.
pub const FAILURE_WAIT_MIN: Duration = Duration::from_millis(250);
/// How long an answer is held back at most.
pub const FAILURE_WAIT_MAX: Duration = Duration::from_secs(4);
/// Failures are forgotten when an address had none for so long.
pub const FAILURES_FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// Names a ticket without being one: the first bytes of its digest, printed as 8 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TicketId([u8; 4]);

/// Not 8 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no ticket id: write its 8 hex digits, as linerate ticket list shows them")]
pub struct TicketIdError;

impl TicketId {
    /// Of the ticket whose secret has this digest.
    pub fn of(digest: &SecretDigest) -> TicketId {
        let [a, b, c, d, ..] = digest.0;
        TicketId([a, b, c, d])
    }
}

impl fmt::Display for TicketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:08x}", u32::from_be_bytes(self.0)))
    }
}

impl fmt::Debug for TicketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketId({self})")
    }
}

impl std::str::FromStr for TicketId {
    type Err = TicketIdError;

    fn from_str(text: &str) -> Result<TicketId, TicketIdError> {
        // `from_str_radix` would take a sign.
        let is_hex = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = u32::from_str_radix(text, 16).ok().filter(|_| is_hex).ok_or(TicketIdError)?;
        Ok(TicketId(id.to_be_bytes()))
    }
}

impl TryFrom<String> for TicketId {
    type Error = TicketIdError;

    fn try_from(text: String) -> Result<TicketId, TicketIdError> {
        text.parse()
    }
}

impl From<TicketId> for String {
    fn from(id: TicketId) -> String {
        id.to_string()
    }
}

/// A ticket as the server that gave it out remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Its name; follows from the digest.
    pub id: TicketId,
    /// Of its secret.
    pub digest: SecretDigest,
    /// What its holder may do.
    pub rights: Rights,
    /// The part of the served folder that is meant, as bytes; empty for all of it.
    pub folder: Vec<u8>,
    /// From then on it is void, seconds of Unix time.
    pub expires_unix_s: Option<u64>,
    /// How often it still lets in; `None` for as often as wanted.
    pub uses_left: Option<u32>,
    /// A note of whoever made it.
    pub label: String,
    /// When it was made, seconds of Unix time.
    pub created_unix_s: u64,
}

impl Grant {
    /// Whether its time is over.
    pub fn is_expired(&self, now_unix_s: u64) -> bool {
        self.expires_unix_s.is_some_and(|expires| now_unix_s >= expires)
    }

    /// Whether it was used as often as it may be.
    pub fn is_used_up(&self) -> bool {
        self.uses_left == Some(0)
    }
}

/// Why a ticket does not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Denial {
    /// No grant has its digest.
    #[error("this ticket is not known here: it was revoked, or it is of another server")]
    Unknown,
    /// Its time is over.
    #[error("this ticket has expired: ask for a new one")]
    Expired,
    /// It was used as often as it may be.
    #[error("this ticket was used as often as it may be: ask for a new one")]
    UsedUp,
}

/// Why a grant is not taken into a book.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BookError {
    /// There are as many as may be.
    #[error("there are {GRANTS_MAX} tickets already: revoke some first (linerate ticket revoke)")]
    Full,
    /// Another ticket has that id.
    #[error("there is a ticket with that id already")]
    Taken,
    /// The id does not follow from the digest.
    #[error("a ticket whose id and digest do not belong together")]
    WrongId,
    /// More text than is kept.
    #[error(
        "a folder or label that is too long: use at most {FOLDER_BYTES_MAX} bytes for a folder and {LABEL_BYTES_MAX} for a label"
    )]
    TooLong,
}

/// All tickets of a server, in the order in which they were made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Grant>", into = "Vec<Grant>")]
pub struct TicketBook {
    grants: Vec<Grant>,
}

impl TicketBook {
    /// Take a grant in.
    pub fn insert(&mut self, grant: Grant) -> Result<(), BookError> {
        if grant.id != TicketId::of(&grant.digest) {
            return Err(BookError::WrongId);
        }
        if grant.folder.len() > FOLDER_BYTES_MAX || grant.label.len() > LABEL_BYTES_MAX {
            return Err(BookError::TooLong);
        }
        if self.grants.iter().any(|other| other.id == grant.id) {
            return Err(BookError::Taken);
        }
        if self.grants.len() >= GRANTS_MAX {
            return Err(BookError::Full);
        }
        self.grants.push(grant);
        Ok(())
    }

    /// Revoke; `false` when there was none.
    pub fn remove(&mut self, id: &TicketId) -> bool {
        let before = self.grants.len();
        self.grants.retain(|grant| grant.id != *id);
        self.grants.len() < before
    }

    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Grant> {
        self.grants.iter()
    }

    /// Whether the holder of the secret with this digest is let in; if so, that is one use, and what is returned is
    /// the grant after it.
    ///
    /// Looks at every grant in the same way, so that the time it takes tells nothing about any digest.
    pub fn judge(&mut self, digest: &SecretDigest, now_unix_s: u64) -> Result<Grant, Denial> {
        let mut found = u64::MAX;
        for (at, grant) in (0u64..).zip(&self.grants) {
            found.conditional_assign(&at, grant.digest.ct_eq(digest));
        }
        let grant = usize::try_from(found).ok().and_then(|at| self.grants.get_mut(at)).ok_or(Denial::Unknown)?;
        if grant.is_expired(now_unix_s) {
            return Err(Denial::Expired);
        }
        if let Some(left) = &mut grant.uses_left {
            *left = left.checked_sub(1).ok_or(Denial::UsedUp)?;
        }
        Ok(grant.clone())
    }

    /// Whether a session that a ticket let in may go on: it was neither revoked nor has it expired. How often it may
    /// still let in does not matter.
    pub fn is_valid(&self, id: &TicketId, now_unix_s: u64) -> bool {
        self.grants.iter().any(|grant| grant.id == *id && !grant.is_expired(now_unix_s))
    }

    /// Forget what expired longer than [`EXPIRED_KEPT_S`] ago and, when the book is full, all that lets nobody in.
    pub fn prune(&mut self, now_unix_s: u64) {
        let forgotten = |expires: u64| now_unix_s >= expires.saturating_add(EXPIRED_KEPT_S);
        self.grants.retain(|grant| !grant.expires_unix_s.is_some_and(forgotten));
        if self.grants.len() >= GRANTS_MAX {
            self.grants.retain(|grant| !grant.is_expired(now_unix_s) && !grant.is_used_up());
        }
    }
}

impl TryFrom<Vec<Grant>> for TicketBook {
    type Error = BookError;

    fn try_from(grants: Vec<Grant>) -> Result<TicketBook, BookError> {
        let mut book = TicketBook::default();
        grants.into_iter().try_for_each(|grant| book.insert(grant))?;
        Ok(book)
    }
}

impl From<TicketBook> for Vec<Grant> {
    fn from(book: TicketBook) -> Vec<Grant> {
        book.grants
    }
}

/// Holds back the answers to wrong tickets.
///
/// Only failures wait. A valid ticket is let in at once whatever else came from its address, so nobody can lock out
/// others behind the same NAT. This is not what keeps guessers out, which 128 random bits do: it keeps the log and
/// the CPU quiet.
#[derive(Debug, Default)]
pub struct Throttle {
    failed: HashMap<IpAddr, Failures>,
}

#[derive(Debug)]
struct Failures {
    count: u32,
    last: Instant,
}

impl Failures {
    fn is_forgotten(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) >= FAILURES_FORGOTTEN_AFTER
    }
}

impl Throttle {
    /// Somebody at `address` showed a wrong ticket: how long to hold the answer back.
    pub fn handle_failure(&mut self, address: IpAddr, now: Instant) -> Duration {
        let who = subscriber(address);
        if self.failed.len() >= ADDRESSES_MAX && !self.failed.contains_key(&who) {
            self.forget_some(now);
        }
        let failures = self.failed.entry(who).or_insert(Failures { count: 0, last: now });
        if failures.is_forgotten(now) {
            failures.count = 0;
        }
        failures.count = failures.count.saturating_add(1);
        failures.last = now;
        let doublings = (failures.count - 1).min(u32::BITS - 1);
        FAILURE_WAIT_MIN.saturating_mul(1 << doublings).min(FAILURE_WAIT_MAX)
    }

    /// How many failures of this address are remembered.
    pub fn failures(&self, address: IpAddr, now: Instant) -> u32 {
        let failures = self.failed.get(&subscriber(address)).filter(|failures| !failures.is_forgotten(now));
        failures.map_or(0, |failures| failures.count)
    }

    /// Make room: everything that is over goes, and at least the oldest.
    fn forget_some(&mut self, now: Instant) {
        self.failed.retain(|_, failures| !failures.is_forgotten(now));
        if self.failed.len() < ADDRESSES_MAX {
            return;
        }
        let oldest = self.failed.iter().min_by_key(|(_, failures)| failures.last).map(|(who, _)| *who);
        if let Some(who) = oldest {
            self.failed.remove(&who);
        }
    }
}

/// Whom an address belongs to: one IPv4 address, or a /64, which is the least that one subscriber has of IPv6.
fn subscriber(address: IpAddr) -> IpAddr {
    /// The first half of an IPv6 address.
    const NETWORK: u128 = !0 << 64;
    // A socket for both families names IPv4 peers as ::ffff:192.0.2.1.
    match address.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & NETWORK)),
        ip => ip,
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
