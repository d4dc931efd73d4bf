//! What is shown of a copy and what it leaves behind: begins both before the first session, and ends both after the last.

use std::ffi::OsStr;
use std::fs::File;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use super::args::Options;
use super::sessions::{Finished, Retried};
use super::show::{Show, ShowOptions};
use crate::cli::{Exit, out};
use crate::link::Link;
use crate::proto::copy::report::EndReport;
use crate::store::hashing::FileHasher;
use crate::text::printable;
use crate::transfer::bottleneck::Setting;
use crate::transfer::origin::last_name;
use crate::transfer::receipt::{Account, Keeper, Name, Route, Settings, keep};
use crate::transfer::run::{CopyPlan, Way};
use crate::trust::places::Places;

impl Retried for Show {
    fn reconnect(&mut self, why: &str, attempt: u32, wait: Duration) {
        Show::reconnect(self, why, attempt, wait);
    }
}

/// What has to be known of a copy at its end.
pub(super) struct Telling<'a> {
    options: &'a Options,
    plan: &'a CopyPlan,
    command: Vec<String>,
    started_at: jiff::Timestamp,
    route: Route,
    settings: Settings,
    /// Shows how it goes.
    pub(super) show: Show,
}

impl<'a> Telling<'a> {
    /// A copy begins over that link; without one within this machine.
    pub(super) fn begin(options: &'a Options, plan: &'a CopyPlan, link: Option<&Link>) -> anyhow::Result<Telling<'a>> {
        if let Some(path) = &options.output.receipt {
            keep::check(path)?;
        }
        let words = std::env::args_os();
        let command: Vec<String> = words.map(|word| word.to_string_lossy().into_owned()).collect();
        let route = route(&plan.way, link);
        let is_push = matches!(plan.way, Way::Push { .. });
        let (sources, has_name) = match &plan.way {
            Way::Push { from, .. } => {
                (from.len(), from.iter().all(|path| last_name(path.as_os_str().as_bytes()).is_some()))
            }
            Way::Pull { from, .. } => (from.len(), from.iter().all(|path| last_name(path).is_some())),
        };
        let is_one_machine = link.is_none_or(super::is_loopback);
        let show = Show::begin(ShowOptions {
            quiet: options.output.quiet,
            json: options.output.json,
            manifest: options.proof.manifest.clone(),
            is_tty: std::io::stderr().is_terminal(),
            strips_top: sources == 1 && has_name,
            is_push,
            setting: Setting { is_one_machine, is_paced: plan.options.limit.is_some() },
            run: plan.run,
            command: command.clone(),
            route: route.clone(),
        })?;
        let settings = Settings {
            streams: plan.streams,
            tls: plan.tls,
            cipher: link.map_or_else(String::new, |link| link.cipher().to_string()),
            congestion: plan.sockets.congestion.clone().unwrap_or_default(),
            choices: options.choices(plan.sockets.congestion.as_deref(), link.is_none()),
            ..Settings::default()
        };
        Ok(Telling { options, plan, command, started_at: jiff::Timestamp::now(), route, settings, show })
    }

    /// It is over: the summary, the manifest and the receipts.
    pub(super) fn finish(mut self, finished: &Finished, exit: Exit) -> anyhow::Result<()> {
        // What never began is told by its error alone; whoever reads events waits for the last.
        if finished.result.is_err() && finished.tally.found.entries == 0 && !self.options.output.json {
            return Ok(());
        }
        if finished.result.is_ok() {
            self.hash_the_rest()?;
        }
        let none = EndReport::default();
        let outcome = finished.result.as_ref().ok();
        let (near, far) = (outcome.map_or(&none, |outcome| &outcome.near), outcome.map(|outcome| &outcome.far));
        let receipt = Account {
            run: self.plan.run,
            keeper: Keeper::Client,
            command: self.command,
            started_at: self.started_at,
            seconds: jiff::Timestamp::now().duration_since(self.started_at).as_secs_f64(),
            route: self.route,
            options: &self.plan.options,
            settings: self.settings,
            tally: &finished.tally,
            deleted: outcome.map_or(0, |outcome| outcome.ending.deleted),
            // The tally has it.
            failed_at_end: &[],
            near,
            far,
            is_source: matches!(self.plan.way, Way::Push { .. }),
            reconnections: finished.sessions - 1,
            bottleneck: self.show.bottleneck(near, far),
            broken: finished.result.as_ref().err().map(|error| format!("{error:#}")),
            exit_code: Some(exit as u8),
        }
        .receipt();
        self.show.finish(&receipt)?;
        // Without a home there is no place for receipts, and the copy is none the worse for it.
        if let Ok(places) = Places::from_env()
            && let Err(error) = keep::keep(&places, &receipt)
        {
            out::say(&format!("linerate: {error}: no receipt is kept"));
        }
        if let Some(path) = &self.options.output.receipt {
            keep::write(path, &receipt)?;
        }
        Ok(())
    }

    /// What was there already is in the manifest, too, and so is each further name of a file.
    fn hash_the_rest(&mut self) -> anyhow::Result<()> {
        let mut hasher = FileHasher::default();
        for file in self.show.unhashed()? {
            let mut candidates = candidates(&self.plan.way, &file.path);
            let hashed = candidates.find_map(|opened| {
                // A name would be for an error, which nobody sees.
                let found = hasher.file(&opened, "", &|_| {}).ok()?;
                (found.len == file.len).then_some(found.hash)
            });
            match hashed {
                Some(hash) => self.show.hashed(&file.path, hash),
                None => self.say_not_listed(&file.path),
            }
        }
        for name in self.show.add_further_names()? {
            self.say_not_listed(&name);
        }
        Ok(())
    }

    fn say_not_listed(&self, path: &[u8]) {
        self.show.say(&format!("linerate: {}: not in the manifest", printable(path)));
    }
}

/// What may be the file of an entry, the likelier first.
fn candidates(way: &Way, entry: &[u8]) -> impl Iterator<Item = File> {
    let (input, places) = match way {
        Way::Push { input: Some(input), .. } => (input.file.try_clone().ok(), Vec::new()),
        _ => (None, places_of(way, entry)),
    };
    input.into_iter().chain(places.into_iter().filter_map(|path| File::open(path).ok()))
}

/// Where the file of an entry may be on this machine, the likelier first.
fn places_of(way: &Way, entry: &[u8]) -> Vec<PathBuf> {
    let below = OsStr::from_bytes(entry);
    let parent = |path: &PathBuf| path.parent().map(|parent| parent.join(below));
    match way {
        Way::Push { from, .. } => {
            let first = entry.split(|byte| *byte == b'/').next();
            let place = |path: &PathBuf| match last_name(path.as_os_str().as_bytes()) {
                None => Some(path.join(below)),
                name if name == first => parent(path),
                Some(_) => None,
            };
            from.iter().filter_map(place).collect()
        }
        // Into the folder, or the folder itself.
        Way::Pull { to, .. } => [Some(to.join(below)), parent(to)].into_iter().flatten().collect(),
    }
}

fn route(way: &Way, link: Option<&Link>) -> Route {
    let (direction, from, to) = match way {
        Way::Push { from, to, .. } => {
            let from = from.iter().map(|path| Name::of(path.as_os_str().as_bytes())).collect();
            ("push", from, Name::of(to))
        }
        Way::Pull { from, to, .. } => {
            ("pull", from.iter().map(|path| Name::of(path)).collect(), Name::of(to.as_os_str().as_bytes()))
        }
    };
    let Some(link) = link else {
        return Route { direction: "local".to_string(), from, to: Some(to), ..Route::default() };
    };
    Route {
        direction: direction.to_string(),
        from,
        to: Some(to),
        peer: link.peer().to_string(),
        through_ssh: link.through_ssh(),
        server_known: Some(link.is_server_known()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_where_they_were_named() {
        let push = |from: &[&str]| Way::Push {
            from: from.iter().map(PathBuf::from).collect(),
            input: None,
            to: Vec::new(),
            label: Vec::new(),
        };
        assert_eq!(places_of(&push(&["x/a", "y/b"]), b"b/c"), [PathBuf::from("y/b/c")]);
        assert_eq!(places_of(&push(&["x/."]), b"b/c"), [PathBuf::from("x/./b/c")]);
        let pull = Way::Pull { from: Vec::new(), names: Vec::new(), to: "x/new".into(), label: Vec::new() };
        assert_eq!(places_of(&pull, b"new/c"), [PathBuf::from("x/new/new/c"), PathBuf::from("x/new/c")]);
    }
}
