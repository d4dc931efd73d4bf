//! What a share takes of the system's limits: more visitors than a login may usually have files open.

mod common;

use std::io::{BufReader, Write};

use common::share::{Share, read_reply};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The limit that the share is started with; it has more visitors than that.
const FILES: u64 = 64;

#[test]
fn more_visitors_come_than_files_may_be_open_at_first() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "content").unwrap();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    // The share inherits it. Nobody else is in this process.
    setrlimit(Resource::RLIMIT_NOFILE, FILES, hard).unwrap();
    let share = Share::start(&["--no-announce"], dir.path());
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(hard.min(1024)), hard).unwrap();
    let mut visitors: Vec<_> = (0..2 * FILES).map(|_| share.connect()).collect();
    let request = share.head("GET", "/f/file", &[]);
    for visitor in &mut visitors {
        visitor.write_all(request.as_bytes()).unwrap();
        assert_eq!(read_reply(&mut BufReader::new(visitor), false).body, b"content");
    }
}
