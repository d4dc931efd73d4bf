//! Coming in: the link with its token, the password, and the cookie that stands for both from then on.

use std::sync::Arc;
use std::time::Instant;

use axum::Form;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

use super::guard;
use super::page;
use super::problem::Problem;
use crate::share::activity::Event;
use crate::share::gate::{Denial, Secret};
use crate::share::state::Share;
use crate::text::printable_limit;

/// Longest name of a browser that the owner is shown.
const AGENT_CHARS_MAX: usize = 120;

/// Whoever is in sees the folder.
pub async fn front(State(share): State<Arc<Share>>, request: Request) -> Result<Response, Problem> {
    let session = guard::cookie(request.headers()).ok_or(Denial::NoSession)?;
    share.gate().check(&session, Instant::now())?;
    Ok(Redirect::to("/f/").into_response())
}

/// Somebody opens the link.
pub async fn link(
    State(share): State<Arc<Share>>,
    Path(token): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let token = Secret::decode(&token);
    match enter(&share, token.as_ref(), None, &request) {
        Ok(response) => Ok(response),
        Err(Denial::PasswordMissing) => {
            let link = token.map(|token| token.encode()).unwrap_or_default();
            Ok(page::html_with_forms(page::password(&share.about, &link, None), true))
        }
        Err(denial) => Err(denial.into()),
    }
}

/// What the password's form sends.
#[derive(Deserialize)]
pub struct Login {
    password: String,
    link: String,
}

/// Somebody types the password.
pub async fn login(State(share): State<Arc<Share>>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let form = Request::from_parts(parts.clone(), body);
    let Form(login) = axum::RequestExt::extract::<Form<Login>, _>(form)
        .await
        .map_err(|_| Problem::bad("Send the form with its password."))?;
    let token = Secret::decode(&login.link);
    let request = Request::from_parts(parts, axum::body::Body::empty());
    match enter(&share, token.as_ref(), Some(&login.password), &request) {
        Ok(response) => Ok(response),
        Err(denial @ (Denial::PasswordWrong | Denial::Wait(_))) => {
            let link = token.map(|token| token.encode()).unwrap_or_default();
            let problem = Problem::from(denial);
            let mut response = page::html_with_forms(page::password(&share.about, &link, Some(&problem.why)), true);
            *response.status_mut() = problem.status;
            if let Some(seconds) = problem.retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            Ok(response)
        }
        Err(denial) => Err(denial.into()),
    }
}

fn enter(share: &Share, token: Option<&Secret>, password: Option<&str>, request: &Request) -> Result<Response, Denial> {
    // Somebody who is in already stays who he is.
    if let Some(session) = guard::cookie(request.headers())
        && share.gate().check(&session, Instant::now()).is_ok()
    {
        return Ok(page::html(page::welcome(&share.about)));
    }
    let Ok(drawn) = Secret::draw() else { return Err(Denial::NoSession) };
    let from = guard::peer(request);
    let visitor = share.gate().enter(token, password, &drawn, (from, Instant::now()))?;
    share.activity.tell(&Event::Entered { visitor: visitor.id, from, agent: agent(request.headers()) });
    // A redirect would come without the cookie: it follows a step from elsewhere.
    let mut response = page::html(page::welcome(&share.about));
    let secure = if share.about.is_https { "; Secure" } else { "" };
    let name = guard::cookie_name(request.headers());
    let cookie = format!("{name}={}; HttpOnly; SameSite=Strict; Path=/{secure}", drawn.encode());
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

fn agent(headers: &HeaderMap) -> String {
    headers.get(header::USER_AGENT).map_or(String::new(), |agent| printable_limit(agent.as_bytes(), AGENT_CHARS_MAX))
}
