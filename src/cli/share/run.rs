//! A share from its options to its end.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::address::{self, Bound, Reach};
use super::args::{HostArgs, TrustArgs};
use super::certificate::{self, Proof};
use super::follow::{self, Known};
use super::once::{self, All, Counter, Until};
use super::password;
use super::show::{IN_THE_CLEAR, Shown};
use super::uploads::{self, UploadArgs};
use super::watch::{Sayer, Watch};
use crate::cli::exit::Misuse;
use crate::cli::{Exit, out};
use crate::share::activity::{Activity, Observer};
use crate::share::gate::{Gate, Policy, Secret};
use crate::share::rights::{Right, Rights};
use crate::share::serve::{Listening, Stop, serve};
use crate::share::state::{About, Share, authorities};
use crate::share::tree::Tree;
use crate::text::{printable, printable_str};

/// For how long running transfers may go on after the first Ctrl-C.
const GRACE: Duration = Duration::from_secs(5);

/// How long what is left may take then, such as removing the part of an upload that was cut.
const LEFT_MAX: Duration = Duration::from_secs(2);

/// How a one-shot share ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Never by itself.
    Never,
    /// When so many have downloaded everything.
    Downloads(u64),
    /// When so many have uploaded.
    Uploads(u64),
}

/// What is shared, how, and until when.
pub(super) struct Plan<'a> {
    pub(super) paths: Vec<&'a Path>,
    pub(super) rights: Rights,
    pub(super) shows_hidden: bool,
    pub(super) sorts_by_type: bool,
    pub(super) ending: Ending,
    pub(super) host: &'a HostArgs,
    pub(super) uploads: &'a UploadArgs,
}

pub(super) fn run(plan: &Plan<'_>) -> anyhow::Result<Exit> {
    check_expiry(&plan.host.trust)?;
    let tree = open(&plan.paths, plan.shows_hidden)?;
    let intake = uploads::settings(plan.uploads)?;
    let until = match plan.ending {
        Ending::Never => None,
        Ending::Uploads(count) => Some(Until::Uploaded(count)),
        Ending::Downloads(count) => Some(Until::Downloaded(count, sent(&plan.paths, &tree)?)),
    };
    let password = password::wanted(&plan.host.trust)?;
    let proof = certificate::proof(&plan.host.trust)?;
    let bound = address::bind(plan.host.found.listen, plan.host.found.interface.as_deref())?;
    let token = Secret::draw().map_err(|_| anyhow::anyhow!("no random number can be had"))?;
    let now = Instant::now();
    let expires = plan.host.trust.expires.and_then(|after| now.checked_add(after.0));
    let gate = Gate::new(Policy { token: token.clone(), rights: plan.rights, password, expires }, now);
    let about = about(&plan.paths, &bound, proof.is_some());
    let (counter, events) = Counter::new();
    let watch = Watch::begin(&plan.host.watch)?;
    let mut observers: Vec<Box<dyn Observer>> = vec![watch.observer()];
    if until.is_some() {
        observers.push(Box::new(counter));
    }
    let activity = Arc::new(Activity::new(Box::new(All(observers))));
    // Before anybody can know that there is something to be ended.
    let stop = Stop::default();
    end_on_signal(&stop, activity.clone(), watch.sayer())?;
    let mut share = Share::new(tree, about, (token, gate), activity.clone()).with_intake(intake);
    share.sorts_by_type = plan.sorts_by_type;
    let share = Arc::new(share);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the web server")?;
    runtime.block_on(uploads::check_scanner(&share, plan.uploads))?;
    let known = Known {
        reach: bound.reach.clone(),
        about: share.about.clone(),
        names: follow::names(&share.about.host),
        fingerprint: proof.as_ref().map(|proof| proof.fingerprint),
        is_announced: !plan.host.found.no_announce,
    };
    let following = follow::follow(known, bound.addresses.clone(), watch.sayer())?;
    let shown = shown(&share.about, proof.as_ref(), plan);
    show(&share, &bound, &shown, plan)?;
    watch.show(&share, shown);
    if let Some(until) = until {
        let (activity, stop, sayer) = (activity.clone(), stop.clone(), watch.sayer());
        let end = move || once::end_when(until, &events, &activity, (&stop, &sayer));
        std::thread::Builder::new().name("ending".to_string()).spawn(end).context("a thread cannot be started")?;
    }
    if let Some(after) = plan.host.trust.expires {
        end_after(&stop, after.0, activity.clone(), watch.sayer())?;
    }
    let tls = proof.map(|proof| proof.config);
    runtime.block_on(serve(share, Listening { listeners: bound.listeners, tls }, stop))?;
    drop(following);
    runtime.shutdown_timeout(LEFT_MAX);
    watch.finish()?;
    Ok(Exit::Ok)
}

/// A share that nobody can come to is a mistake.
fn check_expiry(trust: &TrustArgs) -> Result<(), Misuse> {
    match trust.expires {
        Some(after) if after.0.is_zero() => {
            Err(Misuse("--expires 0: nobody could come in: write a time such as 1h, or leave it out".to_string()))
        }
        _ => Ok(()),
    }
}

/// What is shared, all of which this user can read.
fn open(paths: &[&Path], shows_hidden: bool) -> anyhow::Result<Tree> {
    for path in paths {
        let read = match path.is_dir() {
            true => std::fs::read_dir(path).map(drop),
            // Nothing waits for whoever writes into a FIFO: those are refused by the tree.
            false if path.is_file() => std::fs::File::open(path).map(drop),
            false => Ok(()),
        };
        let name = || printable(path.as_os_str().as_bytes());
        read.with_context(|| format!("{}: cannot be shared: this user cannot read it", name()))?;
    }
    Ok(Tree::open(paths, shows_hidden)?)
}

/// The files that are sent. Of none nobody could ever have all.
fn sent(paths: &[&Path], tree: &Tree) -> anyhow::Result<HashMap<String, u64>> {
    let files = once::files(tree)?;
    if files.is_empty() {
        let names: Vec<String> = paths.iter().map(|path| printable(path.as_os_str().as_bytes())).collect();
        return Err(Misuse(format!("{}: holds no file to send", names.join(", "))).into());
    }
    Ok(files)
}

fn about(paths: &[&Path], bound: &Bound, is_https: bool) -> About {
    let host = host();
    let authorities = authorities(&bound.addresses, &follow::names(&host)).into();
    About { title: title(paths), authorities, host, is_https }
}

fn shown(about: &About, proof: Option<&Proof>, plan: &Plan<'_>) -> Shown {
    Shown {
        title: about.title.clone(),
        folder: match plan.paths[..] {
            [one] if one.is_dir() => Some(printable(one.as_os_str().as_bytes())),
            _ => None,
        },
        host: printable_str(&about.host),
        fingerprint: proof.map(|proof| proof.fingerprint),
        is_self_signed: proof.is_some_and(|proof| proof.is_self_signed),
        rights: plan.rights.to_string(),
        command: if plan.rights.has(Right::Download) { "get" } else { "put FILE" },
        is_live: plan.host.watch.is_live(),
    }
}

/// The links on standard output, each in a line, or all that a person wants to know if that is a terminal.
fn show(share: &Share, bound: &Bound, shown: &Shown, plan: &Plan<'_>) -> anyhow::Result<()> {
    if !share.about.is_https {
        out::say(IN_THE_CLEAR);
    }
    if matches!(bound.reach, Reach::All(_)) && address::is_only_here(&bound.addresses) {
        out::say("linerate: this machine is on no network: nobody but itself can open the link until it is on one");
    }
    // Among the events the links are the first.
    if plan.host.watch.json {
        return Ok(());
    }
    let links = share.about.links(&share.token);
    if std::io::stdout().is_terminal() {
        return out::print(&shown.now(&address::for_people(&links)));
    }
    out::print(&links.iter().map(|link| format!("{link}\n")).collect::<String>())?;
    if let Some(fingerprint) = shown.fingerprint {
        out::say(&format!("linerate: the fingerprint of this share is {fingerprint}"));
    }
    Ok(())
}

fn host() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_else(|| "this machine".into())
}

fn title(paths: &[&Path]) -> String {
    match paths {
        [one] => {
            let whole = one.canonicalize().unwrap_or_else(|_| one.to_path_buf());
            let name = whole.file_name().map(|name| name.to_string_lossy().into_owned());
            printable_str(&name.unwrap_or_else(|| "/".to_string()))
        }
        several => format!("{} files and folders", several.len()),
    }
}

/// The first signal lets running transfers end for a while, the second ends at once.
fn end_on_signal(stop: &Stop, activity: Arc<Activity>, sayer: Sayer) -> anyhow::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([libc::SIGINT, libc::SIGTERM]).context("signals")?;
    let stop = stop.clone();
    let watch = move || {
        let mut signals = signals.forever();
        if signals.next().is_none() {
            return;
        }
        end(&stop, &activity, &sayer);
        let later = stop.clone();
        let _ = end_soon(later);
        if signals.next().is_some() {
            stop.now();
        }
    };
    std::thread::Builder::new().name("signals".to_string()).spawn(watch).context("a thread cannot be started")?;
    Ok(())
}

/// Take in nobody more. What runs is counted before: it may be over, or cut, when that is shown.
fn end(stop: &Stop, activity: &Activity, sayer: &Sayer) {
    let running = activity.running().len();
    stop.end();
    sayer.ending(running, GRACE);
}

fn end_soon(stop: Stop) -> std::io::Result<()> {
    let end = move || {
        std::thread::sleep(GRACE);
        stop.now();
    };
    std::thread::Builder::new().name("grace".to_string()).spawn(end).map(drop)
}

/// The gate lets nobody on after that: new requests are refused, open pages are told, transfers that run have the grace
/// time to finish, and then the program ends as it does after Ctrl-C.
fn end_after(stop: &Stop, after: Duration, activity: Arc<Activity>, sayer: Sayer) -> anyhow::Result<()> {
    let stop = stop.clone();
    let end = move || {
        std::thread::sleep(after);
        end(&stop, &activity, &sayer);
        std::thread::sleep(GRACE);
        stop.now();
    };
    std::thread::Builder::new().name("expiry".to_string()).spawn(end).context("a thread cannot be started")?;
    Ok(())
}
