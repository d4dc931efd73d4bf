//! A folder, or some of what is in it, as one archive that is made while it is sent: nothing is kept, nothing written.
//!
//! What is in an archive is what the listing shows: hidden names and special files are not. A link to a file of the
//! share is that file; a link to a folder is not followed, so there is no loop, unless it is what was asked for. What
//! cannot be read is told in `_errors.txt`, the last entry. A file that is cut short or fails after its entry began
//! leaves no whole archive: the stream ends without an end, and whoever receives it knows.
//!
//! A file that is written to while it is sent may come out as neither what it was nor what it is, as with any program
//! that copies it. If its length or time say so when its entry ends, `_errors.txt` does; the archive goes on, for a
//! folder with a log that grows is to be had too.
//!
//! Zip holds files as they are (most of what people share is compressed already), each with a data descriptor and
//! zip64 sizes, so nothing has to be known beforehand; one record per entry is kept for its directory. Tar holds them
//! in the GNU form, and its memory is constant.

mod pack;

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use pack::Pack;

use super::flow::{PIECE_BYTES, Sink};
use super::tree::{self, Found, Opened, Place, Tree, TreeError};
use crate::store::confined::{Kind, Links, Listed, Metadata, ReadDir, RelativePath};
use crate::text::printable;

/// Deepest folder below what was asked for: each level holds an open folder.
pub const DEPTH_MAX: usize = 128;
/// Most entries of an archive.
pub const ENTRIES_MAX: usize = 1 << 20;
/// Most lines of `_errors.txt`.
const TOLD_MAX: usize = 1000;
/// How much of a file is read to see whether it can be: the rest begins where a page does.
const PAGE: usize = 4 << 10;

/// The form of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `.zip`, stored.
    Zip,
    /// `.tar`, of GNU.
    Tar,
}

impl Format {
    /// As URLs, forms and names of files have it.
    pub fn name(self) -> &'static str {
        match self {
            Format::Zip => "zip",
            Format::Tar => "tar",
        }
    }

    /// The media type.
    pub fn mime(self) -> &'static str {
        match self {
            Format::Zip => "application/zip",
            Format::Tar => "application/x-tar",
        }
    }
}

/// Something that is to be in an archive, and how it is called there; nothing if its content stands at the top.
pub struct Top {
    /// Where it is in the share.
    pub path: RelativePath,
    /// Its name in the archive.
    pub name: Option<Vec<u8>>,
}

/// Make an archive. An error cuts it: what was written so far is none.
pub fn write(tree: &Tree, tops: &[Top], format: Format, sink: &Sink) -> io::Result<()> {
    let mut work =
        Work { tree, pack: pack::new(format, sink), entries: 0, told: Vec::new(), untold: 0, first: HashSet::new() };
    let made = work.all(tops).and_then(|()| work.tell());
    // Nothing of what follows an error reaches the connection.
    match made.and_then(|()| work.pack.finish()) {
        Ok(()) => sink.finish(),
        Err(error) => {
            sink.cut();
            Err(error)
        }
    }
}

/// An open folder on the way down.
struct Level {
    entries: ReadDir,
    place: Place,
    name: Vec<u8>,
}

struct Work<'a> {
    tree: &'a Tree,
    pack: Box<dyn Pack>,
    entries: usize,
    told: Vec<String>,
    untold: usize,
    /// Names at the top that could be mistaken for ours.
    first: HashSet<Vec<u8>>,
}

impl Work<'_> {
    fn all(&mut self, tops: &[Top]) -> io::Result<()> {
        let mut buffer = vec![0; PIECE_BYTES];
        for top in tops {
            let name = top.name.clone().unwrap_or_default();
            if name.starts_with(b"_errors") {
                self.first.insert(name.clone());
            }
            // A list of files and folders has no folder of its own.
            if top.path.is_root()
                && let Some(items) = self.tree.items()
            {
                for (item, place) in items {
                    self.top(tree::find(&place), join(&name, &item), &mut buffer)?;
                }
                continue;
            }
            self.top(self.tree.find(&top.path), name, &mut buffer)?;
        }
        Ok(())
    }

    fn top(&mut self, found: Result<Found, TreeError>, name: Vec<u8>, buffer: &mut [u8]) -> io::Result<()> {
        match found {
            Ok(Found::File(opened)) => self.file(&name, Ok(opened), buffer),
            Ok(Found::Folder(place)) => self.folder(place, name, buffer),
            Err(error) => {
                self.note(&name, &error.to_string());
                Ok(())
            }
        }
    }

    /// A folder and all below it.
    fn folder(&mut self, place: Place, name: Vec<u8>, buffer: &mut [u8]) -> io::Result<()> {
        let mut levels = Vec::new();
        levels.extend(self.open(place, name)?);
        while let Some(level) = levels.last_mut() {
            let listed = match level.entries.next_listed() {
                None => {
                    levels.pop();
                    continue;
                }
                Some(Ok(listed)) => listed,
                Some(Err(error)) => {
                    let name = level.name.clone();
                    self.note(&name, &error.reason());
                    levels.pop();
                    continue;
                }
            };
            if !self.tree.shows(listed.name()) {
                continue;
            }
            let below = self.entry(level, &listed, buffer)?;
            let Some((place, name)) = below else { continue };
            if levels.len() >= DEPTH_MAX {
                self.note(&name, "is too deep for an archive: download it by itself");
                continue;
            }
            levels.extend(self.open(place, name)?);
        }
        Ok(())
    }

    /// One entry; a folder is given back.
    fn entry(&mut self, level: &Level, listed: &Listed, buffer: &mut [u8]) -> io::Result<Option<(Place, Vec<u8>)>> {
        let name = join(&level.name, listed.name());
        let Ok(path) = level.place.path.join(listed.name()) else {
            self.note(&name, "has too long a path: download it by itself");
            return Ok(None);
        };
        let place = Place { root: level.place.root.clone(), path };
        let kind = match listed.kind() {
            Some(kind) => Some(kind),
            None => level.entries.metadata(listed).ok().flatten().map(|about| about.kind),
        };
        match kind {
            Some(Kind::Directory) => return Ok(Some((place, name))),
            Some(Kind::File) => {
                let opened = level.entries.open_read(listed).map_err(|error| error.reason()).and_then(|file| {
                    let metadata = Metadata::of_open(&file).map_err(|error| error.to_string())?;
                    Ok(Opened { file, metadata })
                });
                self.file(&name, opened, buffer)?;
            }
            Some(Kind::Symlink) => match tree::find(&place) {
                Ok(Found::File(opened)) => self.file(&name, Ok(opened), buffer)?,
                Ok(Found::Folder(_)) => self.note(&name, "is a link to a folder: download it by itself"),
                // It leads out, or nowhere: nobody is shown it.
                Err(_) => {}
            },
            _ => {}
        }
        Ok(None)
    }

    fn open(&mut self, place: Place, name: Vec<u8>) -> io::Result<Option<Level>> {
        let entries = match place.root.read_dir(&place.path, Links::Inside) {
            Ok(entries) => entries,
            Err(error) => {
                self.note(&name, &error.reason());
                return Ok(None);
            }
        };
        if !name.is_empty() {
            match place.root.metadata(&place.path) {
                Ok(about) if self.has_room(&name) => self.pack.folder(&name, &about)?,
                Ok(_) => return Ok(None),
                Err(error) => self.note(&name, &error.reason()),
            }
        }
        Ok(Some(Level { entries, place, name }))
    }

    fn file(&mut self, name: &[u8], opened: Result<Opened, String>, buffer: &mut [u8]) -> io::Result<()> {
        if !self.has_room(name) {
            return Ok(());
        }
        let opened = match opened {
            Ok(opened) => opened,
            Err(why) => {
                self.note(name, &why);
                return Ok(());
            }
        };
        // The beginning is read before anything is said of it: what cannot be read, and what is small, is known then.
        let Opened { file, metadata } = opened;
        // Of what is long no more is read than that takes.
        let most = if metadata.len > buffer.len() as u64 { PAGE } else { buffer.len() };
        let wanted = usize::try_from(metadata.len).map_or(most, |len| len.min(most));
        let got = match read_full(&file, &mut buffer[..wanted], 0) {
            Ok(got) => got,
            Err(error) => {
                self.note(name, &format!("cannot be read: {error}"));
                return Ok(());
            }
        };
        // What became shorter than a buffer is what it is now.
        let len = if got < wanted { got as u64 } else { metadata.len };
        if !self.pack.begin(name, &metadata, len)? {
            self.note(name, "has the name of another entry in this form of archive: download it by itself");
            return Ok(());
        }
        self.pack.bytes(&buffer[..got])?;
        if len > got as u64 {
            let file = Arc::new(file);
            self.pack.rest(&file, got as u64, len)?;
            if Metadata::of_open(&file).is_ok_and(|now| has_changed(&metadata, &now)) {
                self.note(
                    name,
                    "was changed while it was sent: what is here may be neither what it was nor what it is",
                );
            }
        }
        self.pack.end(len)
    }

    fn has_room(&mut self, name: &[u8]) -> bool {
        self.entries += 1;
        if self.entries > ENTRIES_MAX {
            self.note(name, "is one too many for an archive: download it by itself");
            return false;
        }
        true
    }

    fn note(&mut self, name: &[u8], why: &str) {
        match self.told.len() < TOLD_MAX {
            true => self.told.push(format!("{}: {why}\n", printable(name))),
            false => self.untold += 1,
        }
    }

    /// The last entry, if there is anything to tell.
    fn tell(&mut self) -> io::Result<()> {
        if self.told.is_empty() {
            return Ok(());
        }
        let mut text = String::from("These are not in this archive, or not as they should be:\n");
        text.extend(self.told.drain(..));
        if self.untold > 0 {
            text.push_str(&format!("and {} more\n", self.untold));
        }
        let names = (1u32..).map(|n| if n == 1 { "_errors.txt".into() } else { format!("_errors ({n}).txt") });
        let name = names.into_iter().find(|name| !self.first.contains(name.as_bytes())).unwrap_or_default();
        let about = plain(text.len() as u64);
        if self.pack.begin(name.as_bytes(), &about, about.len)? {
            self.pack.bytes(text.as_bytes())?;
            self.pack.end(about.len)?;
        }
        Ok(())
    }
}

/// What is said of an entry that is no file.
fn plain(len: u64) -> Metadata {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Metadata {
        kind: Kind::File,
        len,
        mode: 0o644,
        modified_s: i64::try_from(now).unwrap_or_default(),
        modified_ns: 0,
        device: 0,
        inode: 0,
        links: 1,
        uid: 0,
        gid: 0,
        blocks: 0,
    }
}

/// Whether a file's length or time of change are not what they were.
fn has_changed(before: &Metadata, now: &Metadata) -> bool {
    let version = |about: &Metadata| (about.len, about.modified_s, about.modified_ns);
    version(before) != version(now)
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    let mut joined = Vec::with_capacity(folder.len() + 1 + name.len());
    joined.extend_from_slice(folder);
    if !folder.is_empty() {
        joined.push(b'/');
    }
    joined.extend_from_slice(name);
    joined
}

/// As much as there is.
fn read_full(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read_at(&mut buffer[got..], at + got as u64) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}
