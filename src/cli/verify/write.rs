//! `linerate verify DIR --write MANIFEST`: hash all regular files below a folder and write what `b3sum` would.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::Context;

use super::hashing::{Hashing, Job};
use super::summary::Summary;
use super::{Args, shown};
use crate::cli::{Exit, out};
use crate::proto::b3sums::{self, Sum};
use crate::proto::verify::FileHash;
use crate::store::StoreError;
use crate::store::confined::{Kind, Links, RelativePath, Root};
use crate::store::draft::Draft;
use crate::store::hashing::{Hashed, hash_files};

/// What is below a folder.
#[derive(Default)]
struct Listing {
    /// Regular files.
    files: Vec<RelativePath>,
    /// Links, devices and the like.
    others: u64,
    /// Folders that could not be listed.
    errors: Vec<StoreError>,
}

pub(super) fn run(args: &Args, root: &Root, manifest: &Path) -> anyhow::Result<Exit> {
    let mut listing = list(root)?;
    let is_stdout = manifest == Path::new("-");
    if !is_stdout {
        leave_out(&mut listing.files, root, manifest);
    }
    for error in &listing.errors {
        Summary::complain(&error.to_string());
    }
    let (text, summary) = hash(args, root, &listing.files);
    match is_stdout {
        true => out::print(&text)?,
        false => save(manifest, &text).with_context(|| format!("{}: cannot be written", shown(manifest)))?,
    }
    if !args.quiet {
        let left_out = match listing.others {
            0 => String::new(),
            others => format!("; {others} links and other things that are no regular files left out"),
        };
        out::say(&format!("{}{left_out}", summary.figures()));
    }
    Ok(if summary.is_whole() && listing.errors.is_empty() { Exit::Ok } else { Exit::Partial })
}

/// All regular files below the root, in the order of their names. No link is followed.
fn list(root: &Root) -> Result<Listing, StoreError> {
    let mut listing = Listing::default();
    let mut folders = vec![RelativePath::root()];
    while let Some(folder) = folders.pop() {
        match root.read_dir(&folder, Links::Refused) {
            Ok(entries) => {
                for entry in entries {
                    let found = entry.and_then(|entry| Ok((folder.join(&entry.name)?, entry.kind)));
                    match found {
                        Ok((path, Kind::File)) => listing.files.push(path),
                        Ok((path, Kind::Directory)) => folders.push(path),
                        Ok(_) => listing.others += 1,
                        Err(error) => listing.errors.push(error),
                    }
                }
            }
            Err(error) if folder.is_root() => return Err(error),
            Err(error) => listing.errors.push(error),
        }
    }
    listing.files.sort();
    Ok(listing)
}

/// A manifest that is about to be replaced is not in itself.
fn leave_out(files: &mut Vec<RelativePath>, root: &Root, manifest: &Path) {
    let (Ok(about), Some(name)) = (fs::metadata(manifest), manifest.file_name()) else { return };
    files.retain(|path| {
        let is_named_so = path.names().last() == Some(name.as_bytes());
        let is_it = |path| root.metadata(path).is_ok_and(|it| (it.device, it.inode) == (about.dev(), about.ino()));
        !(is_named_so && is_it(path))
    });
}

/// The text of the manifest, without the files that cannot be read; they are complained of.
fn hash(args: &Args, root: &Root, files: &[RelativePath]) -> (String, Summary) {
    let state = Mutex::new((Summary::begin(), vec![None::<FileHash>; files.len()]));
    let note = |job: Job, hashed: Result<Hashed, StoreError>| {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let (summary, hashes) = &mut *state;
        if let (Some(hash), Ok(hashed)) = (hashes.get_mut(job.number), &hashed) {
            *hash = Some(hashed.hash);
        }
        if let Some(line) = summary.note(&job.path, None, hashed) {
            Summary::complain(&line);
        }
    };
    let hashing = Hashing::new(root, files.len(), !args.quiet, &note);
    let jobs = files.iter().cloned().enumerate().map(|(number, path)| Job { number, path });
    hash_files(args.threads(), jobs, &hashing);
    hashing.clear();
    let (summary, hashes) = state.into_inner().unwrap_or_else(PoisonError::into_inner);
    let sums = files.iter().zip(hashes).filter_map(|(path, hash)| hash.map(|hash| (path, hash)));
    let text = sums.map(|(path, hash)| b3sums::line(&Sum { hash, path: path.as_bytes().to_vec() })).collect();
    (text, summary.end())
}

/// Write it whole or not at all: a partial file beside it takes its name at the end.
fn save(path: &Path, text: &str) -> std::io::Result<()> {
    let is_replaceable = fs::symlink_metadata(path).map_or(true, |about| about.is_file());
    if !is_replaceable {
        // A pipe, a device, a link: what has the name stays, and gets the text.
        return fs::write(path, text);
    }
    let mut draft = Draft::begin(path)?;
    draft.write_all(text.as_bytes())?;
    draft.finish()
}
