//! A process with all that it starts: dropping it ends the lot.
//!
//! Servers here fork for their clients, and shells run pipelines, so what is measured and what is killed is a tree of
//! processes. A process is found through its parent's `children` file of /proc; the time of those that have ended
//! stands in their parent's own figures.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::Context;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::time::TimeValLike;
use nix::unistd::Pid;

use crate::common::child::Guard;
use crate::common::own;
use crate::common::ports::Server;

/// Longest part of a program's words that is repeated in a message.
const SAID_CHARS_MAX: usize = 300;
/// Deepest tree that is followed.
const GENERATIONS_MAX: usize = 16;

/// A program and its arguments.
pub type Words = Vec<String>;

/// A running program. Dropping it kills it and everything that it has started.
pub struct Process {
    child: Guard,
    output: File,
    errors: File,
    /// What was started, as it can be typed.
    pub command: String,
    has_ended: bool,
}

impl Process {
    /// Start a program in a process group of its own, with `home` as its home and its outputs in unnamed files, which
    /// cannot fill up as pipes do.
    pub fn start(words: &Words, home: &Path) -> anyhow::Result<Process> {
        let file = || tempfile::tempfile().context("no temporary file");
        let (output, errors) = (file()?, file()?);
        let (program, arguments) = words.split_first().context("no program")?;
        let mut command = Command::new(program);
        command.args(arguments).process_group(0).current_dir(home);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(errors.try_clone()?);
        for (name, folder) in [
            ("XDG_CONFIG_HOME", "config"),
            ("XDG_STATE_HOME", "state"),
            ("XDG_CACHE_HOME", "cache"),
            ("XDG_RUNTIME_DIR", "run"),
        ] {
            command.env(name, home.join(folder));
        }
        for name in ["http_proxy", "https_proxy", "all_proxy", "RSYNC_RSH", "RSYNC_PROXY", "LINERATE_TICKET"] {
            command.env_remove(name);
        }
        // xrdcp's checksums of pages, without which it is several times faster.
        let child = Guard::spawn(command.env("HOME", home).env("XRD_CPUSEPGWRTRD", "0"))?;
        Ok(Process { child, output, errors, command: typed(words), has_ended: false })
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Wait for its end, without looking at the clock; CPU seconds of it and of all that it has waited for.
    pub fn wait(&mut self) -> anyhow::Result<(ExitStatus, f64)> {
        let before = reaped_cpu_s()?;
        let status = Child::wait(&mut self.child).with_context(|| self.command.clone())?;
        self.has_ended = true;
        Ok((status, reaped_cpu_s()? - before))
    }

    /// What it has printed so far.
    pub fn printed(&self) -> anyhow::Result<String> {
        content(&self.output)
    }
}

impl Server for Process {
    fn has_ended(&mut self) -> anyhow::Result<bool> {
        self.has_ended |= self.child.try_wait().with_context(|| self.command.clone())?.is_some();
        Ok(self.has_ended)
    }

    fn said(&self) -> String {
        let both = [&self.errors, &self.output].map(|file| content(file).unwrap_or_default());
        linerate::text::printable_limit(both.join(" ").trim().as_bytes(), SAID_CHARS_MAX)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Once it has been reaped its number may be anybody's.
        if !self.has_ended {
            kill_tree(self.id());
        }
    }
}

/// Kill a process that was not reaped yet, and all that it has started.
pub fn kill_tree(root: u32) {
    let family = tree(root);
    let _ = killpg(Pid::from_raw(root as i32), Signal::SIGKILL);
    for id in family {
        let _ = kill(Pid::from_raw(id as i32), Signal::SIGKILL);
    }
}

/// A command as a shell would take it.
fn typed(words: &Words) -> String {
    own::command_line(words.iter().map(|word| shlex::try_quote(word).unwrap_or_default()))
}

/// CPU seconds of all children that have been reaped.
fn reaped_cpu_s() -> anyhow::Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    Ok((usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6)
}

/// All that stands in an unnamed file. It is opened anew: a child shares the offset of ours.
fn content(file: &File) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A process and its descendants, as far as main threads started them.
pub fn tree(root: u32) -> Vec<u32> {
    let (mut found, mut generation) = (vec![root], vec![root]);
    for _ in 0..GENERATIONS_MAX {
        let children = |id: &u32| fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        let parse = |text: String| text.split_ascii_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<u32>>();
        generation = generation.iter().map(children).flat_map(parse).collect();
        if generation.is_empty() {
            break;
        }
        found.extend(&generation);
    }
    found
}

/// CPU seconds of these processes and of the children that they have waited for, in steps of 10 ms.
pub fn cpu_s(family: &[u32]) -> f64 {
    let stat = |id: &u32| fs::read_to_string(format!("/proc/{id}/stat")).ok();
    family.iter().filter_map(stat).filter_map(|stat| parse_stat(&stat)).sum()
}

/// Most memory that any one of these processes has had resident, bytes; 0 once all have ended.
pub fn rss_peak_bytes(family: &[u32]) -> u64 {
    let status = |id: &u32| fs::read_to_string(format!("/proc/{id}/status")).ok();
    family.iter().filter_map(status).filter_map(|status| parse_peak(&status)).max().unwrap_or(0)
}

/// user + system time of a process and of its reaped children. Its name may hold anything but ends with the last
/// parenthesis.
fn parse_stat(stat: &str) -> Option<f64> {
    let fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let ticks: Vec<u64> = fields.skip(11).take(4).filter_map(|field| field.parse().ok()).collect();
    let ticks_per_s = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    (ticks.len() == 4).then(|| ticks.iter().sum::<u64>() as f64 / ticks_per_s as f64)
}

/// VmHWM of /proc/PID/status, bytes.
fn parse_peak(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()? << 10)
}
