//! What a file is by its first bytes, where its name does not tell.

use super::MediaKind::{Archive, Audio, Code, Document, Image, Text, Video};
use super::{MediaKind, MediaType};

/// How many of a file's first bytes are looked at.
pub const SNIFF_BYTES: usize = 512;
/// MPEG transport streams repeat their mark after so many bytes.
const TRANSPORT_PACKET_BYTES: usize = 188;

/// Bytes at an offset, and more bytes at another where the first do not tell.
struct Mark {
    at: usize,
    bytes: &'static [u8],
    also: Option<(usize, &'static [u8])>,
    found: MediaType,
}

const fn mark(at: usize, bytes: &'static [u8], kind: MediaKind, mime: &'static str) -> Mark {
    let found = MediaType { kind, mime, extensions: "", is_unclear: false, is_whole_name: false };
    Mark { at, bytes, also: None, found }
}

const fn both(first: &'static [u8], at: usize, bytes: &'static [u8], kind: MediaKind, mime: &'static str) -> Mark {
    Mark { also: Some((at, bytes)), ..mark(0, first, kind, mime) }
}

const FTYP: &[u8] = b"ftyp";

/// The first row that fits counts: special ones stand before general ones.
static MARKS: &[Mark] = &[
    mark(0, b"\x89PNG\r\n\x1a\n", Image, "image/png"),
    mark(0, b"\xff\xd8\xff", Image, "image/jpeg"),
    mark(0, b"GIF87a", Image, "image/gif"),
    mark(0, b"GIF89a", Image, "image/gif"),
    both(b"RIFF", 8, b"WEBP", Image, "image/webp"),
    both(b"RIFF", 8, b"WAVE", Audio, "audio/wav"),
    both(b"RIFF", 8, b"AVI ", Video, "video/x-msvideo"),
    both(b"RF64", 8, b"WAVE", Audio, "audio/wav"),
    both(b"FORM", 8, b"AIF", Audio, "audio/aiff"),
    mark(0, b"II*\0", Image, "image/tiff"),
    mark(0, b"MM\0*", Image, "image/tiff"),
    mark(0, b"8BPS\0", Image, "image/vnd.adobe.photoshop"),
    mark(0, b"gimp xcf", Image, "image/x-xcf"),
    mark(0, b"\0\0\0\x0cJXL \r\n\x87\n", Image, "image/jxl"),
    mark(0, b"\0\0\0\x0cjP  \r\n\x87\n", Image, "image/jp2"),
    mark(0, b"\x76\x2f\x31\x01", Image, "image/x-exr"),
    mark(0, b"qoif", Image, "image/x-qoi"),
    mark(0, b"DDS ", Image, "image/vnd.ms-dds"),
    mark(0, b"\0\0\x01\0", Image, "image/x-icon"),
    both(b"BM", 6, b"\0\0\0\0", Image, "image/bmp"),
    mark(4, b"ftypavi", Image, "image/avif"),
    mark(4, b"ftyphei", Image, "image/heic"),
    mark(4, b"ftyphev", Image, "image/heic"),
    mark(4, b"ftypmif1", Image, "image/heic"),
    mark(4, b"ftypmsf1", Image, "image/heic"),
    mark(4, b"ftypcrx", Image, "image/x-raw"),
    mark(4, b"ftypM4A", Audio, "audio/mp4"),
    mark(4, b"ftypM4B", Audio, "audio/mp4"),
    mark(4, b"ftypqt", Video, "video/quicktime"),
    mark(4, b"ftyp3g", Video, "video/3gpp"),
    mark(4, FTYP, Video, "video/mp4"),
    mark(4, b"moov", Video, "video/quicktime"),
    mark(4, b"mdat", Video, "video/quicktime"),
    mark(0, b"\x1a\x45\xdf\xa3", Video, "video/x-matroska"),
    mark(0, b"FLV\x01", Video, "video/x-flv"),
    mark(0, b"\0\0\x01\xba", Video, "video/mpeg"),
    mark(0, b"\0\0\x01\xb3", Video, "video/mpeg"),
    mark(0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", Video, "video/x-ms-wmv"),
    both(b"OggS", 28, b"\x80theora", Video, "video/ogg"),
    both(b"OggS", 28, b"OpusHead", Audio, "audio/opus"),
    mark(0, b"OggS", Audio, "audio/ogg"),
    mark(0, b"fLaC", Audio, "audio/flac"),
    mark(0, b"ID3", Audio, "audio/mpeg"),
    mark(0, b"\xff\xfb", Audio, "audio/mpeg"),
    mark(0, b"\xff\xf3", Audio, "audio/mpeg"),
    mark(0, b"\xff\xf1", Audio, "audio/aac"),
    mark(0, b"\xff\xf9", Audio, "audio/aac"),
    mark(0, b"MThd", Audio, "audio/midi"),
    mark(0, b"MAC ", Audio, "audio/x-ape"),
    mark(0, b"wvpk", Audio, "audio/x-wavpack"),
    mark(0, b"#!AMR", Audio, "audio/amr"),
    mark(0, b".snd", Audio, "audio/basic"),
    mark(0, b"%PDF-", Document, "application/pdf"),
    mark(0, b"%!PS", Document, "application/postscript"),
    mark(0, b"{\\rtf", Document, "application/rtf"),
    mark(0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Document, "application/x-ole-storage"),
    mark(0, b"AT&TFORM", Document, "image/vnd.djvu"),
    mark(60, b"BOOKMOBI", Document, "application/x-mobipocket-ebook"),
    both(b"PK\x03\x04", 30, b"mimetypeapplication/epub+zip", Document, "application/epub+zip"),
    both(b"PK\x03\x04", 30, b"mimetypeapplication/vnd.oasis", Document, "application/vnd.oasis.opendocument"),
    both(b"PK\x03\x04", 30, b"[Content_Types].xml", Document, "application/vnd.openxmlformats-officedocument"),
    mark(0, b"PK\x03\x04", Archive, "application/zip"),
    mark(0, b"PK\x05\x06", Archive, "application/zip"),
    mark(0, b"\x1f\x8b", Archive, "application/gzip"),
    mark(0, b"BZh", Archive, "application/x-bzip2"),
    mark(0, b"\xfd7zXZ\0", Archive, "application/x-xz"),
    mark(0, b"\x28\xb5\x2f\xfd", Archive, "application/zstd"),
    mark(0, b"\x04\x22\x4d\x18", Archive, "application/x-lz4"),
    mark(0, b"7z\xbc\xaf\x27\x1c", Archive, "application/x-7z-compressed"),
    mark(0, b"Rar!\x1a\x07", Archive, "application/vnd.rar"),
    mark(257, b"ustar", Archive, "application/x-tar"),
    mark(0, b"!<arch>\n", Archive, "application/x-archive"),
    mark(0, b"\xed\xab\xee\xdb", Archive, "application/x-rpm"),
    mark(0, b"MSCF", Archive, "application/vnd.ms-cab-compressed"),
    mark(0, b"xar!", Archive, "application/x-xar"),
    mark(0, b"QFI\xfb", Archive, "application/x-virtual-disk"),
    mark(0, b"hsqs", Archive, "application/x-squashfs"),
    mark(0, b"070701", Archive, "application/x-cpio"),
    mark(0, b"#!", Code, "text/x-script"),
    mark(0, b"<?php", Code, "application/x-php"),
    mark(0, b"<?xml", Code, "application/xml"),
    mark(0, b"<!DOCTYPE html", Code, "text/html"),
    mark(0, b"<!doctype html", Code, "text/html"),
    mark(0, b"<html", Code, "text/html"),
    mark(0, b"\xff\xfe", Text, "text/plain"),
    mark(0, b"\xfe\xff", Text, "text/plain"),
];

static TRANSPORT: Mark = mark(0, b"\x47", Video, "video/mp2t");
static PLAIN: Mark = mark(0, b"", Text, "text/plain");

/// What the first bytes of a file, at most [`SNIFF_BYTES`], say that it is; nothing if they do not say.
pub fn sniff(first: &[u8]) -> Option<&'static MediaType> {
    let first = &first[..first.len().min(SNIFF_BYTES)];
    if let Some(mark) = MARKS.iter().find(|mark| mark.fits(first)) {
        return Some(&mark.found);
    }
    if is_transport_stream(first) {
        return Some(&TRANSPORT.found);
    }
    is_text(first).then_some(&PLAIN.found)
}

impl Mark {
    fn fits(&self, first: &[u8]) -> bool {
        let holds = |at: usize, bytes: &[u8]| first.get(at..).is_some_and(|rest| rest.starts_with(bytes));
        holds(self.at, self.bytes) && self.also.is_none_or(|(at, bytes)| holds(at, bytes))
    }
}

/// One byte as a mark would be found in anything; three in a row, as far apart as they should be, are not. Cameras
/// write a time of 4 bytes before each packet.
fn is_transport_stream(first: &[u8]) -> bool {
    let rows = |start: usize, step: usize| (0..3).all(|n| first.get(start + n * step) == Some(&0x47));
    rows(0, TRANSPORT_PACKET_BYTES) || rows(4, TRANSPORT_PACKET_BYTES + 4)
}

/// UTF-8 without control characters but those of text; the last character may be cut off.
fn is_text(first: &[u8]) -> bool {
    let valid = match std::str::from_utf8(first) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none() && first.len() == SNIFF_BYTES,
    };
    let is_control = |byte: &u8| *byte < 0x20 && !b"\t\n\r\x0c\x1b".contains(byte);
    valid && !first.is_empty() && !first.iter().any(is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell() {
        let table: [(&[u8], Option<MediaKind>); 26] = [
            (b"\x89PNG\r\n\x1a\nrest", Some(Image)),
            (b"\xff\xd8\xff\xe0", Some(Image)),
            (b"RIFF\x10\0\0\0WEBPVP8 ", Some(Image)),
            (b"RIFF\x10\0\0\0WAVEfmt ", Some(Audio)),
            (b"RIFF\x10\0\0\0AVI LIST", Some(Video)),
            (b"RIFF\x10\0\0\0????", None),
            (b"\0\0\0\x20ftypheic", Some(Image)),
            (b"\0\0\0\x20ftypM4A ", Some(Audio)),
            (b"\0\0\0\x20ftypisom", Some(Video)),
            (b"\x1a\x45\xdf\xa3", Some(Video)),
            (b"ID3\x04", Some(Audio)),
            (b"fLaC\0", Some(Audio)),
            (b"%PDF-1.7", Some(Document)),
            (b"PK\x03\x04\x14\0", Some(Archive)),
            (b"PK\x03\x04aaaaaaaaaaaaaaaaaaaaaaaaaa[Content_Types].xml", Some(Document)),
            (b"\x1f\x8b\x08", Some(Archive)),
            (b"#!/bin/sh\n", Some(Code)),
            (b"<?xml version", Some(Code)),
            (b"hello\tworld\r\n", Some(Text)),
            ("größe".as_bytes(), Some(Text)),
            (b"", None),
            (b"a\0b", None),
            (b"\xc3", None),
            (b"\x01\x02", None),
            (b"GIF8", Some(Text)),
            (b"P", Some(Text)),
        ];
        for (first, expected) in table {
            assert_eq!(sniff(first).map(|found| found.kind), expected, "{}", first.escape_ascii());
        }
    }

    #[test]
    fn marks_far_in_and_characters_cut_off_are_seen() {
        let mut tar = [0; 512];
        tar[257..262].copy_from_slice(b"ustar");
        assert_eq!(sniff(&tar).map(|found| found.kind), Some(Archive));
        let mut text = [b'a'; 512];
        text[511] = 0xc3;
        assert_eq!(sniff(&text).map(|found| found.kind), Some(Text));
        text[510] = 0xff;
        assert_eq!(sniff(&text), None);
        let mut camera = [0; 512];
        (camera[4], camera[196], camera[388]) = (0x47, 0x47, 0x47);
        assert_eq!(sniff(&camera).map(|found| found.kind), Some(Video));
    }
}
