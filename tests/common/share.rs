//! `linerate share` in plain HTTP on 127.0.0.1, and a client that sends exactly the bytes it is given.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;

use super::{Done, PATIENCE, linerate, signal_process};

/// A share of the test's own, ended with the test.
pub struct Share {
    /// `http://127.0.0.1:PORT`.
    pub origin: String,
    /// What lets in.
    pub token: String,
    /// The first line of its standard output, where the link was found.
    pub first: String,
    child: Child,
    lines: Receiver<String>,
    stderr: Option<JoinHandle<String>>,
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// Without the marks of its chunks.
    pub body: Vec<u8>,
    /// Whether it came to its end, by its length or last chunk.
    pub is_whole: bool,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The value of that header; nothing where there is none.
    pub fn value(&self, name: &str) -> &str {
        self.header(name).unwrap_or_default()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Share {
    /// Share a folder with these arguments.
    pub fn start(args: &[&str], dir: &Path) -> Share {
        let mut command = linerate(["share", "--http", "--listen", "127.0.0.1:0"]);
        command.args(args).arg(dir);
        Share::by(&mut command)
    }

    /// By this command.
    pub fn by(command: &mut Command) -> Share {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut said = Vec::new();
            let _ = stderr.read_to_end(&mut said);
            String::from_utf8_lossy(&said).into_owned()
        });
        let (tell, lines) = channel();
        let stdout = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // A test that has what it wants closes its end, and so does this.
                if tell.send(line).is_err() {
                    break;
                }
            }
        });
        let (origin, token) = (String::new(), String::new());
        let mut share = Share { origin, token, first: String::new(), child, lines, stderr: Some(stderr) };
        let (line, link) = loop {
            let line = share.lines.recv_timeout(PATIENCE).expect("the share gives no link");
            let end = |c: char| c == '"' || c.is_whitespace();
            let begun = line.find("http").map(|at| line[at..].split(end).next().unwrap_or_default().to_string());
            if let Some(link) = begun.filter(|link| link.contains("/t/")) {
                break (line, link);
            }
        };
        let (origin, token) = link.split_once("/t/").unwrap();
        (share.origin, share.token, share.first) = (origin.to_string(), token.to_string(), line);
        share
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `127.0.0.1:PORT`.
    pub fn authority(&self) -> &str {
        self.origin.split_once("://").unwrap().1
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.authority()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Send bytes, read until the server closes or the answer is whole.
    pub fn http(&self, request_head_and_body: &[u8]) -> Reply {
        let mut stream = self.connect();
        // A server that has seen enough may close before it has read all.
        let _ = stream.write_all(request_head_and_body);
        read_reply(&mut BufReader::new(stream), request_head_and_body.starts_with(b"HEAD "))
    }

    /// A request with these header lines.
    pub fn request(&self, line: &str, headers: &[&str], body: &[u8]) -> Reply {
        self.http(&self.bytes(line, headers, body))
    }

    /// Such a request as bytes.
    pub fn bytes(&self, line: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
        let mut head = format!("{line} HTTP/1.1\r\nHost: {}\r\n", self.authority());
        for header in headers {
            head += &format!("{header}\r\n");
        }
        if !body.is_empty() {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        [head.as_bytes(), b"\r\n", body].concat()
    }

    /// The head of a request of a program that shows the token.
    pub fn head(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> String {
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n{}\r\n", self.authority(), self.bearer());
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        head + "\r\n"
    }

    /// Such a request, without a body.
    pub fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Reply {
        self.http(self.head(method, target, headers).as_bytes())
    }

    pub fn get(&self, target: &str) -> Reply {
        self.ask("GET", target, &[])
    }

    /// Come in by the link: the header line with the session's cookie.
    pub fn enter(&self) -> String {
        let reply = self.request(&format!("GET /t/{}", self.token), &[], b"");
        assert_eq!(reply.status, 200, "{reply:?}");
        let cookie = reply.header("set-cookie").unwrap().split(';').next().unwrap().to_string();
        format!("Cookie: {cookie}")
    }

    /// The header line of a program that shows the token.
    pub fn bearer(&self) -> String {
        format!("Authorization: Bearer {}", self.token)
    }

    /// The next line of its standard output; nothing when it is closed.
    pub fn line(&self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("the share says nothing more"),
        }
    }

    /// Close the reading end of its standard output.
    pub fn close_stdout(&mut self) {
        self.lines = channel().1;
    }

    pub fn signal(&self, signal: i32) {
        signal_process(self.pid(), signal);
    }

    /// Wait for its end.
    pub fn wait(mut self) -> Done {
        let status = super::wait_bounded(&mut self.child);
        let stderr = self.stderr.take().map(|thread| thread.join().unwrap()).unwrap_or_default();
        let stdout = self.lines.iter().map(|line| line + "\n").collect();
        Done { code: status.code(), stdout, stderr }
    }

    /// End it as Ctrl-C does.
    pub fn end(self) -> Done {
        self.signal(libc::SIGINT);
        self.wait()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Read an answer, as far as it comes; what is chunked is put together. The status of none at all is 0.
pub fn read_reply(from: &mut impl BufRead, is_head: bool) -> Reply {
    let mut line = String::new();
    let _ = from.read_line(&mut line);
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        let _ = from.read_line(&mut line);
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_string()));
    }
    let mut reply = Reply { status, headers, body: Vec::new(), is_whole: status != 0 };
    if is_head || status == 204 || status == 304 {
        return reply;
    }
    if reply.header("transfer-encoding") == Some("chunked") {
        reply.is_whole = read_chunks(from, &mut reply.body).is_ok();
        return reply;
    }
    match reply.header("content-length").and_then(|length| length.parse::<u64>().ok()) {
        Some(length) => {
            let _ = from.take(length).read_to_end(&mut reply.body);
            reply.is_whole = reply.body.len() as u64 == length;
        }
        None => drop(from.read_to_end(&mut reply.body)),
    }
    reply
}

fn read_chunks(from: &mut impl BufRead, body: &mut Vec<u8>) -> std::io::Result<()> {
    loop {
        let mut size = String::new();
        from.read_line(&mut size)?;
        let size = usize::from_str_radix(size.trim(), 16).map_err(std::io::Error::other)?;
        let begun = body.len();
        body.resize(begun + size + 2, 0);
        let read = from.read_exact(&mut body[begun..]);
        body.truncate(begun + size);
        read?;
        if size == 0 {
            return Ok(());
        }
    }
}
