//! Points in time on the command line and in lists, as seconds of Unix time.

use std::str::FromStr;

use jiff::Timestamp;

use crate::units::Span;

/// When a ticket expires: `12h`, `7d`, `2027-01-31T12:00:00Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expiry {
    pub(super) unix_s: u64,
}

impl FromStr for Expiry {
    type Err = String;

    fn from_str(text: &str) -> Result<Expiry, String> {
        Expiry::from(text, now_unix_s())
    }
}

impl Expiry {
    fn from(text: &str, now_unix_s: u64) -> Result<Expiry, String> {
        let example = "write a time from now such as 12h or 7d, or a date such as 2027-01-31T12:00:00Z";
        let unix_s = match (text.parse::<Span>(), text.parse::<Timestamp>()) {
            (Ok(span), _) => now_unix_s.checked_add(span.0.as_secs()),
            (_, Ok(date)) => Some(u64::try_from(date.as_second()).unwrap_or(0)),
            _ => return Err(format!("{text:?} is no time to expire at: {example}")),
        };
        let is_date = |unix_s: &u64| i64::try_from(*unix_s).is_ok_and(|s| Timestamp::from_second(s).is_ok());
        let unix_s = unix_s.filter(is_date).ok_or_else(|| format!("{text:?} is too far away: {example}"))?;
        if unix_s <= now_unix_s {
            return Err(format!("{text:?} is over already: {example}"));
        }
        Ok(Expiry { unix_s })
    }
}

/// Now.
pub(super) fn now_unix_s() -> u64 {
    // A clock before 1970 is one that was never set.
    u64::try_from(Timestamp::now().as_second()).unwrap_or(0)
}

/// For a person and for programs: `2027-01-31T12:00:00Z`.
pub(super) fn shown(unix_s: u64) -> String {
    let time = i64::try_from(unix_s).ok().and_then(|s| Timestamp::from_second(s).ok());
    time.unwrap_or(Timestamp::MAX).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_dates_are_read() {
        let now = 1_800_000_000;
        let table = [
            ("7d", now + 7 * 86400),
            ("12h", now + 12 * 3600),
            ("90", now + 90),
            ("2027-01-31T12:00:00Z", 1_801_396_800),
            ("2027-01-31T13:00:00+01:00", 1_801_396_800),
        ];
        for (text, unix_s) in table {
            assert_eq!(Expiry::from(text, now), Ok(Expiry { unix_s }), "{text}");
        }
        assert_eq!(shown(1_801_396_800), "2027-01-31T12:00:00Z");
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_to_write() {
        let table = [
            ("", "is no time"),
            ("soon", "is no time"),
            ("2027-01-31", "is no time"),
            ("0s", "over already"),
            ("10ms", "over already"),
            ("1969-01-01T00:00:00Z", "over already"),
            ("2020-01-01T00:00:00Z", "over already"),
            ("9000000d", "too far away"),
        ];
        for (text, reason) in table {
            let message = Expiry::from(text, 1_800_000_000).unwrap_err();
            assert!(message.contains(reason) && message.contains("2027-01-31T12:00:00Z"), "{text:?}: {message}");
        }
    }
}
