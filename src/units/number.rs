//! Decimal numbers with a unit: taken apart and scaled exactly, and printed exactly.
//!
//! What the units are is for each quantity to say.

use super::{Quantity, UnitError};

/// A text taken apart into a decimal number and a unit.
pub(super) struct Parsed<'a> {
    quantity: Quantity,
    input: &'a str,
    /// Digits before the point; not both are empty.
    whole: &'a str,
    /// Digits after the point, without trailing zeros.
    fraction: &'a str,
    pub(super) unit: &'a str,
}

impl<'a> Parsed<'a> {
    pub(super) fn new(quantity: Quantity, text: &'a str) -> Result<Self, UnitError> {
        let input = text.trim();
        if input.is_empty() {
            return Err(UnitError::Empty(quantity));
        }
        if input.starts_with('-') {
            return Err(UnitError::Negative { quantity, input: input.to_owned() });
        }
        let (whole, rest) = split_digits(input);
        let (fraction, unit) = match rest.strip_prefix('.') {
            Some(rest) => split_digits(rest),
            None => ("", rest),
        };
        let point_without_digit = rest.starts_with('.') && fraction.is_empty();
        if whole.is_empty() || point_without_digit {
            return Err(UnitError::NotANumber { quantity, input: input.to_owned() });
        }
        let fraction = fraction.trim_end_matches('0');
        Ok(Parsed { quantity, input, whole, fraction, unit: unit.trim_start() })
    }

    /// The number times `scale / divisor`, if that is whole.
    pub(super) fn scaled(&self, scale: u128, divisor: u128) -> Result<u128, UnitError> {
        // More digits than these are finer than any unit can express, and would overflow below.
        const FRACTION_DIGITS_MAX: usize = 15;
        if self.fraction.len() > FRACTION_DIGITS_MAX {
            return Err(self.not_whole());
        }
        let digits = format!("{}{}", self.whole, self.fraction);
        let number: u128 = digits.parse().map_err(|_| self.too_large())?;
        let product = number.checked_mul(scale).ok_or_else(|| self.too_large())?;
        let divisor = divisor * 10_u128.pow(self.fraction.len() as u32);
        if !product.is_multiple_of(divisor) {
            return Err(self.not_whole());
        }
        Ok(product / divisor)
    }

    pub(super) fn unknown_unit(&self) -> UnitError {
        let (input, unit) = (self.input.to_owned(), self.unit.to_owned());
        UnitError::UnknownUnit { quantity: self.quantity, input, unit }
    }

    fn not_whole(&self) -> UnitError {
        UnitError::NotWhole { quantity: self.quantity, input: self.input.to_owned() }
    }

    pub(super) fn too_large(&self) -> UnitError {
        UnitError::TooLarge { quantity: self.quantity, input: self.input.to_owned() }
    }
}

/// The leading ASCII digits, and what follows.
fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// `value / 10^digits`, exactly, without trailing zeros.
pub(super) fn decimal(value: u128, digits: u32) -> String {
    let unit = 10_u128.pow(digits);
    let (whole, rest) = (value / unit, value % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let fraction = format!("{rest:0width$}", width = digits as usize);
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}
