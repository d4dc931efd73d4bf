//! What the tests of the confined root share: a root with something outside it, under either resolver.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::resolver::Resolver;
use super::{HANDLE_LIFE, RelativePath, Root, open_folder};

/// What no root may give away.
pub(super) const SECRET: &[u8] = b"outside";
/// What is in `inside` of a root.
pub(super) const CONTENT: &[u8] = b"inside";

/// `outside/secret` and `root/inside`, side by side.
pub(super) struct Fixture {
    dir: TempDir,
}

impl Fixture {
    pub(super) fn new() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("root")).unwrap();
        std::fs::create_dir(dir.path().join("outside")).unwrap();
        std::fs::write(dir.path().join("outside/secret"), SECRET).unwrap();
        std::fs::write(dir.path().join("root/inside"), CONTENT).unwrap();
        Fixture { dir }
    }

    /// A path inside the root, as the test reaches it.
    pub(super) fn inside(&self, path: &str) -> PathBuf {
        self.dir.path().join("root").join(path)
    }

    pub(super) fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }

    pub(super) fn symlink(&self, target: impl AsRef<Path>, path: &str) {
        std::os::unix::fs::symlink(target, self.inside(path)).unwrap();
    }

    /// The root under either resolver, each with what it is called.
    pub(super) fn roots(&self) -> [Root; 2] {
        roots_at(&self.inside(""), HANDLE_LIFE)
    }

    pub(super) fn roots_with_life(&self, life: Duration) -> [Root; 2] {
        roots_at(&self.inside(""), life)
    }

    /// Nothing was made, removed or changed outside.
    pub(super) fn assert_outside_untouched(&self) {
        let names: Vec<_> =
            std::fs::read_dir(self.outside()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["secret"]);
        assert_eq!(std::fs::read(self.outside().join("secret")).unwrap(), SECRET);
        assert_eq!(std::fs::read_dir(self.dir.path()).unwrap().count(), 2);
    }
}

/// A folder as a root under either resolver. A system without openat2 gets the walk twice.
pub(super) fn roots_at(path: &Path, life: Duration) -> [Root; 2] {
    let root = |choose: fn(&Root) -> Resolver| {
        let mut root = Root::new(open_folder(path).unwrap(), Resolver::Walk, life);
        root.resolver = choose(&root);
        root
    };
    [root(|root| Resolver::probed(root.folder.as_fd())), root(|_| Resolver::Walk)]
}

pub(super) fn path(bytes: impl AsRef<[u8]>) -> RelativePath {
    if bytes.as_ref().is_empty() { RelativePath::root() } else { RelativePath::parse(bytes.as_ref()).unwrap() }
}

/// What a file of a root holds, or why it is refused.
pub(super) fn read(root: &Root, at: impl AsRef<[u8]>) -> Result<Vec<u8>, String> {
    let mut file = root.open_read(&path(at)).map_err(|error| error.to_string())?;
    let mut content = Vec::new();
    std::io::Read::read_to_end(&mut file, &mut content).unwrap();
    Ok(content)
}
