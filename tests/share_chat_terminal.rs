//! `linerate chat` on a terminal: the line that is being typed, and what others say meanwhile.
#![cfg(feature = "web")]

mod common;

use std::process::Command;

use common::person::Person;
use common::proxy::Proxy;
use common::pty::{Pty, foreign_controls};
use common::share::Share;
use common::{folder, linerate};

/// A share, reached as localhost through a proxy; and past it.
fn through(proxy: &Proxy, args: &[&str], dir: &std::path::Path) -> (Share, String) {
    let port = proxy.address().port();
    let at = format!("127.0.0.2:{port}");
    let mut command = linerate(["share", "--no-announce", "--listen", &at]);
    let share = Share::by(command.args(args).arg(dir));
    proxy.lead_to(Some(at.parse().unwrap()));
    let link = format!("{}/t/{}", share.origin.replace("127.0.0.2", "localhost"), share.token);
    (share, link)
}

fn chat(link: &str, args: &[&str]) -> Command {
    let mut command = linerate(["chat", link]);
    command.args(args).env("USER", "somebody");
    command
}

fn direct(share: &Share) -> String {
    format!("{}/t/{}", share.origin, share.token)
}

/// Wait until the row of the cursor is that.
#[track_caller]
fn wait_line(pty: &Pty, line: &str) {
    pty.wait(line, |screen| {
        let row = screen.rows(0, screen.size().1).nth(usize::from(screen.cursor_position().0))?;
        (row.trim_end() == line).then_some(())
    });
}

#[test]
fn what_others_say_does_not_tear_the_line_that_is_typed() {
    let dir = folder();
    let share = Share::start(&["--no-announce"], dir.path());
    let pty = Pty::start(&mut chat(&direct(&share), &[]), (24, 80));
    pty.wait_text("your name there [somebody]: ");
    pty.keys("Ann\r");
    pty.wait_text("you are Ann");
    pty.wait_text("here: Ann");
    wait_line(&pty, "Ann>");
    let mut bob = Person::enter(&mut chat(&direct(&share), &["--nick", "Bob\u{202e}"]));
    pty.wait_text("came: Bob");
    pty.keys("hello\r");
    assert_eq!(bob.hear(), "Ann: hello\n");
    pty.keys("half a li");
    wait_line(&pty, "Ann> half a li");
    bob.say("in between \u{1b}]0;PWNED\u{7}\u{1b}[2J\u{9b}31m\u{202e}");
    assert!(bob.hear().starts_with("Bob: in between"));
    pty.wait_line(&["Bob: in between"]);
    wait_line(&pty, "Ann> half a li");
    pty.keys("ne\r");
    assert_eq!(bob.hear(), "Ann: half a line\n");
    // What was said before is brought back, changed, and said again.
    pty.keys("\x1b[A");
    wait_line(&pty, "Ann> half a line");
    pty.keys("\x1b[A");
    wait_line(&pty, "Ann> hello");
    pty.keys(" again\r");
    assert_eq!(bob.hear(), "Ann: hello again\n");
    // A name with which the room has somebody already, long text, and one who goes.
    bob.say(&"word ".repeat(60));
    assert!(bob.hear().len() > 250);
    pty.wait_text("word word word");
    wait_line(&pty, "Ann>");
    drop(bob);
    pty.wait_text("went: Bob");
    wait_line(&pty, "Ann>");
    pty.keys("\x04");
    let (code, said) = pty.finish();
    assert_eq!(code, Some(0));
    assert_eq!(foreign_controls(&said), Vec::<String>::new());
}

#[test]
fn it_ends_in_order_however_it_is_ended() {
    let dir = folder();
    let share = Share::start(&["--no-announce"], dir.path());
    let enter = || {
        let pty = Pty::start(&mut chat(&direct(&share), &["--nick", "Ann"]), (24, 80));
        wait_line(&pty, "Ann>");
        pty.keys("never said");
        wait_line(&pty, "Ann> never said");
        pty
    };
    let by_key = enter();
    by_key.keys("\x03");
    assert_eq!(by_key.finish().0, Some(130));
    let by_signal = enter();
    by_signal.signal(libc::SIGTERM);
    assert_eq!(by_signal.finish().0, Some(130));
    // While it is asked for a name, too.
    let asked = Pty::start(&mut chat(&direct(&share), &[]), (24, 80));
    asked.wait_text("your name there");
    asked.keys("\x03");
    assert_ne!(asked.finish().0, Some(0));
    let left = enter();
    share.end().expect(0);
    let (code, said) = left.finish();
    assert_eq!((code, said.matches("the share has ended").count()), (Some(0), 1), "{said}");
    assert!(said.ends_with("the share has ended\r\n"), "{said:?}");
}

#[test]
fn a_connection_that_is_cut_is_made_again_and_nothing_is_missed() {
    let dir = folder();
    let proxy = Proxy::start("127.0.0.1:1".parse().unwrap());
    let (share, link) = through(&proxy, &["--http"], dir.path());
    let pty = Pty::start(&mut chat(&link, &["--nick", "Ann"]), (24, 80));
    wait_line(&pty, "Ann>");
    let mut bob = Person::enter(&mut chat(&direct(&share), &["--nick", "Bob"]));
    pty.wait_text("came: Bob");
    pty.keys("before");
    wait_line(&pty, "Ann> before");
    proxy.lead_to(None);
    proxy.cut();
    bob.say("said meanwhile");
    assert_eq!(bob.hear(), "Bob: said meanwhile\n");
    proxy.lead_to(Some(share.origin.split_once("://").unwrap().1.parse().unwrap()));
    pty.wait_text("connected again, as Ann");
    pty.wait_text("Bob: said meanwhile");
    wait_line(&pty, "Ann> before");
    pty.keys(" and after\r");
    assert_eq!(bob.hear(), "Ann: before and after\n");
    pty.keys("\x04");
    let (code, said) = pty.finish();
    assert_eq!(code, Some(0));
    assert_eq!(said.matches("said meanwhile").count(), 1, "{said}");
}
