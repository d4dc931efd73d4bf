//! `linerate get` and `put` with a real share: who is let in, what is gone on with, what is proven.
#![cfg(feature = "web")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::proxy::{DOWN, Proxy, UP};
use common::pty::Pty;
use common::share::Share;
use common::{Running, at_home, file_of, folder, linerate, names_in, run_bounded};

const VARIABLE: &str = "LINERATE_SHARE_PASSWORD";

/// A share over HTTPS.
struct Host {
    share: Share,
    link: String,
    fingerprint: String,
    /// Where its user keeps things.
    home: tempfile::TempDir,
}

impl Host {
    fn start(args: &[&str], dir: &Path) -> Host {
        Host::at("127.0.0.1:0", args, dir)
    }

    fn at(listen: &str, args: &[&str], dir: &Path) -> Host {
        let home = folder();
        let mut command = linerate(["share", "--no-announce", "--listen", listen]);
        let share = Share::by(at_home(command.args(args).arg(dir), home.path()));
        let link = format!("{}/t/{}", share.origin, share.token);
        // As whoever stands beside its owner reads it.
        let places = linerate::trust::places::Places {
            state: home.path().join("state/linerate"),
            config: home.path().join("config/linerate"),
            runtime: home.path().join("run/linerate"),
        };
        let identity = linerate::trust::identity::Identity::load_or_create(&places).unwrap();
        Host { fingerprint: identity.fingerprint().to_string(), share, link, home }
    }

    /// Through a proxy, to which the link leads.
    fn behind(proxy: &Proxy, args: &[&str], dir: &Path) -> Host {
        let at = format!("127.0.0.2:{}", proxy.address().port());
        let mut host = Host::at(&at, args, dir);
        proxy.lead_to(Some(at.parse().unwrap()));
        host.link = host.link.replace("127.0.0.2", "localhost");
        host
    }

    /// A client that knows its fingerprint.
    fn visit(&self, verb: &str, words: &[&str]) -> Command {
        let mut command = linerate([verb]);
        command.args(words).args(["--fingerprint", &self.fingerprint]).env_remove(VARIABLE);
        command
    }

    fn get(&self, below: &str, to: &Path) -> Command {
        self.visit("get", &[&format!("{}{below}", self.link), to.to_str().unwrap()])
    }

    fn put(&self, files: &[&Path]) -> Command {
        let mut words: Vec<&str> = files.iter().map(|path| path.to_str().unwrap()).collect();
        words.push(&self.link);
        self.visit("put", &words)
    }
}

fn same(a: &Path, b: &Path) -> bool {
    std::fs::read(a).unwrap() == std::fs::read(b).unwrap()
}

#[test]
fn the_password_is_asked_for_without_being_shown() {
    let (dir, to) = (folder(), folder());
    std::fs::write(dir.path().join("a"), "content").unwrap();
    let secret = dir.path().join(".password");
    std::fs::write(&secret, "open sesame\n").unwrap();
    let host = Host::start(&["--password-file", secret.to_str().unwrap()], dir.path());
    let got = to.path().join("a");
    let ask = |keys: &str| {
        let pty = Pty::start(&mut host.get("/f/a", &got), (24, 100));
        pty.wait_text("password of the share at 127.0.0.1:");
        common::wait_until("nothing is echoed", || !pty.echoes());
        pty.keys(keys);
        let (code, said) = pty.finish();
        assert!(!said.contains("sesame") && !said.contains(&host.share.token), "{said}");
        (code, said)
    };
    let (code, said) = ask("close sesame\r");
    assert!(code == Some(5) && said.contains("the password is wrong"), "{code:?} {said}");
    assert!(!got.exists());
    assert_eq!(ask("\x03").0, Some(130));
    assert_eq!(ask("open sesame\r").0, Some(0));
    assert_eq!(std::fs::read(&got).unwrap(), b"content");
    // From the environment, right and wrong; and nowhere from.
    std::fs::remove_file(&got).unwrap();
    run_bounded(host.get("/f/a", &got).env(VARIABLE, "close sesame")).expect_line(5, &["the password is wrong"]);
    run_bounded(host.get("/f/a", &got).env(VARIABLE, "open sesame")).expect(0);
    assert!(got.exists());
    run_bounded(&mut host.get("/f/a", &got)).expect_line(2, &["wants a password", VARIABLE]);
}

#[test]
fn the_owner_types_a_password_twice_and_sees_none() {
    let dir = folder();
    let mut command = linerate(["share", "--no-announce", "--listen", "127.0.0.1:0", "--password"]);
    command.arg(dir.path()).env_remove(VARIABLE);
    let command = std::cell::RefCell::new(command);
    let asked = |pty: &Pty, question: &str, keys: &str| {
        pty.wait_text(question);
        common::wait_until("nothing is echoed", || !pty.echoes());
        pty.keys(keys);
    };
    let type_both = |second: &str| {
        let pty = Pty::start(&mut command.borrow_mut(), (24, 100));
        asked(&pty, "password for visitors", "secret-word\r");
        asked(&pty, "the same again", second);
        pty
    };
    let (code, said) = type_both("other\r").finish();
    assert!(code == Some(2) && said.contains("the two are not the same") && !said.contains("secret-word"), "{said}");
    // Ctrl-C is what it always is.
    let (code, said) = type_both("\x03").finish();
    assert!(code != Some(0) && !said.contains("secret-word"), "{code:?} {said}");
    let pty = type_both("secret-word\r");
    pty.wait_text("0 here");
    pty.keys("\x03");
    let (code, said) = pty.finish();
    assert!(code == Some(0) && !said.contains("secret-word"), "{said}");
}

#[test]
fn at_the_first_contact_a_person_compares_the_fingerprint() {
    let (dir, to) = (folder(), folder());
    std::fs::write(dir.path().join("a"), "content").unwrap();
    let host = Host::start(&[], dir.path());
    let got = to.path().join("a");
    let link = format!("{}/f/a", host.link);
    for (answer, code) in [("n\r", 2), ("\r", 2), ("y\r", 0)] {
        let pty = Pty::start(linerate(["get", &link]).arg(&got), (24, 120));
        pty.wait_text(&host.fingerprint);
        pty.wait_text("Is it the one that the share shows? [y/N]");
        pty.keys(answer);
        assert_eq!(pty.finish().0, Some(code), "{answer:?}");
        assert_eq!(got.exists(), code == 0);
    }
    // A ticket of the same machine says the same as the fingerprint.
    let mut serve = linerate(["serve", "--listen", "127.0.0.1:0"]);
    let serving = common::Serving::by(at_home(&mut serve, host.home.path()));
    let ticket = to.path().join("ticket");
    std::fs::write(&ticket, serving.ticket()).unwrap();
    std::fs::set_permissions(&ticket, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::remove_file(&got).unwrap();
    run_bounded(linerate(["get", &link]).arg(&got).arg("--ticket-file").arg(&ticket)).expect(0);
    assert!(got.exists());
    let other = common::Serving::start();
    std::fs::write(&ticket, other.ticket()).unwrap();
    let done = run_bounded(linerate(["get", &link]).arg(&got).arg("--ticket-file").arg(&ticket));
    done.expect_line(5, &["somebody else answers"]);
}

#[test]
fn a_download_that_was_killed_is_gone_on_with() {
    let (dir, to) = (folder(), folder());
    let bytes = 30_000_000;
    let file = file_of(dir.path(), "big", bytes);
    let proxy = Proxy::start("127.0.0.1:1".parse().unwrap());
    let host = Host::behind(&proxy, &[], dir.path());
    let got = to.path().join("big");
    proxy.hold_after(DOWN, 20_000_000);
    let mut running = Running::start(&mut host.get("/f/big", &got));
    assert!(proxy.wait_held(|| running.is_over()));
    // What passed may still be on its way to the disk.
    let written = || std::fs::read_dir(to.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
    common::wait_until("what passed is written", || written().sum::<u64>() > 19_000_000);
    running.signal(libc::SIGKILL);
    assert_eq!(running.finish().code, None);
    proxy.go_on();
    proxy.wait_quiet();
    assert!(!got.exists() && names_in(to.path()).len() == 1, "hidden: {:?}", names_in(to.path()));
    let before = proxy.bytes(DOWN);
    run_bounded(&mut host.get("/f/big", &got)).expect(0);
    let moved = proxy.bytes(DOWN) - before;
    assert!(moved < bytes as u64 * 2 / 3, "{moved} bytes the second time");
    assert!(same(&file, &got) && names_in(to.path()) == ["big"]);
}

#[test]
fn an_upload_that_was_killed_is_gone_on_with() {
    let (dir, from) = (folder(), folder());
    let bytes = 40_000_000;
    let file = file_of(from.path(), "big", bytes);
    let proxy = Proxy::start("127.0.0.1:1".parse().unwrap());
    let host = Host::behind(&proxy, &["--upload"], dir.path());
    proxy.hold_after(UP, 30_000_000);
    let mut running = Running::start(&mut host.put(&[&file]));
    assert!(proxy.wait_held(|| running.is_over()));
    running.signal(libc::SIGKILL);
    assert_eq!(running.finish().code, None);
    proxy.go_on();
    proxy.wait_quiet();
    assert!(!dir.path().join("big").exists());
    let before = proxy.bytes(UP);
    run_bounded(&mut host.put(&[&file])).expect(0);
    let moved = proxy.bytes(UP) - before;
    assert!(moved < bytes as u64 * 2 / 3, "{moved} bytes the second time");
    assert!(same(&file, &dir.path().join("big")));
    assert_eq!(names_in(dir.path()), ["big"]);
}

#[test]
fn a_lost_connection_is_made_again_within_one_run() {
    let (dir, to) = (folder(), folder());
    let file = file_of(dir.path(), "big", 30_000_000);
    let proxy = Proxy::start("127.0.0.1:1".parse().unwrap());
    let host = Host::behind(&proxy, &["--upload"], dir.path());
    for which in [DOWN, UP] {
        proxy.cut_after(which, 12_000_000);
        let before = proxy.bytes(which);
        let done = match which.way {
            way if way == DOWN.way => run_bounded(&mut host.get("/f/big", &to.path().join("big"))),
            _ => {
                std::fs::copy(&file, to.path().join("again")).unwrap();
                run_bounded(&mut host.put(&[&to.path().join("again")]))
            }
        };
        let done = done.expect(0);
        assert!(done.stderr.contains("trying again"), "{done:?}");
        assert!(proxy.bytes(which) - before < 45_000_000, "all of it came twice");
    }
    assert!(same(&file, &to.path().join("big")) && same(&file, &dir.path().join("again")));
}

#[test]
fn a_share_that_is_another_one_at_the_same_place_is_told() {
    let (dir, to) = (folder(), folder());
    file_of(dir.path(), "big", 30_000_000);
    let proxy = Proxy::start("127.0.0.1:1".parse().unwrap());
    let host = Host::behind(&proxy, &["--http"], dir.path());
    proxy.hold_after(DOWN, 5_000_000);
    let get = || {
        let mut command = linerate(["get", &format!("{}/f/big", host.link)]);
        command.arg(to.path().join("big"));
        command
    };
    let mut running = Running::start(&mut get());
    assert!(proxy.wait_held(|| running.is_over()));
    host.share.signal(libc::SIGKILL);
    let address: std::net::SocketAddr = host.share.authority().parse().unwrap();
    common::wait_until("the port is free", || std::net::TcpListener::bind(address).is_ok());
    let again = Host::at(&address.to_string(), &["--http"], dir.path());
    proxy.go_on();
    // A share that is started again has another link: nobody comes in by the old one.
    let done = running.finish().expect(5);
    assert!(done.stderr.contains("403") && !done.stderr.contains(&host.share.token), "{done:?}");
    // By the new link what had come is gone on with.
    let before = proxy.bytes(DOWN);
    let link = again.link.replace("127.0.0.2", "localhost");
    run_bounded(linerate(["get", &format!("{link}/f/big")]).arg(to.path().join("big"))).expect(0);
    assert!(proxy.bytes(DOWN) - before < 28_000_000);
    assert!(same(&dir.path().join("big"), &to.path().join("big")));
}

/// Files and folders below a folder.
fn tree(dir: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let (mut found, mut folders) = (Vec::new(), vec![dir.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let is_folder = entry.file_type().unwrap().is_dir();
            let content = (!is_folder).then(|| std::fs::read(&path).unwrap());
            found.push((path.strip_prefix(dir).unwrap().to_path_buf(), content));
            folders.extend(is_folder.then_some(path));
        }
    }
    found.sort();
    found
}

#[test]
fn whole_folders_come_and_go_with_what_is_in_them() {
    let (dir, to) = (folder(), folder());
    let photos = dir.path().join("photos");
    std::fs::create_dir_all(photos.join("2026/süd ost")).unwrap();
    std::fs::create_dir_all(photos.join("empty")).unwrap();
    for (name, bytes) in [("2026/a b.jpg", 100_000), ("2026/süd ost/#?%.jpg", 1), ("zero", 0), ("2026/big", 9_000_000)]
    {
        file_of(&photos, name, bytes);
    }
    let host = Host::start(&["--upload"], dir.path());
    run_bounded(&mut host.get("", &to.path().join("all"))).expect(0);
    assert_eq!(tree(&to.path().join("all")), tree(dir.path()));
    // One folder of it into a folder that is there goes under its name.
    run_bounded(&mut host.get("/f/photos/2026/", to.path())).expect(0);
    assert_eq!(tree(&to.path().join("2026")), tree(&photos.join("2026")));
    // Several files and a folder, to the share.
    let (one, two) = (file_of(to.path(), "one", 5), file_of(to.path(), "two", 10_000_000));
    let done = run_bounded(&mut host.put(&[&one, &two, &to.path().join("2026")])).expect(0);
    assert!(done.stderr.contains("the share has 5 files"), "{done:?}");
    assert_eq!(tree(&dir.path().join("2026")), tree(&photos.join("2026")));
    assert!(same(&two, &dir.path().join("two")));
}

#[test]
fn no_name_of_a_share_acts_on_the_terminal_of_who_gets_or_puts() {
    let (dir, to) = (folder(), folder());
    let evil = "x\x1b]0;PWNED\x07\x1b[2J\u{9b}2J\u{202e}gpj\n";
    std::fs::write(dir.path().join(evil), vec![b'x'; 100_000]).unwrap();
    std::fs::write(dir.path().join("long-".repeat(50)), "y").unwrap();
    std::fs::set_permissions(dir.path().join(evil), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let host = Host::start(&["--upload"], dir.path());
    let pty = Pty::start(&mut host.get("", to.path()), (24, 80));
    let (code, said) = pty.finish();
    assert_eq!((code, common::pty::foreign_controls(&said)), (Some(0), Vec::new()), "{said}");
    assert_eq!(std::fs::read(to.path().join(evil)).unwrap().len(), 100_000);
    // The share takes no such name: it says so, and what is shown of it is harmless.
    let pty = Pty::start(&mut host.put(&[&to.path().join(evil)]), (24, 80));
    let (_, said) = pty.finish();
    assert_eq!(common::pty::foreign_controls(&said), Vec::<String>::new(), "{said}");
    assert!(said.contains("PWNED"), "{said}");
}
