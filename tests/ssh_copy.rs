//! `linerate copy` over a real ssh, with the real program on the far end.

mod common;

use std::path::Path;
use std::process::Command;

use common::sshd::{Sshd, user};
use common::tree::{PLAIN, Tree, assert_same, no_temporaries};
use common::{Done, Running, folder, is_alive, linerate, names_in, run_bounded, signal_process, wait_until};

const LINERATE: &str = env!("CARGO_BIN_EXE_linerate");

/// The far end's program: the real one, which first adds its process number to a list.
fn far_program(sshd: &Sshd) -> String {
    let script = format!("echo $$ >> '{}'; exec '{LINERATE}' \"$@\"", sshd.path("told").display());
    sshd.script(&sshd.path("linerate"), &script).display().to_string()
}

/// The process numbers of all far ends so far.
fn far_pids(sshd: &Sshd) -> Vec<u32> {
    let told = std::fs::read_to_string(sshd.path("told")).unwrap_or_default();
    told.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// `linerate` in `folder` that knows how to reach the far end. `@` at the start of a word stands for it.
fn over(sshd: &Sshd, folder: &Path, words: &[&str]) -> Command {
    let mut command = linerate(&words[..1]);
    command.args(["--ssh", &sshd.args().ssh, "--remote-linerate", &far_program(sshd)]);
    let far = format!("{}@127.0.0.1:", user());
    command.args(words[1..].iter().map(|word| word.strip_prefix('@').map_or(word.to_string(), |p| far.clone() + p)));
    command.current_dir(folder);
    command
}

/// A run to the end, after which nothing of it runs on the far end.
fn run(sshd: &Sshd, folder: &Path, words: &[&str]) -> Done {
    let done = run_bounded(&mut over(sshd, folder, words));
    wait_until("the far ends have ended", || far_pids(sshd).into_iter().all(|pid| !is_alive(pid)));
    done
}

/// A run that goes well and says nothing.
#[track_caller]
fn runs(sshd: &Sshd, folder: &Path, words: &[&str]) {
    let done = run(sshd, folder, &[&words[..1], &["--quiet"], &words[1..]].concat()).expect(0);
    assert_eq!(done.stderr, "", "{words:?}");
}

#[test]
fn trees_go_there_and_back_and_paths_begin_at_the_home_there() {
    let Some(sshd) = Sshd::start() else { return };
    let here = folder();
    let tree = Tree::random(here.path().join("tree"), 5, 40, 200_000);
    for (n, options) in [&[][..], &["--through-ssh"], &["--clear", "--streams", "3"]].into_iter().enumerate() {
        let (there, back) = (format!("@there {n}"), format!("back{n}"));
        runs(&sshd, here.path(), &[&["copy"], options, &["tree", &there]].concat());
        assert_same(tree.path(), &sshd.home().join(&there[1..]), PLAIN);
        runs(&sshd, here.path(), &[&["copy"], options, &[&there, &back]].concat());
        assert_same(tree.path(), &here.path().join(back), PLAIN);
    }
    // By its whole path, from the home, and as a folder that is there.
    let whole = format!("@{}/whole", sshd.home().display());
    runs(&sshd, here.path(), &["copy", "tree/.", &whole]);
    runs(&sshd, here.path(), &["get", "@~/whole/.", "home"]);
    assert_same(tree.path(), &here.path().join("home"), PLAIN);
    runs(&sshd, here.path(), &["put", "tree", "@"]);
    assert_same(tree.path(), &sshd.home().join("tree"), PLAIN);
    no_temporaries(&sshd.home());
}

#[test]
fn a_host_without_a_ticket_is_reached_over_ssh() {
    let Some(sshd) = Sshd::start() else { return };
    let here = folder();
    Tree::at(here.path()).file("file", b"1");
    let mut command = linerate(["copy", "--ssh", &sshd.args().ssh, "--remote-linerate", &far_program(&sshd)]);
    run_bounded(command.args(["file", "far:there"]).current_dir(here.path())).expect(0);
    assert_eq!(std::fs::read(sshd.home().join("there")).unwrap(), b"1");
}

#[test]
fn a_folder_there_is_listed_and_what_is_not_there_is_said_so() {
    let Some(sshd) = Sshd::start() else { return };
    let here = folder();
    Tree::at(sshd.home()).file("dir/b", b"12").file("dir/a", b"1").dir("dir/c");
    let listed = run(&sshd, here.path(), &["ls", "@dir"]).expect(0).stdout;
    let names: Vec<&str> = listed.lines().filter_map(|line| line.split(' ').next_back()).collect();
    assert_eq!(names, ["a", "b", "c"], "{listed}");
    run(&sshd, here.path(), &["ls", "@none"]).expect_line(1, &["none", "no such file or folder"]);
    run(&sshd, here.path(), &["copy", "@none", "x"]).expect_line(1, &["none", "no such file or folder"]);
    assert!(names_in(here.path()).is_empty());
}

#[test]
fn a_far_end_that_is_killed_is_started_anew() {
    let Some(sshd) = Sshd::start() else { return };
    let here = folder();
    let tree = Tree::at(here.path().join("tree"));
    tree.noise("file", 64 << 20, 1).settle();
    // Slow enough to be still under way.
    let words = ["copy", "--quiet", "--limit", "8MiB/s", "tree", "@there"];
    let running = Running::start(&mut over(&sshd, here.path(), &words));
    wait_until("it is under way", || sshd.home().join("there").is_dir());
    let first = far_pids(&sshd)[0];
    signal_process(first, libc::SIGKILL);
    running.finish().expect(0);
    assert_eq!(far_pids(&sshd).len(), 2);
    assert_same(tree.path(), &sshd.home().join("there"), PLAIN);
    no_temporaries(&sshd.home());
}

#[test]
fn an_interrupt_ends_both_ends() {
    let Some(sshd) = Sshd::start() else { return };
    let here = folder();
    Tree::at(here.path()).noise("file", 24 << 20, 1).dir("dir");
    let words = ["copy", "--limit", "2MiB/s", "file", "dir", "@"];
    let running = Running::start(&mut over(&sshd, here.path(), &words));
    wait_until("it is under way", || sshd.home().join("dir").is_dir());
    running.signal(libc::SIGINT);
    running.finish().expect(130);
    wait_until("the far end has ended", || far_pids(&sshd).into_iter().all(|pid| !is_alive(pid)));
    assert!(!sshd.home().join("file").exists());
}
