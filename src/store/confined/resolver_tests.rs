//! The two resolvers agree, on trees of folders, files and links that chance made.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::fixture::{Fixture, SECRET};
use super::resolver::Resolver;
use super::{Links, RelativePath, Root};

/// The words that paths and targets of links are made of.
const WORDS: [&str; 8] = ["a", "b", "c", "inside", ".", "..", "", "missing"];

/// Something to put into the tree; what cannot be put there is left out.
#[derive(Debug, Clone)]
enum Thing {
    Folder(String),
    File(String),
    Link(String, String),
}

fn words(count: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    let word = prop_oneof![8 => proptest::sample::select(&WORDS[..3]), 3 => proptest::sample::select(&WORDS[..])];
    proptest::collection::vec(word, count).prop_map(|words| words.join("/"))
}

fn place() -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(&WORDS[..3]), 1..4).prop_map(|words| words.join("/"))
}

fn target() -> impl Strategy<Value = String> {
    prop_oneof![
        12 => words(1..5),
        2 => words(0..3).prop_map(|words| format!("{words}/../../outside/secret")),
        1 => words(0..3).prop_map(|words| format!("../{words}")),
        1 => words(0..3).prop_map(|words| format!("/{words}")),
        1 => Just("/proc/self/root".to_string()),
    ]
}

fn thing() -> impl Strategy<Value = Thing> {
    prop_oneof![
        4 => place().prop_map(Thing::Folder),
        3 => place().prop_map(Thing::File),
        5 => (place(), target()).prop_map(|(place, target)| Thing::Link(place, target)),
    ]
}

fn build(it: &Fixture, things: &[Thing]) {
    for thing in things {
        // A path of the test itself must not lead out through what it has made.
        let place = match thing {
            Thing::Folder(place) | Thing::File(place) | Thing::Link(place, _) => it.inside(place),
        };
        let root = it.inside("").canonicalize().unwrap();
        let parent = place.parent().unwrap().canonicalize();
        if !parent.is_ok_and(|parent| parent.is_dir() && parent.starts_with(root)) || place.symlink_metadata().is_ok() {
            continue;
        }
        match thing {
            Thing::Folder(_) => std::fs::create_dir(place).unwrap(),
            Thing::File(name) => std::fs::write(place, name).unwrap(),
            Thing::Link(_, target) if target.is_empty() => {}
            Thing::Link(_, target) => std::os::unix::fs::symlink(target, place).unwrap(),
        }
    }
}

/// All that can be learnt and done at a path, as text; undone again.
fn outcome(root: &Root, bytes: &[u8]) -> BTreeMap<&'static str, String> {
    let mut said = BTreeMap::new();
    let Ok(path) = RelativePath::parse(bytes) else {
        said.insert("source", format!("{:?}", root.source(bytes, 1).map(|source| source.len)));
        return said;
    };
    let show = |error: crate::store::StoreError| error.to_string();
    let read = root.open_read(&path).map_err(show).map(|mut file| {
        let mut content = String::new();
        std::io::Read::read_to_string(&mut file, &mut content).unwrap();
        content
    });
    said.insert("read", format!("{read:?}"));
    said.insert("metadata", format!("{:?}", root.metadata(&path).map_err(show).map(|known| known.inode)));
    for (what, links) in [("list", Links::Inside), ("list plain", Links::Refused)] {
        let names = root.read_dir(&path, links).map_err(show).map(|entries| {
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap()).map(|entry| (entry.name, entry.kind)).collect();
            names.sort_by(|one, other| one.0.cmp(&other.0));
            names
        });
        said.insert(what, format!("{names:?}"));
    }
    let made = root.create_new(&path).map(drop).map_err(show);
    if made.is_ok() {
        root.rename_no_replace(&path, &RelativePath::parse(b"made").unwrap()).unwrap();
        root.remove_file(&RelativePath::parse(b"made").unwrap()).unwrap();
    }
    said.insert("make", format!("{made:?}"));
    said.insert("sink", format!("{:?}", root.check_sink(bytes).map_err(show)));
    said
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn both_resolvers_give_the_same_answers_and_none_from_outside(
        things in proptest::collection::vec(thing(), 0..24),
        paths in proptest::collection::vec(words(1..5), 1..24),
    ) {
        let it = Fixture::new();
        build(&it, &things);
        let [kernel, walk] = it.roots();
        for path in &paths {
            let (one, other) = (outcome(&kernel, path.as_bytes()), outcome(&walk, path.as_bytes()));
            prop_assert_eq!(&one, &other, "{}", path);
            let secret = std::str::from_utf8(SECRET).unwrap();
            prop_assert_ne!(one.get("read"), Some(&format!("{:?}", Ok::<_, String>(secret))));
            prop_assert!(!one.get("list").is_some_and(|names| names.contains("secret")), "{:?}", one);
        }
        it.assert_outside_untouched();
    }

    #[test]
    fn no_bytes_as_a_path_cause_a_panic_or_lead_out(
        bytes in proptest::collection::vec(
            prop_oneof![Just(b'/'), Just(b'.'), Just(b'a'), any::<u8>()], 0..300),
    ) {
        let it = Fixture::new();
        it.symlink("../outside", "a");
        for root in it.roots() {
            let _ = (root.source(&bytes, 1).is_ok(), root.check_sink(&bytes));
            if let Ok(path) = RelativePath::parse(&bytes) {
                let _ = (root.create_dir_all(&path).is_ok(), root.create_new(&path).is_ok());
                let _ = (root.open_read(&path).is_ok(), root.remove_file(&path).is_ok());
            }
        }
        it.assert_outside_untouched();
    }
}

#[test]
fn the_kernel_is_asked_where_it_has_openat2() {
    let it = Fixture::new();
    let root = Root::open(&it.inside("")).unwrap();
    match it.roots()[0].resolver {
        Resolver::Kernel => assert_eq!(root.resolver, Resolver::Kernel),
        Resolver::Walk => println!("this system has no openat2: only the walk is tested"),
    }
    assert_eq!(it.roots()[1].resolver, Resolver::Walk);
}
