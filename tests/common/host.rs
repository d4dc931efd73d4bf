//! A server with a home of its own, and clients that know nothing of it but what they are given.

use std::path::Path;
use std::process::Command;

use linerate::proto::ticket::{Secret, Ticket};
use linerate::trust::places::Places;
use linerate::trust::ticket_store::TicketStore;
use tempfile::TempDir;

use super::{Done, ONE_CELL, Serving, at_home, bench, folder, linerate, run_bounded};

/// A server, its user's home and that of its clients.
pub struct Host {
    pub serving: Serving,
    /// The ticket that it printed.
    pub text: String,
    home: TempDir,
    away: TempDir,
}

impl Host {
    /// A server with these arguments.
    pub fn with(args: &[&str]) -> Host {
        let (home, away) = (folder(), folder());
        let mut command = linerate(["serve", "--listen", "127.0.0.1:0"]);
        let serving = Serving::by(at_home(command.args(args), home.path()));
        let text = serving.ticket();
        Host { serving, text, home, away }
    }

    pub fn start() -> Host {
        Host::with(&[])
    }

    /// One that serves a folder, and gives every right to it.
    pub fn of_folder(folder: &Path) -> Host {
        Host::with(&["--allow", "bench,read,write", &folder.display().to_string()])
    }

    pub fn ticket(&self) -> Ticket {
        Ticket::decode(&self.text).unwrap()
    }

    /// Where its user keeps things.
    pub fn places(&self) -> Places {
        let home = self.home.path();
        Places {
            state: home.join("state/linerate"),
            config: home.join("config/linerate"),
            runtime: home.join("run/linerate"),
        }
    }

    pub fn store(&self) -> TicketStore {
        TicketStore::open(&self.places()).unwrap()
    }

    /// `linerate` as the server's user runs it.
    pub fn owner(&self, args: &[&str]) -> Done {
        run_bounded(at_home(&mut linerate(args), self.home.path()))
    }

    /// The text of a new ticket.
    pub fn new_ticket(&self, args: &[&str]) -> String {
        let done = self.owner(&[&["ticket", "new"], args].concat()).expect(0);
        done.stdout.trim().to_string()
    }

    /// Where clients keep things, and run.
    pub fn away(&self) -> &Path {
        self.away.path()
    }

    /// `linerate` as somebody else runs it.
    pub fn somebody(&self, args: &[&str]) -> Command {
        let mut command = linerate(args);
        at_home(&mut command, self.away.path()).current_dir(self.away.path());
        command
    }

    /// A short measurement by somebody else: one cell and latency. What it finds is in `run.json`.
    pub fn client(&self, args: &[&str]) -> Command {
        let mut command = bench(self.away.path(), ["--json", "run.json"]);
        command.args(&ONE_CELL[..4]).args(args).arg(self.serving.host());
        at_home(&mut command, self.away.path());
        command
    }

    /// Such a measurement with a ticket.
    pub fn enter(&self, ticket: &str) -> Done {
        run_bounded(self.client(&["-q"]).env("LINERATE_TICKET", ticket))
    }
}

/// The same ticket with another secret.
pub fn forged(ticket: &Ticket) -> Ticket {
    Ticket { secret: Secret([0xa5; 16]), ..ticket.clone() }
}
