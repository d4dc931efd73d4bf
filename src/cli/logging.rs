//! What is logged, and how: to standard error, so that standard output stays the program's own.
//!
//! Nothing that is logged holds a secret: secrets have no way to be printed.

use clap::{ArgAction, ValueEnum};
use tracing::Level;

/// Options of every command.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Logging")]
pub(super) struct LogArgs {
    /// Log more: -v one line for each session, -vv what leads to it.
    #[arg(long, short, action = ArgAction::Count, global = true)]
    verbose: u8,
    /// Form of the log; naming one switches it on, as -v does.
    #[arg(long, value_enum, value_name = "FORM", global = true)]
    log: Option<Form>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    Text,
    Json,
}

/// Begin to log.
pub(super) fn begin(args: &LogArgs) {
    let level = match args.verbose.max(u8::from(args.log.is_some())) {
        0 => Level::WARN,
        1 => Level::INFO,
        _ => Level::DEBUG,
    };
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let log = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(is_terminal && std::env::var_os("NO_COLOR").is_none());
    // It fails only where a log exists already, as in a test that calls `main` twice.
    let _ = match args.log {
        Some(Form::Json) => log.json().flatten_event(true).try_init(),
        _ => log.try_init(),
    };
}
