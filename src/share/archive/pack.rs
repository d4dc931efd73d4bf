//! The forms of archives: what an entry is in a zip and in a tar.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use zip::ZipWriter;
use zip::result::ZipError;
use zip::write::{FullFileOptions, StreamWriter};

use super::{Format, join};
use crate::share::flow::{self, Sink};
use crate::share::wire::{BLANK_BYTES, BLANK_BYTES_MIN};
use crate::store::confined::Metadata;
use crate::sys::cached;

/// What a block of a tar is.
const BLOCK: usize = 512;
/// The extended timestamp of Info-ZIP: seconds since 1970, where a zip's own times have no zone.
const TIMESTAMP: u16 = 0x5455;

/// One form of archive.
pub(super) trait Pack {
    fn folder(&mut self, name: &[u8], about: &Metadata) -> io::Result<()>;
    /// An entry of `len` bytes begins. False if its name is taken.
    fn begin(&mut self, name: &[u8], about: &Metadata, len: u64) -> io::Result<bool>;
    /// Content, from memory.
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Content from a file, all of `from..to`.
    fn rest(&mut self, file: &Arc<File>, from: u64, to: u64) -> io::Result<()>;
    /// The entry of `len` bytes ends.
    fn end(&mut self, len: u64) -> io::Result<()>;
    fn finish(&mut self) -> io::Result<()>;
}

/// A new archive of this form.
pub(super) fn new(format: Format, sink: &Sink) -> Box<dyn Pack> {
    match format {
        Format::Zip => Box::new(Zip { writer: ZipWriter::new_stream(sink.clone()), sink: sink.clone() }),
        Format::Tar => Box::new(Tar { builder: tar::Builder::new(sink.clone()) }),
    }
}

/// How much of what is left of a file goes at once, and whether the connection can send that by itself if it is ready.
fn stretch(sink: &Sink, left: u64) -> (usize, bool) {
    let len = usize::try_from(left).map_or(BLANK_BYTES, |left| left.min(BLANK_BYTES));
    (len, sink.sends_files() && len >= BLANK_BYTES_MIN)
}

/// Whether the connection would not have to wait for a disk, and the filesystem is one that it can send from.
fn is_ready(file: &File, places: &[u64]) -> bool {
    places.iter().all(|at| matches!(cached::read_at(file, &mut [0], *at), Ok(Some(1))))
}

fn truncated() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "a file was truncated while it was sent")
}

struct Zip {
    writer: ZipWriter<StreamWriter<Sink>>,
    /// Where it writes.
    sink: Sink,
}

impl Zip {
    fn options(about: &Metadata) -> FullFileOptions<'static, 'static> {
        let options = FullFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored)
            .large_file(true)
            .unix_permissions(about.mode & 0o777);
        let options = match zip_time(about.modified_s) {
            Some(time) => options.last_modified_time(time),
            None => options,
        };
        // The first byte says that the time of the content is there; whoever does not know the field has the other.
        match i32::try_from(about.modified_s) {
            Ok(seconds) => {
                let [a, b, c, d] = seconds.to_le_bytes();
                let mut stamped = options;
                let _ = stamped.add_extra_field(TIMESTAMP, [1, a, b, c, d], false);
                stamped
            }
            Err(_) => options,
        }
    }
}

/// In UTC: the zone of whoever unpacks is not known.
fn zip_time(unix_s: i64) -> Option<zip::DateTime> {
    let at = jiff::Timestamp::from_second(unix_s).ok()?.to_zoned(jiff::tz::TimeZone::UTC);
    let small = |n: i8| u8::try_from(n).ok();
    let (month, day) = (small(at.month())?, small(at.day())?);
    let (hour, minute, second) = (small(at.hour())?, small(at.minute())?, small(at.second())?);
    zip::DateTime::from_date_and_time(u16::try_from(at.year()).ok()?, month, day, hour, minute, second).ok()
}

/// A name as zip has it: Unicode, with `/` as the only thing that parts names. `\` does so too for some who unpack, and
/// would lead anywhere.
fn zip_name(name: &[u8]) -> String {
    String::from_utf8_lossy(name).replace('\\', "_")
}

fn zip_error(error: ZipError) -> io::Error {
    match error {
        ZipError::Io(error) => error,
        other => io::Error::other(other),
    }
}

impl Pack for Zip {
    fn folder(&mut self, name: &[u8], about: &Metadata) -> io::Result<()> {
        match self.writer.add_directory(zip_name(name), Zip::options(about)) {
            // Two names that are one here share the folder.
            Ok(()) | Err(ZipError::InvalidArchive(_)) => Ok(()),
            Err(error) => Err(zip_error(error)),
        }
    }

    fn begin(&mut self, name: &[u8], about: &Metadata, _len: u64) -> io::Result<bool> {
        match self.writer.start_file(zip_name(name), Zip::options(about)) {
            Ok(()) => Ok(true),
            Err(ZipError::InvalidArchive(_)) => Ok(false),
            Err(error) => Err(zip_error(error)),
        }
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes)
    }

    /// All is read for its checksum, into the buffer that is sent: sending it from the file would have its bytes fetched
    /// from memory twice, and was measured to be no faster (0.68 of a plain download on two cores, as this is).
    fn rest(&mut self, file: &Arc<File>, from: u64, to: u64) -> io::Result<()> {
        let mut at = from;
        while at < to {
            let wanted = usize::try_from(to - at).unwrap_or(usize::MAX);
            let (sink, writer) = (&self.sink, &mut self.writer);
            match sink.fill_seen(wanted, |buffer| file.read_at(buffer, at), |bytes| writer.write_all(bytes)) {
                Ok(0) => return Err(truncated()),
                Ok(got) => at += got as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn end(&mut self, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        let writer = std::mem::replace(&mut self.writer, ZipWriter::new_stream(closed()));
        writer.finish().map(drop).map_err(zip_error)
    }
}

/// A sink that takes everything and keeps nothing.
fn closed() -> Sink {
    let sink = flow::flow(1).0.sink();
    sink.cut();
    sink
}

struct Tar {
    builder: tar::Builder<Sink>,
}

impl Tar {
    /// The header of an entry, and before it one with its name if that is long. Content is written behind it by us.
    fn header(&mut self, name: &[u8], about: &Metadata, (kind, len): (tar::EntryType, u64)) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(len);
        header.set_mode(about.mode & 0o777);
        header.set_mtime(u64::try_from(about.modified_s).unwrap_or(0));
        header.set_uid(0);
        header.set_gid(0);
        self.builder.append_data(&mut header, Path::new(std::ffi::OsStr::from_bytes(name)), io::empty())
    }
}

impl Pack for Tar {
    fn folder(&mut self, name: &[u8], about: &Metadata) -> io::Result<()> {
        self.header(&join(name, b""), about, (tar::EntryType::Directory, 0))
    }

    fn begin(&mut self, name: &[u8], about: &Metadata, len: u64) -> io::Result<bool> {
        self.header(name, about, (tar::EntryType::Regular, len))?;
        Ok(true)
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.builder.get_mut().write_all(bytes)
    }

    fn rest(&mut self, file: &Arc<File>, from: u64, to: u64) -> io::Result<()> {
        let is_in_memory = cached::is_in_memory(file);
        let sink = self.builder.get_mut();
        let mut at = from;
        while at < to {
            let (mut left, can_be_sent) = stretch(sink, to - at);
            if can_be_sent && (is_in_memory || is_ready(file, &[at, at + left as u64 - 1])) {
                sink.file(file, at, left)?;
                at += left as u64;
                continue;
            }
            while left > 0 {
                match sink.fill(left, |buffer| file.read_at(buffer, at)) {
                    Ok(0) => return Err(truncated()),
                    Ok(got) => (at, left) = (at + got as u64, left - got),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, len: u64) -> io::Result<()> {
        let over = usize::try_from(len % BLOCK as u64).unwrap_or(0);
        match over {
            0 => Ok(()),
            over => self.builder.get_mut().write_all(&[0; BLOCK][over..]),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        self.builder.finish()
    }
}
