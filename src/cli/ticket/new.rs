//! `linerate ticket new`: the one place where a ticket is shown.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use anyhow::Context;

use super::super::host::Host;
use super::super::serve::PORT_DEFAULT;
use super::super::{Exit, out};
use super::{addresses, time};
use crate::proto::gate::{BookError, Grant, LABEL_BYTES_MAX, TicketId};
use crate::proto::ticket::{Address, Rights, SECRET_BYTES, Secret, Ticket};
use crate::trust::identity::Identity;
use crate::trust::places::Places;
use crate::trust::ticket_store::TicketStore;
use crate::trust::{TrustError, ticket_file};

/// How often another ticket is drawn when the id is taken; with 1000 tickets that happens once in 4 million times.
const DRAWS_MAX: u32 = 8;

/// Make a ticket and print it. Whoever has it is let in, so give it away as you would a password.
///
/// Servers of this user take it at once and until it is revoked, also those that run already.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  linerate ticket new --expires 7d --label alice\n  \
                  linerate ticket new --allow read,write --folder inbox --uses 1 --ticket-file inbox.ticket\n  \
                  linerate ticket new --address nas.example.org:5290")]
pub(super) struct Args {
    /// What its holder may do: any of bench, read, write.
    #[arg(long, value_name = "RIGHTS", default_value = "bench")]
    allow: Rights,
    /// Let its holder only into this folder, a path from the folder that is served.
    #[arg(long, value_name = "PATH", value_parser = folder_parser())]
    folder: Option<PathBuf>,
    /// When it ends: after 12h or 7d, or on a date such as 2027-01-31T12:00:00Z [default: when it is revoked].
    #[arg(long, value_name = "TIME")]
    expires: Option<time::Expiry>,
    /// How many sessions it lets in [default: any number].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    uses: Option<u32>,
    /// A note that `linerate ticket list` shows.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, value_parser = label)]
    label: String,
    /// Where its holder finds this machine; may be given several times [default: all its addresses, port 5290].
    #[arg(long, value_name = "HOST[:PORT]", value_parser = address)]
    address: Vec<Address>,
    /// Write it to a new file that only you can read, instead of printing it.
    #[arg(long, value_name = "PATH")]
    ticket_file: Option<PathBuf>,
}

pub(super) fn run(args: Args, places: &Places) -> anyhow::Result<Exit> {
    let identity = Identity::load_or_create(places)?;
    let mut ticket = Ticket {
        secret: draw()?,
        rights: args.allow,
        folder: args.folder.map(|folder| folder.as_os_str().as_bytes().to_vec()).unwrap_or_default(),
        expires_unix_s: args.expires.map(|expires| expires.unix_s),
        uses: args.uses,
        fingerprint: identity.fingerprint(),
        addresses: if args.address.is_empty() { addresses::of_this_machine(PORT_DEFAULT)? } else { args.address },
    };
    // Before anything is kept: it may not fit.
    ticket.encode()?;
    let id = give_out(&mut ticket, &args.label, args.ticket_file.as_deref(), places)?;
    let expires = ticket.expires_unix_s.map_or("never expires".to_string(), |s| format!("expires {}", time::shown(s)));
    let uses = ticket.uses.map(|uses| format!(", uses: {uses}")).unwrap_or_default();
    match &args.ticket_file {
        Some(path) => out::say(&format!("ticket {id} in {}: {}, {expires}{uses}", path.display(), ticket.rights)),
        None => {
            out::print(&(ticket.encode()? + "\n"))?;
            out::say(&format!("ticket {id}: {}, {expires}{uses}", ticket.rights));
        }
    }
    Ok(Exit::Ok)
}

/// Keep the ticket's digest, and the ticket itself in the file that was asked for; both or neither.
fn give_out(ticket: &mut Ticket, label: &str, file: Option<&Path>, places: &Places) -> anyhow::Result<TicketId> {
    let mut store = TicketStore::open(places)?;
    let mut draws = 0;
    let id = loop {
        let grant = grant(ticket, label);
        let id = grant.id;
        match store.add(grant, time::now_unix_s()) {
            Ok(()) => break id,
            Err(TrustError::Book(BookError::Taken)) if draws < DRAWS_MAX => {
                draws += 1;
                ticket.secret = draw()?;
            }
            Err(error) => return Err(error.into()),
        }
    };
    let Some(path) = file else { return Ok(id) };
    if let Err(error) = ticket_file::create(path, ticket) {
        store.revoke(&id.to_string(), time::now_unix_s())?;
        return Err(error).context("--ticket-file");
    }
    Ok(id)
}

pub(in crate::cli) fn grant(ticket: &Ticket, label: &str) -> Grant {
    let digest = ticket.secret.digest();
    Grant {
        id: TicketId::of(&digest),
        digest,
        rights: ticket.rights,
        folder: ticket.folder.clone(),
        expires_unix_s: ticket.expires_unix_s,
        uses_left: ticket.uses,
        label: label.to_string(),
        created_unix_s: time::now_unix_s(),
    }
}

pub(in crate::cli) fn draw() -> Result<Secret, TrustError> {
    let mut secret = Secret([0; SECRET_BYTES]);
    getrandom::fill(&mut secret.0).map_err(|_| TrustError::Make("ticket"))?;
    Ok(secret)
}

fn address(text: &str) -> Result<Address, String> {
    let host: Host = text.parse()?;
    host.at(PORT_DEFAULT).map_err(|error| error.to_string())
}

fn label(text: &str) -> Result<String, String> {
    match text.len() {
        0..=LABEL_BYTES_MAX => Ok(text.to_string()),
        bytes => Err(format!("{bytes} bytes are too many: use at most {LABEL_BYTES_MAX}")),
    }
}

fn folder_parser() -> impl clap::builder::TypedValueParser<Value = PathBuf> {
    use clap::builder::{OsStringValueParser, TypedValueParser};
    OsStringValueParser::new().try_map(|path| folder(&path))
}

/// A path inside the served folder, without what leads nowhere or out of it.
fn folder(path: &OsStr) -> Result<PathBuf, String> {
    let mut inside = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => inside.push(name),
            Component::CurDir => {}
            Component::RootDir | Component::ParentDir | Component::Prefix(_) => {
                return Err("leads out of the served folder: write a path from there, such as pub/inbox".to_string());
            }
        }
    }
    Ok(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_inside_the_served_one() {
        for (text, inside) in [("pub", "pub"), ("./a//b/", "a/b"), (".", ""), ("a/./b", "a/b")] {
            assert_eq!(folder(OsStr::new(text)), Ok(PathBuf::from(inside)), "{text}");
        }
        for text in ["/", "/etc", "..", "a/../b", "a/.."] {
            assert!(folder(OsStr::new(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_have_the_default_port() {
        let shown = |text: &str| address(text).map(|address| address.to_string()).ok();
        assert_eq!(shown("nas").as_deref(), Some("nas:5290"));
        assert_eq!(shown("2001:db8::1").as_deref(), Some("[2001:db8::1]:5290"));
        assert_eq!(shown("[2001:db8::1]:7").as_deref(), Some("[2001:db8::1]:7"));
        assert_eq!((shown("a/b"), shown("")), (None, None));
    }
}
