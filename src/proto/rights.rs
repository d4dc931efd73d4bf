//! What a ticket lets its holder do: a small set of rights.
//!
//! Only the set and its text form. Who holds which right is in [`super::ticket`] and [`super::gate`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A set of rights; printed and parsed as `bench,read,write`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Rights(u8);

/// Every single right, in the order in which they are printed.
const WORDS: [(&str, Rights); 3] = [("bench", Rights::BENCH), ("read", Rights::READ), ("write", Rights::WRITE)];

/// Why a text or a number is no set of rights.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RightsError {
    /// No word at all.
    #[error("no right is named: write some of bench, read, write with commas between them")]
    Empty,
    /// A word that names no right.
    #[error("{0:?} is no right: write some of bench, read, write with commas between them")]
    Unknown(String),
    /// A bit that this version does not know.
    #[error("unknown rights {0:#04x}: use the same linerate release on both ends")]
    UnknownBits(u8),
}

impl Rights {
    /// None.
    pub const NONE: Rights = Rights(0);
    /// Measure against the server.
    pub const BENCH: Rights = Rights(1);
    /// Read files of the served folder.
    pub const READ: Rights = Rights(1 << 1);
    /// Make and change files in the served folder.
    pub const WRITE: Rights = Rights(1 << 2);

    /// Whether all of `other` are in it.
    pub fn contains(self, other: Rights) -> bool {
        self.0 & other.0 == other.0
    }

    /// What is in either.
    #[must_use]
    pub fn union(self, other: Rights) -> Rights {
        Rights(self.0 | other.0)
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(self, other: Rights) -> Rights {
        Rights(self.0 & other.0)
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self == Rights::NONE
    }

    /// The word of each right that is in it.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        WORDS.into_iter().filter(move |(_, right)| self.contains(*right)).map(|(word, _)| word)
    }
}

impl FromStr for Rights {
    type Err = RightsError;

    fn from_str(text: &str) -> Result<Rights, RightsError> {
        if text.trim().is_empty() {
            return Err(RightsError::Empty);
        }
        text.split(',').map(str::trim).try_fold(Rights::NONE, |rights, word| {
            let known = WORDS.iter().find(|(name, _)| *name == word);
            known.map(|(_, right)| rights.union(*right)).ok_or_else(|| RightsError::Unknown(word.to_string()))
        })
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.words().collect();
        f.pad(&if words.is_empty() { "nothing".to_string() } else { words.join(",") })
    }
}

impl TryFrom<u8> for Rights {
    type Error = RightsError;

    fn try_from(bits: u8) -> Result<Rights, RightsError> {
        let all = WORDS.iter().fold(Rights::NONE, |all, (_, right)| all.union(*right));
        let rights = Rights(bits);
        if all.contains(rights) { Ok(rights) } else { Err(RightsError::UnknownBits(bits)) }
    }
}

impl From<Rights> for u8 {
    fn from(rights: Rights) -> u8 {
        rights.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_sets() {
        let both = Rights::BENCH.union(Rights::READ);
        assert!(both.contains(Rights::READ) && both.contains(both) && both.contains(Rights::NONE));
        assert!(!both.contains(Rights::WRITE) && !Rights::READ.contains(both));
        assert_eq!(both.intersection(Rights::READ.union(Rights::WRITE)), Rights::READ);
        assert!(both.intersection(Rights::WRITE).is_empty() && Rights::default().is_empty());
    }

    #[test]
    fn words_and_bits_come_back() {
        for bits in 0..8 {
            let rights = Rights::try_from(bits).unwrap();
            assert_eq!(u8::from(rights), bits);
            assert_eq!(rights.to_string().parse().ok(), Some(rights).filter(|rights| !rights.is_empty()));
            assert_eq!(postcard::to_allocvec(&rights).unwrap(), [bits]);
        }
        assert_eq!(" write, bench".parse(), Ok(Rights::BENCH.union(Rights::WRITE)));
        assert_eq!(Rights::NONE.to_string(), "nothing");
        assert_eq!(Rights::try_from(8), Err(RightsError::UnknownBits(8)));
        assert!(postcard::from_bytes::<Rights>(&[0x10]).is_err());
        assert!(serde_json::from_str::<Rights>("9").is_err());
    }

    #[test]
    fn words_that_name_nothing_are_refused_with_those_that_do() {
        for text in ["", " ", "fly", "bench,", "read,,write", "BENCH", "nothing"] {
            let message = text.parse::<Rights>().unwrap_err().to_string();
            assert!(message.contains("bench, read, write"), "{text:?}: {message}");
        }
    }
}
