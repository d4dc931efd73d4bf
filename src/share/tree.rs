//! What is shared: one folder with all that is in it, or a list of files and folders, as one tree of paths.
//!
//! Every file is reached through a confined root. Hidden names are not there unless the owner wants them shown, and
//! partial files of ours never are.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use super::path::is_hidden_name;
use crate::store::StoreError;
use crate::store::confined::{Kind, Links, Metadata, RelativePath, Root};

/// What names of files begin with that are not whole yet.
pub const PARTIAL_PREFIX: &str = ".lr-";

/// Why something of a share cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// There is nothing of that name, or nothing that is shared.
    #[error("no such file or folder")]
    Missing,
    /// Neither a file nor a folder.
    #[error("is neither a file nor a folder")]
    Special,
    /// A list of files takes no new ones at its top.
    #[error("files can be added only in a folder that is shared")]
    NotAFolder,
    /// The system refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl TreeError {
    /// What the system said, if it did.
    pub fn kind(&self) -> Option<io::ErrorKind> {
        match self {
            TreeError::Store(StoreError::System { error, .. }) => Some(error.kind()),
            _ => None,
        }
    }
}

/// The shared tree. Requests share one.
#[derive(Debug)]
pub struct Tree {
    tops: Tops,
    shows_hidden: bool,
}

#[derive(Debug)]
enum Tops {
    Folder(Arc<Root>),
    Items(Vec<Item>),
}

/// A file or folder of a list.
#[derive(Debug)]
struct Item {
    name: Vec<u8>,
    /// The folder itself, or the one that the file lies in.
    root: Arc<Root>,
    is_folder: bool,
}

/// Where something of the tree is.
#[derive(Clone, Debug)]
pub struct Place {
    /// The root that it is in.
    pub root: Arc<Root>,
    /// And where there.
    pub path: RelativePath,
}

/// A file that was opened.
#[derive(Debug)]
pub struct Opened {
    /// For reading.
    pub file: File,
    /// What it was when it was opened.
    pub metadata: Metadata,
}

/// What something is, links followed inside the tree.
#[derive(Debug)]
pub enum Found {
    /// A file, open.
    File(Opened),
    /// A folder.
    Folder(Place),
}

impl Tree {
    /// Share a folder, or several files and folders, each by its last name.
    pub fn open(paths: &[&Path], shows_hidden: bool) -> Result<Tree, StoreError> {
        let tops = match paths {
            [one] if one.is_dir() => Tops::Folder(Arc::new(Root::open(one)?)),
            several => Tops::Items(several.iter().map(|path| item(path)).collect::<Result<_, _>>()?),
        };
        if let Tops::Items(items) = &tops {
            check_names(items)?;
        }
        Ok(Tree { tops, shows_hidden })
    }

    /// Whether an entry of a folder is to be seen.
    pub fn shows(&self, name: &[u8]) -> bool {
        !name.starts_with(PARTIAL_PREFIX.as_bytes()) && (self.shows_hidden || !is_hidden_name(name))
    }

    /// The names at the top of a list of files, with what they are; nothing where a folder is shared.
    pub fn items(&self) -> Option<Vec<(Vec<u8>, Place)>> {
        match &self.tops {
            Tops::Folder(_) => None,
            Tops::Items(items) => items.iter().map(|item| Some((item.name.clone(), item.place(None)?))).collect(),
        }
    }

    /// The folders that are shared.
    pub fn tops(&self) -> Vec<Place> {
        match &self.tops {
            Tops::Folder(root) => vec![Place { root: root.clone(), path: RelativePath::root() }],
            Tops::Items(items) => {
                items.iter().filter(|item| item.is_folder).filter_map(|item| item.place(None)).collect()
            }
        }
    }

    /// Where a path leads, if it may be seen. Whether something is there is not looked at.
    pub fn place(&self, path: &RelativePath) -> Result<Place, TreeError> {
        // What the owner named himself is to be seen, whatever it is called.
        let named = usize::from(matches!(self.tops, Tops::Items(_)));
        let is_partial = path.names().any(|name| name.starts_with(PARTIAL_PREFIX.as_bytes()));
        if is_partial || (!self.shows_hidden && path.names().skip(named).any(is_hidden_name)) {
            return Err(TreeError::Missing);
        }
        match &self.tops {
            Tops::Folder(root) => Ok(Place { root: root.clone(), path: path.clone() }),
            Tops::Items(items) => {
                let (first, rest) = first_of(path).ok_or(TreeError::NotAFolder)?;
                let item = items.iter().find(|item| item.name == first).ok_or(TreeError::Missing)?;
                item.place(rest).ok_or(TreeError::Missing)
            }
        }
    }

    /// Open what a path leads to.
    pub fn find(&self, path: &RelativePath) -> Result<Found, TreeError> {
        find(&self.place(path)?)
    }

    /// Open a file.
    pub fn open_file(&self, path: &RelativePath) -> Result<Opened, TreeError> {
        match self.find(path)? {
            Found::File(opened) => Ok(opened),
            Found::Folder(_) => Err(TreeError::Missing),
        }
    }
}

impl Item {
    /// A path below it; nothing for one below a file.
    fn place(&self, rest: Option<&[u8]>) -> Option<Place> {
        let path = match (rest, self.is_folder) {
            (None, true) => RelativePath::root(),
            (None, false) => RelativePath::parse(&self.name).ok()?,
            (Some(rest), true) => RelativePath::parse(rest).ok()?,
            (Some(_), false) => return None,
        };
        Some(Place { root: self.root.clone(), path })
    }
}

/// What is at a place: opened first and asked then, so that both are of the same thing.
pub fn find(place: &Place) -> Result<Found, TreeError> {
    let Place { root, path } = place;
    if path.is_root() {
        return Ok(Found::Folder(place.clone()));
    }
    let metadata = root.metadata(path).map_err(missing)?;
    match metadata.kind {
        Kind::Directory => Ok(Found::Folder(place.clone())),
        Kind::File => open_at(root, path),
        // It may lead to either.
        Kind::Symlink => match root.read_dir(path, Links::Inside) {
            Ok(_) => Ok(Found::Folder(place.clone())),
            Err(_) => open_at(root, path),
        },
        _ => Err(TreeError::Special),
    }
}

fn open_at(root: &Root, path: &RelativePath) -> Result<Found, TreeError> {
    let file = root.open_read(path).map_err(missing)?;
    let examined = Metadata::of_open(&file).map_err(|error| {
        TreeError::Store(StoreError::System { name: path.to_string(), what: "cannot be examined", error })
    });
    Ok(Found::File(Opened { metadata: examined?, file }))
}

/// What does not exist, and what leads out of the tree, is the same to those outside.
fn missing(error: StoreError) -> TreeError {
    match &error {
        StoreError::System { error: system, .. }
            if matches!(system.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
                || system.raw_os_error() == Some(libc::ELOOP)
                || system.raw_os_error() == Some(libc::EXDEV) =>
        {
            TreeError::Missing
        }
        StoreError::Unfit { .. } => TreeError::Missing,
        _ => TreeError::Store(error),
    }
}

/// The first name of a path, and the rest of it.
fn first_of(path: &RelativePath) -> Option<(&[u8], Option<&[u8]>)> {
    let bytes = path.as_bytes();
    if bytes.is_empty() {
        return None;
    }
    match bytes.iter().position(|byte| *byte == b'/') {
        Some(at) => Some((&bytes[..at], Some(&bytes[at + 1..]))),
        None => Some((bytes, None)),
    }
}

fn item(path: &Path) -> Result<Item, StoreError> {
    let shown = || path.display().to_string();
    let system = |what: &'static str| move |error| StoreError::System { name: shown(), what, error };
    // `..` and `.` have no last name, what they lead to does.
    let whole = path.canonicalize().map_err(system("cannot be shared"))?;
    let metadata = whole.metadata().map_err(system("cannot be shared"))?;
    let last = path.file_name().or(whole.file_name());
    let Some(last) = last else {
        return Err(StoreError::Unfit { name: shown(), why: "has no name to be shared under: share it alone" });
    };
    let name = last.as_bytes().to_vec();
    if metadata.is_dir() {
        return Ok(Item { name, root: Arc::new(Root::open(&whole)?), is_folder: true });
    }
    if !metadata.is_file() {
        return Err(StoreError::Unfit { name: shown(), why: "is neither a file nor a folder: share one" });
    }
    let folder = whole.parent().unwrap_or(Path::new("/"));
    // A link is shared as what it leads to, by the name of that.
    let name = whole.file_name().map_or(name, |name| name.as_bytes().to_vec());
    Ok(Item { name, root: Arc::new(Root::open(folder)?), is_folder: false })
}

fn check_names(items: &[Item]) -> Result<(), StoreError> {
    for (at, item) in items.iter().enumerate() {
        if items[..at].iter().any(|other| other.name == item.name) {
            let name = crate::text::printable(&item.name);
            return Err(StoreError::Unfit { name, why: "is the name of two that were given: share one of them" });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn path(text: &str) -> RelativePath {
        RelativePath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_folder_shows_what_is_in_it_and_nothing_outside() {
        let dir = tempfile::tempdir().unwrap();
        let shared = dir.path().join("shared");
        std::fs::create_dir_all(shared.join("sub")).unwrap();
        std::fs::write(dir.path().join("secret"), "no").unwrap();
        for name in ["a", "sub/b", ".hidden", ".lr-12-3"] {
            std::fs::write(shared.join(name), name).unwrap();
        }
        symlink("../secret", shared.join("out")).unwrap();
        symlink("sub/b", shared.join("in")).unwrap();
        symlink("sub", shared.join("folder")).unwrap();
        symlink("nowhere", shared.join("dangling")).unwrap();
        nix::unistd::mkfifo(&shared.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let tree = Tree::open(&[&shared], false).unwrap();
        for (name, bytes) in [("a", 1), ("sub/b", 5), ("in", 5), ("folder/b", 5)] {
            assert_eq!(tree.open_file(&path(name)).unwrap().metadata.len, bytes, "{name}");
        }
        for name in ["out", "dangling", "none", "a/x", ".hidden", ".lr-12-3", "sub/none"] {
            assert!(matches!(tree.find(&path(name)), Err(TreeError::Missing)), "{name}");
        }
        assert!(matches!(tree.find(&path("fifo")), Err(TreeError::Special)));
        assert!(matches!(tree.find(&path("folder")), Ok(Found::Folder(_))));
        let all = Tree::open(&[&shared], true).unwrap();
        assert!(all.open_file(&path(".hidden")).is_ok());
        assert!(matches!(all.find(&path(".lr-12-3")), Err(TreeError::Missing)));
    }

    #[test]
    fn a_list_shows_only_what_is_on_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("folder")).unwrap();
        for name in ["one", "two", "folder/x"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        let (one, folder) = (dir.path().join("one"), dir.path().join("folder"));
        let tree = Tree::open(&[&one, &folder], false).unwrap();
        assert_eq!(tree.open_file(&path("one")).unwrap().metadata.len, 3);
        assert_eq!(tree.open_file(&path("folder/x")).unwrap().metadata.len, 8);
        assert!(matches!(tree.find(&path("two")), Err(TreeError::Missing)));
        assert!(matches!(tree.find(&path("one/two")), Err(TreeError::Missing)));
        assert_eq!(tree.items().unwrap().len(), 2);
        assert!(matches!(tree.find(&RelativePath::root()), Err(TreeError::NotAFolder)));
        assert!(Tree::open(&[&one, &one], false).is_err());
        assert!(Tree::open(&[&dir.path().join("none")], false).is_err());
    }

    #[test]
    fn what_is_named_to_be_shared_is_not_hidden_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".folder")).unwrap();
        for name in [".env", ".folder/x", ".folder/.y"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        let (env, folder) = (dir.path().join(".env"), dir.path().join(".folder"));
        let tree = Tree::open(&[&env, &folder], false).unwrap();
        assert!(tree.open_file(&path(".env")).is_ok() && tree.open_file(&path(".folder/x")).is_ok());
        for name in [".folder/.y", ".other", ".env/.x"] {
            assert!(matches!(tree.find(&path(name)), Err(TreeError::Missing)), "{name}");
        }
        // Alone, too.
        assert!(Tree::open(&[&env], false).unwrap().open_file(&path(".env")).is_ok());
    }
}
