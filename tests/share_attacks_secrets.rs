//! Those who have no link, no password, or another page: what they try, and what they learn.
#![cfg(feature = "web")]

mod common;

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use common::attack::shown;
use common::share::{Reply, Share, read_reply};
use common::{PATIENCE, folder, names_in};

const ALL: [&str; 2] = ["--allow", "view,download,upload,delete,chat"];
const WRONG: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// Ask as another machine would: from another address.
fn from(share: &Share, last: u8, request: &[u8]) -> Reply {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, last], 0)).into()).unwrap();
    socket.connect(&share.authority().parse::<SocketAddr>().unwrap().into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // What is refused before it was all sent has its answer, and no more takers.
    let _ = stream.write_all(request);
    read_reply(&mut BufReader::new(stream), false)
}

/// What the password's form sends from a page of the share.
fn login(share: &Share, link: &str, password: &str, origin: &str) -> Vec<u8> {
    let headers = ["Content-Type: application/x-www-form-urlencoded", &format!("Origin: {origin}")];
    share.bytes("POST /login", &headers, format!("link={link}&password={password}").as_bytes())
}

#[test]
fn guesses_are_slowed_down_and_keep_nobody_out_who_has_the_link() {
    let dir = folder();
    let share = Share::start(&[], dir.path());
    let enter = share.bytes(&format!("GET /t/{}", share.token), &[], b"");
    let guess_link = share.bytes(&format!("GET /t/{WRONG}"), &[], b"");
    let guess_bearer = share.bytes("GET /api/share", &[&format!("Authorization: Bearer {WRONG}")], b"");
    let guess_form = login(&share, WRONG, "x", &share.origin);
    // However it is guessed, it is the same count.
    let guesses = [&guess_link, &guess_bearer, &guess_form];
    let refused = (0..100).find_map(|n| {
        let reply = share.http(guesses[n % guesses.len()]);
        assert!(matches!(reply.status, 403 | 429), "{reply:?}");
        (reply.status == 429).then_some((n, reply))
    });
    let (count, reply) = refused.expect("a hundred guesses");
    assert!(count <= 10 && reply.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1, "{count} {reply:?}");
    for guess in guesses {
        // Whoever has waited may try once more, and waits twice as long then.
        let reply = (0..10).map(|_| share.http(guess)).find(|reply| reply.status == 429).expect("ten guesses");
        assert!(!reply.text().contains(&share.token), "{reply:?}");
    }
    // The right one lets in from the same address, and others may still mistype.
    assert_eq!((share.http(&enter).status, share.http(&shown(&share, "GET /api/share", &[], b"")).status), (200, 200));
    assert_eq!(from(&share, 2, &guess_link).status, 403);
    assert_eq!(from(&share, 2, &enter).status, 200);
    // What is no token at all says no more.
    for text in ["x", "", "%00", "..%2f", &"A".repeat(10_000), &share.token[1..], &format!("{}A", share.token), "%ff"] {
        let reply = from(&share, 3, &share.bytes(&format!("GET /t/{text}"), &[], b""));
        assert!(matches!(reply.status, 400 | 403 | 404 | 429), "{text:.30}: {reply:?}");
        assert!(reply.header("set-cookie").is_none() && !reply.text().contains(&share.token));
    }
    for value in ["Basic x", "Bearer", "Bearer ", "bearer x", "Bearer x y", &format!("Bearer {WRONG}{WRONG}")] {
        let request = share.bytes("GET /api/share", &[&format!("Authorization: {value}")], b"");
        assert!(matches!(from(&share, 4, &request).status, 401 | 403 | 429), "{value}");
    }
}

#[test]
fn passwords_are_guessed_slowly_and_the_link_alone_opens_nothing() {
    let dir = folder();
    std::fs::write(dir.path().join("a"), "kept").unwrap();
    let secret = folder();
    let file = secret.path().join("password");
    std::fs::write(&file, "open sesame\n").unwrap();
    let share = Share::start(&["--password-file", file.to_str().unwrap()], dir.path());
    let page = share.request(&format!("GET /t/{}", share.token), &[], b"");
    assert!(page.header("set-cookie").is_none() && page.text().contains("password"), "{page:?}");
    for target in ["/f/a", "/api/share", "/qr.svg", "/api/events", "/f/?zip"] {
        assert_eq!(share.http(&shown(&share, &format!("GET {target}"), &[], b"")).status, 401, "{target}");
    }
    let right = login(&share, &share.token, "open+sesame", &share.origin);
    // From elsewhere not even the right one is looked at; nor is it without the link.
    for origin in ["null", "http://evil.example", "https://127.0.0.1"] {
        assert_eq!(share.http(&login(&share, &share.token, "open+sesame", origin)).status, 403, "{origin}");
    }
    assert_eq!(from(&share, 9, &login(&share, WRONG, "open+sesame", &share.origin)).status, 403);
    let guess = |n: usize| share.http(&login(&share, &share.token, &format!("guess{n}"), &share.origin));
    let slowed = |n: usize| {
        let guessed = Instant::now();
        let reply = guess(n);
        assert!(reply.header("set-cookie").is_none(), "{reply:?}");
        let is_slowed = reply.status != 403;
        assert!(!is_slowed || reply.status == 429 && reply.header("retry-after").is_some(), "{reply:?}");
        (guessed, is_slowed)
    };
    // Whoever guesses has to wait even when he has it at last; nobody else has. On a machine so slow that the wait is
    // over by then, he guesses on, and waits longer.
    let mut last = Instant::now();
    let has_waited = (0..100).any(|n| {
        let (guessed, is_slowed) = slowed(n);
        if !is_slowed {
            last = guessed;
            return false;
        }
        let status = share.http(&right).status;
        assert!(status == 429 || last.elapsed() >= Duration::from_secs(1), "{status}");
        status == 429
    });
    assert!(has_waited, "a hundred guesses");
    let entered = from(&share, 2, &right);
    let cookie = entered.header("set-cookie").unwrap().split(';').next().unwrap().to_string();
    assert_eq!(
        (entered.status, share.request("GET /f/a", &[&format!("Cookie: {cookie}")], b"").text().as_str()),
        (200, "kept")
    );
    for body in ["", "link=x", "password=x", "link=&password=", "%ff=%ff", &"x".repeat(3 << 20)] {
        let headers = ["Content-Type: application/x-www-form-urlencoded", &format!("Origin: {}", share.origin)];
        let reply = from(&share, 5, &share.bytes("POST /login", &headers, body.as_bytes()));
        assert!(matches!(reply.status, 400 | 403 | 413), "{body:.20}: {reply:?}");
    }
    let done = share.end().expect(0);
    assert!(!format!("{done:?}").contains("sesame"), "{done:?}");
}

#[test]
fn only_cookies_that_this_run_gave_let_in() {
    let dir = folder();
    std::fs::write(dir.path().join("a"), "kept").unwrap();
    let earlier = Share::start(&[], dir.path());
    let old = earlier.enter();
    let share = Share::start(&[], dir.path());
    drop(earlier);
    let link = format!("GET /t/{}", share.token);
    // Shares of one machine have cookies of different names, since browsers tell each of those of all others.
    let (name, _) = share.enter().split_once('=').map(|(name, value)| (name.to_string(), value.to_string())).unwrap();
    let (other, value) = old.split_once('=').unwrap();
    assert_ne!(name, other);
    let both = format!("{old}; {}", share.enter().trim_start_matches("Cookie: "));
    assert_eq!(share.request("GET /f/a", &[&both], b"").text(), "kept");
    let more = ["=", "", "=\"\"", "=x; ;;=;"].map(|end| format!("{name}{end}"));
    let shouted = format!("Cookie: LR=x; {}=\"\"", name.trim_start_matches("Cookie: "));
    let wrong = [old.clone(), format!("{name}={value}"), format!("{name}={WRONG}"), shouted, "Cookie: \u{e4}".into()];
    for cookie in wrong.iter().chain(&more).map(String::as_str) {
        assert_eq!(share.request("GET /f/a", &[cookie], b"").status, 401, "{cookie}");
        assert_eq!(share.request("GET /", &[cookie], b"").status, 401, "{cookie}");
        // Whoever comes in with one gets another, which nobody else knows.
        let entered = share.request(&link, &[cookie], b"");
        let given = entered.header("set-cookie").unwrap();
        assert!(given.ends_with("; HttpOnly; SameSite=Strict; Path=/") && !given.contains(WRONG), "{given}");
        assert_eq!(share.request("GET /f/a", &[cookie], b"").status, 401, "{cookie}");
        let given = format!("Cookie: {}", given.split(';').next().unwrap());
        assert_eq!(share.request("GET /f/a", &[&given], b"").text(), "kept");
    }
    // The token itself is no cookie, and a cookie is no token.
    let mine = share.enter();
    let session = mine.split_once('=').unwrap().1.to_string();
    assert_eq!(share.request("GET /f/a", &[&format!("Cookie: lr={}", share.token)], b"").status, 401);
    assert_eq!(share.request("GET /f/a", &[&format!("Authorization: Bearer {session}")], b"").status, 403);
    // Whoever is in stays who he is.
    assert!(share.request(&link, &[&mine], b"").header("set-cookie").is_none());
    let done = share.end().expect(0);
    assert!(!format!("{done:?}").contains(&session), "{done:?}");
}

#[test]
fn a_foreign_page_changes_nothing_with_a_visitors_cookie() {
    let dir = folder();
    std::fs::write(dir.path().join("a"), "kept").unwrap();
    let share = Share::start(&ALL, dir.path());
    let cookie = share.enter();
    let own = format!("Origin: {}", share.origin);
    let (form, plain) = ("Content-Type: multipart/form-data; boundary=edge", "Content-Type: text/plain");
    let file: &[u8] =
        b"--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\nx\r\n--edge--\r\n";
    let tus = ["Tus-Resumable: 1.0.0", "Upload-Length: 0", "Upload-Metadata: filename eA=="];
    let json = "Content-Type: application/json";
    let changes: [(&str, &[&str], &[u8]); 9] = [
        ("POST /api/chat", &[json], b"{\"text\":\"x\"}"),
        ("POST /api/chat", &[plain], b"{\"text\":\"x\"}"),
        ("POST /upload/", &[form], file),
        ("POST /api/uploads", &tus, b""),
        ("PATCH /api/uploads/00000000000000000000000000000000", &tus[..1], b"x"),
        ("DELETE /api/uploads/00000000000000000000000000000000", &tus[..1], b""),
        ("PUT /f/x", &[], b"x"),
        ("DELETE /f/a", &[], b""),
        ("POST /archive", &["Content-Type: application/x-www-form-urlencoded"], b"item=a"),
    ];
    let origin_of_other_port = "Origin: http://127.0.0.1:1".to_string();
    let upper = format!("Origin: {}/", share.origin);
    let https = own.replace("http:", "https:");
    for (line, headers, body) in changes {
        for foreign in [
            &["Origin: null"][..],
            &["Origin: http://evil.example"],
            &["Origin:"],
            &[&origin_of_other_port],
            &[&https],
            &[&upper],
            &["Sec-Fetch-Site: cross-site"],
            &["Sec-Fetch-Site: same-site"],
            &["Sec-Fetch-Site: none"],
            &["Origin: null", "Sec-Fetch-Site: same-origin"],
            // Two of them: the first decides, and it is the worse one.
            &["Origin: http://evil.example", &own],
            &[],
        ] {
            let all = [&[cookie.as_str()][..], foreign, headers].concat();
            let reply = share.request(line, &all, body);
            assert_eq!(reply.status, 403, "{line} {foreign:?}: {reply:?}");
            assert!(reply.header("access-control-allow-origin").is_none(), "{reply:?}");
        }
    }
    assert_eq!(names_in(dir.path()), ["a"]);
    // No page elsewhere may even ask whether it could.
    let preflight = ["Origin: http://evil.example", "Access-Control-Request-Method: PUT"];
    for target in ["/f/x", "/api/chat", "/api/uploads", "/login"] {
        let reply = share.request(&format!("OPTIONS {target}"), &[&preflight[..], &[cookie.as_str()]].concat(), b"");
        assert!(!reply.headers.iter().any(|(name, _)| name.starts_with("access-control")), "{reply:?}");
    }
    // From its own page all of it can be done.
    let all = [cookie.as_str(), own.as_str()];
    assert_eq!(share.request("PUT /f/x", &all, b"x").status, 201);
    assert_eq!(share.request("DELETE /f/a", &all, b"").status, 204);
}

#[test]
fn the_token_is_told_to_nobody_who_does_not_have_it() {
    let dir = folder();
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    std::fs::write(dir.path().join("a.txt"), "hello").unwrap();
    let logs = folder();
    let log = logs.path().join("log");
    let share = Share::start(&[&ALL[..], &["--json", "--access-log", log.to_str().unwrap()]].concat(), dir.path());
    let (token, host) = (share.token.clone(), share.authority().to_string());
    let referer = format!("Referer: http://{host}/t/{token}");
    let (cookie, own) = (share.enter(), format!("Origin: {}", share.origin));
    let known = [cookie.as_str(), own.as_str(), referer.as_str()];
    let mut replies = Vec::new();
    for who in [&known[..], &[referer.as_str()]] {
        for target in [
            "/".to_string(),
            "/f/".to_string(),
            "/f/sub".to_string(),
            format!("/f/sub?{token}"),
            format!("/f/{token}"),
            format!("/f/{token}/?zip"),
            format!("/f/?sort={token}&order={token}"),
            format!("/f/?type={token}"),
            format!("/f/?page={token}"),
            format!("/api/list/?limit={token}"),
            format!("/api/search?q=a&type={token}"),
            format!("/api/search?q={token}&in={token}"),
            format!("/api/uploads/{token}"),
            format!("/x/t/{token}"),
            format!("/t/{token}/x"),
            format!("/T/{token}"),
            format!("//t/{token}"),
            format!("/a/{token}"),
            "/f/a.txt".to_string(),
            "/f/?zip".to_string(),
            "/f/?tar".to_string(),
            "/f/a.txt?blake3".to_string(),
            "/api/list/".to_string(),
            "/a/app.js".to_string(),
        ] {
            for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", &token] {
                let line = format!("{method} {target}");
                // What a client asks for by the token's name may not be made.
                if matches!(method, "PUT" | "DELETE") && !target.starts_with("/t") {
                    continue;
                }
                replies.push((line.clone(), share.request(&line, who, b"")));
            }
        }
        for (line, kind) in [
            ("POST /api/chat", "application/json"),
            ("POST /archive", "application/x-www-form-urlencoded"),
            ("POST /upload/", "multipart/form-data; boundary=edge"),
            ("POST /login", "application/x-www-form-urlencoded"),
            ("POST /api/uploads", &*format!("text/{token}")),
        ] {
            let kind = format!("Content-Type: {kind}");
            let headers = [who, &[&kind]].concat();
            replies.push((line.to_string(), share.request(line, &headers, format!("{{{token}").as_bytes())));
        }
    }
    let foreign = format!("GET /t/{token} HTTP/1.1\r\nHost: evil.example\r\n{referer}\r\n\r\n");
    replies.push((foreign.clone(), share.http(foreign.as_bytes())));
    let wrong_bearer = format!("Authorization: Bearer {token}x");
    replies.push((wrong_bearer.clone(), share.request("GET /f/", &[&wrong_bearer, &referer], b"")));
    for (line, reply) in &replies {
        let all = format!("{:?}{}", reply.headers, reply.text());
        assert!(!all.contains(&token), "{line}: {all}");
    }
    // Only those who are in are told, and only where they ask for it.
    assert!(share.request("GET /api/share", &[&cookie], b"").text().contains(&token));
    assert!(!share.request("GET /api/share", &[], b"").text().contains(&token));
    assert_eq!(share.request("GET /qr.svg", &[], b"").status, 401);
    let entered = share.request(&format!("GET /t/{token}"), &[&referer], b"");
    assert!(
        !entered.text().contains(&token) && entered.header("referrer-policy") == Some("no-referrer"),
        "{entered:?}"
    );
    let done = share.end().expect(0);
    let log = std::fs::read_to_string(log).unwrap();
    assert!(!done.stdout.contains(&token) && !done.stderr.contains(&token), "{done:?}");
    assert!(log.lines().count() > 100 && !log.contains(&token), "{log}");
}
