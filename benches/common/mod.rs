//! What the side-by-side benches share: pairs and their ratios, child processes that never outlive us, runs of the
//! program itself, files to be sent, free ports, the network, result files.

#![allow(dead_code, reason = "each bench uses its own part of it")]

pub mod child;
pub mod corpus;
pub mod interrupt;
pub mod mode;
pub mod network;
pub mod nginx;
pub mod own;
pub mod pairs;
pub mod pem;
pub mod ports;
pub mod record;
pub mod target;
pub mod verdict;
pub mod version;
