//! linerate moves data at line rate, and proves it.
//!
//! # The map of the house
//! A module imports only what stands **above** it in this list (`tests/layers.rs` fails when one does not):
//!
//! | layer | what lives there |
//! |---|---|
//! | [`units`] | sizes, rates and durations: parsing and printing of `4KiB`, `10Gbit/s`, `1.5s` |
//! | [`text`] | making text from elsewhere (a peer, a path) safe to show to a person |
//! | [`proto`] | sans-IO: bytes and `now` in, actions out. No socket, file, clock or thread |
//! | [`sys`] | all `unsafe` and raw Linux, as small safe functions over `OwnedFd`/`BorrowedFd` |
//! | [`mover`] | how bytes move: one file per I/O method and one row in its tables |
//! | [`store`] | where bytes live: hot memory, files, the confined root, discarding; what is in a tree |
//! | [`trust`] | who we are and whom we know, kept in files that are private to the user |
//! | [`tls`] | TLS 1.3 as a machine without input or output, over rustls |
//! | [`measure`] | histograms, CPU cost, TCP_INFO summaries, the environment of a run |
//! | [`engine`] | the mio loops: workers, streams, buffer pools, connections |
//! | [`link`] | the client's end of a session, as calls that wait |
//! | [`mod@bench`] | the matrix, its interleaving, the runner and the serving side of `linerate bench` |
//! | [`transfer`] | copy jobs on either end: reading, storing, running, receipts |
//! | [`server`] | `linerate serve`: the sessions of many clients, each with its jobs |
//! | [`report`] | the result file, the terminal tables, the picture; reading receipts |
//! | [`share`] | a folder on the LAN: web page, uploads, search, chat (feature `web`; the only tokio) |
//! | [`cli`] | one file per subcommand |
//!
//! # The one idea
//! **The core decides *which range*; a mover decides *how bytes move*.** A benchmark is a copy whose source is
//! synthetic (or a real file) and whose sink discards (or is a real file), so what is measured is what is shipped.

pub mod bench;
pub mod cli;
pub mod engine;
pub mod link;
pub mod measure;
pub mod mover;
pub mod proto;
pub mod report;
pub mod server;
#[cfg(feature = "web")]
pub mod share;
pub mod store;
pub mod sys;
pub mod text;
pub mod tls;
pub mod transfer;
pub mod trust;
pub mod units;
