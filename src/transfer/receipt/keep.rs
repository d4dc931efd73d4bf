//! Where receipts are kept: the last of them in the user's state folder, and one where the user says.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{Keeper, Receipt};
use crate::store::draft::Draft;
use crate::trust::places::Places;
use crate::trust::{TrustError, private_file};

/// How many are kept.
pub const KEPT_MAX: usize = 100;

/// Why a receipt is not there.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// There is no place for it.
    #[error(transparent)]
    Place(#[from] TrustError),
    /// It cannot be written.
    #[error("{}: the receipt cannot be written: {error}", crate::text::printable(path.as_os_str().as_encoded_bytes()))]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        error: io::Error,
    },
}

/// The text of a receipt: indented, with a line end after the last line.
pub fn to_json(receipt: &Receipt) -> String {
    // Its keys are strings, and its numbers are finite: there is nothing that can fail.
    serde_json::to_string_pretty(receipt).unwrap_or_default() + "\n"
}

/// Keep it among the last ones of this user; where.
pub fn keep(places: &Places, receipt: &Receipt) -> Result<PathBuf, KeepError> {
    let folder = places.receipts()?;
    let path = folder.join(name(receipt));
    private_file::write(&path, to_json(receipt).as_bytes())?;
    forget_oldest(&folder);
    Ok(path)
}

/// Whether a file that the user named can be written: nobody wants to hear that only after hours of copying.
pub fn check(path: &Path) -> Result<(), KeepError> {
    let made = if path.is_dir() { Err(io::ErrorKind::IsADirectory.into()) } else { Draft::begin(path) };
    made.map(drop).map_err(|error| KeepError::Write { path: path.to_path_buf(), error })
}

/// Write it to a file that the user named: never half of it. Whoever may read his files may read it.
pub fn write(path: &Path, receipt: &Receipt) -> Result<(), KeepError> {
    let written = Draft::begin(path).and_then(|mut draft| {
        draft.write_all(to_json(receipt).as_bytes())?;
        draft.file().sync_data()?;
        draft.finish()
    });
    written.map_err(|error| KeepError::Write { path: path.to_path_buf(), error })
}

/// `20231114T221322Z-RUN-client.json`: the time of the end, to sort by, without what file systems dislike.
fn name(receipt: &Receipt) -> String {
    let time: String = receipt.ended_at.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    let keeper = match receipt.written_by {
        Keeper::Client => "client",
        Keeper::Server => "server",
    };
    format!("{time}-{}-{keeper}.json", receipt.run)
}

/// More than are kept: the oldest go. Others may be doing the same.
fn forget_oldest(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let paths = entries.flatten().map(|entry| entry.path());
    let mut kept: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|kind| kind == "json")).collect();
    kept.sort();
    for path in kept.iter().take(kept.len().saturating_sub(KEPT_MAX)) {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::copy::options::CopyOptions;
    use crate::transfer::receipt::sample::{account, report, tally};

    fn receipt(seconds: f64) -> Receipt {
        let (tally, options) = (tally(), CopyOptions::default());
        let near = report("here", &[], &tally);
        super::super::Account { seconds, ..account(&tally, &near, None, &options) }.receipt()
    }

    #[test]
    fn the_last_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::below(dir.path());
        let kept: Vec<PathBuf> = (0..KEPT_MAX + 3).map(|n| keep(&places, &receipt(n as f64)).unwrap()).collect();
        assert!(kept[1].ends_with("20231114T221321000Z-abababababababababababababababab-client.json"));
        assert!(kept.iter().take(3).all(|path| !path.exists()) && kept.iter().skip(3).all(|path| path.exists()));
        let read: Receipt = serde_json::from_slice(&fs::read(&kept[5]).unwrap()).unwrap();
        assert_eq!(read, receipt(5.0));
    }

    #[test]
    fn a_named_file_is_written_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("receipt.json");
        for seconds in [1.0, 2.0] {
            write(&path, &receipt(seconds)).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), to_json(&receipt(seconds)));
        }
        let message = write(&dir.path().join("no/such"), &receipt(1.0)).unwrap_err().to_string();
        assert!(message.contains("no/such: the receipt cannot be written: No such file"), "{message}");
        fs::create_dir(dir.path().join("folder")).unwrap();
        write(&dir.path().join("folder"), &receipt(1.0)).unwrap_err();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left beside them");
    }
}
