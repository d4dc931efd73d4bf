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

/// The command, for the result file: as cargo is asked to run it, since the program itself lies anywhere.
pub fn command(bench: &str) -> Vec<String> {
    let asked = ["cargo", "bench", "--bench", bench, "--"].map(String::from);
    let own = own_arguments().into_iter().skip(1).map(|word| word.to_string_lossy().into_owned());
    asked.into_iter().chain(own).collect()
}
