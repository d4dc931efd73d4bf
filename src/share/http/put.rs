//! Whole files in one request: `PUT /f/<path>`, as `curl -T` does it, and `POST /upload/<path>/`, the form of the page
//! without script.
//!
//! The answer comes when the file is there, scanned where it is to be. Nothing is left of what was cut.
//!
//! `PUT /f/<path>/`, with a `/` at its end and nothing in it, makes an empty folder in one that is there.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::multipart::Field;
use axum::extract::{FromRequest, Multipart, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::ahead::{self, Ahead};
use super::guard::Guest;
use super::problem::Problem;
use super::tus::body_len;
use crate::share::activity::Action;
use crate::share::incoming::{Begin, Incoming, IncomingError};
use crate::share::intake::{Cut, Landed, Pieces, Sink, Stopped, Upload, blocking, finish, sorted, take};
use crate::share::meter::Meter;
use crate::share::path::{self, UrlPath};
use crate::share::rights::Right;
use crate::share::scans::ScanState;
use crate::share::state::Share;
use crate::share::target::Target;
use crate::share::uploads::UploadId;
use crate::store::confined::RelativePath;
use crate::text::printable;

/// Most parts of a form.
const PARTS_MAX: usize = 1000;

/// `PUT /f/<path>`
pub async fn put(State(share): State<Arc<Share>>, guest: Guest, request: Request) -> Result<Response, Problem> {
    guest.may(Right::Upload)?;
    let (head, mut body) = request.into_parts();
    // As it was sent: axum decodes too early.
    let encoded = head.uri.path().strip_prefix("/f/").unwrap_or_default();
    let url = UrlPath::decode(encoded).map_err(|_| IncomingError::Name("it is no plain path"))?;
    check_whole(&head.headers)?;
    let len = body_len(&head.headers)?;
    let is_empty = len.unwrap_or(0) == 0 && !head.headers.contains_key(header::TRANSFER_ENCODING);
    let (Some(folder), Some(name)) = (url.path.parent(), url.path.names().last()) else {
        return Err(Problem::new(StatusCode::CONFLICT, "Name the file, after the folder."));
    };
    match (url.is_folder, is_empty) {
        (true, true) => return make_folder(&share, &guest, &folder, name).await,
        (true, false) => return Err(Problem::new(StatusCode::CONFLICT, "Name the file, after the folder.")),
        (false, _) => {}
    }
    let target = share.target(&folder, name)?;
    let turn = share.intake.turn(guest.who()).ok_or_else(Problem::too_many_uploads)?;
    // To its end, whether or not anybody waits for the answer.
    let task = tokio::spawn(async move {
        let landed = take_whole(&share, &guest, target, (&mut body, len, &mut Meter::default())).await;
        drop(turn);
        landed
    });
    let landed = task.await??;
    judge(&landed)?;
    let location = format!("/f/{}", path::encode(&landed.path, false));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)]).into_response())
}

/// Make an empty folder: 201 if it is new, 204 if it is there already.
async fn make_folder(
    share: &Arc<Share>,
    guest: &Guest,
    folder: &RelativePath,
    name: &[u8],
) -> Result<Response, Problem> {
    if share.sorts_by_type {
        let why = "What comes here is sorted by its type, and an empty folder has none: only files are taken.";
        return Err(Problem::new(StatusCode::CONFLICT, why));
    }
    let target = Target::find(&share.tree, folder, name)?;
    let _turn = share.intake.turn(guest.who()).ok_or_else(Problem::too_many_uploads)?;
    let grant = share.intake.grant(0).ok_or(IncomingError::Entries)?;
    let (folders, umask, path) = (share.intake.folders.clone(), share.intake.umask, target.path());
    let is_new = blocking(move || folders.add(&target, umask, grant)).await.map_err(Problem::not_begun)?;
    if !is_new {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    share.changed(folder);
    let location = format!("/f/{}", path::encode(&path, true));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)]).into_response())
}

/// A part of a file, or an encoded one, is none.
fn check_whole(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.contains_key(header::CONTENT_RANGE) {
        return Err(Problem::bad("PUT takes whole files: to go on with one, use /api/uploads."));
    }
    let encoding = headers.get(header::CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| encoding != HeaderValue::from_static("identity")) {
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Send the file as it is, not encoded."));
    }
    Ok(())
}

/// A file that the scan did not let through was not taken, and whoever sent it is told why.
fn judge(landed: &Landed) -> Result<(), Problem> {
    match landed.scan {
        _ if landed.is_visible => Ok(()),
        Some(ScanState::Infected) => {
            let why = format!("A virus was found in it: {}. It is kept away from everybody.", landed.why);
            Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why))
        }
        _ => {
            let why = "It could not be scanned for viruses, and is kept away until the owner has seen to it.";
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, why))
        }
    }
}

/// Take all of a body into a file.
async fn take_whole(
    share: &Arc<Share>,
    guest: &Guest,
    target: Target,
    (pieces, len, meter): (&mut impl Pieces, Option<u64>, &mut Meter),
) -> Result<Landed, Problem> {
    let bytes = len.unwrap_or(0);
    let grant = share.intake.grant(bytes).ok_or_else(Problem::over_quota)?;
    let id = UploadId::draw().map_err(|_| Problem::failed())?;
    let (umask, folders) = (share.intake.umask, share.intake.folders.clone());
    let begin = Begin { target, id, modified: None, bytes, grant, umask, folders };
    let begun = blocking(move || {
        let (incoming, file) = Incoming::begin(begin)?;
        Incoming::reserve(&file, bytes)?;
        Ok((incoming, file))
    });
    let (mut incoming, file) = begun.await.map_err(Problem::not_begun)?;
    let name = printable(incoming.target().path().as_bytes());
    let running = share.activity.begin(Action::Upload, name, guest.who(), len);
    let sink = Sink::new(file, (0, len.unwrap_or(u64::MAX)));
    let grows = len.is_none().then_some(&mut incoming.grant);
    let taken = take(pieces, sink, (&running, meter), grows).await;
    let whole = match taken {
        Ok((sink, Ok(()))) if len.is_none_or(|len| len == sink.at) => Ok(sink),
        Ok((_, Ok(()))) => Err(Stopped::Cut.into()),
        Ok((_, Err(stopped))) => Err(Problem::from(stopped)),
        Err(error) => Err(error.into()),
    };
    match whole {
        Ok(sink) => {
            let upload = sorted(share, Upload { incoming, running }, &sink.file).await?;
            Ok(finish(share, upload, sink.file, sink.at).await?)
        }
        Err(problem) => {
            // Removing a large file takes time.
            let _ = tokio::task::spawn_blocking(move || drop(incoming)).await;
            Err(problem)
        }
    }
}

/// A file of a form, and how far ahead its body is read.
struct Part<'a> {
    field: Field<'a>,
    ahead: &'a Ahead,
}

impl Pieces for Part<'_> {
    async fn next(&mut self) -> Option<Result<Bytes, Cut>> {
        let chunk = self.field.chunk().await.transpose()?;
        self.ahead.caught_up();
        Some(chunk.map_err(|_| Cut))
    }
}

/// `POST /upload/<path>/`
pub async fn form(State(share): State<Arc<Share>>, guest: Guest, request: Request) -> Result<Response, Problem> {
    guest.may(Right::Upload)?;
    let encoded = request.uri().path().strip_prefix("/upload/").unwrap_or_default();
    let url = UrlPath::decode(encoded).map_err(|_| Problem::missing())?;
    body_len(request.headers())?;
    let back = format!("/f/{}", path::encode(&url.path, true));
    let (request, ahead) = ahead::bounded(request);
    let parts = Multipart::from_request(request, &()).await;
    let parts = parts.map_err(|_| Problem::bad("This is not what the form of the page sends."))?;
    let turn = share.intake.turn(guest.who()).ok_or_else(Problem::too_many_uploads)?;
    let task = tokio::spawn(async move {
        let done = take_parts(&share, &guest, &url, (parts, &ahead)).await;
        drop(turn);
        done
    });
    task.await??;
    Ok((StatusCode::SEE_OTHER, [(header::LOCATION, back)]).into_response())
}

async fn take_parts(
    share: &Arc<Share>,
    guest: &Guest,
    url: &UrlPath,
    (mut parts, ahead): (Multipart, &Ahead),
) -> Result<(), Problem> {
    // One for all parts: many small ones that come slowly are as bad as one.
    let mut meter = Meter::default();
    for taken in 0.. {
        let next = meter.wait(parts.next_field()).await.map_err(|tired| Problem::from(Stopped::Tired(tired)))?;
        let Some(field) = next.map_err(|_| Problem::from(Stopped::Cut))? else { return Ok(()) };
        ahead.caught_up();
        if taken >= PARTS_MAX {
            break;
        }
        // A form without a chosen file has one without a name.
        let Some(name) = field.file_name().filter(|name| !name.is_empty() && field.name() == Some("file")) else {
            continue;
        };
        let target = share.target(&url.path, name.as_bytes())?;
        let mut part = Part { field, ahead };
        let landed = take_whole(share, guest, target, (&mut part, None, &mut meter)).await?;
        judge(&landed)?;
    }
    Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "Too many files in one form: send fewer at once."))
}
