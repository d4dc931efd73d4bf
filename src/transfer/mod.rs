//! `linerate copy`: jobs that move trees, on either end.
//!
//! Between `proto::copy`, which decides what has to be said and done, and the engine, which moves pieces, stand threads:
//! those of a [`source`] read and hash, those of a [`sink`] hash and store. They pull: nobody hands them work, they ask
//! the state machine for it under a lock. That lock is held over no system call, with one exception: who notes blocks or
//! takes a file out that is whole waits with it for the lock of that one file, which is held while the file is begun.
//! What they read and what arrives lies in shared buffers; an empty pool is the back-pressure, so memory is bounded
//! whatever the tree.
//!
//! ```text
//! scan ─▶ proto::copy::Sender ─▶ readers ─▶ outbox ─▶ streams ─▶ arrived ─▶ storers ─▶ landing
//!              ▲      │            pread, BLAKE3                    BLAKE3, pwrite      │
//!              └──────┴──────────── control: entries, wants, digests, settlements ◀────┘
//! ```
//!
//! | file | what it holds |
//! |---|---|
//! | [`source`], `offering`, `reading` | the end that has the files, its scan, its readers |
//! | [`sink`], `storing`, `arriving`, `deciding`, `committing` | the end that gets them, and its threads' tasks |
//! | `folders` | what folders get when all is in them |
//! | `compressing`, `expanding` | `--compress`: which pieces and when; and back |
//! | [`origin`], [`destination`] | which folders and files typed paths mean |
//! | [`end`] | either end, as whoever runs the job sees it |
//! | [`keeping`] | journals and locks |
//! | [`serving`], [`runs`], [`run`] | a copy on the serving side; on the client's, with reconnecting |
//! | [`bottleneck`] | what a copy waits for |
//! | [`receipt`], [`choices`] | what a copy leaves behind on either end; what it chose by itself |
//! | [`list`] | what lies in a folder of the server |
//! | [`local`], `handing` | a copy within this machine: both ends in one process, and what they hand over |
//! | [`bell`], [`stages`], [`tally`], [`pace`] | waking control, where time goes, what became of entries, `--limit` |

pub mod bell;
pub mod bottleneck;
pub mod choices;
pub mod destination;
pub mod end;
pub mod keeping;
pub mod list;
pub mod local;
pub mod origin;
pub mod pace;
pub mod receipt;
pub mod run;
pub mod runs;
pub mod serving;
pub mod sink;
pub mod source;
pub mod stages;
pub mod tally;

mod arriving;
mod committing;
mod compressing;
#[cfg(test)]
mod copy_tests;
mod deciding;
mod expanding;
mod folders;
mod handing;
mod offering;
mod reading;
#[cfg(test)]
mod sink_tests;
mod storing;

use crate::proto::copy::options::CopyOptions;
use crate::store::landing::LandingOptions;
use crate::sys::priority;
use destination::Destination;

/// What every thread of a copy does first; threads that it starts inherit it.
fn begin_thread(options: &CopyOptions) {
    if options.nice
        && let Err(error) = priority::yield_to_all()
    {
        tracing::warn!(%error, "a thread of the copy does not yield to other programs in all ways");
    }
}

/// What the options of a copy mean for where it lands.
fn landing_options(options: &CopyOptions, destination: &Destination) -> LandingOptions {
    LandingOptions {
        durability: options.durability,
        existing: options.existing,
        owner: options.owner,
        xattrs: options.xattrs,
        resumes: !destination.merges,
        is_served: destination.is_served,
        direct: options.direct,
    }
}
