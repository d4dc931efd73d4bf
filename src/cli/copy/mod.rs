//! `linerate copy`, `get`, `put` and `ls`: bulk copies between this machine and a peer.
//!
//! | file | what it holds |
//! |---|---|
//! | [`args`], `values` | the options, and what they mean to the engine |
//! | [`location`], [`job`] | which way it goes, by the places that were typed |
//! | [`door`] | getting a session with the peer, again and again |
//! | [`sessions`], [`attempts`] | a copy to its end over several sessions, and what they come to |
//! | `share` | `get` and `put` with the link of a share |
//! | [`show`], [`account`] | what the user sees of it, and what it leaves behind |
//! | [`interrupt`], [`stdio`], [`ls`] | signals; standard input and output; listing |

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::exit::{self, Misuse};
use super::host::Peer;
use super::{Exit, out};
use crate::link::Link;
use crate::proto::copy::options::{CopyOptions, Purpose};
use crate::proto::message::SocketOptions;
use crate::store::NOT_THERE;
use crate::sys::limits;
use crate::text::{printable, printable_str};
use crate::transfer::local::{self, LocalPlan};
use crate::transfer::run::{CopyPlan, Outcome, Way};
use crate::transfer::tally::Tally;
use crate::trust::places::Places;

mod account;
mod args;
mod attempts;
mod door;
mod interrupt;
mod job;
mod location;
pub(super) mod ls;
mod sessions;
mod share;
mod show;
mod stdio;
mod values;

use account::Telling;
use args::{Options, WayArgs};
use door::Door;
use interrupt::Interrupts;
use job::Job;
use location::Location;
pub(super) use location::LocationError;
use sessions::{Finished, Sessions};

const PLACES: &str = "\
Each SRC and DST is a path of this machine, [USER@]HOST:PATH, lr://HOST[:PORT]/PATH in the
folder that `linerate serve` serves there, or - for standard input or output. Into a folder
that is there sources go under their names; a DST that is not there becomes the one SRC, and
SRC/. is what is in SRC.

- as SRC is put into a temporary file without a name first (in TMPDIR), and as DST it gets nothing before
the file is there and proven.";

/// Copy files and trees between this machine and another: verified, and gone on with where it was broken off.
#[derive(Debug, clap::Args)]
#[command(after_help = help_of_copy(), override_usage = "linerate copy [OPTIONS] SRC... DST")]
pub(super) struct Args {
    /// Sources, and last the destination.
    #[arg(required = true, num_args = 2.., value_name = "PATH")]
    places: Vec<OsString>,
    #[command(flatten)]
    options: Options,
}

fn help_of_copy() -> String {
    format!(
        "{PLACES}\n\nExamples:\n  linerate copy data nas:/backup\n  linerate copy me@nas:/data/. here\n  \
         linerate copy big.bin lr://nas/inbox --clear\n  tar c . | linerate copy - nas:all.tar"
    )
}

/// Copy from a peer to this machine.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  linerate get nas:/data/big.bin\n  linerate get lr://nas/videos here\n  \
                        linerate get https://192.0.2.1:5291/t/TOKEN/f/videos here --fingerprint SHA256\n\n\
                        Of the options only --fingerprint, --ticket-file, --retry-for and --quiet go with the link \
                        of a share.")]
pub(super) struct GetArgs {
    /// What is copied; or the link of a share, https://HOST:PORT/t/TOKEN[/f/PATH], for all that is in it.
    #[arg(value_name = "PEER:PATH|LINK")]
    from: OsString,
    /// Where to; - is standard output.
    #[arg(value_name = "DST", default_value = ".")]
    to: OsString,
    #[command(flatten)]
    options: Options,
}

/// Copy from this machine to a peer.
#[derive(Debug, clap::Args)]
#[command(override_usage = "linerate put [OPTIONS] SRC... PEER[:PATH]")]
#[command(after_help = "Examples:\n  linerate put data nas:/backup\n  linerate put a b lr://nas")]
pub(super) struct PutArgs {
    /// What is copied, and last the peer: PEER:PATH, PEER for the folder where paths begin there, or the link of a
    /// share.
    #[arg(required = true, num_args = 2.., value_name = "PATH")]
    places: Vec<OsString>,
    #[command(flatten)]
    options: Options,
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    execute(Job::parse(&args.places)?, &args.options)
}

pub(super) fn get(args: GetArgs) -> anyhow::Result<Exit> {
    if share::is_link(&args.from) {
        return share::get(&args.from, &args.to, &args.options);
    }
    let from = Location::parse(&args.from)?;
    if !matches!(from, Location::Remote(..)) {
        return Err(Misuse(format!("{}: no peer: write PEER:PATH", args.from.display())).into());
    }
    execute(Job::of(vec![from], Location::parse(&args.to)?)?, &args.options)
}

pub(super) fn put(mut args: PutArgs) -> anyhow::Result<Exit> {
    let last = args.places.pop().unwrap_or_default();
    if share::is_link(&last) {
        return share::put(&args.places, &last, &args.options);
    }
    let to = job::put_target(&last)?;
    let from = args.places.iter().map(|place| Location::parse(place)).collect::<Result<Vec<_>, _>>()?;
    execute(Job::of(from, to)?, &args.options)
}

fn execute(job: Job, options: &Options) -> anyhow::Result<Exit> {
    let copy_options = options.copy_options()?;
    confirm_deletion(options)?;
    // Many files are open at once; with what there is it goes, too, if those are fewer.
    if let Err(error) = limits::raise_open_files() {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    let interrupts = Interrupts::watch()?;
    let copy = Copy { options, copy_options, interrupts: &interrupts };
    match job {
        Job::Push { from, peer, to } => copy.push(from, &peer, to),
        Job::Pull { peer, from, to } => copy.pull(&peer, from, to),
        Job::PushInput { peer, to } => {
            let spooled = Arc::new(stdio::spool()?);
            copy.push_by(&peer, to, |to| Ok(job::push_input(spooled, to, draw_run()?)))
        }
        Job::PullOutput { peer, from } => copy.pull_to_output(&peer, from),
        Job::Local { from, to } => copy.within(from, to),
        Job::LocalInput { to } => {
            check_within(options)?;
            stdio::save(&to, &copy.copy_options)?;
            Ok(Exit::Ok)
        }
        Job::LocalOutput { from } => {
            check_within(options)?;
            stdio::pour(&from)?;
            Ok(Exit::Ok)
        }
    }
}

/// From standard input, or to standard output, within this machine nothing is proven that could be told.
fn check_within(options: &Options) -> anyhow::Result<()> {
    let output = &options.output;
    for (name, is_given) in [
        ("--json", output.json),
        ("--receipt", output.receipt.is_some()),
        ("--manifest", options.proof.manifest.is_some()),
    ] {
        if is_given {
            let why = "within this machine it does not go with -, neither as SRC nor as DST";
            return Err(Misuse(format!("{name}: {why}")).into());
        }
    }
    Ok(())
}

/// Nothing is deleted that nobody has agreed to.
fn confirm_deletion(options: &Options) -> anyhow::Result<()> {
    use std::io::IsTerminal;
    let landing = &options.landing;
    if !landing.delete || landing.yes || landing.dry_run {
        return Ok(());
    }
    let is_somebody_there = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if is_somebody_there && out::ask("remove what is at the destination and not in the source?") {
        return Ok(());
    }
    let why = "--delete removes what is there and not in the source: confirm it with --yes";
    Err(Misuse(why.to_string()).into())
}

/// What a person asked for.
struct Copy<'a> {
    options: &'a Options,
    copy_options: CopyOptions,
    interrupts: &'a Interrupts,
}

impl Copy<'_> {
    fn push(&self, from: Vec<PathBuf>, peer: &Peer, to: Vec<u8>) -> anyhow::Result<Exit> {
        // What is not there is known before anybody is called.
        if from.iter().all(|path| is_absent(path)) {
            from.iter().for_each(|path| say_absent(path));
            return Ok(Exit::Failed);
        }
        self.push_by(peer, to, |to| Ok(job::push(from, to)))
    }

    fn push_by(
        &self,
        peer: &Peer,
        to: Vec<u8>,
        way: impl FnOnce(Vec<u8>) -> anyhow::Result<Way>,
    ) -> anyhow::Result<Exit> {
        let mut door = Door::new(self.options.network.way.ways(), peer)?;
        let open = door.open()?;
        let to = if door.is_at_home() { job::from_home(to) } else { to };
        self.run(&mut door, open, way(to)?)
    }

    fn pull(&self, peer: &Peer, from: Vec<Vec<u8>>, to: PathBuf) -> anyhow::Result<Exit> {
        let mut door = Door::new(self.options.network.way.ways(), peer)?;
        let open = door.open()?;
        let way = job::pull(&door.name(), paths_at(&door, from), to);
        self.run(&mut door, open, way)
    }

    fn pull_to_output(&self, peer: &Peer, from: Vec<u8>) -> anyhow::Result<Exit> {
        let temporary = stdio::Temporary::new(self.interrupts)?;
        let mut door = Door::new(self.options.network.way.ways(), peer)?;
        let mut open = door.open()?;
        let file = temporary.path().join("file");
        let shown = printable(&from);
        let way = job::pull(&door.name(), paths_at(&door, vec![from]), file.clone());
        let plan = self.plan(way.clone(), &open.link)?;
        if !self.interrupts.in_session(|| ls::is_file(&plan, &mut open.link))? {
            return Err(Misuse(stdio::only_a_file(&shown)).into());
        }
        match self.run(&mut door, open, way)? {
            Exit::Ok if self.copy_options.purpose == Purpose::Copy => stdio::pour(&file).map(|()| Exit::Ok),
            other => Ok(other),
        }
    }

    fn plan(&self, way: Way, link: &Link) -> anyhow::Result<CopyPlan> {
        Ok(CopyPlan {
            streams: self.options.streams(),
            tls: self.options.tls(),
            sockets: self.options.sockets(is_loopback(link)),
            ..plan(way, self.copy_options.clone(), link, &self.options.network.way)?
        })
    }

    fn run(&self, door: &mut Door<'_>, open: door::Open, way: Way) -> anyhow::Result<Exit> {
        let plan = self.plan(way, &open.link)?;
        let retry_for = self.options.network.retry_for.0;
        let mut telling = Telling::begin(self.options, &plan, Some(&open.link))?;
        let mut sessions = Sessions { door, interrupts: self.interrupts, retry_for };
        let finished = sessions.run(&plan, open, &mut telling.show);
        conclude(finished, telling)
    }

    /// From here to here.
    fn within(&self, from: Vec<PathBuf>, to: PathBuf) -> anyhow::Result<Exit> {
        if from.iter().all(|path| is_absent(path)) {
            from.iter().for_each(|path| say_absent(path));
            return Ok(Exit::Failed);
        }
        let Way::Push { from, to: typed, label, .. } = job::push(from, to.as_os_str().as_bytes().to_vec()) else {
            return Ok(Exit::Failed);
        };
        let plan = CopyPlan {
            way: Way::Push { from: from.clone(), input: None, to: typed, label: label.clone() },
            options: self.copy_options.clone(),
            streams: 0,
            tls: false,
            sockets: SocketOptions::default(),
            bind: None,
            run: draw_run()?,
        };
        let local = LocalPlan { from, to, label, places: copy_places()?, options: self.copy_options.clone() };
        let mut telling = Telling::begin(self.options, &plan, None)?;
        let session = self.interrupts.in_session(|| local::run(&local, &mut telling.show));
        let result = session.result.map_err(anyhow::Error::from);
        conclude(Finished { tally: session.tally, result, sessions: 1 }, telling)
    }
}

/// Where journals are kept; without a home in a folder of this user among the temporary ones.
fn copy_places() -> anyhow::Result<Places> {
    let user = nix::unistd::geteuid();
    Ok(Places::from_env().unwrap_or_else(|_| Places::below(&std::env::temp_dir().join(format!("linerate-{user}")))))
}

/// Tell how a copy ended, and end as it did.
fn conclude(finished: Finished, telling: Telling<'_>) -> anyhow::Result<Exit> {
    let exit = match &finished.result {
        Ok(outcome) => verdict(&finished.tally, ends_agree(outcome)),
        Err(error) => exit::of_error(error),
    };
    let told = telling.finish(&finished, exit);
    say_failures(&finished.tally);
    if exit == Exit::Unverified {
        out::say("linerate: the two ends do not agree on what was copied: copy it again");
    }
    let outcome = finished.result?;
    // Only the end that has the files knows of them.
    for passed in outcome.near.passed_over.iter().chain(&outcome.far.passed_over) {
        if !passed.is_failure {
            out::say(&format!("linerate: {}: {}", printable(&passed.path), printable_str(&passed.why)));
        }
    }
    told.map(|()| exit)
}

fn draw_run() -> anyhow::Result<[u8; 16]> {
    let mut run = [0; 16];
    getrandom::fill(&mut run).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    Ok(run)
}

/// One stream in TLS, and what else holds for whatever is done with a peer.
fn plan(way: Way, options: CopyOptions, link: &Link, args: &WayArgs) -> anyhow::Result<CopyPlan> {
    let run = draw_run()?;
    let sockets = args.sockets(is_loopback(link));
    Ok(CopyPlan { way, options, streams: 1, tls: true, sockets, bind: args.bind, run })
}

/// Whether the peer is this machine, and not the near end of a way through ssh.
fn is_loopback(link: &Link) -> bool {
    let peer = link.peer().ip();
    !link.through_ssh() && (peer.is_loopback() || link.local().is_ok_and(|local| local.ip() == peer))
}

fn paths_at(door: &Door<'_>, paths: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    if door.is_at_home() { paths.into_iter().map(job::from_home).collect() } else { paths }
}

fn is_absent(path: &Path) -> bool {
    path.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

fn say_absent(path: &Path) {
    out::say(&format!("linerate: {}: {NOT_THERE}", printable(path.as_os_str().as_bytes())));
}

/// Each failure in a line of its own, whatever else is shown.
fn say_failures(tally: &Tally) {
    for (path, why) in &tally.failures {
        let name = if path.is_empty() { ".".to_string() } else { printable(path) };
        out::say(&format!("linerate: {name}: {}", printable_str(why)));
    }
    let unnamed = tally.failed.entries.saturating_sub(tally.failures.len() as u64);
    if unnamed > 0 {
        out::say(&format!("linerate: and {unnamed} more failed"));
    }
}

/// Whether the digests of the two ends are the same, as far as both have one.
fn ends_agree(outcome: &Outcome) -> bool {
    let (near, far) = (&outcome.near.digest, &outcome.far.digest);
    near.is_empty() || far.is_empty() || near == far
}

/// How the program ends after a copy that came to its end.
fn verdict(tally: &Tally, ends_agree: bool) -> Exit {
    let good = [tally.done, tally.had, tally.planned, tally.skipped].iter().any(|count| count.entries > 0);
    match (tally.failed.entries, good) {
        // What was named is of no kind that is copied.
        (0, _) if tally.found.entries == 0 && tally.skipped.entries > 0 => Exit::Failed,
        (0, _) if !ends_agree => Exit::Unverified,
        (0, _) => Exit::Ok,
        (_, true) => Exit::Partial,
        (_, false) => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::copy::report::EndReport;
    use crate::transfer::tally::Count;

    #[test]
    fn the_exit_code_tells_some_from_all() {
        let (none, some) = (Count::default(), Count { entries: 1, ..Count::default() });
        let tally = |done, failed| Tally { found: some, done, failed, ..Tally::default() };
        let of = |done, failed| verdict(&tally(done, failed), true);
        assert_eq!(of(none, none), Exit::Ok);
        assert_eq!(of(some, none), Exit::Ok);
        assert_eq!(of(some, some), Exit::Partial);
        assert_eq!(of(none, some), Exit::Failed);
        assert_eq!(verdict(&Tally { skipped: some, ..Tally::default() }, true), Exit::Failed);
        // With failures each end may have proven something else, and those are told.
        assert_eq!(verdict(&tally(some, none), false), Exit::Unverified);
        assert_eq!(verdict(&tally(some, some), false), Exit::Partial);
    }

    #[test]
    fn ends_that_proved_something_else_do_not_agree() {
        let of = |near: &str, far: &str| {
            let end = |digest: &str| EndReport { digest: digest.to_string(), ..EndReport::default() };
            let (tally, ending) = (Tally::default(), Default::default());
            ends_agree(&Outcome { tally, ending, near: end(near), far: end(far) })
        };
        assert!(of("a", "a") && of("", "a") && of("a", "") && !of("a", "b"));
    }
}
