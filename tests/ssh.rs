//! Starting the far end over a real ssh, with shell scripts in place of the linerate there.

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;

use common::sshd::Sshd;
use common::{file_of, is_alive, names_in, signal_process, wait_until};
use linerate::cli::ssh::{PortRange, Remote, SshArgs, SshError, Target, install};

/// A far end that does what it should: it gets ready, and ends when its standard input does.
const GOOD: &str = "echo 'Welcome!'; printf 'no newline: '; echo linerate-ticket lr1fake; exec cat >/dev/null";

/// Options under which the far end runs that script. It tells its process number and its arguments in files.
fn far_end(sshd: &Sshd, script: &str) -> SshArgs {
    let told = sshd.path("told");
    let script = format!(
        "printf '%s\\n' \"$@\" > '{told}.args'; echo $$ > '{told}.new'; mv '{told}.new' '{told}.pid'; {script}",
        told = told.display()
    );
    let program = sshd.script(&sshd.path("far end's linerate"), &script);
    SshArgs { remote_linerate: program.display().to_string(), ..sshd.args() }
}

/// The process number of the far end, once it has told it.
fn far_pid(sshd: &Sshd) -> u32 {
    let read = || std::fs::read_to_string(sshd.path("told.pid")).unwrap_or_default().trim().parse().ok();
    wait_until("the far end tells its number", || read().is_some());
    read().unwrap()
}

fn far_args(sshd: &Sshd) -> Vec<String> {
    std::fs::read_to_string(sshd.path("told.args")).unwrap().lines().map(str::to_string).collect()
}

/// The ssh processes that this test has started.
fn clients(sshd: &Sshd) -> Vec<u32> {
    let mut found = Vec::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let children = std::fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default();
        found.extend(children.split_whitespace().map(|pid| pid.parse::<u32>().unwrap()));
    }
    let ours = sshd.path("").display().to_string();
    let cmdline = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    found.retain(|pid| cmdline(pid).starts_with("ssh\0") && cmdline(pid).contains(&ours));
    found
}

fn start(args: &SshArgs, sshd: &Sshd) -> Result<Remote, SshError> {
    Remote::start(args, &sshd.target(), &["--quiet".into(), "/a b/it's $HOME\\!".into()])
}

/// It fails, in one line that holds all `words`, and leaves no ssh behind.
#[track_caller]
fn fails(args: &SshArgs, sshd: &Sshd, words: &[&str]) -> SshError {
    let error = start(args, sshd).unwrap_err();
    let line = error.to_string();
    assert_eq!(line.lines().count(), 1, "{line}");
    for word in words {
        assert!(line.contains(word), "no {word:?} in {line}\n{}", sshd.log());
    }
    assert!(clients(sshd).is_empty());
    error
}

#[test]
fn the_ticket_arrives_and_the_far_end_ends_with_us() {
    let Some(sshd) = Sshd::start() else { return };
    let remote = start(&far_end(&sshd, GOOD), &sshd).unwrap();
    assert_eq!(remote.ticket(), "lr1fake");
    assert_eq!(remote.connect_to, None);
    assert!(!format!("{remote:?}").contains("lr1"));
    assert_eq!(far_args(&sshd), ["serve", "--once", "--ticket-on-stdout", "--quiet", "/a b/it's $HOME\\!"]);
    let pid = far_pid(&sshd);
    assert!(is_alive(pid));
    assert_eq!(clients(&sshd).len(), 1);
    drop(remote);
    assert!(clients(&sshd).is_empty());
    wait_until("the far end has ended", || !is_alive(pid));
}

#[test]
fn the_far_end_ends_when_ssh_is_killed() {
    let Some(sshd) = Sshd::start() else { return };
    let remote = start(&far_end(&sshd, GOOD), &sshd).unwrap();
    let pid = far_pid(&sshd);
    signal_process(clients(&sshd)[0], libc::SIGKILL);
    wait_until("the far end has ended", || !is_alive(pid));
    drop(remote);
}

#[test]
fn ctrl_c_ends_a_start_and_not_a_far_end_that_runs() {
    let Some(sshd) = Sshd::start() else { return };
    let args = far_end(&sshd, GOOD);
    let remote = start(&args, &sshd).unwrap();
    // As the terminal would: to all of the process group.
    signal_process(clients(&sshd)[0], libc::SIGINT);
    signal_process(clients(&sshd)[0], libc::SIGINT);
    assert!(is_alive(far_pid(&sshd)) && clients(&sshd).len() == 1);
    drop(remote);
    std::fs::remove_file(sshd.path("told.pid")).unwrap();

    let args = far_end(&sshd, "exec cat >/dev/null");
    let (tell, told) = channel();
    std::thread::scope(|scope| {
        let starting = scope.spawn(|| {
            // SAFETY: it touches nothing.
            tell.send(unsafe { libc::pthread_self() }).unwrap();
            start(&args, &sshd).map(drop)
        });
        let thread = told.recv().unwrap();
        let pid = far_pid(&sshd);
        // SAFETY: the thread has not been joined. It holds the signal back: it has started the far end.
        unsafe { libc::pthread_kill(thread, libc::SIGINT) };
        let error = starting.join().unwrap().unwrap_err();
        assert!(matches!(error, SshError::Interrupted), "{error}");
        wait_until("the far end has ended", || !is_alive(pid));
    });
    assert!(clients(&sshd).is_empty());
}

#[test]
fn what_the_far_end_says_once_it_runs_is_kept() {
    let Some(sshd) = Sshd::start() else { return };
    let script = "echo before >&2; echo linerate-ticket lr1fake; read x; echo 'linerate: \x1b[2Jgone' >&2; exit 1";
    let remote = start(&far_end(&sshd, &format!("exec 0</dev/null; {script}")), &sshd).unwrap();
    let words = || remote.server_words().join("|");
    wait_until("it says why", || words().contains("gone"));
    assert!(words().contains(r"linerate: \u{1b}[2Jgone"), "{}", words());
}

#[test]
fn each_failure_of_the_far_end_says_what_to_do() {
    let Some(sshd) = Sshd::start() else { return };
    let usage = "error: unexpected argument '--ticket-on-stdout' found";
    let table: [(&str, &[&str]); 8] = [
        (&format!("echo \"{usage}\" >&2; exit 2"), &["far: ", usage, "same release"]),
        ("exit 0", &["ended before it got ready", "nothing was said why"]),
        ("echo 'linerate: no luck' >&2; exit 5", &["far: the linerate there: no luck"]),
        ("exec not-there-linerate", &["not found", "--install", "scp \"$(which linerate)\" far:.local/bin/"]),
        ("while :; do echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa || exit; done", &["64 KiB", "when it is not"]),
        ("tr '\\0' x < /dev/zero", &["more than 64 KiB of something else"]),
        ("echo linerate-ticket lr9secret; exec cat", &["ticket of another kind", "same release"]),
        ("kill -9 $$", &["was ended by a signal, or ssh failed"]),
    ];
    for (script, words) in table {
        let error = fails(&far_end(&sshd, script), &sshd, words);
        assert!(!error.to_string().contains("lr9secret"));
        let pid = far_pid(&sshd);
        wait_until("the far end has ended", || !is_alive(pid));
        std::fs::remove_file(sshd.path("told.pid")).unwrap();
    }
}

#[test]
fn a_linerate_that_is_missing_or_does_not_run_is_named() {
    let Some(sshd) = Sshd::start() else { return };
    let missing = SshArgs { remote_linerate: "no such linerate".to_string(), ..sshd.args() };
    let error = fails(&missing, &sshd, &["no such linerate", "not found", "--install", "--remote-linerate PATH"]);
    assert!(matches!(error, SshError::Missing { .. }));
    let plain = file_of(&sshd.home(), "linerate", 8);
    let plain = SshArgs { remote_linerate: plain.display().to_string(), ..sshd.args() };
    let error = fails(&plain, &sshd, &["make it executable"]);
    assert!(matches!(error, SshError::NotExecutable { .. }));
}

#[test]
fn it_is_found_in_the_home_folder() {
    let Some(sshd) = Sshd::start() else { return };
    for folder in [".cargo/bin", ".local/bin"] {
        let program = sshd.script(&sshd.home().join(folder).join("linerate"), &format!("echo >&2; {GOOD}"));
        // There may be one in the PATH of this machine.
        let named = SshArgs { remote_linerate: format!("~/{folder}/linerate"), ..sshd.args() };
        assert_eq!(start(&named, &sshd).unwrap().ticket(), "lr1fake");
        std::fs::rename(&program, program.with_file_name("linerate-of-home")).unwrap();
        let found = SshArgs { remote_linerate: "linerate-of-home".to_string(), ..sshd.args() };
        assert_eq!(start(&found, &sshd).unwrap().ticket(), "lr1fake");
        std::fs::remove_file(program.with_file_name("linerate-of-home")).unwrap();
    }
}

#[test]
fn a_login_that_fails_says_why() {
    let Some(sshd) = Sshd::start() else { return };
    sshd.make_key("other");
    sshd.write_client("wrong-key", "other", "known", "");
    let error = fails(&sshd.args_with("wrong-key"), &sshd, &["far: ssh: ", "Permission denied", "`ssh far`", "KEY"]);
    assert!(matches!(error, SshError::Denied { .. }));

    let other = std::fs::read_to_string(sshd.path("other.pub")).unwrap();
    std::fs::write(sshd.path("changed"), format!("[127.0.0.1]:{} {other}", sshd.port())).unwrap();
    sshd.write_client("changed-key", "user", "changed", "");
    let changed = sshd.path("changed").display().to_string();
    let error = fails(&sshd.args_with("changed-key"), &sshd, &["key has changed", "Offending", &changed, "-R"]);
    assert!(matches!(error, SshError::HostKey { .. }));

    sshd.write_client("new-host", "user", "no-such-file", "");
    let error = fails(&sshd.args_with("new-host"), &sshd, &["No ED25519 host key is known", "accept it"]);
    assert!(matches!(error, SshError::HostKey { .. }));
}

#[test]
fn a_host_that_is_not_reached_says_why() {
    let Some(sshd) = Sshd::start() else { return };
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    sshd.write_client("refused", "user", "known", &format!("Port {closed}"));
    let error = fails(&sshd.args_with("refused"), &sshd, &["Connection refused", &closed.to_string(), "-p PORT"]);
    assert!(matches!(error, SshError::Unreachable { .. }));

    sshd.write_client("unknown", "user", "known", "Host nowhere\n HostName no-such-host.invalid\n");
    let nowhere: Target = "nowhere".parse().unwrap();
    let error = Remote::start(&sshd.args_with("unknown"), &nowhere, &[]).unwrap_err().to_string();
    assert!(error.starts_with("nowhere: ssh: ") && error.contains("no-such-host.invalid"), "{error}");
}

#[test]
fn an_ssh_command_that_is_none_is_named() {
    let target: Target = "far".parse().unwrap();
    let table = [
        ("no-such-ssh -x", "no-such-ssh: No such file or directory"),
        ("", "names no program"),
        ("ssh -i 'key", "a quote is not closed"),
    ];
    for (ssh, words) in table {
        let error = Remote::start(&SshArgs { ssh: ssh.to_string(), ..SshArgs::default() }, &target, &[]).unwrap_err();
        assert!(error.to_string().contains(words) && error.to_string().contains("--ssh"), "{error}");
    }
}

#[test]
fn bytes_go_through_ssh_both_ways() {
    let Some(sshd) = Sshd::start() else { return };
    // The far end is this machine, too.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let range: PortRange = port.to_string().parse().unwrap();
    let args = SshArgs { through_ssh: true, remote_port: Some(range), ..far_end(&sshd, GOOD) };
    let remote = start(&args, &sshd).unwrap();
    assert_eq!(far_args(&sshd)[3..5], ["--listen".to_string(), format!("127.0.0.1:{port}")]);
    let mut near = TcpStream::connect(remote.connect_to.unwrap()).unwrap();
    let (mut far, _) = listener.accept().unwrap();
    let mut heard = [0; 4];
    near.write_all(b"ping").unwrap();
    far.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"ping");
    far.write_all(b"pong").unwrap();
    near.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"pong");
    let address = remote.connect_to.unwrap();
    drop(remote);
    assert!(TcpStream::connect(address).is_err(), "the way is closed with ssh");
}

#[test]
fn a_taken_port_is_replaced_by_another() {
    let Some(sshd) = Sshd::start() else { return };
    let tries = sshd.path("tries");
    let taken = |goods: u32| {
        format!(
            "echo x >> '{tries}'; if [ \"$(wc -l < '{tries}')\" -lt {goods} ]; then echo \"linerate: $5: cannot \
             listen: Address already in use (os error 98): choose another\" >&2; exit 1; fi; {GOOD}",
            tries = tries.display()
        )
    };
    let through = |script: &str| SshArgs { through_ssh: true, ..far_end(&sshd, script) };
    start(&through(&taken(3)), &sshd).unwrap();
    assert_eq!(std::fs::read_to_string(&tries).unwrap().lines().count(), 3);
    std::fs::remove_file(&tries).unwrap();
    fails(&through(&taken(100)), &sshd, &["4 attempts", "cannot listen", "--remote-port"]);
    assert_eq!(std::fs::read_to_string(&tries).unwrap().lines().count(), 4);
    // Without a way of ours through ssh the port is not ours to choose.
    fails(&far_end(&sshd, &taken(100)), &sshd, &["the linerate there: ", "cannot listen"]);
    assert_eq!(std::fs::read_to_string(&tries).unwrap().lines().count(), 5);
}

/// A program to install that is good for any machine.
fn program(sshd: &Sshd) -> PathBuf {
    let script = format!("if [ \"$1\" = --version ]; then echo 'linerate 9.9'; exit; fi; {GOOD}");
    sshd.script(&sshd.path("ours"), &script)
}

fn installed(sshd: &Sshd) -> Vec<String> {
    let folder = sshd.home().join(".local/bin");
    if folder.exists() { names_in(&folder) } else { Vec::new() }
}

#[test]
fn an_installed_linerate_is_started() {
    let Some(sshd) = Sshd::start() else { return };
    let ours = program(&sshd);
    let args = SshArgs { install: true, ..sshd.args() };
    for _ in 0..2 {
        let remote = Remote::start_or_install(&args, &sshd.target(), &[], &ours).unwrap();
        assert_eq!(remote.ticket(), "lr1fake");
        assert_eq!(installed(&sshd), ["linerate"]);
        let there = sshd.home().join(".local/bin/linerate");
        assert_eq!(std::fs::read(&there).unwrap(), std::fs::read(&ours).unwrap());
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(there.metadata().unwrap().permissions().mode() & 0o777, 0o755);
    }
}

#[test]
fn the_real_program_is_installed_and_replaces_another() {
    let Some(sshd) = Sshd::start() else { return };
    let ours = Path::new(env!("CARGO_BIN_EXE_linerate"));
    let there = sshd.script(&sshd.home().join(".local/bin/linerate"), "exit 1");
    install(&sshd.args(), &sshd.target(), ours).unwrap();
    assert_eq!(std::fs::read(there).unwrap(), std::fs::read(ours).unwrap());
    assert_eq!(installed(&sshd), ["linerate"]);
}

#[test]
fn a_program_that_does_not_fit_is_not_installed() {
    let bin = common::folder();
    let path = bin.path().display().to_string();
    let Some(sshd) = Sshd::with_path(&path) else { return };
    let ours = program(&sshd);
    let fails = |words: &str| {
        let error = install(&sshd.args(), &sshd.target(), &ours).unwrap_err().to_string();
        assert!(error.contains(words) && error.starts_with("far: "), "no {words:?} in {error}");
        assert!(installed(&sshd).is_empty(), "{:?}", installed(&sshd));
        assert!(clients(&sshd).is_empty());
    };
    sshd.script(&bin.path().join("uname"), "echo Linux pdp11");
    fails("that machine is pdp11, and it is built for ");
    sshd.script(&bin.path().join("uname"), "echo Plan9 x86_64");
    fails("needs Linux");
    sshd.script(&bin.path().join("uname"), "exec /usr/bin/uname \"$@\"");
    if cfg!(all(target_env = "gnu", not(target_feature = "crt-static"))) {
        sshd.script(&bin.path().join("getconf"), "echo glibc 2.1");
        fails("that machine has glibc 2.1, and it needs ");
        std::fs::remove_file(bin.path().join("getconf")).unwrap();
    }
    if Path::new("/usr/bin/sha256sum").exists() {
        sshd.script(&bin.path().join("sha256sum"), "echo 0000");
        fails("it came damaged");
        std::fs::remove_file(bin.path().join("sha256sum")).unwrap();
    }
    sshd.script(&bin.path().join("cat"), "exec head -c 5");
    fails("it did not come whole");
    std::fs::remove_file(bin.path().join("cat")).unwrap();
    sshd.script(&ours, "echo 'no such library' >&2; exit 127");
    fails("no such library; it does not run there");
    std::fs::remove_dir(sshd.home().join(".local/bin")).unwrap();
    std::fs::write(sshd.home().join(".local/bin"), "").unwrap();
    let error = install(&sshd.args(), &sshd.target(), &ours).unwrap_err().to_string();
    assert!(error.contains("mkdir"), "{error}");
}
