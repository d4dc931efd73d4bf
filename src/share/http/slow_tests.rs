//! Whoever sends a byte now and then, by a clock that does not keep the tests waiting.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body::Frame;
use tokio::time::{Sleep, sleep};

use super::served::{Served, everything};
use crate::share::intake::{WRITERS_MAX, WRITERS_OF_ONE_MAX};

/// A byte each time, for ever.
struct Trickle {
    each: Duration,
    next: Pin<Box<Sleep>>,
}

impl http_body::Body for Trickle {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::convert::Infallible>>> {
        ready!(self.next.as_mut().poll(cx));
        self.next = Box::pin(sleep(self.each));
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
    }
}

fn trickle() -> Body {
    let each = Duration::from_secs(20);
    Body::new(Trickle { each, next: Box::pin(sleep(each)) })
}

const VERSION: (&str, &str) = ("tus-resumable", "1.0.0");
const KIND: (&str, &str) = ("content-type", "application/offset+octet-stream");

#[tokio::test(start_paused = true)]
async fn an_upload_that_trickles_is_stopped_and_can_be_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::new(dir.path(), everything());
    let metadata = format!("filename {}", STANDARD.encode("a"));
    let new = [VERSION, ("upload-length", "1000000"), ("upload-metadata", &metadata)];
    let created = served.ask("POST", "/api/uploads", &new, Body::empty()).await;
    assert_eq!(created.status(), 201);
    let upload = created.headers()["location"].to_str().unwrap().to_string();
    let slow = served.ask("PATCH", &upload, &[VERSION, KIND, ("upload-offset", "0")], trickle()).await;
    assert_eq!(slow.status(), 408);
    let found = served.ask("HEAD", &upload, &[VERSION], Body::empty()).await;
    let offset: usize = found.headers()["upload-offset"].to_str().unwrap().parse().unwrap();
    assert!((1..10).contains(&offset));
    let rest = Body::from(vec![b'x'; 1_000_000 - offset]);
    let at = offset.to_string();
    let done = served.ask("PATCH", &upload, &[VERSION, KIND, ("upload-offset", &at)], rest).await;
    assert_eq!((done.status().as_u16(), &done.headers()["lr-href"]), (204, &"a".parse().unwrap()));
}

#[tokio::test(start_paused = true)]
async fn whatever_trickles_gives_its_place_back() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::new(dir.path(), everything());
    let form = [("content-type", "multipart/form-data; boundary=x")];
    let plain = [("content-type", "application/x-www-form-urlencoded")];
    let json = [("content-type", "application/json")];
    for (method, target, headers) in [
        ("PUT", "/f/a", &[][..]),
        ("POST", "/upload/", &form),
        ("POST", "/archive", &plain),
        ("POST", "/api/chat", &json),
    ] {
        assert_eq!(served.ask(method, target, headers, trickle()).await.status(), 408, "{target}");
    }
    // All places of one are taken, and are free again after.
    let one = (crate::share::gate::VisitorId::PROGRAM, [192, 0, 2, 1].into());
    let turns: Vec<_> = (0..WRITERS_MAX).map_while(|_| served.share.intake.turn(one)).collect();
    assert_eq!(turns.len(), WRITERS_OF_ONE_MAX);
    let refused = served.ask("PUT", "/f/b", &[], Body::from("b")).await;
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &"5".parse().unwrap()));
    drop(turns);
    assert_eq!(served.ask("PUT", "/f/b", &[], Body::from("b")).await.status(), 201);
}
