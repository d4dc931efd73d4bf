//! The house keeps its order: who may import whom stands in the table of src/lib.rs and nowhere else.
//!
//! Reads the sources as text. Comments and what is only compiled for tests are left out; files of tests may do as
//! they like.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// A longer file holds more than one thing.
const LINES_MAX: usize = 600;
/// What a sans-IO layer has no business with.
const IO_WORDS: [&str; 8] =
    ["std::fs", "std::io", "std::thread", "TcpStream", "TcpListener", "Instant::now", "SystemTime", "mio::"];

/// One file of the library, without comments and tests.
struct Source {
    /// From src/, such as `engine/worker.rs`.
    path: String,
    code: String,
    lines: usize,
}

impl Source {
    fn new(path: &str, text: &str) -> Source {
        Source { path: path.to_string(), code: without_tests(&without_comments(text)), lines: text.lines().count() }
    }

    /// The module of the crate's root that it belongs to.
    fn layer(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// How many modules deep it is: 1 for `engine/mod.rs` and `units.rs`.
    fn depth(&self) -> usize {
        let parts = self.path.split('/').count();
        if self.path.ends_with("/mod.rs") { parts - 1 } else { parts }
    }

    /// The modules of the crate's root that it names, with the line where.
    fn imports(&self) -> Vec<(String, usize)> {
        let up = "super::".repeat(self.depth());
        let mut found = Vec::new();
        for (at, prefix) in ["crate::", &up].iter().flat_map(|prefix| self.code.match_indices(*prefix)) {
            // Not the end of a longer word, and not one `super` of more than lead out.
            if self.code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
                continue;
            }
            let line = self.code[..at].matches('\n').count() + 1;
            found.extend(names(&self.code[at + prefix.len()..]).into_iter().map(|name| (name, line)));
        }
        found
    }
}

/// The first words of a path or of each path in braces.
fn names(rest: &str) -> Vec<String> {
    let word = |text: &str| -> String { text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let Some(group) = rest.strip_prefix('{') else { return vec![word(rest)] };
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' | ',' if depth == 0 => {
                found.push(word(group[start..at].trim_start()));
                start = at + 1;
            }
            '}' => depth -= 1,
            _ => {}
        }
        if character == '}' && depth == 0 && start == at + 1 {
            break;
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

/// Line comments go; what stands in strings after `//` goes too, which costs nothing here.
fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default().to_string() + "\n").collect()
}

/// Modules of tests end a file in this house.
fn without_tests(text: &str) -> String {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_string()
}

/// The layers in the order of the table in lib.rs.
fn layers(lib: &str) -> Vec<String> {
    let rows = lib.lines().filter_map(|line| line.strip_prefix("//! | [`"));
    rows.filter_map(|row| row.split('`').next()).map(|name| name.trim_start_matches("mod@").to_string()).collect()
}

/// What a file does that its layer must not.
fn offences(source: &Source, order: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    let layer = source.layer();
    let Some(rank) = order.iter().position(|name| name == layer) else {
        return vec![format!("{}: the table in lib.rs knows no {layer}", source.path)];
    };
    for (name, line) in source.imports() {
        // What is no layer is something that the root itself exports, or a macro.
        if order.iter().position(|other| *other == name).is_some_and(|other| other > rank) {
            found.push(format!("{}:{line}: {layer} imports {name}, which stands below it", source.path));
        }
    }
    let mut forbid = |words: &[&str], why: &str| {
        for (number, line) in source.code.lines().enumerate() {
            for word in words.iter().filter(|word| holds(line, word)) {
                found.push(format!("{}:{}: {word}: {why}", source.path, number + 1));
            }
        }
    };
    if layer != "sys" {
        forbid(&["unsafe"], "only sys may");
    }
    if layer != "cli" {
        forbid(&["println!", "eprintln!", "print!", "eprint!"], "only cli speaks to the person");
    }
    if layer == "proto" {
        forbid(&IO_WORDS, "proto takes bytes and the time, and gives bytes");
    }
    forbid(&[".unwrap()", ".expect(", "dbg!", "todo!", "unimplemented!"], "not outside tests");
    if source.lines > LINES_MAX {
        found.push(format!("{}: {} lines, more than {LINES_MAX}", source.path, source.lines));
    }
    found
}

/// Whether a line holds a word as a whole.
fn holds(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let starts = !word.starts_with(is_part) || !line[..at].ends_with(is_part);
        starts && (!word.ends_with(is_part) || !line[at + word.len()..].starts_with(is_part))
    })
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The file of each module that is declared for tests only.
fn test_files(files: &[(PathBuf, String)]) -> HashSet<PathBuf> {
    let mut found = HashSet::new();
    for (path, text) in files {
        for declared in text.split("#[cfg(test)]\n").skip(1) {
            let lines = declared.lines().map(str::trim).find(|line| !line.starts_with('#')).unwrap_or_default();
            let Some(name) = lines.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')) else { continue };
            let named = declared.trim_start().strip_prefix("#[path = \"").and_then(|rest| rest.split('"').next());
            let folder = path.parent().unwrap();
            let own = path.with_extension("");
            let is_root = path.ends_with("mod.rs") || path.ends_with("lib.rs");
            let base = if is_root || named.is_some() { folder } else { &own };
            found.insert(base.join(named.map_or(format!("{name}.rs"), str::to_string)));
        }
    }
    found
}

#[test]
fn nothing_imports_what_stands_below_it_and_each_keeps_to_its_trade() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path, text)
    };
    let files: Vec<(PathBuf, String)> = files_below(&root).into_iter().map(read).collect();
    let of_tests = test_files(&files);
    assert!(of_tests.iter().all(|path| path.is_file()), "{of_tests:?}");
    let order = layers(&std::fs::read_to_string(root.join("lib.rs")).unwrap());
    let mut found = Vec::new();
    let mut checked = HashSet::new();
    for (path, text) in &files {
        let name = path.strip_prefix(&root).unwrap().display().to_string();
        if ["lib.rs", "main.rs"].contains(&name.as_str()) || of_tests.contains(path) {
            continue;
        }
        let source = Source::new(&name, text);
        checked.insert(source.layer().to_string());
        found.extend(offences(&source, &order));
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
    assert!(order.len() >= 11 && order.iter().all(|layer| checked.contains(layer)), "{order:?}, {checked:?}");
}

#[test]
fn what_is_forbidden_is_found() {
    let order = layers(
        "//! | layer |\n//! | [`units`] | x |\n//! | [`proto`] | x |\n//! | [`sys`] | x |\n//! | [`mod@bench`] | x |\n",
    );
    assert_eq!(order, ["units", "proto", "sys", "bench"]);
    let table: [(&str, &str, &[&str]); 18] = [
        ("units/size.rs", "use crate::proto::wire;", &["size.rs:1: units imports proto"]),
        ("units.rs", "\nfn f() { crate::bench::run() }", &["units.rs:2: units imports bench"]),
        ("proto/mod.rs", "use crate::{units::Bytes, sys::{a, b}, bench};", &["imports sys", "imports bench"]),
        ("units/size.rs", "use super::super::sys::clock;", &["units imports sys"]),
        ("units.rs", "use super::sys;", &["units imports sys"]),
        ("sys/a/b.rs", "use super::super::bench;", &[]),
        ("sys/a.rs", "use crate::units; use crate::sys::b; use super::b;", &[]),
        ("sys/a.rs", "// crate::bench is not for us", &[]),
        ("sys/a.rs", "unsafe { f() }", &[]),
        ("bench/a.rs", "unsafe { f() }", &["a.rs:1: unsafe: only sys may"]),
        ("bench/a.rs", "#![deny(unsafe_code)]", &[]),
        ("bench/a.rs", "eprintln!(\"x\")", &["eprintln!: only cli"]),
        ("bench/a.rs", "x.unwrap();\ny.expect(\"z\")", &["a.rs:1: .unwrap()", "a.rs:2: .expect("]),
        ("bench/a.rs", "x.unwrap_or(1); #[expect(dead_code)]", &[]),
        ("bench/a.rs", "fn f() {}\n#[cfg(test)]\nmod tests {\n x.unwrap();\n}\n", &[]),
        ("proto/a.rs", "let now = Instant::now();", &["Instant::now: proto takes"]),
        ("proto/a.rs", "use std::time::Instant; use std::fmt;", &[]),
        ("attic/a.rs", "", &["the table in lib.rs knows no attic"]),
    ];
    for (path, text, expected) in table {
        let found = offences(&Source::new(path, text), &order);
        assert_eq!(found.len(), expected.len(), "{path}: {text}: {found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{path}: {text}: {found}");
        }
    }
    let long = Source::new("sys/a.rs", &"x;\n".repeat(LINES_MAX + 1));
    assert_eq!(offences(&long, &order).len(), 1);
}
