//! Whether a destination is what the source is: names, kinds, where links lead, every byte. A mover that lost something
//! has no time.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;

use crate::common::interrupt;
use crate::trees::{Entry, EntryKind, Source, list};

const THREADS: usize = 2;
const BUFFER_BYTES: usize = 256 << 10;
/// A big file is compared by both threads.
const PIECE_BYTES: u64 = 64 << 20;

/// A part of a file.
struct Piece<'a> {
    path: &'a Path,
    at: u64,
    len: u64,
}

/// Compare; says what is missing or different.
pub fn compare(source: &Source, target: &Path) -> anyhow::Result<Option<String>> {
    if target.symlink_metadata().is_err() {
        return Ok(Some("nothing has arrived".to_owned()));
    }
    let found = list(target)?;
    if let Some(difference) = names(&source.entries, &found).or_else(|| hard_links(&source.entries, &found)) {
        return Ok(Some(difference));
    }
    contents(source, target)
}

/// The first difference in names, kinds, lengths and targets of links, and how many there are.
fn names(wanted: &[Entry], found: &[Entry]) -> Option<String> {
    let (mut missing, mut other, mut extra) = (Vec::new(), Vec::new(), Vec::new());
    let (mut a, mut b) = (wanted.iter().peekable(), found.iter().peekable());
    let key = |entry: &Entry| entry.path.as_os_str().as_bytes().to_vec();
    while a.peek().is_some() || b.peek().is_some() {
        let order = match (a.peek(), b.peek()) {
            (Some(a), Some(b)) => key(a).cmp(&key(b)),
            (Some(_), None) => std::cmp::Ordering::Less,
            _ => std::cmp::Ordering::Greater,
        };
        match order {
            std::cmp::Ordering::Less => missing.extend(a.next()),
            std::cmp::Ordering::Greater => extra.extend(b.next()),
            std::cmp::Ordering::Equal => {
                let pair = a.next().zip(b.next());
                other.extend(pair.filter(|(a, b)| a.kind != b.kind).map(|(a, _)| a));
            }
        }
    }
    let told = [(missing, "missing"), (other, "of another kind, length or target"), (extra, "too many")];
    let tell = |(entries, what): &(Vec<&Entry>, &str)| {
        let first = linerate::text::printable(entries.first()?.path.as_os_str().as_bytes());
        Some(format!("{} of {} entries {what}, first {first:?}", entries.len(), wanted.len()))
    };
    let told: Vec<String> = told.iter().filter_map(tell).collect();
    (!told.is_empty()).then(|| told.join("; "))
}

/// Names of one file must be names of one file again; both lists hold the same names.
fn hard_links(wanted: &[Entry], found: &[Entry]) -> Option<String> {
    let mut inodes: HashMap<u64, Option<u64>> = HashMap::new();
    let pairs = wanted.iter().zip(found).filter_map(|(a, b)| Some((a.shared?, b.shared)));
    let torn = pairs.filter(|(inode, shared)| shared.is_none() || *inodes.entry(*inode).or_insert(*shared) != *shared);
    let torn = torn.count();
    (torn > 0).then(|| format!("{torn} hard links became files of their own"))
}

/// Every byte, by threads that take piece after piece.
fn contents(source: &Source, target: &Path) -> anyhow::Result<Option<String>> {
    let files = source.entries.iter().filter_map(|entry| match entry.kind {
        EntryKind::File(len) => Some((entry.path.as_path(), len)),
        _ => None,
    });
    let cut = |(path, len): (_, u64)| {
        let starts = (0..len).step_by(PIECE_BYTES as usize);
        starts.map(move |at| Piece { path, at, len: PIECE_BYTES.min(len - at) })
    };
    let pieces: Vec<Piece> = files.flat_map(cut).collect();
    let (next, difference) = (AtomicUsize::new(0), Mutex::new(None));
    std::thread::scope(|scope| {
        let work = || -> anyhow::Result<()> {
            let mut buffers = [vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]];
            while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
                interrupt::check()?;
                if !is_same(piece, &source.path, target, &mut buffers)? {
                    let path =
                        linerate::text::printable(Path::new(&source.name).join(piece.path).as_os_str().as_bytes());
                    let told = format!("{path}: other bytes within {} from {}", piece.len, piece.at);
                    difference.lock().map_err(|_| anyhow::anyhow!("another thread failed"))?.get_or_insert(told);
                    next.store(pieces.len(), Ordering::Relaxed);
                }
            }
            Ok(())
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, anyhow::Result<()>>| {
            thread.join().map_err(|_| anyhow::anyhow!("a thread that compares failed"))?
        };
        threads.into_iter().map(join).collect::<anyhow::Result<Vec<()>>>()
    })?;
    difference.into_inner().map_err(|_| anyhow::anyhow!("another thread failed"))
}

fn is_same(piece: &Piece, source: &Path, target: &Path, buffers: &mut [Vec<u8>; 2]) -> anyhow::Result<bool> {
    let open = |root: &Path| {
        // The one file of a tree that is a file has no path in it.
        let path = if piece.path.as_os_str().is_empty() { root.to_path_buf() } else { root.join(piece.path) };
        File::open(&path).with_context(|| path.display().to_string())
    };
    let (ours, theirs) = (open(source)?, open(target)?);
    let [a, b] = buffers;
    for at in (piece.at..piece.at + piece.len).step_by(BUFFER_BYTES) {
        let n = (BUFFER_BYTES as u64).min(piece.at + piece.len - at) as usize;
        ours.read_exact_at(&mut a[..n], at)?;
        theirs.read_exact_at(&mut b[..n], at)?;
        if a[..n] != b[..n] {
            return Ok(false);
        }
    }
    Ok(true)
}
