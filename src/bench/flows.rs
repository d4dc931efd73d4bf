//! Which flow each stream of a job runs, on either end: the one place that knows both tables and frames.

use std::os::fd::AsFd;

use crate::engine::exchange::ExchangeFlow;
use crate::engine::flow::Flow;
use crate::engine::receive::ReceiveFlow;
use crate::engine::secure::Protection;
use crate::engine::secure_receive::SecureReceiveFlow;
use crate::engine::secure_send::{self, SecureSendFlow};
use crate::engine::send::{Cork, Outgoing, SendFlow};
use crate::mover::{Sink, Source, needs_kernel_tls, receive_row, send_row};
use crate::proto::message::{Quota, Transfer, Work};
use crate::proto::probe::{Exchange, Side, Sizes};
use crate::proto::wire::{Frame, FrameKind, Length};
use crate::store::{StoreError, hot};

/// Largest buffer that a worker gets for request/response; longer messages take several calls.
const EXCHANGE_BUFFER_BYTES_MAX: u64 = 1 << 20;

/// Bytes of each buffer that the workers of such a job need.
pub fn buffer_bytes(work: &Work, tls: bool) -> usize {
    match work {
        _ if tls => secure_send::BUFFER_BYTES,
        Work::Transfer(transfer) => transfer.chunk as usize,
        Work::Exchange { request, reply } => (*request).max(*reply).min(EXCHANGE_BUFFER_BYTES_MAX) as usize,
    }
}

/// The flow of one of `streams` on which this end sends; `nodelay` as the socket has it.
pub fn sending<S: AsFd>(
    transfer: &Transfer,
    (nodelay, streams): (bool, u32),
    source: &Source,
    sock: &S,
    tls: Protection,
) -> Result<Box<dyn Flow>, String> {
    let row = send_row(&transfer.send).ok_or_else(|| format!("no such send method: {}", transfer.send))?;
    let cork = if nodelay || transfer.chunk < row.cork_from_bytes { Cork::Never } else { Cork::Wanted };
    if let Some(tls) = tls {
        let sizes = (transfer.chunk, secure_send::batch_bytes(streams));
        let feed = row.feed.ok_or_else(needs_kernel_tls)?();
        return Ok(Box::new(SecureSendFlow::new(tls, feed, sizes, cork, frames(transfer.quota, source))));
    }
    let method = (row.make)(sock.as_fd()).map_err(|error| format!("{}: {error}", row.name))?;
    Ok(Box::new(SendFlow::new(method, transfer.chunk, cork, frames(transfer.quota, source))))
}

/// The flow of a stream on which this end receives.
pub fn receiving(transfer: &Transfer, sink: Sink, tls: Protection) -> Result<Box<dyn Flow>, String> {
    let row = receive_row(&transfer.receive).ok_or_else(|| format!("no such receive method: {}", transfer.receive))?;
    match tls {
        Some(_) if !row.decrypts => return Err(needs_kernel_tls()),
        Some(tls) => return Ok(Box::new(SecureReceiveFlow::new(tls, sink))),
        None => {}
    }
    Ok(Box::new(ReceiveFlow::new((row.make)(), row.takes_all, transfer.chunk, sink)))
}

/// The flow of a request/response stream.
pub fn exchanging(
    (request, reply): (u64, u64),
    side: Side,
    source: &Source,
    tls: Protection,
) -> Result<Box<dyn Flow>, String> {
    let exchange = Exchange::new(Sizes { request, reply }, side).ok_or("an exchange of no bytes")?;
    let flow = ExchangeFlow::new(exchange, side, source, tls).ok_or("no memory to send from")?;
    Ok(Box::new(flow))
}

fn frames(quota: Quota, source: &Source) -> Vec<Outgoing> {
    let frame = |length, kind| Outgoing { frame: Frame { file: 0, offset: 0, length, kind }, source: source.clone() };
    match quota {
        Quota::UntilStopped => vec![frame(Length::UntilEnd, FrameKind::Data)],
        Quota::Exactly { warmup, bytes } => {
            vec![frame(Length::Bytes(warmup), FrameKind::Data), frame(Length::Bytes(bytes), FrameKind::Timed)]
        }
    }
}

/// Hot sources by chunk: the last one is kept, because rounds come back to the same sizes and filling takes time.
#[derive(Debug, Default)]
pub struct HotSources {
    last: Option<(u64, Source)>,
}

impl HotSources {
    /// One for calls of `chunk` bytes.
    pub fn source(&mut self, chunk: u64) -> Result<Source, StoreError> {
        if let Some((size, source)) = &self.last
            && *size == chunk
        {
            return Ok(source.clone());
        }
        self.last = None;
        let source = hot::open(chunk)?;
        self.last = Some((chunk, source.clone()));
        Ok(source)
    }
}
