//! What a run leaves behind: the result file, the terminal tables, the picture.

pub mod advice;
pub mod format;
pub mod labels;
#[cfg(test)]
mod sample;
pub mod schema;
