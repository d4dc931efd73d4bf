//! Open pages of `linerate share` are told what others do to the folder, be it not through the share.
#![cfg(feature = "web")]

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use common::share::{Share, read_reply};
use common::{folder, linerate};

/// A page: its session, and the events that it hears.
struct Page<'a> {
    share: &'a Share,
    cookie: String,
    events: BufReader<TcpStream>,
}

impl Page<'_> {
    fn open(share: &Share) -> Page<'_> {
        let cookie = share.enter();
        let mut stream = share.connect();
        stream.write_all(&share.bytes("GET /api/events?nick=Ann", &[&cookie], b"")).unwrap();
        let mut page = Page { share, cookie, events: BufReader::new(stream) };
        page.until("event: hello");
        page
    }

    /// List a folder: it is open then. How many entries it has.
    fn list(&self, path: &str) -> u64 {
        let reply = self.share.request(&format!("GET /api/list/{path}"), &[&self.cookie], b"");
        assert_eq!(reply.status, 200, "{reply:?}");
        serde_json::from_slice::<serde_json::Value>(&reply.body).unwrap()["total"].as_u64().unwrap()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let bytes = self.events.read_line(&mut line).expect("nothing is told");
        assert!(bytes > 0, "the stream has ended");
        line.trim_end().to_string()
    }

    fn until(&mut self, wanted: &str) {
        while self.line() != wanted {}
    }

    /// The next folder that is told of as changed.
    fn changed(&mut self) -> String {
        self.until("event: changed");
        let line = self.line();
        let told: serde_json::Value = serde_json::from_str(line.strip_prefix("data: ").unwrap()).unwrap();
        told["folder"].as_str().unwrap().to_string()
    }
}

impl Page<'_> {
    /// All that is told of until each of these was.
    fn changed_to(&mut self, wanted: &[&str]) -> BTreeSet<String> {
        let mut told = BTreeSet::new();
        while !wanted.iter().all(|folder| told.contains(*folder)) {
            told.insert(self.changed());
        }
        told
    }
}

fn touch(path: &Path) {
    std::fs::write(path, "x").unwrap();
}

#[test]
fn what_its_owner_does_to_an_open_folder_is_told() {
    let dir = folder();
    let sub = dir.path().join("a b");
    std::fs::create_dir_all(sub.join("deep")).unwrap();
    let share = Share::start(&[], dir.path());
    let mut page = Page::open(&share);
    assert_eq!((page.list(""), page.list("a%20b/")), (1, 1));
    let then = [("made", 2), ("copied, grown", 2), ("renamed", 2), ("removed", 1), ("a folder made", 2)];
    for (at, (what, total)) in then.iter().enumerate() {
        match at {
            0 => touch(&sub.join("x")),
            1 => std::fs::write(sub.join("x"), "longer").unwrap(),
            2 => std::fs::rename(sub.join("x"), sub.join("y")).unwrap(),
            3 => std::fs::remove_file(sub.join("y")).unwrap(),
            _ => std::fs::create_dir(sub.join("new")).unwrap(),
        }
        assert_eq!(page.changed(), "a%20b/", "{what}");
        assert_eq!(page.list("a%20b/"), *total, "{what}");
    }
    // What nobody sees, and folders that nobody has open, are not told.
    std::fs::create_dir(dir.path().join("quiet")).unwrap();
    assert_eq!(page.list("quiet/"), 0);
    touch(&dir.path().join("quiet/.hidden"));
    touch(&sub.join("deep/x"));
    touch(&sub.join("seen"));
    touch(&dir.path().join("top"));
    let told = page.changed_to(&["", "a%20b/"]);
    assert!(!told.contains("quiet/") && !told.contains("a%20b/deep/"), "{told:?}");
    // A folder that goes is told, and one that comes in its place is seen again once it is listed.
    std::fs::rename(&sub, dir.path().join("moved")).unwrap();
    page.changed_to(&["", "a%20b/"]);
    std::fs::create_dir(&sub).unwrap();
    assert_eq!(page.list("a%20b/"), 0);
    touch(&sub.join("z"));
    page.changed_to(&["a%20b/"]);
    assert_eq!(page.list("a%20b/"), 1);
}

#[test]
fn thousands_of_changes_are_few_events_and_none_is_lost() {
    let dir = folder();
    let share = Share::start(&[], dir.path());
    let mut page = Page::open(&share);
    page.list("");
    (0..10_000).for_each(|n| drop(std::fs::File::create(dir.path().join(n.to_string())).unwrap()));
    let mut events = 0;
    loop {
        assert_eq!(page.changed(), "");
        events += 1;
        if page.list("") == 10_000 {
            break;
        }
    }
    assert!(events < 100, "{events}");
}

#[test]
fn a_folder_behind_a_link_is_watched_and_nothing_outside_is() {
    let (dir, outside) = (folder(), folder());
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    std::os::unix::fs::symlink("sub", dir.path().join("link")).unwrap();
    std::os::unix::fs::symlink(outside.path(), dir.path().join("out")).unwrap();
    let share = Share::start(&[], dir.path());
    let mut page = Page::open(&share);
    page.list("link/");
    let refused = share.request("GET /api/list/out/", &[&page.cookie], b"");
    assert_eq!(refused.status, 404);
    touch(&outside.path().join("x"));
    touch(&dir.path().join("sub/x"));
    assert_eq!(page.changed(), "link/");
}

#[test]
fn where_no_more_is_watched_its_owner_is_told_once_and_the_share_goes_on() {
    let dir = folder();
    ["a", "b"].iter().for_each(|name| std::fs::create_dir(dir.path().join(name)).unwrap());
    for (limit, of) in [("max_inotify_watches", "max_user_watches"), ("max_inotify_instances", "max_user_instances")] {
        let limited = format!("echo 0 > /proc/sys/user/{limit} && exec \"$0\" \"$@\"");
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "sh", "-c"]);
        let mut trial = Command::new("unshare");
        trial.args(["--user", "--map-root-user", "sh", "-c"]).arg(&limited).arg("true");
        if !trial.output().is_ok_and(|done| done.status.success()) {
            println!("skipped: no namespace with a limit of its own can be made here");
            return;
        }
        let plain = linerate(["share", "--http", "--no-announce", "--quiet", "--listen", "127.0.0.1:0"]);
        command.arg(&limited).arg(plain.get_program()).args(plain.get_args()).arg(dir.path());
        for (name, value) in plain.get_envs() {
            value.map(|value| command.env(name, value));
        }
        let share = Share::by(&mut command);
        let page = Page::open(&share);
        assert_eq!((page.list(""), page.list("a/"), page.list("b/")), (2, 0, 0));
        touch(&dir.path().join("a/x"));
        assert_eq!(page.list("a/"), 1);
        std::fs::remove_file(dir.path().join("a/x")).unwrap();
        drop(page);
        let done = share.end().expect(0);
        assert_eq!(done.stderr.matches(of).count(), 1, "{done:?}");
    }
}

#[test]
fn what_comes_by_the_share_is_told_in_every_folder_that_it_changes() {
    let dir = folder();
    let share = Share::start(&["--upload"], dir.path());
    let mut page = Page::open(&share);
    page.list("");
    let put = share.bytes("PUT /f/new/", &[&share.bearer(), "Content-Length: 0"], b"");
    let mut stream = share.connect();
    stream.write_all(&put).unwrap();
    assert_eq!(read_reply(&mut BufReader::new(stream), false).status, 201);
    assert_eq!(page.changed(), "");
}
