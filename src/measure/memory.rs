//! What the process has of memory.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};

/// More of /proc/self/status than its memory lines need.
const STATUS_BYTES_MAX: u64 = 8 << 10;

/// The most that was resident at one time, bytes (VmHWM); 0 where it cannot be read.
pub fn peak_bytes() -> u64 {
    let Ok(file) = File::open("/proc/self/status") else { return 0 };
    let line = BufReader::new(file.take(STATUS_BYTES_MAX))
        .lines()
        .map_while(Result::ok)
        .find(|line| line.starts_with("VmHWM:"));
    let kib = line.and_then(|line| line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_process_has_some_memory() {
        assert!(super::peak_bytes() > 1 << 20);
    }
}
