//! Many small files in one frame.
//!
//! ```text
//! for each file:  0 entry u64   8 length u32, both little-endian   12 its bytes, all of them
//! ```
//! A pack that is compressed comes after its directory, so that it is known what has to be sent again if it does not
//! decompress:
//! ```text
//! 0 runs u32   then for each run of entries:  0 first entry u64   8 how many u32
//! ```

use crate::proto::manifest::EntryId;

/// Bytes before each file.
pub const HEADER_BYTES: usize = 12;
/// Most files in one frame.
pub const FILES_MAX: usize = 1024;
/// Longest file that travels in a pack, bytes.
pub const FILE_BYTES_MAX: u64 = 128 << 10;

/// What stands before a file.
pub fn header(id: EntryId, len: u32) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(&id.to_le_bytes());
    bytes[8..].copy_from_slice(&len.to_le_bytes());
    bytes
}

/// Over the headers of a pack, in their order: it stands as the offset in the frame of a pack. A number or length that
/// was damaged on the way would be of another file.
#[derive(Clone, Debug, Default)]
pub struct HeadersCheck(blake3::Hasher);

impl HeadersCheck {
    /// The next header.
    pub fn add(&mut self, header: &[u8; HEADER_BYTES]) {
        self.0.update(header);
    }

    /// The sum.
    pub fn finish(&self) -> u64 {
        let hash = self.0.finalize();
        // The upper half stays free: an offset and a length add up.
        hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes) >> 1)
    }
}

/// A pack that is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer sent a pack of files that is cut, or holds too many")]
pub struct PackError;

/// The files of a pack: all of them, or none if anything is wrong with it.
pub fn unpack(mut bytes: &[u8], check: u64) -> Result<Vec<(EntryId, &[u8])>, PackError> {
    let (mut files, mut headers) = (Vec::new(), HeadersCheck::default());
    while !bytes.is_empty() {
        headers.add(bytes.first_chunk().ok_or(PackError)?);
        let (id, rest) = bytes.split_first_chunk::<8>().ok_or(PackError)?;
        let (len, rest) = rest.split_first_chunk::<4>().ok_or(PackError)?;
        let (content, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize).ok_or(PackError)?;
        if files.len() == FILES_MAX || content.is_empty() {
            return Err(PackError);
        }
        files.push((u64::from_le_bytes(*id), content));
        bytes = rest;
    }
    if headers.finish() == check { Ok(files) } else { Err(PackError) }
}

/// The directory of files in this order.
pub fn directory(ids: impl IntoIterator<Item = EntryId>) -> Vec<u8> {
    let mut runs: Vec<(EntryId, u32)> = Vec::new();
    for id in ids {
        match runs.last_mut() {
            Some((first, count)) if first.checked_add(u64::from(*count)) == Some(id) => *count += 1,
            _ => runs.push((id, 1)),
        }
    }
    let mut bytes = (runs.len() as u32).to_le_bytes().to_vec();
    for (first, count) in runs {
        bytes.extend(first.to_le_bytes());
        bytes.extend(count.to_le_bytes());
    }
    bytes
}

/// The entries of a directory, and what follows it.
pub fn split_directory(bytes: &[u8]) -> Result<(Vec<EntryId>, &[u8]), PackError> {
    let (runs, mut rest) = bytes.split_first_chunk::<4>().ok_or(PackError)?;
    let mut ids = Vec::new();
    for _ in 0..u32::from_le_bytes(*runs) {
        let (first, after) = rest.split_first_chunk::<8>().ok_or(PackError)?;
        let (count, after) = after.split_first_chunk::<4>().ok_or(PackError)?;
        let (first, count) = (u64::from_le_bytes(*first), u64::from(u32::from_le_bytes(*count)));
        let end = first.checked_add(count).filter(|_| count > 0).ok_or(PackError)?;
        if count > (FILES_MAX - ids.len()) as u64 {
            return Err(PackError);
        }
        ids.extend(first..end);
        rest = after;
    }
    Ok((ids, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packed(files: &[(EntryId, Vec<u8>)]) -> (Vec<u8>, u64) {
        let (mut bytes, mut check) = (Vec::new(), HeadersCheck::default());
        for (id, content) in files {
            let header = header(*id, content.len() as u32);
            check.add(&header);
            bytes.extend(header);
            bytes.extend(content);
        }
        (bytes, check.finish())
    }

    proptest! {
        #[test]
        fn files_come_out_as_they_went_in(
            files in proptest::collection::vec((any::<u64>(), proptest::collection::vec(any::<u8>(), 1..50)), 0..20),
            cut in 0usize..1000, damage in any::<(u16, u8)>(),
        ) {
            let (mut bytes, check) = packed(&files);
            let whole: Vec<_> = files.iter().map(|(id, content)| (*id, content.as_slice())).collect();
            prop_assert_eq!(unpack(&bytes, check), Ok(whole));
            prop_assert_eq!(unpack(&bytes[..cut.min(bytes.len())], check).is_ok(), cut >= bytes.len());
            // What is damaged is found here, or is in the content, whose digest finds it.
            if !bytes.is_empty() {
                let at = usize::from(damage.0) % bytes.len();
                bytes[at] ^= 1 << (damage.1 % 8);
                if let Ok(found) = unpack(&bytes, check) {
                    let found: Vec<_> = found.iter().map(|(id, content)| (*id, content.len())).collect();
                    let sent: Vec<_> = files.iter().map(|(id, content)| (*id, content.len())).collect();
                    prop_assert_eq!(found, sent);
                }
            }
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), check: u64) {
            let _ = unpack(&bytes, check);
            if let Ok((ids, _)) = split_directory(&bytes) {
                prop_assert!(ids.len() <= FILES_MAX);
            }
        }

        #[test]
        fn a_directory_names_its_files_in_their_order(
            ids in proptest::collection::vec(prop_oneof![0u64..20, any::<u64>()], 0..50),
            rest in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut bytes = directory(ids.iter().copied());
            bytes.extend(&rest);
            // The very last number has no end behind it.
            match split_directory(&bytes) {
                Ok(got) => prop_assert_eq!(got, (ids, &rest[..])),
                Err(PackError) => prop_assert!(ids.contains(&u64::MAX)),
            }
        }
    }

    #[test]
    fn a_directory_of_too_many_is_refused() {
        let ids = 7..7 + FILES_MAX as u64;
        assert_eq!(split_directory(&directory(ids.clone())).unwrap().0, ids.collect::<Vec<_>>());
        assert_eq!(split_directory(&directory(0..=FILES_MAX as u64)), Err(PackError));
        let huge = [&1u32.to_le_bytes()[..], &0u64.to_le_bytes(), &u32::MAX.to_le_bytes()].concat();
        assert_eq!(split_directory(&huge), Err(PackError));
    }

    #[test]
    fn an_empty_file_and_too_many_are_refused() {
        let (bytes, check) = packed(&[(1, Vec::new())]);
        assert_eq!(unpack(&bytes, check), Err(PackError));
        let (bytes, check) = packed(&(0..=FILES_MAX as u64).map(|id| (id, vec![0])).collect::<Vec<_>>());
        assert_eq!(unpack(&bytes, check), Err(PackError));
    }
}
