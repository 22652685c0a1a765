//! RTMP and Enhanced RTMP ingest: `rtmp://HOST/{app}/{key}` publishes the stream `{app}/{key}`.
//!
//! `session` is the protocol as a state machine over `handshake`, `chunk` and `amf0`; `flv` reads
//! the tags that messages carry.
//! Not here: playing (WHEP and HLS do that), RTMPS, frames' final times (`ingest`).

pub mod amf0;
pub mod chunk;
pub mod error;
pub mod flv;
pub mod handshake;
pub mod reply;
pub mod session;
pub mod target;
#[cfg(test)]
pub(crate) mod testing;
