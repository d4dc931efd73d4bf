//! The control connection's state machine: preface, framing, keep-alive and time limits.
//!
//! A session takes bytes (`handle_bytes`) and the time (`handle_timeout`), and gives bytes (`poll_transmit`),
//! events (`poll_event`) and the moment at which it wants to be called again (`poll_timeout`). Whether the bytes
//! cross the network in the clear or inside TLS is not its business.
//!
//! Life: `Opening` (our preface is queued, theirs is awaited) → `Greeting` (the client's hello, then the server's
//! answer, is awaited) → `Open` (messages) → `Closed` (one `Event::Closed`, then nothing). Every error is final.
//!
//! A client that was not let in reaches no request's code, and one that was reaches only those for which it has the
//! rights: everything else is answered here.
//!
//! ```text
//! message  0 length u32 little-endian   4 body (postcard)
//! ```

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::message::{Hello, Message, Reply, TurnedAway, Welcome};
use super::rights::Rights;
use super::wire::{PREFACE_BYTES, PROTOCOL_VERSION, Preface, WireError};

/// Longest body of one message.
pub const MESSAGE_BYTES_MAX: usize = 512 * 1024;
/// Longest body of a message to a server that has not yet let its client in.
pub const HELLO_BYTES_MAX: usize = 1024;
/// Most bytes that wait for a peer that does not read; beyond it the session ends.
pub const OUTBOX_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most messages decoded and not yet taken.
pub const EVENTS_MAX: usize = 1024;
/// Time for the peer's preface, and for a client's hello, to arrive.
pub const OPENING_MAX: Duration = Duration::from_secs(5);
/// A session that heard nothing for so long is over.
pub const IDLE_MAX: Duration = Duration::from_secs(20);
/// A client that said nothing for so long says `Ping`.
pub const KEEPALIVE_EVERY: Duration = Duration::from_secs(4);

const LENGTH_BYTES: usize = 4;

/// Which end of the session this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Asks, and keeps the session alive.
    Client,
    /// Answers.
    Server,
}

/// What came out of a session.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// To a server: the client says why it should be let in. Answer with [`Session::welcome`] or
    /// [`Session::turn_away`].
    Hello(Hello),
    /// To a client: it was let in.
    Welcome(Welcome),
    /// A message other than keep-alive.
    Message(Message),
    /// The session is over; nothing follows.
    Closed(Ending),
}

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ending {
    /// The peer said so.
    #[error("the peer ended the session: {0}")]
    Bye(String),
    /// The server did not let us in, or no longer.
    #[error("{}", .0.why)]
    TurnedAway(TurnedAway),
    /// The connection ended without a word.
    #[error("the peer closed the connection")]
    Lost,
    /// The first bytes were not ours, or of another version.
    #[error("{0}")]
    Wire(#[from] WireError),
    /// A message that is empty, or longer than [`MESSAGE_BYTES_MAX`] (before a client is let in: [`HELLO_BYTES_MAX`]).
    #[error("the peer announced a message of {0} bytes, which is more or less than it may have")]
    Length(u64),
    /// A message that does not decode.
    #[error("the peer sent a message that this version does not know")]
    Unknown,
    /// A hello too many, or anything else before or instead of one.
    #[error("the peer sent a message out of turn")]
    OutOfTurn,
    /// What carries the session failed.
    #[error("{0}")]
    Transport(String),
    /// The peer does not read, or says too much at once.
    #[error("too much waits to be read (limit {0})")]
    Backlog(usize),
    /// No preface in time.
    #[error("the peer did not open the session within {} s", OPENING_MAX.as_secs())]
    OpeningTimeout,
    /// Nothing heard in time.
    #[error("nothing heard from the peer for {} s", IDLE_MAX.as_secs())]
    IdleTimeout,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Opening,
    /// The peer's preface is here, the hello is not judged. `said`: the server has it and is thinking.
    Greeting {
        said: bool,
    },
    Open,
    Closed,
}

/// One end of a control connection.
#[derive(Debug)]
pub struct Session {
    role: Role,
    state: State,
    /// What the client was let in for.
    rights: Rights,
    /// Received and not yet decoded. Never longer than one message and what came with it in one read.
    inbox: Vec<u8>,
    /// To be sent. At most [`OUTBOX_BYTES_MAX`].
    outbox: Vec<u8>,
    /// At most [`EVENTS_MAX`] and one `Closed`.
    events: VecDeque<Event>,
    born: Instant,
    heard_at: Instant,
    spoke_at: Instant,
}

impl Session {
    /// The client's end, over a connection that has just been made.
    pub fn client(hello: Hello, now: Instant) -> Session {
        let mut session = Session::new(Role::Client, now);
        session.queue(&Message::Hello(hello), now);
        session
    }

    /// The server's end, over a connection that has just been made.
    pub fn server(now: Instant) -> Session {
        Session::new(Role::Server, now)
    }

    fn new(role: Role, now: Instant) -> Session {
        Session {
            role,
            state: State::Opening,
            rights: Rights::NONE,
            inbox: Vec::new(),
            outbox: Preface { version: PROTOCOL_VERSION }.encode().to_vec(),
            events: VecDeque::new(),
            born: now,
            heard_at: now,
            spoke_at: now,
        }
    }

    /// What the client may do; nothing before it is let in.
    pub fn rights(&self) -> Rights {
        self.rights
    }

    /// Whether it is over (its last event may still wait).
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Bytes that arrived.
    pub fn handle_bytes(&mut self, bytes: &[u8], now: Instant) {
        if self.is_closed() || bytes.is_empty() {
            return;
        }
        self.heard_at = now;
        self.inbox.extend_from_slice(bytes);
        if let Err(ending) = self.decode(now) {
            self.close(ending);
        }
    }

    /// Let the client in: the answer to [`Event::Hello`].
    pub fn welcome(&mut self, welcome: Welcome, now: Instant) {
        if self.state == (State::Greeting { said: true }) {
            self.rights = welcome.rights;
            self.queue(&Message::Welcome(welcome), now);
            self.state = State::Open;
            self.heard_at = now;
        }
    }

    /// Do not let the client in, or no longer; it is told why, and nothing more is heard.
    pub fn turn_away(&mut self, away: TurnedAway, now: Instant) {
        self.queue(&Message::TurnedAway(away.clone()), now);
        self.close(Ending::TurnedAway(away));
    }

    /// What carries the session failed.
    pub fn handle_failure(&mut self, why: String) {
        self.close(Ending::Transport(why));
    }

    /// The connection's receiving side ended.
    pub fn handle_end(&mut self) {
        let never_ours = self.state == State::Opening && !self.inbox.is_empty();
        self.close(if never_ours { Ending::Wire(WireError::NotLinerate) } else { Ending::Lost });
    }

    /// Time has passed: keep alive, or give up.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.state {
            State::Opening if now >= self.born + OPENING_MAX => self.close(Ending::OpeningTimeout),
            State::Greeting { said: false } if self.is_overdue(now) => self.close(Ending::OpeningTimeout),
            State::Open if now >= self.heard_at + IDLE_MAX => self.close(Ending::IdleTimeout),
            State::Open if self.role == Role::Client && now >= self.spoke_at + KEEPALIVE_EVERY => {
                self.send(&Message::Ping, now);
            }
            _ => {}
        }
    }

    /// When [`Session::handle_timeout`] wants to be called next; `None` once closed.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match (self.state, self.role) {
            (State::Opening, _) => Some(self.born + OPENING_MAX),
            (State::Greeting { .. }, Role::Client) => Some(self.heard_at + IDLE_MAX),
            (State::Greeting { said: false }, Role::Server) => Some(self.born + OPENING_MAX),
            // Whoever judges decides when.
            (State::Greeting { said: true }, Role::Server) => None,
            (State::Open, Role::Client) => Some((self.heard_at + IDLE_MAX).min(self.spoke_at + KEEPALIVE_EVERY)),
            (State::Open, Role::Server) => Some(self.heard_at + IDLE_MAX),
            (State::Closed, _) => None,
        }
    }

    /// What happened since the last call, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Bytes to be sent, oldest first; say how many were taken with [`Session::handle_sent`].
    pub fn poll_transmit(&self) -> &[u8] {
        &self.outbox
    }

    /// The first `n` bytes of [`Session::poll_transmit`] were taken.
    pub fn handle_sent(&mut self, n: usize) {
        self.outbox.drain(..n.min(self.outbox.len()));
    }

    /// Bytes that wait to be sent.
    pub fn backlog(&self) -> usize {
        self.outbox.len()
    }

    /// Queue a message. Nothing happens on a session that is not open.
    pub fn send(&mut self, message: &Message, now: Instant) {
        if self.state == State::Open {
            self.queue(message, now);
        }
    }

    /// How long the other end may take for the first words: a server waits for a hello, a client for the judgement.
    fn is_overdue(&self, now: Instant) -> bool {
        match self.role {
            Role::Server => now >= self.born + OPENING_MAX,
            Role::Client => now >= self.heard_at + IDLE_MAX,
        }
    }

    fn queue(&mut self, message: &Message, now: Instant) {
        if self.is_closed() {
            return;
        }
        // Postcard fails only on types without a known length, and there are none in `Message`.
        let Ok(body) = postcard::to_stdvec(message) else { return self.close(Ending::Unknown) };
        if body.len() > MESSAGE_BYTES_MAX || self.outbox.len() + body.len() > OUTBOX_BYTES_MAX {
            return self.close(Ending::Backlog(OUTBOX_BYTES_MAX));
        }
        self.outbox.extend_from_slice(&(body.len() as u32).to_le_bytes());
        self.outbox.extend_from_slice(&body);
        self.spoke_at = now;
    }

    fn close(&mut self, ending: Ending) {
        if self.state != State::Closed {
            self.state = State::Closed;
            self.events.push_back(Event::Closed(ending));
        }
    }

    fn decode(&mut self, now: Instant) -> Result<(), Ending> {
        let mut at = 0;
        if self.state == State::Opening {
            at = self.decode_preface()?;
        }
        while !matches!(self.state, State::Opening | State::Closed) {
            let Some(body) = next_body(&self.inbox[at..], self.body_bytes_max())? else { break };
            let end = at + LENGTH_BYTES + body.len();
            let message = postcard::from_bytes(body).map_err(|_| Ending::Unknown)?;
            at = end;
            self.handle_message(message, now)?;
        }
        self.inbox.drain(..at.min(self.inbox.len()));
        Ok(())
    }

    fn body_bytes_max(&self) -> usize {
        match (self.role, self.state) {
            (Role::Client, _) | (_, State::Open) => MESSAGE_BYTES_MAX,
            _ => HELLO_BYTES_MAX,
        }
    }

    /// How many bytes of the inbox the preface took: 0 while it is incomplete.
    fn decode_preface(&mut self) -> Result<usize, Ending> {
        if !Preface::may_start(&self.inbox) {
            return Err(WireError::NotLinerate.into());
        }
        let Some(bytes) = self.inbox.first_chunk() else { return Ok(0) };
        match Preface::decode(bytes)?.version {
            PROTOCOL_VERSION => {
                self.state = State::Greeting { said: false };
                Ok(PREFACE_BYTES)
            }
            theirs => Err(WireError::Version { theirs }.into()),
        }
    }

    fn handle_message(&mut self, message: Message, now: Instant) -> Result<(), Ending> {
        match (message, self.role, self.state) {
            (Message::Bye(why), ..) => return Err(Ending::Bye(why)),
            (Message::TurnedAway(away), Role::Client, _) => return Err(Ending::TurnedAway(away)),
            (Message::Hello(hello), Role::Server, State::Greeting { said: false }) => {
                self.state = State::Greeting { said: true };
                self.events.push_back(Event::Hello(hello));
            }
            (Message::Welcome(welcome), Role::Client, State::Greeting { .. }) => {
                self.state = State::Open;
                self.rights = welcome.rights;
                self.events.push_back(Event::Welcome(welcome));
            }
            (Message::Ping, _, State::Open) => self.send(&Message::Pong, now),
            (Message::Pong, _, State::Open) => {}
            (Message::Request { id, body }, Role::Server, State::Open) if !self.rights.contains(body.needs()) => {
                let why = format!("this needs the right to {}; the ticket gives {}", body.needs(), self.rights);
                self.send(&Message::Reply { id, body: Reply::Refused(why) }, now);
            }
            (message @ Message::Copy { .. }, _, State::Open)
            | (message @ Message::Request { .. }, Role::Server, State::Open)
            | (message @ Message::Reply { .. }, Role::Client, State::Open) => self.add_event(message)?,
            _ => return Err(Ending::OutOfTurn),
        }
        Ok(())
    }

    fn add_event(&mut self, message: Message) -> Result<(), Ending> {
        if self.events.len() >= EVENTS_MAX {
            return Err(Ending::Backlog(EVENTS_MAX));
        }
        self.events.push_back(Event::Message(message));
        Ok(())
    }
}

/// The first whole message body in `bytes`.
fn next_body(bytes: &[u8], bytes_max: usize) -> Result<Option<&[u8]>, Ending> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    if length == 0 || length > bytes_max {
        return Err(Ending::Length(length as u64));
    }
    Ok(rest.get(..length))
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
