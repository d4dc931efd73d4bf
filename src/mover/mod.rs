//! How bytes move: one file per I/O method and one row in [`SEND`] or [`RECEIVE`].
//!
//! The command line, the server, the tests and the benches all iterate these tables, so a new method is its file
//! and its row. A method knows one socket, one source or sink and one range at a time; which range, and what stands
//! before it on the wire, is decided by `engine`. Methods never block on the socket.
//!
//! *Accepted* and *released* are different moments: [`SendMethod::push`] says what the socket accepted,
//! [`SendMethod::settle`] whether the kernel has let go of everything.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::proto::message::Tally;
use crate::proto::wire::WireError;
use crate::sys::mapping::FileMapping;
use crate::sys::pipe::Pipe;

mod feed;
mod mmap;
pub mod pool;
mod read_ahead;
mod receive_read;
mod receive_splice;
mod receive_trunc;
mod segments;
mod sendfile;
mod splice;
mod write;
mod zerocopy;

pub use feed::Feed;
pub use pool::{Pool, PoolBuf};
pub use segments::Segments;

/// Send methods, in the order of tables.
pub static SEND: [SendRow; 5] = [write::ROW, mmap::ROW, sendfile::ROW, splice::ROW, zerocopy::ROW];
/// Receive methods, in the order of tables.
pub static RECEIVE: [ReceiveRow; 3] = [receive_read::ROW, receive_trunc::ROW, receive_splice::ROW];

/// The row of a send method.
pub fn send_row(name: &str) -> Option<&'static SendRow> {
    SEND.iter().find(|row| row.name == name)
}

/// The row of a receive method.
pub fn receive_row(name: &str) -> Option<&'static ReceiveRow> {
    RECEIVE.iter().find(|row| row.name == name)
}

/// A send method, as the tables list it.
#[derive(Debug)]
pub struct SendRow {
    /// Its name in options and results.
    pub name: &'static str,
    /// What it does, for help texts.
    pub summary: &'static str,
    /// File descriptors that one stream needs beside its socket.
    pub descriptors: u32,
    /// From how many bytes a call on it gains from filling segments up (TCP_CORK).
    pub cork_from_bytes: u64,
    /// Whether this kernel has it; the reason why not.
    pub probe: fn() -> Result<(), String>,
    /// One for a new stream on this socket.
    pub make: fn(BorrowedFd<'_>) -> io::Result<Box<dyn SendMethod>>,
    /// How it brings bytes into memory for TLS to encrypt; `None` where the kernel would have to.
    pub feed: Option<fn() -> Box<dyn Feed>>,
}

/// A receive method, as the tables list it.
#[derive(Debug)]
pub struct ReceiveRow {
    /// Its name in options and results.
    pub name: &'static str,
    /// What it does, for help texts.
    pub summary: &'static str,
    /// Whether it can put the bytes into a file; if not, it can only drop them.
    pub keeps: bool,
    /// Whether the bytes pass through the program's own memory when they are discarded.
    pub reads: bool,
    /// Whether one call takes all that waits, up to what was asked for; splice stops at the pipe's capacity.
    pub takes_all: bool,
    /// Whether TLS can decrypt what it takes; where not, the kernel would have to.
    pub decrypts: bool,
    /// Whether this kernel has it; the reason why not.
    pub probe: fn() -> Result<(), String>,
    /// One for a new stream.
    pub make: fn() -> Box<dyn ReceiveMethod>,
}

/// Where sent bytes come from.
#[derive(Clone, Debug)]
pub struct Source {
    /// A regular file, block device or memfd.
    pub file: Arc<File>,
    /// Its length in bytes when it was opened; at least 1.
    pub len: u64,
    /// How to name it to a person.
    pub name: Arc<str>,
    /// The whole of it, mapped, where it is small and hot: methods that send from memory take it from here.
    pub resident: Option<Arc<FileMapping>>,
    /// What streams have mapped of it at the moment.
    pub segments: Arc<Segments>,
}

/// Where received bytes go.
#[derive(Clone, Debug)]
pub enum Sink {
    /// Nowhere.
    Discard,
    /// Into a file.
    File(FileSink),
}

/// A part of a file that is written round and round.
#[derive(Clone, Debug)]
pub struct FileSink {
    /// Open for writing.
    pub file: Arc<File>,
    /// How to name it to a person.
    pub name: Arc<str>,
    /// Where the part begins.
    pub base: u64,
    /// Its length in bytes, at least 1.
    pub len: u64,
}

/// What a method may use of the worker that drives it.
#[derive(Debug)]
pub struct Turn<'a> {
    /// Buffers, all of the size that one call moves.
    pub pool: &'a mut Pool,
    /// A pipe that is empty between turns, made when it is first needed.
    pub pipe: &'a mut Option<Pipe>,
    /// `/dev/null`, open for writing.
    pub null: &'a File,
    /// The stream's counters.
    pub tally: &'a mut Tally,
}

/// What came of one push or pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// So many bytes, at least one.
    Bytes(usize),
    /// The socket is full or empty: wait for it.
    Blocked,
    /// The peer ended the stream (pull only).
    End,
}

impl Moved {
    /// How many.
    pub fn bytes(self) -> u64 {
        if let Moved::Bytes(n) = self { n as u64 } else { 0 }
    }
}

/// Sends ranges of a source into one socket.
pub trait SendMethod: Send {
    /// Move up to `len` bytes of `source` from `at`, with one call or the few that belong together. `len` is at
    /// least 1 and `at + len` within the source. After `Bytes(n)` the next push begins at `at + n`.
    fn push(
        &mut self,
        sock: BorrowedFd<'_>,
        source: &Source,
        at: u64,
        len: usize,
        turn: &mut Turn<'_>,
    ) -> Result<Moved, Fault>;

    /// Take note of what the kernel has let go of; `true` when that is everything.
    fn settle(&mut self, _sock: BorrowedFd<'_>, _turn: &mut Turn<'_>) -> Result<bool, Fault> {
        Ok(true)
    }
}

/// Receives from one socket into a sink.
pub trait ReceiveMethod: Send {
    /// Take up to `len` bytes; they belong at `at` of the stream's payload.
    fn pull(
        &mut self,
        sock: BorrowedFd<'_>,
        sink: &Sink,
        at: u64,
        len: usize,
        turn: &mut Turn<'_>,
    ) -> Result<Moved, Fault>;
}

/// Why a stream ended badly.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The source ends before the place where it is read.
    #[error(
        "{name}: became shorter while it was read (no data at byte {at} of {len}): leave the file alone during the run"
    )]
    SourceTruncated {
        /// Which.
        name: Arc<str>,
        /// Where it was read.
        at: u64,
        /// How long it was.
        len: u64,
    },
    /// The source cannot be read.
    #[error("{name}: cannot be read: {error}")]
    Source {
        /// Which.
        name: Arc<str>,
        /// The system's answer.
        error: io::Error,
    },
    /// The sink cannot be written.
    #[error("{name}: cannot be written: {error}")]
    Sink {
        /// Which.
        name: Arc<str>,
        /// The system's answer.
        error: io::Error,
    },
    /// The connection failed.
    #[error("connection: {0}")]
    Connection(#[source] io::Error),
    /// TLS failed on the connection.
    #[error("{0}")]
    Secure(String),
    /// The peer ended the stream inside a frame.
    #[error("the peer ended the stream before all of it had come")]
    Unfinished,
    /// The peer sent something that is no frame.
    #[error("the peer sent a {0}")]
    Wire(#[from] WireError),
    /// The machine lacks something.
    #[error("{what}: {error}")]
    Resource {
        /// What was wanted.
        what: &'static str,
        /// The system's answer.
        error: io::Error,
    },
}

impl Fault {
    fn no_buffer() -> Fault {
        Fault::Resource { what: "no buffer", error: io::ErrorKind::OutOfMemory.into() }
    }
}

impl Source {
    fn truncated(&self, at: u64) -> Fault {
        Fault::SourceTruncated { name: self.name.clone(), at, len: self.len }
    }

    /// Sort an error of a call that reads the source and writes the socket.
    fn fault(&self, error: io::Error) -> Fault {
        match error.kind() {
            io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::NotConnected
            | io::ErrorKind::TimedOut
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable => Fault::Connection(error),
            _ => Fault::Source { name: self.name.clone(), error },
        }
    }
}

impl Sink {
    /// Put bytes that are in memory where they belong, at `at` of the stream's payload; counts its calls.
    pub fn keep(&self, mut at: u64, mut bytes: &[u8], calls: &mut u64) -> Result<(), Fault> {
        let Sink::File(file) = self else { return Ok(()) };
        while !bytes.is_empty() {
            let (offset, room) = file.place(at);
            let (now, later) = bytes.split_at(bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
            *calls += 1;
            file.file.write_all_at(now, offset).map_err(|error| file.fault(error))?;
            at += now.len() as u64;
            bytes = later;
        }
        Ok(())
    }
}

impl FileSink {
    fn fault(&self, error: io::Error) -> Fault {
        Fault::Sink { name: self.name.clone(), error }
    }

    /// Where in the file payload byte `at` goes, and how many bytes fit before the part begins anew.
    fn place(&self, at: u64) -> (u64, u64) {
        let within = at % self.len;
        (self.base + within, self.len - within)
    }
}

/// Make a call that never blocks: `WouldBlock` is no error here, and a signal is no reason to stop.
fn moved(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<Moved> {
    loop {
        match call() {
            Ok(n) => return Ok(Moved::Bytes(n)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Moved::Blocked),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Why a method cannot send or receive through TLS: the kernel would have to encrypt, and this is what it says.
pub fn needs_kernel_tls() -> String {
    match crate::sys::ktls::probe() {
        Ok(()) => "needs kTLS: this kernel has it, this release of linerate does not use it yet".to_string(),
        Err(why) => format!("needs kTLS, which this kernel lacks (TCP_ULP: {why})"),
    }
}

/// Probe for what every supported kernel has.
fn always() -> Result<(), String> {
    Ok(())
}

/// Probe for splice, for either direction.
fn probe_splice() -> Result<(), String> {
    let probe = || -> io::Result<()> {
        let file = nix::sys::memfd::memfd_create(c"linerate-probe", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)?;
        nix::unistd::ftruncate(&file, 1)?;
        Pipe::new()?.fill_from_file(std::os::fd::AsFd::as_fd(&file), 0, 1).map(drop)
    };
    probe().map_err(|error| format!("splice: {error}"))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
