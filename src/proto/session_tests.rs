//! Two sessions under virtual time, over a wire that cuts anywhere.

use proptest::prelude::*;

use super::*;
use crate::proto::message::{Reply, Request};

/// Two ends, a clock that only we move, and what is under way between them.
struct Pair {
    now: Instant,
    client: Session,
    server: Session,
}

impl Pair {
    fn new() -> Pair {
        let now = Instant::now();
        Pair { now, client: Session::new(Role::Client, now), server: Session::new(Role::Server, now) }
    }

    fn opened() -> Pair {
        let mut pair = Pair::new();
        pair.exchange(usize::MAX);
        assert_eq!(pair.client.poll_event(), Some(Event::Opened));
        assert_eq!(pair.server.poll_event(), Some(Event::Opened));
        pair
    }

    /// Carry bytes in pieces of at most `cut` until both are silent.
    fn exchange(&mut self, cut: usize) {
        loop {
            let moved = carry(&mut self.client, &mut self.server, cut, self.now)
                + carry(&mut self.server, &mut self.client, cut, self.now);
            if moved == 0 {
                return;
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.client.handle_timeout(self.now);
        self.server.handle_timeout(self.now);
    }
}

fn carry(from: &mut Session, to: &mut Session, cut: usize, now: Instant) -> usize {
    let bytes = from.poll_transmit();
    let n = bytes.len().min(cut);
    let piece = bytes[..n].to_vec();
    from.handle_sent(n);
    to.handle_bytes(&piece, now);
    n
}

fn ending(session: &mut Session) -> Option<Ending> {
    std::iter::from_fn(|| session.poll_event()).find_map(|event| match event {
        Event::Closed(why) => Some(why),
        _ => None,
    })
}

fn request(id: u32) -> Message {
    Message::Request { id, body: Request::Sample(id) }
}

#[test]
fn keep_alive_holds_an_idle_session_for_ever() {
    let mut pair = Pair::opened();
    for _ in 0..1000 {
        pair.pass(Duration::from_secs(1));
        pair.exchange(7);
    }
    assert!(!pair.client.is_closed() && !pair.server.is_closed());
}

#[test]
fn a_silent_peer_is_given_up_in_bounded_time() {
    let mut pair = Pair::opened();
    pair.pass(IDLE_MAX);
    assert_eq!(ending(&mut pair.client), Some(Ending::IdleTimeout));
    assert_eq!(ending(&mut pair.server), Some(Ending::IdleTimeout));
    assert_eq!(pair.client.poll_timeout(), None);
}

#[test]
fn a_peer_that_never_opens_is_given_up() {
    let mut pair = Pair::new();
    pair.pass(OPENING_MAX);
    assert_eq!(ending(&mut pair.client), Some(Ending::OpeningTimeout));
}

#[test]
fn another_protocol_is_told_from_a_lost_connection() {
    let mut pair = Pair::new();
    pair.client.handle_bytes(b"SSH-2.0-OpenSSH_9.2\r\n", pair.now);
    assert_eq!(ending(&mut pair.client), Some(Ending::Wire(WireError::NotLinerate)));
    let mut pair = Pair::new();
    pair.client.handle_end();
    assert_eq!(ending(&mut pair.client), Some(Ending::Lost));
}

#[test]
fn another_version_is_named() {
    let mut pair = Pair::new();
    pair.client.handle_bytes(&Preface { version: 77 }.encode(), pair.now);
    assert_eq!(ending(&mut pair.client), Some(Ending::Wire(WireError::Version { theirs: 77 })));
}

#[test]
fn absurd_lengths_end_the_session_before_anything_is_stored() {
    for length in [0u32, MESSAGE_BYTES_MAX as u32 + 1, u32::MAX, 1 << 31] {
        let mut pair = Pair::opened();
        pair.server.handle_bytes(&length.to_le_bytes(), pair.now);
        assert_eq!(ending(&mut pair.server), Some(Ending::Length(u64::from(length))));
    }
}

#[test]
fn unknown_messages_end_the_session() {
    let mut pair = Pair::opened();
    pair.server.handle_bytes(&[2, 0, 0, 0, 0xff, 0xff], pair.now);
    assert_eq!(ending(&mut pair.server), Some(Ending::Unknown));
}

#[test]
fn a_peer_that_does_not_read_cannot_fill_the_memory() {
    let mut pair = Pair::opened();
    let long = Message::Bye("x".repeat(MESSAGE_BYTES_MAX / 2));
    for _ in 0..100 {
        pair.server.send(&long, pair.now);
        assert!(pair.server.poll_transmit().len() <= OUTBOX_BYTES_MAX);
    }
    assert_eq!(ending(&mut pair.server), Some(Ending::Backlog(OUTBOX_BYTES_MAX)));
}

#[test]
fn a_peer_that_floods_is_cut_off() {
    let mut pair = Pair::opened();
    for id in 0..(EVENTS_MAX as u32 + 10) {
        pair.client.send(&request(id), pair.now);
    }
    pair.exchange(usize::MAX);
    assert!(pair.server.is_closed());
}

#[test]
fn goodbye_carries_its_reason() {
    let mut pair = Pair::opened();
    pair.server.send(&Message::Bye("shutting down".into()), pair.now);
    pair.exchange(usize::MAX);
    assert_eq!(ending(&mut pair.client), Some(Ending::Bye("shutting down".into())));
}

proptest! {
    #[test]
    fn messages_arrive_in_order_however_the_wire_cuts(cut in 1usize..40, count in 1u32..50) {
        let mut pair = Pair::new();
        for id in 0..count {
            pair.client.send(&request(id), pair.now);
            pair.server.send(&Message::Reply { id, body: Reply::Started }, pair.now);
        }
        pair.exchange(cut);
        prop_assert_eq!(pair.server.poll_event(), Some(Event::Opened));
        prop_assert_eq!(pair.client.poll_event(), Some(Event::Opened));
        for id in 0..count {
            prop_assert_eq!(pair.server.poll_event(), Some(Event::Message(request(id))));
            let reply = Message::Reply { id, body: Reply::Started };
            prop_assert_eq!(pair.client.poll_event(), Some(Event::Message(reply)));
        }
        prop_assert_eq!(pair.server.poll_event(), None);
    }

    #[test]
    fn garbage_never_panics_and_says_closed_once(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..64), 0..20), open: bool) {
        let mut pair = if open { Pair::opened() } else { Pair::new() };
        for piece in &pieces {
            pair.server.handle_bytes(piece, pair.now);
            pair.pass(Duration::from_millis(300));
        }
        pair.server.handle_end();
        let events: Vec<_> = std::iter::from_fn(|| pair.server.poll_event()).collect();
        let closed = events.iter().filter(|event| matches!(event, Event::Closed(_))).count();
        prop_assert_eq!(closed, 1);
        prop_assert!(matches!(events.last(), Some(Event::Closed(_))));
    }
}
