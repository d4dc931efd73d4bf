//! Where bytes live: hot memory, files and block devices, the confined root, and what is found in it.
//!
//! This makes the [`crate::mover::Source`]s and [`crate::mover::Sink`]s that the methods work on, and refuses what
//! cannot be one with a sentence that a person can act on. It moves no bytes itself, but reads them to hash them.

pub mod confined;
pub mod draft;
pub mod file;
pub mod filter;
pub mod hashing;
pub mod hot;
pub mod journal;
pub mod landing;
pub mod media;
pub mod scan;

use std::io;

use crate::proto::verify::VerifyError;

/// What is said of a path that leads nowhere.
pub const NOT_THERE: &str = "no such file or folder";

/// Why a source or sink cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refuses.
    #[error("{name}: {what}: {error}")]
    System {
        /// The file.
        name: String,
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        error: io::Error,
    },
    /// Not a file that can serve.
    #[error("{name}: {why}")]
    Unfit {
        /// The file.
        name: String,
        /// What is wrong, and what to do.
        why: &'static str,
    },
    /// Too short for what is asked.
    #[error(
        "{name}: holds {len} bytes, which is less than the {needed} that one call moves: choose a larger file or smaller --sizes"
    )]
    TooShort {
        /// The file.
        name: String,
        /// Its length, bytes.
        len: u64,
        /// What is needed, bytes.
        needed: u64,
    },
    /// Shorter than it was a moment ago.
    #[error("{name}: ends at byte {at}, before the end that it had: try again when nobody writes it")]
    Truncated {
        /// The file.
        name: String,
        /// Where it ends now, bytes.
        at: u64,
    },
    /// What is wanted of a tree makes no sense.
    #[error("{why}")]
    Filter {
        /// What is wrong with it.
        why: String,
    },
    /// Not what it was a moment ago.
    #[error("{name}: was changed while it was read: try again when nobody writes it")]
    Changed {
        /// The file.
        name: String,
    },
    /// Its blocks do not fit together.
    #[error("{name}: {error}")]
    Block {
        /// The file.
        name: String,
        /// What is wrong.
        error: VerifyError,
    },
}

impl StoreError {
    /// The error without the name, for one who shows the name himself.
    pub fn reason(&self) -> String {
        if let StoreError::System { what, error, .. } = self
            && error.kind() == io::ErrorKind::NotFound
        {
            return format!("{what}: {NOT_THERE}");
        }
        let whole = self.to_string();
        let name = self.name();
        whole.strip_prefix(name).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(&whole).to_string()
    }

    /// The same of something else: what a person knows, instead of what it is called for the moment.
    fn about(mut self, of: &str) -> StoreError {
        match &mut self {
            StoreError::System { name, .. }
            | StoreError::Unfit { name, .. }
            | StoreError::TooShort { name, .. }
            | StoreError::Truncated { name, .. }
            | StoreError::Changed { name }
            | StoreError::Block { name, .. } => of.clone_into(name),
            StoreError::Filter { .. } => {}
        }
        self
    }

    /// What it is about, as it is shown.
    pub fn name(&self) -> &str {
        match self {
            StoreError::System { name, .. }
            | StoreError::Unfit { name, .. }
            | StoreError::TooShort { name, .. }
            | StoreError::Truncated { name, .. }
            | StoreError::Changed { name }
            | StoreError::Block { name, .. } => name,
            StoreError::Filter { .. } => "",
        }
    }

    fn system(name: &str, what: &'static str, error: impl Into<io::Error>) -> StoreError {
        StoreError::System { name: name.to_string(), what, error: error.into() }
    }

    /// The machine has no thread for it.
    pub fn no_thread(name: &str, error: io::Error) -> StoreError {
        StoreError::system(name, "a thread cannot be started", error)
    }

    fn unfit(name: &str, why: &'static str) -> StoreError {
        StoreError::Unfit { name: name.to_string(), why }
    }
}
