//! Either end of a copy with its streams, as whoever runs the job sees it.

use std::sync::Arc;
use std::time::Instant;

use mio::Waker;
use mio::net::TcpStream;

use super::bell::Bell;
use super::choices;
use super::destination::Destination;
use super::origin::Origins;
use super::sink::{Sink, SinkSetup};
use super::source::{Source, SourceSetup};
use super::tally::{Observer, Tally, UnderWay};
use crate::engine::buffers::Buffers;
use crate::engine::copy_receive::CopyReceiveFlow;
use crate::engine::copy_send::CopySendFlow;
use crate::engine::outbox::Outbox;
use crate::engine::secure::Protection;
use crate::engine::send::Cork;
use crate::engine::{Config, Engine, Event, secure_send};
use crate::measure::cpu;
use crate::proto::copy::options::CopyOptions;
use crate::proto::copy::report::EndReport;
use crate::proto::copy::{CopyError, CopyMessage, Ending};
use crate::proto::facts::CpuClock;
use crate::store::StoreError;
use crate::store::landing::Landing;

/// Most memory in the buffers of one end, bytes.
const BUFFERS_BYTES_MAX: u64 = 64 << 20;
/// The fewest buffers that keep everybody busy.
const BUFFERS_MIN: u64 = 4;
/// Buffers beside those of the streams.
const BUFFERS_SPARE: u64 = 12;
/// How far readers are ahead of the kernel where it sends pages of files, bytes: these have to stay in memory.
const RANGES_BYTES_MAX: u64 = 32 << 20;
/// A permit has room for the length of a hole.
const PERMIT_BYTES: usize = 8;
/// All streams of an end are one group of its engine.
const GROUP: u64 = 0;

/// Which end it is.
pub enum Part {
    /// It has the files.
    Source(Source),
    /// It gets them.
    Sink(Sink),
}

/// One end and its streams.
pub struct End {
    part: Part,
    engine: Engine,
    outbox: Option<Outbox>,
    buffers: Buffers,
    bell: Bell,
    clock: Clock,
}

/// What a process spends on a copy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    since: Instant,
    cpu_at_start: CpuClock,
}

impl Clock {
    /// From now on.
    pub(super) fn start() -> Clock {
        Clock { since: Instant::now(), cpu_at_start: cpu::now() }
    }

    /// The part of a report that is of the process.
    pub(super) fn report(&self) -> EndReport {
        let cpu = cpu::now();
        EndReport {
            host: nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION").to_string(),
            elapsed_ns: self.since.elapsed().as_nanos() as u64,
            cpu_ns: cpu.process_ns.saturating_sub(self.cpu_at_start.process_ns),
            cpu,
            memory_peak_bytes: crate::measure::memory::peak_bytes(),
            ..EndReport::default()
        }
    }
}

/// What both kinds of ends need.
pub struct EndSetup {
    /// How the copy is made.
    pub options: CopyOptions,
    /// Streams of this end.
    pub streams: u32,
    /// They go through TLS.
    pub tls: bool,
    /// Wakes control.
    pub waker: Arc<Waker>,
    /// Hears of every entry that is settled.
    pub observer: Option<Box<dyn Observer>>,
}

impl End {
    /// The end that has the files.
    pub fn source(setup: EndSetup, origins: Origins) -> Result<End, StoreError> {
        let (engine, buffers, bell) = prepare(&setup)?;
        // The kernel sends pages of files; what is encrypted has to be read.
        let sends_ranges = !setup.tls;
        let permits = Buffers::new(PERMIT_BYTES, RANGES_BYTES_MAX.div_ceil(setup.options.piece_bytes) as usize);
        let outbox = Outbox::new(engine.nudger(GROUP));
        let source = Source::start(SourceSetup {
            origins,
            readers: workers(),
            options: setup.options,
            buffers: if sends_ranges { permits } else { buffers.clone() },
            packs: buffers.clone(),
            sends_ranges,
            handover: None,
            carrier: Arc::new(outbox.clone()),
            bell: bell.clone(),
            observer: setup.observer,
        })?;
        Ok(End::new(Part::Source(source), engine, Some(outbox), buffers, bell))
    }

    /// The end that gets them.
    pub fn sink(setup: EndSetup, destination: Destination, landing: Landing) -> Result<End, StoreError> {
        let (engine, buffers, bell) = prepare(&setup)?;
        buffers.nudge_with(engine.nudger(GROUP));
        let sink = Sink::start(SinkSetup {
            destination,
            landing,
            options: setup.options,
            storers: workers(),
            buffers: buffers.clone(),
            handover: None,
            bell: bell.clone(),
            observer: setup.observer,
        })?;
        Ok(End::new(Part::Sink(sink), engine, None, buffers, bell))
    }

    fn new(part: Part, engine: Engine, outbox: Option<Outbox>, buffers: Buffers, bell: Bell) -> End {
        End { part, engine, outbox, buffers, bell, clock: Clock::start() }
    }

    /// A stream is connected.
    pub fn seat(&self, stream: u32, sock: TcpStream, tls: Protection) {
        match (&self.part, &self.outbox) {
            (Part::Source(_), Some(outbox)) => {
                let flow = CopySendFlow::new(outbox.clone(), tls, Cork::Wanted);
                self.engine.add(GROUP, stream, sock, Box::new(flow));
            }
            (Part::Sink(sink), _) => {
                let flow = CopyReceiveFlow::new(self.buffers.clone(), sink.inbox(), tls);
                self.engine.add(GROUP, stream, sock, Box::new(flow));
            }
            (Part::Source(_), None) => {}
        }
    }

    /// What went wrong on a stream since the last call. A stream that ends before the copy is a fault, too.
    pub fn poll_fault(&mut self) -> Option<String> {
        match self.engine.poll_event()? {
            Event::Ended { fault: Some(fault), .. } => Some(fault.to_string()),
            Event::Ended { fault: None, .. } => Some("the peer ended a stream".to_string()),
            Event::Sampled { .. } | Event::Stopped { .. } => None,
        }
    }

    /// The peer said something.
    pub fn handle_message(&self, message: CopyMessage) -> Result<(), CopyError> {
        match &self.part {
            Part::Source(source) => source.handle_message(message),
            Part::Sink(sink) => sink.handle_message(message),
        }
    }

    /// Control is about to ask what there is to say.
    pub fn answer_bell(&self) {
        self.bell.answer();
    }

    /// What to say next.
    pub fn poll_message(&self) -> Option<CopyMessage> {
        match &self.part {
            Part::Source(source) => source.poll_message(),
            Part::Sink(sink) => sink.poll_message(),
        }
    }

    /// What the peer did wrong on a stream, once it did.
    pub fn error(&self) -> Option<CopyError> {
        if let Part::Sink(sink) = &self.part { sink.error() } else { None }
    }

    /// Whether this end fails for a reason of its own: one of its threads panicked.
    pub fn is_broken(&self) -> bool {
        match &self.part {
            Part::Source(source) => source.is_broken(),
            Part::Sink(sink) => sink.is_broken(),
        }
    }

    /// Whether everything is settled, and both ends know.
    pub fn has_ended(&self) -> bool {
        match &self.part {
            Part::Source(source) => source.ending().is_some(),
            Part::Sink(sink) => sink.has_ended(),
        }
    }

    /// What the receiver said at the end; of the receiver itself only what its tally does not have.
    pub fn ending(&self) -> Ending {
        match &self.part {
            Part::Source(source) => source.ending().unwrap_or_default(),
            // What failed is in its tally.
            Part::Sink(sink) => Ending { deleted: sink.ending().deleted, ..Ending::default() },
        }
    }

    /// What became of the entries so far.
    pub fn tally(&self) -> Tally {
        match &self.part {
            Part::Source(source) => source.tally(),
            Part::Sink(sink) => sink.tally(),
        }
    }

    /// The largest files whose content moves. It looks at all that is open: not to be called for every block.
    pub fn under_way(&self, most: usize) -> Vec<UnderWay> {
        match &self.part {
            Part::Source(source) => source.under_way(most),
            Part::Sink(sink) => sink.under_way(most),
        }
    }

    /// Whether all entries are known.
    pub fn is_scanned(&self) -> bool {
        match &self.part {
            Part::Source(source) => source.is_scanned(),
            Part::Sink(sink) => sink.is_scanned(),
        }
    }

    /// The other end's report, where it says what this one cannot know.
    pub fn handle_report(&self, report: &EndReport) {
        if let Part::Sink(sink) = &self.part {
            sink.handle_passed_over(&report.passed_over, report.passed_over_count);
        }
    }

    /// Bytes of content that were moved.
    pub fn moved_bytes(&self) -> u64 {
        match &self.part {
            Part::Source(source) => source.moved_bytes().0,
            Part::Sink(sink) => sink.moved_bytes().0,
        }
    }

    /// How it is doing.
    pub fn report(&self) -> EndReport {
        match &self.part {
            Part::Source(source) => source_report(source, self.clock.report()),
            Part::Sink(sink) => sink_report(sink, self.clock.report()),
        }
    }

    /// End it, as far as it is: what arrived is stored, and what is proven is kept for the next time. Takes a moment.
    pub fn stop(mut self) {
        match &mut self.part {
            Part::Source(source) => source.stop(),
            Part::Sink(sink) => sink.stop(),
        }
    }
}

/// Complete a report with what a source did.
pub(super) fn source_report(source: &Source, mut report: EndReport) -> EndReport {
    (report.threads, report.stages) = (source.readers(), source.stages().times());
    (report.moved_bytes, report.wire_bytes) = source.moved_bytes();
    (report.passed_over, report.passed_over_count) = source.passed_over();
    report.digest = source.tally().digest.to_string();
    report.choices = source.choices();
    report
}

/// Complete a report with what a sink did.
pub(super) fn sink_report(sink: &Sink, mut report: EndReport) -> EndReport {
    (report.threads, report.stages) = (sink.storers(), sink.stages().times());
    (report.moved_bytes, report.wire_bytes) = sink.moved_bytes();
    (report.resumed_bytes, report.damaged_blocks) = sink.resumed();
    report.digest = sink.tally().digest.to_string();
    report.choices = choices::of_sink(sink.direct());
    report
}

fn prepare(setup: &EndSetup) -> Result<(Engine, Buffers, Bell), StoreError> {
    let workers = setup.streams.clamp(1, cores());
    let config = Config { workers, nice: setup.options.nice, ..Config::default() };
    let engine =
        Engine::start(config, setup.waker.clone()).map_err(|error| StoreError::no_thread("the copy", error))?;
    engine.shape(secure_send::BUFFER_BYTES);
    let piece = setup.options.piece_bytes;
    let wanted = u64::from(setup.streams) * 2 + BUFFERS_SPARE;
    let count = wanted.min(BUFFERS_BYTES_MAX / piece).max(BUFFERS_MIN);
    let buffers = Buffers::new(piece as usize, count as usize);
    Ok((engine, buffers, Bell::new(setup.waker.clone())))
}

fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| n.get() as u32)
}

/// Threads that read, or store.
pub(super) fn workers() -> usize {
    (cores() as usize).clamp(2, 8)
}
