//! A `linerate share` of the test's own over plain HTTP, and requests to it that no client would make.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};

use super::{PATIENCE, linerate};

/// The program, ended with the test.
pub struct Share {
    /// `http://127.0.0.1:PORT`
    pub origin: String,
    /// The link's.
    pub token: String,
    child: std::process::Child,
    lines: Receiver<String>,
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
    /// Without chunks.
    pub body: Vec<u8>,
    /// Whether it came to its end, by its length or last chunk.
    pub is_whole: bool,
}

impl Reply {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Share {
    /// Share `dir` over plain HTTP on a free port.
    pub fn start(args: &[&str], dir: &Path) -> Share {
        let mut command = linerate(["share", "--http", "--listen", "127.0.0.1:0"]);
        command.args(args).arg(dir);
        let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let (said, lines) = channel();
        let stdout = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in std::io::BufRead::lines(std::io::BufReader::new(stdout)).map_while(Result::ok) {
                let _ = said.send(line);
            }
        });
        let mut share = Share { origin: String::new(), token: String::new(), child, lines };
        loop {
            let line = share.lines.recv_timeout(PATIENCE).expect("the share does not get ready");
            let link = line.split_whitespace().find(|word| word.starts_with("http://") && word.contains("/t/"));
            if let Some((origin, token)) = link.and_then(|link| link.split_once("/t/")) {
                (share.origin, share.token) = (origin.to_string(), token.to_string());
                return share;
            }
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.host().parse().unwrap()
    }

    /// As the Host header has it.
    pub fn host(&self) -> &str {
        self.origin.trim_start_matches("http://")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A connection with which nothing was said.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Send these bytes as they are, and read one answer.
    pub fn http(&self, request_head_and_body: &[u8]) -> Reply {
        let mut stream = self.connect();
        // Whoever refuses a request need not read all of it.
        let _ = stream.write_all(request_head_and_body);
        read_reply(&mut stream, request_head_and_body.starts_with(b"HEAD"))
    }

    /// The head of a request of one who shows the token.
    pub fn head(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> String {
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", self.host());
        head.push_str(&format!("Authorization: Bearer {}\r\n", self.token));
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        head + "\r\n"
    }

    pub fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Reply {
        self.http(self.head(method, target, headers).as_bytes())
    }

    pub fn get(&self, target: &str) -> Reply {
        self.ask("GET", target, &[])
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Read an answer to its end, or as far as it comes.
pub fn read_reply(stream: &mut TcpStream, is_head: bool) -> Reply {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if !read_more(stream, &mut bytes) {
            return Reply { status: 0, headers: HashMap::new(), body: bytes, is_whole: false };
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut body = bytes.split_off(end + 4);
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or(0);
    let headers: HashMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_string()))
        .collect();
    let has_none = is_head || status == 304 || status == 204;
    let is_whole = if has_none {
        true
    } else if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
        let (whole, ended) = read_chunks(stream, body);
        body = whole;
        ended
    } else if let Some(len) = headers.get("content-length").and_then(|len| len.parse::<usize>().ok()) {
        while body.len() < len && read_more(stream, &mut body) {}
        body.len() == len
    } else {
        while read_more(stream, &mut body) {}
        true
    };
    Reply { status, headers, body, is_whole }
}

fn read_more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> bool {
    let mut buffer = vec![0; 1 << 16];
    match stream.read(&mut buffer) {
        Ok(0) | Err(_) => false,
        Ok(n) => {
            bytes.extend_from_slice(&buffer[..n]);
            true
        }
    }
}

fn read_chunks(stream: &mut TcpStream, mut bytes: Vec<u8>) -> (Vec<u8>, bool) {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let line = bytes[at..].windows(2).position(|two| two == b"\r\n");
        let len = line.map(|line| usize::from_str_radix(&String::from_utf8_lossy(&bytes[at..at + line]), 16).unwrap());
        match (line, len) {
            (Some(line), Some(len)) if bytes.len() >= at + line + 2 + len + 2 => {
                body.extend_from_slice(&bytes[at + line + 2..at + line + 2 + len]);
                at += line + 2 + len + 2;
                if len == 0 {
                    return (body, true);
                }
            }
            _ => {
                if !read_more(stream, &mut bytes) {
                    return (body, false);
                }
            }
        }
    }
}
