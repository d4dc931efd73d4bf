//! `/api/…`: what the page's script, and programs, ask for.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{Query, Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::guard::Guest;
use super::problem::Problem;
use crate::share::listing::{self, LIMIT_MAX, Row, Sort};
use crate::share::path::{self, UrlPath};
use crate::share::rights::Right;
use crate::share::scans::ScanState;
use crate::share::state::Share;
use crate::store::confined::RelativePath;
use crate::store::media::MediaKind;

/// Rows of an answer unless told otherwise.
const LIMIT_DEFAULT: usize = 1000;

/// What a share tells of itself.
#[derive(Serialize)]
struct About<'a> {
    title: &'a str,
    host: &'a str,
    rights: Vec<&'static str>,
    password: bool,
    scan: bool,
    link: String,
    others: Vec<String>,
    version: &'static str,
    upload_bytes_max: Option<u64>,
}

/// `GET /api/share`
pub async fn about(State(share): State<Arc<Share>>, guest: Guest) -> Response {
    let mut links = share.about.links(&share.token).into_iter();
    let about = About {
        title: &share.about.title,
        host: &share.about.host,
        rights: guest.visitor.rights.names().collect(),
        password: share.gate().wants_password(),
        scan: share.intake.scans_files(),
        link: links.next().unwrap_or_default(),
        others: links.collect(),
        version: env!("CARGO_PKG_VERSION"),
        upload_bytes_max: share.intake.bytes_max(),
    };
    Json(about).into_response()
}

/// `GET /qr.svg`: the link, to be passed on.
pub async fn qr(State(share): State<Arc<Share>>, _guest: Guest) -> Result<Response, Problem> {
    let link = share.about.links(&share.token).into_iter().next().ok_or_else(Problem::missing)?;
    let code = fast_qr::QRBuilder::new(link).build().map_err(|_| Problem::failed())?;
    let drawn = fast_qr::convert::svg::SvgBuilder::default().to_str(&code);
    Ok(([(header::CONTENT_TYPE, "image/svg+xml")], drawn).into_response())
}

/// Which rows of a folder.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ListQuery {
    /// `name`, `size`, `date` or `type`.
    pub sort: Option<String>,
    /// `asc` or `desc`.
    pub order: Option<String>,
    /// A media kind.
    #[serde(rename = "type")]
    pub media: Option<String>,
    /// Rows to leave out.
    pub offset: usize,
    /// How many at most.
    pub limit: Option<usize>,
    /// Of the page without script, from 1.
    pub page: Option<usize>,
}

/// What is meant by it; an empty value is none.
pub(super) fn query_of(list: &ListQuery) -> Result<listing::Query, Problem> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let sort = match given(&list.sort).as_deref() {
        None | Some("name") => Sort::Name,
        Some("size") => Sort::Size,
        Some("date") => Sort::Date,
        Some("type") => Sort::Type,
        Some(_) => return Err(Problem::bad("sort is one of name, size, date, type.")),
    };
    let is_descending = match given(&list.order).as_deref() {
        None | Some("asc") => false,
        Some("desc") => true,
        Some(_) => return Err(Problem::bad("order is asc or desc.")),
    };
    Ok(listing::Query { sort, is_descending, media: media_of(given(&list.media).as_deref())? })
}

/// The media kind of a query.
pub(super) fn media_of(text: Option<&str>) -> Result<Option<MediaKind>, Problem> {
    let unknown = |_| Problem::bad("type is one of video, audio, image, text, code, archive, documents.");
    text.filter(|text| !text.is_empty()).map(|text| MediaKind::from_str(text).map_err(unknown)).transpose()
}

/// A name and what leads to it.
#[derive(Serialize)]
struct Step {
    name: String,
    href: String,
}

/// One entry.
#[derive(Serialize)]
pub(super) struct Entry {
    name: String,
    href: String,
    kind: &'static str,
    bytes: u64,
    modified: Option<String>,
    #[serde(rename = "type")]
    media: &'static str,
    scan: Option<&'static str>,
}

#[derive(Serialize)]
struct List {
    path: Vec<Step>,
    total: usize,
    offset: usize,
    entries: Vec<Entry>,
    /// Files that came and are not to be seen.
    held: Vec<HeldBack>,
}

#[derive(Serialize)]
struct HeldBack {
    name: String,
    scan: &'static str,
    why: String,
}

/// `GET /api/list/`
pub async fn list_top(state: State<Arc<Share>>, guest: Guest, query: Query<ListQuery>) -> Result<Response, Problem> {
    list_at(state.0, guest, RelativePath::root(), query.0).await
}

/// `GET /api/list/<path>/`
pub async fn list(
    State(share): State<Arc<Share>>,
    guest: Guest,
    Query(list): Query<ListQuery>,
    request: Request,
) -> Result<Response, Problem> {
    let encoded = request.uri().path().strip_prefix("/api/list/").unwrap_or_default();
    let url = UrlPath::decode(encoded).map_err(|_| Problem::missing())?;
    list_at(share, guest, url.path, list).await
}

async fn list_at(share: Arc<Share>, guest: Guest, path: RelativePath, list: ListQuery) -> Result<Response, Problem> {
    guest.may(Right::View)?;
    let query = query_of(&list)?;
    let range = (list.offset, list.limit.unwrap_or(LIMIT_DEFAULT).min(LIMIT_MAX));
    let (from, at) = (share.clone(), path.clone());
    // Before it is read: what changes after that is told.
    let opened = tokio::task::spawn_blocking(move || {
        let trouble = from.watching.opened(guest.visitor.id, (&from.tree, &at), Instant::now());
        trouble.iter().for_each(|event| from.activity.tell(event));
    });
    opened.await?;
    let read = listing::folder(&share, &path).await??;
    let answer = tokio::task::spawn_blocking(move || {
        let page = read.page(query, range);
        let steps = path.names().map(|name| Step { name: shown(name), href: format!("{}/", path::encode_name(name)) });
        let scan = |row: &Row| share.intake.scans.of(&path, row).map(ScanState::name);
        let held = share.intake.scans.held(&path).into_iter().map(|held| HeldBack {
            name: held.path.names().last().map(shown).unwrap_or_default(),
            scan: held.state.name(),
            why: held.why,
        });
        let list = List {
            path: steps.collect(),
            total: page.total,
            offset: range.0,
            entries: page.rows.iter().map(|row| Entry { scan: scan(row), ..entry(row) }).collect(),
            held: held.collect(),
        };
        serde_json::to_vec(&list).unwrap_or_default()
    });
    Ok(([(header::CONTENT_TYPE, "application/json")], answer.await?).into_response())
}

/// A name for reading.
pub(super) fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// What is told of a row.
pub(super) fn entry(row: &Row) -> Entry {
    let mut href = path::encode_name(&row.name);
    if row.is_folder {
        href.push('/');
    }
    Entry {
        name: shown(&row.name),
        href,
        kind: if row.is_folder { "folder" } else { "file" },
        bytes: row.bytes,
        modified: moment(row.modified_s),
        media: row.type_name(),
        scan: None,
    }
}

/// A moment as RFC 3339; nothing for one that no calendar has.
pub(super) fn moment(unix_s: i64) -> Option<String> {
    jiff::Timestamp::from_second(unix_s).ok().map(|at| at.to_string())
}
