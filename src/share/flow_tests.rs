use std::future::poll_fn;
use std::os::unix::fs::FileExt;

use hyper_util::rt::TokioIo;

use super::super::wire::{BLANK_BYTES, BLANK_BYTES_MIN, BUFFER_BYTES, Wire};
use super::*;

async fn all(mut flow: Flow) -> io::Result<Vec<u8>> {
    let mut got = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut flow).poll_frame(cx)).await {
        got.extend_from_slice(&frame?.into_data().unwrap());
    }
    Ok(got)
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

#[test]
fn what_is_written_arrives_whole_and_in_order() {
    let sent: Vec<u8> = (0..5 * PIECE_BYTES + 3).map(|at| (at % 251) as u8).collect();
    let (tap, flow) = flow(PIECES_MAX);
    let expected = sent.clone();
    let thread = std::thread::spawn(move || {
        let mut sink = tap.sink();
        for part in sent.chunks(70_001) {
            sink.write_all(part).unwrap();
        }
        sink.finish().unwrap();
    });
    assert!(run(all(flow)).unwrap() == expected);
    thread.join().unwrap();
}

#[test]
fn what_has_no_end_is_an_error() {
    let (tap, flow) = flow(PIECES_MAX);
    std::thread::spawn(move || {
        let mut sink = tap.sink();
        sink.write_all(&[1; 10]).unwrap();
        sink.cut();
        sink.write_all(&[2; 2 * PIECE_BYTES]).unwrap();
        assert!(sink.finish().is_err());
    });
    assert_eq!(run(all(flow)).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn a_writer_learns_that_nobody_listens() {
    let (tap, flow) = flow(PIECES_MAX);
    drop(flow);
    assert!(tap.is_closed());
    let mut sink = tap.sink();
    assert_eq!(sink.write_all(&[0; 2 * PIECE_BYTES]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    // It may say goodbye now.
    assert!(sink.write_all(&[0; 2 * PIECE_BYTES]).is_ok() && sink.finish().is_err());
}

/// What a thread says.
#[derive(Clone, Debug)]
enum Said {
    Bytes(usize),
    /// From where, how much, and whether it is read and a writer sees the bytes.
    File(usize, usize, bool),
}

/// A file, and what is in it: no part of it is like another.
fn file(len: usize) -> (Arc<File>, Vec<u8>) {
    let content: Vec<u8> = (0..len as u32 / 4).flat_map(|n| n.wrapping_mul(0x9e37_79b1).to_le_bytes()).collect();
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(path.path(), &content).unwrap();
    (Arc::new(File::open(path.path()).unwrap()), content)
}

/// What a writer that counts would do with a range of a file.
fn seen(sink: &Sink, (file, content): (&File, &[u8]), mut range: std::ops::Range<usize>) {
    while !range.is_empty() {
        let mut writer = sink.clone();
        let (from, expected) = (range.start, &content[range.clone()]);
        let see = |bytes: &[u8]| {
            assert!(expected.starts_with(bytes));
            bytes.chunks(99_999).try_for_each(|part| writer.write_all(part))
        };
        range.start += sink.fill_seen(range.len(), |buffer| file.read_at(buffer, from as u64), see).unwrap();
    }
}

/// Send what is said over a connection of hyper's with small buffers; what came, and what should have.
fn through(said: Vec<Said>, (file, content): &(Arc<File>, Vec<u8>)) -> (Vec<u8>, Vec<u8>) {
    let mut expected = Vec::new();
    for one in &said {
        match *one {
            Said::Bytes(len) => expected.extend_from_slice(&vec![0xaa; len]),
            Said::File(at, len, _) => expected.extend_from_slice(&content[at..at + len]),
        }
    }
    let (file, content) = (file.clone(), content.clone());
    let say = move |tap: Tap| {
        let mut sink = tap.sink();
        assert!(sink.sends_files());
        for one in said {
            match one {
                Said::Bytes(len) => sink.write_all(&vec![0xaa; len]).unwrap(),
                Said::File(at, len, false) => sink.file(&file, at as u64, len).unwrap(),
                Said::File(at, len, true) => seen(&sink, (&file, &content), at..at + len),
            }
        }
        sink.finish().unwrap();
    };
    let got = run(async move {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        socket2::SockRef::from(&near).set_recv_buffer_size(50_000).unwrap();
        let far = listener.accept().await.unwrap().0;
        socket2::SockRef::from(&far).set_send_buffer_size(50_000).unwrap();
        let wire = Wire::new(far);
        let (tap, flow) = flow_by(PIECES_MAX, Some(wire.orders()));
        let thread = std::thread::spawn(move || say(tap));
        let flow = std::sync::Mutex::new(Some(flow));
        let service = hyper::service::service_fn(|_| {
            let flow = flow.lock().unwrap().take().unwrap();
            async { Ok::<_, std::convert::Infallible>(axum::http::Response::new(flow)) }
        });
        let mut server = hyper::server::conn::http1::Builder::new();
        let serving = server.max_buf_size(BUFFER_BYTES).serve_connection(TokioIo::new(wire), service);
        let reading = async {
            let (mut asking, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
            tokio::spawn(connection);
            let request = axum::http::Request::new(axum::body::Body::empty());
            let body = asking.send_request(request).await.unwrap().into_body();
            axum::body::to_bytes(axum::body::Body::new(body), usize::MAX).await.unwrap()
        };
        let (served, got) = tokio::join!(serving, reading);
        served.unwrap();
        thread.join().unwrap();
        got.to_vec()
    });
    (got, expected)
}

#[test]
fn stretches_of_files_come_in_their_place() {
    let sample = file(2 * BLANK_BYTES);
    // Just less than hyper keeps before it takes more, and then a stretch: the most that is ahead of one.
    for len in [BUFFER_BYTES - 300, BUFFER_BYTES - 13, BUFFER_BYTES - 1, BUFFER_BYTES, PIECE_BYTES, BLANK_BYTES] {
        let said = vec![Said::Bytes(len), Said::File(4096, BLANK_BYTES, true), Said::File(0, BLANK_BYTES_MIN, false)];
        let (got, expected) = through([said.clone(), said].concat(), &sample);
        assert!(got == expected, "{len}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]
    #[test]
    fn bytes_and_stretches_keep_their_order(said in proptest::collection::vec(one(), 0..12)) {
        let (got, expected) = through(said, &file(2 * BLANK_BYTES));
        proptest::prop_assert!(got == expected);
    }
}

fn one() -> impl proptest::strategy::Strategy<Value = Said> {
    use proptest::prelude::*;
    let few = prop_oneof![0..100_usize, BUFFER_BYTES - 100..BUFFER_BYTES + 100, 0..3 * PIECE_BYTES];
    let len = prop_oneof![Just(BLANK_BYTES_MIN), Just(BLANK_BYTES), BLANK_BYTES_MIN..=BLANK_BYTES];
    prop_oneof![
        few.prop_map(Said::Bytes),
        (0..=BLANK_BYTES, len, any::<bool>()).prop_map(|(at, len, is_seen)| Said::File(at, len, is_seen)),
    ]
}

#[test]
fn a_writer_that_sees_bytes_writes_just_those() {
    let read = |buffer: &mut [u8]| Ok(buffer.len().min(100));
    for (writes, is_right) in [(100, true), (99, false), (101, false), (0, false)] {
        let (tap, _flow) = flow(PIECES_MAX);
        let sink = tap.sink();
        let mut writer = sink.clone();
        assert_eq!(sink.fill_seen(1000, read, |_| writer.write_all(&vec![0; writes])).is_ok(), is_right, "{writes}");
    }
}

#[test]
fn what_nobody_can_send_is_an_error_and_never_left_out() {
    let (sample, _) = file(BLANK_BYTES);
    for orders in [None, Some(Orders::default())] {
        // Without orders, and of a length that no blank has.
        let (tap, flow) = flow_by(PIECES_MAX, orders.clone());
        let file = sample.clone();
        let len = if orders.is_some() { BLANK_BYTES_MIN - 1 } else { BLANK_BYTES };
        let thread = std::thread::spawn(move || {
            let sink = tap.sink();
            sink.file(&file, 0, len).and_then(|()| sink.finish())
        });
        assert!(run(all(flow)).is_err());
        let _ = thread.join().unwrap();
    }
}
