//! The whole run: describe both ends, agree on what holds for all cells, measure round by round.

use std::time::{Duration, Instant};

use super::cell::{self, Client, Measured};
use super::flows::HotSources;
use super::outcome::{CellOutcome, LatencyOutcome, LinkFacts, Outcome};
use super::plan::{CellPlan, LatencyPlan, Plan};
use super::schedule::{self, Item};
use crate::link::{Link, LinkError, Ticker};
use crate::measure::environment;
use crate::measure::histogram::LatencyHistogram;
use crate::mover::needs_kernel_tls;
use crate::proto::message::{Capability, Description, Direction, Place, Reply, Request, SocketOptions};
use crate::text::printable_limit;

/// Why a run could not begin.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The link.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The two ends do not fit the plan.
    #[error("{0}")]
    Plan(String),
}

/// Told how the run goes.
pub trait Progress: Ticker {
    /// So many of so many items are done; `what` comes next.
    fn advance(&mut self, done: usize, all: usize, what: &str);
}

/// Measure a plan over a fresh link. A run that is cut short still has an outcome, once it has begun.
pub fn run(mut link: Link, plan: Plan, progress: &mut dyn Progress) -> Result<(Outcome, Option<LinkError>), RunError> {
    let started = Instant::now();
    let description = describe(&mut link)?;
    let facts = agree(&link, &plan, &description)?;
    let congestion = Some(facts.congestion.clone()).filter(|name| !name.is_empty());
    let options = SocketOptions { congestion, ..plan.draft.options.clone() };
    let mut outcome = prepare(plan, facts, &description);
    let mut client = Client { link, hot: HotSources::default() };
    let error = measure(&mut client, &mut outcome, &options, progress).err();
    outcome.cut_short = error.as_ref().map(ToString::to_string);
    outcome.elapsed_s = started.elapsed().as_secs_f64();
    client.link.close();
    Ok((outcome, error))
}

fn describe(link: &mut Link) -> Result<Description, LinkError> {
    match link.call(Request::Describe)? {
        Reply::Described(description) => Ok(*description),
        other => Err(link.unexpected(&other)),
    }
}

/// Settle what depends on both ends, and refuse what the other end cannot do.
fn agree(link: &Link, plan: &Plan, server: &Description) -> Result<LinkFacts, RunError> {
    let (local, peer) = (link.local()?, link.peer());
    let client = environment::capture(Some(local.ip()));
    let loopback = peer.ip().is_loopback() || peer.ip() == local.ip();
    if plan.streams_max() > server.streams_max {
        let (wanted, most) = (plan.streams_max(), server.streams_max);
        let why = format!(
            "--streams: the server takes {most} streams at a time, the plan needs {wanted}: raise `ulimit -n` there"
        );
        return Err(RunError::Plan(why));
    }
    let needs_folder = plan.server_sink != Place::Nothing || plan.server_source != Place::Nothing;
    if needs_folder && !server.serves_folder {
        let why = "--sink or --source names a file on the server, which serves no folder: start it as `linerate serve FOLDER`";
        return Err(RunError::Plan(why.to_string()));
    }
    let (congestion, congestion_reason) = choose_congestion(plan, &client, server, loopback)?;
    let server = server.environment.clone();
    Ok(LinkFacts {
        peer: peer.to_string(),
        loopback,
        client,
        server,
        congestion,
        congestion_reason,
        cipher: link.cipher().to_string(),
        is_server_known: link.is_server_known(),
        through_ssh: link.through_ssh(),
    })
}

type Environment = crate::proto::facts::Environment;

fn choose_congestion(
    plan: &Plan,
    client: &Environment,
    server: &Description,
    loopback: bool,
) -> Result<(String, Option<String>), RunError> {
    let senders: &[(&str, &Environment)] = match plan.draft.direction {
        Direction::Send => &[("this end", client)],
        Direction::Receive => &[("the server", &server.environment)],
        Direction::Both => &[("this end", client), ("the server", &server.environment)],
    };
    if let Some(wanted) = &plan.draft.options.congestion {
        for (end, environment) in senders {
            if !environment.congestion_available.contains(wanted) {
                let available = environment.congestion_available.join(", ");
                let wanted = printable_limit(wanted.as_bytes(), 40);
                let why = format!(
                    "--congestion {wanted}: {end} has {available}; others need their kernel module loaded, and for an \
                     unprivileged user a place in net.ipv4.tcp_allowed_congestion_control"
                );
                return Err(RunError::Plan(why));
            }
        }
        return Ok((wanted.clone(), None));
    }
    let default = &senders[0].1.congestion_control;
    let both = [client, &server.environment];
    let is_permitted = |name: &str| both.iter().all(|end| end.congestion_available.iter().any(|has| has == name));
    if !loopback || !environment::paces(default) {
        return Ok((default.clone(), Some("the system's default".to_string())));
    }
    let (chosen, reason) = match environment::unpaced(is_permitted) {
        Some(name) => (name, format!("not the system's {default}, which paces: a loopback would measure its timers")),
        None => (default.as_str(), "the system's default; it paces, so this loopback measures its timers".to_string()),
    };
    Ok((chosen.to_string(), Some(reason)))
}

fn prepare(plan: Plan, link: LinkFacts, server: &Description) -> Outcome {
    let cells = plan.cells.iter().map(|cell| {
        let unavailable = missing(cell, plan.draft.direction, server);
        CellOutcome { cell: *cell, rounds: Vec::new(), tcp: None, lacking: unavailable.is_some(), unavailable }
    });
    let latency = plan.latency.iter().map(|&LatencyPlan { size, tls }| LatencyOutcome {
        size,
        tls,
        reply: plan.draft.reply.unwrap_or(size),
        histogram: LatencyHistogram::new(),
        shared: false,
        unavailable: None,
    });
    let (cells, latency) = (cells.collect(), latency.collect());
    let started_at = link.client.time.clone();
    Outcome { plan, link, started_at, elapsed_s: 0.0, rounds_measured: 0, cut_short: None, cells, latency }
}

/// Which method of a cell an end lacks.
fn missing(cell: &CellPlan, direction: Direction, server: &Description) -> Option<String> {
    let (up, down) = direction.split(1);
    let ours = [(up, cell.send.probe), (down, cell.receive.probe)];
    let theirs = [(down, cell.send.name, &server.send_methods), (up, cell.receive.name, &server.receive_methods)];
    if cell.tls && !(cell.send.feed.is_some() && cell.receive.decrypts) {
        return Some(lacks_kernel_tls(server));
    }
    let here = ours.into_iter().filter(|(used, _)| *used > 0).find_map(|(_, probe)| probe().err());
    let there = || theirs.into_iter().filter(|(used, ..)| *used > 0).find_map(|(_, name, list)| lacks(name, list));
    here.map(|why| format!("this end: {why}")).or_else(there)
}

/// Both ends would need it: neither a sender nor a receiver can do without alone.
fn lacks_kernel_tls(server: &Description) -> String {
    match &server.kernel_tls {
        Some(why) if crate::sys::ktls::probe().is_ok() => {
            format!("needs kTLS, which the server's kernel lacks (TCP_ULP: {})", printable_limit(why.as_bytes(), 100))
        }
        _ => needs_kernel_tls(),
    }
}

fn lacks(name: &str, list: &[Capability]) -> Option<String> {
    match list.iter().find(|capability| capability.name == name) {
        None => Some(format!("server: knows no method {name}")),
        Some(capability) => {
            let why = capability.unavailable.as_ref()?;
            Some(format!("server: {}", printable_limit(why.as_bytes(), 400)))
        }
    }
}

fn measure(
    client: &mut Client,
    outcome: &mut Outcome,
    options: &SocketOptions,
    progress: &mut dyn Progress,
) -> Result<(), LinkError> {
    let rounds = schedule::rounds(&outcome.plan);
    let all = rounds.iter().map(Vec::len).sum();
    let mut done = 0;
    for round in rounds {
        for item in round {
            progress.advance(done, all, &name(outcome, item));
            measure_item(client, outcome, options, item, progress)?;
            done += 1;
        }
        outcome.rounds_measured += 1;
    }
    progress.advance(done, all, "done");
    Ok(())
}

fn measure_item(
    client: &mut Client,
    outcome: &mut Outcome,
    options: &SocketOptions,
    item: Item,
    progress: &mut dyn Progress,
) -> Result<(), LinkError> {
    let plan = &outcome.plan;
    match item {
        Item::Cell(n) => {
            let cell = &mut outcome.cells[n];
            if cell.unavailable.is_some() {
                return Ok(());
            }
            match cell::transfer(client, plan, options, &plan.cells[n], progress)? {
                Measured::Done((round, tcp)) => {
                    cell.rounds.push(round);
                    cell.tcp = Some(tcp);
                }
                Measured::Unavailable(why) => cell.unavailable = Some(why),
            }
        }
        Item::Latency(n) => {
            let row = &mut outcome.latency[n];
            if row.unavailable.is_some() {
                return Ok(());
            }
            match cell::latency(client, plan, options, plan.latency[n], progress)? {
                Measured::Done((histogram, shared)) => {
                    row.histogram.merge(&histogram);
                    row.shared |= shared;
                }
                Measured::Unavailable(why) => row.unavailable = Some(why),
            }
        }
    }
    Ok(())
}

fn name(outcome: &Outcome, item: Item) -> String {
    use crate::units::Bytes;
    match item {
        Item::Cell(n) => {
            let cell = &outcome.plan.cells[n];
            format!("{} {}{}", cell.send.name, Bytes(cell.size), if cell.tls { " TLS" } else { "" })
        }
        Item::Latency(n) => {
            let LatencyPlan { size, tls } = outcome.plan.latency[n];
            format!("latency {}{}", Bytes(size), if tls { " TLS" } else { "" })
        }
    }
}

/// How long a plan takes at least: the measurements and warm-ups themselves.
pub fn least_time(plan: &Plan) -> Duration {
    let items = (plan.cells.len() + plan.latency.len()) as u32;
    (plan.draft.duration + plan.draft.warmup) * items * plan.draft.rounds
}
