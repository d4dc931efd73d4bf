//! One ssh process: how it is started, heard, and ended so that nothing of it stays, here or on the far end.
//!
//! What the far end is asked to do, and what its words mean, is decided elsewhere.
//!
//! # Who gets Ctrl-C
//! ssh asks for passwords on the terminal, which only the foreground process group may read, so ssh stays in ours
//! and gets none of its own. Ctrl-C would then end it together with the far end, in the middle of what we still have
//! to say to each other, so ssh ignores it. We hear it, and end ssh by closing its standard input: the far end's
//! ends with it, which is its sign to end. That holds when we are killed, too.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use super::SshArgs;
use super::error::SshError;
use super::quote;
use super::target::Target;
use super::words::{Ending, Words};
use crate::cli::out;
use crate::sys::signals::{self, Interrupts};

/// A longer line comes in pieces of this size.
const LINE_MAX: u64 = 8 << 10;
/// Lines that wait to be heard; with more ssh waits.
const LINES_WAITING: usize = 16;
/// How often signals, and what is to be shown, are looked for.
const TICK: Duration = Duration::from_millis(50);
/// Looked at again after this where nothing tells of a child's end.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// Time for ssh to end once its standard input has: the far end ends by itself meanwhile.
const END_MAX: Duration = Duration::from_secs(2);
/// Time for one that fails to end, once what it carried was lost.
const OWN_END_MAX: Duration = Duration::from_millis(500);
/// Time for it to end once it was asked to: it may have a terminal to put right.
const TERMINATE_MAX: Duration = Duration::from_millis(500);
/// Time for the last words of an ssh that has ended: another process may still hold the pipe.
const WORDS_MAX: Duration = Duration::from_millis(500);

/// What makes ssh carry two pipes and nothing else, whatever its config has for people. The words of `--ssh` come
/// before these, and ssh takes the first of two, so a person has the last say.
const OPTIONS: [&str; 13] = [
    // No terminal there, no escape character; neither X11 nor the agent is the far end's business.
    "-T",
    "-e",
    "none",
    "-x",
    "-a",
    "-o",
    "PermitLocalCommand=no",
    "-o",
    "RemoteCommand=none",
    // A new master would stay in the background, with our pipes. One that runs already is used, and asks nothing.
    "-o",
    "ControlMaster=no",
    // A host that never answers is told before the time for starting is over.
    "-o",
    "ConnectTimeout=20",
];
/// Nobody is there to be asked: fail at once.
const UNATTENDED: [&str; 2] = ["-o", "BatchMode=yes"];

/// A running ssh; ended and reaped when dropped.
pub(super) struct Client {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Vec<u8>>,
    words: Arc<Words>,
    is_watched: bool,
}

/// What there was to hear.
pub(super) enum Heard {
    /// A line of the far end's standard output, or a piece of one.
    Line(Vec<u8>),
    /// Its standard output has ended.
    End,
    /// Nothing in time.
    Late,
    /// Ctrl-C.
    Interrupted,
}

impl Client {
    /// Have `script` run by `sh` on the far end.
    pub(super) fn start(args: &SshArgs, more: &[String], target: &Target, script: &[u8]) -> Result<Client, SshError> {
        let words = args.words()?;
        let (program, own) = words.split_first().ok_or_else(|| SshError::empty_command(&args.ssh))?;
        let mut command = Command::new(program);
        command.args(own).args(OPTIONS).args(more);
        if is_unattended() {
            command.args(UNATTENDED);
        }
        command.args(["--", &target.to_string()]).arg(OsStr::from_bytes(&quote::sh_command(script)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        signals::ignore_interrupt(&mut command);
        let child = command.spawn().map_err(|error| SshError::NoSsh { program: program.clone(), error })?;
        Client::around(child)
    }

    fn around(mut child: Child) -> Result<Client, SshError> {
        let (tell, lines) = sync_channel(LINES_WAITING);
        let words = Arc::new(Words::default());
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let is_watched = io::stderr().is_terminal();
        let client = Client { stdin: child.stdin.take(), child, lines, words, is_watched };
        // On failure `client` is dropped here, and the child with it.
        if let (Some(stdout), Some(stderr)) = (stdout, stderr) {
            let words = Arc::clone(&client.words);
            spawn("ssh-stdout", move || hand_on(stdout, &tell))?;
            spawn("ssh-stderr", move || words.collect(stderr))?;
        }
        Ok(client)
    }

    /// The next line, waiting for it until then. What ssh tells the person meanwhile is shown. When there is nothing
    /// more to wait for, ssh is asked to end.
    pub(super) fn hear(&mut self, until: Instant, interrupts: &Interrupts) -> Heard {
        let heard = self.hear_or_give_up(until, interrupts);
        if matches!(heard, Heard::Late | Heard::Interrupted) {
            // It may be asking for a password, and would not see its standard input end.
            let _ = signals::terminate(&mut self.child);
        }
        heard
    }

    fn hear_or_give_up(&self, until: Instant, interrupts: &Interrupts) -> Heard {
        loop {
            if interrupts.is_raised() {
                return Heard::Interrupted;
            }
            for line in self.words.to_show().iter().filter(|_| self.is_watched) {
                out::say(&format!("ssh: {line}"));
            }
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left.min(TICK)) {
                Ok(line) => return Heard::Line(line),
                // Ctrl-C at a question of ssh ends that, too.
                Err(RecvTimeoutError::Disconnected) if interrupts.is_raised() => return Heard::Interrupted,
                Err(RecvTimeoutError::Disconnected) => return Heard::End,
                Err(RecvTimeoutError::Timeout) if left.is_zero() => return Heard::Late,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// The way to the far end's standard input, for one who will say all there is to say and then close it.
    pub(super) fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    /// What is said on standard error.
    pub(super) fn words(&self) -> &Words {
        &self.words
    }

    /// Whether it has ended, or is about to, without being asked. Its connections are closed a moment before that.
    pub(super) fn ends_by_itself(&mut self) -> bool {
        self.ends_within(OWN_END_MAX)
    }

    /// End it, unless it has ended by itself, and say how that went.
    pub(super) fn finish(mut self) -> Ending {
        let code = self.end();
        self.words.wait_for_end(WORDS_MAX);
        Ending { code, lines: self.words.last() }
    }

    /// The exit code; `None` when a signal ended it.
    fn end(&mut self) -> Option<i32> {
        drop(self.stdin.take());
        if !self.ends_within(END_MAX) {
            let _ = signals::terminate(&mut self.child);
            if !self.ends_within(TERMINATE_MAX) {
                let _ = self.child.kill();
            }
        }
        self.child.wait().ok()?.code()
    }

    fn ends_within(&mut self, longest: Duration) -> bool {
        let deadline = Instant::now() + longest;
        loop {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether there is nobody who could type a password. ssh asks on the terminal whatever its standard streams are,
/// so one stream that is a terminal is enough; a program that asks in a window is as good as a terminal.
fn is_unattended() -> bool {
    !io::stdin().is_terminal() && !io::stderr().is_terminal() && std::env::var_os("SSH_ASKPASS").is_none()
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), SshError> {
    let thread = std::thread::Builder::new().name(name.to_string()).spawn(work);
    thread.map(drop).map_err(|error| SshError::System { what: "a thread", error })
}

/// Tell every line; once nobody listens, take what still comes, so that the far end does not get stuck.
fn hand_on(stdout: ChildStdout, tell: &SyncSender<Vec<u8>>) {
    let mut stdout = BufReader::new(stdout);
    loop {
        let mut line = Vec::new();
        match (&mut stdout).take(LINE_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) if tell.send(line).is_err() => break,
            Ok(_) => {}
        }
    }
    let _ = io::copy(&mut stdout, &mut io::sink());
}
