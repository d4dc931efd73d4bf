//! The body of a file: read piece by piece, as fast as it is taken.
//!
//! What is in the page cache is read by the thread that serves the connection, with `RWF_NOWAIT`; what is not, by a
//! blocking thread, so that nobody waits for a disk who serves others. Pieces are small for a visitor who takes them
//! slowly, and grow for one who is fast: many slow ones then cost little memory. Buffers are used again. Over plain
//! HTTP what is in the page cache does not come through this program at all ([`crate::share::wire`]).

use std::fs::File;
use std::future::Future;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::task::JoinHandle;

use crate::share::activity::Running;
use crate::share::flow::Spare;
use crate::share::wire::{BLANK_BYTES, Orders};
use crate::sys::cached;

/// The first piece, and the least: a record of TLS. Whoever stops taking holds a few of them.
const PIECE_BYTES_MIN: usize = 16 << 10;
/// The largest: still in the second-level cache when it is sent.
const PIECE_BYTES_MAX: usize = 128 << 10;
/// Whoever does not take a piece faster than this gets a smaller one.
const FAST: Duration = Duration::from_millis(4);
/// Whoever takes so much without a pause gets a larger one. The kernel takes megabytes at once for one who is slow, when
/// it has room again: that alone makes him not fast.
const RUN_BYTES: usize = 4 << 20;

/// A buffer, and how much of it was read.
type Read = io::Result<(Vec<u8>, usize)>;

/// Part of a file as the body of an answer.
pub struct FileBody {
    file: Arc<File>,
    is_in_memory: bool,
    at: u64,
    end: u64,
    piece: usize,
    /// What was taken since there was a pause, or the piece grew.
    run: usize,
    given: Instant,
    reading: Option<JoinHandle<Read>>,
    spare: Arc<Spare>,
    orders: Option<Orders>,
    running: Option<Running>,
}

impl FileBody {
    /// From `start`, `len` bytes; they must be there, or the connection is cut, since the length was said. What is sent
    /// is told to `running`.
    pub fn new(file: File, (start, len): (u64, u64), running: Option<Running>) -> FileBody {
        let end = start.saturating_add(len);
        let is_in_memory = cached::is_in_memory(&file);
        let file = Arc::new(file);
        let (piece, given, spare) = (PIECE_BYTES_MIN, Instant::now(), Spare::new(1));
        let (run, reading, orders) = (0, None, None);
        FileBody { file, is_in_memory, at: start, end, piece, run, given, reading, spare, orders, running }
    }

    /// Let the connection send what it can by itself. The body has to reach it as it is.
    #[must_use]
    pub fn ordered(mut self, orders: Orders) -> FileBody {
        self.orders = Some(orders);
        self
    }

    /// A frame that the connection fills: if there is enough left, and no disk would have to be waited for, as far as
    /// its first and last bytes tell.
    fn order(&mut self) -> Option<Bytes> {
        let orders = self.orders.as_ref()?;
        let last = self.at.checked_add(BLANK_BYTES as u64 - 1).filter(|last| *last < self.end)?;
        let is_there = |at| matches!(cached::read_at(&self.file, &mut [0], at), Ok(Some(1)));
        let is_ready = self.is_in_memory || (is_there(self.at) && is_there(last));
        if is_ready { orders.blank(&self.file, self.at, BLANK_BYTES) } else { None }
    }

    fn adapt(&mut self) {
        let is_fast = self.given.elapsed() < FAST;
        if is_fast && self.run < RUN_BYTES {
            return;
        }
        self.run = 0;
        self.piece = match is_fast {
            true => (self.piece * 2).min(PIECE_BYTES_MAX),
            false => (self.piece / 2).max(PIECE_BYTES_MIN),
        };
    }

    fn give(&mut self, bytes: Bytes) -> Option<Result<Frame<Bytes>, io::Error>> {
        if bytes.is_empty() {
            let why = "the file was truncated while it was sent";
            return Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, why)));
        }
        self.at += bytes.len() as u64;
        self.run = self.run.saturating_add(bytes.len());
        self.given = Instant::now();
        if let Some(running) = &mut self.running {
            running.add(bytes.len() as u64);
            if self.at >= self.end {
                running.complete();
            }
        }
        Some(Ok(Frame::data(bytes)))
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let me = &mut *self;
        if me.reading.is_none() {
            if me.at >= me.end {
                return Poll::Ready(None);
            }
            if let Some(blank) = me.order() {
                return Poll::Ready(me.give(blank));
            }
            me.adapt();
            let wanted = me.piece.min(usize::try_from(me.end - me.at).unwrap_or(usize::MAX));
            let mut buffer = me.spare.take(me.piece);
            let read = match me.is_in_memory {
                true => me.file.read_at(&mut buffer[..wanted], me.at).map(Some),
                false => cached::read_at(&me.file, &mut buffer[..wanted], me.at),
            };
            match read {
                Ok(Some(n)) => {
                    let bytes = me.spare.lend(buffer, n);
                    return Poll::Ready(me.give(bytes));
                }
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            let (file, at) = (me.file.clone(), me.at);
            me.reading = Some(tokio::task::spawn_blocking(move || {
                let n = file.read_at(&mut buffer[..wanted], at)?;
                Ok((buffer, n))
            }));
        }
        let Some(reading) = &mut me.reading else { return Poll::Ready(None) };
        let read = match Pin::new(reading).poll(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(read) => read,
        };
        me.reading = None;
        match read {
            Ok(Ok((buffer, n))) => {
                let bytes = me.spare.lend(buffer, n);
                Poll::Ready(me.give(bytes))
            }
            Ok(Err(error)) => Poll::Ready(Some(Err(error))),
            Err(error) => Poll::Ready(Some(Err(io::Error::other(error)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.reading.is_none() && self.at >= self.end
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.end - self.at)
    }
}
