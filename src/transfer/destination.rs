//! Which folder a typed destination means, and what the copy is called in it.
//!
//! As `cp -r` has it: into a folder that is there, under the sources' own names; a single source to a name that is not
//! there, or to a file, becomes that name; content without a name becomes the folder itself, which is made.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use super::origin::{inside, last_name};
use crate::proto::copy::CopyError;
use crate::proto::copy::options::Purpose;
use crate::proto::manifest::{Entry, EntryKind};
use crate::store::StoreError;
use crate::store::confined::{Kind, RelativePath, Root};
use crate::text::printable;

/// Where a copy lands.
#[derive(Clone, Debug)]
pub struct Destination {
    /// What is never left.
    pub root: Arc<Root>,
    /// What the copy may touch in it: the names of the sources, sorted and each once, or the one name that it gets.
    pub tops: Vec<RelativePath>,
    /// Two of the sources may have a path in common.
    pub merges: bool,
    /// It was named by a peer who may not leave the root.
    pub is_served: bool,
    /// The name of the one source, and what it is called here.
    renamed: Option<(Vec<u8>, Vec<u8>)>,
    /// What the same words meant before the folder was there that they name: a copy that was broken off goes on there.
    earlier: Option<Box<Destination>>,
}

const NOT_A_FOLDER: &str = "is no folder: several sources, the content of a folder, and a / at the end need one";
const NO_FOLDER: &str = "no such file or folder: make it first";

impl Destination {
    /// What this user means by a path. `names` are those of the sources. A folder that is to be there is made only for
    /// a copy.
    pub fn own(path: &Path, names: &[Option<Vec<u8>>], purpose: Purpose) -> Result<Destination, StoreError> {
        let bytes = path.as_os_str().as_bytes();
        let name = printable(bytes);
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let is_folder = std::fs::metadata(path).is_ok_and(|found| found.is_dir());
        // A slash after a file is an error to the system, as if nothing were there.
        let end = bytes.iter().rposition(|byte| *byte != b'/').map_or(bytes.len(), |last| last + 1);
        let is_there = Path::new(OsStr::from_bytes(&bytes[..end])).symlink_metadata().is_ok();
        let makes = purpose == Purpose::Copy;
        let place = Place { shown: &name, is_folder, is_there, has_slash: bytes.ends_with(b"/"), makes };
        match place.judge(names, last_name(bytes))? {
            Verdict::Into => {
                let earlier = place.judge_before(names, last_name(bytes)).and_then(|(from, to)| {
                    Destination::renaming(Arc::new(Root::open(parent).ok()?), RelativePath::parse(&to).ok()?, from, to)
                        .ok()
                });
                Ok(Destination::into(Root::open(path)?, names).or_earlier(earlier))
            }
            Verdict::Make => {
                std::fs::create_dir(path).map_err(|error| cannot(&name, "cannot be made", error))?;
                Ok(Destination::into(Root::open(path)?, names))
            }
            Verdict::Become(from, to) => {
                let absent = |_| StoreError::Unfit { name: printable(parent.as_os_str().as_bytes()), why: NO_FOLDER };
                let root = Root::open(parent).map_err(absent)?;
                Destination::renaming(Arc::new(root), RelativePath::parse(&to)?, from, to)
            }
        }
    }

    /// What a peer means by a path in a served folder.
    pub fn served(
        root: &Arc<Root>,
        typed: &[u8],
        names: &[Option<Vec<u8>>],
        purpose: Purpose,
    ) -> Result<Destination, StoreError> {
        Ok(Destination::named_by_peer(root, typed, names, purpose)?.into_served())
    }

    fn into_served(self) -> Destination {
        let earlier = self.earlier.map(|earlier| Box::new(earlier.into_served()));
        Destination { is_served: true, earlier, ..self }
    }

    fn named_by_peer(
        root: &Arc<Root>,
        typed: &[u8],
        names: &[Option<Vec<u8>>],
        purpose: Purpose,
    ) -> Result<Destination, StoreError> {
        let path = inside(typed)?;
        let kind =
            if path.is_root() { Some(Kind::Directory) } else { root.metadata(&path).ok().map(|found| found.kind) };
        let shown = path.to_string();
        let is_folder = kind == Some(Kind::Directory);
        let (is_there, has_slash, makes) = (kind.is_some(), typed.ends_with(b"/"), purpose == Purpose::Copy);
        let place = Place { shown: &shown, is_folder, is_there, has_slash, makes };
        match place.judge(names, last_name(typed))? {
            Verdict::Into => {
                let earlier = place.judge_before(names, last_name(typed)).and_then(|(from, to)| {
                    let part = root.part(&path.parent().unwrap_or_else(RelativePath::root)).ok()?;
                    Destination::renaming(Arc::new(part), RelativePath::parse(&to).ok()?, from, to).ok()
                });
                Ok(Destination::into(root.part(&path)?, names).or_earlier(earlier))
            }
            Verdict::Make => {
                root.create_dir(&path)?;
                Ok(Destination::into(root.part(&path)?, names))
            }
            Verdict::Become(from, to) => {
                let parent = path.parent().unwrap_or_else(RelativePath::root);
                let absent = |_| StoreError::Unfit { name: parent.to_string(), why: NO_FOLDER };
                let part = root.part(&parent).map_err(absent)?;
                Destination::renaming(Arc::new(part), RelativePath::parse(&to)?, from, to)
            }
        }
    }

    fn into(root: Root, names: &[Option<Vec<u8>>]) -> Destination {
        let top = |name: &Option<Vec<u8>>| match name {
            None => Some(RelativePath::root()),
            Some(name) => RelativePath::parse(name).ok(),
        };
        let tops: BTreeSet<RelativePath> = names.iter().filter_map(top).collect();
        // The content of a folder may hold what another source is called.
        let merges = names.len() > tops.len() || names.len() > 1 && names.contains(&None);
        let (root, tops) = (Arc::new(root), tops.into_iter().collect());
        Destination { root, tops, merges, is_served: false, renamed: None, earlier: None }
    }

    fn renaming(root: Arc<Root>, top: RelativePath, from: Vec<u8>, to: Vec<u8>) -> Result<Destination, StoreError> {
        let renamed = (from != to).then_some((from, to));
        let tops = vec![top];
        Ok(Destination { root, tops, merges: false, is_served: false, renamed, earlier: None })
    }

    fn or_earlier(mut self, earlier: Option<Destination>) -> Destination {
        self.earlier = earlier.map(Box::new);
        self
    }

    /// The one in which a copy was begun that has not come to its end, as `is_begun` says; otherwise this one.
    pub fn choose(mut self, is_begun: impl FnOnce(&Destination) -> bool) -> Destination {
        match self.earlier.take() {
            Some(earlier) if is_begun(&earlier) => *earlier,
            _ => self,
        }
    }

    /// What a source is called here that is called `at` in the copy.
    pub(super) fn top_of<'a>(&'a self, at: &'a RelativePath) -> &'a RelativePath {
        match (&self.renamed, self.tops.first()) {
            (Some(_), Some(top)) => top,
            _ => at,
        }
    }

    /// The entry as it is called here; refused is one that lies beside what was announced.
    pub fn place(&self, mut entry: Entry) -> Result<Entry, CopyError> {
        let outside = CopyError::Outside(entry.id);
        if let Some((from, to)) = &self.renamed {
            entry.path = renamed(&entry.path, from, to).ok_or(outside)?;
            if let EntryKind::HardLink { path, .. } = &mut entry.kind {
                *path = renamed(path, from, to).ok_or(outside)?;
            }
        }
        let is_inside = |path: &[u8]| self.tops.iter().any(|top| is_below(path, top.as_bytes()));
        let leads_outside = matches!(&entry.kind, EntryKind::HardLink { path, .. } if !is_inside(path));
        if is_inside(&entry.path) && !leads_outside { Ok(entry) } else { Err(outside) }
    }

    /// What the source calls an entry that is called so here.
    pub fn announced<'a>(&self, path: &'a [u8]) -> Cow<'a, [u8]> {
        let back = self.renamed.as_ref().and_then(|(from, to)| renamed(path, to, from));
        back.map_or(Cow::Borrowed(path), Cow::Owned)
    }
}

/// The path with another first name; without one, either stands for the folder itself.
fn renamed(path: &[u8], from: &[u8], to: &[u8]) -> Option<Vec<u8>> {
    let below = match path.strip_prefix(from)? {
        b"" => return Some(to.to_vec()),
        below if from.is_empty() => below,
        below => below.strip_prefix(b"/")?,
    };
    Some(if to.is_empty() { below.to_vec() } else { [to, b"/", below].concat() })
}

fn is_below(path: &[u8], top: &[u8]) -> bool {
    top.is_empty() || path.strip_prefix(top).is_some_and(|below| below.is_empty() || below.starts_with(b"/"))
}

struct Place<'a> {
    shown: &'a str,
    is_folder: bool,
    is_there: bool,
    has_slash: bool,
    /// A folder that is not there is made.
    makes: bool,
}

enum Verdict {
    /// Into the folder that is there.
    Into,
    /// Into the folder, which is to be made.
    Make,
    /// The one source, by its name, becomes this one; what has no name is the content of it.
    Become(Vec<u8>, Vec<u8>),
}

impl Place<'_> {
    /// What became of the one source when there was no folder of that name.
    fn judge_before(&self, names: &[Option<Vec<u8>>], last: Option<&[u8]>) -> Option<(Vec<u8>, Vec<u8>)> {
        let before = Place { is_folder: false, is_there: false, makes: true, ..*self };
        match before.judge(names, last) {
            Ok(Verdict::Become(from, to)) => Some((from, to)),
            _ => None,
        }
    }

    fn judge(&self, names: &[Option<Vec<u8>>], last: Option<&[u8]>) -> Result<Verdict, StoreError> {
        let unfit = |why| StoreError::Unfit { name: self.shown.to_string(), why };
        match (names, last) {
            _ if self.is_folder => Ok(Verdict::Into),
            ([None], Some(_)) if !self.is_there && self.makes => Ok(Verdict::Make),
            ([None], Some(last)) if !self.is_there => Ok(Verdict::Become(Vec::new(), last.to_vec())),
            ([Some(name)], Some(last)) if !self.is_there || !self.has_slash => {
                Ok(Verdict::Become(name.clone(), last.to_vec()))
            }
            _ if self.is_there => Err(unfit(NOT_A_FOLDER)),
            _ => Err(unfit(NO_FOLDER)),
        }
    }
}

fn cannot(name: &str, what: &'static str, error: std::io::Error) -> StoreError {
    StoreError::System { name: name.to_string(), what, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_lies_or_leads_beside_what_was_announced() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("there")).unwrap();
        let names = [Some(b"tree".to_vec())];
        let place = |to: &str, path: &str, first: &str| {
            let kind = EntryKind::HardLink { to: 0, path: first.into() };
            let destination = Destination::own(&dir.path().join(to), &names, Purpose::Copy).unwrap();
            destination.place(Entry { id: 1, path: path.into(), kind, attributes: Default::default() })
        };
        // Under its own name in a folder that is there, and as the folder itself under another.
        for (to, name) in [("there", "tree"), ("new", "new")] {
            let placed = place(to, "tree/b", "tree/a").unwrap();
            assert_eq!(placed.path, format!("{name}/b").as_bytes());
            assert_eq!(placed.kind, EntryKind::HardLink { to: 0, path: format!("{name}/a").into() });
            for (path, first) in [("tree/b", "other"), ("tree/b", "treeless/a"), ("tree/b", ""), ("b", "tree/a")] {
                assert_eq!(place(to, path, first), Err(CopyError::Outside(1)), "{to} {path} {first}");
            }
        }
    }

    #[test]
    fn sources_that_may_have_a_path_in_common_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let merges = |names: &[Option<&str>]| {
            let names: Vec<_> = names.iter().map(|name| name.map(|name| name.as_bytes().to_vec())).collect();
            Destination::own(dir.path(), &names, Purpose::Copy).unwrap().merges
        };
        assert!(!merges(&[None]) && !merges(&[Some("a")]) && !merges(&[Some("a"), Some("b")]));
        assert!(merges(&[None, None]) && merges(&[None, Some("a")]) && merges(&[Some("a"), Some("b"), Some("a")]));
    }

    #[test]
    fn a_copy_that_was_begun_under_a_new_name_goes_on_there() {
        let dir = tempfile::tempdir().unwrap();
        let root = Arc::new(Root::open(dir.path()).unwrap());
        let names = [Some(b"tree".to_vec())];
        let top = |destination: &Destination| destination.tops[0].to_string();
        let each = || {
            [
                Destination::own(&dir.path().join("new"), &names, Purpose::Copy),
                Destination::served(&root, b"new", &names, Purpose::Copy),
            ]
            .map(Result::unwrap)
        };
        // Nothing is there: it becomes that.
        assert!(each().iter().all(|destination| top(destination) == "new" && destination.earlier.is_none()));
        std::fs::create_dir(dir.path().join("new")).unwrap();
        for destination in each() {
            assert_eq!(top(&destination.clone().choose(|_| false)), "tree");
            let begun = destination.choose(|earlier| top(earlier) == "new");
            assert_eq!((top(&begun), begun.renamed), ("new".to_string(), Some((b"tree".to_vec(), b"new".to_vec()))));
        }
        // Several sources, and the folder itself, have meant nothing else before.
        let several = [names[0].clone(), Some(b"other".to_vec())];
        assert!(Destination::served(&root, b"new", &several, Purpose::Copy).unwrap().earlier.is_none());
        assert!(Destination::served(&root, b"", &names, Purpose::Copy).unwrap().earlier.is_none());
    }

    #[test]
    fn what_is_only_tried_makes_no_folder() {
        let dir = tempfile::tempdir().unwrap();
        let root = Arc::new(Root::open(dir.path()).unwrap());
        let own = Destination::own(&dir.path().join("new"), &[None], Purpose::DryRun);
        for destination in [own, Destination::served(&root, b"new/", &[None], Purpose::DryRun)].map(Result::unwrap) {
            let place = |path: &str| {
                let (id, kind, attributes) = (1, EntryKind::Folder, Default::default());
                destination.place(Entry { id, path: path.into(), kind, attributes }).unwrap().path
            };
            assert_eq!((place(""), place("a/b")), (b"new".to_vec(), b"new/a/b".to_vec()));
            assert_eq!(*destination.announced(b"new/a/b"), *b"a/b");
            assert_eq!(*destination.announced(b"new"), *b"");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(Destination::own(&dir.path().join("new"), &[None], Purpose::Copy).is_ok());
        assert!(dir.path().join("new").is_dir());
    }
}
