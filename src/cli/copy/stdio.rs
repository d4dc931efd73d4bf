//! Standard input and output as one end of a copy.
//!
//! A copy has to know the length of a file and to read parts of it again, which a pipe does not give: what comes from
//! standard input is put into a temporary file first, and what goes to standard output is there as a whole, and
//! proven, before the first byte is written.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::interrupt::Interrupts;
use crate::proto::copy::options::{CopyOptions, Durability, Existing, Purpose};

/// What standard input is called where it comes into a folder.
pub(super) const NAME: &str = "stdin";

/// A folder in $TMPDIR that is removed with its content, also where a signal ends the process.
pub(super) struct Temporary<'a> {
    path: PathBuf,
    interrupts: &'a Interrupts,
}

impl<'a> Temporary<'a> {
    /// A new one that nobody else can look into.
    pub(super) fn new(interrupts: &'a Interrupts) -> anyhow::Result<Temporary<'a>> {
        let path = unused(&std::env::temp_dir())?;
        std::fs::DirBuilder::new().mode(0o700).create(&path).with_context(|| {
            format!("{}: a temporary folder cannot be made: name another in TMPDIR", path.display())
        })?;
        interrupts.set_temporary(Some(&path));
        Ok(Temporary { path, interrupts })
    }

    /// It.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
        self.interrupts.set_temporary(None);
    }
}

/// A name in a folder that nothing has.
fn unused(folder: &Path) -> anyhow::Result<PathBuf> {
    let number = getrandom::u64().map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    Ok(folder.join(format!(".linerate-{number:016x}")))
}

/// Standard input as a file in $TMPDIR that has no name: however the process ends, nothing is left of it.
pub(super) fn spool() -> anyhow::Result<File> {
    let folder = std::env::temp_dir();
    let why = || format!("{}: standard input cannot be kept there: name another folder in TMPDIR", folder.display());
    let mut file = tempfile::tempfile_in(&folder).with_context(why)?;
    copy(&mut io::stdin().lock(), &mut file).with_context(why)?;
    Ok(file)
}

/// A file as standard output. A reader that goes away early is a failure here: it did not get all.
pub(super) fn pour(path: &Path) -> anyhow::Result<()> {
    let mut file = File::open(path).map_err(|error| not_there(path, error))?;
    if file.metadata().is_ok_and(|found| found.is_dir()) {
        return Err(crate::cli::exit::Misuse(only_a_file(&path.to_string_lossy())).into());
    }
    let mut out = io::stdout().lock();
    copy(&mut file, &mut out).context("standard output")?;
    out.flush().context("standard output")
}

/// Why something cannot go to standard output.
pub(super) fn only_a_file(name: &str) -> String {
    format!("{name}: is no file: only one file can go to standard output")
}

fn not_there(path: &Path, error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::NotFound => anyhow::anyhow!("{}: no such file or folder", path.display()),
        _ => anyhow::anyhow!("{}: {error}", path.display()),
    }
}

/// Standard input as a file here, which has its name once it is whole. Whether it was written.
pub(super) fn save(to: &Path, options: &CopyOptions) -> anyhow::Result<bool> {
    let durability = options.durability;
    let to = if to.is_dir() { to.join(NAME) } else { to.to_path_buf() };
    let is_there = to.symlink_metadata().is_ok();
    match options.existing {
        Existing::Fail if is_there => anyhow::bail!("{}: exists already", to.display()),
        Existing::Skip if is_there => return Ok(false),
        // Nobody writes into it what is only tried.
        _ if options.purpose != Purpose::Copy => return Ok(false),
        _ => {}
    }
    let folder = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = unused(folder)?;
    let mut file = File::create_new(&temporary).map_err(|error| not_there(&to, error))?;
    let written = copy(&mut io::stdin().lock(), &mut file)
        .and_then(|()| if durability == Durability::None { Ok(()) } else { file.sync_all() })
        .and_then(|()| std::fs::rename(&temporary, &to))
        .and_then(|()| if durability == Durability::Full { File::open(folder)?.sync_all() } else { Ok(()) });
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written.with_context(|| to.as_os_str().as_bytes().escape_ascii().to_string())?;
    Ok(true)
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    io::copy(from, to).map(|_| ())
}
