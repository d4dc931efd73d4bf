//! Fixed headers, little-endian, and how a connection's first bytes tell what it is.
//!
//! One port serves everything. A control connection opens with a 16-byte [`Preface`] from either side, then
//! length-prefixed messages ([`crate::proto::session`]). A data stream opens with a 32-byte [`Join`], then
//! frames: a 32-byte [`Frame`] header, then its payload, so that a receiver can splice right after the header.
//!
//! ```text
//! preface  0 magic "linerate"        8 version u16   10 zero (6)
//! join     0 magic "lr-data\n"       8 version u16   10 zero (6)    16 token (16)
//! frame    0 magic "LRfr"  4 kind u8  5 flags u8  6 zero (2)  8 file u64  16 offset u64  24 length u64
//! ```

use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Version of everything in `proto`. Both ends must be of the same.
pub const PROTOCOL_VERSION: u16 = 1;
/// Bytes of a [`Preface`].
pub const PREFACE_BYTES: usize = 16;
/// Bytes of a [`Join`] header.
pub const JOIN_BYTES: usize = 32;
/// Bytes of a [`Frame`] header.
pub const FRAME_BYTES: usize = 32;
/// Bytes of the payload of [`FrameKind::Hole`].
pub const HOLE_BYTES: usize = 8;
/// How many first bytes [`Opening::of`] needs at most.
pub const OPENING_BYTES: usize = 8;

const CONTROL_MAGIC: [u8; 8] = *b"linerate";
const DATA_MAGIC: [u8; 8] = *b"lr-data\n";
const FRAME_MAGIC: [u8; 4] = *b"LRfr";
const FRAME_KIND_DATA: u8 = 1;
const FLAG_UNTIL_END: u8 = 1;
const FLAG_TIMED: u8 = 2;
const FLAG_PACK: u8 = 4;
const FLAG_ZSTD: u8 = 8;
const FLAG_HOLE: u8 = 16;
const TLS_HANDSHAKE: u8 = 0x16;

/// 128 bits that let one data stream in, once.
pub type Token = [u8; 16];

/// What is wrong with a header: always the peer's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The magic of a linerate control connection is missing.
    #[error("it does not speak the linerate protocol")]
    NotLinerate,
    /// The other end is of another version.
    #[error(
        "it speaks version {theirs} of the protocol, this program version {PROTOCOL_VERSION}: use the same linerate release on both ends"
    )]
    Version {
        /// What the peer said.
        theirs: u16,
    },
    /// A frame header without its magic, with an unknown kind or with bits that must be zero.
    #[error("malformed frame header")]
    Frame,
    /// A frame whose offset + length passes 2⁶⁴.
    #[error("frame past the end of any file")]
    FrameRange,
}

/// What a new connection turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Not enough bytes yet to tell.
    More,
    /// A control connection in the clear.
    Control,
    /// A TLS ClientHello.
    Tls,
    /// A data stream.
    Data,
    /// Somebody's web browser.
    Http,
    /// Anything else.
    Unknown,
}

impl Opening {
    /// Classify a connection by the bytes it has sent so far.
    pub fn of(first: &[u8]) -> Opening {
        const HTTP: [&[u8]; 5] = [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"OPTIONS "];
        let seen = &first[..first.len().min(OPENING_BYTES)];
        if seen.is_empty() {
            return Opening::More;
        }
        if seen[0] == TLS_HANDSHAKE {
            return Opening::Tls;
        }
        let rows = [(&CONTROL_MAGIC[..], Opening::Control), (&DATA_MAGIC[..], Opening::Data)];
        let http = HTTP.iter().map(|verb| (*verb, Opening::Http));
        for (magic, opening) in rows.into_iter().chain(http) {
            if seen.starts_with(magic) {
                return opening;
            }
            if magic.starts_with(seen) {
                return Opening::More;
            }
        }
        Opening::Unknown
    }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawPreface {
    magic: [u8; 8],
    version: U16,
    zero: [u8; 6],
}

/// The first bytes of a control connection, from either side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preface {
    /// Protocol version of the sender.
    pub version: u16,
}

impl Preface {
    /// The bytes to send.
    pub fn encode(self) -> [u8; PREFACE_BYTES] {
        let raw = RawPreface { magic: CONTROL_MAGIC, version: U16::new(self.version), zero: [0; 6] };
        zerocopy::transmute!(raw)
    }

    /// Read a preface; the version is not judged here, so that the caller can name it.
    pub fn decode(bytes: &[u8; PREFACE_BYTES]) -> Result<Preface, WireError> {
        let raw: RawPreface = zerocopy::transmute!(*bytes);
        if raw.magic != CONTROL_MAGIC {
            return Err(WireError::NotLinerate);
        }
        Ok(Preface { version: raw.version.get() })
    }

    /// Whether `bytes`, the start of what a peer sent, can still become a preface.
    pub fn may_start(bytes: &[u8]) -> bool {
        let n = bytes.len().min(CONTROL_MAGIC.len());
        bytes[..n] == CONTROL_MAGIC[..n]
    }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawJoin {
    magic: [u8; 8],
    version: U16,
    zero: [u8; 6],
    token: Token,
}

/// The first bytes of a data stream.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Join {
    /// The one-time token that the control connection handed out.
    pub token: Token,
}

impl std::fmt::Debug for Join {
    /// Never shows the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Join { token: … }")
    }
}

impl Join {
    /// The bytes to send.
    pub fn encode(self) -> [u8; JOIN_BYTES] {
        let raw = RawJoin { magic: DATA_MAGIC, version: U16::new(PROTOCOL_VERSION), zero: [0; 6], token: self.token };
        zerocopy::transmute!(raw)
    }

    /// Read a join header.
    pub fn decode(bytes: &[u8; JOIN_BYTES]) -> Result<Join, WireError> {
        let raw: RawJoin = zerocopy::transmute!(*bytes);
        if raw.magic != DATA_MAGIC {
            return Err(WireError::NotLinerate);
        }
        match raw.version.get() {
            PROTOCOL_VERSION => Ok(Join { token: raw.token }),
            theirs => Err(WireError::Version { theirs }),
        }
    }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawFrame {
    magic: [u8; 4],
    kind: u8,
    flags: u8,
    /// Over the header without it: a length that was damaged on the way would be waited for.
    check: U16,
    file: U64,
    offset: U64,
    length: U64,
}

/// How long a frame's payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Exactly so many bytes.
    Bytes(u64),
    /// Until the stream ends.
    UntilEnd,
}

/// What a payload is, and what is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// Bytes of the file from the offset on.
    Data,
    /// The same; the receiver notes when it took the first and the last byte.
    Timed,
    /// Many small files of a copy ([`crate::proto::copy::pack`]).
    Pack,
    /// A block of a copy that is all zeros, which begins at the offset; the payload, [`HOLE_BYTES`], means nothing.
    Hole,
    /// [`FrameKind::Data`] as one frame of zstd that says how long its content is.
    DataZstd,
    /// [`FrameKind::Pack`] as one frame of zstd, after its directory.
    PackZstd,
}

impl FrameKind {
    const ALL: [(FrameKind, u8); 6] = [
        (FrameKind::Data, 0),
        (FrameKind::Timed, FLAG_TIMED),
        (FrameKind::Pack, FLAG_PACK),
        (FrameKind::Hole, FLAG_HOLE),
        (FrameKind::DataZstd, FLAG_ZSTD),
        (FrameKind::PackZstd, FLAG_PACK | FLAG_ZSTD),
    ];

    fn flags(self) -> u8 {
        FrameKind::ALL.iter().find(|(kind, _)| *kind == self).map_or(0, |(_, flags)| *flags)
    }

    fn of_flags(flags: u8) -> Option<FrameKind> {
        FrameKind::ALL.iter().find(|(_, known)| *known == flags).map(|(kind, _)| *kind)
    }
}

/// What stands before a payload on a data stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Which file the payload belongs to; numbers are given out over control.
    pub file: u64,
    /// Offset of the payload's first byte in it.
    pub offset: u64,
    /// Length of the payload.
    pub length: Length,
    /// What the payload is.
    pub kind: FrameKind,
}

impl Frame {
    /// The bytes to send.
    pub fn encode(self) -> [u8; FRAME_BYTES] {
        let (length, until_end) = match self.length {
            Length::Bytes(n) => (n, 0),
            Length::UntilEnd => (0, FLAG_UNTIL_END),
        };
        let mut raw = RawFrame {
            magic: FRAME_MAGIC,
            kind: FRAME_KIND_DATA,
            flags: until_end | self.kind.flags(),
            check: U16::ZERO,
            file: U64::new(self.file),
            offset: U64::new(self.offset),
            length: U64::new(length),
        };
        raw.check = U16::new(crc16(raw.as_bytes()));
        zerocopy::transmute!(raw)
    }

    /// Read a frame header; anything that [`Frame::encode`] would not write is refused.
    pub fn decode(bytes: &[u8; FRAME_BYTES]) -> Result<Frame, WireError> {
        let mut raw: RawFrame = zerocopy::transmute!(*bytes);
        let check = std::mem::replace(&mut raw.check, U16::ZERO);
        if raw.magic != FRAME_MAGIC || raw.kind != FRAME_KIND_DATA || crc16(raw.as_bytes()) != check.get() {
            return Err(WireError::Frame);
        }
        let kind = FrameKind::of_flags(raw.flags & !FLAG_UNTIL_END).ok_or(WireError::Frame)?;
        let (offset, bytes) = (raw.offset.get(), raw.length.get());
        let length = match raw.flags & FLAG_UNTIL_END {
            0 if offset.checked_add(bytes).is_none() => return Err(WireError::FrameRange),
            0 => Length::Bytes(bytes),
            _ if bytes != 0 => return Err(WireError::Frame),
            _ => Length::UntilEnd,
        };
        Ok(Frame { file: raw.file.get(), offset, length, kind })
    }
}

/// CRC-16/CCITT-FALSE, over a header: finds every flip of one or two bits, and of up to 16 in a row.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xffff, |crc, byte| crc << 8 ^ CRC16[usize::from((crc >> 8) as u8 ^ byte)])
}

const CRC16: [u16; 256] = {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        let (mut crc, mut bit) = ((n as u16) << 8, 0);
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 };
            bit += 1;
        }
        table[n] = crc;
        n += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn first_bytes_tell_what_a_connection_is() {
        let table: [(&[u8], Opening); 11] = [
            (b"", Opening::More),
            (b"l", Opening::More),
            (b"line", Opening::More),
            (b"linerate", Opening::Control),
            (b"lr-data\n", Opening::Data),
            (b"lr-data!", Opening::Unknown),
            (&[0x16, 3, 1], Opening::Tls),
            (b"GET / HTTP/1.1\r\n", Opening::Http),
            (b"HEA", Opening::More),
            (b"SSH-2.0-x", Opening::Unknown),
            (&[0; 8], Opening::Unknown),
        ];
        for (bytes, expected) in table {
            assert_eq!(Opening::of(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn layouts_are_what_the_module_says() {
        assert_eq!(&Preface { version: 0x0102 }.encode(), b"linerate\x02\x01\0\0\0\0\0\0");
        let join = Join { token: [7; 16] }.encode();
        assert_eq!(&join[..16], b"lr-data\n\x01\0\0\0\0\0\0\0");
        assert_eq!(&join[16..], [7; 16]);
        let frame = Frame { file: 1, offset: 2, length: Length::Bytes(3), kind: FrameKind::Timed }.encode();
        assert_eq!(&frame[..6], b"LRfr\x01\x02");
        assert_eq!(crc16(b"123456789"), 0x29b1, "the check value of CRC-16/CCITT-FALSE");
        assert_eq!(frame[8..], [[1, 0, 0, 0, 0, 0, 0, 0], [2, 0, 0, 0, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0, 0, 0]].concat());
    }

    #[test]
    fn another_version_is_named() {
        let mut join = Join { token: [0; 16] }.encode();
        join[8] = 9;
        assert_eq!(Join::decode(&join), Err(WireError::Version { theirs: 9 }));
    }

    fn frames() -> impl Strategy<Value = Frame> {
        (any::<u64>(), any::<u64>(), any::<u64>(), any::<bool>(), 0..FrameKind::ALL.len()).prop_map(
            |(file, offset, length, open, kind)| {
                let kind = FrameKind::ALL[kind].0;
                let length = if open { Length::UntilEnd } else { Length::Bytes(length.min(u64::MAX - offset)) };
                Frame { file, offset, length, kind }
            },
        )
    }

    proptest! {
        #[test]
        fn frames_come_back_as_they_went(frame in frames()) {
            prop_assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
        }

        #[test]
        fn a_header_with_a_wrong_bit_is_none(frame in frames(), bit in 0..FRAME_BYTES * 8) {
            let mut bytes = frame.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Frame::decode(&bytes), Err(WireError::Frame));
        }

        #[test]
        fn what_decodes_encodes_to_the_same_bytes(bytes: [u8; FRAME_BYTES], mask in 0u8..64) {
            let mut bytes = bytes;
            bytes[..8].copy_from_slice(&[b'L', b'R', b'f', b'r', 1, mask, 0, 0]);
            let check = crc16(&bytes);
            bytes[6..8].copy_from_slice(&check.to_le_bytes());
            if let Ok(frame) = Frame::decode(&bytes) {
                prop_assert_eq!(frame.encode(), bytes);
            }
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            Opening::of(&bytes);
            if let Some(head) = bytes.first_chunk() { let _ = Frame::decode(head); }
            if let Some(head) = bytes.first_chunk() { let _ = Join::decode(head); }
            if let Some(head) = bytes.first_chunk() { let _ = Preface::decode(head); }
        }

        #[test]
        fn joins_carry_their_token(token: Token) {
            let join = Join { token };
            prop_assert_eq!(Join::decode(&join.encode()), Ok(join));
        }
    }
}
