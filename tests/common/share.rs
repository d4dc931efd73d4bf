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
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
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

/// Read an answer; what is chunked is put together.
pub fn read_reply(from: &mut impl BufRead, is_head: bool) -> Reply {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no answer: {line:?}"));
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        from.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_string()));
    }
    let mut reply = Reply { status, headers, body: Vec::new() };
    if is_head || status == 204 || status == 304 {
        return reply;
    }
    if reply.header("transfer-encoding") == Some("chunked") {
        loop {
            let mut size = String::new();
            from.read_line(&mut size).unwrap();
            let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
            let mut chunk = vec![0; size + 2];
            from.read_exact(&mut chunk).unwrap();
            if size == 0 {
                return reply;
            }
            reply.body.extend_from_slice(&chunk[..size]);
        }
    }
    match reply.header("content-length").and_then(|length| length.parse::<u64>().ok()) {
        Some(length) => {
            let mut body = Vec::new();
            // What is cut is shorter: the test sees it.
            let _ = from.take(length).read_to_end(&mut body);
            reply.body = body;
        }
        None => drop(from.read_to_end(&mut reply.body)),
    }
    reply
}
