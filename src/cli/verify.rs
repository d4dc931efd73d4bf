//! `linerate verify`: are the files of a folder those that a manifest names? Making a manifest is in [`write`].

use std::fs::File;
use std::io::Read;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::Context;

use super::{Exit, out};
use crate::proto::b3sums::{self, SumsError};
use crate::proto::verify::FileHash;
use crate::store::StoreError;
use crate::store::confined::{RelativePath, Root};
use crate::store::hashing::{Hashed, THREADS_MAX, hash_files};
use crate::text::printable;

mod hashing;
mod summary;
mod write;

use hashing::{Hashing, Job};
use summary::Summary;

/// Largest manifest, bytes: some ten million files.
const MANIFEST_BYTES_MAX: u64 = 1 << 30;

/// Check the files of a folder against a manifest of BLAKE3 hashes, or write one.
///
/// A manifest is the text that b3sum writes, with paths from DIR on. Files that it does not name do not matter. Links
/// are followed as long as they stay in DIR; paths that lead out of it are refused.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  linerate verify /data --write data.b3\n  linerate verify /data data.b3\n  \
                  linerate verify /data --write - | ssh nas linerate verify /copy -")]
pub(super) struct Args {
    /// The folder.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The manifest to check by; - is standard input.
    #[arg(required_unless_present = "write")]
    manifest: Option<PathBuf>,
    /// Hash all regular files below DIR and write a manifest instead; - is standard output. Links are left out.
    #[arg(long, value_name = "MANIFEST", conflicts_with = "manifest")]
    write: Option<PathBuf>,
    /// How many threads hash [default: one for each processor].
    #[arg(long, value_name = "N", value_parser = threads)]
    threads: Option<NonZeroUsize>,
    /// Say nothing but what is wrong.
    #[arg(long, short)]
    quiet: bool,
    /// Print the outcome as a JSON object instead of lines.
    #[arg(long, conflicts_with = "write")]
    json: bool,
}

impl Args {
    fn threads(&self) -> NonZeroUsize {
        self.threads.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN)
    }
}

fn threads(text: &str) -> Result<NonZeroUsize, String> {
    let count = text.parse().ok().filter(|count: &NonZeroUsize| count.get() <= THREADS_MAX);
    count.ok_or_else(|| format!("write a number from 1 to {THREADS_MAX}"))
}

/// Why a manifest is none. Nothing was hashed then.
#[derive(Debug, thiserror::Error)]
pub(super) enum ManifestError {
    /// A line says nothing.
    #[error("{name}: {error}")]
    Line {
        /// The manifest.
        name: String,
        /// What is wrong.
        error: SumsError,
    },
    /// A line names what is not in the folder.
    #[error("{name}: line {number}: {error}")]
    Path {
        /// The manifest.
        name: String,
        /// Which line.
        number: usize,
        /// What is wrong.
        error: StoreError,
    },
    /// There is no end to it.
    #[error("{0}: is larger than 1 GiB: split it")]
    TooLarge(String),
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let root = Root::open(&args.folder)?;
    match (&args.write, &args.manifest) {
        (Some(path), _) => write::run(&args, &root, path),
        (None, Some(path)) => check(&args, &root, path),
        // Clap requires one of them.
        (None, None) => Ok(Exit::Usage),
    }
}

/// A file as it should be.
struct Expected {
    path: RelativePath,
    hash: FileHash,
}

fn check(args: &Args, root: &Root, manifest: &Path) -> anyhow::Result<Exit> {
    let expected = read_manifest(manifest)?;
    let jobs = expected.iter().enumerate().map(|(number, file)| Job { number, path: file.path.clone() });
    let summary = Mutex::new(Summary::begin());
    let failure = Mutex::new(None);
    let note = |job: Job, hashed: Result<Hashed, StoreError>| {
        let right = expected.get(job.number).map(|file| file.hash);
        let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(line) = summary.note(&job.path, right, hashed).filter(|_| !args.json) else { return };
        if let Err(error) = out::print(&(line + "\n")) {
            failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    };
    let hashing = Hashing::new(root, expected.len(), !args.quiet && !args.json, &note);
    hash_files(args.threads(), jobs, &hashing);
    hashing.clear();
    if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner).end();
    if args.json {
        out::print(&(serde_json::to_string_pretty(&summary)? + "\n"))?;
    } else if !args.quiet {
        out::print(&(summary.line() + "\n"))?;
    }
    Ok(summary.exit())
}

/// The whole manifest, before anything is hashed: what is wrong in it is known at once.
fn read_manifest(path: &Path) -> anyhow::Result<Vec<Expected>> {
    let is_stdin = path == Path::new("-");
    let name = if is_stdin { "standard input".to_string() } else { shown(path) };
    let mut text = Vec::new();
    let source: Box<dyn Read> = match is_stdin {
        true => Box::new(std::io::stdin().lock()),
        false => Box::new(File::open(path).with_context(|| format!("{name}: cannot be opened"))?),
    };
    let read = source.take(MANIFEST_BYTES_MAX + 1).read_to_end(&mut text);
    if read.with_context(|| format!("{name}: cannot be read"))? as u64 > MANIFEST_BYTES_MAX {
        return Err(ManifestError::TooLarge(name).into());
    }
    let mut expected = Vec::new();
    for (number, sum) in (1..).zip(b3sums::parse(&text)) {
        let sum = sum.map_err(|error| ManifestError::Line { name: name.clone(), error })?;
        let path = RelativePath::parse_typed(&sum.path);
        let path = path.map_err(|error| ManifestError::Path { name: name.clone(), number, error })?;
        expected.push(Expected { path, hash: sum.hash });
    }
    Ok(expected)
}

fn shown(path: &Path) -> String {
    printable(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()))
}
