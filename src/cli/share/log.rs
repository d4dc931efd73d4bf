//! `--access-log FILE`: one line for each request, as web servers write it, and never with a token.
//!
//! `192.0.2.7 - v12 [21/Nov/2026:11:48:00 +0000] "GET /f/a.txt HTTP/1.1" 200 1234`: address, visitor, when the answer
//! began, what was asked for, status, bytes of the answer where they are known then. Paths are decoded and made safe
//! to be shown; a quotation mark in one stands as `\"`.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;

use crate::cli::out;
use crate::share::gate::VisitorId;

/// An access log that is written.
pub(super) struct AccessLog {
    name: String,
    file: Option<BufWriter<File>>,
}

/// What is written of a request.
pub(super) struct Entry<'a> {
    pub(super) at: jiff::Timestamp,
    pub(super) from: IpAddr,
    pub(super) visitor: Option<VisitorId>,
    /// Method and path.
    pub(super) line: &'a str,
    pub(super) status: u16,
    pub(super) bytes: Option<u64>,
}

impl AccessLog {
    /// Go on at the end of a file, which is private to the user if it is new.
    pub(super) fn open(path: &Path) -> anyhow::Result<AccessLog> {
        let name = path.display().to_string();
        let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
        let file = opened.with_context(|| format!("--access-log {name}: cannot be written"))?;
        Ok(AccessLog { name, file: Some(BufWriter::new(file)) })
    }

    pub(super) fn add(&mut self, entry: &Entry<'_>) {
        let Some(file) = &mut self.file else { return };
        let written = file.write_all(line(entry).as_bytes());
        self.check(written);
    }

    pub(super) fn flush(&mut self) {
        let Some(file) = &mut self.file else { return };
        let flushed = file.flush();
        self.check(flushed);
    }

    /// A log that cannot be written ends, and is told of once; the share goes on.
    fn check(&mut self, written: std::io::Result<()>) {
        let Err(error) = written else { return };
        out::say(&format!("linerate: --access-log {}: {error}: nothing more is logged", self.name));
        if let Some(file) = self.file.take() {
            // What is left in the buffer is not tried again.
            drop(file.into_parts());
        }
    }
}

fn line(entry: &Entry<'_>) -> String {
    let Entry { at, from, visitor, line, status, bytes } = entry;
    let visitor = match visitor {
        None => "-".to_string(),
        Some(VisitorId::PROGRAM) => "program".to_string(),
        Some(VisitorId(number)) => format!("v{number}"),
    };
    let at = at.strftime("%d/%b/%Y:%H:%M:%S +0000");
    let bytes = bytes.map_or("-".to_string(), |bytes| bytes.to_string());
    let line = line.replace('"', "\\\"");
    format!("{from} - {visitor} [{at}] \"{line} HTTP/1.1\" {status} {bytes}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(line: &str) -> Entry<'_> {
        let from = IpAddr::from([192, 0, 2, 7]);
        Entry { at: jiff::Timestamp::UNIX_EPOCH, from, visitor: Some(VisitorId(12)), line, status: 200, bytes: Some(5) }
    }

    #[test]
    fn a_request_is_one_line_that_programs_know() {
        assert_eq!(
            line(&entry("GET /f/a \"b\".txt")),
            "192.0.2.7 - v12 [01/Jan/1970:00:00:00 +0000] \"GET /f/a \\\"b\\\".txt HTTP/1.1\" 200 5\n"
        );
        let unknown = Entry { visitor: None, bytes: None, status: 401, ..entry("GET /") };
        assert!(line(&unknown).starts_with("192.0.2.7 - - [") && line(&unknown).ends_with("\" 401 -\n"));
    }

    #[test]
    fn a_full_disk_ends_the_log_and_nothing_else() {
        let mut log = AccessLog::open(Path::new("/dev/full")).unwrap();
        log.add(&entry("GET /"));
        log.flush();
        assert!(log.file.is_none());
        log.add(&entry("GET /"));
        assert!(AccessLog::open(Path::new("/nowhere/at/all")).is_err());
    }
}
