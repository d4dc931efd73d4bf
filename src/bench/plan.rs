//! What is to be measured. A [`Draft`] is what somebody asks for; a [`Plan`] that exists is possible, as far as this
//! machine can tell: impossible combinations are refused before anything starts.

use std::fmt::Display;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::mover::{RECEIVE, ReceiveRow, SEND, SendRow, Source, receive_row, send_row};
use crate::proto::message::{CHUNK_BYTES_MAX, Direction, Place, Quota, STREAMS_MAX, SocketOptions, WORKERS_MAX};
use crate::store::{StoreError, file};
use crate::sys::{affinity, limits};
use crate::units::{Bytes, Rate, Span};

/// Most rounds.
pub const ROUNDS_MAX: u32 = 1000;
/// Longest measurement of one cell in one round.
pub const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);
/// Shortest measurement of one cell in one round.
pub const DURATION_MIN: Duration = Duration::from_millis(1);
/// Most bytes of one cell in one round.
pub const BYTES_MAX: u64 = 1 << 60;
/// Highest pace of a stream, bytes/s: 10 Tbit/s.
pub const PACE_MAX: u64 = 1_250_000_000_000;
/// Largest DiffServ code point.
pub const DSCP_MAX: u32 = 63;
/// Most cells of a matrix.
pub const CELLS_MAX: usize = 10_000;
/// What each stream sends at most before the timed bytes when bytes rule instead of a duration: past slow start on
/// a LAN. Never more than the timed bytes themselves.
pub const WARMUP_BYTES: u64 = 8 << 20;

/// Descriptors kept for everything that is not a data stream.
const DESCRIPTORS_RESERVED: u64 = 64;

/// What somebody asks for; the default is what `linerate bench` does without options.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Send methods by name; empty for all.
    pub methods: Vec<String>,
    /// Receive methods by name.
    pub receive: Vec<String>,
    /// Bytes a call.
    pub sizes: Vec<u64>,
    /// Connections per direction.
    pub streams: Vec<u32>,
    /// Whether the streams go through TLS: `false`, `true`, or both one after the other.
    pub tls: Vec<bool>,
    /// Which way.
    pub direction: Direction,
    /// Worker threads of either end; 0 for as many as there are streams, up to the cores.
    pub workers: u32,
    /// A file to send instead of hot memory.
    pub source: Option<PathBuf>,
    /// A file on the server to write into instead of discarding.
    pub sink: Option<PathBuf>,
    /// Length of a cell in a round.
    pub duration: Duration,
    /// Bytes of a cell in a round, over all streams of a direction, instead of a duration.
    pub bytes: Option<u64>,
    /// How often each cell is measured.
    pub rounds: u32,
    /// Left out before each measurement.
    pub warmup: Duration,
    /// Of the order of cells; `None` for a random one.
    pub seed: Option<u64>,
    /// Of the data streams.
    pub options: SocketOptions,
    /// CPUs of the client's workers.
    pub client_cpus: Vec<u32>,
    /// CPUs of the server's workers.
    pub server_cpus: Vec<u32>,
    /// Busy polling on both ends.
    pub spin: bool,
    /// Measure throughput.
    pub throughput: bool,
    /// Measure latency.
    pub latency: bool,
    /// Bytes of the replies; `None` for as long as the request.
    pub reply: Option<u64>,
    /// Our address.
    pub bind: Option<IpAddr>,
}

impl Default for Draft {
    fn default() -> Self {
        Draft {
            methods: Vec::new(),
            receive: vec!["read".to_string()],
            sizes: [1, 4, 16, 64, 256, 1024, 4096].map(|kib| kib << 10).to_vec(),
            streams: vec![1],
            tls: vec![false],
            direction: Direction::Send,
            workers: 0,
            source: None,
            sink: None,
            duration: Duration::from_millis(200),
            bytes: None,
            rounds: 5,
            warmup: Duration::from_millis(50),
            seed: None,
            options: SocketOptions::default(),
            client_cpus: Vec::new(),
            server_cpus: Vec::new(),
            spin: false,
            throughput: true,
            latency: true,
            reply: Some(1),
            bind: None,
        }
    }
}

/// Why a draft is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A name that is in no table.
    #[error("no {what} method {name:?}: choose from {choices}")]
    Method {
        /// `send` or `receive`.
        what: &'static str,
        /// As given.
        name: String,
        /// Those that exist.
        choices: String,
    },
    /// A number outside its range.
    #[error("{option} {value}: must be from {least} to {most}")]
    Range {
        /// The option.
        option: &'static str,
        /// As given.
        value: String,
        /// Lower bound.
        least: String,
        /// Upper bound.
        most: String,
    },
    /// Nothing to do.
    #[error("{0}")]
    Nothing(&'static str),
    /// Two options that exclude each other.
    #[error("{0}")]
    Conflict(String),
    /// More streams than file descriptors.
    #[error(
        "--streams {streams}: needs {needed} file descriptors, the limit is {limit}: raise it with `ulimit -n {needed}` (as root also fs.nr_open), or use fewer streams"
    )]
    Descriptors {
        /// As given.
        streams: u32,
        /// What they need.
        needed: u64,
        /// What there is.
        limit: u64,
    },
    /// A CPU that does not exist or is forbidden.
    #[error("--cpus {cpu}: this process may run on {allowed:?}")]
    Cpu {
        /// As given.
        cpu: u32,
        /// Those that are allowed.
        allowed: Vec<u32>,
    },
    /// The source file.
    #[error("--source {0}")]
    Source(#[from] StoreError),
}

/// One setting of the matrix.
#[derive(Clone, Copy, Debug)]
pub struct CellPlan {
    /// How the sender moves bytes.
    pub send: &'static SendRow,
    /// How the receiver takes them.
    pub receive: &'static ReceiveRow,
    /// Bytes a call.
    pub size: u64,
    /// Connections per direction.
    pub streams: u32,
    /// Whether they go through TLS.
    pub tls: bool,
}

/// One row of the latency table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatencyPlan {
    /// Bytes of a request.
    pub size: u64,
    /// Whether it goes through TLS.
    pub tls: bool,
}

/// What will be measured.
#[derive(Debug)]
pub struct Plan {
    /// The draft that it came from; every number in it is in range.
    pub draft: Draft,
    /// The matrix, in the order of the table.
    pub cells: Vec<CellPlan>,
    /// The latency table, in its order.
    pub latency: Vec<LatencyPlan>,
    /// The opened source file, where this end sends one.
    pub source: Option<Source>,
    /// The sink, as the server is told.
    pub server_sink: Place,
    /// What the server sends, as it is told: a file in the folder that it serves.
    pub server_source: Place,
    /// Seed of the order.
    pub seed: u64,
}

impl Plan {
    /// Check a draft and open what it names.
    pub fn new(mut draft: Draft, fresh_seed: u64) -> Result<Plan, PlanError> {
        check_ranges(&draft)?;
        check_cpus(&draft)?;
        draft.sizes.sort_unstable();
        draft.sizes.dedup();
        draft.streams.sort_unstable();
        draft.streams.dedup();
        draft.tls.sort_unstable();
        draft.tls.dedup();
        let cells = if draft.throughput { cells(&draft)? } else { Vec::new() };
        check_descriptors(&draft, &cells)?;
        let largest = draft.sizes.last().copied().unwrap_or(1);
        let ours = draft.source.as_deref().filter(|_| draft.direction != Direction::Receive);
        let source = ours.map(|path| file::open(path, largest)).transpose()?;
        let server_sink = draft.sink.as_deref().map_or(Place::Nothing, place);
        let theirs = draft.source.as_deref().filter(|_| draft.direction != Direction::Send);
        let server_source = theirs.map_or(Place::Nothing, place);
        let latency = if draft.latency { latency(&draft) } else { Vec::new() };
        let seed = draft.seed.unwrap_or(fresh_seed);
        Ok(Plan { draft, cells, latency, source, server_sink, server_source, seed })
    }

    /// The most streams of any cell, over both directions.
    pub fn streams_max(&self) -> u32 {
        let (up, down) = self.draft.direction.split(self.draft.streams.last().copied().unwrap_or(1));
        up.saturating_add(down)
    }

    /// What every sending stream of a cell sends.
    pub fn quota(&self, cell: &CellPlan) -> Quota {
        match self.draft.bytes {
            None => Quota::UntilStopped,
            Some(bytes) => {
                let bytes = bytes.div_ceil(u64::from(cell.streams));
                Quota::Exactly { warmup: WARMUP_BYTES.min(bytes), bytes }
            }
        }
    }
}

/// A path as the protocol carries it.
pub fn place(path: &std::path::Path) -> Place {
    Place::File(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()).to_vec())
}

fn check_ranges(draft: &Draft) -> Result<(), PlanError> {
    if draft.sizes.is_empty() || draft.streams.is_empty() || draft.receive.is_empty() || draft.tls.is_empty() {
        return Err(PlanError::Nothing("--sizes, --streams, --receive and --tls each need at least one value"));
    }
    if !draft.throughput && !draft.latency {
        return Err(PlanError::Nothing("--no-throughput and --no-latency together leave nothing to measure"));
    }
    for size in &draft.sizes {
        in_range("--sizes", Bytes(*size), Bytes(1), Bytes(CHUNK_BYTES_MAX))?;
    }
    for streams in &draft.streams {
        in_range("--streams", *streams, 1, STREAMS_MAX)?;
    }
    in_range("--rounds", draft.rounds, 1, ROUNDS_MAX)?;
    in_range("--workers", draft.workers, 0, WORKERS_MAX)?;
    in_range("--duration", Span(draft.duration), Span(DURATION_MIN), Span(DURATION_MAX))?;
    in_range("--warmup", Span(draft.warmup), Span(Duration::ZERO), Span(DURATION_MAX))?;
    if let Some(bytes) = draft.bytes {
        in_range("--bytes", Bytes(bytes), Bytes(1), Bytes(BYTES_MAX))?;
    }
    if let Some(reply) = draft.reply {
        in_range("--reply", Bytes(reply), Bytes(1), Bytes(CHUNK_BYTES_MAX))?;
    }
    if let Some(dscp) = draft.options.dscp {
        in_range("--dscp", dscp, 0, DSCP_MAX)?;
    }
    if let Some(pace) = draft.options.pace {
        in_range("--pace", Rate(pace), Rate(1), Rate(PACE_MAX))?;
    }
    Ok(())
}

fn in_range<T: PartialOrd + Display>(option: &'static str, value: T, least: T, most: T) -> Result<(), PlanError> {
    if (&least..=&most).contains(&&value) {
        return Ok(());
    }
    let (value, least, most) = (value.to_string(), least.to_string(), most.to_string());
    Err(PlanError::Range { option, value, least, most })
}

fn check_cpus(draft: &Draft) -> Result<(), PlanError> {
    let allowed = affinity::allowed_cpus();
    match draft.client_cpus.iter().find(|cpu| !allowed.contains(cpu)) {
        Some(&cpu) => Err(PlanError::Cpu { cpu, allowed }),
        None => Ok(()),
    }
}

fn cells(draft: &Draft) -> Result<Vec<CellPlan>, PlanError> {
    let sends = rows(&draft.methods, &SEND, "send", |row| row.name, send_row)?;
    let receives = rows(&draft.receive, &RECEIVE, "receive", |row| row.name, receive_row)?;
    if let (Some(row), Some(_)) = (receives.iter().find(|row| !row.keeps), &draft.sink) {
        return Err(PlanError::Conflict(format!("--receive {} discards: it cannot fill a --sink file", row.name)));
    }
    if draft.sink.is_some() && draft.direction == Direction::Receive {
        let why = "--sink is a file on the serving side: with --direction receive nothing is received there";
        return Err(PlanError::Conflict(why.to_string()));
    }
    let mut cells = Vec::new();
    for &tls in &draft.tls {
        for receive in &receives {
            for &streams in &draft.streams {
                for send in &sends {
                    cells.extend(draft.sizes.iter().map(|&size| CellPlan { send, receive, size, streams, tls }));
                }
            }
        }
    }
    in_range("cells of the matrix:", cells.len(), 1, CELLS_MAX)?;
    Ok(cells)
}

fn latency(draft: &Draft) -> Vec<LatencyPlan> {
    let rows = |tls| draft.sizes.iter().map(move |&size| LatencyPlan { size, tls });
    draft.tls.iter().flat_map(|&tls| rows(tls)).collect()
}

/// The rows of those names, in the table's order; all for no name.
fn rows<T>(
    names: &[String],
    table: &'static [T],
    what: &'static str,
    name_of: fn(&T) -> &'static str,
    find: fn(&str) -> Option<&'static T>,
) -> Result<Vec<&'static T>, PlanError> {
    if let Some(name) = names.iter().find(|name| find(name).is_none()) {
        let choices = table.iter().map(name_of).collect::<Vec<_>>().join(", ");
        return Err(PlanError::Method { what, name: name.clone(), choices });
    }
    let wanted = |row: &&T| names.is_empty() || names.iter().any(|name| name == name_of(row));
    Ok(table.iter().filter(wanted).collect())
}

fn check_descriptors(draft: &Draft, cells: &[CellPlan]) -> Result<(), PlanError> {
    let limit = limits::raise_open_files().unwrap_or(u64::MAX);
    for cell in cells {
        let (up, down) = draft.direction.split(cell.streams);
        let needed = DESCRIPTORS_RESERVED + u64::from(up) * u64::from(1 + cell.send.descriptors) + u64::from(down);
        if needed > limit {
            return Err(PlanError::Descriptors { streams: cell.streams, needed, limit });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut Draft)) -> String {
        let mut draft = Draft::default();
        change(&mut draft);
        Plan::new(draft, 1).map(drop).unwrap_err().to_string()
    }

    #[test]
    fn the_default_is_every_method_at_every_size() {
        let plan = Plan::new(Draft::default(), 7).unwrap();
        assert_eq!((plan.cells.len(), plan.latency.len(), plan.seed), (5 * 7, 7, 7));
    }

    #[test]
    fn impossible_wishes_are_refused_with_what_would_do() {
        let table: [(String, &str); 12] = [
            (refused(|draft| draft.methods = vec!["teleport".into()]), "write, mmap, sendfile, splice, zerocopy"),
            (refused(|draft| draft.receive = vec!["look".into()]), "read, trunc, splice"),
            (refused(|draft| draft.sizes = vec![0]), "from 1 to 64MiB"),
            (refused(|draft| draft.sizes = vec![65 << 20]), "from 1 to 64MiB"),
            (refused(|draft| draft.rounds = 0), "from 1 to 1000"),
            (refused(|draft| draft.streams = vec![]), "at least one"),
            (refused(|draft| draft.streams = vec![8193]), "from 1 to 8192"),
            (refused(|draft| draft.duration = Duration::ZERO), "--duration"),
            (refused(|draft| draft.client_cpus = vec![9999]), "may run on"),
            (refused(|draft| (draft.throughput, draft.latency) = (false, false)), "nothing to measure"),
            (
                refused(|draft| {
                    draft.receive = vec!["trunc".into()];
                    draft.sink = Some("x".into());
                }),
                "cannot fill",
            ),
            (refused(|draft| draft.source = Some("/nonexistent/file".into())), "/nonexistent/file"),
        ];
        for (said, expected) in table {
            assert!(said.contains(expected), "{said}");
        }
    }
}
