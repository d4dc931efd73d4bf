//! Answers that say what was wrong: a page for people, JSON for programs.
//!
//! Handlers give a [`Problem`]; the guard, which knows what was asked for, makes the body of it. None of them ever
//! repeats what was asked.

use std::io::ErrorKind;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::page;
use crate::share::gate::Denial;
use crate::share::incoming::IncomingError;
use crate::share::tree::TreeError;

/// What was wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The status of the answer.
    pub status: StatusCode,
    /// One clear sentence.
    pub why: String,
    /// Seconds after which trying again makes sense.
    pub retry_after: Option<u64>,
}

impl Problem {
    /// With this status and sentence.
    pub fn new(status: StatusCode, why: impl Into<String>) -> Problem {
        Problem { status, why: why.into(), retry_after: None }
    }

    /// There is no such thing.
    pub fn missing() -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "No such file or folder.")
    }

    /// It takes a right that the link does not give.
    pub fn forbidden(what: &str) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, format!("This share does not allow {what}."))
    }

    /// The request makes no sense.
    pub fn bad(why: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, why)
    }

    /// Something failed that is nobody's fault outside.
    pub fn failed() -> Problem {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "Something went wrong on the sharing machine.")
    }

    /// Too much is going on.
    pub fn busy(why: &str) -> Problem {
        Problem { retry_after: Some(1), ..Problem::new(StatusCode::SERVICE_UNAVAILABLE, why) }
    }

    /// Too many uploads are.
    pub fn too_many_uploads() -> Problem {
        Problem { retry_after: Some(5), ..Problem::busy("Too many uploads at once: try again soon.") }
    }

    /// More than the owner lets come.
    pub fn over_quota() -> Problem {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "That is more than this share takes.")
    }

    /// A folder that is not there before anything was written was never there.
    pub fn not_begun(error: IncomingError) -> Problem {
        if matches!(error, IncomingError::Gone) { Problem::missing() } else { error.into() }
    }

    /// As it is written where a person reads, or a program.
    pub fn into_page(self, is_json: bool) -> Response {
        let (kind, body) = match is_json {
            true => ("application/json", serde_json::json!({ "error": self.why }).to_string()),
            false => ("text/html; charset=utf-8", page::problem(self.status, &self.why)),
        };
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// An error as a sentence.
pub(super) fn sentence(error: &impl std::error::Error) -> String {
    let mut text = error.to_string();
    if let Some(first) = text.get(..1).map(str::to_ascii_uppercase) {
        text.replace_range(..1, &first);
    }
    text + "."
}

/// The guard makes the body.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        response.extensions_mut().insert(self);
        response
    }
}

impl From<TreeError> for Problem {
    fn from(error: TreeError) -> Problem {
        let system = |status: StatusCode, why: &str| Problem::new(status, why);
        match (&error, error.kind()) {
            (TreeError::Missing | TreeError::Special, _) => Problem::missing(),
            (TreeError::NotAFolder, _) => system(StatusCode::CONFLICT, "Files can be added only in a shared folder."),
            (_, Some(ErrorKind::NotFound | ErrorKind::NotADirectory)) => Problem::missing(),
            (_, Some(ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem)) => {
                system(StatusCode::FORBIDDEN, "The sharing machine may not do that here.")
            }
            (_, Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded)) => {
                system(StatusCode::INSUFFICIENT_STORAGE, "The sharing machine has no room left.")
            }
            (_, Some(ErrorKind::InvalidFilename)) => system(StatusCode::CONFLICT, "This name is too long there."),
            (TreeError::Store(error), _) => {
                tracing::warn!(%error, "a request failed");
                Problem::failed()
            }
        }
    }
}

impl From<Denial> for Problem {
    fn from(denial: Denial) -> Problem {
        let status = match denial {
            Denial::NoSession | Denial::PasswordMissing => StatusCode::UNAUTHORIZED,
            Denial::Token | Denial::PasswordWrong => StatusCode::FORBIDDEN,
            Denial::Wait(_) => StatusCode::TOO_MANY_REQUESTS,
            Denial::Expired => StatusCode::GONE,
        };
        let mut problem = Problem::new(status, sentence(&denial));
        if let Denial::Wait(left) = denial {
            problem.retry_after = Some(left.as_secs() + 1);
        }
        problem
    }
}

/// A blocking thread that panicked or was ended with the share.
impl From<tokio::task::JoinError> for Problem {
    fn from(_: tokio::task::JoinError) -> Problem {
        Problem::failed()
    }
}
