//! The tickets that this user's servers have given out, as `state/tickets.json`.
//!
//! Several processes use the file at once: servers judge, `linerate ticket` adds and revokes. Every change is made
//! under a lock, and a server sees one the next time it looks. Only digests stand in the file: whoever reads it can
//! let nobody in.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::places::Places;
use super::{TrustError, private_file};
use crate::proto::gate::{Denial, Grant, TicketBook, TicketId};
use crate::proto::ticket::SecretDigest;

const FILE: &str = "tickets.json";
/// Names what the file holds and in which version.
const SCHEMA: &str = "linerate.tickets/1";
/// Longest file: room for as many of the longest grants as a book holds.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// What to do about a damaged file.
const REMOVE: &str = "it, after which all tickets must be made anew";

#[derive(Serialize, Deserialize)]
struct Document {
    schema: String,
    tickets: TicketBook,
}

/// Tells whether a file is the one that was read: every change makes a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    changed: (i64, i64),
}

/// The tickets, read again whenever the file has changed.
#[derive(Debug)]
pub struct TicketStore {
    places: Places,
    path: PathBuf,
    book: TicketBook,
    /// Of the file that `book` is from; `None` when there was none.
    stamp: Option<Stamp>,
}

impl TicketStore {
    /// The store in these places; it may be empty.
    pub fn open(places: &Places) -> Result<TicketStore, TrustError> {
        let path = places.state.join(FILE);
        let mut store = TicketStore { places: places.clone(), path, book: TicketBook::default(), stamp: None };
        store.refresh()?;
        Ok(store)
    }

    /// Give a ticket out. What has expired long ago is forgotten on the way.
    pub fn add(&mut self, grant: Grant, now_unix_s: u64) -> Result<(), TrustError> {
        self.change(|book| {
            book.prune(now_unix_s);
            book.insert(grant)?;
            Ok((true, ()))
        })
    }

    /// All tickets, in the order in which they were made.
    pub fn list(&mut self) -> Result<Vec<Grant>, TrustError> {
        self.refresh()?;
        Ok(self.book.iter().cloned().collect())
    }

    /// Revoke the one ticket whose id starts so; returns its whole id.
    pub fn revoke(&mut self, id_prefix: &str, now_unix_s: u64) -> Result<TicketId, TrustError> {
        let wanted = id_prefix.to_ascii_lowercase();
        self.change(|book| {
            let is_meant = |id: &TicketId| !wanted.is_empty() && id.to_string().starts_with(&wanted);
            let found: Vec<TicketId> = book.iter().map(|grant| grant.id).filter(is_meant).collect();
            let id = match found[..] {
                [id] => id,
                [] => return Err(TrustError::UnknownId(id_prefix.to_string())),
                _ => return Err(TrustError::AmbiguousId(id_prefix.to_string())),
            };
            book.remove(&id);
            book.prune(now_unix_s);
            Ok((true, id))
        })
    }

    /// Revoke all; returns how many there were.
    pub fn revoke_all(&mut self) -> Result<usize, TrustError> {
        self.change(|book| {
            let count = book.iter().len();
            *book = TicketBook::default();
            Ok((count > 0, count))
        })
    }

    /// Whether the holder of this secret is let in, see [`TicketBook::judge`]. A use is on the disk before this
    /// returns, so that no crash gives it back.
    pub fn judge(&mut self, digest: &SecretDigest, now_unix_s: u64) -> Result<Result<Grant, Denial>, TrustError> {
        self.refresh()?;
        // A use is counted in the file and nowhere else; what counts no uses needs no writing.
        match self.book.clone().judge(digest, now_unix_s) {
            Ok(grant) if grant.uses_left.is_some() => {}
            verdict => return Ok(verdict),
        }
        self.change(|book| {
            let verdict = book.judge(digest, now_unix_s);
            book.prune(now_unix_s);
            Ok((verdict.is_ok(), verdict))
        })
    }

    /// Whether a session that this ticket let in may go on, see [`TicketBook::is_valid`].
    pub fn is_valid(&mut self, id: &TicketId, now_unix_s: u64) -> Result<bool, TrustError> {
        self.refresh()?;
        Ok(self.book.is_valid(id, now_unix_s))
    }

    /// Read the file if it is not the one that was read last.
    fn refresh(&mut self) -> Result<(), TrustError> {
        // Taken before reading: should the file change in between, it is read once more than needed.
        let stamp = stamp_of(&self.path)?;
        if stamp != self.stamp {
            let content = private_file::read(&self.path, FILE_BYTES_MAX)?;
            self.book = book_of(&self.path, content.as_ref().map(|content| content.as_slice()))?;
            self.stamp = stamp;
        }
        Ok(())
    }

    /// Change the book in the file; `change` says whether it did.
    fn change<T>(
        &mut self,
        change: impl FnOnce(&mut TicketBook) -> Result<(bool, T), TrustError>,
    ) -> Result<T, TrustError> {
        let path = self.places.state_file(FILE)?;
        private_file::update(&path, FILE_BYTES_MAX, |before| {
            let mut book = book_of(&path, before)?;
            let (has_changed, passed_on) = change(&mut book)?;
            let after = if has_changed { Some(text_of(&path, book)?) } else { None };
            Ok((after, passed_on))
        })
    }
}

fn stamp_of(path: &Path) -> Result<Option<Stamp>, TrustError> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some(Stamp {
            device: meta.dev(),
            inode: meta.ino(),
            len: meta.len(),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(TrustError::system(path, "cannot be looked at", error)),
    }
}

/// The book in a file's content; an empty one when there is no file.
fn book_of(path: &Path, content: Option<&[u8]>) -> Result<TicketBook, TrustError> {
    let Some(content) = content else { return Ok(TicketBook::default()) };
    let damaged = |why: String| TrustError::Damaged { path: path.to_path_buf(), why, remove: REMOVE };
    let document: Document = serde_json::from_slice(content).map_err(|error| damaged(error.to_string()))?;
    if document.schema != SCHEMA {
        return Err(damaged(format!("its schema is not {SCHEMA}")));
    }
    Ok(document.tickets)
}

fn text_of(path: &Path, tickets: TicketBook) -> Result<Vec<u8>, TrustError> {
    let document = Document { schema: SCHEMA.to_string(), tickets };
    let text = serde_json::to_vec_pretty(&document);
    text.map_err(|error| TrustError::system(path, "cannot be written", error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::proto::gate::EXPIRED_KEPT_S;
    use crate::proto::ticket::{Rights, Secret};

    fn grant(n: u8, expires_unix_s: Option<u64>, uses_left: Option<u32>) -> Grant {
        let digest = Secret([n; 16]).digest();
        let (id, label) = (TicketId::of(&digest), format!("number {n}"));
        let rights = Rights::BENCH;
        Grant { id, digest, rights, folder: vec![0xff], expires_unix_s, uses_left, label, created_unix_s: 1 }
    }

    fn store() -> (tempfile::TempDir, Places, TicketStore) {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::below(dir.path());
        let store = TicketStore::open(&places).unwrap();
        (dir, places, store)
    }

    #[test]
    fn what_one_process_does_the_other_sees() {
        let (_dir, places, mut server) = store();
        let mut command = TicketStore::open(&places).unwrap();
        let forever = grant(1, None, None);
        assert_eq!(server.judge(&forever.digest, 0).unwrap(), Err(Denial::Unknown));
        command.add(forever.clone(), 0).unwrap();
        assert_eq!(server.judge(&forever.digest, 0).unwrap(), Ok(forever.clone()));
        assert!(server.is_valid(&forever.id, 0).unwrap());
        assert_eq!(command.revoke(&forever.id.to_string().to_uppercase()[..4], 0).unwrap(), forever.id);
        assert_eq!(server.judge(&forever.digest, 0).unwrap(), Err(Denial::Unknown));
        assert!(!server.is_valid(&forever.id, 0).unwrap());
    }

    #[test]
    fn uses_are_counted_over_all_processes_and_restarts() {
        let (_dir, places, mut store) = store();
        let thrice = grant(1, None, Some(3));
        store.add(thrice.clone(), 0).unwrap();
        let judge = || TicketStore::open(&places).unwrap().judge(&thrice.digest, 0).unwrap();
        let allowed: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..6).map(|_| scope.spawn(judge)).collect();
            threads.into_iter().map(|thread| usize::from(thread.join().unwrap().is_ok())).sum()
        });
        assert_eq!(allowed, 3);
        assert_eq!(store.judge(&thrice.digest, 0).unwrap(), Err(Denial::UsedUp));
        assert_eq!(store.list().unwrap()[0].uses_left, Some(0));
    }

    #[test]
    fn ids_are_found_by_their_start() {
        let (_dir, _, mut store) = store();
        let grants: Vec<Grant> = (0..20).map(|n| grant(n, None, None)).collect();
        for grant in &grants {
            store.add(grant.clone(), 0).unwrap();
        }
        // Twenty ids in sixteen digits: some start alike.
        let starts: Vec<String> = grants.iter().map(|grant| grant.id.to_string()[..1].to_string()).collect();
        let double = starts.iter().find(|start| starts.iter().filter(|other| other == start).count() > 1).unwrap();
        assert!(matches!(store.revoke(double, 0), Err(TrustError::AmbiguousId(_))));
        for unknown in ["", "zz", "000000000"] {
            assert!(matches!(store.revoke(unknown, 0), Err(TrustError::UnknownId(_))), "{unknown:?}");
        }
        assert_eq!((store.list().unwrap(), store.revoke_all().unwrap()), (grants, 20));
        assert_eq!((store.list().unwrap().len(), store.revoke_all().unwrap()), (0, 0));
    }

    #[test]
    fn the_file_is_private_holds_no_secret_and_forgets_what_expired() {
        let (_dir, places, mut store) = store();
        store.add(grant(0x5e, Some(10), None), 0).unwrap();
        store.add(grant(2, None, None), 10 + EXPIRED_KEPT_S - 1).unwrap();
        assert_eq!(store.list().unwrap().len(), 2);
        store.add(grant(3, None, None), 10 + EXPIRED_KEPT_S).unwrap();
        assert_eq!(store.list().unwrap(), [grant(2, None, None), grant(3, None, None)]);
        let path = places.state.join(FILE);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("02020202") && text.contains(SCHEMA), "{text}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let message = store.list().unwrap_err().to_string();
        assert!(message.contains("chmod 600") && message.contains(FILE), "{message}");
    }

    #[test]
    fn a_damaged_file_is_named_and_left_as_it_is() {
        let (_dir, places, mut store) = store();
        store.add(grant(1, None, None), 0).unwrap();
        let path = places.state.join(FILE);
        let good = std::fs::read_to_string(&path).unwrap();
        let id = grant(1, None, None).id.to_string();
        let bad =
            ["", "[]", "{}", &good[..good.len() / 2], &good.replace("/1", "/2"), &good.replacen(&id, "00000000", 1)];
        for bad in bad {
            std::fs::write(&path, bad).unwrap();
            for message in [store.list().unwrap_err(), store.add(grant(2, None, None), 0).unwrap_err()] {
                let message = message.to_string();
                assert!(message.contains(FILE) && message.contains("damaged"), "{message}");
            }
            assert_eq!(std::fs::read_to_string(&path).unwrap(), bad);
        }
    }
}
