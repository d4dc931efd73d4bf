//! `linerate bench`: the matrix, its interleaving, the runner, the server and the statistics.
//!
//! | file | what it holds |
//! |---|---|
//! | [`plan`] | what is to be measured; a plan that exists is possible |
//! | [`schedule`] | the order: every cell once a round, shuffled by a seed |
//! | [`link`] | the client's end of a session, as calls that wait |
//! | [`cell`] | one cell in one round |
//! | [`run`] | the whole run |
//! | [`outcome`] | what was measured, raw |
//! | [`statistics`] | medians and their intervals |
//! | [`flows`] | which flow each stream of a job runs, on either end |
//! | [`server`] | the other end: `linerate serve` |

pub mod cell;
pub mod flows;
pub mod link;
pub mod outcome;
pub mod plan;
pub mod run;
pub mod schedule;
pub mod server;
pub mod statistics;
