//! Content coding: what shrinks is sent as zstd or gzip to those who take that.
//!
//! Pages, JSON, and files that are text. Never a part of a file, nor what is compressed already, nor what is told as it
//! happens: a coding would hold lines back. A coded file has no length and cannot be resumed, so a large one is sent as
//! it is. No answer holds something that is secret beside something that a stranger chose.

use axum::extract::Request;
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::Response;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::Predicate;

use crate::store::media::{self, ByName, MediaKind};

/// Less is not worth it, bytes.
const BYTES_MIN: u64 = 1024;
/// A file of more is sent as it is, so that it can be resumed.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Put on an answer that shrinks though its type does not say so: a download is `application/octet-stream`.
#[derive(Clone, Copy, Debug)]
pub struct Shrinks;

/// The layer that does it.
pub fn layer() -> CompressionLayer<impl Predicate> {
    CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(shrinks)
}

/// Whether a file of this name and length does.
pub fn file_shrinks(name: &[u8], len: u64) -> bool {
    let is_text = match media::by_name(name) {
        ByName::Clear(found) | ByName::Unclear(found) => {
            matches!(found.kind, MediaKind::Text | MediaKind::Code) || found.mime == "image/svg+xml"
        }
        ByName::Unknown => false,
    };
    is_text && (BYTES_MIN..=FILE_BYTES_MAX).contains(&len)
}

fn shrinks(status: StatusCode, _: Version, headers: &HeaderMap, marks: &Extensions) -> bool {
    if status != StatusCode::OK {
        return false;
    }
    if marks.get::<Shrinks>().is_some() {
        return true;
    }
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    // A file without the mark.
    if headers.contains_key(header::CONTENT_DISPOSITION) {
        return false;
    }
    let kind = text(header::CONTENT_TYPE).unwrap_or_default();
    let is_large = text(header::CONTENT_LENGTH).and_then(|len| len.parse::<u64>().ok()).is_none_or(|n| n >= BYTES_MIN);
    is_large
        && ["text/html", "text/css", "text/javascript", "application/json", "image/svg+xml"]
            .iter()
            .any(|known| kind.starts_with(known))
}

/// A coding makes no sense of a part, and none but these two is spoken of: a request that names neither is left alone.
pub async fn prepare(mut request: Request, next: Next) -> Response {
    let headers = request.headers_mut();
    let names_one = headers.get_all(header::ACCEPT_ENCODING).iter().any(|value| {
        let value = value.to_str().unwrap_or_default();
        value.contains("gzip") || value.contains("zstd")
    });
    if !names_one || headers.contains_key(header::RANGE) {
        headers.remove(header::ACCEPT_ENCODING);
    }
    let mut response = next.run(request).await;
    // Other bytes have another tag: a strong one promises the same ones.
    if response.headers().contains_key(header::CONTENT_ENCODING)
        && let Some(tag) = response.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok())
        && let Ok(weak) = HeaderValue::from_str(&format!("W/{tag}"))
    {
        response.headers_mut().insert(header::ETAG, weak);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_shrinks_and_media_do_not() {
        assert!(file_shrinks(b"a.txt", 5000) && file_shrinks(b"a.rs", 5000) && file_shrinks(b"a.svg", 5000));
        for (name, len) in [("a.txt", 10), ("a.txt", 1 << 30), ("a.png", 5000), ("a.zip", 5000), ("a", 5000)] {
            assert!(!file_shrinks(name.as_bytes(), len), "{name}");
        }
        let judge = |kind: &'static str, file: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            if file {
                headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
            }
            shrinks(StatusCode::OK, Version::HTTP_11, &headers, &Extensions::new())
        };
        assert!(judge("application/json", false) && judge("text/html; charset=utf-8", false));
        for (kind, file) in [("text/html", true), ("text/event-stream", false), ("application/x-ndjson", false)] {
            assert!(!judge(kind, file), "{kind}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(64))]

        #[test]
        fn whatever_is_accepted_an_answer_comes(value in "([a-z*]{0,8}(;q=[0-9.-]{0,8})?[, ]{0,2}|gzip|zstd|\\PC){0,12}") {
            use tower::{Layer, ServiceExt};
            let Ok(value) = HeaderValue::from_str(&value) else { return Ok(()) };
            let mut request = Request::new(axum::body::Body::empty());
            request.headers_mut().insert(header::ACCEPT_ENCODING, value);
            let answer = |_| async {
                let mut response = Response::new(axum::body::Body::from("text ".repeat(1000)));
                response.extensions_mut().insert(Shrinks);
                Ok::<_, std::convert::Infallible>(response)
            };
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let response = runtime.block_on(layer().layer(tower::service_fn(answer)).oneshot(request)).unwrap();
            let coding = response.headers().get(header::CONTENT_ENCODING).map(|coding| coding.as_bytes());
            proptest::prop_assert!(matches!(coding, None | Some(b"gzip" | b"zstd")));
        }
    }
}
