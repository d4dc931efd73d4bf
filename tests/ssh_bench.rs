//! `linerate bench` over a real ssh, with the real program on the far end.

mod common;

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use common::sshd::{Sshd, user};
use common::{
    Done, ONE_CELL, Running, bench, file_of, folder, is_alive, linerate, names_in, read_result, run_bounded,
    signal_process, wait_until,
};
use linerate::report::schema::Document;

const LINERATE: &str = env!("CARGO_BIN_EXE_linerate");
/// Options of a run that goes on until something ends it: far longer than the patience of any test.
const ENDLESS: [&str; 8] = ["--methods", "write", "--sizes", "64KiB", "--rounds", "1000", "--duration", "300ms"];

/// The far end's program: the real one, which first tells its process number.
fn far_program(sshd: &Sshd) -> String {
    let told = sshd.path("told");
    let script = format!(
        "echo $$ > '{told}.new'; mv '{told}.new' '{told}.pid'; exec '{LINERATE}' \"$@\"",
        told = told.display()
    );
    sshd.script(&sshd.path("linerate"), &script).display().to_string()
}

/// Its process number, once it has told it.
fn far_pid(sshd: &Sshd) -> u32 {
    let read = || std::fs::read_to_string(sshd.path("told.pid")).unwrap_or_default().trim().parse().ok();
    wait_until("the far end tells its number", || read().is_some());
    read().unwrap()
}

/// `linerate bench` in `folder` that knows how to reach the far end, with these options.
fn over(sshd: &Sshd, folder: &Path, options: &[&str]) -> Command {
    let mut command = bench(folder, ONE_CELL);
    command.args(["--json", "run.json", "--ssh", &sshd.args().ssh, "--remote-linerate", &far_program(sshd)]);
    command.args(options);
    command
}

/// A run to the end.
fn run(sshd: &Sshd, folder: &Path, options: &[&str]) -> Done {
    let done = run_bounded(&mut over(sshd, folder, options));
    assert!(!has_ticket(&done.stdout) && !has_ticket(&done.stderr), "{done:#?}");
    if sshd.path("told.pid").exists() {
        let pid = far_pid(sshd);
        wait_until("the far end has ended", || !is_alive(pid));
    }
    done
}

/// A run that goes well, and its result.
#[track_caller]
fn measured(sshd: &Sshd, options: &[&str]) -> (Done, Document) {
    let folder = folder();
    let done = run(sshd, folder.path(), options).expect(0);
    let path = folder.path().join("run.json");
    assert!(!has_ticket(&std::fs::read_to_string(&path).unwrap()));
    let document = read_result(&path);
    assert!(document.complete && document.settings.server_known);
    assert!(document.cells.iter().all(|cell| cell.unavailable.is_none() && cell.throughput.is_some()));
    (done, document)
}

/// A run that fails with one line that holds all `words`.
#[track_caller]
fn fails(sshd: &Sshd, code: i32, options: &[&str], words: &[&str]) {
    let folder = folder();
    run(sshd, folder.path(), options).expect_line(code, words);
    assert!(names_in(folder.path()).is_empty());
}

/// Whether a ticket stands in it: the mark of one and what follows.
fn has_ticket(text: &str) -> bool {
    let is_long = |rest: &str| rest.bytes().take_while(u8::is_ascii_alphanumeric).count() > 40;
    text.split("lr1").skip(1).any(is_long)
}

/// `user@127.0.0.1`, which the client config knows.
fn target() -> String {
    format!("{}@127.0.0.1", user())
}

/// A run that does not end by itself, once it measures; it is the leader of a process group.
fn endless(sshd: &Sshd, folder: &Path, options: &[&str]) -> (Running, u32) {
    let mut command = linerate(["bench", "-q", "--json", "run.json", "--ssh", &sshd.args().ssh]);
    command.args(["--remote-linerate", &far_program(sshd)]).args(ENDLESS).args(options).arg(target());
    let client = Running::start(command.current_dir(folder).process_group(0));
    // Where a port was taken meanwhile, the first far end gives way to a second.
    wait_until("the far end measures", || measures(far_pid(sshd)));
    (client, far_pid(sshd))
}

/// Whether a process has workers.
fn measures(pid: u32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.any(|name| name.starts_with("worker-"))
}

/// A process and all that came from it.
fn family(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let children = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
        found.extend(children.collect::<String>().split_whitespace().map(|pid| pid.parse::<u32>().unwrap()));
        next += 1;
    }
    found
}

/// The ssh that a client has started.
fn ssh_of(client: &Running) -> u32 {
    let cmdline = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    family(client.pid()).into_iter().find(|pid| cmdline(pid).starts_with("ssh\0")).unwrap()
}

#[test]
fn the_far_end_is_started_and_known() {
    let Some(sshd) = Sshd::start() else { return };
    let (done, document) = measured(&sshd, &[&target()]);
    assert!(!document.settings.through_ssh && document.settings.peer.starts_with("127.0.0.1:"));
    assert!(!document.settings.peer.ends_with(":5290"), "that port is for a server that runs anyway");
    assert!(!document.cells[0].labels.iter().any(|label| label == "through-ssh"));
    assert!(done.stdout.contains("linerate bench against 127.0.0.1:") && !done.stdout.contains("ssh"), "{done:#?}");
}

#[test]
fn a_host_without_a_server_is_reached_over_ssh() {
    let bin = folder();
    std::os::unix::fs::symlink(LINERATE, bin.path().join("linerate")).unwrap();
    let Some(sshd) = Sshd::with_path(&bin.path().display().to_string()) else { return };
    let folder = folder();
    let plain = |ssh: &str, host: &str| {
        let options = ["--json", "run.json", "--ssh", ssh, host];
        run_bounded(bench(folder.path(), ONE_CELL).args(options))
    };
    // No resolver knows the name, so no server can answer to it.
    plain(&sshd.args().ssh, "far").expect(0);
    let document = read_result(&folder.path().join("run.json"));
    assert!(document.settings.server_known && document.settings.peer.starts_with("127.0.0.1:"));
    // Nor does ssh, this time.
    let words = ["nosuchhost.invalid: ssh: ", "no `linerate serve` answers on port 5290; over ssh: ", "resolve"];
    plain(&sshd.args().ssh, "nosuchhost.invalid").expect_line(6, &words);
    plain("false", "nosuchhost.invalid").expect_line(6, &["nosuchhost.invalid: ", "exit status 1", "over ssh"]);
}

#[test]
fn what_goes_through_ssh_is_labelled() {
    let Some(sshd) = Sshd::start() else { return };
    let (done, document) = measured(&sshd, &["--through-ssh", "--sizes", "64KiB,256KiB", "far"]);
    assert!(document.settings.through_ssh);
    for cell in &document.cells {
        assert!(cell.labels.iter().any(|label| label == "through-ssh"), "{:?}", cell.labels);
    }
    assert!(document.recommendation.sentences.concat().contains("ssh"), "{:?}", document.recommendation);
    for words in ["through an ssh connection", "through-ssh"] {
        assert!(done.stdout.contains(words), "no {words:?} in {}", done.stdout);
    }
}

#[test]
fn the_far_end_listens_where_it_may() {
    let Some(sshd) = Sshd::start() else { return };
    let (taken, low, free) = taken_and_free();
    let (_, document) = measured(&sshd, &["--remote-port", &free.to_string(), &target()]);
    assert_eq!(document.settings.peer, format!("127.0.0.1:{free}"));

    let range = format!("{low}-{free}");
    let (_, document) = measured(&sshd, &["--remote-port", &range, "--remote-address", "127.0.0.1", &target()]);
    assert_eq!(document.settings.peer, format!("127.0.0.1:{free}"));
    let (_, document) = measured(&sshd, &["--remote-port", &range, "--through-ssh", &target()]);
    assert!(document.settings.through_ssh);

    let range = low.to_string();
    let words = ["no free port there in --remote-port", &range, "already in use", "choose others with --remote-port"];
    fails(&sshd, 6, &["--remote-port", &range, &target()], &words);
    let words = ["no free port for --through-ssh in 4 attempts", "choose others with --remote-port"];
    fails(&sshd, 6, &["--remote-port", &range, "--through-ssh", &target()], &words);
    drop(taken);
}

/// Two ports that follow each other: one that is taken as long as its socket lives, and one that is free. The kernel
/// gives neither to whoever asks it for any port, since both lie outside the range that it takes those from.
fn taken_and_free() -> (TcpListener, u16, u16) {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let bounds: Vec<u16> = range.split_whitespace().map(|bound| bound.parse().unwrap()).collect();
    let is_given = |port: u16| (bounds[0]..=bounds[1]).contains(&port);
    // Where two runs of this test go on at once, they begin at different places.
    let start = (std::process::id() % 1000) as u16 * 2;
    let lows = (1024..u16::MAX - 1).step_by(2).filter(|low| !is_given(*low) && !is_given(low + 1));
    let mut lows: Vec<u16> = lows.collect();
    let count = lows.len();
    lows.rotate_left(usize::from(start) % count.max(1));
    let pair = lows.into_iter().find_map(|low| {
        let taken = TcpListener::bind(("0.0.0.0", low)).ok()?;
        let _free = TcpListener::bind(("0.0.0.0", low + 1)).ok()?;
        Some((taken, low, low + 1))
    });
    pair.expect("two free ports that follow each other")
}

#[test]
fn files_are_named_on_the_far_end() {
    let Some(sshd) = Sshd::start() else { return };
    let there = sshd.path("it's there");
    std::fs::create_dir(&there).unwrap();
    file_of(&there, "file", 1 << 20);
    let name = |name: &str| there.join(name).display().to_string();
    let (_, document) = measured(&sshd, &["--sink", &name("new"), &target()]);
    assert!(document.settings.sink.contains("new"), "{}", document.settings.sink);
    let (_, document) = measured(&sshd, &["--direction", "receive", "--source", &name("file"), &target()]);
    assert!(document.settings.source.contains("file"), "{}", document.settings.source);
    assert_eq!(names_in(&there), ["file"]);
    let words = ["127.0.0.1: the linerate there: ", "no such folder: cannot be opened as a folder", "No such file"];
    fails(&sshd, 1, &["--sink", &name("no such folder/new"), &target()], &words);
    let done = run(&sshd, sshd.path("").as_path(), &["--direction", "receive", "--source", &name("none"), &target()]);
    let done = done.expect(1);
    assert!(done.stderr.contains("none") && done.stderr.contains("No such file"), "{done:#?}");
}

#[test]
fn a_port_that_does_not_answer_names_both_ways_round() {
    let Some(sshd) = Sshd::start() else { return };
    // It listens on one address only, and its ticket names the same port at another one.
    let wrapper = |listen: &str, address: &str| {
        let script = format!("exec '{LINERATE}' \"$@\" --listen {listen} --address {address}");
        sshd.script(&sshd.path("elsewhere"), &script).display().to_string()
    };
    let words = ["127.0.0.1: linerate runs there and listens on port ", " refuses connections", "--remote-address"];
    let words =
        [&words[..], &["open a port in the firewall", "--remote-port", "carry everything", "--through-ssh"]].concat();
    let elsewhere = wrapper("127.0.0.3:0", "127.0.0.4");
    fails(&sshd, 6, &["--remote-linerate", &elsewhere, &target()], &words);
    let elsewhere = wrapper("127.0.0.3:0", "127.0.0.3");
    let target = target();
    let options = ["--remote-linerate", &elsewhere, &target, "--remote-address"];
    let at = |address| [&options[..], &[address]].concat();
    fails(&sshd, 6, &at("127.0.0.4"), &words);
    fails(&sshd, 6, &at("nowhere.invalid"), &["--remote-address: nowhere.invalid: does not resolve"]);
    let (_, document) = measured(&sshd, &at("127.0.0.3"));
    assert!(document.settings.peer.starts_with("127.0.0.3:"));
}

#[test]
fn a_way_through_ssh_that_is_forbidden_is_said() {
    let Some(sshd) = Sshd::start() else { return };
    let key = std::fs::read_to_string(sshd.path("user.pub")).unwrap();
    std::fs::write(sshd.path("authorized"), format!("no-port-forwarding {key}")).unwrap();
    let words = ["linerate runs there", "administratively prohibited", "AllowTcpForwarding", "leave --through-ssh out"];
    fails(&sshd, 6, &["--through-ssh", &target()], &words);
    measured(&sshd, &[&target()]);
}

#[test]
fn a_start_that_fails_is_one_line() {
    let Some(sshd) = Sshd::start() else { return };
    let missing = ["not found", "--install", "--remote-linerate PATH"];
    fails(&sshd, 6, &["--remote-linerate", "no-such-linerate", &target()], &missing);
    let sshless = ["--ssh", "no-such-ssh", "far"];
    fails(&sshd, 6, &sshless, &["no-such-ssh: No such file", "install an ssh client", "--ssh COMMAND"]);
    fails(&sshd, 2, &["--ssh", "ssh 'x", "far"], &["a quote is not closed"]);
    sshd.make_key("other");
    sshd.write_client("wrong-key", "other", "known", "");
    let wrong_key = sshd.args_with("wrong-key").ssh;
    fails(&sshd, 6, &["--ssh", &wrong_key, &target()], &["Permission denied (publickey)", "ssh -i KEY"]);
}

#[test]
fn options_of_the_other_way_are_not_lost_without_a_word() {
    let table: [(&[&str], &[&str]); 6] = [
        (&["me@nas", "--port", "22"], &["--port", "--ssh \"ssh -p PORT\"", "--remote-port"]),
        (&["me@nas", "--ticket-file", "t"], &["--ticket-file is for a server that runs already"]),
        (&["nas", "--through-ssh", "--port", "7"], &["--through-ssh is for a server that is started over ssh"]),
        (&["nas:7", "--install"], &["--install is for", "USER@HOST"]),
        (&["lr://nas", "--remote-port", "7"], &["--remote-port is for"]),
        (&["--remote-address", "nas"], &["--remote-address is for"]),
    ];
    for (options, words) in table {
        let folder = folder();
        run_bounded(&mut bench(folder.path(), options)).expect_line(2, words);
        assert!(names_in(folder.path()).is_empty());
    }
}

#[test]
fn no_ticket_is_seen_among_the_processes() {
    let Some(sshd) = Sshd::start() else { return };
    for way in [&[][..], &["--through-ssh"]] {
        let folder = folder();
        let (client, far) = endless(&sshd, folder.path(), way);
        let pids = [family(client.pid()), family(sshd.pid())].concat();
        assert!(pids.contains(&far) && pids.contains(&ssh_of(&client)));
        for (pid, file) in pids.iter().flat_map(|pid| [(pid, "cmdline"), (pid, "environ")]) {
            let text = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            assert!(!has_ticket(&String::from_utf8_lossy(&text)), "{file} of {pid}");
        }
        client.signal(libc::SIGTERM);
        client.finish().expect(130);
        wait_until("the far end has ended", || !is_alive(far));
        std::fs::remove_file(sshd.path("told.pid")).unwrap();
    }
}

#[test]
fn ctrl_c_ends_both_ends_and_keeps_what_was_measured() {
    let Some(sshd) = Sshd::start() else { return };
    let folder = folder();
    let (client, far) = endless(&sshd, folder.path(), &[]);
    let ssh = ssh_of(&client);
    // As a terminal does: to the whole process group, ssh included.
    // SAFETY: kill touches no memory of ours, and the leader was not reaped yet, so the group is its.
    unsafe { libc::kill(-(client.pid() as libc::pid_t), libc::SIGINT) };
    client.finish().expect_line(130, &["interrupted", "what was measured until then is kept"]);
    assert!(!is_alive(ssh));
    wait_until("the far end has ended", || !is_alive(far));
    assert!(!read_result(&folder.path().join("run.json")).complete);
}

#[test]
fn the_far_end_does_not_outlive_a_killed_client() {
    let Some(sshd) = Sshd::start() else { return };
    let folder = folder();
    let (client, far) = endless(&sshd, folder.path(), &[]);
    let ssh = ssh_of(&client);
    client.signal(libc::SIGKILL);
    assert_eq!(client.finish().code, None);
    wait_until("the far end and ssh have ended", || !is_alive(far) && !is_alive(ssh));
}

#[test]
fn a_lost_ssh_connection_ends_both_ends() {
    let Some(sshd) = Sshd::start() else { return };
    for way in [&[][..], &["--through-ssh"]] {
        let folder = folder();
        let (client, far) = endless(&sshd, folder.path(), way);
        signal_process(ssh_of(&client), libc::SIGKILL);
        client.finish().expect_line(6, &["127.0.0.1:", "its ssh has ended", "is kept"]);
        wait_until("the far end has ended", || !is_alive(far));
        assert!(!read_result(&folder.path().join("run.json")).complete);
        std::fs::remove_file(sshd.path("told.pid")).unwrap();
    }
}
