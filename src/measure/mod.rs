//! What is measured beside the bytes: CPU cost, TCP_INFO, latency histograms, the environment.
//!
//! Reads the system and counts; opens no connection and moves no data. `bench` and `engine` call it, `report` prints
//! what it found.

pub mod cpu;
pub mod environment;
pub mod histogram;
pub mod memory;
pub mod nic;
pub mod tcp;
