//! `linerate bench`: the matrix, its interleaving, the runner, the server and the statistics.

pub mod statistics;
