//! What comes to a share that speaks TLS and is none, or not the one that it seems.
#![cfg(feature = "web")]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use common::attack::heard;
use common::share::Share;
use common::{folder, linerate, skip_unless};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned};

/// Takes whoever answers: these tests look at what is said, not at who says it.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

fn started() -> (tempfile::TempDir, Share) {
    let dir = folder();
    std::fs::write(dir.path().join("a"), "hello").unwrap();
    let mut command = linerate(["share", "--upload", "--listen", "127.0.0.1:0"]);
    let share = Share::by(command.arg(dir.path()));
    assert!(share.origin.starts_with("https://"));
    (dir, share)
}

/// An encrypted connection, on which these protocols are offered.
fn encrypted(share: &Share, protocols: &[&[u8]]) -> StreamOwned<ClientConnection, TcpStream> {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().dangerous();
    let mut config = config.with_custom_certificate_verifier(Arc::new(Anybody)).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), share.connect())
}

/// All that is answered until the connection ends.
fn ask(share: &Share, protocols: &[&[u8]], request: &[u8]) -> String {
    let mut stream = encrypted(share, protocols);
    let _ = stream.write_all(request).and_then(|()| stream.flush());
    let mut answer = Vec::new();
    // Whoever closes without a word of farewell has closed, too.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn still_serves(share: &Share) {
    let request = share.bytes("GET /f/a", &[&share.bearer(), "Connection: close"], b"");
    let answer = ask(share, &[b"http/1.1"], &request);
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("hello"), "{answer}");
}

#[test]
fn what_is_no_tls_ends_and_leaves_others_alone() {
    let limit = linerate::sys::limits::raise_open_files().unwrap();
    if skip_unless(limit >= 2048, "too few files may be open at a time") {
        return;
    }
    let (_dir, share) = started();
    let garbage: Vec<u8> = (0..5000u32).flat_map(|n| n.wrapping_mul(0x9e37_79b9).to_be_bytes()).collect();
    // Those who begin and say nothing more keep a place, and nobody waiting.
    let mut silent: Vec<TcpStream> = (0..300).map(|_| share.connect()).collect();
    silent.iter_mut().skip(100).for_each(|stream| stream.write_all(b"\x16\x03\x01\x02").unwrap());
    let too_long = [&b"\x16\x03\x01\xff\xff"[..], &garbage].concat();
    let handshake = [&b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"[..], &garbage].concat();
    let no_hello = [&b"\x16\x03\x03\0\x04\x0e\0\0\0"[..], &[0; 100]].concat();
    let alert = b"\x15\x03\x01\0\x02\x02\x28".to_vec();
    let old = b"\x80\x2e\x01\x03\x01\0\x15\0\0\0\x10\x01\0\x80".to_vec();
    for bytes in [garbage, too_long, handshake, no_hello, alert, old, vec![0; 1 << 20], b"\x16".to_vec(), Vec::new()] {
        let mut stream = share.connect();
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let heard = heard(&mut stream);
        assert!(heard.statuses.is_empty() && !heard.text.contains("hello"), "{:?}: {heard:?}", bytes.get(..5));
    }
    still_serves(&share);
    drop(silent);
    let done = share.end().expect(0);
    assert!(!done.stderr.contains("panicked"), "{done:?}");
}

#[test]
fn plain_http_is_shown_the_way_without_what_it_told_everybody() {
    let (dir, share) = started();
    let (host, token) = (share.authority(), &share.token);
    let bearer = share.bearer();
    let mut answers = String::new();
    for (head, status) in [
        (format!("GET /t/{token} HTTP/1.1\r\nHost: {host}\r\n\r\n"), 307),
        (format!("GET /f/a HTTP/1.1\r\nHost: {host}\r\n{bearer}\r\n\r\n"), 307),
        (format!("PUT /f/x HTTP/1.1\r\nHost: {host}\r\n{bearer}\r\nContent-Length: 1\r\n\r\nx"), 307),
        (format!("POST /login HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1\r\n\r\nx"), 307),
        ("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_string(), 421),
        (format!("GET / HTTP/1.1\r\nHost: {host}@evil.example\r\n\r\n"), 421),
        ("GET / HTTP/1.0\r\n\r\n".to_string(), 421),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_string(), 0),
        (format!("GET /{} HTTP/1.1\r\nHost: {host}\r\n\r\n", "a".repeat(1 << 20)), 0),
        ("SSH-2.0-OpenSSH_9.9\r\n\r\n".to_string(), 400),
    ] {
        let mut stream = share.connect();
        let again = format!("GET /f/a HTTP/1.1\r\nHost: {host}\r\n{bearer}\r\n\r\n");
        let _ = stream.write_all((head.clone() + &again).as_bytes());
        let heard = heard(&mut stream);
        let is_said = if status == 0 { !heard.statuses.contains(&200) } else { heard.statuses == [status] };
        assert!(is_said && !heard.text.contains("hello"), "{head:.60}: {heard:?}");
        if status == 307 {
            assert!(heard.text.contains(&format!("location: https://{host}/\r\n")), "{heard:?}");
        }
        answers += &heard.text;
    }
    assert!(!answers.contains(token.as_str()) && !answers.contains("evil"), "{answers}");
    assert_eq!(common::names_in(dir.path()), ["a"]);
    still_serves(&share);
}

#[test]
fn only_http_1_is_spoken_inside_and_its_cookie_stays_inside() {
    let (_dir, share) = started();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for protocols in [&[&b"h2"[..]][..], &[b"h2", b"http/1.1"], &[b"h3"], &[]] {
        let mut stream = encrypted(&share, protocols);
        let _ = stream.conn.complete_io(&mut stream.sock);
        assert_ne!(stream.conn.alpn_protocol(), Some(&b"h2"[..]), "{protocols:?}");
        let answer = ask(&share, protocols, preface);
        assert!(!answer.contains("200") && !answer.contains("hello"), "{protocols:?}: {answer}");
    }
    let enter = share.bytes(&format!("GET /t/{}", share.token), &["Connection: close"], b"");
    let answer = ask(&share, &[b"http/1.1"], &enter);
    assert!(answer.contains("; HttpOnly; SameSite=Strict; Path=/; Secure\r\n"), "{answer}");
    // A page that came in the clear is not one of this share.
    let cookie = answer.split("set-cookie: ").nth(1).unwrap().split(';').next().unwrap();
    let clear = share.origin.replace("https:", "http:");
    for (origin, status) in [(clear.as_str(), "403"), (share.origin.as_str(), "201")] {
        let headers = [&format!("Cookie: {cookie}"), &format!("Origin: {origin}"), "Connection: close"];
        let answer = ask(&share, &[], &share.bytes("PUT /f/x", &headers, b"x"));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{origin}: {answer}");
    }
    still_serves(&share);
}
