//! The other end of a share, for programs: HTTPS to one server that is known by its fingerprint, as calls that wait.
//!
//! The protocol is hyper's and the encryption rustls', as on the serving side; here they run inside the thread that
//! calls, on a runtime of its own that does nothing while nobody waits. Whatever the server says is bounded: its
//! heads by hyper, its JSON by [`JSON_BYTES_MAX`], its silence by the [`Client::patience`].
//!
//! ```no_run
//! use linerate::share::client::{Client, link::Link};
//! use linerate::tls::client::Pin;
//! let link: Link = "https://192.0.2.1:5291/t/AAAAAAAAAAAAAAAAAAAAAA".parse()?;
//! let mut client = Client::open(&link, Pin::Anybody)?;
//! let about: serde_json::Value = client.get("/api/share")?.json()?;
//! client.post_json("/api/chat", &serde_json::json!({ "text": "hello", "nick": "me" }))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | file | what it holds |
//! |---|---|
//! | [`link`] | the link, as it is typed |
//! | [`put`] | files from here into a share |
//! | [`events`] | what happens there, as it happens |
//! | [`get`] | files and folders of a share, here |
//! | `hashes` | what the server says that files hash to |
//! | `partial` | a file that is not whole yet |
//! | `retry` | how long to wait before the next attempt |
//! | `error` | why it did not work |

pub mod events;
pub mod get;
pub mod link;
pub mod put;

mod error;
mod hashes;
mod partial;
mod retry;

use std::io::{self, Read};
use std::net::{TcpStream, ToSocketAddrs};
use std::pin::Pin as Pinned;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{self, HeaderName};
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;

pub use error::ClientError;
use link::Link;

use crate::proto::fingerprint::Fingerprint;
use crate::tls::client::{self as tls_client, Pin};
use crate::tls::{Ciphers, TlsError};

/// How long one address of a server may take to answer.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// How long TLS may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(15);
/// Most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;
/// How long a server may be silent unless told otherwise: events come with a comment every 15 s.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Most JSON of an answer; a full page of a listing with long names is smaller.
pub const JSON_BYTES_MAX: usize = 32 << 20;
/// Most of an answer that says why not.
const WHY_BYTES_MAX: usize = 64 << 10;
/// What is left of an answer that nobody wants is read, if it is so little, to keep the connection.
const DRAINED_BYTES_MAX: u64 = 64 << 10;
/// Headers of an answer, and bytes of its head.
const HEADERS_MAX: usize = 100;
const HEAD_BYTES_MAX: usize = 64 << 10;
/// What a program calls itself.
const AGENT: &str = concat!("linerate/", env!("CARGO_PKG_VERSION"));

/// A connection to a share, made anew when it is lost between two requests.
pub struct Client {
    runtime: Runtime,
    link: Link,
    tls: Option<Arc<ClientConfig>>,
    sender: Option<SendRequest<Body>>,
    session: Option<HeaderValue>,
    fingerprint: Option<Fingerprint>,
    /// How long the server may be silent.
    pub patience: Duration,
}

impl Client {
    /// Connect to the server of a link. Nothing is sent yet, the token neither.
    pub fn open(link: &Link, pin: Pin) -> Result<Client, ClientError> {
        let tls = match link.is_https {
            true => Some(tls_client::web_config(&Ciphers::of_this_machine(), pin).map_err(ClientError::Tls)?),
            false => None,
        };
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ClientError::System)?;
        let link = link.clone();
        let (sender, session, fingerprint) = (None, None, None);
        let mut client = Client { runtime, link, tls, sender, session, fingerprint, patience: PATIENCE };
        client.connect()?;
        Ok(client)
    }

    /// Another connection of the same visitor to the same server.
    pub fn again(&self) -> Result<Client, ClientError> {
        let pin = self.fingerprint.map_or(Pin::Anybody, Pin::Exactly);
        let mut other = Client::open(&self.link, pin)?;
        (other.session, other.patience) = (self.session.clone(), self.patience);
        Ok(other)
    }

    /// Where it leads.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// The fingerprint of the server's certificate; nothing in the clear.
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.fingerprint
    }

    /// Come in by the password: from then on this is a session, as that of a browser.
    pub fn log_in(&mut self, password: &str) -> Result<(), ClientError> {
        let form = form(&[("password", password), ("link", &self.link.token.encode())]);
        let head = [(header::CONTENT_TYPE, "application/x-www-form-urlencoded")];
        let reply = self.request(Method::POST, "/login", &head, Bytes::from(form))?;
        if reply.status() == StatusCode::FORBIDDEN {
            // The page for people that comes with it is not for programs.
            return Err(ClientError::refused(StatusCode::FORBIDDEN, Some("the password is wrong")));
        }
        let reply = reply.checked()?;
        let cookies = reply.headers().get_all(header::SET_COOKIE).iter();
        let mut pairs = cookies.filter_map(|cookie| cookie.to_str().ok()?.split(';').next());
        let ours = pairs.find(|pair| pair.starts_with("lr"));
        let session = ours.and_then(|pair| HeaderValue::from_str(pair).ok());
        let session = session.ok_or(ClientError::Lies("it takes the password and gives no session"))?;
        drop(reply);
        self.session = Some(session);
        Ok(())
    }

    /// Get what a path leads to; an answer that is an error is one. The path begins with `/` and is encoded.
    pub fn get(&mut self, path: &str) -> Result<Reply<'_>, ClientError> {
        self.request(Method::GET, path, &[], Bytes::new())?.checked()
    }

    /// Send something as JSON.
    pub fn post_json(&mut self, path: &str, body: &impl Serialize) -> Result<Reply<'_>, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| ClientError::System(error.into()))?;
        let head = [(header::CONTENT_TYPE, "application/json")];
        self.request(Method::POST, path, &head, Bytes::from(body))?.checked()
    }

    /// Send any request and give back any answer.
    pub fn request(
        &mut self,
        method: Method,
        path: &str,
        head: &[(HeaderName, &str)],
        body: Bytes,
    ) -> Result<Reply<'_>, ClientError> {
        let is_kept = self.is_ready();
        let mut answer = self.send(&method, path, head, body.clone());
        // A connection that was kept may have been closed by the server meanwhile; what changes nothing is asked again.
        let changes_nothing = matches!(method, Method::GET | Method::HEAD);
        if is_kept && changes_nothing && matches!(answer, Err(ClientError::Lost(_))) {
            self.sender = None;
            answer = self.send(&method, path, head, body);
        }
        match answer {
            Ok(answer) => {
                let (head, body) = answer.into_parts();
                Ok(Reply { client: self, status: head.status, headers: head.headers, body, piece: Bytes::new() })
            }
            Err(error) => {
                self.sender = None;
                Err(error)
            }
        }
    }

    /// Whether a connection of before may be used again.
    fn is_ready(&mut self) -> bool {
        let Some(sender) = &mut self.sender else { return false };
        let ready = self.runtime.block_on(async {
            tokio::task::yield_now().await;
            tokio::time::timeout(Duration::from_millis(200), sender.ready()).await
        });
        let is_ready = matches!(ready, Ok(Ok(())));
        if !is_ready {
            self.sender = None;
        }
        is_ready
    }

    fn send(
        &mut self,
        method: &Method,
        path: &str,
        head: &[(HeaderName, &str)],
        body: Bytes,
    ) -> Result<Response<Incoming>, ClientError> {
        if self.sender.is_none() {
            self.connect()?;
        }
        let mut request = Request::new(if body.is_empty() { Body::empty() } else { Body::from(body) });
        *request.method_mut() = method.clone();
        *request.uri_mut() = path.parse().map_err(|_| ClientError::Lies("it names a path that is none"))?;
        self.fill(request.headers_mut(), head)?;
        let Some(sender) = &mut self.sender else { return Err(ClientError::Lies("there is no connection")) };
        let patience = self.patience;
        self.runtime.block_on(async {
            match tokio::time::timeout(patience, sender.send_request(request)).await {
                Ok(answer) => answer.map_err(of_hyper),
                Err(_) => Err(ClientError::Silent(patience)),
            }
        })
    }

    fn fill(&self, headers: &mut HeaderMap, head: &[(HeaderName, &str)]) -> Result<(), ClientError> {
        let value = |text: &str| HeaderValue::from_str(text).map_err(|_| ClientError::Lies("it names a bad value"));
        headers.insert(header::HOST, value(&self.link.authority())?);
        headers.insert(header::USER_AGENT, HeaderValue::from_static(AGENT));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        // What changes something must come from the share itself, whoever shows a cookie.
        headers.insert(header::ORIGIN, value(&self.link.origin())?);
        match &self.session {
            Some(cookie) => headers.insert(header::COOKIE, cookie.clone()),
            None => {
                let mut bearer = value(&format!("Bearer {}", self.link.token.encode()))?;
                bearer.set_sensitive(true);
                headers.insert(header::AUTHORIZATION, bearer)
            }
        };
        for (name, text) in head {
            headers.insert(name, value(text)?);
        }
        Ok(())
    }

    fn connect(&mut self) -> Result<(), ClientError> {
        let stream = dial(&self.link)?;
        let name = tls_client::nominal_name().map_err(ClientError::Tls)?;
        let tls = self.tls.clone();
        let (sender, fingerprint) = self.runtime.block_on(async {
            let stream = tokio::net::TcpStream::from_std(stream).map_err(ClientError::System)?;
            let Some(tls) = tls else { return Ok::<_, ClientError>((speak(stream).await?, None)) };
            let connected = tokio_rustls::TlsConnector::from(tls).connect(name, stream);
            let connected = tokio::time::timeout(HANDSHAKE_MAX, connected).await;
            let stream = connected.map_err(|_| ClientError::Silent(HANDSHAKE_MAX))?.map_err(of_handshake)?;
            let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let fingerprint = shown.map(|certificate| Fingerprint::of_certificate(certificate));
            Ok((speak(stream).await?, fingerprint))
        })?;
        (self.sender, self.fingerprint) = (Some(sender), fingerprint);
        Ok(())
    }
}

/// Never with what lets in.
impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("link", &self.link)
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

/// Begin HTTP on a connection; the runtime moves it whenever somebody waits.
async fn speak<S>(stream: S) -> Result<SendRequest<Body>, ClientError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.max_headers(HEADERS_MAX).max_buf_size(HEAD_BYTES_MAX.max(512 << 10));
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(of_hyper)?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the connection to a share ended");
        }
    });
    Ok(sender)
}

/// Connect to the first address that answers.
fn dial(link: &Link) -> Result<TcpStream, ClientError> {
    let unreachable = |error| ClientError::Unreachable { authority: link.authority(), error };
    let addresses = (link.host.as_str(), link.port).to_socket_addrs().map_err(unreachable)?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses.take(ADDRESSES_MAX) {
        match TcpStream::connect_timeout(&address, CONNECT_MAX) {
            Ok(stream) => {
                stream.set_nodelay(true).and_then(|()| stream.set_nonblocking(true)).map_err(ClientError::System)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(unreachable(last))
}

fn of_handshake(error: io::Error) -> ClientError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).cloned();
    match inner.map(crate::tls::explain) {
        Some(TlsError::Fingerprint { expected, found }) => ClientError::Fingerprint { expected, found },
        Some(TlsError::NotLinerate | TlsError::Incompatible(_)) => ClientError::NoShare,
        Some(TlsError::Protocol(rustls::Error::InvalidMessage(_))) => ClientError::NoShare,
        Some(error) => ClientError::Tls(error),
        None => ClientError::Lost(error),
    }
}

fn of_hyper(error: hyper::Error) -> ClientError {
    if error.is_parse() {
        return ClientError::Lies("what it answers is no HTTP");
    }
    ClientError::Lost(io::Error::other(error))
}

/// Pairs as a form sends them.
fn form(pairs: &[(&str, &str)]) -> String {
    let encode = |text: &str| crate::share::path::encode_name(text.as_bytes());
    pairs.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect::<Vec<_>>().join("&")
}

/// An answer, whose body is read as it comes. What is not read costs the connection, not more.
pub struct Reply<'a> {
    client: &'a mut Client,
    status: StatusCode,
    headers: HeaderMap,
    body: Incoming,
    piece: Bytes,
}

impl Reply<'_> {
    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Its headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// A header as text.
    pub fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// How long the body will be, if the server says it.
    pub fn length(&self) -> Option<u64> {
        self.header(header::CONTENT_LENGTH)?.parse().ok()
    }

    /// The next piece of the body as it came; nothing at its end.
    pub fn piece(&mut self) -> Result<Option<Bytes>, ClientError> {
        if !self.piece.is_empty() {
            return Ok(Some(std::mem::take(&mut self.piece)));
        }
        let (body, patience) = (&mut self.body, self.client.patience);
        self.client.runtime.block_on(async {
            loop {
                let next = std::future::poll_fn(|cx| Pinned::new(&mut *body).poll_frame(cx));
                let next = tokio::time::timeout(patience, next).await.map_err(|_| ClientError::Silent(patience))?;
                let Some(frame) = next else { return Ok(None) };
                match frame.map_err(of_hyper)?.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => return Ok(Some(data)),
                    Err(_trailers) => {}
                }
            }
        })
    }

    /// All of the body, if it is not longer than that.
    pub fn whole(&mut self, bytes_max: usize) -> Result<Vec<u8>, ClientError> {
        let mut all = Vec::new();
        while let Some(piece) = self.piece()? {
            if all.len() + piece.len() > bytes_max {
                return Err(ClientError::Lies("it answers more than anybody asked for"));
            }
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }

    /// The body as JSON.
    pub fn json<T: DeserializeOwned>(mut self) -> Result<T, ClientError> {
        let is_json = self.header(header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/json"));
        if !is_json {
            return Err(ClientError::Lies("it does not answer as a share does"));
        }
        let bytes = self.whole(JSON_BYTES_MAX)?;
        serde_json::from_slice(&bytes).map_err(|_| ClientError::Lies("it does not answer as a share does"))
    }

    /// An answer that is an error becomes one, with what the server says about it.
    pub fn checked(mut self) -> Result<Self, ClientError> {
        if self.status.is_success() {
            return Ok(self);
        }
        let status = self.status;
        #[derive(serde::Deserialize)]
        struct Why {
            error: String,
        }
        let why = self.whole(WHY_BYTES_MAX).ok().and_then(|body| serde_json::from_slice::<Why>(&body).ok());
        Err(ClientError::refused(status, why.map(|why| why.error).as_deref()))
    }

    /// Read what is left, if it is little, so that the connection can be used again.
    pub fn finish(mut self) -> Result<(), ClientError> {
        if self.length().is_some_and(|length| length <= DRAINED_BYTES_MAX) {
            while self.piece()?.is_some() {}
        }
        Ok(())
    }
}

impl Read for Reply<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let Some(mut piece) = self.piece().map_err(io::Error::other)? else { return Ok(0) };
        let taken = piece.split_to(piece.len().min(to.len()));
        to[..taken.len()].copy_from_slice(&taken);
        self.piece = piece;
        Ok(taken.len())
    }
}
