//! The protocol, sans-IO: bytes and `now` in, bytes and events out.
//!
//! Nothing here opens a socket or a file, reads a clock, or starts a thread.

pub mod facts;
