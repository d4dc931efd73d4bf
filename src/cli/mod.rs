//! The command line: one file per subcommand. Nothing else in the crate prints or knows an exit code.

use std::ffi::OsString;

use clap::{Parser, Subcommand};

mod access;
mod bench;
#[cfg(feature = "web")]
mod chat;
mod completions;
mod copy;
mod exit;
mod figures;
mod host;
mod list;
mod logging;
mod man;
mod out;
mod own_server;
mod pair;
#[cfg(feature = "web")]
mod peers;
mod progress;
mod reach;
mod report;
mod result_file;
mod serve;
#[cfg(feature = "web")]
mod share;
pub mod ssh;
mod ticket;
mod verify;

pub use exit::Exit;

const EXIT_CODES: &str = "\
Exit codes:
  0    ok
  1    failed
  2    wrong usage
  3    partial: some of what was asked for could not be done, the rest was
  4    verification failed
  5    refused by the peer
  6    cannot connect, or the connection was lost
  130  interrupted";

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("LINERATE_COMMIT"), ")");

/// Moves data at line rate, and proves it.
#[derive(Debug, Parser)]
#[command(name = "linerate", version = VERSION, about, after_help = EXIT_CODES, subcommand_required = true)]
#[command(arg_required_else_help = true, args_override_self = true)]
struct Cli {
    #[command(flatten)]
    logging: logging::LogArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Bench(Box<bench::Args>),
    Copy(Box<copy::Args>),
    Get(Box<copy::GetArgs>),
    Put(Box<copy::PutArgs>),
    Ls(Box<copy::ls::Args>),
    Serve(Box<serve::Args>),
    #[cfg(feature = "web")]
    Share(Box<share::Args>),
    #[cfg(feature = "web")]
    Chat(chat::Args),
    #[cfg(feature = "web")]
    Send(Box<share::send::Args>),
    #[cfg(feature = "web")]
    Receive(Box<share::receive::Args>),
    #[cfg(feature = "web")]
    Peers(peers::Args),
    Pair(pair::Args),
    Ticket(ticket::Args),
    Verify(verify::Args),
    Report(report::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// Run the program with these arguments, the first of which is its name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return exit::of_usage(&error),
    };
    logging::begin(&cli.logging);
    let done = match cli.command {
        Command::Bench(args) => bench::run(*args, &arguments),
        Command::Copy(args) => copy::run(*args),
        Command::Get(args) => copy::get(*args),
        Command::Put(args) => copy::put(*args),
        Command::Ls(args) => copy::ls::run(*args),
        Command::Serve(args) => serve::run(*args),
        #[cfg(feature = "web")]
        Command::Share(args) => share::run(*args),
        #[cfg(feature = "web")]
        Command::Chat(args) => chat::run(args),
        #[cfg(feature = "web")]
        Command::Send(args) => share::send::run(&args),
        #[cfg(feature = "web")]
        Command::Receive(args) => share::receive::run(&args),
        #[cfg(feature = "web")]
        Command::Peers(args) => peers::run(&args),
        Command::Pair(args) => pair::run(args),
        Command::Ticket(args) => ticket::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Report(args) => report::run(args),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
    };
    done.unwrap_or_else(|error| {
        out::complain(&error);
        exit::of_error(&error)
    })
}
