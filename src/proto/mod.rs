//! The protocol, sans-IO: bytes and `now` in, bytes and events out.
//!
//! Nothing here opens a socket or a file, reads a clock, draws a random number, or starts a thread: whoever owns
//! those hands in what they gave. That is what lets the tests drive two endpoints under virtual time.
//!
//! | file | what it holds |
//! |---|---|
//! | [`wire`] | the fixed headers and how the first bytes tell what a connection is |
//! | [`message`] | what is said over the control connection |
//! | [`session`] | the control connection's state machine: preface, framing, keep-alive, time limits |
//! | [`job`] | one-time tokens and the life of a job on the serving side |
//! | [`probe`] | request/response over a bare byte stream |
//! | [`facts`] | plain data about either end |
//! | [`copy`] | a copy of a tree: who offers, who wants, and when a file is proven |
//! | [`manifest`] | what is in a tree |
//! | [`verify`] | BLAKE3 of a file, block by block |
//! | [`b3sums`] | the text of `b3sum` |
//! | [`rights`] | what a ticket lets its holder do |
//! | [`secret`] | the bits that let in, and the digest that a server keeps of them |
//! | [`fingerprint`] | by what a server's certificate is known |
//! | [`ticket`] | the line of text that holds all this |
//! | [`gate`] | who is let in, and how long a wrong guess waits |

pub mod b3sums;
pub mod copy;
pub mod facts;
pub mod fingerprint;
pub mod gate;
pub mod job;
pub mod manifest;
pub mod message;
pub mod probe;
pub mod rights;
pub mod secret;
pub mod session;
pub mod ticket;
pub mod verify;
pub mod wire;
