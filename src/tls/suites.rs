//! Cipher suites: AES-128-GCM first where the processor computes it itself, ChaCha20-Poly1305 first elsewhere.

use std::sync::Arc;

use rustls::SupportedCipherSuite;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite};

/// The cryptography of all connections of a process.
#[derive(Clone, Debug)]
pub struct Ciphers {
    pub(super) provider: Arc<CryptoProvider>,
    /// This machine's order rules, because for it the other suite is slow.
    pub(super) is_choosy: bool,
}

impl Ciphers {
    /// In the order that suits this machine.
    pub fn of_this_machine() -> Ciphers {
        let (aes, chacha) = (cipher_suite::TLS13_AES_128_GCM_SHA256, cipher_suite::TLS13_CHACHA20_POLY1305_SHA256);
        let has_aes = computes_aes();
        Ciphers::of(if has_aes { vec![aes, chacha] } else { vec![chacha, aes] }, !has_aes)
    }

    pub(super) fn of(cipher_suites: Vec<SupportedCipherSuite>, is_choosy: bool) -> Ciphers {
        let provider = CryptoProvider { cipher_suites, ..aws_lc_rs::default_provider() };
        Ciphers { provider: Arc::new(provider), is_choosy }
    }
}

/// Whether the processor has instructions for AES and for GCM's multiplication.
fn computes_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    let has = std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    let has = std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let has = false;
    has
}

/// Draw the first random number, which takes aws-lc 10 to 50 ms: before anything is timed.
pub fn warm_up() {
    // Where the system has no randomness, the handshake says so.
    let _ = aws_lc_rs::default_provider().secure_random.fill(&mut [0; 1]);
}
