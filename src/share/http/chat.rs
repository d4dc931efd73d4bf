//! `/api/chat`: saying something.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use serde::Deserialize;

use super::guard::Guest;
use super::problem::Problem;
use crate::share::activity::Event;
use crate::share::rights::Right;
use crate::share::room::{Rejection, Who};
use crate::share::state::Share;

/// Largest request: the longest text with every character escaped, and a name.
pub const BODY_BYTES_MAX: usize = 32 << 10;

/// What is said.
#[derive(Deserialize)]
struct Said {
    text: String,
    #[serde(default)]
    nick: String,
}

/// `POST /api/chat`
pub async fn say(
    State(share): State<Arc<Share>>,
    guest: Guest,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    guest.may(Right::Chat)?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    // A form of another page cannot send this type.
    if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Send a message as application/json."));
    }
    let said: Said =
        serde_json::from_slice(&body).map_err(|_| Problem::bad("Send {\"text\":\"…\",\"nick\":\"…\"}."))?;
    let who = Who::new(guest.visitor.id, guest.from, &said.nick);
    match share.hub.say((&who, guest.from), &said.nick, &said.text) {
        Ok((nick, text)) => {
            share.activity.tell(&Event::Said { nick, text });
            Ok(StatusCode::NO_CONTENT)
        }
        Err(rejection) => Err(problem_of(rejection)),
    }
}

fn problem_of(rejection: Rejection) -> Problem {
    let status = match rejection {
        Rejection::Empty => StatusCode::BAD_REQUEST,
        Rejection::Long => StatusCode::PAYLOAD_TOO_LARGE,
        Rejection::Flood(_) => StatusCode::TOO_MANY_REQUESTS,
    };
    let mut problem = Problem::new(status, rejection.to_string());
    if let Rejection::Flood(wait) = rejection {
        problem.retry_after = Some(wait.as_secs() + 1);
    }
    problem
}
