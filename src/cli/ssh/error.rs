//! What can go wrong over ssh, each in one line that says what to do, and telling it from the words that ssh leaves.

use std::io;

use super::words::Ending;
use super::{PortRange, Target};

/// ssh's own exit code; all others are the far end's.
const CODE_OF_SSH: i32 = 255;
/// `sh` found no such program.
const CODE_MISSING: i32 = 127;
/// `sh` found the program but could not execute it.
const CODE_NOT_EXECUTABLE: i32 = 126;
/// linerate knows no such option.
const CODE_USAGE: i32 = 2;
/// Lines of somebody's words that are repeated in an error.
const LINES_MAX: usize = 3;

/// Why there is no linerate on the far end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SshError {
    /// `--ssh` makes no command.
    #[error("--ssh {command:?}: {why}: write it as in a shell, such as --ssh \"ssh -p 2222\"")]
    Command {
        /// As it was given.
        command: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// There is no such program here.
    #[error("{program}: {error}: install an ssh client, or name yours with --ssh COMMAND")]
    NoSsh {
        /// The program of `--ssh`.
        program: String,
        /// Why it did not start.
        error: io::Error,
    },
    /// The far end does not let us in.
    #[error("{target}: ssh: {words}: see whether `ssh {target}` lets you in, and name a key with --ssh \"ssh -i KEY\"")]
    Denied {
        /// Who was asked.
        target: Target,
        /// What ssh said.
        words: String,
    },
    /// The far end may not be who it says it is.
    #[error(
        "{target}: ssh: {words}: make sure of the host's key, then accept it with `ssh {target}` (an outdated one is removed with `ssh-keygen -R`)"
    )]
    HostKey {
        /// Who was asked.
        target: Target,
        /// What ssh said.
        words: String,
    },
    /// ssh failed in any other way: no such host, nothing that listens, no route.
    #[error(
        "{target}: ssh: {words}: see whether `ssh {target}` works; another port is named with --ssh \"ssh -p PORT\""
    )]
    Unreachable {
        /// Who was asked.
        target: Target,
        /// What ssh said.
        words: String,
    },
    /// There is no linerate on the far end.
    #[error(
        "{target}: {words}: put it there with --install, or `scp \"$(which linerate)\" {target}:.local/bin/`, or name it with --remote-linerate PATH"
    )]
    Missing {
        /// Where.
        target: Target,
        /// What the shell there said.
        words: String,
    },
    /// There is one, but it does not run.
    #[error(
        "{target}: {words}: make it executable there, and see that it is built for that machine; --install puts this one there"
    )]
    NotExecutable {
        /// Where.
        target: Target,
        /// What the shell there said.
        words: String,
    },
    /// The far end's linerate does not know what we ask of it.
    #[error("{target}: the linerate there does not understand this one ({ours}): {words}: use the same release on both, --install puts this one there", ours = env!("CARGO_PKG_VERSION"))]
    OtherRelease {
        /// Where.
        target: Target,
        /// What it said.
        words: String,
    },
    /// The far end's linerate, or the shell there, failed.
    #[error("{target}: the linerate there {end}: {words}: log in with `ssh {target}` and try `linerate --version`")]
    Failed {
        /// Where.
        target: Target,
        /// How it ended.
        end: String,
        /// What it said.
        words: String,
    },
    /// The far end's linerate says itself what is wrong, and what to do.
    #[error("{target}: the linerate there: {words}")]
    Complained {
        /// Where.
        target: Target,
        /// What it said.
        words: String,
    },
    /// It has started, or not: nothing says.
    #[error("{target}: no linerate got ready within {seconds} s: {words}: see how long `ssh {target}` takes to log in")]
    Late {
        /// Where.
        target: Target,
        /// How long we waited.
        seconds: u64,
        /// What was said meanwhile.
        words: String,
    },
    /// Something there speaks without end.
    #[error(
        "{target}: more than {kib} KiB of something else came instead of a linerate's first line: let the shell there print nothing when it is not interactive, or check --remote-linerate"
    )]
    Noise {
        /// Where.
        target: Target,
        /// How much was read.
        kib: usize,
    },
    /// This machine and that one keep using the ports that were chosen.
    #[error("{target}: no free port {tried}: {words}: choose others with --remote-port LOW-HIGH")]
    Ports {
        /// Where.
        target: Target,
        /// Which were.
        tried: String,
        /// What was said at last.
        words: String,
    },
    /// This program is nothing for that machine.
    #[error("{target}: cannot install this linerate there: {why}: build one there, or copy one that is built for it")]
    Unsuitable {
        /// Where.
        target: Target,
        /// What does not fit.
        why: String,
    },
    /// Copying this program there did not work.
    #[error(
        "{target}: installing linerate in ~/.local/bin failed: {words}: copy it with `scp \"$(which linerate)\" {target}:.local/bin/`"
    )]
    NotInstalled {
        /// Where.
        target: Target,
        /// What was said.
        words: String,
    },
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// Our own system failed us.
    #[error("{what}: {error}")]
    System {
        /// What we wanted.
        what: &'static str,
        /// Why not.
        error: io::Error,
    },
}

impl SshError {
    /// None of that range is free.
    pub(super) fn of_range(target: &Target, range: PortRange, words: String) -> SshError {
        SshError::Ports { target: target.clone(), tried: format!("there in --remote-port {range}"), words }
    }

    pub(super) fn empty_command(command: &str) -> SshError {
        SshError::Command { command: command.to_string(), why: "names no program" }
    }
}

impl Ending {
    /// Why it ended before it got ready.
    pub(super) fn into_error(self, target: &Target) -> SshError {
        let (target, words) = (target.clone(), self.words());
        let complaint = self.lines.iter().rev().find_map(|line| line.strip_prefix("linerate: "));
        match self.code {
            // ssh always says why it fails, unless its config forbids it.
            Some(CODE_OF_SSH) if self.lines.is_empty() => {
                SshError::Failed { target, end: "was ended by a signal, or ssh failed".to_string(), words }
            }
            Some(CODE_OF_SSH) => self.of_ssh(target),
            Some(CODE_MISSING) => SshError::Missing { target, words },
            Some(CODE_NOT_EXECUTABLE) => SshError::NotExecutable { target, words },
            Some(CODE_USAGE) if complaint.is_none() => SshError::OtherRelease { target, words },
            Some(1..) if let Some(complaint) = complaint => {
                SshError::Complained { target, words: complaint.to_string() }
            }
            code => SshError::Failed { target, end: how(code), words },
        }
    }

    /// ssh itself failed.
    fn of_ssh(&self, target: Target) -> SshError {
        let line_with = |word: &str| self.lines.iter().rfind(|line| line.contains(word)).cloned();
        if let Some(offending) = line_with("REMOTE HOST IDENTIFICATION HAS CHANGED") {
            let words = line_with("Offending ").map(|line| format!("the host's key has changed: {line}"));
            return SshError::HostKey { target, words: words.unwrap_or(offending) };
        }
        if line_with("Host key verification failed").is_some() {
            return SshError::HostKey { target, words: self.words() };
        }
        let denied = line_with("Permission denied").or_else(|| line_with("Too many authentication failures"));
        match denied {
            Some(words) => SshError::Denied { target, words: words.trim_end_matches('.').to_string() },
            None => {
                let words = self.words();
                let words = words.strip_prefix("ssh: ").unwrap_or(&words).to_string();
                SshError::Unreachable { target, words }
            }
        }
    }

    /// Whether a port that we chose was taken, here (by ssh's words) or there (by linerate's).
    pub(super) fn is_port_taken(&self) -> bool {
        let has = |word: &str| self.lines.iter().any(|line| line.contains(word));
        match self.code {
            Some(CODE_OF_SSH) => has("Address already in use") && has("cannot listen to port"),
            _ => has("cannot listen: Address already in use"),
        }
    }

    /// Whether ssh failed, or a signal ended it, rather than what it had started.
    pub(super) fn is_failure_of_ssh(&self) -> bool {
        matches!(self.code, None | Some(CODE_OF_SSH))
    }

    /// What was said of a port that is taken, without what to do in that case: here that is something else.
    pub(super) fn taken_words(&self) -> String {
        let words = self.words();
        words.split_once(": choose another").map_or(words.as_str(), |(fact, _)| fact).to_string()
    }

    /// The last of what was said, in one line.
    pub(super) fn words(&self) -> String {
        words(&self.lines)
    }
}

/// The last lines in one.
pub(super) fn words(lines: &[String]) -> String {
    match lines {
        [] => "nothing was said why".to_string(),
        _ => lines[lines.len().saturating_sub(LINES_MAX)..].join("; "),
    }
}

fn how(code: Option<i32>) -> String {
    match code {
        Some(0) => "ended before it got ready".to_string(),
        Some(code) => format!("failed (exit status {code})"),
        None => "or the ssh to it was ended by a signal".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: Option<i32>, words: &str) -> SshError {
        let lines = words.lines().map(str::to_string).collect();
        Ending { code, lines }.into_error(&"me@nas".parse().unwrap())
    }

    #[test]
    fn each_failure_is_told_from_the_others() {
        let changed = "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nOffending RSA key in /k:3\nx\n\
                       Host key verification failed.";
        let table = [
            (
                Some(255),
                "Warning: added\nme@nas: Permission denied (publickey).",
                "nas: ssh: me@nas: Permission denied",
            ),
            (Some(255), "Received disconnect: Too many authentication failures", "lets you in"),
            (Some(255), changed, "the host's key has changed: Offending RSA key in /k:3: make sure"),
            (Some(255), "Host key verification failed.", "accept it"),
            (Some(255), "ssh: connect to host nas port 22: Connection refused", "see whether `ssh me@nas` works"),
            (Some(255), "", "by a signal, or ssh failed: nothing was said why"),
            (Some(127), "sh: 1: exec: linerate: not found", "not found: put it there with --install, or `scp"),
            (Some(126), "sh: exec: Permission denied", "make it executable"),
            (Some(2), "error: unexpected argument '--ticket-on-stdout' found\na\nb", "same release"),
            (Some(1), "motd\nlinerate: /x: no such folder", "me@nas: the linerate there: /x: no such folder"),
            (Some(255), "ssh: Could not resolve hostname nas", "me@nas: ssh: Could not resolve hostname nas: see"),
            (Some(1), "a\nb\nc\nd", "failed (exit status 1): b; c; d: log"),
            (Some(0), "", "ended before it got ready"),
            (None, "", "ended by a signal"),
        ];
        for (code, words, expected) in table {
            let line = error(code, words).to_string();
            assert!(line.contains(expected) && line.starts_with("me@nas: "), "{code:?} {words:?}: {line}");
            assert_eq!(line.lines().count(), 1);
        }
    }

    #[test]
    fn a_taken_port_is_told_from_other_failures() {
        let here = "bind [127.0.0.1]:4: Address already in use\n\
                    channel_setup_fwd_listener_tcpip: cannot listen to port: 4\nCould not request local forwarding.";
        let there = "linerate: 127.0.0.1:4: cannot listen: Address already in use (os error 98): choose another";
        let table = [(Some(255), here, true), (Some(1), there, true), (Some(255), there, false), (Some(1), "x", false)];
        for (code, words, expected) in table {
            let ending = Ending { code, lines: words.lines().map(str::to_string).collect() };
            assert_eq!(ending.is_port_taken(), expected, "{words}");
            assert!(!ending.taken_words().contains("choose") && ending.taken_words().starts_with(&words[..1]));
        }
    }
}
