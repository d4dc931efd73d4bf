//! The program under test: the binary that cargo built beside this bench.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use linerate::report::schema::{Document, SCHEMA};

use super::child::Guard;

/// Its path.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_linerate");
/// What both sides of every comparison use: a congestion control that paces would measure its own timers.
pub const CONGESTION: &str = "cubic";

/// What a build of it prints, run to its end, which must be a good one and come in time.
pub fn run(program: &Path, arguments: &[String], longest: Duration) -> anyhow::Result<String> {
    let mut command = Command::new(program);
    let mut child = Guard::spawn(command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()))?;
    let mut output = child.stdout.take().context("no output")?;
    // Its output fits no pipe for certain, so it is read while the program runs.
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        output.read_to_string(&mut text).map(|_| text)
    });
    let status = child.wait(longest)?;
    let text = reader.join().map_err(|_| anyhow::anyhow!("the reader of its output failed"))??;
    anyhow::ensure!(status.success(), "linerate: {status}");
    Ok(text)
}

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
