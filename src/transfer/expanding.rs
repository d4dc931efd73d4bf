//! What a storing thread does with what arrived compressed.
//!
//! A frame is never believed: it expands into a buffer of one piece that is there already, and what would be longer,
//! is more or less than one frame, or is not what it says is refused. Nothing is allocated for it.

use zstd::bulk;
use zstd::zstd_safe::{find_frame_compressed_size, get_frame_content_size};

use crate::engine::buffers::{Buffer, Buffers};
use crate::proto::copy::CopyError;

/// One thread's means to decompress: made when first needed.
pub(super) struct Expander {
    piece_bytes: usize,
    made: Option<(bulk::Decompressor<'static>, Buffer)>,
}

impl Expander {
    /// For pieces of at most so many bytes.
    pub(super) fn new(piece_bytes: u64) -> Expander {
        Expander { piece_bytes: piece_bytes as usize, made: None }
    }

    /// Put the content of a frame of zstd, which begins at `at`, in place of it.
    pub(super) fn expand(&mut self, payload: &mut Buffer, at: usize) -> Result<(), CopyError> {
        let frame = payload.filled().get(at..).ok_or(CopyError::Compression)?;
        let len = content_bytes(frame).filter(|len| *len <= self.piece_bytes).ok_or(CopyError::Compression)?;
        let (zstd, scratch) = self.made()?;
        scratch.clear();
        let room = scratch.room().get_mut(..len).ok_or(CopyError::Compression)?;
        match zstd.decompress_to_buffer(frame, room) {
            Ok(n) if n == len => scratch.fill(n),
            _ => return Err(CopyError::Compression),
        }
        payload.swap(scratch);
        Ok(())
    }

    fn made(&mut self) -> Result<&mut (bulk::Decompressor<'static>, Buffer), CopyError> {
        if self.made.is_none() {
            let zstd = bulk::Decompressor::new().map_err(|_| CopyError::Compression)?;
            self.made = Buffers::new(self.piece_bytes, 1).take().map(|scratch| (zstd, scratch));
        }
        self.made.as_mut().ok_or(CopyError::Compression)
    }
}

/// How long the content is that a frame announces, if it is exactly one frame and says so.
fn content_bytes(frame: &[u8]) -> Option<usize> {
    let len = get_frame_content_size(frame).ok().flatten()?;
    let is_one = find_frame_compressed_size(frame).is_ok_and(|size| size == frame.len());
    usize::try_from(len).ok().filter(|len| is_one && *len > 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PIECE: usize = 4096;

    /// What comes out of these bytes.
    fn expand(bytes: &[u8]) -> Result<Vec<u8>, CopyError> {
        let mut payload = Buffers::new(PIECE, 1).take().unwrap();
        payload.room()[..bytes.len()].copy_from_slice(bytes);
        payload.fill(bytes.len());
        Expander::new(PIECE as u64).expand(&mut payload, 0).map(|()| payload.filled().to_vec())
    }

    #[test]
    fn what_claims_or_yields_more_is_refused() {
        let fits = bulk::compress(&[7; PIECE], 1).unwrap();
        assert_eq!(expand(&fits), Ok(vec![7; PIECE]));
        let longer = bulk::compress(&[7; PIECE + 1], 1).unwrap();
        assert_eq!(expand(&longer), Err(CopyError::Compression));
        // A claim of 2⁶⁴ − 2 bytes.
        let mut claims = fits.clone();
        claims.splice(4..7, [0xe0, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(expand(&claims), Err(CopyError::Compression));
        // 1 GiB in a few bytes, and a frame that does not say how much it is.
        let bomb = bulk::compress(&vec![0; 64 << 20], 1).unwrap();
        assert_eq!(expand(&bomb[..bomb.len().min(PIECE)]), Err(CopyError::Compression));
        let silent = zstd::encode_all(&[7; 100][..], 1).unwrap();
        assert_eq!(expand(&silent), Err(CopyError::Compression));
    }

    #[test]
    fn anything_but_one_frame_is_refused() {
        let one = bulk::compress(b"one", 1).unwrap();
        assert_eq!(expand(&one), Ok(b"one".to_vec()));
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 9][..], &one].concat();
        for bytes in
            [&[][..], &one[..one.len() - 1], &[&one[..], &one].concat(), &[&one[..], b"x"].concat(), &skippable]
        {
            assert_eq!(expand(bytes), Err(CopyError::Compression));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_yield_more_than_a_piece(
            plain in proptest::collection::vec(0u8..4, 1..PIECE),
            changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..8),
            cut in any::<usize>(),
        ) {
            let mut frame = bulk::compress(&plain, 1).unwrap();
            prop_assert_eq!(expand(&frame), Ok(plain.clone()));
            let cut = cut % (frame.len() * 4);
            if cut < frame.len() {
                frame.truncate(cut);
            }
            for (at, change) in changes {
                let len = frame.len().max(1);
                if let Some(byte) = frame.get_mut(at % len) { *byte ^= change; }
            }
            if let Ok(got) = expand(&frame) {
                prop_assert!(got.len() <= PIECE);
            }
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), is_frame: bool) {
            let magic: &[u8] = if is_frame { &[0x28, 0xb5, 0x2f, 0xfd] } else { &[] };
            if let Ok(got) = expand(&[magic, &bytes].concat()) {
                prop_assert!(got.len() <= PIECE);
            }
        }
    }
}
