//! The conformance reader: follows a live playlist and checks every rule of the low-latency
//! profile (RFC 8216bis) that a server can break.
//!
//! It shares nothing with the packager but the container reader. Not here: publishers and nodes
//! (the tests that use it).

pub mod births;
pub mod client;
pub mod follow;
pub mod playlist;
pub mod rules;
#[cfg(test)]
mod tests;
