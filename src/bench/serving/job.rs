//! One job on the serving side: whether it can be done, and its streams' way into the engine.

use mio::net::TcpStream;

use crate::bench::flows::{self, HotSources};
use crate::bench::plan::DSCP_MAX;
use crate::engine::Engine;
use crate::engine::flow::Flow;
use crate::engine::options::{apply, congestion_of};
use crate::engine::secure::Protection;
use crate::mover::{FileSink, Sink, Source, needs_kernel_tls, receive_row, send_row};
use crate::proto::job::Seat;
use crate::proto::message::{CHUNK_BYTES_MAX, FAULTS_MAX, JobSpec, Place, SocketOptions, Work};
use crate::proto::probe::Side;
use crate::store::confined::Root;
use crate::sys::affinity;
use crate::text::printable_limit;

/// A job: what is wanted, and what is at hand for it.
pub struct Job {
    spec: JobSpec,
    /// Over both directions.
    streams: u32,
    source: Option<Source>,
    sinks: Vec<FileSink>,
    /// Streams on which we send, until the job starts.
    pub(super) waiting: Vec<(u32, TcpStream, Protection)>,
    pub(super) congestion: String,
    pub(super) faults: Vec<String>,
}

impl Job {
    pub(super) fn new(spec: JobSpec, streams: u32, source: Option<Source>, sinks: Vec<FileSink>) -> Job {
        let (waiting, faults) = (Vec::new(), Vec::new());
        Job { spec, streams, source, sinks, waiting, congestion: String::new(), faults }
    }

    /// How many streams have to join, over both directions.
    pub fn streams(&self) -> u32 {
        self.streams
    }

    /// Put a stream to work: at once where we receive or answer, with the start where we send.
    pub(super) fn seat(&mut self, seat: Seat, sock: TcpStream, tls: Protection, engine: &Engine) -> Result<(), String> {
        if tls.is_some() != self.spec.tls {
            let (came, agreed) = if self.spec.tls { ("in the clear", "TLS") } else { ("in TLS", "the clear") };
            return Err(format!("a stream came {came}, and {agreed} was agreed"));
        }
        let local = sock.local_addr().map_err(|error| error.to_string())?;
        let domain = socket2::Domain::for_address(local);
        apply(&sock, domain, &self.options(seat.stream)).map_err(|error| error.to_string())?;
        if let (Work::Exchange { .. }, Some(name)) = (&self.spec.work, &self.spec.options.congestion) {
            // Long answers are better paced as the requests are; an end that may not is still an honest peer.
            let _ = socket2::SockRef::from(&sock).set_tcp_congestion(name.as_bytes());
        }
        self.congestion = congestion_of(&sock);
        let flow = match &self.spec.work {
            Work::Exchange { request, reply } => {
                let source = self.source.as_ref().ok_or("nothing to answer with")?;
                flows::exchanging((*request, *reply), Side::Answering, source, tls)?
            }
            Work::Transfer(transfer) => {
                let (up, _) = transfer.direction.split(self.spec.streams);
                if seat.stream >= up {
                    self.waiting.push((seat.stream, sock, tls));
                    return Ok(());
                }
                let sink = self.sinks.get(seat.stream as usize).cloned().map_or(Sink::Discard, Sink::File);
                flows::receiving(transfer, sink, tls)?
            }
        };
        engine.add(u64::from(seat.job), seat.stream, sock, flow);
        Ok(())
    }

    /// Options of our end of a stream. Congestion control is the bulk sender's: an end that receives, or sends short
    /// answers, may lack it.
    fn options(&self, stream: u32) -> SocketOptions {
        let sends = matches!(&self.spec.work, Work::Transfer(transfer)
            if stream >= transfer.direction.split(self.spec.streams).0);
        let congestion = self.spec.options.congestion.clone().filter(|_| sends);
        SocketOptions { congestion, ..self.spec.options.clone() }
    }

    pub(super) fn sender(&self, sock: &TcpStream, tls: Protection) -> Result<Box<dyn Flow>, String> {
        match (&self.spec.work, &self.source) {
            (Work::Transfer(transfer), Some(source)) => {
                let how = (self.spec.options.nodelay, self.spec.streams);
                flows::sending(transfer, how, source, sock, tls)
            }
            _ => Err("nothing to send".to_string()),
        }
    }

    pub(super) fn add_fault(&mut self, fault: String) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault);
        }
    }
}

/// Refuse what cannot be done; otherwise how many streams the job has, over both directions.
pub(super) fn check(spec: &JobSpec, streams_max: u32) -> Result<u32, String> {
    let mut streams = spec.streams;
    let mut bytes = vec![];
    match &spec.work {
        Work::Exchange { request, reply } => bytes.extend([*request, *reply]),
        Work::Transfer(transfer) => {
            let (up, down) = transfer.direction.split(spec.streams);
            streams = up.checked_add(down).ok_or("too many streams")?;
            bytes.push(transfer.chunk);
            let send = send_row(&transfer.send).ok_or("no such send method on this server")?;
            let receive = receive_row(&transfer.receive).ok_or("no such receive method on this server")?;
            if spec.tls && (send.feed.is_none() || !receive.decrypts) {
                return Err(needs_kernel_tls());
            }
            if down > 0 {
                (send.probe)()?;
            }
            if up > 0 {
                (receive.probe)()?;
                if !receive.keeps && transfer.sink != Place::Nothing {
                    return Err(format!("receive method {} cannot keep bytes in a sink file", receive.name));
                }
            }
        }
    }
    if bytes.iter().any(|bytes| *bytes == 0 || *bytes > CHUNK_BYTES_MAX) {
        return Err(format!("sizes go from 1 to {CHUNK_BYTES_MAX} bytes"));
    }
    if streams == 0 || streams > streams_max {
        return Err(format!("{streams} streams: this server takes 1 to {streams_max} (its limit on open files)"));
    }
    let allowed = affinity::allowed_cpus();
    if let Some(cpu) = spec.cpus.iter().find(|cpu| !allowed.contains(cpu)) {
        return Err(format!("the server has no CPU {cpu} to pin to; it may use {allowed:?}"));
    }
    if spec.options.dscp.is_some_and(|dscp| dscp > DSCP_MAX) {
        return Err(format!("a DiffServ code point is at most {DSCP_MAX}"));
    }
    if let Some(name) = spec.options.congestion.as_ref().filter(|name| name.len() > 16) {
        return Err(format!("{}: no congestion control has so long a name", printable_limit(name.as_bytes(), 40)));
    }
    Ok(streams)
}

/// Open what the job's streams read from and write to here.
pub(super) fn places(
    spec: &JobSpec,
    root: Option<&Root>,
    hot: &mut HotSources,
) -> Result<(Option<Source>, Vec<FileSink>), String> {
    let no_folder = "this server serves no folder: start it as `linerate serve FOLDER` to name files in it";
    let transfer = match &spec.work {
        Work::Transfer(transfer) => transfer,
        Work::Exchange { request, reply } => {
            let source = hot.source(*request.max(reply)).map_err(|error| error.to_string())?;
            return Ok((Some(source), Vec::new()));
        }
    };
    let (up, down) = transfer.direction.split(spec.streams);
    let source = match &transfer.source {
        _ if down == 0 => None,
        Place::Nothing => Some(hot.source(transfer.chunk).map_err(|error| error.to_string())?),
        Place::File(path) => {
            let root = root.ok_or(no_folder)?;
            Some(root.source(path, transfer.chunk).map_err(|error| error.to_string())?)
        }
    };
    let sinks = match &transfer.sink {
        Place::File(path) if up > 0 => {
            let root = root.ok_or(no_folder)?;
            root.sinks(path, up).map_err(|error| error.to_string())?
        }
        _ => Vec::new(),
    };
    Ok((source, sinks))
}
