//! Why an operation on a path did not happen, before it is known how to say so.
//!
//! The inner functions work with this; a path is made printable only when there is something to print.

use nix::errno::Errno;

use super::path::RelativePath;
use crate::store::StoreError;

/// Out of the root, or through a link that the operation does not follow: the kernel's EXDEV and ELOOP.
const LEADS_OUT: &str = "leads out of the folder or through a symbolic link";

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The system's answer.
    System(Errno),
    /// We do not want to.
    Unfit(&'static str),
}

impl From<Errno> for Refusal {
    fn from(error: Errno) -> Refusal {
        Refusal::System(error)
    }
}

impl Refusal {
    /// As an error about a path, of which `what` was tried.
    pub(super) fn about(self, path: &RelativePath, what: &'static str) -> StoreError {
        self.named(&path.to_string(), what)
    }

    /// As an error about the renaming of one path to another.
    pub(super) fn about_both(self, from: &RelativePath, to: &RelativePath, what: &'static str) -> StoreError {
        self.named(&format!("{from} to {to}"), what)
    }

    /// As an error about something with a name that is fit to show.
    pub(super) fn named(self, name: &str, what: &'static str) -> StoreError {
        match self {
            Refusal::System(Errno::EXDEV | Errno::ELOOP) => StoreError::unfit(name, LEADS_OUT),
            Refusal::System(error) => StoreError::system(name, what, error),
            Refusal::Unfit(why) => StoreError::unfit(name, why),
        }
    }
}
