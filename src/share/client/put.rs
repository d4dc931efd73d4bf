//! Files from here into a share, by tus 1.0.0: in slices that the server checks, gone on with where it was broken off.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime};

use axum::body::Bytes;
use axum::http::header::{self, HeaderName};
use axum::http::{Method, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::retry::Retry;
use super::{Client, ClientError, Reply};
use crate::store::confined::RelativePath;

/// What is sent, and checked, at a time.
pub const SLICE_BYTES: usize = 8 << 20;
/// Longest path of an upload that a server may name.
const LOCATION_BYTES_MAX: usize = 200;
/// How often an upload that the server has forgotten is begun anew.
const FORGOTTEN_MAX: u32 = 2;

const UPLOADS: &str = "/api/uploads";
const TUS_RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");
const UPLOAD_METADATA: HeaderName = HeaderName::from_static("upload-metadata");
const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const UPLOAD_CHECKSUM: HeaderName = HeaderName::from_static("upload-checksum");
const LR_HREF: HeaderName = HeaderName::from_static("lr-href");
const LR_SCAN: HeaderName = HeaderName::from_static("lr-scan");
const VERSION: (HeaderName, &str) = (TUS_RESUMABLE, "1.0.0");
const OFFSET_OCTETS: (HeaderName, &str) = (header::CONTENT_TYPE, "application/offset+octet-stream");

/// A file to be sent.
#[derive(Debug)]
pub struct Sending<'a> {
    /// Open for reading.
    pub file: &'a File,
    /// How long it is; what is appended meanwhile is not sent.
    pub bytes: u64,
    /// When it was changed.
    pub modified: Option<SystemTime>,
    /// The folder of the share that it goes to.
    pub folder: &'a RelativePath,
    /// Its path there: one name, or several whose folders are made.
    pub path: &'a RelativePath,
    /// The path of the upload that was begun by an earlier run, as [`Watch::begun`] got it.
    pub earlier: Option<String>,
}

/// A file that the share has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The path below `/f/` by which the share has it, percent-encoded, if the share says it.
    pub href: Option<String>,
    /// It is still being scanned for viruses, and nobody sees it before that is over.
    pub is_pending: bool,
}

/// Who is told how it goes.
pub trait Watch {
    /// The server has made room, by this path: a later run can go on with it.
    fn begun(&mut self, upload: &str);
    /// So many bytes are there from before.
    fn resumed(&mut self, bytes: u64);
    /// So many more are there, checked.
    fn moved(&mut self, bytes: u64);
    /// It is tried again after so long.
    fn waiting(&mut self, error: &ClientError, wait: Duration);
}

/// Send a file. A lost connection is made anew for so long since the last progress; what the share keeps back for its
/// virus scan is an error.
pub fn send(
    client: &mut Client,
    sending: &Sending<'_>,
    retry_for: Duration,
    watch: &mut impl Watch,
) -> Result<Sent, ClientError> {
    let mut upload = sending.earlier.clone().filter(|upload| is_upload(upload));
    let (mut retry, mut sent, mut forgotten) = (Retry::new(retry_for), 0, 0);
    loop {
        let error = match attempt(client, sending, &mut upload, &mut sent, watch) {
            Ok(sent) => return Ok(sent),
            Err(error) => error,
        };
        match error.status() {
            Some(404 | 410) if upload.is_some() && forgotten < FORGOTTEN_MAX => {
                forgotten += 1;
                upload = None;
                continue;
            }
            // Somebody, perhaps the connection that was lost, still writes; or what is there is not what we thought.
            Some(409) if upload.is_some() => {}
            _ if error.is_passing() => {}
            _ => return Err(error),
        }
        if sent > 0 {
            retry.progress();
            sent = 0;
        }
        let Some(wait) = retry.wait() else { return Err(error) };
        watch.waiting(&error, wait);
        std::thread::sleep(wait);
    }
}

fn attempt(
    client: &mut Client,
    sending: &Sending<'_>,
    upload: &mut Option<String>,
    sent: &mut u64,
    watch: &mut impl Watch,
) -> Result<Sent, ClientError> {
    let (path, mut offset) = match upload.as_deref() {
        Some(path) => {
            let (offset, told) = offset_of(client, path, sending.bytes)?;
            watch.resumed(offset);
            if offset == sending.bytes && offset > 0 {
                // Only the answer to the last slice was lost.
                return Ok(told.unwrap_or(UNTOLD));
            }
            (path.to_string(), offset)
        }
        None => {
            let (path, told) = create(client, sending)?;
            if let Some(sent) = told {
                return Ok(sent);
            }
            watch.begun(&path);
            *upload = Some(path.clone());
            (path, 0)
        }
    };
    let mut slice = vec![0; SLICE_BYTES];
    loop {
        let wanted = usize::try_from(sending.bytes - offset).unwrap_or(usize::MAX).min(SLICE_BYTES);
        sending.file.read_exact_at(&mut slice[..wanted], offset).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => ClientError::Disk(std::io::Error::other("the file became shorter")),
            _ => ClientError::Disk(error),
        })?;
        let told = patch(client, &path, offset, &slice[..wanted])?;
        offset += wanted as u64;
        *sent += wanted as u64;
        watch.moved(wanted as u64);
        if offset >= sending.bytes {
            return Ok(told.unwrap_or(UNTOLD));
        }
    }
}

/// A file that is whole, of which the share says nothing else.
const UNTOLD: Sent = Sent { href: None, is_pending: false };

/// What an answer says of a file that is whole; nothing where more of it is to come. An error for what the share took
/// and lets nobody have.
fn told(reply: &Reply<'_>) -> Result<Option<Sent>, ClientError> {
    let href = reply.header(LR_HREF).map(str::to_string);
    match (reply.header(LR_SCAN), href) {
        (Some("infected"), _) => Err(ClientError::Infected),
        (Some("not scanned"), None) => Err(ClientError::Unscanned),
        (Some("pending"), href) => Ok(Some(Sent { href, is_pending: true })),
        (_, href) => Ok(href.map(|href| Sent { href: Some(href), is_pending: false })),
    }
}

/// Have the server make room; gives the path of the upload, and what became of it if nothing is missing: it is empty.
fn create(client: &mut Client, sending: &Sending<'_>) -> Result<(String, Option<Sent>), ClientError> {
    let name = sending.path.names().last().unwrap_or_default();
    let mut pairs = vec![
        format!("filename {}", STANDARD.encode(name)),
        format!("folder {}", STANDARD.encode(sending.folder.as_bytes())),
    ];
    if sending.path.names().nth(1).is_some() {
        pairs.push(format!("relativePath {}", STANDARD.encode(sending.path.as_bytes())));
    }
    let unix_ms =
        sending.modified.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok()).map(|at| at.as_millis());
    pairs.extend(unix_ms.map(|ms| format!("lastModified {}", STANDARD.encode(ms.to_string()))));
    let (length, metadata) = (sending.bytes.to_string(), pairs.join(","));
    let head = [VERSION, (UPLOAD_LENGTH, length.as_str()), (UPLOAD_METADATA, metadata.as_str())];
    let reply = client.request(Method::POST, UPLOADS, &head, Bytes::new())?.checked()?;
    let location = reply.header(header::LOCATION).unwrap_or_default();
    // It may be named with the share's origin.
    let path = location.find(UPLOADS).map_or("", |at| &location[at..]).to_string();
    let told = told(&reply)?;
    let is_created = reply.status() == StatusCode::CREATED && is_upload(&path);
    reply.finish()?;
    if is_created { Ok((path, told)) } else { Err(ClientError::Lies("it takes the upload and does not say where")) }
}

/// Whether a path is one of an upload, and of nothing else.
fn is_upload(path: &str) -> bool {
    let id = path.strip_prefix(UPLOADS).and_then(|rest| rest.strip_prefix('/'));
    let is_plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
    path.len() <= LOCATION_BYTES_MAX && id.is_some_and(|id| !id.is_empty() && id.bytes().all(is_plain))
}

/// How much of an upload the server has, and what became of it if that is all.
fn offset_of(client: &mut Client, path: &str, bytes: u64) -> Result<(u64, Option<Sent>), ClientError> {
    let reply = client.request(Method::HEAD, path, &[VERSION], Bytes::new())?.checked()?;
    let number = |name| reply.header(name).and_then(|text| text.parse::<u64>().ok());
    let (offset, length) = (number(UPLOAD_OFFSET), number(UPLOAD_LENGTH));
    let told = told(&reply)?;
    reply.finish()?;
    match (offset, length) {
        (Some(offset), Some(length)) if length == bytes && offset <= bytes => Ok((offset, told)),
        _ => Err(ClientError::Lies("it does not say how much of the upload it has")),
    }
}

/// Send a slice; the last gives what became of the file.
fn patch(client: &mut Client, path: &str, offset: u64, slice: &[u8]) -> Result<Option<Sent>, ClientError> {
    let at = offset.to_string();
    let checksum = format!("sha256 {}", STANDARD.encode(Sha256::digest(slice)));
    let head = [VERSION, OFFSET_OCTETS, (UPLOAD_OFFSET, at.as_str()), (UPLOAD_CHECKSUM, checksum.as_str())];
    let reply = client.request(Method::PATCH, path, &head, Bytes::copy_from_slice(slice))?.checked()?;
    let now = reply.header(UPLOAD_OFFSET).and_then(|text| text.parse::<u64>().ok());
    let told = told(&reply)?;
    reply.finish()?;
    match now == Some(offset + slice.len() as u64) {
        true => Ok(told),
        false => Err(ClientError::Lies("it says that it has another part of the upload than was sent")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_leads_to_an_upload_and_nowhere_else() {
        assert!(is_upload("/api/uploads/aZ-_09"));
        for path in ["", "/api/uploads", "/api/uploads/", "/api/uploads/../x", "/api/uploads/a/b", "/api/uploads/a?b"] {
            assert!(!is_upload(path), "{path}");
        }
        assert!(!is_upload(&format!("/api/uploads/{}", "a".repeat(300))));
    }
}
