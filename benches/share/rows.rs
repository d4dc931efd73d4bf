//! The page of a folder with very many entries in a browser: until the first rows are painted, and until the last can
//! be reached. Each run has a server and a browser of its own; who is measured has been let in before.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::common::child::Guard;
use crate::common::{interrupt, version};
use crate::output::{Section, is_below, spread};
use crate::servers::{Kind, Server};

/// Longest run.
const RUN_MAX: Duration = Duration::from_secs(300);
/// In which the first rows have to be there, ms.
const WANTED_MS: f64 = 1000.0;
const DRIVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/share/rows.mjs");

/// Milliseconds since the navigation began.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Run {
    first_ms: f64,
    last_ms: f64,
}

#[derive(Serialize)]
struct Played {
    server: &'static str,
    version: Result<String, String>,
    runs: Vec<Run>,
    #[serde(skip)]
    kind: Kind,
}

#[derive(Serialize)]
struct Document {
    entries: usize,
    browser: Result<String, String>,
    played: Vec<Played>,
}

/// Play all rounds with a folder of so many entries.
pub fn play(rounds: usize, entries: usize) -> anyhow::Result<Section> {
    let browser = Browser::find();
    let told = browser.as_ref().map(|browser| browser.version.clone()).map_err(Clone::clone);
    let (Ok(browser), Ok(_)) = (browser, &told) else {
        let why = told.as_ref().err().cloned().unwrap_or_default();
        let document = Document { entries, browser: told, played: Vec::new() };
        return Section::new("rows", format!("skipped: {why}\n"), &document);
    };
    let source = tempfile::Builder::new().prefix("linerate-share-").tempdir_in("/dev/shm")?;
    let shared = source.path().join("shared");
    fill(&shared, entries)?;
    let played = |kind: Kind| Played { server: kind.label(), version: kind.version(), runs: Vec::new(), kind };
    let mut played = [Kind::Linerate, Kind::Miniserve, Kind::Dufs].map(played);
    let mut rng = rand::rngs::SmallRng::seed_from_u64(jiff::Timestamp::now().as_nanosecond() as u64);
    for round in 1..=rounds {
        let mut order: Vec<usize> = (0..played.len()).filter(|at| played[*at].version.is_ok()).collect();
        order.shuffle(&mut rng);
        for at in order {
            interrupt::check()?;
            eprintln!("round {round} of {rounds}: rows: {}", played[at].server);
            let scratch = tempfile::tempdir_in(source.path())?;
            let server = played[at].kind.start(&shared, scratch.path(), false)?;
            let run = browser.open(played[at].kind, &server, entries);
            played[at].runs.push(run.with_context(|| format!("rows, {}", played[at].server))?);
        }
    }
    let document = Document { entries, browser: told, played: played.into() };
    Section::new("rows", table(&document), &document)
}

/// Files with something in them, as their sizes are shown.
fn fill(shared: &Path, entries: usize) -> anyhow::Result<()> {
    fs::create_dir(shared)?;
    (0..entries).try_for_each(|at| Ok(File::create(shared.join(format!("file {at:06}.txt")))?.set_len(at as u64)?))
}

/// What drives the browser.
struct Browser {
    /// Where playwright-core is installed.
    folder: PathBuf,
    version: String,
}

impl Browser {
    /// It, or what is missing.
    fn find() -> Result<Browser, String> {
        let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/browser");
        let folder = std::env::var_os("LINERATE_PLAYWRIGHT").map_or_else(own, PathBuf::from);
        if !folder.join("node_modules/playwright-core").is_dir() {
            return Err("no playwright-core: npm install --prefix target/browser playwright-core".to_owned());
        }
        version::version("node", "--version")?;
        let named = std::env::var_os("CHROMIUM").map(PathBuf::from);
        let usual = ["/usr/lib/chromium/chromium", "/usr/bin/chromium"].map(PathBuf::from);
        let program = named.into_iter().chain(usual).find(|path| path.exists()).ok_or("there is no Chromium")?;
        let version = version::version(&program.display().to_string(), "--version")?;
        Ok(Browser { folder, version })
    }

    fn open(&self, kind: Kind, server: &Server, entries: usize) -> anyhow::Result<Run> {
        let page = format!("{}/", server.base);
        let (first, last) = match kind {
            Kind::Linerate => ("#rows tr .name", "end"),
            Kind::Dufs => (".paths-table tbody tr .cell-name a", "all"),
            _ => ("table tbody tr .file", "all"),
        };
        let mut node = Command::new("node");
        node.arg(DRIVER).args([&server.link, &page, first, last, &entries.to_string()]).current_dir(&self.folder);
        let mut child = Guard::spawn(node.stdin(Stdio::null()).stdout(Stdio::piped()))?;
        let status = child.wait(RUN_MAX)?;
        let told = std::io::read_to_string(child.stdout.take().context("no output")?)?;
        anyhow::ensure!(status.success(), "node: {status}: {told}");
        serde_json::from_str(&told).with_context(|| format!("the driver says {told:?}"))
    }
}

fn table(document: &Document) -> String {
    let mut text = format!(
        "{} entries\n\n| server | first row painted, ms | last row painted, ms | wanted |\n|---|---|---|---|\n",
        document.entries
    );
    for one in &document.played {
        let of = |value: fn(&Run) -> f64| one.runs.iter().map(value).collect::<Vec<_>>();
        let (first, last) = (of(|run| run.first_ms), of(|run| run.last_ms));
        let wanted = if one.kind == Kind::Linerate { is_below(&first, WANTED_MS, "ms") } else { "–".to_owned() };
        let why = one.version.as_ref().err().map_or(wanted, Clone::clone);
        text.push_str(&format!("| {} | {} | {} | {why} |\n", one.server, spread(&first, 0), spread(&last, 0)));
    }
    text
}
