//! RTMP and Enhanced RTMP ingest: `rtmp://HOST/{app}/{key}` publishes the stream `{app}/{key}`.
//!
//! `session` is the protocol as a state machine over `handshake`, `chunk` and `amf0`; `flv` reads
//! the tags that messages carry, `tracks` and `decoder` make frames of them; `server` and
//! `connection` drive it all.
//! Not here: playing (WHEP and HLS do that), RTMPS, frames' final times (`ingest`).

pub mod amf0;
pub mod chunk;
mod connection;
mod decoder;
pub mod error;
pub mod flv;
pub mod handshake;
#[cfg(test)]
mod mutation_tests;
mod options;
pub mod reply;
mod server;
pub mod session;
pub mod target;
#[cfg(test)]
pub(crate) mod testing;
pub mod tracks;

pub use options::RtmpOptions;
pub use server::{RtmpDeps, RtmpServer};
