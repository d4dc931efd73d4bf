//! One visitor: as cheap as can be, since very many of them share this process and its thread.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use linerate::tls::Ciphers;
use linerate::tls::client::{Pin, nominal_name, web_config};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsConnector;

use crate::servers::Server;

/// How often a slow one reads a little.
const STEP: Duration = Duration::from_millis(250);
/// Longest head of an answer.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// How somebody comes.
pub struct Visitor {
    to: SocketAddr,
    from: SocketAddr,
    link: String,
    tls: Option<TlsConnector>,
}

trait Both: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Both for T {}

/// What follows the head of an answer.
pub struct Body {
    stream: Box<dyn Both>,
    head: String,
}

impl Visitor {
    /// The one with this number has an address of its own in 127.0.0.0/8.
    pub fn new(server: &Server, is_secure: bool, number: usize) -> anyhow::Result<Visitor> {
        let (scheme, rest) = server.link.split_once("://").context("the link has no scheme")?;
        let (host, path) = rest.split_once('/').context("the link has no path")?;
        anyhow::ensure!(is_secure == (scheme == "https"), "the server speaks {scheme}");
        let from = Ipv4Addr::new(127, 1, (number / 250) as u8, (number % 250 + 1) as u8);
        // Each has a configuration of its own, as strangers do.
        let tls = is_secure.then(|| web_config(&Ciphers::of_this_machine(), Pin::Anybody)).transpose()?;
        let link = format!("/{path}");
        Ok(Visitor { to: host.parse()?, from: (from, 0).into(), link, tls: tls.map(TlsConnector::from) })
    }

    /// Open the link; the session.
    pub async fn enter(&self) -> anyhow::Result<String> {
        let body = self.ask(&self.link, "").await?;
        let line = body.head.lines().find(|line| line.to_ascii_lowercase().starts_with("set-cookie:"));
        let cookie =
            line.and_then(|line| line.split_once(':')?.1.split(';').next()).context("the link gives no session")?;
        Ok(cookie.trim().to_owned())
    }

    /// Ask for something, in a connection of its own.
    pub async fn get(&self, target: &str, session: &str) -> anyhow::Result<Body> {
        self.ask(target, &format!("Cookie: {session}\r\n")).await
    }

    async fn ask(&self, target: &str, headers: &str) -> anyhow::Result<Body> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(self.from)?;
        let stream = socket.connect(self.to).await?;
        let mut stream: Box<dyn Both> = match &self.tls {
            Some(tls) => Box::new(tls.connect(nominal_name()?, stream).await?),
            None => Box::new(stream),
        };
        let request = format!("GET {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}\r\n", self.to);
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let mut head = Vec::new();
        while !head.windows(4).any(|four| four == b"\r\n\r\n") {
            anyhow::ensure!(head.len() < HEAD_BYTES_MAX, "{target}: the head does not end");
            let n = stream.read_buf(&mut head).await?;
            anyhow::ensure!(n > 0, "{target}: no answer");
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        anyhow::ensure!(head.starts_with("HTTP/1.1 200 "), "{target}: {}", head.lines().next().unwrap_or_default());
        Ok(Body { stream, head })
    }
}

impl Body {
    /// Read to the end, as it comes.
    pub async fn read_all(&mut self) -> anyhow::Result<()> {
        let mut buffer = [0; 2048];
        loop {
            match self.stream.read(&mut buffer).await {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Read so many bytes a second; what was read is counted.
    pub async fn read_slowly(&mut self, bytes_per_s: u64, got: &Arc<AtomicU64>) -> anyhow::Result<()> {
        let part = bytes_per_s as usize * STEP.as_millis() as usize / 1000;
        let mut due = Instant::now();
        loop {
            due += STEP;
            sleep_until(due).await;
            let mut buffer = vec![0; part];
            let n = self.stream.read_exact(&mut buffer).await?;
            got.fetch_add(n as u64, Ordering::Relaxed);
        }
    }
}
