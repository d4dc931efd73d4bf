//! Senders of a copy that lie: their paths, links, pieces, digests and numbers are not what they should be. Each time
//! nothing outside the folder is touched, whoever lies is told one reason, and the next client is served.

mod common;

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use common::tree::no_temporaries;
use common::victim::{LEN, PIECE, Victim, entries, entry, file, frame, hard_link, pack, prepare, pushing, symlink};
use common::{names_in, run_bounded, wait_until};
use linerate::proto::copy::options::{CopyOptions, CopySpec, Durability};
use linerate::proto::copy::pack::{FILES_MAX, HeadersCheck, directory, header};
use linerate::proto::copy::{CopyMessage, Digest, Ending, ITEMS_MAX, Settlement, TRIES_MAX, UNSETTLED_MAX, Want};
use linerate::proto::manifest::{ENTRIES_PER_MESSAGE_MAX, Entry, EntryId, EntryKind};
use linerate::proto::message::{CopyJob, Reply, Request, SocketOptions};
use linerate::proto::verify::BlockHash;
use linerate::proto::wire::{Frame, FrameKind, Length};
use linerate::transfer::keeping::TAKEN;

#[test]
fn no_path_leads_out_of_the_folder() {
    let victim = Victim::new();
    let long = ["a"; 3000].join("/");
    let paths =
        ["../x", "/abs", "..", ".", "a/../../x", "a/..", "./a", "a//b", "a/", "/", "", "a\0b", &"n".repeat(300), &long];
    let kinds = [file(0), file(9), symlink("kept"), hard_link(0, "kept"), hard_link(0, "../outside/secret")];
    let all = paths.iter().flat_map(|path| kinds.iter().map(move |kind| (*path, kind.clone())));
    victim.push().fails_all_but(entries(all), &[]);
    let folders = paths.iter().filter(|path| !path.is_empty()).map(|path| (*path, EntryKind::Folder));
    victim.push().fails_all_but(entries(folders), &[]);
    let secret = victim.dir.path().join("outside/secret").display().to_string();
    let sources = ["../outside/secret", &secret, "out/secret", "source/secret/x", "", ".", "..", "no such", "source"];
    let links = sources.iter().enumerate().map(|(n, path)| (format!("link{n}"), hard_link(u64::MAX - n as u64, path)));
    victim.push().fails_all_but(entries(links), &[]);
    assert_eq!(names_in(&victim.served("")), ["kept", "out", "source"]);
    victim.is_unharmed();
}

#[test]
fn what_was_sent_before_is_no_way_out() {
    let victim = Victim::new();
    let target = victim.dir.path().join("outside");
    let through = |link: &str| {
        let below = |name: &str| format!("{link}/{name}");
        [
            (below("secret"), file(0)),
            (below("new"), file(9)),
            (below("folder"), EntryKind::Folder),
            (below("sub"), EntryKind::Folder),
            (below("symlink"), symlink("x")),
            (below("hard"), hard_link(0, "kept")),
            (below("../../outside/sub/x"), file(0)),
        ]
    };
    // There already, sent just before, and in a folder that the same copy made.
    let mut all = vec![("link".to_string(), symlink(&target)), ("new".to_string(), EntryKind::Folder)];
    all.push(("new/link".to_string(), symlink("../../outside")));
    all.extend(["out", "link", "new/link"].into_iter().flat_map(through));
    for link in ["link", "new/link"] {
        all.push((link.to_string(), EntryKind::Folder));
        all.push((format!("{link}/again"), file(0)));
    }
    all.push(("stolen".to_string(), hard_link(1, "link/secret")));
    victim.push().fails_all_but(entries(all), &[0, 1, 2]);
    assert!(!victim.served("stolen").exists());
    victim.is_unharmed();
}

#[test]
fn only_what_was_announced_is_taken() {
    let victim = Victim::new();
    let options = CopyOptions { durability: Durability::None, ..CopyOptions::default() };
    for path in ["kept", "source/one", "", "onlyx", "out/secret"] {
        let mut peer = victim.push_as(&[Some(b"only")], options.clone());
        peer.say(CopyMessage::Entries(vec![entry(0, "only", hard_link(u64::MAX, path))]));
        peer.gets_refused(path, "not in what it announced");
    }
    for path in ["other", "onlyx", "", "../only", "/only", "kept", "onl"] {
        let mut peer = victim.push_as(&[Some(b"only")], options.clone());
        peer.say(CopyMessage::Entries(vec![entry(0, path, file(0))]));
        peer.gets_refused(path, "not in what it announced");
    }
    let peer = victim.push_as(&[Some(b"only")], options.clone());
    peer.fails_all_but(entries(["only/../../x", "only/../kept"].map(|path| (path, file(0)))), &[]);
    // Names that are none.
    for name in ["..", "../x", "", "/", "a/../../x"] {
        if let Ok(mut peer) = victim.begin(pushing(b"", &[Some(name.as_bytes())]), options.clone()) {
            peer.say(CopyMessage::Entries(vec![entry(0, name, file(0)), entry(1, format!("{name}/x"), file(0))]));
            peer.say(CopyMessage::ScanEnd { entries: 2, is_whole: true });
            let (settled, _) = peer.outcome();
            assert!(settled.values().all(|one| matches!(one, Settlement::Failed(_))), "{name}: {settled:?}");
        }
    }
    // Destinations that are none.
    for to in ["..", "../outside", "a/../../outside", "out/sub", "out/new", "out/", "kept/x", "no/where", "a\0"] {
        let Err(reply) = victim.begin(pushing(to.as_bytes(), &[Some(b"x")]), options.clone()) else { panic!("{to}") };
        assert!(matches!(&reply, Reply::Missing(why) if !why.contains('\n')), "{to}: {reply:?}");
    }
    victim.is_unharmed();
}

#[test]
fn pieces_that_do_not_fit_end_the_copy() {
    let victim = Victim::new();
    let piece = vec![7; PIECE];
    let until_end = Frame { file: 0, offset: 0, length: Length::UntilEnd, kind: FrameKind::Data }.encode().to_vec();
    let at = |offset, bytes| frame(FrameKind::Data, 0, offset, bytes);
    let many: Vec<(EntryId, &[u8])> = (0..=FILES_MAX as u64).map(|_| (1, &b"x"[..])).collect();
    let wrong_check = frame(FrameKind::Pack, 0, 5, &[&header(1, 5)[..], b"12345"].concat());
    let cut = frame(FrameKind::Pack, 0, 0, &header(1, 5));
    let giant = frame(FrameKind::Pack, 0, 0, &[&header(1, u32::MAX)[..], b"12345"].concat());
    let table = [
        ("unaligned", at(1, &piece), "does not fit"),
        ("short", at(0, &piece[1..]), "does not fit"),
        ("the last too long", at(LEN - 5, &piece[..6]), "does not fit"),
        ("the last too short", at(LEN - 5, &piece[..4]), "does not fit"),
        ("behind the end", at(4 * PIECE as u64, &piece), "does not fit"),
        ("far behind it", at(u64::MAX - PIECE as u64, &piece), "does not fit"),
        ("past all ends", at(u64::MAX, &piece), "frame past the end"),
        ("longer than a piece", at(0, &[&piece[..], b"x"].concat()), "malformed frame"),
        ("of no length", at(0, b""), "malformed frame"),
        ("without an end", until_end, "malformed frame"),
        ("garbage", vec![0xa5; 64], "malformed frame"),
        ("timed", frame(FrameKind::Timed, 0, 0, &piece), "does not fit"),
        ("no hole", frame(FrameKind::Hole, 0, 7, &[0; 8]), "does not fit"),
        ("a hole behind the end", frame(FrameKind::Hole, 0, 1 << 60, &[0; 8]), "does not fit"),
        ("a pack with another check", wrong_check, "pack"),
        ("a pack that is cut", cut, "pack"),
        ("a pack with a giant", giant, "pack"),
        ("a pack with too many", pack(&many), "pack"),
        ("a pack with an empty file", pack(&[(1, b"")]), "pack"),
        ("a pack with a longer file", pack(&[(1, b"123456")]), "does not fit"),
        ("a large file in a pack", pack(&[(0, b"12345")]), "does not fit"),
    ];
    for (name, bytes, word) in table {
        let mut peer = victim.push();
        peer.say(CopyMessage::Entries(vec![entry(0, "large", file(LEN)), entry(1, "small", file(5))]));
        peer.wanted(1);
        peer.send(&bytes);
        peer.gets_refused(name, word);
    }
    assert!(!victim.served("large").exists() && !victim.served("small").exists());
    victim.is_unharmed();
}

#[test]
fn what_nobody_wants_changes_nothing() {
    let victim = Victim::new();
    let mut peer = victim.push();
    let all = [("wanted", file(5)), ("skipped/x", file(5)), ("empty", file(0)), ("folder", EntryKind::Folder)];
    peer.say(CopyMessage::Entries(entries(all)));
    peer.wanted(0);
    for id in [1, 2, 3, 4, u64::MAX] {
        peer.send(&pack(&[(id, b"evil!")]));
        if id != 1 {
            peer.send(&frame(FrameKind::Data, id, 0, b"evil!"));
            peer.send(&frame(FrameKind::Hole, id, 0, &[0; 8]));
        }
    }
    // More than once, and more than one file has.
    peer.send_small(0, b"right");
    (0..2000).for_each(|_| peer.send(&pack(&[(0, b"wrong"), (0, b"again")])));
    peer.send(&frame(FrameKind::Data, 0, 0, b"wrong"));
    peer.say(CopyMessage::ScanEnd { entries: 4, is_whole: true });
    let (settled, result) = peer.outcome();
    assert!(result.is_ok() && matches!(settled[&1], Settlement::Failed(_)), "no folder: {settled:?} {result:?}");
    // What is wrong may come before what is right, too often; what gets its name is right.
    match &settled[&0] {
        Settlement::Done(_) => assert_eq!(std::fs::read(victim.served("wanted")).unwrap(), b"right"),
        other => assert!(matches!(other, Settlement::Failed(_)) && !victim.served("wanted").exists(), "{other:?}"),
    }
    assert_eq!(std::fs::read(victim.served("empty")).unwrap(), b"");
    victim.is_unharmed();
}

#[test]
fn a_block_that_is_never_right_fails_its_file_alone() {
    let victim = Victim::new();
    let mut peer = victim.push();
    peer.say(CopyMessage::Entries(entries([("bad", file(5)), ("good", file(5)), ("large", file(LEN))])));
    peer.say(CopyMessage::ScanEnd { entries: 3, is_whole: true });
    let mut sent = [0; 3];
    let result = loop {
        match peer.hear() {
            Some(CopyMessage::Wants(wants)) => {
                for Want { id, first, count } in wants {
                    sent[id as usize] += 1;
                    match id {
                        1 => peer.send_small(1, b"right"),
                        0 => {
                            peer.say_digest(0, 0, b"right");
                            peer.send(&pack(&[(0, b"wrong")]));
                        }
                        _ => {
                            for block in first..first + count {
                                let offset = u64::from(block) * PIECE as u64;
                                let bytes = vec![1; (LEN - offset).min(PIECE as u64) as usize];
                                peer.say_digest(2, block, b"of something else");
                                peer.send(&frame(FrameKind::Data, 2, offset, &bytes));
                            }
                        }
                    }
                }
            }
            Some(CopyMessage::End(ending)) => break ending,
            Some(_) => {}
            None => panic!("{:?}", peer.why),
        }
    };
    assert_eq!((result.failed_count, sent[0], sent[1]), (0, TRIES_MAX.into(), 1));
    for id in [0, 2] {
        let settled = &peer.settled[&id];
        assert!(matches!(settled, Settlement::Failed(why) if why.contains("arrived damaged 4 times")), "{settled:?}");
    }
    assert!(matches!(peer.settled[&1], Settlement::Done(Some(_))));
    assert!(!victim.served("bad").exists() && !victim.served("large").exists());
    no_temporaries(&victim.served(""));
    drop(peer);
    victim.is_unharmed();
}

#[test]
fn messages_that_break_the_rules_end_the_copy() {
    let victim = Victim::new();
    let offered =
        |ids: &[EntryId]| CopyMessage::Entries(ids.iter().map(|id| entry(*id, format!("f{id}"), file(5))).collect());
    let digest = |id, block, byte| Digest { id, block, hash: BlockHash([byte; 32]) };
    let want = vec![Want { id: 0, first: 0, count: 1 }];
    let end = |entries| CopyMessage::ScanEnd { entries, is_whole: true };
    let digests = |count| CopyMessage::Digests(vec![digest(0, 0, 1); count]);
    let unreadable = |id, count| CopyMessage::Unreadable(vec![(id, String::new()); count]);
    // After an entry that is wanted.
    let table = [
        ("a gap", vec![offered(&[2])], "numbers the entries"),
        ("a number again", vec![offered(&[0])], "numbers the entries"),
        ("backwards", vec![offered(&[1, 0])], "numbers the entries"),
        ("the last number", vec![offered(&[u64::MAX])], "numbers the entries"),
        ("too many announced", vec![end(2)], "numbers the entries"),
        ("too few announced", vec![end(0)], "numbers the entries"),
        ("entries after their end", vec![end(1), offered(&[1])], "out of turn"),
        ("two ends", vec![end(1), end(1)], "out of turn"),
        ("wants", vec![CopyMessage::Wants(want.clone())], "out of turn"),
        ("questions", vec![CopyMessage::Ask(want)], "out of turn"),
        ("settlements", vec![CopyMessage::Settled(vec![(0, Settlement::Had)])], "out of turn"),
        ("the end", vec![CopyMessage::End(Ending::default())], "out of turn"),
        ("a digest of nothing", vec![CopyMessage::Digests(vec![digest(1, 0, 1)])], "speaks of entry 1,"),
        ("a digest of no block", vec![CopyMessage::Digests(vec![digest(0, 1, 1)])], "speaks of block 1 of entry 0"),
        ("the last block", vec![CopyMessage::Digests(vec![digest(0, u32::MAX, 1)])], "speaks of block"),
        ("two digests", vec![CopyMessage::Digests(vec![digest(0, 0, 1), digest(0, 0, 2)])], "two digests"),
        ("too many digests", vec![digests(ITEMS_MAX + 1)], "more at once"),
        ("nothing is unreadable", vec![unreadable(1, 1)], "speaks of entry 1,"),
        ("too much is unreadable", vec![unreadable(0, ITEMS_MAX + 1)], "more at once"),
    ];
    for (name, messages, word) in table {
        let mut peer = victim.push();
        peer.say(offered(&[0]));
        peer.wanted(0);
        messages.into_iter().for_each(|message| _ = peer.say(message));
        peer.gets_refused(name, word);
    }
    let mut peer = victim.push_as(&[None], CopyOptions { verify: false, ..CopyOptions::default() });
    peer.say(offered(&[0]));
    peer.wanted(0);
    peer.say(digests(1));
    peer.gets_refused("a digest where nothing is verified", "out of turn");
    victim.is_unharmed();
}

#[test]
fn more_than_may_be_open_is_refused() {
    let victim = Victim::new();
    let open = |at: usize| entry(at as u64, format!("open{at}"), file(9));
    let mut peer = victim.push();
    peer.say(CopyMessage::Entries((0..=ENTRIES_PER_MESSAGE_MAX).map(open).collect()));
    peer.gets_refused("in one message", "more at once");
    let mut peer = victim.push();
    for start in (0..=UNSETTLED_MAX).step_by(ENTRIES_PER_MESSAGE_MAX) {
        peer.say(CopyMessage::Entries((start..start + ENTRIES_PER_MESSAGE_MAX).map(open).collect()));
    }
    peer.gets_refused("in all", "more at once");
    let heavy = |id: EntryId, path: String, xattrs: usize| {
        let mut heavy = entry(id, path, file(9));
        heavy.attributes.xattrs = vec![(b"user.x".to_vec(), vec![1; 4000]); xattrs];
        CopyMessage::Entries(vec![heavy])
    };
    for (name, message) in
        [("a path", heavy(0, "p".repeat(9000), 0)), ("attributes", heavy(0, "heavy".to_string(), 100))]
    {
        let mut peer = victim.push();
        peer.say(message);
        peer.gets_refused(name, "more at once");
    }
    let mut peer = victim.push();
    (0..2000).for_each(|id| _ = peer.say(heavy(id, format!("heavy{id}"), 30)));
    peer.gets_refused("in bytes", "more at once");
    // Settled at once, and never heard of.
    let mut peer = victim.push();
    let none = |at: usize| entry(at as u64, format!("no/{}", "n".repeat(200)), symlink("x"));
    let mut messages = (0..20 * UNSETTLED_MAX).step_by(1000).map(|start| (start..start + 1000).map(none).collect());
    assert!(messages.any(|entries| !peer.say(CopyMessage::Entries(entries))), "it hears everything");
    drop(peer);
    victim.is_unharmed();
}

#[test]
fn lengths_that_no_disk_has_cost_nothing() {
    let victim = Victim::new();
    let lens = [u64::MAX, i64::MAX as u64, 1 << 62, 1 << 50];
    let all = lens.iter().flat_map(|len| [false, true].map(|is_sparse| EntryKind::File { len: *len, is_sparse }));
    let all: Vec<Entry> = entries(all.enumerate().map(|(n, kind)| (format!("giant{n}"), kind)));
    for kind in [FrameKind::Data, FrameKind::Hole] {
        let mut peer = victim.push();
        peer.say(CopyMessage::Entries(all.clone()));
        peer.wanted(1);
        let bytes = if kind == FrameKind::Hole { vec![0; 8] } else { vec![1; PIECE] };
        (0..2).for_each(|id| peer.send(&frame(kind, id, 0, &bytes)));
        // What cannot be had is told; a hole that only takes long is hashed until its peer has enough.
        let told: &[EntryId] = if kind == FrameKind::Data { &[0] } else { &[0, 1] };
        while !told.iter().all(|id| peer.settled.contains_key(id)) {
            assert!(peer.hear().is_some(), "{:?}", peer.why);
        }
        if kind == FrameKind::Hole {
            peer.send(&frame(kind, 7, 0, &bytes));
        }
        drop(peer);
        victim.is_unharmed();
    }
    // Whoever was not asked has nothing to tell of thousands of them.
    let mut peer = victim.push();
    let sparse = EntryKind::File { len: u64::MAX, is_sparse: true };
    peer.say(CopyMessage::Entries(entries((0..2000).map(|n| (format!("giant{n}"), sparse.clone())))));
    peer.wanted(0);
    let digest = |id| Digest { id, block: 0, hash: BlockHash([1; 32]) };
    peer.say(CopyMessage::Digests((0..2000).map(digest).collect()));
    peer.gets_refused("digests that nobody asked for", "out of turn");
    victim.is_unharmed();
}

#[test]
fn what_is_left_of_a_broken_copy_goes_with_the_next() {
    let victim = Victim::new();
    let mut peer = victim.push();
    peer.say(CopyMessage::Entries(vec![entry(0, "source/part", file(LEN))]));
    peer.wanted(0);
    peer.send(&frame(FrameKind::Data, 0, 0, &[7; PIECE]));
    let has_part = || names_in(&victim.served("source")).iter().any(|name| name.starts_with(".lr-"));
    wait_until("some of it is stored", has_part);
    peer.say(CopyMessage::End(Ending::default()));
    peer.gets_refused("out of turn", "out of turn");
    assert!(has_part(), "for the client to go on from");
    // Which does not even have the file any more.
    victim.is_unharmed();
}

#[test]
fn owners_are_taken_only_where_the_server_says_so() {
    let victim = Victim::new();
    let mut talk = victim.talk();
    let reply = prepare(&mut talk, pushing(b"", &[None]), CopyOptions { owner: true, ..CopyOptions::default() });
    assert!(matches!(&reply, Reply::Refused(why) if why.contains("--allow-owner")), "{reply:?}");
    drop(talk);
    // What a person sees of it.
    let (url, from) = (format!("lr://{}/new", victim.host.serving.address()), victim.served("source/one"));
    let mut client = victim.host.somebody(&["copy", "--quiet", "--owner", &from.display().to_string(), &url]);
    client.env("LINERATE_TICKET", &victim.host.text);
    let done = run_bounded(&mut client);
    assert!(done.code != Some(0) && done.stderr.contains("--allow-owner"), "{done:#?}");
    assert_eq!(done.stderr.lines().count(), 1, "{done:#?}");
    assert!(!victim.served("new").exists());
    victim.is_unharmed();
}

#[test]
fn a_peer_describes_nothing_outside_through_a_hard_link() {
    let victim = Victim::new();
    let (secret, link) = (victim.dir.path().join("outside/secret"), victim.served("x"));
    let before = std::fs::metadata(&secret).unwrap();
    std::fs::hard_link(&secret, &link).unwrap();
    for checksum in [false, true] {
        let options = CopyOptions { checksum, durability: Durability::None, ..CopyOptions::default() };
        let mut peer = victim.push_as(&[None], options);
        let mut same = entry(0, "x", file(6));
        same.attributes.mode = 0o666;
        (same.attributes.modified_s, same.attributes.modified_ns) = (before.mtime(), before.mtime_nsec() as u32);
        peer.say(CopyMessage::Entries(vec![same]));
        peer.wanted(0);
        peer.send_small(0, b"secret");
        peer.say(CopyMessage::ScanEnd { entries: 1, is_whole: true });
        let (settled, result) = peer.outcome();
        assert!(result.is_ok() && matches!(settled[&0], Settlement::Done(_)), "{settled:?} {result:?}");
        assert_eq!(std::fs::metadata(&link).unwrap().permissions().mode() & 0o7777, 0o666);
        assert_eq!(std::fs::metadata(&secret).unwrap().permissions().mode(), before.permissions().mode());
        std::fs::remove_file(&link).unwrap();
        std::fs::hard_link(&secret, &link).unwrap();
    }
    std::fs::remove_file(&link).unwrap();
    victim.is_unharmed();
}

#[test]
fn modes_that_give_rights_are_not_taken_from_a_stranger() {
    let victim = Victim::new();
    let mut peer = victim.push();
    let mut special = entries([("tool", file(5)), ("empty", file(0)), ("folder", EntryKind::Folder)]);
    for one in &mut special {
        one.attributes.mode = 0o7755;
        one.attributes.owner = Some((12345, 12345));
        one.attributes.xattrs = vec![(b"security.capability".to_vec(), vec![1; 20])];
    }
    peer.say(CopyMessage::Entries(special));
    peer.wanted(0);
    peer.send_small(0, b"tool!");
    peer.say(CopyMessage::ScanEnd { entries: 3, is_whole: true });
    let (settled, result) = peer.outcome();
    assert!(result.is_ok() && settled.len() == 3, "{settled:?} {result:?}");
    for name in ["tool", "empty", "folder"] {
        let meta = std::fs::metadata(victim.served(name)).unwrap();
        assert_eq!((meta.permissions().mode() & 0o7777, meta.uid() == 12345), (0o755, false), "{name}");
    }
    victim.is_unharmed();
}

#[test]
fn requests_for_a_copy_that_cannot_be_meant_are_refused() {
    let victim = Victim::new();
    let mut talk = victim.talk();
    let piece = |piece_bytes| CopyOptions { piece_bytes, ..CopyOptions::default() };
    for bytes in [0, 1, 4096, (1 << 20) + 1, 32 << 20, u64::MAX] {
        let reply = prepare(&mut talk, pushing(b"", &[None]), piece(bytes));
        assert!(matches!(&reply, Reply::Refused(why) if why.contains("pieces")), "{bytes}: {reply:?}");
    }
    let reply = prepare(&mut talk, pushing(b"", &[]), CopyOptions::default());
    assert!(matches!(&reply, Reply::Refused(why) if why.contains("no source")), "{reply:?}");
    for streams in [0, 257, u32::MAX] {
        let spec = CopySpec { run: [9; 16], route: pushing(b"", &[None]), options: CopyOptions::default() };
        let job = CopyJob { spec, streams, options: SocketOptions::default(), tls: false };
        let reply = talk.ask(Request::PrepareCopy(Box::new(job)));
        assert!(matches!(&reply, Reply::Refused(why) if why.contains("streams")), "{streams}: {reply:?}");
    }
    victim.is_unharmed();
}

#[test]
fn what_came_of_a_session_that_is_turned_away_is_counted() {
    let victim = Victim::new();
    let mut peer = victim.push();
    peer.say(CopyMessage::Entries(vec![entry(0, "small", file(3000))]));
    peer.wanted(0);
    peer.send_small(0, &[7; 3000]);
    wait_until("it is stored", || victim.served("small").exists());
    peer.say(CopyMessage::End(Ending::default()));
    let (_, result) = peer.outcome();
    assert!(result.is_err_and(|why| why.contains("out of turn")));
    let said = victim.host.serving.end().expect(0).stderr;
    assert!(said.contains("2.9 KiB received"), "{said}");
}

#[test]
fn a_sender_that_stops_talking_is_in_nobodys_way() {
    let victim = Victim::new();
    let options = CopyOptions::default();
    let mut silent = victim.push_as(&[Some(b"silent")], options.clone());
    silent.say(CopyMessage::Entries(vec![entry(0, "silent", file(LEN))]));
    silent.wanted(0);
    silent.send(&frame(FrameKind::Data, 0, 0, &[7; PIECE])[..5000]);
    let client = |to: &str| {
        let (url, from) = (format!("lr://{}/{to}", victim.host.serving.address()), victim.served("source/one"));
        // Over before the silent one is: nobody may be silent for long.
        let words = ["copy", "--quiet", "--durability", "none", &from.display().to_string(), &url];
        let mut client = victim.host.somebody(&words);
        client.env("LINERATE_TICKET", &victim.host.text);
        run_bounded(&mut client)
    };
    client("other").expect(0);
    assert_eq!(std::fs::read(victim.served("other")).unwrap(), [7; 3000]);
    // What it holds is free with its session.
    let mut talk = victim.talk();
    let reply = prepare(&mut talk, pushing(b"", &[Some(b"silent")]), options);
    assert!(matches!(&reply, Reply::Missing(why) if why.ends_with(TAKEN)), "{reply:?}");
    drop((talk, silent));
    let next = victim.push_as(&[Some(b"silent")], CopyOptions::default());
    next.fails_all_but(entries([("silent", file(0))]), &[0]);
    victim.is_unharmed();
}

#[test]
fn a_copy_that_has_ended_is_in_nobodys_way() {
    let victim = Victim::new();
    let options = CopyOptions { durability: Durability::None, ..CopyOptions::default() };
    let mut first = victim.push_as(&[Some(b"one")], options.clone());
    first.say(CopyMessage::Entries(vec![entry(0, "one", file(5))]));
    first.wanted(0);
    first.send_small(0, b"12345");
    first.say(CopyMessage::ScanEnd { entries: 1, is_whole: true });
    while !matches!(first.hear(), Some(CopyMessage::End(_))) {
        assert_eq!(first.why, None);
    }
    // Its client has heard that it is over, and neither ends the job nor goes.
    let mut talk = victim.talk();
    let reply = prepare(&mut talk, pushing(b"", &[Some(b"one")]), options);
    assert!(matches!(reply, Reply::Prepared { .. }), "{reply:?}");
    drop((talk, first));
    std::fs::remove_file(victim.served("one")).unwrap();
    victim.is_unharmed();
}

fn shrunk(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 1).unwrap()
}

/// The header of one frame before the blocks of another: magic, what follows, window, and four bytes of length.
fn with_header_of(header: &[u8], frame: &[u8]) -> Vec<u8> {
    assert_eq!(header[..5], frame[..5]);
    [&header[..10], &frame[10..]].concat()
}

#[test]
fn compressed_pieces_that_lie_are_refused_or_sent_again() {
    let victim = Victim::new();
    let (content, fits) = (vec![7; PIECE], shrunk(&[7; PIECE]));
    let bomb = shrunk(&vec![0; 512 << 20]);
    assert!(bomb.len() < PIECE);
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 9][..], &fits].concat();
    let again = [
        ("a bomb", bomb.clone()),
        ("a bomb that says it is a piece", with_header_of(&fits, &bomb)),
        ("less than it says", with_header_of(&fits, &shrunk(&[7; PIECE / 4 * 3]))),
        ("more than it says", with_header_of(&shrunk(&[7; PIECE / 4 * 3]), &fits)),
        ("of an unknown length", zstd::encode_all(&content[..], 1).unwrap()),
        ("truncated", fits[..fits.len() - 1].to_vec()),
        ("with something behind it", [&fits[..], b"x"].concat()),
        ("two frames", [&fits[..], &fits].concat()),
        ("behind a frame that is skipped", skippable),
        ("not compressed at all", content.clone()),
    ];
    for (name, bytes) in again {
        let mut peer = victim.push();
        peer.say(CopyMessage::Entries(vec![entry(0, "large", file(PIECE as u64))]));
        peer.wanted(0);
        peer.say_digest(0, 0, &content);
        peer.send(&frame(FrameKind::DataZstd, 0, 0, &bytes));
        peer.wanted(0);
        assert!(peer.settled.is_empty(), "{name}: {:?}", peer.settled);
        peer.send(&frame(FrameKind::DataZstd, 0, 0, &fits));
        peer.say(CopyMessage::ScanEnd { entries: 1, is_whole: true });
        let (settled, result) = peer.outcome();
        assert!(result.is_ok() && matches!(settled[&0], Settlement::Done(Some(_))), "{name}: {settled:?} {result:?}");
        assert!(std::fs::read(victim.served("large")).unwrap() == content, "{name}");
        std::fs::remove_file(victim.served("large")).unwrap();
    }
    let refused = [
        ("a shorter piece", frame(FrameKind::DataZstd, 0, 0, &shrunk(&content[1..])), "does not fit"),
        ("unaligned", frame(FrameKind::DataZstd, 0, 1, &fits), "does not fit"),
        ("behind the end", frame(FrameKind::DataZstd, 0, 4 * PIECE as u64, &fits), "does not fit"),
        ("garbage behind the end", frame(FrameKind::DataZstd, 0, 4 * PIECE as u64, b"x"), "does not decompress"),
        ("longer than a piece", frame(FrameKind::DataZstd, 0, 0, &vec![7; PIECE + 1]), "malformed frame"),
    ];
    for (name, bytes, word) in refused {
        let mut peer = victim.push();
        peer.say(CopyMessage::Entries(vec![entry(0, "large", file(LEN))]));
        peer.wanted(0);
        peer.send(&bytes);
        peer.gets_refused(name, word);
    }
    victim.is_unharmed();
}

#[test]
fn compressed_packs_that_lie_are_refused_or_sent_again() {
    let victim = Victim::new();
    let files: [(EntryId, &[u8]); 2] = [(0, b"first"), (1, b"other")];
    let (mut check, mut body) = (HeadersCheck::default(), Vec::new());
    for (id, content) in files {
        check.add(&header(id, 5));
        body.extend([&header(id, 5)[..], content].concat());
    }
    let check = check.finish();
    let packed = |ids: &[EntryId], rest: &[u8]| {
        frame(FrameKind::PackZstd, 0, check, &[&directory(ids.iter().copied())[..], rest].concat())
    };
    let (fits, bomb) = (shrunk(&body), shrunk(&vec![0; 512 << 20]));
    let right = packed(&[0, 1], &fits);
    // What does not expand is wanted again as the directory says, whatever was in it.
    let cut = &fits[..fits.len() - 1];
    let again = [
        ("a bomb", packed(&[0, 1], &bomb), true),
        ("truncated", packed(&[0, 1], cut), true),
        ("with something behind it", packed(&[0, 1], &[&fits[..], b"x"].concat()), true),
        ("half of it named", packed(&[1, 7, u64::MAX - 1], cut), true),
        ("others named", packed(&[2, 7], cut), false),
        ("others named of what is right", packed(&[2, 7], &fits), false),
    ];
    for (name, bytes, comes_again) in again {
        let mut peer = victim.push();
        peer.say(CopyMessage::Entries(entries([("first", file(5)), ("second", file(5))])));
        peer.wanted(1);
        files.iter().for_each(|(id, content)| peer.say_digest(*id, 0, content));
        peer.send(&bytes);
        if comes_again {
            peer.wanted(1);
        }
        peer.send(&right);
        peer.say(CopyMessage::ScanEnd { entries: 2, is_whole: true });
        let (settled, result) = peer.outcome();
        let is_done = |id| matches!(settled[&id], Settlement::Done(Some(_)));
        assert!(result.is_ok() && is_done(0) && is_done(1), "{name}: {settled:?} {result:?}");
        for (path, content) in [("first", b"first"), ("second", b"other")] {
            assert_eq!(std::fs::read(victim.served(path)).unwrap(), content, "{name}");
            std::fs::remove_file(victim.served(path)).unwrap();
        }
    }
    let many: Vec<EntryId> = (0..=FILES_MAX as u64).collect();
    let giant = [&1u32.to_le_bytes()[..], &0u64.to_le_bytes(), &u32::MAX.to_le_bytes(), &fits].concat();
    let refused = [
        ("no directory", frame(FrameKind::PackZstd, 0, check, b"x")),
        ("a directory of nothing that follows", frame(FrameKind::PackZstd, 0, check, &[0xff; 16])),
        ("a directory of too many", packed(&many, &fits)),
        ("a run of too many", frame(FrameKind::PackZstd, 0, check, &giant)),
        ("garbage that expands", packed(&[0, 1], &shrunk(&[0xa5; 5000]))),
        ("another check", frame(FrameKind::PackZstd, 0, check ^ 1, &[&directory([0, 1])[..], &fits].concat())),
    ];
    for (name, bytes) in refused {
        let mut peer = victim.push();
        peer.say(CopyMessage::Entries(entries([("first", file(5)), ("second", file(5))])));
        peer.wanted(1);
        peer.send(&bytes);
        peer.gets_refused(name, "pack");
    }
    victim.is_unharmed();
}
