//! What lies in a folder of the server, or what a file there is: `linerate ls`.
//!
//! A copy in which nothing is wanted: every entry is settled at once, and nothing goes over the stream.

use std::time::Duration;

use super::run::{CopyPlan, RunError, Way, connect};
use crate::link::Link;
use crate::proto::copy::options::{CopyOptions, CopyRoute, CopySpec, Purpose};
use crate::proto::copy::report::PassedOver;
use crate::proto::copy::{CopyError, CopyMessage, Ending, ITEMS_MAX, Settlement};
use crate::proto::manifest::Entry;
use crate::proto::message::{CopyJob, Reply, Request};

/// How long nothing is waited for at a time; what comes wakes sooner.
const TURN_MAX: Duration = Duration::from_secs(1);

/// What is there.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// What was named first, and then what is in it, in no order.
    pub entries: Vec<Entry>,
    /// What could not be looked at, and what is of no kind that is copied.
    pub passed_over: Vec<PassedOver>,
}

/// List what a pull names, one level deep.
pub fn list(plan: &CopyPlan, link: &mut Link) -> Result<Listing, RunError> {
    let Way::Pull { from, .. } = &plan.way else {
        return Err(RunError::Here("only what is at a peer is listed by it".to_string()));
    };
    let options = CopyOptions { purpose: Purpose::List, ..plan.options.clone() };
    let spec = CopySpec { run: plan.run, route: CopyRoute::Pull { from: from.clone() }, options };
    let job = CopyJob { spec, streams: 1, options: plan.sockets.clone(), tls: plan.tls };
    let (job, tokens) = match link.call(Request::PrepareCopy(Box::new(job)))? {
        Reply::Prepared { job, tokens } => (job, tokens),
        other => return Err(link.unexpected(&other).into()),
    };
    // The server begins when all streams are there.
    let _streams = connect(plan, link, &tokens)?;
    link.call(Request::Start(job))?;
    let peer = link.peer();
    let mut lister = Lister::default();
    while !lister.has_ended {
        while let Some((number, message)) = link.poll_copy() {
            if number == job {
                let answers = lister.handle_message(message).map_err(|error| RunError::Peer { peer, error })?;
                answers.into_iter().for_each(|answer| _ = link.say_copy(job, answer));
            }
        }
        link.turn(if lister.has_ended { Duration::ZERO } else { TURN_MAX })?;
    }
    let passed_over = match link.call(Request::ReportCopy(job))? {
        Reply::CopyReported(report) => report.passed_over,
        other => return Err(link.unexpected(&other).into()),
    };
    // Whatever becomes of it, the listing is here.
    let _ = link.call(Request::Stop(job));
    Ok(Listing { entries: lister.entries, passed_over })
}

/// Most memory that a listing takes, bytes: some million names.
const LISTING_BYTES_MAX: usize = 1 << 30;

#[derive(Debug, Default)]
struct Lister {
    entries: Vec<Entry>,
    /// What these take.
    bytes: usize,
    has_ended: bool,
}

impl Lister {
    /// The server said something; what to answer.
    fn handle_message(&mut self, message: CopyMessage) -> Result<Vec<CopyMessage>, CopyError> {
        match message {
            CopyMessage::Entries(entries) => {
                let bytes = |entry: &Entry| entry.weight() + size_of::<Entry>();
                self.bytes += entries.iter().map(bytes).sum::<usize>();
                if self.bytes > LISTING_BYTES_MAX {
                    return Err(CopyError::TooMuch);
                }
                let settled: Vec<_> = entries.iter().map(|entry| (entry.id, Settlement::Planned)).collect();
                self.entries.extend(entries);
                Ok(settled.chunks(ITEMS_MAX).map(|some| CopyMessage::Settled(some.to_vec())).collect())
            }
            CopyMessage::ScanEnd { .. } => {
                self.has_ended = true;
                Ok(vec![CopyMessage::End(Ending::default())])
            }
            // Of what is not wanted there are neither digests nor faults.
            _ => Err(CopyError::OutOfTurn),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::manifest::{Attributes, EntryKind};

    #[test]
    fn every_entry_is_settled_and_the_end_is_answered() {
        let entry = |id| Entry { id, path: b"a".to_vec(), kind: EntryKind::Folder, attributes: Attributes::default() };
        let mut lister = Lister::default();
        let answers = lister.handle_message(CopyMessage::Entries(vec![entry(0), entry(1)])).unwrap();
        let settled = vec![(0, Settlement::Planned), (1, Settlement::Planned)];
        assert_eq!(answers, [CopyMessage::Settled(settled)]);
        assert!(lister.handle_message(CopyMessage::Wants(Vec::new())).is_err());
        let before = lister.bytes;
        lister.bytes = LISTING_BYTES_MAX;
        let more = lister.handle_message(CopyMessage::Entries(vec![entry(2)]));
        assert!(before > 2 * size_of::<Entry>() && more == Err(CopyError::TooMuch), "{before} {more:?}");
        let end = lister.handle_message(CopyMessage::ScanEnd { entries: 2, is_whole: true }).unwrap();
        assert!(lister.has_ended && end == [CopyMessage::End(Ending::default())] && lister.entries.len() == 2);
    }
}
