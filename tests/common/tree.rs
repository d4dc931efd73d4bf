//! Trees with all that a faithful copy has to keep, and the comparison of two of them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{File, FileTimes, OpenOptions, Permissions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};

/// How many differences are shown.
const SHOWN_MAX: usize = 12;
/// A copy may have so many bytes more on the disk than its source: holes end where blocks do.
const HOLE_SLACK_BYTES: u64 = 64 << 10;
/// Of [`noise`].
const NOISE_PAGE_BYTES: usize = 4096;
/// Around these a copy changes how it treats a file.
const TURNING_SIZES: [u64; 4] = [4 << 10, 128 << 10, 1 << 20, 4 << 20];

/// A name of any bytes.
pub fn name(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// A tree that is being built; what does not work panics.
pub struct Tree(PathBuf);

impl Tree {
    /// In this folder, which is made.
    pub fn at(root: impl Into<PathBuf>) -> Tree {
        let root = root.into();
        std::fs::create_dir_all(&root).unwrap();
        Tree(root)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A folder, with those above it.
    pub fn dir(&self, path: impl AsRef<Path>) -> &Tree {
        std::fs::create_dir_all(self.0.join(path)).unwrap();
        self
    }

    /// A file with that content, and the folders that it is in.
    pub fn file(&self, path: impl AsRef<Path>, content: &[u8]) -> &Tree {
        std::fs::write(self.place(path.as_ref()), content).unwrap();
        self
    }

    /// A file of so many bytes that follow from its length and the seed.
    pub fn noise(&self, path: impl AsRef<Path>, bytes: u64, seed: u64) -> &Tree {
        self.file(path, &noise(bytes as usize, seed ^ bytes))
    }

    pub fn symlink(&self, path: impl AsRef<Path>, target: impl AsRef<Path>) -> &Tree {
        std::os::unix::fs::symlink(target, self.place(path.as_ref())).unwrap();
        self
    }

    /// One more name of a file of the tree.
    pub fn hard_link(&self, path: impl AsRef<Path>, of: impl AsRef<Path>) -> &Tree {
        std::fs::hard_link(self.0.join(of), self.place(path.as_ref())).unwrap();
        self
    }

    /// A file of that length with nothing but these parts in it: offset and length.
    pub fn sparse(&self, path: impl AsRef<Path>, len: u64, parts: &[(u64, usize)]) -> &Tree {
        let file = File::create(self.place(path.as_ref())).unwrap();
        file.set_len(len).unwrap();
        for &(offset, bytes) in parts {
            file.write_all_at(&noise(bytes, offset + len), offset).unwrap();
        }
        self
    }

    pub fn fifo(&self, path: impl AsRef<Path>) -> &Tree {
        nix::unistd::mkfifo(&self.place(path.as_ref()), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        self
    }

    pub fn socket(&self, path: impl AsRef<Path>) -> &Tree {
        drop(std::os::unix::net::UnixListener::bind(self.place(path.as_ref())).unwrap());
        self
    }

    pub fn mode(&self, path: impl AsRef<Path>, mode: u32) -> &Tree {
        std::fs::set_permissions(self.0.join(path), Permissions::from_mode(mode)).unwrap();
        self
    }

    /// Modified so long after 1970; a link itself, not what it leads to.
    pub fn mtime(&self, path: impl AsRef<Path>, at: Duration) -> &Tree {
        set_mtime(&self.0.join(path), at);
        self
    }

    /// Whether the filesystem takes such attributes.
    pub fn xattr(&self, path: impl AsRef<Path>, key: &str, value: &[u8]) -> bool {
        xattr::set(self.0.join(path), key, value).is_ok()
    }

    /// Give every entry a time of its own, all in the past and with nanoseconds.
    pub fn settle(&self) -> &Tree {
        let seen = look(&self.0);
        // Deepest first; nothing is changed afterwards that would change the time of a folder.
        for (n, path) in seen.keys().rev().enumerate() {
            set_mtime(
                &below(&self.0, path),
                Duration::new(1_500_000_000 + 61 * n as u64, 1 + 1009 * n as u32 % 999_999_999),
            );
        }
        self
    }

    /// One of everything.
    pub fn of_everything(root: impl Into<PathBuf>) -> Tree {
        let tree = Tree::at(root);
        tree.with_sizes().with_names().with_links().with_holes().with_modes();
        tree.xattr("modes/plain", "user.linerate.test", b"\0any \xff bytes");
        tree.xattr("modes", "user.linerate.folder", b"");
        tree.settle();
        tree
    }

    /// Files of the sizes at which something changes.
    pub fn with_sizes(&self) -> &Tree {
        self.file("sizes/0", b"").file("sizes/1", b"x");
        for size in TURNING_SIZES.iter().flat_map(|size| [size - 1, *size, size + 1]) {
            self.noise(format!("sizes/{size}"), size, 1);
        }
        self.noise("sizes/9 MiB and 5", (9 << 20) + 5, 1)
    }

    /// Names of any bytes, as long as they may be, and deep.
    pub fn with_names(&self) -> &Tree {
        let names: [&[u8]; 14] = [
            b"new\nline",
            b"tab\tcr\r",
            b"no\xff\xfeutf8",
            b"-leading",
            b"--delete",
            b" ",
            b"...",
            b"*?[a]{b}",
            b"back\\slash",
            b"colon:and@at",
            "ümläut \u{202e}x".as_bytes(),
            b"quo'te\"s",
            b"$(false)`false`",
            b"\x01\x1b[2J\x7f",
        ];
        for (n, bytes) in names.into_iter().enumerate() {
            self.file(Path::new("names").join(name(bytes)), &[n as u8; 7]);
            self.file(Path::new("folders").join(name(bytes)).join("in it"), bytes);
        }
        self.file(Path::new("names").join("n".repeat(255)), b"long")
            .file(Path::new("names").join("ü".repeat(127)), b"long");
        let deep: PathBuf = (0..30).map(|n| format!("{n}-{}", "d".repeat(60))).collect();
        self.file(Path::new("deep").join(deep).join("bottom"), b"deep").file("Case", b"upper").file("case", b"lower")
    }

    /// Links of all kinds, and empty folders.
    pub fn with_links(&self) -> &Tree {
        self.file("links/target", b"what links lead to").dir("links/folder").file("links/folder/in it", b"1");
        self.symlink("links/relative", "target").symlink("links/absolute", "/usr/bin/env");
        self.symlink("links/dangling", "not/there")
            .symlink("links/to-folder", "folder")
            .symlink("links/up", "../links");
        self.symlink("links/to-any-bytes", name(b"\xff\n")).symlink("links/to-itself", "to-itself");
        self.hard_link("links/hard 1", "links/target").hard_link("links/folder/hard 2", "links/target");
        self.dir("empty/in/empty").dir("empty/beside")
    }

    /// Files with holes, and one that could have some.
    pub fn with_holes(&self) -> &Tree {
        const M: u64 = 1 << 20;
        self.sparse("holes/all", 20 * M, &[]).sparse("holes/start", 9 * M, &[(8 * M, 1 << 20)]);
        self.sparse("holes/middle", 16 * M, &[(0, 70_000), (15 * M + 5, 4000)]);
        self.sparse("holes/end", 12 * M + 1, &[(0, 1 << 20)]).sparse(
            "holes/many",
            6 * M,
            &[(0, 4096), (2 * M, 4096), (4 * M, 4096)],
        );
        self.file("holes/none but zeros", &[0; 300_000])
    }

    /// Files and folders of all modes that their owner can read.
    pub fn with_modes(&self) -> &Tree {
        self.file("modes/plain", b"plain").mode("modes/plain", 0o644);
        for mode in [0o400, 0o444, 0o600, 0o640, 0o755, 0o777] {
            let file = format!("modes/f{mode:o}");
            self.file(&file, b"mode").mode(&file, mode);
        }
        for mode in [0o500, 0o555, 0o700, 0o775] {
            let dir = format!("modes/d{mode:o}");
            self.file(format!("{dir}/in it"), b"1").mode(&dir, mode);
        }
        self
    }

    /// So many entries that follow from a seed: small files mostly, some of up to `largest` bytes, folders and links.
    pub fn random(root: impl Into<PathBuf>, seed: u64, entries: usize, largest: u64) -> Tree {
        let tree = Tree::at(root);
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut folders = vec![PathBuf::new()];
        for n in 0..entries {
            let path = folders[rng.random_range(0..folders.len())].join(format!("{n:x}"));
            match rng.random_range(0..20) {
                0..3 => {
                    tree.dir(&path);
                    folders.push(path);
                }
                3 => _ = tree.symlink(&path, format!("{:x}", rng.random_range(0..entries))),
                4 => _ = tree.sparse(&path, rng.random_range(0..=largest), &[]),
                5 => _ = tree.noise(&path, rng.random_range(0..=largest), seed),
                _ => _ = tree.noise(&path, rng.random_range(0..20_000), seed),
            }
        }
        tree.settle();
        tree
    }

    /// The place of a new entry, with the folders above it.
    fn place(&self, path: &Path) -> PathBuf {
        let path = self.0.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }
}

/// Bytes that follow from a seed, without long runs of zeros, and of which no two pages are the same.
pub fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut pattern = [0; NOISE_PAGE_BYTES];
    SmallRng::seed_from_u64(seed).fill_bytes(&mut pattern);
    let mut noise = Vec::with_capacity(bytes + NOISE_PAGE_BYTES);
    for page in 0..bytes.div_ceil(NOISE_PAGE_BYTES) as u64 {
        pattern[8..16].copy_from_slice(&page.to_le_bytes());
        noise.extend_from_slice(&pattern);
    }
    noise.truncate(bytes);
    noise
}

fn set_mtime(path: &Path, at: Duration) {
    use nix::sys::stat::{UtimensatFlags, utimensat};
    use nix::sys::time::TimeSpec;
    let time = TimeSpec::from_duration(at);
    utimensat(nix::fcntl::AT_FDCWD, path, &time, &time, UtimensatFlags::NoFollowSymlink).unwrap();
}

/// Set the time of a file that is open or not, to now plus some seconds: it was changed.
pub fn touch_later(path: &Path) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_times(FileTimes::new().set_modified(SystemTime::now() + Duration::from_secs(5))).unwrap();
}

/// What two trees are compared by, besides names, kinds, content and targets.
#[derive(Clone, Copy, Debug)]
pub struct What {
    pub modes: bool,
    pub times: bool,
    /// Which names are one file.
    pub hard_links: bool,
    /// That no hole was filled.
    pub holes: bool,
    pub xattrs: bool,
    pub owners: bool,
}

/// Content and names only.
pub const CONTENT: What =
    What { modes: false, times: false, hard_links: false, holes: false, xattrs: false, owners: false };
/// What a copy keeps without being asked.
pub const PLAIN: What = What { modes: true, times: true, holes: true, ..CONTENT };
/// All there is.
pub const ALL: What = What { hard_links: true, xattrs: true, owners: true, ..PLAIN };

/// One entry as it was found.
struct Seen {
    kind: &'static str,
    meta: std::fs::Metadata,
}

/// Everything below a folder, the folder itself as the empty path; links are not followed.
fn look(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut seen = BTreeMap::new();
    let mut ahead = vec![PathBuf::new()];
    while let Some(path) = ahead.pop() {
        let full = below(root, &path);
        let meta = match std::fs::symlink_metadata(&full) {
            // It went while we looked.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !path.as_os_str().is_empty() => continue,
            other => other.unwrap_or_else(|error| panic!("{}: {error}", full.display())),
        };
        if meta.is_dir() {
            let entries = std::fs::read_dir(&full).unwrap_or_else(|error| panic!("{}: {error}", full.display()));
            ahead.extend(entries.map(|entry| path.join(entry.unwrap().file_name())));
        }
        seen.insert(path, Seen { kind: kind_of(&meta), meta });
    }
    seen
}

/// With an empty path the root itself: a slash at its end would lead through a link, and not to a file.
fn below(root: &Path, path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() { root.to_path_buf() } else { root.join(path) }
}

fn kind_of(meta: &std::fs::Metadata) -> &'static str {
    let kind = meta.file_type();
    match () {
        () if kind.is_file() => "file",
        () if kind.is_dir() => "folder",
        () if kind.is_symlink() => "link",
        () if kind.is_fifo() => "FIFO",
        () if kind.is_socket() => "socket",
        () => "device",
    }
}

/// How many entries a tree has, itself not counted.
pub fn count(root: &Path) -> usize {
    look(root).len() - 1
}

/// The files of a tree, in order.
pub fn files(root: &Path) -> Vec<PathBuf> {
    look(root).into_iter().filter(|(_, seen)| seen.kind == "file").map(|(path, _)| path).collect()
}

/// Two trees, or two files, are the same; shows the first differences if not.
#[track_caller]
pub fn assert_same(source: &Path, copy: &Path, what: What) {
    let found = differences(source, copy, what);
    let shown = found.iter().take(SHOWN_MAX).map(String::as_str).collect::<Vec<_>>().join("\n  ");
    let (n, from, to) = (found.len(), source.display(), copy.display());
    assert!(found.is_empty(), "{n} differences between {from} and its copy {to}:\n  {shown}");
}

/// How a copy differs from its source, a line for each difference.
pub fn differences(source: &Path, copy: &Path, what: What) -> Vec<String> {
    let (left, right) = (look(source), look(copy));
    let mut found = Vec::new();
    for (path, seen) in &left {
        let Some(other) = right.get(path) else {
            found.push(format!("{path:?}: is not in the copy ({})", seen.kind));
            continue;
        };
        let mut say = |text: String| found.push(format!("{path:?}: {text}"));
        if seen.kind != other.kind {
            say(format!("is a {}, its copy a {}", seen.kind, other.kind));
            continue;
        }
        let (from, to) = (below(source, path), below(copy, path));
        compare_content((&from, seen), (&to, other), &mut say);
        compare_attributes((&from, seen), (&to, other), what, &mut say);
    }
    let extra = right.iter().filter(|(path, _)| !left.contains_key(*path));
    found.extend(extra.map(|(path, seen)| format!("{path:?}: is only in the copy ({})", seen.kind)));
    if what.hard_links {
        compare_links(&left, &right, &mut found);
    }
    found
}

fn compare_content(source: (&Path, &Seen), copy: (&Path, &Seen), say: &mut impl FnMut(String)) {
    let lengths = (source.1.meta.len(), copy.1.meta.len());
    match source.1.kind {
        "file" if lengths.0 != lengths.1 => say(format!("{} bytes, its copy {}", lengths.0, lengths.1)),
        "file" => {
            if let Some(at) = first_difference(source.0, copy.0) {
                say(format!("content differs from byte {at} of {} on", lengths.0));
            }
        }
        "link" => {
            let targets = (std::fs::read_link(source.0).unwrap(), std::fs::read_link(copy.0).unwrap());
            if targets.0 != targets.1 {
                say(format!("leads to {:?}, its copy to {:?}", targets.0, targets.1));
            }
        }
        _ => {}
    }
}

/// Where two files of the same length differ.
fn first_difference(source: &Path, copy: &Path) -> Option<u64> {
    let open = |path: &Path| File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (mut left, mut right) = (open(source), open(copy));
    let (mut a, mut b, mut at) = (vec![0; 1 << 20], vec![0; 1 << 20], 0);
    loop {
        let n = left.read(&mut a).unwrap();
        if n == 0 {
            return None;
        }
        if right.read_exact(&mut b[..n]).is_err() {
            return Some(at);
        }
        if a[..n] != b[..n] {
            let same = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
            return Some(at + same as u64);
        }
        at += n as u64;
    }
}

fn compare_attributes(source: (&Path, &Seen), copy: (&Path, &Seen), what: What, say: &mut impl FnMut(String)) {
    let (left, right) = (&source.1.meta, &copy.1.meta);
    let modes = (left.mode() & 0o7777, right.mode() & 0o7777);
    if what.modes && source.1.kind != "link" && modes.0 != modes.1 {
        say(format!("mode {:o}, its copy {:o}", modes.0, modes.1));
    }
    let times = ((left.mtime(), left.mtime_nsec()), (right.mtime(), right.mtime_nsec()));
    if what.times && times.0 != times.1 {
        let [left, right] = [times.0, times.1].map(|(s, ns)| format!("{s}.{ns:09}"));
        say(format!("modified {left}, its copy {right}"));
    }
    let owners = ((left.uid(), left.gid()), (right.uid(), right.gid()));
    if what.owners && owners.0 != owners.1 {
        say(format!("owner and group {:?}, of its copy {:?}", owners.0, owners.1));
    }
    let stored = (left.blocks() * 512, right.blocks() * 512);
    let has_holes = source.1.kind == "file" && stored.0 < left.len();
    if what.holes && has_holes && stored.1 > stored.0 + HOLE_SLACK_BYTES {
        say(format!("{} of {} bytes on the disk, its copy {}", stored.0, left.len(), stored.1));
    }
    if what.xattrs && source.1.kind != "link" {
        let attributes = (xattrs(source.0), xattrs(copy.0));
        if attributes.0 != attributes.1 {
            say(format!("extended attributes {:?}, of its copy {:?}", attributes.0, attributes.1));
        }
    }
}

/// Empty where the filesystem has none.
fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let names = xattr::list(path).into_iter().flatten().map(|name| name.to_string_lossy().into_owned());
    names.map(|name| (name.clone(), xattr::get(path, name).ok().flatten().unwrap_or_default())).collect()
}

/// Which names are one file must be the same on both sides.
fn compare_links(left: &BTreeMap<PathBuf, Seen>, right: &BTreeMap<PathBuf, Seen>, found: &mut Vec<String>) {
    let first_names = |seen: &BTreeMap<PathBuf, Seen>| -> BTreeMap<PathBuf, PathBuf> {
        let mut first = BTreeMap::new();
        let files = seen.iter().filter(|(_, seen)| seen.kind == "file");
        let named = |(path, seen): (&PathBuf, &Seen)| {
            let of = first.entry((seen.meta.dev(), seen.meta.ino())).or_insert_with(|| path.clone()).clone();
            (path.clone(), of)
        };
        files.map(named).collect()
    };
    let (left, right) = (first_names(left), first_names(right));
    for (path, of) in &left {
        if let Some(other) = right.get(path).filter(|other| *other != of) {
            found.push(format!("{path:?}: is the same file as {of:?}, its copy the same as {other:?}"));
        }
    }
}

/// Nothing of an unfinished copy is left below a folder.
#[track_caller]
pub fn no_temporaries(root: &Path) {
    let is_temporary = |path: &&PathBuf| path.file_name().is_some_and(|name| name.as_bytes().starts_with(b".lr-"));
    let left: Vec<PathBuf> = look(root).keys().filter(is_temporary).cloned().collect();
    assert!(left.is_empty(), "left behind in {}: {left:?}", root.display());
}
