//! The tickets of servers that the user paired with, one file each below `config/peers`.
//!
//! A file's name is the server's host and port, so that a person can see and remove it.

use std::io;
use std::path::PathBuf;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::places::Places;
use super::{TrustError, private_file, ticket_file};
use crate::proto::ticket::{Address, Ticket};

const FOLDER: &str = "peers";
/// Stands between host and port, and so nowhere else.
const SEPARATOR: char = '_';
/// What is not written as it is; a dot can do no harm, as every name has a separator.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-');

/// The servers that the user paired with.
#[derive(Clone, Debug)]
pub struct Peers {
    folder: PathBuf,
}

impl Peers {
    /// Those in these places.
    pub fn new(places: &Places) -> Peers {
        Peers { folder: places.config.join(FOLDER) }
    }

    /// Remember a server's ticket in the place of any older one.
    pub fn store(&self, host: &str, port: u16, ticket: &Ticket) -> Result<(), TrustError> {
        let path = self.path(host, port)?;
        private_file::make_folder(&self.folder)?;
        ticket_file::write(&path, ticket)
    }

    /// The ticket of a server; `None` when the user did not pair with it.
    pub fn find(&self, host: &str, port: u16) -> Result<Option<Ticket>, TrustError> {
        ticket_file::read(&self.path(host, port)?)
    }

    /// Forget a server; `false` when it was not known.
    pub fn remove(&self, host: &str, port: u16) -> Result<bool, TrustError> {
        let path = self.path(host, port)?;
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(TrustError::system(&path, "cannot be removed", error)),
        }
    }

    /// All servers, by name. Files that are not ours are passed over.
    pub fn list(&self) -> Result<Vec<Address>, TrustError> {
        let failed = |error| TrustError::system(&self.folder, "cannot be listed", error);
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            found.extend(name.to_str().and_then(address_of));
        }
        found.sort_by(|a, b| (&a.host, a.port).cmp(&(&b.host, b.port)));
        Ok(found)
    }

    fn path(&self, host: &str, port: u16) -> Result<PathBuf, TrustError> {
        // Names of the DNS are the same in any case.
        let address = Address::new(&host.to_ascii_lowercase(), port)?;
        Ok(self.folder.join(name_of(&address)))
    }
}

fn name_of(address: &Address) -> String {
    format!("{}{SEPARATOR}{}", utf8_percent_encode(&address.host, ENCODED), address.port)
}

fn address_of(name: &str) -> Option<Address> {
    let (host, port) = name.rsplit_once(SEPARATOR)?;
    let host = percent_decode_str(host).decode_utf8().ok()?;
    let address = Address::new(&host, port.parse().ok()?).ok()?;
    // A name that only looks like one of ours would not be found again.
    (name_of(&address) == name).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::ticket_file::example;
    use proptest::prelude::*;

    #[test]
    fn peers_are_remembered_by_host_and_port() {
        let dir = tempfile::tempdir().unwrap();
        let peers = Peers::new(&Places::below(dir.path()));
        assert_eq!((peers.list().unwrap(), peers.find("nas", 1).unwrap()), (Vec::new(), None));
        peers.store("nas", 1, &example(1)).unwrap();
        peers.store("NAS", 1, &example(2)).unwrap();
        peers.store("nas", 2, &example(3)).unwrap();
        peers.store("2001:DB8::1", 2, &example(4)).unwrap();
        assert_eq!(peers.find("Nas", 1).unwrap(), Some(example(2)));
        assert_eq!(peers.find("2001:db8:0::1", 2).unwrap(), Some(example(4)));
        std::fs::write(peers.folder.join("notes.txt"), "mine").unwrap();
        let listed: Vec<String> = peers.list().unwrap().iter().map(Address::to_string).collect();
        assert_eq!(listed, ["[2001:db8::1]:2", "nas:1", "nas:2"]);
        assert!(peers.remove("nas", 1).unwrap() && !peers.remove("nas", 1).unwrap());
        assert_eq!((peers.find("nas", 1).unwrap(), peers.find("nas", 2).unwrap()), (None, Some(example(3))));
    }

    #[test]
    fn no_host_leads_out_of_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let peers = Peers::new(&Places::below(dir.path()));
        for host in ["", "../../x", "a/b", "a\0b", "a b"] {
            assert!(matches!(peers.store(host, 1, &example(1)), Err(TrustError::Address(_))), "{host:?}");
        }
        for host in ["..", ".", "a_b", "größe", "a%2fb"] {
            peers.store(host, 1, &example(1)).unwrap();
            assert_eq!(peers.find(host, 1).unwrap(), Some(example(1)));
        }
        assert_eq!(std::fs::read_dir(&peers.folder).unwrap().count(), 5);
        assert_eq!(peers.list().unwrap().len(), 5);
    }

    proptest! {
        #[test]
        fn every_address_is_a_name_and_back(host in "\\PC{1,20}", port: u16, name: String) {
            if let Ok(address) = Address::new(&host, port) {
                let name = name_of(&address);
                prop_assert!(!name.contains('/'));
                prop_assert_eq!(address_of(&name), Some(address));
            }
            let _ = address_of(&name);
        }
    }
}
