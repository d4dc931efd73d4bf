//! Who we are and whom we know, kept in files that only this user can read.
//!
//! Nothing here opens a socket or decides who is let in: [`crate::proto::gate`] judges, this remembers. Every file
//! is read and written through [`private_file`], so that none is ever open to others, not even for an instant.
//!
//! | file | what it holds | where it keeps it |
//! |---|---|---|
//! | [`places`] | the folders, by the XDG rules | |
//! | [`private_file`] | reading, replacing and locking files of mode 0600 | |
//! | [`ticket_file`] | one ticket in a file | where the user says |
//! | [`identity`] | the key and certificate of this machine's servers | `state/identity.key`, `state/identity.crt` |
//! | [`ticket_store`] | the tickets that were given out, as digests | `state/tickets.json` |
//! | [`peers`] | the tickets of servers that the user paired with | `config/peers/HOST_PORT` |
//! | [`same_user`] | what lets this user's own clients into a running server | `runtime/serve-PORT.ticket` |

pub mod identity;
pub mod peers;
pub mod places;
pub mod private_file;
pub mod same_user;
pub mod ticket_file;
pub mod ticket_store;

mod der;

use std::io;
use std::path::{Path, PathBuf};

use crate::proto::gate::BookError;
use crate::proto::ticket::{AddressError, TicketError};

/// Why something cannot be remembered or recalled.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// No home.
    #[error("neither {0} nor HOME names a folder: set HOME, so that there is a place for identity and tickets")]
    NoPlace(&'static str),
    /// The system refuses.
    #[error("{}: {what}: {error}", path.display())]
    System {
        /// The file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        error: io::Error,
    },
    /// Group or others can get at it.
    #[error("{path}: other users can get at it (mode {mode:04o}), so it is not used: chmod {right} {path}", path = path.display())]
    Exposed {
        /// The file or folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What to give to chmod.
        right: &'static str,
    },
    /// It belongs to somebody else.
    #[error("{}: belongs to the user with the number {uid}, so it is not used: run as that user, or remove it", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// A symbolic link, a folder, a device.
    #[error("{}: is no regular file, so it is not used: remove it", .0.display())]
    NotRegular(PathBuf),
    /// Longer than such a file can be.
    #[error("{}: has more than {bytes_max} bytes, so it is no such file: remove it", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// What it may have.
        bytes_max: u64,
    },
    /// Nothing is overwritten.
    #[error("{}: exists already and is not overwritten: name a new file", .0.display())]
    Exists(PathBuf),
    /// Its content makes no sense.
    #[error("{}: damaged ({why}): restore it, or remove {remove}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
        /// What to remove, and what happens then.
        remove: &'static str,
    },
    /// A file that should hold a ticket.
    #[error("{}: {error}", path.display())]
    Ticket {
        /// The file.
        path: PathBuf,
        /// What is wrong with its content.
        error: TicketError,
    },
    /// No host.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// No random numbers, or no key.
    #[error("no new {0} can be made: the system's random numbers or the cryptographic library fail")]
    Make(&'static str),
    /// The book of tickets does not take it.
    #[error(transparent)]
    Book(#[from] BookError),
    /// No ticket has that id.
    #[error("{0:?} is the id of no ticket: see linerate ticket list")]
    UnknownId(String),
    /// Several tickets have it.
    #[error("the ids of several tickets start with {0:?}: write more of it")]
    AmbiguousId(String),
}

impl TrustError {
    fn system(path: &Path, what: &'static str, error: impl Into<io::Error>) -> TrustError {
        TrustError::System { path: path.to_path_buf(), what, error: error.into() }
    }
}
