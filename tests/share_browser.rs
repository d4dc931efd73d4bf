//! The page of a share in a real browser, driven by the programs in `tests/browser`: what it does on a desk and on a
//! phone, for a keyboard and a screen reader, without scripts, behind a password, and with a virus scan.
//!
//! Takes node, Chromium and playwright-core, which `LINERATE_PLAYWRIGHT` names the folder of (where
//! `npm install playwright-core axe-core` was run). `LINERATE_SCREENSHOTS` names a folder for pictures of the page.
#![cfg(feature = "web")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::clamd::Clamd;
use common::share::Share;
use common::{at_home, home, skip_unless};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser");
/// What a visitor may who may do everything.
const EVERYTHING: [&str; 3] = ["--allow", "view,download,upload,chat,delete", "--no-announce"];

fn playwright() -> Option<PathBuf> {
    let folder = std::env::var_os("LINERATE_PLAYWRIGHT")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/browser"), PathBuf::from);
    folder.join("node_modules/playwright-core").is_dir().then_some(folder)
}

/// The program that `variable` names, or is in one of the usual places.
fn has_program(variable: &str, usual: &[&str]) -> bool {
    let named = std::env::var_os(variable).map(PathBuf::from);
    named.into_iter().chain(usual.iter().map(PathBuf::from)).any(|path| path.exists())
}

fn has_node() -> bool {
    Command::new("node").arg("--version").output().is_ok_and(|done| done.status.success())
}

/// What the tests take; nothing, with a reason, where something is missing.
struct Browser {
    playwright: PathBuf,
    dir: tempfile::TempDir,
}

impl Browser {
    fn find() -> Option<Browser> {
        let playwright = playwright();
        let missing = "playwright-core is not in target/browser: npm install --prefix target/browser playwright-core";
        let is_skipped = skip_unless(playwright.is_some(), missing)
            || skip_unless(
                has_program("CHROMIUM", &["/usr/lib/chromium/chromium", "/usr/bin/chromium"]),
                "there is no Chromium",
            )
            || skip_unless(has_node(), "there is no node");
        let playwright = playwright.filter(|_| !is_skipped)?;
        Some(Browser { playwright, dir: tempfile::tempdir().unwrap() })
    }

    /// The folder that the programs expect, with so many files in `many`.
    fn tree(&self, entries: u32) -> PathBuf {
        let tree = self.dir.path().join("tree");
        let mut command = Command::new("node");
        let made = command.arg(format!("{SCRIPTS}/tree.mjs")).arg(&tree).arg(entries.to_string()).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        tree
    }

    /// Have one of the programs use the page behind `link`.
    fn drive(&self, script: &str, link: &str, more: &[&str]) {
        let mut command = Command::new("node");
        command.arg(format!("{SCRIPTS}/{script}.mjs")).arg(link);
        command.arg(std::env::var_os("LINERATE_SCREENSHOTS").unwrap_or_default());
        let done = at_home(&mut command, &home()).args(more).current_dir(&self.playwright).output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout);
        println!("{said}");
        assert!(done.status.success(), "{script}: {said}{}", String::from_utf8_lossy(&done.stderr));
    }
}

fn link(share: &Share) -> String {
    format!("{}/t/{}", share.origin, share.token)
}

/// A file with the password that the programs know.
fn password_file(dir: &Path) -> String {
    let file = dir.join("password");
    std::fs::write(&file, "open sesame\n").unwrap();
    file.to_str().unwrap().to_string()
}

#[test]
fn the_page_does_in_a_browser_what_it_promises() {
    let Some(browser) = Browser::find() else { return };
    let share = Share::start(&EVERYTHING, &browser.tree(100_000));
    browser.drive("page", &link(&share), &[]);
}

#[test]
fn a_phone_does_all_of_it() {
    let Some(browser) = Browser::find() else { return };
    let share = Share::start(&EVERYTHING, &browser.tree(2000));
    browser.drive("phone", &link(&share), &[]);
}

#[test]
fn nobody_is_shut_out_who_uses_a_keyboard_or_a_screen_reader() {
    let Some(browser) = Browser::find() else { return };
    let tree = browser.tree(2000);
    let share = Share::start(&EVERYTHING, &tree);
    let password = password_file(browser.dir.path());
    let closed = Share::start(&["--no-announce", "--password-file", &password], &tree);
    browser.drive("access", &link(&share), &[&link(&closed)]);
}

#[test]
fn the_pages_before_a_share_and_those_without_scripts_work() {
    let Some(browser) = Browser::find() else { return };
    let tree = browser.tree(2000);
    let password = password_file(browser.dir.path());
    let args = ["--allow", "view,download,upload", "--no-announce", "--password-file", &password];
    let share = Share::start(&args, &tree);
    browser.drive("gates", &link(&share), &[env!("CARGO_BIN_EXE_linerate"), tree.to_str().unwrap()]);
}

#[test]
fn a_file_that_clamd_refuses_is_shown_as_refused_and_given_to_nobody() {
    let Some(browser) = Browser::find() else { return };
    let Some(clamd) = Clamd::start() else { return };
    let dir = browser.dir.path().join("scanned");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("before.txt"), "was here before").unwrap();
    let args = ["--upload", "--no-announce", "--scan", &clamd.place()];
    let share = Share::start(&args, &dir);
    browser.drive("scan", &link(&share), &[&clamd.pid().to_string()]);
}

#[test]
fn nothing_sticks_out_on_the_pictures_of_the_page() {
    let wanted = std::env::var_os("LINERATE_SCREENSHOTS").is_some();
    if skip_unless(wanted, "LINERATE_SCREENSHOTS names no folder for pictures") {
        return;
    }
    let Some(browser) = Browser::find() else { return };
    let share = Share::start(&EVERYTHING, &browser.tree(20));
    browser.drive("looks", &link(&share), &[]);
}
