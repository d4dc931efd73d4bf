//! Every send method against every receive method, over a real connection: what is promised holds for the tables.

use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use rand::{RngCore, SeedableRng, rngs::SmallRng};

use super::*;
use crate::store::{file, hot};

/// A transfer that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// Odd, so that no method gets away with whole pages.
const SOURCE_BYTES: usize = 300_001;
/// What a push asks for, in turn.
const PUSHES: [usize; 5] = [65_537, 1, 4096, 997, 12_289];
/// What a pull asks for, in turn: out of step with the pushes.
const PULLS: [usize; 4] = [3, 70_001, 1021, 8192];
const BUFFER_BYTES: usize = 65_537;

/// What a worker lends to its streams, and a stream's counters.
struct Bench {
    pool: Pool,
    pipe: Option<Pipe>,
    null: File,
    tally: Tally,
}

impl Bench {
    fn new(buffer_bytes: usize) -> Bench {
        let null = File::options().write(true).open("/dev/null").unwrap();
        Bench { pool: Pool::new(buffer_bytes), pipe: None, null, tally: Tally::default() }
    }

    fn turn(&mut self) -> Turn<'_> {
        Turn { pool: &mut self.pool, pipe: &mut self.pipe, null: &self.null, tally: &mut self.tally }
    }
}

/// A sender with its place in the source.
struct Near {
    sock: TcpStream,
    method: Box<dyn SendMethod>,
    bench: Bench,
    sent: u64,
    pushes: usize,
}

impl Near {
    fn new(row: &SendRow, sock: TcpStream, bench: Bench) -> Near {
        let method = (row.make)(sock.as_fd()).unwrap();
        Near { sock, method, bench, sent: 0, pushes: 0 }
    }

    /// One push of the next odd size, up to `end`; the source is read round and round.
    fn push(&mut self, source: &Source, end: u64) -> Result<Moved, Fault> {
        let at = self.sent % source.len;
        let wanted = PUSHES[self.pushes % PUSHES.len()] as u64;
        let len = wanted.min(end - self.sent).min(source.len - at) as usize;
        self.pushes += 1;
        let moved = self.method.push(self.sock.as_fd(), source, at, len, &mut self.bench.turn())?;
        assert!(matches!(moved, Moved::Bytes(1..) | Moved::Blocked), "{moved:?}");
        assert!(moved.bytes() <= len as u64);
        self.sent += moved.bytes();
        Ok(moved)
    }

    fn settle(&mut self) -> bool {
        self.method.settle(self.sock.as_fd(), &mut self.bench.turn()).unwrap()
    }

    /// Push until the socket takes no more.
    fn fill(&mut self, source: &Source) {
        let clock = Clock::start();
        while self.push(source, u64::MAX).unwrap() != Moved::Blocked {
            clock.check("filling a socket");
        }
    }
}

/// A receiver with its place in the sink.
struct Far {
    sock: TcpStream,
    method: Box<dyn ReceiveMethod>,
    bench: Bench,
    sink: Sink,
    got: u64,
    pulls: usize,
}

impl Far {
    fn new(row: &ReceiveRow, sock: TcpStream, sink: Sink) -> Far {
        Far { sock, method: (row.make)(), bench: Bench::new(BUFFER_BYTES), sink, got: 0, pulls: 0 }
    }

    fn pull(&mut self) -> Result<Moved, Fault> {
        let len = PULLS[self.pulls % PULLS.len()];
        self.pulls += 1;
        let moved = self.method.pull(self.sock.as_fd(), &self.sink, self.got, len, &mut self.bench.turn())?;
        assert!(moved.bytes() <= len as u64 && moved != Moved::Bytes(0), "{moved:?}");
        self.got += moved.bytes();
        Ok(moved)
    }

    /// Pull all that waits; `true` when the stream has ended.
    fn drain(&mut self) -> bool {
        loop {
            match self.pull().unwrap() {
                Moved::Bytes(_) => {}
                Moved::Blocked => return false,
                Moved::End => return true,
            }
        }
    }
}

/// Bounds a loop that waits for the kernel.
struct Clock(Instant);

impl Clock {
    fn start() -> Clock {
        Clock(Instant::now())
    }

    fn check(&self, what: &str) {
        assert!(self.0.elapsed() < PATIENCE, "{what} does not come to an end");
        std::thread::yield_now();
    }
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    near.set_nonblocking(true).unwrap();
    far.set_nonblocking(true).unwrap();
    (near, far)
}

/// A file of random bytes as a source, with these bytes. It lives as long as the folder.
fn random_source(folder: &tempfile::TempDir, bytes: usize) -> (Source, Vec<u8>) {
    let mut content = vec![0; bytes];
    SmallRng::seed_from_u64(bytes as u64).fill_bytes(&mut content);
    let path = folder.path().join("source");
    std::fs::write(&path, &content).unwrap();
    (file::open(&path, 1).unwrap(), content)
}

fn hot_source() -> (Source, Vec<u8>) {
    let source = hot::open(1000).unwrap();
    let mut content = vec![0; source.len as usize];
    source.file.read_exact_at(&mut content, 0).unwrap();
    (source, content)
}

fn file_sink(file: File, base: u64, len: u64) -> Sink {
    Sink::File(FileSink { file: Arc::new(file), name: "the sink".into(), base, len })
}

/// Send `bytes` of a source from one end to the other, to the end of the stream, and let everything settle.
fn carry(near: &mut Near, far: &mut Far, source: &Source, bytes: u64) {
    let clock = Clock::start();
    while near.sent < bytes {
        if near.push(source, bytes).unwrap() == Moved::Blocked {
            near.settle();
            far.drain();
        }
        clock.check("sending");
    }
    near.sock.shutdown(std::net::Shutdown::Write).unwrap();
    while !far.drain() {
        clock.check("receiving");
    }
    while !near.settle() {
        clock.check("settling");
    }
    assert_eq!((near.sent, far.got), (bytes, bytes));
}

/// Every send row with every receive row, each named.
fn every_pair() -> impl Iterator<Item = (&'static SendRow, &'static ReceiveRow, String)> {
    let usable = SEND.iter().filter(|row| (row.probe)().is_ok());
    usable.flat_map(|send| {
        let receives = RECEIVE.iter().filter(|row| (row.probe)().is_ok());
        receives.map(move |receive| (send, receive, format!("{} to {}", send.name, receive.name)))
    })
}

#[test]
fn a_file_arrives_as_it_was_sent_by_every_pair_of_methods() {
    let folder = tempfile::tempdir().unwrap();
    let (source, content) = random_source(&folder, SOURCE_BYTES);
    for (send, receive, name) in every_pair() {
        let (near, far) = pair();
        let kept = tempfile::tempfile().unwrap();
        let sink = if receive.keeps { file_sink(kept.try_clone().unwrap(), 7, source.len) } else { Sink::Discard };
        let mut near = Near::new(send, near, Bench::new(BUFFER_BYTES));
        let mut far = Far::new(receive, far, sink);
        carry(&mut near, &mut far, &source, source.len);
        if receive.keeps {
            let mut got = vec![0; SOURCE_BYTES];
            kept.read_exact_at(&mut got, 7).unwrap();
            assert!(got == content, "{name}: other bytes");
            assert_eq!(kept.metadata().unwrap().len(), 7 + source.len, "{name}");
        }
        assert!(near.bench.tally.calls > 0 && far.bench.tally.calls > 0, "{name}: calls are counted");
    }
}

#[test]
fn a_hot_source_goes_round_and_arrives_as_it_is() {
    let (source, content) = hot_source();
    let all = source.len * 2 + 4321;
    for (send, receive, name) in every_pair() {
        let (near, far) = pair();
        let kept = tempfile::tempfile().unwrap();
        let sink = if receive.keeps { file_sink(kept.try_clone().unwrap(), 0, all) } else { Sink::Discard };
        let mut near = Near::new(send, near, Bench::new(BUFFER_BYTES));
        carry(&mut near, &mut Far::new(receive, far, sink), &source, all);
        if receive.keeps {
            let mut got = vec![0; all as usize];
            kept.read_exact_at(&mut got, 0).unwrap();
            assert!(got.iter().zip(content.iter().cycle()).all(|(a, b)| a == b), "{name}: other bytes");
        }
    }
}

#[test]
fn discarded_bytes_are_counted_by_every_receive_method() {
    let folder = tempfile::tempdir().unwrap();
    let (source, _) = random_source(&folder, SOURCE_BYTES);
    for (send, receive, _) in every_pair() {
        let (near, far) = pair();
        let mut near = Near::new(send, near, Bench::new(BUFFER_BYTES));
        carry(&mut near, &mut Far::new(receive, far, Sink::Discard), &source, source.len);
    }
}

#[test]
fn a_region_of_a_sink_is_written_round_and_round_and_nothing_beside_it() {
    const BASE: usize = 10;
    const REGION: usize = 1000;
    let folder = tempfile::tempdir().unwrap();
    let (source, content) = random_source(&folder, SOURCE_BYTES);
    let mut expected = vec![0; BASE + REGION];
    for (at, byte) in content.iter().enumerate() {
        expected[BASE + at % REGION] = *byte;
    }
    for (send, receive, name) in every_pair().filter(|(_, receive, _)| receive.keeps) {
        let (near, far) = pair();
        let kept = tempfile::tempfile().unwrap();
        let sink = file_sink(kept.try_clone().unwrap(), BASE as u64, REGION as u64);
        let mut near = Near::new(send, near, Bench::new(BUFFER_BYTES));
        carry(&mut near, &mut Far::new(receive, far, sink), &source, source.len);
        let mut got = vec![0; BASE + REGION];
        kept.read_exact_at(&mut got, 0).unwrap();
        assert!(got == expected, "{name}: other bytes");
        assert_eq!(kept.metadata().unwrap().len() as usize, BASE + REGION, "{name}");
    }
}

#[test]
fn a_source_that_shrinks_while_it_is_sent_is_a_fault_that_says_so() {
    for row in SEND.iter().filter(|row| (row.probe)().is_ok()) {
        for left in [0, 4097] {
            let folder = tempfile::tempdir().unwrap();
            let (source, _) = random_source(&folder, 16 << 20);
            let (near, far) = pair();
            let mut near = Near::new(row, near, Bench::new(BUFFER_BYTES));
            let mut far = Far::new(&RECEIVE[0], far, Sink::Discard);
            near.fill(&source);
            File::options().write(true).open(folder.path().join("source")).unwrap().set_len(left).unwrap();
            let clock = Clock::start();
            let fault = loop {
                match near.push(&source, source.len) {
                    Ok(Moved::Blocked) => {
                        near.settle();
                        far.drain();
                    }
                    Ok(_) => assert!(near.sent < source.len, "{}: sent what is not there", row.name),
                    Err(fault) => break fault,
                }
                clock.check("a shrunk source");
            };
            assert!(matches!(fault, Fault::SourceTruncated { .. }), "{}: {fault}", row.name);
            let said = fault.to_string();
            assert!(said.contains("source: became shorter") && said.contains("16777216"), "{}: {said}", row.name);
        }
    }
}

#[test]
fn a_source_that_is_empty_from_the_start_is_a_fault_and_no_signal() {
    for row in SEND.iter().filter(|row| (row.probe)().is_ok()) {
        let folder = tempfile::tempdir().unwrap();
        let (source, _) = random_source(&folder, SOURCE_BYTES);
        std::fs::write(folder.path().join("source"), b"").unwrap();
        let (near, _far) = pair();
        let mut near = Near::new(row, near, Bench::new(BUFFER_BYTES));
        let fault = near.push(&source, source.len).unwrap_err();
        assert!(matches!(fault, Fault::SourceTruncated { .. }), "{}: {fault}", row.name);
    }
}

#[test]
fn a_sink_that_is_full_is_a_fault_of_the_sink() {
    let folder = tempfile::tempdir().unwrap();
    let (source, _) = random_source(&folder, SOURCE_BYTES);
    for receive in RECEIVE.iter().filter(|row| row.keeps) {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let (near, far) = pair();
        let mut near = Near::new(&SEND[0], near, Bench::new(BUFFER_BYTES));
        let mut far = Far::new(receive, far, file_sink(full, 0, 1 << 20));
        near.fill(&source);
        let clock = Clock::start();
        let fault = loop {
            match far.pull() {
                Ok(moved) => assert_eq!(moved, Moved::Blocked, "{}: a full device took bytes", receive.name),
                Err(fault) => break fault,
            }
            clock.check("a full sink");
        };
        assert!(matches!(fault, Fault::Sink { .. }), "{}: {fault}", receive.name);
        assert!(fault.to_string().starts_with("the sink: cannot be written: "), "{}: {fault}", receive.name);
        assert_eq!(buffers_of(&mut far.bench.pool), buffers_of(&mut Pool::new(BUFFER_BYTES)), "{}", receive.name);
    }
}

#[test]
fn a_failed_pull_leaves_nothing_in_the_pipe_for_the_next_stream() {
    let row = receive_row("splice").unwrap();
    if let Err(why) = (row.probe)() {
        return println!("skipped: {why}");
    }
    let (source, content) = hot_source();
    let mut bench = Bench::new(BUFFER_BYTES);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let kept = tempfile::tempfile().unwrap();
    for (sink, fails) in [(file_sink(full, 0, 1 << 20), true), (file_sink(kept.try_clone().unwrap(), 0, 100), false)] {
        let (near, far) = pair();
        let mut near = Near::new(&SEND[0], near, Bench::new(BUFFER_BYTES));
        near.push(&source, 100).unwrap();
        let mut method = (row.make)();
        let clock = Clock::start();
        loop {
            match method.pull(far.as_fd(), &sink, 0, 100, &mut bench.turn()) {
                Ok(Moved::Blocked) => clock.check("a pull"),
                got => break assert_eq!(got.is_err(), fails, "{got:?}"),
            }
        }
    }
    let mut got = [0; 100];
    kept.read_exact_at(&mut got, 0).unwrap();
    assert_eq!(got, content[..100]);
}

#[test]
fn a_peer_that_is_gone_is_a_fault_of_the_connection() {
    let folder = tempfile::tempdir().unwrap();
    let (from_file, _) = random_source(&folder, SOURCE_BYTES);
    let (from_memory, _) = hot_source();
    for (row, source) in SEND.iter().flat_map(|row| [(row, &from_file), (row, &from_memory)]) {
        if (row.probe)().is_err() {
            continue;
        }
        let (near, far) = pair();
        let mut near = Near::new(row, near, Bench::new(BUFFER_BYTES));
        socket2::SockRef::from(&far).set_linger(Some(Duration::ZERO)).unwrap();
        drop(far);
        let clock = Clock::start();
        let fault = loop {
            match near.push(source, u64::MAX) {
                Ok(_) => clock.check("a peer that is gone"),
                Err(fault) => break fault,
            }
        };
        assert!(matches!(fault, Fault::Connection(_)), "{}: {fault}", row.name);
    }
}

#[test]
fn the_end_of_a_stream_is_told_by_every_receive_method() {
    for row in RECEIVE.iter().filter(|row| (row.probe)().is_ok()) {
        let (near, far) = pair();
        let mut far = Far::new(row, far, Sink::Discard);
        assert_eq!(far.pull().unwrap(), Moved::Blocked, "{}", row.name);
        drop(near);
        let clock = Clock::start();
        while !far.drain() {
            clock.check("the end of a stream");
        }
        assert_eq!(far.pull().unwrap(), Moved::End, "{}: and stays told", row.name);
    }
}

/// How many buffers can be had of a pool. Takes them all away.
fn buffers_of(pool: &mut Pool) -> usize {
    let taken: Vec<PoolBuf> = std::iter::from_fn(|| pool.take()).collect();
    taken.len()
}

#[test]
fn zerocopy_hears_of_every_send_and_gives_every_buffer_back() {
    let row = send_row("zerocopy").unwrap();
    if let Err(why) = (row.probe)() {
        return println!("skipped: {why}");
    }
    let folder = tempfile::tempdir().unwrap();
    let (from_file, _) = random_source(&folder, SOURCE_BYTES);
    let (from_memory, _) = hot_source();
    for (source, name) in [(&from_file, "file"), (&from_memory, "hot")] {
        // So few buffers that they must come back for the transfer to go on.
        let (near, far) = pair();
        let mut near = Near::new(row, near, Bench::new(8 << 20));
        let mut far = Far::new(&RECEIVE[0], far, Sink::Discard);
        carry(&mut near, &mut far, source, source.len * 10);
        let tally = near.bench.tally;
        assert!(tally.completions > 0 && tally.copied <= tally.completions, "{name}: {tally:?}");
        assert!(tally.completions <= tally.calls, "{name}: {tally:?}");
        assert_eq!(tally.copied, tally.completions, "{name}: a loopback copies always");
        assert!(near.settle(), "{name}: settled stays settled");
        assert_eq!(buffers_of(&mut near.bench.pool), pool::POOL_BUFFERS_MIN, "{name}: a buffer is missing");
    }
}

#[test]
fn write_gives_its_buffer_to_others_while_its_socket_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let (source, content) = random_source(&folder, SOURCE_BYTES);
    let row = send_row("write").unwrap();
    let (near, far) = pair();
    let mut near = Near::new(row, near, Bench::new(8 << 20));
    let elsewhere = near.bench.pool.take().unwrap();
    near.fill(&source);
    assert!(!near.bench.pool.is_empty(), "it keeps the last buffer while it can do nothing with it");
    // What it had read into it is read again and arrives as if nothing had been.
    let kept = tempfile::tempfile().unwrap();
    let whole = near.sent.div_ceil(source.len) * source.len;
    let mut far = Far::new(&RECEIVE[0], far, file_sink(kept.try_clone().unwrap(), 0, whole));
    carry(&mut near, &mut far, &source, whole);
    let mut got = vec![0; whole as usize];
    kept.read_exact_at(&mut got, 0).unwrap();
    assert!(got.iter().zip(content.iter().cycle()).all(|(a, b)| a == b), "other bytes");
    drop(elsewhere);
}

#[test]
fn where_other_streams_hold_all_buffers_one_goes_on_with_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (source, _) = random_source(&folder, SOURCE_BYTES);
    for name in ["write", "zerocopy"] {
        let row = send_row(name).unwrap();
        if (row.probe)().is_err() {
            continue;
        }
        let (near, _far) = pair();
        let mut near = Near::new(row, near, Bench::new(8 << 20));
        let _all: Vec<PoolBuf> = std::iter::from_fn(|| near.bench.pool.take()).collect();
        assert!(matches!(near.push(&source, source.len), Ok(Moved::Bytes(_))), "{name}");
    }
}
