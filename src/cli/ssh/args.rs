//! The options of a far end that is started over ssh. Nothing here starts one.

use super::error::SshError;
use super::quote;

const SSH: &str = "ssh";
const LINERATE: &str = "linerate";

/// How to start linerate on the far end over ssh.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Remote start")]
pub struct SshArgs {
    /// The ssh command, with options of your own, such as "ssh -p 2222 -i KEY"; the others here ask for ssh even
    /// where a server runs already.
    #[arg(long, value_name = "COMMAND", default_value = SSH)]
    pub ssh: String,
    /// The program there: a path, ~/ for one in the home folder there, or a name to look for in PATH, ~/.local/bin
    /// and ~/.cargo/bin.
    #[arg(long, value_name = "PATH", default_value = LINERATE, value_parser = word)]
    pub remote_linerate: String,
    /// Ports on which the far end may listen, where a firewall leaves only some open [default: any free one].
    #[arg(long, value_name = "PORT|LOW-HIGH")]
    pub remote_port: Option<PortRange>,
    /// Connect to this address of the far end instead of the one that ssh has reached.
    #[arg(long, value_name = "HOST", value_parser = word, conflicts_with = "through_ssh")]
    pub remote_address: Option<String>,
    /// Carry everything through the ssh connection: it passes where only ssh does, and what it costs is measured, too.
    #[arg(long)]
    pub through_ssh: bool,
    /// First copy this linerate to ~/.local/bin on the far end, unless it is there already.
    #[arg(long, conflicts_with = "remote_linerate")]
    pub install: bool,
}

impl Default for SshArgs {
    fn default() -> Self {
        SshArgs {
            ssh: SSH.to_string(),
            remote_linerate: LINERATE.to_string(),
            remote_port: None,
            remote_address: None,
            through_ssh: false,
            install: false,
        }
    }
}

impl SshArgs {
    /// The words of the ssh command.
    pub(super) fn words(&self) -> Result<Vec<String>, SshError> {
        let why = "a quote is not closed, or nothing follows a backslash";
        shlex::split(&self.ssh).ok_or_else(|| SshError::Command { command: self.ssh.clone(), why })
    }

    /// The program there, for `sh`.
    pub(super) fn program(&self) -> Vec<u8> {
        quote::program(self.remote_linerate.as_ref())
    }

    /// The first option given that means something only where a far end is started; `--ssh` may be a habit.
    pub(in crate::cli) fn of_a_start(&self) -> Option<&'static str> {
        let given = [
            ("--through-ssh", self.through_ssh),
            ("--install", self.install),
            ("--remote-port", self.remote_port.is_some()),
            ("--remote-address", self.remote_address.is_some()),
            ("--remote-linerate", !self.is_default_program()),
        ];
        given.into_iter().find_map(|(option, is_given)| is_given.then_some(option))
    }

    /// Whether the program was left to us.
    pub(super) fn is_default_program(&self) -> bool {
        self.remote_linerate == LINERATE
    }
}

/// A name that no program takes for an option, and no terminal for a command.
fn word(text: &str) -> Result<String, String> {
    match text.is_empty() || text.starts_with('-') || text.contains(char::is_control) {
        true => Err("it must not be empty, begin with - or hold control characters".to_string()),
        false => Ok(text.to_string()),
    }
}

/// Ports from `low` to `high`, neither 0 nor in the wrong order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    pub(super) low: u16,
    pub(super) high: u16,
}

impl PortRange {
    /// The lowest port of it.
    pub fn low(self) -> u16 {
        self.low
    }

    /// The highest port of it.
    pub fn high(self) -> u16 {
        self.high
    }

    /// One of them, by a random number.
    pub(super) fn pick(self, number: u32) -> u16 {
        let ports = u32::from(self.high - self.low) + 1;
        // Below `ports`, so the sum is at most `high`.
        self.low + (number % ports) as u16
    }
}

impl std::str::FromStr for PortRange {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no range of ports: write PORT or LOW-HIGH, from 1 to 65535");
        // `u16` alone would take a sign.
        let port = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        match (port(low), port(high)) {
            (Some(low @ 1..), Some(high)) if low <= high => Ok(PortRange { low, high }),
            _ => Err(wrong()),
        }
    }
}

impl std::fmt::Display for PortRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.low == self.high {
            true => write!(f, "{}", self.low),
            false => write!(f, "{}-{}", self.low, self.high),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Whole {
        #[command(flatten)]
        ssh: SshArgs,
    }

    #[test]
    fn a_range_is_one_port_or_two_in_order() {
        for (text, low, high) in [("1", 1, 1), ("7000-7009", 7000, 7009), ("1-65535", 1, 65535)] {
            let range: PortRange = text.parse().unwrap();
            assert_eq!((range.low(), range.high()), (low, high));
            assert_eq!(range.to_string().parse(), Ok(range));
            assert!([0, 1, 9, u32::MAX].iter().all(|n| (low..=high).contains(&range.pick(*n))));
        }
        for text in ["", "-", "0", "0-9", "9-8", "1-", "-1", "65536", "1-65536", "+1", "1 - 2", "1-2-3", "ssh"] {
            assert!(text.parse::<PortRange>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_options_mean_what_they_say() {
        let parse = |words: &[&str]| Whole::try_parse_from([&["x"], words].concat());
        let default = parse(&[]).unwrap().ssh;
        assert_eq!(format!("{default:?}"), format!("{:?}", SshArgs::default()));
        let args = parse(&["--ssh", "ssh -p 2222 -i 'my key'", "--remote-port", "7000-7009"]).unwrap().ssh;
        assert_eq!(args.words().unwrap(), ["ssh", "-p", "2222", "-i", "my key"]);
        for wrong in [
            ["--remote-port", "0"].as_slice(),
            &["--remote-linerate", ""],
            &["--remote-linerate=-x"],
            &["--remote-address=-x"],
            &["--remote-address", "nas", "--through-ssh"],
            &["--remote-linerate", "linerate", "--install"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
        let unclosed = SshArgs { ssh: "ssh -i 'key".to_string(), ..SshArgs::default() };
        assert!(unclosed.words().unwrap_err().to_string().contains("a quote is not closed"));
    }
}
