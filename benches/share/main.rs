//! `linerate share` beside nginx, miniserve and dufs, over loopback: files down and up, and what many entries, many
//! names, many visitors and a large folder cost.
//!
//! ```text
//! cargo bench --bench share -- --rounds 5 --save
//! cargo bench --bench share -- --only rows,search --save
//! ```
//!
//! Rounds: every server once, in an order of chance, then all again; each with a server of its own that has just been
//! started. miniserve and dufs are looked for in PATH and in `target/rivals/bin`, where `--install` has cargo put them;
//! what is missing is skipped with the reason. In a network namespace of its own all use the same congestion control.
//! With `--save`, writes `results/share.json`, schema `linerate.share-bench/2`: a section for each task, with the
//! machine and the time that it was measured at. Sections of tasks that `--only` leaves out stay as they are.
//!
//! | file | what it holds |
//! |---|---|
//! | `servers` | how each server is started |
//! | `contest` | one file by curl: in the clear, in TLS, uploaded |
//! | `archive` | a folder of 10 GiB as zip beside the plain download of the same files |
//! | `rows` | a folder of 100,000 entries in Chromium, by `rows.mjs` |
//! | `search` | one name among 1,000,000 |
//! | `crowd` | 500 slow downloads and 1,000 event streams: memory, and the page meanwhile |
//! | `output` | the tables of `contest`, and the result file |

#[path = "../common/mod.rs"]
mod common;

mod archive;
mod contest;
mod crowd;
mod output;
mod rows;
mod search;
mod servers;

use std::process::Command;

use anyhow::Context;
use clap::ValueEnum;
use common::record::Record;
use common::{interrupt, mode, network};
use contest::Transfer;
use output::Section;

/// Content of the file that is moved, bytes.
const BYTES: u64 = 4 << 30;
/// The same when it is only to be seen that the bench works.
const BYTES_OF_TEST: u64 = 4 << 20;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Task {
    /// One file, in the clear, to nowhere.
    Download,
    /// The same in TLS.
    Https,
    /// One file by `curl -T` into memory.
    Upload,
    /// A folder as a zip, to nowhere.
    Zip,
    /// The page of a large folder in a browser.
    Rows,
    /// A name among many.
    Search,
    /// Many visitors at once.
    Crowd,
}

impl Task {
    fn run(self, rounds: usize) -> anyhow::Result<Section> {
        let is_test = mode::is_test();
        let bytes = if is_test { BYTES_OF_TEST } else { BYTES };
        match self {
            Task::Download => contest::play(Transfer::Download, rounds, bytes),
            Task::Https => contest::play(Transfer::Secure, rounds, bytes),
            Task::Upload => contest::play(Transfer::Upload, rounds, bytes),
            Task::Zip => archive::play(rounds, if is_test { 10 << 20 } else { 10 << 30 }),
            Task::Rows => rows::play(rounds, if is_test { 2000 } else { 100_000 }),
            Task::Search => search::play(rounds, if is_test { 30 } else { 1000 }),
            Task::Crowd => crowd::play(rounds, if is_test { crowd::OF_TEST } else { crowd::OF_ISSUE }),
        }
    }
}

/// The command line.
#[derive(Debug, clap::Parser)]
struct Options {
    /// Times that every server is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only these tasks.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "TASK")]
    only: Vec<Task>,
    /// Write results/share.json.
    #[arg(long)]
    save: bool,
    /// Have cargo build miniserve and dufs into target/rivals first.
    #[arg(long)]
    install: bool,
}

fn main() -> anyhow::Result<()> {
    let mut options: Options = clap::Parser::parse_from(mode::own_arguments());
    if mode::is_test() {
        options.rounds = 1;
    }
    if options.install {
        install()?;
    }
    let network = network::enter();
    interrupt::watch()?;
    linerate::sys::limits::raise_open_files().context("the limit on open files")?;
    eprintln!("network: {network}");
    let record = options.save.then(|| Record::named("share.json")).transpose()?;
    println!("{} rounds, clients and server on this machine, loopback", options.rounds);
    let is_wanted = |task: &&Task| options.only.is_empty() || options.only.contains(*task);
    let mut sections = Vec::new();
    for task in Task::value_variants().iter().filter(is_wanted) {
        let section = task.run(options.rounds)?;
        print!("\n## {}\n\n{}", section.name, section.table);
        sections.push(section);
    }
    if mode::is_test() {
        println!("\ntest run: these figures mean nothing");
    }
    if let Some(record) = record {
        let document = output::document(sections, options.rounds, &network)?;
        println!("\nsaved as {}", record.write(&document)?.display());
    }
    Ok(())
}

fn install() -> anyhow::Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.args(["install", "--quiet", "--locked", "--root"]).arg(servers::rivals()).args(["miniserve", "dufs"]);
    let done = cargo.status().context("cargo install")?;
    anyhow::ensure!(done.success(), "cargo install miniserve dufs: {done}");
    Ok(())
}
