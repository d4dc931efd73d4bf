//! Receivers of a copy that want what is not theirs, and a server that sends its client where it did not ask to go.

mod common;

use std::collections::BTreeMap;
use std::io::Read;
use std::net::TcpListener;

use common::peer::{Talk, TlsPeer, preface, said, welcome};
use common::tree::Tree;
use common::victim::{Victim, entries, entry, file, outside, prepare, pushing, symlink};
use common::{folder, names_in, run_bounded};
use linerate::proto::copy::options::{CopyOptions, CopyRoute};
use linerate::proto::copy::{CopyMessage, Ending, ITEMS_MAX, Settlement, TRIES_MAX, Want};
use linerate::proto::facts::TcpSummary;
use linerate::proto::manifest::{Entry, EntryId, EntryKind};
use linerate::proto::message::{Message, Reply, Request};
use linerate::proto::ticket::Ticket;
use linerate::proto::wire::PREFACE_BYTES;
use linerate::trust::identity::Identity;

#[test]
fn a_receiver_gets_no_more_than_is_offered() {
    let victim = Victim::new();
    std::fs::File::create(victim.served("source/huge")).unwrap().set_len(64 << 30).unwrap();
    let want = |id, first, count| CopyMessage::Wants(vec![Want { id, first, count }]);
    let end = CopyMessage::ScanEnd { entries: 0, is_whole: true };
    let table = [
        ("no entry", vec![want(4, 0, 1)], "speaks of entry 4,"),
        ("the last number", vec![want(u64::MAX, 0, 1)], "which it cannot mean"),
        ("a folder", vec![want(0, 0, 1)], "speaks of entry 0,"),
        ("behind the end", vec![want(1, 1, 1)], "speaks of block"),
        ("none", vec![want(1, 0, 0)], "speaks of block"),
        ("more than all", vec![want(1, 0, 2)], "speaks of block"),
        ("more than a number holds", vec![want(1, 1, u32::MAX)], "speaks of block"),
        ("again and again", vec![want(1, 0, 1); 2 + usize::from(TRIES_MAX)], "again and again"),
        (
            "asked again and again",
            vec![CopyMessage::Ask(vec![Want { id: 1, first: 0, count: 1 }; 9])],
            "again and again",
        ),
        ("settled twice", vec![CopyMessage::Settled(vec![(1, Settlement::Had); 2])], "speaks of entry 1,"),
        ("settled what is none", vec![CopyMessage::Settled(vec![(9, Settlement::Had)])], "speaks of entry 9,"),
        ("the end too early", vec![CopyMessage::End(Ending::default())], "out of turn"),
        ("entries", vec![CopyMessage::Entries(Vec::new())], "out of turn"),
        ("digests", vec![CopyMessage::Digests(Vec::new())], "out of turn"),
        ("an end of a scan", vec![end], "out of turn"),
        (
            "too many wants",
            vec![CopyMessage::Wants(vec![Want { id: 1, first: 0, count: 1 }; ITEMS_MAX + 1])],
            "more at once",
        ),
        ("too much", vec![want(2, 0, 65_536); 3], "more at once"),
    ];
    for (name, messages, word) in table {
        let mut peer = victim.pull("source");
        // In the order of the table: the folder, the small file, the huge one.
        let mut numbers = BTreeMap::new();
        while numbers.len() < 4 {
            let Some(CopyMessage::Entries(entries)) = peer.hear() else { panic!("{name}: {:?}", peer.why) };
            let rank = |kind: &EntryKind| match kind {
                EntryKind::Folder => 0,
                EntryKind::File { len: 3000, .. } => 1,
                EntryKind::File { .. } => 2,
                _ => 3,
            };
            numbers.extend(entries.iter().map(|entry| (rank(&entry.kind), entry.id)));
        }
        let real = |id: EntryId| numbers.get(&id).copied().unwrap_or(id);
        for message in messages {
            peer.say(match message {
                CopyMessage::Wants(wants) => {
                    CopyMessage::Wants(wants.into_iter().map(|want| Want { id: real(want.id), ..want }).collect())
                }
                CopyMessage::Ask(wants) => {
                    CopyMessage::Ask(wants.into_iter().map(|want| Want { id: real(want.id), ..want }).collect())
                }
                CopyMessage::Settled(settled) => {
                    CopyMessage::Settled(settled.into_iter().map(|(id, settled)| (real(id), settled)).collect())
                }
                other => other,
            });
        }
        let word = match word.strip_prefix("speaks of entry ").and_then(|n| n.trim_end_matches(',').parse().ok()) {
            Some(id) => format!("speaks of entry {},", real(id)),
            None => word.to_string(),
        };
        peer.gets_refused(name, &word);
    }
    victim.is_unharmed();
}

#[test]
fn a_source_outside_is_not_read() {
    let victim = Victim::new();
    let secret = victim.dir.path().join("outside/secret").display().to_string();
    let sources =
        ["..", "../outside", "a/../../outside/secret", &secret, "out/secret", "out/", "source/secret/", "x\0"];
    for from in sources {
        let route = CopyRoute::Pull { from: vec![from.as_bytes().to_vec()] };
        match victim.begin(route, CopyOptions::default()) {
            Err(Reply::Missing(why)) => assert!(!why.contains('\n'), "{why}"),
            Err(reply) => panic!("{from}: {reply:?}"),
            // Then it is passed over, or comes as the link that it is.
            Ok(mut peer) => loop {
                match peer.hear() {
                    Some(CopyMessage::Entries(entries)) => {
                        let is_link = |entry: &Entry| matches!(entry.kind, EntryKind::Symlink { .. });
                        assert!(entries.iter().all(is_link), "{from}: {entries:?}");
                    }
                    Some(CopyMessage::ScanEnd { .. }) => break,
                    other => panic!("{from}: {other:?}"),
                }
            },
        }
    }
    victim.is_unharmed();
}

#[test]
fn each_way_takes_its_right() {
    let victim = Victim::new();
    let reading = CopyRoute::Pull { from: vec![b"kept".to_vec()] };
    for (right, route, lacks) in [("read", pushing(b"", &[None]), "write"), ("write", reading, "read")] {
        let ticket = Ticket::decode(&victim.host.new_ticket(&["--allow", right])).unwrap();
        let mut talk = Talk::open(victim.host.serving.address(), &ticket);
        let reply = prepare(&mut talk, route, CopyOptions::default());
        assert!(matches!(&reply, Reply::Refused(why) if why.contains(lacks)), "{right}: {reply:?}");
    }
    victim.is_unharmed();
}

/// A server that answers a pull with these entries, and lets the client settle them.
fn lying_server(entries: Vec<Entry>) -> (String, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let lying = std::thread::spawn(move || {
        let mut peer = TlsPeer::server(&listener, &Identity::ephemeral().unwrap()).unwrap();
        peer.send_plain(&preface()).unwrap();
        peer.recv_exact(PREFACE_BYTES).unwrap();
        let mut streams = Vec::new();
        let count = entries.len() as u64;
        let copy = |body| said(&Message::Copy { job: 1, body });
        let offer =
            [copy(CopyMessage::Entries(entries)), copy(CopyMessage::ScanEnd { entries: count, is_whole: true })];
        // Until the client has enough, or has heard all.
        while let Ok(length) = peer.recv_exact(4) {
            let length = u32::from_le_bytes(length.try_into().unwrap());
            let Ok(body) = peer.recv_exact(length as usize) else { break };
            let answer = match postcard::from_bytes(&body).unwrap() {
                Message::Hello(_) => welcome(),
                Message::Ping => said(&Message::Pong),
                Message::Request { id, body } => {
                    let body = match body {
                        Request::PrepareCopy(job) => {
                            Reply::Prepared { job: 1, tokens: (0..job.streams).map(|n| [n as u8; 16]).collect() }
                        }
                        Request::Start(_) => {
                            streams.push(listener.accept().unwrap().0);
                            Reply::Started
                        }
                        Request::ReportCopy(_) => Reply::CopyReported(Box::default()),
                        _ => Reply::Stopped(TcpSummary::default()),
                    };
                    let is_start = body == Reply::Started;
                    let reply = said(&Message::Reply { id, body });
                    if is_start { [reply, offer.concat()].concat() } else { reply }
                }
                _ => continue,
            };
            if peer.send_plain(&answer).is_err() {
                break;
            }
        }
        for mut stream in streams {
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    (format!("lr://{address}"), lying)
}

#[test]
fn a_server_writes_only_where_its_client_meant() {
    let dir = folder();
    Tree::at(dir.path()).file("outside/secret", b"secret").dir("outside/sub").dir("near").dir("home");
    let before = outside(dir.path());
    let pull = |entries: Vec<Entry>| {
        let (server, lying) = lying_server(entries);
        let mut client = common::linerate(["copy", "--quiet", "--clear", "--streams", "1"]);
        common::at_home(&mut client, &dir.path().join("home"));
        let done = run_bounded(client.arg(format!("{server}/tree")).arg(dir.path().join("near")));
        lying.join().unwrap();
        assert_eq!(outside(dir.path()), before, "{done:#?}");
        done
    };
    for path in ["other", "../x", "/abs", "", "..", "treex"] {
        let done = pull(vec![entry(0, path, file(0))]);
        assert!(done.code != Some(0) && done.stderr.contains("not in what it announced"), "{path}: {done:#?}");
    }
    let inside = ["tree/../../x", "tree/link/x", "tree/link/sub", "tree//x", "tree/.."];
    let start = [("tree", EntryKind::Folder), ("tree/link", symlink(dir.path().join("outside")))];
    let done = pull(entries(start.into_iter().chain(inside.map(|path| (path, file(0))))));
    assert!(done.code != Some(0) && inside.iter().all(|path| done.stderr.contains(path)), "{done:#?}");
    assert_eq!(names_in(&dir.path().join("near")), ["tree"]);
    assert_eq!(names_in(&dir.path().join("near/tree")), ["link"]);
}
