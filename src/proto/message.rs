//! What is said over the control connection: requests from the client, one reply to each, in order.
//!
//! Encoded with postcard, framed by [`crate::proto::session`]. A job is a set of data streams that work on the same
//! thing: a bulk transfer in one or both directions, or request/response.

use serde::{Deserialize, Serialize};

use super::copy::CopyMessage;
use super::copy::options::{CopyRoute, CopySpec};
use super::copy::report::EndReport;
use super::facts::{CpuClock, Environment, TcpSummary};
use super::rights::Rights;
use super::ticket::Secret;
use super::wire::Token;

/// Most data streams of one job, both directions together.
pub const STREAMS_MAX: u32 = 8192;
/// Most bytes that one system call of a job may be asked to move.
pub const CHUNK_BYTES_MAX: u64 = 64 << 20;
/// Most worker threads that a client may ask of a server.
pub const WORKERS_MAX: u32 = 256;

/// Number of a job within its session.
pub type JobId = u32;

/// One message, either way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// Are you there?
    Ping,
    /// I am.
    Pong,
    /// The client's first message, and only that: why it should be let in.
    Hello(Hello),
    /// The server's answer to it when it lets the client in; [`Message::TurnedAway`] when it does not.
    Welcome(Welcome),
    /// Client to server. `id` comes back in the reply.
    Request {
        /// Chosen by the client, counting up.
        id: u32,
        /// What is asked.
        body: Request,
    },
    /// Server to client.
    Reply {
        /// Of the request that this answers.
        id: u32,
        /// The answer.
        body: Reply,
    },
    /// Either way, once a copy has started.
    Copy {
        /// Which.
        job: JobId,
        /// What the two ends of it say to each other.
        body: CopyMessage,
    },
    /// The sender ends the session on purpose, for this reason.
    Bye(String),
    /// The server does not let this client in, or no longer.
    TurnedAway(TurnedAway),
}

/// Why a client should be let in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// The secret of its ticket; `None` for a stranger.
    pub secret: Option<Secret>,
}

/// What a client that was let in may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Those of its ticket, as far as the server grants them.
    pub rights: Rights,
    /// The server ends the session after so many seconds; `None` for never.
    pub seconds_max: Option<u32>,
}

/// Why a client must go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnedAway {
    /// For a person.
    pub why: String,
    /// A ticket would have helped, and none was shown.
    pub wants_ticket: bool,
}

/// What a client may ask.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// Who are you and what can you do?
    Describe,
    /// Make ready for a job; answered by [`Reply::Prepared`].
    Prepare(Box<JobSpec>),
    /// Make ready for a copy; answered by [`Reply::Prepared`].
    PrepareCopy(Box<CopyJob>),
    /// How is the copy doing at your end? Answered by [`Reply::CopyReported`].
    ReportCopy(JobId),
    /// Answered once every stream of the job has joined; then the server's own streams begin.
    Start(JobId),
    /// Counters and clocks, now.
    Sample(JobId),
    /// End the job: its streams are dropped, whatever is still in flight.
    Stop(JobId),
}

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// To [`Request::Describe`].
    Described(Box<Description>),
    /// To [`Request::Prepare`]: one token a stream, first those that carry client to server, then the others.
    Prepared {
        /// Names the job from now on.
        job: JobId,
        /// One for each stream.
        tokens: Vec<Token>,
    },
    /// To [`Request::Start`].
    Started,
    /// To [`Request::Sample`].
    Sampled(Box<Sample>),
    /// To [`Request::Stop`]: TCP_INFO of the streams on which the server sent.
    Stopped(TcpSummary),
    /// To [`Request::ReportCopy`].
    CopyReported(Box<EndReport>),
    /// What was asked for is not there, or cannot be used; the session goes on.
    Missing(String),
    /// The server will not or cannot; the session goes on.
    Refused(String),
}

/// A server, as it presents itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// Its machine and network path.
    pub environment: Environment,
    /// Send methods it knows, and why one does not work there.
    pub send_methods: Vec<Capability>,
    /// Receive methods it knows, and why one does not work there.
    pub receive_methods: Vec<Capability>,
    /// Why its kernel cannot do TLS itself; `None` where it can.
    pub kernel_tls: Option<String>,
    /// Streams it can take at once (file descriptors).
    pub streams_max: u32,
    /// Whether it serves a folder, so that a sink or source file may be named.
    pub serves_folder: bool,
    /// Other sessions it has right now.
    pub other_sessions: u32,
}

/// A method by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capability {
    /// Its name in the tables of `mover`.
    pub name: String,
    /// Why it does not work there; `None` where it does.
    pub unavailable: Option<String>,
}

/// Which way the bytes of a transfer go, seen from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// Client to server.
    Send,
    /// Server to client.
    Receive,
    /// Both at the same time, on streams of their own.
    Both,
}

impl Request {
    /// What a session must be allowed to do for this to be considered at all.
    pub fn needs(&self) -> Rights {
        match self {
            Request::Describe => Rights::NONE,
            Request::Prepare(spec) => spec.needs(),
            Request::PrepareCopy(copy) => match copy.spec.route {
                CopyRoute::Push { .. } => Rights::WRITE,
                CopyRoute::Pull { .. } => Rights::READ,
            },
            // Whoever has a job was allowed to prepare it.
            Request::Start(_) | Request::Sample(_) | Request::Stop(_) | Request::ReportCopy(_) => Rights::NONE,
        }
    }
}

impl JobSpec {
    /// A job measures; one that names a file of the server reads or writes it as well.
    fn needs(&self) -> Rights {
        let mut needed = Rights::BENCH;
        if let Work::Transfer(transfer) = &self.work {
            let (up, down) = transfer.direction.split(1);
            if down > 0 && transfer.source != Place::Nothing {
                needed = needed.union(Rights::READ);
            }
            if up > 0 && transfer.sink != Place::Nothing {
                needed = needed.union(Rights::WRITE);
            }
        }
        needed
    }
}

impl Direction {
    /// Streams that carry client to server, and server to client, when each way has `streams`.
    pub fn split(self, streams: u32) -> (u32, u32) {
        match self {
            Direction::Send => (streams, 0),
            Direction::Receive => (0, streams),
            Direction::Both => (streams, streams),
        }
    }

    /// The name in options and results.
    pub fn name(self) -> &'static str {
        match self {
            Direction::Send => "send",
            Direction::Receive => "receive",
            Direction::Both => "both",
        }
    }
}

/// A job, as the client wants it of the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// What the streams do.
    pub work: Work,
    /// Streams, per direction.
    pub streams: u32,
    /// Options for the server's sockets.
    pub options: SocketOptions,
    /// Worker threads wanted.
    pub workers: u32,
    /// CPUs to pin them to, round robin; empty for none.
    pub cpus: Vec<u32>,
    /// Busy polling instead of sleeping.
    pub spin: bool,
    /// The streams go through TLS.
    pub tls: bool,
}

/// A copy, and the streams that carry it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CopyJob {
    /// What is copied, and how.
    pub spec: CopySpec,
    /// Streams, all in the direction of the copy.
    pub streams: u32,
    /// Options for the server's sockets.
    pub options: SocketOptions,
    /// The streams go through TLS.
    pub tls: bool,
}

/// What the streams of a job do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Work {
    /// Frames one way or both.
    Transfer(Transfer),
    /// The client sends `request` bytes, the server answers with `reply` bytes when it holds them all, and again.
    Exchange {
        /// Bytes of a request.
        request: u64,
        /// Bytes of a reply.
        reply: u64,
    },
}

/// A bulk transfer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
    /// Which way.
    pub direction: Direction,
    /// Send method by name.
    pub send: String,
    /// Receive method by name.
    pub receive: String,
    /// Bytes that one system call is asked to move.
    pub chunk: u64,
    /// Where the server's sent bytes come from.
    pub source: Place,
    /// Where the server's received bytes go.
    pub sink: Place,
    /// What every sending stream sends.
    pub quota: Quota,
}

/// Where bytes come from or go to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// Memory that stays in the cache; as a sink: nowhere.
    Nothing,
    /// A file inside the folder that the server serves; bytes, not text.
    File(Vec<u8>),
}

/// How much a sending stream sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Quota {
    /// Until the job is stopped.
    UntilStopped,
    /// One frame of `warmup` bytes, then one timed frame of `bytes`.
    Exactly {
        /// Left out of the figures.
        warmup: u64,
        /// What is timed.
        bytes: u64,
    },
}

/// Socket options of the data streams; `None` leaves the system's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketOptions {
    /// TCP_CONGESTION.
    pub congestion: Option<String>,
    /// TCP_NODELAY.
    pub nodelay: bool,
    /// SO_SNDBUF, bytes.
    pub send_buffer: Option<u32>,
    /// SO_RCVBUF, bytes.
    pub receive_buffer: Option<u32>,
    /// TCP_MAXSEG, bytes.
    pub mss: Option<u32>,
    /// DiffServ code point, 0 to 63.
    pub dscp: Option<u32>,
    /// SO_MAX_PACING_RATE, bytes/s.
    pub pace: Option<u64>,
}

/// Counters of one worker thread, and its clock when it read them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerSample {
    /// Monotonic clock of that machine, ns from an arbitrary start.
    pub at_ns: u64,
    /// What its sending streams gave to the kernel.
    pub sent: Tally,
    /// What its receiving streams took.
    pub received: Tally,
    /// Times it waited for, or looked for, events.
    pub polls: u64,
    /// Timed frames that it has received whole.
    pub timed: Timed,
}

/// What a stream, or several, moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Payload bytes.
    pub bytes: u64,
    /// System calls that moved them, or tried.
    pub calls: u64,
    /// MSG_ZEROCOPY completions.
    pub completions: u64,
    /// … of them that the kernel copied after all.
    pub copied: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.bytes += other.bytes;
        self.calls += other.calls;
        self.completions += other.completions;
        self.copied += other.copied;
    }
}

/// Timed frames that were received whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timed {
    /// How many.
    pub frames: u32,
    /// Their payload.
    pub bytes: u64,
    /// When the first byte of the first was taken, ns on the worker's clock.
    pub first_ns: u64,
    /// When the last byte of the last was taken.
    pub last_ns: u64,
}

impl std::ops::AddAssign for Timed {
    fn add_assign(&mut self, other: Timed) {
        if other.frames == 0 {
            return;
        }
        self.first_ns = if self.frames == 0 { other.first_ns } else { self.first_ns.min(other.first_ns) };
        self.last_ns = self.last_ns.max(other.last_ns);
        self.frames += other.frames;
        self.bytes += other.bytes;
    }
}

/// One end's counters and clocks at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// One for each worker.
    pub workers: Vec<WorkerSample>,
    /// CPU time.
    pub cpu: CpuClock,
    /// What went wrong on streams of the job so far; at most [`FAULTS_MAX`].
    pub faults: Vec<String>,
    /// Other sessions that the server had at that moment.
    pub other_sessions: u32,
}

/// Most faults that a [`Sample`] names.
pub const FAULTS_MAX: usize = 8;
