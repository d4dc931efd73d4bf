//! Names among very many: until the first hit is there, and until all are. dufs searches too, miniserve only the
//! folder that is shown.
//!
//! Each query has a server of its own that has just been started: asked once (cold: nothing was looked at by it before)
//! and once more (warm). The one file of `first` is in the folder that reading the top gives first, that of `last` in
//! the one it gives last: whichever way a server goes, one of them is at its end.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;

use crate::common::interrupt;
use crate::output::{Section, is_below, spread};
use crate::servers::{Kind, Server};

/// Longest answer.
const ANSWER_MAX: Duration = Duration::from_secs(120);
/// In which the first hit has to be there, and all of them, ms.
const FIRST_WANTED_MS: f64 = 200.0;
const ALL_WANTED_MS: f64 = 3000.0;

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    /// One file of the folder that comes first.
    First,
    /// One of the folder that comes last.
    Last,
    /// One file in each folder.
    Some,
    /// All files: linerate stops after 1,000 hits, so nobody is comparable who tells a million.
    Many,
    /// Nothing.
    None,
}

impl Ask {
    const ALL: [Ask; 5] = [Ask::First, Ask::Last, Ask::Some, Ask::Many, Ask::None];

    fn label(self) -> &'static str {
        match self {
            Ask::First => "one, in the folder read first",
            Ask::Last => "one, in the folder read last",
            Ask::Some => "one in each folder",
            Ask::Many => "every file",
            Ask::None => "none",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Ask::First => "needle-first",
            Ask::Last => "needle-last",
            Ask::Some => "0007",
            Ask::Many => "file",
            Ask::None => "nothing-has-this-name",
        }
    }
}

/// Milliseconds since the request was begun, connecting included.
#[derive(Clone, Copy, Debug, Serialize)]
struct Run {
    /// None if nothing fits.
    first_ms: Option<f64>,
    all_ms: f64,
    /// Lines with a hit.
    hits: usize,
}

#[derive(Serialize)]
struct Played {
    server: &'static str,
    version: Result<String, String>,
    query: &'static str,
    cold: Vec<Run>,
    warm: Vec<Run>,
    #[serde(skip)]
    kind: Kind,
    #[serde(skip)]
    ask: Ask,
}

#[derive(Serialize)]
struct Document {
    names: usize,
    folders: usize,
    played: Vec<Played>,
}

/// Play all rounds in a tree of so many folders with as many files each.
pub fn play(rounds: usize, folders: usize) -> anyhow::Result<Section> {
    let source = tempfile::Builder::new().prefix("linerate-share-").tempdir_in("/dev/shm")?;
    let shared = source.path().join("shared");
    eprintln!("search: making {} files", folders * folders);
    let names = fill(&shared, folders)?;
    let mut played = Vec::new();
    for ask in Ask::ALL {
        let rivals: &[Kind] = if ask == Ask::Many { &[] } else { &[Kind::Dufs] };
        for kind in [Kind::Linerate].into_iter().chain(rivals.iter().copied()) {
            let (server, version) = (kind.label(), kind.version());
            played.push(Played { server, version, query: ask.label(), cold: vec![], warm: vec![], kind, ask });
        }
    }
    for round in 1..=rounds {
        for one in played.iter_mut().filter(|one| one.version.is_ok()) {
            interrupt::check()?;
            eprintln!("round {round} of {rounds}: search, {}: {}", one.query, one.server);
            let scratch = tempfile::tempdir_in(source.path())?;
            let server = one.kind.start(&shared, scratch.path(), false)?;
            let asked = || ask(&server, (one.kind, one.ask)).with_context(|| format!("{}, {}", one.query, one.server));
            let (cold, warm) = (asked()?, asked()?);
            one.cold.push(cold);
            one.warm.push(warm);
        }
    }
    let document = Document { names, folders, played };
    Section::new("search", table(&document), &document)
}

/// Make the tree; how many names are in it.
fn fill(shared: &Path, folders: usize) -> anyhow::Result<usize> {
    fs::create_dir(shared)?;
    for folder in 0..folders {
        let folder = shared.join(format!("folder {folder:04}"));
        fs::create_dir(&folder)?;
        (0..folders).try_for_each(|at| File::create(folder.join(format!("file {at:04}.txt"))).map(drop))?;
        interrupt::check()?;
    }
    let mut read = fs::read_dir(shared)?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    let (first, last) = (read.first().cloned().context("no folder")?, read.pop().context("no folder")?);
    File::create(first.join("needle-first.txt"))?;
    File::create(last.join("needle-last.txt"))?;
    Ok(folders + folders * folders + 2)
}

/// Ask by HTTP/1.0, whose answers have no chunks and end with the connection.
fn ask(server: &Server, (kind, what): (Kind, Ask)) -> anyhow::Result<Run> {
    let host = server.base.trim_start_matches("http://").trim_end_matches("/f");
    let target = if kind == Kind::Linerate { "/api/search?q=" } else { "/?simple&q=" };
    let headers: String = server.headers.iter().map(|header| format!("{header}\r\n")).collect();
    let request = format!("GET {target}{} HTTP/1.0\r\nHost: {host}\r\n{headers}\r\n", what.words());
    let since = Instant::now();
    let mut stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.write_all(request.as_bytes())?;
    let (mut answer, mut first_ms, mut buffer) = (Vec::new(), None, vec![0; 1 << 16]);
    let mut body = None;
    loop {
        let n = stream.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        answer.extend_from_slice(&buffer[..n]);
        let end = || answer.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
        body = body.or_else(end);
        // A whole line; linerate's last one tells only that it is over.
        let is_hit = |body: &[u8]| body.contains(&b'\n') && !body.starts_with(b"{\"done\"");
        if first_ms.is_none() && body.is_some_and(|at| is_hit(&answer[at..])) {
            first_ms = Some(since.elapsed().as_secs_f64() * 1e3);
        }
    }
    let all_ms = since.elapsed().as_secs_f64() * 1e3;
    anyhow::ensure!(answer.starts_with(b"HTTP/1.") && answer.get(9..12) == Some(b"200"), "the answer is no 200");
    let text = String::from_utf8_lossy(&answer[body.context("no answer")?..]).into_owned();
    let hits = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with("{\"done\"")).count();
    let is_right = match what {
        Ask::None => hits == 0,
        Ask::First | Ask::Last => hits == 1,
        Ask::Some | Ask::Many => hits > 1,
    };
    anyhow::ensure!(is_right, "{hits} hits: {:.200}", text);
    Ok(Run { first_ms, all_ms, hits })
}

fn table(document: &Document) -> String {
    let mut text = format!(
        "{} names in {} folders\n\n| looked for | server | hits | first, cold, ms | first, warm | all, cold | all, warm | \
         wanted cold |\n|---|---|---|---|---|---|---|---|\n",
        document.names, document.folders
    );
    for one in &document.played {
        let first = |runs: &[Run]| runs.iter().filter_map(|run| run.first_ms).collect::<Vec<_>>();
        let all = |runs: &[Run]| runs.iter().map(|run| run.all_ms).collect::<Vec<_>>();
        let hits = one.cold.first().map_or(0, |run| run.hits);
        let (cold, warm) = (first(&one.cold), first(&one.warm));
        let wanted = match (one.kind, &one.version) {
            (_, Err(why)) => why.clone(),
            (Kind::Linerate, _) => {
                let ends = is_below(&all(&one.cold), ALL_WANTED_MS, "ms");
                if cold.is_empty() { ends } else { format!("{}; {ends}", is_below(&cold, FIRST_WANTED_MS, "ms")) }
            }
            _ => "–".to_owned(),
        };
        let times = [spread(&cold, 0), spread(&warm, 0), spread(&all(&one.cold), 0), spread(&all(&one.warm), 0)];
        text.push_str(&format!("| {} | {} | {hits} | {} | {wanted} |\n", one.query, one.server, times.join(" | ")));
    }
    text
}
