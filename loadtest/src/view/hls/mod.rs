//! LL-HLS viewers by the thousand, which behave as hls.js does: the multivariant playlist, then
//! the media playlists by blocking reload with delta updates, a start at `PART-HOLD-BACK`, each
//! part fetched once it is listed, over connections that are kept.
//!
//! All viewers of a stream get the same bytes, so each version of a playlist is read and checked
//! once, and compared for the others; all but a sample of the viewers have the kernel throw their
//! parts away. That makes a viewer cost little more than its system calls.
//! Not here: DASH; decoding.

pub mod askers;
mod attributes;
pub mod check;
pub mod client;
mod connection;
pub mod crowd;
pub mod findings;
pub mod fleet;
pub mod h1;
pub mod h2;
pub mod multivariant;
pub mod player;
pub mod playlist;
pub mod probe;
pub mod response;
pub mod streams;
pub mod target;
pub mod timeline;
pub mod units;
pub mod viewers;
