//! Latency histograms: fixed memory, three significant digits, mergeable and portable.
//!
//! A thin wrapper over `hdrhistogram` that fixes the bounds, so that any two can be merged, and that checks bytes from
//! elsewhere before the decoder sees them: it takes lengths and bounds on trust. The portable form is HdrHistogram's
//! V2, uncompressed, which other tools read too.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};
use thiserror::Error;

/// Least latency told apart from zero, ns.
pub const LATENCY_NS_MIN: u64 = 1;
/// Greatest latency, ns: what is above counts as this.
pub const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// Significant decimal digits that are kept.
pub const LATENCY_DIGITS: u8 = 3;
/// Most latencies in a histogram that is decoded: 2^48, so that thousands merge without a sum overflowing.
pub const COUNT_MAX: u64 = 1 << 48;
/// Most bytes of an encoded histogram: each of the fewer than 2^15 counters takes 9 at most.
pub const ENCODED_BYTES_MAX: usize = HEADER_BYTES + 9 * COUNTERS_MAX;

/// Latencies from [`LATENCY_NS_MIN`] to [`LATENCY_NS_MAX`], to [`LATENCY_DIGITS`] significant digits.
#[derive(Clone, Debug, PartialEq)]
pub struct LatencyHistogram {
    /// Always with the bounds above, so recording and merging cannot fail.
    inner: Histogram<u64>,
}

/// Why a histogram could not be encoded or decoded.
#[derive(Debug, Error)]
pub enum HistogramError {
    /// Not base64.
    #[error("the histogram is not base64 ({0}): it is damaged, measure again")]
    Base64(#[from] base64::DecodeError),
    /// Longer than any histogram is.
    #[error("the histogram is {bytes} bytes long and at most {max} are possible: it is damaged, measure again",
        max = ENCODED_BYTES_MAX)]
    TooLong {
        /// Its length, bytes.
        bytes: usize,
    },
    /// Its length is not what its header says.
    #[error("the histogram is cut off or has something behind it: it is damaged, measure again")]
    Length,
    /// Another format, or other bounds.
    #[error(
        "the histogram is not of format V2 from 1 ns to 60 s with 3 digits: let the same version of linerate \
        run at both ends"
    )]
    Format,
    /// Counters that cannot be.
    #[error("the histogram counts more than can have been measured: it is damaged, measure again")]
    Counters,
    /// The decoder refused what the checks let pass.
    #[error("the histogram cannot be decoded ({0}): it is damaged, measure again")]
    Decode(#[from] hdrhistogram::serialization::DeserializeError),
    /// The encoder refused.
    #[error("the histogram cannot be encoded ({0}): measure for a shorter time")]
    Encode(#[from] hdrhistogram::serialization::V2SerializeError),
}

impl Default for LatencyHistogram {
    fn default() -> Self {
        Self::new()
    }
}

impl LatencyHistogram {
    /// An empty histogram; this is where all its memory (about 220 KB) is taken.
    pub fn new() -> Self {
        match Histogram::new_with_bounds(LATENCY_NS_MIN, LATENCY_NS_MAX, LATENCY_DIGITS) {
            Ok(inner) => LatencyHistogram { inner },
            // The bounds are constants, and every test creates one.
            Err(error) => unreachable!("the bounds of a latency histogram are impossible: {error}"),
        }
    }

    /// Counts one latency, ns. Allocates nothing.
    pub fn record(&mut self, ns: u64) {
        self.inner.saturating_record(ns);
    }

    /// Counts one latency. Allocates nothing.
    pub fn record_duration(&mut self, latency: Duration) {
        self.record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Counts all that `other` has counted as well.
    pub fn merge(&mut self, other: &Self) {
        // Both have the same bounds, which is all that can be wrong with an addition.
        let merged = self.inner.add(&other.inner);
        debug_assert!(merged.is_ok());
    }

    /// Forgets all latencies and keeps the memory.
    pub fn reset(&mut self) {
        self.inner.reset();
    }

    /// The latency, ns, that the share `quantile` (0 to 1) of all does not exceed; 0 when empty.
    pub fn quantile_ns(&self, quantile: f64) -> u64 {
        self.inner.value_at_quantile(quantile)
    }

    /// The greatest latency, ns, rounded up to the digits that are kept; 0 when empty.
    pub fn max_ns(&self) -> u64 {
        self.inner.max()
    }

    /// Latencies counted.
    pub fn count(&self) -> u64 {
        self.inner.len()
    }

    /// The histogram in HdrHistogram's V2 form.
    ///
    /// # Errors
    /// When a counter is beyond what the form can hold, 2^63.
    pub fn to_bytes(&self) -> Result<Vec<u8>, HistogramError> {
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(&self.inner, &mut bytes)?;
        Ok(bytes)
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote, from anybody.
    ///
    /// # Errors
    /// When the bytes are anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HistogramError> {
        check(bytes)?;
        let inner = Deserializer::new().deserialize(&mut &bytes[..])?;
        Ok(LatencyHistogram { inner })
    }

    /// [`to_bytes`](Self::to_bytes) as standard base64.
    ///
    /// # Errors
    /// Those of [`to_bytes`](Self::to_bytes).
    pub fn to_base64(&self) -> Result<String, HistogramError> {
        Ok(STANDARD.encode(self.to_bytes()?))
    }

    /// Reads what [`to_base64`](Self::to_base64) wrote, from anybody.
    ///
    /// # Errors
    /// When the text is anything else.
    pub fn from_base64(text: &str) -> Result<Self, HistogramError> {
        // Before decoding, so that a long text costs nothing.
        let bytes = text.len() / 4 * 3;
        if bytes > ENCODED_BYTES_MAX + 2 {
            return Err(HistogramError::TooLong { bytes });
        }
        Self::from_bytes(&STANDARD.decode(text)?)
    }
}

/// More counters than a histogram of these bounds has.
const COUNTERS_MAX: usize = 1 << 15;
/// Cookie, payload length, normalising offset, digits (4 bytes each), lowest, highest, ratio (8 bytes each).
const HEADER_BYTES: usize = 40;
/// Cookie of V2 with counters of variable length.
const COOKIE: u32 = 0x1c84_9313;

/// Checks that the bytes are a histogram of these bounds whose counters the decoder can add up.
fn check(bytes: &[u8]) -> Result<(), HistogramError> {
    if bytes.len() > ENCODED_BYTES_MAX {
        return Err(HistogramError::TooLong { bytes: bytes.len() });
    }
    let (header, payload) = bytes.split_at_checked(HEADER_BYTES).ok_or(HistogramError::Length)?;
    // The decoder allocates by these bounds and this length, so they must be the ones we write.
    if header[..4] != COOKIE.to_be_bytes() || header[8..] != header_bounds() {
        return Err(HistogramError::Format);
    }
    if u32::try_from(payload.len()).ok().map(u32::to_be_bytes).as_ref().map(|length| &length[..]) != Some(&header[4..8])
    {
        return Err(HistogramError::Length);
    }
    check_counters(payload)
}

/// The header from the normalising offset on.
fn header_bounds() -> [u8; HEADER_BYTES - 8] {
    let mut bounds = [0; HEADER_BYTES - 8];
    bounds[4..8].copy_from_slice(&u32::from(LATENCY_DIGITS).to_be_bytes());
    bounds[8..16].copy_from_slice(&LATENCY_NS_MIN.to_be_bytes());
    bounds[16..24].copy_from_slice(&LATENCY_NS_MAX.to_be_bytes());
    bounds[24..32].copy_from_slice(&1.0_f64.to_be_bytes());
    bounds
}

/// Checks that no run of empty counters and no sum of counts is absurd: the decoder negates and adds unchecked.
fn check_counters(mut payload: &[u8]) -> Result<(), HistogramError> {
    let mut count = 0_u64;
    while !payload.is_empty() {
        let (number, rest) = split_varint(payload).ok_or(HistogramError::Length)?;
        payload = rest;
        // Zigzag: odd is negative, a run of that many empty counters; even is a count.
        let (magnitude, is_run) = ((number >> 1) + (number & 1), number & 1 == 1);
        if is_run {
            if magnitude > COUNTERS_MAX as u64 {
                return Err(HistogramError::Counters);
            }
        } else {
            count = count.saturating_add(magnitude);
        }
        if count > COUNT_MAX {
            return Err(HistogramError::Counters);
        }
    }
    Ok(())
}

/// A LEB128 number of at most 9 bytes, the ninth of which is whole.
fn split_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0;
    for (index, &byte) in bytes.iter().enumerate().take(9) {
        if index == 8 {
            return Some((number | u64::from(byte) << 56, &bytes[9..]));
        }
        number |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((number, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn histogram(latencies: &[u64]) -> LatencyHistogram {
        let mut histogram = LatencyHistogram::new();
        for &ns in latencies {
            histogram.record(ns);
        }
        histogram
    }

    /// A histogram's header before `payload`.
    fn encoded(payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap();
        [&COOKIE.to_be_bytes()[..], &length.to_be_bytes(), &header_bounds(), payload].concat()
    }

    #[test]
    fn what_is_above_the_bound_saturates() {
        let mut histogram = histogram(&[u64::MAX]);
        histogram.record_duration(Duration::MAX);
        assert_eq!(histogram.count(), 2);
        let max_ns = histogram.max_ns() as f64;
        assert!((max_ns / LATENCY_NS_MAX as f64 - 1.0).abs() < 0.001, "{max_ns}");
    }

    #[test]
    fn empty_and_reset_histograms_say_zero() {
        let mut histogram = histogram(&[5, 7_000_000]);
        histogram.reset();
        assert_eq!(histogram, LatencyHistogram::new());
        assert_eq!((histogram.count(), histogram.max_ns(), histogram.quantile_ns(0.5)), (0, 0, 0));
        let copy = LatencyHistogram::from_base64(&histogram.to_base64().unwrap()).unwrap();
        assert_eq!(copy, histogram);
    }

    #[test]
    fn recording_keeps_its_memory() {
        let mut histogram = LatencyHistogram::new();
        let counters = histogram.inner.distinct_values();
        assert!(counters < COUNTERS_MAX);
        for shift in 0..64 {
            histogram.record(1 << shift);
        }
        assert_eq!(histogram.inner.distinct_values(), counters);
    }

    #[test]
    fn hostile_bytes_are_refused() {
        let good = histogram(&[0, 5, 70_000]).to_bytes().unwrap();
        assert!(LatencyHistogram::from_bytes(&good).is_ok());
        for cut in 0..good.len() {
            assert!(LatencyHistogram::from_bytes(&good[..cut]).is_err(), "{cut}");
        }
        let absurd: [(&str, Vec<u8>); 7] = [
            ("something behind it", [&good[..], &[0]].concat()),
            ("a length of 4 GiB", [&good[..4], &[0xff; 4], &good[8..]].concat()),
            ("bounds of 2^64", [&good[..24], &[0xff; 8], &good[32..]].concat()),
            ("a run of 2^63", encoded(&[0xff; 9])),
            ("counts beyond the last", encoded(&[0xff, 0xff, 0x03, 0x02])),
            ("a sum beyond 2^64", encoded(&[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff].repeat(9))),
            ("half a number", encoded(&[0x80])),
        ];
        for (what, bytes) in absurd {
            assert!(LatencyHistogram::from_bytes(&bytes).is_err(), "{what}");
        }
        assert!(LatencyHistogram::from_base64("ä").is_err());
        assert!(LatencyHistogram::from_base64(&"A".repeat(4 << 20)).is_err());
    }

    proptest! {
        #[test]
        fn quantiles_agree_with_a_sorted_list(
            mut latencies in prop::collection::vec(1_u64..LATENCY_NS_MAX, 1..500),
            quantile in 0.001_f64..=1.0,
        ) {
            let histogram = histogram(&latencies);
            latencies.sort_unstable();
            let rank = (quantile * latencies.len() as f64).ceil() as usize;
            let exact = latencies[rank.clamp(1, latencies.len()) - 1];
            let found = histogram.quantile_ns(quantile);
            prop_assert!(found >= exact && found <= exact + exact / 1000 + 1, "{found} for {exact}");
            prop_assert!(histogram.max_ns() >= *latencies.last().unwrap());
            prop_assert_eq!(histogram.count(), latencies.len() as u64);
        }

        #[test]
        fn merging_is_recording_both(one: Vec<u64>, two: Vec<u64>) {
            let mut merged = histogram(&one);
            merged.merge(&histogram(&two));
            prop_assert_eq!(merged, histogram(&[one, two].concat()));
        }

        #[test]
        fn encoding_reads_back(latencies: Vec<u64>, shift in 0_u32..64) {
            let latencies: Vec<_> = latencies.into_iter().map(|ns| ns >> shift).collect();
            let original = histogram(&latencies);
            let bytes = original.to_bytes().unwrap();
            prop_assert!(bytes.len() <= ENCODED_BYTES_MAX);
            prop_assert_eq!(&LatencyHistogram::from_bytes(&bytes).unwrap(), &original);
            prop_assert_eq!(&LatencyHistogram::from_base64(&original.to_base64().unwrap()).unwrap(), &original);
        }

        #[test]
        fn no_bytes_can_make_it_panic(bytes: Vec<u8>, text: String) {
            let _ = LatencyHistogram::from_base64(&text);
            let _ = LatencyHistogram::from_bytes(&bytes);
            // Whatever the decoder lets in must be fit for use.
            if let Ok(mut decoded) = LatencyHistogram::from_bytes(&encoded(&bytes)) {
                let copy = decoded.clone();
                decoded.merge(&copy);
                decoded.record(1);
                decoded.quantile_ns(0.99);
                prop_assert!(decoded.to_bytes().is_ok());
            }
        }
    }
}
