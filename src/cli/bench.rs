//! `linerate bench`: measure a link.

use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{ArgAction, ValueEnum};

use super::host::Peer;
use super::list::{CpusOfBoth, Names, Numbers, Sizes, Switches};
use super::own_server::OwnServer;
use super::progress::Line;
use super::reach::{Far, Serves, Ways};
use super::result_file::ResultFile;
use super::serve::PORT_DEFAULT;
use super::ssh::{SshArgs, Target};
use super::{Exit, access, exit, out};
use crate::bench::outcome::Outcome;
use crate::bench::plan::{self, Draft, Plan, PlanError};
use crate::bench::run;
use crate::engine::dial::Family;
use crate::link::Link;
use crate::proto::message::{Direction, Place, SocketOptions};
use crate::report::{self, build, schema::Document, terminal};
use crate::text::printable;
use crate::units::{Bytes, Rate, Span};

/// Measure what a link and the two hosts on it can do: every I/O method × buffer size, latency and CPU cost.
///
/// Without HOST it starts a server of its own on loopback and measures this machine. Another machine needs nothing but
/// sshd and this program, or a running `linerate serve`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  linerate bench\n  linerate bench me@nas\n  linerate bench nas --sizes 64KiB..4MiB --streams 1,4\n  \
    linerate bench nas --source /data/big.bin\n  linerate bench nas --direction receive --source big.bin   # in the folder that nas serves\n  linerate bench --spin --no-throughput --sizes 64,1KiB\n\n\
    The result file is described in the documentation of the crate, module report::schema."
)]
pub(super) struct Args {
    /// HOST:PORT, [IPV6]:PORT or lr://HOST for a host that runs `linerate serve`; USER@HOST to start it there over ssh
    /// for this run; HOST for the first, or the second where none runs.
    host: Option<Peer>,
    /// Port of a server that runs already [default: 5290].
    #[arg(long, short)]
    port: Option<u16>,
    #[command(flatten)]
    access: access::AccessArgs,
    #[command(flatten)]
    ssh: SshArgs,
    #[command(flatten)]
    matrix: Matrix,
    #[command(flatten)]
    timing: Timing,
    #[command(flatten)]
    sockets: Sockets,
    #[command(flatten)]
    output: Output,
}

/// What to measure.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Matrix")]
struct Matrix {
    /// Send methods: write, mmap, sendfile, splice, zerocopy [default: all].
    #[arg(long, value_name = "LIST")]
    methods: Option<Names>,
    /// Receive methods: read, trunc, splice.
    #[arg(long, value_name = "LIST", default_value = "read")]
    receive: Names,
    /// Bytes that one system call is asked to move: lists and ranges (fourfold steps, or LOW..HIGH*2), 1 to 64MiB.
    #[arg(long, value_name = "LIST", default_value = "1KiB..4MiB")]
    sizes: Sizes,
    /// Connections, in each direction.
    #[arg(long, short = 'P', value_name = "LIST", default_value = "1")]
    streams: Numbers,
    /// Streams in TLS 1.3, in the clear, or one after the other.
    #[arg(long, value_name = "on|off|both", num_args = 0..=1, default_value = "off", default_missing_value = "on")]
    tls: Switches,
    /// Worker threads of either end; 0 for one a stream, up to the cores.
    #[arg(long, value_name = "N", default_value_t = 0)]
    workers: u32,
    /// Which way the bytes go: client to server, server to client, or both at the same time.
    #[arg(long, short, value_enum, default_value = "send")]
    direction: Way,
    /// What is sent: `hot` memory that stays in the cache, or a FILE or block device of the sending end: on a server
    /// a path in the folder that it serves, and over ssh any path there.
    #[arg(long, value_name = "hot|FILE", default_value = "hot")]
    source: PathBuf,
    /// Where the server puts it: `discard`, or a new FILE in the folder that it serves, and over ssh any path there
    /// (at most 1 GiB, removed at once).
    #[arg(long, value_name = "discard|FILE", default_value = "discard")]
    sink: PathBuf,
    /// Leave the throughput matrix out.
    #[arg(long)]
    no_throughput: bool,
    /// Leave the latency table out.
    #[arg(long)]
    no_latency: bool,
    /// Bytes of the reply in the latency table: a size, or `same` for as long as the request.
    #[arg(long, value_name = "SIZE|same", default_value = "1")]
    reply: String,
}

/// How long and how often.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Timing")]
struct Timing {
    /// Length of one cell in one round.
    #[arg(long, short = 't', value_name = "TIME", default_value = "200ms")]
    duration: Span,
    /// Bytes of one cell in one round, over all its streams, instead of a duration.
    #[arg(long, short = 'n', value_name = "SIZE")]
    bytes: Option<Bytes>,
    /// How often every cell is measured.
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: u32,
    /// Left out before each measurement; at least 20 round trips are, and 8 MiB a stream with --bytes.
    #[arg(long, value_name = "TIME", default_value = "50ms")]
    warmup: Span,
    /// Seed of the order of the cells [default: random, and recorded].
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Busy polling on both ends: workers never sleep.
    #[arg(long)]
    spin: bool,
    /// CPUs that the workers are pinned to: CLIENT, CLIENT/SERVER or /SERVER, such as 0/1 or 0-3/4-7.
    #[arg(long, value_name = "CPUS")]
    cpus: Option<CpusOfBoth>,
}

/// Options of the data connections, on both ends.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Sockets")]
struct Sockets {
    /// Congestion control [default: the system's; cubic on loopback where the system's paces].
    #[arg(long, short = 'C', value_name = "NAME")]
    congestion: Option<String>,
    /// Set TCP_NODELAY (latency always has it).
    #[arg(long)]
    nodelay: bool,
    /// SO_SNDBUF.
    #[arg(long, value_name = "SIZE")]
    send_buffer: Option<Bytes>,
    /// SO_RCVBUF.
    #[arg(long, value_name = "SIZE")]
    receive_buffer: Option<Bytes>,
    /// Largest segment (TCP_MAXSEG).
    #[arg(long, value_name = "SIZE")]
    mss: Option<Bytes>,
    /// DiffServ code point, 0 to 63.
    #[arg(long, value_name = "N")]
    dscp: Option<u32>,
    /// Rate of each stream (SO_MAX_PACING_RATE), such as 5Gbit/s.
    #[arg(long, value_name = "RATE")]
    pace: Option<Rate>,
    /// Use IPv4 only.
    #[arg(short = '4', conflicts_with = "ipv6", action = ArgAction::SetTrue)]
    ipv4: bool,
    /// Use IPv6 only.
    #[arg(short = '6', action = ArgAction::SetTrue)]
    ipv6: bool,
    /// Our own address.
    #[arg(long, value_name = "IP")]
    bind: Option<IpAddr>,
}

/// What comes out.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Output")]
struct Output {
    /// Write the result there; `-` is standard output, and the tables go to standard error
    /// [default: results/bench-<UTC time>.json].
    #[arg(long, value_name = "PATH|-")]
    json: Option<PathBuf>,
    /// No tables and no progress: only the result file, and errors.
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Way {
    Send,
    Receive,
    Both,
}

pub(super) fn run(args: Args, command: &[OsString]) -> anyhow::Result<Exit> {
    let seed = u64::from(getrandom::u32().context("no random numbers")?);
    let mut plan = Plan::new(draft(&args)?, seed)?;
    let to_stdout = args.output.json.as_deref() == Some(Path::new("-"));
    let file = match &args.output.json {
        _ if to_stdout => None,
        Some(path) => Some(ResultFile::prepare(path)?),
        None => Some(ResultFile::prepare(&ResultFile::default_path())?),
    };
    let (far, link) = reach(&args, &mut plan)?;
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    let mut line = Line::new(!args.output.quiet && !is_dumb, run::least_time(&plan));
    let measured = run::run(link, plan, &mut line);
    line.clear();
    let (outcome, error) = measured?;
    // A session that is lost and a stream that cannot be connected are told apart by chance where the far end is gone.
    let far = far.filter(|_| error.as_ref().is_some_and(|error| exit::of_link(error) == Exit::Unconnected));
    let way = far.and_then(Far::end_of_lost).map(|way| format!(" ({way})")).unwrap_or_default();
    let document = build::document(&outcome, command.iter().map(|word| printable(word.as_encoded_bytes())).collect());
    // Saved first, and shown even if that fails: neither must cost the other.
    let saved = save(&document, file);
    show(&document, to_stdout, args.output.quiet)?;
    if let Some(path) = saved?.filter(|_| !args.output.quiet) {
        out::say(&format!("saved as {}", path.display()));
    }
    if let Some(error) = &error {
        out::say(&format!("linerate: {error}{way}: what was measured until then is kept, marked incomplete"));
        return Ok(exit::of_link(error));
    }
    // A method that a kernel lacks is no failure, unless it was asked for by name.
    let by_name = args.matrix.methods.is_some() || args.matrix.receive.0 != ["read"];
    let reasons = failures(&outcome, by_name);
    if let Some(first) = reasons.first() {
        let all = outcome.cells.len() + outcome.latency.len();
        out::say(&format!("linerate: {} of {all} measurements failed: {first}", reasons.len()));
    }
    Ok(verdict(&outcome, reasons.len()))
}

fn draft(args: &Args) -> anyhow::Result<Draft> {
    let Args { matrix, timing, sockets, .. } = args;
    let narrow = |option: &str, bytes: Option<Bytes>| {
        bytes
            .map(|bytes| i32::try_from(bytes.0).map(|n| n as u32))
            .transpose()
            .map_err(|_| anyhow::anyhow!(PlanError::Conflict(format!("{option}: sizes end below 2GiB here"))))
    };
    let cpus = timing.cpus.clone().unwrap_or(CpusOfBoth { client: Vec::new(), server: Vec::new() });
    Ok(Draft {
        methods: matrix.methods.clone().map(|names| names.0).unwrap_or_default(),
        receive: matrix.receive.0.clone(),
        sizes: matrix.sizes.0.clone(),
        streams: matrix.streams.0.clone(),
        tls: matrix.tls.0.clone(),
        direction: match matrix.direction {
            Way::Send => Direction::Send,
            Way::Receive => Direction::Receive,
            Way::Both => Direction::Both,
        },
        workers: matrix.workers,
        source: Some(matrix.source.clone()).filter(|path| path.as_os_str() != "hot"),
        sink: Some(matrix.sink.clone()).filter(|path| path.as_os_str() != "discard"),
        duration: timing.duration.0,
        bytes: timing.bytes.map(|bytes| bytes.0),
        rounds: timing.rounds,
        warmup: timing.warmup.0,
        seed: timing.seed,
        options: SocketOptions {
            congestion: sockets.congestion.clone(),
            nodelay: sockets.nodelay,
            send_buffer: narrow("--send-buffer", sockets.send_buffer)?,
            receive_buffer: narrow("--receive-buffer", sockets.receive_buffer)?,
            mss: narrow("--mss", sockets.mss)?,
            dscp: sockets.dscp,
            pace: sockets.pace.map(|rate| rate.0),
        },
        client_cpus: cpus.client,
        server_cpus: cpus.server,
        spin: timing.spin,
        throughput: !matrix.no_throughput,
        latency: !matrix.no_latency,
        reply: reply_bytes(&matrix.reply)?,
        bind: sockets.bind,
    })
}

fn reply_bytes(text: &str) -> anyhow::Result<Option<u64>> {
    if text == "same" {
        return Ok(None);
    }
    let bytes: Bytes = text.parse().context("--reply")?;
    Ok(Some(bytes.0))
}

/// A session with the host that was named, or with a server of our own.
fn reach(args: &Args, plan: &mut Plan) -> anyhow::Result<(Option<Far>, Link)> {
    let family = match (args.sockets.ipv4, args.sockets.ipv6) {
        (true, _) => Family::V4,
        (_, true) => Family::V6,
        _ => Family::Any,
    };
    let ways = Ways { access: &args.access, ssh: &args.ssh, family, bind: args.sockets.bind };
    check_way(args)?;
    let Some(peer) = &args.host else {
        let ip = if args.sockets.ipv6 { IpAddr::from(Ipv6Addr::LOCALHOST) } else { Ipv4Addr::LOCALHOST.into() };
        let folder = served_folder(plan, |parent| {
            parent.canonicalize().with_context(|| format!("{}: no such folder", parent.display()))
        })?;
        let own = OwnServer::start(SocketAddr::new(ip, 0), folder.as_deref())?;
        let link = ways.ticket_holder(own.ticket())?;
        return Ok((Some(Far::Own(own)), link));
    };
    // What is started over ssh serves the folder of the files that are named; a daemon serves its own.
    let mut started = |target: &Target| {
        let folder = served_folder(plan, |parent| Ok(parent.to_path_buf()))?;
        ways.started_over_ssh(target, folder.as_deref().map_or(Serves::Nothing, Serves::Folder))
    };
    match peer {
        Peer::Ssh(target) => started(target).map(|(remote, link)| (Some(Far::Ssh(remote)), link)),
        Peer::Daemon(host) => Ok((None, ways.daemon(&host.name, host.port.or(args.port).unwrap_or(PORT_DEFAULT))?)),
        Peer::Either(host) if args.port.is_some() => {
            Ok((None, ways.daemon(&host.name, args.port.unwrap_or(PORT_DEFAULT))?))
        }
        Peer::Either(host) => {
            let is_ssh_wanted = args.ssh.of_a_start().is_some();
            if !is_ssh_wanted && let Some(link) = ways.daemon_if_any(&host.name, PORT_DEFAULT)? {
                return Ok((None, link));
            }
            let target = host.name.parse().map_err(PlanError::Conflict)?;
            let done = started(&target).map(|(remote, link)| (Some(Far::Ssh(remote)), link));
            match is_ssh_wanted {
                true => done,
                false => done.with_context(|| format!("no `linerate serve` answers on port {PORT_DEFAULT}; over ssh")),
            }
        }
    }
}

/// Options that say nothing about the way to the host would be lost without a word.
fn check_way(args: &Args) -> Result<(), PlanError> {
    let is_started = match &args.host {
        Some(Peer::Ssh(_)) => true,
        Some(Peer::Either(_)) => args.port.is_none() && args.ssh.of_a_start().is_some(),
        Some(Peer::Daemon(_)) | None => false,
    };
    let of_a_daemon = [("--port", args.port.is_some())].into_iter().chain(args.access.given());
    let stray = match is_started {
        true => of_a_daemon.into_iter().find_map(|(option, is_given)| is_given.then_some(option)),
        false => args.ssh.of_a_start(),
    };
    match (stray, is_started) {
        (None, _) => Ok(()),
        (Some("--port"), true) => Err(PlanError::Conflict(
            "--port is for a server that runs already: name ssh's with --ssh \"ssh -p PORT\", and that of the linerate it starts with --remote-port"
                .to_string(),
        )),
        (Some(option), true) => Err(PlanError::Conflict(format!(
            "{option} is for a server that runs already: one that is started over ssh makes itself known, leave it out"
        ))),
        (Some(option), false) => Err(PlanError::Conflict(format!(
            "{option} is for a server that is started over ssh: name the host as USER@HOST, or HOST without a port"
        ))),
    }
}

/// A server of our own sees the files that the plan names: have it serve their folder, and name them within it.
fn served_folder(
    plan: &mut Plan,
    resolve: impl Fn(&Path) -> anyhow::Result<PathBuf>,
) -> anyhow::Result<Option<PathBuf>> {
    let mut folder = None;
    let wanted = [(&plan.draft.sink, &mut plan.server_sink), (&plan.draft.source, &mut plan.server_source)];
    for (path, place) in wanted {
        let (Some(path), false) = (path, *place == Place::Nothing) else { continue };
        let (parent, name) = split(path)?;
        let parent = resolve(parent)?;
        *place = plan::place(Path::new(name));
        let other = folder.replace(parent.clone()).filter(|other| *other != parent);
        if other.is_some() {
            let why = "--sink and --source must be in the same folder when the server needs both".to_string();
            return Err(PlanError::Conflict(why).into());
        }
    }
    Ok(folder)
}

fn split(path: &Path) -> anyhow::Result<(&Path, &OsStr)> {
    let name = path.file_name().with_context(|| format!("{}: does not name a file", path.display()))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((parent, name))
}

fn show(document: &Document, to_stdout: bool, quiet: bool) -> anyhow::Result<()> {
    if to_stdout {
        out::print(&report::to_json(document)?)?;
    }
    match (quiet, to_stdout) {
        (true, _) => Ok(()),
        (false, true) => {
            out::say(terminal::render(document, &out::style_of_stderr()).trim_end());
            Ok(())
        }
        (false, false) => out::print(&terminal::render(document, &out::style_of_stdout())),
    }
}

/// Where it was saved.
fn save(document: &Document, file: Option<ResultFile>) -> anyhow::Result<Option<PathBuf>> {
    file.map(|file| file.write(&report::to_json(document)?)).transpose()
}

/// Why what failed did so, one for each cell and row.
fn failures(outcome: &Outcome, by_name: bool) -> Vec<&str> {
    let cells = outcome.cells.iter().filter(|cell| by_name || !cell.lacking).map(|cell| &cell.unavailable);
    let rows = outcome.latency.iter().map(|row| &row.unavailable);
    cells.chain(rows).flatten().map(String::as_str).collect()
}

/// Whether all was measured that should be.
fn verdict(outcome: &Outcome, failed: usize) -> Exit {
    let measured = outcome.cells.iter().filter(|cell| !cell.rounds.is_empty()).count()
        + outcome.latency.iter().filter(|row| row.histogram.count() > 0).count();
    match (failed, measured) {
        (0, _) => Exit::Ok,
        (_, 0) => Exit::Failed,
        _ => Exit::Partial,
    }
}
