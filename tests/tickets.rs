//! `linerate ticket` from outside: what it prints, what it keeps and where, and what it refuses.

mod common;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Done, Running, Serving, folder, linerate, names_in, run_bounded};
use linerate::proto::gate::{Denial, TicketId};
use linerate::proto::ticket::{Rights, Ticket};
use linerate::trust::places::Places;
use linerate::trust::ticket_store::TicketStore;
use linerate::trust::{TrustError, ticket_file};

/// A home of the test's own.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Home {
        Home(folder())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn places(&self) -> Places {
        Places { state: self.path("s/linerate"), config: self.path("c/linerate"), runtime: self.path("r/linerate") }
    }

    /// `linerate ticket` there.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = linerate(["ticket"]);
        command.args(args).current_dir(self.0.path()).env_remove("HOME");
        for (name, place) in [("XDG_STATE_HOME", "s"), ("XDG_CONFIG_HOME", "c"), ("XDG_RUNTIME_DIR", "r")] {
            command.env(name, self.path(place));
        }
        command
    }

    fn run(&self, args: &[&str]) -> Done {
        run_bounded(&mut self.command(args))
    }

    /// `linerate ticket new` that goes well, with its text.
    fn made(&self, args: &[&str]) -> (Ticket, String) {
        let done = self.run(&[&["new"], args].concat()).expect(0);
        let text = done.stdout.strip_suffix('\n').unwrap().to_string();
        let ticket = Ticket::decode(&text).unwrap();
        assert!(!done.stderr.contains("lr1") && done.stderr.contains(&id(&ticket)), "{done:#?}");
        (ticket, text)
    }

    fn listed(&self) -> Vec<serde_json::Value> {
        serde_json::from_str(&self.run(&["list", "--json"]).expect(0).stdout).unwrap()
    }
}

fn id(ticket: &Ticket) -> String {
    TicketId::of(&ticket.secret.digest()).to_string()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_ticket_says_what_was_asked_for() {
    let home = Home::new();
    let (plain, _) = home.made(&[]);
    assert_eq!((plain.rights, plain.expires_unix_s, plain.uses), (Rights::BENCH, None, None));
    assert!(!plain.addresses.is_empty() && plain.addresses.iter().all(|address| address.port == 5290));
    let args = ["--allow", "read,write", "--folder", "./pub/in", "--expires", "2101-01-31T12:00:00Z", "--uses", "3"];
    let (full, _) = home.made(&[&args[..], &["--address", "nas", "--address", "[2001:db8::1]:7"]].concat());
    assert_eq!((full.rights, full.uses), (Rights::READ.union(Rights::WRITE), Some(3)));
    assert_eq!((full.folder.as_slice(), full.expires_unix_s), (&b"pub/in"[..], Some(4_136_616_000)));
    let addresses: Vec<String> = full.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["nas:5290", "[2001:db8::1]:7"]);
    assert_eq!(plain.fingerprint, full.fingerprint, "it is the same machine");
    assert!(plain.secret != full.secret);
}

#[test]
fn the_list_shows_what_was_given_out_and_no_secret() {
    let home = Home::new();
    assert!(home.run(&["list"]).expect(0).stderr.contains("linerate ticket new"));
    assert_eq!(home.run(&["list", "--json"]).expect(0).stdout, "[]\n");
    let label = "al\u{1b}[2Jice";
    let (ticket, text) = home.made(&["--label", label, "--uses", "1", "--allow", "read", "--folder", "pub"]);
    home.made(&["--expires", "7d"]);
    let shown = home.run(&["list"]).expect(0).stdout;
    for word in [&id(&ticket), "read", "pub", "never", "valid", r"al\u{1b}[2Jice"] {
        assert!(shown.contains(word), "no {word:?} in {shown}");
    }
    let listed = home.listed();
    assert_eq!((listed.len(), &listed[0]["label"], &listed[0]["uses_left"]), (2, &label.into(), &1.into()));
    assert_eq!((&listed[0]["rights"], &listed[1]["folder"]), (&serde_json::json!(["read"]), &"".into()));
    let everything =
        format!("{shown}{listed:?}{}", std::fs::read_to_string(home.path("s/linerate/tickets.json")).unwrap());
    let secret: String = ticket.secret.0.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(!everything.contains(&text) && !everything.contains("lr1") && !everything.contains(&secret));
    // A server lets it in once.
    let mut store = TicketStore::open(&home.places()).unwrap();
    assert!(store.judge(&ticket.secret.digest(), 0).unwrap().is_ok());
    assert_eq!(store.judge(&ticket.secret.digest(), 0).unwrap(), Err(Denial::UsedUp));
    assert_eq!((&home.listed()[0]["status"], &home.listed()[1]["status"]), (&"used up".into(), &"valid".into()));
}

#[test]
fn what_is_revoked_is_gone_and_unknown_ids_are_named() {
    let home = Home::new();
    let tickets: Vec<Ticket> = (0..3).map(|_| home.made(&[]).0).collect();
    let mut store = TicketStore::open(&home.places()).unwrap();
    let mut judge = |n: usize| store.judge(&tickets[n].secret.digest(), 0).unwrap().map(|_| ());
    assert_eq!(judge(0), Ok(()));
    home.run(&["revoke", "nonesuch"]).expect_line(1, &["nonesuch", "linerate ticket list"]);
    let done = home.run(&["revoke", "nonesuch", &id(&tickets[0]).to_uppercase()]).expect(1);
    assert!(done.stderr.contains(&format!("revoked {}", id(&tickets[0]))), "{done:#?}");
    assert_eq!((judge(0), judge(1)), (Err(Denial::Unknown), Ok(())));
    home.run(&["revoke", ""]).expect(1);
    home.run(&["revoke", "--all"]).expect_line(0, &["revoked 2 tickets"]);
    assert_eq!((judge(1), judge(2)), (Err(Denial::Unknown), Err(Denial::Unknown)));
    assert!(home.listed().is_empty());
}

#[test]
fn everything_is_private_whatever_the_umask() {
    let home = Home::new();
    let program = env!("CARGO_BIN_EXE_linerate");
    let mut command = home.command(&[]);
    let script = format!("umask 0 && exec '{program}' ticket new --ticket-file ticket");
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).current_dir(home.0.path());
    shell.envs(command.env_remove("HOME").get_envs().filter_map(|(name, value)| Some((name, value?))));
    let done = run_bounded(&mut shell).expect(0);
    assert_eq!(done.stdout, "", "the ticket is in the file");
    let state = home.path("s/linerate");
    let names = names_in(&state);
    for name in ["identity.crt", "identity.key", "tickets.json"] {
        assert!(names.iter().any(|other| other == name), "{names:?}");
    }
    for path in names.iter().map(|name| state.join(name)).chain([home.path("ticket")]) {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    assert_eq!((mode(&state), mode(&home.path("s"))), (0o700, 0o700));
}

#[test]
fn a_ticket_file_is_new_and_of_no_use_when_others_can_read_it() {
    let home = Home::new();
    let path = home.path("ticket");
    home.run(&["new", "--ticket-file", "ticket"]).expect(0);
    let ticket = ticket_file::read(&path).unwrap().unwrap();
    home.run(&["new", "--ticket-file", "ticket"]).expect_line(1, &["--ticket-file", "ticket", "exists already"]);
    home.run(&["new", "--ticket-file", "no/such/folder"]).expect_line(1, &["no/such/folder", "No such file"]);
    assert_eq!(ticket_file::read(&path).unwrap().as_ref(), Some(&ticket));
    assert_eq!(home.listed().len(), 1, "a ticket that nobody has is not kept");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(ticket_file::read(&path), Err(TrustError::Exposed { mode: 0o644, .. })));
    for name in ["tickets.json", "identity.key"] {
        let path = home.path("s/linerate").join(name);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let words = [name, "0644", "chmod 600"];
        home.run(&["new"]).expect_line(1, &words);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    home.run(&["new"]).expect(0);
}

#[test]
fn two_at_once_have_one_identity_and_both_tickets() {
    let home = Home::new();
    let running: Vec<Running> = (0..4).map(|_| Running::start(&mut home.command(&["new"]))).collect();
    let tickets: Vec<Ticket> =
        running.into_iter().map(|one| Ticket::decode(&one.finish().expect(0).stdout).unwrap()).collect();
    assert!(tickets.iter().all(|ticket| ticket.fingerprint == tickets[0].fingerprint), "{tickets:?}");
    assert_eq!(home.listed().len(), 4);
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_made() {
    let home = Home::new();
    let long = "x".repeat(300);
    let far = format!("/{long}");
    let table: [(&[&str], &[&str]); 16] = [
        (&["new", "--allow", "fly"], &["fly", "bench, read, write"]),
        (&["new", "--allow", ""], &["bench, read, write"]),
        (&["new", "--folder", "/etc"], &["/etc", "leads out", "pub/inbox"]),
        (&["new", "--folder", "a/../.."], &["leads out"]),
        (&["new", "--folder", &far[1..], "--folder", &far], &["leads out"]),
        (&["new", "--expires", "soon"], &["soon", "7d", "2027-01-31T12:00:00Z"]),
        (&["new", "--expires", "2001-01-31T12:00:00Z"], &["over already"]),
        (&["new", "--uses", "0"], &["0", "--uses"]),
        (&["new", "--label", &long], &["at most 200"]),
        (&["new", "--address", "a b"], &["a b", "HOST:PORT"]),
        (&["new", "--address", "nas:99999"], &["nas:99999"]),
        (&["new", "lr1qqqq"], &["unexpected argument"]),
        (&["revoke"], &["<ID>"]),
        (&["revoke", "--all", "1a2b3c4d"], &["--all"]),
        (&[], &["Usage"]),
        (&["list", "all"], &["unexpected argument"]),
    ];
    for (args, words) in table {
        let done = home.run(args).expect(2);
        assert!(words.iter().all(|word| done.stderr.contains(word)), "{args:?}: {done:#?}");
        assert_eq!(done.stdout, "");
    }
    let many = ["--address", "nas"].repeat(9);
    home.run(&[&["new"][..], &many].concat()).expect_line(2, &["at most 8 addresses"]);
    assert!(!home.path("s/linerate/tickets.json").exists());
    let mut homeless = home.command(&["new"]);
    run_bounded(homeless.env_remove("XDG_STATE_HOME")).expect_line(1, &["XDG_STATE_HOME", "set HOME"]);
}

#[test]
fn a_server_s_ticket_names_the_port_it_listens_on_and_is_there_with_the_first_line() {
    let folder = folder();
    let file = folder.path().join("ticket");
    let file = file.to_str().unwrap();
    let serving = Serving::with(
        ["--listen", "127.0.0.1:0", "--address", "nas", "--address", "nas:7"]
            .into_iter()
            .chain(["--ticket-file", file]),
    );
    let ticket = ticket_file::read(Path::new(file)).unwrap().unwrap();
    let addresses: Vec<String> = ticket.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, [format!("nas:{}", serving.address().port()), "nas:7".to_string()]);
}
