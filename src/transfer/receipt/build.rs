//! From what an end knows of a copy to its receipt. Every number in it is finite.

use jiff::Timestamp;

use super::{
    Digests, EndCost, Keeper, NAMED_MAX, Name, Named, Reason, Receipt, Route, SCHEMA, Settings, StageShare, Totals,
    Verified,
};
use crate::proto::copy::options::{Compression, CopyOptions, Durability, Existing, Purpose, Selection};
use crate::proto::copy::report::{CHOICES_MAX, EndReport};
use crate::transfer::bottleneck::Over;
use crate::transfer::tally::Tally;

/// What an end knows of a copy that is over, or broken off.
#[derive(Debug)]
pub struct Account<'a> {
    /// Random; the same in all sessions of the copy.
    pub run: [u8; 16],
    /// Which end keeps it.
    pub keeper: Keeper,
    /// The command line, one string per argument.
    pub command: Vec<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took, s.
    pub seconds: f64,
    /// From where to where.
    pub route: Route,
    /// How.
    pub options: &'a CopyOptions,
    /// The rest of how: streams, TLS, choices. What follows from `options` is filled in.
    pub settings: Settings,
    /// What became of the entries, over all sessions.
    pub tally: &'a Tally,
    /// Entries that were removed.
    pub deleted: u64,
    /// What failed at the end, such as the times of folders, and is not in the tally.
    pub failed_at_end: &'a [(Vec<u8>, String)],
    /// How this end was, over the last session or all of them.
    pub near: &'a EndReport,
    /// How the other was, where that is known.
    pub far: Option<&'a EndReport>,
    /// This end has the files.
    pub is_source: bool,
    /// How often the connection was made again.
    pub reconnections: u32,
    /// What limited it.
    pub bottleneck: Option<String>,
    /// Why it did not come to its end, if it did not.
    pub broken: Option<String>,
    /// Of the program.
    pub exit_code: Option<u8>,
}

impl Account<'_> {
    /// The receipt of it.
    pub fn receipt(self) -> Receipt {
        let seconds = if self.seconds.is_finite() { self.seconds.max(0.0) } else { 0.0 };
        let digest = self.digests();
        let verified = self.verified(&digest);
        let (near, far) = (Some(cost(self.near)), self.far.map(cost));
        let (source, destination) = if self.is_source { (near, far) } else { (far, near) };
        // The destination counts what it stored, and no more.
        let moved = self.far.filter(|_| self.is_source).unwrap_or(self.near);
        let of_sink = if self.is_source { self.far } else { Some(self.near) };
        let (first, last) = if self.is_source { (Some(self.near), self.far) } else { (self.far, Some(self.near)) };
        let mut settings = settings(self.options, self.settings);
        settings.choices.extend([first, last].into_iter().flatten().flat_map(|end| end.choices.iter().cloned()));
        settings.choices.truncate(CHOICES_MAX);
        let late = self.failed_at_end.len() as u64;
        let mut failures = named(&self.tally.failures, self.tally.failed.entries.saturating_add(late));
        let room = NAMED_MAX.saturating_sub(failures.first.len());
        failures.first.extend(self.failed_at_end.iter().take(room).map(reason));
        let mut totals = totals(self.tally, self.deleted);
        totals.failed.entries = totals.failed.entries.saturating_add(late);
        let ended_at =
            self.started_at.checked_add(jiff::SignedDuration::try_from_secs_f64(seconds).unwrap_or_default());
        Receipt {
            schema: SCHEMA.to_string(),
            version: env!("CARGO_PKG_VERSION").to_string(),
            commit: env!("LINERATE_COMMIT").to_string(),
            run: self.run.iter().map(|byte| format!("{byte:02x}")).collect(),
            written_by: self.keeper,
            command: self.command,
            started_at: format!("{:.3}", self.started_at),
            ended_at: format!("{:.3}", ended_at.unwrap_or(self.started_at)),
            seconds,
            complete: self.broken.is_none(),
            why: self.broken,
            verified,
            exit_code: self.exit_code,
            route: self.route,
            settings,
            totals,
            bytes_moved: moved.moved_bytes,
            bytes_on_wire: moved.wire_bytes,
            gb_per_s: if seconds > 0.0 { moved.moved_bytes as f64 / seconds / 1e9 } else { 0.0 },
            reconnections: self.reconnections,
            resumed_bytes: of_sink.map_or(0, |sink| sink.resumed_bytes),
            damaged_blocks: of_sink.map_or(0, |sink| sink.damaged_blocks),
            source,
            destination,
            bottleneck: self.bottleneck,
            digest,
            failures,
            skips: named(&self.tally.skips, self.tally.skipped.entries),
        }
    }

    fn digests(&self) -> Digests {
        let near = Some(self.near.digest.clone()).filter(|digest| !digest.is_empty());
        let far = self.far.map(|far| far.digest.clone()).filter(|digest| !digest.is_empty());
        let agree = near.as_ref().zip(far.as_ref()).map(|(near, far)| near == far);
        let (source, destination) = if self.is_source { (near, far) } else { (far, near) };
        Digests { proven: self.tally.digest.to_string(), source, destination, agree }
    }

    fn verified(&self, digest: &Digests) -> Verified {
        if !self.options.verify || self.options.purpose != Purpose::Copy {
            return Verified::NONE;
        }
        let is_whole = self.broken.is_none() && self.tally.failed.entries == 0 && self.failed_at_end.is_empty();
        Verified::Proven(is_whole && digest.agree != Some(false))
    }
}

/// What an end spent, over all that it reports.
fn cost(report: &EndReport) -> EndCost {
    let over = Over { before: None, after: report };
    let share = |time: &crate::proto::copy::report::StageTime| StageShare {
        stage: time.stage.name().to_string(),
        seconds: time.ns as f64 / 1e9,
        share: over.share(time.stage),
    };
    EndCost {
        host: report.host.clone(),
        version: report.version.clone(),
        seconds: report.elapsed_ns as f64 / 1e9,
        cpu_seconds: report.cpu_ns as f64 / 1e9,
        memory_peak_bytes: report.memory_peak_bytes,
        threads: report.threads,
        stages: report.stages.iter().map(share).collect(),
    }
}

fn totals(tally: &Tally, deleted: u64) -> Totals {
    let &Tally { found, done, had, planned, skipped, failed, .. } = tally;
    Totals { found, done, had, planned, skipped, failed, deleted }
}

fn named(list: &[(Vec<u8>, String)], count: u64) -> Named {
    Named { count, first: list.iter().take(NAMED_MAX).map(reason).collect() }
}

fn reason((path, why): &(Vec<u8>, String)) -> Reason {
    Reason { name: Name::of(path), why: why.clone() }
}

fn settings(options: &CopyOptions, rest: Settings) -> Settings {
    Settings {
        purpose: match options.purpose {
            Purpose::Copy => "copy",
            Purpose::DryRun => "dry-run",
            Purpose::List => "list",
        }
        .to_string(),
        verify: if options.verify { "blake3" } else { "none" }.to_string(),
        reread: options.reread,
        checksum: options.checksum,
        hard_links: options.hard_links,
        owner: options.owner,
        xattrs: options.xattrs,
        existing: match options.existing {
            Existing::Replace => "replace",
            Existing::Skip => "skip",
            Existing::Fail => "fail",
            Existing::KeepNewer => "keep-newer",
        }
        .to_string(),
        durability: match options.durability {
            Durability::Full => "full",
            Durability::File => "file",
            Durability::None => "none",
        }
        .to_string(),
        delete: options.delete,
        compress: match options.compress {
            Compression::None => "none".to_string(),
            Compression::Auto => "auto".to_string(),
            Compression::Zstd(level) => format!("zstd:{level}"),
        },
        limit_bytes_per_s: options.limit,
        nice: options.nice,
        filters: filters(&options.selection),
        piece_bytes: options.piece_bytes,
        ..rest
    }
}

/// A selection as the options that say it.
fn filters(selection: &Selection) -> Vec<String> {
    let each = |option: &'static str, list: &[String]| {
        list.iter().map(|value| format!("{option} {value}")).collect::<Vec<_>>()
    };
    let mut found = each("--include", &selection.include);
    found.extend(each("--exclude", &selection.exclude));
    found.extend(each("--type", &selection.kinds));
    let newer = selection.newer.and_then(|(s, ns)| Timestamp::new(s, ns.try_into().ok()?).ok());
    found.extend(newer.map(|newer| format!("--newer {newer}")));
    found.extend(selection.max_size.map(|size| format!("--max-size {size}")));
    found.extend(selection.min_size.map(|size| format!("--min-size {size}")));
    found
}

#[cfg(test)]
mod tests {
    use super::super::Unverified;
    use super::super::sample::{account, report, tally};
    use super::*;
    use crate::proto::copy::report::Stage;
    use crate::transfer::choices::choice_of;
    use crate::transfer::tally::Count;

    #[test]
    fn a_receipt_says_what_the_ends_know() {
        let (tally, options) = (tally(), CopyOptions::default());
        let chosen = |option: &str| vec![choice_of(option, "it", "why")];
        let near = report("here", &[(Stage::Read, 1000), (Stage::Scan, 500)], &tally);
        let near = EndReport { choices: chosen("method"), ..near };
        let far = report("there", &[(Stage::Write, 400)], &tally);
        let far = EndReport { resumed_bytes: 9, damaged_blocks: 1, choices: chosen("direct"), ..far };
        let receipt = account(&tally, &near, Some(&far), &options).receipt();
        assert_eq!((receipt.schema.as_str(), receipt.run.as_str()), (SCHEMA, "ab".repeat(16).as_str()));
        assert_eq!(receipt.started_at, "2023-11-14T22:13:20.000Z");
        assert_eq!(receipt.ended_at, "2023-11-14T22:13:22.000Z");
        assert_eq!(receipt.verified, Verified::Proven(false), "something failed");
        assert_eq!(receipt.totals.found, Count { entries: 3, files: 3, bytes: 15 });
        assert_eq!((receipt.totals.failed.entries, receipt.totals.deleted), (1, 1));
        assert_eq!(receipt.failures.first[0].name.path_base64.as_deref(), Some("Y/8="));
        assert_eq!((receipt.skips.count, receipt.skips.first[0].name.path.as_str()), (1, "fifo"));
        assert_eq!((receipt.resumed_bytes, receipt.damaged_blocks), (9, 1));
        assert_eq!(receipt.gb_per_s, 3.0 / 2.0 / 1e9);
        let source = receipt.source.unwrap();
        let shares: Vec<f64> = source.stages.iter().map(|stage| stage.share).collect();
        assert_eq!((source.host.as_str(), shares), ("here", vec![0.25, 0.25]), "the scan is one thread");
        assert_eq!(receipt.digest.agree, Some(true));
        assert_eq!(receipt.settings.verify, "blake3");
        let chosen: Vec<&str> = receipt.settings.choices.iter().map(|choice| choice.option.as_str()).collect();
        assert_eq!(chosen, ["streams", "method", "direct"]);
    }

    #[test]
    fn verified_is_what_is_proven() {
        let whole = Tally::default();
        let near = report("here", &[], &whole);
        let other = EndReport { digest: "1".repeat(64), ..near.clone() };
        let options = CopyOptions::default();
        let unverified = CopyOptions { verify: false, ..CopyOptions::default() };
        let rehearsal = CopyOptions { purpose: Purpose::DryRun, ..CopyOptions::default() };
        let of = |far, options, broken: Option<&str>| {
            let broken = broken.map(str::to_string);
            Account { broken, ..account(&whole, &near, far, options) }.receipt()
        };
        assert_eq!(of(Some(&near), &options, None).verified, Verified::Proven(true));
        assert_eq!(of(None, &options, None).verified, Verified::Proven(true));
        assert_eq!(of(Some(&other), &options, None).verified, Verified::Proven(false));
        assert_eq!(of(Some(&near), &options, Some("lost")).verified, Verified::Proven(false));
        assert_eq!(of(Some(&near), &unverified, None).verified, Verified::Not(Unverified::None));
        assert_eq!(of(Some(&near), &rehearsal, None).verified, Verified::NONE);
        let broken = of(None, &options, Some("lost"));
        assert!(!broken.complete && broken.destination.is_none() && broken.why.as_deref() == Some("lost"));
    }

    #[test]
    fn late_failures_count() {
        let whole = Tally::default();
        let (near, options) = (report("here", &[], &whole), CopyOptions::default());
        let late = [(b"folder".to_vec(), "its times cannot be set".to_string())];
        let receipt = Account { failed_at_end: &late, ..account(&whole, &near, None, &options) }.receipt();
        assert_eq!((receipt.failures.count, receipt.totals.failed.entries), (1, 1));
        assert_eq!((receipt.failures.first.len(), receipt.verified), (1, Verified::Proven(false)));
    }
}
