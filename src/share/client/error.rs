//! Why a share could not be used.

use std::io;
use std::time::Duration;

use axum::http::StatusCode;

use crate::proto::fingerprint::Fingerprint;
use crate::text::printable_limit;
use crate::tls::TlsError;
use crate::units::Span;

/// Longest reason of a server that is shown.
const WHY_CHARS_MAX: usize = 300;

/// Why it did not work.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers.
    #[error("{authority}: {error}: is the share still open, and is this machine on the same network?")]
    Unreachable {
        /// Where.
        authority: String,
        /// What the system says.
        error: io::Error,
    },
    /// Somebody else answers.
    #[error(
        "its certificate has the fingerprint {found}, not {expected}: somebody else answers at this address, or the share has a new identity; ask who shares"
    )]
    Fingerprint {
        /// Who was meant.
        expected: Fingerprint,
        /// Who it is.
        found: Fingerprint,
    },
    /// It does not speak as a share does.
    #[error(
        "no HTTPS with TLS 1.3 is spoken there: is this the address of a share, or does the link begin with http://?"
    )]
    NoShare,
    /// TLS failed in another way.
    #[error(transparent)]
    Tls(TlsError),
    /// The connection went.
    #[error("the connection to the share was lost ({0})")]
    Lost(io::Error),
    /// Nothing came for too long.
    #[error("the share has said nothing for {}", Span(*.0))]
    Silent(Duration),
    /// The server says no.
    #[error("the share answers {status}: {why}")]
    Refused {
        /// The status.
        status: u16,
        /// In its words, or ours where it has none.
        why: String,
    },
    /// A server that does not keep to what was agreed.
    #[error("the share does not do as it should: {0}")]
    Lies(&'static str),
    /// What came is not what the server says that it is.
    #[error("what came does not hash to what the share says: it was changed meanwhile, or on the way; get it again")]
    Unproven,
    /// Something was found in a file that was sent.
    #[error("the share's virus scan found something in it: nobody gets it there")]
    Infected,
    /// A file that was sent could not be looked at.
    #[error("the share could not scan it for viruses, and gives it to nobody: ask whoever shares")]
    Unscanned,
    /// Something of this machine refuses.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// Writing or reading files failed.
    #[error("writing: {0}")]
    Disk(io::Error),
    /// This machine lacks something.
    #[error(transparent)]
    System(io::Error),
}

impl ClientError {
    /// A status that is no success, with what the server says.
    pub(super) fn refused(status: StatusCode, why: Option<&str>) -> ClientError {
        let usual = match status {
            StatusCode::UNAUTHORIZED => "open the link of this share first",
            StatusCode::FORBIDDEN => "this share does not allow that",
            StatusCode::NOT_FOUND => "no such file or folder",
            StatusCode::GONE => "this share has expired",
            StatusCode::MISDIRECTED_REQUEST => "it is not known by that name: use the link as it was given to you",
            StatusCode::TEMPORARY_REDIRECT => "it speaks HTTPS: use its link that begins with https://",
            _ => status.canonical_reason().unwrap_or("no reason is given"),
        };
        let why = why.map_or_else(|| usual.to_string(), |why| printable_limit(why.as_bytes(), WHY_CHARS_MAX));
        ClientError::Refused { status: status.as_u16(), why }
    }

    /// The status with which a server said no.
    pub fn status(&self) -> Option<u16> {
        match self {
            ClientError::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether nothing else can be had from the share, or sent there, either.
    pub fn ends_all(&self) -> bool {
        match self {
            ClientError::Refused { status, .. } => matches!(status, 401 | 410 | 421),
            ClientError::Disk(error) => {
                matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            ClientError::Unproven | ClientError::Infected | ClientError::Unscanned => false,
            ClientError::Lies(_) | ClientError::Store(_) => false,
            _ => true,
        }
    }

    /// Whether the same request may work a moment later.
    pub fn is_passing(&self) -> bool {
        match self {
            ClientError::Unreachable { .. } | ClientError::Lost(_) | ClientError::Silent(_) => true,
            ClientError::Refused { status, .. } => matches!(status, 408 | 423 | 429 | 460 | 500 | 502..=504),
            _ => false,
        }
    }
}
