use super::*;
use crate::proto::copy::options::Durability;

const MIB: u64 = 1 << 20;

fn plan(dir: &Path, options: CopyOptions) -> LocalPlan {
    let (from, to) = (vec![dir.join("from")], dir.join("to"));
    LocalPlan { from, to, label: b"test".to_vec(), places: Places::below(&dir.join("home")), options }
}

fn noise(bytes: u64) -> Vec<u8> {
    let word = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).to_le_bytes();
    (0..bytes.div_ceil(8)).flat_map(word).take(bytes as usize).collect()
}

/// Begin to copy so slowly that it does not end, and break it off when some blocks are proven.
fn break_off(plan: &LocalPlan) {
    let options = CopyOptions { limit: Some(16 * MIB), ..plan.options.clone() };
    let mut ends = Ends::begin(&LocalPlan { options, ..plan.clone() }, &mut ()).unwrap();
    while ends.sink.moved_bytes().0 < 9 * MIB {
        ends.bell.answer();
        ends.pump().unwrap();
        ends.wait(Duration::from_millis(20)).unwrap();
    }
    ends.pump().unwrap();
    assert_eq!(ends.source.ending(), None);
    ends.stop();
}

#[test]
fn a_copy_that_was_broken_off_goes_on_where_it_was() {
    for verify in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let (len, content) = (64 * MIB + 7, noise(64 * MIB + 7));
        std::fs::write(dir.path().join("from"), &content).unwrap();
        let options = CopyOptions { verify, durability: Durability::File, ..CopyOptions::default() };
        let plan = plan(dir.path(), options);
        break_off(&plan);
        assert!(!dir.path().join("to").exists(), "nothing has its name that is not whole");
        let done = run(&plan, &mut ()).result.unwrap();
        assert!(done.far.resumed_bytes > 0, "verified: {verify}");
        assert_eq!(done.far.resumed_bytes + done.far.moved_bytes, len, "verified: {verify}");
        assert!(std::fs::read(dir.path().join("to")).unwrap() == content);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3, "no temporary is left");
    }
}

#[test]
fn two_files_that_come_to_one_path_are_not_mixed() {
    let dir = tempfile::tempdir().unwrap();
    let contents = [noise(24 * MIB), vec![7; 24 * MIB as usize]];
    for (folder, content) in ["a/x", "x"].into_iter().zip(&contents) {
        let path = dir.path().join(folder).join("file");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        std::fs::File::open(&path).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    }
    std::fs::create_dir(dir.path().join("to")).unwrap();
    let from = vec![dir.path().join("a/."), dir.path().join("x")];
    let options = CopyOptions { durability: Durability::None, ..CopyOptions::default() };
    let plan = LocalPlan { from, ..plan(dir.path(), options) };
    for _ in 0..3 {
        let done = run(&plan, &mut ()).result.unwrap();
        assert_eq!(done.tally.failed.files, 0, "{:?}", done.tally.failures);
        assert!(contents.contains(&std::fs::read(dir.path().join("to/x/file")).unwrap()));
        assert_eq!(std::fs::read_dir(dir.path().join("to/x")).unwrap().count(), 1, "no temporary is left");
        std::fs::remove_dir_all(dir.path().join("to/x")).unwrap();
    }
}

#[test]
fn a_source_that_changes_meanwhile_is_not_taken_for_what_it_was() {
    for verify in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("from"), noise(128 * MIB)).unwrap();
        let options = CopyOptions { verify, limit: Some(4 * MIB), ..CopyOptions::default() };
        let mut ends = Ends::begin(&plan(dir.path(), options), &mut ()).unwrap();
        while ends.sink.moved_bytes().0 < 2 * MIB {
            ends.pump().unwrap();
            ends.wait(Duration::from_millis(20)).unwrap();
        }
        std::fs::write(dir.path().join("from"), b"other").unwrap();
        let outcome = ends.drive(&mut ()).unwrap();
        ends.stop();
        assert_eq!(outcome.tally.failed.files, 1);
        assert!(outcome.tally.failures[0].1.contains("was changed"), "{:?}", outcome.tally.failures);
        assert!(!dir.path().join("to").exists());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "no temporary is left");
    }
}

#[test]
fn a_destination_that_is_taken_is_said() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("from"), b"1").unwrap();
    let plan = plan(dir.path(), CopyOptions::default());
    let first = Ends::begin(&plan, &mut ()).unwrap();
    let second = run(&plan, &mut ()).result.unwrap_err().to_string();
    assert!(second.contains("another copy to it is running"), "{second}");
    first.stop();
}

#[test]
fn what_failed_at_the_end_is_in_the_tally() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("to/from")).unwrap();
    std::fs::create_dir(dir.path().join("from")).unwrap();
    std::fs::write(dir.path().join("to/from/gone"), b"1").unwrap();
    let options = CopyOptions { delete: true, ..CopyOptions::default() };
    let mut plan = plan(dir.path(), options);
    plan.from.push(dir.path().join("none"));
    let session = run(&plan, &mut ());
    let named = |part: &str| session.tally.failures.iter().any(|(_, why)| why.contains(part));
    assert!(named("no such file") && named("nothing was removed"), "{:?}", session.tally);
    assert_eq!(session.tally.failed.entries, 2);
    assert_eq!(session.result.unwrap().tally, session.tally);
    assert!(dir.path().join("to/from/gone").exists());
}

#[test]
fn what_is_here_of_a_file_outlasts_a_run_in_which_its_source_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let content = noise(64 * MIB);
    std::fs::create_dir(dir.path().join("to")).unwrap();
    std::fs::write(dir.path().join("from"), &content).unwrap();
    std::fs::write(dir.path().join("other"), b"1").unwrap();
    let options = CopyOptions { durability: Durability::File, ..CopyOptions::default() };
    let mut plan = plan(dir.path(), options);
    plan.from.insert(0, dir.path().join("other"));
    break_off(&plan);
    std::fs::rename(dir.path().join("from"), dir.path().join("away")).unwrap();
    let without = run(&plan, &mut ()).result.unwrap();
    assert_eq!((without.tally.failed.entries, without.tally.found.files), (1, 1));
    std::fs::rename(dir.path().join("away"), dir.path().join("from")).unwrap();
    let done = run(&plan, &mut ()).result.unwrap();
    assert!(done.far.resumed_bytes > 0);
    assert_eq!(done.far.resumed_bytes + done.far.moved_bytes, 64 * MIB);
    assert!(std::fs::read(dir.path().join("to/from")).unwrap() == content);
    assert_eq!(std::fs::read_dir(dir.path().join("to")).unwrap().count(), 2, "no temporary is left");
}

#[test]
fn a_copy_with_a_thread_that_panicked_ends() {
    let break_one: [fn(&Ends); 2] = [|ends| ends.source.break_down(), |ends| ends.sink.break_down()];
    for break_one in break_one {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("from"), noise(MIB)).unwrap();
        // So slow that it does not end by itself.
        let options = CopyOptions { limit: Some(1), piece_bytes: 64 << 10, ..CopyOptions::default() };
        let mut ends = Ends::begin(&plan(dir.path(), options), &mut ()).unwrap();
        break_one(&ends);
        let error = ends.drive(&mut ()).unwrap_err().to_string();
        assert!(error.contains("a thread of the copy failed"), "{error}");
        ends.stop();
    }
}
