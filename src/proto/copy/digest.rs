//! One number for all that a copy has proven: both ends add up the same, in whatever order files are settled.
//!
//! Each file adds the BLAKE3 hash of its path, length and own hash, as four 64-bit numbers that wrap around. It shows
//! that both ends speak of the same files; it is no commitment that withstands somebody who chooses the files.

use std::fmt;

use crate::proto::verify::FileHash;

/// The sum so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyDigest([u64; 4]);

impl CopyDigest {
    /// A file was proven.
    pub fn add(&mut self, path: &[u8], len: u64, hash: &FileHash) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(path.len() as u64).to_le_bytes()).update(path).update(&len.to_le_bytes()).update(&hash.0);
        let one = hasher.finalize();
        for (sum, part) in self.0.iter_mut().zip(one.as_bytes().as_chunks::<8>().0) {
            *sum = sum.wrapping_add(u64::from_le_bytes(*part));
        }
    }

    /// Others were proven elsewhere.
    pub fn merge(&mut self, other: &CopyDigest) {
        for (sum, part) in self.0.iter_mut().zip(other.0) {
            *sum = sum.wrapping_add(part);
        }
    }
}

impl fmt::Display for CopyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().flat_map(|part| part.to_le_bytes()).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::verify::hash_whole;

    #[test]
    fn order_does_not_matter_and_everything_else_does() {
        let sum = |files: &[(&str, u64, &str)]| {
            let mut digest = CopyDigest::default();
            files.iter().for_each(|(path, len, text)| digest.add(path.as_bytes(), *len, &hash_whole(text.as_bytes())));
            digest
        };
        let (a, b) = (("a", 1, "x"), ("b", 2, "yz"));
        assert_eq!(sum(&[a, b]), sum(&[b, a]));
        let mut merged = sum(&[a]);
        merged.merge(&sum(&[b]));
        assert_eq!(merged, sum(&[a, b]));
        for other in [vec![a], vec![a, a], vec![a, ("b", 2, "yy")], vec![a, ("c", 2, "yz")], vec![a, ("b", 3, "yz")]] {
            assert_ne!(sum(&[a, b]), sum(&other));
        }
        assert_eq!(sum(&[]).to_string(), "0".repeat(64));
    }
}
