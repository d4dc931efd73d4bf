//! What makes no sense is refused before anything is measured, in one line that says what to do.

mod common;

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use common::{Done, ONE_CELL, QUICK, Serving, bench, file_of, folder, is_root, linerate, run_bounded, skip_unless};

/// Files anywhere below a folder: nothing that was refused may leave one.
fn files_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path.display().to_string()) }
    }
    found
}

/// `linerate bench` with these arguments fails so, says these words and leaves nothing.
#[track_caller]
fn refused(args: &[&str], code: i32, words: &[&str]) {
    let folder = folder();
    let done = run_bounded(linerate(["bench"]).args(args).current_dir(folder.path()));
    check(done, args, code, words);
    assert_eq!(files_below(folder.path()), [""; 0], "{args:?} left something");
}

/// It says so in one line, after which the parser of arguments may name its help.
#[track_caller]
fn check(done: Done, args: &[&str], code: i32, words: &[&str]) {
    let done = done.expect(code);
    assert_eq!(done.stdout, "", "{args:?}: {done:#?}");
    let (line, rest) = done.stderr.split_once('\n').unwrap_or_else(|| panic!("{args:?} says nothing"));
    let is_known = |line: &str| {
        line.is_empty() || ["Usage:", "For more information", "  tip:"].iter().any(|start| line.starts_with(start))
    };
    assert!(rest.lines().all(is_known), "{args:?}: more than one line: {done:#?}");
    for word in words {
        assert!(line.contains(word), "{args:?}: no {word:?} in {line:?}");
    }
}

#[test]
fn numbers_and_names_that_cannot_be_are_refused_with_those_that_can() {
    let table: [(&[&str], &[&str]); 38] = [
        (&["--methods", "teleport"], &["teleport", "write, mmap, sendfile, splice, zerocopy"]),
        (&["--methods", "write,,mmap"], &["an empty name", "write,sendfile"]),
        (&["--methods", ""], &["empty"]),
        (&["--receive", "look"], &["look", "read, trunc, splice"]),
        (&["--sizes", "0"], &["--sizes", "from 1 to 64MiB"]),
        (&["--sizes", "65MiB"], &["--sizes", "from 1 to 64MiB"]),
        (&["--sizes", "4QB"], &["4QB", "KiB"]),
        (&["--sizes=-4"], &["-4", "negative"]),
        (&["--sizes", "99999999999999999999GiB"], &["99999999999999999999GiB"]),
        (&["--sizes", "4MiB..1KiB"], &["4MiB..1KiB"]),
        (&["--sizes", ""], &["--sizes"]),
        (&["--rounds", "0"], &["--rounds 0", "from 1 to 1000"]),
        (&["--rounds", "many"], &["many", "--rounds"]),
        (&["--streams", "0"], &["--streams 0", "from 1 to 8192"]),
        (&["--streams", "100000"], &["--streams 100000", "from 1 to 8192"]),
        (&["--streams", "1,x"], &["\"x\" is no number", "1,4,16"]),
        (&["--workers", "257"], &["--workers 257", "from 0 to 256"]),
        (&["--duration", "0ms"], &["--duration", "from 1ms to 24h"]),
        (&["--duration", "25h"], &["--duration"]),
        (&["--duration", "soon"], &["soon", "--duration"]),
        (&["--warmup", "25h"], &["--warmup"]),
        (&["--bytes", "0"], &["--bytes 0", "from 1"]),
        (&["--pace", "0"], &["--pace 0", "from 8bit/s to 10Tbit/s"]),
        (&["--pace", "fast"], &["fast", "--pace"]),
        (&["--dscp", "64"], &["--dscp 64", "from 0 to 63"]),
        (&["--dscp", "300"], &["300", "--dscp"]),
        (&["--send-buffer", "3GiB"], &["--send-buffer", "2GiB"]),
        (&["--reply", "0"], &["--reply 0", "from 1 to 64MiB"]),
        (&["--reply", "x"], &["--reply", "x"]),
        (&["--cpus", "9999"], &["--cpus 9999", "may run on"]),
        (&["--cpus", "one"], &["one", "CLIENT/SERVER"]),
        (&["--bind", "here"], &["here", "--bind"]),
        (&["--direction", "up"], &["up", "send, receive, both"]),
        (&["--no-throughput", "--no-latency"], &["nothing to measure"]),
        (&["--sink", "x", "--receive", "trunc"], &["trunc", "--sink"]),
        (&["--sink", "x", "--direction", "receive"], &["--sink", "--direction receive"]),
        (&["-4", "-6"], &["-4", "-6"]),
        (&["--congestion", "warp"], &["warp", "this end has", "cubic"]),
    ];
    for (args, words) in table {
        // The parser puts what can be chosen on a line of its own.
        if args == ["--direction", "up"] {
            let done = run_bounded(linerate(["bench"]).args(args)).expect(2);
            assert!(words.iter().all(|word| done.stderr.contains(word)), "{done:#?}");
            continue;
        }
        let available = linerate::measure::environment::capture(None).congestion_available;
        if args[0] == "--congestion" && skip_unless(available.iter().any(|name| name == "cubic"), "no cubic here") {
            continue;
        }
        refused(args, 2, words);
    }
}

#[test]
fn a_size_with_a_space_is_understood() {
    let folder = folder();
    let args = ["-q", "--methods", "write", "--no-latency", "--sizes", "4 KB"];
    run_bounded(&mut bench(folder.path(), args)).expect(0);
}

#[test]
fn hosts_that_cannot_be_are_refused() {
    refused(&["nas:x"], 2, &["nas:x", "HOST:PORT"]);
    refused(&["[::1"], 2, &["[::1", "[IPV6]:PORT"]);
    refused(&[""], 2, &["HOST:PORT"]);
    refused(&["two words"], 2, &["two words", "HOST:PORT"]);
    refused(&["no-such-host.invalid:5290"], 6, &["no-such-host.invalid", "does not resolve"]);
    refused(&["lr://no-such-host.invalid"], 6, &["no-such-host.invalid", "does not resolve"]);
    refused(&["-6", "127.0.0.1:5290"], 6, &["127.0.0.1", "family"]);
    // A plain name may be one that only ssh knows.
    let both = ["no `linerate serve` answers on port 5290", "over ssh: "];
    refused(&["--ssh", "false", "no-such-host.invalid"], 6, &both);
}

#[test]
fn a_port_where_nobody_listens_is_said_with_what_to_start() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let words = [&free.to_string(), "connection refused", "linerate serve"];
    refused(&[&free.to_string()], 6, &words);
    refused(&["127.0.0.1", "--port", &free.port().to_string()], 6, &words);
}

#[test]
fn an_address_that_is_not_ours_cannot_be_bound() {
    refused(&["--bind", "192.0.2.1"], 2, &["--bind", "Cannot assign requested address"]);
}

#[test]
fn sources_that_cannot_be_sent_are_refused_with_the_reason() {
    let dir = folder();
    let path = |name: &str| dir.path().join(name).display().to_string();
    file_of(dir.path(), "empty", 0);
    file_of(dir.path(), "short", 1000);
    nix::unistd::mkfifo(dir.path().join("fifo").as_path(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let table = [
        ("missing", "No such file"),
        ("empty", "is empty: name a file that holds data"),
        ("short", "holds 1000 bytes, which is less than the 4194304"),
        ("fifo", "neither a regular file nor a block device"),
        (".", "neither a regular file nor a block device"),
    ];
    for (name, reason) in table {
        refused(&["--source", &path(name)], 1, &["--source", &path(name), reason]);
        refused(&["--source", &path(name), "--direction", "both"], 1, &["--source", &path(name), reason]);
    }
    refused(&["--source", "/dev/zero"], 1, &["/dev/zero", "neither a regular file nor a block device"]);
}

#[test]
fn an_unreadable_source_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    if skip_unless(!is_root(), "root reads everything") {
        return;
    }
    let dir = folder();
    let path = file_of(dir.path(), "secret", 1 << 20);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    refused(&["--source", &path.display().to_string(), "--sizes", "1KiB"], 1, &["secret", "Permission denied"]);
}

#[test]
fn a_server_of_our_own_cannot_send_what_is_not_there() {
    let folder = folder();
    let options = ["--json", "run.json", "--source", "missing", "--direction", "receive"];
    let done = run_bounded(bench(folder.path(), options).args(ONE_CELL));
    assert_eq!(done.code, Some(1), "{done:#?}");
    let said = done.stdout.split_whitespace().collect::<Vec<_>>().join(" ") + &done.stderr;
    assert!(said.contains("missing") && said.contains("No such file"), "{said}");
}

#[test]
fn more_streams_than_files_may_be_open_is_said_with_the_way_out() {
    let folder = folder();
    let limited = |files: u32, args: &str| {
        let program = env!("CARGO_BIN_EXE_linerate");
        let script = format!("ulimit -n {files} && exec '{program}' bench {} {args}", QUICK.join(" "));
        run_bounded(Command::new("sh").args(["-c", &script]).current_dir(folder.path()))
    };
    let line = limited(100, "--streams 200 --methods write");
    line.expect_line(2, &["--streams 200", "264 file descriptors", "the limit is 100", "ulimit -n 264"]);
    let line = limited(200, "--streams 1,50 --methods write,splice");
    line.expect_line(2, &["--streams 50", "the limit is 200", "ulimit -n"]);
    // Enough here, but not for the server of our own, which inherits the limit.
    limited(400, "--streams 100 --methods write").expect_line(2, &["--streams", "the server takes", "ulimit -n"]);
    limited(1024, "-q --streams 50 --methods write,splice --sizes 64KiB --no-latency").expect(0);
}

#[test]
fn a_result_that_cannot_be_written_is_found_before_measuring() {
    let dir = folder();
    let file = file_of(dir.path(), "file", 1).display().to_string();
    refused(&["--json", &format!("{file}/run.json")], 1, &[&file, "cannot be written", "--json PATH"]);
    refused(&["--json", &dir.path().display().to_string()], 1, &["is a folder", "--json PATH"]);
    refused(&["--json", "/proc/run.json"], 1, &["/proc/run.json", "cannot be written"]);
    // The default place.
    let here = folder();
    std::fs::write(here.path().join("results"), "a file").unwrap();
    let done = run_bounded(linerate(["bench"]).current_dir(here.path()));
    done.expect_line(1, &["results/bench-", "cannot be written", "--json PATH"]);
}

#[test]
fn a_taken_port_is_said_with_the_way_out() {
    let serving = Serving::start();
    let done = run_bounded(&mut linerate(["serve", "--listen", &serving.host()]));
    done.expect_line(1, &[&serving.host(), "in use", "--listen ADDR:PORT", "port 0"]);
}

#[test]
fn addresses_and_folders_that_cannot_be_served_are_refused() {
    let dir = folder();
    let file = file_of(dir.path(), "file", 1).display().to_string();
    let table: [(&[&str], i32, &[&str]); 5] = [
        (&["--listen", "192.0.2.1:0"], 1, &["192.0.2.1:0", "cannot listen", "--listen"]),
        (&["--listen", "5290"], 2, &["5290", "--listen"]),
        (&["--listen", "localhost"], 2, &["localhost", "--listen"]),
        (&["--listen", "127.0.0.1:0", "/no/such/folder"], 1, &["/no/such/folder", "No such file"]),
        (&["--listen", "127.0.0.1:0", &file], 1, &[&file, "Not a directory"]),
    ];
    for (args, code, words) in table {
        check(run_bounded(linerate(["serve"]).args(args)), args, code, words);
    }
}

#[test]
fn files_that_are_no_results_are_refused_by_report() {
    let dir = folder();
    let table = [
        ("garbage", "\u{7f}ELF\u{1b}[2J", "not JSON"),
        ("empty", "", "not JSON, or cut off"),
        ("other", "{\"schema\":\"iperf3\"}", "its schema is `iperf3`"),
        ("newer", "{\"schema\":\"linerate.bench/2\"}", "newer than this program reads; use a newer linerate"),
        ("halved", "{\"schema\":\"linerate.bench/1\", \"cells\": [", "cut off"),
        ("bare", "{\"schema\":\"linerate.bench/1\"}", "missing field"),
        ("array", "[]", "not a linerate result"),
    ];
    for (name, content, reason) in table {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        let args = ["report", &path.display().to_string()];
        check(run_bounded(&mut linerate(args)), &args, 1, &[name, reason]);
    }
    for (name, reason) in [("missing", "No such file"), (".", "Is a directory")] {
        let args = ["report", &dir.path().join(name).display().to_string()];
        check(run_bounded(&mut linerate(args)), &args, 1, &["cannot read", reason]);
    }
    let done = run_bounded(&mut linerate(["report"])).expect(2);
    assert!(done.stderr.contains("required") && done.stderr.contains("<RUN>"), "{done:#?}");
}

#[test]
fn help_and_version_are_no_failure_and_name_the_exit_codes() {
    let help = run_bounded(&mut linerate(["--help"])).expect(0);
    for code in ["0 ", "1 ", "2 ", "3 ", "4 ", "5 ", "6 ", "130 "] {
        assert!(help.stdout.lines().any(|line| line.trim_start().starts_with(code)), "{code}: {}", help.stdout);
    }
    let version = run_bounded(&mut linerate(["--version"])).expect(0);
    assert!(version.stdout.starts_with(concat!("linerate ", env!("CARGO_PKG_VERSION"), " (")), "{version:#?}");
    for command in ["bench", "serve", "ticket", "report", "completions", "man"] {
        let help = run_bounded(&mut linerate([command, "--help"])).expect(0);
        assert!(help.stdout.contains("Example") && help.stdout.contains(&format!("linerate {command}")), "{help:#?}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(run_bounded(&mut linerate(["completions", shell])).expect(0).stdout.contains("linerate"));
    }
    assert!(run_bounded(&mut linerate(["man"])).expect(0).stdout.starts_with(".ie"));
    run_bounded(&mut linerate([""; 0])).expect(2);
    run_bounded(&mut linerate(["fly"])).expect(2);
}
