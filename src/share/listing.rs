//! What is in a folder: read once, sorted and filtered, and given out a page at a time.
//!
//! A folder of 100,000 entries is read once for all its pages: what was read a moment ago is kept for a few seconds, as
//! long as the folder itself was not changed since. How much is kept is bounded by entries, not folders.

use std::cmp::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::Semaphore;
use tokio::task::{JoinError, spawn_blocking};

use super::state::Share;
use super::tree::{self, Found, Place, Tree, TreeError};
use crate::store::StoreError;
use crate::store::confined::{Kind, Links, Metadata, RelativePath};
use crate::store::media::{self, ByName, MediaKind};

/// Most entries of a folder that are listed.
pub const ENTRIES_MAX: usize = 1 << 20;
/// Most rows of an answer.
pub const LIMIT_MAX: usize = 5000;
/// For how long a folder that was read is good, if it does not change itself; sizes and times may.
const KEPT_FOR: Duration = Duration::from_secs(5);
/// Folders that are kept, and entries of all together.
const KEPT_MAX: usize = 16;
const KEPT_ENTRIES_MAX: usize = 1 << 20;
/// Folders that are read at a time.
const READ_AT_ONCE_MAX: usize = 4;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name in the folder.
    pub name: Vec<u8>,
    /// Folder or file.
    pub is_folder: bool,
    /// Its length; 0 for folders.
    pub bytes: u64,
    /// Seconds since 1970.
    pub modified_s: i64,
    /// And the nanoseconds after.
    pub modified_ns: u32,
    /// What a file holds, by its name.
    pub media: Option<MediaKind>,
}

impl Row {
    /// `folder`, the kind of what a file holds, or `other`.
    pub fn type_name(&self) -> &'static str {
        match (self.is_folder, self.media) {
            (true, _) => "folder",
            (false, Some(media)) => media.name(),
            (false, None) => "other",
        }
    }
}

/// By what rows are ordered; folders come first in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sort {
    /// As a person counts: `2` before `10`, case aside.
    #[default]
    Name,
    /// Smallest first.
    Size,
    /// Oldest first.
    Date,
    /// By media kind, then name.
    Type,
}

/// Which rows, in which order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Query {
    /// The order.
    pub sort: Sort,
    /// The other way round.
    pub is_descending: bool,
    /// Only files of this kind.
    pub media: Option<MediaKind>,
}

/// Some of the rows.
#[derive(Clone, Debug)]
pub struct Page {
    /// How many there are.
    pub total: usize,
    /// These.
    pub rows: Vec<Row>,
}

/// A folder as it was read. Rows are shared by all who look at it.
#[derive(Debug)]
pub struct Snapshot {
    place: (usize, RelativePath),
    seen: Stamp,
    read: Instant,
    rows: Arc<Vec<Row>>,
    /// The last order that was asked for.
    ordered: Mutex<Option<(Query, Arc<Vec<u32>>)>>,
}

/// The longest tick of a system's clock, twice.
const TICK_MAX: Duration = Duration::from_millis(20);

/// By what a changed folder is known.
type Stamp = Option<(u64, u64, i64, u32)>;

/// Folders that were read a moment ago.
#[derive(Debug)]
pub struct Listings {
    kept: Mutex<Vec<Arc<Snapshot>>>,
    /// Turns to read one.
    pub(super) turns: Arc<Semaphore>,
}

impl Default for Listings {
    fn default() -> Listings {
        Listings { kept: Mutex::default(), turns: Arc::new(Semaphore::new(READ_AT_ONCE_MAX)) }
    }
}

/// A folder, found among those that are kept or still to be read.
enum Looked {
    Kept(Arc<Snapshot>),
    Unread(Unread),
}

struct Unread {
    place: Option<Place>,
    top: Option<Vec<(Vec<u8>, Place)>>,
    key: (usize, RelativePath),
    seen: Stamp,
}

/// A folder as it was read a moment ago, or just now. Few are read at a time, however many ask: each takes the memory
/// of all its entries, and whoever waited for a turn mostly finds what the one before him has read.
pub async fn folder(share: &Arc<Share>, path: &RelativePath) -> Result<Result<Arc<Snapshot>, TreeError>, JoinError> {
    let (from, at) = (share.clone(), path.clone());
    match spawn_blocking(move || from.listings.look(&from.tree, &at)).await? {
        Ok(Looked::Kept(kept)) => return Ok(Ok(kept)),
        Ok(Looked::Unread(_)) => {}
        Err(error) => return Ok(Err(error)),
    }
    // It is never closed.
    let turn = share.listings.turns.clone().acquire_owned().await.ok();
    let (from, at) = (share.clone(), path.clone());
    spawn_blocking(move || {
        let _turn = turn;
        from.listings.snapshot(&from.tree, &at)
    })
    .await
}

impl Listings {
    /// Some rows of a folder.
    pub fn page(
        &self,
        tree: &Tree,
        path: &RelativePath,
        query: Query,
        range: (usize, usize),
    ) -> Result<Page, TreeError> {
        Ok(self.snapshot(tree, path)?.page(query, range))
    }

    /// All rows of a folder, in no order: for whoever does not answer a request with them.
    pub fn all(&self, tree: &Tree, path: &RelativePath) -> Result<Arc<Vec<Row>>, TreeError> {
        Ok(self.snapshot(tree, path)?.rows.clone())
    }

    fn snapshot(&self, tree: &Tree, path: &RelativePath) -> Result<Arc<Snapshot>, TreeError> {
        match self.look(tree, path)? {
            Looked::Kept(kept) => Ok(kept),
            Looked::Unread(unread) => self.read(tree, unread),
        }
    }

    fn look(&self, tree: &Tree, path: &RelativePath) -> Result<Looked, TreeError> {
        let top = path.is_root().then(|| tree.items()).flatten();
        let place = match top.is_some() {
            true => None,
            false => match tree.find(path)? {
                Found::Folder(place) => Some(place),
                Found::File(_) => return Err(TreeError::Missing),
            },
        };
        let key = (place.as_ref().map_or(0, |place| Arc::as_ptr(&place.root) as usize), path.clone());
        let seen = place.as_ref().and_then(stamp);
        Ok(match self.find(&key, seen) {
            Some(kept) => Looked::Kept(kept),
            None => Looked::Unread(Unread { place, top, key, seen: seen.filter(is_settled) }),
        })
    }

    fn read(&self, tree: &Tree, unread: Unread) -> Result<Arc<Snapshot>, TreeError> {
        let Unread { place, top, key, seen } = unread;
        let rows = match (place, top) {
            (Some(place), _) => read(tree, &place)?,
            (None, items) => {
                items.unwrap_or_default().into_iter().filter_map(|(name, place)| row_at(name, &place)).collect()
            }
        };
        let snapshot =
            Snapshot { place: key, seen, read: Instant::now(), rows: Arc::new(rows), ordered: Mutex::default() };
        let snapshot = Arc::new(snapshot);
        self.keep(snapshot.clone());
        Ok(snapshot)
    }

    fn find(&self, key: &(usize, RelativePath), seen: Stamp) -> Option<Arc<Snapshot>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|snapshot| snapshot.read.elapsed() < KEPT_FOR);
        let found = kept.iter().find(|snapshot| &snapshot.place == key && seen.is_some() && snapshot.seen == seen);
        found.cloned()
    }

    /// What was read of a folder is not how it is.
    pub fn forget(&self, path: &RelativePath) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|snapshot| snapshot.place.1 != *path);
    }

    fn keep(&self, snapshot: Arc<Snapshot>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|other| other.place != snapshot.place);
        kept.push(snapshot);
        let entries = |kept: &[Arc<Snapshot>]| kept.iter().map(|snapshot| snapshot.rows.len()).sum::<usize>();
        while kept.len() > KEPT_MAX || (kept.len() > 1 && entries(&kept) > KEPT_ENTRIES_MAX) {
            kept.remove(0);
        }
    }
}

impl Snapshot {
    /// Some rows.
    pub fn page(&self, query: Query, (offset, limit): (usize, usize)) -> Page {
        let order = self.order(query);
        let rows = order.iter().skip(offset).take(limit.min(LIMIT_MAX));
        let rows = rows.filter_map(|at| self.rows.get(*at as usize).cloned()).collect();
        Page { total: order.len(), rows }
    }

    fn order(&self, query: Query) -> Arc<Vec<u32>> {
        let mut ordered = self.ordered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((last, order)) = &*ordered
            && *last == query
        {
            return order.clone();
        }
        let wanted = |row: &Row| query.media.is_none_or(|media| row.is_folder || row.media == Some(media));
        let mut order: Vec<u32> =
            (0u32..).zip(self.rows.iter()).filter(|(_, row)| wanted(row)).map(|(at, _)| at).collect();
        order.sort_unstable_by(|a, b| compare(&self.rows[*a as usize], &self.rows[*b as usize], query));
        let order = Arc::new(order);
        *ordered = Some((query, order.clone()));
        order
    }
}

fn compare(a: &Row, b: &Row, query: Query) -> Ordering {
    let by_name = || natural(&a.name, &b.name).then_with(|| a.name.cmp(&b.name));
    let wanted = match query.sort {
        Sort::Name => by_name(),
        Sort::Size => a.bytes.cmp(&b.bytes).then_with(by_name),
        Sort::Date => (a.modified_s, a.modified_ns).cmp(&(b.modified_s, b.modified_ns)).then_with(by_name),
        Sort::Type => a.media.cmp(&b.media).then_with(by_name),
    };
    let wanted = if query.is_descending { wanted.reverse() } else { wanted };
    b.is_folder.cmp(&a.is_folder).then(wanted)
}

/// Names as a person orders them: runs of digits by their value, letters without their case.
fn natural(a: &[u8], b: &[u8]) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        match (a.first(), b.first()) {
            (None, None) => return Ordering::Equal,
            (None, _) => return Ordering::Less,
            (_, None) => return Ordering::Greater,
            (Some(x), Some(y)) if x.is_ascii_digit() && y.is_ascii_digit() => {
                let (left, right) = (digits(a), digits(b));
                let value = |run: &[u8]| run.iter().position(|digit| *digit != b'0').map_or(run.len(), |zeros| zeros);
                let (x, y) = (&left[value(left)..], &right[value(right)..]);
                match x.len().cmp(&y.len()).then_with(|| x.cmp(y)) {
                    Ordering::Equal => {}
                    other => return other,
                }
                (a, b) = (&a[left.len()..], &b[right.len()..]);
            }
            (Some(x), Some(y)) => {
                match x.to_ascii_lowercase().cmp(&y.to_ascii_lowercase()) {
                    Ordering::Equal => {}
                    other => return other,
                }
                (a, b) = (&a[1..], &b[1..]);
            }
        }
    }
}

fn digits(name: &[u8]) -> &[u8] {
    let len = name.iter().take_while(|byte| byte.is_ascii_digit()).count();
    &name[..len]
}

fn stamp(place: &Place) -> Stamp {
    let found = place.root.metadata(&place.path).ok()?;
    (found.kind == Kind::Directory).then_some((found.device, found.inode, found.modified_s, found.modified_ns))
}

/// Whether a further change would give the folder another time: within one tick of the system's clock it may not.
fn is_settled(&(_, _, seconds, nanoseconds): &(u64, u64, i64, u32)) -> bool {
    let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) else { return false };
    let changed = Duration::new(u64::try_from(seconds).unwrap_or(0), nanoseconds);
    changed + TICK_MAX < now
}

fn read(tree: &Tree, place: &Place) -> Result<Vec<Row>, TreeError> {
    let mut entries = place.root.read_dir(&place.path, Links::Inside).map_err(|error| match &error {
        StoreError::System { error: system, .. } if system.kind() == std::io::ErrorKind::NotFound => TreeError::Missing,
        _ => TreeError::Store(error),
    })?;
    let mut rows = Vec::new();
    while let Some(listed) = entries.next_listed() {
        let listed = listed?;
        if !tree.shows(listed.name()) {
            continue;
        }
        // One that cannot be examined is none that could be opened.
        let Ok(Some(found)) = entries.metadata(&listed) else { continue };
        let row = match found.kind {
            Kind::File | Kind::Directory => Some(row(listed.name().to_vec(), &found)),
            Kind::Symlink => place
                .path
                .join(listed.name())
                .ok()
                .and_then(|path| row_at(listed.name().to_vec(), &Place { root: place.root.clone(), path })),
            _ => None,
        };
        rows.extend(row);
        if rows.len() >= ENTRIES_MAX {
            break;
        }
    }
    Ok(rows)
}

/// The row of what a place leads to, through links.
pub(super) fn row_at(name: Vec<u8>, place: &Place) -> Option<Row> {
    match tree::find(place).ok()? {
        Found::File(opened) => Some(row(name, &opened.metadata)),
        Found::Folder(place) => {
            let mut row = row(name, &place.root.metadata(&place.path).ok()?);
            (row.is_folder, row.bytes, row.media) = (true, 0, None);
            Some(row)
        }
    }
}

/// The row of what was examined already.
pub(super) fn row(name: Vec<u8>, found: &Metadata) -> Row {
    let is_folder = found.kind == Kind::Directory;
    let media = if is_folder { None } else { media_of(&name) };
    let bytes = if is_folder { 0 } else { found.len };
    Row { name, is_folder, bytes, modified_s: found.modified_s, modified_ns: found.modified_ns, media }
}

/// What a name says that a file holds.
pub fn media_of(name: &[u8]) -> Option<MediaKind> {
    match media::by_name(name) {
        ByName::Clear(found) | ByName::Unclear(found) => Some(found.kind),
        ByName::Unknown => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ordered_as_people_count() {
        let mut names = vec!["file10", "File2", "file1", "file02", "a", "B", "10", "9", "file"];
        names.sort_by(|a, b| natural(a.as_bytes(), b.as_bytes()).then_with(|| a.cmp(b)));
        assert_eq!(names, ["9", "10", "a", "B", "file", "file1", "File2", "file02", "file10"]);
    }

    fn names(page: &Page) -> Vec<String> {
        page.rows.iter().map(|row| String::from_utf8(row.name.clone()).unwrap()).collect()
    }

    #[test]
    fn pages_are_sorted_filtered_and_of_one_state() {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in [("b.png", 3), ("a.txt", 9), ("c10.png", 1), ("c9.png", 2)] {
            std::fs::write(dir.path().join(name), vec![0; bytes]).unwrap();
        }
        std::fs::create_dir(dir.path().join("z")).unwrap();
        std::fs::write(dir.path().join(".hidden"), "").unwrap();
        let (tree, listings) = (Tree::open(&[dir.path()], false).unwrap(), Listings::default());
        let page = |query, range| listings.page(&tree, &RelativePath::root(), query, range).unwrap();
        let all = Query::default();
        assert_eq!(names(&page(all, (0, 100))), ["z", "a.txt", "b.png", "c9.png", "c10.png"]);
        assert_eq!(names(&page(Query { sort: Sort::Size, is_descending: true, ..all }, (0, 2))), ["z", "a.txt"]);
        let images = page(Query { media: Some(MediaKind::Image), ..all }, (1, 2));
        assert_eq!((images.total, names(&images)), (4, vec!["b.png".to_string(), "c9.png".to_string()]));
        std::fs::write(dir.path().join("new"), "").unwrap();
        assert_eq!(page(all, (0, 100)).total, 6);
        assert!(page(all, (100, 100)).rows.is_empty());
        let none = RelativePath::parse(b"none").unwrap();
        assert!(matches!(listings.page(&tree, &none, all, (0, 1)), Err(TreeError::Missing)));
    }
}
