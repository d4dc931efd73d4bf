//! One connection to the first of several addresses that answers.
//!
//! Addresses are tried in their order, each a moment after the one before it, so that a better one wins where both
//! work and a dead one costs a moment, not its time-out (RFC 8305, 5).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::dial::{Dial, DialError};
use crate::proto::message::SocketOptions;

/// The start that an address has on the next (RFC 8305, 8: connection attempt delay).
const HEAD_START: Duration = Duration::from_millis(250);
/// Most addresses that are tried.
const ADDRESSES_MAX: usize = 32;

/// A connection and where it leads. `timeout` is for all addresses together, counted from the start of the last.
pub fn connect_first(
    addresses: &[SocketAddr],
    bind: Option<IpAddr>,
    options: &SocketOptions,
    timeout: Duration,
) -> Result<(TcpStream, SocketAddr), DialError> {
    let dials: Vec<Dial<'_>> =
        addresses.iter().take(ADDRESSES_MAX).map(|&address| Dial { address, bind, options, timeout }).collect();
    let Some(first) = dials.first() else {
        let why = "it has no address".to_string();
        return Err(DialError::Resolve { host: "the server".to_string(), why });
    };
    let poll = Poll::new().map_err(|error| first.system("epoll", error))?;
    Race { dials: &dials, poll, runners: Vec::new(), next: 0, next_at: Instant::now(), failed: None }.run(timeout)
}

struct Race<'a> {
    dials: &'a [Dial<'a>],
    poll: Poll,
    /// Under way, with the number of their dial.
    runners: Vec<(usize, TcpStream)>,
    next: usize,
    next_at: Instant,
    /// Of the first address that failed: the one that was preferred says most.
    failed: Option<DialError>,
}

impl Race<'_> {
    fn run(mut self, timeout: Duration) -> Result<(TcpStream, SocketAddr), DialError> {
        let mut events = Events::with_capacity(ADDRESSES_MAX);
        let mut deadline = Instant::now() + timeout;
        loop {
            let now = Instant::now();
            if self.next < self.dials.len() && (self.runners.is_empty() || now >= self.next_at) {
                self.start();
                deadline = now + timeout;
                continue;
            }
            if self.runners.is_empty() || now >= deadline {
                let late = self.dials[0].late();
                return Err(self.failed.unwrap_or(late));
            }
            let until = if self.next < self.dials.len() { self.next_at.min(deadline) } else { deadline };
            match self.poll.poll(&mut events, Some(until - now)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    return Err(self.dials[0].system("epoll", error));
                }
                _ => {}
            }
            if let Some(won) = self.look() {
                return Ok(won);
            }
        }
    }

    fn start(&mut self) {
        let number = self.next;
        self.next += 1;
        self.next_at = Instant::now() + HEAD_START;
        let dial = &self.dials[number];
        let begun = dial.begin().and_then(|mut sock| {
            let registered = self.poll.registry().register(&mut sock, Token(number), Interest::WRITABLE);
            registered.map(|()| sock).map_err(|error| dial.system("epoll", error))
        });
        match begun {
            Ok(sock) => self.runners.push((number, sock)),
            Err(error) => self.note(error),
        }
    }

    /// Who has arrived; those that failed are out.
    fn look(&mut self) -> Option<(TcpStream, SocketAddr)> {
        for (number, mut sock) in std::mem::take(&mut self.runners) {
            match self.dials[number].is_connected(&sock) {
                Ok(true) => {
                    let _ = self.poll.registry().deregister(&mut sock);
                    return Some((sock, self.dials[number].address));
                }
                Ok(false) => self.runners.push((number, sock)),
                Err(error) => self.note(error),
            }
        }
        None
    }

    fn note(&mut self, error: DialError) {
        self.failed.get_or_insert(error);
        // The next need not wait for one that is out.
        self.next_at = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(5);

    #[test]
    fn an_address_where_nobody_listens_costs_no_time_out() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let live = listener.local_addr().unwrap();
        let (_, won) = connect_first(&[dead, live], None, &SocketOptions::default(), TIMEOUT).unwrap();
        assert_eq!(won, live);
        let (_, won) = connect_first(&[live, dead], None, &SocketOptions::default(), TIMEOUT).unwrap();
        assert_eq!(won, live);
    }

    #[test]
    fn the_first_failure_is_the_one_that_is_told() {
        let dead = [(), ()].map(|()| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
        let error = connect_first(&dead, None, &SocketOptions::default(), TIMEOUT).unwrap_err();
        assert!(matches!(error, DialError::Refused { address } if address == dead[0]), "{error}");
        assert!(connect_first(&[], None, &SocketOptions::default(), TIMEOUT).is_err());
    }
}
