//! `/api/events`: what happens, as it happens.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Deserialize;

use super::guard::Guest;
use super::problem::Problem;
use crate::share::hub::Hears;
use crate::share::rights::Right;
use crate::share::room::Who;
use crate::share::state::Share;

/// Seconds after which somebody for whom there was no room may try again.
const FULL_S: u64 = 30;

/// Who listens.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Listener {
    /// The name that he gives himself.
    nick: String,
}

/// `GET /api/events?nick=…`
pub async fn listen(
    State(share): State<Arc<Share>>,
    guest: Guest,
    Query(listener): Query<Listener>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let rights = guest.visitor.rights;
    let hears = Hears { chat: rights.has(Right::Chat), changes: rights.has(Right::View) };
    let seen = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let who = Who::new(guest.visitor.id, guest.from, &listener.nick);
    let stream = share.hub.listen((who, guest.from), &listener.nick, hears, seen.unwrap_or(0)).map_err(|full| {
        let mut problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, full.to_string());
        problem.retry_after = Some(FULL_S);
        problem
    })?;
    let mut response = Response::new(Body::new(stream));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    Ok(response)
}
