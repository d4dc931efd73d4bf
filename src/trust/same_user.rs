//! What lets the clients of the same user into a running server without a ticket in hand: a file that only this user
//! can read, which holds a ticket for as long as the server runs.

use std::path::PathBuf;

use super::places::Places;
use super::private_file::Lock;
use super::{TrustError, ticket_file};
use crate::proto::ticket::Ticket;

/// The file, for as long as this lives.
#[derive(Debug)]
pub struct Published {
    path: PathBuf,
    ticket: Ticket,
    /// Let go of when this server dies, however that comes.
    _alive: Lock,
}

/// Leave a ticket for the clients of the same user. What a server left that died is replaced.
pub fn publish(places: &Places, port: u16, ticket: &Ticket) -> Result<Published, TrustError> {
    let path = places.runtime_file(&name(port))?;
    let _lock = Lock::take(&path)?;
    ticket_file::write(&path, ticket)?;
    let alive = Lock::live(&path)?;
    Ok(Published { path, ticket: ticket.clone(), _alive: alive })
}

/// The ticket that a running server of this user left for this port. One that was killed leaves a file, but no lock.
pub fn find(places: &Places, port: u16) -> Result<Option<Ticket>, TrustError> {
    let path = places.runtime.join(name(port));
    match ticket_file::read(&path)? {
        Some(ticket) if Lock::is_anybody_alive(&path)? => Ok(Some(ticket)),
        _ => Ok(None),
    }
}

impl Drop for Published {
    /// The file goes, unless another server has put its own there.
    fn drop(&mut self) {
        // Nobody can be told of a failure, and the next server replaces what stays.
        let Ok(_lock) = Lock::take(&self.path) else { return };
        if ticket_file::read(&self.path).is_ok_and(|found| found.as_ref() == Some(&self.ticket)) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn name(port: u16) -> String {
    format!("serve-{port}.ticket")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::trust::ticket_file::example;

    #[test]
    fn a_ticket_is_there_as_long_as_its_server() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::below(dir.path());
        assert_eq!(find(&places, 5290).unwrap(), None);
        let published = publish(&places, 5290, &example(1)).unwrap();
        assert_eq!(std::fs::metadata(&published.path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!((find(&places, 5290).unwrap(), find(&places, 5291).unwrap()), (Some(example(1)), None));
        drop(published);
        assert_eq!(find(&places, 5290).unwrap(), None);
    }

    #[test]
    fn what_a_killed_server_left_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::below(dir.path());
        let path = places.runtime_file(&name(1)).unwrap();
        ticket_file::write(&path, &example(1)).unwrap();
        assert_eq!(find(&places, 1).unwrap(), None);
    }

    #[test]
    fn what_a_dead_server_left_is_replaced_and_only_the_own_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::below(dir.path());
        let first = publish(&places, 1, &example(1)).unwrap();
        let second = publish(&places, 1, &example(2)).unwrap();
        drop(first);
        assert_eq!(find(&places, 1).unwrap(), Some(example(2)));
        std::mem::forget(second);
        let third = publish(&places, 1, &example(3)).unwrap();
        assert_eq!(find(&places, 1).unwrap(), Some(example(3)));
        drop(third);
        assert_eq!(find(&places, 1).unwrap(), None);
    }
}
