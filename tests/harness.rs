//! The tools of the tests of `linerate copy` do what they say: the proxy, the builder of trees, and the comparison.

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use common::copy::{Site, SmallDisk, bound_by_modes};
use common::peer::{dial, read_to_the_end};
use common::proxy::{ANY, CLEAR_UP, DOWN, Kind, Proxy, UP, Way};
use common::tree::{ALL, CONTENT, PLAIN, Tree, assert_same, count, differences, name, no_temporaries, noise};
use common::{folder, is_root, run_bounded};

/// A server that sends back what comes, on so many connections in turn.
fn echo(connections: usize) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let serve = |mut sock: TcpStream| {
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut sock.try_clone().unwrap(), &mut sock);
                let _ = sock.shutdown(Shutdown::Both);
            })
        };
        let serving: Vec<_> = (0..connections).map(|_| serve(listener.accept().unwrap().0)).collect();
        serving.into_iter().for_each(|thread| thread.join().unwrap());
    });
    (address, thread)
}

/// Send all of it from a thread, and read what comes back.
fn round_trip(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let sock = dial(address);
    let mut writing = sock.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let _ = writing.write_all(bytes);
            let _ = writing.shutdown(Shutdown::Write);
        });
        let mut back = Vec::new();
        let _ = (&sock).read_to_end(&mut back);
        back
    })
}

/// What a data stream in the clear could look like.
fn clear(bytes: usize) -> Vec<u8> {
    [&b"lr-data\n"[..], &noise(bytes, 7)].concat()
}

#[test]
fn the_proxy_passes_all_on_and_counts_it() {
    let (server, thread) = echo(4);
    let proxy = Proxy::start(server);
    let tls = [&[0x16][..], &noise(100_000, 3)].concat();
    let sent = [clear(300_000), tls, b"short".to_vec(), Vec::new()];
    for bytes in &sent {
        assert!(round_trip(proxy.address(), bytes) == *bytes);
    }
    let total: usize = sent.iter().map(Vec::len).sum();
    assert_eq!((proxy.bytes(ANY), proxy.bytes(CLEAR_UP)), (2 * total as u64, sent[0].len() as u64));
    assert_eq!([Kind::Tls, Kind::Clear, Kind::Other].map(|kind| proxy.connections(kind)), [1, 1, 2]);
    proxy.wait_quiet();
    assert!(!proxy.wait_bytes(DOWN, u64::MAX, || true), "all is over");
    thread.join().unwrap();
}

#[test]
fn the_proxy_cuts_after_so_many_bytes_and_passes_what_comes_later() {
    let (server, thread) = echo(2);
    let proxy = Proxy::start(server);
    proxy.cut_after(CLEAR_UP, 123_456);
    let bytes = clear(1_000_000);
    let back = round_trip(proxy.address(), &bytes);
    assert!(proxy.wait_cuts(1, || false) && proxy.cuts() == 1);
    assert!(back.len() <= 123_456 && bytes.starts_with(&back), "{} bytes", back.len());
    assert_eq!(proxy.bytes(CLEAR_UP), 123_456);
    assert!(round_trip(proxy.address(), &bytes) == bytes);
    thread.join().unwrap();
}

#[test]
fn the_proxy_holds_until_it_is_told_to_go_on() {
    let (server, thread) = echo(2);
    let proxy = Proxy::start(server);
    proxy.hold_after(CLEAR_UP, 50_000);
    let (address, bytes) = (proxy.address(), clear(200_000));
    let held = std::thread::spawn(move || round_trip(address, &clear(200_000)));
    assert!(proxy.wait_held(|| false));
    assert_eq!(proxy.bytes(CLEAR_UP), 50_000);
    // What was not meant passes meanwhile.
    assert_eq!(round_trip(address, b"\x16 is something else"), b"\x16 is something else");
    proxy.go_on();
    assert!(held.join().unwrap() == bytes);
    thread.join().unwrap();
}

#[test]
fn the_proxy_damages_the_bit_that_it_was_told_to() {
    let (server, thread) = echo(3);
    let proxy = Proxy::start(server);
    proxy.flip(Way::Up, Kind::Clear, 1, 70_003);
    proxy.flip(Way::Down, Kind::Tls, 0, 2);
    let bytes = clear(100_000);
    assert!(round_trip(proxy.address(), &bytes) == bytes, "the first stream");
    let back = round_trip(proxy.address(), &bytes);
    let wrong: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at] != back[at]).collect();
    assert_eq!((wrong, bytes[70_003] ^ back[70_003]), (vec![70_003], 1 << (70_003 % 8)));
    assert_eq!(round_trip(proxy.address(), b"\x16abc"), [0x16, b'a', b'b' ^ 4, b'c']);
    assert_eq!(proxy.flipped(), 2);
    thread.join().unwrap();
}

#[test]
fn the_proxy_splits_and_delays_and_nothing_is_lost() {
    let (server, thread) = echo(1);
    let proxy = Proxy::start(server);
    proxy.split(3);
    proxy.delay(Duration::from_micros(1));
    let bytes = clear(2000);
    assert!(round_trip(proxy.address(), &bytes) == bytes);
    thread.join().unwrap();
}

#[test]
fn the_proxy_leads_elsewhere_or_nowhere_and_ends_with_whoever_waits() {
    let (server, thread) = echo(1);
    let proxy = Proxy::start(server);
    proxy.lead_to(None);
    assert_eq!(read_to_the_end(dial(proxy.address())), b"");
    proxy.lead_to(Some(server));
    proxy.hold_after(UP, 1);
    let mut waiting = dial(proxy.address());
    waiting.write_all(b"12").unwrap();
    assert!(proxy.wait_held(|| false));
    drop(proxy);
    let _ = waiting.read(&mut [0; 8]);
    thread.join().unwrap();
}

#[test]
fn a_site_has_a_daemon_behind_a_proxy_that_comes_again_after_it_was_killed() {
    let mut site = Site::new();
    let enter = |site: &Site| {
        let options = [
            &["bench", "-q", "--json", "run.json", "--no-latency", "--methods", "write", "--sizes", "4KiB"][..],
            &common::QUICK,
        ];
        let before = site.proxy.bytes(ANY);
        let mut bench = site.command(options.concat());
        // To be let in is enough: this ticket is none to measure with.
        let done = run_bounded(bench.arg(site.proxy.address().to_string())).expect(1);
        let is_let_in = done.stderr.contains("the ticket gives read,write");
        assert!(is_let_in && site.proxy.bytes(ANY) > before, "{done:#?}");
    };
    enter(&site);
    let pid = site.server();
    site.restart_server();
    assert!(site.server() != pid && !common::is_alive(pid));
    enter(&site);
}

#[test]
fn a_small_disk_is_small_grows_and_goes() {
    let dir = folder();
    let at = dir.path().join("disk");
    let Some(disk) = SmallDisk::mount(&at, "1m") else { return };
    assert!(std::fs::write(at.join("file"), noise(2 << 20, 1)).is_err());
    disk.grow("4m");
    std::fs::write(at.join("file"), noise(2 << 20, 1)).unwrap();
    drop(disk);
    assert_eq!(count(&at), 0);
}

#[test]
fn a_program_can_be_bound_by_modes() {
    let dir = folder();
    Tree::at(dir.path()).file("f", b"1").mode("f", 0);
    let mut cat = std::process::Command::new("cat");
    if bound_by_modes(&mut cat) {
        let done = run_bounded(cat.arg(dir.path().join("f"))).expect(1);
        assert!(done.stderr.contains("Permission denied"), "{done:#?}");
    }
}

/// A copy by a program that is known to be right, unless it is not installed.
fn copied(source: &Path, copy: &Path) {
    let done = std::process::Command::new("cp").args(["-a", "--sparse=always"]).arg(source).arg(copy).status().unwrap();
    assert!(done.success());
}

#[test]
fn a_tree_of_everything_is_the_same_as_its_copy() {
    let dir = folder();
    let tree = Tree::of_everything(dir.path().join("a"));
    assert!(count(tree.path()) > 100);
    copied(tree.path(), &dir.path().join("b"));
    assert_same(tree.path(), &dir.path().join("b"), ALL);
    no_temporaries(tree.path());
}

#[test]
fn a_random_tree_follows_from_its_seed() {
    let dir = folder();
    let [a, b, c] =
        [("a", 5), ("b", 5), ("c", 6)].map(|(at, seed)| Tree::random(dir.path().join(at), seed, 200, 200_000));
    assert_same(a.path(), b.path(), PLAIN);
    assert_eq!(count(a.path()), 200);
    assert!(!differences(a.path(), c.path(), CONTENT).is_empty());
}

/// What is done to a copy, and in which words the comparison has to say so.
type Change = (&'static str, fn(&Tree), &'static str);

#[test]
fn every_difference_is_found_and_named() {
    let changes: [Change; 13] = [
        (
            "a file is missing",
            |t| std::fs::remove_file(t.path().join("one")).unwrap(),
            "\"one\": is not in the copy (file)",
        ),
        ("a file is too much", |t| _ = t.file("more", b""), "\"more\": is only in the copy (file)"),
        ("a byte differs", |t| _ = t.file("one", b"0123x56789"), "\"one\": content differs from byte 4 of 10 on"),
        ("a length differs", |t| _ = t.file("one", b""), "\"one\": 10 bytes, its copy 0"),
        ("a mode differs", |t| _ = t.mode("one", 0o600), "\"one\": mode 644, its copy 600"),
        ("a time differs", |t| _ = t.mtime("one", Duration::new(7, 9)), "its copy 7.000000009"),
        ("a time of a link differs", |t| _ = t.mtime("link", Duration::new(7, 9)), "\"link\": modified"),
        ("a time of a folder differs", |t| _ = t.mtime("dir", Duration::new(7, 9)), "\"dir\": modified"),
        ("a kind differs", |t| replace(t, "link", |t| _ = t.dir("link")), "\"link\": is a link, its copy a folder"),
        (
            "a target differs",
            |t| replace(t, "link", |t| _ = t.symlink("link", "2")),
            "leads to \"one\", its copy to \"2\"",
        ),
        (
            "a hard link is broken",
            |t| replace(t, "two", |t| _ = t.file("two", b"0123456789")),
            "\"two\": is the same file",
        ),
        ("a hole is filled", |t| _ = t.file("holes", &[0; 1 << 20]), "0 of 1048576 bytes on the disk"),
        ("a file is a folder", |t| replace(t, "one", |t| _ = t.fifo("one")), "\"one\": is a file, its copy a FIFO"),
    ];
    for (what, change, words) in changes {
        let dir = folder();
        let tree = Tree::at(dir.path().join("a"));
        tree.file("one", b"0123456789").mode("one", 0o644).hard_link("two", "one").symlink("link", "one");
        tree.dir("dir").sparse("holes", 1 << 20, &[]).file(name(b"\xff\n"), b"").settle();
        let copy = Tree::at(dir.path());
        copied(tree.path(), &dir.path().join("b"));
        assert_same(tree.path(), &dir.path().join("b"), ALL);
        let _ = copy;
        change(&Tree::at(dir.path().join("b")));
        let found = differences(tree.path(), &dir.path().join("b"), ALL);
        assert!(found.iter().any(|line| line.contains(words)), "{what}: {found:#?}");
    }
}

fn replace(tree: &Tree, path: &str, by: fn(&Tree)) {
    std::fs::remove_file(tree.path().join(path)).unwrap();
    by(tree);
}

#[test]
fn attributes_and_owners_are_compared_where_that_is_asked_for() {
    let dir = folder();
    let [a, b] = ["a", "b"].map(|at| Tree::at(dir.path().join(at)));
    for tree in [&a, &b] {
        tree.file("f", b"1").settle();
    }
    if a.xattr("f", "user.linerate", b"1") {
        assert_same(a.path(), b.path(), PLAIN);
        let found = differences(a.path(), b.path(), ALL);
        assert!(found.len() == 1 && found[0].contains("user.linerate"), "{found:?}");
    }
    if is_root() {
        std::os::unix::fs::lchown(b.path().join("f"), Some(7), None).unwrap();
        let found = differences(a.path(), b.path(), ALL);
        assert!(found.iter().any(|line| line.contains("of its copy (7, ")), "{found:?}");
    }
}

#[test]
#[should_panic(expected = ".lr-0123")]
fn a_temporary_is_found_however_deep() {
    let dir = folder();
    Tree::at(dir.path()).file("a/b/.lr-0123-4", b"");
    no_temporaries(dir.path());
}
