//! Reading the receipt of a copy, of this or an earlier schema; what is in it is described in [`crate::transfer::receipt`].
//!
//! A receipt that is read is foreign, as any result file is.

use std::path::Path;

use super::{FILE_BYTES_MAX, ReportError, Tag, escape, parse, read_bounded};
pub use crate::transfer::receipt::*;

/// What every version of the schema's name starts with; a number follows.
const SCHEMA_FAMILY: &str = "linerate.receipt/";
/// The newest version of the schema that this program reads, from 1 on.
const SCHEMA_VERSION_MAX: u32 = 1;

/// Reads a receipt.
pub fn read(path: &Path) -> Result<Receipt, ReportError> {
    let bytes = read_bounded(path, FILE_BYTES_MAX)?;
    let tag: Tag = parse(path, &bytes)?;
    let version = tag.schema.strip_prefix(SCHEMA_FAMILY).and_then(|version| version.parse::<u32>().ok());
    let not_one = |detail| Err(ReportError::NotAResult { path: path.into(), detail });
    match version {
        Some(1..=SCHEMA_VERSION_MAX) => parse(path, &bytes),
        Some(_) => not_one(format!("its schema is `{}`: use a newer linerate", escape(&tag.schema))),
        None => not_one(format!("its schema is `{}`, and no receipt", escape(&tag.schema))),
    }
}
