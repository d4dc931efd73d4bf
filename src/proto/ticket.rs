//! Tickets: one line of text that says where a server is, who it is, and that its holder may come in.
//!
//! Bech32m with the human-readable part `lr`, so that a mistyped ticket is told from a refused one before anything
//! is sent. Inside are a version byte and a postcard body. A ticket **is** the permission: it is shown once, where it
//! is made, never in a log, an error or a `Debug`. What a server keeps of it is in [`super::gate`].

use std::fmt;
use std::net::IpAddr;

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32m, Checksum, Hrp};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use super::fingerprint::{Fingerprint, FingerprintError, HASH_BYTES};
pub use super::rights::{Rights, RightsError};
pub use super::secret::{SECRET_BYTES, Secret, SecretDigest};

/// Most characters of a ticket: as far as Bech32m finds every three wrong ones.
pub const TICKET_CHARS_MAX: usize = Bech32m::CODE_LENGTH;
/// Most addresses in a ticket.
pub const ADDRESSES_MAX: usize = 8;
/// Longest host name in an address, as in the DNS.
pub const HOST_BYTES_MAX: usize = 253;
/// The first payload byte of a ticket that this version reads.
pub const TICKET_VERSION: u8 = 1;

const HRP: Hrp = Hrp::parse_unchecked("lr");
/// What every ticket starts with.
const START: &str = "lr1";

/// Why a text is no ticket, or a ticket no text. Never holds any of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// It does not even start like one.
    #[error("no ticket: a ticket is one word that starts with lr1")]
    NotATicket,
    /// The checksum is wrong.
    #[error("the ticket is mistyped or cut off: copy it whole, it starts with lr1")]
    Mistyped,
    /// More text than a ticket has.
    #[error("longer than a ticket can be ({TICKET_CHARS_MAX} characters): copy the ticket and nothing else")]
    TooLong,
    /// Made by another version.
    #[error(
        "the ticket is of version {0} and this program reads version {TICKET_VERSION}: use the same linerate release on both ends"
    )]
    Version(u8),
    /// The checksum is right and the content is not.
    #[error("the ticket's content makes no sense: ask for a new one")]
    Malformed,
    /// What shall be put in is more than a ticket can hold.
    #[error(
        "too much for a ticket: name at most {ADDRESSES_MAX} addresses, shorter ones, or a folder with a shorter path"
    )]
    DoesNotFit,
    /// One of the addresses cannot be.
    #[error(transparent)]
    Address(#[from] AddressError),
}

/// Not a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an address needs a host: an IP address or a name of at most {HOST_BYTES_MAX} characters without blanks")]
pub struct AddressError;

/// Where a server may be found.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "WireAddress", into = "WireAddress")]
pub struct Address {
    /// An IP address without brackets, or a name.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Address {
    /// An address whose host is valid; an IP address becomes its usual form.
    pub fn new(host: &str, port: u16) -> Result<Address, AddressError> {
        let address = match host.parse::<IpAddr>() {
            Ok(ip) => Address { host: ip.to_string(), port },
            Err(_) => Address { host: host.to_string(), port },
        };
        if address.is_valid() { Ok(address) } else { Err(AddressError) }
    }

    fn is_valid(&self) -> bool {
        let is_bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '[' | ']' | '/');
        let is_ip = self.host.parse::<IpAddr>().is_ok();
        // A colon is only in IPv6 addresses, with a zone or without.
        let is_zoned = self.host.split_once('%').is_some_and(|(ip, _)| ip.parse::<std::net::Ipv6Addr>().is_ok());
        let is_name = !self.host.contains(':') && !self.host.starts_with('-');
        let is_short = (1..=HOST_BYTES_MAX).contains(&self.host.len());
        is_short && !self.host.contains(is_bad) && (is_ip || is_zoned || is_name)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// An address in few bytes: a ticket is to be short.
#[derive(Serialize, Deserialize)]
enum WireAddress {
    Ip(IpAddr, u16),
    Name(String, u16),
}

impl From<Address> for WireAddress {
    fn from(address: Address) -> WireAddress {
        match address.host.parse() {
            Ok(ip) => WireAddress::Ip(ip, address.port),
            Err(_) => WireAddress::Name(address.host, address.port),
        }
    }
}

impl TryFrom<WireAddress> for Address {
    type Error = AddressError;

    fn try_from(address: WireAddress) -> Result<Address, AddressError> {
        match address {
            WireAddress::Ip(ip, port) => Ok(Address { host: ip.to_string(), port }),
            WireAddress::Name(host, port) => Address::new(&host, port),
        }
    }
}

/// What a ticket says.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Lets in.
    pub secret: Secret,
    /// What its holder may do.
    pub rights: Rights,
    /// The part of the served folder that is meant, as bytes; empty for all of it.
    pub folder: Vec<u8>,
    /// From then on it is void, seconds of Unix time.
    pub expires_unix_s: Option<u64>,
    /// How often it lets in at most.
    pub uses: Option<u32>,
    /// The server's certificate.
    pub fingerprint: Fingerprint,
    /// Where to try, in this order.
    pub addresses: Vec<Address>,
}

impl fmt::Debug for Ticket {
    /// Shows all but the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("secret", &self.secret)
            .field("rights", &self.rights)
            .field("folder", &crate::text::printable(&self.folder))
            .field("expires_unix_s", &self.expires_unix_s)
            .field("uses", &self.uses)
            .field("fingerprint", &self.fingerprint)
            .field("addresses", &self.addresses)
            .finish()
    }
}

/// The fields of a [`Ticket`] in the order in which they are encoded.
type Body = (Secret, Rights, Vec<u8>, Option<u64>, Option<u32>, Fingerprint, Vec<Address>);

impl Ticket {
    /// The text, in lower case. Whoever sees it holds the ticket.
    pub fn encode(&self) -> Result<String, TicketError> {
        if self.addresses.len() > ADDRESSES_MAX {
            return Err(TicketError::DoesNotFit);
        }
        if !self.addresses.iter().all(Address::is_valid) {
            return Err(AddressError.into());
        }
        let Ticket { secret, rights, folder, expires_unix_s, uses, fingerprint, addresses } = self;
        let body = (secret, rights, folder, expires_unix_s, uses, fingerprint, addresses);
        let mut payload = Zeroizing::new(Vec::with_capacity(TICKET_CHARS_MAX));
        payload.push(TICKET_VERSION);
        let encoded = Zeroizing::new(postcard::to_allocvec(&body).map_err(|_| TicketError::DoesNotFit)?);
        payload.extend_from_slice(&encoded);
        bech32::encode_lower::<Bech32m>(HRP, &payload).map_err(|_| TicketError::DoesNotFit)
    }

    /// Read a ticket as a person pasted or typed it: blanks around it and upper case do not matter.
    pub fn decode(text: &str) -> Result<Ticket, TicketError> {
        let text = text.trim();
        if !text.get(..START.len()).is_some_and(|start| start.eq_ignore_ascii_case(START)) {
            return Err(TicketError::NotATicket);
        }
        if text.len() > TICKET_CHARS_MAX {
            return Err(TicketError::TooLong);
        }
        let lower = Zeroizing::new(text.to_ascii_lowercase());
        let checked = CheckedHrpstring::new::<Bech32m>(&lower).map_err(|_| TicketError::Mistyped)?;
        // A second `1` makes another human-readable part.
        if checked.hrp() != HRP {
            return Err(TicketError::Mistyped);
        }
        let payload: Zeroizing<Vec<u8>> = Zeroizing::new(checked.byte_iter().collect());
        match payload.split_first() {
            Some((&TICKET_VERSION, body)) => Ticket::from_body(body),
            Some((&version, _)) => Err(TicketError::Version(version)),
            None => Err(TicketError::Malformed),
        }
    }

    fn from_body(bytes: &[u8]) -> Result<Ticket, TicketError> {
        let (body, rest): (Body, &[u8]) = postcard::take_from_bytes(bytes).map_err(|_| TicketError::Malformed)?;
        let (secret, rights, folder, expires_unix_s, uses, fingerprint, addresses) = body;
        if !rest.is_empty() || addresses.len() > ADDRESSES_MAX {
            return Err(TicketError::Malformed);
        }
        Ok(Ticket { secret, rights, folder, expires_unix_s, uses, fingerprint, addresses })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn address() -> impl Strategy<Value = Address> {
        let host = prop_oneof![
            any::<[u8; 4]>().prop_map(|ip| IpAddr::from(ip).to_string()),
            any::<[u8; 16]>().prop_map(|ip| IpAddr::from(ip).to_string()),
            "[a-z0-9][a-z0-9.-]{0,20}",
            "fe80::[1-9]%eth[0-9]",
        ];
        (host, any::<u16>()).prop_map(|(host, port)| Address::new(&host, port).unwrap())
    }

    fn ticket() -> impl Strategy<Value = Ticket> {
        let addresses = vec(address(), 0..=ADDRESSES_MAX);
        let limits = (any::<Option<u64>>(), any::<Option<u32>>());
        (any::<[u8; 16]>(), 0u8..8, vec(any::<u8>(), 0..100), limits, any::<[u8; 32]>(), addresses).prop_map(
            |(secret, rights, folder, (expires_unix_s, uses), fingerprint, addresses)| Ticket {
                secret: Secret(secret),
                rights: rights.try_into().unwrap(),
                folder,
                expires_unix_s,
                uses,
                fingerprint: Fingerprint(fingerprint),
                addresses,
            },
        )
    }

    fn plain() -> Ticket {
        Ticket {
            secret: Secret([0x5e; 16]),
            rights: Rights::BENCH,
            folder: b"in/\xff".to_vec(),
            expires_unix_s: None,
            uses: Some(1),
            fingerprint: Fingerprint([0xf1; 32]),
            addresses: vec![Address::new("192.0.2.7", 5290).unwrap()],
        }
    }

    /// Bech32m text of any payload.
    fn text_of(payload: &[u8]) -> String {
        bech32::encode::<Bech32m>(HRP, payload).unwrap()
    }

    /// What a wrong copy must be.
    fn is_seen(text: &str) -> bool {
        matches!(Ticket::decode(text), Err(TicketError::Mistyped | TicketError::NotATicket))
    }

    #[test]
    fn a_ticket_is_a_short_word_that_starts_with_lr1() {
        let text = plain().encode().unwrap();
        assert!(text.starts_with("lr1") && text.len() < 120, "{} {text}", text.len());
        assert!(text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()));
        assert_eq!(Ticket::decode(&format!("\n {text}\t\r\n")), Ok(plain()));
    }

    #[test]
    fn nothing_shows_the_secret() {
        let shown = format!("{:?}", plain());
        assert!(shown.contains("Secret(…)") && shown.contains("192.0.2.7"), "{shown}");
        assert!(!shown.contains("94, 94") && !shown.contains("5e5e"), "{shown}");
    }

    #[test]
    fn what_is_wrong_is_told_apart() {
        let text = plain().encode().unwrap();
        let table = [
            (String::new(), TicketError::NotATicket),
            ("lr".to_string(), TicketError::NotATicket),
            ("bc1qxyz".to_string(), TicketError::NotATicket),
            ("ä".repeat(9), TicketError::NotATicket),
            ("lr1".to_string(), TicketError::Mistyped),
            (format!("{text} {text}"), TicketError::Mistyped),
            (format!("lr1{}", "q".repeat(TICKET_CHARS_MAX)), TicketError::TooLong),
            (text_of(&[]), TicketError::Malformed),
            (text_of(&[2, 3]), TicketError::Version(2)),
            (text_of(&[TICKET_VERSION, 3]), TicketError::Malformed),
            (text_of(&[TICKET_VERSION; 300]), TicketError::Malformed),
            // The checksum of another kind of Bech32.
            (bech32::encode::<bech32::Bech32>(HRP, &[TICKET_VERSION]).unwrap(), TicketError::Mistyped),
        ];
        for (text, error) in table {
            assert_eq!(Ticket::decode(&text), Err(error), "{text}");
        }
    }

    #[test]
    fn what_does_not_fit_is_not_encoded() {
        let address = Address::new("192.0.2.7", 1).unwrap();
        let many = Ticket { addresses: vec![address; ADDRESSES_MAX + 1], ..plain() };
        let long = Ticket { folder: vec![b'x'; 600], ..plain() };
        let bad = Ticket { addresses: vec![Address { host: "a b".to_string(), port: 1 }], ..plain() };
        assert_eq!(many.encode(), Err(TicketError::DoesNotFit));
        assert_eq!(long.encode(), Err(TicketError::DoesNotFit));
        assert_eq!(bad.encode(), Err(TicketError::Address(AddressError)));
        // What the encoder refuses, the decoder refuses too.
        let Ticket { secret, rights, folder, expires_unix_s, uses, fingerprint, addresses } = many;
        let body = postcard::to_allocvec(&(secret, rights, folder, expires_unix_s, uses, fingerprint, addresses));
        assert_eq!(
            Ticket::decode(&text_of(&[&[TICKET_VERSION][..], &body.unwrap()].concat())),
            Err(TicketError::Malformed)
        );
    }

    #[test]
    fn hosts_are_checked() {
        let table = [("nas", "nas:7"), ("2001:DB8::0:1", "[2001:db8::1]:7"), ("fe80::1%eth0", "[fe80::1%eth0]:7")];
        for (host, shown) in table {
            assert_eq!(Address::new(host, 7).unwrap().to_string(), shown);
        }
        let long = "a".repeat(HOST_BYTES_MAX + 1);
        for host in ["", "a b", "a\nb", "[::1]", "nas:80", "-x", "a/b", "x%y:z", "\u{1b}[2J", &long] {
            assert_eq!(Address::new(host, 7), Err(AddressError), "{host:?}");
        }
        assert!(Address::new(&long[1..], 7).is_ok());
    }

    proptest! {
        #[test]
        fn tickets_come_back_as_they_went(ticket in ticket()) {
            let text = ticket.encode().unwrap();
            prop_assert!(text.len() <= TICKET_CHARS_MAX);
            prop_assert_eq!(Ticket::decode(&text), Ok(ticket.clone()));
            prop_assert_eq!(Ticket::decode(&text.to_uppercase()), Ok(ticket));
        }

        #[test]
        fn any_one_wrong_character_is_seen(ticket in ticket(), at: prop::sample::Index, wrong in "[ -~]|\\PC") {
            let text = ticket.encode().unwrap();
            let at = at.index(text.len());
            prop_assume!(!text[at..].starts_with(&wrong.to_ascii_lowercase()));
            let typed = format!("{}{wrong}{}", &text[..at], &text[at + 1..]);
            prop_assert!(is_seen(&typed), "{typed}");
        }

        #[test]
        fn any_cut_is_seen(ticket in ticket(), at: prop::sample::Index) {
            let text = ticket.encode().unwrap();
            prop_assert!(is_seen(&text[..at.index(text.len())]));
        }

        #[test]
        fn any_two_neighbours_in_the_wrong_order_are_seen(ticket in ticket(), at: prop::sample::Index) {
            let text = ticket.encode().unwrap();
            let at = at.index(text.len() - 1);
            let mut typed = text.clone().into_bytes();
            typed.swap(at, at + 1);
            let typed = String::from_utf8(typed).unwrap();
            prop_assume!(typed != text);
            prop_assert!(is_seen(&typed), "{typed}");
        }

        #[test]
        fn no_text_and_no_payload_panics(text: String, data in "lr1[02-9ac-hj-np-z]{0,80}", payload in vec(any::<u8>(), 0..200)) {
            let _ = (Ticket::decode(&text), Ticket::decode(&data));
            let _ = Ticket::decode(&text_of(&payload));
            let _ = Ticket::decode(&text_of(&[&[TICKET_VERSION][..], &payload].concat()));
            let _ = Ticket::from_body(&payload);
        }
    }
}
