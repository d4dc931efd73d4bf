//! Where a run is saved: found to be writable before anything is measured, and never half written.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::store::draft::Draft;

/// The folder of result files that nobody named.
const FOLDER: &str = "results";

/// A result file to be. Until it is written, only a hidden partial file stands beside it.
pub(super) struct ResultFile {
    path: PathBuf,
    /// Goes before the folder does.
    draft: Option<Draft>,
    /// A folder that was made for it, and goes again if nothing is written.
    made_folder: Option<PathBuf>,
}

impl ResultFile {
    /// Make sure that `path` can be written.
    pub(super) fn prepare(path: &Path) -> anyhow::Result<ResultFile> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let why = || format!("{}: cannot be written: name another file with --json PATH", path.display());
        let made_folder = (!folder.exists()).then(|| folder.to_path_buf());
        let is_usable = folder.is_dir() || made_folder.is_some();
        anyhow::ensure!(is_usable, "{}: {} is no folder", why(), folder.display());
        fs::create_dir_all(folder).with_context(why)?;
        anyhow::ensure!(!path.is_dir(), "{}: is a folder: name a file with --json PATH", path.display());
        let draft = Draft::begin(path).with_context(why)?;
        Ok(ResultFile { path: path.to_path_buf(), draft: Some(draft), made_folder })
    }

    /// The default one for a run that begins now, `YYYYMMDDTHHMMSSZ` in its name; never one that exists.
    pub(super) fn default_path() -> PathBuf {
        let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
        let named = |suffix: &str| Path::new(FOLDER).join(format!("bench-{now}{suffix}.json"));
        let process = format!("-{}", std::process::id());
        Some(named("")).filter(|path| !path.exists()).unwrap_or_else(|| named(&process))
    }

    /// Write it whole; says where.
    pub(super) fn write(mut self, text: &str) -> anyhow::Result<PathBuf> {
        let why = || format!("{}: cannot be written", self.path.display());
        if let Some(mut draft) = self.draft.take() {
            draft.write_all(text.as_bytes()).with_context(why)?;
            draft.finish().with_context(why)?;
        }
        Ok(self.path.clone())
    }
}

impl Drop for ResultFile {
    /// Nothing is left behind when there was nothing to write.
    fn drop(&mut self) {
        self.draft = None;
        if let Some(folder) = &self.made_folder {
            // Fails, and shall, when the folder holds something.
            let _ = fs::remove_dir(folder);
        }
    }
}
