//! What a visitor of a share may do.

use std::fmt;
use std::str::FromStr;

/// One right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// See names, sizes and times, and search them.
    View,
    /// Get content.
    Download,
    /// Add new files; nothing that is there is changed.
    Upload,
    /// Read and write the room's messages.
    Chat,
    /// Remove files.
    Delete,
}

impl Right {
    /// All, in the order in which they are shown.
    pub const ALL: [Right; 5] = [Right::View, Right::Download, Right::Upload, Right::Chat, Right::Delete];

    /// As `--allow` and the page name it.
    pub fn name(self) -> &'static str {
        match self {
            Right::View => "view",
            Right::Download => "download",
            Right::Upload => "upload",
            Right::Chat => "chat",
            Right::Delete => "delete",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of rights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights(u8);

impl Rights {
    /// What a share gives unless it is told otherwise.
    pub fn usual() -> Rights {
        Rights::default().with(Right::View).with(Right::Download).with(Right::Chat)
    }

    /// These and one more.
    #[must_use]
    pub fn with(self, right: Right) -> Rights {
        Rights(self.0 | right.bit())
    }

    /// Whether it is among them.
    pub fn has(self, right: Right) -> bool {
        self.0 & right.bit() != 0
    }

    /// The names of all, in order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Right::ALL.into_iter().filter(move |right| self.has(*right)).map(Right::name)
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().collect::<Vec<_>>().join(","))
    }
}

/// A word that names no right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no right: write one or several of view,download,upload,chat,delete")]
pub struct UnknownRight(String);

/// Names with commas between.
impl FromStr for Rights {
    type Err = UnknownRight;

    fn from_str(text: &str) -> Result<Rights, UnknownRight> {
        text.split(',').map(str::trim).try_fold(Rights::default(), |rights, word| {
            let right = Right::ALL.into_iter().find(|right| right.name() == word);
            right.map(|right| rights.with(right)).ok_or_else(|| UnknownRight(word.to_string()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_read_and_written_alike() {
        let all: Rights = "delete,chat, upload,download,view".parse().unwrap();
        assert_eq!(all.to_string(), "view,download,upload,chat,delete");
        assert_eq!(Rights::usual().to_string(), "view,download,chat");
        assert!("view,write".parse::<Rights>().is_err() && "".parse::<Rights>().is_err());
    }
}
