//! The request/response flow, either side; the asking side records how long every exchange took.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use super::flow::{Budget, Flow, Progress, Room};
use super::secure_line::SecureLine;
use crate::measure::histogram::LatencyHistogram;
use crate::mover::{Fault, Source};
use crate::proto::message::{Tally, WorkerSample};
use crate::proto::probe::{Exchange, Side, Step};
use crate::sys::mapping::FileMapping;
use crate::sys::socket;
use crate::tls::TlsConnection;

/// Longer messages are taken as they come: their whole would have to fit the receive buffer.
const LOW_WATER_BYTES_MAX: u64 = 128 << 10;

/// Exchanges for as long as it is let.
pub struct ExchangeFlow {
    exchange: Exchange,
    side: Side,
    /// What stands between the exchange and the socket; `None` in the clear.
    secure: Option<SecureLine>,
    /// What is sent, over and over: any bytes will do.
    payload: std::sync::Arc<FileMapping>,
    asked_at: Option<Instant>,
    /// What the socket was told to wait for before it wakes us (SO_RCVLOWAT).
    low_water: u64,
    latency: LatencyHistogram,
    sent: Tally,
    received: Tally,
}

impl ExchangeFlow {
    /// A flow over an exchange that has not begun. `None` when the source is not resident.
    pub fn new(
        exchange: Exchange,
        side: Side,
        source: &Source,
        tls: Option<Box<TlsConnection>>,
    ) -> Option<ExchangeFlow> {
        Some(ExchangeFlow {
            exchange,
            side,
            secure: tls.map(SecureLine::new),
            payload: source.resident.clone()?,
            asked_at: None,
            low_water: 1,
            latency: LatencyHistogram::new(),
            sent: Tally::default(),
            received: Tally::default(),
        })
    }
}

impl Flow for ExchangeFlow {
    fn interest(&self) -> mio::Interest {
        mio::Interest::READABLE | mio::Interest::WRITABLE
    }

    fn drive(&mut self, sock: BorrowedFd<'_>, room: &mut Room<'_>) -> Result<Progress, Fault> {
        let mut budget = Budget::new();
        if let Some(secure) = &mut self.secure
            && !secure.flush(sock, &mut self.sent.calls)?
        {
            return Ok(Progress::Blocked);
        }
        loop {
            let step = match self.exchange.step() {
                Step::Send(left) => self.send(left, sock, room),
                Step::Receive(left) => self.receive(left, sock, room),
            };
            match step {
                Ok(Some(progress)) => {
                    self.wait_for_whole(sock, room);
                    return Ok(progress);
                }
                Ok(None) if budget.spend(0) => {}
                Ok(None) => return Ok(Progress::Again),
                Err(Fault::Connection(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait_for_whole(sock, room);
                    return Ok(Progress::Blocked);
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    fn account(&self, sample: &mut WorkerSample) {
        sample.sent += self.sent;
        sample.received += self.received;
    }

    fn take_latency(&mut self) -> Option<LatencyHistogram> {
        (self.side == Side::Asking).then(|| std::mem::take(&mut self.latency))
    }

    fn sends(&self) -> bool {
        true
    }
}

impl ExchangeFlow {
    /// Be woken once all that is left of the message is here, not for every segment of it. The mark follows what is
    /// left, because with less than that to come a higher one would never be reached.
    fn wait_for_whole(&mut self, sock: BorrowedFd<'_>, room: &Room<'_>) {
        let Step::Receive(left) = self.exchange.step() else { return };
        let wanted = if left <= LOW_WATER_BYTES_MAX { left } else { 1 };
        // What waits inside TLS is not what waits in the socket.
        if self.secure.is_none()
            && !room.spin
            && wanted != self.low_water
            && socket::set_receive_low_water(sock, wanted as u32).is_ok()
        {
            self.low_water = wanted;
        }
    }

    fn send(&mut self, left: u64, sock: BorrowedFd<'_>, room: &mut Room<'_>) -> Result<Option<Progress>, Fault> {
        if self.side == Side::Asking && self.exchange.is_between() {
            self.asked_at = Some(Instant::now());
        }
        let len = left.min(self.payload.len() as u64) as usize;
        self.sent.calls += 1;
        let n = match &mut self.secure {
            None => self.payload.send(sock, 0, len, 0).map_err(Fault::Connection)? as u64,
            Some(secure) => secure.send(&self.payload, len, sock, room)?,
        };
        self.sent.bytes += n;
        self.exchange.handle_moved(n);
        // Nothing can have come yet that would not also come with a new edge: sleep without asking in vain.
        let turned = matches!(self.exchange.step(), Step::Receive(_));
        Ok((turned && !room.spin && !room.is_closing).then_some(Progress::Blocked))
    }

    fn receive(&mut self, left: u64, sock: BorrowedFd<'_>, room: &mut Room<'_>) -> Result<Option<Progress>, Fault> {
        let mut buffer = room.buffer()?;
        self.received.calls += 1;
        let wanted = left.min(buffer.len() as u64) as usize;
        let got = match &mut self.secure {
            None => socket::receive(sock, &mut buffer[..wanted]).map(|n| (n, n < wanted)).map_err(Fault::Connection),
            Some(secure) => secure.receive(left, sock, &mut buffer),
        };
        room.pool.give(buffer);
        let (n, is_empty) = got?;
        if n == 0 {
            return Ok(Some(Progress::Finished));
        }
        self.received.bytes += n as u64;
        if self.exchange.handle_moved(n as u64)
            && let Some(asked_at) = self.asked_at.take()
        {
            self.latency.record_duration(asked_at.elapsed());
        }
        let waits = is_empty && matches!(self.exchange.step(), Step::Receive(_));
        Ok((waits && !room.spin && !room.is_closing).then_some(Progress::Blocked))
    }
}
