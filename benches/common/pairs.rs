//! Ratios of pairs that were measured one right after the other, A B A B: what drifts falls on both sides alike.

use linerate::bench::statistics;
use serde::Serialize;

/// The median of ratios, and their range.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// Median.
    pub median: f64,
    /// Least.
    pub least: f64,
    /// Greatest.
    pub most: f64,
    /// How many pairs.
    pub pairs: usize,
}

impl Ratio {
    /// Of `a / b` for each pair; `None` when there is no pair or a rate is zero.
    pub fn of(pairs: &[(f64, f64)]) -> Option<Ratio> {
        let ratios: Vec<f64> = pairs.iter().map(|(a, b)| a / b).collect();
        let median = statistics::median(&ratios)?;
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Some(Ratio { median, least, most, pairs: ratios.len() })
    }
}

impl std::fmt::Display for Ratio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} [{:.2}–{:.2}]", self.median, self.least, self.most)
    }
}
