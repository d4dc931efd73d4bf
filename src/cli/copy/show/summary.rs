//! The end of a copy as text for a person: what was moved, how fast, where the time went, what is proven. Pure.

use crate::cli::figures::{bytes, count, rate};
use crate::text::printable;
use crate::transfer::receipt::{EndCost, Name, Receipt, Totals, Verified};

/// Skips that are named.
const SKIPS_SHOWN_MAX: usize = 10;
/// Digits of the digest that are shown: enough to compare two by eye.
const DIGEST_SHOWN: usize = 16;
/// Shares below this are not worth a word.
const SHARE_MIN: f64 = 0.01;

/// Lines without an end of line at the last. What failed is somebody else's to say.
pub(super) fn render(receipt: &Receipt) -> String {
    let mut lines = vec![first(receipt)];
    lines.extend(already(&receipt.totals));
    lines.extend(ends(receipt));
    lines.extend(receipt.bottleneck.as_ref().map(|limit| format!("  limited by: {limit}")));
    lines.extend(repairs(receipt));
    lines.extend(verified(receipt));
    lines.extend(skips(receipt));
    lines.join("\n")
}

fn first(receipt: &Receipt) -> String {
    let Totals { done, planned, failed, .. } = &receipt.totals;
    let failed = if failed.entries > 0 { format!(", {} failed", failed.entries) } else { String::new() };
    if receipt.settings.purpose == "dry-run" {
        let files = count(planned.files, "file", "files");
        return format!("would copy {files}, {}{failed}", bytes(planned.bytes));
    }
    if receipt.complete && done.entries == 0 && was_there(receipt) {
        return format!("nothing to copy: looked at all in {:.2} s{failed}", receipt.seconds);
    }
    let files = count(done.files, "file", "files");
    let verb = if receipt.complete { "copied" } else { "broken off: copied" };
    let (size, moved) = (bytes(done.bytes), moved(receipt));
    format!("{verb} {files} of {size} in {:.2} s{moved}{failed}", receipt.seconds)
}

/// What passed, of which the rate is: holes of the files and what an earlier run had stored did not.
fn moved(receipt: &Receipt) -> String {
    let rate = match receipt.gb_per_s {
        0.0 if receipt.totals.done.bytes == 0 => return String::new(),
        0.0 => String::new(),
        fast @ 0.01.. => format!(" at {fast:.2} GB/s"),
        slow => format!(" at {}", rate(slow * 1e9)),
    };
    // Of holes only the lengths are on the wire.
    let is_packed = receipt.settings.compress != "none" && receipt.bytes_on_wire < receipt.bytes_moved;
    let packed = match is_packed {
        true => format!(" ({} compressed)", bytes(receipt.bytes_on_wire)),
        false => String::new(),
    };
    format!(": {} moved{rate}{packed}", bytes(receipt.bytes_moved))
}

/// Something was there already.
fn was_there(receipt: &Receipt) -> bool {
    receipt.totals.had.entries > 0
}

fn already(totals: &Totals) -> Option<String> {
    let mut parts = Vec::new();
    if totals.had.files > 0 {
        let files = count(totals.had.files, "file was", "files were");
        parts.push(format!("{files} there already ({})", bytes(totals.had.bytes)));
    }
    if totals.deleted > 0 {
        parts.push(format!("{} removed", count(totals.deleted, "entry was", "entries were")));
    }
    (!parts.is_empty()).then(|| format!("  {}", parts.join(", ")))
}

/// A line for each end that is known and did something.
fn ends(receipt: &Receipt) -> Vec<String> {
    let both = [("source", &receipt.source), ("destination", &receipt.destination)];
    let known = both.into_iter().filter_map(|(name, cost)| Some((name, cost.as_ref()?)));
    known.filter(|(_, cost)| !cost.stages.is_empty()).map(|(name, cost)| end(name, cost)).collect()
}

fn end(name: &str, cost: &EndCost) -> String {
    let share = |stage: &&crate::transfer::receipt::StageShare| stage.share >= SHARE_MIN;
    let stages: Vec<String> = cost
        .stages
        .iter()
        .filter(share)
        .map(|stage| format!("{} {:.0} %", stage.stage.replace('-', " "), stage.share * 100.0))
        .collect();
    let host = printable(cost.host.as_bytes());
    let stages = if stages.is_empty() { "idle".to_string() } else { stages.join(", ") };
    let memory = cost.memory_peak_bytes >> 20;
    format!("  {name} {host}: {stages}; {:.2} s of CPU, {memory} MiB", cost.cpu_seconds)
}

/// What went wrong and was put right.
fn repairs(receipt: &Receipt) -> Option<String> {
    let mut parts = Vec::new();
    if receipt.reconnections > 0 {
        parts.push(format!("reconnected {}", count(receipt.reconnections.into(), "time", "times")));
    }
    if receipt.resumed_bytes > 0 {
        parts.push(format!("{} had been stored by an earlier run", bytes(receipt.resumed_bytes)));
    }
    if receipt.damaged_blocks > 0 {
        parts.push(format!("{} came damaged and again", count(receipt.damaged_blocks, "block", "blocks")));
    }
    (!parts.is_empty()).then(|| format!("  {}", parts.join(", ")))
}

fn verified(receipt: &Receipt) -> Option<String> {
    let digest = receipt.digest.proven.get(..DIGEST_SHOWN).unwrap_or_default();
    match receipt.verified {
        Verified::Not(_) if receipt.settings.purpose == "copy" => Some("  not verified, as was asked".to_string()),
        Verified::Not(_) => None,
        Verified::Proven(_) if receipt.digest.agree == Some(false) => {
            Some("  NOT verified: the two ends do not agree on what was copied".to_string())
        }
        Verified::Proven(true) if receipt.totals.done.files == 0 => None,
        Verified::Proven(true) => Some(format!("  verified: BLAKE3 on both ends, digest {digest}…")),
        Verified::Proven(false) => {
            Some(format!("  verified as far as it was copied: BLAKE3 on both ends, digest {digest}…"))
        }
    }
}

fn skips(receipt: &Receipt) -> Vec<String> {
    let skips = &receipt.skips;
    if skips.count == 0 {
        return Vec::new();
    }
    let mut lines = vec![format!("  skipped {}:", skips.count)];
    for skip in skips.first.iter().take(SKIPS_SHOWN_MAX) {
        lines.push(format!("    {}: {}", shown(&skip.name), printable(skip.why.as_bytes())));
    }
    let more = skips.count.saturating_sub(SKIPS_SHOWN_MAX as u64);
    if more > 0 {
        lines.push(format!("    and {more} more: --json or --receipt FILE names them"));
    }
    lines
}

/// Fit to show, with the bytes that are not UTF-8.
fn shown(name: &Name) -> String {
    use base64::Engine;
    let decode = |text: &String| base64::engine::general_purpose::STANDARD.decode(text).ok();
    match name.path_base64.as_ref().and_then(decode) {
        Some(bytes) => printable(&bytes),
        None => printable(name.path.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::receipt::{Count, Digests, Keeper, Named, Reason, Route, SCHEMA, Settings, StageShare};

    fn receipt() -> Receipt {
        let stage = |stage: &str, share| StageShare { stage: stage.to_string(), seconds: share * 2.0, share };
        let cost = |host: &str, stages| EndCost {
            host: host.to_string(),
            cpu_seconds: 1.5,
            memory_peak_bytes: 25 << 20,
            stages,
            ..EndCost::default()
        };
        let skip = |path: &[u8]| Reason { name: Name::of(path), why: "a FIFO".to_string() };
        Receipt {
            schema: SCHEMA.to_string(),
            version: String::new(),
            commit: String::new(),
            run: String::new(),
            written_by: Keeper::Client,
            command: Vec::new(),
            started_at: String::new(),
            ended_at: String::new(),
            seconds: 2.0,
            complete: true,
            why: None,
            verified: Verified::Proven(true),
            exit_code: Some(0),
            route: Route::default(),
            settings: Settings { purpose: "copy".to_string(), ..Settings::default() },
            totals: Totals {
                done: Count { entries: 121, files: 120, bytes: 4_294_967_296 },
                had: Count { entries: 1, files: 1, bytes: 5_000_000 },
                ..Totals::default()
            },
            bytes_moved: 4_294_967_296,
            bytes_on_wire: 4_294_967_296,
            gb_per_s: 2.147,
            reconnections: 0,
            resumed_bytes: 0,
            damaged_blocks: 0,
            source: Some(cost("here", vec![stage("scan", 0.001), stage("read", 0.4), stage("await-work", 0.2)])),
            destination: Some(cost("nas\n", vec![stage("write", 0.9)])),
            bottleneck: Some("destination disk (writing)".to_string()),
            digest: Digests { proven: "0123456789abcdef".repeat(4), agree: Some(true), ..Digests::default() },
            failures: Named::default(),
            skips: Named { count: 12, first: (0..12).map(|_| skip(b"fi\x1bfo\xff")).collect() },
        }
    }

    #[test]
    fn a_summary_says_what_was_done_and_what_was_not() {
        let text = render(&receipt());
        let expected = "\
copied 120 files of 4.29 GB in 2.00 s: 4.29 GB moved at 2.15 GB/s
  1 file was there already (5.00 MB)
  source here: read 40 %, await work 20 %; 1.50 s of CPU, 25 MiB
  destination nas\\n: write 90 %; 1.50 s of CPU, 25 MiB
  limited by: destination disk (writing)
  verified: BLAKE3 on both ends, digest 0123456789abcdef…
  skipped 12:
    fi\\u{1b}fo\\xff: a FIFO
";
        assert!(text.starts_with(expected), "{text}");
        assert!(text.ends_with("FIFO\n    and 2 more: --json or --receipt FILE names them"), "{text}");
    }

    #[test]
    fn bytes_of_files_and_bytes_that_moved_are_told_apart() {
        let sparse = |moved: u64, on_wire| {
            let gb_per_s = moved as f64 / 2e9;
            let mut receipt = Receipt { bytes_moved: moved, bytes_on_wire: on_wire, gb_per_s, ..receipt() };
            receipt.settings.compress = "auto".to_string();
            render(&receipt).lines().next().unwrap_or_default().to_string()
        };
        let table = [
            ((0, 0), "copied 120 files of 4.29 GB in 2.00 s: 0 B moved"),
            ((1_000_000, 1_000_000), "copied 120 files of 4.29 GB in 2.00 s: 1.00 MB moved at 500 kB/s"),
            (
                (4_000_000, 1_000),
                "copied 120 files of 4.29 GB in 2.00 s: 4.00 MB moved at 2.00 MB/s (1.00 kB compressed)",
            ),
        ];
        for ((moved, on_wire), expected) in table {
            assert_eq!(sparse(moved, on_wire), expected);
        }
    }

    #[test]
    fn other_endings_are_told_too() {
        let mut other = receipt();
        (other.skips, other.source, other.destination, other.bottleneck) = (Named::default(), None, None, None);
        (other.reconnections, other.resumed_bytes, other.damaged_blocks) = (1, 1000, 2);
        (other.totals.had, other.totals.failed.entries) = (Count::default(), 3);
        other.verified = Verified::Proven(false);
        let expected = "\
copied 120 files of 4.29 GB in 2.00 s: 4.29 GB moved at 2.15 GB/s, 3 failed
  reconnected 1 time, 1.00 kB had been stored by an earlier run, 2 blocks came damaged and again
  verified as far as it was copied: BLAKE3 on both ends, digest 0123456789abcdef…";
        assert_eq!(render(&other), expected);
        (other.reconnections, other.resumed_bytes, other.damaged_blocks) = (0, 0, 0);
        other.digest.agree = Some(false);
        assert!(render(&other).contains("NOT verified"));
        (other.verified, other.complete) = (Verified::NONE, false);
        assert!(render(&other).starts_with("broken off: copied 120 files"));
        assert!(render(&other).ends_with("not verified, as was asked"));
        other.settings.purpose = "dry-run".to_string();
        other.totals.planned = Count { entries: 2, files: 1, bytes: 10 };
        assert_eq!(render(&other), "would copy 1 file, 10 B, 3 failed");
        let mut idle = receipt();
        (idle.totals.done, idle.totals.failed, idle.skips) = (Count::default(), Count::default(), Named::default());
        let text = render(&idle);
        assert!(text.starts_with("nothing to copy: looked at all in 2.00 s\n  1 file was there already"), "{text}");
        assert!(!text.contains("verified"), "{text}");
    }
}
