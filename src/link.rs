//! The client's end of a session, as calls that wait: one control connection, one engine, one mio loop.
//!
//! Whatever is waited for, a signal, a lost server and the end of a stream are noticed at once.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};
use rustls::ClientConfig;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;

use crate::engine::control::ControlConnection;
use crate::engine::dial::DialError;
use crate::engine::race;
use crate::engine::{Config, Engine, Event as EngineEvent, Tag};
use crate::measure::cpu;
use crate::measure::histogram::LatencyHistogram;
use crate::proto::copy::CopyMessage;
use crate::proto::message::{Hello, JobId, Message, Reply, Request, Sample, SocketOptions, Welcome, WorkerSample};
use crate::proto::secret::Secret;
use crate::proto::session::{Ending, Event, Session};
use crate::sys::tcp_info::TcpInfo;
use crate::text::printable_limit;
use crate::tls::client::Pin;
use crate::tls::{self, Ciphers, TlsConnection, TlsError};

/// Time for the control connection to be made, after the last address was tried.
pub const CONNECT_MAX: Duration = Duration::from_secs(8);
/// Time for one answer of the server; above that of joining, so that the server's own reason arrives.
pub const ANSWER_MAX: Duration = Duration::from_secs(15);
/// How often whoever waits is called.
const TICK: Duration = Duration::from_millis(250);
/// Bytes that wait to be sent beyond which a copy says nothing more for now.
pub const BACKLOG_BYTES: usize = 512 << 10;
/// Longest text of a peer that is shown.
const REASON_CHARS_MAX: usize = 400;

const CONTROL: Token = Token(0);
const WAKER: Token = Token(1);
const SIGNALS: Token = Token(2);

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The session is over.
    #[error("{peer}: {why}")]
    Lost {
        /// The server.
        peer: SocketAddr,
        /// How it ended.
        why: String,
    },
    /// The server will not.
    #[error("{peer}: refused: {why}")]
    Refused {
        /// The server.
        peer: SocketAddr,
        /// Its reason.
        why: String,
    },
    /// What was asked for is not there.
    #[error("{peer}: {why}")]
    Missing {
        /// The server.
        peer: SocketAddr,
        /// What, and why.
        why: String,
    },
    /// The server lets nobody in without a ticket, and we showed none.
    #[error("{peer}: refused: {why}")]
    WantsTicket {
        /// The server.
        peer: SocketAddr,
        /// Its reason.
        why: String,
    },
    /// The server let us in and does so no longer: nothing that is asked after this has an answer.
    #[error("{peer}: turned away: {why}")]
    TurnedAway {
        /// The server.
        peer: SocketAddr,
        /// Its reason.
        why: String,
    },
    /// TLS cannot even begin.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// SIGINT or SIGTERM.
    #[error("interrupted")]
    Interrupted,
    /// This machine lacks something.
    #[error("{what}: {error}")]
    System {
        /// What was wanted.
        what: &'static str,
        /// The system's answer.
        error: io::Error,
    },
}

/// Called now and then while something is waited for.
pub trait Ticker {
    /// A moment has passed.
    fn tick(&mut self);
}

/// Whom to reach, and why we should be let in.
#[derive(Clone, Debug)]
pub struct Access {
    /// Whom we accept.
    pub pin: Pin,
    /// What lets us in; `None` for a stranger.
    pub secret: Option<Secret>,
    /// The way there is an ssh connection.
    pub through_ssh: bool,
}

/// A session with a server.
pub struct Link {
    poll: Poll,
    events: Events,
    waker: Arc<Waker>,
    signals: Signals,
    control: ControlConnection,
    peer: SocketAddr,
    tls_config: Arc<ClientConfig>,
    is_server_known: bool,
    through_ssh: bool,
    welcome: Option<Welcome>,
    engine: Option<Engine>,
    replies: VecDeque<(u32, Reply)>,
    copies: VecDeque<(JobId, CopyMessage)>,
    engine_events: VecDeque<EngineEvent>,
    ending: Option<Ending>,
    next: u32,
}

impl Link {
    /// Connect to the first of `addresses` that answers, and be let in.
    pub fn connect(addresses: &[SocketAddr], bind: Option<IpAddr>, access: &Access) -> Result<Link, LinkError> {
        Link::connect_within(addresses, bind, access, CONNECT_MAX)
    }

    /// As [`Link::connect`], with another limit for each connection to be made.
    pub fn connect_within(
        addresses: &[SocketAddr],
        bind: Option<IpAddr>,
        access: &Access,
        timeout: Duration,
    ) -> Result<Link, LinkError> {
        tls::warm_up();
        let options = SocketOptions { nodelay: true, ..SocketOptions::default() };
        let (sock, peer) = race::connect_first(addresses, bind, &options, timeout)?;
        Link::open(sock, peer, access)?.let_in()
    }

    fn open(sock: TcpStream, peer: SocketAddr, access: &Access) -> Result<Link, LinkError> {
        let system = |what| move |error| LinkError::System { what, error };
        let poll = Poll::new().map_err(system("epoll"))?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(system("eventfd"))?);
        let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(system("signals"))?;
        poll.registry().register(&mut signals, SIGNALS, Interest::READABLE).map_err(system("signals"))?;
        let tls_config = tls::client::config(&Ciphers::of_this_machine(), access.pin)?;
        let connection = TlsConnection::client(tls_config.clone())?;
        let session = Session::client(Hello { secret: access.secret.clone() }, Instant::now());
        let place = (poll.registry(), CONTROL);
        let control = ControlConnection::new(sock, peer, connection, session, &[], place).map_err(system("epoll"))?;
        let mut link = Link {
            poll,
            events: Events::with_capacity(64),
            waker,
            signals,
            control,
            peer,
            tls_config,
            is_server_known: access.pin != Pin::Anybody,
            through_ssh: access.through_ssh,
            welcome: None,
            engine: None,
            replies: VecDeque::new(),
            copies: VecDeque::new(),
            engine_events: VecDeque::new(),
            ending: None,
            next: 0,
        };
        link.control.handle_ready();
        Ok(link)
    }

    /// Wait for the server's judgement.
    fn let_in(mut self) -> Result<Link, LinkError> {
        self.until(ANSWER_MAX, &mut |link: &mut Link| link.welcome.is_some().then_some(()))?;
        Ok(self)
    }

    /// What the server let us in for.
    pub fn welcome(&self) -> Welcome {
        self.welcome.clone().unwrap_or_default()
    }

    /// For streams to the same server.
    pub fn tls_config(&self) -> &Arc<ClientConfig> {
        &self.tls_config
    }

    /// The cipher suite that both ends agreed on.
    pub fn cipher(&self) -> &'static str {
        self.control.cipher().unwrap_or_default()
    }

    /// Whether the server proved to be the one that was meant.
    pub fn is_server_known(&self) -> bool {
        self.is_server_known
    }

    /// Whether everything goes through an ssh connection.
    pub fn through_ssh(&self) -> bool {
        self.through_ssh
    }

    /// The server's address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Our address on this route.
    pub fn local(&self) -> Result<SocketAddr, LinkError> {
        self.control.local().map_err(|error| LinkError::System { what: "no local address", error })
    }

    /// An engine of that configuration; the one at hand if it fits.
    pub fn engine(&mut self, config: Config) -> Result<&mut Engine, LinkError> {
        if self.engine.as_ref().is_none_or(|engine| *engine.config() != config) {
            self.engine = None;
            self.engine_events.clear();
            let engine = Engine::start(config, self.waker.clone())
                .map_err(|error| LinkError::System { what: "cannot start workers", error })?;
            self.engine = Some(engine);
        }
        self.current_engine()
    }

    /// The engine of the job at hand.
    pub fn current_engine(&mut self) -> Result<&mut Engine, LinkError> {
        self.engine.as_mut().ok_or(LinkError::System { what: "no engine", error: io::ErrorKind::NotFound.into() })
    }

    /// The kernel's estimate of a round trip.
    pub fn round_trip(&self) -> Duration {
        self.control.round_trip()
    }

    /// Ask, and wait for the answer. A refusal is an error.
    pub fn call(&mut self, body: Request) -> Result<Reply, LinkError> {
        let id = self.ask(body);
        self.answer(id)
    }

    /// Counters of both ends, asked for at the same time: ours, the server's, and our latencies.
    pub fn samples(&mut self, job: u32) -> Result<(Sample, Sample, LatencyHistogram), LinkError> {
        let id = self.ask(Request::Sample(job));
        let (ours, latency) = self.sample_ours(job)?;
        match self.answer(id)? {
            Reply::Sampled(theirs) => Ok((ours, *theirs, latency)),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Close our streams of a job; their TCP_INFO.
    pub fn stop_ours(&mut self, job: u32) -> Result<Vec<(TcpInfo, Duration)>, LinkError> {
        let wanted = self.next_tag();
        let Some(engine) = &mut self.engine else { return Ok(Vec::new()) };
        engine.stop(u64::from(job), wanted);
        self.until(ANSWER_MAX, &mut |link: &mut Link| {
            link.take_engine(|event| matches!(event, EngineEvent::Stopped { tag, .. } if *tag == wanted))
                .map(|event| if let EngineEvent::Stopped { infos, .. } = event { infos } else { Vec::new() })
        })
    }

    /// Let time pass, unless a stream of ours in that job ends: then how.
    pub fn wait(&mut self, job: u32, time: Duration, ticker: &mut dyn Ticker) -> Result<Option<Ended>, LinkError> {
        let until = Instant::now() + time;
        loop {
            let is_ours =
                |event: &EngineEvent| matches!(event, EngineEvent::Ended { group, .. } if *group == u64::from(job));
            if let Some(EngineEvent::Ended { fault, .. }) = self.take_engine(is_ours) {
                return Ok(Some(Ended { fault: fault.map(|fault| fault.to_string()) }));
            }
            let now = Instant::now();
            if now >= until {
                return Ok(None);
            }
            self.turn((until - now).min(TICK))?;
            ticker.tick();
        }
    }

    /// Say goodbye.
    pub fn close(mut self) {
        self.control.send(&Message::Bye("done".to_string()));
        self.control.say_end();
    }

    /// A reply that does not fit its request.
    pub fn unexpected(&self, reply: &Reply) -> LinkError {
        let why = format!("answered out of turn: {}", printable_limit(format!("{reply:?}").as_bytes(), 80));
        LinkError::Lost { peer: self.peer, why }
    }

    fn sample_ours(&mut self, job: u32) -> Result<(Sample, LatencyHistogram), LinkError> {
        let wanted = self.next_tag();
        let Some(engine) = &mut self.engine else { return Ok(Default::default()) };
        engine.sample(u64::from(job), wanted);
        let (workers, latency) = self.until(ANSWER_MAX, &mut |link: &mut Link| {
            let event =
                link.take_engine(|event| matches!(event, EngineEvent::Sampled { tag, .. } if *tag == wanted))?;
            if let EngineEvent::Sampled { workers, latency, .. } = event { Some((workers, latency)) } else { None }
        })?;
        let workers: Vec<WorkerSample> = workers;
        Ok((Sample { workers, cpu: cpu::now(), ..Sample::default() }, latency))
    }

    /// Ask without waiting; the number by which [`Link::poll_reply`] finds the answer.
    pub fn ask(&mut self, body: Request) -> u32 {
        self.next = self.next.wrapping_add(1);
        self.control.send(&Message::Request { id: self.next, body });
        self.next
    }

    fn answer(&mut self, id: u32) -> Result<Reply, LinkError> {
        let reply = self.until(ANSWER_MAX, &mut |link: &mut Link| {
            let at = link.replies.iter().position(|(reply_id, _)| *reply_id == id)?;
            link.replies.remove(at).map(|(_, reply)| reply)
        })?;
        self.judged(reply)
    }

    fn until<T>(&mut self, longest: Duration, found: &mut dyn FnMut(&mut Link) -> Option<T>) -> Result<T, LinkError> {
        let deadline = Instant::now() + longest;
        loop {
            if let Some(result) = found(self) {
                return Ok(result);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let why = format!("did not answer within {} s", longest.as_secs());
                return Err(LinkError::Lost { peer: self.peer, why });
            }
            self.turn(left)?;
        }
    }

    /// The answer to what was asked, if it is here. A refusal is an error.
    pub fn poll_reply(&mut self, id: u32) -> Result<Option<Reply>, LinkError> {
        let Some(at) = self.replies.iter().position(|(reply_id, _)| *reply_id == id) else { return Ok(None) };
        self.replies.remove(at).map(|(_, reply)| self.judged(reply)).transpose()
    }

    fn judged(&self, reply: Reply) -> Result<Reply, LinkError> {
        match reply {
            Reply::Refused(why) => Err(LinkError::Refused { peer: self.peer, why: shown(&why) }),
            Reply::Missing(why) => Err(LinkError::Missing { peer: self.peer, why: shown(&why) }),
            reply => Ok(reply),
        }
    }

    /// What the server said about a copy, oldest first.
    pub fn poll_copy(&mut self) -> Option<(JobId, CopyMessage)> {
        self.copies.pop_front()
    }

    /// Say something about a copy; whether there is room for more.
    pub fn say_copy(&mut self, job: JobId, body: CopyMessage) -> bool {
        self.control.send(&Message::Copy { job, body });
        self.has_room()
    }

    /// Whether little waits to be sent.
    pub fn has_room(&self) -> bool {
        self.control.session().backlog() < BACKLOG_BYTES
    }

    /// What wakes [`Link::turn`] from other threads.
    pub fn waker(&self) -> Arc<Waker> {
        self.waker.clone()
    }

    /// Wait for something to happen, at most so long, and take note of it.
    pub fn turn(&mut self, longest: Duration) -> Result<(), LinkError> {
        let now = Instant::now();
        let next = self.control.poll_timeout().map_or(longest, |at| at.saturating_duration_since(now).min(longest));
        match self.poll.poll(&mut self.events, Some(next)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                return Err(LinkError::System { what: "epoll", error });
            }
            _ => {}
        }
        if self.events.iter().any(|event| event.token() == SIGNALS) && self.signals.pending().next().is_some() {
            return Err(LinkError::Interrupted);
        }
        self.control.handle_ready();
        while let Some(event) = self.control.poll_event() {
            match event {
                Event::Message(Message::Reply { id, body }) => self.replies.push_back((id, body)),
                Event::Message(Message::Copy { job, body }) => self.copies.push_back((job, body)),
                Event::Closed(ending) => self.ending = Some(ending),
                Event::Welcome(welcome) => self.welcome = Some(welcome),
                Event::Hello(_) | Event::Message(_) => {}
            }
        }
        while let Some(event) = self.engine.as_mut().and_then(Engine::poll_event) {
            self.engine_events.push_back(event);
        }
        let peer = self.peer;
        match &self.ending {
            Some(Ending::TurnedAway(away)) if self.welcome.is_some() => {
                Err(LinkError::TurnedAway { peer, why: shown(&away.why) })
            }
            Some(Ending::TurnedAway(away)) if away.wants_ticket => {
                Err(LinkError::WantsTicket { peer, why: shown(&away.why) })
            }
            Some(Ending::TurnedAway(away)) => Err(LinkError::Refused { peer, why: shown(&away.why) }),
            Some(ending) => Err(LinkError::Lost { peer, why: shown(&ending.to_string()) }),
            None => Ok(()),
        }
    }

    fn take_engine(&mut self, wanted: impl Fn(&EngineEvent) -> bool) -> Option<EngineEvent> {
        let at = self.engine_events.iter().position(wanted)?;
        self.engine_events.remove(at)
    }

    fn next_tag(&mut self) -> Tag {
        self.next = self.next.wrapping_add(1);
        Tag::from(self.next)
    }

    /// Forget what streams of earlier jobs did.
    pub fn forget_ended(&mut self) {
        self.engine_events.retain(|event| !matches!(event, EngineEvent::Ended { .. }));
    }
}

/// What a peer said, safe to show.
fn shown(why: &str) -> String {
    printable_limit(why.as_bytes(), REASON_CHARS_MAX)
}

/// A stream of ours that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// What went wrong; `None` when it ended in order.
    pub fault: Option<String>,
}
