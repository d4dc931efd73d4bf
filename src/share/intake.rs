//! Uploads from a request's body to a file with its name: what is written while more arrives, the scan, the end.
//!
//! A body is taken in batches; while one is written by a blocking thread the next arrives, so that an upload has two of
//! them in memory and no more. Nothing gets its name before all of it is there and, where a scanner is set, the scanner
//! has said that it is clean; or could not say anything, if the owner lets such files in (`--scan-fail-open`).

use std::fs::File;
use std::io::IoSlice;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use nix::sys::uio::pwritev;
use sha2::{Digest, Sha256};
use tokio::task::{JoinError, JoinHandle};

use super::activity::{Event, Running};
use super::folders::Folders;
use super::incoming::{self, Incoming, IncomingError, failed};
use super::meter::{Meter, Tired};
use super::scan::{Clamd, Scanner, Verdict};
use super::scans::{Held, ScanState, Scans};
use super::serve::Stop;
use super::slots::{Slot, Slots, Who};
use super::sorting;
use super::state::Share;
use super::target::Target;
use super::uploads::{Grant, IDLE_MAX, Quota, Uploads};
use crate::store::confined::{Metadata, RelativePath};
use crate::store::media::SNIFF_BYTES;
use crate::sys::raw;
use crate::text::printable;

/// Bodies that are written at a time, by all and by each visitor.
pub const WRITERS_MAX: usize = 256;
/// See [`WRITERS_MAX`].
pub const WRITERS_OF_ONE_MAX: usize = 32;
/// A batch, bytes, and the pieces in it.
const BATCH_BYTES: usize = 512 << 10;
const BATCH_PIECES_MAX: usize = 64;
/// How much is written before it is looked again whether there is room, and before the device is told to write, bytes.
const LOOK_EVERY_BYTES: u64 = 16 << 20;
/// How often it is looked for uploads that have expired.
const TEND_EVERY: Duration = Duration::from_secs(300);

/// How a share takes uploads.
#[derive(Debug, Default)]
pub struct Settings {
    /// Most bytes that all uploads together may have.
    pub bytes_max: Option<u64>,
    /// Who looks at them before anybody sees them.
    pub scanner: Option<Scanner>,
    /// Show what could not be looked at, too.
    pub scan_fails_open: bool,
    /// Where files go that something was found in.
    pub quarantine: Option<PathBuf>,
}

/// An upload that is under way.
#[derive(Debug)]
pub struct Upload {
    /// Its file.
    pub incoming: Incoming,
    /// For the owner.
    pub running: Running,
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Landed {
    /// What it is called; if it is not to be seen, what it would be called.
    pub path: RelativePath,
    /// Nothing without a scanner.
    pub scan: Option<ScanState>,
    /// What was found, or why it was not looked at.
    pub why: String,
    /// Whether visitors see it.
    pub is_visible: bool,
}

/// All that comes in.
#[derive(Debug)]
pub struct Intake {
    table: Mutex<Uploads<Upload, Landed>>,
    quota: Arc<Quota>,
    writers: Arc<Slots>,
    clamd: Option<Clamd>,
    scan_fails_open: bool,
    quarantine: Option<PathBuf>,
    /// What scans said.
    pub scans: Scans,
    /// Folders that were made for what comes.
    pub folders: Arc<Folders>,
    /// Permission bits that new files and folders do not have.
    pub umask: u32,
}

impl Intake {
    /// Nothing has come yet.
    pub fn new(settings: Settings) -> Intake {
        Intake {
            table: Mutex::default(),
            quota: Quota::new(settings.bytes_max),
            writers: Slots::new(WRITERS_MAX, WRITERS_OF_ONE_MAX),
            clamd: settings.scanner.map(Clamd::new),
            scan_fails_open: settings.scan_fails_open,
            quarantine: settings.quarantine,
            scans: Scans::default(),
            folders: Arc::default(),
            umask: incoming::umask(),
        }
    }

    /// The uploads under way.
    pub fn table(&self) -> MutexGuard<'_, Uploads<Upload, Landed>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The most that all together may have, bytes.
    pub fn bytes_max(&self) -> Option<u64> {
        self.quota.bytes_max()
    }

    /// Room in the quota for so much; nothing if there is not.
    pub fn grant(&self, bytes: u64) -> Option<Grant> {
        let mut grant = self.quota.grant()?;
        grant.add(bytes).then_some(grant)
    }

    /// A turn to write; nothing if too many do, or this visitor does too much at once.
    pub fn turn(&self, who: Who) -> Option<Slot> {
        self.writers.take(who)
    }

    /// Whether files are looked at before they are seen.
    pub fn scans_files(&self) -> bool {
        self.clamd.is_some()
    }

    /// Ask whether the scanner is there, if there is to be one.
    pub async fn ping(&self) -> std::io::Result<()> {
        match &self.clamd {
            Some(clamd) => clamd.ping().await,
            None => Ok(()),
        }
    }
}

/// What comes piece by piece.
pub trait Pieces: Send {
    /// The next; nothing at the end. Pieces may be empty.
    fn next(&mut self) -> impl Future<Output = Option<Result<Bytes, Cut>>> + Send;
}

impl Share {
    /// Where an upload of that name goes: below the folder, and there into one for its type if uploads are sorted so.
    pub fn target(&self, folder: &RelativePath, below: &[u8]) -> Result<Target, IncomingError> {
        if !self.sorts_by_type {
            return Target::find(&self.tree, folder, below);
        }
        // Its content is not here yet: where the name does not tell, [`sorted`] does in the end.
        let kind = sorting::folder_for(below, |_| 0);
        Target::find(&self.tree, folder, &[kind.as_bytes(), b"/", below].concat())
    }
}

/// The connection is gone, or what came on it made no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut;

impl Pieces for axum::body::Body {
    async fn next(&mut self) -> Option<Result<Bytes, Cut>> {
        let frame = std::future::poll_fn(|cx| http_body::Body::poll_frame(std::pin::Pin::new(&mut *self), cx)).await?;
        Some(frame.map(|frame| frame.into_data().unwrap_or_default()).map_err(|_| Cut))
    }
}

/// Why a body was not taken to its end.
#[derive(Debug)]
pub enum Stopped {
    /// It was cut.
    Cut,
    /// It came too slowly to be waited for.
    Tired(Tired),
    /// More came than was said or is allowed.
    TooLong,
    /// The quota is used up.
    Quota,
    /// It could not be written.
    Failed(IncomingError),
}

/// A file that is being written.
#[derive(Debug)]
pub struct Sink {
    /// The file.
    pub file: Arc<File>,
    /// Bytes that it has.
    pub at: u64,
    /// It must not become longer.
    pub end: u64,
    /// Of what was written since this was made, if it is wanted.
    pub hash: Option<Sha256>,
    looked: u64,
}

impl Sink {
    /// Go on at `at`, up to `end` at most.
    pub fn new(file: File, (at, end): (u64, u64)) -> Sink {
        Sink { file: Arc::new(file), at, end, hash: None, looked: at }
    }

    fn write(&mut self, batch: &[Bytes]) -> Result<(), IncomingError> {
        let mut slices: Vec<IoSlice<'_>> = batch.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut rest = &mut slices[..];
        let from = self.at;
        while !rest.is_empty() {
            let at = i64::try_from(self.at).map_err(|_| IncomingError::Full)?;
            match pwritev(&self.file, rest, at) {
                Ok(0) => return Err(IncomingError::Full),
                Ok(n) => {
                    self.at += n as u64;
                    IoSlice::advance_slices(&mut rest, n);
                }
                Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(failed(error.into())),
            }
        }
        if let Some(hash) = &mut self.hash {
            batch.iter().for_each(|piece| hash.update(piece));
        }
        if self.at - self.looked >= LOOK_EVERY_BYTES {
            // The sync at the end then has little left to wait for. It is advice.
            let _ = raw::start_writeback(self.file.as_fd(), self.looked, from - self.looked);
            self.looked = self.at;
            // What is reserved already counts as used.
            let reserved = Metadata::of_open(&self.file).map_or(0, |found| found.blocks.saturating_mul(512));
            if reserved < self.at.saturating_add(LOOK_EVERY_BYTES).min(self.end)
                && incoming::room(&self.file)? < LOOK_EVERY_BYTES.min(self.end - self.at)
            {
                return Err(IncomingError::Full);
            }
        }
        Ok(())
    }
}

/// A sink that is here, or with the thread that writes.
enum Hand {
    Here(Sink),
    Writing(JoinHandle<(Sink, Result<(), IncomingError>)>),
}

impl Hand {
    async fn back(self) -> Result<(Sink, Result<(), IncomingError>), JoinError> {
        match self {
            Hand::Here(sink) => Ok((sink, Ok(()))),
            Hand::Writing(thread) => thread.await,
        }
    }

    fn write(mut sink: Sink, batch: Vec<Bytes>) -> Hand {
        Hand::Writing(tokio::task::spawn_blocking(move || {
            let done = sink.write(&batch);
            (sink, done)
        }))
    }
}

/// Take a body to its end. What was written until then is in the sink in any case; `grant` is asked for what was not
/// granted before.
pub async fn take(
    pieces: &mut impl Pieces,
    sink: Sink,
    (running, meter): (&Running, &mut Meter),
    mut grant: Option<&mut Grant>,
) -> Result<(Sink, Result<(), Stopped>), JoinError> {
    let mut room = sink.end.saturating_sub(sink.at);
    let mut hand = Hand::Here(sink);
    loop {
        let (batch, more) = gather(pieces, meter).await;
        let (sink, done) = hand.back().await?;
        if let Err(error) = done {
            return Ok((sink, Err(Stopped::Failed(error))));
        }
        let bytes = batch.iter().map(|piece| piece.len() as u64).sum::<u64>();
        if bytes > room {
            return Ok((sink, Err(Stopped::TooLong)));
        }
        if grant.as_mut().is_some_and(|grant| !grant.add(bytes)) {
            return Ok((sink, Err(Stopped::Quota)));
        }
        room -= bytes;
        running.add(bytes);
        hand = if batch.is_empty() { Hand::Here(sink) } else { Hand::write(sink, batch) };
        if !matches!(more, Ok(true)) {
            let (sink, done) = hand.back().await?;
            return Ok((sink, done.map_err(Stopped::Failed).and(more.map(drop))));
        }
    }
}

/// A batch, and whether more follows.
async fn gather(pieces: &mut impl Pieces, meter: &mut Meter) -> (Vec<Bytes>, Result<bool, Stopped>) {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while bytes < BATCH_BYTES && batch.len() < BATCH_PIECES_MAX {
        match meter.wait(pieces.next()).await {
            Ok(Some(Ok(piece))) if piece.is_empty() => {}
            Ok(Some(Ok(piece))) => {
                bytes += piece.len();
                meter.add(piece.len() as u64);
                batch.push(piece);
            }
            Ok(Some(Err(Cut))) => return (batch, Err(Stopped::Cut)),
            Ok(None) => return (batch, Ok(false)),
            Err(tired) => return (batch, Err(Stopped::Tired(tired))),
        }
    }
    (batch, Ok(true))
}

/// All of a file is there: where uploads go into one folder for each type, and the name does not tell it, the first
/// bytes do.
pub async fn sorted(share: &Arc<Share>, upload: Upload, file: &Arc<File>) -> Result<Upload, IncomingError> {
    if !share.sorts_by_type {
        return Ok(upload);
    }
    let (share, file, mut upload) = (share.clone(), file.clone(), upload);
    blocking(move || {
        let target = upload.incoming.target();
        let first = |first: &mut [u8; SNIFF_BYTES]| file.read_at(first, 0).unwrap_or(0);
        let kind = sorting::folder_for(target.name(), first);
        if let Some(target) = target.in_type(&share.tree, kind)? {
            upload.incoming.retarget(target, share.intake.umask)?;
        }
        Ok(upload)
    })
    .await
}

/// All of a file is there, and it was [`sorted`]: sync it, have it looked at, give it its name; or put it away.
pub async fn finish(share: &Arc<Share>, upload: Upload, file: Arc<File>, len: u64) -> Result<Landed, IncomingError> {
    let Upload { incoming, mut running } = upload;
    let path = incoming.target().path();
    let touched = incoming.target().touched();
    let settled = file.clone();
    blocking(move || Incoming::settle(&settled, len)).await?;
    let verdict = match &share.intake.clamd {
        None => None,
        Some(clamd) => {
            share.intake.scans.hold(Held { path: path.clone(), state: ScanState::Pending, why: String::new() });
            share.scanned(&path, ScanState::Pending.name());
            let verdict = clamd.scan(file.clone(), len).await;
            share.intake.scans.decided(&path);
            Some(verdict)
        }
    };
    let (scan, why) = match &verdict {
        None => (None, String::new()),
        Some(Verdict::Clean) => (Some(ScanState::Clean), String::new()),
        Some(Verdict::Infected(name)) => (Some(ScanState::Infected), name.clone()),
        Some(Verdict::NotScanned(why)) => (Some(ScanState::NotScanned), why.clone()),
    };
    let is_visible = match scan {
        None | Some(ScanState::Clean) => true,
        Some(ScanState::NotScanned) => share.intake.scan_fails_open,
        Some(ScanState::Infected | ScanState::Pending) => false,
    };
    let done = match is_visible {
        true => land(share, incoming, file, scan).await.map(|path| (path, None)),
        false => put_away(share, incoming, (&path, scan, &why)).await.map(|place| (path.clone(), Some(place))),
    };
    let (path, place) = done?;
    let name = printable(path.as_bytes());
    if let Some(verdict) = verdict {
        let place = place.map(|place| format!("; kept as {}", printable(place.as_bytes())));
        let verdict = format!("{verdict}{}", place.unwrap_or_default());
        share.activity.tell(&Event::Scanned { name: name.clone(), verdict });
    }
    if let Some(scan) = scan {
        share.scanned(&path, scan.name());
    }
    if is_visible {
        share.activity.tell(&Event::Arrived { name, bytes: len });
    }
    touched.iter().for_each(|folder| share.changed(folder));
    running.complete();
    Ok(Landed { path, scan, why, is_visible })
}

async fn land(
    share: &Arc<Share>,
    incoming: Incoming,
    file: Arc<File>,
    scan: Option<ScanState>,
) -> Result<RelativePath, IncomingError> {
    let share = share.clone();
    blocking(move || {
        let path = incoming.land(&file, share.intake.umask)?;
        if let (Some(scan), Ok(metadata)) = (scan, Metadata::of_open(&file)) {
            share.intake.scans.landed(&path, &metadata, scan);
        }
        Ok(path)
    })
    .await
}

async fn put_away(
    share: &Arc<Share>,
    incoming: Incoming,
    (path, state, why): (&RelativePath, Option<ScanState>, &str),
) -> Result<String, IncomingError> {
    let state = state.unwrap_or(ScanState::NotScanned);
    share.intake.scans.hold(Held { path: path.clone(), state, why: why.to_string() });
    let folder = share.intake.quarantine.clone();
    blocking(move || incoming.put_away(folder.as_deref())).await
}

/// Do what a disk may take its time for.
pub async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, IncomingError> + Send + 'static,
) -> Result<T, IncomingError> {
    match tokio::task::spawn_blocking(act).await {
        Ok(done) => done,
        Err(error) => Err(failed(std::io::Error::other(error))),
    }
}

/// Sweep what earlier runs left, then end uploads when they have expired, until the share ends.
pub async fn tend(share: Arc<Share>, stop: Stop) {
    let swept = share.clone();
    let sweeping = tokio::task::spawn_blocking(move || {
        let tops = swept.tree.tops();
        tops.iter().map(|top| incoming::sweep(&top.root, &top.path, IDLE_MAX)).sum::<usize>()
    });
    if let Ok(count) = sweeping.await
        && count > 0
    {
        tracing::info!(count, "partial uploads of earlier runs were removed");
    }
    loop {
        tokio::select! {
            () = stop.ended() => return,
            () = tokio::time::sleep(TEND_EVERY) => {}
        }
        let over = share.intake.table().expire(Instant::now());
        // Removing a large file takes time.
        let _ = tokio::task::spawn_blocking(move || drop(over)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::net::IpAddr;

    use super::*;
    use crate::share::activity::{Action, Activity, Unseen};
    use crate::share::gate::VisitorId;

    /// Gives these, and then an end, an error, or nothing for ever.
    struct Script(VecDeque<Bytes>, Option<Result<(), Cut>>);

    impl Pieces for Script {
        async fn next(&mut self) -> Option<Result<Bytes, Cut>> {
            if let Some(piece) = self.0.pop_front() {
                return Some(Ok(piece));
            }
            match self.1 {
                Some(Ok(())) => None,
                Some(Err(cut)) => Some(Err(cut)),
                None => std::future::pending().await,
            }
        }
    }

    fn script(count: usize, end: Option<Result<(), Cut>>) -> Script {
        Script((0..count).map(|n| Bytes::from(vec![n as u8; 10_000])).collect(), end)
    }

    async fn taken(
        mut script: Script,
        (at, end): (u64, u64),
        grant: Option<&mut Grant>,
    ) -> (Sink, Result<(), Stopped>) {
        let activity = Arc::new(Activity::new(Box::new(Unseen)));
        let who = (VisitorId(1), IpAddr::from([127, 0, 0, 1]));
        let running = activity.begin(Action::Upload, String::new(), who, None);
        take(&mut script, Sink::new(tempfile::tempfile().unwrap(), (at, end)), (&running, &mut Meter::default()), grant)
            .await
            .unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_is_written_however_it_ends() {
        for (end, said) in [(Some(Ok(())), "Ok(())"), (Some(Err(Cut)), "Err(Cut)"), (None, "Err(Tired(Silent))")] {
            let (sink, done) = taken(script(200, end), (7, 3_000_000), None).await;
            assert_eq!(format!("{done:?}"), said);
            assert_eq!(sink.at, 2_000_007);
            let mut content = vec![0; 2_000_007];
            std::os::unix::fs::FileExt::read_exact_at(&*sink.file, &mut content, 0).unwrap();
            assert!(content[7..].chunks(10_000).enumerate().all(|(n, part)| part.iter().all(|byte| *byte == n as u8)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_is_allowed_is_not_written() {
        let (sink, done) = taken(script(200, Some(Ok(()))), (0, 1_999_999), None).await;
        assert!(matches!(done, Err(Stopped::TooLong)) && sink.at < 2_000_000);
        let quota = Quota::new(Some(1_000_000));
        let mut grant = quota.grant().unwrap();
        let (sink, done) = taken(script(200, Some(Ok(()))), (0, u64::MAX), Some(&mut grant)).await;
        assert!(matches!(done, Err(Stopped::Quota)) && sink.at <= 1_000_000);
        let (sink, done) = taken(script(0, Some(Ok(()))), (0, 0), None).await;
        assert!(done.is_ok() && sink.at == 0);
    }

    #[tokio::test]
    async fn a_hash_is_of_what_was_written() {
        let mut sink = Sink::new(tempfile::tempfile().unwrap(), (0, 100));
        sink.hash = Some(Sha256::new());
        let mut body = Script(VecDeque::from([Bytes::from("ab"), Bytes::new(), Bytes::from("c")]), Some(Ok(())));
        let activity = Arc::new(Activity::new(Box::new(Unseen)));
        let who = (VisitorId(1), IpAddr::from([127, 0, 0, 1]));
        let running = activity.begin(Action::Upload, String::new(), who, None);
        let (sink, _) = take(&mut body, sink, (&running, &mut Meter::default()), None).await.unwrap();
        assert_eq!(sink.hash.unwrap().finalize(), Sha256::digest("abc"));
    }
}
