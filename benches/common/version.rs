//! Which rivals are installed.

use std::process::{Command, Stdio};

/// The first line of what a program prints about its version; the reason why it cannot be run.
pub fn version(program: &str, option: &str) -> Result<String, String> {
    let output = Command::new(program).arg(option).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: not installed or not usable: {error}"))?;
    let both = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&both).into_owned();
    text.lines().next().map(|line| line.trim().to_owned()).ok_or_else(|| format!("{program} {option}: says nothing"))
}
