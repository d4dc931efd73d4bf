//! What every request passes before anything looks at it, and what every answer gets.
//!
//! - **Host** has to be one of the share's own addresses or names: a foreign name that was made to lead here (DNS
//!   rebinding) gets nothing. It is there once, and what else names a host names the same.
//! - A **body** comes as it is or in chunks. In any other coding it would be stored as something that it is not.
//! - Whatever changes something and comes with a cookie has to come **from a page of this share**, by `Origin` or
//!   `Sec-Fetch-Site`. Programs show the token itself and have no cookie.
//! - Behind [`admit`] everybody is a [`Guest`] whom the gate let in.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::problem::Problem;
use crate::share::activity::Event;
use crate::share::gate::{Denial, Secret, Visitor, VisitorId};
use crate::share::rights::Right;
use crate::share::state::Share;
use crate::text::{printable, printable_limit};

/// What the name of the cookie that holds a session begins with.
const COOKIE: &str = "lr";
/// What a page may load, and from where: only this share.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// Longest line of a request that the owner is shown.
const SHOWN_CHARS_MAX: usize = 200;

/// From where a connection comes; put into its requests by whoever accepted it.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Somebody whom the gate let in.
#[derive(Clone, Copy, Debug)]
pub struct Guest {
    /// Who, and what he may do.
    pub visitor: Visitor,
    /// From where.
    pub from: IpAddr,
}

impl Guest {
    /// Refuse what he may not do.
    pub fn may(&self, right: Right) -> Result<(), Problem> {
        if self.visitor.rights.has(right) { Ok(()) } else { Err(Problem::forbidden(right.name())) }
    }

    /// For the owner.
    pub fn who(&self) -> (VisitorId, IpAddr) {
        (self.visitor.id, self.from)
    }
}

impl<S: Sync> FromRequestParts<S> for Guest {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Guest, Problem> {
        parts.extensions.get::<Guest>().copied().ok_or_else(|| Denial::NoSession.into())
    }
}

/// The first and last of every request.
pub async fn check(State(share): State<Arc<Share>>, request: Request, next: Next) -> Response {
    let is_json = request.uri().path().starts_with("/api/") || wants_json(request.headers());
    let line = shown(&share, &request);
    let from = peer(&request);
    let mut response = match judge(&share, &request) {
        Ok(()) => next.run(request).await,
        // Whoever sends such a thing may mean something else by what follows: nothing that does is read.
        Err(problem) => ([(header::CONNECTION, "close")], problem).into_response(),
    };
    // Before the answer is made anew: then nobody knows any more whose it is.
    let visitor = response.extensions().get::<Guest>().map(|guest| guest.visitor.id);
    let problem = response.extensions_mut().remove::<Problem>();
    if let Some(problem) = problem.or_else(|| rejected(&mut response)) {
        if problem.status == StatusCode::FORBIDDEN || problem.status == StatusCode::TOO_MANY_REQUESTS {
            share.activity.tell(&Event::Refused { from, what: format!("{line}: {}", problem.why) });
        }
        let headers = std::mem::take(response.headers_mut());
        response = problem.into_page(is_json);
        response.headers_mut().extend(headers);
    }
    let status = response.status().as_u16();
    let bytes = http_body::Body::size_hint(response.body()).exact();
    share.activity.tell(&Event::Request { from, visitor, line, status, bytes });
    harden(response.headers_mut());
    response
}

/// Let in whoever has a session or shows the token.
pub async fn admit(State(share): State<Arc<Share>>, mut request: Request, next: Next) -> Response {
    let from = peer(&request);
    let visitor = match visitor_of(&share, request.headers(), from) {
        Ok(visitor) => visitor,
        Err(denial) => return Problem::from(denial).into_response(),
    };
    let guest = Guest { visitor, from };
    request.extensions_mut().insert(guest);
    let mut response = next.run(request).await;
    response.extensions_mut().insert(guest);
    response
}

fn visitor_of(share: &Share, headers: &HeaderMap, from: IpAddr) -> Result<Visitor, Denial> {
    let now = Instant::now();
    if let Some(session) = cookie(headers) {
        return share.gate().check(&session, now);
    }
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    match bearer {
        Some(token) => {
            let token = Secret::decode(token.trim()).ok_or(Denial::Token)?;
            share.gate().check_token(&token, (from, now))
        }
        None => Err(Denial::NoSession),
    }
}

/// The name of the cookie that holds a session. Browsers give the cookies of a host to all its ports: with the port in
/// it, somebody may be in two shares of one machine.
pub fn cookie_name(headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let port = host.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    port.map_or_else(|| COOKIE.to_string(), |port| format!("{COOKIE}{port}"))
}

/// The session of a request.
pub fn cookie(headers: &HeaderMap) -> Option<Secret> {
    let ours = cookie_name(headers);
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, _)| *name == ours).find_map(|(_, value)| Secret::decode(value))
}

fn judge(share: &Share, request: &Request) -> Result<(), Problem> {
    let headers = request.headers();
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(Problem::bad("A request names its host once."));
    };
    if !is_plain(headers) {
        return Err(Problem::new(StatusCode::NOT_IMPLEMENTED, "Send the body as it is, or in chunks."));
    }
    let is_ours = |host: &str| share.about.meant(host).is_some();
    // As a proxy is asked: the target has a host, too.
    let is_same = |host: &str| request.uri().authority().is_none_or(|named| named.as_str().eq_ignore_ascii_case(host));
    let Some(host) = host.to_str().ok().filter(|host| is_ours(host) && is_same(host)) else {
        let why = "This share is not known by that name: use the link as it was given to you.";
        return Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, why));
    };
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    // Without a cookie nobody's rights can be used for him.
    let has_cookie = headers.contains_key(header::COOKIE) || request.uri().path() == "/login";
    if changes && has_cookie && !is_own_page(share, headers, host) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "This did not come from a page of this share."));
    }
    Ok(())
}

/// Whether a body comes as it is, or in chunks and nothing else.
fn is_plain(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"),
        _ => false,
    }
}

/// What the router refused before a handler saw it, said as everything else is.
fn rejected(response: &mut Response) -> Option<Problem> {
    let is_page =
        response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    if !response.status().is_client_error() || is_page {
        return None;
    }
    response.headers_mut().remove(header::CONTENT_TYPE);
    response.headers_mut().remove(header::CONTENT_LENGTH);
    let why = match response.status() {
        StatusCode::METHOD_NOT_ALLOWED => "That cannot be done here.",
        StatusCode::PAYLOAD_TOO_LARGE => "The request is too long.",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "The request is of another type than is taken here.",
        _ => "The request makes no sense.",
    };
    Some(Problem::new(response.status(), why))
}

/// Whether a page of this share, under the name that was asked, sends the request.
fn is_own_page(share: &Share, headers: &HeaderMap, host: &str) -> bool {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    match text(header::ORIGIN) {
        Some(origin) => origin.eq_ignore_ascii_case(&share.about.origin(host)),
        None => text(HeaderName::from_static("sec-fetch-site")) == Some("same-origin"),
    }
}

fn wants_json(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.contains("application/json") && !accept.contains("text/html")
}

/// From where a request comes.
pub fn peer(request: &Request) -> IpAddr {
    let unknown = IpAddr::from([0, 0, 0, 0]);
    request.extensions().get::<Peer>().map_or(unknown, |Peer(address)| address.ip().to_canonical())
}

/// Method and path, as the owner is shown them: never with the token, nor what was typed into a search.
fn shown(share: &Share, request: &Request) -> String {
    let path = request.uri().path();
    let path = if path.starts_with("/t/") { "/t/…" } else { path };
    let path = percent_encoding::percent_decode_str(path).collect::<Vec<u8>>();
    // A link that was mistyped may hold it elsewhere.
    let line = format!("{} {}", request.method().as_str(), printable(&path)).replace(&share.token.encode(), "…");
    printable_limit(line.as_bytes(), SHOWN_CHARS_MAX)
}

/// What every answer says.
fn harden(headers: &mut HeaderMap) {
    let mut set = |name: HeaderName, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    set(header::CONTENT_SECURITY_POLICY, POLICY);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    set(header::X_FRAME_OPTIONS, "DENY");
    set(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    set(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    set(header::CACHE_CONTROL, "no-store");
    set(HeaderName::from_static("permissions-policy"), "geolocation=(), microphone=(), payment=()");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(name: HeaderName, value: &[u8]) -> Option<HeaderMap> {
        Some(HeaderMap::from_iter([(name, HeaderValue::from_bytes(value).ok()?)]))
    }

    #[test]
    fn a_body_comes_as_it_is_or_in_chunks() {
        let is_plain_of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::TRANSFER_ENCODING, HeaderValue::from_static(value));
            }
            is_plain(&headers)
        };
        assert!(is_plain_of(&[]) && is_plain_of(&["chunked"]) && is_plain_of(&["Chunked"]));
        for other in [&["gzip, chunked"][..], &["chunked", "chunked"], &["identity"], &["chunked, chunked"], &[""]] {
            assert!(!is_plain_of(other), "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn the_cookie_is_found_among_any_others(
            before in "[ -~]{0,40}",
            after in "[ -~]{0,40}",
            bytes: [u8; 16],
        ) {
            use base64::Engine as _;
            let secret = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
            let value = format!("{before};{COOKIE}={secret};{after}");
            let found = cookie(&headers(header::COOKIE, value.as_bytes()).unwrap());
            // Unless another one of that name stands before it.
            prop_assert!(found.is_some_and(|found| found.encode() == secret) || before.contains(COOKIE));
        }

        #[test]
        fn no_header_of_a_stranger_panics(value in proptest::collection::vec(any::<u8>(), 0..100), text in "\\PC{0,20}") {
            for value in [&value[..], text.as_bytes()] {
                for name in [header::COOKIE, header::ACCEPT, header::TRANSFER_ENCODING] {
                    let Some(headers) = headers(name, value) else { continue };
                    let _ = (cookie(&headers), wants_json(&headers), is_plain(&headers));
                }
            }
        }
    }
}
