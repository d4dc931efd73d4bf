//! Tells the program which commit it was built from, as `LINERATE_COMMIT`, and makes the page of a share small.
//!
//! A result without its commit cannot be reproduced. The commit may not fail a build: without git, or outside a
//! checkout (a tarball, a registry), it is `unknown`.

use std::path::Path;
use std::process::Command;

#[cfg(feature = "web")]
#[path = "src/share/page/embed.rs"]
mod page;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    watch();
    #[cfg(feature = "web")]
    page::write(Path::new(&std::env::var("OUT_DIR")?))?;
    let commit = commit().unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=LINERATE_COMMIT={commit}");
    Ok(())
}

/// Asks cargo to run this again whenever the answer may have changed, and not otherwise.
fn watch() {
    // The sources decide whether the checkout is dirty: the index alone does not change when a file is edited.
    for path in ["build.rs", "src", "Cargo.toml", "Cargo.lock"] {
        watch_path(path);
    }
    // Only the branch that is checked out: another worktree's commit is no reason to build this one.
    let branch = git(&["rev-parse", "--symbolic-full-name", "HEAD"]);
    let names = ["HEAD", "index", "packed-refs"];
    for name in names.into_iter().chain(branch.as_deref()) {
        // `.git` is a file in a worktree, so git has to say where its files are.
        if let Some(path) = git(&["rev-parse", "--git-path", name]) {
            watch_path(&path);
        }
    }
}

/// A path that does not exist would make cargo run this every time.
fn watch_path(path: &str) {
    if Path::new(path).exists() {
        println!("cargo:rerun-if-changed={path}");
    }
}

/// The short hash of HEAD, with `-dirty` when tracked files differ from it.
fn commit() -> Option<String> {
    // Unpacked inside somebody else's checkout, that project's commit would say nothing about this program.
    if !git(&["rev-parse", "--show-prefix"])?.is_empty() {
        return None;
    }
    let hash = git(&["rev-parse", "--short=10", "HEAD"])?;
    let changes = git(&["status", "--porcelain", "--untracked-files=no"])?;
    let mark = if changes.is_empty() { "" } else { "-dirty" };
    Some(format!("{hash}{mark}"))
}

/// What git prints, or nothing when there is no git or it refuses.
fn git(arguments: &[&str]) -> Option<String> {
    // Without optional locks `status` leaves the index alone, which is itself watched.
    let output = Command::new("git").arg("--no-optional-locks").args(arguments).output().ok()?;
    if !output.status.success() {
        return None;
    }
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
