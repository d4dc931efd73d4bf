//! `/api/uploads`: resumable uploads by tus 1.0.0, with its extensions creation, checksum, termination and expiration.
//!
//! What a request writes goes on in a task of its own: when the connection is cut, hyper drops the handler, but what
//! came until then is written and the upload given back, to be gone on with.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use super::guard::Guest;
use super::problem::{Problem, sentence};
use super::ranges::http_date;
use crate::share::activity::Action;
use crate::share::incoming::{Begin, Incoming, IncomingError};
use crate::share::intake::{Landed, Sink, Stopped, Upload, blocking, finish, sorted, take};
use crate::share::meter::{Meter, Tired};
use crate::share::path;
use crate::share::rights::Right;
use crate::share::scans::ScanState;
use crate::share::state::Share;
use crate::share::uploads::{UploadId, UploadRefusal};
use crate::store::confined::RelativePath;
use crate::text::printable;

const VERSION: HeaderValue = HeaderValue::from_static("1.0.0");
const RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
const OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const LENGTH: HeaderName = HeaderName::from_static("upload-length");
const EXPIRES: HeaderName = HeaderName::from_static("upload-expires");
const CONTENT_TYPE: &str = "application/offset+octet-stream";
/// The longest body that comes with a checksum, bytes.
pub const SLICE_BYTES_MAX: u64 = 16 << 20;
/// How long the answer to the last slice waits for the scan, before it says `pending`.
const SCAN_WAIT: Duration = Duration::from_secs(10);
/// The status of tus for a checksum that does not match.
const CHECKSUM_MISMATCH: u16 = 460;

/// `OPTIONS /api/uploads`
pub async fn options(State(share): State<Arc<Share>>) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert("tus-version", VERSION);
    headers.insert("tus-extension", HeaderValue::from_static("creation,checksum,termination,expiration"));
    headers.insert("tus-checksum-algorithm", HeaderValue::from_static("sha256"));
    if let Some(max) = share.intake.bytes_max() {
        headers.insert("tus-max-size", HeaderValue::from(max));
    }
    response
}

/// Every answer says which version of the protocol it is in.
pub async fn marked(mut response: Response) -> Response {
    response.headers_mut().insert(RESUMABLE, VERSION);
    response
}

/// `POST /api/uploads`
pub async fn create(State(share): State<Arc<Share>>, guest: Guest, headers: HeaderMap) -> Result<Response, Problem> {
    guest.may(Right::Upload)?;
    check_version(&headers)?;
    let len = number(&headers, &LENGTH)?.ok_or_else(|| Problem::bad("Upload-Length is missing."))?;
    let wish = Wish::read(&headers)?;
    let target = share.target(&wish.folder, &wish.below)?;
    share.intake.table().check_room(guest.who())?;
    let grant = share.intake.grant(len).ok_or_else(Problem::over_quota)?;
    let id = UploadId::draw().map_err(|_| Problem::failed())?;
    let (umask, folders) = (share.intake.umask, share.intake.folders.clone());
    let begin = Begin { target, id, modified: wish.modified, bytes: len, grant, umask, folders };
    // To its end, whether or not anybody waits for the answer.
    let task = tokio::spawn(async move {
        let (incoming, file) = blocking(move || Incoming::begin(begin)).await.map_err(Problem::not_begun)?;
        let name = printable(incoming.target().path().as_bytes());
        let running = share.activity.begin(Action::Upload, name, guest.who(), Some(len));
        let upload = Upload { incoming, running };
        let now = Instant::now();
        let inserted = share.intake.table().insert(id, guest.who(), (len, upload), now);
        let expires = inserted.map_err(|(refusal, _)| refusal)?;
        let mut response = StatusCode::CREATED.into_response();
        set(response.headers_mut(), header::LOCATION, &format!("/api/uploads/{}", id.encode()));
        set_expiry(response.headers_mut(), expires);
        if len == 0 {
            let upload = share.intake.table().take(id, guest.who(), (0, Some(0)), now)?;
            complete(&share, id, upload, (Arc::new(file), 0)).await?.tell(response.headers_mut());
        }
        Ok(response)
    });
    task.await?
}

/// The upload that a request means, of a guest who may upload and speaks this version.
pub struct Meant {
    guest: Guest,
    id: UploadId,
}

impl<S: Send + Sync> FromRequestParts<S> for Meant {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Meant, Problem> {
        let guest = Guest::from_request_parts(parts, state).await?;
        guest.may(Right::Upload)?;
        check_version(&parts.headers)?;
        let id = Path::<String>::from_request_parts(parts, state).await.ok();
        let id = id.and_then(|id| UploadId::decode(&id)).ok_or(UploadRefusal::Unknown)?;
        Ok(Meant { guest, id })
    }
}

/// `HEAD /api/uploads/<id>`
pub async fn head(State(share): State<Arc<Share>>, Meant { guest, id }: Meant) -> Result<Response, Problem> {
    let found = share.intake.table().look(id, guest.who(), Instant::now())?;
    let mut response = StatusCode::OK.into_response();
    let to = response.headers_mut();
    to.insert(OFFSET, HeaderValue::from(found.offset));
    to.insert(LENGTH, HeaderValue::from(found.len));
    to.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    set_expiry(to, found.expires);
    found.done.iter().for_each(|done| done.tell(to));
    Ok(response)
}

/// `DELETE /api/uploads/<id>`
pub async fn end(State(share): State<Arc<Share>>, Meant { guest, id }: Meant) -> Result<Response, Problem> {
    let ended = share.intake.table().end(id, guest.who(), Instant::now())?;
    tokio::task::spawn_blocking(move || drop(ended)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `PATCH /api/uploads/<id>`
pub async fn patch(
    State(share): State<Arc<Share>>,
    Meant { guest, id }: Meant,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let headers = &head.headers;
    if headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind.as_bytes() != CONTENT_TYPE.as_bytes()) {
        let why = format!("Content-Type has to be {CONTENT_TYPE}.");
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
    }
    let offset = number(headers, &OFFSET)?.ok_or_else(|| Problem::bad("Upload-Offset is missing."))?;
    let more = body_len(headers)?;
    let checksum = checksum(headers)?;
    if checksum.is_some() && more.is_some_and(|more| more > SLICE_BYTES_MAX) {
        return Err(too_long());
    }
    let found = share.intake.table().look(id, guest.who(), Instant::now())?;
    // Whoever did not get the answer to his last slice asks again.
    if let Some(done) = found.done.filter(|_| offset == found.len && more == Some(0)) {
        return Ok(patched(found.len, None, Some(&done)));
    }
    let turn = share.intake.turn(guest.who()).ok_or_else(Problem::too_many_uploads)?;
    let upload = share.intake.table().take(id, guest.who(), (offset, more), Instant::now())?;
    let slice = Slice { id, offset, len: found.len, checksum, body };
    let task = tokio::spawn(async move {
        let done = slice.write(&share, upload).await;
        drop(turn);
        done
    });
    task.await?
}

/// What one PATCH writes.
struct Slice {
    id: UploadId,
    offset: u64,
    /// Of the whole upload.
    len: u64,
    checksum: Option<Vec<u8>>,
    body: Body,
}

impl Slice {
    async fn write(mut self, share: &Arc<Share>, mut upload: Upload) -> Result<Response, Problem> {
        let (offset, len) = (self.offset, self.len);
        let opened = tokio::task::spawn_blocking(move || {
            let opened = upload.incoming.open().and_then(|file| {
                if offset == 0 {
                    Incoming::reserve(&file, len)?;
                }
                Ok(file)
            });
            (upload, opened)
        });
        let (back, opened) = opened.await.inspect_err(|_| share.intake.table().forget(self.id))?;
        upload = back;
        let file = match opened {
            Ok(file) => file,
            Err(error @ IncomingError::Gone) => {
                share.intake.table().forget(self.id);
                let _ = tokio::task::spawn_blocking(move || drop(upload)).await;
                return Err(error.into());
            }
            // It may pass, as a full disk or too many open files do: what came is not thrown away for it.
            Err(error) => {
                give_back(share, self.id, (offset, upload)).await?;
                return Err(error.into());
            }
        };
        let end = if self.checksum.is_some() { len.min(offset + SLICE_BYTES_MAX) } else { len };
        let mut sink = Sink::new(file, (offset, end));
        sink.hash = self.checksum.as_ref().map(|_| Sha256::new());
        let taken = take(&mut self.body, sink, (&upload.running, &mut Meter::default()), None).await;
        let (mut sink, done) = taken.inspect_err(|_| share.intake.table().forget(self.id))?;
        let done = match (done.map_err(Problem::from), &self.checksum, sink.hash.take()) {
            (done, None, _) | (done, _, None) => done,
            (Ok(()), Some(wanted), Some(hash)) if is_of(hash.clone(), wanted) => Ok(()),
            (done, ..) => {
                // Of a slice with a checksum all counts, or nothing.
                let file = sink.file.clone();
                let _ = tokio::task::spawn_blocking(move || file.set_len(offset)).await;
                sink.at = offset;
                Err(done.err().unwrap_or_else(mismatch))
            }
        };
        if let Err(problem) = done {
            give_back(share, self.id, (sink.at, upload)).await?;
            return Err(problem);
        }
        if sink.at == len {
            let landed = complete(share, self.id, upload, (sink.file, len)).await?;
            return Ok(patched(len, None, Some(&landed)));
        }
        let expires = give_back(share, self.id, (sink.at, upload)).await?;
        Ok(patched(sink.at, Some(expires), None))
    }
}

/// Let others go on with an upload, unless it was ended meanwhile.
async fn give_back(share: &Arc<Share>, id: UploadId, (at, upload): (u64, Upload)) -> Result<Instant, Problem> {
    let now = Instant::now();
    let ended = share.intake.table().give_back(id, (at, upload), now);
    match ended {
        None => Ok(now + crate::share::uploads::IDLE_MAX),
        Some(upload) => {
            tokio::task::spawn_blocking(move || drop(upload)).await?;
            Err(UploadRefusal::Unknown.into())
        }
    }
}

/// All of it is there. What became of it, or that this is not known yet.
async fn complete(
    share: &Arc<Share>,
    id: UploadId,
    upload: Upload,
    (file, len): (Arc<std::fs::File>, u64),
) -> Result<Landed, Problem> {
    let upload = sorted(share, upload, &file).await.inspect_err(|_| share.intake.table().forget(id))?;
    let path = upload.incoming.target().path();
    let pending = Landed { path, scan: Some(ScanState::Pending), why: String::new(), is_visible: false };
    if share.intake.scans_files() {
        share.intake.table().complete(id, pending.clone(), Instant::now());
    }
    let for_task = share.clone();
    let mut finishing = tokio::spawn(async move {
        let done = finish(&for_task, upload, file, len).await;
        let mut table = for_task.intake.table();
        match &done {
            Ok(landed) => table.complete(id, landed.clone(), Instant::now()),
            Err(_) => table.forget(id),
        }
        done
    });
    match timeout(SCAN_WAIT, &mut finishing).await {
        Ok(done) => Ok(done??),
        Err(_) if share.intake.scans_files() => Ok(pending),
        Err(_) => Ok(finishing.await??),
    }
}

impl Landed {
    /// What an answer says of it.
    fn tell(&self, headers: &mut HeaderMap) {
        let may_come = self.is_visible || self.scan == Some(ScanState::Pending);
        if may_come {
            set(headers, HeaderName::from_static("lr-href"), &path::encode(&self.path, false));
        }
        if let Some(scan) = self.scan {
            set(headers, HeaderName::from_static("lr-scan"), scan.name());
        }
    }
}

fn patched(offset: u64, expires: Option<Instant>, done: Option<&Landed>) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(OFFSET, HeaderValue::from(offset));
    expires.into_iter().for_each(|expires| set_expiry(headers, expires));
    done.into_iter().for_each(|done| done.tell(headers));
    response
}

/// What the metadata of a new upload says.
struct Wish {
    folder: RelativePath,
    /// The path below it.
    below: Vec<u8>,
    modified: Option<SystemTime>,
}

impl Wish {
    fn read(headers: &HeaderMap) -> Result<Wish, Problem> {
        let text = headers.get("upload-metadata").map_or(Ok(""), |value| value.to_str());
        let text = text.map_err(|_| Problem::bad("Upload-Metadata is not ASCII."))?;
        let value = |wanted: &str| -> Result<Vec<u8>, Problem> {
            let mut pairs = text.split(',').filter_map(|pair| pair.trim().split_once(' '));
            let found = pairs.find(|(key, _)| *key == wanted).map_or("", |(_, value)| value.trim());
            STANDARD.decode(found).map_err(|_| Problem::bad(format!("Upload-Metadata: {wanted} is not base64.")))
        };
        let folder = value("folder")?;
        let folder = match folder.strip_suffix(b"/").unwrap_or(&folder) {
            [] => RelativePath::root(),
            names => RelativePath::parse(names).map_err(|_| IncomingError::Name("its folder is no plain path"))?,
        };
        let name = value("filename")?;
        if name.contains(&b'/') {
            return Err(IncomingError::Name("it holds a separator").into());
        }
        let below = Some(value("relativePath")?).filter(|path| !path.is_empty()).unwrap_or(name);
        if below.is_empty() {
            return Err(Problem::bad("Upload-Metadata has no filename."));
        }
        let modified = String::from_utf8(value("lastModified")?).ok().and_then(|ms| ms.parse::<u64>().ok());
        Ok(Wish { folder, below, modified: modified.and_then(moment) })
    }
}

/// A moment in milliseconds since 1970; nothing for one that a file cannot have.
fn moment(ms: u64) -> Option<SystemTime> {
    /// The year 2446, where ext4 ends.
    const MS_MAX: u64 = 15_000_000_000_000;
    (ms <= MS_MAX).then(|| SystemTime::UNIX_EPOCH + Duration::from_millis(ms))
}

fn check_version(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get(RESUMABLE) == Some(&VERSION) {
        true => Ok(()),
        false => Err(Problem::new(StatusCode::PRECONDITION_FAILED, "Tus-Resumable has to be 1.0.0.")),
    }
}

/// A header that is a number; nothing if it is not there.
fn number(headers: &HeaderMap, name: &HeaderName) -> Result<Option<u64>, Problem> {
    let mut values = headers.get_all(name).iter();
    let (first, second) = (values.next(), values.next());
    let Some(value) = first else { return Ok(None) };
    let text = value.to_str().ok().filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    let number = text.and_then(|text| text.parse().ok()).filter(|_| second.is_none());
    number.map(Some).ok_or_else(|| Problem::bad(format!("{name} is no number.")))
}

/// How long a body is said to be; nothing for one in chunks. Where a request says both, hyper goes by the chunks, drops
/// the length, and closes the connection after, as RFC 9112 wants it.
pub(super) fn body_len(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    number(headers, &header::CONTENT_LENGTH)
}

fn checksum(headers: &HeaderMap) -> Result<Option<Vec<u8>>, Problem> {
    let Some(value) = headers.get("upload-checksum") else { return Ok(None) };
    let digest = value.to_str().ok().and_then(|text| text.strip_prefix("sha256 "));
    let digest = digest.and_then(|digest| STANDARD.decode(digest.trim()).ok());
    let digest = digest.filter(|digest| digest.len() == Sha256::output_size());
    digest.map(Some).ok_or_else(|| Problem::bad("Upload-Checksum has to be sha256 and its base64."))
}

fn is_of(hash: Sha256, wanted: &[u8]) -> bool {
    hash.finalize().as_slice() == wanted
}

fn set(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    HeaderValue::from_str(text).ok().and_then(|value| headers.insert(name, value));
}

fn set_expiry(headers: &mut HeaderMap, expires: Instant) {
    let left = expires.saturating_duration_since(Instant::now());
    let at = (SystemTime::now() + left).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let date = i64::try_from(at.as_secs()).ok().and_then(http_date);
    date.iter().for_each(|date| set(headers, EXPIRES, date));
}

fn mismatch() -> Problem {
    let status = StatusCode::from_u16(CHECKSUM_MISMATCH).unwrap_or(StatusCode::BAD_REQUEST);
    Problem::new(status, "The slice is not what its checksum says: it was dropped, send it again.")
}

fn too_long() -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "That is more than was said, or than one request may bring.")
}

impl From<UploadRefusal> for Problem {
    fn from(refusal: UploadRefusal) -> Problem {
        let status = match refusal {
            UploadRefusal::TooMany => return Problem::too_many_uploads(),
            UploadRefusal::TooLong => return too_long(),
            UploadRefusal::Unknown => StatusCode::NOT_FOUND,
            UploadRefusal::Busy => StatusCode::LOCKED,
            UploadRefusal::Offset(_) => StatusCode::CONFLICT,
        };
        Problem::new(status, sentence(&refusal))
    }
}

impl From<IncomingError> for Problem {
    fn from(error: IncomingError) -> Problem {
        let status = match error {
            IncomingError::Tree(error) => return error.into(),
            IncomingError::Full | IncomingError::Entries => StatusCode::INSUFFICIENT_STORAGE,
            IncomingError::Gone => StatusCode::GONE,
            IncomingError::Name(_) | IncomingError::Length | IncomingError::Folder | IncomingError::Taken => {
                StatusCode::CONFLICT
            }
        };
        Problem::new(status, sentence(&error))
    }
}

impl From<Stopped> for Problem {
    fn from(stopped: Stopped) -> Problem {
        match stopped {
            Stopped::Cut => Problem::bad("The body was cut."),
            Stopped::Tired(Tired::Silent) => Problem::new(StatusCode::REQUEST_TIMEOUT, "Nothing came for too long."),
            Stopped::Tired(Tired::Slow) => Problem::new(StatusCode::REQUEST_TIMEOUT, "It came too slowly."),
            Stopped::TooLong => too_long(),
            Stopped::Quota => Problem::over_quota(),
            Stopped::Failed(error) => error.into(),
        }
    }
}

#[cfg(test)]
#[path = "tus_tests.rs"]
mod tests;
