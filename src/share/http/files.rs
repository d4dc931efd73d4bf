//! `/f/…`: a folder as a page, a file as a download or to be looked at.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

use super::api::{ListQuery, query_of};
use super::coding::{self, Shrinks};
use super::content::FileBody;
use super::guard::Guest;
use super::page;
use super::problem::Problem;
use super::ranges::{self, Version, Wanted};
use super::{archive, hash};
use crate::share::activity::Action;
use crate::share::archive::Format;
use crate::share::listing;
use crate::share::path::{self, UrlPath};
use crate::share::rights::Right;
use crate::share::state::Share;
use crate::share::tree::{Found, Opened};
use crate::share::wire::Orders;
use crate::store::media::{self, ByName};
use crate::text::printable;

/// Nothing in such a page runs or loads, whatever it holds.
const SANDBOX: &str = "sandbox; default-src 'none'; img-src 'self' data:; media-src 'self'";

/// How a file is wanted.
#[derive(Debug, Default, Deserialize)]
pub struct Wishes {
    /// To be looked at in the browser.
    view: Option<String>,
    /// The hash of its content instead.
    blake3: Option<String>,
    /// A folder as an archive.
    zip: Option<String>,
    /// The same in the other form.
    tar: Option<String>,
}

impl Wishes {
    fn archive(&self) -> Option<Format> {
        match (&self.zip, &self.tar) {
            (Some(_), _) => Some(Format::Zip),
            (None, Some(_)) => Some(Format::Tar),
            (None, None) => None,
        }
    }
}

/// The top folder.
pub async fn top(
    State(share): State<Arc<Share>>,
    guest: Guest,
    Query(list): Query<ListQuery>,
    Query(wishes): Query<Wishes>,
    orders: Option<Extension<Orders>>,
    method: Method,
) -> Result<Response, Problem> {
    let url = UrlPath::decode("").map_err(|_| Problem::missing())?;
    match wishes.archive() {
        Some(format) => {
            let orders = orders.map(|Extension(orders)| orders);
            archive::folder(share, guest, url.path, (format, method == Method::HEAD), orders).await
        }
        None => folder(share, guest, url, list).await,
    }
}

/// Whatever a path names.
pub async fn any(
    State(share): State<Arc<Share>>,
    guest: Guest,
    Query(list): Query<ListQuery>,
    Query(wishes): Query<Wishes>,
    request: Request,
) -> Result<Response, Problem> {
    // As it was sent: axum decodes too early.
    let encoded = request.uri().path().strip_prefix("/f/").unwrap_or_default();
    let url = UrlPath::decode(encoded).map_err(|_| Problem::missing())?;
    if let (true, Some(format)) = (url.is_folder, wishes.archive()) {
        let orders = request.extensions().get::<Orders>().cloned();
        return archive::folder(share, guest, url.path, (format, request.method() == Method::HEAD), orders).await;
    }
    if url.is_folder {
        return folder(share, guest, url, list).await;
    }
    guest.may(Right::View)?;
    let (from, path) = (share.clone(), url.path.clone());
    match tokio::task::spawn_blocking(move || from.tree.find(&path)).await?? {
        Found::Folder(_) if wishes.archive().is_some() => {
            let format = wishes.archive().unwrap_or(Format::Zip);
            let orders = request.extensions().get::<Orders>().cloned();
            archive::folder(share, guest, url.path, (format, request.method() == Method::HEAD), orders).await
        }
        Found::Folder(_) => Ok(Redirect::permanent(&format!("/f/{}", path::encode(&url.path, true))).into_response()),
        Found::File(opened) => {
            guest.may(Right::Download)?;
            if wishes.blake3.is_some() {
                return hash::blake3(share, &guest, opened).await;
            }
            Ok(file(&share, &guest, &url, opened, (&request, wishes.view.is_some())))
        }
    }
}

async fn folder(share: Arc<Share>, guest: Guest, url: UrlPath, list: ListQuery) -> Result<Response, Problem> {
    let query = query_of(&list)?;
    if !guest.visitor.rights.has(Right::View) && guest.visitor.rights.has(Right::Upload) && url.path.is_root() {
        // Whoever may only add something sees the page for that, and nothing of what is there.
        let rows = listing::Page { total: 0, rows: Vec::new() };
        let text = page::folder(&share, &guest, &url.path, &page::Shown { list: &list, number: 1, rows: &rows });
        return Ok(page::html_with_forms(text, false));
    }
    guest.may(Right::View)?;
    let number = list.page.unwrap_or(1).clamp(1, page::PAGES_MAX);
    let range = ((number - 1).saturating_mul(page::ROWS_MAX), page::ROWS_MAX);
    let read = listing::folder(&share, &url.path).await??;
    let rows = tokio::task::spawn_blocking(move || read.page(query, range)).await?;
    let text = page::folder(&share, &guest, &url.path, &page::Shown { list: &list, number, rows: &rows });
    Ok(page::html_with_forms(text, false))
}

/// Answer with a file, or the part of it that is asked for.
fn file(share: &Share, guest: &Guest, url: &UrlPath, opened: Opened, (request, is_view): (&Request, bool)) -> Response {
    let found = &opened.metadata;
    let version =
        Version { len: found.len, modified_s: found.modified_s, modified_ns: found.modified_ns, inode: found.inode };
    let is_get = request.method() != Method::HEAD;
    let (status, start, len) = match ranges::wanted((request.headers(), is_get), &version) {
        Wanted::Whole => (StatusCode::OK, 0, version.len),
        Wanted::Part { start, len } => (StatusCode::PARTIAL_CONTENT, start, len),
        Wanted::NotModified => (StatusCode::NOT_MODIFIED, 0, 0),
        Wanted::Failed => {
            return Problem::new(StatusCode::PRECONDITION_FAILED, "The file has changed.").into_response();
        }
        Wanted::Unsatisfiable => {
            let why = "The file is shorter than that.";
            let mut response = Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, why).into_response();
            set(response.headers_mut(), header::CONTENT_RANGE, &format!("bytes */{}", version.len));
            return response;
        }
    };
    let shrinks = coding::file_shrinks(url.path.names().last().unwrap_or_default(), version.len);
    let has_body = status != StatusCode::NOT_MODIFIED && is_get;
    let name = printable(url.path.as_bytes());
    let body = match has_body {
        true => {
            let mut running = share.activity.begin_at(Action::Download, name, guest.who(), Some(len), start);
            if len == 0 {
                // Nobody asks for the pieces of nothing.
                running.complete();
            }
            let mut body = FileBody::new(opened.file, (start, len), Some(running));
            // What may be coded has to come through the program.
            if let (false, Some(orders)) = (shrinks, request.extensions().get::<Orders>()) {
                body = body.ordered(orders.clone());
            }
            Body::new(body)
        }
        false => Body::empty(),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let to = response.headers_mut();
    set(to, header::ETAG, &version.etag());
    version.last_modified().into_iter().for_each(|date| set(to, header::LAST_MODIFIED, &date));
    set(to, header::ACCEPT_RANGES, "bytes");
    // A browser may keep it if it asks each time whether it is still the same.
    set(to, header::CACHE_CONTROL, "private, no-cache");
    if status == StatusCode::NOT_MODIFIED {
        return response;
    }
    set(to, header::CONTENT_LENGTH, &len.to_string());
    if status == StatusCode::PARTIAL_CONTENT {
        set(to, header::CONTENT_RANGE, &format!("bytes {start}-{}/{}", start + len - 1, version.len));
    }
    describe(to, url, is_view);
    // Whoever asks for the head alone wants to know how long the file is, which a coding would not tell.
    if shrinks && is_get {
        response.extensions_mut().insert(Shrinks);
    }
    response
}

fn describe(to: &mut HeaderMap, url: &UrlPath, is_view: bool) {
    let name = url.path.names().last().unwrap_or_default();
    let kind = if is_view { shown_as(name) } else { "application/octet-stream" };
    set(to, header::CONTENT_TYPE, kind);
    let disposition = if is_view { "inline" } else { "attachment" };
    set(to, header::CONTENT_DISPOSITION, &format!("{disposition}; {}", file_name(name)));
    if is_view {
        set(to, header::CONTENT_SECURITY_POLICY, SANDBOX);
    }
}

/// The parameters of `Content-Disposition` that name a file, by RFC 6266: once for all, once for those who know more.
pub fn file_name(name: &[u8]) -> String {
    let plain: String = String::from_utf8_lossy(name)
        .chars()
        .map(|c| if c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '%' | '/') || c == ' ' { c } else { '_' })
        .collect();
    format!("filename=\"{plain}\"; filename*=UTF-8''{}", path::encode_name(name))
}

/// A content type that a browser shows and never runs.
fn shown_as(name: &[u8]) -> &'static str {
    use crate::store::media::MediaKind::{Audio, Code, Image, Text, Video};
    match media::by_name(name) {
        ByName::Clear(found) | ByName::Unclear(found) => match found.kind {
            // A picture that can hold a script is text.
            Image if found.mime.contains("svg") => "text/plain; charset=utf-8",
            Image | Audio | Video => found.mime,
            Text | Code => "text/plain; charset=utf-8",
            _ => "application/octet-stream",
        },
        ByName::Unknown => "text/plain; charset=utf-8",
    }
}

pub(super) fn set(headers: &mut HeaderMap, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_cannot_end_a_header() {
        assert_eq!(file_name(b"a b.txt"), "filename=\"a b.txt\"; filename*=UTF-8''a%20b.txt");
        assert_eq!(file_name(b"\"\\\r\n\xff"), "filename=\"_____\"; filename*=UTF-8''%22%5C%0D%0A%FF");
    }

    #[test]
    fn nothing_that_runs_is_shown_as_what_it_is() {
        for name in [&b"a.html"[..], b"a.svg", b"a.js", b"a.xhtml", b"a.xml", b"a.txt"] {
            assert_eq!(shown_as(name), "text/plain; charset=utf-8");
        }
        assert!(shown_as(b"a.png").starts_with("image/") && shown_as(b"a.mp4").starts_with("video/"));
        assert_eq!(shown_as(b"a.pdf"), "application/octet-stream");
    }
}
