//! SIGKILL of either end in the middle of a copy, again and again: in the end all is there, and nothing is left over.
//!
//! `LINERATE_KILLS` says how often. The moment follows from a seed: after so many bytes in one direction.

mod common;

use std::path::{Path, PathBuf};

use common::copy::{CLEAR, Site};
use common::proxy::{DOWN, UP};
use common::tree::{PLAIN, Tree, assert_same, files, no_temporaries};
use common::{Running, is_alive, wait_until};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const KILLS_DEFAULT: u64 = 12;
/// The same command again comes through after at most so many.
const TRIES_MAX: u32 = 5;
const MIB: u64 = 1 << 20;

fn kills() -> u64 {
    let text = std::env::var("LINERATE_KILLS").unwrap_or_default();
    if text.is_empty() { KILLS_DEFAULT } else { text.parse().expect("LINERATE_KILLS is a number") }
}

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Client,
    Server,
}

/// A few files of many blocks, and many small ones.
fn source(root: PathBuf) -> Tree {
    let tree = Tree::at(root);
    for (n, mib) in [8, 17, 32].into_iter().enumerate() {
        tree.noise(format!("big {n}"), mib * MIB + n as u64, 1);
    }
    for n in 0..400 {
        tree.noise(format!("small/{}/{n}", n % 9), 53 * n, n);
    }
    tree.with_links().settle();
    tree
}

/// A site with that source, and the words for a copy of it.
struct Job {
    site: Site,
    source: PathBuf,
    copy: PathBuf,
    words: Vec<&'static str>,
}

impl Job {
    fn new(is_push: bool, clear: bool) -> Job {
        let site = Site::new();
        let (source, copy) = match is_push {
            true => (site.near("tree"), site.far("there")),
            false => (site.far("tree"), site.near("there")),
        };
        self::source(source.clone());
        let mut words = if is_push { vec!["tree/.", "@there"] } else { vec!["@tree/.", "there"] };
        words.extend(CLEAR.iter().filter(|_| clear));
        Job { site, source, copy, words }
    }

    /// The moment has come: kill. Whether the copy was still going on.
    fn kill(&mut self, victim: Victim, client: Running) -> bool {
        match victim {
            Victim::Client => {
                client.signal(libc::SIGKILL);
                client.finish().code != Some(0)
            }
            Victim::Server => {
                self.site.restart_server();
                let done = client.finish();
                assert!(!done.stderr.contains("panicked"), "{done:#?}");
                // It may have come again by itself.
                done.code != Some(0)
            }
        }
    }

    /// What stands under a final name is whole, whenever the other end went.
    fn check_what_stands(&self) {
        if !self.copy.exists() {
            return;
        }
        for path in files(&self.copy) {
            let is_temporary = path.file_name().unwrap().to_string_lossy().starts_with(".lr-");
            let same =
                || std::fs::read(self.copy.join(&path)).unwrap() == std::fs::read(self.source.join(&path)).unwrap();
            assert!(is_temporary || same(), "{path:?} stands under its name and is not whole");
        }
    }

    /// The same command again, until it comes through.
    fn finish(&self, what: &str) {
        for attempt in 1..=TRIES_MAX {
            // A server notices at once that its client is gone, but may have to end a sync.
            wait_until("the destination is free", || is_free(&self.copy));
            let done = self.site.run(&self.words);
            if done.code == Some(0) {
                break;
            }
            assert!(attempt < TRIES_MAX, "{what}: {done:#?}");
        }
        assert_same(&self.source, &self.copy, PLAIN);
        no_temporaries(self.site.dir());
    }
}

/// What a copy that nobody disturbs moves in each direction.
fn undisturbed(is_push: bool, clear: bool) -> [u64; 2] {
    let job = Job::new(is_push, clear);
    job.finish("undisturbed");
    [UP, DOWN].map(|which| job.site.proxy.bytes(which))
}

/// Kill that one at so many moments of a push or pull.
fn survives(victim: Victim, is_push: bool, clear: bool, seed: u64) {
    let totals = undisturbed(is_push, clear);
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut hits = 0;
    let times = kills().div_ceil(4);
    for n in 0..times {
        let mut job = Job::new(is_push, clear);
        let direction = rng.random_range(0..2);
        let (which, at) = ([UP, DOWN][direction], rng.random_range(1..=totals[direction]));
        let what = format!("{victim:?}, push {is_push}, kill {n} after {at} of {} bytes {which:?}", totals[direction]);
        println!("{what}");
        let mut client = job.site.start(&job.words);
        job.site.proxy.wait_bytes(which, at, || client.is_over());
        hits += u32::from(job.kill(victim, client));
        job.check_what_stands();
        job.finish(&what);
    }
    println!("{hits} of {times} copies did not end well by themselves");
}

#[test]
fn a_push_whose_client_is_killed_goes_on() {
    survives(Victim::Client, true, true, 1);
}

#[test]
fn a_pull_whose_client_is_killed_goes_on() {
    survives(Victim::Client, false, false, 2);
}

#[test]
fn a_push_whose_server_is_killed_goes_on() {
    survives(Victim::Server, true, false, 3);
}

#[test]
fn a_pull_whose_server_is_killed_goes_on() {
    survives(Victim::Server, false, true, 4);
}

#[test]
fn a_copy_that_is_killed_again_and_again_gets_further_each_time() {
    let mut job = Job::new(true, true);
    let mut rng = SmallRng::seed_from_u64(5);
    for n in 0..kills().min(20) {
        let before = job.site.proxy.bytes(UP);
        let mut client = job.site.start(&job.words);
        job.site.proxy.wait_bytes(UP, before + rng.random_range(MIB..12 * MIB), || client.is_over());
        job.kill(if n % 3 == 2 { Victim::Server } else { Victim::Client }, client);
        job.check_what_stands();
    }
    job.finish("killed again and again");
}

#[test]
fn a_killed_client_leaves_no_lock_and_no_work_behind() {
    let mut job = Job::new(true, true);
    let client = job.site.held(UP, 5 * MIB, &job.words);
    let pid = client.pid();
    assert!(job.kill(Victim::Client, client) && !is_alive(pid));
    job.site.proxy.go_on();
    job.finish("after the lock");
    assert!(is_free(&job.copy));
}

/// Whether no copy holds the lock of a destination.
fn is_free(folder: &Path) -> bool {
    !folder.exists() || std::fs::File::open(folder).unwrap().try_lock().is_ok()
}
