//! `--install`: this very program into `~/.local/bin` of the far end, in one conversation over one ssh.
//!
//! The far end says what it is and waits; we say no by hanging up, or send the program, which gets its name only once
//! it is whole and has run there. Nothing here starts it for good.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use super::client::{Client, Heard};
use super::error::{self, SshError};
use super::target::Target;
use super::{NOISE_MAX, START_MAX, SshArgs, hold_interrupts};
use crate::cli::out;
use crate::sys::c_library;
use crate::sys::signals::Interrupts;
use crate::text::printable_limit;

/// Where it is put. The script below says the same.
pub(super) const PATH_THERE: &str = "~/.local/bin/linerate";
/// The longest that copying takes: 20 MB over 0.3 Mbit/s.
const COPY_MAX: Duration = Duration::from_secs(600);
/// What our lines begin with, among what a shell's start files print.
const MARK: &str = "linerate-far ";
/// Characters of what the far end says of itself.
const FACT_CHARS_MAX: usize = 80;
/// Hexadecimal digits of a SHA-256.
const SUM_DIGITS: usize = 64;

/// What `sh` does on the far end. Without newlines, which csh would not pass on.
const SCRIPT: &str = concat!(
    r#"say() { printf 'linerate-far %s\n' "$*"; }; fail() { printf '%s\n' "$*" >&2; exit 1; }; "#,
    r#"d="$HOME/.local/bin"; t="$d/.linerate.$$"; "#,
    r#"say system "$(uname -s -m)"; "#,
    r#"say libc "$(getconf GNU_LIBC_VERSION 2>/dev/null || ldd --version 2>&1 | head -n 1)"; "#,
    r#"say sum "$({ sha256sum < "$d/linerate"; } 2>/dev/null)"; "#,
    r#"say end; "#,
    r#"read -r bytes sum || exit 0; "#,
    r#"trap 'rm -f "$t"' EXIT; trap 'exit 1' HUP INT TERM; "#,
    r#"mkdir -p "$d" || exit 1; [ ! -d "$d/linerate" ] || fail "$d/linerate is a folder"; "#,
    r#"cat > "$t" || exit 1; "#,
    r#"[ "$(wc -c < "$t")" -eq "$bytes" ] || fail "it did not come whole"; "#,
    r#"if [ -n "$sum" ] && command -v sha256sum >/dev/null; then "#,
    r#"case "$(sha256sum < "$t")" in "$sum"*) ;; *) fail "it came damaged: its SHA-256 differs";; esac; fi; "#,
    r#"chmod 755 "$t" || exit 1; v=$("$t" --version </dev/null) || fail "it does not run there"; "#,
    r#"mv -f "$t" "$d/linerate" || exit 1; say done "$v""#,
);

/// Copy `program` to `~/.local/bin/linerate` on the far end, unless it is that already; says so in one line.
pub fn install(args: &SshArgs, target: &Target, program: &Path) -> Result<(), SshError> {
    let parcel = Parcel::open(program).map_err(|error| SshError::System { what: "this program's own file", error })?;
    let interrupts = hold_interrupts()?;
    let options = ["-o", "ClearAllForwardings=yes"].map(str::to_string);
    let mut talk = Talk { client: Client::start(args, &options, target, SCRIPT.as_bytes())?, target, interrupts };
    let Some(facts) = talk.facts()? else { return Err(talk.client.finish().into_error(target)) };
    Needs::ours().met_by(&facts).map_err(|why| SshError::Unsuitable { target: target.clone(), why })?;
    if parcel.sum.is_some() && facts.sum == parcel.sum {
        out::say(&format!("{target}: this linerate is in {PATH_THERE} already"));
        return Ok(());
    }
    let bytes = parcel.bytes;
    let version = talk.send(parcel)?;
    out::say(&format!("{target}: {version} is installed as {PATH_THERE} ({:.1} MB)", bytes as f64 / 1e6));
    Ok(())
}

/// Ask the person, if there is one, whether to install.
pub(super) fn is_wanted(target: &Target) -> bool {
    let version = env!("CARGO_PKG_VERSION");
    io::stdin().is_terminal()
        && io::stderr().is_terminal()
        && out::ask(&format!("{target} has no linerate: install this one ({version}) as {target}:{PATH_THERE}?"))
}

/// What is sent.
struct Parcel {
    file: File,
    bytes: u64,
    /// Its SHA-256, where there is a program that knows how.
    sum: Option<String>,
}

impl Parcel {
    fn open(program: &Path) -> io::Result<Parcel> {
        let file = File::open(program)?;
        let said = Command::new("sha256sum").stdin(File::open(program)?).stderr(Stdio::null()).output();
        let sum = said.ok().and_then(|said| sum_in(&String::from_utf8_lossy(&said.stdout)));
        Ok(Parcel { bytes: file.metadata()?.len(), file, sum })
    }

    fn write_to(mut self, mut stdin: ChildStdin) -> io::Result<()> {
        writeln!(stdin, "{} {}", self.bytes, self.sum.unwrap_or_default())?;
        io::copy(&mut self.file, &mut stdin).map(drop)
        // `stdin` is closed here: with that the far end has it all.
    }
}

/// The SHA-256 in what `sha256sum` prints.
fn sum_in(text: &str) -> Option<String> {
    let word = text.split_whitespace().next()?;
    (word.len() == SUM_DIGITS && word.bytes().all(|b| b.is_ascii_hexdigit())).then(|| word.to_string())
}

/// The conversation.
struct Talk<'a> {
    client: Client,
    target: &'a Target,
    interrupts: Interrupts,
}

impl Talk<'_> {
    /// What the far end says of itself; `None` when it ended instead.
    fn facts(&mut self) -> Result<Option<Facts>, SshError> {
        let until = Instant::now() + START_MAX;
        let mut facts = Facts::default();
        while let Some(line) = self.line(until)? {
            match line.split_once(' ').unwrap_or((&line, "")) {
                ("system", text) => facts.system = text.to_string(),
                ("libc", text) => facts.libc = text.to_string(),
                ("sum", text) => facts.sum = sum_in(text),
                ("end", _) => return Ok(Some(facts)),
                _ => {}
            }
        }
        Ok(None)
    }

    /// Send it, and say which version the far end has now.
    fn send(mut self, parcel: Parcel) -> Result<String, SshError> {
        let stdin = self.client.take_stdin();
        let until = Instant::now() + COPY_MAX;
        // A thread, as the far end may stop reading. When it ends, or ssh does, so does the thread.
        let sender = std::thread::Builder::new().name("ssh-stdin".to_string());
        let sending = sender.spawn(move || stdin.map(|stdin| parcel.write_to(stdin)));
        sending.map(drop).map_err(|error| SshError::System { what: "a thread", error })?;
        while let Some(line) = self.line(until)? {
            if let Some(version) = line.strip_prefix("done ") {
                return Ok(version.to_string());
            }
        }
        let ending = self.client.finish();
        Err(SshError::NotInstalled { target: self.target.clone(), words: ending.words() })
    }

    /// The next line of ours, made safe; `None` at the end.
    fn line(&mut self, until: Instant) -> Result<Option<String>, SshError> {
        let mut noise = 0;
        while noise <= NOISE_MAX {
            match self.client.hear(until, &self.interrupts) {
                Heard::Line(line) => {
                    let ours = line.strip_prefix(MARK.as_bytes()).map(<[u8]>::trim_ascii);
                    if let Some(ours) = ours {
                        return Ok(Some(printable_limit(ours, MARK.len() + FACT_CHARS_MAX)));
                    }
                    noise += line.len();
                }
                Heard::End => return Ok(None),
                Heard::Interrupted => return Err(SshError::Interrupted),
                Heard::Late => {
                    let words = format!("it took too long: {}", error::words(&self.client.words().last()));
                    return Err(SshError::NotInstalled { target: self.target.clone(), words });
                }
            }
        }
        Err(SshError::Noise { target: self.target.clone(), kib: NOISE_MAX >> 10 })
    }
}

/// What the far end says of itself.
#[derive(Debug, Default)]
struct Facts {
    /// `uname -s -m`.
    system: String,
    /// `glibc 2.36`, or the first line of `ldd --version`.
    libc: String,
    /// The SHA-256 of the linerate that is there.
    sum: Option<String>,
}

/// What a program needs of the machine that it runs on.
struct Needs {
    arch: &'static str,
    glibc: Option<String>,
}

impl Needs {
    fn ours() -> Needs {
        Needs { arch: std::env::consts::ARCH, glibc: c_library::glibc_version() }
    }

    /// Why not, if not. What cannot be told is left to trying: it is run there before it gets its name.
    fn met_by(&self, facts: &Facts) -> Result<(), String> {
        let (system, machine) = facts.system.split_once(' ').unwrap_or((&facts.system, ""));
        if system != "Linux" {
            return Err(format!("that machine runs {system:?}, and it needs Linux"));
        }
        if !is_same_arch(self.arch, machine) {
            return Err(format!("that machine is {machine}, and it is built for {}", self.arch));
        }
        let Some(ours) = &self.glibc else { return Ok(()) };
        if facts.libc.contains("musl") {
            return Err(format!("that machine has musl, and it needs glibc {ours} or newer"));
        }
        let theirs = facts.libc.split_whitespace().next_back().unwrap_or_default();
        match (version(ours), version(theirs)) {
            (Some(our), Some(their)) if their < our => {
                Err(format!("that machine has glibc {theirs}, and it needs {ours} or newer"))
            }
            _ => Ok(()),
        }
    }
}

/// Whether `uname -m` says `machine` where Rust says `arch`.
fn is_same_arch(arch: &str, machine: &str) -> bool {
    match arch {
        "x86" => matches!(machine, "i386" | "i486" | "i586" | "i686" | "x86"),
        "arm" => machine.starts_with("arm"),
        "powerpc64" => matches!(machine, "ppc64" | "ppc64le"),
        _ => arch == machine,
    }
}

/// The first two numbers of a version.
fn version(text: &str) -> Option<(u32, u32)> {
    let (major, rest) = text.split_once('.')?;
    let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_named_with_both_sides() {
        let glibc = Needs { arch: "x86_64", glibc: Some("2.36".to_string()) };
        let alone = Needs { arch: "aarch64", glibc: None };
        let table = [
            (&glibc, "Linux x86_64", "glibc 2.36", ""),
            (&glibc, "Linux x86_64", "ldd (Debian GLIBC 2.41-12) 2.41", ""),
            (&glibc, "Linux x86_64", "", ""),
            (&glibc, "Linux x86_64", "glibc 2.4", "has glibc 2.4, and it needs 2.36"),
            (&glibc, "Linux x86_64", "glibc 2.31.9", "has glibc 2.31.9, and it needs 2.36"),
            (&glibc, "Linux x86_64", "musl libc (x86_64)", "has musl, and it needs glibc 2.36"),
            (&glibc, "Linux aarch64", "glibc 2.36", "is aarch64, and it is built for x86_64"),
            (&glibc, "Darwin x86_64", "", "runs \"Darwin\""),
            (&glibc, "", "", "runs \"\""),
            (&alone, "Linux aarch64", "musl libc (aarch64)", ""),
            (&alone, "Linux aarch64", "glibc 2.17", ""),
        ];
        for (needs, system, libc, expected) in table {
            let facts = Facts { system: system.to_string(), libc: libc.to_string(), sum: None };
            let why = needs.met_by(&facts).err().unwrap_or_default();
            assert_eq!(why.is_empty(), expected.is_empty(), "{system} {libc}: {why}");
            assert!(why.contains(expected), "{system} {libc}: {why}");
        }
        assert!(is_same_arch("x86", "i686") && is_same_arch("arm", "armv7l") && !is_same_arch("arm", "aarch64"));
    }

    #[test]
    fn the_script_and_the_code_agree() {
        assert!(SCRIPT.contains("$HOME/.local/bin") && PATH_THERE == "~/.local/bin/linerate");
        assert!(SCRIPT.contains(MARK) && !SCRIPT.contains('\n'));
    }

    #[test]
    fn only_a_whole_sum_is_one() {
        let sum = "0123456789abcdef".repeat(4);
        assert_eq!(sum_in(&format!("{sum}  -\n")), Some(sum.clone()));
        for text in ["", "  -", &sum[1..], &format!("{sum}0")] {
            assert_eq!(sum_in(text), None, "{text:?}");
        }
    }
}
