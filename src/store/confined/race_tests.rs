//! Somebody swaps folders for links that lead out while a peer's paths are worked on.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::fixture::{CONTENT, Fixture, SECRET, path, read};
use super::{HANDLE_LIFE, Links, Root};

/// How often each operation is tried while the swapping goes on.
const ROUNDS: u32 = 1000;

/// How often all that is done again if the threads never met: a busy machine may let one wait for long.
const REPEATS_MAX: u32 = 100;

/// Swap two names while `act` runs, again and again until it says that it has seen both; whether it ever did.
fn while_swapping(one: &Path, other: &Path, mut act: impl FnMut() -> bool) -> bool {
    let swap = || renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // In pairs, so that all is as it was at the end.
            while !done.load(Ordering::Relaxed) {
                swap();
                swap();
            }
        });
        // Stops the other thread also when an assertion fails.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _stop = Stop(&done);
        (0..REPEATS_MAX).any(|_| act())
    })
}

/// What was read is from inside, if anything was; returns whether.
fn is_inside(got: &Result<Vec<u8>, String>) -> bool {
    assert!(got.as_deref().is_ok_and(|content| content == CONTENT) || got.is_err(), "{got:?}");
    got.is_ok()
}

/// Try everything below a name that is now a folder and now a link out.
fn attack(root: &Root) -> (u32, u32) {
    let (mut reads, mut refusals) = (0, 0);
    let below = path("d/sub");
    for n in 0..ROUNDS {
        for at in ["d/secret", "d/sub/secret", "file", "by-link/secret"] {
            if is_inside(&read(root, at)) { reads += 1 } else { refusals += 1 }
        }
        let new = below.join(format!("new{n}").as_bytes()).unwrap();
        let moved = path(format!("d/moved{n}"));
        let _ = root.create_new(&path(format!("d/new{n}")));
        let _ = root.create_new(&new).is_ok() && root.rename_replace(&new, &moved).is_ok();
        let _ = root.create_dir_all(&path(format!("d/x{}/y/z", n % 7)));
        // There is none inside.
        let only_outside = path("d/only-outside");
        assert!(root.rename_no_replace(&only_outside, &path(format!("d/sub/stolen{n}"))).is_err());
        assert!(root.rename_replace(&only_outside, &path("stolen")).is_err());
        assert!(root.remove_file(&only_outside).is_err());
        assert!(read(root, "d/only-outside").is_err());
        let _ = root.remove_file(&moved);
        for entry in root.read_dir(&path("d"), Links::Inside).into_iter().flatten().flatten() {
            assert_ne!(entry.name, b"only-outside");
        }
        if let Ok(known) = root.metadata(&path("d/secret")) {
            assert_ne!(known.len, SECRET.len() as u64);
        }
    }
    (reads, refusals)
}

#[test]
fn a_folder_that_becomes_a_link_out_between_any_two_steps_lets_nothing_out() {
    for (number, life) in [Duration::ZERO, Duration::ZERO, HANDLE_LIFE, HANDLE_LIFE].into_iter().enumerate() {
        let it = Fixture::new();
        std::fs::create_dir_all(it.inside("d/sub")).unwrap();
        std::fs::create_dir_all(it.outside().join("sub")).unwrap();
        std::fs::write(it.outside().join("sub/secret"), SECRET).unwrap();
        std::fs::write(it.outside().join("only-outside"), SECRET).unwrap();
        std::fs::write(it.inside("d/secret"), CONTENT).unwrap();
        std::fs::write(it.inside("d/sub/secret"), CONTENT).unwrap();
        it.symlink("../outside", "evil");
        it.symlink("d/secret", "file");
        it.symlink("d", "by-link");
        let root = &it.roots_with_life(life)[number % 2];
        // It was a race: both came to pass.
        assert!(while_swapping(&it.inside("d"), &it.inside("evil"), || {
            let (reads, refusals) = attack(root);
            reads > 0 && refusals > 0
        }));
        let outside = |folder: &str| std::fs::read_dir(it.outside().join(folder)).unwrap().count();
        assert_eq!((outside(""), outside("sub")), (3, 1));
        assert_eq!(std::fs::read(it.outside().join("secret")).unwrap(), SECRET);
    }
}

#[test]
fn a_file_that_becomes_a_link_out_or_a_fifo_lets_nothing_out_and_does_not_wait() {
    for other in ["link", "fifo"] {
        let it = Fixture::new();
        it.symlink("../outside/secret", "link");
        it.symlink("inside", "by-link");
        nix::unistd::mkfifo(&it.inside("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for root in it.roots() {
            let (mut reads, mut refusals) = (0, 0);
            assert!(while_swapping(&it.inside("inside"), &it.inside(other), || {
                for _ in 0..ROUNDS * 2 {
                    for at in ["inside", "by-link"] {
                        if is_inside(&read(&root, at)) { reads += 1 } else { refusals += 1 }
                    }
                }
                reads > 0 && refusals > 0
            }));
        }
        it.assert_outside_untouched();
    }
}

#[test]
fn a_link_with_parents_in_it_stays_inside_while_folders_move() {
    let it = Fixture::new();
    std::fs::create_dir_all(it.inside("a/b/c")).unwrap();
    std::fs::create_dir(it.inside("shallow")).unwrap();
    std::fs::write(it.inside("a/secret"), CONTENT).unwrap();
    it.symlink("../../../outside/secret", "a/b/c/out");
    it.symlink("../../secret", "a/b/c/link");
    std::fs::create_dir(it.inside("still")).unwrap();
    it.symlink("../inside", "still/link");
    for root in it.roots() {
        let mut reads = 0;
        assert!(while_swapping(&it.inside("a/b"), &it.inside("shallow"), || {
            for _ in 0..ROUNDS {
                for at in ["a/b/c/link", "a/b/c/out", "shallow/c/out", "shallow/c/link"] {
                    reads += u32::from(is_inside(&read(&root, at)));
                }
                // The kernel alone fails here: it gives up on `..` as long as anything is renamed.
                assert_eq!(read(&root, "still/link").unwrap(), CONTENT);
            }
            reads > 0
        }));
    }
}
