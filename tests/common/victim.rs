//! A server that serves a folder, peers that say of a copy what they like, and what must not come of it.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use linerate::proto::copy::options::{CopyOptions, CopyRoute, CopySpec, Durability};
use linerate::proto::copy::pack::{HeadersCheck, header};
use linerate::proto::copy::{CopyMessage, Digest, Ending, Settlement};
use linerate::proto::manifest::{Attributes, Entry, EntryId, EntryKind};
use linerate::proto::message::{CopyJob, Message, Reply, Request, SocketOptions};
use linerate::proto::verify::{BlockHash, hash_whole};
use linerate::proto::wire::{Frame, FrameKind, Length};
use linerate::transfer::keeping::TAKEN;
use tempfile::TempDir;

use super::host::Host;
use super::peer::{Talk, join, said};
use super::tree::{Tree, no_temporaries};
use super::{folder, names_in, status_kib, wait_until};

/// No attack makes a server need more.
pub const MEMORY_MAX_KIB: u64 = 256 << 10;
pub const PIECE: usize = 1 << 20;
/// A file of four blocks, the last of which is short.
pub const LEN: u64 = 3 * PIECE as u64 + 5;

/// A server, its folder, and beside that what nobody may touch.
pub struct Victim {
    pub dir: TempDir,
    pub host: Host,
    before: Vec<String>,
}

impl Victim {
    pub fn new() -> Victim {
        let dir = folder();
        Tree::at(dir.path()).file("outside/secret", b"secret").dir("outside/sub").dir("served");
        let served = Tree::at(dir.path().join("served"));
        served.file("kept", b"kept").file("source/one", &[7; 3000]).symlink("out", dir.path().join("outside"));
        served.symlink("source/secret", "../../outside/secret");
        let before = outside(dir.path());
        let host = Host::with(&["--allow", "read,write", &dir.path().join("served").display().to_string()]);
        Victim { dir, host, before }
    }

    pub fn served(&self, path: &str) -> PathBuf {
        self.dir.path().join("served").join(path)
    }

    pub fn talk(&self) -> Talk {
        Talk::open(self.host.serving.address(), &self.host.ticket())
    }

    /// Begin to send everything that is to be in the folder.
    pub fn push(&self) -> Peer {
        self.push_as(&[None], CopyOptions { durability: Durability::None, ..CopyOptions::default() })
    }

    pub fn push_as(&self, names: &[Option<&[u8]>], options: CopyOptions) -> Peer {
        self.begin(pushing(b"", names), options).unwrap_or_else(|reply| panic!("{reply:?}"))
    }

    pub fn pull(&self, from: &str) -> Peer {
        let route = CopyRoute::Pull { from: vec![from.as_bytes().to_vec()] };
        self.begin(route, CopyOptions::default()).unwrap_or_else(|reply| panic!("{reply:?}"))
    }

    /// A copy whose stream is connected; or why there is none.
    pub fn begin(&self, route: CopyRoute, options: CopyOptions) -> Result<Peer, Reply> {
        let mut talk = self.talk();
        let mut reply = prepare(&mut talk, route.clone(), options.clone());
        // The session before still puts away what it has.
        wait_until("the destination is free", || {
            let is_taken = matches!(&reply, Reply::Missing(why) if why.ends_with(TAKEN));
            if is_taken {
                reply = prepare(&mut talk, route.clone(), options.clone());
            }
            !is_taken
        });
        let Reply::Prepared { job, tokens } = reply else { return Err(reply) };
        let stream = join(self.host.serving.address(), tokens[0]);
        let mut peer = Peer { talk, job, stream, early: VecDeque::new(), settled: BTreeMap::new(), why: None };
        peer.start();
        Ok(peer)
    }

    /// Nothing came to harm, an honest client is served, and nothing is left behind.
    #[track_caller]
    pub fn is_unharmed(&self) {
        assert_eq!(outside(self.dir.path()), self.before);
        assert_eq!(names_in(self.dir.path()), ["outside", "served"]);
        let mut next = self.push();
        next.say(CopyMessage::Entries(vec![entry(0, "after", file(5))]));
        next.wanted(0);
        next.send_small(0, b"after");
        next.say(CopyMessage::ScanEnd { entries: 1, is_whole: true });
        let (settled, result) = next.outcome();
        assert!(
            result.is_ok() && matches!(settled[&0], Settlement::Done(_) | Settlement::Had),
            "{settled:?} {result:?}"
        );
        assert_eq!(std::fs::read(self.served("after")).unwrap(), b"after");
        std::fs::remove_file(self.served("after")).unwrap();
        assert_eq!(std::fs::read(self.served("kept")).unwrap(), b"kept");
        no_temporaries(&self.served(""));
        let peak = status_kib(self.host.serving.pid(), "VmHWM").unwrap();
        assert!(peak < MEMORY_MAX_KIB, "{peak} KiB");
    }
}

/// What lies beside the served folder, with all that an attack could change.
pub fn outside(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for path in ["outside", "outside/secret", "outside/sub"].map(|path| dir.join(path)) {
        let meta = path.symlink_metadata().unwrap();
        let content = if meta.is_dir() { names_in(&path).join(" ") } else { std::fs::read_to_string(&path).unwrap() };
        let mtime = (meta.mtime(), meta.mtime_nsec());
        found.push(format!("{path:?}: {content:?}, {:o}, {} links, {mtime:?}", meta.mode(), meta.nlink()));
    }
    found
}

pub fn pushing(to: &[u8], names: &[Option<&[u8]>]) -> CopyRoute {
    let names = names.iter().map(|name| name.map(<[u8]>::to_vec)).collect();
    CopyRoute::Push { to: to.to_vec(), names, from: b"there:tree".to_vec() }
}

/// Ask for a copy over one stream in the clear.
pub fn prepare(talk: &mut Talk, route: CopyRoute, options: CopyOptions) -> Reply {
    let mut run = [0; 16];
    getrandom::fill(&mut run).unwrap();
    let spec = CopySpec { run, route, options };
    let job = CopyJob { spec, streams: 1, options: SocketOptions::default(), tls: false };
    talk.ask(Request::PrepareCopy(Box::new(job)))
}

pub fn entry(id: EntryId, path: impl AsRef<[u8]>, kind: EntryKind) -> Entry {
    let attributes = Attributes { mode: 0o644, modified_s: 1, ..Attributes::default() };
    Entry { id, path: path.as_ref().to_vec(), kind, attributes }
}

pub fn file(len: u64) -> EntryKind {
    EntryKind::File { len, is_sparse: false }
}

pub fn symlink(target: impl AsRef<Path>) -> EntryKind {
    EntryKind::Symlink { target: target.as_ref().as_os_str().as_encoded_bytes().to_vec() }
}

pub fn hard_link(to: EntryId, path: &str) -> EntryKind {
    EntryKind::HardLink { to, path: path.as_bytes().to_vec() }
}

/// Numbered as they should be.
pub fn entries<P: AsRef<[u8]>>(all: impl IntoIterator<Item = (P, EntryKind)>) -> Vec<Entry> {
    (0..).zip(all).map(|(id, (path, kind))| entry(id, path, kind)).collect()
}

pub fn frame(kind: FrameKind, file: EntryId, offset: u64, bytes: &[u8]) -> Vec<u8> {
    [&Frame { file, offset, length: Length::Bytes(bytes.len() as u64), kind }.encode()[..], bytes].concat()
}

pub fn pack(files: &[(EntryId, &[u8])]) -> Vec<u8> {
    let (mut check, mut bytes) = (HeadersCheck::default(), Vec::new());
    for (id, content) in files {
        let head = header(*id, content.len() as u32);
        check.add(&head);
        bytes.extend([&head[..], content].concat());
    }
    frame(FrameKind::Pack, 0, check.finish(), &bytes)
}

/// The peer's end of a copy, message by message.
pub struct Peer {
    pub talk: Talk,
    pub job: u32,
    pub stream: TcpStream,
    /// What came before it was started.
    early: VecDeque<Message>,
    pub settled: BTreeMap<EntryId, Settlement>,
    pub why: Option<String>,
}

impl Peer {
    pub fn start(&mut self) {
        self.talk.send(Request::Start(self.job));
        loop {
            match self.talk.hear() {
                Some(Message::Reply { body: Reply::Started, .. }) => return,
                Some(message @ Message::Copy { .. }) => self.early.push_back(message),
                other => panic!("not started: {other:?}"),
            }
        }
    }

    /// Say something; `false` if it comes too late.
    pub fn say(&mut self, body: CopyMessage) -> bool {
        self.talk.peer.send_plain(&said(&Message::Copy { job: self.job, body })).is_ok()
    }

    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    pub fn say_digest(&mut self, id: EntryId, block: u32, content: &[u8]) {
        let hash = BlockHash(hash_whole(content).0);
        let _ = self.say(CopyMessage::Digests(vec![Digest { id, block, hash }]));
    }

    pub fn send_small(&mut self, id: EntryId, content: &[u8]) {
        self.say_digest(id, 0, content);
        self.send(&pack(&[(id, content)]));
    }

    /// What is said next; nothing once the session is over.
    pub fn hear(&mut self) -> Option<CopyMessage> {
        let next = self.early.pop_front().or_else(|| self.talk.hear());
        match next? {
            Message::Copy { body, .. } => {
                if let CopyMessage::Settled(settled) = &body {
                    for (id, settlement) in settled {
                        assert!(self.settled.insert(*id, settlement.clone()).is_none(), "{id} is settled twice");
                    }
                }
                Some(body)
            }
            Message::TurnedAway(away) => self.leave(away.why),
            Message::Bye(why) => self.leave(why),
            other => panic!("{other:?}"),
        }
    }

    /// The one reason was told; nothing comes after it.
    pub fn leave(&mut self, why: String) -> Option<CopyMessage> {
        assert!(!why.is_empty() && !why.contains('\n'));
        self.why = Some(why);
        assert_eq!(self.talk.hear(), None);
        None
    }

    /// Wait until blocks of this entry are wanted.
    #[track_caller]
    pub fn wanted(&mut self, id: EntryId) {
        loop {
            match self.hear() {
                Some(CopyMessage::Wants(wants)) if wants.iter().any(|want| want.id == id) => return,
                Some(CopyMessage::Settled(settled)) if settled.iter().any(|(other, _)| *other == id) => return,
                Some(_) => {}
                None => panic!("{id} is never wanted: {:?}", self.why),
            }
        }
    }

    /// Hear all until the end of the copy, or the reason why it is none.
    pub fn outcome(mut self) -> (BTreeMap<EntryId, Settlement>, Result<Ending, String>) {
        loop {
            match self.hear() {
                Some(CopyMessage::End(ending)) => return (self.settled, Ok(ending)),
                Some(_) => {}
                None => return (self.settled, Err(self.why.unwrap_or_default())),
            }
        }
    }

    /// It is broken off for a reason that holds this.
    #[track_caller]
    pub fn gets_refused(self, name: &str, word: &str) {
        let (_, result) = self.outcome();
        assert!(matches!(&result, Err(why) if why.contains(word)), "{name}: {result:?}");
    }

    /// It comes to its end, and every entry but those `made` failed.
    #[track_caller]
    pub fn fails_all_but(mut self, entries: Vec<Entry>, made: &[EntryId]) {
        let count = entries.len() as u64;
        self.say(CopyMessage::Entries(entries.clone()));
        self.say(CopyMessage::ScanEnd { entries: count, is_whole: true });
        let (settled, result) = self.outcome();
        assert!(result.is_ok(), "{result:?}");
        for Entry { id, path, kind, .. } in entries {
            let has_failed = matches!(&settled[&id], Settlement::Failed(why) if !why.is_empty());
            assert_eq!(
                has_failed,
                !made.contains(&id),
                "{:?} {kind:?}: {:?}",
                path.escape_ascii().to_string(),
                settled[&id]
            );
        }
    }
}
