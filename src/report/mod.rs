//! What a run leaves behind: the result file, the terminal tables, the picture.
//!
//! Only reads and shows [`schema::Document`]s; it measures nothing and opens no connection. A document read from
//! a file is foreign: whoever shows it expects figures that are not numbers, indices out of range and text that
//! would steer a terminal.

pub mod advice;
pub mod build;
#[cfg(feature = "chart")]
pub mod chart;
pub mod format;
pub mod grid;
pub mod labels;
pub mod receipt;
#[cfg(test)]
mod sample;
pub mod schema;
pub mod terminal;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::error::Category;
use thiserror::Error;

use format::escape;
use schema::Document;

/// Largest result file that is read, in bytes. One holds a few kilobytes per cell.
pub const FILE_BYTES_MAX: u64 = 256 << 20;

/// What every version of the schema's name starts with; a number follows.
const SCHEMA_FAMILY: &str = "linerate.bench/";

/// The newest version of the schema that this program reads, from 0 on.
const SCHEMA_VERSION_MAX: u32 = 1;

/// Why a result file was not read, or not written.
#[derive(Debug, Error)]
pub enum ReportError {
    /// The file is missing, unreadable or not a file.
    #[error("cannot read {}: {source}", shown(.path))]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// More than [`FILE_BYTES_MAX`].
    #[error("{} is larger than {} MiB: not a result of linerate", shown(.path), FILE_BYTES_MAX >> 20)]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is cut off or of another format.
    #[error("{} is not JSON, or cut off: {detail}", shown(.path))]
    NotJson {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        detail: String,
    },
    /// A later program wrote it.
    #[error("{}: {SCHEMA_FAMILY}{version} is newer than this program reads; use a newer linerate", shown(.path))]
    Newer {
        /// The file.
        path: PathBuf,
        /// Version of its schema.
        version: u32,
    },
    /// JSON, but of something else.
    #[error("{} is not a linerate result: {detail}", shown(.path))]
    NotAResult {
        /// The file.
        path: PathBuf,
        /// What is missing or wrong.
        detail: String,
    },
    /// The document cannot be written as JSON.
    #[error("cannot write the result as JSON: {0}")]
    Write(#[from] serde_json::Error),
}

/// Reads the result file of a run, of this or an earlier schema.
pub fn read(path: &Path) -> Result<Document, ReportError> {
    let bytes = read_bounded(path, FILE_BYTES_MAX)?;
    let tag: Tag = parse(path, &bytes)?;
    check_schema(path, &tag.schema)?;
    parse(path, &bytes)
}

/// The text of a result file: indented, with a line end after the last line.
///
/// JSON knows no infinity and no NaN: a figure that is not finite becomes `null`, which [`read`] refuses.
pub fn to_json(document: &Document) -> Result<String, ReportError> {
    Ok(serde_json::to_string_pretty(document)? + "\n")
}

/// As much of a document as says whether the rest can be understood.
#[derive(Deserialize)]
struct Tag {
    schema: String,
}

fn read_bounded(path: &Path, bytes_max: u64) -> Result<Vec<u8>, ReportError> {
    let failed = |source| ReportError::Read { path: path.into(), source };
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(bytes_max + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > bytes_max {
        return Err(ReportError::TooLarge { path: path.into() });
    }
    Ok(bytes)
}

fn parse<'a, T: Deserialize<'a>>(path: &Path, bytes: &'a [u8]) -> Result<T, ReportError> {
    serde_json::from_slice(bytes).map_err(|error| {
        // The error quotes the file.
        let (path, detail) = (path.into(), escape(&error.to_string()));
        match error.classify() {
            Category::Data => ReportError::NotAResult { path, detail },
            _ => ReportError::NotJson { path, detail },
        }
    })
}

fn check_schema(path: &Path, schema: &str) -> Result<(), ReportError> {
    let version = schema.strip_prefix(SCHEMA_FAMILY).and_then(|version| version.parse::<u32>().ok());
    match version {
        Some(0..=SCHEMA_VERSION_MAX) => Ok(()),
        Some(version) => Err(ReportError::Newer { path: path.into(), version }),
        None => {
            Err(ReportError::NotAResult { path: path.into(), detail: format!("its schema is `{}`", escape(schema)) })
        }
    }
}

fn shown(path: &Path) -> String {
    escape(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Document, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        std::fs::write(&path, text).unwrap();
        read(&path).map_err(|error| {
            let prefix = folder.path().to_string_lossy().into_owned() + "/";
            error.to_string().replace(&prefix, "")
        })
    }

    #[test]
    fn what_was_written_reads_back() {
        let document = sample::document();
        let text = to_json(&document).unwrap();
        assert!(text.starts_with("{\n  \"schema\": \"linerate.bench/1\",\n") && text.ends_with("}\n"));
        let again = read_text(&text).unwrap();
        assert_eq!(again.settings, document.settings);
        assert_eq!(again.environment, document.environment);
        assert_eq!(again.latency, document.latency);
        assert_eq!(again.recommendation, document.recommendation);
        assert_eq!(again.cells.len(), document.cells.len());
        for (read, written) in again.cells.iter().zip(&document.cells) {
            // Decimal digits may cost the last bit.
            let [read, written] = [read, written].map(|cell| advice::median(cell).unwrap_or(0.0));
            assert!((read - written).abs() <= written * 1e-12);
        }
    }

    #[test]
    fn says_what_is_wrong_with_a_file() {
        for (text, expected) in [
            ("", "run.json is not JSON, or cut off: EOF while parsing a value at line 1 column 0"),
            ("\x7fELF", "run.json is not JSON, or cut off: expected value at line 1 column 1"),
            ("{}", "run.json is not a linerate result: missing field `schema` at line 1 column 2"),
            (r#"{"schema":"iperf3"}"#, "run.json is not a linerate result: its schema is `iperf3`"),
            (r#"{"schema":"\u001b[2J"}"#, "run.json is not a linerate result: its schema is `\\u{1b}[2J`"),
            (
                r#"{"schema":"linerate.bench/2"}"#,
                "run.json: linerate.bench/2 is newer than this program reads; use a newer linerate",
            ),
            (
                r#"{"schema":"linerate.bench/1"}"#,
                "run.json is not a linerate result: missing field `version` at line 1 column 29",
            ),
        ] {
            assert_eq!(read_text(text), Err(expected.into()));
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read(Path::new("no/such\nrun.json")).unwrap_err().to_string();
        assert_eq!(error, "cannot read no/such\\nrun.json: No such file or directory (os error 2)");
    }

    #[test]
    fn an_oversized_file_is_refused_before_it_is_parsed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        std::fs::write(&path, "123456").unwrap();
        assert!(read_bounded(&path, 6).is_ok());
        assert!(matches!(read_bounded(&path, 5), Err(ReportError::TooLarge { .. })));
    }
}
