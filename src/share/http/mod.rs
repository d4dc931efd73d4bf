//! Requests and answers: one file per thing that is asked for.
//!
//! | file | what it holds |
//! |---|---|
//! | [`guard`] | what is checked before anything else: Host, Origin, who it is; headers of every answer |
//! | [`problem`] | answers that say what was wrong, for people and programs |
//! | `enter` | the link, the password |
//! | `files` | `/f/…`: a folder's page, a file |
//! | [`ranges`] | Range, If-Range, ETag and the dates, by RFC 9110 |
//! | [`content`] | the body of a file |
//! | `api` | `/api/…`: what the page's script asks for |
//! | `events`, `chat` | what happens, as it happens; saying something |
//! | `search` | `/api/search` |
//! | `archive`, `hash`, `delete` | folders as archives, the hash of a file, deleting |
//! | `coding` | zstd and gzip for what shrinks |
//! | `tus` | `/api/uploads`: resumable uploads |
//! | `put` | whole files in one request: PUT, and the page's form |
//! | `ahead` | how far a form is read before it gives something |
//! | `small` | bodies that are taken whole before anything is done with them |
//! | [`page`] | templates and assets that are part of the program |
//!
//! Every handler gets a [`guard::Guest`], which the guard made; there is no other way to one.

pub mod content;
pub mod guard;
pub mod page;
pub mod problem;
pub mod ranges;

mod ahead;
#[cfg(test)]
mod answer_tests;
mod api;
mod archive;
mod chat;
mod coding;
mod delete;
mod enter;
mod events;
mod files;
mod hash;
mod put;
mod search;
#[cfg(test)]
mod served;
#[cfg(test)]
mod slow_tests;
mod small;
mod tus;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state, map_response};
use axum::routing::{get, head, options, post};

use super::state::Share;
use problem::Problem;
use small::{OF_STRANGERS_MAX, OF_VISITORS_MAX};

/// All that a share answers.
pub fn router(share: Arc<Share>) -> Router {
    let small = |bytes_max: usize| from_fn_with_state(bytes_max, small::whole);
    let uploads = Router::new()
        .route("/api/uploads", options(tus::options).post(tus::create))
        .route("/api/uploads/{id}", head(tus::head).patch(tus::patch).delete(tus::end))
        .layer(map_response(tus::marked));
    let inside = Router::new()
        .route("/f/", get(files::top))
        .route("/f/{*path}", get(files::any).put(put::put).delete(delete::delete))
        .route("/archive", post(archive::selection).layer(small(OF_VISITORS_MAX)))
        .route("/api/search", get(search::find))
        .route("/upload/", post(put::form).layer(DefaultBodyLimit::disable()))
        .route("/upload/{*path}", post(put::form).layer(DefaultBodyLimit::disable()))
        .merge(uploads)
        .route("/api/share", get(api::about))
        .route("/api/list/", get(api::list_top))
        .route("/api/list/{*path}", get(api::list))
        .route("/api/events", get(events::listen))
        .route("/api/chat", post(chat::say).layer(small(chat::BODY_BYTES_MAX)))
        .route("/qr.svg", get(api::qr))
        .route_layer(coding::layer())
        .route_layer(from_fn(coding::prepare))
        .route_layer(from_fn_with_state(share.clone(), guard::admit));
    Router::new()
        .route("/", get(enter::front))
        .route("/t/{token}", get(enter::link))
        .route("/login", post(enter::login).layer(small(OF_STRANGERS_MAX)))
        .route("/a/{name}", get(page::asset).layer(coding::layer()).layer(from_fn(coding::prepare)))
        .merge(inside)
        .fallback(|| async { Problem::missing() })
        .layer(from_fn_with_state(share.clone(), guard::check))
        .with_state(share)
}
