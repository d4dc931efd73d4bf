//! The receipt of a copy, schema `linerate.receipt/1`: what was done, how, by whom, at what cost, and what is proven.
//!
//! One JSON object that each end keeps. Fields are only ever added, and each that was added later has a default. What
//! one end cannot know it leaves out: the server knows no command line and no exit code, and nothing of the client's
//! threads.
//!
//! | field | what it holds |
//! |---|---|
//! | `schema` | `linerate.receipt/1` |
//! | `version`, `commit` | of the program that wrote it |
//! | `run` | 128 random bits in hex, the same on both ends and in all sessions of a copy |
//! | `written_by` | `client` or `server` |
//! | `command` | the command line, one string per argument |
//! | `started_at`, `ended_at`, `seconds` | RFC 3339, UTC; seconds from one to the other |
//! | `complete`, `why` | whether it came to its end, and otherwise why not |
//! | `verified` | `true`: all of it is proven; `false`: not all; `"none"`: nothing was verified |
//! | `exit_code` | of the program |
//! | `route` | [`Route`]: from where to where |
//! | `settings` | [`Settings`]: how, with the reason of what was chosen by the program |
//! | `totals` | [`Totals`]: what became of the entries |
//! | `bytes_moved`, `bytes_on_wire`, `gb_per_s` | content that went over the streams, what that was there, 10⁹ bytes of it a second |
//! | `reconnections`, `resumed_bytes`, `damaged_blocks` | what went wrong and was put right |
//! | `source`, `destination` | [`EndCost`]: what each end spent, and where |
//! | `bottleneck` | what limited it, where that is clear |
//! | `digest` | [`Digests`]: one number over all files that were proven |
//! | `failures`, `skips` | [`Named`]: what did not come, and why |

use serde::{Deserialize, Serialize};

mod build;
pub mod keep;
#[cfg(test)]
mod sample;

pub use crate::proto::copy::report::Choice;
pub use crate::transfer::tally::Count;
pub use build::Account;

/// The value of [`Receipt::schema`] that this program writes.
pub const SCHEMA: &str = "linerate.receipt/1";

/// Most failures, and most skips, that a receipt names.
pub const NAMED_MAX: usize = 1000;

/// A whole receipt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// [`SCHEMA`].
    pub schema: String,
    /// Version of the program.
    pub version: String,
    /// Commit that it was built from.
    pub commit: String,
    /// Which copy: hex.
    pub run: String,
    /// `client` or `server`.
    pub written_by: Keeper,
    /// The command line, one string per argument.
    pub command: Vec<String>,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// RFC 3339, UTC.
    pub ended_at: String,
    /// From start to end.
    pub seconds: f64,
    /// It came to its end.
    pub complete: bool,
    /// Why it did not.
    pub why: Option<String>,
    /// What is proven.
    pub verified: Verified,
    /// Of the program.
    pub exit_code: Option<u8>,
    /// From where to where.
    pub route: Route,
    /// How.
    pub settings: Settings,
    /// What became of the entries.
    pub totals: Totals,
    /// Content that went over the streams, bytes.
    pub bytes_moved: u64,
    /// What that was there, bytes: less where it was compressed.
    pub bytes_on_wire: u64,
    /// `bytes_moved` in 10⁹ bytes a second.
    pub gb_per_s: f64,
    /// How often the connection was lost and made again.
    pub reconnections: u32,
    /// Bytes that an earlier run had stored and proven. What earlier sessions of this run moved is in `bytes_moved`; a
    /// server, which keeps a receipt of each session, has here all that was stored when that began.
    pub resumed_bytes: u64,
    /// Blocks that arrived damaged and were sent again.
    pub damaged_blocks: u64,
    /// The end that has the files.
    pub source: Option<EndCost>,
    /// The end that gets them.
    pub destination: Option<EndCost>,
    /// What limited it.
    pub bottleneck: Option<String>,
    /// One number over all that was proven.
    pub digest: Digests,
    /// What could not be made.
    pub failures: Named,
    /// What was left out on purpose.
    pub skips: Named,
}

/// Who keeps a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keeper {
    /// Whoever gave the command.
    Client,
    /// Whoever served it.
    Server,
}

/// Whether all is proven: `true`, `false` or `"none"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Verified {
    /// It was verified, and all of it is right or not.
    Proven(bool),
    /// It was not verified.
    Not(Unverified),
}

impl Verified {
    /// Nothing was verified.
    pub const NONE: Verified = Verified::Not(Unverified::None);
}

/// The word that stands for no verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unverified {
    /// `"none"`.
    None,
}

/// From where to where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Route {
    /// `push` (client to server) or `pull`.
    pub direction: String,
    /// The sources, as they were named.
    pub from: Vec<Name>,
    /// The destination, as it was named; on a server that sends, nothing.
    pub to: Option<Name>,
    /// The other end: its address as it was reached.
    pub peer: String,
    /// Whether everything went through an ssh connection.
    pub through_ssh: bool,
    /// Whether the server proved to be the one that was meant; the client's to say.
    pub server_known: Option<bool>,
}

/// A name that may hold any byte.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    /// What is not UTF-8 replaced.
    pub path: String,
    /// All of it in base64, where it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_base64: Option<String>,
}

impl Name {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Name {
        use base64::Engine;
        let base64 = || base64::engine::general_purpose::STANDARD.encode(bytes);
        let path_base64 = std::str::from_utf8(bytes).is_err().then(base64);
        Name { path: String::from_utf8_lossy(bytes).into_owned(), path_base64 }
    }
}

/// How it was copied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// `copy`, `dry-run` or `list`.
    pub purpose: String,
    /// `blake3` or `none`.
    pub verify: String,
    /// What was stored was read back past the page cache.
    pub reread: bool,
    /// Files of the same length were compared by content.
    pub checksum: bool,
    /// Further names of a file became hard links.
    pub hard_links: bool,
    /// Users and groups were kept.
    pub owner: bool,
    /// Extended attributes were kept.
    pub xattrs: bool,
    /// What became of what was there: `replace`, `skip`, `fail`, `keep-newer`.
    pub existing: String,
    /// `full`, `file` or `none`.
    pub durability: String,
    /// What the source does not have was removed.
    pub delete: bool,
    /// `none`, `auto` or `zstd:LEVEL`.
    pub compress: String,
    /// Most bytes a second.
    pub limit_bytes_per_s: Option<u64>,
    /// In the background.
    pub nice: bool,
    /// What was wanted of the source, as options.
    pub filters: Vec<String>,
    /// Data streams.
    pub streams: u32,
    /// Bytes that one frame carried at most.
    pub piece_bytes: u64,
    /// Data streams went through TLS 1.3.
    pub tls: bool,
    /// Its cipher suite, as the control connection has it.
    pub cipher: String,
    /// Congestion control of the data streams; empty for the system's default.
    pub congestion: String,
    /// What the program chose by itself, and why: the command, then the end that has the files, then the other, as far
    /// as they are known to whoever keeps this.
    pub choices: Vec<Choice>,
}

/// What became of the entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Offered by the source.
    pub found: Count,
    /// There now.
    pub done: Count,
    /// There already.
    pub had: Count,
    /// Would be made, in a rehearsal.
    pub planned: Count,
    /// Left out on purpose.
    pub skipped: Count,
    /// Not made.
    pub failed: Count,
    /// Removed, since the source does not have it: entries.
    pub deleted: u64,
}

/// What an end spent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndCost {
    /// Host name.
    pub host: String,
    /// Program version.
    pub version: String,
    /// How long the copy ran there, s.
    pub seconds: f64,
    /// CPU time of the process meanwhile, s.
    pub cpu_seconds: f64,
    /// Most memory that the process had, bytes.
    pub memory_peak_bytes: u64,
    /// Threads that read, or store.
    pub threads: u32,
    /// Where their time went.
    pub stages: Vec<StageShare>,
}

/// A stage of an end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StageShare {
    /// Its name.
    pub stage: String,
    /// All threads together, s.
    pub seconds: f64,
    /// Of the time of all threads, 0 to 1; of one thread for what one at a time does: scan, decide, commit.
    pub share: f64,
}

/// One number over the files that were proven: a sum, in no order, of BLAKE3 hashes of path, length and content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Digests {
    /// Over all sessions, by whoever wrote this.
    pub proven: String,
    /// Over the last session, by the source.
    pub source: Option<String>,
    /// Over the last session, by the destination.
    pub destination: Option<String>,
    /// Whether both say the same; nothing where one is not known.
    pub agree: Option<bool>,
}

/// Paths with reasons: the first of them, and how many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Named {
    /// How many.
    pub count: u64,
    /// The first [`NAMED_MAX`].
    pub first: Vec<Reason>,
}

/// A path, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Within the copy.
    #[serde(flatten)]
    pub name: Name,
    /// Why.
    pub why: String,
}
