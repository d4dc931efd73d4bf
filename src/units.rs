//! Sizes, rates and spans of time: parsing and printing of `4KiB`, `10Gbit/s`, `1.5s`.
//!
//! Whatever is printed by a [`Display`](std::fmt::Display) here parses back to the same value, and a value that cannot
//! be meant exactly (`0.3` of a byte) is refused, not rounded: rounding for a person is `report::format`'s. Nothing here
//! knows what a size or a rate is used for.

mod error;
mod number;
mod rate;
mod size;
mod size_list;
mod span;

pub use error::{Quantity, UnitError};
pub use rate::Rate;
pub use size::Bytes;
pub use size_list::{SIZE_BYTES_MAX, SIZE_BYTES_MIN, SIZES_MAX, parse_size_list};
pub use span::Span;
