//! Data streams that are not what their job agreed on: tokens used twice, stolen or void, the wrong protection, frames
//! that lie, and streams that are left behind.

mod common;

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};

use common::host::Host;
use common::peer::{Talk, TlsPeer, dial, is_closed_in_silence, join, join_in_tls, read_to_the_end, sending_job};
use common::{descriptors, wait_until};
use linerate::proto::message::{Direction, JobSpec, Reply, Request, Work};
use linerate::proto::wire::{Frame, FrameKind, Join, Length, Token};
use linerate::tls::client::Pin;

/// A frame's header.
fn frame(length: Length) -> Vec<u8> {
    Frame { file: 0, offset: 0, length, kind: FrameKind::Data }.encode().to_vec()
}

/// A whole frame with so many bytes.
fn whole(bytes: usize) -> Vec<u8> {
    [frame(Length::Bytes(bytes as u64)), vec![7; bytes]].concat()
}

fn in_tls(spec: JobSpec) -> JobSpec {
    JobSpec { tls: true, ..spec }
}

fn receiving_job(streams: u32) -> JobSpec {
    let mut spec = sending_job(streams);
    if let Work::Transfer(transfer) = &mut spec.work {
        transfer.direction = Direction::Receive;
    }
    spec
}

/// A session of that host.
fn session(host: &Host) -> Talk {
    Talk::open(host.serving.address(), &host.ticket())
}

fn pin(host: &Host) -> Pin {
    Pin::Exactly(host.ticket().fingerprint)
}

/// The session goes on, and so does the job: so many bytes arrive.
#[track_caller]
fn arrives(talk: &mut Talk, job: u32, bytes: u64) {
    wait_until("the payload arrives", || talk.received(job) == bytes);
}

/// A connection from another address of this machine.
fn dial_from(source: [u8; 4], address: SocketAddr) -> TcpStream {
    let sock = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    sock.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    sock.connect(&address.into()).unwrap();
    let sock = TcpStream::from(sock);
    sock.set_read_timeout(Some(common::PATIENCE)).unwrap();
    sock
}

#[test]
fn a_token_lets_nobody_in_twice_wherever_from() {
    let host = Host::start();
    let mut talk = session(&host);
    let address = host.serving.address();
    let (job, tokens) = talk.prepare(sending_job(1));
    let mut stream = join(address, tokens[0]);
    assert_eq!(talk.ask(Request::Start(job)), Reply::Started);
    is_closed_in_silence(join(address, tokens[0]));
    is_closed_in_silence(join_in_tls(address, pin(&host), tokens[0]).sock);
    let mut thief = dial_from([127, 0, 0, 2], address);
    thief.write_all(&Join { token: tokens[0] }.encode()).unwrap();
    is_closed_in_silence(thief);
    // The one that came first is not disturbed.
    stream.write_all(&whole(1000)).unwrap();
    arrives(&mut talk, job, 1000);
    assert_eq!(talk.faults(job), [""; 0]);
}

#[test]
fn tokens_that_nobody_gave_out_let_nobody_in() {
    let host = Host::start();
    let mut talk = session(&host);
    let (job, tokens) = talk.prepare(sending_job(1));
    let wrong = |bit: usize| {
        let mut near: Token = tokens[0];
        near[bit / 8] ^= 1 << (bit % 8);
        join(host.serving.address(), near)
    };
    let streams: Vec<TcpStream> = (0..128).map(wrong).collect();
    streams.into_iter().for_each(is_closed_in_silence);
    let _stream = join(host.serving.address(), tokens[0]);
    assert_eq!(talk.ask(Request::Start(job)), Reply::Started);
}

#[test]
fn a_session_cannot_touch_the_job_of_another() {
    let host = Host::start();
    let (mut one, mut other) = (session(&host), session(&host));
    let (job, tokens) = one.prepare(sending_job(1));
    let mut stream = join(host.serving.address(), tokens[0]);
    assert_eq!(one.ask(Request::Start(job)), Reply::Started);
    for request in [Request::Start(job), Request::Sample(job), Request::Stop(job)] {
        let answer = other.ask(request);
        assert!(matches!(&answer, Reply::Refused(why) if why.contains("there is no job")), "{answer:?}");
    }
    // Nor with a job of its own: the numbers are told apart.
    let (own, own_tokens) = other.prepare(sending_job(1));
    assert!(own != job && own_tokens != tokens);
    drop(other);
    // Let in or not: with the session, the stream is over.
    is_closed_in_silence(join(host.serving.address(), own_tokens[0]));
    stream.write_all(&whole(1000)).unwrap();
    arrives(&mut one, job, 1000);
}

#[test]
fn a_token_is_void_once_its_job_or_session_is_over() {
    let host = Host::start();
    let mut talk = session(&host);
    let address = host.serving.address();
    let (job, tokens) = talk.prepare(sending_job(2));
    let early = join(address, tokens[0]);
    assert!(matches!(talk.ask(Request::Stop(job)), Reply::Stopped(_)));
    is_closed_in_silence(join(address, tokens[1]));
    is_closed_in_silence(early);
    let (_, tokens) = talk.prepare(sending_job(2));
    let early = join(address, tokens[0]);
    drop(talk);
    // Closed with the session, so the session is over by then.
    is_closed_in_silence(early);
    is_closed_in_silence(join(address, tokens[1]));
}

#[test]
fn a_stream_without_the_protection_that_was_agreed_is_a_fault_of_its_job() {
    let host = Host::start();
    let address = host.serving.address();
    let mut talk = session(&host);
    let (job, tokens) = talk.prepare(in_tls(sending_job(1)));
    let mut plain = join(address, tokens[0]);
    assert_eq!(talk.ask(Request::Start(job)), Reply::Started);
    let _ = plain.write_all(&whole(1000));
    assert_eq!(talk.faults(job), ["a stream came in the clear, and TLS was agreed"]);
    is_closed_in_silence(plain);
    assert_eq!(talk.received(job), 0);
    assert!(matches!(talk.ask(Request::Stop(job)), Reply::Stopped(_)));

    let (job, tokens) = talk.prepare(sending_job(1));
    let mut sealed = join_in_tls(address, pin(&host), tokens[0]);
    assert_eq!(talk.ask(Request::Start(job)), Reply::Started);
    let _ = sealed.send_plain(&whole(1000));
    assert_eq!(talk.faults(job), ["a stream came in TLS, and the clear was agreed"]);
    assert_eq!(talk.received(job), 0);
    assert!(matches!(talk.ask(Request::Stop(job)), Reply::Stopped(_)));
}

#[test]
fn frames_that_make_no_sense_are_a_fault_of_their_stream_and_no_more() {
    let host = Host::start();
    let address = host.serving.address();
    let mut past_the_end = frame(Length::Bytes(u64::MAX));
    past_the_end[16] = 1;
    let mut other_kind = frame(Length::Bytes(1));
    other_kind[4] = 9;
    let table: [(&str, Vec<u8>, &str); 6] = [
        ("garbage", vec![0xa5; 64], "frame"),
        ("garbage behind a frame", [whole(10), vec![0xa5; 64]].concat(), "frame"),
        ("a frame of another kind", other_kind, "frame"),
        ("a frame whose offset was changed", past_the_end, "frame"),
        ("half a header", frame(Length::Bytes(1))[..20].to_vec(), "ended"),
        ("half a payload", whole(1000)[..500].to_vec(), "ended"),
    ];
    let mut talk = session(&host);
    for secure in [false, true] {
        for (name, bytes, word) in &table {
            let (job, tokens) = talk.prepare(JobSpec { tls: secure, ..sending_job(2) });
            let said = [&bytes[..], &whole(5000)];
            let _streams = if secure {
                let mut peers = [0, 1].map(|n| join_in_tls(address, pin(&host), tokens[n]));
                assert_eq!(talk.ask(Request::Start(job)), Reply::Started);
                peers.iter_mut().zip(said).for_each(|(peer, bytes)| peer.send_plain(bytes).unwrap());
                peers[0].say_end();
                peers.map(|peer| peer.sock)
            } else {
                let mut socks = [0, 1].map(|n| join(address, tokens[n]));
                assert_eq!(talk.ask(Request::Start(job)), Reply::Started);
                socks.iter_mut().zip(said).for_each(|(sock, bytes)| sock.write_all(bytes).unwrap());
                socks[0].shutdown(Shutdown::Write).unwrap();
                socks
            };
            wait_until("the fault is told", || talk.faults(job).iter().any(|fault| fault.contains(word)));
            let faults = talk.faults(job);
            assert_eq!(faults.len(), 1, "{name}, TLS {secure}: {faults:?}");
            wait_until("the other stream is not disturbed", || talk.received(job) >= 5000);
            assert!(matches!(talk.ask(Request::Stop(job)), Reply::Stopped(_)), "{name}");
        }
    }
}

#[test]
fn a_stream_may_not_speak_before_its_time_or_where_it_should_listen() {
    let host = Host::start();
    let address = host.serving.address();
    let mut talk = session(&host);
    // In one record with its token: nothing says yet what follows one.
    let (_, tokens) = talk.prepare(in_tls(sending_job(1)));
    let mut hasty = TlsPeer::client(address, pin(&host)).unwrap();
    hasty.send_plain(&[&Join { token: tokens[0] }.encode()[..], &whole(10)].concat()).unwrap();
    is_closed_in_silence(hasty.sock);
    // Where the server sends, what the client says is not looked at.
    let (job, tokens) = talk.prepare(receiving_job(1));
    let mut loud = join(address, tokens[0]);
    loud.write_all(&[0xa5; 10_000]).unwrap();
    assert_eq!(talk.ask(Request::Start(job)), Reply::Started);
    let mut head = [0; 32];
    std::io::Read::read_exact(&mut loud, &mut head).unwrap();
    assert_eq!(Frame::decode(&head).unwrap().length, Length::UntilEnd);
    assert_eq!((talk.faults(job), talk.received(job)), (Vec::<String>::new(), 0));
    assert!(matches!(talk.ask(Request::Stop(job)), Reply::Stopped(_)));
}

#[test]
fn half_a_token_is_waited_for_and_a_whole_one_in_pieces_is_taken() {
    let host = Host::start();
    let mut talk = session(&host);
    let (job, tokens) = talk.prepare(sending_job(1));
    let bytes = Join { token: tokens[0] }.encode();
    let mut slow = dial(host.serving.address());
    slow.set_nodelay(true).unwrap();
    for byte in &bytes {
        slow.write_all(&[*byte]).unwrap();
    }
    assert_eq!(talk.ask(Request::Start(job)), Reply::Started);
    slow.write_all(&whole(100)).unwrap();
    arrives(&mut talk, job, 100);
}

#[test]
fn what_a_session_leaves_is_released_with_it() {
    let host = Host::start();
    let address = host.serving.address();
    // What is made once stays.
    drop(session(&host));
    let pid = host.serving.pid();
    wait_until("the server is alone", || sockets(pid) <= ALONE);
    let before = descriptors(pid);
    for _ in 0..3 {
        let mut talk = session(&host);
        let mut streams = Vec::new();
        let (started, tokens) = talk.prepare(sending_job(4));
        streams.extend(tokens.iter().map(|token| join(address, *token)));
        assert_eq!(talk.ask(Request::Start(started)), Reply::Started);
        streams[0].write_all(&frame(Length::UntilEnd)).unwrap();
        let (_, tokens) = talk.prepare(receiving_job(8));
        streams.extend(tokens[..4].iter().map(|token| join(address, *token)));
        let (_, tokens) = talk.prepare(in_tls(sending_job(8)));
        let sealed = tokens[..4].iter().map(|token| join_in_tls(address, pin(&host), *token).sock);
        streams.extend(sealed);
        streams.push(dial(address));
        assert!(descriptors(pid) > before);
        drop(talk);
        // The streams are still open at this end.
        for sock in streams.drain(..12) {
            read_to_the_end(sock);
        }
        drop(streams);
        wait_until("all descriptors are released", || descriptors(pid) <= before);
    }
}

/// Sockets of a server that nobody is connected to: its listener, and the pair that signals come through.
const ALONE: usize = 3;

fn sockets(pid: u32) -> usize {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let links = entries.filter_map(|fd| std::fs::read_link(fd.path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
}

#[test]
fn a_session_has_so_many_jobs_and_so_many_streams() {
    let host = Host::start();
    let mut talk = session(&host);
    let refused = |answer: Reply, words: &str| {
        assert!(matches!(&answer, Reply::Refused(why) if why.contains(words)), "{words}: {answer:?}");
    };
    let prepare = |spec: JobSpec| Request::Prepare(Box::new(spec));
    for streams in [0, u32::MAX, 1 << 20] {
        refused(talk.ask(prepare(sending_job(streams))), "streams");
    }
    let mut both = sending_job(u32::MAX / 2 + 1);
    if let Work::Transfer(transfer) = &mut both.work {
        transfer.direction = Direction::Both;
    }
    refused(talk.ask(prepare(both)), "streams");
    let of_chunk = |chunk| {
        let mut spec = sending_job(1);
        if let Work::Transfer(transfer) = &mut spec.work {
            transfer.chunk = chunk;
        }
        spec
    };
    for chunk in [0, u64::MAX, (64 << 20) + 1] {
        refused(talk.ask(prepare(of_chunk(chunk))), "sizes");
    }
    let jobs: Vec<u32> = (0..8).map(|_| talk.prepare(sending_job(1)).0).collect();
    refused(talk.ask(prepare(sending_job(1))), "jobs already");
    for job in jobs {
        assert!(matches!(talk.ask(Request::Stop(job)), Reply::Stopped(_)));
    }
    talk.prepare(sending_job(1));
}
