//! Scripted peers: a blocking TLS connection for either end, and the session's messages said by hand, right or wrong.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use linerate::proto::message::{
    Direction, Hello, JobSpec, Message, Place, Quota, Reply, Request, SocketOptions, Transfer, Welcome, Work,
};
use linerate::proto::rights::Rights;
use linerate::proto::secret::Secret;
use linerate::proto::ticket::Ticket;
use linerate::proto::wire::{Join, PREFACE_BYTES, PROTOCOL_VERSION, Preface, Token};
use linerate::tls::client::Pin;
use linerate::tls::connection::{REST_BYTES_MAX, sealed_bytes_max};
use linerate::tls::{self, Ciphers, TlsConnection};
use linerate::trust::identity::Identity;

use super::PATIENCE;

/// Room to receive into.
const READ_BYTES: usize = REST_BYTES_MAX + (16 << 10);

/// One end of a TLS connection, in the hand of a test.
pub struct TlsPeer {
    pub sock: TcpStream,
    pub tls: TlsConnection,
    /// Plaintext that has come and was not taken.
    heard: Vec<u8>,
}

impl TlsPeer {
    /// Connect, and shake hands as a client.
    pub fn client(address: SocketAddr, pin: Pin) -> io::Result<TlsPeer> {
        let mut peer = TlsPeer::half_client(address, pin);
        peer.shake_hands()?;
        Ok(peer)
    }

    /// Connect, and say nothing yet; the ClientHello waits in `tls`.
    pub fn half_client(address: SocketAddr, pin: Pin) -> TlsPeer {
        let config = tls::client::config(&Ciphers::of_this_machine(), pin).unwrap();
        TlsPeer::over(dial(address), TlsConnection::client(config).unwrap())
    }

    /// Accept one connection, and shake hands as a server.
    pub fn server(listener: &TcpListener, identity: &Identity) -> io::Result<TlsPeer> {
        let (sock, _) = listener.accept()?;
        TlsPeer::server_over(sock, identity)
    }

    /// Shake hands as a server.
    pub fn server_over(sock: TcpStream, identity: &Identity) -> io::Result<TlsPeer> {
        let config = tls::server::config(&Ciphers::of_this_machine(), identity).unwrap();
        let mut peer = TlsPeer::over(sock, TlsConnection::server(config).unwrap());
        peer.shake_hands()?;
        Ok(peer)
    }

    fn over(sock: TcpStream, tls: TlsConnection) -> TlsPeer {
        sock.set_read_timeout(Some(PATIENCE)).unwrap();
        sock.set_write_timeout(Some(PATIENCE)).unwrap();
        sock.set_nodelay(true).unwrap();
        TlsPeer { sock, tls, heard: Vec::new() }
    }

    pub fn shake_hands(&mut self) -> io::Result<()> {
        self.flush()?;
        while self.tls.is_handshaking() {
            if !self.receive()? {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    /// What the protocol itself has to say.
    pub fn flush(&mut self) -> io::Result<()> {
        let waiting = self.tls.poll_transmit().to_vec();
        self.tls.handle_sent(waiting.len());
        self.sock.write_all(&waiting)
    }

    /// The records that say this.
    pub fn seal(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut sealed = vec![0; sealed_bytes_max(plain.len())];
        let n = self.tls.encrypt(plain, &mut sealed).unwrap();
        sealed.truncate(n);
        sealed
    }

    pub fn send_plain(&mut self, plain: &[u8]) -> io::Result<()> {
        self.flush()?;
        let sealed = self.seal(plain);
        self.sock.write_all(&sealed)
    }

    /// Bytes that are not encrypted, whatever the other end makes of them.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sock.write_all(bytes)
    }

    /// The plaintext that comes next; empty at the end.
    pub fn recv_plain(&mut self) -> io::Result<Vec<u8>> {
        while self.heard.is_empty() && self.receive()? {}
        Ok(std::mem::take(&mut self.heard))
    }

    /// Exactly so many bytes of plaintext.
    pub fn recv_exact(&mut self, bytes: usize) -> io::Result<Vec<u8>> {
        while self.heard.len() < bytes {
            if !self.receive()? {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        let rest = self.heard.split_off(bytes);
        Ok(std::mem::replace(&mut self.heard, rest))
    }

    /// All plaintext until the other end has enough, or this end of it.
    pub fn recv_to_the_end(mut self) -> Vec<u8> {
        while self.receive().unwrap_or_else(|error| panic!("the connection does not end: {error}")) {}
        self.heard
    }

    /// Say that nothing more comes.
    pub fn say_end(&mut self) {
        self.tls.close();
        let _ = self.flush();
        let _ = self.sock.shutdown(Shutdown::Write);
    }

    /// Whether something came; not at the end, which a reset is too.
    fn receive(&mut self) -> io::Result<bool> {
        let mut buffer = vec![0; READ_BYTES];
        let waiting = self.tls.carry_over(&mut buffer);
        let got = match self.sock.read(&mut buffer[waiting..]) {
            Ok(n) => n,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            Err(error) => return Err(error),
        };
        if got == 0 || self.tls.is_peer_closed() {
            return Ok(false);
        }
        let heard = &mut self.heard;
        let done = self.tls.handle_ciphertext(&mut buffer[..waiting + got], &mut |plain| heard.extend(plain));
        // Also the alert after a failure.
        let flushed = self.flush();
        done.map_err(io::Error::other)?;
        flushed?;
        Ok(true)
    }
}

/// A connection that waits no longer than a test may.
pub fn dial(address: SocketAddr) -> TcpStream {
    let sock = TcpStream::connect(address).unwrap();
    sock.set_read_timeout(Some(PATIENCE)).unwrap();
    sock
}

/// Read until the other end has enough.
pub fn read_to_the_end(mut sock: TcpStream) -> Vec<u8> {
    let mut got = Vec::new();
    match sock.read_to_end(&mut got) {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        result => {
            result.unwrap_or_else(|error| panic!("the connection does not end: {error}"));
        }
    }
    got
}

/// The first bytes of either side.
pub fn preface() -> Vec<u8> {
    Preface { version: PROTOCOL_VERSION }.encode().to_vec()
}

/// A message's body, and its length before it.
pub fn framed(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_le_bytes(), body].concat()
}

/// A message as it is sent.
pub fn said(message: &Message) -> Vec<u8> {
    framed(&postcard::to_stdvec(message).unwrap())
}

/// A request as it is sent.
pub fn asked(id: u32, body: Request) -> Vec<u8> {
    said(&Message::Request { id, body })
}

/// A hello with that secret, or a stranger's, as it is sent.
pub fn hello(secret: Option<Secret>) -> Vec<u8> {
    said(&Message::Hello(Hello { secret }))
}

/// A welcome that lets in for everything, as it is sent.
pub fn welcome() -> Vec<u8> {
    let rights = Rights::BENCH.union(Rights::READ).union(Rights::WRITE);
    said(&Message::Welcome(Welcome { rights, seconds_max: None }))
}

/// A client's session, message by message.
pub struct Talk {
    pub peer: TlsPeer,
    next: u32,
}

impl Talk {
    /// Shake hands, and hear the server's preface. Nothing is said yet inside TLS but ours.
    pub fn begin(address: SocketAddr, pin: Pin) -> Talk {
        let mut peer = TlsPeer::client(address, pin).unwrap();
        peer.send_plain(&preface()).unwrap();
        assert_eq!(peer.recv_exact(PREFACE_BYTES).unwrap(), preface());
        Talk { peer, next: 0 }
    }

    /// Say hello with a ticket; the server's answer.
    pub fn greet(address: SocketAddr, ticket: &Ticket) -> (Talk, Option<Message>) {
        let mut talk = Talk::begin(address, Pin::Exactly(ticket.fingerprint));
        talk.peer.send_plain(&hello(Some(ticket.secret.clone()))).unwrap();
        let answer = talk.hear();
        (talk, answer)
    }

    /// Be let in.
    pub fn open(address: SocketAddr, ticket: &Ticket) -> Talk {
        let (talk, answer) = Talk::greet(address, ticket);
        assert!(matches!(answer, Some(Message::Welcome(_))), "{answer:?}");
        talk
    }

    /// The next message; `None` at the end, however that came.
    pub fn hear(&mut self) -> Option<Message> {
        let length = self.next_bytes(4)?;
        let length = u32::from_le_bytes(length.try_into().unwrap());
        let body = self.next_bytes(length as usize)?;
        Some(postcard::from_bytes(&body).unwrap())
    }

    fn next_bytes(&mut self, bytes: usize) -> Option<Vec<u8>> {
        match self.peer.recv_exact(bytes) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("nothing comes, and no end either"),
            Err(_) => None,
        }
    }

    /// Say a message.
    pub fn say(&mut self, message: &Message) {
        self.peer.send_plain(&said(message)).unwrap();
    }

    /// Ask, without waiting for the answer.
    pub fn send(&mut self, body: Request) {
        self.next += 1;
        self.peer.send_plain(&asked(self.next, body)).unwrap();
    }

    /// Ask, and hear the answer.
    pub fn ask(&mut self, body: Request) -> Reply {
        self.send(body);
        match self.hear() {
            Some(Message::Reply { id, body }) if id == self.next => body,
            other => panic!("no reply but {other:?}"),
        }
    }

    /// A job, and the tokens of its streams.
    pub fn prepare(&mut self, spec: JobSpec) -> (u32, Vec<Token>) {
        match self.ask(Request::Prepare(Box::new(spec))) {
            Reply::Prepared { job, tokens } => (job, tokens),
            other => panic!("not prepared: {other:?}"),
        }
    }

    /// What a job's streams did wrong.
    pub fn faults(&mut self, job: u32) -> Vec<String> {
        match self.ask(Request::Sample(job)) {
            Reply::Sampled(sample) => sample.faults,
            other => panic!("no sample: {other:?}"),
        }
    }

    /// What the server takes for payload until now.
    pub fn received(&mut self, job: u32) -> u64 {
        match self.ask(Request::Sample(job)) {
            Reply::Sampled(sample) => sample.workers.iter().map(|worker| worker.received.bytes).sum(),
            other => panic!("no sample: {other:?}"),
        }
    }
}

/// A job of so many streams from the client, in the clear, into nothing.
pub fn sending_job(streams: u32) -> JobSpec {
    let transfer = Transfer {
        direction: Direction::Send,
        send: "write".to_string(),
        receive: "read".to_string(),
        chunk: 64 << 10,
        source: Place::Nothing,
        sink: Place::Nothing,
        quota: Quota::UntilStopped,
    };
    JobSpec {
        work: Work::Transfer(transfer),
        streams,
        options: SocketOptions::default(),
        workers: 1,
        cpus: Vec::new(),
        spin: false,
        tls: false,
    }
}

/// A data stream in the clear that shows a token.
pub fn join(address: SocketAddr, token: Token) -> TcpStream {
    let mut sock = dial(address);
    sock.write_all(&Join { token }.encode()).unwrap();
    sock
}

/// A data stream in TLS that shows a token.
pub fn join_in_tls(address: SocketAddr, pin: Pin, token: Token) -> TlsPeer {
    let mut peer = TlsPeer::client(address, pin).unwrap();
    peer.send_plain(&Join { token }.encode()).unwrap();
    peer
}

/// Whether the other end closes this connection, without having sent anything.
#[track_caller]
pub fn is_closed_in_silence(sock: TcpStream) {
    assert_eq!(read_to_the_end(sock), b"");
}
