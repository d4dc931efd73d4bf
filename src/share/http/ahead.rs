//! How far the body of a form is read before its parser gives something for it.
//!
//! The parser keeps what it cannot place yet: all that stands before the first part, and the head of a part until it
//! ends. Those have no end if whoever sends them wants none, and each new piece has the parser look through all that it
//! keeps.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use http_body::Frame;

/// The most of it, bytes: some of the pieces that a connection gives, and more than the head of any part.
pub const AHEAD_BYTES_MAX: usize = 256 << 10;

/// There was more, and nothing came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what is sent is no form, or has a part whose head does not end")]
struct TooFar;

/// How far ahead a body is read. Whoever has something of it says so.
#[derive(Clone, Debug, Default)]
pub struct Ahead(Arc<AtomicUsize>);

impl Ahead {
    /// The parser gave something.
    pub fn caught_up(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// So much more was read; whether that is not too much.
    fn read(&self, bytes: usize) -> bool {
        self.0.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) <= AHEAD_BYTES_MAX
    }
}

/// The same request with a body that is read only so far ahead.
pub fn bounded(request: Request) -> (Request, Ahead) {
    let ahead = Ahead::default();
    let body = |inner| Body::new(Bounded { inner, ahead: ahead.clone(), rests: false });
    (request.map(body), ahead.clone())
}

struct Bounded {
    inner: Body,
    ahead: Ahead,
    rests: bool,
}

impl http_body::Body for Bounded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        // The parser reads as long as there is something to read, and looks at it only then: let it look at each piece.
        if std::mem::take(&mut self.rests) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.rests = true;
            if !self.ahead.read(frame.data_ref().map_or(0, Bytes::len)) {
                return Poll::Ready(Some(Err(axum::Error::new(TooFar))));
            }
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use axum::extract::{FromRequest, Multipart};

    use super::*;

    /// Gives the same piece so often, as fast as it is taken.
    struct Pieces(Bytes, usize);

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            let Some(left) = self.1.checked_sub(1) else { return Poll::Ready(None) };
            self.1 = left;
            Poll::Ready(Some(Ok(Frame::data(self.0.clone()))))
        }
    }

    async fn parts(head: &'static str, count: usize) -> (Multipart, Ahead) {
        let request = Request::builder().header("content-type", "multipart/form-data; boundary=edge");
        let body = http_body_of(head, count);
        let (request, ahead) = bounded(request.body(body).unwrap());
        (Multipart::from_request(request, &()).await.unwrap(), ahead)
    }

    fn http_body_of(head: &'static str, count: usize) -> Body {
        struct Both(Option<&'static str>, Pieces);
        impl http_body::Body for Both {
            type Data = Bytes;
            type Error = std::convert::Infallible;

            fn poll_frame(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
            ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
                match self.0.take() {
                    Some(head) => Poll::Ready(Some(Ok(Frame::data(Bytes::from(head))))),
                    None => Pin::new(&mut self.1).poll_frame(cx),
                }
            }
        }
        Body::new(Both(Some(head), Pieces(Bytes::from(vec![b'x'; 1 << 16]), count)))
    }

    #[tokio::test]
    async fn what_is_before_a_part_and_its_head_are_bounded() {
        for head in ["x", "--edge", "--edge\r\nContent-Disposition: form-data; name=\"", "--edge\r\nX: y\r\n"] {
            let (mut parts, ahead) = parts(head, 1 << 20).await;
            assert!(parts.next_field().await.is_err(), "{head}");
            // One piece too much was read, and no more.
            let read = ahead.0.load(Ordering::Relaxed);
            assert!(read <= AHEAD_BYTES_MAX + (1 << 16), "{head}: {read}");
        }
    }

    #[tokio::test]
    async fn a_file_that_is_longer_than_the_bound_comes_through() {
        // Below the bound on whole bodies that the share takes away.
        const PIECES: usize = 30;
        let (mut parts, ahead) = parts("--edge\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n", PIECES).await;
        let mut field = parts.next_field().await.unwrap().unwrap();
        let mut bytes = 0;
        while let Ok(Some(piece)) = field.chunk().await {
            ahead.caught_up();
            bytes += piece.len();
        }
        // The end of the body is no end of the part, so its last bytes may be kept.
        assert!(bytes > (PIECES - 1) << 16, "{bytes}");
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(64))]

        #[test]
        fn no_form_panics(body in "(--edge|--|\r\n|Content-Disposition: form-data; |name=\"file\"; |filename=\"|\"|[a-z]|\\PC){0,60}") {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                let request = Request::builder().header("content-type", "multipart/form-data; boundary=edge");
                let (request, _) = bounded(request.body(Body::from(body)).unwrap());
                let mut parts = Multipart::from_request(request, &()).await.unwrap();
                while let Ok(Some(mut field)) = parts.next_field().await {
                    let _ = (field.name().map(str::len), field.file_name().map(str::len));
                    while let Ok(Some(_)) = field.chunk().await {}
                }
            });
        }
    }
}
