//! `linerate bench`: the matrix, its interleaving, the runner, the serving side and the statistics. Sessions and the
//! daemon are no part of it.
//!
//! | file | what it holds |
//! |---|---|
//! | [`plan`] | what is to be measured; a plan that exists is possible |
//! | [`schedule`] | the order: every cell once a round, shuffled by a seed |
//! | [`cell`] | one cell in one round |
//! | [`run`] | the whole run |
//! | [`outcome`] | what was measured, raw |
//! | [`statistics`] | medians and their intervals |
//! | [`flows`] | which flow each stream of a job runs, on either end |
//! | [`serving`] | the jobs of a session on the other end |

pub mod cell;
pub mod flows;
pub mod outcome;
pub mod plan;
pub mod run;
pub mod schedule;
pub mod serving;
pub mod statistics;
