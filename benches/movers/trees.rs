//! What is moved: a big file, many small ones, a tree with everything in it that movers lose. And what is in a tree.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::Context;
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};

use crate::common::interrupt;
use crate::options::Options;
use crate::workload::Kind;

const BLOCK_BYTES: usize = 1 << 20;
const CONTENT_SEED: u64 = 0x11e7a7e;
const SMALL_FILE_BYTES: usize = 4 << 10;
const FOLDERS: u64 = 100;

/// Files of the tree with links for each GB of it: how many, and of how many bytes. Together 1 GB, most of it in files
/// of more than a megabyte.
const MIX: [(u64, usize); 7] =
    [(8, 50_000_001), (120, 3_000_000), (900, 200_000), (1500, 30_000), (3500, 4_096), (1500, 100), (600, 0)];
/// Folder names of it.
const NAMES: [&str; 5] = ["plain", "with blanks", "größer", "日本語", "emoji 🦀"];
/// So many files have one with a hard link, one with a symlink, and so on.
const LINK_EVERY: u64 = 20;

/// An entry of a tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// From the tree's root, which has none.
    pub path: PathBuf,
    /// What it is.
    pub kind: EntryKind,
    /// Inode number, where the file has more than one name.
    pub shared: Option<u64>,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKind {
    /// A file of so many bytes.
    File(u64),
    /// A folder.
    Folder,
    /// A symlink, and where it leads.
    Link(PathBuf),
    /// Anything else.
    Other,
}

/// A source that lies ready.
pub struct Source {
    /// Where.
    pub path: PathBuf,
    /// Its name in that folder, and in a destination.
    pub name: String,
    /// What is in it, by path.
    pub entries: Vec<Entry>,
    /// Bytes in all files, hard links counted once.
    pub bytes: u64,
    /// Regular files, hard links counted each.
    pub files: u64,
}

impl Source {
    /// Make the source of a workload in a folder.
    pub fn make(kind: Kind, folder: &Path, options: &Options) -> anyhow::Result<Source> {
        let name = if kind.is_big() { "big.dat" } else { kind.name() };
        let path = folder.join(name);
        let mut noise = SmallRng::seed_from_u64(CONTENT_SEED);
        let made = if kind.is_big() {
            write(&path, options.big_bytes, &mut noise)
        } else if kind == Kind::Links {
            mixed(&path, options.tree_bytes, &mut noise)
        } else {
            small(&path, options.files, &mut noise)
        };
        made.with_context(|| format!("{}: the source cannot be made", path.display()))?;
        let entries = list(&path)?;
        let mut counted = std::collections::HashSet::new();
        let (mut bytes, mut files) = (0, 0);
        for entry in &entries {
            if let EntryKind::File(len) = entry.kind {
                files += 1;
                bytes += if entry.shared.is_none_or(|inode| counted.insert(inode)) { len } else { 0 };
            }
        }
        Ok(Source { path, name: name.to_owned(), entries, bytes, files })
    }

    /// Memory that a copy of it takes: whole pages, and something for each entry.
    pub fn needs_bytes(&self) -> u64 {
        self.bytes + self.entries.len() as u64 * 5120
    }
}

/// A file of random bytes.
fn write(path: &Path, bytes: u64, noise: &mut SmallRng) -> anyhow::Result<()> {
    let file = File::create(path)?;
    let mut block = vec![0; BLOCK_BYTES.min(bytes as usize)];
    for at in (0..bytes).step_by(BLOCK_BYTES) {
        interrupt::check()?;
        let n = (BLOCK_BYTES as u64).min(bytes - at) as usize;
        noise.fill_bytes(&mut block[..n]);
        file.write_all_at(&block[..n], at)?;
    }
    Ok(())
}

/// So many files of 4 KiB in 100 folders.
fn small(root: &Path, files: u64, noise: &mut SmallRng) -> anyhow::Result<()> {
    let mut block = [0; SMALL_FILE_BYTES];
    fs::create_dir(root)?;
    for folder in 0..FOLDERS.min(files) {
        interrupt::check()?;
        let path = root.join(format!("folder-{folder:03}"));
        fs::create_dir(&path)?;
        for file in (folder..files).step_by(FOLDERS as usize) {
            noise.fill_bytes(&mut block);
            fs::write(path.join(format!("file-{file:06}.dat")), block)?;
        }
    }
    Ok(())
}

/// A tree of mixed sizes: symlinks to files, folders and nothing, hard links, folders without anything in them, names
/// that are not ASCII.
fn mixed(root: &Path, bytes: u64, noise: &mut SmallRng) -> anyhow::Result<()> {
    let share = bytes as f64 / 1e9;
    fs::create_dir(root)?;
    for name in NAMES {
        let folder = root.join(name);
        fs::create_dir_all(folder.join("deep/er"))?;
        fs::create_dir_all(folder.join("empty/so is this"))?;
        symlink("../nothing is here", folder.join("dangling"))?;
        symlink("/nonexistent/absolute", folder.join("dangling-absolute"))?;
        symlink("deep", folder.join("to a folder"))?;
    }
    // One, and in no circle: a mover that follows links would fill the place with copies.
    symlink(format!("../{}", NAMES[1]), root.join(NAMES[0]).join("to the next ß"))?;
    let mut made = 0;
    for (count, len) in MIX {
        let count = ((count as f64 * share).round() as u64).max(1);
        // A small tree has fewer big files, and where it has only one that one is shorter.
        let len = if share < 1.0 / 8.0 { len.min((bytes / 4) as usize) } else { len };
        for _ in 0..count {
            let folder = root.join(NAMES[made as usize % NAMES.len()]).join(["", "deep", "deep/er"][made as usize % 3]);
            let name = format!("{}-{made}.bin", ["file", "Datei-äöü", "ファイル"][made as usize / 3 % 3]);
            write(&folder.join(&name), len as u64, noise)?;
            if made % LINK_EVERY == 0 {
                symlink(&name, folder.join(format!("link-{made}")))?;
                fs::hard_link(folder.join(&name), root.join(format!("hard-{made}")))?;
            }
            made += 1;
        }
    }
    Ok(())
}

/// Everything in a tree, or the one file that it is, by path.
pub fn list(root: &Path) -> anyhow::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(relative) = open.pop() {
        let path = if relative.as_os_str().is_empty() { root.to_path_buf() } else { root.join(&relative) };
        let meta = fs::symlink_metadata(&path).with_context(|| path.display().to_string())?;
        let kind = if meta.is_file() {
            EntryKind::File(meta.len())
        } else if meta.is_dir() {
            for entry in fs::read_dir(&path).with_context(|| path.display().to_string())? {
                open.push(relative.join(entry?.file_name()));
            }
            EntryKind::Folder
        } else if meta.is_symlink() {
            EntryKind::Link(fs::read_link(&path)?)
        } else {
            EntryKind::Other
        };
        let shared = (meta.is_file() && meta.nlink() > 1).then(|| meta.ino());
        entries.push(Entry { path: relative, kind, shared });
    }
    entries.sort_unstable_by(|a, b| a.path.as_os_str().as_bytes().cmp(b.path.as_os_str().as_bytes()));
    Ok(entries)
}
