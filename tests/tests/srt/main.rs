//! SRT end to end: real encoders publish to and real players read from a listener in this
//! process, over loopback, clean and over a bad link.
//!
//! Not here: the protocol's details (unit tests of `headwater::ingest::srt`).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod programs;
mod proxy;
mod world;

mod bad_input;
mod loss;
mod publish;
mod read;
