//! The sockets of a share: accepting, TLS, bounds on what a connection may cost, and the end.
//!
//! Everything else is HTTP/1.1 by hyper and the [`super::http`] router. A request for plain HTTP on a port that speaks
//! TLS is answered with where to go instead: people type addresses without a scheme.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::http::guard::Peer;
use super::http::router;
use super::hub;
use super::intake::tend;
use super::state::Share;
use super::watching;
use super::wire::{BUFFER_BYTES, Orders, Wire};
use crate::sys::limits;

/// Most connections at a time; of one address at most half as many as of all.
pub const CONNECTIONS_MAX: usize = 8192;
/// Descriptors of a connection: its own, and that of what it reads or writes.
const DESCRIPTORS_EACH: u64 = 2;
/// Descriptors of everything else.
const DESCRIPTORS_BESIDE: u64 = 64;
/// Open files where the system does not say how many there may be.
const DESCRIPTORS_USUAL: u64 = 1024;
/// Connections that may wait to be taken in: with the 128 of the standard library a crowd that comes at once waits for
/// its systems to try again.
const BACKLOG: i32 = 4096;
/// How long a newcomer may take to agree on TLS.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// How long the head of a request may take, and a connection may be idle between two.
const HEAD_MAX: Duration = Duration::from_secs(30);
/// Most headers of a request.
const HEADERS_MAX: usize = 64;
/// What cannot be sent for so long is sent to nobody.
const UNSENT_MAX: Duration = Duration::from_secs(120);
/// How long accepting rests when the system has no descriptor left.
const REST: Duration = Duration::from_millis(100);

/// How long those who listen to events have to take that it is over.
const BYE_MAX: Duration = Duration::from_secs(2);

/// What a share listens with.
pub struct Listening {
    /// Bound already.
    pub listeners: Vec<std::net::TcpListener>,
    /// Nothing for plain HTTP.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

/// Tells a share to end.
#[derive(Clone, Debug)]
pub struct Stop(watch::Sender<Phase>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    /// Nobody new; what runs may end.
    Ending,
    /// At once.
    Over,
}

impl Default for Stop {
    fn default() -> Stop {
        Stop(watch::Sender::new(Phase::Serving))
    }
}

impl Stop {
    /// Take nobody new, and end when what runs has ended.
    pub fn end(&self) {
        self.0.send_if_modified(|phase| {
            let changes = *phase == Phase::Serving;
            if changes {
                *phase = Phase::Ending;
            }
            changes
        });
    }

    /// End at once.
    pub fn now(&self) {
        self.0.send_replace(Phase::Over);
    }

    /// Wait until the share is to end.
    pub async fn ended(&self) {
        self.reached(|phase| phase != Phase::Serving).await;
    }

    async fn over(&self) {
        self.reached(|phase| phase == Phase::Over).await;
    }

    async fn reached(&self, is_there: impl Fn(Phase) -> bool) {
        let mut phase = self.0.subscribe();
        let _ = phase.wait_for(|phase| is_there(*phase)).await;
    }
}

/// How many connections there are, of each address.
#[derive(Debug)]
struct Counts {
    all_max: usize,
    there: Mutex<(usize, HashMap<IpAddr, usize>)>,
}

/// One of them.
struct Counted {
    counts: Arc<Counts>,
    address: IpAddr,
}

impl Counts {
    /// Bounded so that there is a descriptor for each, and one address cannot take them all.
    fn new(descriptors: u64) -> Arc<Counts> {
        let fit = descriptors.saturating_sub(DESCRIPTORS_BESIDE) / DESCRIPTORS_EACH;
        let all_max = usize::try_from(fit).unwrap_or(CONNECTIONS_MAX).clamp(2, CONNECTIONS_MAX);
        Arc::new(Counts { all_max, there: Mutex::default() })
    }

    /// Count one more; nothing if that were too many.
    fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Counted> {
        let mut counts = self.there.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = counts.1.get(&address).copied().unwrap_or(0);
        if counts.0 >= self.all_max || of_address >= self.all_max / 2 {
            return None;
        }
        counts.0 += 1;
        counts.1.insert(address, of_address + 1);
        Some(Counted { counts: self.clone(), address })
    }

    fn total(&self) -> usize {
        self.there.lock().unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.counts.there.lock().unwrap_or_else(PoisonError::into_inner);
        counts.0 -= 1;
        if let Some(of_address) = counts.1.get_mut(&self.address) {
            *of_address -= 1;
            if *of_address == 0 {
                counts.1.remove(&self.address);
            }
        }
    }
}

/// Serve until `stop` says otherwise and what ran then has ended.
pub async fn serve(share: Arc<Share>, listening: Listening, stop: Stop) -> io::Result<()> {
    tokio::spawn(tend(share.clone(), stop.clone()));
    let server = Server {
        router: router(share.clone()),
        share,
        tls: listening.tls.map(TlsAcceptor::from),
        counts: Counts::new(limits::raise_open_files().unwrap_or(DESCRIPTORS_USUAL)),
        stop,
    };
    let server = Arc::new(server);
    let mut accepting = JoinSet::new();
    let (share, stop) = (&server.share, &server.stop);
    accepting.spawn(hub::tend(share.clone(), share.notices.subscribe(), stop.clone()));
    if let Some(inotify) = watching::begin(share) {
        accepting.spawn(watching::tend(share.clone(), inotify, stop.clone()));
    }
    for listener in listening.listeners {
        listener.set_nonblocking(true)?;
        socket2::SockRef::from(&listener).listen(BACKLOG)?;
        let listener = TcpListener::from_std(listener)?;
        accepting.spawn(accept(server.clone(), listener));
    }
    while accepting.join_next().await.is_some() {}
    Ok(())
}

struct Server {
    router: Router,
    share: Arc<Share>,
    tls: Option<TlsAcceptor>,
    counts: Arc<Counts>,
    stop: Stop,
}

/// Take in whoever comes, and wait for all in the end.
async fn accept(server: Arc<Server>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = server.stop.ended() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => {
                    let address = from.ip().to_canonical();
                    if let Some(counted) = server.counts.enter(address) {
                        connections.spawn(connection(server.clone(), stream, from, counted));
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection was not accepted");
                    tokio::time::sleep(REST).await;
                }
            },
        }
    }
    drop(listener);
    tokio::select! {
        () = async { while connections.join_next().await.is_some() {} } => {}
        () = server.only_listeners() => {}
        () = server.stop.over() => {}
    }
}

impl Server {
    /// Wait until nobody is left but those who do not take that it is over: each of them has one event stream, which
    /// nobody waits for.
    async fn only_listeners(&self) {
        loop {
            tokio::time::sleep(BYE_MAX).await;
            if self.counts.total() <= self.share.hub.streams() {
                return;
            }
        }
    }
}

async fn connection(server: Arc<Server>, stream: TcpStream, from: SocketAddr, _counted: Counted) {
    let _ = stream.set_nodelay(true);
    let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(UNSENT_MAX));
    let Some(tls) = &server.tls else {
        let wire = Wire::new(stream);
        let orders = wire.orders();
        return speak(&server, wire, (from, Some(orders))).await;
    };
    let mut first = [0];
    let begun = tokio::time::timeout(HANDSHAKE_MAX, async {
        // The first byte of a TLS record that begins a handshake is 22; a method begins with a letter.
        match stream.peek(&mut first).await {
            Ok(1) if first[0].is_ascii_alphabetic() => Err(stream),
            _ => Ok(tls.accept(stream).await),
        }
    });
    match begun.await {
        Ok(Ok(Ok(stream))) => speak(&server, stream, (from, None)).await,
        Ok(Err(stream)) => show_the_way(&server, stream).await,
        // Whoever does not trust the certificate breaks off: nothing to tell.
        Ok(Ok(Err(_))) | Err(_) => {}
    }
}

fn protocol() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_MAX).max_headers(HEADERS_MAX).max_buf_size(BUFFER_BYTES);
    builder
}

async fn speak<S>(server: &Server, stream: S, (from, orders): (SocketAddr, Option<Orders>))
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = server.router.clone();
    let service = tower::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(from));
        if let Some(orders) = &orders {
            request.extensions_mut().insert(orders.clone());
        }
        tower::Service::call(&mut router.clone(), request.map(axum::body::Body::new))
    });
    let connection = protocol().serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    tokio::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = server.stop.ended() => connection.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        _ = connection => {}
        () = server.stop.over() => {}
    }
}

/// Answer plain HTTP with the same address by HTTPS.
async fn show_the_way(server: &Server, stream: TcpStream) {
    let share = server.share.clone();
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let known = share.about.meant(host);
        let mut response = Response::new(axum::body::Body::empty());
        // What was asked for came in the clear: whoever has it asks again. A link's token is not repeated.
        let target = known.and_then(|known| HeaderValue::from_str(&format!("https://{known}/")).ok());
        match target {
            Some(target) => {
                *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
                response.headers_mut().insert(header::LOCATION, target);
            }
            None => *response.status_mut() = StatusCode::MISDIRECTED_REQUEST,
        }
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        async move { Ok::<_, std::convert::Infallible>(response) }
    });
    let _ = protocol().serve_connection(TokioIo::new(stream), service).await;
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;
    use crate::share::activity::{Activity, Unseen};
    use crate::share::gate::{Gate, Policy, Secret};
    use crate::share::rights::Rights;
    use crate::share::state::About;
    use crate::share::tree::Tree;

    const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

    fn server() -> (tempfile::TempDir, Server) {
        let dir = tempfile::tempdir().unwrap();
        let token = Secret::draw().unwrap();
        let policy = Policy { token: token.clone(), rights: Rights::usual(), password: None, expires: None };
        let authorities = vec!["here:1".to_string()];
        let about =
            About { title: String::new(), host: String::new(), is_https: false, authorities: authorities.into() };
        let gate = (token, Gate::new(policy, std::time::Instant::now()));
        let tree = Tree::open(&[dir.path()], false).unwrap();
        let share = Arc::new(Share::new(tree, about, gate, Arc::new(Activity::new(Box::new(Unseen)))));
        let (router, counts, stop) = (router(share.clone()), Counts::new(1024), Stop::default());
        (dir, Server { router, share, tls: None, counts, stop })
    }

    #[tokio::test(start_paused = true)]
    async fn heads_that_do_not_come_or_trickle_are_not_waited_for() {
        let whole = "GET /a/icon.svg HTTP/1.1\r\nHost: here:1\r\n\r\n";
        for (begun, answer) in [("", ""), ("GET / HTTP/1.1\r\nHo", ""), (whole, "HTTP/1.1 200 ")] {
            let (_dir, server) = server();
            let (near, mut far) = duplex(1 << 16);
            far.write_all(begun.as_bytes()).await.unwrap();
            let since = tokio::time::Instant::now();
            speak(&server, near, (ADDRESS, None)).await;
            let took = since.elapsed();
            assert!((HEAD_MAX..HEAD_MAX * 2).contains(&took), "{begun:?}: {took:?}");
            let mut said = String::new();
            far.read_to_string(&mut said).await.unwrap();
            assert!(said.starts_with(answer) && !said.contains("HTTP/1.1 500"), "{begun:?}: {said}");
        }
        let (_dir, server) = server();
        let (near, mut far) = duplex(1 << 16);
        let trickle = async move {
            far.write_all(b"GET / HTTP/1.1\r\nX: ").await.unwrap();
            while far.write_all(b"x").await.is_ok() {
                tokio::time::sleep(HEAD_MAX / 10).await;
            }
        };
        let since = tokio::time::Instant::now();
        tokio::join!(speak(&server, near, (ADDRESS, None)), trickle);
        assert!(since.elapsed() < HEAD_MAX * 2);
    }

    #[test]
    fn an_address_takes_half_of_the_connections_that_there_are_descriptors_for() {
        for (descriptors, all) in [(0, 2), (1024, 480), (20_000, CONNECTIONS_MAX), (u64::MAX, CONNECTIONS_MAX)] {
            let counts = Counts::new(descriptors);
            let take = |n: u8| -> Vec<Counted> {
                let address = IpAddr::from([127, 0, 0, n]);
                std::iter::from_fn(|| counts.enter(address)).collect()
            };
            let (one, two) = (take(1), take(2));
            assert_eq!((one.len(), two.len(), counts.total()), (all / 2, all - all / 2, all));
            assert!(take(3).is_empty());
            drop(one);
            assert_eq!(take(3).len(), all / 2);
        }
    }
}
