//! Where a ticket may not turn up: in what either end says or logs, in results, in what other users see of a process.

mod common;

use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use common::host::forged;
use common::{
    Done, ONE_CELL, Running, Serving, at_home, bench, children_of, folder, linerate, run_bounded, wait_until,
    wait_until_measuring,
};
use linerate::proto::ticket::Ticket;
use linerate::trust::ticket_file;

/// Every form in which a ticket could be seen.
fn forms(ticket: &Ticket) -> Vec<Vec<u8>> {
    let text = ticket.encode().unwrap();
    let secret = &ticket.secret.0;
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let listed = format!("{secret:?}");
    let texts = [
        // Also a part of it, wherever it is cut.
        text[3..23].to_string(),
        text[23..43].to_string(),
        text[3..23].to_uppercase(),
        hex.to_uppercase(),
        hex,
        STANDARD_NO_PAD.encode(secret),
        URL_SAFE_NO_PAD.encode(secret),
        listed[1..listed.len() - 1].to_string(),
    ];
    texts.into_iter().map(String::into_bytes).chain([secret.to_vec()]).collect()
}

fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// None of the tickets is in it, in no form.
#[track_caller]
fn check(what: &str, said: impl AsRef<[u8]>, tickets: &[&Ticket]) {
    for ticket in tickets {
        for form in forms(ticket) {
            let shown = String::from_utf8_lossy(&form);
            assert!(!holds(said.as_ref(), &form), "{what}: {shown:?} in {}", String::from_utf8_lossy(said.as_ref()));
        }
    }
}

#[track_caller]
fn check_done(what: &str, done: &Done, tickets: &[&Ticket]) {
    check(what, &done.stdout, tickets);
    check(what, &done.stderr, tickets);
}

/// What other users, or a curious one, see of a process; but for the variable that is there for tickets.
fn seen(pid: u32) -> Vec<u8> {
    let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let environment = read("environ");
    let lines = environment.split(|byte| *byte == 0).filter(|line| !line.starts_with(b"LINERATE_TICKET="));
    [read("cmdline"), lines.collect::<Vec<_>>().concat()].concat()
}

/// A server at `home` that logs all it can and puts its ticket in a file there, and the ticket.
fn logging_server(home: &Path, options: &[&str]) -> (Serving, Ticket) {
    let path = home.join("serve.ticket");
    let mut command = linerate(["serve", "--listen", "127.0.0.1:0", "--ticket-file"]);
    let serving = Serving::by(at_home(command.arg(&path).args(options), home));
    wait_until("the ticket is written", || path.exists());
    (serving, ticket_file::read(&path).unwrap().unwrap())
}

/// A client that knows nothing but the ticket in its environment.
fn client(away: &Path, serving: &Serving, options: &[&str], ticket: &str) -> Command {
    let mut command = bench(away, ["--json", "run.json"]);
    command.args(&ONE_CELL[..4]).args(options).arg(serving.host()).env("LINERATE_TICKET", ticket);
    at_home(&mut command, away);
    command
}

#[test]
fn no_end_says_or_logs_a_ticket() {
    for options in [&["-vv"][..], &["-vv", "--log", "json"]] {
        let (home, away) = (folder(), folder());
        let (serving, ticket) = logging_server(home.path(), options);
        let wrong = forged(&ticket);
        let tickets = [&ticket, &wrong];
        let [right_text, wrong_text] = [&ticket, &wrong].map(|ticket| ticket.encode().unwrap());
        let tries = [
            (&right_text[..], 0),
            (&wrong_text, 5),
            (&right_text[..right_text.len() - 2], 2),
            (&format!("{right_text}\n{wrong_text}"), 2),
        ];
        for (text, code) in tries {
            let done = run_bounded(&mut client(away.path(), &serving, options, text)).expect(code);
            check_done("a client", &done, &tickets);
            let mut pair = linerate(["pair", &serving.host()]);
            let pair = at_home(pair.args(options).env("LINERATE_TICKET", text), away.path());
            check_done("pairing", &run_bounded(pair).expect(code), &tickets);
        }
        check("the result", std::fs::read(away.path().join("run.json")).unwrap(), &tickets);
        let mut list = linerate(["pair", "--list"]);
        check_done("the peers", &run_bounded(at_home(&mut list, away.path())).expect(0), &tickets);
        check("the server's process", seen(serving.pid()), &tickets);
        let said = serving.end().expect(0);
        assert!(said.stderr.contains("ticket refused"), "it did log: {said:?}");
        check_done("the server", &said, &tickets);
    }
}

#[test]
fn the_books_and_lists_of_a_server_hold_no_ticket() {
    let home = folder();
    let owner = |args: &[&str]| run_bounded(at_home(&mut linerate(args), home.path())).expect(0);
    let made = owner(&["ticket", "new", "--label", "x", "-vv"]);
    let ticket = Ticket::decode(made.stdout.trim()).unwrap();
    check("what is said of a new ticket", &made.stderr, &[&ticket]);
    for args in [&["ticket", "list"][..], &["ticket", "list", "--json"], &["ticket", "revoke", "--all", "-vv"]] {
        let book = std::fs::read(home.path().join("state/linerate/tickets.json")).unwrap();
        check("the book", book, &[&ticket]);
        check_done(&args.join(" "), &owner(args), &[&ticket]);
    }
}

#[test]
fn no_process_that_is_started_shows_a_ticket() {
    let (home, away) = (folder(), folder());
    let (_serving, ticket) = logging_server(home.path(), &[]);
    let endless = ["bench", "-q", "--no-latency", "--json", "run.json", "--rounds", "1000", "--duration", "1s"];
    let mut command = linerate(endless);
    let command = at_home(command.current_dir(away.path()), away.path());
    let running = Running::start(command.env("LINERATE_TICKET", ticket.encode().unwrap()));
    wait_until("it has a server", || !children_of(running.pid()).is_empty());
    let server = children_of(running.pid())[0];
    wait_until_measuring(server);
    assert!(holds(&seen(server), b"--ticket-on-stdout"));
    for pid in [running.pid(), server] {
        let seen = seen(pid);
        check("a process", &seen, &[&ticket]);
        // The server's own ticket, which nobody but its client knows.
        let is_ticket = |at: usize| seen[at..].iter().take_while(|byte| byte.is_ascii_alphanumeric()).count() > 40;
        let mut starts = seen.windows(3).enumerate().filter(|(_, three)| three == b"lr1").map(|(at, _)| at);
        assert!(!starts.any(is_ticket), "{}", String::from_utf8_lossy(&seen));
    }
    running.signal(libc::SIGINT);
    check_done("what is cut short", &running.finish().expect(130), &[&ticket]);
}

#[test]
fn the_ticket_of_a_server_for_a_program_goes_to_that_program_and_nowhere_else() {
    let home = folder();
    let mut command = linerate(["serve", "--once", "--ticket-on-stdout", "--listen", "127.0.0.1:0", "-vv"]);
    // It ends with its standard input.
    let (stdin, program) = std::io::pipe().unwrap();
    drop(program);
    let done = run_bounded(at_home(command.stdin(stdin), home.path())).expect(0);
    let text = done.stdout.trim().strip_prefix("linerate-ticket ").unwrap();
    let ticket = Ticket::decode(text).unwrap();
    check("what it says besides", &done.stderr, &[&ticket]);
    let run = home.path().join("run/linerate");
    assert!(!run.exists() || common::names_in(&run).iter().all(|name| !name.ends_with(".ticket")), "it is published");
}
