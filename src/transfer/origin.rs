//! Which files a typed source means, and what they are called in the copy.
//!
//! As `cp -r` has it: a source keeps its last name; `.`, `..` and what ends with them stand for their content, which
//! comes without a name. A source that is a symbolic link is copied as one, unless a `/` follows it.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::store::confined::{RelativePath, Root};
use crate::store::{NOT_THERE, StoreError};
use crate::text::printable;

/// One source.
#[derive(Clone, Debug)]
pub struct Origin {
    /// What is never left.
    pub root: Arc<Root>,
    /// Where it is in that.
    pub path: RelativePath,
    /// What it is called in the copy; the root for content without a name.
    pub at: RelativePath,
}

/// Sources that can be copied, and those that cannot.
#[derive(Debug, Default)]
pub struct Origins {
    /// Those that are there.
    pub found: Vec<Origin>,
    /// The others, and why.
    pub missing: Vec<StoreError>,
    /// What each that was named is called in the copy, those that are missing too: how many there are decides what the
    /// destination means.
    names: Vec<Option<Vec<u8>>>,
}

impl Origins {
    /// What this user means by these paths.
    pub fn own(paths: &[PathBuf]) -> Origins {
        let mut parents = Parents::default();
        Origins::collect(paths.iter().map(|path| (path.as_os_str().as_bytes(), parents.own(path))))
    }

    /// One file without a name, which is called so in the copy.
    pub fn of_file(file: File, name: &[u8]) -> Result<Origins, StoreError> {
        let root = Arc::new(Root::of_file(file));
        let origin = Origin { root, path: RelativePath::root(), at: RelativePath::parse(name)? };
        Ok(Origins { found: vec![origin], missing: Vec::new(), names: vec![Some(name.to_vec())] })
    }

    /// What a peer means by these paths in a served folder.
    pub fn served(root: &Arc<Root>, paths: &[Vec<u8>]) -> Origins {
        Origins::collect(paths.iter().map(|path| (path.as_slice(), served(root, path))))
    }

    fn collect<'a>(each: impl Iterator<Item = (&'a [u8], Result<Origin, StoreError>)>) -> Origins {
        let mut origins = Origins::default();
        let mut names = HashSet::new();
        for (typed, origin) in each {
            origins.names.push(last_name(typed).map(<[u8]>::to_vec));
            match origin.and_then(|origin| origin.root.metadata(&origin.path).map(|_| origin)) {
                Ok(origin) if !names.insert(origin.at.clone()) => origins.missing.push(StoreError::Unfit {
                    name: origin.at.to_string(),
                    why: "two sources have this name: copy them one after the other",
                }),
                Ok(origin) => origins.found.push(origin),
                Err(error) => origins.missing.push(absent(typed, error)),
            }
        }
        origins
    }

    /// What each that was named is called in the copy, whether it is there or not; nothing for content without a name.
    pub fn names(&self) -> Vec<Option<Vec<u8>>> {
        self.names.clone()
    }
}

/// The last name of a path as it was typed; nothing where it stands for its content.
pub fn last_name(typed: &[u8]) -> Option<&[u8]> {
    let trimmed = typed.trim_ascii_end_matches();
    let name = trimmed.rsplit(|byte| *byte == b'/').next().unwrap_or(trimmed);
    (!matches!(name, b"" | b"." | b"..")).then_some(name)
}

trait TrimSlashes {
    fn trim_ascii_end_matches(&self) -> &[u8];
}

impl TrimSlashes for [u8] {
    fn trim_ascii_end_matches(&self) -> &[u8] {
        let end = self.iter().rposition(|byte| *byte != b'/').map_or(0, |at| at + 1);
        &self[..end]
    }
}

/// The folders in which sources were named, each of which is open once, however many sources are in it.
#[derive(Debug, Default)]
struct Parents(HashMap<PathBuf, Arc<Root>>);

impl Parents {
    fn own(&mut self, path: &Path) -> Result<Origin, StoreError> {
        let bytes = path.as_os_str().as_bytes();
        let Some(name) = last_name(bytes) else { return whole(path, RelativePath::root()) };
        let at = RelativePath::parse(name)?;
        if bytes.ends_with(b"/") && !is_real_folder(bytes) {
            return whole(path, at);
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let root = self.root(parent).map_err(|error| missing_parent(path, error))?;
        Ok(Origin { root, path: at.clone(), at })
    }

    fn root(&mut self, parent: &Path) -> Result<Arc<Root>, StoreError> {
        if let Some(root) = self.0.get(parent) {
            return Ok(root.clone());
        }
        let root = Arc::new(Root::open(parent)?);
        self.0.insert(parent.to_path_buf(), root.clone());
        Ok(root)
    }
}

/// Whether a folder, and no link to one, stands before the slashes.
fn is_real_folder(typed: &[u8]) -> bool {
    let path = Path::new(OsStr::from_bytes(typed.trim_ascii_end_matches()));
    path.symlink_metadata().is_ok_and(|found| found.is_dir())
}

/// A folder as a root, called `at`.
fn whole(path: &Path, at: RelativePath) -> Result<Origin, StoreError> {
    let root = Root::open(path).map_err(|error| missing_parent(path, error))?;
    Ok(Origin { root: Arc::new(root), path: RelativePath::root(), at })
}

/// What is not there is called as it was typed.
fn absent(typed: &[u8], error: StoreError) -> StoreError {
    match error {
        StoreError::System { error, .. } if error.kind() == std::io::ErrorKind::NotFound => {
            StoreError::Unfit { name: printable(typed), why: NOT_THERE }
        }
        other => other,
    }
}

/// The error names what was typed.
fn missing_parent(path: &Path, error: StoreError) -> StoreError {
    match error {
        StoreError::System { error, .. } => {
            StoreError::System { name: printable(path.as_os_str().as_bytes()), what: "cannot be read", error }
        }
        other => other,
    }
}

fn served(root: &Arc<Root>, typed: &[u8]) -> Result<Origin, StoreError> {
    let path = inside(typed)?;
    match last_name(typed) {
        Some(name) if !path.is_root() => {
            let at = RelativePath::parse(name)?;
            Ok(Origin { root: root.clone(), path, at })
        }
        _ => Ok(Origin { root: Arc::new(root.part(&path)?), path: RelativePath::root(), at: RelativePath::root() }),
    }
}

/// A typed path in a served folder, which is its `/`.
pub fn inside(typed: &[u8]) -> Result<RelativePath, StoreError> {
    let start = typed.iter().position(|byte| *byte != b'/').unwrap_or(typed.len());
    let is_folder_itself = typed.split(|byte| *byte == b'/').all(|name| matches!(name, b"" | b"."));
    if is_folder_itself { Ok(RelativePath::root()) } else { RelativePath::parse_typed(&typed[start..]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_cp() {
        let table: [(&str, Option<&str>); 9] = [
            ("a", Some("a")),
            ("a/b", Some("b")),
            ("a/b//", Some("b")),
            ("/", None),
            ("", None),
            (".", None),
            ("a/.", None),
            ("../..", None),
            ("a/..b", Some("..b")),
        ];
        for (typed, name) in table {
            assert_eq!(last_name(typed.as_bytes()), name.map(str::as_bytes), "{typed}");
        }
    }

    #[test]
    fn a_folder_is_open_once_for_all_sources_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let typed: Vec<PathBuf> = (0..20).map(|n| dir.path().join(format!("{n}/"))).collect();
        typed.iter().for_each(|path| std::fs::create_dir(path).unwrap());
        std::os::unix::fs::symlink("0", dir.path().join("link")).unwrap();
        let mut found = Origins::own(&typed).found;
        assert_eq!(found.len(), typed.len());
        assert!(found.iter().all(|origin| Arc::ptr_eq(&origin.root, &found[0].root)));
        // What a slash follows is the folder that a link leads to.
        found = Origins::own(&[dir.path().join("link/"), dir.path().join("0")]).found;
        assert!(found[0].path.is_root() && !found[1].path.is_root());
    }

    #[test]
    fn sources_are_found_or_named_as_missing() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("folder/sub")).unwrap();
        std::fs::write(dir.path().join("folder/file"), "x").unwrap();
        let typed = ["folder", "folder/.", "folder/file", "folder/none", "no/where"];
        let own = Origins::own(&typed.map(|name| dir.path().join(name)));
        let root = Arc::new(Root::open(dir.path()).unwrap());
        let served = Origins::served(&root, &typed.map(|name| name.as_bytes().to_vec()));
        for origins in [own, served] {
            let names: Vec<_> =
                origins.names().into_iter().map(|name| name.map(|n| String::from_utf8(n).unwrap())).collect();
            let expected = [Some("folder"), None, Some("file"), Some("none"), Some("where")];
            assert_eq!(names, expected.map(|name| name.map(str::to_string)));
            assert_eq!(origins.missing.len(), 2);
            assert!(
                origins.missing[0].to_string().ends_with("folder/none: no such file or folder"),
                "{}",
                origins.missing[0]
            );
        }
    }
}
