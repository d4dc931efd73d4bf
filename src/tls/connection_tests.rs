//! Two TLS connections over a wire that cuts anywhere, and peers that lie.

use proptest::prelude::*;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::{CipherSuiteCommon, SupportedCipherSuite, Tls13CipherSuite};

use super::super::client::{self, Pin};
use super::super::{Ciphers, server};
use super::*;
use crate::proto::ticket::Fingerprint;
use crate::trust::identity::Identity;

/// Two ends, and what each has said so far in plaintext.
struct Pair {
    client: TlsConnection,
    server: TlsConnection,
    client_heard: Vec<u8>,
    server_heard: Vec<u8>,
    /// Ciphertext that was sent, in pieces.
    wire_bytes: Vec<u8>,
}

fn identity() -> Identity {
    Identity::ephemeral().expect("an identity")
}

impl Pair {
    fn of(ciphers: &Ciphers, pin: impl Fn(Fingerprint) -> Pin) -> Pair {
        let identity = identity();
        let pin = pin(identity.fingerprint());
        Pair {
            client: TlsConnection::client(client::config(ciphers, pin).unwrap()).unwrap(),
            server: TlsConnection::server(server::config(ciphers, &identity).unwrap()).unwrap(),
            client_heard: Vec::new(),
            server_heard: Vec::new(),
            wire_bytes: Vec::new(),
        }
    }

    fn shaken() -> Pair {
        let mut pair = Pair::of(&Ciphers::of_this_machine(), Pin::Exactly);
        pair.exchange(usize::MAX).unwrap();
        assert!(!pair.client.is_handshaking() && !pair.server.is_handshaking());
        pair
    }

    /// Carry what the protocol says, in pieces of at most `cut`, until both are silent.
    fn exchange(&mut self, cut: usize) -> Result<(), TlsError> {
        loop {
            let there = transmit(&mut self.client, cut);
            self.wire_bytes.extend_from_slice(&there);
            deliver(&mut self.server, &there, &mut self.server_heard)?;
            let back = transmit(&mut self.server, cut);
            self.wire_bytes.extend_from_slice(&back);
            deliver(&mut self.client, &back, &mut self.client_heard)?;
            if there.is_empty() && back.is_empty() {
                return Ok(());
            }
        }
    }

    /// The client says something, which arrives in pieces of at most `cut`.
    fn say(&mut self, plain: &[u8], cut: usize) -> Result<(), TlsError> {
        let sealed = seal(&mut self.client, plain);
        for piece in sealed.chunks(cut) {
            deliver(&mut self.server, piece, &mut self.server_heard)?;
        }
        self.wire_bytes.extend_from_slice(&sealed);
        Ok(())
    }
}

fn transmit(from: &mut TlsConnection, cut: usize) -> Vec<u8> {
    let piece = from.poll_transmit()[..from.poll_transmit().len().min(cut)].to_vec();
    from.handle_sent(piece.len());
    piece
}

fn deliver(to: &mut TlsConnection, piece: &[u8], heard: &mut Vec<u8>) -> Result<(), TlsError> {
    if piece.is_empty() {
        return Ok(());
    }
    let mut buffer = vec![0; REST_BYTES_MAX + piece.len()];
    let waiting = to.carry_over(&mut buffer);
    buffer[waiting..waiting + piece.len()].copy_from_slice(piece);
    to.handle_ciphertext(&mut buffer[..waiting + piece.len()], &mut |plain| heard.extend_from_slice(plain))
}

fn seal(from: &mut TlsConnection, plain: &[u8]) -> Vec<u8> {
    let mut sealed = vec![0; sealed_bytes_max(plain.len())];
    let n = from.encrypt(plain, &mut sealed).unwrap();
    sealed.truncate(n);
    sealed
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn the_wrong_certificate_ends_the_handshake_before_we_say_a_word() {
    let mut pair = Pair::of(&Ciphers::of_this_machine(), |_| Pin::Exactly(identity().fingerprint()));
    let error = pair.exchange(usize::MAX).unwrap_err();
    assert!(matches!(error, TlsError::Fingerprint { .. }), "{error}");
    assert!(pair.client.is_handshaking() && pair.client.encrypt(b"secret", &mut [0; 600]).is_err());
    // The alert tells the server, which has heard nothing else.
    let alert = transmit(&mut pair.client, usize::MAX);
    assert!(!alert.is_empty());
    assert!(deliver(&mut pair.server, &alert, &mut pair.server_heard).is_err() && pair.server_heard.is_empty());
}

#[test]
fn a_copied_certificate_without_its_key_is_worth_nothing() {
    let (real, thief) = (identity(), identity());
    let stolen = Identity { certificate_der: real.certificate_der.clone(), key_pkcs8_der: thief.key_pkcs8_der };
    // rustls refuses such a pair by itself; a thief would have his own software, so the signature is what counts.
    let ciphers = Ciphers::of_this_machine();
    assert!(server::config(&ciphers, &stolen).is_err());
    let config = forged_config(&ciphers, &stolen);
    let mut client =
        TlsConnection::client(client::config(&ciphers, Pin::Exactly(real.fingerprint())).unwrap()).unwrap();
    let mut server = TlsConnection::server(config).unwrap();
    deliver(&mut server, &transmit(&mut client, usize::MAX), &mut Vec::new()).unwrap();
    let error = deliver(&mut client, &transmit(&mut server, usize::MAX), &mut Vec::new()).unwrap_err();
    assert!(matches!(error, TlsError::Unproven), "{error:?}");
}

#[test]
fn what_speaks_something_else_is_named_in_words_for_a_person() {
    // A ServerHello of TLS 1.2: random, no session, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, no compression.
    let body = [&[3, 3][..], &[7; 32], &[0, 0xc0, 0x2f, 0]].concat();
    let old = [&[22, 3, 3, 0, 42, 2, 0, 0, 38][..], &body].concat();
    let table: [(&[u8], &str); 8] = [
        (b"SSH-2.0-x\r\n", "does not speak the linerate protocol (TLS 1.3)"),
        (b"l", "is this the port of `linerate serve`?"),
        (&[0; 8], "does not speak the linerate protocol"),
        (&[21, 3, 3, 0, 2, 2, 120], "does not speak the linerate protocol"),
        (&[21, 3, 3, 0, 2, 2, 70], "not as linerate does (protocol version)"),
        (&[21, 3, 3, 0, 2, 2, 40], "not as linerate does (handshake failure)"),
        (&[21, 3, 3, 0, 2, 2, 80], "broke off the TLS connection (internal error)"),
        (&old, "not as linerate does (server "),
    ];
    for (answer, words) in table {
        let mut client =
            TlsConnection::client(client::config(&Ciphers::of_this_machine(), Pin::Anybody).unwrap()).unwrap();
        let error = deliver(&mut client, answer, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains(words), "{answer:?}: {error}");
        assert!(deliver(&mut client, answer, &mut Vec::new()).is_err(), "a failure is final");
    }
}

/// A server that presents a certificate to which it has no key.
fn forged_config(ciphers: &Ciphers, stolen: &Identity) -> Arc<ServerConfig> {
    #[derive(Debug)]
    struct Forger(Arc<rustls::sign::CertifiedKey>);
    impl rustls::server::ResolvesServerCert for Forger {
        fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
            Some(self.0.clone())
        }
    }
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(stolen.key_pkcs8_der.to_vec());
    let key = ciphers.provider.key_provider.load_private_key(key.into()).unwrap();
    let chain = vec![stolen.certificate_der.clone().into()];
    let forger = Forger(Arc::new(rustls::sign::CertifiedKey::new(chain, key)));
    let mut config = ServerConfig::builder_with_provider(ciphers.provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(forger));
    config.alpn_protocols = vec![PROTOCOL_NAME.to_vec()];
    Arc::new(config)
}

#[test]
fn another_protocol_inside_tls_is_refused() {
    let (ciphers, identity) = (Ciphers::of_this_machine(), identity());
    for names in [vec![b"h2".to_vec()], Vec::new()] {
        let mut config = client::config(&ciphers, Pin::Anybody).unwrap().as_ref().clone();
        config.alpn_protocols = names;
        let mut client = TlsConnection::client(Arc::new(config)).unwrap();
        let mut server = TlsConnection::server(server::config(&ciphers, &identity).unwrap()).unwrap();
        let mut refused = false;
        for _ in 0..3 {
            refused |= deliver(&mut server, &transmit(&mut client, usize::MAX), &mut Vec::new()).is_err();
            refused |= deliver(&mut client, &transmit(&mut server, usize::MAX), &mut Vec::new()).is_err();
        }
        assert!(refused);
    }
}

#[test]
fn nothing_is_readable_on_the_wire() {
    let mut pair = Pair::shaken();
    pair.say(b"a ticket, a path and a digest", 100).unwrap();
    assert_eq!(pair.server_heard, b"a ticket, a path and a digest");
    assert!(!contains(&pair.wire_bytes, b"a ticket") && !contains(&pair.wire_bytes, b"digest"));
}

#[test]
fn an_end_is_only_an_end_when_the_peer_says_so() {
    let mut pair = Pair::shaken();
    pair.say(b"all of it", 7).unwrap();
    assert!(!pair.server.is_peer_closed());
    pair.client.close();
    pair.exchange(5).unwrap();
    assert!(pair.server.is_peer_closed() && !pair.client.is_peer_closed());
}

#[test]
fn a_changed_byte_ends_the_connection_for_good() {
    let mut pair = Pair::shaken();
    let mut sealed = seal(&mut pair.client, b"pay 10");
    let middle = sealed.len() / 2;
    sealed[middle] ^= 1;
    assert!(deliver(&mut pair.server, &sealed, &mut pair.server_heard).is_err());
    assert!(pair.server_heard.is_empty());
    assert!(matches!(pair.say(b"more", 9), Err(TlsError::NotReady)));
}

#[test]
fn a_repeated_record_is_refused() {
    let mut pair = Pair::shaken();
    let sealed = seal(&mut pair.client, b"once");
    deliver(&mut pair.server, &sealed, &mut pair.server_heard).unwrap();
    assert!(deliver(&mut pair.server, &sealed, &mut pair.server_heard).is_err());
    assert_eq!(pair.server_heard, b"once");
}

#[test]
fn keys_are_changed_in_time() {
    let SupportedCipherSuite::Tls13(real) = TLS13_AES_128_GCM_SHA256;
    let common = CipherSuiteCommon { confidentiality_limit: 16, ..real.common };
    let impatient: &'static Tls13CipherSuite = Box::leak(Box::new(Tls13CipherSuite { common, ..*real }));
    let mut pair = Pair::of(&Ciphers::of(vec![SupportedCipherSuite::Tls13(impatient)], false), Pin::Exactly);
    pair.exchange(usize::MAX).unwrap();
    let piece = vec![5; 3 * RECORD_PLAIN_BYTES];
    // A record adds its header, its type and its tag; what is more than that is a message of the protocol's own.
    let (sealed_bytes, mut updates) = (piece.len() + 3 * (5 + 1 + 16), 0);
    for _ in 0..100 {
        let before = pair.wire_bytes.len();
        pair.say(&piece, 100_000).unwrap();
        updates += usize::from(pair.wire_bytes.len() - before > sealed_bytes);
    }
    assert_eq!(pair.server_heard.len(), 100 * piece.len());
    assert!(updates >= 300 / 16, "the keys were changed {updates} times in 300 records");
}

#[test]
fn an_end_without_aes_is_spared_it() {
    use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256;
    let fast = Ciphers::of(vec![TLS13_AES_128_GCM_SHA256, TLS13_CHACHA20_POLY1305_SHA256], false);
    let slow = Ciphers::of(vec![TLS13_CHACHA20_POLY1305_SHA256, TLS13_AES_128_GCM_SHA256], true);
    for (ours, theirs, agreed) in [
        (&fast, &fast, "TLS_AES_128_GCM_SHA256"),
        (&slow, &fast, "TLS_CHACHA20_POLY1305_SHA256"),
        (&fast, &slow, "TLS_CHACHA20_POLY1305_SHA256"),
    ] {
        let (identity, mut pair) = (identity(), Pair::of(ours, Pin::Exactly));
        pair.client = TlsConnection::client(client::config(ours, Pin::Anybody).unwrap()).unwrap();
        pair.server = TlsConnection::server(server::config(theirs, &identity).unwrap()).unwrap();
        pair.exchange(usize::MAX).unwrap();
        assert_eq!((pair.client.cipher(), pair.server.cipher()), (Some(agreed), Some(agreed)));
    }
}

#[test]
fn a_record_of_a_handshake_without_end_is_bounded() {
    let mut server = TlsConnection::server(server::config(&Ciphers::of_this_machine(), &identity()).unwrap()).unwrap();
    // A ClientHello that says it has 16 MiB, in records of 16 KiB.
    let mut first = true;
    let mut heard = Vec::new();
    let failed = (0..100).any(|_| {
        let mut record = vec![0x16, 3, 1, 0x40, 0];
        record.resize(5 + RECORD_PLAIN_BYTES, 0);
        if std::mem::take(&mut first) {
            record[5..9].copy_from_slice(&[1, 0xff, 0xff, 0xff]);
        }
        deliver(&mut server, &record, &mut heard).is_err()
    });
    assert!(failed && heard.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// However the wire cuts: the handshake is done, and everything arrives, in order.
    #[test]
    fn all_arrives_however_the_wire_cuts(cut in 1usize..3000, words in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40_000), 1..4)) {
        let mut pair = Pair::of(&Ciphers::of_this_machine(), Pin::Exactly);
        pair.exchange(cut).unwrap();
        for word in &words {
            pair.say(word, cut).unwrap();
        }
        prop_assert_eq!(&pair.server_heard, &words.concat());
    }

    #[test]
    fn garbage_never_panics(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 1..8), shaken: bool, tls_header: bool) {
        let mut pair = if shaken { Pair::shaken() } else { Pair::of(&Ciphers::of_this_machine(), Pin::Exactly) };
        for piece in &pieces {
            let mut piece = piece.clone();
            if tls_header {
                let length = (piece.len() as u16).to_be_bytes();
                piece.splice(0..0, [0x17, 3, 3, length[0], length[1]]);
            }
            let _ = deliver(&mut pair.server, &piece, &mut pair.server_heard);
            let _ = deliver(&mut pair.client, &piece, &mut pair.client_heard);
        }
        prop_assert!(pair.server_heard.is_empty() && pair.client_heard.is_empty());
        prop_assert!(pair.server.encrypt(b"x", &mut [0; 600]).is_err() || shaken);
    }
}
