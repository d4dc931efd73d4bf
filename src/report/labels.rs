//! The one table of labels: what makes a number flatter than a real copy, or differ from one.
//!
//! Who measures attaches the names, who shows them explains each once. Nothing here decides when one applies.

/// Both ends share this machine.
pub const LOOPBACK: &str = "loopback";
/// The bytes went through an ssh connection.
pub const THROUGH_SSH: &str = "through-ssh";
/// The bytes came from a memory region that stays in the cache.
pub const HOT_SOURCE: &str = "hot-source";
/// MSG_ZEROCOPY was not zero-copy.
pub const COPIED: &str = "copied";
/// The receiver threw the bytes away unseen.
pub const NOT_READ: &str = "not-read";
/// The sending program was the limit.
pub const APP_LIMITED: &str = "app-limited";
/// Other clients were served at the same time.
pub const SHARED: &str = "shared";
/// Too few rounds for intervals that mean much.
pub const FEW_ROUNDS: &str = "few-rounds";

/// One label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// As it stands in the result file.
    pub name: &'static str,
    /// One sentence for a person, without a full stop.
    pub explanation: &'static str,
}

/// Every label, in the order in which they are explained.
pub const LABELS: [Label; 8] = [
    label(LOOPBACK, "both ends share this machine: no network device is measured, and both ends use its CPU"),
    label(THROUGH_SSH, "the bytes went through an ssh connection: its speed is measured, not that of the network"),
    label(HOT_SOURCE, "the bytes came from a small memory region that stays in the CPU's cache: a real file is slower"),
    label(COPIED, "MSG_ZEROCOPY fell back to copying in the kernel"),
    label(NOT_READ, "the receiver never looked at the bytes (MSG_TRUNC, or splice to /dev/null)"),
    label(
        APP_LIMITED,
        "the sender's own program, not the network, left the connection idle for more than a tenth of the time",
    ),
    label(SHARED, "the server was busy with other clients at the same time"),
    label(FEW_ROUNDS, "fewer than 5 rounds were measured: the intervals are weak"),
];

/// The label of that name; `None` for one that this program does not know.
pub fn lookup(name: &str) -> Option<&'static Label> {
    LABELS.iter().find(|label| label.name == name)
}

const fn label(name: &'static str, explanation: &'static str) -> Label {
    Label { name, explanation }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_is_found_by_its_name_and_explained_in_one_sentence() {
        for label in &LABELS {
            assert_eq!(lookup(label.name), Some(label));
            assert!(!label.explanation.contains(". ") && !label.explanation.ends_with('.'));
        }
        assert_eq!(lookup("unheard-of"), None);
    }
}
