//! What the side-by-side benches share: pairs and their ratios, child processes that never outlive us, runs of the
//! program itself, result files.

pub mod child;
pub mod interrupt;
pub mod mode;
pub mod own;
pub mod pairs;
pub mod record;
