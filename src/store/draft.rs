//! A file that a person named: beside it until it is whole, and then in its place. Never half of it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// Most names that are tried where others are taken, by what a killed process left or by somebody else.
const NAMES_MAX: u32 = 16;

/// What is to become a file. It goes with a drop.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    partial: PathBuf,
    file: File,
    is_done: bool,
}

impl Draft {
    /// Make sure that `path` can be written. Whoever may read the user's files may read it.
    pub fn begin(path: &Path) -> io::Result<Draft> {
        let mut taken = io::Error::from(io::ErrorKind::AlreadyExists);
        for number in 0..NAMES_MAX {
            let partial = beside(path, number);
            // A name that can be guessed: what lies there, be it a link, is not written to.
            match OpenOptions::new().read(true).write(true).create_new(true).open(&partial) {
                Ok(file) => return Ok(Draft { path: path.to_path_buf(), partial, file, is_done: false }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => taken = error,
                Err(error) => return Err(error),
            }
        }
        Err(taken)
    }

    /// What is written so far, open for reading and writing.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// It is whole: it gets its name, in the place of what has that.
    pub fn finish(mut self) -> io::Result<()> {
        fs::rename(&self.partial, &self.path)?;
        self.is_done = true;
        Ok(())
    }
}

impl io::Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_done {
            // It may be gone; nobody needs it.
            let _ = fs::remove_file(&self.partial);
        }
    }
}

/// `.NAME.PID.partial`
fn beside(path: &Path, number: u32) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    let number = if number == 0 { String::new() } else { format!("-{number}") };
    name.push(format!(".{}{number}.partial", std::process::id()));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn it_takes_its_name_when_it_is_whole_and_writes_through_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("sums"), dir.path().join("other"));
        fs::write(&path, "old").unwrap();
        fs::write(&other, "mine").unwrap();
        std::os::unix::fs::symlink(&other, beside(&path, 0)).unwrap();
        let mut draft = Draft::begin(&path).unwrap();
        draft.write_all(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        draft.finish().unwrap();
        assert_eq!((fs::read(&path).unwrap(), fs::read(&other).unwrap()), (b"new".to_vec(), b"mine".to_vec()));
        drop(Draft::begin(&path).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "nothing else is left");
        assert!(Draft::begin(&dir.path().join("no/such")).is_err());
    }
}
