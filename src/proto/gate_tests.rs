//! Tests of [`super`]: no order of events lets a void ticket in.

use super::super::secret::Secret;
use super::*;
use proptest::prelude::*;

fn secret(n: u16) -> Secret {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&n.to_le_bytes());
    Secret(bytes)
}

fn grant(n: u16) -> Grant {
    let digest = secret(n).digest();
    Grant {
        id: TicketId::of(&digest),
        digest,
        rights: Rights::BENCH,
        folder: Vec::new(),
        expires_unix_s: None,
        uses_left: None,
        label: String::new(),
        created_unix_s: 0,
    }
}

fn limited(n: u16, expires_unix_s: Option<u64>, uses_left: Option<u32>) -> Grant {
    Grant { expires_unix_s, uses_left, ..grant(n) }
}

#[test]
fn each_ticket_is_let_in_as_far_as_it_goes() {
    let mut book = TicketBook::default();
    for grant in [grant(1), limited(2, Some(100), None), limited(3, None, Some(2))] {
        book.insert(grant).unwrap();
    }
    let judge = |book: &mut TicketBook, n: u16, now| book.judge(&secret(n).digest(), now).map(|grant| grant.uses_left);
    assert_eq!(judge(&mut book, 9, 0), Err(Denial::Unknown));
    assert_eq!((judge(&mut book, 1, 0), judge(&mut book, 1, u64::MAX)), (Ok(None), Ok(None)));
    assert_eq!((judge(&mut book, 2, 99), judge(&mut book, 2, 100)), (Ok(None), Err(Denial::Expired)));
    assert_eq!((judge(&mut book, 3, 0), judge(&mut book, 3, 0)), (Ok(Some(1)), Ok(Some(0))));
    assert_eq!(judge(&mut book, 3, 0), Err(Denial::UsedUp));
    assert!(book.remove(&grant(1).id) && !book.remove(&grant(1).id));
    assert_eq!(judge(&mut book, 1, 0), Err(Denial::Unknown));
}

#[test]
fn a_session_goes_on_until_its_ticket_is_revoked_or_expires() {
    let mut book = TicketBook::default();
    book.insert(limited(1, Some(100), Some(1))).unwrap();
    let id = grant(1).id;
    book.judge(&secret(1).digest(), 0).unwrap();
    assert!(book.is_valid(&id, 99), "no uses left is no reason to end");
    assert!(!book.is_valid(&id, 100) && !book.is_valid(&grant(2).id, 0));
    book.remove(&id);
    assert!(!book.is_valid(&id, 0));
}

#[test]
fn a_book_is_bounded_and_forgets_what_is_void() {
    let mut book = TicketBook::default();
    book.insert(limited(0, Some(100), None)).unwrap();
    for n in 1..GRANTS_MAX as u16 {
        book.insert(limited(n, None, Some(u32::from(n % 2)))).unwrap();
    }
    assert_eq!(book.insert(grant(9999)), Err(BookError::Full));
    assert_eq!(book.insert(grant(1)), Err(BookError::Taken));
    book.prune(50);
    assert_eq!(book.iter().len(), 1 + GRANTS_MAX / 2);
    book.insert(grant(9999)).unwrap();
    book.prune(100 + EXPIRED_KEPT_S - 1);
    assert!(book.iter().any(|kept| kept.id == grant(0).id), "its holder shall hear that it has expired");
    book.prune(100 + EXPIRED_KEPT_S);
    assert!(book.iter().all(|kept| kept.id != grant(0).id));
}

#[test]
fn what_cannot_be_a_grant_is_refused() {
    let mut book = TicketBook::default();
    assert_eq!(book.insert(Grant { id: grant(2).id, ..grant(1) }), Err(BookError::WrongId));
    assert_eq!(book.insert(Grant { label: "x".repeat(LABEL_BYTES_MAX + 1), ..grant(1) }), Err(BookError::TooLong));
    assert_eq!(book.insert(Grant { folder: vec![0; FOLDER_BYTES_MAX + 1], ..grant(1) }), Err(BookError::TooLong));
    let twice = serde_json::to_string(&[grant(1), grant(1)]).unwrap();
    assert!(serde_json::from_str::<TicketBook>(&twice).is_err());
}

#[test]
fn ids_and_books_read_back() {
    let id = grant(7).id;
    assert_eq!((id.to_string().len(), id.to_string().parse()), (8, Ok(id)));
    assert_eq!(id.to_string().to_uppercase().parse(), Ok(id));
    for text in ["", "1234567", "123456789", "+1234567", "1234567g", "ä234567"] {
        assert_eq!(text.parse::<TicketId>(), Err(TicketIdError), "{text:?}");
    }
    let mut book = TicketBook::default();
    book.insert(limited(7, Some(1), Some(2))).unwrap();
    let json = serde_json::to_string(&book).unwrap();
    assert!(json.contains(&format!("\"id\":\"{id}\"")), "{json}");
    assert_eq!(serde_json::from_str::<TicketBook>(&json).unwrap(), book);
}

#[test]
fn answers_wait_longer_with_each_failure_and_all_is_forgotten_in_time() {
    let (mut throttle, now) = (Throttle::default(), Instant::now());
    let address = "192.0.2.1".parse().unwrap();
    let waits: Vec<u64> = (0..40).map(|_| throttle.handle_failure(address, now).as_millis() as u64).collect();
    assert_eq!(waits[..6], [250, 500, 1000, 2000, 4000, 4000]);
    assert!(waits[5..].iter().all(|wait| *wait == 4000));
    assert_eq!(throttle.failures(address, now), 40);
    assert_eq!(throttle.failures("::ffff:192.0.2.1".parse().unwrap(), now), 40);
    assert_eq!(throttle.failures("192.0.2.2".parse().unwrap(), now), 0);
    let later = now + FAILURES_FORGOTTEN_AFTER;
    assert_eq!(throttle.failures(address, later), 0);
    assert_eq!(throttle.handle_failure(address, later), FAILURE_WAIT_MIN);
}

#[test]
fn a_subscriber_of_ipv6_is_a_network() {
    let (mut throttle, now) = (Throttle::default(), Instant::now());
    throttle.handle_failure("2001:db8::1".parse().unwrap(), now);
    assert_eq!(throttle.failures("2001:db8::ffff:1".parse().unwrap(), now), 1);
    assert_eq!(throttle.failures("2001:db8:0:1::1".parse().unwrap(), now), 0);
}

#[test]
fn the_oldest_address_makes_room() {
    let (mut throttle, start) = (Throttle::default(), Instant::now());
    let address = |n: u32| IpAddr::from(n.to_be_bytes());
    let at = |n: u32| start + Duration::from_millis(u64::from(n));
    for n in 0..ADDRESSES_MAX as u32 + 1 {
        throttle.handle_failure(address(n), at(n));
    }
    let now = at(ADDRESSES_MAX as u32);
    assert_eq!(throttle.failed.len(), ADDRESSES_MAX);
    assert_eq!((throttle.failures(address(0), now), throttle.failures(address(1), now)), (0, 1));
    throttle.handle_failure(address(1 << 30), now + FAILURES_FORGOTTEN_AFTER);
    assert_eq!(throttle.failed.len(), 1);
}

proptest! {
    /// Whatever happens in whatever order, a model that only counts agrees about who is let in.
    #[test]
    fn nothing_void_is_let_in(
        steps in proptest::collection::vec((0u8..6, 0u16..6, 0u32..4, 0u64..30), 0..120),
    ) {
        let mut book = TicketBook::default();
        let mut model: HashMap<u16, (u64, u32)> = HashMap::new();
        let mut now = 0;
        for (what, n, uses, seconds) in steps {
            match what {
                0 => {
                    let taken = book.insert(limited(n, Some(now + seconds), Some(uses))).is_err();
                    prop_assert_eq!(taken, model.contains_key(&n));
                    model.entry(n).or_insert((now + seconds, uses));
                }
                1 => prop_assert_eq!(book.remove(&grant(n).id), model.remove(&n).is_some()),
                2 => now += seconds,
                3 => {
                    book.prune(now);
                    model.retain(|_, (expires, _)| now < *expires + EXPIRED_KEPT_S);
                }
                _ => {
                    let verdict = book.judge(&secret(n).digest(), now).map(|grant| grant.uses_left);
                    let expected = match model.get_mut(&n) {
                        None => Err(Denial::Unknown),
                        Some((expires, _)) if now >= *expires => Err(Denial::Expired),
                        Some((_, 0)) => Err(Denial::UsedUp),
                        Some((_, left)) => { *left -= 1; Ok(Some(*left)) }
                    };
                    prop_assert_eq!(verdict, expected);
                }
            }
            prop_assert_eq!(book.iter().len(), model.len());
        }
    }

    #[test]
    fn waits_and_the_table_stay_bounded(failures in proptest::collection::vec((any::<u128>(), 0u64..1000), 0..300)) {
        let (mut throttle, mut now) = (Throttle::default(), Instant::now());
        for (address, seconds) in failures {
            now += Duration::from_secs(seconds);
            let address = IpAddr::V6(Ipv6Addr::from_bits(address));
            let wait = throttle.handle_failure(address, now);
            prop_assert!((FAILURE_WAIT_MIN..=FAILURE_WAIT_MAX).contains(&wait));
            prop_assert!(throttle.failed.len() <= ADDRESSES_MAX && throttle.failures(address, now) > 0);
        }
    }
}
