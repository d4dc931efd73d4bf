//! Very many visitors at once, each from an address and with a session of its own: some download slowly, all listen to
//! events. How much memory the server takes then, and how fast it answers one more.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use linerate::bench::statistics;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::common::interrupt;
use crate::contest::write_noise;
use crate::output::{Section, spread};
use crate::servers::{Kind, Server};

mod visitor;

use visitor::Visitor;

/// How large a crowd is.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Size {
    /// People who listen to events.
    streams: usize,
    /// Others, each of whom downloads slowly.
    downloads: usize,
    /// Requests for the page while they do.
    looks: usize,
    /// How long they are left alone before, seconds.
    settle_s: u64,
}

/// What is promised.
pub const OF_ISSUE: Size = Size { streams: 1000, downloads: 500, looks: 200, settle_s: 10 };
/// To see that it works.
pub const OF_TEST: Size = Size { streams: 20, downloads: 10, looks: 5, settle_s: 1 };
/// How fast each download is read, bytes a second.
const RATE: u64 = 64 << 10;
/// The file that they download: more than is read, and than the kernel keeps on the way.
const FILE_BYTES: u64 = 256 << 20;
const FILE: &str = "big.bin";
/// Between two requests for the page.
const PAUSE: Duration = Duration::from_millis(20);
/// Most that come in at the same time.
const AT_ONCE: usize = 32;
/// What the server may take, MiB, and the page, ms.
const WANTED_MIB: f64 = 150.0;
const WANTED_MS: f64 = 50.0;

/// One crowd.
#[derive(Clone, Debug, Serialize)]
struct Run {
    /// Most that the server ever had resident, and what it has of its own memory in the crowd, bytes.
    peak_resident_bytes: u64,
    anonymous_bytes: u64,
    /// The same before anybody came.
    resident_before_bytes: u64,
    /// What all downloads got a second, bytes.
    downloads_bytes_per_s: f64,
    /// How long each request for the page took, with its connection and TLS, ms, least first.
    page_ms: Vec<f64>,
}

#[derive(Serialize)]
struct Document {
    size: Size,
    bytes_per_s_each: u64,
    runs: BTreeMap<&'static str, Vec<Run>>,
}

/// Play all rounds, in the clear and in TLS.
pub fn play(rounds: usize, size: Size) -> anyhow::Result<Section> {
    let source = tempfile::Builder::new().prefix("linerate-share-").tempdir_in("/dev/shm")?;
    let shared = source.path().join("shared");
    fs::create_dir(&shared)?;
    write_noise(&shared.join(FILE), FILE_BYTES)?;
    (0..20).try_for_each(|at| fs::write(shared.join(format!("file {at:02}.txt")), "a small one"))?;
    let mut runs = BTreeMap::<_, Vec<Run>>::new();
    for round in 1..=rounds {
        for (scheme, is_secure) in [("http", false), ("https", true)] {
            interrupt::check()?;
            eprintln!("round {round} of {rounds}: crowd, {scheme}");
            let scratch = tempfile::tempdir_in(source.path())?;
            let run = run(&shared, scratch.path(), is_secure, size);
            runs.entry(scheme).or_default().push(run.with_context(|| format!("crowd, {scheme}"))?);
        }
    }
    let document = Document { size, bytes_per_s_each: RATE, runs };
    Section::new("crowd", table(&document), &document)
}

fn run(shared: &Path, scratch: &Path, is_secure: bool, size: Size) -> anyhow::Result<Run> {
    let server = Kind::Linerate.start(shared, scratch, is_secure)?;
    let resident_before_bytes = memory(&server, "VmHWM")?;
    // This thread's network is the new one: a runtime of this thread alone stays in it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let crowd = Arc::new(Crowd::default());
        let mut people = JoinSet::new();
        come(&server, is_secure, size, (&crowd, &mut people)).await?;
        tokio::time::sleep(Duration::from_secs(size.settle_s)).await;
        let (got_before, since) = (crowd.got.load(Ordering::Relaxed), std::time::Instant::now());
        let page_ms = look(&server, is_secure, size.looks).await?;
        let got = crowd.got.load(Ordering::Relaxed) - got_before;
        let run = Run {
            peak_resident_bytes: memory(&server, "VmHWM")?,
            anonymous_bytes: memory(&server, "RssAnon")?,
            resident_before_bytes,
            downloads_bytes_per_s: got as f64 / since.elapsed().as_secs_f64(),
            page_ms,
        };
        let here = crowd.here.load(Ordering::Relaxed);
        let left = people.try_join_next().map(|left| format!(": one says {left:?}")).unwrap_or_default();
        anyhow::ensure!(here == size.streams + size.downloads && left.is_empty(), "only {here} were there{left}");
        Ok(run)
    })
}

/// What all of them have done.
#[derive(Default)]
struct Crowd {
    /// Those who have a good answer.
    here: AtomicUsize,
    /// What was downloaded.
    got: Arc<AtomicU64>,
}

/// Let all of them in; they go on by themselves.
async fn come(
    server: &Server,
    is_secure: bool,
    size: Size,
    (crowd, people): (&Arc<Crowd>, &mut JoinSet<anyhow::Result<()>>),
) -> anyhow::Result<()> {
    let door = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
    for number in 0..size.streams + size.downloads {
        interrupt::check()?;
        let visitor = Visitor::new(server, is_secure, number)?;
        let (door, crowd) = (door.clone(), crowd.clone());
        people.spawn(async move {
            let place = door.acquire().await?;
            let session = visitor.enter().await?;
            let target = if number < size.streams { "/api/events" } else { "/f/big.bin" };
            let mut body = visitor.get(target, &session).await?;
            crowd.here.fetch_add(1, Ordering::Relaxed);
            drop(place);
            match number < size.streams {
                true => body.read_all().await,
                false => body.read_slowly(RATE, &crowd.got).await,
            }
        });
    }
    let wanted = size.streams + size.downloads;
    while crowd.here.load(Ordering::Relaxed) < wanted {
        interrupt::check()?;
        if let Some(left) = people.try_join_next() {
            left?.context("somebody is refused")?;
            anyhow::bail!("somebody is sent away");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Ask for the page again and again, as somebody who has just come.
async fn look(server: &Server, is_secure: bool, looks: usize) -> anyhow::Result<Vec<f64>> {
    let visitor = Visitor::new(server, is_secure, 60_000)?;
    let session = visitor.enter().await?;
    let mut page_ms = Vec::new();
    for _ in 0..looks {
        let since = std::time::Instant::now();
        visitor.get("/f/", &session).await?.read_all().await?;
        page_ms.push(since.elapsed().as_secs_f64() * 1e3);
        tokio::time::sleep(PAUSE).await;
    }
    page_ms.sort_by(f64::total_cmp);
    Ok(page_ms)
}

/// A line of the server's memory, bytes.
fn memory(server: &Server, line: &str) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", server.process.id()))?;
    let value = status.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(':'));
    let kib = value.and_then(|value| value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    Ok(kib.with_context(|| format!("no {line} of the server"))? << 10)
}

fn table(document: &Document) -> String {
    let Size { streams, downloads, looks, .. } = document.size;
    let mut text = format!(
        "{downloads} downloads of 64 KiB/s each and {streams} event streams; {looks} requests for the page a round\n\n\
         | by | peak RSS, MiB | of its own, MiB | downloads together, MB/s | page: median, ms | p99 | max | wanted |\n\
         |---|---|---|---|---|---|---|---|\n"
    );
    for (scheme, runs) in &document.runs {
        let mib = |of: fn(&Run) -> u64| runs.iter().map(|run| of(run) as f64 / (1 << 20) as f64).collect::<Vec<_>>();
        let of = |part: f64| runs.iter().filter_map(|run| quantile(&run.page_ms, part)).collect::<Vec<_>>();
        let (peak, rate) = (mib(|run| run.peak_resident_bytes), runs.iter().map(|run| run.downloads_bytes_per_s / 1e6));
        let small = statistics::median(&peak).is_some_and(|mib| mib <= WANTED_MIB);
        let fast = of(0.99).iter().all(|ms| *ms < WANTED_MS);
        let said = |is_reached| if is_reached { "yes" } else { "no" };
        text.push_str(&format!(
            "| {scheme} | {} | {} | {} | {} | {} | {} | ≤ {WANTED_MIB} MiB: {}; p99 < {WANTED_MS} ms: {} |\n",
            spread(&peak, 0),
            spread(&mib(|run| run.anonymous_bytes), 0),
            spread(&rate.collect::<Vec<_>>(), 1),
            spread(&of(0.5), 1),
            spread(&of(0.99), 1),
            spread(&of(1.0), 1),
            said(small),
            said(fast),
        ));
    }
    text
}

/// Of values in order.
fn quantile(sorted: &[f64], part: f64) -> Option<f64> {
    sorted.get(((sorted.len() as f64 * part).ceil() as usize).saturating_sub(1)).copied()
}
