//! A result file of a bench: found to be writable before anything is measured, and never half written.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

/// Beside those of the program itself.
const FOLDER: &str = "results";

/// A result file to be. Until it is written, only a hidden partial file stands beside it.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    partial: PathBuf,
}

impl Record {
    /// `results/NAME-<UTC time>.json`.
    pub fn prepare(name: &str) -> anyhow::Result<Record> {
        Record::named(&format!("{name}-{}.json", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ")))
    }

    /// `results/FILE`, in place of one that is there.
    pub fn named(file: &str) -> anyhow::Result<Record> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER);
        let record =
            Record { path: folder.join(file), partial: folder.join(format!(".{file}.{}.partial", std::process::id())) };
        fs::create_dir_all(&folder).and_then(|()| File::create(&record.partial)).with_context(|| record.name())?;
        Ok(record)
    }

    /// Write all of it; says where.
    pub fn write(self, document: &impl Serialize) -> anyhow::Result<PathBuf> {
        let mut text = serde_json::to_string_pretty(document)?;
        text.push('\n');
        fs::write(&self.partial, text).with_context(|| self.name())?;
        fs::rename(&self.partial, &self.path).with_context(|| self.name())?;
        Ok(self.path.clone())
    }

    fn name(&self) -> String {
        format!("{}: cannot be written", self.path.display())
    }
}

impl Drop for Record {
    /// Nothing is left behind when there was nothing to write. After a rename there is nothing to remove.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.partial);
    }
}
