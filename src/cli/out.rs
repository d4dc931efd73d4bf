//! Printing: a reader that goes away early (`| head`) is no failure, and no panic.

use std::io::{self, IsTerminal, Write};

use crate::report::terminal::Style;

/// Print to standard output. A closed pipe is silently fine; anything else is an error.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| anyhow::anyhow!("standard output: {error}")),
    }
}

/// Say something to the person on standard error. Nobody can be told if that fails.
pub(super) fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Ask the person a question on standard error that is answered with yes or no on standard input.
pub(super) fn ask(question: &str) -> bool {
    let mut err = io::stderr().lock();
    if write!(err, "{question} [y/N] ").and_then(|()| err.flush()).is_err() {
        return false;
    }
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes" | "Yes")
}

/// Ask the person for a line of at most so many bytes; empty when there is none.
#[cfg(feature = "web")]
pub(super) fn ask_text(question: &str, bytes_max: u64) -> String {
    use std::io::{BufRead, Read};
    let mut err = io::stderr().lock();
    if write!(err, "{question}").and_then(|()| err.flush()).is_err() {
        return String::new();
    }
    let mut answer = String::new();
    let read = io::stdin().lock().take(bytes_max).read_line(&mut answer);
    if read.is_ok() { answer.trim().to_string() } else { String::new() }
}

/// One line for an error and its causes, without saying twice what a cause says again.
pub(super) fn complain(error: &anyhow::Error) {
    let mut line = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    say(&format!("linerate: {line}"));
}

/// How to print to standard output as it is now.
pub(super) fn style_of_stdout() -> Style {
    let stdout = io::stdout();
    style(stdout.is_terminal(), terminal_size::terminal_size_of(&stdout))
}

/// How to print to standard error as it is now.
pub(super) fn style_of_stderr() -> Style {
    let stderr = io::stderr();
    style(stderr.is_terminal(), terminal_size::terminal_size_of(&stderr))
}

fn style(is_terminal: bool, size: Option<(terminal_size::Width, terminal_size::Height)>) -> Style {
    Style::detect(is_terminal, |name| std::env::var(name).ok(), size.map(|(width, _)| usize::from(width.0)))
}

/// Writes nothing, and fails so.
#[cfg(test)]
pub(super) struct Broken(pub(super) io::ErrorKind);

#[cfg(test)]
impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
