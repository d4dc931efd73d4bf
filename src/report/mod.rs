//! What a run leaves behind: the result file, the terminal tables, the picture.

pub mod format;
pub mod labels;
pub mod schema;
