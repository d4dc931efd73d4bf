//! What the tests of the whole program share: starting it, bounding it in time, and leaving nothing behind.

#![allow(dead_code, reason = "each test binary uses its own part of it")]

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use linerate::report::schema::Document;

#[cfg(feature = "web")]
pub mod attack;
pub mod clamd;
pub mod copy;
pub mod host;
pub mod peer;
pub mod person;
pub mod proxy;
pub mod pty;
#[cfg(feature = "web")]
pub mod share;
pub mod sshd;
pub mod tree;
pub mod victim;

/// What takes longer hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Looked at again after this where nothing tells of a change.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Options of a run that is over soon.
pub const QUICK: [&str; 6] = ["--duration", "20ms", "--rounds", "1", "--warmup", "5ms"];
/// One small cell and no latency.
pub const ONE_CELL: [&str; 5] = ["--methods", "write", "--sizes", "64KiB", "--no-latency"];

/// The program, with nothing on its standard input.
pub fn linerate<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_linerate"));
    command.args(args).stdin(Stdio::null());
    for name in ["NO_COLOR", "TERM", "LC_ALL", "LC_CTYPE", "LANG", "LINERATE_TICKET", "SSH_CONNECTION"] {
        command.env_remove(name);
    }
    at_home(&mut command, &home());
    command
}

/// Where the programs of these tests keep what they know: not with the user's own.
pub fn home() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(concat!("home-", env!("CARGO_CRATE_NAME")))
}

/// Have a program keep what it knows below `home`.
pub fn at_home<'a>(command: &'a mut Command, home: &Path) -> &'a mut Command {
    for (name, place) in [("XDG_STATE_HOME", "state"), ("XDG_CONFIG_HOME", "config"), ("XDG_RUNTIME_DIR", "run")] {
        command.env(name, home.join(place));
    }
    command
}

/// `linerate bench` that is over soon, in `folder`.
pub fn bench<S: AsRef<OsStr>>(folder: &Path, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = linerate(["bench"]);
    command.args(QUICK).args(args).current_dir(folder);
    command
}

/// What a process that is over said.
#[derive(Debug)]
pub struct Done {
    /// `None` when a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    /// It ended well; says what it said if not.
    #[track_caller]
    pub fn expect(self, code: i32) -> Done {
        assert_eq!(self.code, Some(code), "{self:#?}");
        assert!(!self.stderr.contains("panicked"), "{self:#?}");
        self
    }

    /// It failed with that code and said so in one line that holds all `words`.
    #[track_caller]
    pub fn expect_line(self, code: i32, words: &[&str]) -> Done {
        let done = self.expect(code);
        assert_eq!(done.stderr.lines().count(), 1, "one line: {done:#?}");
        for word in words {
            assert!(done.stderr.contains(word), "no {word:?} in {done:#?}");
        }
        done
    }
}

/// A process that is killed and reaped when it goes out of scope.
pub struct Running {
    child: Child,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
}

impl Running {
    /// Start it; what it says is collected.
    pub fn start(command: &mut Command) -> Running {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = child.stdout.take().map(collect);
        let stderr = child.stderr.take().map(collect);
        Running { child, stdout, stderr }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: i32) {
        signal_process(self.pid(), signal);
    }

    /// Whether it has ended.
    pub fn is_over(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Wait for its end; panics when that takes too long.
    pub fn finish(mut self) -> Done {
        let status = wait_bounded(&mut self.child);
        let said = |thread: Option<JoinHandle<String>>| thread.map(|thread| thread.join().unwrap()).unwrap_or_default();
        Done { code: status.code(), stdout: said(self.stdout.take()), stderr: said(self.stderr.take()) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Run a command to its end.
pub fn run_bounded(command: &mut Command) -> Done {
    Running::start(command).finish()
}

/// A `linerate serve` of the test's own, ended with the test.
pub struct Serving {
    child: Child,
    stderr: Option<JoinHandle<String>>,
    lines: Receiver<String>,
    address: SocketAddr,
}

impl Serving {
    /// On 127.0.0.1, on a port that the kernel chooses.
    pub fn start() -> Serving {
        Serving::with(["--listen", "127.0.0.1:0"])
    }

    /// The same, serving a folder, and giving every right to it.
    pub fn of_folder(folder: &Path) -> Serving {
        let words = ["--listen", "127.0.0.1:0", "--allow", "bench,read,write"].map(OsStr::new);
        Serving::with(words.into_iter().chain([folder.as_os_str()]))
    }

    /// With these arguments.
    pub fn with<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Serving {
        let mut command = linerate(["serve"]);
        command.args(args);
        Serving::by(&mut command)
    }

    /// By this command.
    pub fn by(command: &mut Command) -> Serving {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (said, lines) = channel();
        let stdout = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = said.send(line);
            }
        });
        // Read all the time: a server that logs must not wait for us.
        let stderr = child.stderr.take().map(collect);
        let mut serving = Serving { child, stderr, lines, address: SocketAddr::from(([0; 4], 0)) };
        // Should it not get ready, `serving` ends it.
        let line = serving.lines.recv_timeout(PATIENCE).expect("the server does not get ready");
        let address = line.trim().strip_prefix("listening on ").and_then(|address| address.parse().ok());
        serving.address = address.unwrap_or_else(|| panic!("the server says {line:?}"));
        serving
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The ticket that it prints when it is ready. Can be asked for once.
    pub fn ticket(&self) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).expect("the server prints no ticket");
            if line.starts_with("lr1") {
                return line;
            }
        }
    }

    /// The address as an argument.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// End it as an administrator would; what it says about its life.
    pub fn end(self) -> Done {
        signal_process(self.pid(), libc::SIGTERM);
        self.wait()
    }

    /// Wait until it ends by itself; what it says about its life.
    pub fn wait(mut self) -> Done {
        let status = wait_bounded(&mut self.child);
        let stderr = self.stderr.take().map(|thread| thread.join().unwrap()).unwrap_or_default();
        let stdout = self.lines.iter().map(|line| line + "\n").collect();
        Done { code: status.code(), stdout, stderr }
    }

    /// Take it away without a word.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        wait_bounded(&mut self.child);
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            signal_process(self.pid(), libc::SIGTERM);
            if !becomes_true(Duration::from_secs(5), || !matches!(self.child.try_wait(), Ok(None))) {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
        }
    }
}

/// The result document of a run.
pub fn read_result(path: &Path) -> Document {
    linerate::report::read(path).unwrap_or_else(|error| panic!("{error}"))
}

/// The one result file that a run without `--json` leaves in `folder`.
pub fn default_result(folder: &Path) -> PathBuf {
    let found = names_in(&folder.join("results"));
    assert!(found.len() == 1 && found[0].starts_with("bench-") && found[0].ends_with("Z.json"), "{found:?}");
    folder.join("results").join(&found[0])
}

/// What is in a folder, hidden files too.
pub fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A folder of its own for a test's files, removed with it.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// A file of so many bytes that are not all the same.
pub fn file_of(folder: &Path, name: &str, bytes: usize) -> PathBuf {
    let path = folder.join(name);
    let content: Vec<u8> = (0..bytes as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    std::fs::write(&path, content).unwrap();
    path
}

/// Wait until it holds; panics with `what` when it never does.
#[track_caller]
pub fn wait_until(what: &str, holds: impl FnMut() -> bool) {
    assert!(becomes_true(PATIENCE, holds), "never came true: {what}");
}

/// Wait until a client's data streams reach a server: it has workers, and more sockets than its listener, the pair
/// that signals come through, and a control connection.
pub fn wait_until_measuring(pid: u32) {
    wait_until("data streams are connected", || workers(pid) > 0 && sockets(pid) >= 5);
}

/// Wait until nothing is left in a server of those who were there.
pub fn wait_until_idle(pid: u32) {
    wait_until("the server is idle", || workers(pid) == 0 && sockets(pid) == 3);
}

fn workers(pid: u32) -> usize {
    let names = of_process(pid, "task").filter_map(|task| std::fs::read_to_string(task.join("comm")).ok());
    names.filter(|name| name.starts_with("worker-")).count()
}

/// How many it has open.
pub fn sockets(pid: u32) -> usize {
    let opened = of_process(pid, "fd").filter_map(|fd| std::fs::read_link(fd).ok());
    opened.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
}

fn of_process(pid: u32, folder: &str) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(format!("/proc/{pid}/{folder}")).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn becomes_true(longest: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + longest;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Whether a process of that number exists.
pub fn is_alive(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // A zombie that waits for its parent has ended.
    !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with(['Z', 'X'])
}

/// The children of a process.
pub fn children_of(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = std::fs::read_to_string(path).unwrap_or_default();
    children.split_whitespace().map(|child| child.parse().unwrap()).collect()
}

/// A line of /proc/PID/status in KiB.
pub fn status_kib(pid: u32, field: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// How many descriptors a process has open.
pub fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

pub fn signal_process(pid: u32, signal: i32) {
    // SAFETY: kill touches no memory of ours; the process is a child that was not reaped yet, so the number is its.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}

/// Whether this machine can do something that a test needs; says why a test is skipped if not.
pub fn skip_unless(can: bool, why: &str) -> bool {
    if !can {
        println!("skipped: {why}");
    }
    !can
}

/// Whether we are root.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

pub fn wait_bounded(child: &mut Child) -> ExitStatus {
    let ended = ended(child.id());
    if ended.recv_timeout(PATIENCE).is_err() {
        let _ = child.kill();
        let _ = child.wait();
        panic!("process {} did not end within {PATIENCE:?}", child.id());
    }
    child.wait().unwrap()
}

/// Told once the child has ended. It is not reaped, so its number stays its own.
fn ended(pid: u32) -> Receiver<()> {
    let (tell, told) = channel();
    std::thread::spawn(move || {
        loop {
            // SAFETY: `info` is a live siginfo_t, for which all zero is valid; WNOWAIT leaves the child as it is.
            let got = unsafe {
                let mut info: libc::siginfo_t = std::mem::zeroed();
                libc::waitid(libc::P_PID, pid, &raw mut info, libc::WEXITED | libc::WNOWAIT)
            };
            if got == 0 || std::io::Error::last_os_error().kind() != std::io::ErrorKind::Interrupted {
                break;
            }
        }
        let _ = tell.send(());
    });
    told
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut said = Vec::new();
        let _ = pipe.read_to_end(&mut said);
        String::from_utf8_lossy(&said).into_owned()
    })
}
