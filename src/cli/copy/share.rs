//! `linerate get` and `put` with the link of a share instead of a peer.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::args::Options;
#[cfg(feature = "web")]
use super::interrupt::Interrupts;
use crate::cli::Exit;
use crate::cli::exit::Misuse;

/// Whether a place is such a link.
pub(super) fn is_link(place: &OsStr) -> bool {
    let begins = |scheme: &[u8]| place.as_bytes().get(..scheme.len()).is_some_and(|t| t.eq_ignore_ascii_case(scheme));
    begins(b"https://") || begins(b"http://")
}

/// Only few options mean anything to a share.
fn check(options: &Options) -> anyhow::Result<()> {
    let output = &options.output;
    let only_links = output.json || output.receipt.is_some() || options.proof.manifest.is_some();
    if only_links || options.copy_options()? != Options::usual()?.copy_options()? {
        let why = "with the link of a share only --fingerprint, --ticket-file, --retry-for and --quiet can be used";
        return Err(Misuse(why.to_string()).into());
    }
    Ok(())
}

#[cfg(feature = "web")]
fn visit(options: &Options) -> crate::cli::share::links::Visit<'_> {
    crate::cli::share::links::Visit {
        access: &options.network.way.access,
        retry_for: options.network.retry_for.0,
        is_quiet: options.output.quiet,
    }
}

#[cfg(feature = "web")]
pub(super) fn get(from: &OsStr, to: &OsStr, options: &Options) -> anyhow::Result<Exit> {
    check(options)?;
    let _interrupts = Interrupts::watch()?;
    visit(options).get(from, to)
}

#[cfg(feature = "web")]
pub(super) fn put(from: &[OsString], to: &OsStr, options: &Options) -> anyhow::Result<Exit> {
    check(options)?;
    let _interrupts = Interrupts::watch()?;
    visit(options).put(from, to)
}

#[cfg(not(feature = "web"))]
pub(super) fn get(_: &OsStr, _: &OsStr, options: &Options) -> anyhow::Result<Exit> {
    check(options).and_then(|()| left_out())
}

#[cfg(not(feature = "web"))]
pub(super) fn put(_: &[OsString], _: &OsStr, options: &Options) -> anyhow::Result<Exit> {
    check(options).and_then(|()| left_out())
}

#[cfg(not(feature = "web"))]
fn left_out() -> anyhow::Result<Exit> {
    Err(Misuse("this linerate was built without shares: build it with the feature `web`".to_string()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_begins_with_its_scheme() {
        let is_link = |text: &str| is_link(OsStr::new(text));
        assert!(is_link("HTTP://x") && is_link("https://x"));
        assert!(!is_link("https:x") && !is_link("lr://x") && !is_link("http"));
    }
}
