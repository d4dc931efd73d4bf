//! What one thread of a scan does: read folders depth-first, make entries, share folders with who has none.

use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use nix::fcntl::readlinkat;

use super::output::{Output, Shared};
use super::sharing::{Sharing, Waiting};
use super::{BATCH_BYTES, BATCH_ENTRIES_MAX, Bounds, ScanOptions, Skipped, Top, unfit, xattrs};
use crate::proto::manifest::{Attributes, ENTRY_PATH_BYTES_MAX, Entry, EntryKind};
use crate::store::StoreError;
use crate::store::confined::{DEPTH_MAX, Kind, Listed, Metadata, ReadDir, RelativePath};
use crate::store::filter::Within;
use crate::store::media::SNIFF_BYTES;

/// A thread's first batch; each further one is twice as large, up to the most.
const BATCH_ENTRIES_FIRST: usize = 64;

/// What all threads know.
#[derive(Debug)]
pub(super) struct Common {
    pub tops: Vec<Top>,
    /// What each top was when the scan began.
    pub known: Vec<Metadata>,
    pub options: ScanOptions,
    pub bounds: Bounds,
    pub sharing: Arc<Sharing>,
    pub output: Arc<Output>,
}

/// One thread.
pub(super) struct Worker {
    common: Arc<Common>,
    batch: Vec<Entry>,
    batch_max: usize,
    /// Paths, targets and attributes in the batch, bytes.
    batch_bytes: usize,
    shared: Vec<Shared>,
    /// Folders to read, the next one last.
    waiting: Vec<Waiting>,
    /// Folders that are being read, each in the one before.
    open: Vec<Folder>,
}

/// A folder that is being read.
struct Folder {
    from: Waiting,
    entries: Entries,
    /// What the paths of its entries begin with.
    prefix: Vec<u8>,
    /// Its entries are as deep as can be.
    is_deepest: bool,
    /// How many folders waited when its reading began.
    waiting: usize,
}

/// Where a folder's entries come from.
struct Entries {
    folder: ReadDir,
    /// All of them, the next one last, if they come in order.
    sorted: Option<Vec<Listed>>,
}

/// Ends with the thread: lets the others and the receiver know, even if it fails.
struct Leaving(Arc<Common>);

impl Drop for Leaving {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.sharing.stop();
        }
        if self.0.sharing.leave() {
            self.0.output.close();
        }
    }
}

impl Worker {
    pub(super) fn new(common: Arc<Common>) -> Worker {
        Worker {
            common,
            batch: Vec::new(),
            batch_max: BATCH_ENTRIES_FIRST,
            batch_bytes: 0,
            shared: Vec::new(),
            waiting: Vec::new(),
            open: Vec::new(),
        }
    }

    /// Work until there is nothing left; the first thread begins with the tops.
    pub(super) fn run(mut self, is_first: bool) {
        let _leaving = Leaving(self.common.clone());
        if is_first {
            for number in 0..self.common.tops.len() {
                self.begin(number);
            }
            self.waiting.reverse();
        }
        while !self.common.sharing.is_stopped() {
            if let Some(folder) = self.open.pop() {
                self.read(folder);
            } else if let Some(next) = self.next_waiting() {
                self.share();
                if let Some(folder) = self.enter(next) {
                    self.open.push(folder);
                }
            } else {
                return;
            }
        }
    }

    /// The folder to read next; what was found is sent before this waits for one.
    fn next_waiting(&mut self) -> Option<Waiting> {
        let next = self.waiting.pop().or_else(|| {
            self.flush();
            self.common.sharing.take()
        })?;
        self.common.sharing.count_out();
        Some(next)
    }

    /// Make the entry of what the scan begins with.
    fn begin(&mut self, number: usize) {
        let common = self.common.clone();
        let (Some(top), Some(known)) = (common.tops.get(number), common.known.get(number)) else { return };
        let path = top.at.as_bytes().to_vec();
        let held = match top.root.hold(&top.path) {
            Ok(held) => held,
            Err(error) => return common.output.skip(path, error.reason()),
        };
        let target = || Some(std::os::unix::ffi::OsStringExt::into_vec(readlinkat(&held, "").ok()?));
        let Some(kind) = entry_kind(known, target) else {
            return common.output.skip(path, "is another thing than when the scan began: begin anew".to_string());
        };
        let xattrs = if common.options.xattrs { xattrs::read(held.as_fd()) } else { Ok(Vec::new()) };
        let is_folder = kind == EntryKind::Folder;
        self.push(path, kind, known, xattrs);
        if is_folder {
            let within = Within::default();
            self.wait(Waiting { top: number, path: top.path.clone(), within });
        }
    }

    /// Open a folder, or name it as skipped.
    fn enter(&self, from: Waiting) -> Option<Folder> {
        let top = self.common.tops.get(from.top)?;
        let mut prefix = top.at.as_bytes().to_vec();
        let below = from.path.as_bytes().get(top.path.as_bytes().len()..).unwrap_or_default();
        let below = below.strip_prefix(b"/").unwrap_or(below);
        if !prefix.is_empty() && !below.is_empty() {
            prefix.push(b'/');
        }
        prefix.extend_from_slice(below);
        let opened = top.root.read_dir_once(&from.path).and_then(|folder| self.entries(folder));
        match opened {
            Ok(entries) => {
                let depth = prefix.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).count();
                if !prefix.is_empty() {
                    prefix.push(b'/');
                }
                Some(Folder { from, entries, prefix, is_deepest: depth >= DEPTH_MAX, waiting: self.waiting.len() })
            }
            Err(error) => {
                self.common.output.skip(prefix, error.reason());
                None
            }
        }
    }

    fn entries(&self, mut folder: ReadDir) -> Result<Entries, StoreError> {
        if !self.common.options.sorted {
            return Ok(Entries { folder, sorted: None });
        }
        let mut all = std::iter::from_fn(|| folder.next_listed()).collect::<Result<Vec<_>, _>>()?;
        all.sort_by(|one, other| other.name().cmp(one.name()));
        Ok(Entries { folder, sorted: Some(all) })
    }

    /// Go through a folder to its end, or until one in it has to be read first.
    fn read(&mut self, mut folder: Folder) {
        while !self.common.sharing.is_stopped() {
            let listed = match folder.entries.next() {
                Some(Ok(listed)) => listed,
                Some(Err(error)) => {
                    let path = folder.prefix.strip_suffix(b"/").unwrap_or(&folder.prefix);
                    self.common.output.skip(path.to_vec(), error.reason());
                    break;
                }
                None => break,
            };
            let Some(found) = self.visit(&folder, &listed) else { continue };
            let bounds = self.common.bounds;
            if self.common.sharing.waiting() < bounds.waiting || self.open.len() + 1 >= bounds.held {
                self.wait(found);
            } else if let Some(deeper) = self.enter(found) {
                self.open.push(folder);
                return self.open.push(deeper);
            }
        }
        // The last one is read next.
        if let Some(new) = self.waiting.get_mut(folder.waiting..).filter(|_| self.common.options.sorted) {
            new.reverse();
        }
    }

    /// Make the entry of what was listed, if it is wanted; a folder that is to be read is returned.
    fn visit(&mut self, folder: &Folder, listed: &Listed) -> Option<Waiting> {
        let common = &*self.common;
        let mut path = Vec::with_capacity(folder.prefix.len() + listed.name().len());
        path.extend_from_slice(&folder.prefix);
        path.extend_from_slice(listed.name());
        let within = folder.from.within;
        // By the name alone first: what is left out need not be examined.
        let wanted = |kind| match kind {
            Kind::Directory => common.options.filter.enters(self.judged(folder, &path), within),
            _ => common.options.filter.takes_name(self.judged(folder, &path), within).then_some(within),
        };
        if listed.kind().is_some_and(|kind| wanted(kind).is_none()) {
            return None;
        }
        let known = match folder.entries.folder.metadata(listed) {
            Ok(known) => known?,
            Err(error) => {
                common.output.skip(path, error.reason());
                return None;
            }
        };
        let within = wanted(known.kind)?;
        if let Some(why) = fault(folder, &path, known.kind) {
            let is_failure = unfit(known.kind).is_none();
            common.output.pass_over(Skipped { path, why: why.to_string(), is_failure });
            return None;
        }
        if !self.takes(folder, listed, &path, &known) {
            return None;
        }
        let next = self.next(folder, listed, &path, &known, within);
        self.make(folder, listed, path, &known);
        next
    }

    /// The path as the filter sees it: from what the scan began with on, whatever that is called in the copy.
    fn judged<'a>(&self, folder: &Folder, path: &'a [u8]) -> &'a [u8] {
        let at = self.common.tops.get(folder.from.top).map_or(0, |top| top.at.as_bytes().len());
        let below = path.get(at..).unwrap_or_default();
        below.strip_prefix(b"/").unwrap_or(below)
    }

    /// Whether the filter wants an entry for what it is.
    fn takes(&self, folder: &Folder, listed: &Listed, path: &[u8], known: &Metadata) -> bool {
        let filter = &self.common.options.filter;
        match known.kind {
            Kind::File => filter
                .takes_content(self.judged(folder, path), known, |first| self.read_first(folder, listed, path, first)),
            Kind::Symlink => filter.takes_links(),
            _ => true,
        }
    }

    /// A file's first bytes; one that cannot be read is named, since its type is not known.
    fn read_first(&self, folder: &Folder, listed: &Listed, path: &[u8], first: &mut [u8; SNIFF_BYTES]) -> usize {
        let skip = |why: String| self.common.output.skip(path.to_vec(), format!("its type is not known: {why}"));
        match folder.entries.folder.open_read(listed).map(|file| file.read_at(first, 0)) {
            Ok(Ok(len)) => return len,
            Ok(Err(error)) => skip(format!("cannot be read: {error}")),
            Err(error) => skip(error.reason()),
        }
        0
    }

    /// A folder to be read, if this is one.
    fn next(&self, from: &Folder, listed: &Listed, path: &[u8], known: &Metadata, within: Within) -> Option<Waiting> {
        let top = from.from.top;
        if known.kind != Kind::Directory {
            return None;
        }
        let names = |path: &RelativePath| path.names().count();
        let depth = || names(&from.from.path) + 1 - self.common.tops.get(top).map_or(0, |top| names(&top.path));
        if self.common.options.depth_max.is_some_and(|max| depth() >= max) {
            return None;
        }
        match from.from.path.join(listed.name()) {
            Ok(path) => Some(Waiting { top, path, within }),
            Err(error) => {
                self.common.output.skip(path.to_vec(), error.reason());
                None
            }
        }
    }

    fn make(&mut self, folder: &Folder, listed: &Listed, path: Vec<u8>, known: &Metadata) {
        let entries = &folder.entries.folder;
        // Nothing: it is no link any more, and what it is now will be found the next time.
        let target = || {
            entries.target(listed).unwrap_or_else(|error| {
                self.common.output.skip(path.clone(), error.reason());
                None
            })
        };
        let Some(kind) = entry_kind(known, target) else { return };
        let xattrs = match self.common.options.xattrs {
            true => entries.hold(listed).map_err(|error| error.reason()).and_then(|held| xattrs::read(held.as_fd())),
            false => Ok(Vec::new()),
        };
        self.push(path, kind, known, xattrs);
    }

    /// Add an entry to the batch.
    fn push(&mut self, path: Vec<u8>, kind: EntryKind, known: &Metadata, xattrs: Result<xattrs::Xattrs, String>) {
        let options = &self.common.options;
        let xattrs = xattrs.unwrap_or_else(|why| {
            self.common.output.skip(path.clone(), why);
            Vec::new()
        });
        self.batch_bytes += path.len() + xattrs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        if let EntryKind::Symlink { target } = &kind {
            self.batch_bytes += target.len();
        }
        if options.hard_links && known.kind == Kind::File && known.links > 1 {
            let file = (known.device, known.inode);
            self.shared.push(Shared { at: self.batch.len(), file, names: known.links });
        }
        let attributes = Attributes {
            mode: known.mode,
            modified_s: known.modified_s,
            modified_ns: known.modified_ns,
            owner: options.owner.then_some((known.uid, known.gid)),
            xattrs,
        };
        if self.batch.capacity() == 0 {
            self.batch.reserve_exact(self.batch_max);
        }
        // Numbered when it is sent.
        self.batch.push(Entry { id: 0, path, kind, attributes });
        if self.batch.len() >= self.batch_max || self.batch_bytes >= BATCH_BYTES {
            self.flush();
            self.share();
        }
    }

    /// Send the batch, if there is anything in it.
    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut self.batch);
        if !self.common.output.send(batch, &self.shared) {
            self.common.sharing.stop();
        }
        self.shared.clear();
        self.batch_bytes = 0;
        self.batch_max = (self.batch_max * 2).min(BATCH_ENTRIES_MAX);
    }

    fn wait(&mut self, folder: Waiting) {
        self.common.sharing.count_in();
        self.waiting.push(folder);
    }

    /// Give away half of the folders that wait, those furthest out, if another thread has nothing to do. Their
    /// entries go first.
    fn share(&mut self) {
        if self.waiting.is_empty() || !self.common.sharing.wants_more() {
            return;
        }
        self.flush();
        let half = self.waiting.len().div_ceil(2);
        self.common.sharing.give(self.waiting.drain(..half));
    }
}

impl Entries {
    fn next(&mut self) -> Option<Result<Listed, StoreError>> {
        match &mut self.sorted {
            Some(left) => left.pop().map(Ok),
            None => self.folder.next_listed(),
        }
    }
}

/// Why an entry cannot be copied, if it cannot.
fn fault(folder: &Folder, path: &[u8], kind: Kind) -> Option<&'static str> {
    match () {
        () if path.len() > ENTRY_PATH_BYTES_MAX => Some("its path is longer than 4096 bytes: copy a folder further in"),
        () if folder.is_deepest => Some("is more than 1024 folders deep: copy a folder further in"),
        () => unfit(kind),
    }
}

/// What an entry is; nothing if it is a link whose target cannot be had.
fn entry_kind(known: &Metadata, target: impl FnOnce() -> Option<Vec<u8>>) -> Option<EntryKind> {
    match known.kind {
        Kind::Directory => Some(EntryKind::Folder),
        Kind::Symlink => target().map(|target| EntryKind::Symlink { target }),
        _ => Some(EntryKind::File { len: known.len, is_sparse: known.is_sparse() }),
    }
}
