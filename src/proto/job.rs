//! Jobs on the serving side: who may join with which token, and when a job may start.
//!
//! Sans-IO: tokens are drawn by the caller, time is handed in. One table serves all sessions of a server, because a
//! data stream says only its token.
//!
//! A job lives through `Filling` (tokens are out, streams join) → `Complete` (all have joined) and ends when its
//! session says so, when its session ends, or when its streams did not join in time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::message::{JobId, Reply};
use super::wire::Token;

/// The tokens of a job of which no stream joined for so long are void.
pub const JOIN_MAX: Duration = Duration::from_secs(10);
/// Most jobs of one session at a time.
pub const JOBS_PER_SESSION_MAX: usize = 8;

/// Number of a session within its server.
pub type SessionId = u64;

/// A stream's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Whose.
    pub session: SessionId,
    /// Which job of it.
    pub job: JobId,
    /// Which stream of it, from 0.
    pub stream: u32,
}

/// What came of jobs: all that a kind of job has to tell its session at one time.
#[derive(Debug, Default)]
pub struct JobNews {
    /// To the request of that number.
    pub reply: Option<(u32, Reply)>,
    /// This job is over.
    pub over: Option<JobId>,
    /// Payload taken by streams that are closed now.
    pub received_bytes: u64,
    /// Payload sent by them.
    pub sent_bytes: u64,
}

/// Why a job cannot be prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// The session has too many.
    #[error("this session has {JOBS_PER_SESSION_MAX} jobs already: stop one first")]
    TooMany,
    /// The same token twice: the random numbers are not random.
    #[error("no fresh token could be made")]
    TokenTaken,
}

#[derive(Debug)]
struct Job {
    streams: u32,
    joined: u32,
    void_at: Instant,
}

/// All jobs and unused tokens of a server.
#[derive(Debug, Default)]
pub struct JobTable {
    jobs: HashMap<(SessionId, JobId), Job>,
    /// Tokens not yet used. A used token is removed at once, so it can never be used again.
    seats: HashMap<Token, Seat>,
    next: JobId,
}

impl JobTable {
    /// A new job whose streams may join with `tokens` until none has for [`JOIN_MAX`]: a thousand take a while.
    pub fn handle_prepare(&mut self, session: SessionId, tokens: &[Token], now: Instant) -> Result<JobId, JobError> {
        if self.jobs.keys().filter(|key| key.0 == session).count() >= JOBS_PER_SESSION_MAX {
            return Err(JobError::TooMany);
        }
        if tokens.iter().any(|token| self.seats.contains_key(token)) {
            return Err(JobError::TokenTaken);
        }
        let job = self.next;
        self.next = self.next.wrapping_add(1);
        for (token, stream) in tokens.iter().zip(0..) {
            self.seats.insert(*token, Seat { session, job, stream });
        }
        let streams = tokens.len() as u32;
        self.jobs.insert((session, job), Job { streams, joined: 0, void_at: now + JOIN_MAX });
        Ok(job)
    }

    /// A data stream presents its token: its seat, once.
    pub fn handle_join(&mut self, token: &Token, now: Instant) -> Option<Seat> {
        let seat = self.seats.remove(token)?;
        let job = self.jobs.get_mut(&(seat.session, seat.job))?;
        if now >= job.void_at {
            return None;
        }
        job.joined += 1;
        job.void_at = now + JOIN_MAX;
        Some(seat)
    }

    /// Whether every stream of the job has joined; `None` when there is no such job.
    pub fn is_complete(&self, session: SessionId, job: JobId) -> Option<bool> {
        self.jobs.get(&(session, job)).map(|job| job.joined == job.streams)
    }

    /// The job is over; `false` when there was none.
    pub fn handle_stop(&mut self, session: SessionId, job: JobId) -> bool {
        self.seats.retain(|_, seat| (seat.session, seat.job) != (session, job));
        self.jobs.remove(&(session, job)).is_some()
    }

    /// The session is over, with all its jobs.
    pub fn handle_session_end(&mut self, session: SessionId) {
        self.seats.retain(|_, seat| seat.session != session);
        self.jobs.retain(|key, _| key.0 != session);
    }

    /// Jobs whose streams did not all join in time: they are removed here and named.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<(SessionId, JobId)> {
        let void = |job: &Job| job.joined < job.streams && now >= job.void_at;
        let late: Vec<_> = self.jobs.iter().filter(|(_, job)| void(job)).map(|(key, _)| *key).collect();
        for (session, job) in &late {
            self.handle_stop(*session, *job);
        }
        late
    }

    /// When [`JobTable::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.jobs.values().filter(|job| job.joined < job.streams).map(|job| job.void_at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token(n: u8) -> Token {
        [n; 16]
    }

    #[test]
    fn a_token_lets_one_stream_in_once() {
        let (mut table, now) = (JobTable::default(), Instant::now());
        let job = table.handle_prepare(1, &[token(1), token(2)], now).unwrap();
        assert_eq!(table.is_complete(1, job), Some(false));
        assert_eq!(table.handle_join(&token(2), now), Some(Seat { session: 1, job, stream: 1 }));
        assert_eq!(table.handle_join(&token(2), now), None);
        assert_eq!(table.handle_join(&token(9), now), None);
        assert!(table.handle_join(&token(1), now).is_some());
        assert_eq!(table.is_complete(1, job), Some(true));
        assert_eq!(table.poll_timeout(), None);
    }

    #[test]
    fn tokens_die_with_time_with_their_job_and_with_their_session() {
        let (mut table, now) = (JobTable::default(), Instant::now());
        let job = table.handle_prepare(1, &[token(1)], now).unwrap();
        assert_eq!(table.handle_timeout(now + JOIN_MAX), vec![(1, job)]);
        assert_eq!(table.handle_join(&token(1), now), None);
        let job = table.handle_prepare(1, &[token(1)], now).unwrap();
        assert!(table.handle_stop(1, job) && !table.handle_stop(1, job));
        assert_eq!(table.handle_join(&token(1), now), None);
        table.handle_prepare(1, &[token(1)], now).unwrap();
        table.handle_session_end(1);
        assert_eq!(table.handle_join(&token(1), now), None);
        table.handle_prepare(2, &[token(1)], now).unwrap();
        assert_eq!(table.handle_join(&token(1), now + JOIN_MAX), None);
        // Each stream that joins gives the others time.
        let job = table.handle_prepare(3, &[token(1), token(2)], now).unwrap();
        let later = now + JOIN_MAX / 2;
        assert!(table.handle_join(&token(1), later).is_some());
        assert!(!table.handle_timeout(now + JOIN_MAX).contains(&(3, job)));
        assert!(table.handle_timeout(later + JOIN_MAX).contains(&(3, job)));
    }

    #[test]
    fn one_session_cannot_hold_endless_jobs() {
        let (mut table, now) = (JobTable::default(), Instant::now());
        for n in 0..JOBS_PER_SESSION_MAX {
            table.handle_prepare(1, &[token(n as u8)], now).unwrap();
        }
        assert_eq!(table.handle_prepare(1, &[token(99)], now), Err(JobError::TooMany));
        assert!(table.handle_prepare(2, &[token(99)], now).is_ok());
    }

    proptest! {
        /// Whatever the order of events: no seat is given twice, and none to a session other than the one that asked.
        #[test]
        fn seats_are_given_at_most_once(steps in proptest::collection::vec((0u8..5, 0u64..3, 0u8..12), 0..80)) {
            let (mut table, mut now) = (JobTable::default(), Instant::now());
            let mut given = std::collections::HashSet::new();
            let mut owner = HashMap::new();
            for (what, session, n) in steps {
                match what {
                    0 => if let Ok(job) = table.handle_prepare(session, &[token(n)], now) { owner.insert((session, job), n); },
                    1 => if let Some(seat) = table.handle_join(&token(n), now) {
                        prop_assert_eq!(owner.get(&(seat.session, seat.job)), Some(&n));
                        prop_assert!(given.insert((seat.session, seat.job, seat.stream)));
                    },
                    2 => { table.handle_stop(session, JobId::from(n)); }
                    3 => table.handle_session_end(session),
                    _ => { now += Duration::from_secs(u64::from(n)); table.handle_timeout(now); }
                }
            }
        }
    }
}
