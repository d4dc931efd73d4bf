//! Power loss and failing disks.
//!
//! A copy runs once while a witness writes down every operation. Then power is lost after each of them, many times:
//! of what was not synced each write, name and journal record is kept or lost by chance. Whatever comes of it, a file
//! under its final name is whole, and what the journal says is stored is stored.

use std::collections::BTreeMap;
use std::io;

use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::tests::{OPTIONS, file, land};
use super::*;
use crate::proto::verify::FileHash;

const BLOCK: usize = 10;
const LOSSES_PER_STEP: usize = 40;

/// What was done, by name.
#[derive(Clone, Debug)]
enum Step {
    Create(String),
    Write(String, u64, Vec<u8>),
    SetLen(String, u64),
    SyncFile(String),
    SyncAll,
    SyncFolders,
    Rename(String, String),
    Remove(String),
    Append(Vec<Record>),
    SyncJournal,
}

/// Writes down, and fails one step with one error.
#[derive(Debug, Default)]
struct Recorder {
    steps: Mutex<Vec<Step>>,
    fails: Option<(usize, i32)>,
    meanwhile: Meanwhile,
}

/// What somebody else does while a file is synced, once.
#[derive(Default)]
struct Meanwhile(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl std::fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meanwhile")
    }
}

impl Witness for Recorder {
    fn before(&self, operation: &Operation<'_>) -> io::Result<()> {
        let name = |path: &RelativePath| path.to_string();
        let step = match operation {
            Operation::Create(path) => Step::Create(name(path)),
            Operation::Write(path, at, bytes) => Step::Write(name(path), *at, bytes.to_vec()),
            Operation::SetLen(path, len) => Step::SetLen(name(path), *len),
            Operation::SyncFile(path) => Step::SyncFile(name(path)),
            Operation::SyncAll => Step::SyncAll,
            Operation::SyncFolder(_) => Step::SyncFolders,
            Operation::Rename(from, to, _) => Step::Rename(name(from), name(to)),
            Operation::Remove(path) => Step::Remove(name(path)),
            Operation::Append(records) => Step::Append(records.to_vec()),
            Operation::SyncJournal => Step::SyncJournal,
            _ => return Ok(()),
        };
        let is_sync = matches!(step, Step::SyncFile(_));
        let mut steps = self.steps.lock().unwrap();
        let at = steps.len();
        steps.push(step);
        drop(steps);
        let meanwhile = if is_sync { self.meanwhile.0.lock().unwrap().take() } else { None };
        meanwhile.into_iter().for_each(|act| act());
        match self.fails {
            Some((fails, errno)) if fails == at => Err(io::Error::from_raw_os_error(errno)),
            _ => Ok(()),
        }
    }
}

/// A disk: what is on it, and what is only in memory.
#[derive(Clone, Default)]
struct Model {
    /// What each file holds for good, by number, and what was done to it since.
    content: Vec<(Vec<u8>, Vec<Change>)>,
    /// The names as a program sees them.
    seen: BTreeMap<String, usize>,
    /// The names for good, and what was done to them since.
    names: BTreeMap<String, usize>,
    renames: Vec<Renamed>,
    journal: Vec<Record>,
    appended: Vec<Record>,
}

/// A name that goes, and one that comes with its file.
type Renamed = (Option<String>, Option<(String, usize)>);

#[derive(Clone)]
enum Change {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Change::SetLen(len) => content.resize(*len as usize, 0),
            Change::Write(at, bytes) => {
                let end = *at as usize + bytes.len();
                let len = content.len().max(end);
                content.resize(len, 0);
                content[*at as usize..end].copy_from_slice(bytes);
            }
        }
    }
}

impl Model {
    fn run(&mut self, step: &Step) {
        match step {
            Step::Create(name) => {
                self.content.push(Default::default());
                self.rename(None, Some((name.clone(), self.content.len() - 1)));
            }
            Step::Write(name, at, bytes) => self.change(name, Change::Write(*at, bytes.clone())),
            Step::SetLen(name, len) => self.change(name, Change::SetLen(*len)),
            Step::SyncFile(name) => self.settle(self.seen[name], |_| true),
            Step::SyncAll => {
                (0..self.content.len()).for_each(|file| self.settle(file, |_| true));
                self.settle_names(|_| true);
            }
            Step::SyncFolders => self.settle_names(|_| true),
            Step::Rename(from, to) => self.rename(Some(from.clone()), Some((to.clone(), self.seen[from]))),
            Step::Remove(name) => self.rename(Some(name.clone()), None),
            Step::Append(records) => self.appended.extend_from_slice(records),
            Step::SyncJournal => self.journal.append(&mut self.appended),
        }
    }

    fn change(&mut self, name: &str, change: Change) {
        let file = self.seen[name];
        self.content[file].1.push(change);
    }

    fn rename(&mut self, from: Option<String>, to: Option<(String, usize)>) {
        from.as_ref().map(|from| self.seen.remove(from));
        to.clone().map(|(name, file)| self.seen.insert(name, file));
        self.renames.push((from, to));
    }

    fn settle(&mut self, file: usize, mut keeps: impl FnMut(usize) -> bool) {
        let (content, changes) = &mut self.content[file];
        changes.drain(..).enumerate().filter(|(n, _)| keeps(*n)).for_each(|(_, change)| change.apply(content));
    }

    fn settle_names(&mut self, mut keeps: impl FnMut(usize) -> bool) {
        for (n, (from, to)) in std::mem::take(&mut self.renames).into_iter().enumerate() {
            if keeps(n) {
                from.map(|from| self.names.remove(&from));
                to.map(|(name, file)| self.names.insert(name, file));
            }
        }
    }

    /// What is left of it when power is lost now: anything between nothing and all that was not synced.
    fn lose_power(&self, rng: &mut SmallRng) -> Model {
        let mut left = self.clone();
        let share = [0.0, 0.5, 1.0][rng.random_range(0..3)];
        (0..left.content.len()).for_each(|file| left.settle(file, |_| rng.random_bool(share)));
        let share = [0.0, 0.5, 1.0][rng.random_range(0..3)];
        left.settle_names(|_| rng.random_bool(share));
        let kept = rng.random_range(0..=left.appended.len());
        left.journal.extend_from_slice(&self.appended[..kept]);
        left
    }
}

/// What belongs into a file.
fn content(name: &str, len: usize) -> Vec<u8> {
    (0..len).map(|n| (n + name.len() * 7 + 1) as u8 | 1).collect()
}

const LARGE: [(&str, usize); 3] = [("large", 95), ("larger", 200), ("largest", 333)];
const SMALL: usize = 25;

/// Large files with checkpoints on the way, a batch of small ones, and one small one by itself.
fn copy(landing: &Landing) -> Result<(), LandingError> {
    let mut ready = Vec::new();
    for (id, (name, len)) in LARGE.into_iter().enumerate() {
        let incoming = landing.begin(&file(id as u64, name, len as u64), BLOCK as u64)?;
        let bytes = content(name, len);
        for (index, block) in bytes.chunks(BLOCK).enumerate() {
            landing.write_at(&incoming, (index * BLOCK) as u64, block)?;
            let noted = [(index as u64, BlockHash([0; 32]))];
            match index % 6 {
                // By itself, with what is noted with it, and for what was noted before.
                3 => landing.checkpoint(&[(&incoming, &noted)])?,
                5 => landing.checkpoint(&[(&incoming, &[])])?,
                _ => landing.note(&[(&incoming, &noted)])?,
            }
        }
        ready.push(landing.finish(incoming, FileHash([0; 32]))?);
    }
    landing.commit(ready)?;
    for batch in [0..SMALL, SMALL..SMALL + 1] {
        let store = |n: usize| {
            let name = format!("small{n}");
            landing.store_small(&file(100 + n as u64, &name, 40), &content(&name, 40))
        };
        landing.commit(batch.map(store).collect::<Result<Vec<_>, _>>()?)?;
    }
    Ok(())
}

fn length(name: &str) -> usize {
    LARGE.iter().find(|(large, _)| *large == name).map_or(40, |(_, len)| *len)
}

/// What must hold of a disk after power was lost.
fn check(left: &Model, step: usize) {
    for (name, file) in left.names.iter().filter(|(name, _)| !name.starts_with(PREFIX)) {
        assert_eq!(left.content[*file].0, content(name, length(name)), "{name} is not whole after step {step}");
    }
    let mut begun = BTreeMap::new();
    let is_synced = |of: u64, number: usize| {
        let covers =
            |later: &Record| matches!(later, Record::Synced { file, before } if *file == of && *before > number as u64);
        left.journal.iter().any(covers)
    };
    for (number, record) in left.journal.iter().enumerate() {
        match record {
            Record::FileBegun { file, path, temporary, .. } => {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                begun.insert(*file, (text(path), text(temporary)));
            }
            Record::BlocksStored { file, blocks } if is_synced(*file, number) => {
                let (path, temporary) = &begun[file];
                // A temporary whose name was lost is sent anew: the landing looks for it.
                let Some(held) = left.names.get(temporary).map(|file| &left.content[*file].0) else { continue };
                for (index, _) in blocks {
                    let (start, whole) = (*index as usize * BLOCK, content(path, length(path)));
                    let end = whole.len().min(start + BLOCK);
                    assert_eq!(held.get(start..end), Some(&whole[start..end]), "block {index} of {path}, step {step}");
                }
            }
            Record::FileDone { file, .. } => {
                assert!(left.names.contains_key(&begun[file].0), "{} is not there, step {step}", begun[file].0);
            }
            _ => {}
        }
    }
}

/// A folder in memory, where syncing costs nothing; elsewhere if there is none.
fn memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn recorded(options: LandingOptions) -> Vec<Step> {
    let dir = memory();
    let recorder = Arc::new(Recorder::default());
    copy(&land(dir.path(), options, Some(recorder.clone()))).unwrap();
    std::mem::take(&mut *recorder.steps.lock().unwrap())
}

#[test]
fn no_power_loss_leaves_a_torn_file_or_a_journal_that_lies() {
    let steps = recorded(OPTIONS);
    let model = lose_power_everywhere(&steps);
    assert_eq!(model.seen.len(), LARGE.len() + SMALL + 1);
    assert_eq!(steps.iter().filter(|step| matches!(step, Step::SyncAll)).count(), 1);
    // The other way round: what was committed outlasts a loss of all that is not synced.
    assert_eq!(model.names.len(), model.seen.len());
}

/// Lose power after each of these steps, many times.
fn lose_power_everywhere(steps: &[Step]) -> Model {
    let mut rng = SmallRng::seed_from_u64(7);
    let mut model = Model::default();
    for (n, step) in steps.iter().enumerate() {
        model.run(step);
        (0..LOSSES_PER_STEP).for_each(|_| check(&model.lose_power(&mut rng), n));
    }
    model
}

#[test]
fn what_is_noted_while_a_sync_goes_on_is_not_covered_by_it() {
    let dir = memory();
    let recorder = Arc::new(Recorder::default());
    let landing = Arc::new(land(dir.path(), OPTIONS, Some(recorder.clone())));
    let (name, len) = LARGE[0];
    let incoming = Arc::new(landing.begin(&file(0, name, len as u64), BLOCK as u64).unwrap());
    let write = move |landing: &Landing, incoming: &Incoming, index: usize| {
        let at = index * BLOCK;
        landing.write_at(incoming, at as u64, &content(name, len)[at..at + BLOCK]).unwrap();
    };
    let noted = |index: u64| [(index, BlockHash([0; 32]))];
    write(&landing, &incoming, 0);
    let (other_landing, other_incoming) = (landing.clone(), incoming.clone());
    *recorder.meanwhile.0.lock().unwrap() = Some(Box::new(move || {
        write(&other_landing, &other_incoming, 1);
        other_landing.note(&[(&other_incoming, &noted(1))]).unwrap();
    }));
    landing.checkpoint(&[(&incoming, &noted(0))]).unwrap();
    let mut steps = std::mem::take(&mut *recorder.steps.lock().unwrap());
    let appended = |step: &Step| matches!(step, Step::Append(_));
    assert_eq!(steps.iter().filter(|step| appended(step)).count(), 4, "{steps:?}");
    lose_power_everywhere(&steps);
    // The model would see it if it were covered.
    for step in &mut steps {
        if let Step::Append(records) = step {
            for record in records {
                if let Record::Synced { before, .. } = record {
                    *before = u64::MAX;
                }
            }
        }
    }
    assert!(std::panic::catch_unwind(|| lose_power_everywhere(&steps)).is_err());
}

#[test]
fn the_model_finds_a_copy_that_does_not_sync() {
    let steps = recorded(LandingOptions { durability: Durability::None, ..OPTIONS });
    assert!(std::panic::catch_unwind(|| lose_power_everywhere(&steps)).is_err());
}

#[test]
fn whatever_fails_once_leaves_only_whole_files_and_the_next_run_completes() {
    let count = recorded(OPTIONS).len();
    for fails in 0..count {
        let errno = [libc::EIO, libc::ENOSPC][fails % 2];
        let dir = memory();
        let recorder = Arc::new(Recorder { fails: Some((fails, errno)), ..Recorder::default() });
        let _ = copy(&land(dir.path(), OPTIONS, Some(recorder)));
        check_folder(dir.path());
        let landing = land(dir.path(), OPTIONS, None);
        landing.sweep(&[RelativePath::root()]).unwrap();
        copy(&landing).unwrap();
        assert_eq!(check_folder(dir.path()), LARGE.len() + SMALL + 1, "step {fails}");
    }
}

/// All under final names is whole; how many those are.
fn check_folder(dir: &std::path::Path) -> usize {
    let mut whole = 0;
    for found in std::fs::read_dir(dir.join("to")).unwrap() {
        let name = found.unwrap().file_name().into_string().unwrap();
        if !name.starts_with(PREFIX) {
            assert_eq!(std::fs::read(dir.join("to").join(&name)).unwrap(), content(&name, length(&name)), "{name}");
            whole += 1;
        }
    }
    whole
}

#[test]
fn no_room_is_told_before_the_first_byte_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let landing = land(dir.path(), OPTIONS, None);
    let said = landing.begin(&file(0, "huge", 1 << 50), 1 << 20).unwrap_err().to_string();
    assert!(said.starts_with("huge: no room"), "{said}");
    assert_eq!(std::fs::read_dir(dir.path().join("to")).unwrap().count(), 0);
}
