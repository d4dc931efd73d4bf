//! The program under test: the binary that cargo built beside this bench.

use linerate::report::schema::{Document, SCHEMA};

/// Its path.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_linerate");
/// What both sides of every comparison use: a congestion control that paces would measure its own timers.
pub const CONGESTION: &str = "cubic";

/// The result that `linerate bench --json -` printed.
pub fn parse(json: &str) -> anyhow::Result<Document> {
    let document: Document = serde_json::from_str(json)?;
    anyhow::ensure!(document.schema == SCHEMA, "linerate wrote schema {}, not {SCHEMA}", document.schema);
    anyhow::ensure!(document.complete, "linerate marked its run as incomplete");
    Ok(document)
}

/// A command line as it can be typed, near enough: programs by name, wherever they lie on this machine.
pub fn command_line<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| file_name(word.as_ref()).to_owned()).collect();
    words.join(" ")
}

/// The last part of an absolute path; anything else as it is.
fn file_name(word: &str) -> &str {
    if word.starts_with('/') { word.rsplit('/').next().unwrap_or(word) } else { word }
}
