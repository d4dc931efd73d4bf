//! What became of the files: the lines, the JSON object and the exit code.

use std::io::ErrorKind;
use std::time::Instant;

use serde::Serialize;

use crate::cli::{Exit, out};
use crate::proto::verify::FileHash;
use crate::store::StoreError;
use crate::store::confined::RelativePath;
use crate::store::hashing::Hashed;

/// What `--json` prints. Names are fit to show: see the `text` module for what is escaped.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    /// Files that were named.
    files: u64,
    /// Those that are as they should be.
    right: u64,
    /// Bytes that were hashed of files that could be read to their end.
    bytes: u64,
    seconds: f64,
    /// 10⁹ bytes a second.
    gb_per_s: f64,
    /// Files with other bytes.
    failed: Vec<String>,
    /// Files that are not there.
    missing: Vec<String>,
    /// Files of which nothing can be said.
    unreadable: Vec<Unreadable>,
    #[serde(skip)]
    since: Instant,
}

#[derive(Debug, Serialize)]
struct Unreadable {
    path: String,
    error: String,
}

impl Summary {
    /// Before the first file.
    pub(super) fn begin() -> Summary {
        Summary {
            files: 0,
            right: 0,
            bytes: 0,
            seconds: 0.0,
            gb_per_s: 0.0,
            failed: Vec::new(),
            missing: Vec::new(),
            unreadable: Vec::new(),
            since: Instant::now(),
        }
    }

    /// Count a file, which is right with this hash; without one any is. What to print of it, if it is wrong.
    pub(super) fn note(
        &mut self,
        path: &RelativePath,
        right: Option<FileHash>,
        hashed: Result<Hashed, StoreError>,
    ) -> Option<String> {
        self.files += 1;
        let name = path.to_string();
        match hashed {
            Ok(hashed) => {
                self.bytes += hashed.len;
                if right.is_none_or(|right| right == hashed.hash) {
                    self.right += 1;
                    return None;
                }
                self.failed.push(name.clone());
                Some(format!("{name}: FAILED"))
            }
            Err(error) if is_missing(&error) => {
                self.missing.push(name.clone());
                Some(format!("{name}: missing"))
            }
            Err(error) => {
                self.unreadable.push(Unreadable { path: name.clone(), error: error.to_string() });
                Some(format!("{name}: unreadable ({})", without_name(&error, &name)))
            }
        }
    }

    /// After the last file.
    pub(super) fn end(mut self) -> Summary {
        self.seconds = self.since.elapsed().as_secs_f64();
        self.gb_per_s = self.bytes as f64 / self.seconds.max(f64::MIN_POSITIVE) / 1e9;
        self.failed.sort();
        self.missing.sort();
        self.unreadable.sort_by(|one, other| one.path.cmp(&other.path));
        self
    }

    /// How much was hashed, and how fast.
    pub(super) fn figures(&self) -> String {
        let Summary { files, bytes, seconds, gb_per_s, .. } = self;
        format!("{files} files, {bytes} bytes in {seconds:.2} s, {gb_per_s:.2} GB/s")
    }

    /// The last line.
    pub(super) fn line(&self) -> String {
        let counts =
            [(self.failed.len(), "FAILED"), (self.missing.len(), "missing"), (self.unreadable.len(), "unreadable")];
        let wrong: Vec<String> =
            counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
        let outcome = if wrong.is_empty() { "all right".to_string() } else { wrong.join(", ") };
        format!("{}: {outcome}", self.figures())
    }

    /// Whether all could be read.
    pub(super) fn is_whole(&self) -> bool {
        self.right == self.files
    }

    /// A file that is wrong for certain weighs more than one of which nothing is known.
    pub(super) fn exit(&self) -> Exit {
        if !self.failed.is_empty() || !self.missing.is_empty() {
            Exit::Unverified
        } else if !self.unreadable.is_empty() {
            Exit::Failed
        } else {
            Exit::Ok
        }
    }

    /// Complain of what is wrong where standard output is for something else.
    pub(super) fn complain(line: &str) {
        out::say(&format!("linerate: {line}"));
    }
}

/// Nothing has that name. A file where a folder should be leaves nothing below it.
fn is_missing(error: &StoreError) -> bool {
    matches!(error, StoreError::System { error, .. }
        if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory))
}

/// The line names the file already.
fn without_name(error: &StoreError, name: &str) -> String {
    let said = error.to_string();
    said.strip_prefix(name).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(&said).to_string()
}
