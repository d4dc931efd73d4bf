//! What changes in a share while people look at it, for those who listen.

use crate::store::confined::RelativePath;

/// Most notices that wait for whoever tells them on; older ones are dropped, and a page that misses one is listed again
/// with the next.
pub const NOTICES_MAX: usize = 1024;

/// Something that pages show and that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// What is in this folder.
    Changed(RelativePath),
    /// What a virus scan says of a file.
    Scan {
        /// The file.
        path: RelativePath,
        /// `pending`, `clean`, `infected` or `not scanned`.
        state: &'static str,
    },
}
