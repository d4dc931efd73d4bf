//! Moving a chunk allocates nothing: however many go through a flow, as much is allocated as for a few.
//!
//! One test in a binary of its own, because the allocator counts for the whole process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use linerate::engine::exchange::ExchangeFlow;
use linerate::engine::flow::{Flow, Progress, Room};
use linerate::engine::receive::ReceiveFlow;
use linerate::engine::send::{Cork, Outgoing, SendFlow};
use linerate::mover::{Pool, RECEIVE, ReceiveRow, SEND, SendRow, Sink, Source};
use linerate::proto::message::WorkerSample;
use linerate::proto::probe::{Exchange, Side, Sizes};
use linerate::proto::wire::{Frame, FrameKind, Length};
use linerate::store::{file, hot};
use linerate::sys::pipe::Pipe;

/// Counts what is allocated while it is armed.
struct Counting;

static ARMED: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

fn count() {
    if ARMED.load(Ordering::Relaxed) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call is handed to the system's allocator as it came; counting touches two atomics and allocates
// nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the promises that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `System` with this layout, as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as for `dealloc`, and the caller promises a size that is allowed.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CHUNK_BYTES: u64 = 4096;
/// Chunks of the short run; the long one has four times as many, 64 MiB.
const CHUNKS: u64 = 4096;
/// What may be allocated more in the long run: a queue that grows to its final length later.
const SLACK: u64 = 16;
/// A run that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a worker owns.
struct Worker {
    pool: Pool,
    pipe: Option<Pipe>,
    null: File,
    epoch: Instant,
}

impl Worker {
    fn new() -> Worker {
        let null = File::options().write(true).open("/dev/null").unwrap();
        Worker { pool: Pool::new(CHUNK_BYTES as usize), pipe: None, null, epoch: Instant::now() }
    }

    fn drive(&mut self, flow: &mut dyn Flow, sock: &TcpStream) -> Progress {
        let (epoch, is_closing, spin) = (self.epoch, false, true);
        let mut room = Room { pool: &mut self.pool, pipe: &mut self.pipe, null: &self.null, epoch, is_closing, spin };
        flow.drive(sock.as_fd(), &mut room).unwrap()
    }
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    for sock in [&near, &far] {
        sock.set_nonblocking(true).unwrap();
        sock.set_nodelay(true).unwrap();
    }
    (near, far)
}

/// Drive two flows against each other until the far one has received so many bytes; what that allocated.
fn allocations(near: (&mut dyn Flow, &TcpStream), far: (&mut dyn Flow, &TcpStream), bytes: u64) -> u64 {
    let (mut here, mut there) = (Worker::new(), Worker::new());
    let clock = Instant::now();
    ALLOCATIONS.store(0, Ordering::Relaxed);
    ARMED.store(true, Ordering::Relaxed);
    loop {
        here.drive(near.0, near.1);
        there.drive(far.0, far.1);
        let mut sample = WorkerSample::default();
        far.0.account(&mut sample);
        if sample.received.bytes >= bytes || clock.elapsed() > PATIENCE {
            ARMED.store(false, Ordering::Relaxed);
            assert!(sample.received.bytes >= bytes, "{} of {bytes} bytes came", sample.received.bytes);
            return ALLOCATIONS.load(Ordering::Relaxed);
        }
        std::thread::yield_now();
    }
}

fn of_transfer(send: &SendRow, receive: &ReceiveRow, source: &Source, chunks: u64) -> u64 {
    let (near, far) = pair();
    let frame = Frame { file: 0, offset: 0, length: Length::UntilEnd, kind: FrameKind::Data };
    let outgoing = Outgoing { frame, source: source.clone() };
    let mut sending = SendFlow::new((send.make)(near.as_fd()).unwrap(), CHUNK_BYTES, Cork::Wanted, [outgoing]);
    let mut receiving = ReceiveFlow::new((receive.make)(), receive.takes_all, CHUNK_BYTES, Sink::Discard);
    allocations((&mut sending, &near), (&mut receiving, &far), chunks * CHUNK_BYTES)
}

fn of_exchange(source: &Source, exchanges: u64) -> u64 {
    let (near, far) = pair();
    let side = |side| {
        let sizes = Sizes { request: 1024, reply: 1024 };
        ExchangeFlow::new(Exchange::new(sizes, side).unwrap(), side, source, None).unwrap()
    };
    let (mut asking, mut answering) = (side(Side::Asking), side(Side::Answering));
    allocations((&mut asking, &near), (&mut answering, &far), exchanges * 1024)
}

#[track_caller]
fn check(name: &str, few: u64, many: u64) {
    println!("{name}: {few} allocations, {many} for four times as much");
    assert!(many <= few + SLACK, "{name}: {few} allocations, {many} for four times as much");
}

#[test]
fn what_is_moved_allocates_nothing_for_each_chunk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("source");
    std::fs::write(&path, vec![7; 3_000_001]).unwrap();
    let sources = [("hot", hot::open(CHUNK_BYTES).unwrap()), ("file", file::open(&path, CHUNK_BYTES).unwrap())];
    for send in SEND.iter().filter(|row| (row.probe)().is_ok()) {
        for receive in RECEIVE.iter().filter(|row| (row.probe)().is_ok()) {
            for (kind, source) in &sources {
                let few = of_transfer(send, receive, source, CHUNKS);
                let many = of_transfer(send, receive, source, CHUNKS * 4);
                check(&format!("{kind} {} to {}", send.name, receive.name), few, many);
            }
        }
    }
    let few = of_exchange(&sources[0].1, CHUNKS);
    check("request and response", few, of_exchange(&sources[0].1, CHUNKS * 4));

    // The counter itself counts.
    ARMED.store(true, Ordering::Relaxed);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    drop(std::hint::black_box(Box::new(7)));
    assert!(ALLOCATIONS.load(Ordering::Relaxed) > before);
}
