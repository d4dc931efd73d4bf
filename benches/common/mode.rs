//! Whether to measure, or only to show that the bench still works.

use std::ffi::OsString;

/// Cargo runs benches of its own harness with `--bench` for `cargo bench`, adds `--test` for `cargo bench -- --test`,
/// and gives neither for `cargo test --benches`: as criterion does, only the first of these measures.
pub fn is_test() -> bool {
    let has = |flag: &str| std::env::args_os().any(|argument| argument == *flag);
    has("--test") || !has("--bench")
}

/// Our arguments without those that cargo adds.
pub fn own_arguments() -> Vec<OsString> {
    std::env::args_os().filter(|argument| argument != "--bench" && argument != "--test").collect()
}

/// The exact command, for the result file.
pub fn command() -> Vec<String> {
    std::env::args().collect()
}
