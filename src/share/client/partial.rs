//! A file that is not whole yet: hidden, beside what it will be, and named by what it will be and which version of it.
//!
//! The entity tag stands in the name, so that a later run can ask for the rest of just that version.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::ClientError;
use crate::share::tree::PARTIAL_PREFIX;
use crate::store::StoreError;
use crate::store::confined::{Links, Metadata, NAME_BYTES_MAX, RelativePath, Root};

/// Permission bits of a file, as far as the umask allows them.
const MODE: u32 = 0o666;
/// Pieces in which what is there is read again.
const REREAD_BYTES: usize = 1 << 20;
/// Hex digits of a name's hash.
const HASH_DIGITS: usize = 16;

/// A partial file, open, with the hash of what it holds.
pub(super) struct Partial {
    path: RelativePath,
    file: File,
    hasher: blake3::Hasher,
    /// Bytes that it holds.
    pub(super) len: u64,
    /// The version that it is of; without one it is of no use later.
    pub(super) tag: Option<String>,
}

/// What all partials of a file are named with.
fn prefix(path: &RelativePath) -> String {
    let name = path.names().last().unwrap_or_default();
    let hash = blake3::hash(name).to_hex();
    format!("{PARTIAL_PREFIX}get-{}-", &hash[..HASH_DIGITS])
}

/// A tag that can be asked for: strong, and short enough for a name.
fn usable(tag: Option<&str>) -> Option<String> {
    let tag = tag.filter(|tag| tag.starts_with('"') && tag.ends_with('"') && tag.len() > 2 && tag.is_ascii())?;
    (tag.len() * 4 / 3 + 60 < NAME_BYTES_MAX).then(|| tag.to_string())
}

impl Partial {
    /// What is there of a file from before, if anything is.
    pub(super) fn find(root: &Root, path: &RelativePath) -> Result<Option<Partial>, ClientError> {
        let prefix = prefix(path);
        let folder = path.parent().unwrap_or_else(RelativePath::root);
        let mut found = None;
        let mut entries = root.read_dir(&folder, Links::Refused)?;
        while let Some(entry) = entries.next_listed() {
            let entry = entry?;
            let Some(tag) = entry.name().strip_prefix(prefix.as_bytes()) else { continue };
            let partial = path.beside(entry.name())?;
            let tag = URL_SAFE_NO_PAD.decode(tag).ok().and_then(|tag| String::from_utf8(tag).ok());
            match usable(tag.as_deref()) {
                Some(tag) if found.is_none() => found = Some((partial, tag)),
                // Of another version, or of one that nobody can name.
                _ => root.remove_file(&partial)?,
            }
        }
        let Some((partial, tag)) = found else { return Ok(None) };
        let file = root.open_own(&partial)?;
        let mut partial = Partial { path: partial, file, hasher: blake3::Hasher::new(), len: 0, tag: Some(tag) };
        partial.reread().map_err(ClientError::System)?;
        Ok(Some(partial))
    }

    /// A new one.
    pub(super) fn create(root: &Root, path: &RelativePath, tag: Option<&str>) -> Result<Partial, ClientError> {
        let tag = usable(tag);
        let encoded = URL_SAFE_NO_PAD.encode(tag.as_deref().unwrap_or_default());
        let partial = path.beside(format!("{}{encoded}", prefix(path)).as_bytes())?;
        let exists = |error: &StoreError| matches!(error, StoreError::System { error, .. } if error.kind() == io::ErrorKind::AlreadyExists);
        let file = match root.create_with_mode(&partial, MODE) {
            Err(error) if exists(&error) => {
                root.remove_file(&partial)?;
                root.create_with_mode(&partial, MODE)?
            }
            made => made?,
        };
        Ok(Partial { path: partial, file, hasher: blake3::Hasher::new(), len: 0, tag })
    }

    /// Add what has come.
    pub(super) fn add(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        self.file.write_all_at(bytes, self.len).map_err(ClientError::Disk)?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// The hash of all of it.
    pub(super) fn hash(&self) -> blake3::Hash {
        self.hasher.finalize()
    }

    /// It is whole: give it its time and its name, in the place of what has that.
    pub(super) fn finish(self, root: &Root, path: &RelativePath, modified_s: Option<i64>) -> Result<(), ClientError> {
        if let Some(modified) = modified_s.and_then(time) {
            self.file.set_modified(modified).map_err(ClientError::Disk)?;
        }
        Ok(root.rename_replace(&self.path, path)?)
    }

    /// It is of no use.
    pub(super) fn remove(self, root: &Root) -> Result<(), ClientError> {
        Ok(root.remove_file(&self.path)?)
    }

    fn reread(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; REREAD_BYTES];
        loop {
            match self.file.read(&mut buffer)? {
                0 => return Ok(()),
                n => {
                    self.hasher.update(&buffer[..n]);
                    self.len += n as u64;
                }
            }
        }
    }
}

/// A moment for a file's time; nothing for one that the system has no number for.
fn time(unix_s: i64) -> Option<std::time::SystemTime> {
    let span = std::time::Duration::from_secs(unix_s.unsigned_abs());
    let epoch = std::time::SystemTime::UNIX_EPOCH;
    if unix_s < 0 { epoch.checked_sub(span) } else { epoch.checked_add(span) }
}

/// Whether a file is there that is as long and as old as that.
pub(super) fn is_had(root: &Root, path: &RelativePath, bytes: u64, modified_s: i64) -> bool {
    use crate::store::confined::Kind;
    let is_same = |found: Metadata| found.kind == Kind::File && found.len == bytes && found.modified_s == modified_s;
    root.metadata(path).is_ok_and(is_same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_is_found_again_with_its_version_and_its_hash() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let path = RelativePath::parse(b"big file").unwrap();
        assert!(Partial::find(&root, &path).unwrap().is_none());
        let mut partial = Partial::create(&root, &path, Some("\"1-2\"")).unwrap();
        partial.add(b"hel").unwrap();
        drop(partial);
        let mut partial = Partial::find(&root, &path).unwrap().unwrap();
        assert_eq!((partial.len, partial.tag.as_deref()), (3, Some("\"1-2\"")));
        partial.add(b"lo").unwrap();
        assert_eq!(partial.hash(), blake3::hash(b"hello"));
        partial.finish(&root, &path, Some(1_000_000_000)).unwrap();
        assert_eq!(std::fs::read(dir.path().join("big file")).unwrap(), b"hello");
        assert!(is_had(&root, &path, 5, 1_000_000_000) && !is_had(&root, &path, 5, 1));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_no_version_is_known_of_is_not_gone_on_with() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let path = RelativePath::parse(b"a").unwrap();
        for tag in [None, Some("W/\"1\""), Some("\""), Some("\"\""), Some(&*format!("\"{}\"", "x".repeat(300)))] {
            Partial::create(&root, &path, tag).unwrap().add(b"x").unwrap();
            assert!(Partial::find(&root, &path).unwrap().is_none(), "{tag:?}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join(prefix(&path) + &URL_SAFE_NO_PAD.encode("\"1\"")))
            .unwrap();
        assert!(Partial::find(&root, &path).is_err());
    }
}
