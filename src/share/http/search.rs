//! `GET /api/search`: what fits, a line of JSON each, as it is found.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::api::{media_of, moment, shown};
use super::guard::Guest;
use super::problem::Problem;
use crate::share::flow::{Tap, flow};
use crate::share::path::{self, UrlPath};
use crate::share::reading::Searching;
use crate::share::rights::Right;
use crate::share::search::{HITS_MAX, Hearer, Hit, Wanted, Words, search};
use crate::share::state::Share;
use crate::share::tree::Found;

/// Most bytes of an answer, which wait here if they are not taken: paths can be long.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// What is searched for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct SearchQuery {
    q: String,
    #[serde(rename = "type")]
    media: Option<String>,
    #[serde(rename = "in")]
    folder: String,
}

#[derive(Serialize)]
struct Line<'a> {
    href: &'a str,
    name: &'a str,
    folder: &'a str,
    kind: &'static str,
    bytes: u64,
    modified: Option<String>,
    #[serde(rename = "type")]
    media: &'static str,
}

#[derive(Serialize)]
struct Last {
    done: bool,
    hits: usize,
    looked_at: u64,
    cut: bool,
}

/// `GET /api/search?q=…&type=…&in=…`
pub async fn find(
    State(share): State<Arc<Share>>,
    guest: Guest,
    Query(query): Query<SearchQuery>,
) -> Result<Response, Problem> {
    guest.may(Right::View)?;
    let words = Words::parse(&query.q);
    let words = words.ok_or_else(|| Problem::bad("q has to hold 1 to 16 words of 256 bytes together at most."))?;
    let media = media_of(query.media.as_deref())?;
    let folder = UrlPath::decode(&query.folder).map_err(|_| Problem::missing())?.path;
    let from = share.clone();
    let wanted = tokio::task::spawn_blocking(move || match from.tree.items().is_some() && folder.is_root() {
        true => Ok(Wanted { words, media, folder }),
        // Said now, while there is a status to say it with.
        false => match from.tree.find(&folder)? {
            Found::Folder(_) => Ok(Wanted { words, media, folder }),
            Found::File(_) => Err(Problem::missing()),
        },
    });
    let wanted = wanted.await??;
    let busy = || Problem::busy("Too many searches are running: try again in a moment.");
    let searching = share.reading.searches.begin(guest.who()).ok_or_else(busy)?;
    // Every line, the last, and the end: a search never waits for whoever reads slowly.
    let (tap, body) = flow(HITS_MAX + 2);
    let teller = Teller { tap, searching, bytes: AtomicUsize::new(0) };
    let thread = std::thread::Builder::new().name("search".to_string());
    thread.spawn(move || tell(&share, &wanted, &teller)).map_err(|_| Problem::failed())?;
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::new(body)).into_response())
}

struct Teller {
    tap: Tap,
    searching: Searching,
    bytes: AtomicUsize,
}

impl Hearer for Teller {
    fn hits(&self, hits: Vec<Hit>) -> bool {
        let mut lines = Vec::new();
        for hit in &hits {
            let mut href = path::encode(&hit.folder, true);
            href.push_str(&path::encode_name(&hit.row.name));
            if hit.row.is_folder {
                href.push('/');
            }
            let line = Line {
                href: &href,
                name: &shown(&hit.row.name),
                folder: &shown(hit.folder.as_bytes()),
                kind: if hit.row.is_folder { "folder" } else { "file" },
                bytes: hit.row.bytes,
                modified: moment(hit.row.modified_s),
                media: hit.row.type_name(),
            };
            if serde_json::to_writer(&mut lines, &line).is_err() {
                return false;
            }
            lines.push(b'\n');
        }
        let before = self.bytes.fetch_add(lines.len(), Ordering::Relaxed);
        before + lines.len() <= ANSWER_BYTES_MAX && self.tap.say(lines)
    }

    fn is_gone(&self) -> bool {
        self.tap.is_closed() || self.searching.is_ended()
    }
}

fn tell(share: &Share, wanted: &Wanted, teller: &Teller) {
    let Ok(found) = search(&share.tree, wanted, teller) else { return };
    let last = Last { done: true, hits: found.hits, looked_at: found.looked_at, cut: found.is_cut };
    let mut line = serde_json::to_vec(&last).unwrap_or_default();
    line.push(b'\n');
    if teller.tap.say(line) {
        teller.tap.end();
    }
}
