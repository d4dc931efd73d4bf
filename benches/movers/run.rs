//! One run: a client from its start to its end, with what both ends took.
//!
//! The clock stops when the client has ended; where data may still be on its way then (`tar | nc`), when the server
//! has ended by itself too. CPU time of a client is what the kernel tells when it is reaped, its children included;
//! that of a server is the difference of its tree of processes, in steps of 10 ms. Memory is the greatest VmHWM of any
//! one process of an end, looked at while it runs: what a process needs last of all may be missed.

use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;

use crate::common::interrupt;
use crate::common::ports::Server;
use crate::mover::{Job, Ready};
use crate::process::{Process, cpu_s, kill_tree, rss_peak_bytes, tree};

/// How often the processes are looked at: often at first, for runs that are short.
const LOOK_FIRST: Duration = Duration::from_millis(2);
const LOOK_LAST: Duration = Duration::from_millis(50);
/// Time for what a server had started for its client to end.
const SETTLE_MAX: Duration = Duration::from_millis(500);
const SETTLE_EVERY: Duration = Duration::from_millis(5);
/// Rates that every mover keeps, or it hangs.
const SLOWEST_BYTES_PER_S: u64 = 20_000_000;
const SLOWEST_FILES_PER_S: u64 = 400;
const SLACK: Duration = Duration::from_secs(60);

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Which round.
    pub round: u32,
    /// From the start of the client to its end, s.
    pub wall_s: f64,
    /// CPU seconds of the client.
    pub client_cpu_s: f64,
    /// … of the server.
    pub server_cpu_s: f64,
    /// Most memory that one process of the client had resident, bytes.
    pub client_rss_peak_bytes: u64,
    /// … the server; absent where there is none.
    pub server_rss_peak_bytes: Option<u64>,
    /// Exit code of the client.
    pub exit_code: Option<i32>,
}

/// A run and the commands that made it.
pub struct Timed {
    /// Its figures.
    pub run: Run,
    /// The client.
    pub client_command: String,
    /// The server.
    pub server_command: Option<String>,
    /// Why it counts as failed, whatever is at the destination.
    pub fault: Option<String>,
}

/// What the watching thread has seen.
struct Seen {
    client_rss: u64,
    server_rss: u64,
}

/// Run it.
pub fn time(ready: Ready, job: &Job, round: u32) -> anyhow::Result<Timed> {
    let Ready { mut server, client, server_ends } = ready;
    let server_id = server.as_ref().map(Process::id);
    let family = server_id.map(tree).unwrap_or_default();
    let server_before = cpu_s(&family);
    let (client_gone, is_done) = (AtomicBool::new(false), AtomicBool::new(false));
    let start = Instant::now();
    let mut client = job.start(&client)?;
    let client_id = client.id();
    let longest =
        SLACK + Duration::from_secs(job.source.bytes / SLOWEST_BYTES_PER_S + job.source.files / SLOWEST_FILES_PER_S);
    let (ended, seen) = thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(client_id, server_id, start + longest, [&client_gone, &is_done]));
        let ended = both_ends(&mut client, server.as_mut().filter(|_| server_ends), start, &client_gone);
        is_done.store(true, Ordering::Release);
        watcher.thread().unpark();
        (ended, watcher.join())
    });
    interrupt::check()?;
    let seen = seen.map_err(|_| anyhow::anyhow!("the thread that watches the processes failed"))?;
    let ended = ended?;
    let server_cpu_s = match (ended.server_cpu_s, server_id) {
        (Some(cpu_s), _) => cpu_s,
        (None, Some(id)) => settled_cpu_s(id, family.len()) - server_before,
        (None, None) => 0.0,
    };
    let fault = (!ended.status.success()).then(|| format!("{}: {}", ended.status, client.said()));
    let is_late = ended.wall > longest;
    Ok(Timed {
        run: Run {
            round,
            wall_s: ended.wall.as_secs_f64(),
            client_cpu_s: ended.client_cpu_s,
            server_cpu_s: server_cpu_s.max(0.0),
            client_rss_peak_bytes: seen.client_rss,
            server_rss_peak_bytes: server_id.map(|_| seen.server_rss),
            exit_code: ended.status.code(),
        },
        client_command: client.command.clone(),
        server_command: server.as_ref().map(|server| server.command.clone()),
        fault: if is_late { Some(format!("not done after {longest:?}")) } else { fault },
    })
}

struct Ended {
    status: ExitStatus,
    wall: Duration,
    client_cpu_s: f64,
    server_cpu_s: Option<f64>,
}

/// Wait for the client, and for a server that ends by itself.
fn both_ends(
    client: &mut Process,
    server: Option<&mut Process>,
    start: Instant,
    client_gone: &AtomicBool,
) -> anyhow::Result<Ended> {
    let (status, client_cpu_s) = client.wait()?;
    let mut ended = Ended { status, wall: start.elapsed(), client_cpu_s, server_cpu_s: None };
    client_gone.store(true, Ordering::Release);
    if let Some(server) = server.filter(|_| status.success()) {
        let (status, cpu_s) = server.wait().context("server")?;
        ended = Ended { status, wall: start.elapsed(), server_cpu_s: Some(cpu_s), ..ended };
    }
    Ok(ended)
}

/// Look at the memory of both ends until they are done; end them when their time is over or somebody wants to stop.
fn watch(client: u32, server: Option<u32>, deadline: Instant, [client_gone, is_done]: [&AtomicBool; 2]) -> Seen {
    let mut seen = Seen { client_rss: 0, server_rss: 0 };
    let mut pause = LOOK_FIRST;
    while !is_done.load(Ordering::Acquire) {
        let client = (!client_gone.load(Ordering::Acquire)).then_some(client);
        let family = client.map(tree).unwrap_or_default();
        seen.client_rss = seen.client_rss.max(rss_peak_bytes(&family));
        if let Some(server) = server {
            seen.server_rss = seen.server_rss.max(rss_peak_bytes(&tree(server)));
        }
        if Instant::now() > deadline || interrupt::check().is_err() {
            [client, server].into_iter().flatten().for_each(kill_tree);
        }
        thread::park_timeout(pause);
        pause = (pause * 2).min(LOOK_LAST);
    }
    // A server is still there when its client has gone, and so is its peak.
    let last = server.map_or(0, |server| rss_peak_bytes(&tree(server)));
    Seen { server_rss: seen.server_rss.max(last), ..seen }
}

/// A server's CPU seconds once what it started for its client has ended, and so is part of its own figures.
fn settled_cpu_s(server: u32, processes_before: usize) -> f64 {
    let deadline = Instant::now() + SETTLE_MAX;
    loop {
        let family = tree(server);
        if family.len() <= processes_before || Instant::now() > deadline {
            return cpu_s(&family);
        }
        sleep(SETTLE_EVERY);
    }
}
