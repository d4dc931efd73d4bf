//! Where something that comes is to go, and how it may be called.

use super::incoming::IncomingError;
use super::tree::{Place, Tree, TreeError};
use crate::store::confined::{NAME_BYTES_MAX, RelativePath};

/// Where a file, or a folder, is to go.
#[derive(Clone, Debug)]
pub struct Target {
    /// The folder, and the root that it is in.
    place: Place,
    /// The folder as the share's paths name it.
    folder: RelativePath,
    name: Vec<u8>,
    /// How many of the folder's last names may be made.
    makes: usize,
}

impl Target {
    /// A path below a folder of the share, if files may be added there under such names.
    pub fn find(tree: &Tree, folder: &RelativePath, below: &[u8]) -> Result<Target, IncomingError> {
        let mut path = folder.clone();
        let whole = RelativePath::parse(below).map_err(|_| IncomingError::Name("it is no plain path"))?;
        for name in whole.names() {
            check_name(name)?;
            path = path.join(name).map_err(|_| IncomingError::Name("it is too long"))?;
        }
        // Of a list of files the top takes none, not even beside one of that name.
        tree.place(folder)?;
        let parent = path.parent().unwrap_or_else(RelativePath::root);
        let hidden = |error| match error {
            TreeError::Missing => IncomingError::Name("it is hidden, or in no folder"),
            error => error.into(),
        };
        tree.place(&path).map_err(hidden)?;
        let name = whole.names().last().unwrap_or_default().to_vec();
        let makes = whole.names().count().saturating_sub(1);
        Ok(Target { place: tree.place(&parent)?, folder: parent, name, makes })
    }

    /// The same in the folder for another type, where uploads are sorted into one for each: that is the first name
    /// below the folder that they are added to. Nothing if it is that one.
    pub fn in_type(&self, tree: &Tree, kind: &str) -> Result<Option<Target>, IncomingError> {
        let to = self.folder.names().count().saturating_sub(self.makes);
        let mut folder = RelativePath::root();
        for name in self.folder.names().take(to) {
            folder = folder.join(name).map_err(|_| IncomingError::Name("it is too long"))?;
        }
        let mut below = self.folder.names().skip(to);
        if self.makes == 0 || below.next() == Some(kind.as_bytes()) {
            return Ok(None);
        }
        let names: Vec<&[u8]> = [kind.as_bytes()].into_iter().chain(below).chain([&self.name[..]]).collect();
        Target::find(tree, &folder, &names.join(&b'/')).map(Some)
    }

    /// The folder, and the root that it is in.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What it is to be called.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// How many of the folder's last names may be made.
    pub fn makes(&self) -> usize {
        self.makes
    }

    /// The path that the share's visitors will know it by, if the name is free.
    pub fn path(&self) -> RelativePath {
        self.beside(&self.name).unwrap_or_else(|_| self.folder.clone())
    }

    /// The folders in which something is new when it is there: its own, and those in which one was made.
    pub fn touched(&self) -> Vec<RelativePath> {
        let above = |path: &RelativePath| path.parent();
        std::iter::successors(Some(self.folder.clone()), above).take(self.makes + 1).collect()
    }

    /// The share's path of another name in its folder.
    pub fn beside(&self, name: &[u8]) -> Result<RelativePath, IncomingError> {
        self.folder.join(name).map_err(|_| IncomingError::Name("it is too long"))
    }

    /// The root's path of another name in its folder.
    pub fn at(&self, name: &[u8]) -> Result<RelativePath, IncomingError> {
        self.place.path.join(name).map_err(|_| IncomingError::Name("it is too long"))
    }
}

/// Whether something new may be called so: as text that shows what it is, and means the same on other systems.
fn check_name(name: &[u8]) -> Result<(), IncomingError> {
    let text = std::str::from_utf8(name).map_err(|_| IncomingError::Name("it is not UTF-8"))?;
    let turns =
        |c| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if text.chars().any(|c| c.is_control() || turns(c) || matches!(c, '\u{2028}' | '\u{2029}')) {
        return Err(IncomingError::Name("it holds characters that command or turn text"));
    }
    if text.contains('\\') {
        return Err(IncomingError::Name("it holds a backslash"));
    }
    if text.len() > NAME_BYTES_MAX {
        return Err(IncomingError::Name("it is too long"));
    }
    Ok(())
}
