//! A plain TCP connection that sends content of files without it passing through this program: sendfile(2).
//!
//! HTTP stays hyper's. A body that may, gives hyper a frame that is a **blank**, a slice of one region of zeros that is
//! used for nothing else, and notes an **order** for it: which file, from where, how much. When hyper writes the slice,
//! [`Wire`] knows it by its address, and sends what was ordered. Bodies are those of files
//! ([`FileBody`](super::http::content::FileBody)) and of archives ([`Flow`](super::flow::Flow)), which have ordinary
//! frames between the blanks.
//!
//! Why bytes cannot be mixed up:
//! - Of an HTTP/1.1 connection hyper writes one answer after the other, and the frames of one in their order. Orders
//!   are noted in the order in which frames are given to hyper, and taken first in, first out: frame n meets order n.
//! - A blank and its order belong to each other by address and length. Each order's blank begins `STEP_BYTES` after
//!   the one before it, and comes round again only after `STEPS` of them; as it is sent, address and length of what is
//!   left move on in both. They are compared before each call, and the connection is cut if they differ: a blank or an
//!   order that got lost, or came twice, or changed places, is seen before a byte is sent.
//! - Should hyper copy a blank into a buffer of its own, its address would not be known: it would be written as ordinary
//!   bytes. How many of those may be written while an order is open is bounded: hyper asks a body for a frame only as
//!   long as less than [`BUFFER_BYTES`] of what it was given before, head included, are unsent, so no more than that and
//!   the frame's own framing ([`FRAMING_BYTES_MAX`]) come between an order and its blank, however many ordinary bytes
//!   there are in front of them. Every blank is longer ([`BLANK_BYTES_MIN`]): the connection is cut before a copy of it
//!   is sent whole. What is shorter goes through the program.
//! - A file that ends too early gives no bytes: the connection is cut.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use axum::body::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::sys::raw::sendfile;

/// Most bytes of a frame that is sent so.
pub const BLANK_BYTES: usize = 1 << 20;
/// The least.
pub const BLANK_BYTES_MIN: usize = 128 << 10;
/// What the connection's HTTP keeps of what it was given to send before it takes more: hyper's `max_buf_size`.
pub const BUFFER_BYTES: usize = 64 << 10;
/// What HTTP puts between a frame that was given to it and the one before, at most: the ends and lengths of chunks.
pub const FRAMING_BYTES_MAX: usize = 64;
/// Most ordinary bytes that are written while an order is open, and no blank was begun.
const ORDINARY_BYTES_MAX: usize = BUFFER_BYTES + FRAMING_BYTES_MAX;
/// How far the blank of one order begins behind that of the one before.
const STEP_BYTES: usize = 4 << 10;
/// After how many orders one begins where another began.
const STEPS: usize = BLANK_BYTES / STEP_BYTES;
const _: () = assert!(ORDINARY_BYTES_MAX < BLANK_BYTES_MIN && BLANK_BYTES_MIN < BLANK_BYTES);

/// Nobody writes to it, nobody reads it: it is addresses and lengths. Its pages are never touched.
static BLANK: LazyLock<&'static [u8]> = LazyLock::new(|| Box::leak(vec![0; 2 * BLANK_BYTES].into_boxed_slice()));

/// Where in the region of blanks a slice begins, if it is one.
fn place(slice: &[u8]) -> Option<usize> {
    let at = slice.as_ptr().addr().checked_sub(BLANK.as_ptr().addr())?;
    (at < BLANK.len()).then_some(at)
}

/// What is to be sent instead of a blank.
#[derive(Debug)]
struct Order {
    file: Arc<File>,
    at: u64,
    left: usize,
    /// Where what is left of its blank begins.
    place: usize,
}

/// What bodies of a connection want to be sent. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Orders(Arc<Mutex<Ledger>>);

#[derive(Debug, Default)]
struct Ledger {
    open: VecDeque<Order>,
    /// Where the next blank begins, in steps.
    next: usize,
    /// Ordinary bytes since the last blank, while there were open orders.
    ordinary: usize,
}

impl Orders {
    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A frame that stands for so many bytes of a file, [`BLANK_BYTES_MIN`] to [`BLANK_BYTES`], from `at`. It has to be
    /// the next that is given to the connection, as it is. Nothing if there are no such frames of this length.
    pub fn blank(&self, file: &Arc<File>, at: u64, len: usize) -> Option<Bytes> {
        if !(BLANK_BYTES_MIN..=BLANK_BYTES).contains(&len) {
            return None;
        }
        let mut ledger = self.lock();
        let place = ledger.next * STEP_BYTES;
        ledger.next = (ledger.next + 1) % STEPS;
        ledger.open.push_back(Order { file: file.clone(), at, left: len, place });
        Some(Bytes::from_static(&BLANK[place..place + len]))
    }
}

fn broken(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// The connection.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    orders: Orders,
}

impl Wire {
    /// Around a stream.
    pub fn new(stream: TcpStream) -> Wire {
        // Made now, not while something waits for it.
        LazyLock::force(&BLANK);
        Wire { stream, orders: Orders::default() }
    }

    /// For bodies of its answers.
    pub fn orders(&self) -> Orders {
        self.orders.clone()
    }

    /// Send what was ordered instead of the rest of a blank, so long, from `place`.
    fn poll_send(&mut self, cx: &mut Context<'_>, (place, len): (usize, usize)) -> Poll<io::Result<usize>> {
        let mut ledger = self.orders.lock();
        let ledger = &mut *ledger;
        ledger.ordinary = 0;
        let order = ledger.open.front_mut().filter(|order| (order.place, order.left) == (place, len));
        let Some(order) = order else { return Poll::Ready(Err(broken("a frame and its order differ"))) };
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            let sent = self
                .stream
                .try_io(Interest::WRITABLE, || sendfile(self.stream.as_fd(), order.file.as_fd(), order.at, order.left));
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) => {
                    let why = "the file was truncated while it was sent";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, why)));
                }
                Ok(sent) => {
                    order.at += sent as u64;
                    order.place += sent;
                    order.left = order.left.saturating_sub(sent);
                    if order.left == 0 {
                        ledger.open.pop_front();
                    }
                    return Poll::Ready(Ok(sent));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Whether so many ordinary bytes may be written now.
    fn check_ordinary(&self, len: usize) -> io::Result<()> {
        let ledger = self.orders.lock();
        match !ledger.open.is_empty() && ledger.ordinary + len > ORDINARY_BYTES_MAX {
            true => Err(broken("something else is written than what was ordered")),
            false => Ok(()),
        }
    }

    fn count_ordinary(&self, written: &Poll<io::Result<usize>>) {
        let mut ledger = self.orders.lock();
        if let (Poll::Ready(Ok(n)), false) = (written, ledger.open.is_empty()) {
            ledger.ordinary += n;
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Some(first) = slices.iter().position(|slice| !slice.is_empty()) else { return Poll::Ready(Ok(0)) };
        let slices = &slices[first..];
        if let Some(place) = place(&slices[0]) {
            return self.poll_send(cx, (place, slices[0].len()));
        }
        // Up to the first blank, which is for the next call.
        let ordinary = slices.iter().take_while(|slice| slice.is_empty() || place(slice).is_none()).count();
        let slices = &slices[..ordinary];
        self.check_ordinary(slices.iter().map(|slice| slice.len()).sum())?;
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.count_ordinary(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const SHORT: usize = BLANK_BYTES_MIN + 1;

    async fn pair() -> (Wire, TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Wire::new(listener.accept().await.unwrap().0), far)
    }

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
    }

    fn file(content: &[u8]) -> Arc<File> {
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), content).unwrap();
        Arc::new(File::open(path.path()).unwrap())
    }

    #[test]
    fn blanks_become_what_was_ordered_in_its_place() {
        let content: Vec<u8> = (0..3 * BLANK_BYTES).map(|n| (n % 251) as u8 | 1).collect();
        let file = file(&content);
        let got = run(async {
            let (mut wire, mut far) = pair().await;
            let orders = wire.orders();
            let reading = tokio::spawn(async move {
                let mut got = Vec::new();
                far.read_to_end(&mut got).await.unwrap();
                got
            });
            let (one, two) = (orders.blank(&file, 5, BLANK_BYTES).unwrap(), orders.blank(&file, 0, SHORT).unwrap());
            for bytes in [Bytes::from_static(b"head"), one, two, Bytes::from_static(b"tail")] {
                wire.write_all(&bytes).await.unwrap();
            }
            drop(wire);
            reading.await.unwrap()
        });
        let expected = [b"head", &content[5..5 + BLANK_BYTES], &content[..SHORT], b"tail"].concat();
        assert!(got == expected);
    }

    #[test]
    fn whatever_does_not_fit_its_order_is_cut_before_it_is_sent() {
        let file = file(&vec![7; 3 * BLANK_BYTES]);
        let blank = |wire: &Wire| wire.orders().blank(&file, 0, BLANK_BYTES).unwrap();
        run(async {
            // No order, and an order of another length.
            let (mut wire, _far) = pair().await;
            assert!(wire.write(&BLANK[..10]).await.is_err());
            let (mut wire, _far) = pair().await;
            assert!(wire.write(&blank(&wire)[1..]).await.is_err());
            // One whose blank got lost, and one that came twice, of the same length as the next.
            let (mut wire, _far) = pair().await;
            let (_lost, next) = (blank(&wire), blank(&wire));
            assert!(wire.write(&next).await.is_err());
            let (mut wire, mut far) = pair().await;
            let (twice, _next) = (blank(&wire), blank(&wire));
            let reading = tokio::spawn(async move { far.read_exact(&mut vec![0; BLANK_BYTES]).await.map(drop) });
            wire.write_all(&twice).await.unwrap();
            assert!(wire.write(&twice).await.is_err());
            reading.await.unwrap().unwrap();
            // A blank that was copied, behind as many ordinary bytes as there may be.
            let (mut wire, _far) = pair().await;
            let copy = blank(&wire).to_vec();
            wire.write_all(b"head").await.unwrap();
            assert!(wire.write(&copy).await.is_err());
            assert!(wire.write(&copy[..BLANK_BYTES_MIN]).await.is_err());
            // A file that is too short.
            let (mut wire, _far) = pair().await;
            let blank = wire.orders().blank(&file, 3 * BLANK_BYTES as u64, BLANK_BYTES).unwrap();
            assert_eq!(wire.write(&blank).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        });
    }

    #[test]
    fn blanks_are_long_and_begin_at_different_places() {
        let (orders, file) = (Orders::default(), file(b""));
        for len in [0, 1, BLANK_BYTES_MIN - 1, BLANK_BYTES + 1, usize::MAX] {
            assert!(orders.blank(&file, 0, len).is_none(), "{len}");
        }
        let blanks: Vec<_> = (0..STEPS).map(|_| orders.blank(&file, 0, BLANK_BYTES).unwrap()).collect();
        let places: std::collections::HashSet<_> = blanks.iter().map(|blank| place(blank).unwrap()).collect();
        assert_eq!(places.len(), STEPS);
        assert!(place(&[0; 100]).is_none() && place(&BLANK[BLANK.len() - 1..]).is_some());
    }
}
