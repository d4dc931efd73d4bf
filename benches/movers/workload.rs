//! What is moved, and where to.

use clap::ValueEnum;
use serde::Serialize;

/// A workload. The source always lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// One big file into memory.
    Big,
    /// One big file into memory, encrypted on its way.
    Tls,
    /// Many small files into memory.
    Small,
    /// A tree of mixed sizes with links, into memory.
    Links,
    /// Many small files that are all there already.
    Again,
    /// One big file onto a disk, there to stay.
    BigDisk,
    /// Many small files onto a disk, there to stay.
    SmallDisk,
}

impl Kind {
    /// In the order in which they run.
    pub const ALL: [Kind; 7] =
        [Kind::Big, Kind::Tls, Kind::Small, Kind::Links, Kind::Again, Kind::BigDisk, Kind::SmallDisk];

    /// As on the command line and in file names.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Big => "big",
            Kind::Tls => "tls",
            Kind::Small => "small",
            Kind::Links => "links",
            Kind::Again => "again",
            Kind::BigDisk => "big-disk",
            Kind::SmallDisk => "small-disk",
        }
    }

    /// Whether the destination is on a disk, and has to be there for good when the time is taken.
    pub fn is_durable(self) -> bool {
        matches!(self, Kind::BigDisk | Kind::SmallDisk)
    }

    /// Whether one big file is moved, and not a tree.
    pub fn is_big(self) -> bool {
        matches!(self, Kind::Big | Kind::Tls | Kind::BigDisk)
    }

    /// Whether its rate is in files per second, and not in bytes.
    pub fn counts_files(self) -> bool {
        matches!(self, Kind::Small | Kind::SmallDisk | Kind::Again)
    }
}
