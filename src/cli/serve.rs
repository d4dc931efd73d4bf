//! `linerate serve`: the other end of a measurement or a copy.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context;

use super::host::Host;
use super::ssh::{PortRange, address_of_ssh_connection};
use super::ticket::{addresses, new as making};
use super::{Exit, out};
use crate::proto::gate::TicketBook;
use crate::proto::rights::Rights;
use crate::proto::ticket::{ADDRESSES_MAX, Address, Ticket};
use crate::server::{Config, OpenBench, Policy, ServeError, Server, Summary};
use crate::trust::identity::Identity;
use crate::trust::places::Places;
use crate::trust::same_user::{self, Published};
use crate::trust::ticket_file;
use crate::trust::ticket_store::TicketStore;
use crate::units::Span;

/// The port that is used when none is named.
pub(super) const PORT_DEFAULT: u16 = 5290;
/// What stands before the ticket on standard output when a program reads it.
pub(super) const TICKET_LINE: &str = "linerate-ticket ";

/// Let holders of a ticket measure against this machine and copy from and to it, until Ctrl-C.
///
/// It prints a ticket that is valid while it runs; `linerate ticket new` makes tickets that outlive it. Programs of the
/// same user on the same machine need none.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  linerate serve\n  linerate serve --listen 192.0.2.7:5290 --ticket-file ticket\n  \
                  linerate serve /data --read-only                  # may be copied from\n  \
                  linerate serve /data --allow bench,read,write     # and to\n  \
                  linerate serve --open-bench --max-duration 5min   # strangers may measure"
)]
pub(super) struct Args {
    /// The folder that clients may copy from and to, and name as sources and sinks; without it they can do neither.
    root: Option<PathBuf>,
    /// Where to listen; port 0 takes a free one and says which [default: [::]:5290, which takes IPv4 too; any free
    /// port with --ticket-on-stdout].
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Listen on the first of these ports that is free instead, such as 6000-6010.
    #[arg(long, value_name = "PORT|LOW-HIGH", conflicts_with = "listen")]
    port_range: Option<PortRange>,
    /// End after one session, or when standard input ends. The identity is made for this run only.
    #[arg(long)]
    once: bool,
    /// Let clients name all files that this user can reach, instead of those of a folder.
    #[arg(long, hide = true, requires = "ticket_on_stdout", conflicts_with = "root")]
    own_files: bool,
    /// Say nothing but the address and errors; with this a ticket is shown only in the file of --ticket-file.
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    trust: Trust,
}

/// Who comes in.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Trust")]
struct Trust {
    /// The most that any ticket gives: any of bench, read, write [default: bench, and read with a folder].
    #[arg(long, value_name = "RIGHTS")]
    allow: Option<Rights>,
    /// Let nobody write, whatever a ticket says: as --allow bench,read.
    #[arg(long, conflicts_with = "allow")]
    read_only: bool,
    /// Take owners, set-uid bits and privileged extended attributes from clients that may write and copy with --owner.
    #[arg(long, requires = "root")]
    allow_owner: bool,
    /// Write the ticket to this file, which nobody else can read, instead of printing it.
    #[arg(long, value_name = "PATH")]
    ticket_file: Option<PathBuf>,
    /// Print nothing but one line with the ticket, for the program that started this one.
    #[arg(long, conflicts_with = "ticket_file")]
    ticket_on_stdout: bool,
    /// Where the ticket says that this server is; may be given several times [default: all addresses of this machine].
    #[arg(long, value_name = "HOST[:PORT]")]
    address: Vec<Host>,
    /// Let anybody measure without a ticket, and do nothing else.
    #[arg(long)]
    open_bench: bool,
    /// Longest session of somebody without a ticket.
    #[arg(long, value_name = "TIME", default_value = "10min", requires = "open_bench")]
    max_duration: Span,
    /// Most sessions at a time of people without a ticket.
    #[arg(long, value_name = "N", default_value_t = 8, requires = "open_bench")]
    max_sessions: usize,
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let places = Places::from_env();
    let identity = match args.once {
        true => Identity::ephemeral()?,
        // Whoever has no home still serves, but is another one each time.
        false => places.as_ref().map_or_else(|_| Identity::ephemeral(), Identity::load_or_create)?,
    };
    let reads = args.root.is_some() || args.trust.read_only;
    let allow = args.trust.allow.unwrap_or(if reads { Rights::BENCH.union(Rights::READ) } else { Rights::BENCH });
    let mut ticket = Ticket {
        secret: making::draw()?,
        rights: allow,
        folder: Vec::new(),
        expires_unix_s: None,
        uses: None,
        fingerprint: identity.fingerprint(),
        addresses: Vec::new(),
    };
    let server = bind(&args, &identity, &ticket, allow, places.as_ref().ok())?;
    let listening = server.address()?;
    ticket.addresses = match args.trust.address.as_slice() {
        [] => where_to_find(listening),
        named => named.iter().map(|host| host.at(listening.port())).collect::<Result<_, _>>()?,
    };
    let published = publish(&args, places.as_ref().ok(), listening, &ticket);
    announce(&args, listening, &ticket)?;
    let summary = server.run()?;
    drop(published);
    if !args.quiet && !args.trust.ticket_on_stdout {
        say(&summary);
    }
    Ok(Exit::Ok)
}

fn bind(
    args: &Args,
    identity: &Identity,
    ticket: &Ticket,
    allow: Rights,
    places: Option<&Places>,
) -> anyhow::Result<Server> {
    let config = |listen| -> anyhow::Result<Config> {
        let mut book = TicketBook::default();
        book.insert(making::grant(ticket, "serve"))?;
        let store = places.filter(|_| !args.once).map(TicketStore::open).transpose()?;
        let open = OpenBench { duration_max: args.trust.max_duration.0, sessions_max: args.trust.max_sessions };
        let policy = Policy { allow, book, store, open_bench: args.trust.open_bench.then_some(open) };
        Ok(Config {
            listen,
            root: args.root.clone(),
            own_files: args.own_files,
            takes_owners: args.trust.allow_owner,
            once: args.once,
            identity: identity.clone(),
            policy,
        })
    };
    let everywhere = |port| [SocketAddr::from(([0u16; 8], port)), SocketAddr::from(([0u8; 4], port))];
    let wanted: Vec<SocketAddr> = match (args.listen, args.port_range) {
        (Some(listen), _) => vec![listen],
        (_, Some(range)) => (range.low()..=range.high()).flat_map(everywhere).collect(),
        // Whoever reads the ticket finds the port in it.
        _ if args.trust.ticket_on_stdout => everywhere(0).to_vec(),
        _ => everywhere(PORT_DEFAULT).to_vec(),
    };
    let mut last = None;
    for listen in wanted {
        match Server::bind(config(listen)?) {
            Ok(server) => return Ok(server),
            // A kernel without IPv6, or a port that is taken in a range of several.
            Err(ServeError::Listen { address, error })
                if error.raw_os_error() == Some(libc::EAFNOSUPPORT) || args.port_range.is_some() =>
            {
                last = Some(ServeError::Listen { address, error });
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(last.map_or_else(|| anyhow::anyhow!("--port-range: names no port"), Into::into))
}

/// Where clients find this server: as the one that started us over ssh did, and by the addresses that it listens on.
fn where_to_find(listening: SocketAddr) -> Vec<Address> {
    let named = |ip: IpAddr| Address::new(&ip.to_string(), listening.port()).ok();
    if !listening.ip().is_unspecified() {
        return named(listening.ip()).into_iter().collect();
    }
    let over_ssh = std::env::var("SSH_CONNECTION").ok();
    let over_ssh = over_ssh.as_deref().and_then(address_of_ssh_connection).and_then(named);
    // An address more or less: clients are told where to connect by people, too.
    let own = addresses::of_this_machine(listening.port()).unwrap_or_default();
    let own = own.into_iter().filter(|address| Some(address) != over_ssh.as_ref());
    over_ssh.clone().into_iter().chain(own).take(ADDRESSES_MAX).collect()
}

/// Leave the ticket where only this user finds it.
fn publish(args: &Args, places: Option<&Places>, listening: SocketAddr, ticket: &Ticket) -> Option<Published> {
    let places = places.filter(|_| !args.once)?;
    match same_user::publish(places, listening.port(), ticket) {
        Ok(published) => Some(published),
        Err(error) => {
            out::say(&format!("linerate: {error}: programs of this user need a ticket, too"));
            None
        }
    }
}

fn announce(args: &Args, listening: SocketAddr, ticket: &Ticket) -> anyhow::Result<()> {
    if args.trust.ticket_on_stdout {
        return out::print(&format!("{TICKET_LINE}{}\n", ticket.encode()?));
    }
    // Whoever waits for the first line may use the ticket at once.
    if let Some(path) = &args.trust.ticket_file {
        ticket_file::write(path, ticket).context("--ticket-file")?;
    }
    out::print(&format!("listening on {listening}\n"))?;
    if args.quiet {
        return Ok(());
    }
    let rights = ticket.rights;
    out::print(&format!("identity {}\n", ticket.fingerprint))?;
    match &args.trust.ticket_file {
        Some(path) => out::print(&format!("ticket for {rights}, while this runs: in {}\n", path.display())),
        None => out::print(&format!("ticket for {rights}, while this runs:\n{}\n", ticket.encode()?)),
    }
}

fn say(summary: &Summary) {
    out::say(&format!(
        "served {} sessions, {} jobs, {} received, {} sent; turned away {}",
        summary.sessions,
        summary.jobs,
        about(summary.received_bytes),
        about(summary.sent_bytes),
        summary.turned_away
    ));
}

/// A byte count rounded for a person.
fn about(bytes: u64) -> String {
    const STEPS: [(u64, &str); 4] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match STEPS.iter().find(|(size, _)| bytes >= *size) {
        Some((size, unit)) => format!("{:.1} {unit}", bytes as f64 / *size as f64),
        None => format!("{bytes} B"),
    }
}
