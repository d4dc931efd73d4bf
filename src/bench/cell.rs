//! One cell in one round, and one latency size in one round: prepare, join, warm up, measure, stop.
//!
//! Throughput is what the receiving application took between two readings of its own counters, each worker over its
//! own window on its own clock. When bytes rule instead of a duration, the window goes from the first byte of the
//! timed frames to the last.

use std::time::{Duration, Instant};

use mio::net::TcpStream;

use super::flows::{self, HotSources};
use super::outcome::{EndCost, Round};
use super::plan::{CellPlan, LatencyPlan, Plan};
use crate::engine::Config;
use crate::engine::dial::Dial;
use crate::engine::options::congestion_of;
use crate::engine::secure::Protection;
use crate::link::{Ended, Link, LinkError, Ticker};
use crate::measure::histogram::LatencyHistogram;
use crate::measure::tcp;
use crate::mover::{Sink, Source};
use crate::proto::facts::TcpSummary;
use crate::proto::message::{
    Direction, JobSpec, Quota, Reply, Request, Sample, SocketOptions, Tally, Timed, Transfer, Work, WorkerSample,
};
use crate::proto::probe::Side;
use crate::proto::wire::Join;
use crate::tls::TlsConnection;

/// Time for the streams of a job to connect that are under way together.
const DIAL_MAX: Duration = Duration::from_secs(10);
/// The warm-up lasts at least so many round trips, so that slow start is over.
const WARMUP_ROUND_TRIPS: u32 = 20;
/// How often the server is asked whether a fixed number of bytes has arrived.
const POLL_BYTES: Duration = Duration::from_millis(20);
/// A fixed number of bytes that does not move for so long has failed.
const STALL_MAX: Duration = Duration::from_secs(30);
/// A request that is not answered for so long has failed.
const EXCHANGE_MAX: Duration = Duration::from_secs(30);

/// What came of a cell.
#[derive(Debug)]
pub enum Measured<T> {
    /// A result.
    Done(T),
    /// This cell cannot be measured, or failed; others can go on.
    Unavailable(String),
}

/// This end of a run.
pub struct Client {
    /// The session.
    pub link: Link,
    /// What is sent from memory.
    pub hot: HotSources,
}

/// A running job: its number and our end of its streams.
struct Job {
    id: u32,
    socks: Vec<(TcpStream, Protection)>,
    /// The first so many of them carry client to server.
    up: u32,
    congestion: String,
}

/// Measure one throughput cell once.
pub fn transfer(
    client: &mut Client,
    plan: &Plan,
    options: &SocketOptions,
    cell: &CellPlan,
    ticker: &mut dyn Ticker,
) -> Result<Measured<(Round, TcpSummary)>, LinkError> {
    let transfer = Transfer {
        direction: plan.draft.direction,
        send: cell.send.name.to_string(),
        receive: cell.receive.name.to_string(),
        chunk: cell.size,
        source: plan.server_source.clone(),
        sink: plan.server_sink.clone(),
        quota: plan.quota(cell),
    };
    let source = match our_source(&mut client.hot, plan, cell) {
        Ok(source) => source,
        Err(why) => return Ok(Measured::Unavailable(why)),
    };
    let link = &mut client.link;
    let spec = job_spec(plan, Work::Transfer(transfer.clone()), cell.streams, options, cell.tls);
    let job = match begin(link, plan, &spec)? {
        Measured::Done(job) => job,
        Measured::Unavailable(why) => return Ok(Measured::Unavailable(why)),
    };
    let (id, congestion) = (job.id, job.congestion.clone());
    let measured = run_transfer(link, plan, &transfer, source.as_ref(), job, ticker);
    let tcp = finish(link, id, congestion)?;
    Ok(match measured? {
        Measured::Done(round) => Measured::Done((round, tcp)),
        Measured::Unavailable(why) => Measured::Unavailable(why),
    })
}

/// Measure one latency size once, on one connection.
pub fn latency(
    client: &mut Client,
    plan: &Plan,
    options: &SocketOptions,
    LatencyPlan { size, tls }: LatencyPlan,
    ticker: &mut dyn Ticker,
) -> Result<Measured<(LatencyHistogram, bool)>, LinkError> {
    let reply = plan.draft.reply.unwrap_or(size);
    let source = match client.hot.source(size.max(reply)) {
        Ok(source) => source,
        Err(error) => return Ok(Measured::Unavailable(error.to_string())),
    };
    let options = SocketOptions { nodelay: true, ..options.clone() };
    let link = &mut client.link;
    let spec = job_spec(plan, Work::Exchange { request: size, reply }, 1, &options, tls);
    let job = match begin(link, plan, &spec)? {
        Measured::Done(job) => job,
        Measured::Unavailable(why) => return Ok(Measured::Unavailable(why)),
    };
    let id = job.id;
    let measured = run_exchange(link, plan, (size, reply), &source, job, ticker);
    finish(link, id, String::new())?;
    measured
}

fn our_source(hot: &mut HotSources, plan: &Plan, cell: &CellPlan) -> Result<Option<Source>, String> {
    match &plan.source {
        _ if plan.draft.direction == Direction::Receive => Ok(None),
        Some(file) => Ok(Some(file.clone())),
        None => hot.source(cell.size).map(Some).map_err(|error| error.to_string()),
    }
}

fn job_spec(plan: &Plan, work: Work, streams: u32, options: &SocketOptions, tls: bool) -> JobSpec {
    JobSpec {
        work,
        streams,
        options: options.clone(),
        workers: plan.draft.workers,
        cpus: plan.draft.server_cpus.clone(),
        spin: plan.draft.spin,
        tls,
    }
}

/// Prepare a job on the server and connect its streams. An engine of ours is ready for them.
fn begin(link: &mut Link, plan: &Plan, spec: &JobSpec) -> Result<Measured<Job>, LinkError> {
    link.forget_ended();
    let (id, tokens) = match link.call(Request::Prepare(Box::new(spec.clone()))) {
        Ok(Reply::Prepared { job, tokens }) => (job, tokens),
        Ok(other) => return Err(link.unexpected(&other)),
        Err(LinkError::Refused { why, .. }) => return Ok(Measured::Unavailable(format!("server: {why}"))),
        Err(error) => return Err(error),
    };
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    let wanted = if spec.workers == 0 { tokens.len() as u32 } else { spec.workers };
    let config = Config {
        workers: wanted.min(cores).max(1),
        cpus: plan.draft.client_cpus.clone(),
        spin: spec.spin,
        nice: false,
    };
    link.engine(config)?.shape(flows::buffer_bytes(&spec.work, spec.tls));
    let headers: Vec<Vec<u8>> = tokens.iter().map(|token| Join { token: *token }.encode().to_vec()).collect();
    let options = ours(spec);
    let dial = Dial { address: link.peer(), bind: plan.draft.bind, options: &options, timeout: DIAL_MAX };
    let connected = match spec.tls {
        true => dial.connect_secure(&headers, link.tls_config()).map(protected),
        false => dial.connect(&headers).map(|socks| socks.into_iter().map(|sock| (sock, None)).collect()),
    };
    let socks: Vec<(TcpStream, Protection)> = match connected {
        Ok(socks) => socks,
        Err(crate::engine::dial::DialError::Option(error)) => {
            finish(link, id, String::new())?;
            return Ok(Measured::Unavailable(error.to_string()));
        }
        Err(error) => return Err(error.into()),
    };
    let congestion = socks.first().map(|(sock, _)| congestion_of(sock)).unwrap_or_default();
    let up = match &spec.work {
        Work::Transfer(transfer) => transfer.direction.split(spec.streams).0,
        Work::Exchange { .. } => spec.streams,
    };
    Ok(Measured::Done(Job { id, socks, up, congestion }))
}

fn protected(socks: Vec<(TcpStream, TlsConnection)>) -> Vec<(TcpStream, Protection)> {
    socks.into_iter().map(|(sock, tls)| (sock, Some(Box::new(tls)))).collect()
}

/// Options of our own sockets. Congestion control is the sender's: an end that only receives may lack it.
fn ours(spec: &JobSpec) -> SocketOptions {
    let only_receives = matches!(&spec.work, Work::Transfer(transfer) if transfer.direction == Direction::Receive);
    let congestion = spec.options.congestion.clone().filter(|_| !only_receives);
    SocketOptions { congestion, ..spec.options.clone() }
}

fn run_transfer(
    link: &mut Link,
    plan: &Plan,
    transfer: &Transfer,
    source: Option<&Source>,
    job: Job,
    ticker: &mut dyn Ticker,
) -> Result<Measured<Round>, LinkError> {
    let id = job.id;
    let (up, streams) = (job.up, job.socks.len() as u32);
    let nodelay = plan.draft.options.nodelay;
    let mut senders = Vec::new();
    for (number, (sock, tls)) in job.socks.into_iter().enumerate() {
        let number = number as u32;
        let flow = match source {
            Some(source) if number < up => flows::sending(transfer, (nodelay, streams), source, &sock, tls),
            _ => flows::receiving(transfer, Sink::Discard, tls),
        };
        match flow {
            Ok(flow) if number < up => senders.push((number, sock, flow)),
            Ok(flow) => link.current_engine()?.add(u64::from(id), number, sock, flow),
            Err(why) => return Ok(Measured::Unavailable(why)),
        }
    }
    // Before the start, because a server that sends few bytes has sent them all by the time it can be asked.
    let before_start = link.samples(id)?;
    if let Err(error) = link.call(Request::Start(id)) {
        return refusal_is_unavailable(error);
    }
    for (number, sock, flow) in senders {
        link.current_engine()?.add(u64::from(id), number, sock, flow);
    }
    match transfer.quota {
        Quota::UntilStopped => measure_time(link, plan, id, transfer.direction, ticker),
        Quota::Exactly { .. } => {
            let (ours, theirs, _) = before_start;
            measure_bytes(link, id, (transfer.direction, streams), (ours, theirs), ticker)
        }
    }
}

fn refusal_is_unavailable<T>(error: LinkError) -> Result<Measured<T>, LinkError> {
    match error {
        LinkError::Refused { why, .. } => Ok(Measured::Unavailable(format!("server: {why}"))),
        error => Err(error),
    }
}

fn measure_time(
    link: &mut Link,
    plan: &Plan,
    id: u32,
    direction: Direction,
    ticker: &mut dyn Ticker,
) -> Result<Measured<Round>, LinkError> {
    let warmup = plan.draft.warmup.max(link.round_trip() * WARMUP_ROUND_TRIPS);
    if let Some(ended) = link.wait(id, warmup, ticker)? {
        return early_end(link, id, ended);
    }
    let (ours_before, theirs_before, _) = link.samples(id)?;
    if let Some(ended) = link.wait(id, plan.draft.duration, ticker)? {
        return early_end(link, id, ended);
    }
    let (ours, theirs, _) = link.samples(id)?;
    if let Some(fault) = theirs.faults.first() {
        return Ok(Measured::Unavailable(server_fault(fault)));
    }
    let rate = match direction {
        Direction::Send => window_rate(&theirs_before, &theirs),
        Direction::Receive => window_rate(&ours_before, &ours),
        Direction::Both => window_rate(&theirs_before, &theirs) + window_rate(&ours_before, &ours),
    };
    Ok(Measured::Done(round(rate, direction, [&ours_before, &ours], [&theirs_before, &theirs])))
}

fn measure_bytes(
    link: &mut Link,
    id: u32,
    (direction, streams): (Direction, u32),
    before: (Sample, Sample),
    ticker: &mut dyn Ticker,
) -> Result<Measured<Round>, LinkError> {
    let (mut moved, mut moved_at) = (0, Instant::now());
    loop {
        // Senders end when they have sent all; that is in order, so only their faults count.
        if let Some(Ended { fault: Some(why) }) = link.wait(id, POLL_BYTES, ticker)? {
            return Ok(Measured::Unavailable(why));
        }
        let (ours, theirs, _) = link.samples(id)?;
        if let Some(fault) = theirs.faults.first() {
            return Ok(Measured::Unavailable(server_fault(fault)));
        }
        let (up, down) = (timed(&theirs), timed(&ours));
        if up.frames + down.frames >= streams {
            let rate = frame_rate(up) + frame_rate(down);
            return Ok(Measured::Done(round(rate, direction, [&before.0, &ours], [&before.1, &theirs])));
        }
        let now = total(&theirs, |worker| worker.received).bytes + total(&ours, |worker| worker.received).bytes;
        if now > moved {
            (moved, moved_at) = (now, Instant::now());
        } else if moved_at.elapsed() > STALL_MAX {
            return Ok(Measured::Unavailable(format!("no byte moved for {} s", STALL_MAX.as_secs())));
        }
    }
}

fn run_exchange(
    link: &mut Link,
    plan: &Plan,
    (request, reply): (u64, u64),
    source: &Source,
    job: Job,
    ticker: &mut dyn Ticker,
) -> Result<Measured<(LatencyHistogram, bool)>, LinkError> {
    let id = job.id;
    if let Err(error) = link.call(Request::Start(id)) {
        return refusal_is_unavailable(error);
    }
    for (sock, tls) in job.socks {
        match flows::exchanging((request, reply), Side::Asking, source, tls) {
            Ok(flow) => link.current_engine()?.add(u64::from(id), 0, sock, flow),
            Err(why) => return Ok(Measured::Unavailable(why)),
        }
    }
    if let Some(ended) = link.wait(id, plan.draft.warmup, ticker)? {
        return early_end(link, id, ended);
    }
    link.samples(id)?;
    let (mut latency, mut shared) = (LatencyHistogram::new(), false);
    let deadline = Instant::now() + EXCHANGE_MAX;
    // On a slow link a long request takes longer than the duration: one exchange is measured in any case.
    while latency.count() == 0 {
        if Instant::now() >= deadline {
            let why = format!("no request of {request} bytes was answered within {} s", EXCHANGE_MAX.as_secs());
            return Ok(Measured::Unavailable(why));
        }
        if let Some(ended) = link.wait(id, plan.draft.duration, ticker)? {
            return early_end(link, id, ended);
        }
        let (_, theirs, more) = link.samples(id)?;
        latency.merge(&more);
        shared |= theirs.other_sessions > 0;
    }
    Ok(Measured::Done((latency, shared)))
}

/// A stream of ours ended while it should run. What the server knows of it says more than our broken connection.
fn early_end<T>(link: &mut Link, id: u32, ended: Ended) -> Result<Measured<T>, LinkError> {
    let (_, theirs, _) = link.samples(id)?;
    let ours = ended.fault.unwrap_or_else(|| "the server ended a stream too early".to_string());
    Ok(Measured::Unavailable(theirs.faults.first().map_or(ours, |fault| server_fault(fault))))
}

fn server_fault(fault: &str) -> String {
    format!("server: {}", crate::text::printable_limit(fault.as_bytes(), 400))
}

/// End a job on both ends; the senders' TCP_INFO.
fn finish(link: &mut Link, id: u32, congestion: String) -> Result<TcpSummary, LinkError> {
    let ours = tcp::summarise(&link.stop_ours(id)?, congestion);
    let theirs = match link.call(Request::Stop(id)) {
        Ok(Reply::Stopped(theirs)) => theirs,
        Ok(other) => return Err(link.unexpected(&other)),
        // It has forgotten the job already, because its streams never joined.
        Err(LinkError::Refused { .. }) => TcpSummary::default(),
        Err(error) => return Err(error),
    };
    link.forget_ended();
    Ok(if theirs.streams > ours.streams { theirs } else { ours })
}

fn total(sample: &Sample, pick: fn(&WorkerSample) -> Tally) -> Tally {
    let mut all = Tally::default();
    sample.workers.iter().for_each(|worker| all += pick(worker));
    all
}

fn timed(sample: &Sample) -> Timed {
    let mut all = Timed::default();
    sample.workers.iter().for_each(|worker| all += worker.timed);
    all
}

/// Bytes per second received between two samples, each worker over its own window.
fn window_rate(before: &Sample, after: &Sample) -> f64 {
    let rate = |(before, after): (&WorkerSample, &WorkerSample)| {
        let bytes = after.received.bytes.saturating_sub(before.received.bytes) as f64;
        let ns = after.at_ns.saturating_sub(before.at_ns) as f64;
        if ns > 0.0 { bytes / ns * 1e9 } else { 0.0 }
    };
    before.workers.iter().zip(&after.workers).map(rate).sum()
}

/// Bytes per second of timed frames, from the first byte of the first to the last byte of the last.
fn frame_rate(timed: Timed) -> f64 {
    let ns = timed.last_ns.saturating_sub(timed.first_ns);
    if timed.frames == 0 { 0.0 } else { timed.bytes as f64 / (ns.max(1) as f64) * 1e9 }
}

fn round(bytes_per_s: f64, direction: Direction, ours: [&Sample; 2], theirs: [&Sample; 2]) -> Round {
    let (sender, receiver) = match direction {
        Direction::Send => (cost(ours, |worker| worker.sent), cost(theirs, |worker| worker.received)),
        Direction::Receive => (cost(theirs, |worker| worker.sent), cost(ours, |worker| worker.received)),
        // Each process does both: the client stands as sender, the server as receiver, over the bytes of both ways.
        Direction::Both => (cost(ours, both_ways), cost(theirs, both_ways)),
    };
    let zerocopy = |pick: fn(&Tally) -> u64| {
        let of = |[before, after]: [&Sample; 2]| {
            pick(&total(after, |worker| worker.sent)).saturating_sub(pick(&total(before, |worker| worker.sent)))
        };
        of(ours) + of(theirs)
    };
    Round {
        bytes_per_s,
        sender,
        receiver,
        completions: zerocopy(|tally| tally.completions),
        copied: zerocopy(|tally| tally.copied),
        client_cpu: (ours[0].cpu, ours[1].cpu),
        server_cpu: (theirs[0].cpu, theirs[1].cpu),
        shared: theirs[1].other_sessions > 0,
    }
}

fn both_ways(worker: &WorkerSample) -> Tally {
    let mut all = worker.sent;
    all += worker.received;
    all
}

fn cost([before, after]: [&Sample; 2], pick: fn(&WorkerSample) -> Tally) -> EndCost {
    let (first, last) = (total(before, pick), total(after, pick));
    let polls = |sample: &Sample| sample.workers.iter().map(|worker| worker.polls).sum::<u64>();
    EndCost {
        bytes: last.bytes.saturating_sub(first.bytes),
        cpu_ns: after.cpu.process_ns.saturating_sub(before.cpu.process_ns),
        calls: (last.calls + polls(after)).saturating_sub(first.calls + polls(before)),
    }
}
