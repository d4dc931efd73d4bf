//! Which programs are here.

use std::path::Path;

use crate::common::version::version;

/// Where systems have it that keep a server from the PATH of users.
const ELSEWHERE: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/sbin"];

/// The path of a program; its name where it is nowhere, so that its start says what is missing.
pub fn find(program: &str) -> String {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(ELSEWHERE.map(Into::into));
    let found = folders.map(|folder| folder.join(program)).find(|path| path.is_file());
    found.map_or_else(|| program.to_owned(), |path| path.to_string_lossy().into_owned())
}

/// The versions of programs, each with the option that it tells it for.
pub fn versions<const N: usize>(programs: [(&str, &str); N]) -> Result<String, String> {
    let told = programs.map(|(program, option)| version(&find(program), option));
    let told = told.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(told.join("; "))
}

/// A server that tells no version.
pub fn exists(program: &str) -> Result<(), String> {
    if Path::new(&find(program)).is_file() { Ok(()) } else { Err(format!("{program}: not installed")) }
}

/// Whether this is root, whom some servers must be told to serve.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The account's name.
pub fn user() -> String {
    nix::unistd::User::from_uid(nix::unistd::geteuid())
        .ok()
        .flatten()
        .map_or_else(|| "root".to_owned(), |user| user.name)
}
