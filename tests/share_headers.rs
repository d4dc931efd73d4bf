//! What every kind of answer of a share tells a browser about what it may do with it.
#![cfg(feature = "web")]

mod common;

use common::attack::shown;
use common::folder;
use common::share::{Reply, Share};

/// No answer is another's business, guessed at, or told on.
fn is_hard(what: &str, reply: &Reply) {
    let header = |name: &str| reply.header(name).unwrap_or_else(|| panic!("{what} has no {name}: {reply:?}"));
    assert_eq!(header("x-content-type-options"), "nosniff", "{what}");
    for name in ["cross-origin-opener-policy", "cross-origin-resource-policy"] {
        assert_eq!(header(name), "same-origin", "{what}");
    }
    let policy = header("content-security-policy");
    assert!(policy.contains("default-src 'none'"), "{what}: {policy}");
    assert!(!policy.contains("unsafe") && !policy.contains("http:") && !policy.contains('*'), "{what}: {policy}");
    assert!(matches!(header("referrer-policy"), "no-referrer" | "same-origin" | "strict-origin"), "{what}");
    assert!(
        header("x-frame-options") == "DENY" && !policy.contains("blob:") && !policy.contains("frame-src"),
        "{what}"
    );
    assert!(header("permissions-policy").contains("geolocation=()"), "{what}");
    assert!(matches!(header("cache-control"), "no-store" | "no-cache" | "private, no-cache"), "{what}");
    for name in ["access-control-allow-origin", "server", "x-powered-by", "refresh"] {
        assert!(reply.header(name).is_none(), "{what} has {name}: {reply:?}");
    }
    let once = |name: &str| reply.headers.iter().filter(|(known, _)| known == name).count();
    for name in ["content-security-policy", "content-type", "content-length", "cache-control", "referrer-policy"] {
        assert!(once(name) <= 1, "{what} has {name} twice: {reply:?}");
    }
}

/// What is asked, with which header lines and body; the status, the type, and whether the answer may be kept.
type Row<'a> = (&'a str, &'a [&'a str], &'a str, u16, &'a str, &'a str);

#[test]
fn every_kind_of_answer_says_what_may_be_done_with_it() {
    let dir = folder();
    for name in
        ["a.txt", "a.html", "a.svg", "a.xml", "a.xhtml", "a.pdf", "a.js", "a.png", "a.mp4", "a", "a.mhtml", "a.swf"]
    {
        std::fs::write(dir.path().join(name), "<script xmlns=\"http://www.w3.org/1999/xhtml\">alert(1)</script>")
            .unwrap();
    }
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    let share = Share::start(&["--allow", "view,download,upload,delete,chat"], dir.path());
    let (json, html) = ("application/json", "text/html; charset=utf-8");
    let form = "Content-Type: application/x-www-form-urlencoded";
    let tus = ["Tus-Resumable: 1.0.0", "Upload-Length: 1", "Upload-Metadata: filename eA=="];
    let table: &[Row<'_>] = &[
        ("GET /f/", &[], "", 200, html, "no-store"),
        ("HEAD /f/", &[], "", 200, html, "no-store"),
        ("GET /f/sub", &[], "", 308, "", "no-store"),
        ("GET /f/none", &[], "", 404, html, "no-store"),
        ("GET /f/none", &["Accept: application/json"], "", 404, json, "no-store"),
        ("GET /none", &[], "", 404, html, "no-store"),
        ("GET /", &[], "", 401, html, "no-store"),
        ("GET /f/?page=x", &[], "", 400, html, "no-store"),
        ("GET /api/list/?limit=x", &[], "", 400, json, "no-store"),
        ("GET /api/list/", &[], "", 200, json, "no-store"),
        ("GET /api/share", &[], "", 200, json, "no-store"),
        ("GET /api/none", &[], "", 404, json, "no-store"),
        ("GET /api/search?q=a", &[], "", 200, "application/x-ndjson", "no-store"),
        ("GET /f/a.txt?blake3", &[], "", 200, json, "no-store"),
        ("GET /qr.svg", &[], "", 200, "image/svg+xml", "no-store"),
        ("GET /a/app.js", &[], "", 200, "text/javascript; charset=utf-8", "no-cache"),
        ("GET /a/none", &[], "", 404, html, "no-store"),
        ("GET /f/?zip", &[], "", 200, "application/zip", "no-store"),
        ("GET /f/sub/?tar", &[], "", 200, "application/x-tar", "no-store"),
        ("POST /archive", &[form], "item=a.txt", 200, "application/zip", "no-store"),
        ("POST /archive", &["Content-Type: text/plain"], "item=a.txt", 415, html, "no-store"),
        ("POST /archive", &[form], "%", 400, html, "no-store"),
        ("POST /api/chat", &["Content-Type: application/json"], "{\"text\":\"x\"}", 204, "", "no-store"),
        ("POST /api/chat", &["Content-Type: application/json"], "{", 400, json, "no-store"),
        ("POST /f/a.txt", &[], "", 405, html, "no-store"),
        ("POST /api/share", &[], "", 405, json, "no-store"),
        ("OPTIONS /api/uploads", &[], "", 204, "", "no-store"),
        ("POST /api/uploads", &tus, "", 201, "", "no-store"),
        ("POST /api/uploads", &[], "", 412, json, "no-store"),
        ("HEAD /api/uploads/x", &tus[..1], "", 404, json, "no-store"),
        ("PUT /f/new", &[], "x", 201, "", "no-store"),
        ("PUT /f/.new", &[], "x", 409, html, "no-store"),
        ("POST /upload/", &["Content-Type: multipart/form-data; boundary=edge"], "--edge--\r\n", 303, "", "no-store"),
        ("DELETE /f/new", &[], "", 204, "", "no-store"),
        ("GET /f/a.txt", &["Host: evil.example"], "", 400, html, "no-store"),
        ("PUT /f/new", &["Transfer-Encoding: gzip, chunked"], "", 501, html, "no-store"),
        ("GET /f/a.txt", &["Range: bytes=99999-"], "", 416, html, "private, no-cache"),
        ("GET /f/a.txt", &["If-Match: \"x\""], "", 412, html, "private, no-cache"),
        ("GET /f/a.txt", &["Range: bytes=0-1"], "", 206, "application/octet-stream", "private, no-cache"),
        ("GET /f/a.txt", &["If-None-Match: *"], "", 304, "", "private, no-cache"),
        ("HEAD /f/a.txt", &[], "", 200, "application/octet-stream", "private, no-cache"),
    ];
    for (line, headers, body, status, kind, kept) in table {
        let reply = share.http(&shown(&share, line, headers, body.as_bytes()));
        assert_eq!(reply.status, *status, "{line} {headers:?}: {reply:?}");
        assert_eq!(reply.header("content-type").unwrap_or_default(), *kind, "{line} {headers:?}: {reply:?}");
        let given = reply.header("cache-control").unwrap_or_default();
        assert!(given == *kept || *status >= 400 && given == "no-store", "{line}: {given}");
        is_hard(line, &reply);
    }
    // Those without any right to be here.
    let entered = share.request(&format!("GET /t/{}", share.token), &[], b"");
    let refused = [
        share.request("GET /f/", &[], b""),
        share.request("GET /t/AAAAAAAAAAAAAAAAAAAAAA", &[], b""),
        share.http(b"GET /f/ HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
        share.request("DELETE /f/a.txt", &["Cookie: lr=x"], b""),
    ];
    for (reply, status) in refused.iter().chain([&entered]).zip([401, 403, 421, 403, 200]) {
        assert_eq!(reply.status, status, "{reply:?}");
        is_hard("without a right", reply);
        assert!(reply.header("content-security-policy").unwrap().contains("frame-ancestors 'none'"), "{reply:?}");
    }
}

#[test]
fn files_of_visitors_are_kept_or_shown_and_never_run() {
    let dir = folder();
    let script = "<script xmlns=\"http://www.w3.org/1999/xhtml\">alert(1)</script>";
    let names = [
        "a.txt",
        "a.html",
        "a.htm",
        "a.svg",
        "a.svgz",
        "a.xml",
        "a.xhtml",
        "a.pdf",
        "a.js",
        "a.mjs",
        "a.css",
        "a.png",
        "a.mp4",
        "a.mp3",
        "a",
        "a.mhtml",
        "a.swf",
        "a.wasm",
        "a.xsl",
        "a.rdf",
        "a.vtt",
        "a.zip",
        "a.docx",
        "a.html.png",
    ];
    for name in names {
        std::fs::write(dir.path().join(name), script).unwrap();
    }
    let share = Share::start(&[], dir.path());
    for name in names {
        let get = |query: &str| share.http(&shown(&share, &format!("GET /f/{name}{query}"), &[], b""));
        let kept = get("");
        assert_eq!(kept.header("content-type"), Some("application/octet-stream"), "{name}");
        assert!(kept.header("content-disposition").unwrap().starts_with("attachment; filename="), "{name}: {kept:?}");
        is_hard(name, &kept);
        let seen = get("?view");
        assert_eq!((seen.status, seen.text().as_str()), (200, script));
        is_hard(name, &seen);
        // In a box without scripts, forms, or an origin, that only our own pages show.
        let policy = seen.header("content-security-policy").unwrap();
        assert!(policy.starts_with("sandbox;") && !policy.contains("allow-") && !policy.contains("script"), "{policy}");
        let kind = seen.header("content-type").unwrap();
        let is_inert = ["text/plain", "application/octet-stream", "image/", "audio/", "video/"];
        assert!(is_inert.iter().any(|known| kind.starts_with(known)) && !kind.contains("svg"), "{name}: {kind}");
    }
    assert_eq!(share.request("GET /f/a.html?view", &[], b"").status, 401);
}
