//! All `unsafe` and raw Linux, as small safe functions over `OwnedFd`/`BorrowedFd`.
//!
//! Nothing here knows what a benchmark or a copy is. Every unsafe block argues for itself; sizes are bytes.

pub mod affinity;
pub mod c_library;
pub mod cached;
pub mod clock;
pub mod ethtool;
pub mod ktls;
pub mod limits;
pub mod mapping;
pub mod pipe;
pub mod priority;
pub mod raw;
pub mod rename;
pub mod sharing;
pub mod signals;
pub mod socket;
pub mod tcp_info;
pub mod xattr;
pub mod zerocopy;
