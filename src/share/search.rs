//! Finding files by name in all of a share: several threads walk the tree and tell what fits as they find it.
//!
//! Nothing is indexed: what is found is there. Only what fits is examined, links are not followed, hidden names are not
//! seen. The order is that in which things are found.
//!
//! Text is compared as Unicode's canonical caseless matching has it: `é` is the same whether it was written as one
//! character (as keyboards do) or as a letter and an accent (as macOS names files), and `STRASSE` is `straße`. An
//! accent is not left out: `e` does not find `é`.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use caseless::Caseless;
use memchr::memmem::Finder;
use unicode_normalization::UnicodeNormalization;

use super::listing::{Row, media_of, row, row_at};
use super::tree::{Found, Place, Tree, TreeError};
use crate::store::confined::{Kind, Links, Listed, ReadDir, RelativePath, Root};
use crate::store::media::MediaKind;

/// Most that is found; the search ends there.
pub const HITS_MAX: usize = 1000;
/// Longest text that is searched for, bytes, and most words of it.
pub const TEXT_BYTES_MAX: usize = 256;
/// See [`TEXT_BYTES_MAX`].
pub const WORDS_MAX: usize = 16;
/// Most threads of a search.
const THREADS_MAX: usize = 4;
/// Folders that are known and not yet looked into: what is beyond is left out, and that is told.
const FOLDERS_MAX: usize = 1 << 20;
/// Names after which a thread looks whether anybody still wants to know.
const LOOK_EVERY: u64 = 1024;

/// What is searched for: all words, anywhere in a name, in any case and either normal form.
#[derive(Debug)]
pub struct Words(Vec<Finder<'static>>);

impl Words {
    /// The words of a text; nothing if it has none, or is too long.
    pub fn parse(text: &str) -> Option<Words> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let folded: String = folded(text).collect();
        let words: Vec<_> = folded.split_whitespace().map(|word| Finder::new(word).into_owned()).collect();
        (!words.is_empty() && words.len() <= WORDS_MAX).then_some(Words(words))
    }

    /// Whether a name holds all of them. `scratch` saves allocating for each.
    pub fn fit(&self, name: &[u8], scratch: &mut Vec<u8>) -> bool {
        scratch.clear();
        match name.is_ascii() {
            true => scratch.extend(name.iter().map(u8::to_ascii_lowercase)),
            false => {
                let mut utf8 = [0; 4];
                folded(&String::from_utf8_lossy(name))
                    .for_each(|c| scratch.extend_from_slice(c.encode_utf8(&mut utf8).as_bytes()));
            }
        }
        self.0.iter().all(|word| word.find(scratch).is_some())
    }
}

/// A text as it is compared. It is decomposed first, since folding acts on letters without their accents, and composed
/// in the end, so that a letter does not fit the beginning of one with an accent.
fn folded(text: &str) -> impl Iterator<Item = char> {
    text.nfd().default_case_fold().nfc()
}

/// What is wanted.
#[derive(Debug)]
pub struct Wanted {
    /// Which names.
    pub words: Words,
    /// Only files of this kind.
    pub media: Option<MediaKind>,
    /// Below this folder.
    pub folder: RelativePath,
}

/// Something that fits.
#[derive(Debug)]
pub struct Hit {
    /// The folder that it is in.
    pub folder: RelativePath,
    /// What it is.
    pub row: Row,
}

/// How a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// How many were told.
    pub hits: usize,
    /// Names that were looked at.
    pub looked_at: u64,
    /// There may be more.
    pub is_cut: bool,
}

/// Whom is told, by all threads.
pub trait Hearer: Sync {
    /// Some that fit. False if nothing more is taken.
    fn hits(&self, hits: Vec<Hit>) -> bool;
    /// Whether nobody wants to know any more.
    fn is_gone(&self) -> bool;
}

/// Search, and return when all was seen, or nobody wants to know any more.
pub fn search(tree: &Tree, wanted: &Wanted, hearer: &impl Hearer) -> Result<Summary, TreeError> {
    let walk = Walk {
        tree,
        wanted,
        hearer,
        queue: Mutex::default(),
        news: Condvar::new(),
        hits: AtomicUsize::new(0),
        looked_at: AtomicU64::new(0),
        is_over: AtomicBool::new(false),
        is_cut: AtomicBool::new(false),
    };
    walk.begin()?;
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(THREADS_MAX));
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // Fewer threads find the same.
            let _ = std::thread::Builder::new().name("search".to_string()).spawn_scoped(scope, || walk.run());
        }
        walk.run();
    });
    Ok(Summary {
        hits: walk.hits.load(Ordering::Relaxed).min(HITS_MAX),
        looked_at: walk.looked_at.load(Ordering::Relaxed),
        is_cut: walk.is_cut.load(Ordering::Relaxed),
    })
}

/// A folder that is to be looked into.
struct Folder {
    place: Place,
    /// The item of a list that it is in, which is no part of its place.
    item: Option<Arc<[u8]>>,
}

impl Folder {
    /// Its path in the share.
    fn path(&self) -> Option<RelativePath> {
        let Some(item) = &self.item else { return Some(self.place.path.clone()) };
        let mut path = item.to_vec();
        if !self.place.path.is_root() {
            path.push(b'/');
            path.extend_from_slice(self.place.path.as_bytes());
        }
        RelativePath::parse(&path).ok()
    }

    fn below(&self, name: &[u8]) -> Option<Folder> {
        let path = self.place.path.join(name).ok()?;
        Some(Folder { place: Place { root: self.place.root.clone(), path }, item: self.item.clone() })
    }
}

#[derive(Default)]
struct Queue {
    folders: Vec<Folder>,
    /// Threads that are in one and may find others.
    busy: usize,
}

struct Walk<'a, H: Hearer> {
    tree: &'a Tree,
    wanted: &'a Wanted,
    hearer: &'a H,
    queue: Mutex<Queue>,
    news: Condvar,
    hits: AtomicUsize,
    looked_at: AtomicU64,
    is_over: AtomicBool,
    is_cut: AtomicBool,
}

impl<H: Hearer> Walk<'_, H> {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first folders.
    fn begin(&self) -> Result<(), TreeError> {
        let folder = &self.wanted.folder;
        if let (true, Some(items)) = (folder.is_root(), self.tree.items()) {
            let mut found = Vec::new();
            let mut scratch = Vec::new();
            for (name, place) in items {
                self.looked_at.fetch_add(1, Ordering::Relaxed);
                if self.wanted.words.fit(&name, &mut scratch)
                    && let Some(row) = row_at(name.clone(), &place).filter(|row| self.is_kind(row))
                {
                    found.push(Hit { folder: RelativePath::root(), row });
                }
                if place.path.is_root() {
                    self.lock().folders.push(Folder { place, item: Some(name.into()) });
                }
            }
            self.tell(&mut found);
            return Ok(());
        }
        let place = match self.tree.find(folder)? {
            Found::Folder(place) => place,
            Found::File(_) => return Err(TreeError::Missing),
        };
        // A list's item has a root of its own.
        let item = (self.tree.items().is_some()).then(|| folder.names().next().map(Arc::from)).flatten();
        self.lock().folders.push(Folder { place, item });
        Ok(())
    }

    fn run(&self) {
        let mut scratch = Vec::new();
        while let Some(folder) = self.next() {
            let below = self.look(&folder, &mut scratch);
            let mut queue = self.lock();
            let room = FOLDERS_MAX.saturating_sub(queue.folders.len());
            if below.len() > room {
                self.is_cut.store(true, Ordering::Relaxed);
            }
            queue.folders.extend(below.into_iter().take(room));
            queue.busy -= 1;
            drop(queue);
            self.news.notify_all();
        }
    }

    /// The next folder; nothing when there is and will be none.
    fn next(&self) -> Option<Folder> {
        let mut queue = self.lock();
        loop {
            if self.is_over.load(Ordering::Relaxed) {
                return None;
            }
            if let Some(folder) = queue.folders.pop() {
                queue.busy += 1;
                return Some(folder);
            }
            if queue.busy == 0 {
                return None;
            }
            queue = self.news.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Look at the names of a folder; those of its folders are given back.
    fn look(&self, folder: &Folder, scratch: &mut Vec<u8>) -> Vec<Folder> {
        let (mut below, mut found, mut seen) = (Vec::new(), Vec::new(), 0);
        // One that cannot be read shows nothing.
        let Ok(mut entries) = read(&folder.place.root, &folder.place.path) else { return below };
        while let Some(Ok(listed)) = entries.next_listed() {
            let name = listed.name();
            if !self.tree.shows(name) {
                continue;
            }
            seen += 1;
            if seen % LOOK_EVERY == 0 {
                self.tell(&mut found);
                if self.is_over.load(Ordering::Relaxed) || self.hearer.is_gone() {
                    self.end(true);
                    break;
                }
            }
            let kind = kind_of(&entries, &listed);
            if kind == Some(Kind::Directory) && below.len() < FOLDERS_MAX {
                below.extend(folder.below(name));
            }
            if self.wanted.words.fit(name, scratch) {
                found.extend(self.hit(folder, (&entries, &listed, kind)));
            }
        }
        self.looked_at.fetch_add(seen, Ordering::Relaxed);
        self.tell(&mut found);
        if self.hearer.is_gone() {
            self.end(true);
        }
        below
    }

    fn hit(&self, folder: &Folder, (entries, listed, kind): (&ReadDir, &Listed, Option<Kind>)) -> Option<Hit> {
        let name = listed.name().to_vec();
        let row = match kind? {
            Kind::File | Kind::Directory => row(name, &entries.metadata(listed).ok()??),
            Kind::Symlink => row_at(name, &folder.below(listed.name())?.place)?,
            _ => return None,
        };
        self.is_kind(&row).then_some(Hit { folder: folder.path()?, row })
    }

    fn is_kind(&self, row: &Row) -> bool {
        self.wanted.media.is_none_or(|media| !row.is_folder && media_of(&row.name) == Some(media))
    }

    /// Tell what was found, as far as there is room for it.
    fn tell(&self, found: &mut Vec<Hit>) {
        if found.is_empty() {
            return;
        }
        let before = self.hits.fetch_add(found.len(), Ordering::Relaxed);
        let room = HITS_MAX.saturating_sub(before);
        if found.len() > room {
            found.truncate(room);
            self.end(true);
        }
        if !self.hearer.hits(std::mem::take(found)) {
            self.end(true);
        }
    }

    fn end(&self, is_cut: bool) {
        self.is_cut.fetch_or(is_cut, Ordering::Relaxed);
        // With the lock, lest a thread that is about to wait misses it.
        let _queue = self.lock();
        self.is_over.store(true, Ordering::Relaxed);
        self.news.notify_all();
    }
}

/// Without links on the way first: so it is for all but what was asked for through one.
fn read(root: &Root, path: &RelativePath) -> Result<ReadDir, crate::store::StoreError> {
    root.read_dir_once(path).or_else(|_| root.read_dir(path, Links::Inside))
}

fn kind_of(entries: &ReadDir, listed: &Listed) -> Option<Kind> {
    listed.kind().or_else(|| entries.metadata(listed).ok().flatten().map(|about| about.kind))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<BTreeSet<String>>);

    impl Hearer for Heard {
        fn hits(&self, hits: Vec<Hit>) -> bool {
            let mut heard = self.0.lock().unwrap();
            for hit in hits {
                let path = hit.folder.join(&hit.row.name).unwrap();
                assert!(heard.insert(String::from_utf8_lossy(path.as_bytes()).into_owned()));
            }
            true
        }

        fn is_gone(&self) -> bool {
            false
        }
    }

    fn found(tree: &Tree, text: &str, (media, folder): (Option<MediaKind>, &str)) -> (Vec<String>, Summary) {
        let folder = RelativePath::parse(folder.as_bytes()).unwrap_or_else(|_| RelativePath::root());
        let heard = Heard::default();
        let wanted = Wanted { words: Words::parse(text).unwrap(), media, folder };
        let summary = search(tree, &wanted, &heard).unwrap();
        (heard.0.into_inner().unwrap().into_iter().collect(), summary)
    }

    fn names(tree: &Tree, text: &str) -> Vec<String> {
        found(tree, text, (None, "")).0
    }

    fn sample(dir: &Path) {
        std::fs::create_dir_all(dir.join("sub/Deep Report")).unwrap();
        std::fs::create_dir_all(dir.join(".git")).unwrap();
        for name in ["report.txt", "sub/REPORT 2.png", "sub/Deep Report/x", ".git/report", "sub/ÄRGER.txt", "other"] {
            std::fs::write(dir.join(name), name).unwrap();
        }
        symlink("/etc", dir.join("report-out")).unwrap();
        symlink("sub", dir.join("report-in")).unwrap();
        nix::unistd::mkfifo(&dir.join("report-fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    }

    #[test]
    fn all_words_are_found_in_any_case_and_nothing_hidden_or_outside_is() {
        let dir = tempfile::tempdir().unwrap();
        sample(dir.path());
        let tree = Tree::open(&[dir.path()], false).unwrap();
        assert_eq!(names(&tree, "report"), ["report-in", "report.txt", "sub/Deep Report", "sub/REPORT 2.png"]);
        assert_eq!(names(&tree, " PORT  re 2 "), ["sub/REPORT 2.png"]);
        assert_eq!(names(&tree, "ärger"), ["sub/ÄRGER.txt"]);
        assert!(names(&tree, "passwd").is_empty());
        let (images, summary) = found(&tree, "report", (Some(MediaKind::Image), ""));
        assert_eq!(images, ["sub/REPORT 2.png"]);
        assert_eq!(summary, Summary { hits: 1, looked_at: 10, is_cut: false });
        // Through a link, below which nothing is a link.
        assert_eq!(found(&tree, "report", (None, "report-in")).0, ["report-in/Deep Report", "report-in/REPORT 2.png"]);
        let none = Wanted {
            words: Words::parse("x").unwrap(),
            media: None,
            folder: RelativePath::parse(b"report-out").unwrap(),
        };
        assert!(matches!(search(&tree, &none, &Heard::default()), Err(TreeError::Missing)));
        let all = Tree::open(&[dir.path()], true).unwrap();
        assert!(names(&all, "report").contains(&".git/report".to_string()));
    }

    #[test]
    fn items_of_a_list_are_searched_by_their_names_in_the_share() {
        let dir = tempfile::tempdir().unwrap();
        sample(dir.path());
        let (sub, file) = (dir.path().join("sub"), dir.path().join("report.txt"));
        let tree = Tree::open(&[&sub, &file], false).unwrap();
        assert_eq!(names(&tree, "report"), ["report.txt", "sub/Deep Report", "sub/REPORT 2.png"]);
        assert_eq!(found(&tree, "x", (None, "sub/Deep Report")).0, ["sub/Deep Report/x"]);
        assert_eq!(names(&tree, "sub"), ["sub"]);
    }

    #[test]
    fn a_search_ends_when_there_are_enough() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..HITS_MAX + 500 {
            std::fs::write(dir.path().join(format!("hit{n}")), "").unwrap();
        }
        let tree = Tree::open(&[dir.path()], false).unwrap();
        let (names, summary) = found(&tree, "hit", (None, ""));
        assert_eq!((names.len(), summary.hits, summary.is_cut), (HITS_MAX, HITS_MAX, true));
    }

    #[test]
    fn letters_are_found_however_they_were_written() {
        let fits = |typed: &str, name: &str| Words::parse(typed).unwrap().fit(name.as_bytes(), &mut Vec::new());
        for (typed, name) in [
            ("é", "caf\u{e9}.txt"),
            ("é", "cafe\u{301}.txt"),
            ("e\u{301}", "caf\u{e9}.txt"),
            ("CAFÉ", "Cafe\u{301}"),
            ("ärger", "A\u{308}RGER"),
            ("strasse", "Hauptstraße"),
            ("STRASSE", "straße"),
            ("ΣΊΣΥΦΟΣ", "σίσυφος"),
            ("ünïcode тест", "ТЕСТ Ünïcode"),
            ("각", "\u{1100}\u{1161}\u{11a8}"),
            ("\u{212b}", "å"),
            ("k", "\u{212a}elvin"),
        ] {
            assert!(fits(typed, name), "{typed} {name}");
        }
        for (typed, name) in [("e", "\u{e9}"), ("e", "e\u{301}"), ("é", "e"), ("é", "è"), ("o", "ø")] {
            assert!(!fits(typed, name), "{typed} {name}");
        }
    }

    #[test]
    fn nonsense_is_no_search() {
        let long = "a".repeat(TEXT_BYTES_MAX + 1);
        let many = "a ".repeat(WORDS_MAX + 1);
        for text in ["", "  ", &long, &many] {
            assert!(Words::parse(text).is_none());
        }
        let mut scratch = Vec::new();
        assert!(Words::parse("a").unwrap().fit(b"\xff\xfeA", &mut scratch));
    }
}
