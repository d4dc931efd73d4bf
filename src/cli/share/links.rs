//! `linerate get` and `put` with the link of somebody else's share, and what it came to.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::visit::{self, Strangers};
use crate::cli::access::AccessArgs;
use crate::cli::exit::{self, Misuse};
use crate::cli::figures::{self, count};
use crate::cli::{Exit, out};
use crate::share::client::get::{self, Destination, Getting, Tally};
use crate::share::client::link::Link;
use crate::share::client::put::{self, Sending};
use crate::share::client::{Client, ClientError};
use crate::share::incoming::umask;
use crate::store::confined::{DEPTH_MAX, RelativePath, Root};
use crate::text::{printable, printable_str};
use crate::trust::places::Places;
use crate::trust::private_file;
use crate::units::Span;

const TEMPLATE: &str = "{wide_bar} {bytes}/{total_bytes} · {bytes_per_sec} · {msg}";
const REDRAWS_PER_S: u8 = 4;
/// Permission bits of folders that are made, without what the umask takes.
const FOLDER_MODE: u32 = 0o777;
/// Where uploads are noted that were begun.
const UPLOADS: &str = "uploads";
/// Longest note of an upload.
const NOTE_BYTES_MAX: u64 = 1024;

/// How a share is visited.
pub(in crate::cli) struct Visit<'a> {
    pub(in crate::cli) access: &'a AccessArgs,
    pub(in crate::cli) retry_for: Duration,
    pub(in crate::cli) is_quiet: bool,
}

impl Visit<'_> {
    /// From a share to here.
    pub(in crate::cli) fn get(&self, from: &OsStr, to: &OsStr) -> anyhow::Result<Exit> {
        let link = link(from)?;
        if to == "-" {
            return Err(Misuse("-: what a share has goes to files: name a folder".to_string()).into());
        }
        let mut client = visit::open(&link, self.access, Strangers::Asked)?;
        let is_folder = link.path.is_root() || get::is_folder(&mut client, &link.path)?;
        let (root, path) = destination(Path::new(to), &link.path, is_folder)?;
        let mut line = Line::new(self.is_quiet);
        let getting = Getting::new(&mut client, self.retry_for, FOLDER_MODE & !umask(), &mut line)?;
        let destination = Destination { root: &root, path };
        let tally = match is_folder {
            true => getting.folder(&link.path, &destination)?,
            false => getting.file(&link.path, &destination)?,
        };
        line.bar.finish_and_clear();
        if !self.is_quiet && (tally.done > 0 || tally.failed == 0) {
            let had = if tally.had > 0 { format!(", {} were here already", tally.had) } else { String::new() };
            let bytes = figures::bytes(tally.bytes);
            let files = count(tally.done, "file", "files");
            out::say(&format!("linerate: got {files}, {bytes}; all is what the share says{had}"));
        }
        Ok(verdict(&tally))
    }

    /// From here to a share.
    pub(in crate::cli) fn put(&self, from: &[OsString], to: &OsStr) -> anyhow::Result<Exit> {
        let link = link(to)?;
        let mut files = Vec::new();
        for source in from {
            collect(Path::new(source), &mut files)?;
        }
        let mut client = visit::open(&link, self.access, Strangers::Asked)?;
        let mut line = Line::new(self.is_quiet);
        let (mut done, mut pending, mut failed, mut bytes) = (0u64, 0, None, 0);
        for (at, (path, name)) in files.iter().enumerate() {
            match self.put_one(&mut client, &link, (path, name), &mut line) {
                Ok((sent, len)) => {
                    done += 1;
                    pending += u64::from(sent.is_pending);
                    bytes += len;
                }
                Err(error) => {
                    line.bar.suspend(|| out::say(&format!("linerate: {}: {error:#}", shown(path))));
                    let ends_all = error.downcast_ref().is_some_and(ClientError::ends_all);
                    failed = Some(error);
                    if ends_all {
                        line.say_not_tried(files.len() - at - 1);
                        break;
                    }
                }
            }
        }
        line.bar.finish_and_clear();
        if !self.is_quiet && done > 0 {
            out::say(&format!("linerate: the share has {}, {}", count(done, "file", "files"), figures::bytes(bytes)));
        }
        if pending > 0 {
            // What comes of it is nothing that this program learns.
            out::say(&format!(
                "linerate: {} of it still being scanned for viruses there",
                count(pending, "file", "files")
            ));
        }
        Ok(match failed {
            None => Exit::Ok,
            Some(_) if done > 0 => Exit::Partial,
            Some(error) => exit::of_error(&error),
        })
    }

    fn put_one(
        &self,
        client: &mut Client,
        link: &Link,
        (path, name): (&Path, &RelativePath),
        line: &mut Line,
    ) -> anyhow::Result<(put::Sent, u64)> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let note = Note::of(link, name, &metadata);
        let sending = Sending {
            file: &file,
            bytes: metadata.len(),
            modified: metadata.modified().ok(),
            folder: &link.path,
            path: name,
            earlier: note.as_ref().and_then(Note::read),
        };
        line.start(&printable(name.as_bytes()), Some(metadata.len()), 0);
        let mut sender = Sender { line, note: note.as_ref() };
        let sent = put::send(client, &sending, self.retry_for, &mut sender);
        // An upload that the share keeps back is over, too: a later run sends the file anew.
        let is_over = matches!(sent, Ok(_) | Err(ClientError::Infected | ClientError::Unscanned));
        if let Some(note) = note.filter(|_| is_over) {
            note.remove();
        }
        Ok((sent?, metadata.len()))
    }
}

fn link(text: &OsStr) -> anyhow::Result<Link> {
    let bad = |why: String| anyhow::Error::from(Misuse(why));
    let text = text.to_str().ok_or_else(|| bad("this link is no text".to_string()))?;
    text.parse::<Link>().map_err(|error| bad(error.to_string()))
}

/// As the exit code tells it.
fn verdict(tally: &Tally) -> Exit {
    match (tally.failed, tally.unproven, tally.done + tally.had) {
        (0, ..) => Exit::Ok,
        (_, 1.., _) => Exit::Unverified,
        (_, _, 0) => Exit::Failed,
        _ => Exit::Partial,
    }
}

/// The root to write through, and where in it: into a folder that is there goes what is got under its name, all of a
/// share without one.
fn destination(to: &Path, from: &RelativePath, is_folder: bool) -> anyhow::Result<(Root, RelativePath)> {
    let name = from.names().last().map(<[u8]>::to_vec);
    let wants_folder = to.as_os_str().as_bytes().ends_with(b"/");
    if let (Some(name), true) = (&name, to.is_dir() || wants_folder) {
        std::fs::create_dir_all(to).with_context(|| shown(to))?;
        return Ok((Root::open(to)?, RelativePath::root().join(name)?));
    }
    if is_folder {
        std::fs::create_dir_all(to).with_context(|| shown(to))?;
        return Ok((Root::open(to)?, RelativePath::root()));
    }
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let last = to.file_name().ok_or_else(|| Misuse(format!("{}: names no file", shown(to))))?;
    Ok((Root::open(parent)?, RelativePath::root().join(last.as_bytes())?))
}

/// The files of a source with the paths that they get; links and what is no file are passed over in folders.
fn collect(source: &Path, files: &mut Vec<(PathBuf, RelativePath)>) -> anyhow::Result<()> {
    let metadata = source.metadata().with_context(|| shown(source))?;
    let whole = source.canonicalize().with_context(|| shown(source))?;
    let last = source.file_name().or(whole.file_name()).map(|name| name.as_bytes().to_vec());
    let name = match last {
        Some(last) => RelativePath::root().join(&last)?,
        None => RelativePath::root(),
    };
    if metadata.is_file() {
        files.push((source.to_path_buf(), name));
        return Ok(());
    }
    if !metadata.is_dir() {
        return Err(Misuse(format!("{}: is neither a file nor a folder", shown(source))).into());
    }
    let mut folders = vec![(source.to_path_buf(), name)];
    while let Some((folder, name)) = folders.pop() {
        if name.names().count() > DEPTH_MAX {
            anyhow::bail!("{}: folders are too deep", shown(&folder));
        }
        for entry in std::fs::read_dir(&folder).with_context(|| shown(&folder))? {
            let entry = entry.with_context(|| shown(&folder))?;
            let kind = entry.file_type().with_context(|| shown(&entry.path()))?;
            let below = name.join(entry.file_name().as_bytes())?;
            match (kind.is_dir(), kind.is_file()) {
                (true, _) => folders.push((entry.path(), below)),
                (_, true) => files.push((entry.path(), below)),
                _ => out::say(&format!("linerate: {}: passed over: neither a file nor a folder", shown(&entry.path()))),
            }
        }
    }
    Ok(())
}

fn shown(path: &Path) -> String {
    printable(path.as_os_str().as_bytes())
}

/// Remembers where an upload was begun, so that a later run goes on with it.
struct Note {
    path: PathBuf,
}

impl Note {
    /// Of a file as it is now, to that folder of that share. Without a home nothing is noted.
    fn of(link: &Link, name: &RelativePath, metadata: &std::fs::Metadata) -> Option<Note> {
        use std::os::unix::fs::MetadataExt;
        let folder = Places::from_env().ok()?.state.join(UPLOADS);
        private_file::make_folder(&folder).ok()?;
        let mut hasher = blake3::Hasher::new();
        let version = [metadata.dev(), metadata.ino(), metadata.len(), metadata.mtime().cast_unsigned()];
        let token = link.token.encode();
        for part in [link.origin().as_bytes(), token.as_bytes(), link.path.as_bytes(), name.as_bytes()] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        for number in version {
            hasher.update(&number.to_le_bytes());
        }
        hasher.update(&metadata.mtime_nsec().to_le_bytes());
        Some(Note { path: folder.join(&hasher.finalize().to_hex()[..32]) })
    }

    fn read(&self) -> Option<String> {
        let text = private_file::read(&self.path, NOTE_BYTES_MAX).ok().flatten()?;
        String::from_utf8(text.to_vec()).ok()
    }

    fn remove(&self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The live line on standard error.
struct Line {
    bar: ProgressBar,
    is_quiet: bool,
}

impl Line {
    fn new(is_quiet: bool) -> Line {
        let is_shown = !is_quiet && std::io::stderr().is_terminal();
        let target =
            if is_shown { ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_S) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style);
        }
        Line { bar, is_quiet }
    }

    fn start(&self, name: &str, bytes: Option<u64>, had: u64) {
        self.bar.set_length(bytes.unwrap_or(0));
        self.bar.set_position(had);
        self.bar.reset_eta();
        self.bar.set_message(name.to_string());
    }

    /// After what would end each other one in the same way.
    fn say_not_tried(&self, files: usize) {
        if files > 0 {
            self.bar
                .suspend(|| out::say(&format!("linerate: {} more not tried", count(files as u64, "file", "files"))));
        }
    }

    fn say_waiting(&self, error: &ClientError, wait: Duration) {
        if !self.is_quiet {
            let text = format!("linerate: {}; trying again in {}", printable_str(&error.to_string()), Span(wait));
            self.bar.suspend(|| out::say(&text));
        }
    }
}

impl get::Watch for Line {
    fn begin(&mut self, path: &RelativePath, bytes: Option<u64>, had: u64) {
        self.start(&printable(path.as_bytes()), bytes, had);
    }

    fn moved(&mut self, bytes: u64) {
        self.bar.inc(bytes);
    }

    fn done(&mut self) {}

    fn failed(&mut self, name: &str, error: &ClientError) {
        self.bar.suspend(|| out::say(&format!("linerate: {name}: {error}")));
    }

    fn waiting(&mut self, error: &ClientError, wait: Duration) {
        self.say_waiting(error, wait);
    }
}

/// An upload that is shown and noted.
struct Sender<'a> {
    line: &'a Line,
    note: Option<&'a Note>,
}

impl put::Watch for Sender<'_> {
    fn begun(&mut self, upload: &str) {
        if let Some(note) = self.note {
            // Without the note only a later run begins anew.
            let _ = private_file::write(&note.path, upload.as_bytes());
        }
    }

    fn resumed(&mut self, bytes: u64) {
        self.line.bar.set_position(bytes);
    }

    fn moved(&mut self, bytes: u64) {
        self.line.bar.inc(bytes);
    }

    fn waiting(&mut self, error: &ClientError, wait: Duration) {
        self.line.say_waiting(error, wait);
    }
}
