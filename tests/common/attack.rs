//! Requests to a share that no client would make, and all that comes back on their connection.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use super::share::Share;

/// What came back.
#[derive(Debug)]
pub struct Heard {
    /// Of each answer.
    pub statuses: Vec<u16>,
    /// All of it.
    pub text: String,
    /// The connection was kept for what followed.
    pub goes_on: bool,
}

/// What only a server answers that went on after what was sent before: nobody has to be let in for it.
pub fn canary(share: &Share) -> Vec<u8> {
    let host = share.authority();
    format!("GET /a/icon.svg HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").into_bytes()
}

/// Send these bytes and another request behind them, and hear what comes until the connection ends.
pub fn exchange(share: &Share, bytes: &[u8]) -> Heard {
    let mut stream = share.connect();
    // A server that has seen enough closes before it has read all.
    let _ = stream.write_all(&[bytes, &canary(share)].concat());
    let _ = stream.shutdown(Shutdown::Write);
    heard(&mut stream)
}

/// All that comes until the connection ends.
pub fn heard(stream: &mut TcpStream) -> Heard {
    let mut bytes = Vec::new();
    // A connection that is reset has ended, too; one that hangs has not.
    if let Err(error) = stream.read_to_end(&mut bytes) {
        assert!(!matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut), "it hangs");
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let statuses = text.match_indices("HTTP/1.").filter_map(|(at, _)| text.get(at + 9..at + 12)?.parse().ok());
    Heard { statuses: statuses.collect(), goes_on: text.contains("content-type: image/svg+xml"), text }
}

/// A request with these header lines as bytes, of a program that shows the token.
pub fn shown(share: &Share, line: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let bearer = share.bearer();
    share.bytes(line, &[&[bearer.as_str()], headers].concat(), body)
}
