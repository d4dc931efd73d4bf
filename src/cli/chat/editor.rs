//! The line that is being typed on a terminal: edited, with what was said before at hand, and not torn by what others
//! say meanwhile, which is printed above it.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::SyncSender;

use anyhow::Context;
use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use rustyline::error::ReadlineError;
use rustyline::history::{History, MemHistory};
use rustyline::{Config, ExternalPrinter};
use signal_hook::consts::{SIGHUP, SIGTERM};
use signal_hook::iterator::Signals;

use super::Turn;
use crate::text::printable_limit;

/// What can be brought back.
const HISTORY_LINES: usize = 200;
/// Longest name in front of the line.
const PROMPT_CHARS_MAX: usize = 20;
/// The beginning of the row, and nothing right of it.
const ERASE_ROW: &str = "\r\x1b[K";

type Lines = rustyline::Editor<(), MemHistory>;

/// The line that is being typed.
pub(super) struct Editor {
    lines: Lines,
    prompt: String,
}

/// Prints above that line. The terminal is as it was before when this is dropped.
pub(super) struct Printer {
    above: Box<dyn ExternalPrinter + Send>,
    before: Termios,
}

impl Editor {
    /// On the terminal of standard input and output; nothing if those are not one.
    pub(super) fn new(nick: &str) -> anyhow::Result<Option<(Editor, Printer)>> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Ok(None);
        }
        let why = "the terminal cannot be used";
        let before = tcgetattr(io::stdin()).context(why)?;
        let config = Config::builder().max_history_size(HISTORY_LINES).context(why)?;
        // What is pasted is said line by line, as what is typed.
        let config = config.bracketed_paste(false).build();
        let history = MemHistory::with_config(&config);
        let mut lines = Lines::with_history(config, history).context(why)?;
        let above = Box::new(lines.create_external_printer().context(why)?);
        let prompt = format!("{}> ", printable_limit(nick.as_bytes(), PROMPT_CHARS_MAX));
        Ok(Some((Editor { lines, prompt }, Printer { above, before })))
    }

    /// Give on each line, until there are no more.
    pub(super) fn read_lines(mut self, type_in: &SyncSender<String>, tell: &SyncSender<Turn>) {
        loop {
            match self.lines.readline(&self.prompt) {
                Ok(line) => {
                    let line = line.trim().to_string();
                    if line.is_empty() {
                        continue;
                    }
                    // A line that cannot be brought back is said all the same.
                    let _ = self.lines.history_mut().add(&line);
                    if type_in.send(line).is_err() {
                        return;
                    }
                }
                Err(ReadlineError::Interrupted) => {
                    let _ = tell.send(Turn::Interrupted);
                    return;
                }
                // Ctrl-D, or a terminal that has gone.
                Err(_) => return,
            }
        }
    }
}

impl Printer {
    /// Print whole lines. Nobody can be told if that fails.
    pub(super) fn print(&mut self, text: &str) {
        let _ = self.above.print(text.to_string());
    }

    /// Take the line away that was being typed.
    pub(super) fn close(self) {
        let mut out = io::stdout().lock();
        let _ = out.write_all(ERASE_ROW.as_bytes()).and_then(|()| out.flush());
    }
}

impl Drop for Printer {
    fn drop(&mut self) {
        // A terminal that has gone needs nothing.
        let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.before);
    }
}

/// Whoever ends this process from outside ends it in order, too: the terminal is in nobody's way then.
pub(super) fn tell_signals(tell: &SyncSender<Turn>) -> anyhow::Result<()> {
    let mut raised = Signals::new([SIGTERM, SIGHUP]).context("signals")?;
    let tell = tell.clone();
    let watch = move || {
        if raised.forever().next().is_some() {
            let _ = tell.send(Turn::Interrupted);
        }
    };
    std::thread::Builder::new().name("signals".to_string()).spawn(watch).context("a thread cannot be started")?;
    Ok(())
}
