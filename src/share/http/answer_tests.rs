//! What is answered to a request, without a socket.

use std::os::unix::fs::symlink;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, to_bytes};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body::Frame;

use super::served::{Served, everything};
use crate::share::gate::VisitorId;
use crate::store::confined::RelativePath;

/// Spaces without an end; how many pieces of 16 KiB were taken.
struct Endless(Arc<AtomicUsize>);

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::convert::Infallible>>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b' '; 16 << 10])))))
    }
}

const VERSION: (&str, &str) = ("tus-resumable", "1.0.0");

#[tokio::test]
async fn a_share_on_the_usual_port_is_known_without_it() {
    let dir = tempfile::tempdir().unwrap();
    for (ours, is_https, host, status) in [
        ("h:443", true, "h", 200),
        ("h:443", true, "H:443", 200),
        ("[::1]:443", true, "[::1]", 200),
        ("h:80", false, "h", 200),
        ("h:80", true, "h", 421),
        ("h:443", false, "h", 421),
        ("h:5291", true, "h", 421),
        ("h:443", true, "g", 421),
        ("h:443", true, "", 421),
    ] {
        let served = Served::as_known(dir.path(), everything(), ours, is_https);
        let reply = served.ask_at(host, ("GET", "/api/share"), &[], Body::empty()).await;
        assert_eq!(reply.status(), status, "{ours} as {host}");
    }
    // Its own pages name it as the browser does.
    let served = Served::as_known(dir.path(), everything(), "h:443", true);
    let json = ("content-type", "application/json");
    for (origin, status) in [("https://h", 204), ("https://g", 403), ("http://h", 403)] {
        let headers = [json, ("cookie", "x=y"), ("origin", origin)];
        let said = served.ask_at("h", ("POST", "/api/chat"), &headers, Body::from("{\"text\":\"x\"}")).await;
        assert_eq!(said.status(), status, "{origin}");
    }
}

#[tokio::test]
async fn a_page_that_only_takes_files_lets_its_form_say_where_it_comes_from() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::new(dir.path(), "upload".parse().unwrap());
    let page = served.get("/f/").await;
    assert_eq!((page.status().as_u16(), &page.headers()["referrer-policy"]), (200, &"same-origin".parse().unwrap()));
}

#[tokio::test]
async fn the_log_says_whose_a_request_was_that_failed() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::new(dir.path(), everything());
    for (target, status) in [("/f/", 200), ("/f/none", 404), ("/api/list/?limit=x", 400)] {
        assert_eq!(served.get(target).await.status(), status);
        let last = served.lines.0.lock().unwrap().pop();
        assert_eq!(last.map(|(visitor, ..)| visitor), Some(Some(VisitorId::PROGRAM)), "{target}");
    }
}

#[tokio::test]
async fn an_upload_outlasts_an_error_that_passes() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("in")).unwrap();
    let served = Served::new(dir.path(), everything());
    let metadata = format!("filename {},folder {}", STANDARD.encode("a"), STANDARD.encode("in"));
    let new = [VERSION, ("upload-length", "2"), ("upload-metadata", &metadata)];
    let created = served.ask("POST", "/api/uploads", &new, Body::empty()).await;
    let upload = created.headers()["location"].to_str().unwrap().to_string();
    let patch = |at: &'static str| {
        let kind = ("content-type", "application/offset+octet-stream");
        let (served, upload) = (&served, &upload);
        async move { served.ask("PATCH", upload, &[VERSION, kind, ("upload-offset", at)], Body::from("x")).await.status() }
    };
    assert_eq!(patch("0").await, 204);
    // For a moment its folder is a link, which nothing is written through.
    std::fs::rename(dir.path().join("in"), dir.path().join("away")).unwrap();
    symlink("away", dir.path().join("in")).unwrap();
    served.share.tree.tops()[0].root.refresh(&RelativePath::parse(b"in").unwrap());
    assert_eq!(patch("1").await, 409);
    std::fs::remove_file(dir.path().join("in")).unwrap();
    std::fs::rename(dir.path().join("away"), dir.path().join("in")).unwrap();
    assert_eq!(patch("1").await, 204);
    assert_eq!(std::fs::read(dir.path().join("in/a")).unwrap(), b"xx");
}

#[tokio::test]
async fn a_form_has_a_thousand_parts_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::new(dir.path(), everything());
    let kind = ("content-type", "multipart/form-data; boundary=x");
    for (parts, status) in [(1000, 303), (1001, 413)] {
        let part = "--x\r\ncontent-disposition: form-data; name=\"other\"\r\n\r\n1\r\n";
        let body = Body::from(part.repeat(parts) + "--x--\r\n");
        assert_eq!(served.ask("POST", "/upload/", &[kind], body).await.status(), status, "{parts}");
    }
}

#[tokio::test]
async fn the_head_of_a_text_tells_how_long_it_is_and_what() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.txt"), "line\n".repeat(1000)).unwrap();
    let served = Served::new(dir.path(), everything());
    let headers = [("accept-encoding", "gzip")];
    let head = served.ask("HEAD", "/f/a.txt?view", &headers, Body::empty()).await;
    assert_eq!(
        (&head.headers()["content-length"], head.headers().get("content-encoding")),
        (&"5000".parse().unwrap(), None)
    );
    assert_eq!(head.headers()["content-type"], "text/plain; charset=utf-8");
    let whole = served.ask("GET", "/f/a.txt?view", &headers, Body::empty()).await;
    assert_eq!(whole.headers()["content-encoding"], "gzip");
}

#[tokio::test]
async fn what_is_said_is_not_read_beyond_the_longest_that_may_be() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::new(dir.path(), everything());
    let taken = Arc::new(AtomicUsize::new(0));
    let kind = ("content-type", "application/json");
    let said = served.ask("POST", "/api/chat", &[kind], Body::new(Endless(taken.clone()))).await;
    assert_eq!(said.status(), 413);
    assert!(taken.load(Ordering::Relaxed) <= 3, "{taken:?}");
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_many_ask_for_at_once_is_read_once() {
    let dir = tempfile::tempdir().unwrap();
    (0..3).for_each(|n| std::fs::write(dir.path().join(n.to_string()), "").unwrap());
    // What has just changed is not kept: another change may not show by its time.
    std::fs::File::open(dir.path()).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    let served = Served::new(dir.path(), everything());
    let (share, root) = (&served.share, RelativePath::root());
    let read = || async { crate::share::listing::folder(share, &root).await.unwrap().unwrap() };
    // All turns but one are taken: the others wait for whoever has it, and find what he has read.
    let turns = share.listings.turns.clone();
    let taken = turns.clone().acquire_many_owned(turns.available_permits() as u32 - 1).await.unwrap();
    let (one, two, three) = tokio::join!(read(), read(), read());
    assert!(Arc::ptr_eq(&one, &two) && Arc::ptr_eq(&two, &three));
    // Without a turn nothing is read; what is kept takes none. The clock goes on when nobody has anything to do.
    let last = turns.clone().acquire_owned().await.unwrap();
    assert!(Arc::ptr_eq(&one, &read().await));
    share.listings.forget(&root);
    assert!(tokio::time::timeout(std::time::Duration::from_secs(1), read()).await.is_err());
    drop((taken, last));
    let page = to_bytes(served.get("/api/list/?limit=1").await.into_body(), 1 << 20).await.unwrap();
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&page).unwrap()["total"], 3);
}
