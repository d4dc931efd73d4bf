//! The wire format and the pure parts: what every stream, message and exchange costs before any system call.
//!
//! `cargo bench --bench codec`; run small by `cargo bench -- --test` and `cargo test --benches`. Nothing here opens
//! a socket or a file.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use linerate::bench::statistics;
use linerate::measure::histogram::LatencyHistogram;
use linerate::proto::facts::CpuClock;
use linerate::proto::message::{Hello, Message, Reply, Request, Sample, Tally, Timed, Welcome, WorkerSample};
use linerate::proto::probe::{Exchange, Side, Sizes, Step};
use linerate::proto::rights::Rights;
use linerate::proto::secret::Secret;
use linerate::proto::session::{Event, Session};
use linerate::proto::wire::{Frame, FrameKind, Join, Length, Opening, PROTOCOL_VERSION, Preface};
use linerate::units::{Rate, parse_size_list};

/// Workers in the sample that a server typically sends.
const WORKERS: usize = 4;
/// Rounds of a long run, for the interval of their median.
const ROUNDS: usize = 101;

criterion_group!(benches, headers, openings, sessions, exchanges, parsing, histograms, medians);
criterion_main!(benches);

fn headers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wire");
    let frame = Frame { file: 7, offset: 1 << 40, length: Length::Bytes(1 << 20), kind: FrameKind::Timed };
    let join = Join { token: [0x5a; 16] };
    let preface = Preface { version: PROTOCOL_VERSION };
    let (frame_bytes, join_bytes, preface_bytes) = (frame.encode(), join.encode(), preface.encode());
    group.bench_function("frame/encode", |bencher| bencher.iter(|| black_box(frame).encode()));
    group.bench_function("frame/decode", |bencher| bencher.iter(|| Frame::decode(black_box(&frame_bytes))));
    group.bench_function("join/encode", |bencher| bencher.iter(|| black_box(join).encode()));
    group.bench_function("join/decode", |bencher| bencher.iter(|| Join::decode(black_box(&join_bytes))));
    group.bench_function("preface/encode", |bencher| bencher.iter(|| black_box(preface).encode()));
    group.bench_function("preface/decode", |bencher| bencher.iter(|| Preface::decode(black_box(&preface_bytes))));
    group.finish();
}

fn openings(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("opening");
    let join = Join { token: [1; 16] }.encode();
    let preface = Preface { version: PROTOCOL_VERSION }.encode();
    let rows: [(&str, &[u8]); 5] = [
        ("control", &preface),
        ("data", &join),
        ("http", b"OPTIONS * HTTP/1.1\r\n"),
        ("partial", b"line"),
        ("unknown", b"SSH-2.0-OpenSSH"),
    ];
    for (name, first) in rows {
        group.bench_function(name, |bencher| bencher.iter(|| Opening::of(black_box(first))));
    }
    group.finish();
}

/// One question and its answer through both ends' sessions, encoded and decoded, as the client asks at both ends of
/// every measurement.
fn sessions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("session");
    let now = Instant::now();
    let (mut client, mut server) = opened(now);
    let request = Message::Request { id: 1, body: Request::Sample(3) };
    let reply = Message::Reply { id: 1, body: Reply::Sampled(Box::new(sample())) };
    group.bench_function("sample round trip", |bencher| {
        bencher.iter(|| {
            client.send(black_box(&request), now);
            deliver(&mut client, &mut server, now);
            assert!(matches!(server.poll_event(), Some(Event::Message(_))));
            server.send(black_box(&reply), now);
            deliver(&mut server, &mut client, now);
            client.poll_event()
        });
    });
    group.bench_function("open both ends", |bencher| bencher.iter(|| opened(black_box(now))));
    let stream = transmitted(&reply, now);
    group.throughput(Throughput::Bytes(stream.len() as u64));
    group.bench_function("handle_bytes, one byte at a time", |bencher| {
        bencher.iter_batched(
            || opened(now).0,
            |mut client| {
                stream.chunks(1).for_each(|byte| client.handle_bytes(byte, now));
                client.poll_event()
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// Two sessions, of which one has let the other in.
fn opened(now: Instant) -> (Session, Session) {
    let hello = Hello { secret: Some(Secret([7; 16])) };
    let (mut client, mut server) = (Session::client(hello, now), Session::server(now));
    deliver(&mut client, &mut server, now);
    assert!(matches!(server.poll_event(), Some(Event::Hello(_))), "the two ends are of one version");
    server.welcome(Welcome { rights: Rights::BENCH, ..Welcome::default() }, now);
    deliver(&mut server, &mut client, now);
    assert!(matches!(client.poll_event(), Some(Event::Welcome(_))), "the client is let in");
    (client, server)
}

fn deliver(from: &mut Session, to: &mut Session, now: Instant) {
    let bytes = from.poll_transmit();
    let sent = bytes.len();
    to.handle_bytes(bytes, now);
    from.handle_sent(sent);
}

/// What a server puts on the wire for one message.
fn transmitted(message: &Message, now: Instant) -> Vec<u8> {
    let (_, mut server) = opened(now);
    server.send(message, now);
    server.poll_transmit().to_vec()
}

/// Numbers as long as real ones are: a few seconds at 10 GB/s.
fn sample() -> Sample {
    let tally = Tally { bytes: 31_234_567_890, calls: 29_787, completions: 0, copied: 0 };
    let worker = WorkerSample {
        at_ns: 3_123_456_789,
        sent: Tally::default(),
        received: tally,
        polls: 12_345,
        timed: Timed::default(),
    };
    let cpu = CpuClock { process_ns: 2_987_654_321, machine_busy_ticks: 1_234_567, machine_all_ticks: 123_456_789 };
    Sample { workers: vec![worker; WORKERS], cpu, ..Sample::default() }
}

/// Every step that one exchange takes on the asking side, whole and cut into four pieces each way.
fn exchanges(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("exchange");
    let sizes = Sizes { request: 64 << 10, reply: 64 << 10 };
    for (name, piece) in [("whole", u64::MAX), ("in four pieces", 16 << 10)] {
        let mut exchange = Exchange::new(sizes, Side::Asking).expect("both sizes are above zero");
        group.bench_function(name, |bencher| bencher.iter(|| while !step(&mut exchange, black_box(piece)) {}));
    }
    group.finish();
}

fn step(exchange: &mut Exchange, piece: u64) -> bool {
    let (Step::Send(left) | Step::Receive(left)) = exchange.step();
    exchange.handle_moved(left.min(piece))
}

fn parsing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    for list in ["1KiB..4MiB", "4KiB,64KiB,1MiB,1MB", "1..64MiB*2"] {
        group.bench_function(format!("sizes {list}"), |bencher| bencher.iter(|| parse_size_list(black_box(list))));
    }
    group.bench_function("rate 2.5Gbit/s", |bencher| bencher.iter(|| black_box("2.5Gbit/s").parse::<Rate>()));
    group.finish();
}

fn histograms(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("histogram");
    let mut histogram = LatencyHistogram::new();
    let mut ns = 6_900;
    group.bench_function("record", |bencher| {
        bencher.iter(|| {
            // From 5 to 105 µs, so that the counters touched are as many as in a real run.
            ns = 5_000 + (ns * 31 + 7) % 100_000;
            histogram.record(black_box(ns));
        });
    });
    group.bench_function("record_duration", |bencher| {
        bencher.iter(|| histogram.record_duration(black_box(Duration::from_nanos(6_900))));
    });
    let other = histogram.clone();
    group.bench_function("merge", |bencher| bencher.iter(|| histogram.merge(black_box(&other))));
    group.bench_function("quantile", |bencher| bencher.iter(|| other.quantile_ns(black_box(0.99))));
    group.finish();
}

fn medians(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("median_interval");
    for rounds in [5, ROUNDS] {
        // Neither sorted nor equal: a fixed shuffle of distinct rates.
        let values: Vec<f64> = (0..rounds).map(|n| 1e9 + (n * 37 % rounds) as f64 * 1e6).collect();
        group.bench_function(format!("{rounds} rounds"), |bencher| {
            bencher.iter(|| statistics::median_interval(black_box(&values)));
        });
    }
    group.finish();
}
