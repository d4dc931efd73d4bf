//! A share on networks that the kernel makes up: addresses that come and go, announcements between two hosts.
#![cfg(feature = "web")]

mod common;

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::share::Share;
use common::{Done, Running, folder, is_root, linerate, run_bounded, skip_unless, status_kib};

const MDNS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(224, 0, 0, 251), 5353);
/// Most memory that listening to anybody may take.
const LISTENING_KIB_MAX: u64 = 150 << 10;

/// A network namespace, gone with the test.
struct Namespace(String);

fn ip(words: &[&str]) -> Done {
    run_bounded(Command::new("ip").args(words))
}

impl Namespace {
    /// With a loopback only; nothing, with the reason told, where that is not possible.
    fn new(name: &str) -> Option<Namespace> {
        if skip_unless(is_root(), "network namespaces need root") {
            return None;
        }
        let name = format!("linerate-{name}-{}", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &name]).output();
        let is_made = made.as_ref().is_ok_and(|made| made.status.success());
        if skip_unless(is_made, "network namespaces cannot be made, or there is no program ip") {
            return None;
        }
        let made = Namespace(name);
        made.ip("link set lo up").expect(0);
        Some(made)
    }

    fn ip(&self, words: &str) -> Done {
        let words: Vec<&str> = ["-n", &self.0].into_iter().chain(words.split(' ')).collect();
        ip(&words)
    }

    /// A device with a cable to nobody, if there can be one.
    fn device(&self, name: &str) -> bool {
        let added = self.ip(&format!("link add {name} type veth peer name {name}-far"));
        !skip_unless(added.code == Some(0), "veth pairs are not permitted") && {
            self.ip(&format!("link set {name} up")).expect(0);
            self.ip(&format!("link set {name}-far up")).expect(0);
            true
        }
    }

    /// The program in it.
    fn linerate(&self, words: &[&str]) -> Command {
        let inner = linerate(words);
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0]).arg(inner.get_program()).args(inner.get_args());
        command.stdin(std::process::Stdio::null());
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    /// Do something in a thread that is in it.
    fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.0);
        std::thread::scope(|scope| {
            let inside = || {
                nix::sched::setns(std::fs::File::open(path).unwrap(), nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                work()
            };
            scope.spawn(inside).join().unwrap()
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

/// The first of the links that come next, of which there may be several.
fn next_link(share: &Share, host: &str) -> String {
    loop {
        let line = share.line().unwrap_or_else(|| panic!("no link with {host} comes"));
        if line.starts_with(&format!("http://{host}:")) {
            return line;
        }
    }
}

#[test]
fn a_share_follows_the_addresses_of_its_machine() {
    let Some(here) = Namespace::new("moves") else { return };
    let (dir, to) = (folder(), folder());
    std::fs::write(dir.path().join("a"), "content").unwrap();
    let share = Share::by(&mut here.linerate(&["share", "--http", dir.path().to_str().unwrap()]));
    let got = to.path().join("a");
    let get = |link: &str| run_bounded(&mut here.linerate(&["get", &format!("{link}/f/a"), got.to_str().unwrap()]));
    // On no network it is there for this machine.
    assert_eq!(share.origin, "http://127.0.0.1:5291");
    get(&share.first).expect(0);
    if !here.device("wlan0") {
        return;
    }
    here.ip("address add 10.9.8.7/24 dev wlan0").expect(0);
    let first = next_link(&share, "10.9.8.7");
    get(&first).expect(0);
    // Another network: the old address leads nowhere, and nobody who still names it is answered.
    here.ip("address del 10.9.8.7/24 dev wlan0").expect(0);
    here.ip("address add 10.9.9.7/24 dev wlan0").expect(0);
    let second = next_link(&share, "10.9.9.7");
    get(&second).expect(0);
    here.ip("address add 10.9.8.7/24 dev lo").expect(0);
    assert_eq!(get(&first).code, Some(5));
    // The cable is pulled.
    here.ip("link del wlan0").expect(0);
    next_link(&share, "127.0.0.1");
    let done = share.end().expect(0);
    assert!(done.stderr.contains("on no network"), "{done:?}");
    assert!(done.stderr.contains("this machine has other addresses"), "{done:?}");
}

#[test]
fn the_view_shows_the_new_link_and_events_tell_of_it() {
    let Some(here) = Namespace::new("view") else { return };
    let dir = folder();
    if !here.device("eth0") {
        return;
    }
    here.ip("address add 10.9.8.7/24 dev eth0").expect(0);
    let path = dir.path().to_str().unwrap();
    let pty = common::pty::Pty::start(&mut here.linerate(&["share", "--http", path]), (24, 80));
    pty.wait_text("http://10.9.8.7:5291/t/");
    here.ip("address add 10.9.9.7/24 dev eth0").expect(0);
    pty.wait_text("linerate: also http://10.9.9.7:5291/t/");
    here.ip("address del 10.9.8.7/24 dev eth0").expect(0);
    pty.wait_text("this machine has other addresses: the link is another one");
    pty.wait("the new link at the end", |screen| {
        let rows: Vec<String> = screen.rows(0, 80).map(|row| row.trim_end().to_string()).collect();
        let live = rows.iter().rposition(|row| row.starts_with("0 here"))?;
        rows[live - 2].starts_with("http://10.9.9.7:5291/t/").then_some(())
    });
    pty.keys("\x03");
    assert_eq!(pty.finish().0, Some(0));
    let share = Share::by(&mut here.linerate(&["share", "--http", "--json", path]));
    here.ip("address add 10.9.7.7/24 dev eth0").expect(0);
    let told: serde_json::Value = loop {
        let event: serde_json::Value = serde_json::from_str(&share.line().unwrap()).unwrap();
        if event["event"] == "address" {
            break event;
        }
    };
    let links: Vec<&str> = told["links"].as_array().unwrap().iter().map(|link| link.as_str().unwrap()).collect();
    assert!(links.iter().any(|link| link.starts_with("http://10.9.7.7:5291/t/")), "{links:?}");
    share.end().expect(0);
}

#[test]
fn all_addresses_are_listed_the_likeliest_first_and_each_lets_in() {
    let has_ipv6 = std::net::UdpSocket::bind("[::1]:0").is_ok();
    if skip_unless(has_ipv6, "this machine has no IPv6") {
        return;
    }
    let Some(here) = Namespace::new("many") else { return };
    let (dir, to) = (folder(), folder());
    std::fs::write(dir.path().join("a"), "content").unwrap();
    if !here.device("docker0") || !here.device("eth0") {
        return;
    }
    for words in [
        "address add 172.17.0.1/16 dev docker0",
        "address add 192.168.7.5/24 dev eth0",
        "address add fd00::5/64 dev eth0 nodad",
        "route add default via 192.168.7.1",
    ] {
        here.ip(words).expect(0);
    }
    let path = dir.path().to_str().unwrap();
    let share = Share::by(&mut here.linerate(&["share", "--http", path]));
    let mut links = vec![share.first.clone()];
    while !links.last().unwrap().contains("//localhost:") {
        links.push(share.line().unwrap());
    }
    let hosts = ["192.168.7.5", "[fd00::5]", "172.17.0.1", "[fe80::", "127.0.0.1", "[::1]"];
    let places: Vec<usize> = hosts
        .iter()
        .map(|host| {
            links
                .iter()
                .position(|link| link.contains(&format!("//{host}")))
                .unwrap_or_else(|| panic!("{host}: {links:?}"))
        })
        .collect();
    assert!(places.is_sorted() && places[0] == 0, "{links:?}");
    let got = to.path().join("a");
    for link in &links {
        // A zone is of who asks.
        let link = if link.contains("[fe80::") { link.replacen(']', "%25eth0]", 1) } else { link.clone() };
        let authority = link.trim_start_matches("http://").split('/').next().unwrap();
        let is_address = link.contains("%25") || authority.parse::<std::net::SocketAddr>().is_ok();
        if !is_address && !authority.starts_with("localhost:") {
            continue;
        }
        let done = run_bounded(&mut here.linerate(&["get", &format!("{link}/f/a"), got.to_str().unwrap()]));
        let is_other_cable = link.contains("%25") && done.code == Some(6);
        assert!(done.code == Some(0) || is_other_cable, "{link}: {done:?}");
    }
    share.end().expect(0);
    // One interface only, and its loss.
    let done = run_bounded(&mut here.linerate(&["share", "--http", "--interface", "nosuch0", path]));
    done.expect_line(2, &["--interface nosuch0", "docker0", "eth0"]);
    let alone = here.linerate(&["share", "--http", "--interface", "docker0", path]);
    let pty = common::pty::Pty::start(&mut { alone }, (24, 80));
    pty.wait_text("http://172.17.0.1:5291/t/");
    here.ip("address flush dev docker0").expect(0);
    pty.wait_text("the interface has lost the addresses");
    here.ip("address add 172.17.0.1/16 dev docker0").expect(0);
    pty.wait_text("the interface has its addresses again");
    pty.keys("\x03");
    assert_eq!(pty.finish().0, Some(0));
}

/// Two namespaces with a cable.
fn cable(one: &Namespace, other: &Namespace) -> bool {
    let words = ["link", "add", "eth0", "netns", &one.0, "type", "veth", "peer", "name", "eth0", "netns", &other.0];
    if skip_unless(ip(&words).code == Some(0), "veth pairs are not permitted") {
        return false;
    }
    for (namespace, address) in [(one, "10.0.0.1/24"), (other, "10.0.0.2/24")] {
        namespace.ip(&format!("address add {address} dev eth0")).expect(0);
        namespace.ip("link set eth0 up").expect(0);
        namespace.ip("route add 224.0.0.0/4 dev eth0").expect(0);
    }
    true
}

/// A socket that hears what is announced on a cable, and speaks there.
fn multicast(own: Ipv4Addr) -> UdpSocket {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, MDNS.port()).into()).unwrap();
    socket.join_multicast_v4(MDNS.ip(), &own).unwrap();
    socket.set_multicast_if_v4(&own).unwrap();
    socket.set_multicast_ttl_v4(255).unwrap();
    let socket = UdpSocket::from(socket);
    socket.set_read_timeout(Some(common::PATIENCE)).unwrap();
    socket
}

/// A name of the DNS.
fn labels(name: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name {
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label);
    }
    bytes.push(0);
    bytes
}

fn record(name: &[u8], kind: u16, class: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let len = (data.len() as u16).to_be_bytes();
    [name, &kind.to_be_bytes(), &class.to_be_bytes(), &ttl.to_be_bytes(), &len, data].concat()
}

/// An announcement as RFC 6762 and 6763 write it.
fn announcement(instance: &[u8], texts: &[&[u8]], ip: Ipv4Addr) -> Vec<u8> {
    let host = labels(&[&instance[..instance.len().min(20)], b"local"]);
    let full = labels(&[instance, b"_linerate", b"_tcp", b"local"]);
    let text: Vec<u8> = texts.iter().flat_map(|text| [&[text.len() as u8], *text].concat()).collect();
    let port = [&[0, 0, 0, 0], &5291u16.to_be_bytes()[..], &host].concat();
    let header = [0, 0, 0x84, 0, 0, 0, 0, 4, 0, 0, 0, 0];
    [
        &header[..],
        &record(&labels(&[b"_linerate", b"_tcp", b"local"]), 12, 1, 120, &full),
        &record(&full, 33, 0x8001, 120, &port),
        &record(&full, 16, 0x8001, 120, &text),
        &record(&host, 1, 0x8001, 120, &ip.octets()),
    ]
    .concat()
}

#[test]
fn a_share_is_announced_to_others_and_taken_back_at_its_end() {
    let (Some(one), Some(other)) = (Namespace::new("one"), Namespace::new("other")) else { return };
    if !cable(&one, &other) {
        return;
    }
    let dir = folder();
    let photos = dir.path().join("photos of Ann");
    std::fs::create_dir(&photos).unwrap();
    let ear = other.inside(|| multicast(Ipv4Addr::new(10, 0, 0, 2)));
    let share = Share::by(&mut one.linerate(&["share", photos.to_str().unwrap()]));
    let heard = |is_it: &dyn Fn(&[u8]) -> bool| {
        let mut packet = [0; 9000];
        loop {
            let (len, _) = ear.recv_from(&mut packet).expect("nothing more is announced");
            if is_it(&packet[..len]) {
                break;
            }
        }
    };
    let holds = |packet: &[u8], word: &[u8]| packet.windows(word.len()).any(|window| window == word);
    heard(&|packet| holds(packet, b"photos of Ann") && holds(packet, b"fingerprint="));
    // An answer has one address or more of a share, and others come later: on a busy machine after the listing's end.
    let listed = |arguments: &[&str]| {
        let mut lists = (0..10).map(|_| run_bounded(&mut other.linerate(arguments)).expect(0));
        lists.find(|done| done.stdout.contains("10.0.0.1")).expect("the share's address is announced")
    };
    let done = listed(&["peers", "--json", "--wait", "3s"]);
    let peers: Vec<serde_json::Value> = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(peers.len(), 1, "{done:?}");
    assert_eq!((&peers[0]["title"], &peers[0]["port"]), (&"photos of Ann".into(), &5291.into()));
    assert!(peers[0]["addresses"].as_array().unwrap().contains(&"10.0.0.1".into()), "{peers:?}");
    assert!(!done.stdout.contains(&share.token));
    let done = listed(&["peers", "--wait", "3s"]);
    assert!(done.stdout.contains("photos of Ann on ") && done.stdout.contains("https://10.0.0.1:5291"), "{done:?}");
    // A goodbye is a record of the same name that lives for no time.
    share.signal(libc::SIGINT);
    heard(&|packet| holds(packet, b"photos of Ann") && holds(packet, &[0, 1, 0, 0, 0, 0]));
    share.wait().expect(0);
    let done = run_bounded(&mut other.linerate(&["peers", "--wait", "1s"])).expect(0);
    assert!(done.stdout.is_empty() && done.stderr.contains("nobody announces"), "{done:?}");
}

/// Tells a thread that nobody needs it any more.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn nothing_that_is_announced_acts_on_the_terminal_or_fills_the_memory() {
    let (Some(one), Some(other)) = (Namespace::new("ear"), Namespace::new("evil")) else { return };
    if !cable(&one, &other) {
        return;
    }
    let evil = b"x\x1b]0;PWNED\x07\x1b[2J\xc2\x9b2J\xe2\x80\xaegpj\n";
    let mouth = other.inside(|| multicast(Ipv4Addr::new(10, 0, 0, 2)));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // However this ends.
        let _end = Ends(&is_over);
        scope.spawn(|| {
            let title = [b"title=".as_slice(), evil].concat();
            let host = [b"host=".as_slice(), &[b'h'; 240]].concat();
            let mut number = 0u32;
            while !is_over.load(Ordering::Relaxed) {
                let instance = [format!("{:05}-", number % 10_000).as_bytes(), evil, &[b'n'; 30][..]].concat();
                let ip = Ipv4Addr::new(10, 0, (number >> 8) as u8, number as u8);
                let packet = announcement(&instance, &[&title, &host, b"fingerprint=zz", b"\xff\xfe=\x1b"], ip);
                // What the cable does not take is sent the next time.
                let _ = mouth.send_to(&packet, MDNS);
                number += 1;
                if number.is_multiple_of(100) {
                    let _ = mouth.send_to(&packet[..packet.len() / 2], MDNS);
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        });
        for words in [&["peers", "--wait", "4s"][..], &["peers", "--wait", "4s", "--json"]] {
            let mut running = Running::start(&mut one.linerate(words));
            let mut most = 0;
            while !running.is_over() {
                most = most.max(status_kib(running.pid(), "VmRSS").unwrap_or(0));
                std::thread::sleep(Duration::from_millis(20));
            }
            let done = running.finish().expect(0);
            assert!(most < LISTENING_KIB_MAX, "{most} KiB");
            let shown = done.stdout.lines().count();
            println!("{words:?}: {shown} lines, {most} KiB");
            assert!(done.stdout.contains("PWNED") && shown <= 20_000, "{shown} lines");
            assert!(!done.stdout.chars().any(|c| c != '\n' && linerate::text::is_unsafe(c)), "{words:?}");
            assert!(!done.stderr.chars().any(|c| c != '\n' && linerate::text::is_unsafe(c)), "{words:?}");
        }
    });
}
