//! Whoever records all bytes between the two ends learns nothing: no ticket, no secret, no path, no message, and with
//! streams in TLS no payload.

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use common::host::Host;
use common::peer::preface;
use common::{folder, run_bounded};
use linerate::proto::wire::{Frame, FrameKind, Length};

/// Most bytes that are kept of each direction of each connection.
const KEPT_MAX: usize = 2 << 20;
/// Stands in the payload again and again.
const MARKER: &[u8] = b"<the payload of this file, marked>";
/// The sink's name, which is said to the server.
const SINK: &str = "a-sink-that-nobody-needs-to-know-of";

/// All that went over one connection in one direction, up to [`KEPT_MAX`].
type Record = Arc<Mutex<Vec<u8>>>;

/// Somebody in between who passes everything on.
struct Recorder {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Record>>>,
}

impl Recorder {
    fn between(server: SocketAddr) -> Recorder {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, is_over) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let over = is_over.clone();
        let thread = std::thread::spawn(move || {
            let mut records = Vec::new();
            for client in listener.incoming() {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let (client, server) = (client.unwrap(), TcpStream::connect(server).unwrap());
                records.push(carry(client.try_clone().unwrap(), server.try_clone().unwrap()));
                records.push(carry(server, client));
            }
            records
        });
        Recorder { address, is_over, thread: Some(thread) }
    }

    /// Everything that was said, one record for each direction of each connection.
    fn finish(mut self) -> Vec<Vec<u8>> {
        self.is_over.store(true, Ordering::Relaxed);
        // It waits for somebody to come.
        drop(TcpStream::connect(self.address));
        let records = self.thread.take().unwrap().join().unwrap();
        records.iter().map(|record| record.lock().unwrap().clone()).collect()
    }
}

/// Pass on what comes, until the connection ends; the thread ends with it.
fn carry(mut from: TcpStream, mut to: TcpStream) -> Record {
    let record = Record::default();
    let kept = record.clone();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            let mut kept = kept.lock().unwrap();
            let room = KEPT_MAX - kept.len();
            kept.extend_from_slice(&buffer[..n.min(room)]);
            drop(kept);
            if to.write_all(&buffer[..n]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
        let _ = from.shutdown(Shutdown::Read);
    });
    record
}

fn holds(records: &[Vec<u8>], needle: &[u8]) -> bool {
    records.iter().any(|record| record.windows(needle.len()).any(|window| window == needle))
}

/// What is recorded of a measurement with that ticket, a marked source and a named sink.
fn recorded(host: &Host, options: &[&str]) -> Vec<Vec<u8>> {
    let source = host.away().join("source");
    std::fs::write(&source, MARKER.repeat(100_000)).unwrap();
    let recorder = Recorder::between(host.serving.address());
    let mut command = host.somebody(&["bench", "-q", "--json", "run.json", "--rounds", "2", "--methods", "write"]);
    command.args(["--duration", "20ms", "--warmup", "5ms", "--sizes", "64KiB", "--source", "source", "--sink", SINK]);
    command.args(options).arg(recorder.address.to_string()).env("LINERATE_TICKET", &host.text);
    run_bounded(&mut command).expect(0);
    recorder.finish()
}

/// What nobody may read on the wire, whatever the streams are protected by.
#[track_caller]
fn check_control(host: &Host, records: &[Vec<u8>]) {
    let ticket = host.ticket();
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let table: [(&str, &[u8]); 6] = [
        ("the ticket", &host.text.as_bytes()[3..23]),
        ("the secret", &ticket.secret.0),
        ("the path", SINK.as_bytes()),
        // Every description of a server holds these.
        ("a method in a message", b"sendfile"),
        ("the kernel in a message", release.trim().as_bytes()),
        ("a preface", &preface()),
    ];
    for (what, needle) in table {
        assert!(!holds(records, needle), "{what} can be read on the wire");
    }
    assert!(records.iter().any(|record| record.starts_with(&[22, 3])), "there was a TLS handshake");
}

/// What every frame of a measurement begins with; ciphertext holds so many bytes by chance only once in an age.
fn frame_start() -> Vec<u8> {
    let frame = Frame { kind: FrameKind::Data, file: 0, offset: 0, length: Length::UntilEnd };
    frame.encode()[..8].to_vec()
}

fn host(folder: &Path) -> Host {
    Host::of_folder(folder)
}

#[test]
fn of_a_session_with_streams_in_the_clear_only_the_streams_can_be_read() {
    let dir = folder();
    let host = host(dir.path());
    let records = recorded(&host, &["--tls", "off"]);
    check_control(&host, &records);
    // So the recording works.
    assert!(holds(&records, MARKER) && holds(&records, &frame_start()) && holds(&records, b"lr-data\n"));
}

#[test]
fn of_a_session_with_streams_in_tls_nothing_can_be_read() {
    let dir = folder();
    let host = host(dir.path());
    let records = recorded(&host, &["--tls", "on"]);
    check_control(&host, &records);
    for needle in [MARKER, &frame_start(), b"lr-data\n"] {
        assert!(!holds(&records, needle), "{:?}", String::from_utf8_lossy(needle));
    }
    let payload: usize = records.iter().map(Vec::len).sum();
    assert!(payload > 100_000, "there were streams: {payload} bytes");
    // Every byte of every connection is in a record of TLS.
    for record in &records {
        assert!(is_tls(record), "{:?}", &record[..record.len().min(40)]);
    }
}

/// Whether bytes are TLS records, one after the other; the last may be cut.
fn is_tls(mut bytes: &[u8]) -> bool {
    while let Some((&[kind, 3, 1 | 3, high, low], rest)) = bytes.split_first_chunk() {
        if !(20..=23).contains(&kind) {
            return false;
        }
        bytes = rest.get(usize::from(u16::from_be_bytes([high, low]))..).unwrap_or_default();
    }
    bytes.len() < 5
}
