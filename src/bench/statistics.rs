//! Medians over rounds and how sure they are. No assumption about the form of the distribution, no I/O.
//!
//! # The interval
//! Between the k-th smallest and the k-th largest of `n` independent rounds lies the median of the distribution
//! that they come from, with probability `1 - 2 · P(Bin(n, 1/2) ≤ k - 1)`: each round falls below the median or
//! not, like a coin (the sign test). H. A. David and H. N. Nagaraja, *Order Statistics*, 3rd edition, section 7.1.

/// Least coverage of an interval that does not span all rounds: what minimum to maximum of five rounds have.
pub const COVERAGE_MIN: f64 = 0.9375;

/// Rounding of the binomial sum: 5 rounds are exactly at [`COVERAGE_MIN`] and must not miss it by a last bit.
const COVERAGE_SLACK: f64 = 1e-9;

/// An interval that holds the median with probability [`coverage`](Self::coverage).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Lower end, in the unit of the rounds.
    pub low: f64,
    /// Upper end, in the unit of the rounds.
    pub high: f64,
    /// Probability from 0 to 1; 0 where one round says nothing about the spread.
    pub coverage: f64,
}

/// The middle of `values` (the mean of the two middle ones of an even number); `None` for no values and for any
/// that is not finite.
pub fn median(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values)?;
    let upper = sorted.len() / 2;
    let lower = (sorted.len() - 1) / 2;
    // Halved before they are added: the sum of two large values would overflow.
    Some(if lower == upper { sorted[upper] } else { sorted[lower] / 2.0 + sorted[upper] / 2.0 })
}

/// The narrowest interval between the k-th smallest and the k-th largest of `values` that covers the median with
/// at least [`COVERAGE_MIN`]; minimum to maximum with the coverage that it has where there are too few.
///
/// `None` for no values and for any that is not finite.
pub fn median_interval(values: &[f64]) -> Option<Interval> {
    let sorted = sorted(values)?;
    let rounds = sorted.len();
    let (rank, coverage) = narrowest(rounds);
    Some(Interval { low: sorted[rank - 1], high: sorted[rounds - rank], coverage })
}

/// Whether the two are not to be ranked: they share a point, or one of them covers nothing.
pub fn overlaps(a: &Interval, b: &Interval) -> bool {
    let unknown = |interval: &Interval| interval.coverage.is_nan() || interval.coverage <= 0.0;
    unknown(a) || unknown(b) || (a.low <= b.high && b.low <= a.high)
}

fn sorted(values: &[f64]) -> Option<Vec<f64>> {
    if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    Some(sorted)
}

/// The largest rank k, from 1, whose coverage is enough, and that coverage. `rounds` is at least 1.
fn narrowest(rounds: usize) -> (usize, f64) {
    let mut tail = Tail::new(rounds);
    let (mut rank, mut coverage) = (1, coverage_of(tail.add()));
    while rank < rounds.div_ceil(2) {
        let narrower = coverage_of(tail.add());
        if narrower + COVERAGE_SLACK < COVERAGE_MIN {
            break;
        }
        (rank, coverage) = (rank + 1, narrower);
    }
    (rank, coverage)
}

fn coverage_of(tail: f64) -> f64 {
    (1.0 - 2.0 * tail).clamp(0.0, 1.0)
}

/// P(Bin(n, 1/2) ≤ i) for i = 0, 1, …; terms in logarithms, because 2⁻ⁿ underflows from n = 1075.
struct Tail {
    rounds: f64,
    successes: f64,
    ln_term: f64,
    sum: f64,
}

impl Tail {
    fn new(rounds: usize) -> Self {
        let rounds = rounds as f64;
        Self { rounds, successes: 0.0, ln_term: -rounds * std::f64::consts::LN_2, sum: 0.0 }
    }

    /// Adds the next term and says the sum so far.
    fn add(&mut self) -> f64 {
        self.sum += self.ln_term.exp();
        self.ln_term += ((self.rounds - self.successes) / (self.successes + 1.0)).ln();
        self.successes += 1.0;
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use statrs::distribution::{Binomial, DiscreteCDF};

    fn ascending(rounds: usize) -> Vec<f64> {
        (1..=rounds).map(|value| value as f64).collect()
    }

    /// Coverage of rank `k` of `n`, from another implementation of the binomial distribution.
    fn oracle(n: usize, k: usize) -> f64 {
        let coin = Binomial::new(0.5, n as u64).unwrap();
        1.0 - 2.0 * coin.cdf(k as u64 - 1)
    }

    #[test]
    fn median_is_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[4.0, 1.0]), Some(2.5));
        assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&[f64::MAX, f64::MAX]), Some(f64::MAX));
    }

    #[test]
    fn what_is_not_a_number_has_no_median() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(median(&[1.0, bad]), None);
            assert_eq!(median_interval(&[1.0, bad]), None);
        }
    }

    #[test]
    fn one_round_covers_nothing() {
        let interval = median_interval(&[7.0]).unwrap();
        assert_eq!((interval.low, interval.high, interval.coverage), (7.0, 7.0, 0.0));
        assert_eq!(median_interval(&[]), None);
    }

    #[test]
    fn few_rounds_span_minimum_to_maximum() {
        for (rounds, coverage) in [(2, 0.5), (3, 0.75), (4, 0.875), (5, 0.9375), (6, 0.96875)] {
            let interval = median_interval(&ascending(rounds)).unwrap();
            assert_eq!((interval.low, interval.high), (1.0, rounds as f64));
            assert!((interval.coverage - coverage).abs() < 1e-12, "{rounds} rounds: {interval:?}");
        }
    }

    #[test]
    fn is_the_narrowest_that_covers_enough() {
        for rounds in (5..60).chain([99, 100, 500, 1000, 1500]) {
            let interval = median_interval(&ascending(rounds)).unwrap();
            let rank = interval.low as usize;
            assert_eq!(interval.high as usize, rounds + 1 - rank, "symmetric");
            assert!((interval.coverage - oracle(rounds, rank)).abs() < 1e-9, "{rounds} rounds");
            assert!(interval.coverage >= COVERAGE_MIN - COVERAGE_SLACK, "{rounds} rounds");
            assert!(oracle(rounds, rank + 1) < COVERAGE_MIN, "{rounds} rounds could be narrower");
        }
    }

    #[test]
    fn what_covers_nothing_is_never_ranked() {
        let of = |low, high, coverage| Interval { low, high, coverage };
        assert!(overlaps(&of(1.0, 2.0, 0.9), &of(2.0, 3.0, 0.9)));
        assert!(!overlaps(&of(1.0, 2.0, 0.9), &of(2.1, 3.0, 0.9)));
        assert!(overlaps(&of(1.0, 1.0, 0.0), &of(9.0, 9.5, 0.9)));
        assert!(overlaps(&of(1.0, 1.0, 0.9), &of(9.0, 9.5, f64::NAN)));
    }

    proptest! {
        #[test]
        fn the_median_lies_in_its_interval(values in prop::collection::vec(-1e12f64..1e12, 1..200)) {
            let middle = median(&values).unwrap();
            let interval = median_interval(&values).unwrap();
            prop_assert!(interval.low <= middle && middle <= interval.high);
            prop_assert!((0.0..=1.0).contains(&interval.coverage));
            prop_assert!(values.contains(&interval.low) && values.contains(&interval.high));
        }

        #[test]
        fn the_order_of_rounds_does_not_matter(mut values in prop::collection::vec(0f64..1e12, 1..50)) {
            let before = (median(&values), median_interval(&values));
            values.reverse();
            prop_assert_eq!(before, (median(&values), median_interval(&values)));
        }

        #[test]
        fn overlapping_is_mutual(a in 0f64..9.0, b in 0f64..9.0, c in 0f64..9.0, d in 0f64..9.0) {
            let one = median_interval(&[a, b]).unwrap();
            let other = median_interval(&[c, d]).unwrap();
            prop_assert_eq!(overlaps(&one, &other), overlaps(&other, &one));
            prop_assert!(overlaps(&one, &one));
        }
    }
}
