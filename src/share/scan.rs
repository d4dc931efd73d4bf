//! A virus scan by clamd: its `INSTREAM` command over a Unix socket or TCP, and what it answers.
//!
//! The file is sent in pieces with their lengths in front, which clamd looks at when it has all; nothing of it has to
//! be readable by clamd's user. Only `stream: OK` is clean. Whatever else comes, or does not come in time, is no
//! verdict. Files that are longer than ClamAV looks at are not sent: it would pass over them and call them clean.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::text::printable_limit;

/// The longest file that ClamAV looks at, whatever its limits are set to, bytes.
pub const BYTES_MAX: u64 = (2 << 30) - 1;
/// Scans at a time; more wait for their turn. clamd has 10 threads unless told otherwise.
const SCANS_MAX: usize = 4;
/// Bytes of a piece.
const PIECE_BYTES: usize = 128 << 10;
/// The longest answer.
const ANSWER_BYTES_MAX: u64 = 4096;
/// How long connecting and one piece may take.
const STEP_MAX: Duration = Duration::from_secs(30);
/// How long clamd may look at a file: its own limit is two minutes for one, and it may have others before.
const VERDICT_MAX: Duration = Duration::from_secs(600);
/// What is said of a name of a virus, characters.
const NAME_CHARS_MAX: usize = 80;
/// What clamd calls a file of which it looked at a part only, if it is told to say so.
const LIMITS: &str = "Heuristics.Limits.Exceeded";

/// Where clamd listens: `clamd:/run/clamav/clamd.ctl` or `clamd:host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scanner {
    /// A Unix socket.
    Unix(PathBuf),
    /// A host and a port, as `host:port`.
    Tcp(String),
}

/// What a scanner that is none looks like.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no scanner: write clamd:/run/clamav/clamd.ctl or clamd:host:port")]
pub struct UnknownScanner(String);

impl FromStr for Scanner {
    type Err = UnknownScanner;

    fn from_str(text: &str) -> Result<Scanner, UnknownScanner> {
        let unknown = || UnknownScanner(text.to_string());
        let place = text.strip_prefix("clamd:").ok_or_else(unknown)?;
        if place.starts_with('/') {
            return Ok(Scanner::Unix(place.into()));
        }
        let (host, port) = place.rsplit_once(':').ok_or_else(unknown)?;
        let is_port = port.parse::<u16>().is_ok_and(|port| port != 0);
        if host.is_empty() || !is_port { Err(unknown()) } else { Ok(Scanner::Tcp(place.to_string())) }
    }
}

impl fmt::Display for Scanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scanner::Unix(path) => write!(f, "clamd:{}", path.display()),
            Scanner::Tcp(place) => write!(f, "clamd:{place}"),
        }
    }
}

/// What a scan came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All of it was looked at, and nothing found.
    Clean,
    /// This was found.
    Infected(String),
    /// It could not be looked at, for this reason.
    NotScanned(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Clean => f.write_str("clean"),
            Verdict::Infected(name) => write!(f, "infected: {name}"),
            Verdict::NotScanned(why) => write!(f, "not scanned: {why}"),
        }
    }
}

/// A clamd that looks at files, a few at a time.
#[derive(Debug)]
pub struct Clamd {
    scanner: Scanner,
    turns: Semaphore,
}

impl Clamd {
    /// Whether it is there is not looked at.
    pub fn new(scanner: Scanner) -> Clamd {
        Clamd { scanner, turns: Semaphore::new(SCANS_MAX) }
    }

    /// Ask whether it is there.
    pub async fn ping(&self) -> io::Result<()> {
        let mut stream = self.connect().await?;
        let answer = within(STEP_MAX, async {
            stream.write_all(b"zPING\0").await?;
            answer_of(&mut stream).await
        });
        match answer.await?.as_slice() {
            b"PONG" => Ok(()),
            other => Err(io::Error::other(format!("answered {}", printable_limit(other, NAME_CHARS_MAX)))),
        }
    }

    /// Have it look at the first `len` bytes of a file.
    pub async fn scan(&self, file: Arc<File>, len: u64) -> Verdict {
        if len > BYTES_MAX {
            return Verdict::NotScanned("longer than ClamAV looks at".to_string());
        }
        let Ok(_turn) = self.turns.acquire().await else {
            return Verdict::NotScanned("the share ends".to_string());
        };
        match self.ask(file, len).await {
            Ok(answer) => verdict(&answer),
            // Visitors read this too, and where the scanner is found is none of their business.
            Err(error) => Verdict::NotScanned(format!("the scanner does not answer: {error}")),
        }
    }

    async fn ask(&self, file: Arc<File>, len: u64) -> io::Result<Vec<u8>> {
        let mut stream = self.connect().await?;
        // It may answer, and hang up, before it has all: then its answer is what counts, not that sending failed.
        let sent = send(&mut stream, file, len).await;
        let answer = within(VERDICT_MAX, answer_of(&mut stream)).await;
        match (sent, answer) {
            // Something else than all of the file was sent: no verdict about that is one about the file.
            (Err(error), Ok(answer)) if answer.ends_with(b"OK") || answer.is_empty() => Err(error),
            (_, Ok(answer)) => Ok(answer),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        within(STEP_MAX, async {
            Ok(match &self.scanner {
                Scanner::Unix(path) => Box::new(UnixStream::connect(path).await?) as Box<dyn Stream>,
                Scanner::Tcp(place) => Box::new(TcpStream::connect(place).await?),
            })
        })
        .await
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

async fn within<T>(limit: Duration, act: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, act).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn send(stream: &mut Box<dyn Stream>, file: Arc<File>, len: u64) -> io::Result<()> {
    within(STEP_MAX, stream.write_all(b"zINSTREAM\0")).await?;
    let (mut at, mut buffer) = (0, vec![0; PIECE_BYTES]);
    while at < len {
        let wanted = usize::try_from(len - at).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        let from = file.clone();
        buffer = tokio::task::spawn_blocking(move || {
            from.read_exact_at(&mut buffer[..wanted], at)?;
            Ok::<_, io::Error>(buffer)
        })
        .await??;
        let head = u32::try_from(wanted).unwrap_or(u32::MAX).to_be_bytes();
        within(STEP_MAX, async {
            stream.write_all(&head).await?;
            stream.write_all(&buffer[..wanted]).await
        })
        .await?;
        at += wanted as u64;
    }
    within(STEP_MAX, async {
        stream.write_all(&[0; 4]).await?;
        stream.flush().await
    })
    .await
}

/// One answer, without the NUL at its end. One that does not end is none.
async fn answer_of(stream: &mut Box<dyn Stream>) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    match answer.iter().position(|byte| *byte == 0) {
        Some(end) => {
            answer.truncate(end);
            Ok(answer)
        }
        None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "hung up without an answer")),
    }
}

/// What an answer means: `stream: OK`, `stream: Eicar-Signature FOUND`, `INSTREAM size limit exceeded. ERROR`.
fn verdict(answer: &[u8]) -> Verdict {
    let shown = printable_limit(answer, NAME_CHARS_MAX);
    let Some(found) = answer.strip_prefix(b"stream: ") else { return Verdict::NotScanned(shown) };
    if found == b"OK" {
        return Verdict::Clean;
    }
    match found.strip_suffix(b" FOUND") {
        Some(name) if name.starts_with(LIMITS.as_bytes()) => {
            Verdict::NotScanned("larger than clamd's limits".to_string())
        }
        Some(name) => Verdict::Infected(printable_limit(name, NAME_CHARS_MAX)),
        None => Verdict::NotScanned(shown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scanner_is_a_socket_or_a_host_with_a_port() {
        assert_eq!("clamd:/run/x".parse(), Ok(Scanner::Unix("/run/x".into())));
        for place in ["localhost:3310", "[::1]:3310", "192.0.2.1:1"] {
            let scanner: Scanner = format!("clamd:{place}").parse().unwrap();
            assert_eq!(scanner, Scanner::Tcp(place.to_string()));
            assert_eq!(scanner.to_string().parse(), Ok(scanner));
        }
        for wrong in ["", "clamd", "clamd:", "clamd:host", "clamd::1", "clamd:host:0", "clamd:host:70000", "/run/x"] {
            assert!(wrong.parse::<Scanner>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_ok_is_clean() {
        assert_eq!(verdict(b"stream: OK"), Verdict::Clean);
        assert_eq!(verdict(b"stream: Eicar FOUND"), Verdict::Infected("Eicar".to_string()));
        let limits: &[u8] = b"stream: Heuristics.Limits.Exceeded.MaxFileSize FOUND";
        for other in
            [&b""[..], b"OK", b"stream: ", b"stream: OK ", b"INSTREAM size limit exceeded. ERROR", b"\x1b[2J", limits]
        {
            assert!(matches!(verdict(other), Verdict::NotScanned(why) if !why.contains('\x1b')), "{other:?}");
        }
    }
}
