//! Why a text is no size, rate or span of time, and what to write instead.

use std::fmt;

use thiserror::Error;

use super::{Bytes, SIZE_BYTES_MAX, SIZE_BYTES_MIN, SIZES_MAX};

/// Why a size, rate or span of time could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UnitError {
    /// Nothing but blanks.
    #[error("a {0} is missing: write {example}", example = .0.example())]
    Empty(Quantity),
    /// Below zero.
    #[error("{input:?} is negative: write {example}", example = .quantity.example())]
    Negative {
        /// What should have been there.
        quantity: Quantity,
        /// What was there.
        input: String,
    },
    /// Does not begin with a number.
    #[error("{input:?} is not a {quantity}: write {example}", example = .quantity.example())]
    NotANumber {
        /// What should have been there.
        quantity: Quantity,
        /// What was there.
        input: String,
    },
    /// A number with an unknown unit.
    #[error("{input:?} has the unknown unit {unit:?}: write {example}", example = .quantity.example())]
    UnknownUnit {
        /// What should have been there.
        quantity: Quantity,
        /// What was there.
        input: String,
        /// The unit in it.
        unit: String,
    },
    /// Finer than can be represented.
    #[error("{input:?} is not a whole number of {base}: write {example}",
        base = .quantity.base(), example = .quantity.example())]
    NotWhole {
        /// What should have been there.
        quantity: Quantity,
        /// What was there.
        input: String,
    },
    /// More than can be represented.
    #[error("{input:?} is too large for a {quantity}: write {example}", example = .quantity.example())]
    TooLarge {
        /// What should have been there.
        quantity: Quantity,
        /// What was there.
        input: String,
    },
    /// A size outside the bounds of a list of sizes.
    #[error("the size {input:?} is out of bounds: write one from {min} to {max}",
        min = Bytes(SIZE_BYTES_MIN), max = Bytes(SIZE_BYTES_MAX))]
    OutOfBounds {
        /// What was there.
        input: String,
    },
    /// A range whose end is below its beginning.
    #[error("the range {input:?} runs backwards: write the smaller size first, such as 1KiB..4MiB")]
    Backwards {
        /// What was there.
        input: String,
    },
    /// A range whose factor gets nowhere.
    #[error("the range {input:?} has no usable factor: write a whole number from 2, such as 1KiB..4MiB*2")]
    Factor {
        /// What was there.
        input: String,
    },
    /// More sizes than are worth measuring.
    #[error("{input:?} makes more than {max} sizes: write fewer, or a larger factor such as 1KiB..4MiB*4",
        max = SIZES_MAX)]
    TooMany {
        /// What was there.
        input: String,
    },
}

/// What a text was read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// [`Bytes`].
    Size,
    /// [`Rate`](super::Rate).
    Rate,
    /// [`Span`](super::Span).
    Span,
}

impl Quantity {
    /// What to write.
    fn example(self) -> &'static str {
        match self {
            Quantity::Size => "a size such as 4096, 4KiB or 1MB",
            Quantity::Rate => "a rate such as 10Gbit/s, 100MiB/s or 10G (bits per second)",
            Quantity::Span => "a time such as 200ms, 1.5s or 2m",
        }
    }

    /// What is counted.
    fn base(self) -> &'static str {
        match self {
            Quantity::Size => "bytes",
            Quantity::Rate => "bytes per second",
            Quantity::Span => "nanoseconds",
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Quantity::Size => "size",
            Quantity::Rate => "rate",
            Quantity::Span => "time",
        })
    }
}
