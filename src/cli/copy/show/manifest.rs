//! `--manifest FILE`: the lines of b3sum for all files of a copy, in a temporary beside it until they are complete.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::proto::b3sums::{self, Sum};
use crate::proto::verify::FileHash;
use crate::store::draft::Draft;

/// A manifest to be. Its temporary goes with a drop.
#[derive(Debug)]
pub(super) struct Manifest {
    path: PathBuf,
    out: BufWriter<Draft>,
    /// Paths begin below the one source's name.
    strips_top: bool,
    /// What went wrong first; told at the end.
    error: Option<io::Error>,
}

impl Manifest {
    /// Make sure that it can be written.
    pub(super) fn begin(path: &Path, strips_top: bool) -> anyhow::Result<Manifest> {
        let why = || format!("{}: cannot be written: name another file with --manifest FILE", path.display());
        anyhow::ensure!(!path.is_dir() && path.file_name().is_some(), why());
        let out = BufWriter::new(Draft::begin(path).with_context(why)?);
        Ok(Manifest { path: path.to_path_buf(), out, strips_top, error: None })
    }

    /// A file is proven.
    pub(super) fn add(&mut self, path: &[u8], hash: FileHash) {
        let line = b3sums::line(&Sum { hash, path: below_top(path, self.strips_top).to_vec() });
        if self.error.is_none() {
            self.error = self.out.write_all(line.as_bytes()).err();
        }
    }

    /// Several sessions may have settled a file more than once: the last line of each stays. Which there are.
    pub(super) fn settle(&mut self) -> anyhow::Result<BTreeMap<Vec<u8>, FileHash>> {
        let why = || format!("{}: cannot be written", self.path.display());
        self.out.flush().with_context(why)?;
        let mut text = Vec::new();
        let file = self.out.get_mut().file();
        file.rewind().and_then(|()| file.read_to_end(&mut text)).with_context(why)?;
        let last: BTreeMap<Vec<u8>, FileHash> =
            b3sums::parse(&text).flatten().map(|sum| (sum.path, sum.hash)).collect();
        file.set_len(0).and_then(|()| file.rewind()).with_context(why)?;
        for (path, hash) in &last {
            let line = b3sums::line(&Sum { hash: *hash, path: path.clone() });
            self.out.write_all(line.as_bytes()).with_context(why)?;
        }
        Ok(last)
    }

    /// What it is called in the manifest.
    pub(super) fn name_of<'a>(&self, path: &'a [u8]) -> &'a [u8] {
        below_top(path, self.strips_top)
    }

    /// It is complete.
    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        let why = || format!("{}: cannot be written", self.path.display());
        if let Some(error) = self.error.take() {
            return Err(error).with_context(why);
        }
        let draft = self.out.into_inner().map_err(io::IntoInnerError::into_error).with_context(why)?;
        draft.finish().with_context(why)
    }
}

/// The path within the one source; that of a file which is the source is its name.
fn below_top(path: &[u8], strips_top: bool) -> &[u8] {
    let slash = path.iter().position(|byte| *byte == b'/').filter(|_| strips_top);
    slash.map_or(path, |slash| &path[slash + 1..])
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::proto::verify::hash_whole;

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn it_is_there_when_it_is_complete_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sums");
        let (one, other) = (hash_whole(b"one"), hash_whole(b"other"));
        let mut manifest = Manifest::begin(&path, true).unwrap();
        for (name, hash) in [("tree/b", one), ("tree/a/x", one), ("tree/b", other)] {
            manifest.add(name.as_bytes(), hash);
        }
        assert!(!path.exists());
        let settled = manifest.settle().unwrap();
        assert_eq!(settled.get(manifest.name_of(b"tree/b")), Some(&other));
        manifest.add(b"file", one);
        manifest.finish().unwrap();
        assert_eq!(text(&path), format!("{one}  a/x\n{other}  b\n{one}  file\n"));
        drop(Manifest::begin(&path, false).unwrap());
        let mut manifest = Manifest::begin(&path, false).unwrap();
        manifest.add(b"tree/b", one);
        manifest.finish().unwrap();
        assert_eq!(text(&path), format!("{one}  tree/b\n"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn what_cannot_be_written_is_told_at_once() {
        let dir = tempfile::tempdir().unwrap();
        for bad in [dir.path().to_path_buf(), dir.path().join("no/such")] {
            let message = Manifest::begin(&bad, true).unwrap_err().to_string();
            assert!(message.contains("name another file with --manifest"), "{message}");
        }
    }
}
