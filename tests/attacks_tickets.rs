//! Tickets that are wrong, old, stolen or shown to the wrong server; and what those who have none may do.

mod common;

use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{SystemTime, UNIX_EPOCH};

use common::host::{Host, forged};
use common::peer::{Talk, TlsPeer, asked, dial, hello, join, preface, read_to_the_end, sending_job};
use common::{Running, file_of, folder, names_in, read_result, run_bounded, wait_until, wait_until_measuring};
use linerate::proto::gate::{Grant, TicketId};
use linerate::proto::message::{Message, Reply, Request};
use linerate::proto::ticket::{Rights, Secret, Ticket};
use linerate::tls::client::Pin;
use linerate::trust::identity::Identity;

/// Why a client must go.
#[track_caller]
fn why_turned_away(answer: Option<Message>) -> String {
    match answer {
        Some(Message::TurnedAway(away)) => away.why,
        other => panic!("not turned away: {other:?}"),
    }
}

/// A ticket of that host that ends so many seconds from now.
fn ticket_that_ends(host: &Host, in_s: i64) -> Ticket {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let secret = Secret([0x5e; 16]);
    let digest = secret.digest();
    let expires_unix_s = Some(now.checked_add_signed(in_s).unwrap());
    let (rights, folder, label) = (Rights::BENCH, Vec::new(), String::new());
    let id = TicketId::of(&digest);
    let grant = Grant { id, digest, rights, folder, expires_unix_s, uses_left: None, label, created_unix_s: now };
    host.store().add(grant, now).unwrap();
    Ticket { secret, expires_unix_s, ..host.ticket() }
}

#[test]
fn a_ticket_with_another_secret_is_refused() {
    let host = Host::start();
    let done = host.enter(&forged(&host.ticket()).encode().unwrap());
    done.expect_line(5, &[&host.serving.host(), "refused", "not known here"]);
    host.enter(&host.text).expect(0);
    let said = host.serving.end().expect(0).stderr;
    assert!(said.contains("served 1 sessions, ") && said.ends_with("; turned away 1\n"), "{said}");
}

#[test]
fn guessers_wait_and_a_right_ticket_from_their_address_does_not() {
    let host = Host::start();
    let (ticket, wrong) = (host.ticket(), forged(&host.ticket()));
    let mut guessers: Vec<Talk> = (0..8)
        .map(|_| {
            let mut talk = Talk::begin(host.serving.address(), Pin::Exactly(wrong.fingerprint));
            talk.peer.send_plain(&hello(Some(wrong.secret.clone()))).unwrap();
            talk
        })
        .collect();
    let mut honest = Talk::open(host.serving.address(), &ticket);
    assert!(matches!(honest.ask(Request::Describe), Reply::Described(_)));
    assert!(why_turned_away(guessers[0].hear()).contains("not known here"));
    assert_eq!(guessers[0].hear(), None, "the connection ends after it");
}

#[test]
fn a_text_that_is_no_ticket_is_said_to_be_mistyped_and_where_it_came_from() {
    let host = Host::start();
    let text = &host.text;
    let swapped = format!("{}{}{}", &text[..9], if &text[9..10] == "q" { "p" } else { "q" }, &text[10..]);
    let table = [
        (text[..text.len() - 1].to_string(), "mistyped or cut off"),
        (text[..20].to_string(), "mistyped or cut off"),
        (swapped, "mistyped or cut off"),
        (format!("{text}{text}"), "mistyped or cut off"),
        ("hunter2".to_string(), "no ticket"),
    ];
    let path = host.away().join("ticket");
    for (wrong, words) in table {
        let done = host.enter(&wrong).expect_line(2, &["LINERATE_TICKET", words]);
        assert!(!done.stderr.contains(&wrong), "it is shown: {done:?}");
        std::fs::write(&path, &wrong).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let done = run_bounded(&mut host.client(&["--ticket-file", "ticket"]));
        let done = done.expect_line(2, &["ticket: ", words]);
        assert!(!done.stderr.contains(&wrong), "it is shown: {done:?}");
    }
    let said = host.serving.end().expect(0).stderr;
    assert!(said.ends_with("; turned away 0\n"), "nothing was sent: {said}");
}

#[test]
fn an_expired_ticket_is_refused() {
    let host = Host::start();
    let ticket = ticket_that_ends(&host, -10);
    host.enter(&ticket.encode().unwrap()).expect_line(5, &["expired", "ask for a new one"]);
}

#[test]
fn a_ticket_that_expires_takes_its_session_along() {
    let host = Host::start();
    let ticket = ticket_that_ends(&host, 5);
    let mut talk = Talk::open(host.serving.address(), &ticket);
    assert!(why_turned_away(talk.hear()).contains("is over"));
    assert_eq!(talk.hear(), None);
}

#[test]
fn a_revoked_ticket_is_refused() {
    let host = Host::start();
    let text = host.new_ticket(&[]);
    host.enter(&text).expect(0);
    host.owner(&["ticket", "revoke", "--all"]).expect(0);
    host.enter(&text).expect_line(5, &["not known here", "revoked"]);
    // That of the run itself is not in the list of those that outlive it.
    host.enter(&host.text).expect(0);
}

#[test]
fn revoking_ends_the_session_with_its_next_job() {
    let host = Host::start();
    let ticket = Ticket::decode(&host.new_ticket(&[])).unwrap();
    let mut talk = Talk::open(host.serving.address(), &ticket);
    let (job, tokens) = talk.prepare(sending_job(1));
    let _stream = join(host.serving.address(), tokens[0]);
    assert!(matches!(talk.ask(Request::Start(job)), Reply::Started));
    host.owner(&["ticket", "revoke", "--all"]).expect(0);
    talk.send(Request::Prepare(Box::new(sending_job(1))));
    assert!(why_turned_away(talk.hear()).contains("revoked"));
    assert_eq!(talk.hear(), None);
}

#[test]
fn revoking_ends_a_measurement_that_keeps_what_it_has() {
    let host = Host::start();
    let text = host.new_ticket(&[]);
    let args = ["-q", "--no-latency", "--rounds", "1000", "--duration", "20ms"];
    let client = Running::start(host.client(&args).env("LINERATE_TICKET", &text));
    wait_until_measuring(host.serving.pid());
    host.owner(&["ticket", "revoke", "--all"]).expect(0);
    client.finish().expect_line(5, &["revoked", "what was measured until then is kept"]);
    assert!(!read_result(&host.away().join("run.json")).complete);
}

#[test]
fn a_ticket_of_one_use_lets_one_in_however_many_try() {
    let host = Host::start();
    let text = host.new_ticket(&["--uses", "1"]);
    let (address, ticket) = (host.serving.address(), Ticket::decode(&text).unwrap());
    let answers: Vec<Option<Message>> = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..4).map(|_| scope.spawn(|| Talk::greet(address, &ticket).1)).collect();
        tries.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let (let_in, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|answer| matches!(answer, Some(Message::Welcome(_))));
    assert_eq!(let_in.len(), 1);
    for answer in refused {
        assert!(why_turned_away(answer).contains("used as often as it may be"));
    }
    host.enter(&text).expect_line(5, &["used as often as it may be"]);
}

#[test]
fn a_ticket_of_another_server_is_never_shown_to_this_one() {
    let (host, other) = (Host::start(), Host::with(&["-vv"]));
    let done = other.enter(&host.text);
    let names = [host.ticket().fingerprint.to_string(), other.ticket().fingerprint.to_string()];
    let done = done.expect(6);
    assert!(done.stderr.contains("somebody else answers at this address"), "{done:#?}");
    assert!(names.iter().all(|name| done.stderr.contains(name)), "{done:#?}");
    let said = other.serving.end().expect(0).stderr;
    assert!(said.contains("served 0 sessions, 0 jobs") && said.ends_with("; turned away 0\n"), "{said}");
    assert!(!said.contains("outcome"), "it never came to a session: {said}");
}

#[test]
fn whoever_sits_in_between_is_refused_and_hears_no_secret() {
    let host = Host::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let between = std::thread::spawn(move || {
        let (sock, _) = listener.accept().unwrap();
        let heard = sock.try_clone().unwrap();
        let Err(error) = TlsPeer::server_over(sock, &Identity::ephemeral().unwrap()) else { panic!("it got through") };
        (error.to_string(), read_to_the_end(heard))
    });
    let mut client = host.somebody(&["bench", &address.to_string()]);
    let done = run_bounded(client.env("LINERATE_TICKET", &host.text));
    done.expect_line(6, &["its certificate has the fingerprint", "somebody else answers"]);
    let (error, heard) = between.join().unwrap();
    assert!(error.contains("broke off") && heard.is_empty(), "{error}; {heard:?}");
}

#[test]
fn a_wrong_fingerprint_is_refused_and_the_right_one_is_not() {
    let host = Host::with(&["--open-bench"]);
    let wrong = "sha256:".to_string() + &"5e".repeat(32);
    let right = host.ticket().fingerprint.to_string();
    let wrong = if right.starts_with("sha256:") { wrong } else { wrong["sha256:".len()..].to_string() };
    let done = run_bounded(&mut host.client(&["-q", "--fingerprint", &wrong]));
    done.expect_line(6, &[&right, "somebody else answers"]);
    run_bounded(&mut host.client(&["-q", "--fingerprint", &right])).expect(0);
}

#[test]
fn without_a_ticket_nobody_comes_in_and_is_told_how() {
    let host = Host::start();
    let done = run_bounded(&mut host.client(&[]));
    done.expect_line(5, &["holders of a ticket", "linerate ticket new", "linerate pair", "LINERATE_TICKET"]);
    assert!(!host.away().join("run.json").exists());
}

#[test]
fn what_a_ticket_does_not_allow_is_refused_and_the_rest_is_measured() {
    let dir = folder();
    file_of(dir.path(), "source", 1 << 20);
    let host = Host::of_folder(dir.path());
    let bench_only = host.new_ticket(&["--allow", "bench"]);
    let tries = [(["--sink", "new", "-d", "send"], "write"), (["--source", "source", "-d", "receive"], "read")];
    for (args, right) in tries {
        let done = run_bounded(host.client(&args).env("LINERATE_TICKET", &bench_only));
        let words = format!("this needs the right to bench,{right}; the ticket gives bench");
        assert!(done.stderr.contains(&words), "{done:#?}");
        done.expect(3);
        let document = read_result(&host.away().join("run.json"));
        assert!(document.complete && document.latency[0].count > 0, "latency is measured nevertheless");
    }
    assert_eq!(names_in(dir.path()), ["source"]);
    // What a ticket says is not more than what the server gives.
    let narrow = Host::with(&["--allow", "bench", &dir.path().display().to_string()]);
    let all = narrow.new_ticket(&["--allow", "bench,read,write"]);
    let done = run_bounded(narrow.client(&["--sink", "new"]).env("LINERATE_TICKET", &all)).expect(3);
    assert!(done.stderr.contains("the ticket gives bench"), "{done:#?}");
    assert_eq!(names_in(dir.path()), ["source"]);
}

#[test]
fn a_ticket_for_a_folder_reaches_nothing_beside_it() {
    let data = folder();
    std::fs::create_dir(data.path().join("pub")).unwrap();
    file_of(data.path(), "secret", 100_000);
    file_of(&data.path().join("pub"), "open", 100_000);
    std::os::unix::fs::symlink("../secret", data.path().join("pub/link")).unwrap();
    let host = Host::of_folder(data.path());
    let ticket = host.new_ticket(&["--allow", "bench,read,write", "--folder", "pub"]);
    let receive =
        |source: &str| run_bounded(host.client(&["--source", source, "-d", "receive"]).env("LINERATE_TICKET", &ticket));
    receive("open").expect(0);
    for source in ["../secret", "secret", "pub/open", "link", "/etc/passwd"] {
        // The latency is measured nevertheless.
        let done = receive(source);
        assert!(done.code == Some(3) && done.stderr.contains("1 of 2 measurements failed: server: "), "{done:#?}");
    }
    // A folder that is gone, or became a link to another, lets nobody in.
    std::fs::rename(data.path().join("pub"), data.path().join("gone")).unwrap();
    receive("open").expect_line(5, &["the folder of this ticket", "pub"]);
    std::os::unix::fs::symlink(".", data.path().join("pub")).unwrap();
    receive("open").expect_line(5, &["the folder of this ticket", "pub"]);
}

#[test]
fn strangers_measure_where_they_may_and_do_nothing_else() {
    let dir = folder();
    file_of(dir.path(), "source", 1 << 20);
    let host = Host::with(&["--open-bench", "--allow", "bench,read,write", &dir.path().display().to_string()]);
    run_bounded(&mut host.client(&["-q"])).expect(0);
    for args in [["--sink", "new", "-d", "send"], ["--source", "source", "-d", "receive"]] {
        let done = run_bounded(&mut host.client(&args)).expect(3);
        assert!(done.stderr.contains("this needs the right to bench,"), "{done:#?}");
    }
    assert_eq!(names_in(dir.path()), ["source"]);
}

#[test]
fn strangers_are_bounded_in_number_and_holders_of_a_ticket_come_in_all_the_same() {
    let host = Host::with(&["--open-bench", "--max-sessions", "1"]);
    let stranger = || {
        let mut talk = Talk::begin(host.serving.address(), Pin::Anybody);
        talk.peer.send_plain(&hello(None)).unwrap();
        let answer = talk.hear();
        (talk, answer)
    };
    let (first, answer) = stranger();
    assert!(matches!(answer, Some(Message::Welcome(_))), "{answer:?}");
    assert!(why_turned_away(stranger().1).contains("takes 1 clients without a ticket at a time"));
    run_bounded(&mut host.client(&[])).expect_line(5, &["try again later"]);
    host.enter(&host.text).expect(0);
    drop(first);
    wait_until("there is room again", || matches!(stranger().1, Some(Message::Welcome(_))));
}

#[test]
fn the_time_of_strangers_is_bounded_and_their_streams_end_with_it() {
    let host = Host::with(&["--open-bench", "--max-duration", "3s"]);
    let mut talk = Talk::begin(host.serving.address(), Pin::Anybody);
    talk.peer.send_plain(&hello(None)).unwrap();
    assert!(matches!(talk.hear(), Some(Message::Welcome(_))));
    let (job, tokens) = talk.prepare(sending_job(1));
    let stream = join(host.serving.address(), tokens[0]);
    talk.send(Request::Start(job));
    let mut last = talk.hear();
    while matches!(last, Some(Message::Reply { .. })) {
        last = talk.hear();
    }
    assert!(why_turned_away(last).contains("is over"));
    assert_eq!((talk.hear(), read_to_the_end(stream).len()), (None, 0));
    let args = ["-q", "--rounds", "1000", "--no-latency"];
    run_bounded(&mut host.client(&args)).expect_line(5, &["the time that this session was given is over"]);
}

#[test]
fn a_ticket_that_others_can_read_is_not_used() {
    let host = Host::start();
    let path = host.away().join("ticket");
    std::fs::write(&path, &host.text).unwrap();
    for mode in [0o644, 0o640, 0o604] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let words = ["ticket", &format!("{mode:04o}"), "chmod 600"];
        run_bounded(&mut host.client(&["--ticket-file", "ticket"])).expect_line(1, &words);
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    run_bounded(&mut host.client(&["-q", "--ticket-file", "ticket"])).expect(0);
}

#[test]
fn pairing_keeps_a_ticket_that_only_its_user_reads() {
    let host = Host::start();
    let there = host.serving.host();
    run_bounded(host.somebody(&["pair", &there]).env("LINERATE_TICKET", &host.text)).expect_line(0, &[&there, "bench"]);
    let peers = host.away().join("config/linerate/peers");
    let names = names_in(&peers);
    assert_eq!(names.len(), 1, "{names:?}");
    assert_eq!(std::fs::metadata(peers.join(&names[0])).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(std::fs::metadata(&peers).unwrap().mode() & 0o7777, 0o700);
    run_bounded(&mut host.client(&["-q"])).expect(0);
    let listed = run_bounded(&mut host.somebody(&["pair", "--list"])).expect(0);
    assert_eq!(listed.stdout, format!("{there}\n"));
    run_bounded(&mut host.somebody(&["pair", "--forget", &there])).expect(0);
    run_bounded(&mut host.client(&[])).expect_line(5, &["linerate pair"]);
}

#[test]
fn pairing_with_a_wrong_ticket_keeps_nothing() {
    let (host, other) = (Host::start(), Host::start());
    let there = host.serving.host();
    let forged = forged(&host.ticket()).encode().unwrap();
    for (text, code, word) in
        [(&forged, 5, "not known here"), (&other.text, 6, "fingerprint"), (&there, 2, "no ticket")]
    {
        run_bounded(host.somebody(&["pair", &there]).env("LINERATE_TICKET", text)).expect_line(code, &[word]);
        assert!(!host.away().join("config").exists(), "{word}: something was kept");
    }
}

#[test]
fn nothing_is_asked_before_the_hello_and_nothing_is_said_twice() {
    let host = Host::start();
    let ticket = host.ticket();
    let right = || hello(Some(ticket.secret.clone()));
    let request = || asked(1, Request::Describe);
    let before: [(&str, Vec<u8>); 3] = [
        ("a request instead of a hello", request()),
        ("a request right behind a wrong hello", [hello(Some(Secret([1; 16]))), request()].concat()),
        ("two hellos", [right(), right()].concat()),
    ];
    for (name, bytes) in before {
        let mut talk = Talk::begin(host.serving.address(), Pin::Exactly(ticket.fingerprint));
        talk.peer.send_plain(&bytes).unwrap();
        let heard: Vec<Message> = std::iter::from_fn(|| talk.hear()).collect();
        let described = heard.iter().any(|message| matches!(message, Message::Reply { .. }));
        assert!(!described && heard.len() <= 1, "{name}: {heard:?}");
    }
    let mut talk = Talk::open(host.serving.address(), &ticket);
    talk.peer.send_plain(&right()).unwrap();
    assert_eq!(talk.hear(), None, "a hello of who is in already");
    // And in the clear nobody is heard at all.
    use std::io::Write;
    let mut sock = dial(host.serving.address());
    sock.write_all(&[preface(), right()].concat()).unwrap();
    assert!(read_to_the_end(sock).starts_with(b"linerate: "));
}
