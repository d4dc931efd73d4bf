//! Two sessions under virtual time, over a wire that cuts anywhere.

use proptest::prelude::*;

use super::*;
use crate::proto::message::{Direction, Quota};
use crate::proto::message::{JobSpec, Place, Reply, Request, SocketOptions, Transfer, Work};
use crate::proto::ticket::Secret;

/// Two ends, a clock that only we move, and what is under way between them.
struct Pair {
    now: Instant,
    client: Session,
    server: Session,
}

impl Pair {
    fn new() -> Pair {
        let now = Instant::now();
        Pair { now, client: Session::client(hello(), now), server: Session::server(now) }
    }

    /// The client has said hello, and nobody has judged it.
    fn greeted(cut: usize) -> Pair {
        let mut pair = Pair::new();
        pair.exchange(cut);
        assert_eq!(pair.server.poll_event(), Some(Event::Hello(hello())));
        assert_eq!(pair.client.poll_event(), None);
        pair
    }

    fn opened() -> Pair {
        Pair::opened_for(Rights::BENCH, usize::MAX)
    }

    fn opened_for(rights: Rights, cut: usize) -> Pair {
        let mut pair = Pair::greeted(cut);
        pair.server.welcome(welcome(rights), pair.now);
        pair.exchange(cut);
        assert_eq!(pair.client.poll_event(), Some(Event::Welcome(welcome(rights))));
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

fn hello() -> Hello {
    Hello { secret: Some(Secret([7; 16])) }
}

fn welcome(rights: Rights) -> Welcome {
    Welcome { rights, seconds_max: None }
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
fn a_client_that_never_says_hello_is_given_up() {
    let mut pair = Pair::new();
    pair.server.handle_bytes(&Preface { version: PROTOCOL_VERSION }.encode(), pair.now);
    assert_eq!(pair.server.poll_timeout(), Some(pair.now + OPENING_MAX));
    pair.pass(OPENING_MAX);
    assert_eq!(ending(&mut pair.server), Some(Ending::OpeningTimeout));
}

#[test]
fn a_judge_may_take_its_time() {
    let mut pair = Pair::greeted(usize::MAX);
    pair.pass(OPENING_MAX * 2);
    assert!(!pair.server.is_closed() && !pair.client.is_closed());
    pair.server.turn_away(TurnedAway { why: "no".into(), wants_ticket: false }, pair.now);
    pair.exchange(3);
    assert!(matches!(ending(&mut pair.client), Some(Ending::TurnedAway(TurnedAway { why, .. })) if why == "no"));
}

#[test]
fn nothing_is_heard_from_a_client_that_was_not_let_in() {
    let intruders = [request(1), Message::Ping, Message::Hello(hello()), Message::Welcome(welcome(Rights::BENCH))];
    for intruder in intruders {
        let mut pair = Pair::greeted(usize::MAX);
        pair.client.queue(&intruder, pair.now);
        pair.exchange(usize::MAX);
        assert_eq!(ending(&mut pair.server), Some(Ending::OutOfTurn), "{intruder:?}");
    }
}

#[test]
fn a_client_that_was_not_let_in_can_store_little() {
    let mut pair = Pair::new();
    pair.server.handle_bytes(&Preface { version: PROTOCOL_VERSION }.encode(), pair.now);
    pair.server.handle_bytes(&(HELLO_BYTES_MAX as u32 + 1).to_le_bytes(), pair.now);
    assert_eq!(ending(&mut pair.server), Some(Ending::Length(HELLO_BYTES_MAX as u64 + 1)));
}

#[test]
fn a_second_hello_is_out_of_turn() {
    let mut pair = Pair::opened();
    pair.client.queue(&Message::Hello(hello()), pair.now);
    pair.exchange(usize::MAX);
    assert_eq!(ending(&mut pair.server), Some(Ending::OutOfTurn));
}

#[test]
fn a_server_cannot_ask_and_a_client_cannot_welcome() {
    let mut pair = Pair::opened();
    pair.server.queue(&request(1), pair.now);
    pair.exchange(usize::MAX);
    assert_eq!(ending(&mut pair.client), Some(Ending::OutOfTurn));
    let mut pair = Pair::opened();
    pair.client.queue(&Message::Welcome(welcome(Rights::BENCH)), pair.now);
    pair.exchange(usize::MAX);
    assert_eq!(ending(&mut pair.server), Some(Ending::OutOfTurn));
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
        ending(&mut pair.server);
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
        let mut pair = Pair::opened_for(Rights::BENCH, cut);
        for id in 0..count {
            pair.client.send(&request(id), pair.now);
            pair.server.send(&Message::Reply { id, body: Reply::Started }, pair.now);
        }
        pair.exchange(cut);
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

/// What may happen to two sessions.
#[derive(Clone, Debug)]
enum Step {
    /// The client asks for a job that needs these rights, whether it has them or not.
    Ask {
        read: bool,
        write: bool,
    },
    /// Somebody says something that may be out of turn.
    Say {
        by_client: bool,
        what: u8,
    },
    /// Whoever judges lets the client in for these rights, or turns it away.
    Judge(u8),
    Carry {
        cut: usize,
    },
    /// Bytes under way are lost, or come twice. (TLS would notice; a session must not fall over it.)
    Lose {
        from_client: bool,
    },
    Repeat {
        from_client: bool,
    },
    Wait {
        ms: u64,
    },
    End {
        of_client: bool,
    },
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<bool>(), any::<bool>()).prop_map(|(read, write)| Step::Ask { read, write }),
        2 => (any::<bool>(), 0u8..6).prop_map(|(by_client, what)| Step::Say { by_client, what }),
        2 => (0u8..9).prop_map(Step::Judge),
        6 => (1usize..400).prop_map(|cut| Step::Carry { cut }),
        1 => any::<bool>().prop_map(|from_client| Step::Lose { from_client }),
        1 => any::<bool>().prop_map(|from_client| Step::Repeat { from_client }),
        2 => (0u64..6000).prop_map(|ms| Step::Wait { ms }),
        1 => any::<bool>().prop_map(|of_client| Step::End { of_client }),
    ]
}

fn job(read: bool, write: bool) -> Request {
    let place = |named: bool| if named { Place::File(b"x".to_vec()) } else { Place::Nothing };
    let transfer = Transfer {
        direction: Direction::Both,
        send: "write".into(),
        receive: "read".into(),
        chunk: 1,
        source: place(read),
        sink: place(write),
        quota: Quota::UntilStopped,
    };
    let (options, cpus) = (SocketOptions::default(), Vec::new());
    let work = Work::Transfer(transfer);
    Request::Prepare(Box::new(JobSpec { work, streams: 1, options, workers: 1, cpus, spin: false, tls: false }))
}

fn rights_of(bits: u8) -> Rights {
    let all = [(1, Rights::BENCH), (2, Rights::READ), (4, Rights::WRITE)];
    all.iter().filter(|(bit, _)| bits & bit != 0).fold(Rights::NONE, |rights, (_, right)| rights.union(*right))
}

fn said(what: u8) -> Message {
    match what {
        0 => Message::Ping,
        1 => Message::Pong,
        2 => Message::Hello(hello()),
        3 => Message::Welcome(welcome(rights_of(7))),
        4 => Message::Reply { id: 0, body: Reply::Started },
        _ => request(0),
    }
}

impl Pair {
    /// Do one thing; what the server's owner was given to do.
    fn apply(&mut self, step: &Step, given: &mut Option<Rights>) {
        let now = self.now;
        match *step {
            Step::Ask { read, write } => self.client.queue(&Message::Request { id: 1, body: job(read, write) }, now),
            Step::Say { by_client, what } => {
                let speaker = if by_client { &mut self.client } else { &mut self.server };
                speaker.queue(&said(what), now);
            }
            Step::Judge(8) => self.server.turn_away(TurnedAway { why: "no".into(), wants_ticket: true }, now),
            Step::Judge(bits) => {
                let waits = self.server.state == (State::Greeting { said: true });
                self.server.welcome(welcome(rights_of(bits)), now);
                *given = given.or(waits.then(|| rights_of(bits)));
            }
            Step::Carry { cut } => self.exchange(cut),
            Step::Lose { from_client } => {
                let from = if from_client { &mut self.client } else { &mut self.server };
                from.handle_sent(from.poll_transmit().len() / 2);
            }
            Step::Repeat { from_client } => {
                let (from, to) =
                    if from_client { (&self.client, &mut self.server) } else { (&self.server, &mut self.client) };
                to.handle_bytes(from.poll_transmit(), now);
            }
            Step::Wait { ms } => self.pass(Duration::from_millis(ms)),
            Step::End { of_client } => if of_client { &mut self.client } else { &mut self.server }.handle_end(),
        }
    }
}

proptest! {
    /// Whatever is said in whatever order, lost or repeated: no panic, no request without the right to it, one end.
    #[test]
    fn no_right_passes_that_was_not_given(steps in proptest::collection::vec(steps(), 0..60)) {
        let mut pair = Pair::new();
        let mut given = None;
        let mut closed = 0;
        for step in &steps {
            pair.apply(step, &mut given);
            while let Some(event) = pair.server.poll_event() {
                prop_assert_eq!(closed, 0, "an event after the end");
                match event {
                    Event::Message(Message::Request { body, .. }) => {
                        prop_assert!(given.unwrap_or_default().contains(body.needs()), "{:?} with {:?}", body, given);
                    }
                    Event::Message(other) => prop_assert!(false, "{other:?} got through to a server"),
                    Event::Closed(_) => closed += 1,
                    Event::Hello(_) => prop_assert_eq!(given, None),
                    Event::Welcome(_) => prop_assert!(false, "a server was welcomed"),
                }
            }
            prop_assert!(pair.server.poll_transmit().len() <= OUTBOX_BYTES_MAX);
        }
        // Left alone, both come to an end; a server that is to judge waits for its owner, who decides in the end.
        pair.server.turn_away(TurnedAway { why: "the end".into(), wants_ticket: false }, pair.now);
        pair.pass(IDLE_MAX);
        pair.pass(IDLE_MAX);
        prop_assert!(pair.client.is_closed() && pair.server.is_closed());
    }
}
