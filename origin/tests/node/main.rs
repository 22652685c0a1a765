//! The node from outside: its program and its HTTP interface, in this process and on loopback.
//!
//! Not here: media from real clients (`tests/` at the top).
#![allow(clippy::disallowed_methods, reason = "driver: tests read the clock")]
#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

mod cli;
mod cluster;
mod http;
mod support;
mod webrtc;
