//! A file that holds one ticket: its text and a newline.

use std::path::Path;

use zeroize::Zeroizing;

use super::{TrustError, private_file};
use crate::proto::ticket::{Ticket, TicketError};

/// Longest file; a ticket is shorter, and editors leave blanks.
const FILE_BYTES_MAX: u64 = 4096;

/// The ticket in a file; `None` when there is no file. It must be of mode 0600.
pub fn read(path: &Path) -> Result<Option<Ticket>, TrustError> {
    let Some(content) = private_file::read(path, FILE_BYTES_MAX)? else { return Ok(None) };
    let text = std::str::from_utf8(&content).map_err(|_| TicketError::NotATicket);
    let ticket = text.and_then(Ticket::decode).map_err(|error| of(path, error))?;
    Ok(Some(ticket))
}

/// Put a ticket in the place of whatever the file held.
pub fn write(path: &Path, ticket: &Ticket) -> Result<(), TrustError> {
    private_file::write(path, text(path, ticket)?.as_bytes())
}

/// A new file with a ticket; one that exists is left alone.
pub fn create(path: &Path, ticket: &Ticket) -> Result<(), TrustError> {
    private_file::create(path, text(path, ticket)?.as_bytes())
}

fn text(path: &Path, ticket: &Ticket) -> Result<Zeroizing<String>, TrustError> {
    let mut text = Zeroizing::new(ticket.encode().map_err(|error| of(path, error))?);
    text.push('\n');
    Ok(text)
}

fn of(path: &Path, error: TicketError) -> TrustError {
    TrustError::Ticket { path: path.to_path_buf(), error }
}

/// A ticket for the tests of this layer.
#[cfg(test)]
pub(super) fn example(secret: u8) -> Ticket {
    use crate::proto::ticket::{Fingerprint, Rights, Secret};
    Ticket {
        secret: Secret([secret; 16]),
        rights: Rights::BENCH,
        folder: Vec::new(),
        expires_unix_s: None,
        uses: None,
        fingerprint: Fingerprint([7; 32]),
        addresses: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_are_kept_in_files_and_never_overwritten_unasked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ticket");
        assert_eq!(read(&path).unwrap(), None);
        create(&path, &example(1)).unwrap();
        assert!(matches!(create(&path, &example(2)), Err(TrustError::Exists(_))));
        assert_eq!(read(&path).unwrap(), Some(example(1)));
        write(&path, &example(2)).unwrap();
        assert_eq!(read(&path).unwrap(), Some(example(2)));
    }

    #[test]
    fn a_file_without_a_ticket_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ticket");
        for content in [&b""[..], b"password", b"\xff\xfe", b"lr1qqqqqqqqqqq"] {
            private_file::write(&path, content).unwrap();
            let message = read(&path).unwrap_err().to_string();
            assert!(message.starts_with(&path.display().to_string()) && message.contains("lr1"), "{message}");
        }
    }
}
