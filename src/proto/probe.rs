//! Request/response over a bare byte stream, counted, not framed: the client sends `request` bytes, the server
//! answers with `reply` bytes once it holds them all, and so on. Sizes are agreed over control beforehand.
//!
//! There is no header, so that what is timed is the size that the user asked for.

/// Both sizes of an exchange, in bytes, each at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of a request.
    pub request: u64,
    /// Bytes of a reply.
    pub reply: u64,
}

/// Which end of the exchange this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Sends requests, waits for replies.
    Asking,
    /// Waits for requests, sends replies.
    Answering,
}

/// What to do next with the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send up to so many bytes.
    Send(u64),
    /// Receive up to so many bytes.
    Receive(u64),
}

/// One end of an endless exchange.
///
/// Invariant: `left` is at least 1 and at most the size of the message under way.
#[derive(Clone, Debug)]
pub struct Exchange {
    sizes: Sizes,
    side: Side,
    sending: bool,
    left: u64,
    completed: u64,
}

impl Exchange {
    /// An exchange that has not begun. `None` when a size is zero.
    pub fn new(sizes: Sizes, side: Side) -> Option<Exchange> {
        if sizes.request == 0 || sizes.reply == 0 {
            return None;
        }
        Some(Exchange { sizes, side, sending: side == Side::Asking, left: sizes.request, completed: 0 })
    }

    /// What to do next.
    pub fn step(&self) -> Step {
        if self.sending { Step::Send(self.left) } else { Step::Receive(self.left) }
    }

    /// Whether the next byte to move is the first of a new exchange.
    pub fn is_between(&self) -> bool {
        let first_is_send = self.side == Side::Asking;
        self.sending == first_is_send && self.left == self.sizes.request
    }

    /// Exchanges finished.
    pub fn completed(&self) -> u64 {
        self.completed
    }

    /// `n` bytes were moved in the direction that [`Exchange::step`] asked for; `true` when that finished an exchange.
    ///
    /// More bytes than asked for are counted as those asked for: the socket cannot deliver them.
    pub fn handle_moved(&mut self, n: u64) -> bool {
        self.left -= n.min(self.left);
        if self.left > 0 {
            return false;
        }
        let was_request = self.sending == (self.side == Side::Asking);
        self.sending = !self.sending;
        self.left = if was_request { self.sizes.reply } else { self.sizes.request };
        self.completed += u64::from(!was_request);
        !was_request
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn zero_sizes_are_no_exchange() {
        assert!(Exchange::new(Sizes { request: 0, reply: 1 }, Side::Asking).is_none());
        assert!(Exchange::new(Sizes { request: 1, reply: 0 }, Side::Asking).is_none());
    }

    proptest! {
        /// Two ends joined by a pipe that cuts anywhere finish the same number of exchanges and never both wait.
        #[test]
        fn two_ends_stay_in_step(request in 1u64..500, reply in 1u64..500, cuts in proptest::collection::vec(1u64..200, 1..200)) {
            let sizes = Sizes { request, reply };
            let mut asking = Exchange::new(sizes, Side::Asking).unwrap();
            let mut answering = Exchange::new(sizes, Side::Answering).unwrap();
            let (mut up, mut down) = (0u64, 0u64);
            for cut in cuts {
                let mut moved = 0;
                for (end, out, into) in [(&mut asking, 0, 1), (&mut answering, 1, 0)] {
                    let lanes = [&mut up, &mut down];
                    match end.step() {
                        Step::Send(n) => { *lanes[out] += n.min(cut); end.handle_moved(n.min(cut)); moved += 1; }
                        Step::Receive(n) => {
                            let n = n.min(cut).min(*lanes[into]);
                            *lanes[into] -= n;
                            if n > 0 { end.handle_moved(n); moved += 1; }
                        }
                    }
                }
                prop_assert!(moved > 0, "both ends wait");
                prop_assert!(answering.completed() - asking.completed() <= 1);
            }
        }
    }
}
