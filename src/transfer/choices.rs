//! What an end chose by itself, and why: for receipts.

use super::handing::Handover;
use crate::proto::copy::options::{Compression, CopyOptions};
use crate::proto::copy::report::Choice;

/// The choice of an option, or of what no option says.
pub fn choice_of(option: &str, value: impl ToString, reason: &str) -> Choice {
    Choice { option: option.to_string(), value: value.to_string(), reason: reason.to_string() }
}

/// How a source brings content to its streams, or to the other end in the same process.
pub(super) fn of_source(
    options: &CopyOptions,
    sends_ranges: bool,
    handover: Option<&Handover>,
    (moved, wire): (u64, u64),
) -> Vec<Choice> {
    let mut choices = match (handover, sends_ranges) {
        (Some(handover), _) => handover.choices(),
        (None, true) => {
            let why = "data streams are unencrypted: the kernel sends what the page cache holds; small files are packed \
                       into buffers, and what is compressed is";
            vec![choice_of("method", "sendfile", why)]
        }
        (None, false) => {
            let why = "data streams are encrypted: what is read is encrypted where it lies";
            vec![choice_of("method", "TLS buffer", why)]
        }
    };
    if options.compress == Compression::Auto && handover.is_none() {
        choices.push(match wire < moved {
            true => {
                choice_of("compress", "zstd:1", "auto: some of it shrank while the network was what all waited for")
            }
            false => {
                choice_of("compress", "none", "auto: the network took all as fast as it was read, or nothing shrank")
            }
        });
    }
    choices
}

/// What a sink does about the page cache.
pub(super) fn of_sink((is_direct, why): (bool, &str)) -> Vec<Choice> {
    vec![choice_of("direct", if is_direct { "on" } else { "off" }, why)]
}

/// What the kernel was found to do within this machine, from any filesystem.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    /// Blocks were shared.
    pub(super) shares: bool,
    /// It copied from file to file.
    pub(super) copies: bool,
}

/// How content comes from file to file within this machine, and how it is hashed.
pub(super) fn within_machine(verify: bool, found: Found) -> Vec<Choice> {
    let (method, why) = match found {
        Found { shares: true, .. } => {
            ("reflink", "the filesystem shares blocks: nothing is written; small files go through buffers")
        }
        Found { copies: true, .. } => {
            ("copy_file_range", "nothing is verified: the kernel copies; small files go through buffers")
        }
        _ if verify => ("buffer", "no blocks were shared: what is hashed on its way is read into memory"),
        _ => ("buffer", "no blocks were shared, and the kernel copied nothing from file to file"),
    };
    let hashing = match (verify, found.shares) {
        (false, _) => choice_of("hashing", "none", "nothing is verified"),
        (true, true) => choice_of(
            "hashing",
            "source and destination",
            "what shares its blocks is read and hashed at both names, all else read once, hashed once",
        ),
        (true, false) => choice_of(
            "hashing",
            "once",
            "read once, hashed once: the buffer that was hashed is the one that was written; --reread hashes what is \
             stored, too",
        ),
    };
    vec![choice_of("method", method, why), hashing]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_says_how_it_copies_and_hashes() {
        let table = [
            (true, false, false, "buffer", "once"),
            (true, true, false, "reflink", "source and destination"),
            (false, true, false, "reflink", "none"),
            (false, false, true, "copy_file_range", "none"),
            (false, false, false, "buffer", "none"),
        ];
        for (verify, shares, copies, method, hashing) in table {
            let [how, hashed] = &within_machine(verify, Found { shares, copies })[..] else { panic!("two choices") };
            assert_eq!((how.value.as_str(), hashed.value.as_str()), (method, hashing));
        }
    }

    #[test]
    fn what_auto_came_to_is_told() {
        let auto = CopyOptions { compress: Compression::Auto, ..CopyOptions::default() };
        let values = |options: &CopyOptions, ranges, bytes| -> Vec<String> {
            of_source(options, ranges, None, bytes).into_iter().map(|choice| choice.value).collect()
        };
        assert_eq!(values(&auto, true, (10, 5)), ["sendfile", "zstd:1"]);
        assert_eq!(values(&auto, false, (10, 10)), ["TLS buffer", "none"]);
        assert_eq!(values(&CopyOptions::default(), false, (10, 5)), ["TLS buffer"]);
    }
}
