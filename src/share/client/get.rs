//! Files and folders of a share, here: gone on with where it was broken off, proven by their BLAKE3.
//!
//! Everything that the server names is written through a confined root, and a name that is not one name is refused, so
//! that no answer leads out of the destination. Lengths are believed only as far as the bytes that come bear them out.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Method, StatusCode, header};
use serde::Deserialize;

use super::hashes::Hashes;
use super::partial::{self, Partial};
use super::retry::Retry;
use super::{Client, ClientError};
use crate::share::http::ranges::parse_http_date;
use crate::share::listing::{ENTRIES_MAX, LIMIT_MAX};
use crate::share::path::{self, UrlPath};
use crate::share::tree::PARTIAL_PREFIX;
use crate::store::confined::{Kind, RelativePath, Root};
use crate::text::printable;

/// Most folders that are known and not yet visited.
const FOLDERS_MAX: usize = 1 << 20;
/// How often a file is got again from its start because it is not what the server says that it hashes to.
const AGAIN_MAX: u32 = 1;

/// Who is told how it goes.
pub trait Watch {
    /// Another file is begun: its path here, its length if that is known, and what of it is there from before.
    fn begin(&mut self, path: &RelativePath, bytes: Option<u64>, had: u64);
    /// So many bytes of it have come.
    fn moved(&mut self, bytes: u64);
    /// It is there, proven.
    fn done(&mut self);
    /// It could not be had.
    fn failed(&mut self, name: &str, error: &ClientError);
    /// It is tried again after so long.
    fn waiting(&mut self, error: &ClientError, wait: Duration);
}

/// What it came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Files that came, and were proven.
    pub done: u64,
    /// What they hold, bytes: also what came in an earlier run.
    pub bytes: u64,
    /// Files that were there already.
    pub had: u64,
    /// Folders.
    pub folders: u64,
    /// Files and folders that could not be had.
    pub failed: u64,
    /// Those of them that are not what the server says that they are.
    pub unproven: u64,
}

#[derive(Deserialize)]
struct List {
    total: u64,
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    href: String,
    kind: String,
    bytes: u64,
    modified: Option<String>,
}

/// Where a download goes.
#[derive(Debug)]
pub struct Destination<'a> {
    /// Nothing outside is touched.
    pub root: &'a Root,
    /// The file or folder that is made there.
    pub path: RelativePath,
}

/// Gets things.
pub struct Getting<'a, W: Watch> {
    client: &'a mut Client,
    hashes: Hashes,
    retry_for: Duration,
    watch: &'a mut W,
    tally: Tally,
    /// Bytes that came, in attempts that failed, too.
    received: u64,
    folder_mode: u32,
}

/// Whether a path of the share is a folder: one that can be listed.
pub fn is_folder(client: &mut Client, path: &RelativePath) -> Result<bool, ClientError> {
    match client.get(&format!("/api/list/{}?limit=1", path::encode(path, true))) {
        Ok(reply) => reply.finish().map(|()| true),
        Err(ClientError::Refused { status: 404, .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

impl<'a, W: Watch> Getting<'a, W> {
    /// From a share; a lost connection is made anew for so long since the last progress. Folders are made with these
    /// permission bits.
    pub fn new(
        client: &'a mut Client,
        retry_for: Duration,
        folder_mode: u32,
        watch: &'a mut W,
    ) -> Result<Self, ClientError> {
        let hashes = Hashes::of(client)?;
        Ok(Getting { client, hashes, retry_for, watch, tally: Tally::default(), received: 0, folder_mode })
    }

    /// Get one file.
    pub fn file(mut self, from: &RelativePath, to: &Destination<'_>) -> Result<Tally, ClientError> {
        self.one(to.root, from, &to.path)?;
        Ok(self.tally)
    }

    /// Get a folder with all that is in it. What cannot be had is told and counted, the rest is got.
    pub fn folder(mut self, from: &RelativePath, to: &Destination<'_>) -> Result<Tally, ClientError> {
        let mut folders = vec![(from.clone(), to.path.clone())];
        while let Some((from, to_path)) = folders.pop() {
            match self.one_folder(&from, (to.root, &to_path), &mut folders) {
                Ok(()) => self.tally.folders += 1,
                Err(error) if error.ends_all() => return Err(error),
                Err(error) => self.fail(&from, &error),
            }
        }
        Ok(self.tally)
    }

    fn fail(&mut self, path: &RelativePath, error: &ClientError) {
        self.tally.failed += 1;
        self.tally.unproven += u64::from(matches!(error, ClientError::Unproven));
        let name = if path.is_root() { ".".to_string() } else { printable(path.as_bytes()) };
        self.watch.failed(&name, error);
    }

    fn one_folder(
        &mut self,
        from: &RelativePath,
        (root, to): (&Root, &RelativePath),
        folders: &mut Vec<(RelativePath, RelativePath)>,
    ) -> Result<(), ClientError> {
        self.make_folder(root, to)?;
        for listed in self.list(from)? {
            let (from, to) = (from.join(&listed.name)?, to.join(&listed.name)?);
            if listed.is_folder {
                folders.push((from, to));
                if folders.len() > FOLDERS_MAX {
                    return Err(ClientError::Lies("it has more folders than anybody has"));
                }
                continue;
            }
            if listed.modified_s.is_some_and(|at| partial::is_had(root, &to, listed.bytes, at)) {
                self.tally.had += 1;
                continue;
            }
            match self.one(root, &from, &to) {
                Err(error) if error.ends_all() => return Err(error),
                Err(error) => self.fail(&from, &error),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// All of a folder, before anything of it is got: a page is numbered by rows, and a file that is removed between
    /// two pages would let the second begin one row too late.
    fn list(&mut self, folder: &RelativePath) -> Result<Vec<Listed>, ClientError> {
        let mut all = Vec::new();
        loop {
            let offset = all.len();
            let query = format!("/api/list/{}?offset={offset}&limit={LIMIT_MAX}", path::encode(folder, true));
            let list: List = self.patiently(|me| me.client.get(&query)?.json())?;
            if list.entries.len() > ENTRIES_MAX - offset {
                return Err(ClientError::Lies("it lists more than a folder can hold"));
            }
            for entry in &list.entries {
                all.push(Listed::of(entry)?);
            }
            if list.entries.is_empty() || all.len() as u64 >= list.total {
                return Ok(all);
            }
        }
    }

    fn make_folder(&self, root: &Root, path: &RelativePath) -> Result<(), ClientError> {
        use std::os::unix::fs::PermissionsExt;
        if root.metadata(path).is_ok_and(|found| found.kind == Kind::Directory) {
            return Ok(());
        }
        root.create_dir_all(path)?;
        let made = root.open_folder(path)?;
        made.set_permissions(std::fs::Permissions::from_mode(self.folder_mode)).map_err(ClientError::Disk)
    }

    /// Get a file, again and again where it makes sense.
    fn one(&mut self, root: &Root, from: &RelativePath, to: &RelativePath) -> Result<(), ClientError> {
        let mut unproven = 0;
        loop {
            match self.patiently(|me| me.attempt(root, from, to)) {
                Err(ClientError::Unproven) if unproven < AGAIN_MAX => unproven += 1,
                done => return done,
            }
        }
    }

    /// Try until it works, fails for good, or has not come further for too long.
    fn patiently<T>(&mut self, mut attempt: impl FnMut(&mut Self) -> Result<T, ClientError>) -> Result<T, ClientError> {
        let (mut retry, mut bytes) = (Retry::new(self.retry_for), self.received);
        loop {
            let error = match attempt(self) {
                Err(error) if error.is_passing() => error,
                done => return done,
            };
            if self.received > bytes {
                retry.progress();
                bytes = self.received;
            }
            let Some(wait) = retry.wait() else { return Err(error) };
            self.watch.waiting(&error, wait);
            std::thread::sleep(wait);
        }
    }

    fn attempt(&mut self, root: &Root, from: &RelativePath, to: &RelativePath) -> Result<(), ClientError> {
        let url = format!("/f/{}", path::encode(from, false));
        self.hashes.ask(&url);
        let (partial, modified_s) = self.download(root, &url, to)?;
        let hashed = match self.hashes.answer() {
            Ok(hashed) => hashed,
            Err(error) if error.status() == Some(404) => {
                partial.remove(root)?;
                return Err(error);
            }
            // What came stays, and is not got again: only its proof is missing.
            Err(error) => return Err(error),
        };
        if !hashed.is(&partial.hash(), partial.len) {
            partial.remove(root)?;
            return Err(ClientError::Unproven);
        }
        let len = partial.len;
        partial.finish(root, to, modified_s)?;
        self.tally.done += 1;
        self.tally.bytes += len;
        self.watch.done();
        Ok(())
    }

    /// All of a file, not yet proven.
    fn download(&mut self, root: &Root, url: &str, to: &RelativePath) -> Result<(Partial, Option<i64>), ClientError> {
        let before = Partial::find(root, to)?;
        let from = before
            .as_ref()
            .filter(|partial| partial.len > 0)
            .and_then(|partial| Some((format!("bytes={}-", partial.len), partial.tag.clone()?)));
        let mut head = Vec::new();
        if let Some((range, tag)) = &from {
            head.extend([(header::RANGE, range.as_str()), (header::IF_RANGE, tag.as_str())]);
        }
        let mut reply = self.client.request(Method::GET, url, &head, Bytes::new())?;
        let modified_s = reply.header(header::LAST_MODIFIED).and_then(parse_http_date);
        let (mut partial, total) = match (reply.status(), before) {
            (StatusCode::PARTIAL_CONTENT, Some(partial)) if from.is_some() => {
                let total = total_of(reply.header(header::CONTENT_RANGE), partial.len);
                let total = total.ok_or(ClientError::Lies("it sends another part of the file than was asked for"))?;
                (partial, total)
            }
            (StatusCode::RANGE_NOT_SATISFIABLE, Some(partial)) => {
                let all = reply.header(header::CONTENT_RANGE).and_then(|range| range.strip_prefix("bytes */"));
                if all.and_then(|all| all.parse().ok()) == Some(partial.len) {
                    // All came before, and only the proof was missing; If-Range is not looked at for what is no range.
                    return Ok((partial, modified_s));
                }
                partial.remove(root)?;
                return Err(ClientError::Lost(std::io::Error::other("the file has changed")));
            }
            (StatusCode::OK, before) => {
                before.map_or(Ok(()), |old| old.remove(root))?;
                let total = reply.length().ok_or(ClientError::Lies("it does not say how long the file is"))?;
                (Partial::create(root, to, reply.header(header::ETAG))?, total)
            }
            (StatusCode::PERMANENT_REDIRECT, _) => return Err(ClientError::Lies("a file has become a folder")),
            _ => return reply.checked().and(Err(ClientError::Lies("it answers with something else than the file"))),
        };
        self.watch.begin(to, Some(total), partial.len);
        while let Some(piece) = reply.piece()? {
            if partial.len + piece.len() as u64 > total {
                return Err(ClientError::Lies("it sends more than it said"));
            }
            partial.add(&piece)?;
            self.received += piece.len() as u64;
            self.watch.moved(piece.len() as u64);
        }
        match partial.len == total {
            true => Ok((partial, modified_s)),
            false => Err(ClientError::Lost(std::io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

/// A row of a folder, as far as it is of use.
#[derive(Debug, PartialEq, Eq)]
struct Listed {
    name: Vec<u8>,
    is_folder: bool,
    bytes: u64,
    modified_s: Option<i64>,
}

impl Listed {
    /// Only with exactly one name.
    fn of(entry: &Entry) -> Result<Listed, ClientError> {
        let lies = ClientError::Lies("it lists a name that is none");
        let Ok(url) = UrlPath::decode(&entry.href) else { return Err(lies) };
        let mut names = url.path.names();
        let (Some(name), None) = (names.next(), names.next()) else { return Err(lies) };
        let is_folder = match entry.kind.as_str() {
            "folder" => true,
            "file" => false,
            _ => return Err(lies),
        };
        // A name of ours would be mixed up with what is not whole yet.
        if is_folder != url.is_folder || name.starts_with(PARTIAL_PREFIX.as_bytes()) {
            return Err(lies);
        }
        let modified = entry.modified.as_deref().and_then(|at| at.parse::<jiff::Timestamp>().ok());
        let modified_s = modified.map(|at| at.as_second());
        Ok(Listed { name: name.to_vec(), is_folder, bytes: entry.bytes, modified_s })
    }
}

/// The length of the whole of which a part comes that begins there and goes to the end.
fn total_of(range: Option<&str>, from: u64) -> Option<u64> {
    let (part, total) = range?.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = part.split_once('-')?;
    let (first, last, total): (u64, u64, u64) = (first.parse().ok()?, last.parse().ok()?, total.parse().ok()?);
    (first == from && last.checked_add(1) == Some(total) && first <= last).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_listing_lead_only_into_its_folder() {
        let entry = |href: &str, kind: &str| {
            let entry = Entry { href: href.to_string(), kind: kind.to_string(), bytes: 0, modified: None };
            Listed::of(&entry).ok().map(|listed| (listed.name, listed.is_folder))
        };
        assert_eq!(entry("b%20c", "file"), Some((b"b c".to_vec(), false)));
        assert_eq!(entry("b/", "folder"), Some((b"b".to_vec(), true)));
        for (href, kind) in [
            ("", "folder"),
            ("..", "file"),
            ("../", "folder"),
            ("%2e%2e/", "folder"),
            ("a%2fb", "file"),
            ("a/b", "file"),
            ("/etc/passwd", "file"),
            ("a%00", "file"),
            (".lr-get-1", "file"),
            ("a", "folder"),
            ("a/", "file"),
            ("a", "link"),
        ] {
            assert_eq!(entry(href, kind), None, "{href} {kind}");
        }
    }

    #[test]
    fn a_part_is_what_was_asked_for_or_nothing() {
        assert_eq!(total_of(Some("bytes 5-9/10"), 5), Some(10));
        for range in ["bytes 4-9/10", "bytes 5-8/10", "bytes 5-9/*", "bytes 5-18446744073709551615/1", "5-9/10", ""] {
            assert_eq!(total_of(Some(range), 5), None, "{range}");
        }
        assert_eq!(total_of(None, 0), None);
    }
}
