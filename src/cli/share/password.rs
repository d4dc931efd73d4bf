//! Where the password of a share comes from: a file, the environment, the person. Never the command line.

use std::io::{IsTerminal, Read};
use std::path::Path;

use anyhow::Context;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use zeroize::Zeroizing;

use super::args::TrustArgs;
use crate::cli::exit::{Interrupted, Misuse};

/// The variable that may hold it.
pub(super) const VARIABLE: &str = "LINERATE_SHARE_PASSWORD";
/// Longest password; a form takes no longer one either.
const BYTES_MAX: u64 = 1024;

/// The password that is wanted, if one is.
pub(super) fn wanted(args: &TrustArgs) -> anyhow::Result<Option<Zeroizing<String>>> {
    if let Some(path) = &args.password_file {
        return read(path).map(Some);
    }
    if !args.password {
        return Ok(None);
    }
    if let Some(password) = of_environment()? {
        return Ok(Some(password));
    }
    let first = ask("password for visitors (it is not shown): ")?;
    let again = ask("the same again: ")?;
    match first == again {
        true => checked(first, "--password").map(Some),
        false => Err(Misuse("--password: the two are not the same: type it again".to_string()).into()),
    }
}

/// The password for a share of somebody else.
pub(in crate::cli) fn of_visitor(host: &str) -> anyhow::Result<Zeroizing<String>> {
    match of_environment()? {
        Some(password) => Ok(password),
        None if !std::io::stdin().is_terminal() => {
            let why = format!(
                "the share at {host} wants a password and there is no terminal to ask at: put it into {VARIABLE}"
            );
            Err(Misuse(why).into())
        }
        None => ask(&format!("password of the share at {host} (it is not shown): ")),
    }
}

fn of_environment() -> anyhow::Result<Option<Zeroizing<String>>> {
    match std::env::var(VARIABLE) {
        Ok(text) => checked(Zeroizing::new(text), VARIABLE).map(Some),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(_) => Err(Misuse(format!("{VARIABLE}: is no text")).into()),
    }
}

fn read(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let shown = format!("--password-file {}", path.display());
    let file = std::fs::File::open(path).with_context(|| shown.clone())?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(BYTES_MAX + 2).read_to_end(&mut bytes).with_context(|| shown.clone())?;
    // Only the first line has to be text that is not cut.
    let line = match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) => bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]),
        None => &bytes[..],
    };
    if line.len() as u64 > BYTES_MAX {
        return Err(too_long(&shown).into());
    }
    let line = std::str::from_utf8(line).map_err(|_| Misuse(format!("{shown}: its first line is no text in UTF-8")))?;
    checked(Zeroizing::new(line.to_string()), &shown)
}

fn too_long(from: &str) -> Misuse {
    Misuse(format!("{from}: is longer than {BYTES_MAX} bytes: write a shorter one"))
}

fn checked(password: Zeroizing<String>, from: &str) -> anyhow::Result<Zeroizing<String>> {
    match password.len() as u64 {
        0 => Err(Misuse(format!("{from}: an empty password lets everybody in: write one, or leave it out")).into()),
        len if len > BYTES_MAX => Err(too_long(from).into()),
        _ => Ok(password),
    }
}

fn ask(question: &str) -> anyhow::Result<Zeroizing<String>> {
    if !std::io::stdin().is_terminal() {
        let why = format!("--password: there is no terminal to ask at: use --password-file or {VARIABLE}");
        return Err(Misuse(why).into());
    }
    // Ctrl-C is delivered once the terminal is as it was: whoever dies at once leaves it without an echo.
    let mut interrupt = SigSet::empty();
    interrupt.add(Signal::SIGINT);
    let before = interrupt.thread_swap_mask(SigmaskHow::SIG_BLOCK).context("signals")?;
    let answer = rpassword::prompt_password(question);
    before.thread_set_mask().context("signals")?;
    match answer {
        Ok(password) => Ok(Zeroizing::new(password)),
        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Err(Interrupted.into()),
        Err(error) => Err(anyhow::Error::from(error).context("the password cannot be read from the terminal")),
    }
}

#[cfg(test)]
mod tests {

    #[test]
    fn a_file_holds_it_in_its_first_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        let read = |content: &str| {
            std::fs::write(&path, content).unwrap();
            super::read(&path).map(|password| password.to_string()).map_err(|error| error.to_string())
        };
        assert_eq!(read("open sesame\n"), Ok("open sesame".to_string()));
        assert_eq!(read("a\r\nb"), Ok("a".to_string()));
        // A letter of a later line is cut where no more is read, and one of a line that is too long.
        assert_eq!(read(&format!("a\n{}", "x\u{e4}".repeat(2000))), Ok("a".to_string()));
        for long in ["x".repeat(2000), "\u{20ac}".repeat(2000)] {
            assert!(read(&long).unwrap_err().ends_with("is longer than 1024 bytes: write a shorter one"));
        }
        for bad in ["", "\n"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
