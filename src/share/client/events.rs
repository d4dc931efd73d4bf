//! The events of a share, as they come: `text/event-stream`, read piece by piece, whatever the server sends bounded.

use axum::body::Bytes;
use axum::http::{HeaderName, Method};
use serde_json::Value;

use super::{Client, ClientError};
use crate::share::path;

/// Longest line of a stream; the longest message, with every character escaped, is shorter.
const LINE_BYTES_MAX: usize = 256 << 10;
/// Longest event, all its lines together.
const EVENT_BYTES_MAX: usize = 512 << 10;

/// Something that happened on a share. Texts are the server's: they are not safe to be shown as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The first: who we are there.
    Hello {
        /// Our number in what is said.
        you: String,
        /// Our name.
        nick: String,
    },
    /// Who is here, by name.
    Who(Vec<String>),
    /// Somebody said something.
    Chat {
        /// Counts up.
        number: u64,
        /// Whose.
        from: String,
        /// His name.
        nick: String,
        /// What.
        text: String,
    },
    /// The share has ended.
    Bye,
}

/// Listen until the stream ends, or `hear` has enough and gives false. `seen` is the last message that is known.
pub fn listen(
    client: &mut Client,
    nick: &str,
    seen: u64,
    mut hear: impl FnMut(Heard) -> bool,
) -> Result<(), ClientError> {
    let target = format!("/api/events?nick={}", path::encode_name(nick.as_bytes()));
    let seen = seen.to_string();
    let head = [(HeaderName::from_static("last-event-id"), seen.as_str())];
    let mut reply = client.request(Method::GET, &target, &head, Bytes::new())?.checked()?;
    let mut parser = Parser::default();
    while let Some(piece) = reply.piece()? {
        for heard in parser.push(&piece)? {
            if !hear(heard) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Lines of a stream, put together to events.
#[derive(Debug, Default)]
struct Parser {
    line: Vec<u8>,
    name: String,
    data: String,
}

impl Parser {
    /// What is complete with these bytes.
    fn push(&mut self, bytes: &[u8]) -> Result<Vec<Heard>, ClientError> {
        let mut heard = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() + piece.len() > LINE_BYTES_MAX {
                return Err(ClientError::Lies("one of its events has no end"));
            }
            self.line.extend_from_slice(piece);
            if !piece.ends_with(b"\n") {
                break;
            }
            let line = std::mem::take(&mut self.line);
            let line = String::from_utf8_lossy(&line);
            self.take(line.trim_end_matches(['\r', '\n']), &mut heard)?;
        }
        Ok(heard)
    }

    fn take(&mut self, line: &str, heard: &mut Vec<Heard>) -> Result<(), ClientError> {
        if line.is_empty() {
            let (name, data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
            heard.extend(read(&name, &data));
            return Ok(());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.name = value.to_string(),
            "data" if self.data.len() + value.len() > EVENT_BYTES_MAX => {
                return Err(ClientError::Lies("one of its events has no end"));
            }
            "data" => self.data.push_str(value),
            // Comments, numbers and what later versions add.
            _ => {}
        }
        Ok(())
    }
}

/// What an event says; nothing for one that is not known, or not what it should be.
fn read(name: &str, data: &str) -> Option<Heard> {
    let data: Value = serde_json::from_str(data).ok()?;
    let text = |name: &str| data[name].as_str().map(str::to_string);
    Some(match name {
        "hello" => Heard::Hello { you: text("you")?, nick: text("nick")? },
        "who" => {
            let people = data["people"].as_array()?.iter();
            Heard::Who(people.filter_map(|person| person["nick"].as_str().map(str::to_string)).collect())
        }
        "chat" => {
            Heard::Chat { number: data["n"].as_u64()?, from: text("from")?, nick: text("nick")?, text: text("text")? }
        }
        "bye" => Heard::Bye,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "retry: 2000\nevent: hello\ndata: {\"you\":\"v1\",\"nick\":\"Ann\"}\n\n: here\n\nid: 7\r\nevent: chat\r\n\
                          data: {\"n\":7,\"from\":\"v2\",\"nick\":\"ü\",\r\ndata: \"text\":\"a\\nb\"}\r\n\r\n\
                          event: later\ndata: {}\n\nevent: chat\ndata: {\n\nevent: who\ndata: {\"people\":[{\"nick\":\"Ann\"},5]}\n\n\
                          event: bye\ndata: {}\n\nevent: chat\n";

    #[test]
    fn a_stream_is_read_however_it_is_cut() {
        let expected = [
            Heard::Hello { you: "v1".to_string(), nick: "Ann".to_string() },
            Heard::Chat { number: 7, from: "v2".to_string(), nick: "ü".to_string(), text: "a\nb".to_string() },
            Heard::Who(vec!["Ann".to_string()]),
            Heard::Bye,
        ];
        for len in 1..STREAM.len() {
            let mut parser = Parser::default();
            let pieces = STREAM.as_bytes().chunks(len);
            let heard: Vec<Heard> = pieces.flat_map(|piece| parser.push(piece).unwrap()).collect();
            assert_eq!(heard, expected, "{len}");
        }
    }

    #[test]
    fn a_stream_without_end_is_cut() {
        let mut parser = Parser::default();
        let mut pushed = (0..100).map(|_| parser.push(&[b'x'; 64 << 10]));
        assert!(pushed.any(|pushed| matches!(pushed, Err(ClientError::Lies(_)))));
        let mut parser = Parser::default();
        let line = format!("data: {}\n", "x".repeat(100 << 10));
        assert!((0..100).any(|_| parser.push(line.as_bytes()).is_err()));
    }
}
