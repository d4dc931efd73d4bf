//! What the errors of rustls mean to a person.

use rustls::{AlertDescription, CertificateError, Error};

use super::TlsError;
use super::client::WrongFingerprint;

/// In the words of this program.
pub fn wrong(error: Error) -> TlsError {
    match error {
        Error::InvalidCertificate(CertificateError::Other(other)) => match other.0.downcast_ref() {
            Some(&WrongFingerprint { expected, found }) => TlsError::Fingerprint { expected, found },
            None => TlsError::Protocol(Error::InvalidCertificate(CertificateError::Other(other))),
        },
        Error::InvalidCertificate(CertificateError::BadSignature) => TlsError::Unproven,
        Error::DecryptError => TlsError::Forged,
        Error::NoApplicationProtocol => TlsError::NotLinerate,
        Error::AlertReceived(AlertDescription::NoApplicationProtocol) => TlsError::NotLinerate,
        Error::AlertReceived(
            alert @ (AlertDescription::ProtocolVersion
            | AlertDescription::HandshakeFailure
            | AlertDescription::InsufficientSecurity
            | AlertDescription::UnrecognisedName),
        ) => TlsError::Incompatible(words(&alert)),
        Error::AlertReceived(alert) => TlsError::Alert(words(&alert)),
        Error::PeerIncompatible(why) => TlsError::Incompatible(words(&why)),
        error => TlsError::Protocol(error),
    }
}

/// A name in the code as words: `BadCertificate` as `bad certificate`.
fn words(name: &impl std::fmt::Debug) -> String {
    let mut words = String::new();
    for letter in format!("{name:?}").chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}
