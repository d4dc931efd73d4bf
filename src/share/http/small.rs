//! Requests whose body is small: it is there, all of it, before anything is done with it, within [`WHOLE_MAX`].

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::timeout;

use super::problem::Problem;

/// How long all of such a body may take to come.
pub const WHOLE_MAX: Duration = Duration::from_secs(30);
/// Most bytes of what somebody sends who is not known yet: a password and the link's token.
pub const OF_STRANGERS_MAX: usize = 8 << 10;
/// Most bytes of what visitors send: a selection of files by their paths.
pub const OF_VISITORS_MAX: usize = 2 << 20;

/// Take the body, of so many bytes at most, and go on.
pub async fn whole(State(bytes_max): State<usize>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let problem = match timeout(WHOLE_MAX, to_bytes(body, bytes_max)).await {
        Ok(Ok(bytes)) => return next.run(Request::from_parts(head, Body::from(bytes))).await,
        Ok(Err(_)) => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "The request is too long, or was cut."),
        Err(_) => Problem::new(StatusCode::REQUEST_TIMEOUT, "The request came too slowly."),
    };
    problem.into_response()
}
