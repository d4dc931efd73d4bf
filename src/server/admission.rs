//! Who is let in, and for what. The judgement itself is [`crate::proto::gate`]'s; here are its sources: the tickets of
//! this run, those that the user keeps, and the rule for strangers.

use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::proto::gate::{Denial, Grant, Throttle, TicketBook, TicketId};
use crate::proto::message::{Hello, Welcome};
use crate::proto::rights::Rights;
use crate::trust::ticket_store::TicketStore;

/// What strangers may do: measure, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenBench {
    /// Longest session of a stranger.
    pub duration_max: Duration,
    /// Most sessions of strangers at a time.
    pub sessions_max: usize,
}

/// What a server lets whom do.
#[derive(Debug)]
pub struct Policy {
    /// No ticket gives more than this.
    pub allow: Rights,
    /// Tickets of this run.
    pub book: TicketBook,
    /// Tickets that outlive it.
    pub store: Option<TicketStore>,
    /// Whether strangers may measure.
    pub open_bench: Option<OpenBench>,
}

/// A client that is let in.
#[derive(Clone, Debug)]
pub(super) struct Admitted {
    pub(super) rights: Rights,
    /// Its ticket; `None` for a stranger.
    pub(super) ticket: Option<TicketId>,
    /// The part of the served folder that it may see.
    pub(super) folder: Vec<u8>,
    /// When its time is over.
    pub(super) until: Option<Instant>,
}

/// What came of a hello.
#[derive(Debug)]
pub(super) enum Verdict {
    Welcome(Admitted, Welcome),
    /// Told so, after that time.
    TurnAway(String, Duration),
}

/// A policy at work.
#[derive(Debug)]
pub(super) struct Admission {
    policy: Policy,
    throttle: Throttle,
}

const NO_TICKET: &str = "this server lets in holders of a ticket only: ask its owner for one (`linerate ticket new` \
                         there), then run `linerate pair HOST`, or give it with --ticket-file or LINERATE_TICKET";

impl Admission {
    pub(super) fn new(policy: Policy) -> Admission {
        Admission { policy, throttle: Throttle::default() }
    }

    /// Judge a client that has said hello. `strangers` are being served already.
    pub(super) fn judge(&mut self, hello: &Hello, from: IpAddr, strangers: usize, now: Instant) -> Verdict {
        match &hello.secret {
            None => self.judge_stranger(strangers, now),
            Some(secret) => match self.grant(&secret.digest()) {
                Ok(grant) => self.let_in(&grant, now),
                Err(denial) => {
                    let hold = self.throttle.handle_failure(from, now);
                    let failures = self.throttle.failures(from, now);
                    tracing::warn!(%from, failures, reason = ?denial, "ticket refused");
                    Verdict::TurnAway(denial.to_string(), hold)
                }
            },
        }
    }

    /// Whether a session that was let in may go on.
    pub(super) fn is_still_valid(&mut self, ticket: &TicketId) -> bool {
        let now = unix_s();
        let is_kept = |store: &mut TicketStore| store.is_valid(ticket, now).unwrap_or(false);
        self.policy.book.is_valid(ticket, now) || self.policy.store.as_mut().is_some_and(is_kept)
    }

    fn grant(&mut self, digest: &crate::proto::secret::SecretDigest) -> Result<Grant, Denial> {
        let now = unix_s();
        let of_this_run = self.policy.book.judge(digest, now);
        match (of_this_run, &mut self.policy.store) {
            (Err(Denial::Unknown), Some(store)) => store.judge(digest, now).unwrap_or_else(|error| {
                tracing::error!(%error, "the kept tickets cannot be read");
                Err(Denial::Unknown)
            }),
            (judged, _) => judged,
        }
    }

    fn let_in(&self, grant: &Grant, now: Instant) -> Verdict {
        let rights = grant.rights.intersection(self.policy.allow);
        // To the moment: what looks once more whether the ticket is still valid would else be earlier, and say less.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let left = grant.expires_unix_s.map(|expires| Duration::from_secs(expires).saturating_sub(since));
        let until = left.and_then(|left| now.checked_add(left));
        let admitted = Admitted { rights, ticket: Some(grant.id), folder: grant.folder.clone(), until };
        Verdict::Welcome(admitted, welcome(rights, left.map(|left| left.as_secs())))
    }

    fn judge_stranger(&self, strangers: usize, now: Instant) -> Verdict {
        match self.policy.open_bench {
            None => Verdict::TurnAway(NO_TICKET.to_string(), Duration::ZERO),
            Some(open) if strangers >= open.sessions_max => {
                let most = open.sessions_max;
                let why = format!("the server takes {most} clients without a ticket at a time: try again later");
                Verdict::TurnAway(why, Duration::ZERO)
            }
            Some(open) => {
                let rights = Rights::BENCH.intersection(self.policy.allow);
                let until = now.checked_add(open.duration_max);
                let admitted = Admitted { rights, ticket: None, folder: Vec::new(), until };
                Verdict::Welcome(admitted, welcome(rights, Some(open.duration_max.as_secs())))
            }
        }
    }
}

fn welcome(rights: Rights, left_s: Option<u64>) -> Welcome {
    Welcome { rights, seconds_max: left_s.map(|left_s| u32::try_from(left_s).unwrap_or(u32::MAX)) }
}

/// Seconds of Unix time; a clock before 1970 is taken for 1970.
pub(super) fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
