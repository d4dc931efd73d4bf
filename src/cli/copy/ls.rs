//! `linerate ls`: what lies in a folder of a peer.

use std::ffi::OsString;

use jiff::Timestamp;
use serde::Serialize;

use super::args::WayArgs;
use super::door::Door;
use super::interrupt::Interrupts;
use super::job;
use super::location::Location;
use crate::cli::exit::Misuse;
use crate::cli::{Exit, out};
use crate::proto::copy::options::CopyOptions;
use crate::proto::copy::report::PassedOver;
use crate::proto::manifest::{Entry, EntryKind};
use crate::text::{printable, printable_str};
use crate::transfer::list::{Listing, list};
use crate::transfer::run::CopyPlan;

/// List what lies in a folder of a peer: type, size, time and name.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  linerate ls nas:/data\n  linerate ls lr://nas/videos --json")]
pub(in crate::cli) struct Args {
    /// The folder, or a file.
    #[arg(value_name = "PEER:PATH")]
    place: OsString,
    /// One JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    way: WayArgs,
}

pub(in crate::cli) fn run(args: Args) -> anyhow::Result<Exit> {
    let Location::Remote(peer, path) = Location::parse(&args.place)? else {
        return Err(Misuse(format!("{}: write PEER:PATH; ls lists what is here", args.place.display())).into());
    };
    let interrupts = Interrupts::watch()?;
    let mut door = Door::new(args.way.ways(), &peer)?;
    let mut open = door.open()?;
    let path = if door.is_at_home() { job::from_home(path) } else { path };
    let plan = super::plan(
        job::pull(&door.name(), vec![path.clone()], ".".into()),
        CopyOptions::default(),
        &open.link,
        &args.way,
    )?;
    let listing = interrupts.in_session(|| list(&plan, &mut open.link))?;
    open.link.close();
    for passed in listing.passed_over.iter().filter(|passed| passed.is_failure) {
        out::say(&complaint(passed));
    }
    let is_partial = listing.passed_over.iter().any(|passed| passed.is_failure);
    let rows = rows(&listing);
    out::print(&if args.json { json(&rows)? } else { table(&rows) })?;
    Ok(if is_partial { Exit::Partial } else { Exit::Ok })
}

/// Both parts of it come from the peer.
fn complaint(passed: &PassedOver) -> String {
    format!("linerate: {}: {}", printable(&passed.path), printable_str(&passed.why))
}

/// Whether what a pull names is one file, and nothing else.
pub(super) fn is_file(plan: &CopyPlan, link: &mut crate::link::Link) -> anyhow::Result<bool> {
    let listing = list(plan, link)?;
    Ok(matches!(listing.entries.as_slice(), [Entry { kind: EntryKind::File { .. }, .. }]))
}

/// One line.
struct Row<'a> {
    name: &'a [u8],
    /// What it is, in one letter and in a word.
    kind: (char, &'static str),
    entry: Option<&'a Entry>,
}

/// What is shown, by name: of a folder what is in it, and of anything else itself.
fn rows(listing: &Listing) -> Vec<Row<'_>> {
    let folder = listing.entries.iter().find(|entry| is_top(entry)).filter(|entry| entry.kind == EntryKind::Folder);
    let last = |path: &'_ [u8]| path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let shown = |entry: &&Entry| folder.is_none_or(|folder| !std::ptr::eq(*entry, folder));
    let of_entry = |entry: &'_ Entry| match &entry.kind {
        EntryKind::File { .. } | EntryKind::HardLink { .. } => ('-', "file"),
        EntryKind::Folder => ('d', "folder"),
        EntryKind::Symlink { .. } => ('l', "link"),
    };
    let entries = listing.entries.iter().filter(shown).map(|entry| Row {
        name: &entry.path[last(&entry.path)..],
        kind: of_entry(entry),
        entry: Some(entry),
    });
    let special = listing.passed_over.iter().filter(|passed| !passed.is_failure).map(|passed| Row {
        name: &passed.path[last(&passed.path)..],
        kind: ('?', "special"),
        entry: None,
    });
    let mut rows: Vec<Row<'_>> = entries.chain(special).collect();
    rows.sort_by_key(|row| row.name);
    rows
}

/// Whether it is what was named: entries are numbered as they are found, and it is found first.
fn is_top(entry: &Entry) -> bool {
    entry.id == 0
}

fn table(rows: &[Row<'_>]) -> String {
    let size = |row: &Row<'_>| match row.entry.map(|entry| &entry.kind) {
        Some(EntryKind::File { len, .. }) => len.to_string(),
        _ => "-".to_string(),
    };
    let width = rows.iter().map(|row| size(row).len()).max().unwrap_or(0);
    let line = |row: &Row<'_>| {
        let target = match row.entry.map(|entry| &entry.kind) {
            Some(EntryKind::Symlink { target }) => format!(" -> {}", printable(target)),
            _ => String::new(),
        };
        let time = row.entry.map_or_else(|| format!("{:20}", "-"), |entry| time(entry, 0));
        format!("{} {:>width$} {time} {}{target}\n", row.kind.0, size(row), printable(row.name))
    };
    rows.iter().map(line).collect()
}

/// `2027-01-31T12:00:00Z`, with so many digits of the second.
fn time(entry: &Entry, digits: usize) -> String {
    let ns = i32::try_from(entry.attributes.modified_ns).unwrap_or(0);
    match Timestamp::new(entry.attributes.modified_s, ns) {
        Ok(time) if digits == 0 => time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        Ok(time) => format!("{time:.digits$}"),
        Err(_) => format!("{:20}", "?"),
    }
}

/// A line of `--json`.
#[derive(Serialize)]
struct Line {
    /// Fit to show.
    name: String,
    /// The bytes of the name in hex, where they are no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    name_hex: Option<String>,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    modified: Option<String>,
    /// Permission bits, in octal.
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

fn json(rows: &[Row<'_>]) -> anyhow::Result<String> {
    let mut text = String::new();
    for row in rows {
        let name = std::str::from_utf8(row.name);
        let hex = || row.name.iter().map(|byte| format!("{byte:02x}")).collect();
        let line = Line {
            name: name.map_or_else(|_| printable(row.name), str::to_string),
            name_hex: name.is_err().then(hex),
            kind: row.kind.1,
            bytes: row.entry.and_then(|entry| match entry.kind {
                EntryKind::File { len, .. } => Some(len),
                _ => None,
            }),
            modified: row.entry.map(|entry| time(entry, 9)),
            mode: row.entry.map(|entry| format!("{:04o}", entry.attributes.mode)),
            target: row.entry.and_then(|entry| match &entry.kind {
                EntryKind::Symlink { target } => Some(String::from_utf8_lossy(target).into_owned()),
                _ => None,
            }),
        };
        text += &serde_json::to_string(&line)?;
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::manifest::Attributes;

    fn entry(id: u64, path: &[u8], kind: EntryKind) -> Entry {
        let attributes = Attributes { modified_s: 86_400, modified_ns: 5, mode: 0o644, ..Attributes::default() };
        Entry { id, path: path.to_vec(), kind, attributes }
    }

    #[test]
    fn what_a_peer_complains_of_commands_no_terminal() {
        let passed = PassedOver { path: b"a\x1bb".to_vec(), why: "no\x1b[2J".to_string(), is_failure: true };
        assert_eq!(complaint(&passed), "linerate: a\\u{1b}b: no\\u{1b}[2J");
    }

    #[test]
    fn a_folder_shows_what_is_in_it() {
        let file = EntryKind::File { len: 12, is_sparse: false };
        let entries = vec![
            entry(0, b"top", EntryKind::Folder),
            entry(1, b"top/z\n\xff", file.clone()),
            entry(2, b"top/link", EntryKind::Symlink { target: b"a\x1b".to_vec() }),
            entry(3, b"top/dir", EntryKind::Folder),
        ];
        let passed_over = vec![PassedOver { path: b"top/fifo".to_vec(), why: "a fifo".to_string(), is_failure: false }];
        let listing = Listing { entries, passed_over };
        let text = table(&rows(&listing));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[0].starts_with("d  - 1970-01-02T00:00:00Z dir"), "{text}");
        assert!(lines[1].starts_with("?  - -") && lines[1].ends_with(" fifo"), "{text}");
        assert!(lines[2].contains(" link -> a") && !text.contains('\u{1b}'), "{text}");
        assert!(lines[3].starts_with("- 12 "), "{text}");
        let json = json(&rows(&listing)).unwrap();
        let last: serde_json::Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
        assert_eq!((last["name_hex"].as_str(), last["bytes"].as_u64()), (Some("7a0aff"), Some(12)));
        assert_eq!(last["modified"], "1970-01-02T00:00:00.000000005Z");
        let alone = Listing { entries: vec![entry(0, b"file", file)], passed_over: Vec::new() };
        assert_eq!(table(&rows(&alone)), "- 12 1970-01-02T00:00:00Z file\n");
    }
}
