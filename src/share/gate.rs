//! Who comes in: the token of the link, a password, sessions, and how often anybody may guess.
//!
//! A state machine without clock, socket or cookie: it is given `now`. Tokens and sessions are kept as hashes and
//! compared in constant time; the token itself stays with whoever shows the link.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::rights::Rights;
use super::slots::share_of_address;

/// Bytes of a token and of a session's number.
pub const SECRET_BYTES: usize = 16;
/// Most sessions at a time; the one that was idle longest goes first, of an address that has most of them if there is
/// one.
pub const SESSIONS_MAX: usize = 4096;
/// A session that was not used for so long is over.
pub const SESSION_IDLE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Wrong guesses of one address before it has to wait.
const GUESSES_FREE: u32 = 5;
/// How long it has to wait after the next; each more doubles that, up to [`WAIT_MAX`].
const WAIT_FIRST: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Guesses of an address are forgotten after so long.
const GUESSES_LIFE: Duration = Duration::from_secs(600);
/// Wrong passwords of all addresses together that are looked at in a minute.
const PASSWORDS_PER_MINUTE_MAX: u32 = 120;
/// Most addresses whose guesses are counted.
const ADDRESSES_MAX: usize = 4096;

/// 128 bits that nobody guesses.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<[u8; SECRET_BYTES]>);

impl Secret {
    /// A new one.
    pub fn draw() -> Result<Secret, getrandom::Error> {
        let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
        getrandom::fill(&mut *bytes)?;
        Ok(Secret(bytes))
    }

    /// As it stands in a link or cookie: 22 characters of base64url.
    pub fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(*self.0)
    }

    /// Read such text; nothing if it is none.
    pub fn decode(text: &str) -> Option<Secret> {
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(text).ok()?);
        Some(Secret(Zeroizing::new(<[u8; SECRET_BYTES]>::try_from(bytes.as_slice()).ok()?)))
    }

    fn digest(&self) -> Digest {
        Digest(*blake3::hash(&*self.0).as_bytes())
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What is kept of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Digest([u8; 32]);

/// Whose request it is: the same for all requests of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VisitorId(pub u64);

impl VisitorId {
    /// Whoever shows the token itself: programs have no session by which they could be told apart.
    pub const PROGRAM: VisitorId = VisitorId(0);
}

/// Somebody who was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visitor {
    /// Who.
    pub id: VisitorId,
    /// What he may do.
    pub rights: Rights,
}

/// Why somebody is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// The token is not that of the link.
    #[error("this is not the link of this share: ask for it again")]
    Token,
    /// A password is wanted.
    #[error("a password is needed")]
    PasswordMissing,
    /// It is not the right one.
    #[error("this is not the password")]
    PasswordWrong,
    /// There were too many guesses.
    #[error("too many wrong tries: wait {}", crate::units::Span(*.0))]
    Wait(Duration),
    /// The share is over.
    #[error("this share has expired")]
    Expired,
    /// There is no session, or none any more.
    #[error("open the link of this share first")]
    NoSession,
}

#[derive(Debug)]
struct Session {
    id: VisitorId,
    used: Instant,
    /// From where it was begun.
    from: IpAddr,
}

#[derive(Debug)]
struct Guesses {
    wrong: u32,
    since: Instant,
    wait_until: Option<Instant>,
}

/// How a share decides.
#[derive(Debug)]
pub struct Policy {
    /// The link's.
    pub token: Secret,
    /// What whoever comes in may do.
    pub rights: Rights,
    /// Asked for once a session.
    pub password: Option<Zeroizing<String>>,
    /// After that nobody comes in, nor goes on.
    pub expires: Option<Instant>,
}

/// The gate of a share.
#[derive(Debug)]
pub struct Gate {
    token: Digest,
    rights: Rights,
    password: Option<Digest>,
    expires: Option<Instant>,
    sessions: HashMap<Digest, Session>,
    next_visitor: u64,
    guesses: HashMap<IpAddr, Guesses>,
    /// Wrong passwords of all since then.
    passwords: (Instant, u32),
}

impl Gate {
    /// One where nobody has come in.
    pub fn new(policy: Policy, now: Instant) -> Gate {
        Gate {
            token: policy.token.digest(),
            rights: policy.rights,
            password: policy.password.map(|password| Digest(*blake3::hash(password.as_bytes()).as_bytes())),
            expires: policy.expires,
            sessions: HashMap::new(),
            next_visitor: 1,
            guesses: HashMap::new(),
            passwords: (now, 0),
        }
    }

    /// Whether a password is asked for.
    pub fn wants_password(&self) -> bool {
        self.password.is_some()
    }

    /// Somebody shows a token, and a password if he has one. `drawn` becomes the secret of his session.
    pub fn enter(
        &mut self,
        token: Option<&Secret>,
        password: Option<&str>,
        drawn: &Secret,
        (from, now): (IpAddr, Instant),
    ) -> Result<Visitor, Denial> {
        self.admit(token, password, (from, now))?;
        self.make_room(now);
        let id = VisitorId(self.next_visitor);
        self.next_visitor += 1;
        self.sessions.insert(drawn.digest(), Session { id, used: now, from: block_of(from) });
        Ok(Visitor { id, rights: self.rights })
    }

    /// Whether a session is one that was let in.
    pub fn check(&mut self, session: &Secret, now: Instant) -> Result<Visitor, Denial> {
        self.check_expiry(now)?;
        let digest = session.digest();
        let Some(session) = self.sessions.get_mut(&digest) else { return Err(Denial::NoSession) };
        if now.duration_since(session.used) > SESSION_IDLE_MAX {
            self.sessions.remove(&digest);
            return Err(Denial::NoSession);
        }
        session.used = now;
        Ok(Visitor { id: session.id, rights: self.rights })
    }

    /// A request that shows the token itself, as programs do. It is a visitor of its own only where no password is
    /// wanted; else it needs a session.
    pub fn check_token(&mut self, token: &Secret, (from, now): (IpAddr, Instant)) -> Result<Visitor, Denial> {
        self.admit(Some(token), None, (from, now))?;
        Ok(Visitor { id: VisitorId::PROGRAM, rights: self.rights })
    }

    fn admit(
        &mut self,
        token: Option<&Secret>,
        password: Option<&str>,
        (from, now): (IpAddr, Instant),
    ) -> Result<(), Denial> {
        self.check_expiry(now)?;
        let from = block_of(from);
        if !token.is_some_and(|token| bool::from(token.digest().0.ct_eq(&self.token.0))) {
            // Whoever has the right one is let in even from an address from which others guess.
            self.check_wait(from, now)?;
            self.count_guess(from, now);
            return Err(Denial::Token);
        }
        let Some(wanted) = self.password else { return Ok(()) };
        let Some(password) = password else { return Err(Denial::PasswordMissing) };
        self.check_wait(from, now)?;
        self.check_passwords(now)?;
        let given = blake3::hash(password.as_bytes());
        if bool::from(given.as_bytes().ct_eq(&wanted.0)) {
            self.guesses.remove(&from);
            return Ok(());
        }
        self.passwords.1 += 1;
        self.count_guess(from, now);
        Err(Denial::PasswordWrong)
    }

    fn check_expiry(&self, now: Instant) -> Result<(), Denial> {
        if self.expires.is_some_and(|expires| now >= expires) { Err(Denial::Expired) } else { Ok(()) }
    }

    fn check_wait(&mut self, from: IpAddr, now: Instant) -> Result<(), Denial> {
        let until = self.guesses.get(&from).and_then(|guesses| guesses.wait_until);
        match until.map(|until| until.saturating_duration_since(now)) {
            Some(left) if !left.is_zero() => Err(Denial::Wait(left)),
            _ => Ok(()),
        }
    }

    fn check_passwords(&mut self, now: Instant) -> Result<(), Denial> {
        const MINUTE: Duration = Duration::from_secs(60);
        let (since, count) = self.passwords;
        let passed = now.duration_since(since);
        if passed >= MINUTE {
            self.passwords = (now, 0);
        } else if count >= PASSWORDS_PER_MINUTE_MAX {
            return Err(Denial::Wait(MINUTE - passed));
        }
        Ok(())
    }

    fn count_guess(&mut self, from: IpAddr, now: Instant) {
        if self.guesses.len() >= ADDRESSES_MAX && !self.guesses.contains_key(&from) {
            self.guesses.retain(|_, guesses| now.duration_since(guesses.since) < GUESSES_LIFE);
            if self.guesses.len() >= ADDRESSES_MAX
                && let Some(oldest) = self.guesses.iter().min_by_key(|(_, guesses)| guesses.since).map(|(ip, _)| *ip)
            {
                self.guesses.remove(&oldest);
            }
        }
        let guesses = self.guesses.entry(from).or_insert(Guesses { wrong: 0, since: now, wait_until: None });
        if now.duration_since(guesses.since) >= GUESSES_LIFE {
            guesses.wrong = 0;
        }
        guesses.wrong = guesses.wrong.saturating_add(1);
        guesses.since = now;
        guesses.wait_until = guesses.wrong.checked_sub(GUESSES_FREE).map(|more| {
            let wait = WAIT_FIRST.saturating_mul(1 << more.min(16));
            now + wait.min(WAIT_MAX)
        });
    }

    fn make_room(&mut self, now: Instant) {
        if self.sessions.len() < SESSIONS_MAX {
            return;
        }
        self.sessions.retain(|_, session| now.duration_since(session.used) <= SESSION_IDLE_MAX);
        if self.sessions.len() < SESSIONS_MAX {
            return;
        }
        // Whoever opens the link again and again throws out himself, and not those who came from elsewhere.
        let greedy = self.greedy_address();
        let may_go = self.sessions.iter().filter(|(_, session)| greedy.is_none_or(|address| session.from == address));
        if let Some(idlest) = may_go.min_by_key(|(_, session)| session.used).map(|(key, _)| *key) {
            self.sessions.remove(&idlest);
        }
    }

    /// The address that has more of all sessions than is its share: there is one at most.
    fn greedy_address(&self) -> Option<IpAddr> {
        let mut counts = HashMap::<IpAddr, usize>::new();
        self.sessions.values().for_each(|session| *counts.entry(session.from).or_default() += 1);
        counts.into_iter().find(|(_, count)| *count >= share_of_address(SESSIONS_MAX)).map(|(address, _)| address)
    }
}

/// Addresses that one household has many of count as one.
fn block_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.into(),
            None => std::net::Ipv6Addr::from(u128::from(v6) & (!0 << 64)).into(),
        },
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn secret(n: u8) -> Secret {
        Secret(Zeroizing::new([n; SECRET_BYTES]))
    }

    fn gate(password: Option<&str>, expires: Option<Duration>) -> (Gate, Instant) {
        let now = Instant::now();
        let policy = Policy {
            token: secret(1),
            rights: Rights::usual(),
            password: password.map(|text| Zeroizing::new(text.to_string())),
            expires: expires.map(|after| now + after),
        };
        (Gate::new(policy, now), now)
    }

    #[test]
    fn a_secret_is_22_characters_of_a_link() {
        let secret = Secret::draw().unwrap();
        assert_eq!(secret.encode().len(), 22);
        assert_eq!(Secret::decode(&secret.encode()), Some(secret.clone()));
        for wrong in ["", "a", &secret.encode()[1..], &format!("{}A", secret.encode()), "+++++++++++++++++++++A"] {
            assert_eq!(Secret::decode(wrong), None, "{wrong}");
        }
        assert!(!format!("{secret:?}").contains(&secret.encode()));
    }

    #[test]
    fn the_link_lets_in_and_its_session_stays() {
        let (mut gate, now) = gate(None, None);
        assert_eq!(gate.check(&secret(9), now), Err(Denial::NoSession));
        assert_eq!(gate.enter(Some(&secret(2)), None, &secret(9), (ADDRESS, now)), Err(Denial::Token));
        let first = gate.enter(Some(&secret(1)), None, &secret(9), (ADDRESS, now)).unwrap();
        let second = gate.enter(Some(&secret(1)), None, &secret(8), (ADDRESS, now)).unwrap();
        assert_ne!(first.id, second.id);
        assert_eq!(gate.check(&secret(9), now + SESSION_IDLE_MAX), Ok(first));
        assert_eq!(gate.check(&secret(9), now + SESSION_IDLE_MAX * 2), Ok(first));
        assert_eq!(gate.check(&secret(8), now + SESSION_IDLE_MAX * 2), Err(Denial::NoSession));
    }

    #[test]
    fn guesses_wait_longer_and_longer_and_the_right_link_does_not() {
        let (mut gate, now) = gate(None, None);
        for _ in 0..GUESSES_FREE {
            assert_eq!(gate.enter(Some(&secret(2)), None, &secret(9), (ADDRESS, now)), Err(Denial::Token));
        }
        assert_eq!(gate.enter(None, None, &secret(9), (ADDRESS, now)), Err(Denial::Wait(WAIT_FIRST)));
        assert!(gate.enter(Some(&secret(1)), None, &secret(9), (ADDRESS, now)).is_ok());
        let mut at = now;
        for n in 0..20 {
            at += WAIT_MAX;
            assert_eq!(gate.enter(None, None, &secret(9), (ADDRESS, at)), Err(Denial::Token), "{n}");
        }
        assert_eq!(gate.enter(None, None, &secret(9), (ADDRESS, at)), Err(Denial::Wait(WAIT_MAX)));
    }

    #[test]
    fn a_password_is_asked_for_and_guesses_of_all_are_bounded() {
        let (mut gate, now) = gate(Some("open sesame"), None);
        let mut enter = |password, ip: u32, at| {
            gate.enter(Some(&secret(1)), password, &secret(9), (IpAddr::from(ip.to_be_bytes()), at)).map(|_| ())
        };
        assert_eq!(enter(None, 1, now), Err(Denial::PasswordMissing));
        assert_eq!(enter(Some("open sesame"), 1, now), Ok(()));
        for ip in 0..PASSWORDS_PER_MINUTE_MAX {
            assert_eq!(enter(Some("open"), ip, now), Err(Denial::PasswordWrong));
        }
        assert_eq!(enter(Some("open sesame"), 9999, now), Err(Denial::Wait(Duration::from_secs(60))));
        assert_eq!(enter(Some("open sesame"), 9999, now + Duration::from_secs(60)), Ok(()));
    }

    #[test]
    fn what_has_expired_is_over_for_everybody() {
        let (mut gate, now) = gate(None, Some(Duration::from_secs(60)));
        gate.enter(Some(&secret(1)), None, &secret(9), (ADDRESS, now)).unwrap();
        let later = now + Duration::from_secs(60);
        assert_eq!(gate.check(&secret(9), later), Err(Denial::Expired));
        assert_eq!(gate.enter(Some(&secret(1)), None, &secret(9), (ADDRESS, later)), Err(Denial::Expired));
    }

    #[test]
    fn sessions_and_guessers_are_bounded() {
        let (mut gate, now) = gate(None, None);
        for n in 0..SESSIONS_MAX as u64 + 10 {
            let drawn = Secret(Zeroizing::new(u128::from(n).to_be_bytes()));
            gate.enter(Some(&secret(1)), None, &drawn, (ADDRESS, now + Duration::from_millis(n))).unwrap();
        }
        assert_eq!(gate.sessions.len(), SESSIONS_MAX);
        for n in 0..ADDRESSES_MAX as u32 + 10 {
            let _ = gate.enter(None, None, &secret(9), (IpAddr::from(n.to_be_bytes()), now));
        }
        assert_eq!(gate.guesses.len(), ADDRESSES_MAX);
    }

    #[test]
    fn whoever_opens_the_link_again_and_again_throws_out_nobody_else() {
        let (mut gate, now) = gate(None, None);
        let other = IpAddr::from([192, 0, 2, 2]);
        let first = gate.enter(Some(&secret(1)), None, &secret(9), (other, now)).unwrap();
        for n in 1..=SESSIONS_MAX as u64 + 100 {
            let drawn = Secret(Zeroizing::new(u128::from(n).to_be_bytes()));
            gate.enter(Some(&secret(1)), None, &drawn, (ADDRESS, now + Duration::from_millis(n))).unwrap();
        }
        let last = now + Duration::from_secs(60);
        assert_eq!(gate.check(&secret(9), last), Ok(first));
        // Nor does he when somebody else comes.
        gate.enter(Some(&secret(1)), None, &secret(8), (IpAddr::from([192, 0, 2, 3]), last)).unwrap();
        assert_eq!(gate.check(&secret(9), last), Ok(first));
        assert_eq!(gate.sessions.len(), SESSIONS_MAX);
    }

    proptest::proptest! {
        #[test]
        fn a_secret_is_written_in_one_way(text in "[A-Za-z0-9_+/=-]{20,24}") {
            // Two texts of one secret would let in by what was never given.
            if let Some(secret) = Secret::decode(&text) {
                proptest::prop_assert_eq!(secret.encode(), text);
            }
        }

        #[test]
        fn no_text_is_a_secret_that_panics(text: String) {
            let _ = Secret::decode(&text);
        }
    }
}
