//! LL-HLS viewers by the thousand, which behave as hls.js does: the multivariant playlist, then
//! the media playlists by blocking reload with delta updates, a start at `PART-HOLD-BACK`, each
//! part fetched once it is listed, over connections that are kept.
//!
//! All viewers of a stream get the same bytes, so each version of a playlist is read and checked
//! once, and compared for the others; all but a sample of the viewers have the kernel throw their
//! parts away. That makes a viewer cost little more than its system calls.
//! Not here: DASH; decoding.

mod attributes;
pub mod client;
pub mod multivariant;
pub mod player;
pub mod playlist;
pub mod response;
pub mod units;
