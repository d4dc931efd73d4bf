//! Trees that change while they are scanned, and receivers that go away.

use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Scan;
use super::fixture::{Tree, with_threads};

/// How often a changing tree is scanned.
const SCANS: usize = 60;

/// Scan again and again while something else happens to the tree.
fn scan_during(tree: &Tree, disturb: impl Fn() + Send + Sync) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                disturb();
            }
        });
        for _ in 0..SCANS {
            let mut scan = Scan::start(vec![tree.top()], with_threads(2)).unwrap();
            let paths: Vec<_> = scan.by_ref().flatten().map(|entry| entry.path).collect();
            let summary = scan.finish();
            let left = paths.iter().find(|path| path.ends_with(b"secret"));
            assert!(summary.is_complete && left.is_none(), "{summary:?}");
            assert!(paths.iter().any(|path| path == b"root/stays"));
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_folder_that_becomes_a_link_leads_nowhere() {
    let (tree, outside) = (Tree::new(), Tree::new());
    outside.file("secret", b"secret");
    tree.file("root/stays", b"");
    for n in 0..50 {
        tree.file(format!("root/swap/{n}"), b"");
    }
    scan_during(&tree, || {
        std::fs::rename(tree.at("root/swap"), tree.at("root/away")).unwrap();
        symlink(outside.at(""), tree.at("root/swap")).unwrap();
        std::fs::remove_file(tree.at("root/swap")).unwrap();
        std::fs::rename(tree.at("root/away"), tree.at("root/swap")).unwrap();
    });
}

#[test]
fn what_vanishes_ends_no_scan() {
    let tree = Tree::new();
    tree.file("root/stays", b"");
    scan_during(&tree, || {
        for n in 0..20 {
            tree.file(format!("root/goes/{n}/file"), b"x");
        }
        std::fs::remove_dir_all(tree.at("root/goes")).unwrap();
    });
}

#[test]
fn threads_end_when_nobody_receives_any_more() {
    let tree = Tree::new();
    for n in 0..40_000 {
        if n % 1000 == 0 {
            tree.folder(format!("{}", n / 1000));
        }
        std::fs::write(tree.at(format!("{}/{n}", n / 1000)), b"").unwrap();
    }
    for threads in [1, 4] {
        let mut scan = Scan::start(vec![tree.top()], with_threads(threads)).unwrap();
        assert!(scan.next().is_some());
        // Joins the threads, which fill the channel or wait for it.
        let summary = scan.finish();
        assert!(!summary.is_complete && summary.entries < 40_000, "{summary:?}");
        drop(Scan::start(vec![tree.top()], with_threads(threads)).unwrap());
    }
}
