//! A server process and a client process: what they print, the CPU time that they take, the memory that they need.
//!
//! CPU time is read from /proc once a process has ended and before it is reaped; memory while it runs, because the
//! kernel gives it up first. Both are looked at rarely enough not to matter, and for all tools alike.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::common::child::Guard;
use crate::common::ports::Server;
pub use crate::common::version::version;
use crate::common::{interrupt, own};

/// How often the processes are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Time for a one-off server to end after its client.
const SERVER_END_MAX: Duration = Duration::from_secs(3);
/// A client may take so much longer than it measures.
const SLACK: Duration = Duration::from_secs(30);
/// Longest part of a tool's words that is repeated in a message.
const SAID_CHARS_MAX: usize = 300;

/// A process under way. Dropping it kills and reaps it.
pub struct Running {
    child: Guard,
    output: File,
    errors: File,
    command: String,
    has_ended: bool,
    cpu_s: f64,
    rss_peak_bytes: u64,
}

/// How a server comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, after one client.
    ByItself,
    /// It would serve for ever: it is killed.
    Killed,
}

impl Running {
    /// Start a program, with its outputs into unnamed files that cannot fill up as pipes do. `cpu` pins it.
    pub fn start(words: &[String], cpu: Option<u32>) -> anyhow::Result<Running> {
        let file = || tempfile::tempfile().context("no temporary file");
        let (output, errors) = (file()?, file()?);
        let pin = cpu.map(|cpu| ["taskset", "-c", &cpu.to_string()].map(String::from)).into_iter().flatten();
        let words: Vec<String> = pin.chain(words.iter().cloned()).collect();
        let (program, arguments) = words.split_first().context("no program")?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(output.try_clone()?).stderr(errors.try_clone()?);
        let child = Guard::spawn(&mut command)?;
        let command = own::command_line(&words);
        Ok(Running { child, output, errors, command, has_ended: false, cpu_s: 0.0, rss_peak_bytes: 0 })
    }

    /// Read its CPU time and memory; `true` once it has ended.
    pub fn look(&mut self) -> anyhow::Result<bool> {
        if self.has_ended {
            return Ok(true);
        }
        let folder = format!("/proc/{}", self.child.id());
        let stat = fs::read_to_string(format!("{folder}/stat")).with_context(|| folder.clone())?;
        let (state, cpu_s) = parse_stat(&stat).with_context(|| format!("{folder}/stat"))?;
        self.cpu_s = cpu_s;
        let status = fs::read_to_string(format!("{folder}/status")).unwrap_or_default();
        self.rss_peak_bytes = self.rss_peak_bytes.max(parse_peak(&status).unwrap_or(0));
        self.has_ended = state == 'Z';
        Ok(self.has_ended)
    }

    /// What it has printed so far.
    pub fn printed(&self) -> anyhow::Result<String> {
        content(&self.output)
    }

    /// To a good end, some time after what it measures.
    fn finish(&mut self, millis: u64, other: Option<&mut Running>) -> anyhow::Result<()> {
        self.wait(Duration::from_millis(millis) + SLACK, other)?;
        let status = self.child.wait(SERVER_END_MAX)?;
        anyhow::ensure!(status.success(), "{}: {status}: {}", self.command, self.said());
        Ok(())
    }

    fn wait(&mut self, longest: Duration, mut other: Option<&mut Running>) -> anyhow::Result<()> {
        let deadline = Instant::now() + longest;
        while !self.look()? {
            interrupt::check()?;
            anyhow::ensure!(Instant::now() < deadline, "{}: not done after {longest:?}", self.command);
            if let Some(other) = other.as_deref_mut() {
                other.look()?;
            }
            sleep(LOOK_EVERY);
        }
        Ok(())
    }
}

impl Server for Running {
    fn has_ended(&mut self) -> anyhow::Result<bool> {
        self.look()
    }

    fn said(&self) -> String {
        let both = [&self.errors, &self.output].map(|file| content(file).unwrap_or_default());
        linerate::text::printable_limit(both.join(" ").trim().as_bytes(), SAID_CHARS_MAX)
    }
}

/// All that stands in an unnamed file. It is opened anew: a child shares the offset of ours.
fn content(file: &File) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What two processes printed and took.
pub struct Outcome {
    /// The client's output.
    pub printed: String,
    /// Filled in as far as it is not the tool's own figure.
    pub figures: crate::peer::Figures,
}

/// Run a client against a server that listens already, to the end of both.
pub fn run(mut server: Running, client: &[String], cpu: Option<u32>, millis: u64, end: End) -> anyhow::Result<Outcome> {
    let mut client = Running::start(client, cpu)?;
    client.finish(millis, Some(&mut server))?;
    if end == End::ByItself {
        server.wait(SERVER_END_MAX, None)?;
    } else {
        server.look()?;
    }
    let figures = crate::peer::Figures {
        client_cpu_s: client.cpu_s,
        server_cpu_s: server.cpu_s,
        client_rss_peak_bytes: client.rss_peak_bytes,
        server_rss_peak_bytes: server.rss_peak_bytes,
        client_command: client.command.clone(),
        server_command: server.command.clone(),
        ..Default::default()
    };
    Ok(Outcome { printed: client.printed()?, figures })
}

/// Run a program that needs no other.
pub fn run_alone(words: &[String], cpu: Option<u32>, millis: u64) -> anyhow::Result<Outcome> {
    let mut program = Running::start(words, cpu)?;
    program.finish(millis, None)?;
    let figures = crate::peer::Figures {
        client_cpu_s: program.cpu_s,
        client_rss_peak_bytes: program.rss_peak_bytes,
        client_command: program.command.clone(),
        ..Default::default()
    };
    Ok(Outcome { printed: program.printed()?, figures })
}

/// The state, and user + system time in seconds, of /proc/PID/stat. The name in it may hold anything but ends with
/// the last parenthesis.
fn parse_stat(stat: &str) -> Option<(char, f64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let user: u64 = fields.nth(10)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let ticks_per_s = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    Some((state, (user + system) as f64 / ticks_per_s as f64))
}

/// VmHWM of /proc/PID/status, bytes.
fn parse_peak(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()? << 10)
}
