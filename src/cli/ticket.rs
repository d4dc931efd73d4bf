//! `linerate ticket`: who may come in. Making a ticket is in [`new`].

use serde::Serialize;

use super::{Exit, out};
use crate::proto::gate::Grant;
use crate::report::terminal;
use crate::text::{printable, printable_str};
use crate::trust::TrustError;
use crate::trust::places::Places;
use crate::trust::ticket_store::TicketStore;

pub(super) mod addresses;
pub(super) mod new;
mod time;

/// Let others in: make a ticket to give away, list those given out, revoke them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  linerate ticket new --expires 7d\n  \
                  linerate ticket new --allow read --folder pub --uses 1\n  \
                  linerate ticket list\n  linerate ticket revoke 1a2b3c4d")]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    New(Box<new::Args>),
    List(ListArgs),
    Revoke(RevokeArgs),
}

/// Show the tickets that were given out. What lets somebody in is not kept and so not shown.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  linerate ticket list --json")]
struct ListArgs {
    /// As JSON: an array, one object a ticket.
    #[arg(long)]
    json: bool,
}

/// Revoke tickets: nobody is let in by them any more, and sessions that they let in end.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  linerate ticket revoke 1a2b3c4d\n  linerate ticket revoke --all")]
struct RevokeArgs {
    /// Ids as `linerate ticket list` shows them; their first digits will do.
    #[arg(value_name = "ID", required_unless_present = "all")]
    ids: Vec<String>,
    /// All tickets.
    #[arg(long, conflicts_with = "ids")]
    all: bool,
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let places = Places::from_env()?;
    match args.command {
        Command::New(args) => new::run(*args, &places),
        Command::List(args) => list(&args, &places),
        Command::Revoke(args) => revoke(&args, &places),
    }
}

/// A ticket in the list; what `--json` prints.
#[derive(Debug, Serialize)]
struct Row {
    id: String,
    status: &'static str,
    rights: Vec<&'static str>,
    folder: String,
    created: String,
    expires: Option<String>,
    uses_left: Option<u32>,
    label: String,
}

impl Row {
    fn of(grant: &Grant, now_unix_s: u64) -> Row {
        let status = match (grant.is_expired(now_unix_s), grant.is_used_up()) {
            (true, _) => "expired",
            (false, true) => "used up",
            (false, false) => "valid",
        };
        Row {
            id: grant.id.to_string(),
            status,
            rights: grant.rights.words().collect(),
            folder: printable(&grant.folder),
            created: time::shown(grant.created_unix_s),
            expires: grant.expires_unix_s.map(time::shown),
            uses_left: grant.uses_left,
            label: grant.label.clone(),
        }
    }

    fn cells(self) -> Vec<String> {
        vec![
            self.id,
            self.status.to_string(),
            self.rights.join(","),
            if self.folder.is_empty() { "all".to_string() } else { self.folder },
            self.expires.unwrap_or_else(|| "never".to_string()),
            self.uses_left.map_or("any".to_string(), |uses| uses.to_string()),
            printable_str(&self.label),
        ]
    }
}

fn list(args: &ListArgs, places: &Places) -> anyhow::Result<Exit> {
    let now_unix_s = time::now_unix_s();
    let grants = TicketStore::open(places)?.list()?;
    let rows: Vec<Row> = grants.iter().map(|grant| Row::of(grant, now_unix_s)).collect();
    if args.json {
        out::print(&(serde_json::to_string_pretty(&rows)? + "\n"))?;
    } else if rows.is_empty() {
        out::say("no tickets: linerate ticket new makes one");
    } else {
        let head = ["id", "status", "allows", "folder", "expires", "uses", "label"].map(str::to_string).to_vec();
        let rows = rows.into_iter().map(Row::cells).collect();
        out::print(&terminal::text_table(head, rows, &out::style_of_stdout()))?;
    }
    Ok(Exit::Ok)
}

fn revoke(args: &RevokeArgs, places: &Places) -> anyhow::Result<Exit> {
    let now_unix_s = time::now_unix_s();
    let mut store = TicketStore::open(places)?;
    if args.all {
        out::say(&format!("revoked {} tickets", store.revoke_all()?));
        return Ok(Exit::Ok);
    }
    let mut exit = Exit::Ok;
    for id in &args.ids {
        match store.revoke(id, now_unix_s) {
            Ok(id) => out::say(&format!("revoked {id}")),
            // One wrong id must not keep the others alive.
            Err(error @ (TrustError::UnknownId(_) | TrustError::AmbiguousId(_))) => {
                out::complain(&error.into());
                exit = Exit::Failed;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(exit)
}
