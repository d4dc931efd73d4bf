//! The folders of a copy, which get their mode and time when all is in them.
//!
//! They are kept until the end, and there may be millions, so little is kept of each: its name, which of the others it
//! lies in, and what it is to have. A folder that is announced again takes the place of what was kept of it, so a
//! sender that repeats itself costs nothing; one that has more than there is room for is told so before a folder is
//! made that nobody would finish.

use std::collections::HashMap;

use super::committing::path_key;
use crate::proto::manifest::{Attributes, Entry, EntryKind};

/// Most memory that is kept of folders, bytes. 2 million of them with names of 20 bytes were measured to take 175 MB, so
/// there is room for 10 million.
pub(super) const FOLDERS_BYTES_MAX: usize = 1 << 30;
/// What a folder takes beside its name and its extended attributes, bytes: a record, and a place in a map that is two
/// thirds full.
const FOLDER_BYTES: usize = size_of::<Record>() + 26;
/// Of one that lies in no other.
const NO_PARENT: u32 = u32::MAX;

/// Folders, with what they get in the end.
///
/// Invariant: the number of a parent is lower than those of what lies in it, so from the last to the first each folder
/// comes before the one that it lies in.
#[derive(Debug, Default)]
pub(super) struct Folders {
    records: Vec<Record>,
    /// All names, one after the other.
    names: Vec<u8>,
    /// Numbers by path, in short: a path is compared before it is taken to be the same.
    numbers: HashMap<u64, u32>,
    /// Extended attributes that had to wait, of the few folders that have some.
    xattrs: HashMap<u32, Xattrs>,
    xattrs_bytes: usize,
}

/// Names and values.
type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

#[derive(Debug)]
struct Record {
    modified_s: i64,
    modified_ns: u32,
    parent: u32,
    /// Where its name begins; it ends where the next begins.
    name_at: u32,
    user: u32,
    group: u32,
    /// Permission bits, which are twelve.
    mode: u16,
    has_owner: bool,
}

impl Folders {
    /// Memory that they take, bytes, rather too much than too little.
    pub(super) fn bytes(&self) -> usize {
        self.records.len() * FOLDER_BYTES + self.names.len() + self.xattrs_bytes
    }

    /// Whether one more can be kept.
    pub(super) fn has_room(&self, entry: &Entry) -> bool {
        self.bytes() + FOLDER_BYTES + entry.weight() <= FOLDERS_BYTES_MAX
    }

    /// Keep a folder, for which there is room.
    pub(super) fn add(&mut self, entry: Entry) {
        let number = self.find(&entry.path).unwrap_or_else(|| self.begin(&entry.path));
        let Attributes { mode, modified_s, modified_ns, owner, xattrs } = entry.attributes;
        let (user, group) = owner.unwrap_or_default();
        let record = &mut self.records[number as usize];
        let (parent, name_at) = (record.parent, record.name_at);
        let mode = (mode & 0o7777) as u16;
        *record = Record { modified_s, modified_ns, parent, name_at, user, group, mode, has_owner: owner.is_some() };
        self.xattrs_bytes += weight(&xattrs);
        let before = if xattrs.is_empty() { self.xattrs.remove(&number) } else { self.xattrs.insert(number, xattrs) };
        self.xattrs_bytes -= before.map_or(0, |before| weight(&before));
    }

    /// All of them, each before the one that it lies in.
    pub(super) fn into_entries(mut self) -> impl Iterator<Item = Entry> {
        self.numbers = HashMap::new();
        (0..self.records.len() as u32).rev().map(move |number| {
            let record = &self.records[number as usize];
            let attributes = Attributes {
                mode: record.mode.into(),
                modified_s: record.modified_s,
                modified_ns: record.modified_ns,
                owner: record.has_owner.then_some((record.user, record.group)),
                xattrs: self.xattrs.get(&number).cloned().unwrap_or_default(),
            };
            Entry { id: 0, path: self.path(number), kind: EntryKind::Folder, attributes }
        })
    }

    /// A place for a folder that has none.
    fn begin(&mut self, path: &[u8]) -> u32 {
        let number = self.records.len() as u32;
        let slash = path.iter().rposition(|byte| *byte == b'/');
        let parent = slash.and_then(|at| Some((self.find(&path[..at])?, &path[at + 1..])));
        let (parent, name) = parent.unwrap_or((NO_PARENT, path));
        let name_at = self.names.len() as u32;
        self.names.extend_from_slice(name);
        let (user, group, mode, has_owner) = (0, 0, 0, false);
        self.records.push(Record { modified_s: 0, modified_ns: 0, parent, name_at, user, group, mode, has_owner });
        // Of two paths that share a key the first is found; the other is kept as often as it is announced.
        self.numbers.entry(path_key(path)).or_insert(number);
        number
    }

    fn find(&self, path: &[u8]) -> Option<u32> {
        let number = *self.numbers.get(&path_key(path))?;
        self.is_at(number, path).then_some(number)
    }

    /// Whether this is the path of a folder.
    fn is_at(&self, mut number: u32, mut path: &[u8]) -> bool {
        loop {
            let Some(above) = path.strip_suffix(self.name(number)) else { return false };
            let parent = self.records[number as usize].parent;
            if parent == NO_PARENT {
                return above.is_empty();
            }
            let Some(above) = above.strip_suffix(b"/") else { return false };
            (number, path) = (parent, above);
        }
    }

    fn path(&self, mut number: u32) -> Vec<u8> {
        let mut names = Vec::new();
        while number != NO_PARENT {
            names.push(self.name(number));
            number = self.records[number as usize].parent;
        }
        names.reverse();
        names.join(&b'/')
    }

    fn name(&self, number: u32) -> &[u8] {
        let at = |record: &Record| record.name_at as usize;
        let end = self.records.get(number as usize + 1).map_or(self.names.len(), at);
        &self.names[at(&self.records[number as usize])..end]
    }
}

fn weight(xattrs: &[(Vec<u8>, Vec<u8>)]) -> usize {
    xattrs.iter().map(|(name, value)| name.len() + value.len() + 2 * size_of::<Vec<u8>>()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(path: &str, mode: u32) -> Entry {
        let attributes = Attributes { mode, modified_s: i64::from(mode), ..Attributes::default() };
        Entry { id: 0, path: path.into(), kind: EntryKind::Folder, attributes }
    }

    #[test]
    fn folders_come_back_as_they_were_the_deepest_first() {
        let paths = ["", "a", "a/b", "a/b/c", "ab", "a/bc", "x/y/z", "x/y/z/0"];
        let mut folders = Folders::default();
        (0..).zip(paths).for_each(|(mode, path)| folders.add(folder(path, mode)));
        let entries: Vec<Entry> = folders.into_entries().collect();
        let wanted: Vec<Entry> = (0..8).zip(paths).map(|(mode, path)| folder(path, mode)).rev().collect();
        assert_eq!(entries, wanted);
    }

    #[test]
    fn a_folder_that_comes_again_takes_no_more_room() {
        let mut folders = Folders::default();
        ["a", "a/b"].iter().for_each(|path| folders.add(folder(path, 1)));
        let bytes = folders.bytes();
        for mode in 0..1000 {
            let mut again = folder("a/b", mode);
            again.attributes.xattrs = vec![(b"system.posix_acl_access".to_vec(), vec![1; 50_000])];
            folders.add(again);
        }
        assert!(folders.bytes() < bytes + 60_000, "{}", folders.bytes());
        folders.add(folder("a/b", 7));
        assert_eq!(folders.bytes(), bytes);
        assert_eq!(folders.into_entries().collect::<Vec<_>>(), [folder("a/b", 7), folder("a", 1)]);
    }

    #[test]
    fn there_is_room_for_ten_million_and_an_end_of_it() {
        const { assert!(10_000_000 * (FOLDER_BYTES + 20) < FOLDERS_BYTES_MAX) };
        let mut folders = Folders::default();
        let heavy = |n: usize| {
            let mut heavy = folder(&n.to_string(), 1);
            heavy.attributes.xattrs = vec![(b"system.posix_acl_access".to_vec(), vec![1; 64 << 10])];
            heavy
        };
        (0..100).for_each(|n| folders.add(heavy(n)));
        assert!(folders.has_room(&heavy(0)));
        // As if they were many more.
        folders.xattrs_bytes += FOLDERS_BYTES_MAX;
        assert!(!folders.has_room(&heavy(0)));
    }
}
