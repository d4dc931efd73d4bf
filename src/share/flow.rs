//! From a thread that makes bytes to a connection that sends them: a short queue of pieces in buffers that come back.
//!
//! A thread writes into a [`Sink`]; the connection takes pieces from the [`Flow`]. The thread waits when the queue is
//! full and learns that nobody listens any more when the connection is gone, so an answer costs the same memory
//! however long it is. An answer that does not come to its end is told as an error, never as an end.
//!
//! Where the connection sends files by itself ([`super::wire`]), the thread may give it a stretch of one instead of
//! bytes: it goes through the queue in its place and becomes a blank and an order when the connection asks for it.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Write};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::body::Bytes;
use http_body::{Body, Frame};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::activity::Running;
use super::slots::Slot;
use super::wire::Orders;

/// Bytes of a piece: it is still in the second-level cache when it is sent.
pub const PIECE_BYTES: usize = 256 << 10;
/// Pieces on their way, besides the one that is filled and the one that is sent; or stretches of files, which take no
/// memory.
pub const PIECES_MAX: usize = 3;

/// Buffers that are free again. A buffer that is used again is in the cache, mapped, and not zeroed once more.
#[derive(Debug)]
pub struct Spare {
    free: Mutex<Vec<Vec<u8>>>,
    keeps: usize,
}

impl Spare {
    /// Keep at most so many.
    pub fn new(keeps: usize) -> Arc<Spare> {
        Arc::new(Spare { free: Mutex::default(), keeps })
    }

    /// A buffer of exactly so many bytes, whatever they are.
    pub fn take(&self, len: usize) -> Vec<u8> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match free {
            Some(buffer) if buffer.len() == len => buffer,
            _ => vec![0; len],
        }
    }

    fn give(&self, buffer: Vec<u8>) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < self.keeps {
            free.push(buffer);
        }
    }

    /// The first `len` bytes of a buffer, which comes back when they were sent.
    pub fn lend(self: &Arc<Self>, buffer: Vec<u8>, len: usize) -> Bytes {
        let len = len.min(buffer.len());
        Bytes::from_owner(Lent { buffer, len, home: self.clone() })
    }
}

struct Lent {
    buffer: Vec<u8>,
    len: usize,
    home: Arc<Spare>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.give(std::mem::take(&mut self.buffer));
    }
}

/// A stretch of a file that the connection sends by itself: of a length that a blank can have.
#[derive(Debug)]
struct Stretch {
    file: Arc<File>,
    at: u64,
    len: usize,
}

/// What goes through the queue.
enum Part {
    Bytes(Bytes),
    Stretch(Stretch),
    /// All was said.
    End,
}

/// The two ends of a flow, of so many pieces on their way.
pub fn flow(pieces: usize) -> (Tap, Flow) {
    flow_by(pieces, None)
}

/// The same over a connection that, given its orders, sends files by itself. The flow has to reach it as it is.
pub fn flow_by(pieces: usize, orders: Option<Orders>) -> (Tap, Flow) {
    let (sender, receiver) = channel(pieces);
    let sends_files = orders.is_some();
    (Tap { sender, sends_files }, Flow { receiver, orders, running: None, slot: None, is_over: false })
}

/// The end that belongs to a thread which is yet to run; it may be shared.
#[derive(Clone)]
pub struct Tap {
    sender: Sender<Part>,
    sends_files: bool,
}

impl Tap {
    /// Whether nobody listens any more.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Say something without waiting; what finds no room is lost, and that is told.
    pub fn say(&self, bytes: impl Into<Bytes>) -> bool {
        self.sender.try_send(Part::Bytes(bytes.into())).is_ok()
    }

    /// All was said.
    pub fn end(&self) {
        let _ = self.sender.try_send(Part::End);
    }

    /// A writer, for a thread that may wait.
    pub fn sink(self) -> Sink {
        let spare = Spare::new(PIECES_MAX + 1);
        let filling = spare.take(PIECE_BYTES);
        Sink(Rc::new(RefCell::new(Filling { tap: self, spare, filling, len: 0, unseen: None, is_over: false })))
    }
}

struct Filling {
    tap: Tap,
    spare: Arc<Spare>,
    filling: Vec<u8>,
    len: usize,
    /// While a writer sees what was filled: how much of it is yet to come from there.
    unseen: Option<usize>,
    is_over: bool,
}

/// Where a thread writes. Clones write to the same.
///
/// After the first error everything is taken and dropped: writers that want to say goodbye may.
#[derive(Clone)]
pub struct Sink(Rc<RefCell<Filling>>);

impl Sink {
    /// What was said is all.
    pub fn finish(&self) -> io::Result<()> {
        let mut own = self.0.borrow_mut();
        own.check()?;
        own.pass_on()?;
        own.is_over = true;
        own.tap.sender.blocking_send(Part::End).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// It will not come to an end: nothing more is taken, and the connection is cut.
    pub fn cut(&self) {
        self.0.borrow_mut().is_over = true;
    }

    /// Whether the connection sends files by itself.
    pub fn sends_files(&self) -> bool {
        self.0.borrow().tap.sends_files
    }

    /// A stretch of a file, of a length that a blank can have, behind what was written.
    pub fn file(&self, file: &Arc<File>, at: u64, len: usize) -> io::Result<()> {
        let mut own = self.0.borrow_mut();
        own.check()?;
        own.pass_on_file(Stretch { file: file.clone(), at, len })
    }

    /// Fill from a source that reads directly into the buffer; how much came, 0 at its end.
    pub fn fill(&self, wanted: usize, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<usize> {
        let mut own = self.0.borrow_mut();
        own.check()?;
        if own.len == own.filling.len() {
            own.pass_on()?;
        }
        let (from, to) = (own.len, own.filling.len().min(own.len.saturating_add(wanted)));
        let got = read(&mut own.filling[from..to])?;
        own.len += got;
        Ok(got)
    }

    /// The same for a writer on top of this sink that has to see the bytes: `see` gives it those that came. What it
    /// then writes here is in its place already, so it is counted, not copied.
    pub fn fill_seen(
        &self,
        wanted: usize,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
        see: impl FnOnce(&[u8]) -> io::Result<()>,
    ) -> io::Result<usize> {
        let got = self.fill(wanted, read)?;
        let buffer = {
            let mut own = self.0.borrow_mut();
            own.unseen = Some(got);
            std::mem::take(&mut own.filling)
        };
        let len = self.0.borrow().len;
        let seen = see(&buffer[len - got..len]);
        let mut own = self.0.borrow_mut();
        own.filling = buffer;
        let unseen = own.unseen.take();
        seen?;
        match unseen {
            Some(0) => Ok(got),
            _ => Err(io::Error::other("a writer left some of its content out")),
        }
    }
}

impl Filling {
    fn check(&self) -> io::Result<()> {
        match self.is_over {
            true => Err(io::ErrorKind::BrokenPipe.into()),
            false => Ok(()),
        }
    }

    fn pass_on_file(&mut self, stretch: Stretch) -> io::Result<()> {
        self.pass_on()?;
        self.send(Part::Stretch(stretch))
    }

    fn send(&mut self, part: Part) -> io::Result<()> {
        self.tap.sender.blocking_send(part).map_err(|_| {
            self.is_over = true;
            io::ErrorKind::BrokenPipe.into()
        })
    }

    fn pass_on(&mut self) -> io::Result<()> {
        if self.len == 0 || self.is_over {
            return Ok(());
        }
        let next = self.spare.take(PIECE_BYTES);
        let full = std::mem::replace(&mut self.filling, next);
        let bytes = self.spare.lend(full, std::mem::take(&mut self.len));
        self.send(Part::Bytes(bytes))
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut own = self.0.borrow_mut();
        if own.is_over {
            return Ok(bytes.len());
        }
        if let Some(left) = own.unseen {
            let left = left.checked_sub(bytes.len());
            own.unseen = Some(left.ok_or_else(|| io::Error::other("a writer has content of its own"))?);
            return Ok(bytes.len());
        }
        if own.len == own.filling.len() {
            own.pass_on()?;
        }
        let n = bytes.len().min(own.filling.len() - own.len);
        let at = own.len;
        own.filling[at..at + n].copy_from_slice(&bytes[..n]);
        own.len += n;
        Ok(n)
    }

    /// Only full pieces are passed on: archives have many small parts.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

type Polled = Poll<Option<io::Result<Frame<Bytes>>>>;

/// The body of an answer that a thread makes.
pub struct Flow {
    receiver: Receiver<Part>,
    orders: Option<Orders>,
    running: Option<Running>,
    slot: Option<Slot>,
    is_over: bool,
}

impl Flow {
    /// Tell of what is sent, and hold a place until it is over.
    pub fn told(mut self, running: Option<Running>, slot: Option<Slot>) -> Flow {
        (self.running, self.slot) = (running, slot);
        self
    }

    fn give(&self, bytes: Bytes) -> Polled {
        if let Some(running) = &self.running {
            running.add(bytes.len() as u64);
        }
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn fail(&mut self, why: &'static str) -> Polled {
        self.is_over = true;
        Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, why))))
    }
}

impl Body for Flow {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        if self.is_over {
            return Poll::Ready(None);
        }
        match self.receiver.poll_recv(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Part::Bytes(bytes))) => self.give(bytes),
            Poll::Ready(Some(Part::Stretch(Stretch { file, at, len }))) => {
                match self.orders.as_ref().and_then(|orders| orders.blank(&file, at, len)) {
                    Some(blank) => self.give(blank),
                    None => self.fail("nobody can send this stretch of a file"),
                }
            }
            Poll::Ready(Some(Part::End)) => {
                self.is_over = true;
                if let Some(running) = &mut self.running {
                    running.complete();
                }
                self.slot = None;
                Poll::Ready(None)
            }
            Poll::Ready(None) => self.fail("what is sent has no end"),
        }
    }
}

#[cfg(test)]
#[path = "flow_tests.rs"]
mod tests;
