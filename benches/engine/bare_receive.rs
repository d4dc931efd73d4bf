//! The bare loop's receiver: recv() into one buffer, again and again.
//!
//! As in the engine, the thread that receives only counts; another one looks at the counter and the clock, at the
//! beginning and at the end of the window, so that no clock is read per call.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use anyhow::Context;
use linerate::sys::affinity;
use memmap2::MmapOptions;
use socket2::SockRef;

use crate::common::own;

/// The first argument of this role.
pub const ROLE: &str = "bare-receive";
/// Time for the sender to come, and then for its first byte.
const SENDER_MAX: Duration = Duration::from_secs(10);
/// How often the first byte is looked for.
const LOOK_EVERY: Duration = Duration::from_micros(200);

/// `CPU CHUNK WARMUP_MS DURATION_MS`: says where it listens, then what it took in which time.
pub fn run(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let mut number = || arguments.next().context("too few arguments")?.parse::<u64>().context("a number");
    let (cpu, chunk) = (number()? as u32, number()? as usize);
    let (warmup, duration) = (Duration::from_millis(number()?), Duration::from_millis(number()?));
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    SockRef::from(&listener).set_tcp_congestion(own::CONGESTION.as_bytes()).context(own::CONGESTION)?;
    // accept() honours it too: without a sender this process ends.
    SockRef::from(&listener).set_read_timeout(Some(SENDER_MAX))?;
    println!("{}", listener.local_addr()?);
    let sock = listener.accept().context("no sender came")?.0;
    SockRef::from(&sock).set_read_timeout(None)?;
    let taken = Arc::new(AtomicU64::new(0));
    let counter = taken.clone();
    spawn(move || receive(&sock, cpu, chunk, &counter));
    let (bytes, time) = watch(&taken, warmup, duration)?;
    println!("{bytes} {}", time.as_nanos());
    // The other thread still receives; the reset of its connection is what ends the sender.
    std::process::exit(0);
}

/// Bytes of the window, and how long it was.
fn watch(taken: &AtomicU64, warmup: Duration, duration: Duration) -> anyhow::Result<(u64, Duration)> {
    let deadline = Instant::now() + SENDER_MAX;
    while taken.load(Ordering::Relaxed) == 0 {
        anyhow::ensure!(Instant::now() < deadline, "nothing was sent");
        sleep(LOOK_EVERY);
    }
    sleep(warmup);
    let (before, since) = (taken.load(Ordering::Relaxed), Instant::now());
    sleep(duration);
    let (after, time) = (taken.load(Ordering::Relaxed), since.elapsed());
    Ok((after - before, time))
}

fn receive(sock: &TcpStream, cpu: u32, chunk: usize, taken: &AtomicU64) {
    affinity::pin_this_thread(cpu).expect("the bare receiver can be pinned");
    let mut buffer = MmapOptions::new().len(chunk).populate().map_anon().expect("memory for one buffer");
    let mut bytes = 0;
    loop {
        // SAFETY: the pointer and length are those of a live mapping of our own that nobody else sees.
        let got = unsafe { libc::recv(sock.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        match got {
            1.. => bytes += got as u64,
            0 => return,
            _ if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            _ => return,
        }
        // This thread alone writes it: a store is a plain move.
        taken.store(bytes, Ordering::Relaxed);
    }
}
