//! `linerate bench` and `linerate serve` as a person runs them: what they print, save and leave behind.

mod common;

use std::net::TcpListener;
use std::path::Path;

use common::{
    Done, ONE_CELL, Running, Serving, bench, default_result, file_of, folder, linerate, names_in, read_result,
    run_bounded, skip_unless, status_kib, wait_until,
};
use linerate::report::format::{gbit, ns};
use linerate::report::schema::{Cell, Document, Settings};
use linerate::units::parse_size_list;

const METHODS: [&str; 5] = ["write", "mmap", "sendfile", "splice", "zerocopy"];
/// What either end may use of memory of its own.
const MEMORY_KIB_1_STREAM: u64 = 32 << 10;
const MEMORY_KIB_1000_STREAMS: u64 = 64 << 10;

/// A run on a server of its own with these options; all must have gone well.
fn run_alone(options: &[&str]) -> Document {
    let folder = folder();
    run_bounded(bench(folder.path(), ["--quiet", "--json", "run.json"]).args(options)).expect(0);
    read_result(&folder.path().join("run.json"))
}

/// The same, with one small cell.
fn one_cell(options: &[&str]) -> Document {
    run_alone(&[&ONE_CELL, options].concat())
}

fn check_cell(cell: &Cell, settings: &Settings) {
    let name = format!("{} {} {} bytes × {}", cell.method, cell.receive, cell.size_bytes, cell.streams);
    assert_eq!(cell.unavailable, None, "{name}");
    let throughput = cell.throughput.as_ref().unwrap_or_else(|| panic!("{name}: no number"));
    let (low, high) = (throughput.low_bytes_per_s, throughput.high_bytes_per_s);
    assert!(low >= 0.0 && low <= throughput.median_bytes_per_s, "{name}: {throughput:?}");
    assert!(throughput.median_bytes_per_s <= high && high.is_finite(), "{name}: {throughput:?}");
    assert!((0.0..=1.0).contains(&throughput.coverage), "{name}: {throughput:?}");
    // In a window of time nothing may have come: on a busy machine neither end may have had its turn, and on a loopback
    // small zerocopy sends overflow the receiver's buffer (the kernel copies each into a page of its own), so that
    // the connection waits for its retransmission timer. A number of bytes has come.
    if settings.bytes_per_cell == 0 && throughput.median_bytes_per_s == 0.0 {
        return println!("{name}: nothing came within the window");
    }
    assert!(low > 0.0, "{name}: {throughput:?}");
    // Nor need anything have been sent within it: what the receiver took may have been under way. But whoever moved
    // bytes made calls and used time, and where a number of bytes rules, both did.
    let sent = cell.calls.sender_per_gib > 0.0;
    assert!(sent || settings.bytes_per_cell == 0, "{name}: {:?}", cell.calls);
    assert!(cell.calls.receiver_per_gib > 0.0, "{name}: {:?}", cell.calls);
    assert_eq!(sent, cell.cpu.sender_s_per_gib.is_some(), "{name}: {:?} {:?}", cell.calls, cell.cpu);
    assert!(cell.cpu.receiver_s_per_gib.is_some(), "{name}: {:?}", cell.cpu);
    let tcp = cell.tcp.as_ref().unwrap_or_else(|| panic!("{name}: no TCP_INFO"));
    assert!(tcp.streams > 0 && tcp.mss_bytes > 0 && tcp.cwnd_segments > 0 && tcp.age_us > 0, "{name}: {tcp:?}");
    for seconds in [cell.cpu.sender_s_per_gib, cell.cpu.receiver_s_per_gib].into_iter().flatten() {
        assert!(seconds >= 0.0 && seconds.is_finite(), "{name}: {:?}", cell.cpu);
    }
}

#[track_caller]
fn check_all(document: &Document) {
    assert!(document.complete);
    document.cells.iter().for_each(|cell| check_cell(cell, &document.settings));
    for row in &document.latency {
        assert!(row.unavailable.is_none() && row.count > 0, "{row:?}");
        let quantiles = [1, row.p50_ns, row.p90_ns, row.p99_ns, row.p999_ns, row.max_ns];
        assert!(quantiles.is_sorted(), "{row:?}");
        assert!(!row.histogram.is_empty(), "{row:?}");
    }
}

#[track_caller]
fn check_labels(document: &Document, wanted: &[&str], unwanted: &[&str]) {
    for cell in &document.cells {
        for label in wanted {
            assert!(cell.labels.iter().any(|name| name == label), "no {label}: {:?}", cell.labels);
        }
        for label in unwanted {
            assert!(!cell.labels.iter().any(|name| name == label), "{label}: {:?}", cell.labels);
        }
    }
}

#[test]
fn without_options_it_measures_this_machine_and_leaves_a_result() {
    let folder = folder();
    let done = run_bounded(&mut bench(folder.path(), ["--sizes", "4KiB,64KiB"])).expect(0);
    let path = default_result(folder.path());
    let document = read_result(&path);
    check_all(&document);
    assert_eq!(document.schema, "linerate.bench/1");
    let cells: Vec<(&str, u64)> = document.cells.iter().map(|cell| (cell.method.as_str(), cell.size_bytes)).collect();
    let expected: Vec<(&str, u64)> =
        METHODS.iter().flat_map(|method| [(*method, 4 << 10), (*method, 64 << 10)]).collect();
    assert_eq!(cells, expected);
    check_labels(&document, &["loopback", "hot-source", "few-rounds"], &["not-read", "shared"]);
    assert_eq!(document.latency.iter().map(|row| row.size_bytes).collect::<Vec<_>>(), [4 << 10, 64 << 10]);
    assert!(document.command.iter().any(|word| word == "4KiB,64KiB"));
    for end in [&document.environment.client, &document.environment.server] {
        assert!(end.cores > 0 && end.kernel.starts_with("Linux") && !end.host.is_empty(), "{end:?}");
        assert_eq!(end.program_version, env!("CARGO_PKG_VERSION"));
    }
    assert!(done.stderr.contains("saved as results/bench-"), "{done:#?}");

    // What was printed, what was saved and what is shown again agree.
    for cell in &document.cells {
        let figure = gbit(cell.throughput.as_ref().unwrap().median_bytes_per_s);
        let is_row = |line: &&str| line.trim_start().starts_with(&cell.method);
        let row = done.stdout.lines().find(is_row).unwrap_or_else(|| panic!("no row: {done:#?}"));
        assert!(row.split_whitespace().any(|word| word.trim_end_matches('*') == figure), "{figure} not in {row:?}");
    }
    for row in &document.latency {
        assert!(done.stdout.contains(&ns(row.p50_ns)), "{done:#?}");
    }
    let again = run_bounded(linerate(["report"]).arg(&path)).expect(0);
    assert_eq!(again.stdout, done.stdout);
    assert!(again.stderr.is_empty(), "{again:#?}");
    assert_eq!(names_in(folder.path()), ["results"]);
}

#[test]
fn json_on_standard_output_is_all_that_is_there() {
    let folder = folder();
    let done = run_bounded(bench(folder.path(), ["--json", "-"]).args(ONE_CELL)).expect(0);
    let document: Document = serde_json::from_str(&done.stdout).unwrap();
    check_all(&document);
    assert!(done.stderr.contains("Gbit/s") && done.stderr.contains("write"), "the table goes elsewhere: {done:#?}");
    assert!(names_in(folder.path()).is_empty(), "nothing is saved");
}

#[test]
fn quiet_leaves_the_result_and_no_word() {
    let folder = folder();
    let done = run_bounded(bench(folder.path(), ["--quiet"]).args(ONE_CELL)).expect(0);
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""));
    check_all(&read_result(&default_result(folder.path())));
    let done = run_bounded(bench(folder.path(), ["--quiet", "--json", "-"]).args(ONE_CELL)).expect(0);
    assert_eq!(done.stderr, "");
    check_all(&serde_json::from_str(&done.stdout).unwrap());
}

#[test]
fn a_named_result_goes_into_folders_that_are_made_for_it() {
    let folder = folder();
    run_bounded(bench(folder.path(), ["-q", "--json", "a/b/run.json"]).args(ONE_CELL)).expect(0);
    check_all(&read_result(&folder.path().join("a/b/run.json")));
    assert_eq!(names_in(&folder.path().join("a/b")), ["run.json"]);
}

#[test]
fn bytes_go_either_way_and_both_at_once() {
    for direction in ["send", "receive", "both"] {
        let document = run_alone(&["--sizes", "64KiB", "--direction", direction]);
        check_all(&document);
        assert_eq!(document.cells.len(), METHODS.len());
        assert!(document.cells.iter().all(|cell| cell.direction == direction));
        let streams = if direction == "both" { 1..=2 } else { 1..=1 };
        assert!(document.cells.iter().all(|cell| streams.contains(&cell.tcp.as_ref().unwrap().streams)));
    }
}

#[test]
fn many_streams_and_workers_are_measured_side_by_side() {
    let document = run_alone(&["--methods", "write,zerocopy", "--sizes", "64KiB", "--streams", "4,1", "--no-latency"]);
    check_all(&document);
    let streams: Vec<u32> = document.cells.iter().map(|cell| cell.tcp.as_ref().unwrap().streams).collect();
    assert_eq!(streams, [1, 1, 4, 4]);
    let document = one_cell(&["--streams", "4", "--workers", "2"]);
    check_all(&document);
    assert_eq!(document.settings.workers, 2);
}

#[test]
fn a_number_of_bytes_can_rule_instead_of_a_duration() {
    for direction in ["send", "receive", "both"] {
        let options = ["--sizes", "64KiB", "--no-latency", "--bytes", "1MiB", "-P", "1,3", "--direction", direction];
        let document = run_alone(&options);
        check_all(&document);
        assert_eq!(document.cells.len(), METHODS.len() * 2);
        assert_eq!((document.settings.bytes_per_cell, document.settings.duration_ns), (1 << 20, 0));
    }
}

#[test]
fn every_size_that_is_allowed_can_be_measured() {
    let document = run_alone(&["--sizes", "1,64MiB", "--no-latency"]);
    check_all(&document);
    // An exchange may well take longer than a cell lasts: one is measured in any case.
    let document = run_alone(&["--sizes", "1,1000,64MiB", "--no-throughput", "--reply", "same"]);
    check_all(&document);
    assert!(document.cells.is_empty() && document.latency.iter().all(|row| row.reply_bytes == row.size_bytes));
    let document = run_alone(&["--sizes", "1000,64KiB", "--no-throughput", "--reply", "4KiB"]);
    check_all(&document);
    assert!(document.latency.iter().all(|row| row.reply_bytes == 4096));
}

#[test]
fn a_real_file_is_sent_by_every_method() {
    let folder = folder();
    file_of(folder.path(), "source", 3_000_001);
    for direction in ["send", "receive", "both"] {
        let options = ["-q", "--json", "run.json", "--no-latency", "--sizes", "4KiB,1MB", "--source", "source"];
        run_bounded(bench(folder.path(), options).args(["--direction", direction])).expect(0);
        let document = read_result(&folder.path().join("run.json"));
        check_all(&document);
        check_labels(&document, &["loopback"], &["hot-source"]);
        assert!(document.cells.iter().all(|cell| cell.source == "file"));
        assert!(document.settings.source.ends_with("source"), "{}", document.settings.source);
    }
}

#[test]
fn a_source_in_the_served_folder_is_sent_by_the_server_and_need_not_exist_here() {
    let (served, here) = (folder(), folder());
    file_of(served.path(), "theirs", 1 << 20);
    let serving = Serving::of_folder(served.path());
    let options = ["-q", "--json", "run.json", "--source", "theirs", "--direction", "receive"];
    run_bounded(bench(here.path(), options).args(ONE_CELL).arg(serving.host())).expect(0);
    check_all(&read_result(&here.path().join("run.json")));
}

#[test]
fn a_sink_in_the_served_folder_is_filled_and_leaves_nothing_behind() {
    let (served, here) = (folder(), folder());
    std::fs::write(served.path().join("mine"), "precious").unwrap();
    let serving = Serving::of_folder(served.path());
    let run = |sink: &str| {
        let options = ["--json", "run.json", "--no-latency", "--sizes", "64KiB", "--receive", "read,splice"];
        let more = ["--methods", "write", "--streams", "1,2", "--sink", sink];
        run_bounded(bench(here.path(), options).args(more).arg(serving.host()))
    };
    run("new").expect(0);
    let document = read_result(&here.path().join("run.json"));
    check_all(&document);
    check_labels(&document, &["loopback"], &["not-read"]);
    assert_eq!(document.settings.sink, "new");
    assert_eq!(names_in(served.path()), ["mine"]);

    let refused: [(&str, &str); 4] = [
        ("mine", "mine: exists already and is not overwritten"),
        ("../out", "leads out of the folder"),
        ("/etc/out", "leads out of the folder"),
        ("no/folder", "No such file or directory"),
    ];
    for (sink, reason) in refused {
        let done = run(sink).expect(1);
        for cell in read_result(&here.path().join("run.json")).cells {
            let said = cell.unavailable.unwrap_or_else(|| panic!("{sink} was written: {:?}", cell.throughput));
            assert!(said.contains(reason), "{sink}: {said}");
        }
        let shown = done.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(shown.contains(reason), "{done:#?}");
    }
    assert_eq!(names_in(served.path()), ["mine"]);
    assert_eq!(std::fs::read_to_string(served.path().join("mine")).unwrap(), "precious");
    serving.end().expect(0);
}

#[test]
fn a_server_without_a_folder_says_how_to_have_one() {
    let here = folder();
    let serving = Serving::start();
    for options in [["--sink", "x", "-d", "send"], ["--source", "x", "-d", "receive"]] {
        let done = run_bounded(bench(here.path(), ONE_CELL).args(options).arg(serving.host()));
        done.expect_line(2, &["serves no folder", "linerate serve FOLDER"]);
    }
}

#[test]
fn a_sink_of_a_server_of_our_own_leaves_nothing_behind() {
    let folder = folder();
    std::fs::create_dir(folder.path().join("there")).unwrap();
    let options = ["-q", "--json", "run.json", "--sink", "there/sink"];
    run_bounded(bench(folder.path(), options).args(ONE_CELL)).expect(0);
    check_all(&read_result(&folder.path().join("run.json")));
    assert!(names_in(&folder.path().join("there")).is_empty());
}

#[test]
fn what_the_receiver_does_not_look_at_is_labelled() {
    let document = run_alone(&["--sizes", "64KiB", "--no-latency", "--receive", "trunc,splice"]);
    check_all(&document);
    assert_eq!(document.cells.len(), 2 * METHODS.len());
    check_labels(&document, &["not-read"], &[]);
}

#[test]
fn zerocopy_that_copies_after_all_is_labelled() {
    let document = run_alone(&["--sizes", "64KiB", "--no-latency", "--methods", "zerocopy,write", "--bytes", "4MiB"]);
    check_all(&document);
    for cell in &document.cells {
        let says_copied = cell.labels.iter().any(|label| label == "copied");
        assert_eq!(says_copied, cell.method == "zerocopy", "{cell:?}");
        assert_eq!(cell.calls.zerocopy_completions > 0, cell.method == "zerocopy", "{cell:?}");
        assert_eq!(cell.calls.zerocopy_copied, cell.calls.zerocopy_completions, "a loopback copies always");
    }
}

#[test]
fn either_address_family_can_be_asked_for() {
    let document = one_cell(&["-4"]);
    assert!(document.settings.peer.starts_with("127.0.0.1:"), "{}", document.settings.peer);
    if skip_unless(TcpListener::bind("[::1]:0").is_ok(), "there is no ::1 here") {
        return;
    }
    let document = one_cell(&["-6", "--dscp", "10", "--bind", "::1"]);
    check_all(&document);
    assert!(document.settings.peer.starts_with("[::1]:"), "{}", document.settings.peer);
    // Dual stack: one server, both families.
    let serving = Serving::with(["--listen", "[::]:0"]);
    let port = serving.address().port().to_string();
    for host in ["127.0.0.1", "::1", "localhost"] {
        let folder = folder();
        let options = ["-q", "--json", "run.json", host, "--port", &port];
        run_bounded(bench(folder.path(), options).args(ONE_CELL)).expect(0);
        check_all(&read_result(&folder.path().join("run.json")));
    }
}

#[test]
fn workers_are_pinned_where_they_are_told() {
    let cpus = linerate::sys::affinity::allowed_cpus();
    let &[one, other, ..] = cpus.as_slice() else {
        println!("skipped: there is only one CPU");
        return;
    };
    let document = one_cell(&["--cpus", &format!("{one}/{other}")]);
    check_all(&document);
    assert_eq!((document.settings.client_cpus, document.settings.server_cpus), (vec![one], vec![other]));
}

#[test]
fn socket_options_are_accepted_and_recorded() {
    let options = [
        "--pace",
        "1Gbit/s",
        "--mss",
        "1400",
        "--dscp",
        "10",
        "--send-buffer",
        "256KiB",
        "--receive-buffer",
        "256KiB",
        "--nodelay",
        "--congestion",
        "reno",
    ];
    let document = run_alone(&[&options[..], &["--sizes", "4KiB", "--methods", "write"]].concat());
    check_all(&document);
    let recorded = document.settings.socket_options;
    let expected = [
        "congestion=reno",
        "nodelay=on",
        "send-buffer=262144",
        "receive-buffer=262144",
        "mss=1400",
        "dscp=10",
        "pace=",
    ];
    for option in expected {
        assert!(recorded.iter().any(|had| had.starts_with(option)), "no {option}: {recorded:?}");
    }
    let tcp = document.cells[0].tcp.as_ref().unwrap();
    assert_eq!(tcp.congestion_control, "reno");
    assert!(tcp.mss_bytes <= 1400, "{tcp:?}");
}

#[test]
fn busy_polling_works_on_both_ends() {
    let document = run_alone(&["--spin", "--sizes", "1KiB", "--methods", "write"]);
    check_all(&document);
    assert!(document.settings.spin && document.latency.iter().all(|row| row.mode == "spin"));
}

#[test]
fn the_seed_is_recorded_and_can_be_given() {
    assert_eq!(one_cell(&["--seed", "7"]).seed, 7);
}

#[test]
fn sizes_as_people_write_them_are_understood() {
    for (text, sizes) in [("4 KB", vec![4000]), ("4k,1", vec![1, 4096]), ("1KiB..16KiB", vec![1024, 4096, 16384])] {
        if parse_size_list(text).is_err() {
            panic!("{text} is not understood");
        }
        let document = run_alone(&["--sizes", text, "--methods", "write", "--no-latency"]);
        let got: Vec<u64> = document.cells.iter().map(|cell| cell.size_bytes).collect();
        assert!(got == sizes || text == "4k,1" && got == [1, 4000], "{text}: {got:?}");
    }
}

/// Start clients of one server, all at once; each has its own result.
fn clients(count: usize, serving: &Serving, folder: &Path) -> Vec<(Running, std::path::PathBuf)> {
    let start = |n: usize| {
        let path = folder.join(format!("{n}.json"));
        let mut command = bench(folder, ONE_CELL);
        command.args(["--quiet", "--json"]).arg(&path).arg(serving.host());
        (Running::start(&mut command), path)
    };
    (0..count).map(start).collect()
}

#[test]
fn many_clients_at_once_are_all_served() {
    for count in [2, 50] {
        let folder = folder();
        let serving = Serving::start();
        for (client, path) in clients(count, &serving, folder.path()) {
            let done = client.finish().expect(0);
            assert_eq!((done.stdout, done.stderr), (String::new(), String::new()));
            // How much each gets of a machine that all of them share is not promised.
            let document = read_result(&path);
            assert!(document.complete && document.cells.len() == 1);
            assert!(document.cells[0].unavailable.is_none() && document.cells[0].throughput.is_some());
        }
        let said = serving.end().expect(0).stderr;
        assert!(said.contains(&format!("served {count} sessions, {count} jobs")), "{said}");
    }
}

/// Run a client to its end; the most memory of its own that either end had, KiB.
fn memory_of(client: &mut std::process::Command, serving: &Serving) -> (Done, u64, u64) {
    let mut client = Running::start(client);
    let (mut ours, mut theirs) = (0, 0);
    wait_until("the run ends", || {
        ours = ours.max(status_kib(client.pid(), "RssAnon").unwrap_or(0));
        theirs = theirs.max(status_kib(serving.pid(), "RssAnon").unwrap_or(0));
        client.is_over()
    });
    let peak = status_kib(serving.pid(), "VmHWM").unwrap_or(0);
    println!("client {ours} KiB, server {theirs} KiB of its own; server {peak} KiB with all that is mapped");
    (client.finish(), ours, theirs)
}

#[test]
fn one_stream_over_all_sizes_needs_little_memory() {
    let folder = folder();
    let serving = Serving::start();
    let mut command = bench(folder.path(), ["-q", "--json", "run.json"]);
    command.arg(serving.host());
    let (done, ours, theirs) = memory_of(&mut command, &serving);
    done.expect(0);
    let document = read_result(&folder.path().join("run.json"));
    check_all(&document);
    assert_eq!(document.cells.len(), 5 * 7);
    assert!(ours > 0 && ours <= MEMORY_KIB_1_STREAM, "the client had {ours} KiB");
    assert!(theirs > 0 && theirs <= MEMORY_KIB_1_STREAM, "the server had {theirs} KiB");
}

#[test]
fn a_thousand_streams_complete_with_little_memory() {
    thousand_streams(&["--sizes", "64KiB"]);
}

#[test]
fn a_thousand_streams_in_tls_complete_with_little_memory() {
    thousand_streams(&["--sizes", "1MiB", "--methods", "write", "--tls", "on"]);
}

fn thousand_streams(cells: &[&str]) {
    let files = linerate::sys::limits::raise_open_files().unwrap();
    if skip_unless(files >= 3200, &format!("a process may open {files} files here, 1,000 streams need 3,200")) {
        return;
    }
    let folder = folder();
    let serving = Serving::start();
    let mut command = bench(folder.path(), ["-q", "--json", "run.json", "--no-latency", "--streams", "1000"]);
    command.args(cells).arg(serving.host());
    let (done, ours, theirs) = memory_of(&mut command, &serving);
    done.expect(0);
    let document = read_result(&folder.path().join("run.json"));
    check_all(&document);
    for cell in &document.cells {
        assert_eq!((cell.streams, cell.tcp.as_ref().unwrap().streams), (1000, 1000), "{}", cell.method);
    }
    assert!(ours > 0 && ours <= MEMORY_KIB_1000_STREAMS, "the client had {ours} KiB");
    assert!(theirs > 0 && theirs <= MEMORY_KIB_1000_STREAMS, "the server had {theirs} KiB");
}

/// Somebody without any privilege, in a folder and with a copy of the program that they can reach.
#[test]
fn an_unprivileged_user_needs_nothing_more() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65_534;
    if skip_unless(common::is_root(), "becoming another user needs root") {
        return;
    }
    let folder = folder();
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(folder.path(), open.clone()).unwrap();
    let program = folder.path().join("linerate");
    // By another program: while this one writes a file, whatever another test starts holds it open for writing, too, and
    // nobody can run it.
    let copied = std::process::Command::new("cp").arg(env!("CARGO_BIN_EXE_linerate")).arg(&program).status();
    assert!(copied.unwrap().success());
    std::fs::set_permissions(&program, open).unwrap();
    let mut command = std::process::Command::new(&program);
    command.args(["bench", "--rounds", "1", "--duration", "20ms", "--warmup", "5ms", "--sizes", "64KiB"]);
    run_bounded(command.current_dir(folder.path()).uid(NOBODY).gid(NOBODY)).expect(0);
    let document = read_result(&default_result(folder.path()));
    assert!(document.cells.iter().all(|cell| cell.throughput.is_some()), "{document:#?}");
}
